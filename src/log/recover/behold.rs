//! Opening a log for reading only, maybe while somebody writes to it.

use std::sync::Arc;

use super::Beheld;
use super::chain::{Link, LinkEnd, segment_of};
use super::plan::{Newest, Plan, Scanned};
use super::survey::{Found, Looking};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::log::segments::Listed;
use crate::log::superblock_file::SuperblockFile;
use crate::segment::{Extent, Sealed};
use crate::types::Lsn;

/// How often a log that changes under the reader's eyes is looked at again.
const ATTEMPTS: usize = 16;

/// Looks at a log until it holds still for a moment, or is damaged beyond doubt.
///
/// # Errors
/// As for [`recover`](super::recover).
pub(super) fn behold(disk: &dyn Disk) -> Result<Beheld> {
    let mut before = Fingerprint::take(disk)?;
    for _ in 1..ATTEMPTS {
        let attempt = attempt(disk);
        let after = Fingerprint::take(disk)?;
        // A file that is just renamed may be under neither name for the reader, and with it the newest records.
        let held_still = match &attempt {
            Ok(_) => before.names == after.names,
            Err(_) => before == after,
        };
        if held_still {
            return attempt;
        }
        before = after;
    }
    attempt(disk)
}

/// What changes when a writer rolls, trims or truncates.
#[derive(PartialEq, Eq)]
struct Fingerprint {
    names: Vec<String>,
    /// The superblock's.
    sequence: u64,
}

impl Fingerprint {
    fn take(disk: &dyn Disk) -> Result<Fingerprint> {
        let mut names = disk.list().map_err(|source| Error::io("list files", "", source))?;
        names.sort();
        let sequence = SuperblockFile::read(disk)?.map_or(0, |found| found.superblock.sequence);
        Ok(Fingerprint { names, sequence })
    }
}

fn attempt(disk: &dyn Disk) -> Result<Beheld> {
    let found = SuperblockFile::read(disk)?.ok_or(Error::NotALog)?;
    let plan = Plan::make(disk, found, Looking::Copied)?;
    let mut durable = plan.last_lsn();
    let Plan { superblock, chain, newest, .. } = plan;
    let mut sealed: Vec<Sealed> =
        chain.links.iter().map(|Link { found, end }| sealed_or_not(found, end)).collect();
    match (&chain.last, newest) {
        (None, _) | (_, Newest::Nothing) => {}
        (Some(last), Newest::Sealed { end, .. }) => sealed.push(sealed_or_not(last, &end)),
        (Some(last), Newest::Parked { extent }) => sealed.push(unsealed(last, extent)),
        (Some(last), Newest::Scanned { extent, scanned }) => {
            durable = make_durable(disk, last, &extent, &scanned);
            sealed.push(unsealed(last, extent));
        }
    }
    let segments = Listed { sealed, tail: None, first_lsn: superblock.first_lsn };
    Ok(Beheld { superblock, segments, durable })
}

/// What the scan has seen may be in memory only; after a sync it is not. Where that is refused, only what the
/// writer vouches for is shown.
fn make_durable(disk: &dyn Disk, last: &Found, extent: &Extent, scanned: &Scanned) -> Lsn {
    let synced =
        last.open(disk, Access::Read).and_then(|file| file.sync().map_err(|source| last.io("sync", source)));
    if synced.is_ok() { extent.last } else { scanned.vouched }
}

fn sealed_or_not(found: &Found, end: &LinkEnd) -> Sealed {
    match end {
        LinkEnd::Sealed(footer) => Sealed::new(*segment_of(found), footer),
        LinkEnd::Scanned(scan) => unsealed(found, Extent::of_scan(scan)),
    }
}

fn unsealed(found: &Found, extent: Extent) -> Sealed {
    Sealed::unsealed(*segment_of(found), Arc::clone(&found.name), extent)
}
