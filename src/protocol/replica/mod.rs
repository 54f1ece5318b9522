//! One replica of the log: what it knows, and what each input makes of that.
//!
//! `mod.rs` branches; `admission` judges who may say what; `election`, `backup`, `primary`, `catch_up`, `snapshot`,
//! `mending`, `transfer`, `change` and `reads` each hold one flow; `ledger`, `outbox`, `peer`, `patience` and `ease` are what
//! they share.

mod admission;
mod backup;
mod catch_up;
mod change;
mod ease;
mod election;
mod ledger;
mod mending;
mod outbox;
mod patience;
mod peer;
mod primary;
mod proposals;
mod reads;
mod snapshot;
mod status;
mod transfer;

pub use status::{PeerStatus, Role, Stage, Status};

use self::election::Campaign;
use self::ledger::Ledger;
use self::outbox::Outbox;
use self::patience::Patience;
use self::primary::Reign;
use self::snapshot::Staging;
use super::config::{Config, ConfigError, FailoverPolicy, Start};
use super::effect::{Effect, Halt, Outcome};
use super::group::{Group, Span};
use super::health::Health;
use super::input::{Input, Proposal};
use super::membership::Member;
use super::message::{Envelope, Message};
use super::refusal::{Refusal, Refusals};
use super::rules::Rule;
use super::state::{Base, Meta, State};
use super::time::Time;
use crate::types::{Epoch, LogIncarnation, Lsn, LsnRange, ReplicaId};

/// One replica of the log, without clock, disk or network: see the [module](super).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica {
    config: Config,
    now: Time,
    meta: Meta,
    ledger: Ledger,
    outbox: Outbox,
    office: Office,
    /// Who leads in this epoch, as far as known.
    leader: Option<Member>,
    /// When the leader was heard last; at the start, now: a promise to it may have been made before a crash.
    heard: Option<Time>,
    /// Whether the log is known to be a part of the leader's.
    is_following: bool,
    election_at: Time,
    /// With [`FailoverPolicy::Manual`]: whether this replica was told to lead, and nobody else since, as far as it knows.
    is_chosen: bool,
    patience: Patience,
    /// Who asked for a pre-vote while the primary was heard, and is answered again if that is lost.
    question: Option<election::Question>,
    health: Health,
    /// What the leader had when this damaged replica began to follow it: there it is whole again.
    whole_at: Option<Lsn>,
    /// How often the same records have come back and did not fit.
    mends_refused: u32,
    staging: Option<Staging>,
    /// Since when the own disk has owed a sync.
    unsynced_since: Option<Time>,
    /// A transfer that this replica began as primary, and of which it has not seen the end.
    handed_over: Option<(u64, Time)>,
    refusals: Refusals,
    halted: Option<Halt>,
    told: Option<(Role, Epoch, Option<ReplicaId>)>,
    /// Room for the spans of a group in the making; empty in between.
    spans: Vec<Span>,
}

/// What a replica does in its epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Office {
    Backup,
    Candidate(Campaign),
    Primary(Box<Reign>),
}

impl Replica {
    /// The replica that recovery has found on its disk.
    ///
    /// # Errors
    /// If the configuration cannot work, or the state contradicts itself.
    pub fn recover(config: Config, state: State, now: Time) -> Result<Replica, ConfigError> {
        config.check()?;
        let ledger = Ledger::recover(&state)?;
        let mut meta = state.meta;
        if ledger.last().epoch > meta.epoch {
            // Records of an epoch may be synced before the epoch itself; no vote was given in it then (S1).
            meta = Meta { epoch: ledger.last().epoch, vote: None, ..meta };
        }
        let health = match state.health {
            Health::Blank if config.start == Start::Newcomer => Health::Whole,
            health => health,
        };
        let mut patience = Patience::new(config.seed, &config.timing);
        let election_at = patience.deadline(now, &config.timing);
        let mut replica = Replica {
            outbox: Outbox::new(!config.rules.hold(Rule::PersistBeforeSend)),
            now,
            meta,
            ledger,
            office: Office::Backup,
            leader: None,
            heard: Some(now),
            is_following: false,
            election_at,
            is_chosen: config.start == Start::Chosen && config.policy == FailoverPolicy::Manual,
            patience,
            question: None,
            health,
            whole_at: None,
            mends_refused: 0,
            staging: state.staged.map(Staging::resumed),
            unsynced_since: None,
            handed_over: None,
            refusals: Refusals::default(),
            halted: None,
            told: None,
            spans: Vec::new(),
            config,
        };
        replica.tell_role();
        Ok(replica)
    }

    /// Takes an input. Then [`poll`](Replica::poll) until there is no more effect.
    ///
    /// `now` never goes back; if it does, the time stays what it was.
    pub fn handle(&mut self, now: Time, input: Input) {
        if self.halted.is_some() {
            return self.decline(&input);
        }
        self.now = self.now.max(now);
        self.keep_time();
        self.take(input);
        self.tell_role();
    }

    /// The next thing to be done.
    pub fn poll(&mut self) -> Option<Effect> {
        self.outbox.poll()
    }

