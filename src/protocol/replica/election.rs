//! Elections: pre-vote, vote, and what makes a replica stand (S2).
//!
//! Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), sections 3.4, 4.2.3 and 9.6; the position that a voter
//! compares is what it has synced, never what it has only received.

use super::{Office, Replica, Taken};
use crate::protocol::config::FailoverPolicy;
use crate::protocol::effect::Outcome;
use crate::protocol::history::Position;
use crate::protocol::membership::Member;
use crate::protocol::message::Message;
use crate::protocol::refusal::Refusal;
use crate::protocol::rules::Rule;
use crate::protocol::state::Meta;
use crate::types::{Epoch, Lsn, ReplicaId};

/// Standing for election.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Campaign {
    kind: Kind,
    /// The epoch that it is for.
    epoch: Epoch,
    /// Who would vote, or has voted.
    granted: Vec<Member>,
    /// The save of the candidate's own vote: only then does that count (S1).
    own_vote: u64,
}

/// A question for a pre-vote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Question {
    next: Epoch,
    last: Position,
    from: Member,
}

/// How a replica stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    /// It asks whether it would be elected; nothing has happened yet.
    Pre,
    /// It wants votes.
    Vote {
        /// Because the primary has asked for it.
        transfer: bool,
    },
}

impl Replica {
    /// Whether this replica could lead at all.
    pub(super) fn may_stand(&self) -> bool {
        let is_busy = self.staging.as_ref().is_some_and(|staging| staging.is_installing());
        self.is_voter() && self.is_whole() && !is_busy && !self.is_stalled()
    }

    /// Whether this replica stands when its time has come, although nobody has asked it to.
    pub(super) fn stands_unasked(&self) -> bool {
        self.is_chosen || self.config.policy != FailoverPolicy::Manual
    }

    /// Begins an election, or the question whether one would be won.
    pub(super) fn stand(&mut self, kind: Kind) {
        // Where nobody stands by himself, whoever stands was told to, and goes on until somebody else is.
        self.is_chosen = self.config.policy == FailoverPolicy::Manual;
        self.election_at = self.patience.deadline(self.now, &self.config.timing);
        let next = Epoch::new(self.meta.epoch.get() + 1);
        let mut campaign = Campaign { kind, epoch: next, granted: Vec::new(), own_vote: 0 };
        let last = self.ledger.synced();
        let message = match kind {
            Kind::Pre => {
                campaign.granted.push(self.config.me);
                Message::PreVote { next, last }
            }
            Kind::Vote { transfer } => {
                self.leader = None;
                self.is_following = false;
                self.whole_at = None;
                self.meta = Meta { epoch: next, vote: Some(self.config.me), ..self.meta };
                campaign.own_vote = self.outbox.save(self.meta);
                Message::Vote { last, transfer }
            }
        };
        self.office = Office::Candidate(campaign);
        for voter in self.other_voters() {
            self.send(voter, message.clone());
        }
        self.own_vote_counts();
    }

    /// An operator wants this replica to lead. While it hears a primary it does not: a lease may rest on that, and a
    /// transfer is the way.
    pub(super) fn promote(&mut self, token: u64) {
        let outcome = match self.office {
            // To begin anew would throw away the votes that it has.
            Office::Primary(_) | Office::Candidate(_) => Outcome::Stands,
            Office::Backup if !self.may_stand() => Outcome::MayNotStand,
            Office::Backup if self.hears_primary() => {
                Outcome::HearsPrimary { primary: self.leader.map(|leader| leader.id) }
            }
            Office::Backup => {
                self.stand(Kind::Pre);
                Outcome::Stands
            }
        };
        self.resolve(token, outcome);
    }

    /// The primary hands its role over to this replica.
    pub(super) fn take_over(&mut self, last: Position) -> Taken {
        if !self.may_stand() {
            return Err(Refusal::NotWhole);
        }
        if self.ledger.synced() < last {
            return Err(Refusal::ImpossibleLsn);
        }
        self.stand(Kind::Vote { transfer: true });
        Ok(())
    }

