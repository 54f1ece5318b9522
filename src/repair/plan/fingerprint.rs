//! What tells that a directory is still as it was when it was looked at.

use std::collections::BTreeMap;

use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, GROUP_HEADER_BYTES, HEADER_BLOCK_BYTES, SLOT_BYTES, SegmentHeader, Superblock, crc32,
};
use crate::repair::report::{FileRole, Report, SlotReport};
use crate::segment::{FileName, SUPERBLOCK};

/// The files of a log, each with its length and a checksum over what every change of a log changes: the superblock,
/// and the first and the last blocks of segments. Whoever opens a log for writing writes its superblock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fingerprint(BTreeMap<String, Print>);

/// One file. The sum is over each part that can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Print {
    bytes: u64,
    sums: Vec<Option<u32>>,
}

impl Fingerprint {
    /// Of the directory as it is.
    ///
    /// # Errors
    /// Whatever the operating system says of the directory, or of opening a file.
    pub(super) fn take(disk: &dyn Disk) -> Result<Fingerprint> {
        let names = disk.list().map_err(|source| Error::io("list files", "", source))?;
        let of_log = names.into_iter().filter(|name| is_of_log(name));
        let prints = of_log.map(|name| Print::take(disk, &name).map(|print| (name, print)));
        prints.collect::<Result<_>>().map(Fingerprint)
    }

    /// The length of a file, if there is such a file.
    pub(super) fn bytes_of(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|print| print.bytes)
    }

    /// The files and their lengths.
    fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, print)| (name.as_str(), print.bytes))
    }

    /// # Errors
    /// [`Error::Outdated`] for the first file that is not the same.
    pub(super) fn check(&self, now: &Fingerprint) -> Result<()> {
        let names = self.0.keys().chain(now.0.keys());
        match names.into_iter().find(|name| self.0.get(*name) != now.0.get(*name)) {
            Some(name) => Err(outdated(name)),
            None => Ok(()),
        }
    }

    /// Refuses a report that is about another state of the directory.
    ///
    /// # Errors
    /// [`Error::Outdated`] for a file that is not what the report says; whatever the operating system says.
    pub(super) fn check_report(&self, disk: &dyn Disk, report: &Report) -> Result<()> {
        let segments = report.segments.iter().map(|segment| (&*segment.file, segment.bytes));
        let strays = report.strays.iter().filter(|stray| {
            !matches!(stray.role, FileRole::Lock | FileRole::Quarantine | FileRole::Unfinished)
        });
        let strays = strays.map(|stray| (&*stray.file, stray.bytes));
        let told: BTreeMap<&str, u64> = segments.chain(strays).filter(|(name, _)| is_of_log(name)).collect();
        let found: BTreeMap<&str, u64> = self.files().filter(|(name, _)| *name != SUPERBLOCK).collect();
        if let Some(name) = told.keys().chain(found.keys()).find(|name| told.get(*name) != found.get(*name)) {
            return Err(outdated(name));
        }
        let is_same = report.superblock.exists == self.0.contains_key(SUPERBLOCK);
        if !is_same || !has_same_slots(disk, report)? {
            return Err(outdated(SUPERBLOCK));
        }
        for segment in &report.segments {
            // One that does not check may be what the report says of it.
            let header = read(disk, &segment.file, (0, HEADER_BLOCK_BYTES))?;
            let header = header.and_then(|block| SegmentHeader::decode(&block).ok());
            if header.is_some_and(|header| header.incarnation != segment.header.incarnation) {
                return Err(outdated(&segment.file));
            }
        }
        Ok(())
    }
}

impl Print {
    fn take(disk: &dyn Disk, name: &str) -> Result<Print> {
        let file = disk.open(name, Access::Read).map_err(|source| Error::io("open", name, source))?;
        let bytes = file.bytes().map_err(|source| Error::io("look at", name, source))?;
        let last = bytes.saturating_sub(BLOCK_BYTES as u64);
        let parts: &[(u64, usize)] = match FileName::of(name) {
            // One slot may be unreadable, and the other one not.
            FileName::Superblock => &[(0, SLOT_BYTES), (SLOT_BYTES as u64, SLOT_BYTES)],
            FileName::Segment(_) | FileName::Spare(_) => {
                &[(0, HEADER_BLOCK_BYTES + GROUP_HEADER_BYTES), (last, BLOCK_BYTES)]
            }
            _ => &[],
        };
        let sum_of = |(at, length): &(u64, usize)| {
            let mut part = vec![0; *length];
            file.read_at(&mut part, *at).ok().map(|there| crc32(&part[..there]))
        };
        Ok(Print { bytes, sums: parts.iter().map(sum_of).collect() })
    }
}

/// Whether a file is a part of the log, or could be taken for one.
fn is_of_log(name: &str) -> bool {
    matches!(FileName::of(name), FileName::Superblock | FileName::Segment(_) | FileName::Spare(_))
}

fn has_same_slots(disk: &dyn Disk, report: &Report) -> Result<bool> {
    if !report.superblock.exists {
        return Ok(true);
    }
    // Slot by slot: one may be unreadable, and the other one not.
    let slot = |number: usize| read(disk, SUPERBLOCK, ((number * SLOT_BYTES) as u64, SLOT_BYTES));
    let slots = [slot(0)?.unwrap_or_default(), slot(1)?.unwrap_or_default()];
    let is_same = |(number, slot): (usize, &SlotReport)| match slot {
        SlotReport::Sound(superblock) => {
            Superblock::decode(&slots[number], number).ok().as_ref() == Some(&**superblock)
        }
        SlotReport::Bad(..) => Superblock::decode(&slots[number], number).is_err(),
    };
    Ok(report.superblock.slots.iter().enumerate().all(is_same))
}

/// A part of a file, as much of it as there is; `None` if it cannot be read.
fn read(disk: &dyn Disk, name: &str, (at, length): (u64, usize)) -> Result<Option<Vec<u8>>> {
    let file = disk.open(name, Access::Read).map_err(|source| Error::io("open", name, source))?;
    let mut bytes = vec![0; length];
    let there = file.read_at(&mut bytes, at).ok();
    Ok(there.map(|there| {
        bytes.truncate(there);
        bytes
    }))
}

fn outdated(name: &str) -> Error {
    Error::Outdated { file: name.into() }
}
