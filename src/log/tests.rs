//! The log as a whole over the simulated disk: what went wrong once, and must not again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

use super::prepare::{Go, make_spare, recycled};
use super::store::Files;
use super::superblock_file::SuperblockFile;
use super::{Log, LogOptions, Ticket, keep};
use crate::disk::sim::{Fail, Fault, Operation, SimDisk};
use crate::disk::{Disk, Lock};
use crate::error::Error;
use crate::segment::LOCK;
use crate::types::{Lsn, WriteMethod};

fn options() -> LogOptions {
    LogOptions::new("").segment_bytes(64 << 10).write_method(WriteMethod::Direct)
}

fn open(disk: &SimDisk, options: LogOptions) -> Log {
    options.open_with(Arc::new(disk.clone())).unwrap()
}

fn lengths(log: &Log) -> Vec<usize> {
    log.cursor(..).unwrap().records().map(|record| record.unwrap().len()).collect()
}

/// The group found no room in the first segment, which was empty, so that a second one began with record 1.
#[test]
fn the_first_record_of_a_log_may_be_larger_than_a_segment() {
    let disk = SimDisk::new(1);
    let log = open(&disk, options());
    for bytes in [100 << 10, 10, 200 << 10] {
        log.append_durable(&vec![7; bytes]).unwrap();
    }
    assert_eq!(lengths(&log), [100 << 10, 10, 200 << 10]);
    log.truncate(Lsn::ZERO).unwrap();
    log.append_durable(&vec![7; 300 << 10]).unwrap();
    log.close().unwrap();
    let log = open(&disk, options());
    assert_eq!(lengths(&log), [300 << 10]);
}

/// The same with a group that is no larger than groups are by then.
#[test]
fn an_empty_log_may_be_opened_with_larger_segments() {
    let disk = SimDisk::new(2);
    open(&disk, options()).close().unwrap();
    let log = open(&disk, options().segment_bytes(8 << 20));
    log.append_durable(&vec![7; 500 << 10]).unwrap();
    log.close().unwrap();
    assert_eq!(lengths(&open(&disk, options())), [500 << 10]);
}

/// Housekeeping had read the watermark before the truncation, and wrote it down after: the log then missed
/// records that it seemed to have acknowledged.
#[test]
fn housekeeping_never_vouches_for_what_a_truncation_forgets() {
    let disk = SimDisk::new(3);
    let log = open(&disk, options());
    for _ in 0..10 {
        log.append_durable(b"record").unwrap();
    }
    disk.stall();
    std::thread::scope(|threads| {
        threads.spawn(|| log.truncate(Lsn::new(5)).unwrap());
        // Up to where the superblock says so already, and the list of segments does not.
        let begins = |what: &str| what.starts_with("Rename spare-") && !what.ends_with(".tmp");
        while !disk.wait_until_blocked(1).iter().any(|(_, what)| begins(what)) {
            let others = disk.blocked().into_iter().filter(|(_, what)| !begins(what));
            others.for_each(|(ticket, _)| assert!(disk.release_one(ticket)));
        }
        let keeping = threads.spawn(|| keep::come_by(log.engine(), Lsn::new(10), false));
        while !keeping.is_finished() {
            let others = disk.blocked().into_iter().filter(|(_, what)| !begins(what));
            others.for_each(|(ticket, _)| assert!(disk.release_one(ticket)));
        }
        disk.release();
    });
    log.close().unwrap();
    assert_eq!(open(&disk, options()).last_lsn(), Lsn::new(5));
}

/// Retention asked whether the log takes appends, and its answer, that it is closing, poisoned it.
#[test]
fn retention_while_the_log_closes_does_not_poison_it() {
    let disk = SimDisk::new(4);
    let log = open(&disk, options().retain_bytes(64 << 10));
    for _ in 0..40 {
        log.append_durable(&[7; 4000]).unwrap();
    }
    log.engine().drain().unwrap();
    keep::come_by(log.engine(), Lsn::ZERO, true);
    assert!(log.failure().is_none());
    log.close().unwrap();
}

/// The thread that closed the log joined the flushers, and gave the directory's lock back while a caller was
/// still writing a group.
#[test]
fn a_poisoned_log_is_closed_only_after_the_last_write_has_come_back() {
    let disk = SimDisk::new(5);
    let log = open(&disk, options());
    log.append_durable(b"one").unwrap();
    disk.stall();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| log.append_durable(b"two"));
        let writing = |(_, what): &(u64, String)| what.starts_with("WriteDurable 0");
        while !disk.wait_until_blocked(1).iter().any(writing) {}
        log.engine().poison(Error::Poisoned);
        let closing = threads.spawn(|| log.clone().close());
        for _ in 0..10_000 {
            let others = disk.blocked().into_iter().filter(|blocked| !writing(blocked));
            others.for_each(|(ticket, _)| assert!(disk.release_one(ticket)));
            std::thread::yield_now();
            assert!(!closing.is_finished());
        }
        disk.release();
        assert!(waiting.join().unwrap().is_err() && closing.join().unwrap().is_err());
    });
    assert_eq!(open(&disk, options()).last_lsn(), Lsn::new(2));
}

