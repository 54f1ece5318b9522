//! Reading groups back, for others and for whoever compares.

use std::ops::ControlFlow;

use super::ReplicaStore;
use super::part::Part;
use crate::error::{Error, Result};
use crate::format::{Digest, Fault, Frame, FrameKind, Walk};
use crate::node::frames::{Entry, Gathered};
use crate::protocol::Group;
use crate::types::{Lsn, LsnRange};

impl ReplicaStore {
    /// Reads a group, of at most `bytes_max` bytes and at least one frame: never two epochs, and a control record alone.
    /// Also what is not synced yet. `None` if the log does not reach back so far.
    ///
    /// # Errors
    /// [`Error::Rot`], [`Error::Hole`] and [`Error::Lost`] if the first record cannot be read: see
    /// [`doubt`](ReplicaStore::doubt); [`Error::BeyondEnd`] after the last record; whatever the operating system says.
    pub fn read_log(&self, from: Lsn, bytes_max: u64) -> Result<Option<(Group, Vec<u8>)>> {
        if from > self.last() {
            return Err(Error::BeyondEnd { asked: from, last: self.last() });
        }
        self.read_range(LsnRange { first: from, last: self.last() }, bytes_max)
    }

    /// The same, of records in a range only, but for a first frame that ends after it.
    ///
    /// # Errors
    /// As for [`read_log`](ReplicaStore::read_log).
    pub fn read_range(&self, range: LsnRange, bytes_max: u64) -> Result<Option<(Group, Vec<u8>)>> {
        if range.first < self.first() || range.first > self.last() {
            return Ok(None);
        }
        let mut gathered: Option<Gathered> = None;
        let mut frames = Vec::new();
        let mut unknown = false;
        let read = self.visit(range.first, |frame| {
            let header = frame.header();
            let fits = frames.is_empty() || frames.len() as u64 + header.frame_bytes() <= bytes_max;
            if header.last_lsn() > range.last && !frames.is_empty() || !fits {
                return Ok(ControlFlow::Break(()));
            }
            let taken = match &mut gathered {
                None if header.kind == FrameKind::Gap => return Err(lost(frame)),
                None => Gathered::begin(frame).map(|begun| gathered = Some(begun)),
                Some(group) if group.takes(frame) => group.take(frame),
                Some(_) => return Ok(ControlFlow::Break(())),
            };
            unknown = taken.is_err();
            if unknown {
                return Ok(ControlFlow::Break(()));
            }
            frames.extend_from_slice(frame.stored());
            Ok(ControlFlow::Continue(()))
        });
        match read {
            // What was read before it can be used.
            Err(Error::Rot { .. } | Error::Hole { .. }) if !frames.is_empty() => {}
            read => read?,
        }
        match gathered {
            _ if unknown && frames.is_empty() => Err(self.unreadable(range.first)),
            Some(group) => {
                assert!(group.bytes() == frames.len() as u64, "the frames of the group");
                Ok(Some((group.into_group(), frames)))
            }
            None => Ok(None),
        }
    }

    /// All records from one to another, for clients, for the application, and to be compared.
    ///
    /// # Errors
    /// As for [`read_log`](ReplicaStore::read_log), for any of them; [`Error::Trimmed`].
    pub fn entries(&self, range: LsnRange) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.visit_whole(range, |frame| {
            let header = frame.header();
            let first = header.lsn.max(range.first);
            for lsn in first.get()..=header.last_lsn().min(range.last).get() {
                let (lsn, place) = (Lsn::new(lsn), lsn - header.lsn.get());
                let record = frame.record(lsn);
                let producer = frame.origin().map(|origin| (origin.producer, origin.sequence + place));
                let bytes = record.unwrap_or(frame.payload()).to_vec();
                let (epoch, is_record) = (header.epoch, record.is_some());
                entries.push(Entry { lsn, epoch, is_record, producer, bytes });
            }
        })?;
        Ok(entries)
    }

    /// The digest over the frames of these records, however they are grouped: over their LSNs, epochs, kinds and bytes.
    ///
    /// # Errors
    /// As for [`entries`](ReplicaStore::entries).
    pub fn digest_of(&self, range: LsnRange) -> Result<u64> {
        let mut digest = Digest::new(range.first.get());
        self.visit_whole(range, |frame| digest = digest.fold(u64::from(frame.header().checksum)))?;
        Ok(digest.get())
    }

    /// Visits the frames of all records of a range.
    fn visit_whole(&self, range: LsnRange, mut take: impl FnMut(&Frame<'_>)) -> Result<()> {
        if range.first < self.first() {
            return Err(Error::Trimmed { asked: range.first, first: self.first() });
        }
        if range.last > self.last() {
            return Err(Error::BeyondEnd { asked: range.last, last: self.last() });
        }
        self.visit(range.first, |frame| {
            if frame.header().lsn > range.last {
                return Ok(ControlFlow::Break(()));
            }
            if frame.header().kind == FrameKind::Gap {
                return Err(lost(frame));
            }
            take(frame);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Visits frames in order, from the one that holds `from`, each of them checked.
    pub(super) fn visit(
        &self,
        from: Lsn,
        mut visit: impl FnMut(&Frame<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let start = self.parts.partition_point(|part| part.header.first_lsn <= from).saturating_sub(1);
        for part in &self.parts[start..] {
            if part.is_empty() {
                continue;
            }
            let bytes = part.bytes(&self.files)?;
            if let ControlFlow::Break(()) = part.visit(&bytes, from, &mut visit)? {
                break;
            }
        }
        Ok(())
    }

    /// The error for a record in a form that nobody knows.
    fn unreadable(&self, lsn: Lsn) -> Error {
        let index = self.parts.partition_point(|part| part.header.first_lsn <= lsn).saturating_sub(1);
        self.parts[index].contradiction(lsn)
    }
}

impl Part {
    /// Visits the frames in `bytes`, which are this segment's, from the one that holds `from` on.
    pub(super) fn visit(
        &self,
        bytes: &[u8],
        from: Lsn,
        visit: &mut impl FnMut(&Frame<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut walk = Walk::from_start(self.header.incarnation);
        let mut next = self.header.first_lsn.max(from);
        let fail = |fault: Fault, next| self.rot(fault.bytes, next);
        let mut step = walk.seek(bytes, next).map_err(|fault| fail(fault, next))?;
        while let Some((_, frame)) = step {
            let header = frame.header();
            if header.lsn > next || header.last_lsn() < next {
                break;
            }
            if visit(&frame)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            next = header.last_lsn().next();
            if next > self.last() {
                return Ok(ControlFlow::Continue(()));
            }
            step = walk.step(bytes).map_err(|fault| fail(fault, next))?;
        }
        Err(Error::Hole { file: self.name.clone(), first: next, last: self.last() })
    }

    /// The error for a record that contradicts those before it, or that nobody understands.
    pub(super) fn contradiction(&self, lsn: Lsn) -> Error {
        self.rot(0..self.extent.end, lsn)
    }

    /// The error for bytes that do not check, where the record `first` was to be read.
    pub(super) fn rot(&self, bytes: std::ops::Range<u64>, first: Lsn) -> Error {
        Error::Rot { file: self.name.clone(), bytes, first, last: self.last().max(first) }
    }
}

/// The error for a gap.
fn lost(frame: &Frame<'_>) -> Error {
    Error::Lost { first: frame.header().lsn, last: frame.header().last_lsn() }
}
