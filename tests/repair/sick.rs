//! Disks that are strange in one way: blocks that cannot be read, always the same ones; a file that moves.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use annals::WriteMethod;
use annals::disk::sim::SimDisk;
use annals::disk::{Access, Disk, DurableWriter, File, Holder, Lock, Map};
use annals::repair::{self, Cause, Silent, Step};

use crate::logs::{large, segments, verified};
use crate::support::{Known, SLOT_BYTES, SUPERBLOCK, files, is_as, shared, verify};

/// A disk that is strange in one way.
#[derive(Debug)]
struct Sick {
    disk: SimDisk,
    sickness: Sickness,
}

#[derive(Debug)]
enum Sickness {
    /// It cannot read a part of one of its files. It can do so again under another name: the file is another one then, or
    /// has moved.
    Unreadable { file: &'static str, bytes: Range<u64> },
    /// As soon as the names have been listed a file gets another one, once.
    Moving(Mutex<Option<(String, String)>>),
}

impl Sick {
    fn disk(disk: &SimDisk, sickness: Sickness) -> Arc<dyn Disk> {
        Arc::new(Sick { disk: disk.clone(), sickness })
    }
}

#[derive(Debug)]
struct SickFile {
    file: Arc<dyn File>,
    bytes: Range<u64>,
}

impl Disk for Sick {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name, access)?;
        let bytes = match &self.sickness {
            Sickness::Unreadable { file, bytes } if name == *file => bytes.clone(),
            _ => 0..0,
        };
        Ok(Arc::new(SickFile { file, bytes }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let listed = self.disk.list();
        if let Sickness::Moving(names) = &self.sickness
            && let Some((from, to)) = names.lock().unwrap().take()
        {
            self.disk.rename(&from, &to)?;
        }
        listed
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.disk.lock(name)
    }

    fn holder(&self, name: &str) -> io::Result<Holder> {
        self.disk.holder(name)
    }

    fn entropy(&self) -> u64 {
        self.disk.entropy()
    }

    fn wall_ms(&self) -> u64 {
        self.disk.wall_ms()
    }
}

impl File for SickFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.bytes.end && self.bytes.start < offset + buf.len() as u64 {
            return Err(io::Error::other("simulated bad block"));
        }
        self.file.read_at(buf, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn write_zeroes(&self, bytes: u64) -> io::Result<bool> {
        self.file.write_zeroes(bytes)
    }

    fn map(&self) -> io::Result<Arc<Map>> {
        self.file.map()
    }

    fn writer(&self, method: WriteMethod) -> io::Result<Box<dyn DurableWriter>> {
        self.file.writer(method)
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        self.file.try_lock(exclusive)
    }
}

/// Both slots were read at once, so that a bad block in one of them made an error of a plan that had the other one.
#[test]
fn a_slot_that_cannot_be_read_does_not_hide_a_flipped_bit_in_the_other() {
    for slot in [0, SLOT_BYTES] {
        let known = Known::large(true);
        let disk = known.copy();
        let other = SLOT_BYTES - slot;
        disk.flip_bit(SUPERBLOCK, other + 100, 3);
        let flipped = files(&disk);
        let sick = Sick::disk(&disk, Sickness::Unreadable { file: SUPERBLOCK, bytes: slot..slot + 512 });
        let report = repair::verify(&sick, 1, &Silent).unwrap();
        assert!(report.stretches.iter().any(|stretch| stretch.cause == Cause::Unreadable), "{report:#?}");
        let plan = repair::plan(&*sick, &report).unwrap();
        let is_known = |step: &Step| matches!(step, Step::Superblock { is_from_segments: false });
        assert!(plan.steps.iter().any(is_known), "{plan:#?}");
        assert_eq!(plan.gives_up, []);
        repair::repair(&sick, &plan, None, &Silent).unwrap();
        let after = verify(&disk);
        assert!(after.is_whole(), "{after:#?}");
        known.check("repaired", &disk, (known.last(), &[]));
        repair::undo(&shared(&disk)).unwrap();
        is_as("undone", &disk, &flipped);
    }
}

/// Its newest records were overlooked, and the log called whole without them.
#[test]
fn a_segment_that_gets_its_name_meanwhile_is_seen_under_one_of_the_two() {
    let disk = large(false);
    let whole = verified(&disk);
    let (spare, named) = ("spare-000099.seg".to_owned(), segments(&disk).pop().unwrap());
    disk.rename(&named, &spare).unwrap();
    let moving = Sick::disk(&disk, Sickness::Moving(Mutex::new(Some((spare, named)))));
    let report = repair::verify(&moving, 2, &Silent).unwrap();
    assert_eq!((report.last_lsn, report.records), (whole.last_lsn, whole.records), "{report:#?}");
}
