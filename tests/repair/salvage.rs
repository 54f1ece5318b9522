//! A salvaged log is a whole new one with everything that can be read in the old one, which stays as it is.

use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::repair::{self, Salvaged, Silent};
use annals::{Error, Lsn, LsnRange, Result};

use crate::seeds::{Cases, Chance};
use crate::support::{
    Known, SLOT_BYTES, SUPERBLOCK, carry_out, covers, files, harm, is_as, options, records_of, shared, verify,
};

const NOISE: [u8; 40] = [0xA5; 40];

fn salvage(from: &SimDisk, to: &SimDisk) -> Result<Salvaged> {
    repair::salvage(&shared(from), &verify(from), to, &Silent)
}

/// Salvages a damaged log, and compares with what a repair of it makes readable.
#[track_caller]
fn salvaged(what: &str, known: &Known, from: &SimDisk) -> Salvaged {
    let before = files(from);
    let report = verify(from);
    let to = SimDisk::new(7);
    let salvaged = salvage(from, &to).unwrap_or_else(|error| panic!("{what}: {error}\n{report:#?}"));
    is_as(what, from, &before);
    let after = verify(&to);
    assert!(after.is_whole(), "{what}: {after:#?}");
    assert!(
        after.log_id != report.log_id && after.strays.iter().all(|stray| &*stray.file == "LOCK"),
        "{what}"
    );
    assert_eq!((after.first_lsn, after.last_lsn), (report.first_lsn, report.last_lsn), "{what}");
    assert_eq!(after.given_up, salvaged.gaps, "{what}");
    assert_eq!(after.records, salvaged.records, "{what}");
    let all = after.last_lsn.get() + 1 - after.first_lsn.get();
    assert_eq!(salvaged.records + records_of(&salvaged.gaps), all, "{what}");
    assert!(salvaged.records >= report.records, "{what}: {salvaged:?}\n{report:#?}");
    known.check(what, &to, (after.last_lsn.get(), &after.given_up));
    salvaged
}

#[test]
fn a_whole_log_is_salvaged_whole_with_its_mark() {
    let known = Known::large(true);
    let disk = known.copy();
    assert!(salvaged("whole", &known, &disk).gaps.is_empty());
    let to = SimDisk::new(8);
    salvage(&disk, &to).unwrap();
    let log = options().open_with(shared(&to)).unwrap();
    assert_eq!(log.mark().map(|mark| (mark.lsn.get(), mark.bytes)), known.mark);
}

#[test]
fn a_log_of_which_every_file_but_one_is_gone_is_salvaged() {
    for is_closed in [true, false] {
        let known = Known::large(is_closed);
        for kept in known.segments() {
            let disk = known.copy();
            for name in known.segments().iter().filter(|name| **name != kept) {
                disk.delete(name);
            }
            let what = format!("only {kept}");
            assert!(salvaged(&what, &known, &disk).records > 0);
            disk.delete(SUPERBLOCK);
            let known = Known { in_doubt: known.last(), ..known.clone() };
            assert!(salvaged(&what, &known, &disk).records > 0);
        }
    }
}

#[test]
fn any_damage_at_once_is_salvaged() {
    let test = "any_damage_at_once_is_salvaged";
    let logs = [Known::large(true), Known::large(false)];
    let other = Known::large(true).disk;
    Cases { file: "salvage", test, usual: 60 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let known = &logs[chance.below(2) as usize];
        let disk = known.copy();
        let done: Vec<_> = (0..chance.between(1, 5)).map(|_| harm(&disk, &other, &mut chance)).collect();
        let report = verify(&disk);
        // Without a superblock nothing vouches for what is gone at the end.
        let in_doubt = if report.superblock.chosen.is_none() { known.last() } else { known.in_doubt };
        salvaged(&format!("{done:?}"), &Known { in_doubt, ..known.clone() }, &disk);
    });
}

#[test]
fn a_log_that_was_repaired_is_salvaged_with_its_gaps() {
    let known = Known::large(true);
    let disk = known.copy();
    disk.delete(&known.segments()[2]);
    carry_out(&disk, &repair::plan(&disk, &verify(&disk)).unwrap()).unwrap();
    let gaps = verify(&disk).given_up;
    assert_eq!(salvaged("repaired", &known, &disk).gaps, gaps);
}

#[test]
fn a_directory_that_holds_something_is_left_alone() {
    let known = Known::large(true);
    for name in ["superblock", "notes", "backup-incomplete", "00000000000000000001.seg"] {
        let to = SimDisk::new(7);
        to.create(name).unwrap();
        let before = files(&to);
        let refused = salvage(&known.disk, &to);
        assert!(matches!(refused, Err(Error::NotEmpty)), "{name}: {refused:?}");
        is_as(name, &to, &before);
    }
    let used = SimDisk::new(7);
    let _lock = used.lock("LOCK").unwrap();
    assert!(matches!(salvage(&known.disk, &used), Err(Error::InUse { .. })));
}

#[test]
fn a_log_that_is_being_written_is_salvaged_as_far_as_it_is_durable() {
    let known = Known::large(true);
    let disk = known.copy();
    let log = options().open_with(shared(&disk)).unwrap();
    for _ in 0..3 {
        log.append_durable(b"later").unwrap();
    }
    let report = verify(&disk);
    let to = SimDisk::new(7);
    repair::salvage(&shared(&disk), &report, &to, &Silent).unwrap();
    let after = verify(&to);
    assert!(after.is_whole() && after.last_lsn == report.last_lsn, "{after:#?}");
    assert!(after.last_lsn >= Lsn::new(known.last()), "{after:#?}");
}

#[test]
fn both_slots_and_a_header_in_the_middle_cost_a_salvage_nothing() {
    let known = Known::large(true);
    let disk = known.copy();
    disk.overwrite(SUPERBLOCK, 20, &NOISE);
    disk.overwrite(SUPERBLOCK, SLOT_BYTES + 20, &NOISE);
    disk.overwrite(&known.segments()[2], 20, &NOISE);
    // Nobody knows any more what was trimmed.
    let known = Known { in_doubt: known.last(), ..known };
    let gaps: Vec<LsnRange> = salvaged("headers", &known, &disk).gaps;
    assert!(!covers(&gaps, known.first()) && gaps.is_empty(), "{gaps:?}");
}
