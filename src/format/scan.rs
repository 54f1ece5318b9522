//! Finding the end of a segment that says nothing of its own end, and judging what follows it.
//!
//! The rule (see `docs/format.md`): groups are taken as long as each is valid as a whole and follows the one
//! before. The first place that is none, where the record `next` should begin, is *torn* unless something
//! vouches that `next` was acknowledged: the superblock, or the header of a later group that was written
//! when `next` was already durable. Then it is *rot*, or a *hole* if nothing at all lies there.

use std::ops::Range;

use super::checksum::Digest;
use super::frame::{Frame, FrameKind};
use super::group::{GroupHeader, GroupPlace};
use super::layout::{BLOCK_BYTES, FRAME_ALIGN, GROUP_HEADER_BYTES, HEADER_BLOCK_BYTES, all_zero, block_up};
use super::segment::{Incarnation, SegmentHeader};
use super::tables::Tables;
use super::verdict::{Damage, Fault, Verdict};
use super::walk::{next_group_at, to_index};
use crate::types::{Epoch, Lsn};

/// What a scan of a segment found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TailScan {
    /// Where the last valid group ends, as a position in the file.
    pub end: u64,
    /// The newest record; the one before the segment's first if there are none.
    pub last_lsn: Lsn,
    /// The epoch of the newest record; the header's if there are none.
    pub epoch: Epoch,
    /// The segment's end digest so far.
    pub digest: Digest,
    /// How many valid groups there are.
    pub groups: u64,
    /// The index and the epochs of the valid groups.
    pub tables: Tables,
    /// The newest LSN that a valid group knew to be durable.
    pub durable_through: Lsn,
    /// Whether gaps are among the frames of the valid groups: the segment was repaired, and the end digest that its
    /// footer and the next segment state may be that of frames which are lost. Never compare it with `digest`.
    pub has_gaps: bool,
    /// Why what follows is no group; `None` where nothing was written, or there is no room for one.
    pub fault: Option<Fault>,
    /// Headers of this life that stand after the end, of groups that come after the missing one.
    pub later: Option<LaterGroups>,
    /// From where bytes have to be overwritten with zeros, and synced, before anything is appended, so that
    /// no group of this life is left past `end`: from `end`, or from the next block if only zeros come before.
    pub discard_start: u64,
    /// Up to where they have to be overwritten: a whole block. `discard_start` itself if nothing has to be.
    pub discard_end: u64,
    /// Up to where there are bytes that are not zero: a whole block; `end` itself if there are none.
    pub dirty_end: u64,
    /// What it amounts to, as far as this segment and the `durable` that was passed in can tell.
    pub verdict: Verdict,
    at_stake: Option<(Lsn, Lsn)>,
    unfilled: Unfilled,
}

/// The headers that stand after the first place that is no valid group.
///
/// Only headers are looked at: one that checks was written by this log, whatever became of its frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaterGroups {
    /// How many there are.
    pub groups: u64,
    /// Position of the first one in the file.
    pub position: u64,
    /// LSN of the first record of the first one.
    pub first_lsn: Lsn,
    /// The newest LSN of any of them.
    pub last_lsn: Lsn,
    /// Where the last of them ends, as a position in the file.
    pub end: u64,
    /// The newest LSN that any of them knew to be durable.
    pub durable_through: Lsn,
}

impl LaterGroups {
    /// Takes note of one more, in the order in which they stand.
    pub(crate) fn note(later: &mut Option<LaterGroups>, header: &GroupHeader) {
        let later = later.get_or_insert(LaterGroups {
            groups: 0,
            position: header.place.position,
            first_lsn: header.first_lsn,
            last_lsn: Lsn::ZERO,
            end: 0,
            durable_through: Lsn::ZERO,
        });
        later.groups += 1;
        later.last_lsn = later.last_lsn.max(header.last_lsn());
        later.end = later.end.max(header.end());
        later.durable_through = later.durable_through.max(header.durable_through);
    }
}

