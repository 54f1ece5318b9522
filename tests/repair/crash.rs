//! A crash after every single disk operation of a repair, of its resumption and of its undoing, and of a salvage; and
//! every operation that fails. Whatever is left can be finished, or taken back exactly, and no original is lost.

use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, Fail, Fault, Operation, SimDisk};
use annals::repair::{self, Silent};
use annals::{Error, Result};

use crate::seeds::{Cases, Chance};
use crate::support::{
    Files, Known, SLOT_BYTES, SUPERBLOCK, carry_out, copy, files, is_as, options, shared, verify,
};

const NOISE: [u8; 40] = [0xA5; 40];
/// More disk operations than the repair takes; asserted below.
const OPERATIONS: u64 = 70;
const UNDO_OPERATIONS: u64 = 40;

/// A damaged log, and what has to be there of it.
struct Damaged {
    known: Known,
    disk: SimDisk,
    before: Files,
}

impl Damaged {
    /// A missing segment, one that rots, one under another name, a foreign file and a lost slot.
    fn new() -> Damaged {
        let known = Known::large(true);
        let names = known.segments();
        let disk = known.copy();
        disk.overwrite(&names[0], 30_000, &NOISE);
        disk.delete(&names[1]);
        disk.copy_from(&disk, &names[3], "00000000000000000777.seg");
        disk.delete(&names[3]);
        disk.flip_bit(&names[2], 10_000, 4);
        disk.overwrite(SUPERBLOCK, SLOT_BYTES, &NOISE);
        Damaged::of(known, disk)
    }

    fn of(known: Known, disk: SimDisk) -> Damaged {
        let before = files(&disk);
        Damaged { known, disk, before }
    }

    fn repair(disk: &SimDisk) -> Result<()> {
        let report = repair::verify(&shared(disk), 1, &Silent)?;
        carry_out(disk, &repair::plan(disk, &report)?).map(drop)
    }

    /// Repairs a copy, and lets the power fail at operation `n` of that.
    fn cut_short(&self, n: u64) -> SimDisk {
        let disk = copy(&self.disk);
        disk.crash_after(n);
        let done = Damaged::repair(&disk);
        assert!(done.is_ok() || disk.is_off(), "{done:?} although the disk works");
        disk
    }

    /// What holds at every moment.
    fn is_kept(&self, what: &str, found: &SimDisk) {
        let now = files(found);
        for (name, bytes) in &self.before {
            let aside = now.iter().any(|(held, same)| {
                held.starts_with("quarantine-") && held.ends_with(&format!(".{name}")) && same == bytes
            });
            assert!(
                aside || now.get(name) == Some(bytes),
                "{what}: {name} is not what it was\n{}",
                found.trace()
            );
        }
        let is_pending = now.keys().any(|name| name.ends_with(".pending"));
        let opened = options().open_with(shared(&copy(found)));
        let is_refused = matches!(opened, Err(Error::RepairUnfinished { .. }));
        assert_eq!(is_refused, is_pending, "{what}: {opened:?}");
        let read = options().open_read_only_with(shared(&copy(found)));
        assert_eq!(matches!(read, Err(Error::RepairUnfinished { .. })), is_pending, "{what}");
    }

    /// Whatever is left of a repair can be finished.
    fn is_finished(&self, what: &str, found: &SimDisk) {
        let disk = copy(found);
        let is_pending = disk.list().unwrap().iter().any(|name| name.ends_with(".pending"));
        let report = verify(&disk);
        assert_eq!(report.unfinished_repair.is_some(), is_pending, "{what}");
        let plan = repair::plan(&disk, &report).unwrap_or_else(|error| panic!("{what}: {error}"));
        let done =
            carry_out(&disk, &plan).unwrap_or_else(|error| panic!("{what}: {error}\n{}", disk.trace()));
        assert_eq!(done.is_resumed, is_pending, "{what}");
        let after = verify(&disk);
        assert!(after.is_whole(), "{what}: {after:#?}");
        assert!(!disk.list().unwrap().iter().any(|name| name.ends_with(".tmp")), "{what}: leftovers");
        self.known.check(what, &disk, (after.last_lsn.get(), &after.given_up));
        repair::undo(&shared(&disk)).unwrap_or_else(|error| panic!("{what}: {error}"));
        is_as(what, &disk, &self.before);
    }

    /// Whatever is left of a repair, or of undoing one, can be taken back.
    fn is_undone(&self, what: &str, found: &SimDisk) {
        let disk = copy(found);
        match repair::undo(&shared(&disk)) {
            Ok(_) | Err(Error::NothingToUndo) => is_as(what, &disk, &self.before),
            Err(error) => panic!("{what}: {error}\n{}", disk.trace()),
        }
    }

