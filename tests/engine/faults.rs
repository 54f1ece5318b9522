//! A disk that refuses, runs full, stalls, or lies.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use annals::disk::sim::{CrashPolicy, Fail, Fault, Operation, SimDisk};
use annals::{Durability, Error, Log, LogOptions, Lsn, WriteMethod};

use crate::support::PATIENCE;
use crate::support::author::Author;
use crate::support::ledger::{Ledger, Shown};
use crate::support::script::{Told, open, options, play};
use crate::support::seeds::{Cases, Chance};

/// What may fail while a log is open, and about how often the script does it.
const FAILING: [(Operation, u64); 10] = [
    (Operation::Write, 40),
    (Operation::WriteDurable, 60),
    (Operation::Sync, 60),
    (Operation::SyncDir, 40),
    (Operation::Rename, 20),
    (Operation::Create, 20),
    (Operation::Allocate, 20),
    (Operation::Remove, 12),
    (Operation::Open, 40),
    (Operation::Read, 40),
];

fn small() -> LogOptions {
    LogOptions::new("simulated").segment_bytes(64 << 10).group_bytes(4 << 10).in_flight_bytes_max(64 << 10)
}

/// The log as the account has it, on the same disk and after a loss of power.
fn is_recovered_from(options: &LogOptions, disk: &SimDisk, ledger: &Ledger, seed: u64) {
    disk.heal();
    let crashed = disk.crash(CrashPolicy::seeded(seed));
    for disk in [disk, &crashed] {
        let mut author = open(options, disk, ledger).expect("reopening recovers");
        author.append_durable(3000).unwrap();
        author.close().1.unwrap();
    }
}

/// Runs the script with a fault at the `n`th such operation.
fn script_with(fail: Fail, seed: u64) -> (SimDisk, LogOptions, Ledger, annals::Result<()>) {
    let options = options(&mut Chance::new(seed));
    let disk = SimDisk::new(seed);
    disk.fail(fail);
    let (ledger, played) = play(&options, &disk);
    (disk, options, ledger, played)
}