    /// A connection was lost: if it was the primary's, look sooner whether it is gone.
    pub(super) fn peer_lost(&mut self, id: ReplicaId) {
        let is_leader = self.leader.is_some_and(|leader| leader.id == id);
        // A lease rests on the promise to wait, whatever the connection says.
        if is_leader && self.config.lease_drift_ppm.is_none() && self.config.policy != FailoverPolicy::Manual
        {
            self.heard = None;
            let rank = self.rank_without(id);
            let hurried = self.patience.hurried(self.now, &self.config.timing, rank);
            self.election_at = self.election_at.min(hurried);
            self.answer_question();
        }
    }

    /// How many voters come before this one, in an order that all of them know, if that one is gone.
    fn rank_without(&self, gone: ReplicaId) -> u32 {
        let Some(membership) = self.ledger.membership() else { return 0 };
        let own = self.config.me.id;
        let voters = membership.electorate.voters.iter().map(|voter| voter.member.id);
        u32::try_from(voters.filter(|voter| *voter < own && *voter != gone).count()).unwrap_or(0)
    }

    pub(super) fn pre_vote(&mut self, from: Member, next: Epoch, last: Position) -> Taken {
        if !self.is_whole() {
            return Err(Refusal::NotWhole);
        }
        let question = Question { next, last, from };
        if self.hears_primary() && self.question.as_ref().is_none_or(|old| *old < question) {
            self.question = Some(question.clone());
        }
        self.answer(question);
        Ok(())
    }

    /// Whoever is granted a pre-vote, now or later, is granted it here: this replica may be asking too.
    fn answer(&mut self, Question { next, last, from }: Question) {
        let granted =
            self.is_whole() && !self.hears_primary() && next > self.meta.epoch && self.is_behind(last);
        if granted {
            self.yield_to(from, last);
        }
        self.send(from, Message::PreVoteReply { next, granted });
    }

    /// Of two who ask at the same time each would be granted by the other: both would want votes in the same epoch, share
    /// them, and nobody would lead before the next timeout. So the one with less, or the higher id, asks no further. Its
    /// election timeout goes on, should the other one fail.
    fn yield_to(&mut self, other: Member, last: Position) {
        let key = |last: Position, id: ReplicaId| (last, std::cmp::Reverse(id));
        let comes_first = key(last, other.id) > key(self.ledger.synced(), self.config.me.id);
        let only_asks = matches!(&self.office, Office::Candidate(campaign) if campaign.kind == Kind::Pre);
        if comes_first && only_asks {
            self.office = Office::Backup;
        }
    }

    /// Answers again who asked while the primary was still heard, now that it is lost: replicas notice its end one after
    /// the other, and who noticed first would else ask again only after an election timeout. A pre-vote is no promise, so
    /// it may be granted at any time.
    fn answer_question(&mut self) {
        if let Some(question) = self.question.take() {
            self.answer(question);
        }
    }

    pub(super) fn vote(&mut self, from: Member, epoch: Epoch, last: Position, transfer: bool) -> Taken {
        if epoch < self.meta.epoch {
            self.send(from, Message::Stale);
            return Err(Refusal::StaleEpoch);
        }
        // S2: nobody is deposed by a candidate who just does not hear the primary.
        if self.hears_primary() && !transfer {
            return Err(Refusal::NotAsked);
        }
        if epoch > self.meta.epoch {
            self.adopt(epoch);
        }
        if !self.is_whole() {
            return Err(Refusal::NotWhole);
        }
        let is_free = self.meta.vote.is_none_or(|vote| vote == from) && self.leader.is_none();
        let granted = (is_free || !self.rules(Rule::VoteOnce)) && self.is_behind(last);
        if granted && self.meta.vote != Some(from) {
            self.meta.vote = Some(from);
            self.outbox.save(self.meta);
        }
        if granted {
            self.office = Office::Backup;
            self.is_chosen = false;
            self.election_at = self.patience.deadline(self.now, &self.config.timing);
        }
        // Leaves once the vote is synced (S1).
        self.send(from, Message::VoteReply { granted });
        Ok(())
    }

