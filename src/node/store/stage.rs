//! A snapshot that is received, chunk by chunk, and switched to (S9).

use std::io;
use std::sync::Arc;

use super::ReplicaStore;
use super::kept::{Of, become_base};
use super::open::{find_snapshot, note_damage, put_aside};
use super::snapshots::{BASE, Head, Place, Snapshot, chunks_of, head_of, open};
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{Digest, RunningCrc, write_chunk};
use crate::log::recover::{Begin, begin_first};
use crate::log::store::Files;
use crate::log::superblock_file::{Copies, SuperblockFile};
use crate::node::frames::digest;
use crate::protocol::{EpochHistory, Position, SnapshotId, SnapshotOffer, Staged};
use crate::segment::{FileName, UNFINISHED};
use crate::types::LogId;

/// The name of what is received.
pub(super) use crate::segment::STAGE;
// Its name while it is switched to, until the log before it is dropped.
use crate::segment::INSTALLING;

/// A snapshot that is received.
#[derive(Debug)]
pub(super) struct Stage {
    offer: SnapshotOffer,
    file: Arc<dyn File>,
    /// Where the next chunk goes.
    end: u64,
    /// Bytes of the application's part that are there.
    staged: u64,
    places: Vec<Place>,
    sum: RunningCrc,
}

impl Stage {
    pub(super) fn progress(&self) -> Staged {
        Staged { snapshot: self.offer.id(), bytes: self.staged }
    }

    /// The CRC of what is staged and of these bytes after it.
    fn sum_with(&self, bytes: &[u8]) -> u32 {
        let mut sum = self.sum.clone();
        sum.update(bytes);
        sum.finish()
    }

    /// Takes note of a chunk, which is stored in so many bytes.
    fn note(&mut self, bytes: &[u8], stored: u64) {
        let size = bytes.len() as u64;
        self.places.push(Place { offset: self.staged, at: self.end, bytes: size });
        self.sum.update(bytes);
        (self.staged, self.end) = (self.staged + size, self.end + stored);
    }
}

impl ReplicaStore {
    /// Begins to stage a snapshot, durably and from nothing; what was staged is dropped.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn stage(&mut self, offer: &SnapshotOffer) -> Result<()> {
        let head = head_of(self.superblock.current().log_id, offer);
        self.stage = None;
        let file = write_whole(&*self.files.disk, STAGE, &head)?;
        self.stage = Some(Stage::begun(offer.clone(), file, head.len() as u64));
        Ok(())
    }

    /// Puts the next chunk into the stage, and returns how many bytes are there then; durable they are with the next
    /// [`sync_stage`](ReplicaStore::sync_stage). `None`, with nothing
    /// changed, if its bytes do not give the digest, it does not begin where the stage ends, or is of another snapshot;
    /// nor, of the last one, if all of them together do not give the checksum that was offered.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn stage_chunk(
        &mut self,
        (snapshot, offset): (SnapshotId, u64),
        bytes: &[u8],
        stated: u64,
    ) -> Result<Option<u64>> {
        let Some(stage) = &mut self.stage else { return Ok(None) };
        let staged = offset.saturating_add(bytes.len() as u64);
        let is_next =
            stage.offer.id() == snapshot && offset == stage.staged && staged <= stage.offer.contents.bytes;
        if !is_next || digest(bytes) != stated {
            return Ok(None);
        }
        // The digest is of what was read there, whatever had become of it on that disk.
        if staged == stage.offer.contents.bytes && stage.sum_with(bytes) != stage.offer.contents.checksum {
            return Ok(None);
        }
        if bytes.is_empty() {
            return Ok(Some(staged));
        }
        let chunk = write_chunk(offset, bytes);
        self.files.io("write", STAGE, stage.file.write_at(&chunk, stage.end))?;
        stage.note(bytes, chunk.len() as u64);
        Ok(Some(staged))
    }

    /// Makes durable what is staged.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn sync_stage(&mut self) -> Result<()> {
        match &self.stage {
            Some(stage) => self.files.io("sync", STAGE, stage.file.sync()),
            None => Ok(()),
        }
    }

    /// Makes the staged snapshot the base, and drops the log: the next record is the one after it (S9).
    ///
    /// Takes no longer for a large one: the stage becomes the base as it is.
    ///
    /// # Errors
    /// Whatever the operating system says.
    ///
    /// # Panics
    /// If the snapshot is not staged as a whole; all of it has to be synced.
    pub fn install(&mut self, snapshot: SnapshotId) -> Result<()> {
        let stage = self.stage.take().expect("a snapshot is staged");
        let Stage { offer, file, staged, places, sum, .. } = stage;
        let is_whole = staged == offer.contents.bytes && sum.finish() == offer.contents.checksum;
        assert!(offer.id() == snapshot && is_whole, "the snapshot is staged as a whole");
        let position = offer.base.position;
        let segment_id = self.tail().header.segment_id.next();
        self.shared.begin_change();
        self.pending.clear();
        self.spares.forget();
        self.files.rename(STAGE, INSTALLING)?;
        self.files.sync_dir()?;
        self.parts.clear();
        drop_log(&self.files, &mut self.superblock, position, self.options.snapshots_kept)?;
        self.replace_base(Snapshot::received(&offer, file, places));
        self.history = EpochHistory::new(position);
        (self.durable, self.vouched) = (position.lsn, position.lsn);
        let (log_id, first_lsn, epoch) =
            (self.superblock.current().log_id, position.lsn.next(), position.epoch);
        let begin = Begin { log_id, segment_id, first_lsn, epoch, previous_digest: Digest::ZERO };
        let spare = self.spare(0)?;
        let tail = begin_first(&*self.files.disk, spare, &begin)?;
        self.go_on_in(&tail)?;
        self.show_change()
    }
}

