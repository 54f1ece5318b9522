//! Opening a log for reading only, maybe while somebody writes to it.

use std::sync::Arc;

use super::chain::{Known, Link, LinkEnd, segment_of};
use super::plan::{Newest, Plan, Scanned};
use super::scan::Looking;
use super::survey::{Found, no_repair_is_unfinished};
use super::{Beheld, Watched};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{Footer, Tables};
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
    let mut is_suspect = false;
    for _ in 1..ATTEMPTS {
        let attempt = attempt(disk);
        let after = Fingerprint::take(disk)?;
        // A file that is just renamed may be under neither name for the reader, and with it the newest records.
        let held_still = match &attempt {
            Ok(_) => before.names == after.names,
            // What a flush is just writing may look damaged, once.
            Err(_) => is_suspect && before == after,
        };
        is_suspect = before == after;
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
    no_repair_is_unfinished(disk)?;
    let found = SuperblockFile::read(disk)?.ok_or(Error::NotALog)?;
    let plan = Plan::make(disk, found, Looking::Copied)?;
    let last_lsn = plan.last_lsn();
    let Plan { superblock, chain, newest, .. } = plan;
    let first_lsn = superblock.first_lsn;
    let mut sealed: Vec<Sealed> =
        chain.links.iter().map(|Link { found, end }| watch(found, end).as_sealed()).collect();
    let newest = match (&chain.last, newest) {
        (None, _) | (_, Newest::Nothing) => None,
        (Some(last), Newest::Sealed { end, .. }) => Some(watch(last, &end)),
        (Some(last), Newest::Parked { extent }) => Some(watch_open(last, extent)),
        (Some(last), Newest::Scanned { extent, scanned }) => {
            let known = Known { disk, looking: Looking::Copied, first_lsn, durable: Lsn::ZERO };
            Some(watch_open(last, vouched(known, last, extent, &scanned)?))
        }
    };
    sealed.extend(newest.as_ref().map(Watched::as_sealed));
    let durable = newest.as_ref().map_or(last_lsn, |newest| newest.extent.last);
    let segments = Listed { sealed, tail: None, first_lsn };
    Ok(Beheld { superblock, segments, newest, durable })
}

/// The part of the tail that is known to be durable. The rest may be in memory only, and a sync by somebody
/// else than the writer proves nothing: one that failed before may have marked it clean.
fn vouched(known: Known<'_>, last: &Found, extent: Extent, scanned: &Scanned) -> Result<Extent> {
    // A segment begins when all before it is durable.
    let vouched = scanned.vouched.max(segment_of(last).first_lsn.prev());
    if extent.last <= vouched {
        return Ok(extent);
    }
    let scan = known.rescan(last, vouched)?.expect("not before the segment");
    Ok(scan.extent)
}

fn watch(found: &Found, end: &LinkEnd) -> Watched {
    match end {
        LinkEnd::Sealed(footer) => {
            let Footer { end, last_lsn: last, digest, groups, .. } = *footer;
            let extent = Extent { end, last, digest, groups, tables: Tables::new() };
            Watched { footer: Some(*footer), ..watch_open(found, extent) }
        }
        LinkEnd::Scanned(scan) => watch_open(found, scan.extent.clone()),
    }
}

fn watch_open(found: &Found, extent: Extent) -> Watched {
    Watched { header: *segment_of(found), name: Arc::clone(&found.name), extent, footer: None }
}