#[test]
fn an_input_output_error_anywhere_is_told_and_reopening_recovers() {
    let test = "an_input_output_error_anywhere_is_told_and_reopening_recovers";
    Cases { file: "faults", test, usual: 200 }.run(|seed| {
        let (operation, times) = FAILING[seed as usize % FAILING.len()];
        let nth = 1 + seed / FAILING.len() as u64 * 7 % times;
        let (disk, options, ledger, played) = script_with(Fail::nth(operation, nth, Fault::Io), seed);
        let _told = Told(&disk);
        match played {
            Ok(()) | Err(Error::Poisoned | Error::Io { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        is_recovered_from(&options, &disk, &ledger, seed);
    });
}

#[test]
fn a_full_disk_anywhere_loses_nothing_that_was_acknowledged() {
    let test = "a_full_disk_anywhere_loses_nothing_that_was_acknowledged";
    Cases { file: "faults", test, usual: 100 }.run(|seed| {
        let (operation, times) = FAILING[seed as usize % 7];
        let nth = 1 + seed / 7 * 5 % times;
        let (disk, options, ledger, played) = script_with(Fail::nth(operation, nth, Fault::NoSpace), seed);
        let _told = Told(&disk);
        match played {
            Ok(()) | Err(Error::Poisoned | Error::NoSpace) => {}
            Err(error) => panic!("{error}"),
        }
        is_recovered_from(&options, &disk, &ledger, seed);
    });
}

#[test]
fn short_and_interrupted_reads_and_writes_are_continued() {
    for seed in 0..24 {
        let operation = [Operation::Write, Operation::Read][seed as usize % 2];
        let fault = [Fault::Short(1 + seed as usize * 17), Fault::Interrupted][seed as usize / 2 % 2];
        let options = options(&mut Chance::new(seed));
        let disk = SimDisk::new(seed);
        for nth in [1, 2, 5, 9, 20] {
            disk.fail(Fail::nth(operation, nth, fault));
        }
        let (ledger, played) = play(&options, &disk);
        played.unwrap_or_else(|error| panic!("{error} with seed {seed}"));
        is_recovered_from(&options, &disk, &ledger, seed);
    }
}

/// The kernel reports a failed sync once, marks the pages clean, and lets the next sync succeed.
#[test]
fn a_sync_that_fails_once_and_then_succeeds_poisons_the_log_for_everybody() {
    for seed in 0..8 {
        let options = small().write_method(WriteMethod::Buffered);
        let disk = SimDisk::new(seed);
        let mut author = open(&options, &disk, &Ledger::new()).unwrap();
        author.append_durable(100).unwrap();
        disk.fail(Fail::nth(Operation::Sync, 1, Fault::LoseChanges).on("00000000000000000001.seg"));
        let _stalled = Stalled::new(&disk);
        let tickets: Vec<_> = (0..8).map(|_| author.log.append(b"doomed").unwrap()).collect();
        let deadline = Instant::now() + PATIENCE;
        thread::scope(|scope| {
            let wait = |ticket: annals::Ticket| match ticket.lsn().get() % 2 {
                0 => ticket.wait(),
                _ => ticket.wait_deadline(deadline),
            };
            let waiters: Vec<_> =
                tickets.into_iter().map(|ticket| scope.spawn(move || wait(ticket))).collect();
            let tail = scope.spawn(|| author.log.tail(Lsn::new(2)).unwrap().next().map(drop));
            let _ = disk.wait_until_blocked(1);
            disk.release();
            for waiter in waiters {
                assert!(matches!(waiter.join().unwrap(), Err(Error::Poisoned)));
            }
            assert!(matches!(tail.join().unwrap(), Err(Error::Poisoned)));
        });
        is_poisoned(&author.log);
        assert_eq!(Shown::of(&author.log).unwrap().last, 1, "what is not durable is never shown");
        let ledger = author.part();
        let found = disk.crash(CrashPolicy::KEEP_ALL);
        let author = open(&options, &found, &ledger).expect("the lost writes are gone, the rest is there");
        author.close().1.unwrap();
    }
}

/// What was lost is still there to be read: whoever opens the log then has to write it once more.
#[test]
fn what_a_failed_sync_has_lost_anywhere_and_an_open_has_found_is_there_for_good() {
    let test = "what_a_failed_sync_has_lost_anywhere_and_an_open_has_found_is_there_for_good";
    Cases { file: "faults", test, usual: 120 }.run(|seed| {
        let options = options(&mut Chance::new(seed)).write_method(WriteMethod::Buffered);
        let disk = SimDisk::new(seed);
        disk.fail(Fail::nth(Operation::Sync, 1 + seed * 3 % 170, Fault::LoseChanges));
        let (ledger, played) = play(&options, &disk);
        let _told = Told(&disk);
        assert!(matches!(played, Ok(()) | Err(Error::Poisoned | Error::Io { .. })), "{played:?}");
        disk.heal();
        let first = open(&options, &disk, &ledger).expect("reopening recovers");
        let found = disk.crash(CrashPolicy::LOSE_ALL);
        let (_, closed) = open(&options, &found, &first.part()).expect("recovered a second time").close();
        closed.unwrap();
    });
}

/// A truncation seals a segment that holds more than it keeps. The sync of that footer failed: the footer was in memory
/// only, and the log that was opened went on behind it. A power cut within the next truncation, to the same place,
/// brought back what the first had taken.
#[test]
fn what_a_cut_has_taken_is_not_back_although_the_sync_of_its_footer_failed() {
    let options = small().write_method(WriteMethod::Buffered);
    for stop in 0..24 {
        let disk = SimDisk::new(stop);
        let _told = Told(&disk);
        let mut author = open(&options, &disk, &Ledger::new()).unwrap();
        for _ in 0..8 {
            author.append_durable(40).unwrap();
        }
        disk.fail(Fail::nth(Operation::Sync, 1, Fault::LoseChanges).on("00000000000000000001.seg"));
        author.truncate(5).unwrap_err();
        let mut author = open(&options, &disk, &author.part()).unwrap();
        assert_eq!(Shown::of(&author.log).unwrap().last, 5, "the footer can be read");
        author.append_durable(70).unwrap();
        disk.crash_after(stop);
        let cut = author.truncate(5);
        assert!(cut.is_ok() || disk.is_off(), "{cut:?} although the disk works");
        let found = disk.crash(CrashPolicy::LOSE_ALL);
        open(&options, &found, &author.part())
            .expect("only what was appended last may be there, or not")
            .close()
            .1
            .unwrap();
    }
}

fn is_poisoned(log: &Log) {
    assert!(matches!(log.append(b"x"), Err(Error::Poisoned)));
    assert!(matches!(log.append_with(b"x", Durability::Buffered), Err(Error::Poisoned)));
    assert!(matches!(log.try_append(b"x"), Err(Error::Poisoned)));
    assert!(matches!(log.append_batch(&["x"]), Err(Error::Poisoned)));
    assert!(matches!(log.append_durable(b"x"), Err(Error::Poisoned)));
    assert!(matches!(log.sync(), Err(Error::Poisoned)));
    assert!(matches!(log.trim(Lsn::FIRST), Err(Error::Poisoned)));
    assert!(matches!(log.truncate(Lsn::ZERO), Err(Error::Poisoned)));
    assert!(matches!(log.set_mark(Lsn::FIRST, b"x"), Err(Error::Poisoned)));
    assert!(log.failure().is_some());
}

/// Fills the disk until appends are refused, also when nothing is in flight any more: as long as something
/// is, room is kept for more than it may take.
fn fill_up(author: &mut Author) {
    let mut refused = 0;
    while refused < 2 {
        match author.append(3000, Durability::Durable) {
            Ok(()) => refused = 0,
            Err(Error::NoSpace) => {
                author.redeem_all().unwrap();
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Appends again as soon as it is possible; nothing tells the log that there is space.
fn goes_on(author: &mut Author) {
    loop {
        match author.append_durable(3000) {
            Ok(()) => break,
            Err(Error::NoSpace) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..100 {
        author.append(3000, Durability::Durable).unwrap();
    }
    author.redeem_all().unwrap();
}

#[test]
fn appends_are_refused_on_a_full_disk_and_resume_by_themselves() {
    for seed in 0..4 {
        let options = options(&mut Chance::new(seed));
        let disk = SimDisk::new(seed);
        let mut author = open(&options, &disk, &Ledger::new()).unwrap();
        author.append_durable(10).unwrap();
        for _ in 0..3 {
            disk.set_capacity(Some(disk.used() + (100 << 10)));
            fill_up(&mut author);
            assert!(matches!(author.log.append_durable(&[0; 3000]), Err(Error::NoSpace)));
            assert!(author.log.failure().is_none());
            let shown = Shown::of(&author.log).unwrap();
            author.ledger.check(&shown).unwrap();
            disk.set_capacity(None);
            goes_on(&mut author);
        }
        let (ledger, closed) = author.close();
        closed.unwrap();
        is_recovered_from(&options, &disk, &ledger, seed);
    }
}

#[test]
fn a_trim_makes_room_on_a_full_disk() {
    for recycle in [true, false] {
        let disk = SimDisk::new(3);
        let options = small().recycle(recycle);
        let mut author = open(&options, &disk, &Ledger::new()).unwrap();
        disk.set_capacity(Some(800 << 10));
        fill_up(&mut author);
        author.trim(author.ledger.last()).unwrap();
        goes_on(&mut author);
    }
}

#[test]
fn a_full_disk_at_open_is_told_and_the_log_opens_once_there_is_space() {
    let disk = SimDisk::new(5);
    let mut author = open(&small(), &disk, &Ledger::new()).unwrap();
    fill_some(&mut author, 60);
    let ledger = author.part();
    let found = disk.crash(CrashPolicy::LOSE_ALL);
    found.set_capacity(Some(found.used()));
    match open(&small(), &found, &ledger) {
        Ok(author) => drop(author),
        Err(error) => assert!(matches!(error, Error::NoSpace), "{error}"),
    }
    found.set_capacity(None);
    open(&small(), &found, &ledger).unwrap().close().1.unwrap();
    let empty = SimDisk::new(6);
    empty.set_capacity(Some(4096));
    assert!(matches!(open(&small(), &empty, &Ledger::new()), Err(Error::NoSpace)));
    empty.set_capacity(None);
    open(&small(), &empty, &Ledger::new()).unwrap();
}

fn fill_some(author: &mut Author, records: usize) {
    for _ in 0..records {
        author.append(3000, Durability::Durable).unwrap();
    }
    author.redeem_all().unwrap();
}

/// A stall that ends with the test, or one that fails could not close its log.
struct Stalled<'a>(&'a SimDisk);

impl<'a> Stalled<'a> {
    fn new(disk: &'a SimDisk) -> Stalled<'a> {
        disk.stall();
        Stalled(disk)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Both kinds of waiting are seen to happen before the disk goes on.
#[test]
fn a_stalled_disk_lets_deadlines_pass_and_holds_appends_back_within_the_bounds() {
    let disk = SimDisk::new(1);
    // More than may be in flight fits into a segment.
    let options = small().segment_bytes(256 << 10);
    let log = options.open_with(Arc::new(disk.clone())).unwrap();
    log.append_durable(b"before").unwrap();
    let _stalled = Stalled::new(&disk);
    let record = [7; 1000];
    let mut tickets = Vec::new();
    let refused = loop {
        match log.try_append(&record) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::WouldBlock), "{refused}");
    let taken = tickets.len() * record.len();
    assert!(((32 << 10)..=(64 << 10)).contains(&taken), "{taken} bytes were taken");
    for ticket in &tickets {
        assert!(matches!(ticket.wait_deadline(Instant::now()), Err(Error::TimedOut)));
    }
    let soon = Instant::now() + Duration::from_millis(5);
    assert!(matches!(tickets[0].wait_deadline(soon), Err(Error::TimedOut)));
    assert!(log.tail(Lsn::new(2)).unwrap().next_until(soon).unwrap().is_none());
    thread::scope(|scope| {
        let held = log.stats().backpressure_waits;
        let blocked = scope.spawn(|| log.append(&record).unwrap().lsn());
        while log.stats().backpressure_waits == held {
            thread::yield_now();
        }
        assert!(!blocked.is_finished());
        disk.release();
        assert_eq!(blocked.join().unwrap().get(), tickets.len() as u64 + 2);
    });
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    log.close().unwrap();
}

#[test]
fn a_record_as_large_as_all_that_may_be_in_flight_is_taken_alone() {
    let disk = SimDisk::new(1);
    let log = small().segment_bytes(256 << 10).open_with(Arc::new(disk.clone())).unwrap();
    log.append_durable(b"before").unwrap();
    let stalled = Stalled::new(&disk);
    let large = vec![7; 70 << 10];
    let ticket = log.try_append(&large).unwrap();
    assert!(matches!(log.try_append(&large), Err(Error::WouldBlock)));
    drop(stalled);
    ticket.wait().unwrap();
    assert_eq!(log.append_durable(&large).unwrap().lsn().get(), 3);
}

#[test]
fn a_disk_that_lies_about_syncs_takes_away_a_suffix_or_is_caught() {
    let test = "a_disk_that_lies_about_syncs_takes_away_a_suffix_or_is_caught";
    Cases { file: "faults", test, usual: 60 }.run(|seed| {
        let options = options(&mut Chance::new(seed));
        let disk = SimDisk::new(seed);
        let mut author = open(&options, &disk, &Ledger::new()).unwrap();
        fill_some(&mut author, 20);
        // Spares that were promised in time of honesty are not taken away.
        let honest = author.ledger.clone();
        disk.lie_about_sync(true);
        fill_some(&mut author, seed as usize % 40);
        let mut ledger = author.ledger.clone();
        ledger.doubt_after(honest.acknowledged());
        let policy = if seed % 2 == 0 { CrashPolicy::LOSE_ALL } else { CrashPolicy::seeded(seed) };
        let found = disk.crash(policy);
        drop(author);
        let _told = Told(&found);
        match open(&options, &found, &ledger) {
            Ok(author) => author.close().1.unwrap(),
            Err(Error::Rot { first, .. } | Error::Hole { first, .. }) => {
                assert!(first.get() > honest.acknowledged(), "record {first} was synced honestly");
            }
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
fn a_second_writer_is_refused_with_the_owners_process_id_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let mut author = open(&small(), &disk, &Ledger::new()).unwrap();
    fill_some(&mut author, 3);
    for _ in 0..3 {
        let refused = small().open_with(Arc::new(disk.clone())).unwrap_err();
        assert!(matches!(refused, Error::InUse { owner: Some(SimDisk::PID) }), "{refused}");
    }
    fill_some(&mut author, 3);
    let (ledger, closed) = author.close();
    closed.unwrap();
    open(&small(), &disk, &ledger).unwrap();
}
