//! Snapshots: the base of the log, and one that is being received (S9).

use std::io;
use std::sync::Arc;

use super::ReplicaStore;
use super::part::Part;
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{BadBlock, Chunk, Digest, SnapshotHead, crc32, write_chunk};
use crate::log::recover::{Begin, begin_first};
use crate::log::store::Files;
use crate::log::superblock_file::{Copies, SuperblockFile};
use crate::node::frames::digest;
use crate::protocol::{Base, EpochHistory, Position, SnapshotId, SnapshotOffer, Staged, wire};
use crate::segment::{FileName, SUPERBLOCK};
use crate::types::LogId;

/// The name of the base's file.
pub(super) const BASE: &str = "base";
/// Its name while it is switched to, until the log before it is dropped.
pub(super) const INSTALLING: &str = "installing";
/// The name of what is received.
const STAGE: &str = "stage";

/// The base as it is stored.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) base: Base,
    /// Where the application's bytes begin in the file.
    application_at: u64,
    pub(super) application_bytes: u64,
}

/// Snapshots that were replaced by newer ones. Their files have lost their names: they go with the process.
#[derive(Default)]
pub(super) struct Older {
    /// Those that are to be kept when they are replaced.
    wanted: Vec<SnapshotId>,
    kept: Vec<(Snapshot, Arc<dyn File>)>,
}

/// A snapshot that is received.
#[derive(Debug)]
pub(super) struct Stage {
    offer: SnapshotOffer,
    file: Arc<dyn File>,
    /// Where the next chunk goes.
    end: u64,
    /// Bytes of the application's part that are there.
    staged: u64,
}

impl Stage {
    pub(super) fn progress(&self) -> Staged {
        Staged { snapshot: self.offer.id(), bytes: self.staged }
    }
}

impl ReplicaStore {
    /// The application's bytes that go with the base.
    ///
    /// # Errors
    /// [`Error::Rot`] if they do not check, and whatever the operating system says.
    pub fn application(&self) -> Result<Vec<u8>> {
        let bytes = read_whole(&*self.files.disk, BASE)?.unwrap_or_default();
        let damaged = |_| Error::Rot {
            file: BASE.into(),
            bytes: 0..bytes.len() as u64,
            first: self.base().position.lsn,
            last: self.base().position.lsn,
        };
        parse(&bytes).map(|(_, application)| application.to_vec()).map_err(damaged)
    }

    /// Stores a snapshot, durably, in the place of the one before.
    ///
    /// # Errors
    /// Whatever the operating system says.
    ///
    /// # Panics
    /// If records that it covers are not synced.
    pub fn take_snapshot(&mut self, base: &Base, application: &[u8]) -> Result<()> {
        assert!(base.position.lsn <= self.durable, "a snapshot is of what is durable");
        // So that the log is never found to end before its base.
        let durable = self.durable;
        self.superblock
            .update(Copies::Both, |superblock| superblock.durable = superblock.durable.max(durable))?;
        self.has_vouched();
        let log_id = self.superblock.current().log_id;
        let is_wanted = self.older.wanted.contains(&SnapshotId(self.base().position));
        let before = is_wanted.then(|| self.files.open(BASE, Access::Read)).transpose()?;
        let newest = store(&*self.files.disk, log_id, BASE, (base, application))?;
        let replaced = std::mem::replace(&mut self.snapshot, newest);
        self.older.kept.extend(before.map(|file| (replaced, file)));
        Ok(())
    }

    /// Of the snapshots that are replaced by newer ones, keeps these readable, until the store is dropped.
    pub fn keep_snapshots(&mut self, wanted: &[SnapshotId]) {
        self.older.kept.retain(|(kept, _)| wanted.contains(&SnapshotId(kept.base.position)));
        self.older.wanted = wanted.to_vec();
    }

    /// A part of the snapshot's application bytes with its digest; `None` if this is not the base any more, nor
    /// [kept](ReplicaStore::keep_snapshots).
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn read_snapshot(
        &self,
        snapshot: SnapshotId,
        offset: u64,
        bytes_max: u32,
    ) -> Result<Option<(Vec<u8>, u64)>> {
        let is_it = |there: &Snapshot| snapshot == SnapshotId(there.base.position);
        let (read, file) = match self.older.kept.iter().find(|(kept, _)| is_it(kept)) {
            Some((kept, file)) => (kept, Arc::clone(file)),
            None if is_it(&self.snapshot) => (&self.snapshot, self.files.open(BASE, Access::Read)?),
            None => return Ok(None),
        };
        let Some(left) = read.application_bytes.checked_sub(offset) else { return Ok(None) };
        let bytes = left.min(u64::from(bytes_max));
        let mut part = vec![0; usize::try_from(bytes).expect("fits 32 bits")];
        let there = file.read_at(&mut part, read.application_at + offset);
        part.truncate(self.files.io("read", BASE, there)?);
        let digest = digest(&part);
        Ok(Some((part, digest)))
    }

