//! Records as they are read: bytes of a mapped segment, not copies.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::segment::{Pinned, Spot};
use crate::types::{Epoch, Lsn};

/// A record that was read. Dereferences to its bytes.
///
/// It shares the mapped segment that it lies in and keeps it readable while it lives, also when the segment is
/// trimmed: cheap to clone and to send to another thread. Copy the bytes to keep them for long.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
/// let lsn = log.append_durable(b"hello")?.lsn();
/// let record = log.read(lsn)?;
/// log.trim(lsn.next())?;
/// assert!(log.read(lsn).is_err());
/// assert_eq!(&*record, b"hello"); // what was read stays
/// # log.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Record {
    pinned: Arc<Pinned>,
    bytes: Range<u64>,
    lsn: Lsn,
    epoch: Epoch,
}

/// A record under a cursor, until the cursor moves on. Dereferences to its bytes.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    bytes: &'a [u8],
    lsn: Lsn,
    epoch: Epoch,
}

impl Record {
    pub(crate) fn new(pinned: Arc<Pinned>, spot: Spot) -> Record {
        Record { pinned, bytes: spot.bytes, lsn: spot.lsn, epoch: spot.epoch }
    }

    /// The record's sequence number.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The epoch that it was written in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Deref for Record {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.pinned.bytes(self.bytes.clone())
    }
}

impl AsRef<[u8]> for Record {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Record", self.lsn, self.len(), f)
    }
}

impl<'a> RecordRef<'a> {
    #[inline]
    pub(crate) fn new(pinned: &'a Pinned, spot: Spot) -> RecordRef<'a> {
        RecordRef { bytes: pinned.bytes(spot.bytes), lsn: spot.lsn, epoch: spot.epoch }
    }

    /// The record's sequence number.
    #[inline]
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The epoch that it was written in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The record's bytes, for as long as the cursor stays.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl Deref for RecordRef<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl AsRef<[u8]> for RecordRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("RecordRef", self.lsn, self.len(), f)
    }
}

/// Without the bytes: they may be many, and are nobody's business in a trace.
fn debug(name: &str, lsn: Lsn, bytes: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name).field("lsn", &lsn.get()).field("bytes", &bytes).finish_non_exhaustive()
}