impl Stage {
    fn begun(offer: SnapshotOffer, file: Arc<dyn File>, end: u64) -> Stage {
        Stage { offer, file, end, staged: 0, places: Vec::new(), sum: RunningCrc::new() }
    }

    /// What is received, as far as it checks; `None` if there is nothing.
    ///
    /// What is there is written once more: a sync of it may have failed, and left it in memory only as if it were on the
    /// disk (S12).
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn find(disk: &dyn Disk, log_id: LogId) -> Result<Option<Stage>> {
        let io = |doing| move |source| Error::io(doing, STAGE, source);
        let Some(file) = open(disk, STAGE, Access::ReadWrite)? else { return Ok(None) };
        let head = Head::read(&*file, STAGE)?;
        let Some(head) = head.filter(|head| head.log_id == log_id) else { return Ok(None) };
        let bytes = head_of(log_id, &head.offer);
        file.write_at(&bytes, 0).map_err(io("write"))?;
        let mut stage = Stage::begun(head.offer.clone(), Arc::clone(&file), head.end);
        let mut written = Ok(());
        let found = chunks_of(&*file, &head, |chunk, at| {
            written = file.write_at(&write_chunk(chunk.offset, chunk.bytes), at);
            stage.note(chunk.bytes, chunk.stored_bytes());
            written.as_ref().map(drop).map_err(|error| error.kind().into())
        });
        written.map_err(io("write"))?;
        found.map_err(io("read"))?;
        file.sync().map_err(io("sync"))?;
        Ok(Some(stage))
    }
}

/// Finishes the switch to a snapshot that a crash has cut short.
pub(super) fn finish_install(disk: &Arc<dyn Disk>, snapshots_kept: usize) -> Result<()> {
    let Some(found) = SuperblockFile::read(&**disk)? else { return Ok(()) };
    let mut superblock = SuperblockFile::open(&**disk, found.superblock)?;
    let log_id = superblock.current().log_id;
    if open(&**disk, INSTALLING, Access::Read)?.is_none() {
        return Ok(());
    }
    let files = Files::new(Arc::clone(disk), superblock.current().write_method, 0);
    if let Some(snapshot) = find_snapshot(&**disk, INSTALLING, log_id)? {
        return drop_log(&files, &mut superblock, snapshot.base.position, snapshots_kept);
    }
    note_damage(&**disk)?;
    let base = find_snapshot(&**disk, BASE, log_id)?;
    if base.is_some_and(|base| !base.reaches(superblock.current())) {
        // The log was dropped already, if not all of it: what is there is not what the superblock says.
        remove_log(&files)?;
    }
    // It must not be found later, when it can be read again: the log will have gone on without it.
    put_aside(&**disk, INSTALLING)
}

/// Drops the log before and after a snapshot that is switched to, and makes that the base. Each step may be done
/// again.
fn drop_log(
    files: &Files,
    superblock: &mut SuperblockFile,
    position: Position,
    snapshots_kept: usize,
) -> Result<()> {
    superblock.update(Copies::Both, |superblock| {
        superblock.first_lsn = position.lsn.next();
        superblock.trimmed_epoch = position.epoch;
        superblock.durable = position.lsn;
        superblock.clean_tail = None;
    })?;
    remove_log(files)?;
    let of = Of { log_id: superblock.current().log_id, lsn: position.lsn };
    become_base(files, INSTALLING, of, snapshots_kept)
}

/// Removes all of the log, durably, and what is received.
fn remove_log(files: &Files) -> Result<()> {
    for name in super::open::list(&*files.disk)? {
        if is_of_log(&name) || name == STAGE {
            match files.disk.remove(&name) {
                // Whoever prepares a segment has given it another name just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => files.io("remove", &name, removed)?,
            }
        }
    }
    files.sync_dir()
}

/// Whether the file holds a part of the log, or is about one.
fn is_of_log(name: &str) -> bool {
    matches!(FileName::of(name), FileName::Segment(_) | FileName::Spare(_) | FileName::Extract(_))
}

/// Writes a file as a whole, durably, and gives it its name only then.
pub(super) fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<Arc<dyn File>> {
    let unfinished = format!("{name}{UNFINISHED}");
    let io = |doing| move |source| Error::io(doing, name, source);
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("remove")(error)),
        _ => {}
    }
    let file = disk.create(&unfinished).map_err(io("create"))?;
    file.write_at(bytes, 0).map_err(io("write"))?;
    file.sync().map_err(io("sync"))?;
    disk.rename(&unfinished, name).map_err(io("rename"))?;
    disk.sync_dir().map_err(io("sync"))?;
    Ok(file)
}
