//! Telling a disk that is away for a while from one that has lost something: what cannot be read now is given up only when it
//! cannot be read later either, and other things can (S11).
//!
//! Else a controller that starts again, or a path that is switched over, would cost all that was on the disk: put aside, and
//! to be fetched from peers that may have met the same.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::open::list;
use super::snapshots::open as open_file;
use super::source::find_readable;
use crate::disk::{Access, Disk, File, Gentle};
use crate::error::{Error, Result};
use crate::format::BLOCK_BYTES;
use crate::repair::{self, Cause, Report, Silent, Stretch};

/// How long a disk gets to come back, before what could not be read is looked at again.
const REST: Duration = Duration::from_secs(5);
/// Looks at the whole log until one has met nothing that the one before it had not.
const LOOKS_MAX: usize = 5;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Reads every byte of the log. Where something could not be read, again after a while, until nothing else cannot be read.
///
/// # Errors
/// As for [`is_there`], also if other parts cannot be read each time; and whatever the operating system says.
pub(super) fn look(disk: &Arc<dyn Disk>) -> Result<Report> {
    let mut report = repair::verify(disk, 1, &Silent)?;
    for _ in 1..LOOKS_MAX {
        if unreadable(&report).next().is_none() {
            return Ok(report);
        }
        rest(&**disk);
        is_there(&**disk)?;
        let again = repair::verify(disk, 1, &Silent)?;
        // Each of these could not be read twice, with a rest in between.
        if unreadable(&again).all(|bad| unreadable(&report).any(|before| is_within(bad, before))) {
            return Ok(again);
        }
        report = again;
    }
    Err(away(io::Error::other("some of it can be read now and then")))
}

fn unreadable(report: &Report) -> impl Iterator<Item = (&str, u64, u64)> {
    let bad = report.stretches.iter().filter(|stretch| stretch.cause == Cause::Unreadable);
    bad.map(|Stretch { file, bytes, .. }| (&**file, bytes.start, bytes.end))
}

fn is_within((file, start, end): (&str, u64, u64), of: (&str, u64, u64)) -> bool {
    file == of.0 && of.1 <= start && end <= of.2
}

/// Waits for what may pass.
pub(super) fn rest(disk: &dyn Disk) {
    let end = Instant::now() + if disk.simulated() { Duration::ZERO } else { REST };
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Whether anything can be read, past the page cache: the ends of all files are tried.
///
/// # Errors
/// If nothing can: the disk is away, or dead; and whatever the operating system says.
pub(super) fn is_there(disk: &dyn Disk) -> Result<()> {
    let mut met = None;
    let mut block = vec![0; BLOCK_BYTES];
    for name in list(disk)? {
        let Some(file) = open_file(disk, &name, Access::Read)? else { continue };
        let end = file.bytes().map_err(|source| Error::io("look at", &name, source))?;
        let file = Gentle::new(file);
        for at in [0, end.saturating_sub(1) / BLOCK * BLOCK] {
            match file.read_at(&mut block, at) {
                // Nothing is there to be read.
                Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(error) => met = Some(error),
            }
        }
    }
    met.map_or(Ok(()), |error| Err(away(error)))
}

/// Finds something; what cannot be read, again and after a rest, does not check, if other things can be read.
///
/// # Errors
/// As for [`is_there`], and whatever else the operating system says.
pub(crate) fn find_while_there<T>(
    disk: &dyn Disk,
    find: impl Fn() -> Result<Option<T>>,
) -> Result<Option<T>> {
    if let Some(found) = find_readable(disk, &find)? {
        return Ok(Some(found));
    }
    // It may have been away.
    is_there(disk)?;
    find_readable(disk, find)
}

/// The error for a disk of which nothing can be told.
fn away(met: io::Error) -> Error {
    let text =
        format!("the disk seems to be away ({met}); nothing was given up: try again once it can be read");
    Error::io("read", "", io::Error::new(met.kind(), text))
}
