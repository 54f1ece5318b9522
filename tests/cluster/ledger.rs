//! What one disk holds in truth: what was written, what of that is synced, and what was lost since.
//!
//! The invariants are judged by it. Nothing in it is computed by the core.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use annals::protocol::{
    Base, Content, Contents, EpochHistory, EpochStart, Health, LOST_BASE, Member, Membership, Meta, Position,
    SnapshotId, SnapshotOffer, Staged, State,
};
use annals::{Epoch, LogIncarnation, Lsn, LsnRange};

use crate::record::{Body, Frame, Frames, mix};
use crate::seeds::Chance;

/// One record with the chain over everything up to it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) frame: Rc<Frame>,
    pub(crate) chain: u64,
    /// Whether the copy may be counted: it was not written while the replica was damaged.
    pub(crate) counts: bool,
}

/// A snapshot: the protocol's part, and the application's, which is the chain over all that it covers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) base: Base,
    pub(crate) chain: u64,
    /// The application's part; `None` for what a cluster begins with.
    pub(crate) contents: Option<Contents>,
}

impl Snapshot {
    pub(crate) fn id(&self) -> SnapshotId {
        let checksum = self.contents.unwrap_or_default().checksum;
        SnapshotId { position: self.base.position, checksum }
    }
}

/// A snapshot on its way in.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) offer: SnapshotOffer,
    pub(crate) bytes: u64,
    /// What the chunks said the application's part is.
    pub(crate) chain: u64,
}

/// All of one disk.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) member: Member,
    /// As synced last, and what is being written.
    pub(crate) meta: Meta,
    pub(crate) unsynced_metas: VecDeque<(u64, Meta)>,
    /// Right before the first record.
    pub(crate) begin: Position,
    begin_chain: u64,
    slots: VecDeque<Slot>,
    /// The newest synced record.
    pub(crate) synced: Lsn,
    pub(crate) incarnation: LogIncarnation,
    pub(crate) snapshot: Snapshot,
    pub(crate) stage: Option<Stage>,
    /// Records that cannot be read any more, in order.
    pub(crate) lost: Vec<LsnRange>,
    /// The durable note that something was lost (S11).
    pub(crate) is_noted: bool,
    /// Records that were damaged, of which something synced vouches, and of which nobody knows yet.
    pub(crate) harmed: Vec<Lsn>,
    /// Whether there were any since it was whole: what is trimmed of a segment may still be found damaged.
    pub(crate) was_harmed: bool,
    /// Nothing is there at all.
    pub(crate) is_blank: bool,
    /// It has come back from an old copy.
    pub(crate) is_forgetful: bool,
    /// What the disk knows to be committed.
    pub(crate) commit: Lsn,
    memberships: Vec<(Lsn, Arc<Membership>)>,
    /// What the disk may hold instead, because a step on it was cut short.
    pub(crate) other: Option<Box<Ledger>>,
}

impl Ledger {
    /// A disk that was prepared for this member, with what its cluster begins with.
    pub(crate) fn new(member: Member, base: Base) -> Ledger {
        let snapshot = Snapshot { base, chain: 0, contents: None };
        Ledger {
            member,
            meta: Meta::default(),
            unsynced_metas: VecDeque::new(),
            begin: Position::default(),
            begin_chain: 0,
            slots: VecDeque::new(),
            synced: Lsn::ZERO,
            incarnation: LogIncarnation::default(),
            snapshot,
            stage: None,
            lost: vec![],
            is_noted: false,
            harmed: vec![],
            was_harmed: false,
            is_blank: false,
            is_forgetful: false,
            commit: Lsn::ZERO,
            memberships: vec![],
            other: None,
        }
    }

    /// The newest record, synced or not.
    pub(crate) fn last(&self) -> Position {
        self.slots.back().map_or(self.begin, |slot| Position {
            epoch: slot.frame.epoch,
            lsn: Lsn::new(self.begin.lsn.get() + self.slots.len() as u64),
        })
    }

