//! Looking through the sealed segments, which opening the log does not read.

use std::ops::ControlFlow;

use super::reader::StoreReader;
use super::shared::{Shared, before};
use super::source::Stored;
use crate::error::{Error, Result};
use crate::types::Lsn;

/// Bytes that are read at a time.
const WINDOW_BYTES: u64 = 256 << 10;

impl StoreReader {
    /// Reads and checks every frame that is retained of the oldest sealed segment that ends after the record `after`, and
    /// returns the record that it ends with; `None` if there is no such segment.
    ///
    /// `progress` is told how many bytes more were read, and may end it.
    ///
    /// # Errors
    /// [`Error::Rot`] and [`Error::Hole`] if something is damaged: see [`doubt`](super::ReplicaStore::doubt);
    /// [`Error::TimedOut`] if `progress` ends it, [`Error::Closed`], and whatever the operating system says.
    pub fn scrub(&self, after: Lsn, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Option<Lsn>> {
        let Some(stored) = self.shared.sealed_after(after)? else { return Ok(None) };
        match look_through(&self.shared, &stored, progress) {
            // Trimmed, truncated or mended meanwhile.
            Err(error) if !matches!(error, Error::TimedOut) && !self.shared.lists(&stored)? => drop(error),
            looked => looked?,
        }
        Ok(Some(stored.last))
    }

    /// The record that the segment ends with which [`scrub`](StoreReader::scrub) looks through after this record.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn sealed_end(&self, after: Lsn) -> Result<Option<Lsn>> {
        Ok(self.shared.sealed_after(after)?.map(|stored| stored.last))
    }
}

fn look_through(
    shared: &Shared,
    stored: &Stored,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<()> {
    let first = shared.with(|view| view.first);
    if first > stored.last {
        // It was the newest when it was trimmed, and has been sealed since.
        return Ok(());
    }
    let source = stored.open(shared.disk())?.gently();
    // What is trimmed of it concerns nobody.
    let entry = if first > stored.header.first_lsn { before(&source.index()?, first) } else { None };
    let mut bytes = 0;
    let visited = source.visit((first, entry), WINDOW_BYTES, &mut |frame| {
        bytes += frame.stored().len() as u64;
        if bytes < WINDOW_BYTES {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(progress(std::mem::take(&mut bytes)))
    })?;
    // Of a log of small segments all is such a rest.
    let is_ended = visited.is_break() || progress(bytes).is_break();
    if is_ended { Err(Error::TimedOut) } else { Ok(()) }
}
