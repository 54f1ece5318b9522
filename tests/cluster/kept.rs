//! Older snapshots that a replica keeps beside its base, under names of their own.

use std::collections::BTreeSet;

use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::{Lsn, format};

use crate::invariants::{Check, broken};
use crate::record::mix;

/// What the names of older snapshots begin with.
const PREFIX: &str = "base-";

/// What is known of the snapshots of one disk.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    seed: u64,
    starts: u64,
    /// All that was ever the base: its newest record, and the checksum of the whole file.
    bases: BTreeSet<(u64, u32)>,
    /// How often an older one was there after a step.
    pub(crate) seen: u64,
}

impl Kept {
    pub(crate) fn new(seed: u64) -> Kept {
        Kept { seed, ..Kept::default() }
    }

    /// How many this process is to have, the base included: another number now and then, as the seed says without a draw.
    pub(crate) fn ask(&mut self) -> usize {
        self.starts += 1;
        [1, 1, 2, 3, 4][mix(self.seed, self.starts / 4) as usize % 5]
    }

    /// Whatever is the base now was whole when it became that.
    pub(crate) fn note(&mut self, disk: &SimDisk, lsn: Lsn) {
        self.bases.insert((lsn.get(), format::crc32(&disk.contents("base"))));
    }

    /// What harms the base harms its second name, if it has one.
    pub(crate) fn base_is_harmed(&mut self, disk: &SimDisk) {
        let harmed = format::crc32(&disk.contents("base"));
        let lsns: Vec<u64> = self.bases.iter().map(|(lsn, _)| *lsn).collect();
        self.bases.extend(lsns.into_iter().map(|lsn| (lsn, harmed)));
    }

    /// 3: an older snapshot is all of what was the base once, also where a crash has cut a step short.
    pub(crate) fn are_whole(&self, disk: &SimDisk) -> Check {
        for name in names(disk) {
            let lsn = name.strip_prefix(PREFIX).and_then(|digits| digits.parse().ok());
            let sum = format::crc32(&disk.contents(&name));
            if !lsn.is_some_and(|lsn| self.bases.contains(&(lsn, sum))) {
                return broken(3, "an older snapshot is one that was the base", name);
            }
        }
        Ok(())
    }

    /// 18: there are never more than asked for, where nothing is in the way of removing them; nor is the base one of them.
    pub(crate) fn are_no_more_than(&mut self, asked: usize, (disk, base): (&SimDisk, Lsn)) -> Check {
        let names = names(disk);
        self.seen += names.len() as u64;
        if names.len() >= asked || names.contains(&format!("{PREFIX}{:020}", base.get())) {
            let what = format!("{asked} with that of {base}: {names:?}");
            return broken(18, "no more snapshots are kept than asked for", what);
        }
        Ok(())
    }
}

fn names(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().unwrap_or_default();
    names.retain(|name| name.starts_with(PREFIX));
    names
}
