//! Who may say what: every message passes here before it may change anything.

use super::{Office, Replica, Taken};
use crate::protocol::effect::Outcome;
use crate::protocol::health::Health;
use crate::protocol::membership::Member;
use crate::protocol::message::{Envelope, Message};
use crate::protocol::refusal::Refusal;
use crate::protocol::rules::Rule;
use crate::types::Epoch;

/// What a sender has to be, to say what it says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    /// Wants votes.
    Candidate,
    /// Leads in the envelope's epoch.
    Primary,
    /// Answers a candidate.
    Voter,
    /// Answers a primary.
    Backup,
    /// Only tells its epoch.
    Anybody,
}

impl Replica {
    /// Lets a message in, takes its epoch if that is newer, and its sender for the primary if it speaks as one.
    pub(super) fn admit(&mut self, envelope: &Envelope) -> Taken {
        self.know(envelope)?;
        match speaker(&envelope.message) {
            // An election takes its own epoch, if it takes it at all (S2).
            Speaker::Candidate => self.admit_candidate(envelope.from, envelope.generation),
            Speaker::Primary => self.admit_primary(envelope),
            Speaker::Voter | Speaker::Backup if envelope.epoch > self.meta.epoch => {
                self.adopt(envelope.epoch);
                Err(Refusal::NotAsked)
            }
            Speaker::Voter => Ok(()),
            // S6: an acknowledgement is bound to the epoch that it was given in.
            Speaker::Backup if envelope.epoch < self.meta.epoch && !self.takes_stale(&envelope.message) => {
                Err(Refusal::StaleEpoch)
            }
            Speaker::Backup if matches!(self.office, Office::Primary(_)) => Ok(()),
            Speaker::Backup => Err(Refusal::WrongRole),
            Speaker::Anybody if envelope.epoch > self.meta.epoch => {
                self.adopt(envelope.epoch);
                Ok(())
            }
            Speaker::Anybody => Err(Refusal::StaleEpoch),
        }
    }

    /// The cluster, the address, and who the sender says it is.
    fn know(&self, envelope: &Envelope) -> Taken {
        if envelope.cluster != self.config.cluster {
            return Err(Refusal::OtherCluster);
        }
        if envelope.to != self.config.me {
            return Err(Refusal::NotForThis);
        }
        if envelope.from.id == self.config.me.id
            || envelope.epoch == Epoch::default() && !is_pre(&envelope.message)
        {
            return Err(Refusal::FalseIdentity);
        }
        // Who knows a newer membership may be right about who it is.
        let known = self.ledger.membership().filter(|ours| ours.generation >= envelope.generation);
        let disk = known.and_then(|ours| ours.member(envelope.from.id)).map(|member| member.disk);
        if disk.is_some_and(|disk| disk != envelope.from.disk) {
            return Err(Refusal::FalseIdentity);
        }
        // A primary that is being removed leads until that is committed, and hands over after it.
        let is_stranger = known.is_some()
            && self.leader != Some(envelope.from)
            && !self.ledger.memberships().any(|ours| ours.has(envelope.from));
        if is_stranger {
            return Err(Refusal::StaleMembership);
        }
        // A blank disk that nobody has called new takes no part at all (S11).
        if self.health == Health::Blank { Err(Refusal::NotWhole) } else { Ok(()) }
    }

    fn admit_candidate(&self, from: Member, generation: u64) -> Taken {
        match self.ledger.membership() {
            Some(ours) if !ours.has(from) && generation <= ours.generation => Err(Refusal::StaleMembership),
            _ => Ok(()),
        }
    }

    fn admit_primary(&mut self, envelope: &Envelope) -> Taken {
        let (from, epoch) = (envelope.from, envelope.epoch);
        if epoch < self.meta.epoch {
            self.send(from, Message::Stale);
            return Err(Refusal::StaleEpoch);
        }
        if epoch > self.meta.epoch {
            self.adopt(epoch);
        }
        let is_other = self.leader.is_some_and(|leader| leader != from);
        if is_other || matches!(self.office, Office::Primary(_)) {
            return Err(Refusal::WrongRole);
        }
        if self.leader.is_none() {
            self.accept_leader(from);
        }
        self.hear();
        Ok(())
    }

    /// Whether a test has switched S6 off.
    fn takes_stale(&self, message: &Message) -> bool {
        matches!(message, Message::Ack { .. }) && !self.rules(Rule::BindAcknowledgements)
    }

    /// The primary of this epoch has shown itself.
    fn accept_leader(&mut self, leader: Member) {
        self.leader = Some(leader);
        self.patience.forget();
        if let Some((token, _)) = self.handed_over.take() {
            let primary = leader.id;
            self.resolve(token, Outcome::Transferred { primary });
        }
    }

    /// The primary lives: there is nothing to stand for.
    fn hear(&mut self) {
        self.office = Office::Backup;
        self.is_chosen = false;
        self.heard = Some(self.now);
        self.question = None;
        self.election_at = self.patience.deadline(self.now, &self.config.timing);
    }
}

const fn speaker(message: &Message) -> Speaker {
    match message {
        Message::PreVote { .. } | Message::Vote { .. } => Speaker::Candidate,
        Message::PreVoteReply { .. } | Message::VoteReply { .. } => Speaker::Voter,
        Message::Heartbeat { .. }
        | Message::Probe { .. }
        | Message::Follow { .. }
        | Message::Append { .. }
        | Message::SnapshotOffer(_)
        | Message::SnapshotChunk { .. }
        | Message::RepairGive { .. }
        | Message::RepairNone { .. }
        | Message::TakeOver { .. } => Speaker::Primary,
        Message::HeartbeatReply { .. }
        | Message::ProbeReply(_)
        | Message::Ack { .. }
        | Message::OutOfOrder { .. }
        | Message::SnapshotAsk { .. }
        | Message::RepairAsk { .. } => Speaker::Backup,
        Message::Stale => Speaker::Anybody,
    }
}

/// A pre-vote may come from a replica that has never been in any epoch, and be answered by one.
const fn is_pre(message: &Message) -> bool {
    matches!(message, Message::PreVote { .. } | Message::PreVoteReply { .. })
}
