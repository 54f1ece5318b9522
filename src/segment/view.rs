//! Reading one segment, whether it is still the tail or sealed long since.

mod gap;

use std::ops::Range;
use std::sync::Arc;

use super::sealed::{Index, MapCache, Pinned, Sealed};
use super::tail::Tail;
use crate::error::{Error, Result};
use crate::format::{
    Damage, FRAME_HEADER_BYTES, Fault, Frame, FrameHeader, FrameKind, Frames, IndexEntry, Place,
    SegmentHeader, Tables, Walk,
};
use crate::types::{Epoch, Lsn};

/// A segment of the log.
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    /// The newest one, or one that is not sealed yet.
    Tail(Arc<Tail>),
    Sealed(Arc<Sealed>),
}

/// A segment while it is read: keeps its bytes mapped and its file from being used again.
#[derive(Debug)]
pub(crate) struct View {
    header: SegmentHeader,
    pinned: Arc<Pinned>,
    /// Up to where frames may be read: the end of one. Grows for a tail.
    end: u64,
    verify: bool,
    /// The next frame.
    walk: Walk,
    /// The frame that was read last.
    current: Option<Current>,
}

/// A frame of which the place and the header are kept.
#[derive(Clone, Copy, Debug)]
struct Current {
    at: u64,
    header: FrameHeader,
}

/// What comes next in a segment.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Record(Spot),
    /// A record of the replication, such as the start of an epoch: it takes an LSN, but is none of the caller's.
    Control,
    /// Records that were lost, up to this one, and that a repair has given up.
    Gap {
        last: Lsn,
    },
    /// Nothing more, for now if it is a tail.
    End,
}

/// A record's place in a segment.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) bytes: Range<u64>,
    pub(crate) lsn: Lsn,
    pub(crate) epoch: Epoch,
}

impl Segment {
    pub(crate) fn header(&self) -> &SegmentHeader {
        match self {
            Segment::Tail(tail) => tail.header(),
            Segment::Sealed(sealed) => sealed.header(),
        }
    }

    /// The tail that it still is.
    pub(crate) fn as_tail(&self) -> Option<&Arc<Tail>> {
        match self {
            Segment::Tail(tail) => Some(tail),
            Segment::Sealed(_) => None,
        }
    }

    pub(crate) fn first_lsn(&self) -> Lsn {
        self.header().first_lsn
    }

    /// The last record that it is known to hold; the one before the first if there are none.
    pub(crate) fn last_lsn(&self) -> Lsn {
        match self {
            Segment::Tail(tail) => tail.last_lsn(),
            Segment::Sealed(sealed) => sealed.last_lsn(),
        }
    }