/// The bytes from the end to the first later group, or to the end of the data.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Unfilled {
    bytes: Range<u64>,
    /// Nothing was written there, or the file is cut there.
    missing: bool,
}

/// Scans a segment that has no valid footer, from its first group on.
///
/// `segment` is the file from its start, which may be cut short; `header` was read from it. `durable` is the
/// newest LSN known to have been acknowledged *in this segment*: if a later segment exists, pass no more
/// than the LSN before its first one. Memory is bounded by the index: 16 bytes for each 32 KiB.
///
/// # Panics
/// If `segment` is shorter than its header block.
#[must_use]
pub fn scan_tail(segment: &[u8], header: &SegmentHeader, durable: Lsn) -> TailScan {
    let mut scan = Scanner::new(segment, header, None);
    let fault = scan.run();
    let Scanner { data, mut tail, .. } = scan;
    let remains = Remains::find(data, header.incarnation, &tail);
    tail.later = remains.later;
    tail.discard_start = remains.discard_start;
    tail.discard_end = remains.discard_end;
    tail.dirty_end = remains.dirty_end;
    tail.conclude(data, header, fault);
    tail.verdict = tail.judge(durable);
    tail
}

/// Scans a segment whose footer is lost, up to and including the record `last`, with which it is known to end.
///
/// What follows `last` is the stale suffix of a truncation, and is not looked at. The verdict is `Clean` if
/// everything up to `last` is there, and else a loss.
///
/// # Panics
/// If `segment` is shorter than its header block.
#[must_use]
pub fn rescan_sealed(segment: &[u8], header: &SegmentHeader, last: Lsn) -> TailScan {
    let mut scan = Scanner::new(segment, header, Some(last));
    let fault = scan.run();
    let Scanner { data, mut tail, .. } = scan;
    tail.conclude(data, header, fault);
    tail.verdict = tail.judge(last);
    tail
}

impl TailScan {
    /// The verdict, given that every record up to `durable` is known to have been acknowledged.
    ///
    /// This is how a later segment vouches for this one: pass the newest LSN that any of its groups knew to be
    /// durable, but no more than the LSN before its first one. That it exists vouches for nothing.
    #[must_use]
    pub fn judge(&self, durable: Lsn) -> Verdict {
        let next = self.last_lsn.next();
        let vouched = self.later.map_or(Lsn::ZERO, |later| later.durable_through).max(durable);
        if vouched >= next {
            return self.loss(next, vouched);
        }
        if self.discard_end > self.discard_start {
            return Verdict::Torn { bytes: self.end..self.discard_end, next };
        }
        if self.dirty_end > self.end {
            return Verdict::Stale { bytes: self.end..self.dirty_end };
        }
        Verdict::Clean
    }

    /// Takes note of why the scan ended, and of what lies between there and the next thing of this life.
    fn conclude(&mut self, data: &[u8], header: &SegmentHeader, fault: Option<GroupFault>) {
        let length = data.len() as u64;
        let stop = self.later.map_or(header.data_end(), |later| later.position);
        let is_cut = length < stop && fault.as_ref().is_none_or(|at| at.fault.damage == Damage::Cut);
        let missing = is_cut || all_zero(&data[to_index(self.end)..to_index(stop.min(length))]);
        self.unfilled = Unfilled { bytes: self.end..stop, missing };
        if let Some(GroupFault { fault, at_stake }) = fault {
            self.fault = Some(fault);
            self.at_stake = at_stake;
        }
    }

    fn loss(&self, next: Lsn, vouched: Lsn) -> Verdict {
        if let (Some(fault), Some((first, last)), false) = (&self.fault, self.at_stake, self.unfilled.missing)
        {
            return Verdict::Rot { bytes: fault.bytes.clone(), first, last };
        }
        let last = self.later.map_or(vouched, |later| later.first_lsn.prev());
        let bytes = self.unfilled.bytes.clone();
        if self.unfilled.missing {
            Verdict::Hole { bytes, first: next, last }
        } else {
            Verdict::Rot { bytes, first: next, last }
        }
    }
}

