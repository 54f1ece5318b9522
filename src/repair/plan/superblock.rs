//! The superblock that a repaired log gets.

use crate::disk::{Disk, File};
use crate::error::{Error, Result};
use crate::format::{SLOT_BYTES, Superblock};
use crate::repair::report::{Report, SlotReport};
use crate::segment::SUPERBLOCK;
use crate::types::{LogId, Lsn, WriteMethod};

/// How the superblock comes about.
#[derive(Clone, Debug)]
pub(in crate::repair) struct SuperblockRecipe {
    superblock: Superblock,
    /// The last record of the log. The newest need not be on the disk yet: whoever opens the log writes them again, as
    /// far as nothing vouches for them, and the superblock does not before that.
    last_lsn: Lsn,
    /// Whether nothing but the segments tells of the log: then how it is best written is not known either.
    pub(in crate::repair) is_from_segments: bool,
}

impl SuperblockRecipe {
    /// For the log that the report is about.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn of(disk: &dyn Disk, report: &Report, log_id: LogId) -> Result<SuperblockRecipe> {
        let known = newest_known(disk, report)?;
        let is_from_segments = known.is_none();
        let known = known.unwrap_or_else(|| Superblock::new(log_id, WriteMethod::Direct));
        let superblock = Superblock {
            // With room for two: no log gets there, but a superblock may say what it likes.
            sequence: known.sequence.checked_add(1).filter(|next| *next < u64::MAX).unwrap_or(1),
            epoch: known.epoch.max(report.epoch),
            durable: report.durable,
            first_lsn: report.first_lsn,
            clean_tail: None,
            ..known
        };
        Ok(SuperblockRecipe { superblock, last_lsn: report.last_lsn, is_from_segments })
    }

    /// For a new log with this superblock, maybe on another file system than the old one.
    pub(in crate::repair) fn new_log(superblock: Superblock) -> SuperblockRecipe {
        SuperblockRecipe { last_lsn: superblock.durable, superblock, is_from_segments: true }
    }

    /// The last record of the log.
    pub(in crate::repair) fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// What goes into the two slots of the file. The second one is newer.
    pub(in crate::repair) fn slots(&self, file: &dyn File) -> [Superblock; 2] {
        let mut first = self.superblock.clone();
        let is_possible = |method| file.writer(method).is_ok();
        if self.is_from_segments && !is_possible(first.write_method) {
            first.write_method = WriteMethod::Buffered;
        }
        let second = Superblock { sequence: first.sequence + 1, ..first.clone() };
        [first, second]
    }
}

/// The newest superblock of which all is known: a slot with one flipped bit counts as if it were put right.
fn newest_known(disk: &dyn Disk, report: &Report) -> Result<Option<Superblock>> {
    let mut known: Vec<Superblock> = report.superblock.chosen.iter().cloned().collect();
    for (number, slot) in report.superblock.slots.iter().enumerate() {
        match slot {
            SlotReport::Sound(superblock) => known.push((**superblock).clone()),
            SlotReport::Bad(_, Some(correction)) => {
                let file = disk.open(SUPERBLOCK, crate::disk::Access::Read);
                let file = file.map_err(|source| Error::io("open", SUPERBLOCK, source))?;
                // Slot by slot: the other one may be unreadable.
                let mut slot = vec![0; SLOT_BYTES];
                let start = (number * SLOT_BYTES) as u64;
                let there = file.read_at(&mut slot, start);
                slot.truncate(there.map_err(|source| Error::io("read", SUPERBLOCK, source))?);
                let place =
                    correction.offset.checked_sub(start).and_then(|place| usize::try_from(place).ok());
                if let Some(byte) = place.and_then(|place| slot.get_mut(place)) {
                    *byte ^= 1 << correction.bit;
                }
                known.extend(Superblock::decode(&slot, number));
            }
            SlotReport::Bad(_, None) => {}
        }
    }
    Ok(known.into_iter().max_by_key(|superblock| superblock.sequence))
}