    pub(crate) fn slot(&self, lsn: Lsn) -> Option<&Slot> {
        let place = lsn.get().checked_sub(self.begin.lsn.get() + 1)?;
        self.slots.get(place as usize)
    }

    /// The chain over everything up to and with this record.
    pub(crate) fn chain(&self, lsn: Lsn) -> Option<u64> {
        if lsn == self.begin.lsn { Some(self.begin_chain) } else { self.slot(lsn).map(|slot| slot.chain) }
    }

    /// Who takes part by the newest record that says so, synced or not.
    pub(crate) fn membership(&self) -> Option<&Arc<Membership>> {
        self.memberships.last().map(|(_, membership)| membership).or(self.snapshot.base.membership.as_ref())
    }

    /// Whether this very record, by the chain over all up to it, is synced here and counts as a copy.
    pub(crate) fn holds(&self, lsn: Lsn, chain: u64) -> bool {
        if lsn <= self.begin.lsn {
            return true;
        }
        lsn <= self.synced && self.slot(lsn).is_some_and(|slot| slot.chain == chain && slot.counts)
    }

    /// Puts a frame at the end; it is not synced.
    pub(crate) fn append(&mut self, frame: &Rc<Frame>) {
        for place in 0..frame.records() as usize {
            let chain =
                mix(self.chain(self.last().lsn).expect("the last record is there"), frame.print(place));
            self.slots.push_back(Slot { frame: frame.clone(), chain, counts: !self.is_noted });
        }
        if let Body::Control(Content::Membership(membership)) = &frame.body {
            self.memberships.push((frame.first, membership.clone()));
        }
    }

    /// Forgets what is after this record, durably.
    pub(crate) fn truncate(&mut self, after: Lsn) {
        let stay = after.get() - self.begin.lsn.get();
        self.slots.truncate(stay as usize);
        self.memberships.retain(|(lsn, _)| *lsn <= after);
        self.harmed.retain(|lsn| *lsn <= after);
        self.synced = self.synced.min(after);
        self.commit = self.commit.min(after);
        self.lost.retain_mut(|range| {
            range.last = range.last.min(after);
            range.first <= range.last
        });
    }

    /// What the disk may hold instead may have lost some of what is forgotten already: whole segments go one by one.
    pub(crate) fn may_be_cut_in_part(&mut self) {
        let last = self.last().lsn;
        if let Some(other) = &mut self.other {
            other.synced = other.synced.min(last);
        }
    }

    /// Whether a frame ends with this record, or the log begins after it.
    pub(crate) fn is_boundary(&self, lsn: Lsn) -> bool {
        lsn == self.begin.lsn || self.slot(lsn).is_some_and(|slot| slot.frame.range().last == lsn)
    }

    /// Forgets the records up to and with this one.
    pub(crate) fn trim(&mut self, through: Lsn) {
        let through = through.min(self.snapshot.base.position.lsn);
        while self.begin.lsn < through {
            let slot = self.slots.pop_front().expect("a snapshot does not reach past the log");
            self.begin = Position { epoch: slot.frame.epoch, lsn: self.begin.lsn.next() };
            self.begin_chain = slot.chain;
        }
        self.memberships.retain(|(lsn, _)| *lsn > through);
        self.harmed.retain(|lsn| *lsn > self.begin.lsn);
        self.lost.retain(|range| range.last > through);
    }

    /// What was harmed and the base covers is not lost, but forgotten; of the epoch before the log, a gap leaves a lower bound.
    pub(crate) fn forget_harmed(&mut self, begin: Position) {
        let covered = self.snapshot.base.position.lsn;
        if begin.lsn <= self.begin.lsn || begin.lsn > covered || !self.was_harmed {
            return;
        }
        let harmed = self.harmed.clone();
        self.trim(begin.lsn);
        self.harmed = harmed;
        if begin.epoch <= self.begin.epoch {
            self.begin.epoch = begin.epoch;
        }
    }

