//! The reign of a primary: heartbeats, the count of copies, and its end.

use std::time::Duration;

use super::ease::Ease;
use super::peer::{Peer, Step};
use super::proposals::Pending;
use super::reads::Reads;
use super::transfer::Transfer;
use super::{Office, Replica, Taken};
use crate::protocol::config::FailoverPolicy;
use crate::protocol::effect::{Effect, Outcome};
use crate::protocol::group::Content;
use crate::protocol::membership::Member;
use crate::protocol::message::{Message, SnapshotId, SnapshotOffer};
use crate::protocol::refusal::Refusal;
use crate::protocol::rules::Rule;
use crate::protocol::time::Time;
use crate::types::{LogIncarnation, Lsn};

/// What a primary keeps for its epoch; all of it is forgotten with the epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Reign {
    /// The record that begins the epoch (S3).
    pub(super) start: Lsn,
    /// The others, by id.
    pub(super) peers: Vec<Peer>,
    pub(super) pending: Pending,
    /// How much may be on its way to those who catch up.
    pub(super) ease: Ease,
    pub(super) reads: Reads,
    /// Grows with each heartbeat.
    pub(super) round: u64,
    heartbeat_at: Time,
    /// When it began.
    since: Time,
    /// Before this, nobody is preferred: a hand-over that fails has kept everybody from appending.
    prefer_at: Time,
    /// How often it was tried to hand over to somebody better.
    preferred: u32,
    pub(super) transfer: Option<Transfer>,
    /// Whether anybody was ever told to take over: from then on there is no lease.
    pub(super) has_told: bool,
    /// The change that is under way.
    pub(super) change: Option<u64>,
    pinned: Option<Lsn>,
    /// Snapshots that were replaced by newer ones, and that peers still receive.
    pub(super) kept: Vec<SnapshotOffer>,
    /// What the driver was told last to keep.
    pub(super) told_kept: Vec<SnapshotId>,
}

/// From one try to hand over to somebody better to the next: at first so many times as long as one may take, because nobody
/// can append during it; twice as long after each that has failed.
const PREFER_PAUSE: u32 = 2;
/// That many times it becomes twice as long.
const PREFER_DOUBLINGS_MAX: u32 = 3;

impl Replica {
    /// The election is won.
    pub(super) fn reign(&mut self) {
        self.leader = Some(self.config.me);
        self.heard = None;
        self.staging = None;
        if let Some((token, _)) = self.handed_over.take() {
            self.resolve(token, Outcome::NotTransferred);
        }
        let start = self.ledger.last().lsn.next();
        self.office = Office::Primary(Box::new(Reign {
            start,
            peers: Vec::new(),
            pending: Pending::default(),
            ease: Ease::new(self.now),
            reads: Reads::default(),
            round: 0,
            heartbeat_at: self.now.plus(self.config.timing.heartbeat),
            since: self.now,
            prefer_at: self.now.plus(self.config.timing.election_min * 4),
            preferred: 0,
            transfer: None,
            has_told: false,
            change: None,
            pinned: None,
            kept: Vec::new(),
            told_kept: Vec::new(),
        }));
        self.call_peers();
        // S3: the first record of the epoch; nothing is acknowledged before it commits.
        self.append_control(Content::EpochStart);
        self.beat();
    }

    /// What time has brought a primary.
    pub(super) fn keep_reigning(&mut self) {
        let last = self.ledger.last().lsn;
        let Office::Primary(reign) = &self.office else { return };
        // A heartbeat is the step of a primary's time: what is looked at more often than that costs each group.
        if reign.heartbeat_at <= self.now {
            if !self.has_quorum(reign) {
                self.abdicate();
                return;
            }
            self.keep_pace();
            self.beat();
            self.feed_all();
            self.keep_transferring();
        } else if reign.peers.iter().any(|peer| peer.is_behind(last)) {
            self.feed_all();
        }
    }

    pub(super) fn reign_deadline(&self, reign: &Reign) -> Time {
        let last = self.ledger.last().lsn;
        let throttled = reign.peers.iter().filter(|peer| peer.is_behind(last) && peer.read_at > self.now);
        let reads = throttled.map(|peer| peer.read_at).min();
        reads.into_iter().chain([reign.heartbeat_at]).min().unwrap_or(reign.heartbeat_at)
    }

    /// When the next step of a primary's time is, and what this one says of those who catch up.
    fn keep_pace(&mut self) {
        let last = self.ledger.last().lsn;
        let Office::Primary(reign) = &mut self.office else { return };
        reign.heartbeat_at = self.now.plus(self.config.timing.heartbeat);
        let fed = reign.peers.iter().filter(|peer| peer.is_fed(last)).count() as u64;
        let follows = |member: Member| {
            let peer = reign.peers.iter().find(|peer| peer.member == member);
            u64::from(peer.is_none_or(|peer| peer.is_streaming(last)))
        };
        let is_needed = self.ledger.membership().is_some_and(|ours| ours.reached(follows) == 0);
        reign.ease.beat(fed, is_needed, self.config.limits.window_bytes);
    }

