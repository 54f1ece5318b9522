//! What a primary knows of one of the others.

use std::collections::VecDeque;
use std::time::Duration;

use super::snapshot::Sending;
use super::status::{PeerStatus, Stage};
use crate::protocol::membership::Member;
use crate::protocol::message::{Message, SnapshotId};
use crate::protocol::time::Time;
use crate::types::{LogIncarnation, Lsn, LsnRange};

/// A throttle makes up for this much of what was not used.
const CREDIT: Duration = Duration::from_millis(4);

/// What a primary knows of one of the others.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Peer {
    pub(super) member: Member,
    pub(super) step: Step,
    /// The life of its log that `acked` and the window are about.
    pub(super) incarnation: Option<LogIncarnation>,
    /// The heartbeat before which it had begun that life: whoever answers a later one with an earlier life has forgotten it.
    lived: u64,
    /// The newest record whose copy there counts for a commit.
    pub(super) acked: Lsn,
    /// The newest record that it has synced, whether the copy counts or not.
    pub(super) synced: Lsn,
    /// Groups that were sent and not acknowledged: their last records and sizes.
    window: VecDeque<(Lsn, u64)>,
    in_flight: u64,
    /// When it said anything last in this epoch.
    pub(super) heard: Option<Time>,
    /// The newest heartbeat that it has answered.
    pub(super) round: u64,
    /// When something was asked of it, or it made progress.
    pub(super) moved: Time,
    /// Before this, nothing is read for it: the throttle.
    pub(super) read_at: Time,
    /// The snapshot that it was offered last, until it follows.
    pub(super) receives: Option<SnapshotId>,
    /// The newest record before those that it was known to need when it was probed last.
    held: Option<Lsn>,
}

/// What comes next with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step {
    /// Its history is asked for, of the records up to this one.
    Probe { through: Lsn },
    /// It was told where the logs part; its acknowledgement is awaited.
    Join { common: Lsn },
    /// The record that it needs next, and whether that is being read from the log.
    Follow { next: Lsn, is_reading: bool },
    /// It receives a snapshot.
    Snapshot(Sending),
    /// It has lost these records, and gets the first of them back.
    Mend { range: LsnRange, chunk: Chunk },
}

/// How far the next chunk of a snapshot, or of lost records, is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Chunk {
    /// The peer has not asked for it.
    Awaited,
    /// It was asked for, and the throttle or the window holds it back.
    Due,
    /// It is being read.
    Reading,
}

impl Peer {
    pub(super) fn new(member: Member, now: Time) -> Peer {
        Peer {
            member,
            step: Step::Probe { through: Lsn::LAST },
            incarnation: None,
            lived: 0,
            acked: Lsn::ZERO,
            synced: Lsn::ZERO,
            window: VecDeque::new(),
            in_flight: 0,
            heard: None,
            round: 0,
            moved: now,
            read_at: now,
            receives: None,
            held: None,
        }
    }

    /// Goes on to the next step; what was on its way is not counted on any more.
    pub(super) fn go(&mut self, step: Step, now: Time) {
        self.step = step;
        self.moved = now;
        self.window.clear();
        self.in_flight = 0;
    }

    /// Nothing is known of its log any more, but that it needs what it needed before.
    pub(super) fn probe(&mut self, last: Lsn, now: Time) {
        let unsynced = self.is_waiting().then_some(self.synced);
        self.held = self.pin(last).into_iter().chain(unsynced).min();
        self.go(Step::Probe { through: Lsn::LAST }, now);
    }

    /// It is known where its log parts from the primary's: nothing is kept for it but the log from there on.
    pub(super) fn join(&mut self, common: Lsn, now: Time) {
        self.let_go();
        self.go(Step::Join { common }, now);
    }

    /// Whether it has said anything within this time.
    pub(super) fn is_heard(&self, within: Duration, now: Time) -> bool {
        self.heard.is_some_and(|at| now.since(at) <= within)
    }