    /// When to say [`Input::Tick`], if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if self.halted.is_some() {
            return None;
        }
        let office = match &self.office {
            Office::Primary(reign) => Some(self.reign_deadline(reign)),
            Office::Candidate(_) => Some(self.election_at),
            Office::Backup => (self.may_stand() && self.stands_unasked()).then_some(self.election_at),
        };
        let handed_over = self.handed_over.map(|(_, until)| until);
        office.into_iter().chain(handed_over).min()
    }

    /// The replicated state as of what is committed now: what a snapshot of the application at that record goes with.
    ///
    /// `None` while no membership is known to be committed: the first one is in no record, so that a newcomer who
    /// begins with the first record does not know it. A snapshot without one would be of use to nobody.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        Some(self.ledger.committed_base()).filter(|base| base.membership.is_some())
    }

    /// How many messages were refused, and why.
    #[must_use]
    pub const fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// What it was told once and for all.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => {}
            Input::Received(envelope) => self.receive(envelope),
            Input::Propose(proposal) => {
                self.gather(&[proposal], |_| {});
            }
            Input::Register { token } => self.register(token),
            Input::MetaSaved { number } => self.meta_saved(number),
            Input::Durable { incarnation, lsn } => self.durable(incarnation, lsn),
            Input::LogRead { to, group } => self.log_read(to, group),
            Input::LogGone { to } => self.probe_again(to),
            Input::Trimmed { through } => self.trimmed(through),
            Input::SnapshotTaken { base, contents } => self.snapshot_taken(base, contents),
            Input::SnapshotGone { to } => self.snapshot_gone(to),
            Input::SnapshotRead { to, snapshot, offset, bytes, digest } => {
                self.snapshot_read(to, Message::SnapshotChunk { snapshot, offset, bytes, digest });
            }
            Input::ChunkStaged { snapshot, bytes } => self.chunk_staged(snapshot, bytes),
            Input::ChunkRefused { snapshot, offset } => self.chunk_refused(snapshot, offset),
            Input::Installed { snapshot, incarnation } => self.installed(snapshot, incarnation),
            Input::RangeRead { to, group, digest } => self.range_read(to, group, digest),
            Input::Mended { range } => self.mended(range),
            Input::MendRefused { range } => self.mend_refused(range),
            Input::Read { token } => self.read(token),
            Input::Change { token, change } => self.change(token, change),
            Input::Transfer { token, to } => self.transfer(token, to),
            Input::Promote { token } => self.promote(token),
            Input::PeerLost { id } => self.peer_lost(id),
            Input::DiskFailed => self.halt(Halt::DiskFailed),
        }
    }

    /// Who asks a halted replica is told to ask another.
    fn decline(&mut self, input: &Input) {
        match *input {
            Input::Propose(Proposal { token, .. })
            | Input::Register { token }
            | Input::Change { token, .. }
            | Input::Transfer { token, .. } => self.resolve(token, Outcome::NotTaken { primary: None }),
            Input::Read { token } => self.outbox.push(Effect::ReadFailed { token, primary: None }),
            Input::Promote { token } => self.resolve(token, Outcome::MayNotStand),
            _ => {}
        }
    }

    /// A message that `admission` has let in, by what it is about.
    fn receive(&mut self, envelope: Envelope) {
        if let Err(refusal) = self.admit(&envelope) {
            self.refusals.note(refusal);
            return;
        }
        let (from, epoch) = (envelope.from, envelope.epoch);
        let taken = match envelope.message {
            Message::PreVote { next, last } => self.pre_vote(from, next, last),
            Message::Vote { last, transfer } => self.vote(from, epoch, last, transfer),
            Message::PreVoteReply { next, granted } => self.pre_vote_reply(from, next, granted),
            Message::VoteReply { granted } => self.vote_reply(from, epoch, granted),
            Message::Stale => Ok(()),
            Message::Heartbeat { commit, last, durable, .. } if commit.max(durable) > last => {
                Err(Refusal::ImpossibleLsn)
            }
            Message::Heartbeat { round, commit, .. } => self.heartbeat(from, round, commit),
            Message::Probe { through, known } => self.probe(from, through, known),
            Message::Follow { common, incarnation, last } => self.follow(from, common, incarnation, last),
            Message::Append { previous, commit, incarnation, group } => {
                self.append(from, incarnation, previous, commit, group)
            }
            Message::SnapshotOffer(offer) => self.snapshot_offer(from, *offer),
            Message::SnapshotChunk { snapshot, offset, bytes, digest } => {
                self.snapshot_chunk(snapshot, offset, bytes, digest)
            }
            Message::RepairGive { group, digest } => self.repair_give(group, digest),
            Message::RepairNone { range, last } => self.repair_none(from, range, last),
            Message::TakeOver { last } => self.take_over(last),
            Message::HeartbeatReply { round, last, durable, incarnation, is_following } => {
                self.heartbeat_reply(from, round, (last.lsn, durable), incarnation, is_following)
            }
            Message::ProbeReply(reply) => self.probe_reply(from, &reply),
            Message::Ack { incarnation, durable, is_whole } => self.ack(from, incarnation, durable, is_whole),
            Message::OutOfOrder { incarnation, last } => self.out_of_order(from, incarnation, last),
            Message::SnapshotAsk { snapshot, bytes } => self.snapshot_ask(from, snapshot, bytes),
            Message::RepairAsk { range } => self.repair_ask(from, range),
        };
        if let Err(refusal) = taken {
            self.refusals.note(refusal);
        }
    }

    /// Whatever time has brought.
    fn keep_time(&mut self) {
        if let Some((token, _)) = self.handed_over.filter(|(_, until)| *until <= self.now) {
            self.handed_over = None;
            self.resolve(token, Outcome::Unknown);
        }
        match &self.office {
            Office::Primary(_) => self.keep_reigning(),
            Office::Candidate(_) | Office::Backup if self.election_at <= self.now => {
                if self.may_stand() && self.stands_unasked() {
                    self.patience.fail();
                    self.stand(election::Kind::Pre);
                } else {
                    self.election_at = self.patience.deadline(self.now, &self.config.timing);
                    self.office = Office::Backup;
                }
            }
            Office::Candidate(_) | Office::Backup => {}
        }
    }

    fn meta_saved(&mut self, number: u64) {
        if self.outbox.saved(number) {
            self.own_vote_counts();
        }
    }

    /// Records are synced on this replica's own disk.
    fn durable(&mut self, incarnation: LogIncarnation, lsn: Lsn) {
        let lsn = self.ledger.synced_of(incarnation, lsn);
        if lsn > self.ledger.last().lsn || lsn <= self.ledger.durable {
            return;
        }
        self.ledger.durable = lsn;
        self.unsynced_since = (lsn < self.ledger.last().lsn).then_some(self.now);
        match &self.office {
            // A copy of what is committed makes no difference.
            Office::Primary(_) if lsn > self.ledger.commit => self.count(),
            Office::Primary(_) => {}
            Office::Backup | Office::Candidate(_) => self.acknowledge(),
        }
    }

    /// The log was trimmed: what is committed and covered by a snapshot.
    fn trimmed(&mut self, through: Lsn) {
        if through <= self.ledger.base.position.lsn {
            self.ledger.history.forget(through);
            // A snapshot on which the log does not follow any more is of no use to anybody.
            self.keep_snapshots();
        }
    }

    /// This replica writes a group of its own or of its primary's, of which its ledger has taken note.
    fn write(&mut self, group: Group) {
        self.unsynced_since.get_or_insert(self.now);
        self.outbox.push(Effect::Write(group));
    }

    fn send(&mut self, to: Member, message: Message) {
        self.outbox.push(Effect::Send(Envelope {
            cluster: self.config.cluster,
            from: self.config.me,
            to,
            epoch: self.meta.epoch,
            generation: self.meta.generation,
            message,
        }));
    }

    fn resolve(&mut self, token: u64, outcome: Outcome) {
        self.outbox.push(Effect::Resolve { token, outcome });
    }

    /// Everything up to here is committed: tells the driver, and keeps what follows from it. Whether that makes another
    /// membership the committed one.
    fn commit_through(&mut self, lsn: Lsn) -> bool {
        if lsn <= self.ledger.commit {
            return false;
        }
        let is_other = self.ledger.commit_through(lsn);
        let shown = if self.rules(Rule::StopAtCommitted) { lsn } else { self.ledger.last().lsn };
        self.outbox.push(Effect::Committed(shown));
        let generation = self.ledger.committed_generation();
        if generation > self.meta.generation {
            self.meta.generation = generation;
            self.outbox.save(self.meta);
        }
        is_other
    }

    fn halt(&mut self, halt: Halt) {
        if matches!(self.office, Office::Primary(_)) {
            self.depose();
        }
        if let Some((token, _)) = self.handed_over.take() {
            self.resolve(token, Outcome::Unknown);
        }
        self.office = Office::Backup;
        self.halted = Some(halt);
        self.outbox.silence();
        self.outbox.push(Effect::Halt(halt));
    }

    fn tell_role(&mut self) {
        let now = (self.role(), self.meta.epoch, self.leader.map(|leader| leader.id));
        if self.told != Some(now) {
            self.told = Some(now);
            let (role, epoch, primary) = now;
            self.outbox.push(Effect::Became { role, epoch, primary });
        }
    }

    fn rules(&self, rule: Rule) -> bool {
        self.config.rules.hold(rule)
    }

    /// Whether everything that was ever acknowledged here is here (S11).
    fn is_whole(&self) -> bool {
        self.health == Health::Whole || !(self.rules(Rule::DamagedAbstains) || self.health == Health::Blank)
    }

    fn is_voter(&self) -> bool {
        self.ledger.membership().is_some_and(|membership| membership.votes(self.config.me))
    }
}

/// A message that is not acted on, or that is.
type Taken = Result<(), Refusal>;

/// Whether a range is one that a log can have.
fn is_possible(range: LsnRange) -> bool {
    range.first > Lsn::ZERO && range.first <= range.last && range.last <= Lsn::LAST
}

#[cfg(test)]
mod tests;