    /// A heartbeat to everybody, and another try where nothing moves. Reads have some of their own, which put off no step of
    /// time: whoever reads all the time would else keep a hand-over from being looked at.
    pub(super) fn beat(&mut self) {
        let Office::Primary(reign) = &mut self.office else { return };
        reign.round += 1;
        let round = reign.round;
        reign.reads.began(round, self.now);
        let members: Vec<_> = reign.peers.iter().map(|peer| peer.member).collect();
        let (commit, last, durable) = (self.ledger.commit, self.ledger.last().lsn, self.ledger.durable);
        for member in members {
            self.send(member, Message::Heartbeat { round, commit, last, durable });
            self.nudge(member);
        }
        self.prefer();
        self.pin();
    }

    pub(super) fn heartbeat_reply(
        &mut self,
        from: Member,
        round: u64,
        (last, durable): (Lsn, Lsn),
        incarnation: LogIncarnation,
        is_following: bool,
    ) -> Taken {
        let is_bound = self.rules(Rule::BindAcknowledgements);
        let now = self.now;
        if durable > last {
            return Err(Refusal::ImpossibleLsn);
        }
        let Office::Primary(reign) = &mut self.office else { return Err(Refusal::WrongRole) };
        let newest = reign.round;
        if round > newest {
            return Err(Refusal::NotAsked);
        }
        let peer = reign.peer(from).ok_or(Refusal::WrongRole)?;
        if peer.has_forgotten(incarnation, round) {
            // Nothing that it says would ever count (S6): it is told which life is known, and begins one after that.
            if !matches!(peer.step, Step::Probe { .. }) {
                self.probe_again(from.id);
            }
            return Err(Refusal::StaleIncarnation);
        }
        if peer.incarnation.is_some_and(|known| incarnation < known) {
            return Err(Refusal::StaleIncarnation);
        }
        peer.heard = Some(now);
        peer.round = peer.round.max(round);
        // Somebody whose log is not what it was is noticed although nothing is appended.
        let is_lost = matches!(peer.step, Step::Follow { .. })
            && (peer.incarnation != Some(incarnation) || !is_following);
        // S6: its copies of an earlier life count no more, and a damaged replica will not be probed for long.
        peer.live(incarnation, newest, is_bound);
        if is_lost {
            self.probe_again(from.id);
        }
        self.confirm_reads();
        Ok(())
    }

    /// Counts the copies anew, after one of them has grown.
    pub(super) fn count(&mut self) {
        let Office::Primary(reign) = &self.office else { return };
        let Some(membership) = self.ledger.membership() else { return };
        let copies = |member: Member| {
            if member == self.config.me {
                return self.ledger.durable.get();
            }
            reign.peers.iter().find(|peer| peer.member == member).map_or(0, |peer| peer.acked.get())
        };
        let reached = Lsn::new(membership.reached(copies)).min(self.ledger.last().lsn);
        // S4: a copy of an older epoch's record commits nothing; it commits with the first of this epoch.
        if reached < reign.start && self.rules(Rule::CountCurrentEpochOnly) {
            return;
        }
        if reached > self.ledger.commit {
            let is_other = self.commit_through(reached);
            self.after_commit(is_other);
        }
    }

    /// What follows from a commit, for a primary; and from a change of who takes part, if that was committed.
    fn after_commit(&mut self, is_other: bool) {
        let (commit, last) = (self.ledger.commit, self.ledger.last().lsn);
        let (epoch, now, window) = (self.meta.epoch, self.now, self.config.limits.window_bytes);
        if let Office::Primary(reign) = &mut self.office {
            let is_feeding = reign.peers.iter().any(|peer| peer.is_fed(last));
            reign.ease.committed(commit, is_feeding, window, now);
        }
        while let Office::Primary(reign) = &mut self.office
            && let Some((token, outcome)) = reign.pending.committed(commit, epoch)
        {
            self.resolve(token, outcome);
        }
        if is_other {
            self.call_peers();
        }
        self.go_on_changing();
        if matches!(&self.office, Office::Primary(reign) if reign.reads.tokens().next().is_some()) {
            self.confirm_reads();
        }
        self.hand_over();
    }

    /// The reign is over: what waits is answered as unknown (S7), what was only asked as not taken.
    pub(super) fn depose(&mut self) {
        let Office::Primary(reign) = std::mem::replace(&mut self.office, Office::Backup) else { return };
        let unknown = if self.rules(Rule::ResolveAsUnknown) {
            Outcome::Unknown
        } else {
            Outcome::NotTaken { primary: None }
        };
        for token in reign.pending.tokens() {
            self.resolve(token, unknown);
        }
        if let Some(token) = reign.change {
            self.resolve(token, Outcome::Unknown);
        }
        for token in reign.reads.tokens() {
            self.outbox.push(Effect::ReadFailed { token, primary: None });
        }
        if let Some(token) = reign.transfer.and_then(|transfer| transfer.token) {
            self.handed_over = Some((token, self.now.plus(self.config.timing.transfer_max)));
        }
        if reign.pinned.is_some() {
            self.outbox.push(Effect::Pin(None));
        }
        if !reign.told_kept.is_empty() {
            self.outbox.push(Effect::KeepSnapshots(Vec::new()));
        }
        self.leader = None;
        self.is_following = false;
    }

