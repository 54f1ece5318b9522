//! How a damaged replica gets back what it has lost, range by range, before it takes part again (S11).

use super::peer::{Chunk, Step};
use super::{Office, Replica, Taken, is_possible};
use crate::protocol::effect::{Effect, Halt};
use crate::protocol::group::Group;
use crate::protocol::health::{Health, LOST_BASE};
use crate::protocol::history::Position;
use crate::protocol::membership::Member;
use crate::protocol::message::Message;
use crate::protocol::refusal::Refusal;
use crate::types::{Lsn, LsnRange, ReplicaId};

/// How often records may come damaged before it is the records around them that are taken for wrong.
const MENDS_REFUSED_MAX: u32 = 1;

// --- the damaged replica ----------------------------------------------------------------------------------

impl Replica {
    /// The first range that is lost.
    pub(super) fn lost(&self) -> Option<LsnRange> {
        match &self.health {
            Health::Damaged(ranges) => ranges.first().copied(),
            Health::Whole | Health::Blank => None,
        }
    }

    pub(super) fn repair_give(&mut self, group: Group, digest: u64) -> Taken {
        self.check_group(&group)?;
        let asked = self.lost().ok_or(Refusal::NotAsked)?;
        if group.range.first > asked.first || group.range.last < asked.first {
            return Err(Refusal::NotAsked);
        }
        if group.range.first < asked.first || group.range.last > asked.last {
            // Frames that reach past what is lost: what stands beside it is not the primary's.
            self.mend_refused(asked);
            return Ok(());
        }
        if !self.continues_what_is_left(&group, asked) {
            if let Some(leader) = self.leader {
                self.give_up_from(asked.first, leader);
            }
            return Ok(());
        }
        self.outbox.push(Effect::Mend { group, digest });
        Ok(())
    }

    /// Whether the primary's records are known to follow on what stands before the lost ones: that is committed, or
    /// one of the same epoch stands on either side. Else what stands there may be another primary's, and with these
    /// records behind it the log would pass for one that agrees with the primary's (S5).
    fn continues_what_is_left(&self, group: &Group, lost: LsnRange) -> bool {
        let before = lost.first.prev();
        let history = &self.ledger.history;
        let is_beside = |lsn: Lsn| history.epoch_at(lsn) == Some(group.epoch);
        before <= self.ledger.commit || is_beside(before) || is_beside(lost.last.next())
    }

    /// The primary's log ends before what is lost here: that was never committed, or the primary would have it.
    pub(super) fn repair_none(&mut self, from: Member, range: LsnRange, last: Position) -> Taken {
        let asked = self.lost().filter(|asked| *asked == range).ok_or(Refusal::NotAsked)?;
        if last.lsn >= asked.first {
            return Err(Refusal::ImpossibleLsn);
        }
        self.give_up_from(asked.first, from);
        Ok(())
    }

    /// Records are back on the disk.
    pub(super) fn mended(&mut self, range: LsnRange) {
        let Health::Damaged(ranges) = &mut self.health else { return };
        let Some(first) = ranges.first_mut().filter(|first| first.first == range.first) else { return };
        self.mends_refused = 0;
        if range.last >= first.last {
            ranges.remove(0);
        } else {
            first.first = range.last.next();
        }
        if let Some(leader) = self.leader {
            self.ask_for_more(leader);
        }
    }

    /// What came does not check, or does not fit between what is left here: then the records around it are not the
    /// primary's either, and none of them was committed.
    pub(super) fn mend_refused(&mut self, range: LsnRange) {
        let Some(leader) = self.leader.filter(|_| self.lost().is_some_and(|lost| lost.first == range.first))
        else {
            return;
        };
        self.mends_refused = self.mends_refused.saturating_add(1);
        if self.mends_refused <= MENDS_REFUSED_MAX {
            return self.ask_for_more(leader);
        }
        let last = self.lost().map_or(range.last, |lost| lost.last);
        if range.first > self.ledger.commit {
            self.give_up_from(range.first, leader);
        } else if self.ledger.commit <= last && last < self.ledger.last().lsn && !self.is_installing() {
            // S5: what is committed stays. What stands behind it may be another primary's, and is in its way.
            self.truncate(last);
            if let Health::Damaged(ranges) = &mut self.health {
                ranges.truncate(1);
            }
            self.ask_for_more(leader);
        }
        // Else it was damaged on its way: it is asked for again when the primary looks again.
    }

