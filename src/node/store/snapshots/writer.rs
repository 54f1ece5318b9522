//! Taking a snapshot: written from front to back beside the appends, and then made the base at once.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::{Layout, Snapshot, Summing, TAKING, head_of};
use crate::disk::File;
use crate::error::Result;
use crate::log::store::Files;
use crate::log::superblock_file::Copies;
use crate::node::store::ReplicaStore;
use crate::node::store::kept::{Of, become_base};
use crate::protocol::{Base, Contents, SnapshotOffer};
use crate::segment::UNFINISHED;
use crate::types::LogId;

/// Bytes that are written at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Bytes after which what was written is synced: else the last sync would hold up everybody else's for long.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// Writes the application's bytes of a snapshot, on any thread, beside the appends.
///
/// What is not [finished](SnapshotWriter::finish) is removed.
pub struct SnapshotWriter {
    files: Arc<Files>,
    /// `None` once it is finished.
    name: Option<String>,
    file: Arc<dyn File>,
    log_id: LogId,
    base: Base,
    /// Where the application's part begins.
    start: u64,
    /// How many of its bytes are written, and how many synced.
    written: (u64, u64),
    sums: Summing,
    buffer: Vec<u8>,
}

/// A snapshot that is written and synced, and waits to become the base.
#[derive(Debug)]
#[must_use = "it is the base only when the store has it"]
pub struct TakenSnapshot {
    name: String,
    snapshot: Snapshot,
}

impl TakenSnapshot {
    /// What goes with it.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.snapshot.base
    }

    /// What the application has written.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.snapshot.contents
    }
}

impl ReplicaStore {
    /// Begins a snapshot of what the application is after the base's last record. Appends go on meanwhile.
    ///
    /// # Errors
    /// Whatever the operating system says; that is no failure of the log.
    ///
    /// # Panics
    /// If records that it covers are not synced.
    pub fn begin_snapshot(&self, base: &Base) -> Result<SnapshotWriter> {
        assert!(base.position.lsn <= self.durable, "a snapshot is of what is durable");
        let log_id = self.superblock.current().log_id;
        let name = format!("{TAKING}{:016x}{UNFINISHED}", self.files.disk.entropy());
        let file = self.files.io("create", &name, self.files.disk.create(&name))?;
        let start = head_of(log_id, &offer_of(base, Contents::default())).len() as u64;
        Ok(SnapshotWriter {
            files: Arc::clone(&self.files),
            name: Some(name),
            file,
            log_id,
            base: base.clone(),
            start,
            written: (0, 0),
            sums: Summing::default(),
            buffer: Vec::new(),
        })
    }

    /// Makes a snapshot the base that is written; drops it if the base is newer by now.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn snapshot_taken(&mut self, taken: TakenSnapshot) -> Result<()> {
        let TakenSnapshot { name, snapshot } = taken;
        if snapshot.base.position.lsn < self.base().position.lsn {
            return self.files.remove(&name);
        }
        // So that the log is never found to end before its base.
        let durable = self.durable;
        self.superblock
            .update(Copies::Both, |superblock| superblock.durable = superblock.durable.max(durable))?;
        self.has_vouched();
        let of = Of { log_id: self.superblock.current().log_id, lsn: snapshot.base.position.lsn };
        become_base(&self.files, &name, of, self.options.snapshots_kept)?;
        self.replace_base(snapshot);
        Ok(())
    }

    /// Stores a snapshot, durably, in the place of the one before: for a small one.
    ///
    /// # Errors
    /// Whatever the operating system says.
    ///
    /// # Panics
    /// If records that it covers are not synced.
    pub fn take_snapshot(&mut self, base: &Base, application: &[u8]) -> Result<()> {
        let mut writer = self.begin_snapshot(base)?;
        writer.put(application)?;
        let taken = writer.finish()?;
        self.snapshot_taken(taken)
    }
}

impl SnapshotWriter {
    /// Writes down what there is, durably. It is handed [back](ReplicaStore::snapshot_taken) to the store then.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn finish(mut self) -> Result<TakenSnapshot> {
        self.write_out()?;
        let name = self.name.clone().expect("it is not finished");
        let (checksum, sums) = std::mem::take(&mut self.sums).finish();
        let contents = Contents { bytes: self.written.0, checksum };
        let head = head_of(self.log_id, &offer_of(&self.base, contents));
        assert!(head.len() as u64 == self.start, "the size of a head does not depend on the application");
        self.files.io("write", &name, self.file.write_at(&head, 0))?;
        self.files.io("sync", &name, self.file.sync())?;
        // Not to be removed any more.
        self.name = None;
        let (base, file, layout) =
            (self.base.clone(), Arc::clone(&self.file), Layout::Whole { at: self.start, sums });
        let snapshot = Snapshot { base, contents, file, layout };
        Ok(TakenSnapshot { name, snapshot })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(BUFFER_BYTES) {
            self.buffer.extend_from_slice(part);
            if self.buffer.len() >= BUFFER_BYTES {
                self.write_out()?;
            }
        }
        Ok(())
    }

    fn write_out(&mut self) -> Result<()> {
        let name = self.name.as_deref().expect("it is not finished");
        let (written, synced) = self.written;
        self.files.io("write", name, self.file.write_at(&self.buffer, self.start + written))?;
        self.sums.update(&self.buffer);
        self.written.0 += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written.0 - synced >= UNSYNCED_BYTES_MAX {
            self.files.io("sync", name, self.file.sync())?;
            self.written.1 = self.written.0;
        }
        Ok(())
    }
}

impl io::Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(BUFFER_BYTES)];
        self.put(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out().map_err(io::Error::other)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What stays is removed when the store is opened.
            let _ = self.files.disk.remove(name);
        }
    }
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SnapshotWriter");
        shown.field("position", &self.base.position).field("written", &self.written.0).finish_non_exhaustive()
    }
}

/// A base as it is offered with these contents.
fn offer_of(base: &Base, contents: Contents) -> SnapshotOffer {
    SnapshotOffer { base: Arc::new(base.clone()), contents }
}
