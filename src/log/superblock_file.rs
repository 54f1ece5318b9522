//! The file of the superblock: two slots, written in turn.

use std::io;
use std::sync::Arc;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{self, BadBlock, SLOT_BYTES, SUPERBLOCK_BYTES, Superblock, choose_slot};
use crate::segment::SUPERBLOCK;

/// The superblock as it is on the disk, and the file to write the next one to.
///
/// Its owner sees to it that one thread at a time updates it.
#[derive(Debug)]
pub(crate) struct SuperblockFile {
    file: Arc<dyn File>,
    current: Superblock,
}

/// How many of the two slots have to hold a change before it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Copies {
    /// One: losing the slot later takes the log back to before the change, which does no harm.
    One,
    /// Both: what must not be forgotten even if one slot is damaged later, such as a trim or a vote.
    Both,
}

/// What is in the superblock's file.
#[derive(Debug)]
pub(crate) struct FoundSuperblock {
    pub(crate) superblock: Superblock,
    /// Whether a clean end may be believed: the other slot cannot have been newer.
    pub(crate) is_newest: bool,
}

/// Reads both slots. One that cannot be read is as one that does not check: the other may be whole, and what is in both
/// copies outlives one. With the error that this has met.
fn read_slots(file: &dyn File) -> (Vec<u8>, Option<io::Error>) {
    let mut bytes = vec![0; SUPERBLOCK_BYTES];
    if let Ok(there) = file.read_at(&mut bytes, 0) {
        bytes.truncate(there);
        return (bytes, None);
    }
    let mut failed = None;
    for (slot, position) in bytes.chunks_mut(SLOT_BYTES).zip((0..).step_by(SLOT_BYTES)) {
        if let Err(error) = file.read_at(slot, position) {
            // A blank slot is something else.
            slot.fill(!0);
            failed = Some(error);
        }
    }
    (bytes, failed)
}

impl SuperblockFile {
    /// Writes the first superblock of a new log, all of it or nothing, and makes its name durable.
    ///
    /// # Errors
    /// Whatever the operating system says; what is left behind does not look like a log.
    pub(crate) fn create(disk: &dyn Disk, first: Superblock) -> Result<SuperblockFile> {
        let unfinished = format!("{SUPERBLOCK}.tmp");
        let io = |doing| move |source| Error::io(doing, SUPERBLOCK, source);
        match disk.remove(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("create")(error)),
            _ => {}
        }
        let file = disk.create(&unfinished).map_err(io("create"))?;
        file.allocate(SUPERBLOCK_BYTES as u64).map_err(io("reserve space for"))?;
        let superblock = SuperblockFile { file, current: first };
        superblock.write(&superblock.current)?;
        disk.rename(&unfinished, SUPERBLOCK).map_err(io("rename"))?;
        disk.sync_dir().map_err(io("sync"))?;
        Ok(superblock)
    }

    /// Reads the superblock; `None` if the directory has no such file.
    ///
    /// # Errors
    /// [`Error::NewerVersion`], [`Error::SuperblockDamaged`], and whatever the operating system says.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<FoundSuperblock>> {
        let io = |doing| move |source| Error::io(doing, SUPERBLOCK, source);
        let file = match disk.open(SUPERBLOCK, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io("open"))?,
        };
        let (bytes, failed) = read_slots(&*file);
        match (choose_slot(&bytes), failed) {
            (Ok(chosen), _) => {
                Ok(Some(FoundSuperblock { superblock: chosen.superblock, is_newest: chosen.other_is_sound }))
            }
            (Err(BadBlock::Newer { found }), _) => {
                Err(Error::NewerVersion { found, supported: format::VERSION })
            }
            (Err(BadBlock::Blank | BadBlock::Damaged), Some(error)) => Err(io("read")(error)),
            (Err(BadBlock::Blank | BadBlock::Damaged), None) => Err(Error::SuperblockDamaged),
        }
    }

    /// Opens the file for updates of what [`read`](SuperblockFile::read) has found.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(crate) fn open(disk: &dyn Disk, current: Superblock) -> Result<SuperblockFile> {
        let file = disk.open(SUPERBLOCK, Access::ReadWrite);
        let file = file.map_err(|source| Error::io("open", SUPERBLOCK, source))?;
        Ok(SuperblockFile { file, current })
    }

    /// What is durable.
    pub(crate) fn current(&self) -> &Superblock {
        &self.current
    }

    /// Changes the superblock durably.
    ///
    /// # Errors
    /// Whatever the operating system says. What is on the disk is then unknown: the log is poisoned.
    pub(crate) fn update(&mut self, copies: Copies, change: impl FnOnce(&mut Superblock)) -> Result<()> {
        let mut next = self.current.clone();
        change(&mut next);
        assert!(next.log_id == self.current.log_id, "a log keeps its identity");
        assert!(next.sequence == self.current.sequence, "the sequence is the file's own");
        let slots = match copies {
            Copies::One => 1,
            Copies::Both => 2,
        };
        for _ in 0..slots {
            next.sequence += 1;
            self.write(&next)?;
            self.current = next.clone();
        }
        Ok(())
    }

    /// Writes the superblock as it is under numbers from `sequence` on, into both slots.
    ///
    /// # Errors
    /// Whatever the operating system says. What is on the disk is then unknown: the log is poisoned.
    #[cfg(any(feature = "quic", feature = "sim"))]
    pub(crate) fn skip_to(&mut self, sequence: u64) -> Result<()> {
        assert!(sequence > self.current.sequence, "the sequence only grows");
        // The first one goes to the slot whose turn it is: a torn write leaves the newest as it was.
        let skipped = (sequence - self.current.sequence) & !1;
        self.current.sequence += skipped;
        self.update(Copies::Both, |_| {})
    }

    fn write(&self, superblock: &Superblock) -> Result<()> {
        let mut bytes = vec![0; superblock.used_bytes()];
        superblock.encode_into(&mut bytes);
        let io = |doing| move |source| Error::io(doing, SUPERBLOCK, source);
        self.file.write_at(&bytes, superblock.position()).map_err(io("write"))?;
        self.file.sync().map_err(io("sync"))
    }
}