    /// Forgets what is lost and all after it: it is caught up with like by any backup that is behind.
    fn give_up_from(&mut self, first: Lsn, leader: Member) {
        if self.is_installing() {
            return;
        }
        let after = first.prev();
        let base = self.ledger.history.base();
        if after < self.ledger.commit || after < base.lsn {
            let common = self.ledger.history.position(after).unwrap_or(base);
            return self.halt(Halt::TruncationBelowCommit { commit: self.ledger.commit, common });
        }
        if after < self.ledger.last().lsn {
            self.truncate(after);
        }
        if let Health::Damaged(ranges) = &mut self.health {
            ranges.retain(|range| range.last <= after);
        }
        self.ask_for_more(leader);
    }

    /// A damaged replica is whole once it has all that its primary had when it began to follow: then it has all that
    /// it may ever have acknowledged and that was committed.
    pub(super) fn become_whole(&mut self) {
        let is_there = self.whole_at.is_some_and(|target| self.ledger.durable >= target);
        if is_there && self.health == Health::Damaged(Vec::new()) {
            self.whole_at = None;
            self.outbox.push(Effect::Reopen { is_whole: true });
        }
    }

    fn ask_for_more(&mut self, leader: Member) {
        match self.lost() {
            Some(range) => self.send(leader, Message::RepairAsk { range }),
            // The epochs of what came back are on the disk, and not in this history.
            None => self.outbox.push(Effect::Reopen { is_whole: false }),
        }
    }
}

// --- the primary ------------------------------------------------------------------------------------------

impl Replica {
    pub(super) fn repair_ask(&mut self, from: Member, range: LsnRange) -> Taken {
        let is_base = range == LOST_BASE;
        if !is_possible(range) && !is_base {
            return Err(Refusal::ImpossibleLsn);
        }
        let (now, first, last) = (self.now, self.ledger.first(), self.ledger.last());
        let Office::Primary(reign) = &mut self.office else { return Err(Refusal::WrongRole) };
        let peer = reign.peer(from).ok_or(Refusal::WrongRole)?;
        if matches!(peer.step, Step::Snapshot(_)) {
            return Err(Refusal::NotAsked);
        }
        peer.heard = Some(now);
        if range.first > last.lsn {
            peer.go(Step::Probe { through: Lsn::LAST }, now);
            self.send(from, Message::RepairNone { range, last });
        } else if range.first < first || is_base {
            let begun = peer.receives;
            self.offer_snapshot(from, begun);
        } else {
            let range = LsnRange { first: range.first, last: range.last.min(last.lsn) };
            if matches!(peer.step, Step::Mend { range: of, chunk: Chunk::Reading } if of == range) {
                return Err(Refusal::NotAsked);
            }
            peer.go(Step::Mend { range, chunk: Chunk::Due }, now);
            self.feed_mend(from, range);
            self.pin();
        }
        Ok(())
    }

    /// Reads what the peer has lost, once the throttle allows it.
    pub(super) fn feed_mend(&mut self, to: Member, range: LsnRange) {
        let (now, bytes_max) = (self.now, u64::from(self.config.limits.chunk_bytes));
        let Office::Primary(reign) = &mut self.office else { return };
        let Some(peer) = reign.peer(to).filter(|peer| peer.read_at <= now) else { return };
        peer.go(Step::Mend { range, chunk: Chunk::Reading }, now);
        self.outbox.push(Effect::ReadRange { to: to.id, range, bytes_max });
    }

    pub(super) fn range_read(&mut self, to: ReplicaId, group: Group, digest: u64) {
        let (now, rate) = (self.now, self.config.limits.catch_up_bytes_per_s);
        let is_ours = self.ledger.history.epoch_at(group.range.last) == Some(group.epoch);
        let Some(peer) = self.peer_by_id(to) else { return };
        let Step::Mend { range, chunk: Chunk::Reading } = peer.step else { return };
        // Its frames may reach past the range: then what stands beside it there is not this log's.
        if group.range.first > range.first || group.range.last < range.first || !is_ours {
            return;
        }
        peer.go(Step::Mend { range, chunk: Chunk::Awaited }, now);
        peer.throttle(group.bytes, rate, now);
        let member = peer.member;
        self.send(member, Message::RepairGive { group, digest });
    }
}
