//! The superblock's file, as it is.

use std::io;

use super::report::{SlotReport, SuperblockReport};
use super::survey::newer;
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{self, BadBlock, CleanTail, SLOT_BYTES, SUPERBLOCK_BYTES, Superblock, choose_slot};
use crate::segment::{Cause, Correction, SUPERBLOCK, Stretch, StretchKind};
use crate::types::Lsn;

/// What is in the superblock's file.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pub(super) report: SuperblockReport,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Whether a clean end may be believed: the other slot cannot have been newer.
    pub(super) is_newest: bool,
    /// What an open says to it.
    pub(super) refusal: Option<Error>,
    /// What a slot says once its flipped bit is put right, if that is newer than the slot that counts.
    corrected: Option<Superblock>,
    /// Why each slot that does not check does not.
    causes: [Cause; 2],
}

impl Slots {
    /// Reads both slots.
    ///
    /// # Errors
    /// [`Error::NewerVersion`]; that the file cannot be opened. That it cannot be read is damage.
    pub(super) fn read(disk: &dyn Disk) -> Result<Slots> {
        let file = match disk.open(SUPERBLOCK, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Slots::missing()),
            file => file.map_err(|source| Error::io("open", SUPERBLOCK, source))?,
        };
        let bytes = file.bytes().map_err(|source| Error::io("look at", SUPERBLOCK, source))?;
        let mut slots = Slots { bytes, ..Slots::missing() };
        slots.report.exists = true;
        slots.refusal = Some(Error::SuperblockDamaged);
        let mut all = vec![0; SUPERBLOCK_BYTES];
        let mut there = 0;
        for number in 0..2 {
            let slot = &mut all[number * SLOT_BYTES..][..SLOT_BYTES];
            let position = (number * SLOT_BYTES) as u64;
            match file.read_at(slot, position) {
                Ok(read) => {
                    if read > 0 {
                        there = number * SLOT_BYTES + read;
                    }
                    slots.causes[number] = if read == 0 { Cause::Cut } else { Cause::Slot };
                    let (report, corrected) = decode(&slot[..read], number)?;
                    slots.report.slots[number] = report;
                    slots.take_corrected(corrected);
                }
                Err(source) => {
                    slot.fill(0xFF);
                    slots.causes[number] = Cause::Unreadable;
                    slots.report.slots[number] = SlotReport::Bad(BadBlock::Damaged, None);
                    slots.refusal = Some(Error::io("read", SUPERBLOCK, source));
                    there = (number + 1) * SLOT_BYTES;
                }
            }
        }
        if let Ok(chosen) = choose_slot(&all[..there]) {
            slots.is_newest = chosen.other_is_sound;
            slots.report.chosen = Some(chosen.superblock);
            slots.refusal = None;
        }
        let counts = slots.chosen().map_or(0, |superblock| superblock.sequence);
        slots.corrected.take_if(|corrected| corrected.sequence <= counts);
        Ok(slots)
    }

    fn take_corrected(&mut self, corrected: Option<Superblock>) {
        let sequence = |superblock: &Option<Superblock>| superblock.as_ref().map(|known| known.sequence);
        if sequence(&corrected) > sequence(&self.corrected) {
            self.corrected = corrected;
        }
    }

    fn missing() -> Slots {
        let blank = || SlotReport::Bad(BadBlock::Blank, None);
        Slots {
            report: SuperblockReport { exists: false, slots: [blank(), blank()], chosen: None },
            bytes: 0,
            is_newest: false,
            refusal: Some(Error::SuperblockDamaged),
            corrected: None,
            causes: [Cause::Missing; 2],
        }
    }

    /// The superblock that counts.
    pub(super) fn chosen(&self) -> Option<&Superblock> {
        self.report.chosen.as_ref()
    }

    /// Where the log was left by a clean close, if that is believed.
    pub(super) fn clean_tail(&self) -> Option<CleanTail> {
        self.chosen().and_then(|superblock| superblock.clean_tail).filter(|_| self.is_newest)
    }

    /// The superblock that counts, or else what is known of it.
    pub(super) fn known(&self) -> Option<&Superblock> {
        self.chosen().or(self.corrected.as_ref())
    }

    /// The oldest record retained; `None` if nothing says.
    pub(super) fn first_lsn(&self) -> Option<Lsn> {
        self.known().map(|superblock| superblock.first_lsn)
    }

    /// The newest record that anything in the superblock's file vouches for, as it is or with a bit put right.
    pub(super) fn vouched(&self) -> Lsn {
        let of_corrected = self.corrected.as_ref().map_or(Lsn::ZERO, |superblock| {
            let clean = superblock.clean_tail.map_or(Lsn::ZERO, |tail| tail.last_lsn);
            superblock.durable.max(clean).max(superblock.first_lsn.prev())
        });
        self.durable().max(of_corrected)
    }

    /// The newest record that the superblock that counts vouches for: what an open goes by.
    pub(super) fn durable(&self) -> Lsn {
        let Some(superblock) = self.chosen() else { return Lsn::ZERO };
        let clean = self.clean_tail().map_or(Lsn::ZERO, |tail| tail.last_lsn);
        // What was trimmed away was acknowledged too.
        superblock.durable.max(clean).max(superblock.first_lsn.prev())
    }

    /// What does not check.
    pub(super) fn stretches(&self) -> Vec<Stretch> {
        let stretch = |kind, bytes, cause, correction| Stretch {
            kind,
            file: SUPERBLOCK.into(),
            bytes,
            lsns: None,
            is_acknowledged: false,
            cause,
            correction,
        };
        if !self.report.exists {
            return vec![stretch(StretchKind::Hole, 0..SUPERBLOCK_BYTES as u64, Cause::Missing, None)];
        }
        let mut stretches = Vec::new();
        for (number, slot) in self.report.slots.iter().enumerate() {
            let SlotReport::Bad(bad, correction) = slot else { continue };
            // The second slot of a new log was never written.
            if *bad == BadBlock::Blank && self.is_newest {
                continue;
            }
            let start = (number * SLOT_BYTES) as u64;
            let cause = match self.causes[number] {
                Cause::Slot if *bad == BadBlock::Blank => Cause::Blank,
                cause => cause,
            };
            stretches.push(stretch(StretchKind::Rot, start..start + SLOT_BYTES as u64, cause, *correction));
        }
        stretches
    }
}

/// Reads a slot, and what it says once its flipped bit is put right.
fn decode(slot: &[u8], number: usize) -> Result<(SlotReport, Option<Superblock>)> {
    match Superblock::decode(slot, number) {
        Ok(superblock) => Ok((SlotReport::Sound(Box::new(superblock)), None)),
        Err(BadBlock::Newer { found }) => Err(newer(found)),
        Err(bad) => {
            let start = (number * SLOT_BYTES) as u64;
            let flip = format::correct_slot(slot, number);
            let correction = flip.map(|flip| Correction { offset: start + flip.at, bit: flip.bit });
            let corrected = flip.and_then(|flip| {
                let mut slot = slot.to_vec();
                flip.apply(&mut slot);
                Superblock::decode(&slot, number).ok()
            });
            Ok((SlotReport::Bad(bad, correction), corrected))
        }
    }
}
