//! Online copies: each is the log as it was at one moment, whatever goes on meanwhile, or it is no log.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, Fail, Fault, Operation, SimDisk};
use annals::{Error, Log, LogOptions, Lsn, ReadOnlyLog};
use annals_fixtures::records::{self, expected, fill, record};
use parking_lot::Mutex;

const SEGMENT_BYTES: u64 = 64 << 10;

fn options(dir: impl AsRef<Path>) -> LogOptions {
    LogOptions::new(dir).segment_bytes(SEGMENT_BYTES)
}

fn all(log: &Log) -> Vec<(u64, Vec<u8>)> {
    records::all(log.cursor(..).unwrap())
}

fn all_read_only(log: &ReadOnlyLog) -> Vec<(u64, Vec<u8>)> {
    records::all(log.cursor(..).unwrap())
}

fn sim_log(seed: u64) -> (Log, SimDisk) {
    let disk = SimDisk::new(seed);
    let log = options("").open_with(Arc::new(disk.clone())).unwrap();
    (log, disk)
}

fn open(disk: &SimDisk) -> annals::Result<Log> {
    options("").open_with(Arc::new(disk.clone()))
}

#[test]
fn a_copy_ends_with_what_was_durable_while_writers_append_and_roll_and_trim() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(dir.path().join("log")).open().unwrap();
    let appended = Mutex::new(BTreeMap::new());
    let stop = AtomicBool::new(false);
    let copies = thread::scope(|scope| {
        for writer in 0..3_u8 {
            let (log, appended, stop) = (log.clone(), &appended, &stop);
            scope.spawn(move || {
                for number in 0_usize.. {
                    let record = vec![writer; number * 131 % 2000];
                    let ticket = log.append(&record).unwrap();
                    appended.lock().insert(ticket.lsn().get(), record);
                    ticket.wait().unwrap();
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let copies: Vec<_> = (0..6)
            .map(|number| {
                while log.last_lsn() < Lsn::new(500 * (number + 1)) {
                    thread::yield_now();
                }
                let (to, before) = (dir.path().join(format!("copy-{number}")), log.last_lsn());
                let last = log.backup(&to).unwrap();
                assert!((before..=log.last_lsn()).contains(&last));
                log.trim(Lsn::new(last.get() - 300)).unwrap();
                (to, last)
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        copies
    });
    let appended = appended.into_inner();
    for (to, last) in copies {
        let copy = options(to).open().unwrap();
        assert_eq!(copy.last_lsn(), last);
        assert_eq!(copy.id(), log.id());
        let first = copy.first_lsn().get();
        let expected: Vec<_> =
            appended.range(first..=last.get()).map(|(lsn, record)| (*lsn, record.clone())).collect();
        assert!(all(&copy) == expected, "from {first} to {last}");
        copy.append_durable(b"a copy is a log").unwrap();
    }
}

#[test]
fn a_copy_has_the_mark_and_the_trim_point_and_opens_as_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(dir.path().join("log")).open().unwrap();
    fill(&log, 1000);
    log.set_mark(Lsn::new(700), b"snapshot-700").unwrap();
    log.trim(Lsn::new(650)).unwrap();
    let to = dir.path().join("a/new/place");
    assert_eq!(log.backup(&to).unwrap(), Lsn::new(1000));
    let superblock = annals::format::choose_slot(&std::fs::read(to.join("superblock")).unwrap()).unwrap();
    assert!(superblock.other_is_sound && superblock.superblock.clean_tail.is_some());
    let names = || {
        let entries = std::fs::read_dir(&to).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert!(names().iter().all(|name| ["LOCK", "superblock"].contains(&&**name) || name.ends_with(".seg")));
    let reader = options(&to).open_read_only().unwrap();
    assert_eq!(all_read_only(&reader), expected(650, 1000));
    drop(reader);
    let copy = options(&to).open().unwrap();
    assert_eq!((copy.first_lsn(), copy.last_lsn(), copy.id()), (Lsn::new(650), Lsn::new(1000), log.id()));
    assert_eq!((copy.mark(), copy.write_method()), (log.mark(), log.write_method()));
    fill(&copy, 500);
    assert_eq!(all(&copy), expected(650, 1500));
    copy.close().unwrap();
    assert_eq!(all(&options(&to).open().unwrap()), expected(650, 1500));
    assert_eq!(log.last_lsn(), Lsn::new(1000), "the log is another one");
}

#[test]
fn a_copy_of_an_empty_log_is_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(dir.path().join("log")).open().unwrap();
    assert_eq!(log.backup(dir.path().join("copy")).unwrap(), Lsn::ZERO);
    let copy = options(dir.path().join("copy")).open().unwrap();
    assert_eq!(copy.id(), log.id());
    fill(&copy, 3);
    assert_eq!(all(&copy), expected(1, 3));
}

#[test]
fn a_copy_of_a_log_that_was_trimmed_to_its_end_goes_on_there() {
    let (log, _) = sim_log(1);
    fill(&log, 400);
    log.trim(Lsn::new(401)).unwrap();
    let to = SimDisk::new(2);
    assert_eq!(log.backup_with(&to).unwrap(), Lsn::new(400));
    let copy = open(&to).unwrap();
    assert_eq!((copy.first_lsn(), copy.last_lsn()), (Lsn::new(401), Lsn::new(400)));
    fill(&copy, 10);
    assert_eq!(all(&copy), expected(401, 410));
}

#[test]
fn a_directory_with_something_in_it_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(dir.path().join("log")).open().unwrap();
    fill(&log, 3);
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("mine"), b"mine").unwrap();
    assert!(matches!(log.backup(&other), Err(Error::NotEmpty)));
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
    assert!(matches!(log.backup(dir.path().join("log")), Err(Error::NotEmpty)), "its own directory");
    log.backup(dir.path().join("copy")).unwrap();
    assert!(matches!(log.backup(dir.path().join("copy")), Err(Error::NotEmpty)), "a copy that is there");
}

#[test]
fn a_directory_that_somebody_is_about_to_use_is_refused() {
    let (log, _) = sim_log(3);
    let to = SimDisk::new(4);
    let lock = to.lock("LOCK").unwrap();
    assert!(matches!(log.backup_with(&to), Err(Error::InUse { owner: Some(SimDisk::PID) })));
    drop(lock);
    log.backup_with(&to).unwrap();
}

#[test]
fn a_copy_of_a_truncated_log_has_nothing_of_what_was_cut() {
    for after in [0, 1, 10, 333, 700, 999] {
        let (log, _) = sim_log(5);
        fill(&log, 1000);
        // In groups that end after the cut, and with a batch.
        log.append_batch(&[record(1001), record(1002)]).unwrap().wait().unwrap();
        log.truncate(Lsn::new(after)).unwrap();
        for round in 0..2 {
            let to = SimDisk::new(6);
            let last = after + 20 * round;
            assert_eq!(log.backup_with(&to).unwrap(), Lsn::new(last));
            let copy = open(&to).unwrap();
            assert_eq!(all(&copy), expected(1, last), "cut at {after}");
            fill(&copy, 30);
            assert_eq!(all(&copy), expected(1, last + 30), "cut at {after}");
            fill(&log, 20);
        }
    }
}

/// Makes a copy step by step, and does something to the log before step number `step`; `None` if the copy
/// has fewer steps.
fn interrupted(log: &Log, step: usize, meanwhile: impl Fn(&Log)) -> Option<(Lsn, SimDisk)> {
    let to = SimDisk::new(7);
    to.stall();
    thread::scope(|scope| {
        let copy = scope.spawn(|| log.backup_with(&to));
        for number in 0.. {
            let waiting = loop {
                if let [(ticket, _), ..] = to.blocked()[..] {
                    break Some(ticket);
                }
                if copy.is_finished() {
                    break None;
                }
                thread::yield_now();
            };
            let Some(ticket) = waiting else { break };
            if number == step {
                meanwhile(log);
                to.release();
                return Some((copy.join().unwrap().unwrap(), to.clone()));
            }
            to.release_one(ticket);
        }
        copy.join().unwrap().unwrap();
        None
    })
}

#[test]
fn a_trim_at_any_moment_of_a_copy_takes_at_most_what_was_trimmed() {
    for step in 0.. {
        let (log, _) = sim_log(8);
        fill(&log, 700);
        let trim = |log: &Log| {
            fill(log, 300);
            log.trim(Lsn::new(400)).unwrap();
            // Files of trimmed segments are used again meanwhile.
            fill(log, 300);
        };
        let Some((last, to)) = interrupted(&log, step, trim) else {
            assert!(step > 20, "a copy of several segments has several steps");
            return;
        };
        assert_eq!(last, Lsn::new(700));
        let copy = open(&to).unwrap();
        assert!([1, 400].contains(&copy.first_lsn().get()), "{}", copy.first_lsn());
        assert_eq!(all(&copy), expected(copy.first_lsn().get(), 700), "at step {step}");
        fill(&copy, 10);
    }
}

#[test]
fn a_trim_past_all_that_is_copied_leaves_an_empty_copy_or_a_whole_one() {
    for step in 0.. {
        let (log, _) = sim_log(9);
        fill(&log, 300);
        let trim = |log: &Log| {
            fill(log, 600);
            log.trim(Lsn::new(700)).unwrap();
            fill(log, 300);
        };
        let Some((last, to)) = interrupted(&log, step, trim) else { return };
        let copy = open(&to).unwrap();
        assert_eq!((last, copy.last_lsn()), (Lsn::new(300), Lsn::new(300)));
        assert_eq!(all(&copy), expected(copy.first_lsn().get(), 300), "at step {step}");
        fill(&copy, 10);
    }
}

#[test]
fn a_truncation_at_any_moment_of_a_copy_leaves_the_log_before_or_after_it() {
    for step in 0.. {
        let (log, _) = sim_log(10);
        fill(&log, 700);
        let cut = |log: &Log| {
            log.truncate(Lsn::new(300)).unwrap();
            log.append_durable(b"instead").unwrap();
        };
        let Some((last, to)) = interrupted(&log, step, cut) else { return };
        let copy = open(&to).unwrap();
        let found = all(&copy);
        if last == Lsn::new(700) {
            assert_eq!(found, expected(1, 700), "at step {step}");
        } else {
            let mut after = expected(1, 300);
            after.push((301, b"instead".to_vec()));
            assert_eq!((last, found), (Lsn::new(301), after), "at step {step}");
        }
    }
}

#[test]
fn a_crash_at_any_operation_leaves_the_whole_copy_or_no_log() {
    let (log, _) = sim_log(11);
    fill(&log, 300);
    for more in 0.. {
        let to = SimDisk::new(12);
        to.crash_after(more);
        let done = log.backup_with(&to).is_ok();
        let seeded = (0..8).map(|seed| CrashPolicy::seeded(seed + 100 * more));
        for policy in seeded.chain([CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL]) {
            let left = to.crash(policy);
            let story = || format!("{policy:?}\n{}", left.trace());
            let names = left.list().unwrap();
            let reader = options("").open_read_only_with(Arc::new(left.clone()));
            match reader {
                Ok(reader) => assert_eq!(all_read_only(&reader), expected(1, 300), "{}", story()),
                Err(Error::NotALog) => assert!(!done, "what is done is durable: {}", story()),
                Err(error) => panic!("{error} {}", story()),
            }
            match open(&left) {
                Ok(copy) if names.iter().any(|name| name == "superblock") => {
                    assert_eq!(all(&copy), expected(1, 300), "{}", story());
                }
                Ok(_) => assert!(names.iter().all(|name| name == "LOCK"), "nothing of the copy: {}", story()),
                Err(Error::NotEmpty | Error::SuperblockDamaged) => {
                    assert!(!done && matches!(log.backup_with(&left), Err(Error::NotEmpty)), "{}", story());
                }
                Err(error) => panic!("{error} {}", story()),
            }
        }
        if done {
            assert!(more > 20, "a copy has many steps");
            return;
        }
    }
}

#[test]
fn what_a_failure_leaves_is_removed_and_the_next_attempt_succeeds() {
    use Operation::*;
    let (log, _) = sim_log(13);
    fill(&log, 300);
    for operation in [List, Create, Write, Sync, SyncDir, Rename, Remove, Allocate, Lock] {
        for (nth, fault) in (1..).flat_map(|nth| [(nth, Fault::Io), (nth, Fault::NoSpace)]) {
            let to = SimDisk::new(14);
            to.fail(Fail::nth(operation, nth, fault));
            match (log.backup_with(&to), fault) {
                (Ok(last), _) => {
                    to.heal();
                    assert_eq!(all(&open(&to).unwrap()), expected(1, last.get()));
                    break;
                }
                (Err(Error::NoSpace), Fault::NoSpace) | (Err(Error::Io { .. }), Fault::Io) => {}
                (Err(error), _) => panic!("{operation:?} {nth}: {error}"),
            }
            to.heal();
            let names = to.list().unwrap();
            assert!(names.iter().all(|name| name == "LOCK"), "{operation:?} {nth}: {names:?}");
            assert_eq!(log.backup_with(&to).unwrap(), Lsn::new(300), "{operation:?} {nth}");
        }
    }
}

#[test]
fn a_damaged_log_is_not_copied_and_the_damage_has_a_place() {
    let (log, disk) = sim_log(15);
    fill(&log, 300);
    let first = format!("{:020}.seg", 1);
    let place = 9000;
    disk.flip_bit(&first, place, 3);
    let to = SimDisk::new(16);
    match log.backup_with(&to) {
        Err(Error::Rot { file, bytes, first: lsn, .. }) => {
            assert!(
                *file == first && bytes.contains(&place) && lsn < Lsn::new(100),
                "{file} {bytes:?} {lsn}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(to.list().unwrap(), ["LOCK"]);
}

#[test]
fn a_log_that_a_failed_flush_has_poisoned_can_be_saved_as_far_as_it_is_durable() {
    let (log, disk) = sim_log(17);
    fill(&log, 100);
    disk.fail(Fail::nth(Operation::WriteDurable, 1, Fault::Io).and_later());
    log.append_durable(b"lost").unwrap_err();
    let to = SimDisk::new(18);
    assert_eq!(log.backup_with(&to).unwrap(), Lsn::new(100));
    assert_eq!(all(&open(&to).unwrap()), expected(1, 100));
}

#[test]
fn a_closed_log_is_not_copied() {
    let (log, _) = sim_log(19);
    log.clone().close().unwrap();
    assert!(matches!(log.backup_with(&SimDisk::new(20)), Err(Error::Closed)));
}