    /// Steps down without a newer epoch: nobody listens, or the own disk is sick. Whoever was chosen goes on later.
    pub(super) fn abdicate(&mut self) {
        self.depose();
        self.patience.forget();
        self.election_at = self.patience.deadline(self.now, &self.config.timing);
    }

    /// Peers for all who take part, in a membership that counts or may come to count.
    pub(super) fn call_peers(&mut self) {
        let now = self.now;
        let Office::Primary(reign) = &mut self.office else { return };
        let wanted = |member: Member| self.ledger.memberships().any(|membership| membership.has(member));
        reign.peers.retain(|peer| wanted(peer.member));
        for member in self.ledger.memberships().flat_map(|membership| membership.members()) {
            // Whoever had this replica's id with another disk is no more.
            if member.id != self.config.me.id && !reign.peers.iter().any(|peer| peer.member == member) {
                reign.peers.push(Peer::new(member, now));
            }
        }
        reign.peers.sort_by_key(|peer| peer.member);
    }

    /// Check-quorum: whether a write quorum has been heard within the longest time a backup may wait.
    fn has_quorum(&self, reign: &Reign) -> bool {
        let patience = self.check_patience();
        let age = self.now.since(reign.since);
        if age < patience {
            return true;
        }
        let Some(membership) = self.ledger.membership() else { return false };
        // The first answers take a round trip, and nobody has measured one yet.
        let has_answered = |member: Member| {
            let peer = reign.peers.iter().find(|peer| peer.member == member);
            u64::from(member == self.config.me || peer.is_some_and(|peer| peer.heard.is_some()))
        };
        if age < self.config.timing.election_max && membership.reached(has_answered) == 0 {
            return true;
        }
        let is_heard = |member: Member| {
            let peer = reign.peers.iter().find(|peer| peer.member == member);
            let is_heard = peer.is_some_and(|peer| peer.is_heard(patience, self.now));
            u64::from(member == self.config.me || is_heard)
        };
        membership.reached(is_heard) > 0
    }

    /// Whoever was not heard for so long may be gone.
    fn check_patience(&self) -> Duration {
        self.patience.timeout(&self.config.timing).max(self.config.timing.election_min)
    }

    /// With the policy of priorities: hands over to somebody better who has caught up.
    fn prefer(&mut self) {
        let Office::Primary(reign) = &self.office else { return };
        let ready =
            reign.prefer_at < self.now && self.ledger.commit >= reign.start && reign.transfer.is_none();
        if self.config.policy != FailoverPolicy::Priority || !ready {
            return;
        }
        let Some(membership) = self.ledger.membership().filter(|membership| !membership.is_joint()) else {
            return;
        };
        let (commit, own) = (self.ledger.commit, membership.priority(self.config.me));
        let patience = self.check_patience();
        let better = |peer: &&Peer| {
            let is_able = peer.is_heard(patience, self.now) && peer.acked >= commit;
            is_able && membership.priority(peer.member) > own
        };
        let best = reign.peers.iter().filter(better).max_by_key(|peer| membership.priority(peer.member));
        if let Some(member) = best.map(|peer| peer.member) {
            let doublings = reign.preferred.min(PREFER_DOUBLINGS_MAX);
            let pause = self.config.timing.transfer_max * (PREFER_PAUSE << doublings);
            if let Office::Primary(reign) = &mut self.office {
                reign.prefer_at = self.now.plus(pause);
                reign.preferred = doublings + 1;
            }
            self.begin_transfer(None, member, false);
        }
    }

    /// Tells how much of the log, and which snapshots, have to stay for those who catch up.
    pub(super) fn pin(&mut self) {
        let (now, last) = (self.now, self.ledger.last().lsn);
        let absence_max = self.config.timing.absence_max;
        let Office::Primary(reign) = &mut self.office else { return };
        reign.peers.iter_mut().for_each(|peer| peer.let_go_if_away(absence_max, now));
        let pinned = reign.peers.iter().filter_map(|peer| peer.pin(last)).min();
        if pinned != reign.pinned {
            reign.pinned = pinned;
            self.outbox.push(Effect::Pin(pinned));
        }
        self.keep_snapshots();
    }
}

impl Reign {
    pub(super) fn peer(&mut self, member: Member) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.member == member)
    }

    /// Bytes that wait for their commit.
    pub(super) const fn uncommitted_bytes(&self) -> u64 {
        self.pending.bytes()
    }
}