    /// All of it, also if the power fails once more while it is finished or taken back.
    fn holds(&self, what: &str, found: &SimDisk, chance: &mut Chance) {
        self.is_kept(what, found);
        self.is_finished(what, found);
        self.is_undone(what, found);
        // Another failure in some cases only: it is the same code.
        let is_twice = chance.below(3) == 0;
        for is_undo in [false, true].into_iter().filter(|_| is_twice) {
            let disk = copy(found);
            disk.crash_after(chance.below(if is_undo { UNDO_OPERATIONS } else { OPERATIONS }));
            let _ = match is_undo {
                true => repair::undo(&shared(&disk)).map(drop),
                false => Damaged::repair(&disk),
            };
            let again = disk.crash(CrashPolicy::seeded(chance.next()));
            let what = format!("{what}, then undo {is_undo}");
            self.is_kept(&what, &again);
            self.is_finished(&what, &again);
            self.is_undone(&what, &again);
        }
    }
}

fn policies(chance: &mut Chance) -> [CrashPolicy; 4] {
    [
        CrashPolicy::LOSE_ALL,
        CrashPolicy::KEEP_ALL,
        CrashPolicy::seeded(chance.next()),
        CrashPolicy::seeded(chance.next()),
    ]
}

#[test]
fn the_operations_are_covered_by_the_crash_points() {
    let damaged = Damaged::new();
    let disk = copy(&damaged.disk);
    Damaged::repair(&disk).unwrap();
    let operations = disk.operations();
    assert!((OPERATIONS / 2..OPERATIONS).contains(&operations), "{operations}\n{}", disk.trace());
    repair::undo(&shared(&disk)).unwrap();
    let undo_operations = disk.operations() - operations;
    assert!((UNDO_OPERATIONS / 2..UNDO_OPERATIONS).contains(&undo_operations), "{undo_operations}");
}

#[test]
fn a_crash_at_any_operation_of_a_repair_can_be_finished_and_undone() {
    let test = "a_crash_at_any_operation_of_a_repair_can_be_finished_and_undone";
    let damaged = Damaged::new();
    Cases { file: "crash", test, usual: OPERATIONS }.run(|seed| {
        let mut chance = Chance::new(seed);
        let disk = damaged.cut_short(seed % OPERATIONS);
        for policy in policies(&mut chance) {
            let what = format!("{policy:?}");
            damaged.holds(&what, &disk.crash(policy), &mut chance);
        }
    });
}

#[test]
fn a_crash_at_any_operation_of_an_undo_can_be_finished_and_undone() {
    let test = "a_crash_at_any_operation_of_an_undo_can_be_finished_and_undone";
    let damaged = Damaged::new();
    let repaired = copy(&damaged.disk);
    Damaged::repair(&repaired).unwrap();
    Cases { file: "crash", test, usual: UNDO_OPERATIONS }.run(|seed| {
        let mut chance = Chance::new(seed);
        let disk = copy(&repaired);
        disk.crash_after(seed % UNDO_OPERATIONS);
        let undone = repair::undo(&shared(&disk));
        assert!(undone.is_ok() || disk.is_off(), "{undone:?} although the disk works");
        for policy in policies(&mut chance) {
            let what = format!("{policy:?}");
            damaged.holds(&what, &disk.crash(policy), &mut chance);
        }
    });
}

/// A log without a superblock: nothing of it may come back by half.
#[test]
fn a_crash_at_any_operation_of_making_a_superblock_can_be_finished_and_undone() {
    let test = "a_crash_at_any_operation_of_making_a_superblock_can_be_finished_and_undone";
    let known = Known::large(true);
    let disk = known.copy();
    disk.delete(SUPERBLOCK);
    let damaged = Damaged::of(Known { in_doubt: known.last(), ..known }, disk);
    Cases { file: "crash", test, usual: 24 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let disk = damaged.cut_short(seed % 24);
        for policy in policies(&mut chance) {
            damaged.holds(&format!("{policy:?}"), &disk.crash(policy), &mut chance);
        }
    });
}

const MUTATING: [Operation; 8] = [
    Operation::Create,
    Operation::Allocate,
    Operation::Write,
    Operation::Sync,
    Operation::SyncDir,
    Operation::Rename,
    Operation::Remove,
    Operation::Lock,
];

/// Lets each operation fail in turn, until there is none left that does.
fn each_failure(attempt: &dyn Fn(&str, Fail) -> bool) {
    for fault in [Fault::Io, Fault::NoSpace] {
        for operation in MUTATING {
            for n in 1.. {
                let what = format!("{fault:?} at {operation:?} {n}");
                if !attempt(&what, Fail::nth(operation, n, fault)) {
                    break;
                }
            }
        }
    }
    for operation in [Operation::Read, Operation::Open, Operation::List] {
        for n in 1..60 {
            attempt(&format!("{operation:?} {n}"), Fail::nth(operation, n, Fault::Io));
        }
    }
}