/// A fault, and the first and last LSN it concerns where the group's header tells.
struct GroupFault {
    fault: Fault,
    at_stake: Option<(Lsn, Lsn)>,
}

/// The part of a group that was checked: all of it, unless the scan ends inside.
struct Checked {
    header: GroupHeader,
    end: u64,
    last_lsn: Lsn,
    digest: Digest,
}

struct Scanner<'a> {
    data: &'a [u8],
    incarnation: Incarnation,
    until: Option<Lsn>,
    tail: TailScan,
}

impl<'a> Scanner<'a> {
    fn new(segment: &'a [u8], header: &SegmentHeader, until: Option<Lsn>) -> Scanner<'a> {
        assert!(segment.len() >= HEADER_BLOCK_BYTES, "the header was read from the segment");
        let data = &segment[..to_index(header.data_end().min(segment.len() as u64))];
        let start = HEADER_BLOCK_BYTES as u64;
        let tail = TailScan {
            end: start,
            last_lsn: header.first_lsn.prev(),
            epoch: header.epoch,
            digest: header.previous_digest,
            groups: 0,
            tables: Tables::new(),
            durable_through: Lsn::ZERO,
            has_gaps: false,
            fault: None,
            later: None,
            discard_start: start,
            discard_end: start,
            dirty_end: start,
            verdict: Verdict::Clean,
            at_stake: None,
            unfilled: Unfilled { bytes: start..start, missing: true },
        };
        Scanner { data, incarnation: header.incarnation, until, tail }
    }

    /// Takes groups up to the first place that is none; says why, unless nothing was written there.
    fn run(&mut self) -> Option<GroupFault> {
        while self.until.is_none_or(|last| self.tail.last_lsn < last) {
            let position = next_group_at(self.data, self.tail.end)?;
            match self.check(GroupPlace { incarnation: self.incarnation, position }) {
                Ok(group) => self.take(&group),
                // Zeros in the place of a header; zeros in the place of a frame are damage to its group.
                Err(GroupFault { fault, at_stake: None }) if fault.damage == Damage::Blank => return None,
                Err(fault) => return Some(fault),
            }
        }
        None
    }

    /// Checks the group at `place` as a whole: its header, every frame, and that it follows the last one.
    fn check(&self, place: GroupPlace) -> Result<Checked, GroupFault> {
        let length = self.data.len() as u64;
        let start = place.position;
        let in_header = |damage| {
            let bytes = start..(start + GROUP_HEADER_BYTES as u64).min(length);
            GroupFault { fault: Fault { damage, bytes }, at_stake: None }
        };
        let header = GroupHeader::decode_at(&self.data[to_index(start)..], place).map_err(in_header)?;
        if header.first_lsn != self.tail.last_lsn.next() {
            return Err(in_header(Damage::Sequence));
        }
        let bytes = start..header.end().min(length);
        let in_group = |damage, bytes, first| {
            let at_stake = Some((first, header.last_lsn()));
            GroupFault { fault: Fault { damage, bytes }, at_stake }
        };
        // A group that the scan ends in need not be there as a whole.
        let is_last = self.until.is_some_and(|last| header.last_lsn() > last);
        if header.end() > length && !is_last {
            return Err(in_group(Damage::Cut, bytes, header.first_lsn));
        }
        let group = self.check_frames(header).map_err(|(damage, at, lsn)| {
            in_group(damage, at..header.end(), lsn.clamp(header.first_lsn, header.last_lsn()))
        })?;
        if group.end == header.end() && group.digest != header.digest {
            return Err(in_group(Damage::Digest, bytes, header.first_lsn));
        }
        Ok(group)
    }

    /// Checks the frames of a group that lies inside the data; on damage, says where and at which LSN.
    fn check_frames(&self, header: GroupHeader) -> Result<Checked, (Damage, u64, Lsn)> {
        let (mut at, mut next) = (header.frames_start(), header.first_lsn);
        let (mut epoch, mut epochs_left) = (self.tail.epoch, self.tail.tables.epochs_left());
        let mut digest = header.place.digest_seed();
        let mut frames = 0;
        let end = header.end().min(self.data.len() as u64);
        while at < header.end() && self.until.is_none_or(|last| next <= last) {
            let frame = Frame::parse(&self.data[to_index(at.min(end))..to_index(end)])
                .and_then(|frame| frame.check().map(|()| frame))
                .map_err(|damage| (damage, at, next))?;
            let found = frame.header();
            if found.lsn != next || found.epoch < epoch {
                return Err((Damage::Sequence, at, next));
            }
            if found.epoch > epoch || self.tail.tables.epochs().is_empty() && frames == 0 {
                epochs_left = epochs_left.checked_sub(1).ok_or((Damage::Malformed, at, next))?;
            }
            epoch = found.epoch;
            digest = digest.fold(u64::from(found.checksum));
            next = found.last_lsn().next();
            at += found.frame_bytes();
            frames += 1;
        }
        let whole = at == header.end();
        if whole && (frames != header.frames || next != header.last_lsn().next()) {
            return Err((Damage::Malformed, header.place.position, header.first_lsn));
        }
        Ok(Checked { header, end: at, last_lsn: next.prev(), digest })
    }

    /// Adds a group that checks to what was found.
    fn take(&mut self, group: &Checked) {
        let mut at = group.header.frames_start();
        while at < group.end {
            let frame = Frame::parse(&self.data[to_index(at)..]).expect("checked with its group");
            self.tail.tables.note(frame.header(), group.header.place.position, at);
            self.tail.epoch = frame.header().epoch;
            self.tail.has_gaps |= frame.header().kind == FrameKind::Gap;
            at += frame.header().frame_bytes();
        }
        self.tail.end = group.end;
        self.tail.last_lsn = group.last_lsn;
        self.tail.digest = self.tail.digest.fold(group.digest.get());
        self.tail.groups += 1;
        self.tail.durable_through = self.tail.durable_through.max(group.header.durable_through);
    }
}

/// What is left in a segment after its end.
struct Remains {
    later: Option<LaterGroups>,
    discard_start: u64,
    discard_end: u64,
    dirty_end: u64,
}

impl Remains {
    /// Looks at every place after the end where a header may stand. Passes zeros over block by block.
    fn find(data: &[u8], incarnation: Incarnation, tail: &TailScan) -> Remains {
        let length = data.len() as u64;
        let boundary = block_up(tail.end).min(length);
        let is_padded = all_zero(&data[to_index(tail.end)..to_index(boundary)]);
        let mut remains = Remains {
            later: None,
            discard_start: if is_padded { boundary } else { tail.end },
            discard_end: boundary,
            dirty_end: tail.end,
        };
        let mut start = tail.end;
        while start < length {
            let stop = (start + 1).next_multiple_of(BLOCK_BYTES as u64).min(length);
            if !all_zero(&data[to_index(start)..to_index(stop)]) {
                remains.dirty_end = stop;
                for position in (start..stop).step_by(FRAME_ALIGN) {
                    let place = GroupPlace { incarnation, position };
                    if let Ok(header) = GroupHeader::decode_at(&data[to_index(position)..], place) {
                        remains.note(&header, tail.last_lsn.next(), length);
                    }
                }
            }
            start = stop;
        }
        remains
    }

    fn note(&mut self, header: &GroupHeader, next: Lsn, length: u64) {
        self.discard_end = self.discard_end.max(block_up(header.end()).min(length));
        if header.first_lsn <= next {
            return;
        }
        LaterGroups::note(&mut self.later, header);
    }
}