    /// The staged snapshot is what the log begins with.
    pub(crate) fn install(&mut self) {
        let stage = self.stage.take().expect("the caller has looked");
        let base = (*stage.offer.base).clone();
        (self.begin, self.begin_chain) = (base.position, stage.chain);
        self.synced = base.position.lsn;
        self.commit = base.position.lsn;
        self.snapshot = Snapshot { base, chain: stage.chain, contents: Some(stage.offer.contents) };
        self.slots.clear();
        self.memberships.clear();
        self.harmed.clear();
        self.lost.clear();
    }

    /// The base is gone, and the log stands for nothing without it.
    pub(crate) fn lose_base(&mut self) {
        (self.begin, self.begin_chain) = (Position::default(), 0);
        (self.synced, self.commit) = (Lsn::ZERO, Lsn::ZERO);
        self.snapshot = Snapshot { base: Base::default(), chain: 0, contents: None };
        self.slots.clear();
        self.memberships.clear();
        self.harmed.clear();
        (self.is_noted, self.lost) = (true, vec![LOST_BASE]);
    }

    /// The oldest frames from this record on, of one epoch and at least one; `None` if they are trimmed or lost.
    pub(crate) fn read(&self, from: Lsn, through: Lsn, bytes_max: u64) -> Option<Frames> {
        let mut frames = Frames::new();
        let (mut lsn, mut bytes) = (from, 0);
        while lsn <= through
            && let Some(slot) = self.slot(lsn)
        {
            let frame = &slot.frame;
            let joins = frames.first().is_none_or(|first: &Rc<Frame>| {
                let plain = |frame: &Frame| matches!(frame.body, Body::Records { .. });
                first.epoch == frame.epoch && plain(first) && plain(frame) && bytes + frame.bytes <= bytes_max
            });
            let range = frame.range();
            let is_lost = self.lost.iter().any(|lost| lost.first <= range.last && range.first <= lost.last);
            if !joins || is_lost || frame.first != lsn || range.last > through {
                break;
            }
            bytes += frame.bytes;
            frames.push(frame.clone());
            lsn = range.last.next();
        }
        (!frames.is_empty()).then_some(frames)
    }

    /// Where frames of the synced log begin and end, for damage that hits whole frames.
    pub(crate) fn frames(&self, first: Lsn, last: Lsn) -> Vec<LsnRange> {
        let mut ranges = vec![];
        let mut lsn = first.max(self.begin.lsn.next());
        while lsn <= last
            && let Some(slot) = self.slot(lsn)
        {
            ranges.push(slot.frame.range());
            lsn = slot.frame.range().last.next();
        }
        ranges
    }

    /// These records, whole frames, cannot be read any more.
    pub(crate) fn lose(&mut self, first: Lsn, last: Lsn) {
        self.mend(LsnRange { first, last });
        self.lost.push(LsnRange { first, last });
        self.lost.sort();
    }

    /// These frames are where records were lost: the primary's, which need not be those that were there.
    pub(crate) fn put_back(&mut self, frames: &Frames) {
        for frame in frames {
            for lsn in (frame.first.get()..=frame.range().last.get()).map(Lsn::new) {
                let Some(place) = lsn.get().checked_sub(self.begin.lsn.get() + 1) else { continue };
                let Some(slot) = self.slots.get_mut(place as usize) else { continue };
                slot.frame = frame.clone();
                self.memberships.retain(|(noted, _)| *noted != lsn);
            }
            if let Body::Control(Content::Membership(membership)) = &frame.body {
                self.memberships.push((frame.first, membership.clone()));
            }
            self.mend(frame.range());
        }
        self.memberships.sort_by_key(|(lsn, _)| *lsn);
        let (mut lsn, mut chain) = (self.begin.lsn, self.begin_chain);
        for slot in &mut self.slots {
            lsn = lsn.next();
            chain = mix(chain, slot.frame.print((lsn.get() - slot.frame.first.get()) as usize));
            slot.chain = chain;
        }
    }