#[test]
fn any_operation_of_a_repair_that_fails_leaves_nothing_changed_or_a_repair_to_be_finished() {
    let damaged = Damaged::new();
    let plan = repair::plan(&damaged.disk, &verify(&damaged.disk)).unwrap();
    each_failure(&|what, fail| {
        let disk = copy(&damaged.disk);
        disk.fail(fail);
        let failed = carry_out(&disk, &plan);
        disk.heal();
        damaged.is_kept(what, &disk);
        // What is decided is not taken back; else nothing is left, unless the disk does not tell which files it has.
        let names = disk.list().unwrap();
        let is_decided = names.iter().any(|name| name.ends_with(".pending") || name.ends_with(".journal"));
        if failed.is_err() && !is_decided && !what.starts_with("List") {
            is_as(what, &disk, &damaged.before);
        }
        damaged.is_finished(what, &disk);
        damaged.is_undone(what, &disk);
        failed.is_err()
    });
}

#[test]
fn any_operation_of_an_undo_that_fails_leaves_something_to_be_finished() {
    let damaged = Damaged::new();
    let repaired = copy(&damaged.disk);
    Damaged::repair(&repaired).unwrap();
    each_failure(&|what, fail| {
        let disk = copy(&repaired);
        disk.fail(fail);
        let failed = repair::undo(&shared(&disk));
        disk.heal();
        damaged.is_kept(what, &disk);
        damaged.is_finished(what, &disk);
        damaged.is_undone(what, &disk);
        failed.is_err()
    });
}

#[test]
fn a_disk_without_space_for_the_new_files_is_left_as_it_was() {
    let damaged = Damaged::new();
    let plan = repair::plan(&damaged.disk, &verify(&damaged.disk)).unwrap();
    let mut refused = 0;
    for more in (0..plan.new_bytes + 8192).step_by(4096) {
        let disk = copy(&damaged.disk);
        disk.set_capacity(Some(disk.used() + more));
        match carry_out(&disk, &plan) {
            Ok(_) => assert!(more + 8192 >= plan.new_bytes, "{more} of {}", plan.new_bytes),
            Err(Error::NoSpace) => {
                refused += 1;
                is_as(&format!("{more} bytes more"), &disk, &damaged.before);
            }
            Err(error) => panic!("{more}: {error}"),
        }
    }
    assert!(refused > 10, "{refused}");
}

fn salvaged(from: &Damaged, to: &SimDisk) -> Result<()> {
    repair::salvage(&shared(&from.disk), &verify(&from.disk), to, &Silent).map(drop)
}

/// Either there is no log, or there is all of it.
fn is_all_or_nothing(what: &str, from: &Damaged, to: &SimDisk) {
    let names: Vec<_> = to.list().unwrap().into_iter().filter(|name| name != "LOCK").collect();
    let opened = options().open_with(shared(&copy(to)));
    if names.iter().any(|name| name == SUPERBLOCK) {
        opened.unwrap_or_else(|error| panic!("{what}: {error}")).close().unwrap();
        let report = verify(to);
        assert!(report.is_whole(), "{what}: {report:#?}");
        from.known.check(what, to, (report.last_lsn.get(), &report.given_up));
    } else if !names.is_empty() {
        assert!(opened.is_err(), "{what}: {names:?} was opened");
    }
}

#[test]
fn a_crash_at_any_operation_of_a_salvage_leaves_a_whole_log_or_none() {
    let test = "a_crash_at_any_operation_of_a_salvage_leaves_a_whole_log_or_none";
    let damaged = Damaged::new();
    let whole = SimDisk::new(5);
    salvaged(&damaged, &whole).unwrap();
    Cases { file: "crash", test, usual: whole.operations() + 1 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let to = SimDisk::new(seed);
        let n = seed % (whole.operations() + 1);
        to.crash_after(n);
        assert_eq!(salvaged(&damaged, &to).is_ok(), n == whole.operations());
        for policy in policies(&mut chance) {
            is_all_or_nothing(&format!("{policy:?}"), &damaged, &to.crash(policy));
        }
        is_as("the old log", &damaged.disk, &damaged.before);
    });
}

#[test]
fn a_salvage_that_fails_leaves_the_directory_empty() {
    let damaged = Damaged::new();
    for fault in [Fault::Io, Fault::NoSpace] {
        for operation in MUTATING {
            for n in 1.. {
                let what = format!("{fault:?} at {operation:?} {n}");
                let to = SimDisk::new(n);
                to.fail(Fail::nth(operation, n, fault));
                let failed = salvaged(&damaged, &to);
                to.heal();
                is_all_or_nothing(&what, &damaged, &to);
                if failed.is_ok() {
                    break;
                }
                let left = files(&to);
                assert!(
                    left.is_empty() || matches!(operation, Operation::SyncDir),
                    "{what}: {:?}",
                    left.keys()
                );
            }
        }
    }
}