    /// Begins to stage a snapshot, durably and from nothing; what was staged is dropped.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn stage(&mut self, offer: &SnapshotOffer) -> Result<()> {
        let head = head_of(self.superblock.current().log_id, offer);
        let bytes = head.encode();
        self.stage = None;
        let file = write_whole(&*self.files.disk, STAGE, &bytes)?;
        self.stage = Some(Stage { offer: offer.clone(), file, end: bytes.len() as u64, staged: 0 });
        Ok(())
    }

    /// Puts the next chunk into the stage, durably, and returns how many bytes are there then. `None`, with nothing
    /// changed, if its bytes do not give the digest, it does not begin where the stage ends, or is of another snapshot.
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
        let is_next = stage.offer.id() == snapshot && offset == stage.staged && staged <= stage.offer.bytes;
        if !is_next || digest(bytes) != stated {
            return Ok(None);
        }
        let chunk = write_chunk(offset, bytes);
        self.files.io("write", STAGE, stage.file.write_at(&chunk, stage.end))?;
        self.files.io("sync", STAGE, stage.file.sync())?;
        stage.end += chunk.len() as u64;
        stage.staged = staged;
        Ok(Some(staged))
    }

    /// Makes the staged snapshot the base, and drops the log: the next record is the one after it (S9).
    ///
    /// # Errors
    /// Whatever the operating system says.
    ///
    /// # Panics
    /// If the snapshot is not staged as a whole.
    pub fn install(&mut self, snapshot: SnapshotId) -> Result<()> {
        let stage = self.stage.take().expect("a snapshot is staged");
        let Stage { offer, staged, .. } = &stage;
        assert!(offer.id() == snapshot && *staged == offer.bytes, "the snapshot is staged as a whole");
        let bytes = read_whole(&*self.files.disk, STAGE)?.unwrap_or_default();
        let application = chunks_of(&bytes).map_or_else(Vec::new, |(_, chunks)| {
            chunks.into_iter().flat_map(|chunk| chunk.bytes).copied().collect()
        });
        if application.len() as u64 != offer.bytes {
            let (first, last) = (offer.base.position.lsn, offer.base.position.lsn);
            return Err(Error::Rot { file: STAGE.into(), bytes: 0..bytes.len() as u64, first, last });
        }
        let log_id = self.superblock.current().log_id;
        self.snapshot = store(&*self.files.disk, log_id, INSTALLING, (&offer.base, &application))?;
        let position = offer.base.position;
        let segment_id = self.tail().header.segment_id.next();
        self.parts.clear();
        drop_log(&self.files, &mut self.superblock, position)?;
        self.history = EpochHistory::new(position);
        self.durable = position.lsn;
        self.vouched = (position.lsn, position.lsn);
        let (first_lsn, epoch) = (position.lsn.next(), position.epoch);
        let begin = Begin { log_id, segment_id, first_lsn, epoch, previous_digest: Digest::ZERO };
        let tail = begin_first(&*self.files.disk, self.spare(0)?, &begin)?;
        self.parts.push(Part::of_tail(&tail));
        self.last_block.clear();
        Ok(())
    }
}

/// Finishes the switch to a snapshot that a crash has cut short.
pub(super) fn finish_install(disk: &Arc<dyn Disk>) -> Result<()> {
    let Some(bytes) = read_whole(&**disk, INSTALLING)? else { return Ok(()) };
    // What does not check is found so again when it is read as the base.
    let Ok((snapshot, _)) = parse(&bytes) else { return Ok(()) };
    let Some(found) = SuperblockFile::read(&**disk)? else { return Ok(()) };
    let mut superblock = SuperblockFile::open(&**disk, found.superblock)?;
    let files = Files::new(Arc::clone(disk), superblock.current().write_method, 0);
    drop_log(&files, &mut superblock, snapshot.base.position)
}

/// Drops the log before and after a snapshot that is switched to, and makes that the base. Each step may be done
/// again.
fn drop_log(files: &Files, superblock: &mut SuperblockFile, position: Position) -> Result<()> {
    superblock.update(Copies::Both, |superblock| {
        superblock.first_lsn = position.lsn.next();
        superblock.trimmed_epoch = position.epoch;
        superblock.durable = position.lsn;
        superblock.clean_tail = None;
    })?;
    for name in super::open::list(&*files.disk)? {
        if matches!(FileName::of(&name), FileName::Segment(_) | FileName::Spare(_)) || name == STAGE {
            files.remove(&name)?;
        }
    }
    files.sync_dir()?;
    files.rename(INSTALLING, BASE)?;
    files.sync_dir()
}