    /// Whoever is away for too long is waited for no more.
    pub(super) fn let_go_if_away(&mut self, absence_max: Duration, now: Time) {
        let is_away = self.heard.is_none_or(|heard| now.since(heard) > absence_max);
        if is_away && matches!(self.step, Step::Probe { .. }) {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        (self.receives, self.held) = (None, None);
    }

    /// Takes a group that was just appended, if that is what the peer needs next and its window has room for it.
    pub(super) fn ship(
        &mut self,
        range: LsnRange,
        bytes: u64,
        window: u64,
        now: Time,
    ) -> Option<LogIncarnation> {
        let is_next = matches!(self.step, Step::Follow { next, is_reading: false } if next == range.first);
        if !is_next || !self.has_room(bytes, window) {
            return None;
        }
        self.step = Step::Follow { next: range.last.next(), is_reading: false };
        self.sent(range.last, bytes, now);
        self.incarnation
    }

    /// Whether so many bytes more may be on their way; one group always may.
    pub(super) const fn has_room(&self, bytes: u64, window: u64) -> bool {
        self.in_flight == 0 || self.in_flight.saturating_add(bytes) <= window
    }

    /// A group is on its way.
    pub(super) fn sent(&mut self, last: Lsn, bytes: u64, now: Time) {
        if self.window.is_empty() {
            self.moved = now;
        }
        self.window.push_back((last, bytes));
        self.in_flight += bytes;
    }

    /// So many bytes were read for it: the next are not before their time.
    ///
    /// What it did not use of the last milliseconds it has still: timers are late, and whoever has almost caught up would else
    /// wait for one after each small part, while as much is appended again.
    pub(super) fn throttle(&mut self, bytes: u64, bytes_per_s: Option<u64>, now: Time) {
        if let Some(rate) = bytes_per_s {
            let nanos = bytes.saturating_mul(1_000_000_000) / rate.max(1);
            let begun = self.read_at.max(now.minus(CREDIT));
            self.read_at = begun.plus(Duration::from_nanos(nanos));
        }
    }

    /// Everything up to `durable` is synced there; false if that is no news.
    pub(super) fn acknowledged(&mut self, durable: Lsn, counts: bool, now: Time) -> bool {
        while let Some((_, bytes)) = self.window.pop_front_if(|(last, _)| *last <= durable) {
            self.in_flight -= bytes;
        }
        let is_news = durable > self.synced || (counts && durable > self.acked);
        if is_news {
            self.moved = now;
        }
        self.synced = self.synced.max(durable);
        if counts {
            self.acked = self.acked.max(durable);
        }
        is_news
    }

    /// Takes note of a life of its log, of which it is heard when the heartbeat of this `round` is the newest; in another
    /// one, nothing that was acknowledged counts (S6).
    pub(super) fn live(&mut self, incarnation: LogIncarnation, round: u64, is_bound: bool) {
        let is_other = self.incarnation != Some(incarnation);
        if is_other {
            self.lived = round;
        }
        self.incarnation = Some(incarnation);
        if is_other && is_bound {
            self.acked = Lsn::ZERO;
            self.synced = Lsn::ZERO;
        }
    }

    /// Whether an answer to the heartbeat of this `round` is of an earlier life than the one that is known, and did not just
    /// come late: its disk is an old copy of itself.
    pub(super) fn has_forgotten(&self, incarnation: LogIncarnation, round: u64) -> bool {
        self.incarnation.is_some_and(|known| incarnation < known) && round > self.lived
    }

    /// What it is to be asked: which epochs its log has of the records up to `through`.
    pub(super) fn question(&self, through: Lsn) -> Message {
        Message::Probe { through, known: self.incarnation.unwrap_or_default() }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.window.is_empty()
    }

    /// Whether something is to be read for it, from the log or a snapshot.
    pub(super) fn is_behind(&self, last: Lsn) -> bool {
        match self.step {
            Step::Follow { next, is_reading: false } => next <= last,
            Step::Snapshot(sending) => sending.is_due(),
            Step::Mend { chunk, .. } => chunk == Chunk::Due,
            _ => false,
        }
    }

    /// Whether it gets what it lacks, from the log or a snapshot.
    pub(super) fn is_fed(&self, last: Lsn) -> bool {
        matches!(self.step, Step::Follow { .. } | Step::Snapshot(_)) && !self.is_streaming(last)
    }

    /// Whether it gets each group as it is appended.
    pub(super) fn is_streaming(&self, last: Lsn) -> bool {
        matches!(self.step, Step::Follow { next, is_reading: false } if next > last)
    }

    /// The newest record before those that have to stay in the log for it; `None` if it needs none to be kept.
    pub(super) fn pin(&self, last: Lsn) -> Option<Lsn> {
        match self.step {
            Step::Follow { next, .. } if next <= last => Some(next.prev()),
            Step::Join { common } => Some(common),
            Step::Snapshot(sending) => Some(sending.id.position.lsn),
            Step::Mend { range, .. } => Some(range.first.prev()),
            Step::Probe { .. } => self.held,
            Step::Follow { .. } => None,
        }
    }

    pub(super) fn status(&self, last: Lsn) -> PeerStatus {
        let stage = match self.step {
            Step::Probe { .. } | Step::Join { .. } => Stage::Probing,
            Step::Follow { .. } if self.is_streaming(last) => Stage::Streaming,
            Step::Follow { .. } => Stage::CatchingUp,
            Step::Snapshot(_) => Stage::Snapshot,
            Step::Mend { .. } => Stage::Mending,
        };
        let in_flight_bytes = match self.step {
            Step::Snapshot(sending) => sending.in_flight(),
            _ => self.in_flight,
        };
        let (member, durable) = (self.member, self.synced);
        PeerStatus { member, stage, durable, in_flight_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_holds_on_the_whole_and_not_for_every_small_part() {
        let at = |micros: u64| Time::from_nanos(micros * 1000);
        let mut peer = Peer::new(Member::default(), at(0));
        // 1 MiB takes a millisecond, and four were not used.
        peer.throttle(1 << 20, Some(1 << 30), at(10_000));
        assert!((at(6_900)..at(7_000)).contains(&peer.read_at), "{:?}", peer.read_at);
        for _ in 0..4 {
            peer.throttle(1 << 20, Some(1 << 30), at(10_000));
        }
        assert!((at(10_800)..at(11_000)).contains(&peer.read_at), "{:?}", peer.read_at);
        peer.throttle(1 << 20, None, at(10_000));
        assert!(peer.read_at < at(11_000));
    }
}
