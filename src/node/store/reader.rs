//! Reading groups back, for others and for whoever compares.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::ReplicaStore;
use super::shared::{Shared, Use};
use crate::error::{Error, Result};
use crate::format::{Digest, Frame, FrameKind};
use crate::node::frames::{Entry, Gathered};
use crate::protocol::Group;
use crate::types::{Lsn, LsnRange};

/// Bytes that are looked at together where all are wanted.
const STRETCH_BYTES: u64 = 1 << 20;

/// Reads a replica's log beside the thread that owns the store.
///
/// Cheap to clone. Sees what was [written](ReplicaStore::write), synced or not; waits for nobody but the disk, and for
/// that only where something is read that is no longer in memory. Once the store is dropped, every method fails with
/// [`Error::Closed`].
#[derive(Clone)]
pub struct StoreReader {
    pub(super) shared: Arc<Shared>,
}

impl StoreReader {
    /// The oldest record that can be read, or that comes first.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.shared.with(|view| view.first)
    }

    /// The newest record, synced or not.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.shared.with(|view| view.last)
    }

    /// The newest record that is synced.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.shared.with(|view| view.durable)
    }

    /// Reads a group, of at most `bytes_max` bytes and at least one frame: never two epochs, and a control record alone.
    /// Also what is not synced yet. `None` if the log does not reach back so far.
    ///
    /// The frames are shared with the store's memory where they are recent.
    ///
    /// # Errors
    /// [`Error::Rot`], [`Error::Hole`] and [`Error::Lost`] if the first record cannot be read: see
    /// [`doubt`](ReplicaStore::doubt); [`Error::BeyondEnd`] after the last record; [`Error::Closed`]; whatever the
    /// operating system says.
    pub fn read_log(&self, from: Lsn, bytes_max: u64) -> Result<Option<(Group, Bytes)>> {
        let last = self.last();
        match LsnRange::new(from, last) {
            Some(range) => self.feed(range, bytes_max),
            None => Err(Error::BeyondEnd { asked: from, last }),
        }
    }

    /// The same, of records in a range only, but for a first frame that ends after it.
    ///
    /// # Errors
    /// As for [`read_log`](StoreReader::read_log).
    pub fn read_range(&self, range: LsnRange, bytes_max: u64) -> Result<Option<(Group, Bytes)>> {
        self.read(range, bytes_max, Use::Once)
    }

    /// The same for a peer that catches up, beside whom others sync.
    pub(crate) fn feed(&self, range: LsnRange, bytes_max: u64) -> Result<Option<(Group, Bytes)>> {
        self.read(range, bytes_max, Use::Feed)
    }

    fn read(&self, range: LsnRange, bytes_max: u64, wanted: Use) -> Result<Option<(Group, Bytes)>> {
        let Some(frames) = self.shared.frames(range, bytes_max, wanted)? else { return Ok(None) };
        let mut gathered: Option<Gathered> = None;
        let mut end = 0;
        while end < frames.len() {
            let frame = Frame::parse(&frames[end..]).expect("frames that were checked when they were read");
            let taken = match &mut gathered {
                None if frame.header().kind == FrameKind::Gap => return Err(lost(&frame)),
                None => Gathered::begin(&frame).map(|begun| gathered = Some(begun)),
                Some(_) if frame.header().last_lsn() > range.last => break,
                Some(group) if group.takes(&frame) => group.take(&frame),
                Some(_) => break,
            };
            if taken.is_err() {
                break;
            }
            end += frame.stored().len();
        }
        let Some(group) = gathered else {
            // In a form that nobody knows.
            let (file, first) = (self.shared.with(|view| view.name_of(range.first)), range.first);
            return Err(Error::Rot { file, bytes: 0..frames.len() as u64, first, last: first });
        };
        assert!(group.bytes() == end as u64, "the frames of the group");
        Ok(Some((group.into_group(), frames.slice(..end))))
    }

    /// The record up to which a [read](StoreReader::read_range) of at most `bytes_max` bytes gets from this one on, as far as
    /// that is known without reading: so that somebody else can go on behind it at the same time.
    pub(crate) fn reach(&self, from: Lsn, bytes_max: u64) -> Option<Lsn> {
        self.shared.reach(from, bytes_max)
    }

    /// All records from one to another, for clients, for the application, and to be compared. They share the memory of
    /// what was read.
    ///
    /// # Errors
    /// As for [`read_log`](StoreReader::read_log), for any of them; [`Error::Trimmed`].
    pub fn entries(&self, range: LsnRange) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.visit(range, |frames, frame| {
            let header = frame.header();
            let first = header.lsn.max(range.first);
            for lsn in first.get()..=header.last_lsn().min(range.last).get() {
                let (lsn, place) = (Lsn::new(lsn), lsn - header.lsn.get());
                let record = frame.record(lsn);
                let producer = frame.origin().map(|origin| (origin.producer, origin.sequence + place));
                let bytes = frames.slice_ref(record.unwrap_or(frame.payload()));
                let (epoch, is_record) = (header.epoch, record.is_some());
                entries.push(Entry { lsn, epoch, is_record, producer, bytes });
            }
        })?;
        Ok(entries)
    }

    /// The digest over the frames of these records, however they are grouped: over their LSNs, epochs, kinds and bytes.
    ///
    /// # Errors
    /// As for [`entries`](StoreReader::entries).
    pub fn digest_of(&self, range: LsnRange) -> Result<u64> {
        let mut digest = Digest::new(range.first.get());
        self.visit(range, |_, frame| digest = digest.fold(u64::from(frame.header().checksum)))?;
        Ok(digest.get())
    }

    /// Visits the frames of all records of a range, with the bytes that they are in.
    fn visit(&self, range: LsnRange, mut take: impl FnMut(&Bytes, &Frame<'_>)) -> Result<()> {
        let (first, last) = self.shared.with(|view| (view.first, view.last));
        if range.first < first {
            return Err(Error::Trimmed { asked: range.first, first });
        }
        if range.last > last {
            return Err(Error::BeyondEnd { asked: range.last, last });
        }
        let mut next = range.first;
        while next <= range.last {
            let left = LsnRange { first: next, last: range.last };
            let Some(frames) = self.shared.frames(left, STRETCH_BYTES, Use::Again)? else {
                return Err(Error::Trimmed { asked: next, first: self.first() });
            };
            let mut at = 0;
            while at < frames.len() {
                let frame =
                    Frame::parse(&frames[at..]).expect("frames that were checked when they were read");
                if frame.header().lsn > range.last {
                    break;
                }
                if frame.header().kind == FrameKind::Gap {
                    return Err(lost(&frame));
                }
                take(&frames, &frame);
                next = frame.header().last_lsn().next();
                at += frame.stored().len();
            }
        }
        Ok(())
    }
}

