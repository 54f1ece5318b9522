//! Each bit of a small log, flipped: found, named, and put right, byte for byte.
//!
//! On every change one bit of every fifth byte that is in use, some of them repaired; with `ANNALS_ROUNDS=100` or
//! more every bit of every file is flipped, and all of those in use are repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use annals::disk::Disk;
use annals::repair::{Correction, Report, Silent, StretchKind, plan, repair};

use crate::anatomy::Anatomy;
use crate::directory::{Directory, SUPERBLOCK};
use crate::forge::{self, Forged, Left};
use crate::seeds::{Chance, rounds};
use crate::trial::{Trial, look};
use crate::truth::Truth;
use annals_fixtures::segment::index;

/// What a checksum is over, and counts.
struct Summed(BTreeMap<String, Vec<std::ops::Range<u64>>>);

impl Summed {
    fn of(anatomy: &Anatomy) -> Summed {
        let mut summed = BTreeMap::new();
        for segment in anatomy.retained() {
            let mut ranges = vec![segment.head()];
            for group in &segment.groups {
                ranges.push(group.head());
                let used = |length: u32| 32 + u64::from(length);
                let frames = group.frames.iter();
                ranges.extend(
                    frames.map(|frame| frame.bytes.start..frame.bytes.start + used(frame.header.length)),
                );
            }
            if segment.footer.is_some() {
                ranges.extend([segment.tables(), segment.trailer()]);
            }
            summed.insert(segment.name.clone(), ranges);
        }
        let slot = anatomy.superblock.used_bytes() as u64;
        summed.insert(SUPERBLOCK.to_owned(), vec![0..slot, 65536..65536 + slot]);
        Summed(summed)
    }

    fn contains(&self, name: &str, at: u64) -> bool {
        self.0.get(name).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&at)))
    }
}

/// The bytes to flip: of those that hold something, with their neighbours, every fifth, and one in a while of the
/// rest; or all.
fn places(bytes: &[u8], is_all: bool) -> Vec<u64> {
    let near =
        |at: usize| bytes[at.saturating_sub(9)..(at + 9).min(bytes.len())].iter().any(|byte| *byte != 0);
    (0..bytes.len())
        .filter(|at| is_all || at % 5 == 0 && near(*at) || at % 12289 == 0)
        .map(|at| at as u64)
        .collect()
}

fn flip_each_bit_of(left: Left) {
    let forged = forge::small(left);
    let anatomy = Anatomy::of(&forged.files);
    let summed = Summed::of(&anatomy);
    let is_all = rounds() >= 100;
    let mut flips = vec![];
    for (name, bytes) in &forged.files.0 {
        for at in places(bytes, is_all) {
            // Another one from byte to byte.
            let one = (at / 5 % 8) as u8;
            let bits = if is_all { 0..8 } else { one..one + 1 };
            flips.extend(bits.map(|bit| Flipped { name, correction: Correction { offset: at, bit } }));
        }
    }
    let check = |(number, flipped): (u64, &Flipped<'_>)| {
        let is_summed = summed.contains(flipped.name, flipped.correction.offset);
        let is_repaired = is_all && is_summed || Chance::new(number).below(12) == 0;
        flipped.check(&forged, &anatomy, is_summed, is_repaired);
    };
    // Each is for itself, and together they are most of what this suite does.
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for first in 0..threads {
            let part = (0..).zip(&flips).skip(first).step_by(threads);
            scope.spawn(move || part.for_each(check));
        }
    });
}

struct Flipped<'a> {
    name: &'a str,
    correction: Correction,
}

impl Flipped<'_> {
    fn check(&self, forged: &Forged, anatomy: &Anatomy, is_summed: bool, is_repaired: bool) {
        let Flipped { name, correction: Correction { offset, bit } } = *self;
        let mut files = forged.files.clone();
        files.edit(name)[index(offset)] ^= 1 << bit;
        let truth = Truth::of(anatomy, &forged.files, &files);
        let what = format!("{:?}, with bit {bit} of byte {offset} of {name} flipped", forged.left);
        let trial = Trial { what, files: &files, records: &forged.records, truth: &truth };
        let report = look(&files.disk(1), 1).unwrap();
        trial.check(&report);
        trial.check_opening(&report);
        let says = self.is_named(&report);
        let was_discarded = report.stretches.iter().any(|stretch| stretch.kind == StretchKind::Torn);
        assert!(says || !is_summed || was_discarded, "{trial}: is not named\n{report:#?}");
        if is_repaired && !was_discarded {
            self.check_repair(forged, &trial, &report, is_summed);
        }
    }

    fn is_named(&self, report: &Report) -> bool {
        let named = report.stretches.iter();
        named
            .filter(|stretch| *stretch.file == *self.name)
            .any(|stretch| stretch.correction == Some(self.correction))
    }

    /// Nothing is given up, and every segment is again what it was.
    fn check_repair(&self, forged: &Forged, trial: &Trial<'_>, report: &Report, is_summed: bool) {
        let disk = trial.files.disk(1);
        let plan = plan(&disk, report).unwrap_or_else(|error| panic!("{trial}: {error}\n{report:#?}"));
        assert!(plan.gives_up.is_empty(), "{trial}: {plan:#?}");
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        repair(&shared, &plan, None, &Silent).unwrap_or_else(|error| panic!("{trial}: {error}\n{plan:#?}"));
        let after = look(&disk, 1).unwrap();
        assert!(after.is_whole() && after.lost.is_empty(), "{trial}: {after:#?}");
        assert_eq!((after.records, after.last_lsn), (forged_records(forged), report.last_lsn), "{trial}");
        if is_summed {
            // A repair writes the superblock anew, always, and gives a segment its name.
            let segments = |files: &Directory| -> BTreeSet<Vec<u8>> {
                let names = files.segments().into_iter().filter(|name| !name.starts_with("quarantine-"));
                names.map(|name| files.0[&name].clone()).collect()
            };
            let (before, after) = (segments(&forged.files), segments(&Directory::of(&disk)));
            assert!(before == after, "{trial}: a segment is not what it was\n{plan:#?}");
        }
    }
}

fn forged_records(forged: &Forged) -> u64 {
    forged.records.len() as u64
}

#[test]
fn each_bit_of_a_closed_log_is_named_and_put_right() {
    flip_each_bit_of(Left::Closed);
}

#[test]
fn each_bit_of_a_killed_log_is_named_and_put_right() {
    flip_each_bit_of(Left::Killed);
}

#[test]
fn each_bit_of_a_log_whose_newest_segment_is_in_a_spare_is_named_and_put_right() {
    flip_each_bit_of(Left::Unnamed);
}