/// Stores a snapshot under this name, which it has as a whole or not at all.
pub(super) fn store(
    disk: &dyn Disk,
    log_id: LogId,
    name: &str,
    (base, application): (&Base, &[u8]),
) -> Result<Snapshot> {
    let offer = SnapshotOffer { base: Arc::new(base.clone()), bytes: application.len() as u64 };
    let head = SnapshotHead { application_checksum: crc32(application), ..head_of(log_id, &offer) };
    let mut bytes = head.encode();
    bytes.extend_from_slice(application);
    write_whole(disk, name, &bytes)?;
    let (application_at, application_bytes) = (head.bytes(), offer.bytes);
    Ok(Snapshot { base: base.clone(), application_at, application_bytes })
}

/// Reads the base; `None` if there is none of this log that checks.
pub(super) fn read_base(disk: &dyn Disk, log_id: LogId) -> Result<Option<Snapshot>> {
    let Some(bytes) = read_whole(disk, BASE)? else { return Ok(None) };
    let own =
        parse(&bytes).ok().filter(|_| SnapshotHead::decode(&bytes).is_ok_and(|head| head.log_id == log_id));
    Ok(own.map(|(snapshot, _)| snapshot))
}

/// Reads what is received, as far as it checks; `None` if there is nothing.
pub(super) fn read_stage(disk: &dyn Disk, log_id: LogId) -> Result<Option<Stage>> {
    let Some(bytes) = read_whole(disk, STAGE)? else { return Ok(None) };
    let Some((head, chunks)) = chunks_of(&bytes).filter(|(head, _)| head.log_id == log_id) else {
        return Ok(None);
    };
    let Ok(offer) = wire::decode_offer(&head.state) else { return Ok(None) };
    let file = disk.open(STAGE, Access::ReadWrite).map_err(|source| Error::io("open", STAGE, source))?;
    let end = head.bytes() + chunks.iter().map(Chunk::stored_bytes).sum::<u64>();
    let staged = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
    // A sync of it may have failed, and left it in memory only as if it were on the disk (S12).
    let whole = &bytes[..usize::try_from(end).expect("a place in memory")];
    file.write_at(whole, 0).map_err(|source| Error::io("write", STAGE, source))?;
    file.sync().map_err(|source| Error::io("sync", STAGE, source))?;
    Ok(Some(Stage { offer, file, end, staged }))
}

fn head_of(log_id: LogId, offer: &SnapshotOffer) -> SnapshotHead {
    let mut state = Vec::new();
    wire::encode_offer(offer, &mut state);
    SnapshotHead { log_id, application_bytes: offer.bytes, application_checksum: 0, state }
}

/// The parts of a snapshot's file.
fn parse(bytes: &[u8]) -> std::result::Result<(Snapshot, &[u8]), BadBlock> {
    let head = SnapshotHead::decode(bytes)?;
    let application = &bytes[usize::try_from(head.bytes()).expect("a place in memory")..];
    let is_whole =
        application.len() as u64 == head.application_bytes && crc32(application) == head.application_checksum;
    let offer = wire::decode_offer(&head.state).map_err(|_| BadBlock::Damaged)?;
    if !is_whole || offer.bytes != head.application_bytes {
        return Err(BadBlock::Damaged);
    }
    let (application_at, application_bytes) = (head.bytes(), offer.bytes);
    Ok((Snapshot { base: (*offer.base).clone(), application_at, application_bytes }, application))
}

/// The head of what is received, and its chunks as far as they check and follow one another.
fn chunks_of(bytes: &[u8]) -> Option<(SnapshotHead, Vec<Chunk<'_>>)> {
    let head = SnapshotHead::decode(bytes).ok()?;
    let mut rest = &bytes[usize::try_from(head.bytes()).ok()?..];
    let mut chunks = Vec::new();
    let mut staged = 0;
    while let Ok(chunk) = Chunk::parse(rest) {
        // Zeros after the end are an empty chunk that checks.
        if chunk.offset != staged || chunk.bytes.is_empty() {
            break;
        }
        staged += chunk.bytes.len() as u64;
        rest = &rest[usize::try_from(chunk.stored_bytes()).ok()?..];
        chunks.push(chunk);
    }
    (staged <= head.application_bytes).then_some((head, chunks))
}

/// Writes a file as a whole, durably, and gives it its name only then.
fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<Arc<dyn File>> {
    assert!(name != SUPERBLOCK, "the superblock has two slots");
    let unfinished = format!("{name}.tmp");
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

/// Reads a file as a whole; `None` if there is none.
fn read_whole(disk: &dyn Disk, name: &str) -> Result<Option<Vec<u8>>> {
    let io = |doing| move |source| Error::io(doing, name, source);
    let file = match disk.open(name, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io("open"))?,
    };
    let length = file.bytes().map_err(io("look at"))?;
    let mut bytes = vec![0; usize::try_from(length).expect("a file that fits in memory")];
    let there = file.read_at(&mut bytes, 0).map_err(io("read"))?;
    bytes.truncate(there);
    Ok(Some(bytes))
}