    pub(super) fn pre_vote_reply(&mut self, from: Member, next: Epoch, granted: bool) -> Taken {
        let Office::Candidate(campaign) = &mut self.office else { return Err(Refusal::NotAsked) };
        if campaign.kind != Kind::Pre || campaign.epoch != next || !granted {
            return Err(Refusal::NotAsked);
        }
        campaign.count(from);
        self.tally();
        Ok(())
    }

    pub(super) fn vote_reply(&mut self, from: Member, epoch: Epoch, granted: bool) -> Taken {
        let Office::Candidate(campaign) = &mut self.office else { return Err(Refusal::NotAsked) };
        if campaign.kind == Kind::Pre || campaign.epoch != epoch || !granted {
            return Err(Refusal::NotAsked);
        }
        campaign.count(from);
        self.tally();
        Ok(())
    }

    /// The candidate's own vote counts once it is synced, like everybody's (S1).
    pub(super) fn own_vote_counts(&mut self) {
        let Office::Candidate(campaign) = &mut self.office else { return };
        let is_open = !self.config.rules.hold(Rule::PersistBeforeSend);
        if campaign.kind != Kind::Pre && (is_open || self.outbox.is_saved(campaign.own_vote)) {
            campaign.count(self.config.me);
        }
        self.tally();
    }

    /// Takes a newer epoch: whatever this replica was, it is a backup without a primary in it.
    pub(super) fn adopt(&mut self, epoch: Epoch) {
        assert!(epoch > self.meta.epoch, "epochs only grow");
        if matches!(self.office, Office::Primary(_)) {
            self.depose();
        }
        self.office = Office::Backup;
        self.meta = Meta { epoch, vote: None, ..self.meta };
        self.outbox.save(self.meta);
        self.leader = None;
        self.is_chosen = false;
        self.is_following = false;
        self.whole_at = None;
        // What was promised to the primary of another epoch, by hearing it, is kept: a lease may rest on it.
        self.patience.forget();
        self.election_at = self.patience.deadline(self.now, &self.config.timing);
    }

    fn tally(&mut self) {
        let Office::Candidate(campaign) = &self.office else { return };
        let granted = |member| campaign.granted.contains(&member);
        let is_elected = self.ledger.membership().is_some_and(|membership| membership.elects(granted));
        if !is_elected {
            return;
        }
        match campaign.kind {
            Kind::Pre => self.stand(Kind::Vote { transfer: false }),
            Kind::Vote { .. } => self.reign(),
        }
    }

    /// Whether a primary is alive, as far as this replica can tell: it is one, or has heard one within the shortest
    /// election timeout.
    fn hears_primary(&self) -> bool {
        let shortest = self.config.timing.election_min;
        matches!(self.office, Office::Primary(_))
            || self.heard.is_some_and(|at| self.now.since(at) < shortest)
    }

    /// Whether the candidate has all that this replica may ever have acknowledged (S2).
    fn is_behind(&self, last: Position) -> bool {
        last >= self.ledger.synced() || !self.rules(Rule::VoteByPosition)
    }

    fn other_voters(&self) -> Vec<Member> {
        let Some(membership) = self.ledger.membership() else { return Vec::new() };
        let mut voters: Vec<_> = membership.members().filter(|member| membership.votes(*member)).collect();
        voters.sort_unstable();
        voters.dedup();
        voters.retain(|voter| voter.id != self.config.me.id);
        voters
    }

    /// Whether the own disk owes a sync for so long that this replica had better not lead (S12).
    pub(super) fn is_stalled(&self) -> bool {
        let max = self.config.timing.disk_stall_max;
        let is_still = self.unsynced_since.is_some_and(|since| self.now.since(since) >= max);
        is_still && self.ledger.durable < self.ledger.last().lsn && self.ledger.last().lsn > Lsn::ZERO
    }
}

impl Campaign {
    fn count(&mut self, member: Member) {
        if !self.granted.contains(&member) {
            self.granted.push(member);
        }
    }
}
