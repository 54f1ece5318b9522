//! Reading a snapshot from front to back.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::{Snapshot, WINDOW_BYTES};
use crate::error::Result;
use crate::format::RunningCrc;
use crate::protocol::Base;

/// The application's bytes of a snapshot, read from front to back, a window at a time.
///
/// At the end, reading fails with `InvalidData` if they do not check.
/// [`verify`](SnapshotReader::verify) tells before that.
pub struct SnapshotReader {
    snapshot: Arc<Snapshot>,
    /// How many bytes were read.
    position: u64,
    sum: RunningCrc,
    /// Bytes that were read ahead, and how many of them are gone.
    window: (Vec<u8>, usize),
}

impl SnapshotReader {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> SnapshotReader {
        SnapshotReader { snapshot, position: 0, sum: RunningCrc::new(), window: (Vec::new(), 0) }
    }

    /// What goes with it: the last record that it stands for, who takes part, and the producers.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.snapshot.base
    }

    /// How many bytes it has.
    #[must_use]
    pub fn application_bytes(&self) -> u64 {
        self.snapshot.contents.bytes
    }

    /// Reads all of it once, without showing it.
    ///
    /// # Errors
    /// [`Error::Rot`](crate::Error::Rot) if it does not check, or cannot be read twice.
    pub fn verify(&self) -> Result<()> {
        let sums = self.snapshot.sum_up().or_else(|_| self.snapshot.sum_up());
        sums.ok().flatten().map(drop).ok_or_else(|| self.snapshot.rot())
    }

    fn fill(&mut self) -> io::Result<()> {
        let left = self.snapshot.contents.bytes - self.position;
        let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        let (window, gone) = &mut self.window;
        window.resize(bytes, 0);
        *gone = 0;
        self.snapshot.read_at(window, self.position)?;
        self.position += bytes as u64;
        self.sum.update(window);
        let is_end = self.position == self.snapshot.contents.bytes;
        if is_end && self.sum.clone().finish() != self.snapshot.contents.checksum {
            window.clear();
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot does not check"));
        }
        Ok(())
    }
}

impl io::Read for SnapshotReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.window.1 == self.window.0.len() && self.position < self.snapshot.contents.bytes {
            self.fill()?;
        }
        let (window, gone) = &mut self.window;
        let bytes = buf.len().min(window.len() - *gone);
        buf[..bytes].copy_from_slice(&window[*gone..*gone + bytes]);
        *gone += bytes;
        Ok(bytes)
    }
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SnapshotReader");
        shown.field("position", &self.snapshot.base.position).field("bytes", &self.application_bytes());
        shown.finish_non_exhaustive()
    }
}
