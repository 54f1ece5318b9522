//! Sectors that stay unreadable, also while the log is planned, repaired and taken back.

use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::repair::{self, Cause, Unread};
use annals::{Error, Lsn, LsnRange};

use crate::seeds::{Cases, Chance, rounds};
use crate::support::{
    BLOCK, Known, SUPERBLOCK, carry_out, copy, covers, files, grow, harm, is_as, mend, options, shared,
    verify,
};

/// The bytes of a file, in blocks.
fn blocks(disk: &SimDisk, name: &str) -> u64 {
    (disk.contents(name).len() as u64).div_ceil(BLOCK)
}

fn of_log(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name != "LOCK");
    names.sort();
    names
}

/// Opens a log: each record is what was appended, or lost as was told.
fn check_records(what: &str, known: &Known, (disk, given_up): (&SimDisk, &[LsnRange])) {
    let log = options().open_with(shared(&copy(disk))).unwrap_or_else(|error| panic!("{error} {what}"));
    for lsn in log.first_lsn().get()..=log.last_lsn().get() {
        match log.read(Lsn::new(lsn)) {
            // Without a superblock some of what was trimmed is back.
            Ok(record) => {
                let is_same = known.records.get(&lsn).is_none_or(|known| *record == **known);
                assert!(is_same, "{lsn} has other bytes {what}");
            }
            Err(Error::Lost { .. }) => assert!(covers(given_up, lsn), "{lsn} {what}"),
            Err(error) => panic!("{lsn}: {error} {what}"),
        }
    }
    log.close().unwrap();
}

#[test]
fn a_log_with_any_block_unreadable_is_repaired_around_it() {
    for is_closed in [true, false] {
        let known = Known::large(is_closed);
        for name in of_log(&known.disk) {
            // Of the superblock, the blocks in use and one of the rest.
            let all: Vec<u64> = match &*name {
                SUPERBLOCK => vec![0, 1, 15, 16, 17, 31],
                _ => (0..blocks(&known.disk, &name)).collect(),
            };
            let step = if rounds() > 1 || name == SUPERBLOCK { 1 } else { 3 };
            for block in all.into_iter().step_by(step) {
                let what = format!("block {block} of {name}, closed: {is_closed}");
                let disk = known.copy();
                disk.lose_sectors(&name, block * BLOCK..(block + 1) * BLOCK);
                let report = verify(&disk);
                let is_told = report.stretches.iter().any(|stretch| {
                    stretch.cause == Cause::Unreadable
                        && *stretch.file == *name
                        && stretch.bytes.end > block * BLOCK
                });
                assert!(is_told || report.is_whole(), "{what}: {report:#?}");
                mend(&what, &known, &disk);
            }
        }
    }
}

#[test]
fn the_quarantine_says_which_bytes_nobody_could_read() {
    let known = Known::large(true);
    let name = &known.segments()[1];
    let disk = known.copy();
    disk.lose_sectors(name, 2 * BLOCK..3 * BLOCK);
    disk.lose_sectors(name, 3 * BLOCK..3 * BLOCK + 1);
    disk.lose_sectors(SUPERBLOCK, BLOCK..BLOCK + 1);
    let plan = repair::plan(&disk, &verify(&disk)).unwrap();
    let done = carry_out(&disk, &plan).unwrap();
    let stem = done.journal.unwrap().trim_end_matches("journal").to_owned();
    let unread = |name: &str, bytes| Unread { file: format!("{stem}{name}"), bytes };
    let mut told = done.unread;
    told.sort_by(|one, other| one.file.cmp(&other.file));
    assert_eq!(told, [unread(name, 2 * BLOCK..4 * BLOCK), unread(SUPERBLOCK, BLOCK..2 * BLOCK)]);
    let journal = String::from_utf8(disk.contents(&format!("{stem}journal"))).unwrap();
    let line = format!("unread {name} {} {}\n", 2 * BLOCK, 4 * BLOCK);
    assert!(journal.contains(&line), "{journal}");
    repair::undo(&shared(&disk)).unwrap();
}

#[test]
fn a_bad_block_of_one_slot_and_a_flipped_bit_of_the_other_cost_nothing() {
    let known = Known::large(true);
    for (bad, flipped) in [(16, 40), (0, 16 * BLOCK + 40)] {
        let disk = known.copy();
        disk.lose_sectors(SUPERBLOCK, bad * BLOCK..(bad + 1) * BLOCK);
        disk.flip_bit(SUPERBLOCK, flipped, 3);
        let plan = mend(&format!("block {bad}, bit of {flipped}"), &known, &disk);
        assert!(plan.gives_up.is_empty(), "{plan:#?}");
    }
}

#[test]
fn unreadable_blocks_beside_other_damage_stop_no_repair_and_no_undo() {
    let test = "unreadable_blocks_beside_other_damage_stop_no_repair_and_no_undo";
    Cases { file: "sectors", test, usual: 60 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let known = Known::large(chance.below(2) == 0);
        let other = Known::write(true, |log| grow(log, 30));
        let disk = known.copy();
        let mut done = Vec::new();
        for _ in 0..chance.below(3) {
            done.push(harm(&disk, &other.disk, &mut chance));
        }
        let names = of_log(&disk);
        for _ in 0..chance.between(1, 5) {
            let name = chance.pick(&names.iter().collect::<Vec<_>>());
            let block = chance.below(blocks(&disk, name).max(1));
            let end = (block + chance.between(1, 3)) * BLOCK;
            disk.lose_sectors(name, block * BLOCK..end);
            done.push(format!("unreadable {}..{end} of {name}", block * BLOCK));
        }
        let before = files(&disk);
        let report = verify(&disk);
        let what = format!("{done:?}\n{report:#?}");
        let plan = match repair::plan(&disk, &report) {
            Ok(plan) => plan,
            Err(Error::NotRepairable { .. } | Error::NotALog) => return,
            Err(error) => panic!("{error} {what}"),
        };
        let salvaged = repair::salvage(&shared(&disk), &report, &SimDisk::new(seed), &repair::Silent);
        salvaged.unwrap_or_else(|error| panic!("{error} {what}"));
        match carry_out(&disk, &plan) {
            Ok(repaired) => {
                let after = verify(&disk);
                assert!(after.is_whole(), "{after:#?} {what}\n{plan:#?}");
                check_records(&what, &known, (&disk, &after.given_up));
                if repaired.journal.is_some() {
                    repair::undo(&shared(&disk)).unwrap_or_else(|error| panic!("{error} {what}"));
                }
            }
            Err(Error::NotRepairable { .. }) => {}
            Err(error) => panic!("{error} {what}"),
        }
        is_as(&what, &disk, &before);
    });
}