    /// Whether another has taken its place in the log, or nothing.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Segment::Tail(_) => false,
            Segment::Sealed(sealed) => sealed.is_gone(),
        }
    }

    /// Whether the other is the same segment, ends in the same place, and is no better known.
    pub(crate) fn is_same(&self, other: &Segment) -> bool {
        match (self, other) {
            (Segment::Sealed(one), Segment::Sealed(other)) => one.is_same(other),
            (Segment::Tail(one), Segment::Tail(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// The file's name now.
    pub(crate) fn name(&self) -> Arc<str> {
        match self {
            Segment::Tail(tail) => tail.name(),
            Segment::Sealed(sealed) => sealed.name().into(),
        }
    }

    /// Begins to read it. Without `verify_reads`, frames of a sealed segment are checked only the first time
    /// that it is read, all at once.
    ///
    /// # Errors
    /// As for [`Sealed::pin`]; [`Error::Rot`] if all frames are checked and one is damaged.
    pub(crate) fn view(&self, cache: &MapCache, verify_reads: bool) -> Result<View> {
        let (pinned, end, verify) = match self {
            Segment::Tail(tail) => {
                let pinned = Arc::new(Pinned::of_tail(tail)?);
                let end = pinned.map.published();
                (pinned, end, true)
            }
            Segment::Sealed(sealed) => {
                let pinned = sealed.pin(cache)?;
                if !verify_reads {
                    sealed.verify_once(&pinned)?;
                }
                (pinned, sealed.end(), verify_reads)
            }
        };
        let header = *self.header();
        let walk = Walk::from_start(header.incarnation).verified(verify);
        Ok(View { header, pinned, end, verify, walk, current: None })
    }
}

impl View {
    /// The mapped bytes, to be kept with what was read from them.
    pub(crate) fn pinned(&self) -> &Arc<Pinned> {
        &self.pinned
    }

    /// Goes to the frame that holds `lsn`, by way of the index; what is next is that record.
    ///
    /// `lsn` is durable, and not before the segment's first record.
    ///
    /// # Errors
    /// [`Error::Rot`] or [`Error::Hole`] if it is not there.
    pub(crate) fn seek(&mut self, lsn: Lsn) -> Result<()> {
        let entry = self.with_tables(|tables| tables.find(lsn));
        let found = (|| {
            let bytes = self.pinned.map.bytes(0..self.end);
            let mut walk = self.walk;
            if let Some(entry) = entry {
                walk = Walk::at(bytes, self.header.incarnation, Place::from(entry))?.verified(self.verify);
            }
            let found = walk.seek(bytes, lsn)?;
            Ok((walk, found.map(|(place, frame)| Current { at: place.frame, header: *frame.header() })))
        })();
        match found {
            Ok((walk, Some(current))) => {
                self.walk = walk;
                self.current = Some(current);
                Ok(())
            }
            Ok((_, None)) => Err(self.lost(entry, lsn)),
            Err(fault) => Err(self.rot(&fault, lsn)),
        }
    }

    /// Goes to the record `lsn`: in the frame that was read last, or the first one of the next frame.
    ///
    /// # Errors
    /// [`Error::Rot`] if the next frame is damaged.
    #[inline]
    pub(crate) fn step(&mut self, lsn: Lsn) -> Result<Step> {
        if let Some(current) = self.current.filter(|current| current.header.last_lsn() >= lsn) {
            return self.step_inside(current, lsn);
        }
        loop {
            let bytes = self.pinned.map.bytes(0..self.end);
            match self.walk.step(bytes) {
                Ok(Some((place, frame))) => {
                    let current = Current { at: place.frame, header: *frame.header() };
                    if current.header.lsn != lsn {
                        return Err(self.rot(&current.fault(Damage::Sequence), lsn));
                    }
                    self.current = Some(current);
                    return self.step_inside(current, lsn);
                }
                Ok(None) => {}
                Err(fault) => return Err(self.rot(&fault, lsn)),
            }
            if !self.grow() {
                return Ok(Step::End);
            }
        }
    }

    /// Sees what was appended to a tail meanwhile; whether there was anything.
    fn grow(&mut self) -> bool {
        let Index::Tail(_) = self.pinned.index else { return false };
        let end = self.pinned.map.published();
        let grown = end > self.end;
        self.end = end;
        grown
    }

    #[inline]
    fn step_inside(&self, current: Current, lsn: Lsn) -> Result<Step> {
        let Current { at, header } = current;
        let spot = |bytes| Step::Record(Spot { bytes, lsn, epoch: header.epoch });
        match header.kind {
            FrameKind::Record => {
                let payload = at + FRAME_HEADER_BYTES as u64;
                Ok(spot(payload..payload + u64::from(header.length)))
            }
            FrameKind::EpochStart | FrameKind::Control => Ok(Step::Control),
            FrameKind::Gap => Ok(Step::Gap { last: header.last_lsn() }),
            FrameKind::Batch | FrameKind::Produced => {
                let stored = self.pinned.map.bytes(at..at + header.frame_bytes());
                let Some(record) = Frame::parse(stored).ok().and_then(|frame| frame.record(lsn)) else {
                    return Err(self.rot(&current.fault(Damage::Malformed), lsn));
                };
                let start = at + (record.as_ptr().addr() - stored.as_ptr().addr()) as u64;
                Ok(spot(start..start + record.len() as u64))
            }
        }
    }

    fn with_tables<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        match &self.pinned.index {
            Index::Tail(tail) => tail.with_extent(|extent| look(&extent.tables)),
            Index::Sealed { tables, .. } => look(tables),
        }
    }

    fn name(&self) -> Arc<str> {
        match &self.pinned.index {
            Index::Tail(tail) => tail.name(),
            Index::Sealed { .. } => super::segment_name(self.header.first_lsn).into(),
        }
    }

    /// The error for a record that the headers of the frames do not lead to: some frame on the way is damaged,
    /// or there is none.
    #[cold]
    fn lost(&self, entry: Option<IndexEntry>, lsn: Lsn) -> Error {
        let bytes = self.pinned.map.bytes(0..self.end);
        let start = Walk::from_start(self.header.incarnation);
        let entered = entry.map(|entry| Walk::at(bytes, self.header.incarnation, Place::from(entry)));
        let Ok(walk) = entered.unwrap_or(Ok(start)) else { return self.missing(lsn) };
        let damaged = Frames::new(bytes, walk).find_map(Result::err);
        damaged.map_or_else(|| self.missing(lsn), |fault| self.rot(&fault, lsn))
    }

    fn missing(&self, lsn: Lsn) -> Error {
        Error::Hole { file: self.name(), first: lsn, last: self.before_next_entry(lsn) }
    }

    /// The record before the next entry of the index; the last one if there is no such entry.
    fn before_next_entry(&self, lsn: Lsn) -> Lsn {
        let next = self.with_tables(|tables| {
            let index = tables.index();
            index.get(index.partition_point(|entry| entry.lsn <= lsn)).map(|entry| entry.lsn)
        });
        match (next, &self.pinned.index) {
            (Some(next), _) => next.prev(),
            (None, Index::Tail(tail)) => tail.last_lsn().max(lsn),
            (None, Index::Sealed { last, .. }) => *last,
        }
    }

    /// The error for a frame that does not check, where `lsn` was to be read.
    ///
    /// Where only the contents are damaged, those of the frame are at stake; else the walk finds back at the
    /// next entry of the index at the earliest.
    fn rot(&self, fault: &Fault, lsn: Lsn) -> Error {
        let stored = fault.bytes.start.min(self.end)..fault.bytes.end.min(self.end);
        let header = FrameHeader::decode(self.pinned.map.bytes(stored)).ok();
        let contents = matches!(fault.damage, Damage::Checksum | Damage::Padding);
        let (first, last) = match header.filter(|header| contents && header.lsn <= lsn) {
            Some(header) if header.last_lsn() >= lsn => (header.lsn, header.last_lsn()),
            _ => (lsn, self.before_next_entry(lsn)),
        };
        Error::Rot { file: self.name(), bytes: fault.bytes.clone(), first, last }
    }
}

impl Current {
    fn fault(&self, damage: Damage) -> Fault {
        Fault { damage, bytes: self.at..self.at + self.header.frame_bytes() }
    }
}