/// A flusher that woke a task was the last to have it, and with it the log: it waited for itself.
#[test]
fn the_last_handle_may_be_dropped_by_the_thread_that_wakes_its_task() {
    struct Task(Mutex<Option<Ticket>>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let disk = SimDisk::new(6);
    let log = open(&disk, options());
    disk.stall();
    let task = Arc::new(Task(Mutex::new(Some(log.append(b"one").unwrap()))));
    drop(log);
    let waker = Waker::from(Arc::clone(&task));
    let polled = Pin::new(task.0.lock().as_mut().unwrap()).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop((waker, task));
    disk.release();
    while let Lock::Taken(_) = disk.lock(LOCK).unwrap() {
        std::thread::yield_now();
    }
    let found = SuperblockFile::read(&disk).unwrap().unwrap();
    assert_eq!(found.superblock.clean_tail.map(|tail| tail.last_lsn), Some(Lsn::FIRST));
}

/// Its panic ended a thread in silence, and whoever waited for the group waited for ever.
#[test]
fn a_panic_in_a_thread_of_the_log_ends_every_wait() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    let disk = SimDisk::new(7);
    let log = open(&disk, options());
    disk.stall();
    let mut ticket = log.append(b"one").unwrap();
    let waker = Waker::from(Arc::new(Bomb));
    assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
    disk.release();
    while log.failure().is_none() {
        std::thread::yield_now();
    }
    assert!(matches!(log.append_durable(b"two"), Err(Error::Poisoned)));
    assert!(log.close().is_err());
}

/// The flight was taken off the list of those that wait before its waiters were told, and whoever ended the log after
/// the panic went by that list.
#[test]
fn a_panic_between_landing_a_group_and_resolving_it_ends_every_wait() {
    struct Bell(AtomicBool);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }
    let disk = SimDisk::new(9);
    let log = open(&disk, options());
    disk.stall();
    let mut ticket = log.append(b"one").unwrap();
    let bell = Arc::new(Bell(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&bell));
    assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
    // The watermark would seem to go back, which is asserted between the two.
    log.engine().lower_durable(Lsn::new(100));
    disk.release();
    while !bell.0.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    assert!(log.failure().is_some());
    assert!(log.close().is_err());
}

/// One task's panic kept the others from being woken.
#[test]
fn a_task_that_panics_when_it_is_woken_keeps_no_other_one_asleep() {
    struct Task(bool, AtomicBool);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::Release);
            assert!(!self.0, "a waker that panics");
        }
    }
    let disk = SimDisk::new(10);
    let log = open(&disk, options());
    disk.stall();
    let mut tickets: Vec<_> = (0..4).map(|_| log.append(b"one").unwrap()).collect();
    let tasks: Vec<_> =
        (0..4).map(|number| Arc::new(Task(number % 2 == 0, AtomicBool::new(false)))).collect();
    for (ticket, task) in tickets.iter_mut().zip(&tasks) {
        let waker = Waker::from(Arc::clone(task));
        assert!(Pin::new(ticket).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    disk.release();
    while !tasks.iter().all(|task| task.1.load(Ordering::Acquire)) {
        std::thread::yield_now();
    }
    while log.failure().is_none() {
        std::thread::yield_now();
    }
    drop(tickets);
    assert!(log.close().is_err());
}

/// Each attempt that failed after the renaming left a spare behind until the log was opened again.
#[test]
fn a_spare_whose_name_or_writer_fails_is_not_left_behind() {
    let disk = SimDisk::new(11);
    let files = Files::new(Arc::new(disk.clone()), WriteMethod::Direct, 1);
    for _ in 0..3 {
        disk.fail(Fail::nth(Operation::SyncDir, 1, Fault::NoSpace));
        let made = make_spare(&files, 64 << 10, &|_| Go::Enough);
        assert!(matches!(made, Err(Error::NoSpace)));
        assert_eq!(disk.list().unwrap(), [""; 0]);
    }
    let spare = make_spare(&files, 64 << 10, &|_| Go::Enough).unwrap().unwrap();
    assert_eq!(disk.list().unwrap(), [&*spare.name]);
}

/// A file that could not be used again just then was forgotten until the log was opened again.
#[test]
fn a_trimmed_file_whose_recycling_fails_for_the_moment_is_recycled_later() {
    let disk = SimDisk::new(12);
    let log = open(&disk, options());
    let engine = log.engine();
    while engine.commit().spares() == 0 {
        std::thread::yield_now();
    }
    let name = "00000000000000000000.seg";
    disk.create(name).unwrap().allocate(64 << 10).unwrap();
    engine.store.retire(name.to_owned(), 64 << 10);
    for operation in [Operation::Open, Operation::Write, Operation::Sync, Operation::Rename] {
        disk.fail(Fail::nth(operation, 1, Fault::NoSpace).on(name));
        assert!(matches!(recycled(&engine.store, 64 << 10), Err(Error::NoSpace)));
    }
    assert!(recycled(&engine.store, 64 << 10).unwrap().is_some());
    assert!(disk.list().unwrap().iter().all(|left| left != name));
}

/// The preparing thread went on trying for the large segment only, and small records were refused too once
/// the tail was full.
#[test]
fn a_record_too_large_for_the_disk_keeps_no_smaller_one_out() {
    let disk = SimDisk::new(8);
    let log = open(&disk, options());
    log.append_durable(b"one").unwrap();
    disk.set_capacity(Some(disk.used() + (300 << 10)));
    assert!(matches!(log.append(&vec![7; 1 << 20]), Err(Error::NoSpace)));
    for _ in 0..30 {
        while let Err(error) = log.append_durable(&[7; 4000]) {
            // While the preparing thread takes a breath.
            assert!(matches!(error, Error::NoSpace), "{error}");
        }
    }
    disk.set_capacity(None);
    while let Err(error) = log.append_durable(&vec![7; 1 << 20]) {
        assert!(matches!(error, Error::NoSpace), "{error}");
    }
    log.close().unwrap();
}