    /// These records are not lost.
    fn mend(&mut self, mended: LsnRange) {
        let mut left = vec![];
        for lost in &self.lost {
            left.extend(LsnRange::new(lost.first, lost.last.min(mended.first.prev())));
            left.extend(LsnRange::new(lost.first.max(mended.last.next()), lost.last));
        }
        self.lost = left;
    }

    /// The machine loses power, or the process its unsynced writes: some of them are there all the same.
    pub(crate) fn crash(&mut self, draw: &mut Chance) {
        let mut keep = self.synced;
        for range in self.frames(self.synced.next(), self.last().lsn) {
            if draw.below(2) == 0 {
                break;
            }
            keep = range.last;
        }
        self.truncate(keep);
        self.synced = keep;
        while let Some((_, meta)) = self.unsynced_metas.pop_front() {
            if draw.below(2) == 0 {
                break;
            }
            self.meta = meta;
        }
        self.unsynced_metas.clear();
    }

    /// What recovery finds. A new life of the log begins.
    pub(crate) fn recover(&mut self) -> State {
        self.incarnation = LogIncarnation::new(((self.incarnation.get() >> 20) + 1) << 20);
        if self.is_blank {
            let incarnation = self.incarnation;
            return State { health: Health::Blank, incarnation, ..State::default() };
        }
        let base = self.snapshot.base.clone();
        let floor = base.position.lsn;
        let staged = self.stage.as_ref();
        State {
            meta: self.meta,
            history: self.history(),
            replay: self.replay(floor),
            commit: self.commit.clamp(floor, self.last().lsn),
            incarnation: self.incarnation,
            health: if self.is_noted { Health::Damaged(self.lost.clone()) } else { Health::Whole },
            staged: staged.map(|stage| Staged { snapshot: stage.offer.id(), bytes: stage.bytes }),
            contents: self.snapshot.contents,
            base,
        }
    }

    fn is_lost(&self, lsn: Lsn) -> bool {
        self.lost.iter().any(|lost| lost.first <= lsn && lsn <= lost.last)
    }

    /// The epochs, as far as they can be read: what is lost is taken for the epoch before it.
    fn history(&self) -> EpochHistory {
        let mut starts: Vec<EpochStart> = vec![];
        let (mut lsn, mut epoch) = (self.begin.lsn, self.begin.epoch);
        for slot in &self.slots {
            lsn = lsn.next();
            let seen = if self.is_lost(lsn) { epoch } else { slot.frame.epoch };
            if starts.is_empty() || seen > epoch {
                starts.push(EpochStart { epoch: seen, first: lsn });
            }
            epoch = seen;
        }
        EpochHistory::from_parts(self.begin, starts, lsn).expect("epochs never go back in a log")
    }

    pub(crate) fn replay(&self, after: Lsn) -> Vec<(Lsn, Content)> {
        let mut replay = vec![];
        for range in self.frames(after.next(), self.last().lsn) {
            let content = self.slot(range.first).expect("between the ends").frame.content();
            if !self.is_lost(range.first) && content != Content::PLAIN {
                replay.push((range.first, content));
            }
        }
        replay
    }

    /// Nothing is lost any more, and every copy counts.
    pub(crate) fn is_whole_again(&mut self) {
        self.is_noted = false;
        self.was_harmed = false;
        self.slots.iter_mut().for_each(|slot| slot.counts = true);
    }

    /// The newest snapshot, or one of these older ones that the process still holds.
    pub(crate) fn snapshot_of<'a>(&'a self, older: &'a [Snapshot], id: SnapshotId) -> Option<&'a Snapshot> {
        older.iter().chain([&self.snapshot]).find(|snapshot| snapshot.id() == id)
    }

    pub(crate) fn epoch_at(&self, lsn: Lsn) -> Option<Epoch> {
        if lsn == self.begin.lsn {
            Some(self.begin.epoch)
        } else {
            self.slot(lsn).map(|slot| slot.frame.epoch)
        }
    }
}