impl ReplicaStore {
    /// Whoever reads the log, from any thread.
    #[must_use]
    pub fn reader(&self) -> StoreReader {
        StoreReader { shared: Arc::clone(&self.shared) }
    }

    /// As for [`StoreReader::read_log`].
    ///
    /// # Errors
    /// The same.
    pub fn read_log(&self, from: Lsn, bytes_max: u64) -> Result<Option<(Group, Bytes)>> {
        self.reader().read_log(from, bytes_max)
    }

    /// As for [`StoreReader::read_range`].
    ///
    /// # Errors
    /// The same.
    pub fn read_range(&self, range: LsnRange, bytes_max: u64) -> Result<Option<(Group, Bytes)>> {
        self.reader().read_range(range, bytes_max)
    }

    /// As for [`StoreReader::entries`].
    ///
    /// # Errors
    /// The same.
    pub fn entries(&self, range: LsnRange) -> Result<Vec<Entry>> {
        self.reader().entries(range)
    }

    /// As for [`StoreReader::digest_of`].
    ///
    /// # Errors
    /// The same.
    pub fn digest_of(&self, range: LsnRange) -> Result<u64> {
        self.reader().digest_of(range)
    }
}

impl fmt::Debug for StoreReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StoreReader");
        shown.field("first", &self.first()).field("last", &self.last()).finish_non_exhaustive()
    }
}

/// The error for a gap.
fn lost(frame: &Frame<'_>) -> Error {
    Error::Lost { first: frame.header().lsn, last: frame.header().last_lsn() }
}
