//! A node's store: the state, and the contents of files, on its disk.
//!
//! The log is the truth, and this is what follows from it. So nothing here is synced for each record; what is promised is
//! that an open finds the state *as of some record*, whole, from which applying goes on:
//!
//! ```text
//! store/owner                 the cluster's id
//! store/current               "g-2": which generation counts; replaced by a rename
//! store/g-2/state             the digest of the second line, and the serialized state as JSON, as of one record
//! store/g-2/blobs/731         the contents of the put whose first chunk is record 731, as they are
//! store/g-2/blobs/731.sums    the CRC-32 of each of its chunks, 4 bytes little-endian
//! ```
//!
//! 1. **Apply.** A chunk is written behind the chunks before it, and not synced. A commit, a delete or a rename changes
//!    the state in memory.
//! 2. **Checkpoint**, each 64 MiB or 1024 changes, after a large file, and before a snapshot: the blobs that were written
//!    to are synced, then their directory, then the state is written beside the old one, synced, and renamed over it, and
//!    its directory is synced. So a state on the disk never speaks of contents that are not. Only after that are blobs
//!    unlinked that nobody can read any more: the state before may have spoken of them.
//! 3. **Open.** The state of the newest checkpoint counts. What was written after it is cut off or removed: the replica
//!    applies those records again. Of a put under way the contents are read once, for their digest. Records up to the
//!    state's are left out, so each counts once, whatever is repeated.
//! 4. **Snapshot.** A view shares the state, which is copied only when it changes meanwhile, and reads the blobs while
//!    more is written behind them; none is unlinked before it is through.
//! 5. **Restore.** A snapshot is unpacked into a new generation, checked and synced; then `current` is switched.
//!
//! A store that is lost or cannot be used is no loss: begun blank, it becomes the same again from the replica's snapshot
//! and log. What is read is checked against the sums first, so that a damaged block is told and never handed out.

mod blob;
mod checkpoint;
mod machine;
mod open;
mod room;
mod snapshot;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use annals::Lsn;

use crate::record::{Operation, Record};
use crate::state::{BlobId, Effects, Outcome};
use blob::{BlobWriter, SyncFile};

pub use blob::{BlobReader, Damaged};
pub use machine::Machine;
pub use view::{Shared, View};

/// Bytes that are applied from one checkpoint to the next: what an open has to apply again at most.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Changes from one checkpoint to the next.
const CHECKPOINT_CHANGES: u64 = 1024;
/// A file of this size has a checkpoint of its own: an open would read all of it once more if it were not finished.
const LARGE_BYTES: u64 = 16 << 20;
/// Blobs that may be open for writing; a checkpoint closes them.
const OPEN_BLOBS_MAX: usize = 64;

/// The state and the contents. Owned by the thread that applies; others look through [`Shared`].
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    generation: u64,
    shared: Arc<Shared>,
    /// Puts under way, and what was written since the last checkpoint.
    writers: BTreeMap<BlobId, BlobWriter>,
    /// Unlinked once a checkpoint no longer speaks of them.
    dropped: Vec<BlobId>,
    bytes_since: u64,
    changes_since: u64,
    /// Shared by the snapshots that are being written: as long as there are any, no blob is unlinked.
    pin: Arc<()>,
    sync: SyncFile,
}

impl Store {
    /// What others may look at.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The newest record that is in the state.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.shared.look(|view| Lsn::new(view.state.applied))
    }

    /// Applies a record. One that is in the state already is left out.
    ///
    /// # Errors
    /// If it cannot be written. The state is as before then, and the record can be applied again: but after a failed
    /// [`checkpoint`](Store::checkpoint) only a store that was opened anew can be trusted.
    pub fn apply(&mut self, lsn: Lsn, record: &[u8]) -> io::Result<()> {
        if lsn <= self.applied() {
            return Ok(());
        }
        let effects = match Record::parse(record) {
            Some(Record::Chunk { put, index, bytes }) => {
                if self.shared.look(|view| view.state.takes_chunk(put, index)) {
                    let known = self.shared.look(|view| view.state.unfinished.get(&put).copied());
                    self.write(known.map_or(lsn.get(), |known| known.blob), index, bytes)?;
                    self.shared.change(|state| state.chunk(lsn, put, bytes.len()))
                } else {
                    self.shared.change(|state| state.pass(lsn))
                }
            }
            Some(Record::Operation(operation)) => self.operate(lsn, &operation),
            None => self.shared.change(|state| state.pass(lsn)),
        };
        self.forget(effects);
        self.changes_since += 1;
        Ok(())
    }

    /// Whether it is time for a checkpoint.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let is_open = |writer: &&BlobWriter| writer.is_open();
        self.bytes_since >= CHECKPOINT_BYTES
            || self.changes_since >= CHECKPOINT_CHANGES
            || self.writers.values().filter(is_open).count() >= OPEN_BLOBS_MAX
    }

    fn write(&mut self, blob: BlobId, index: u64, bytes: &[u8]) -> io::Result<()> {
        let dir = self.blobs_dir();
        let writer = self.writers.entry(blob).or_default();
        writer.append(&dir, blob, index, bytes)?;
        self.bytes_since += bytes.len() as u64;
        Ok(())
    }

    fn operate(&mut self, lsn: Lsn, operation: &Operation) -> Effects {
        let put = self.shared.look(|view| view.state.unfinished.get(&operation.id()).copied());
        let contents = put.and_then(|put| self.writers.get(&put.blob)).map(BlobWriter::digest);
        if put.is_some_and(|put| put.bytes >= LARGE_BYTES) {
            self.bytes_since = CHECKPOINT_BYTES;
        }
        self.shared.change(|state| state.operation(lsn, operation, contents))
    }

    /// Closes what nobody can read any more, and has it unlinked later.
    fn forget(&mut self, effects: Effects) {
        for blob in effects.dropped.into_iter().filter(|blob| *blob > 0) {
            self.writers.remove(&blob);
            self.dropped.push(blob);
        }
    }

    fn generation_dir(&self) -> PathBuf {
        self.root.join(open::generation_name(self.generation))
    }

    fn blobs_dir(&self) -> PathBuf {
        self.generation_dir().join(open::BLOBS)
    }

    /// What became of an operation, as far as it is remembered.
    #[must_use]
    pub fn outcome(&self, id: crate::operation::OperationId) -> Option<Outcome> {
        self.shared.look(|view| view.state.finished.get(&id).map(|finished| finished.outcome))
    }
}

#[cfg(test)]
mod tests;
