//! A disk that can be made sick while a replica runs on it: real files, and now and then no writes.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use annals::WriteMethod;
use annals::disk::{Access, Disk, DurableWriter, File, Holder, Lock, Map, RealDisk};
use serde::{Deserialize, Serialize};

/// What ails a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Sickness {
    /// Nothing.
    #[default]
    Well,
    /// It does not answer: whoever asks it for anything waits until it is well again.
    Stalled,
    /// No file grows.
    Full,
    /// Whatever writes or syncs fails.
    Failing,
    /// Nothing can be changed.
    ReadOnly,
}

/// What was written durably: each a write and a sync in one, as a log's groups are.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) syncs: u64,
    pub(crate) bytes: u64,
    /// How; empty before the first.
    pub(crate) method: String,
}

/// How a disk is, for all who use it, and what they have written.
#[derive(Debug, Default)]
pub(crate) struct Ward {
    sickness: Mutex<Sickness>,
    changed: Condvar,
    written: Mutex<Written>,
}

impl Ward {
    /// From now on it is like this.
    pub(crate) fn set(&self, sickness: Sickness) {
        *self.sickness.lock().unwrap_or_else(PoisonError::into_inner) = sickness;
        self.changed.notify_all();
    }

    /// What was written durably so far.
    pub(crate) fn written(&self) -> Written {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, bytes: usize, method: WriteMethod) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.syncs += 1;
        written.bytes += bytes as u64;
        if written.method.is_empty() {
            written.method = method.to_string();
        }
    }

    /// How it is; waits while it is stalled.
    fn answer(&self) -> Sickness {
        let sickness = self.sickness.lock().unwrap_or_else(PoisonError::into_inner);
        let stalls = |sickness: &mut Sickness| *sickness == Sickness::Stalled;
        *self.changed.wait_while(sickness, stalls).unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something may be changed. `grows`: whether it takes room.
    fn admit(&self, grows: bool) -> io::Result<()> {
        match self.answer() {
            Sickness::Full if grows => Err(ErrorKind::StorageFull.into()),
            Sickness::Failing => Err(io::Error::other("made to fail")),
            Sickness::ReadOnly => Err(ErrorKind::ReadOnlyFilesystem.into()),
            Sickness::Well | Sickness::Stalled | Sickness::Full => Ok(()),
        }
    }
}

/// Real files in a directory, on a disk that may be sick.
pub(crate) struct SickDisk {
    files: RealDisk,
    ward: Arc<Ward>,
}

impl SickDisk {
    /// The directory, which has to be there.
    pub(crate) fn open(dir: &Path) -> io::Result<(SickDisk, Arc<Ward>)> {
        let ward = Arc::new(Ward::default());
        Ok((SickDisk { files: RealDisk::open(dir)?, ward: Arc::clone(&ward) }, ward))
    }

    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SickFile { file, ward: Arc::clone(&self.ward) })
    }
}

impl fmt::Debug for SickDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl Disk for SickDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.ward.answer();
        self.files.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.ward.admit(true)?;
        self.files.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.ward.answer();
        self.files.open(name, access).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.ward.admit(false)?;
        self.files.rename(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.ward.admit(true)?;
        self.files.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.ward.admit(false)?;
        self.files.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.ward.admit(false)?;
        self.files.sync_dir()
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.files.lock(name)
    }

    fn holder(&self, name: &str) -> io::Result<Holder> {
        self.files.holder(name)
    }

    fn entropy(&self) -> u64 {
        self.files.entropy()
    }

    fn wall_ms(&self) -> u64 {
        self.files.wall_ms()
    }
}

#[derive(Debug)]
struct SickFile {
    file: Arc<dyn File>,
    ward: Arc<Ward>,
}

impl File for SickFile {
    fn bytes(&self) -> io::Result<u64> {
        self.ward.answer();
        self.file.bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.ward.answer();
        self.file.read_at(buf, offset)
    }

    fn will_read(&self, bytes: Range<u64>) {
        self.file.will_read(bytes);
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let grows = offset + buf.len() as u64 > self.file.bytes()?;
        self.ward.admit(grows)?;
        self.file.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.ward.admit(false)?;
        self.file.sync()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.ward.admit(true)?;
        self.file.allocate(bytes)
    }

    fn write_zeroes(&self, bytes: u64) -> io::Result<bool> {
        self.ward.admit(false)?;
        self.file.write_zeroes(bytes)
    }

    fn map(&self) -> io::Result<Arc<Map>> {
        self.ward.answer();
        self.file.map()
    }

    fn writer(&self, method: WriteMethod) -> io::Result<Box<dyn DurableWriter>> {
        let writer = self.file.writer(method)?;
        Ok(Box::new(SickWriter { writer, method, ward: Arc::clone(&self.ward) }))
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        self.file.try_lock(exclusive)
    }
}

#[derive(Debug)]
struct SickWriter {
    writer: Box<dyn DurableWriter>,
    method: WriteMethod,
    ward: Arc<Ward>,
}

impl DurableWriter for SickWriter {
    fn write_durable(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        self.ward.admit(false)?;
        self.writer.write_durable(blocks, offset)?;
        self.ward.note(blocks.len(), self.method);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a block has to lie.
    #[repr(align(4096))]
    struct Block([u8; 4096]);

    #[test]
    fn what_is_written_durably_is_counted_unless_it_fails() {
        let dir = std::env::temp_dir().join(format!("log-bench-written-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (disk, ward) = SickDisk::open(&dir).unwrap();
        let file = disk.create("one").unwrap();
        file.allocate(8192).unwrap();
        let (writer, block) = (file.writer(WriteMethod::Buffered).unwrap(), Block([7; 4096]));
        writer.write_durable(&block.0, 0).unwrap();
        ward.set(Sickness::Failing);
        writer.write_durable(&block.0, 0).unwrap_err();
        let method = WriteMethod::Buffered.to_string();
        assert_eq!(ward.written(), Written { syncs: 1, bytes: 4096, method });
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// It said that no file can have two names, so that no replica of a bench or an ordeal kept a snapshot.
    #[test]
    fn a_file_gets_a_second_name_unless_the_disk_is_sick() {
        let dir = std::env::temp_dir().join(format!("log-bench-sick-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (disk, ward) = SickDisk::open(&dir).unwrap();
        disk.create("one").unwrap();
        for (sickness, kind) in [
            (Sickness::Full, ErrorKind::StorageFull),
            (Sickness::Failing, ErrorKind::Other),
            (Sickness::ReadOnly, ErrorKind::ReadOnlyFilesystem),
        ] {
            ward.set(sickness);
            assert_eq!(disk.link("one", "two").unwrap_err().kind(), kind);
        }
        ward.set(Sickness::Well);
        disk.link("one", "two").unwrap();
        let names = disk.list().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(names, ["one", "two"]);
    }
}
