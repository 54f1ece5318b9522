//! What a log holds, read in every way there is.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use annals::disk::{Disk, RealDisk};
use annals::repair::{Opening, Silent, Stretch, verify};
use annals::{Log, LogOptions};

use crate::account::{Account, mark_bytes};
use crate::failure::{Failure, Result};
use crate::trial::options;

/// All that a log shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The oldest record.
    pub first: u64,
    /// The newest one.
    pub last: u64,
    /// Every record from the first to the last.
    pub records: Vec<Vec<u8>>,
    /// The mark: its LSN and its bytes.
    pub mark: Option<(u64, Vec<u8>)>,
}

impl Found {
    /// Reads a whole log.
    ///
    /// # Errors
    /// What the log refuses, and what it must not look like.
    pub fn of(log: &Log) -> Result<Found> {
        let (first, last) = (log.first_lsn().get(), log.last_lsn().get());
        let mut records = Vec::new();
        let mut cursor = log.cursor(..).map_err(Failure::log("read"))?;
        while let Some(record) = cursor.next().map_err(Failure::log("read"))? {
            let expected = first + records.len() as u64;
            if record.lsn().get() != expected {
                return Err(Failure::Broken(format!("record {} came for {expected}", record.lsn())));
            }
            records.push(record.to_vec());
        }
        if first + records.len() as u64 != last + 1 {
            let told = format!("{} records for {first} to {last}", records.len());
            return Err(Failure::Broken(told));
        }
        let mark = log.mark().map(|mark| (mark.lsn.get(), mark.bytes));
        Ok(Found { first, last, records, mark })
    }

    /// Which of two marks it is.
    pub(crate) fn mark_number(&self, seed: u64, known: [Option<(u64, u64)>; 2]) -> Option<(u64, u64)> {
        let mut known = known.into_iter().flatten();
        let bytes = |number| mark_bytes(seed, number);
        known.find(|&(lsn, number)| self.mark.as_ref() == Some(&(lsn, bytes(number))))
    }
}

/// A log that a trial has left, and where it can be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Examination<'a> {
    /// The log as it was left.
    pub left: &'a Path,
    /// A directory for a copy, which is opened; made, and removed if all is well. Without it, the log is opened
    /// where it is.
    pub copy: Option<&'a Path>,
    /// The seed of the account and of the options to open it with.
    pub seed: u64,
    /// The round that has left it.
    pub round: u32,
}

impl Examination<'_> {
    /// Looks at the log as it was left without opening it, then opens it or a copy of it twice, and compares all of
    /// that with the account.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn against(&self, account: &Account) -> Result<Found> {
        let verified = verify_unopened(self.left, account.acknowledged())?;
        let opened = self.copy.unwrap_or(self.left);
        if let Some(copy) = self.copy {
            copy_dir(self.left, copy).map_err(Failure::io("copy the log"))?;
        }
        let found = open_twice(&options(opened, self.seed, self.round), opened)?;
        account.check(&found).map_err(|wrong| Failure::Broken(format!("the opened log {wrong}")))?;
        verify_closed(opened)?;
        if let Some(last) = verified.filter(|&last| last != found.last) {
            let told = format!("verify says that the log ends at {last}, but open at {}", found.last);
            return Err(Failure::Broken(told));
        }
        if let Some(copy) = self.copy {
            fs::remove_dir_all(copy).map_err(Failure::io("remove a copy"))?;
        }
        Ok(found)
    }
}

/// Has the library's repair room look at a log that was opened and closed: whatever a crash has left is put right.
fn verify_closed(dir: &Path) -> Result<()> {
    let disk = RealDisk::open(dir).map_err(Failure::io("open the log's directory"))?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let report = verify(&disk, 1, &Silent).map_err(Failure::log("verify"))?;
    if report.is_whole() {
        return Ok(());
    }
    let told = format!("verify, after a clean end: {:?}, {:?}", report.opening, report.stretches);
    Err(Failure::Broken(told))
}

/// Has the library's repair room look at every byte of a log that nobody has opened since it was left: nothing
/// acknowledged may be lost, and it has to say that the log opens. Gives the newest record, or `None` if there is
/// no log yet.
///
/// # Errors
/// What it says that is wrong.
pub fn verify_unopened(left: &Path, acknowledged: u64) -> Result<Option<u64>> {
    let disk = RealDisk::open(left).map_err(Failure::io("open the log's directory"))?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let report = match verify(&disk, 1, &Silent) {
        Ok(report) => report,
        // It ended before there was one.
        Err(annals::Error::NotALog) if acknowledged == 0 => return Ok(None),
        Err(error) => return Err(Failure::Log { doing: "verify", source: error }),
    };
    if let Opening::Refuses(error) = &report.opening {
        return Err(Failure::Broken(format!("verify says that open refuses: {error}")));
    }
    // A footer or a slot of the superblock that was being written cannot be told from one that has rotted since:
    // that is for the open to put right.
    let is_at_stake = |stretch: &Stretch| stretch.lsns.is_some() && stretch.is_acknowledged;
    if !report.lost.is_empty() || !report.given_up.is_empty() || report.stretches.iter().any(is_at_stake) {
        let told = format!("verify: lost {:?}, {:?}", report.lost, report.stretches);
        return Err(Failure::Broken(told));
    }
    Ok(Some(report.last_lsn.get()))
}

/// Opens the log, reads it, closes it, and does so again: nothing may have changed.
fn open_twice(options: &LogOptions, dir: &Path) -> Result<Found> {
    let log = options.clone().open().map_err(Failure::log("open"))?;
    let found = Found::of(&log)?;
    log.close().map_err(Failure::log("close"))?;
    let log = options.clone().open().map_err(Failure::log("open again"))?;
    let again = Found::of(&log)?;
    let ends = |first, last| format!("holds {first} to {last}, not {} to {}", found.first, found.last);
    if again != found {
        return Err(Failure::Broken(format!("the log, opened again, {}", ends(again.first, again.last))));
    }
    log.close().map_err(Failure::log("close"))?;
    let reader = LogOptions::new(dir).open_read_only().map_err(Failure::log("open for reading"))?;
    let (first, last) = (reader.first_lsn().get(), reader.last_lsn().get());
    if (first, last) != (found.first, found.last) {
        return Err(Failure::Broken(format!("the log, opened for reading, {}", ends(first, last))));
    }
    Ok(found)
}

/// Copies a directory of files.
///
/// # Errors
/// Whatever the operating system says.
pub fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

impl Account {
    /// Opens the copies that the trial has made or begun: one that was finished has to be whole, and one that was
    /// not is either no log or whole, too.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn check_copies(&self, dir: &Path) -> Result<()> {
        for copy in self.copies() {
            let dir = dir.join(copy.number.to_string());
            if copy.newest.is_none() && !dir.join("superblock").exists() {
                if LogOptions::new(&dir).open_read_only().is_ok() {
                    return Err(Failure::Broken(format!("a copy without a superblock opens: {copy:?}")));
                }
                continue;
            }
            let log = LogOptions::new(&dir)
                .segment_bytes(1 << 20)
                .open()
                .map_err(Failure::log("open a copy of"))?;
            let found = Found::of(&log)?;
            self.check_copy(copy, &found).map_err(|wrong| Failure::Broken(format!("a copy {wrong}")))?;
            log.close().map_err(Failure::log("close a copy of"))?;
        }
        Ok(())
    }
}
