//! A crash after every single disk operation of a scripted run, and of the recovery from it.
//!
//! The log has threads of its own, so the same operation is not always the same one: each case is a sample.
//! What has to hold is worked out from what was really acknowledged in that run.

#![allow(clippy::unwrap_used)]

mod support {
    pub(crate) mod author;
    pub(crate) mod ledger;
    pub(crate) mod seeds;
}

use std::sync::Arc;

use annals::disk::sim::{CrashPolicy, Fate, Names, SimDisk, Tear, Unwritten};
use annals::{Durability, LogOptions, Result, WriteMethod, ZeroFill};

use support::author::Author;
use support::ledger::Ledger;
use support::seeds::{Cases, Chance};

/// More disk operations than the script ever takes.
const OPERATIONS: u64 = 330;
/// More than any recovery takes, with all that the log does before it is closed again.
const RECOVERY_OPERATIONS: u64 = 48;

/// Small segments, so that little makes them roll.
fn options(chance: &mut Chance) -> LogOptions {
    LogOptions::new("simulated")
        .segment_bytes(64 << 10)
        .group_bytes(chance.pick(&[4 << 10, 8 << 10]))
        .record_bytes_max(256 << 10)
        .in_flight_bytes_max(64 << 10)
        .depth(chance.pick(&[1, 2, 4]))
        .write_method(chance.pick(&WriteMethod::ALL))
        .recycle(chance.below(4) > 0)
        .zero_fill(chance.pick(&[ZeroFill::Adaptive, ZeroFill::Never]))
        .strict_blocks(chance.below(4) == 0)
}

fn open(options: &LogOptions, disk: &SimDisk, ledger: &Ledger) -> Result<Author> {
    Author::open(options.clone(), Some(Arc::new(disk.clone())), ledger)
}

/// One life of a log: from when it is open until it is closed.
type Life = fn(&mut Author) -> Result<()>;

const LIVES: [Life; 3] = [grow, shrink, go_on];

/// Segments, batches, an oversized record, a mark.
fn grow(author: &mut Author) -> Result<()> {
    author.append_durable(100)?;
    author.append_batch(&[10, 0, 3000])?;
    author.append(900, Durability::Buffered)?;
    author.sync()?;
    author.mark(3, 500)?;
    for round in 0..6 {
        author.append(5000 + round * 500, Durability::Durable)?;
        author.append_batch(&[2000, 1, 4000])?;
        author.append(0, Durability::Durable)?;
        author.redeem_oldest(2)?;
    }
    author.append(90 << 10, Durability::Durable)?;
    author.append_durable(4096)?;
    for _ in 0..4 {
        author.append_durable(7000)?;
    }
    author.redeem_all()
}

/// Trims, grows into what was recycled, marks and truncates.
fn shrink(author: &mut Author) -> Result<()> {
    let first = author.ledger.first();
    author.append_durable(300)?;
    author.trim(first + 20)?;
    author.mark(first + 20, 9000)?;
    for _ in 0..9 {
        author.append_batch(&[3000, 3000])?;
        author.append_durable(2000)?;
    }
    author.truncate(batch_end(author, 11))?;
    author.append_durable(700)?;
    author.trim(author.ledger.last() - 9)?;
    for _ in 0..5 {
        author.append(6000, Durability::Buffered)?;
        author.append_durable(1)?;
    }
    author.truncate(batch_end(author, 1))?;
    author.append_batch(&[40, 50])?;
    author.redeem_all()
}

/// Another segment, and an end without waiting.
fn go_on(author: &mut Author) -> Result<()> {
    for _ in 0..5 {
        author.append_durable(6000)?;
    }
    author.trim(author.ledger.last())?;
    author.append(100, Durability::Durable)?;
    author.forget_tickets();
    author.append(100, Durability::Buffered)
}

/// The end of the batch that is `back` records before the last.
fn batch_end(author: &Author, back: u64) -> u64 {
    let lsn = author.ledger.last() - back;
    author.ledger.batch(lsn).expect("retained").1
}

/// Runs the script until it ends or the power does, and returns the account of it.
fn play(options: &LogOptions, disk: &SimDisk) -> (Ledger, Result<()>) {
    let mut ledger = Ledger::new();
    for life in LIVES {
        let mut author = match open(options, disk, &ledger) {
            Ok(author) => author,
            Err(error) => return (ledger, Err(error)),
        };
        if let Err(error) = life(&mut author) {
            return (author.part(), Err(error));
        }
        let (account, closed) = author.close();
        ledger = account;
        if closed.is_err() {
            return (ledger, closed);
        }
    }
    (ledger, Ok(()))
}

/// Prints what the disk did last if the test fails here.
struct Told<'a>(&'a SimDisk);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = self.0.trace();
            let lines: Vec<_> = trace.lines().rev().take(60).collect();
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

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
