//! A crash after every single disk operation of a scripted run, and of the recovery from it.
//!
//! The log has threads of its own, so the same operation is not always the same one: each case is a sample.
//! What has to hold is worked out from what was really acknowledged in that run.

use annals::disk::sim::{CrashPolicy, Fate, Names, SimDisk, Tear, Unwritten};
use annals::{Durability, LogOptions};

use crate::support::ledger::Ledger;
use crate::support::script::{Told, open, options, play};
use crate::support::seeds::{Cases, Chance};

/// More disk operations than the script ever takes.
const OPERATIONS: u64 = 330;
/// More than any recovery takes, with all that the log does before it is closed again.
const RECOVERY_OPERATIONS: u64 = 48;

/// Runs the script up to the operation `n`, at which the power fails.
fn cut_short(options: &LogOptions, n: u64) -> (SimDisk, Ledger) {
    let disk = SimDisk::new(n);
    disk.crash_after(n);
    let _told = Told(&disk);
    let (ledger, played) = play(options, &disk);
    assert!(played.is_ok() || disk.is_off(), "{played:?} although the disk works");
    (disk.clone(), ledger)
}

/// Opens what a crash has left, more than once, and lets the log go on.
fn recovers(options: &LogOptions, found: &SimDisk, ledger: &Ledger) {
    let _told = Told(found);
    let first = open(options, found, ledger).expect("a crash never makes a log unreadable");
    // Nothing is asked of the first opening: what it has shown once is there for good.
    let again = found.crash(CrashPolicy::LOSE_ALL);
    let _told_again = Told(&again);
    let mut second = open(options, &again, &first.part()).expect("recovered a second time");
    second.append_durable(200).unwrap();
    second.append_batch(&[0, 5000]).unwrap();
    second.redeem_all().unwrap();
    second.append(10, Durability::Buffered).unwrap();
    let third = again.crash(CrashPolicy::LOSE_ALL);
    let _told_third = Told(&third);
    let (ledger, closed) = open(options, &third, &second.part()).expect("recovered a third time").close();
    closed.unwrap();
    let (_, closed) = open(options, &third, &ledger).expect("closed cleanly").close();
    closed.unwrap();
}

/// Every combination of damage, the fate of each write by chance.
fn damage(seed: u64, index: u64) -> CrashPolicy {
    let combination = (seed * 2 + index) % 18;
    CrashPolicy {
        fate: Fate::Seeded(seed.wrapping_mul(31) + index),
        tear: [Tear::Sector, Tear::Block, Tear::AnyByte][combination as usize % 3],
        unwritten: [Unwritten::Old, Unwritten::Zeros, Unwritten::Noise][combination as usize / 3 % 3],
        names: [Names::InOrder, Names::Any][combination as usize / 9],
    }
}

#[test]
fn the_script_is_covered_by_the_crash_points() {
    for seed in 0..6 {
        let options = options(&mut Chance::new(seed));
        let disk = SimDisk::new(seed);
        let (_, played) = play(&options, &disk);
        played.unwrap();
        let operations = disk.operations();
        assert!(operations <= OPERATIONS, "{operations} operations, and only {OPERATIONS} of them are tried");
    }
}

#[test]
fn a_crash_at_any_operation_keeps_what_was_acknowledged_and_invents_nothing() {
    let test = "a_crash_at_any_operation_keeps_what_was_acknowledged_and_invents_nothing";
    Cases { file: "crash", test, usual: OPERATIONS }.run(|seed| {
        let options = options(&mut Chance::new(seed));
        let (disk, ledger) = cut_short(&options, seed % OPERATIONS);
        let policies = [CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL, damage(seed, 0), damage(seed, 1)];
        for policy in policies {
            recovers(&options, &disk.crash(policy), &ledger);
        }
    });
}

#[test]
fn a_crash_at_any_operation_of_a_recovery_is_recovered_from() {
    let test = "a_crash_at_any_operation_of_a_recovery_is_recovered_from";
    Cases { file: "crash", test, usual: OPERATIONS }.run(|seed| {
        let mut chance = Chance::new(seed);
        let options = options(&mut chance);
        let (disk, ledger) = cut_short(&options, seed % OPERATIONS);
        let found = disk.crash(CrashPolicy::seeded(seed));
        for _ in 0..3 {
            let found = found.crash(CrashPolicy::KEEP_ALL);
            found.crash_after(chance.below(RECOVERY_OPERATIONS));
            let told = Told(&found);
            let ledger = match open(&options, &found, &ledger) {
                // What it has shown before the power fails is there for good.
                Ok(author) => author.close().0,
                Err(error) => {
                    assert!(found.is_off(), "{error} although the disk works");
                    ledger.clone()
                }
            };
            recovers(&options, &found.crash(CrashPolicy::seeded(chance.next())), &ledger);
            drop(told);
        }
    });
}

/// The first cut leaves whole groups behind the end of a segment. The second one wrote the segment's footer anew in its
/// place, and a power cut that tore it left nothing that said where the segment ended: the groups that the first cut
/// had taken were back, under LSNs that others had since.
#[test]
fn what_a_cut_has_taken_is_not_back_after_a_crash_in_the_next_cut() {
    const OPERATIONS: u64 = 40;
    let test = "what_a_cut_has_taken_is_not_back_after_a_crash_in_the_next_cut";
    Cases { file: "crash", test, usual: 2 * OPERATIONS }.run(|seed| {
        let options = options(&mut Chance::new(seed));
        let disk = SimDisk::new(seed);
        let _told = Told(&disk);
        let mut author = open(&options, &disk, &Ledger::new()).unwrap();
        for _ in 0..8 {
            author.append_durable(40).unwrap();
        }
        author.truncate(5).unwrap();
        author.append_durable(9000).unwrap();
        disk.crash_after(seed % OPERATIONS);
        let cut = author.truncate(4);
        assert!(cut.is_ok() || disk.is_off(), "{cut:?} although the disk works");
        let ledger = author.part();
        for index in 0..4 {
            recovers(&options, &disk.crash(damage(seed, index)), &ledger);
        }
    });
}
