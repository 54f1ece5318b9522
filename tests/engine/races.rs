//! Readers and writers beside each other on a real directory, where segments are small and files short-lived.
//!
//! Every record tells its own LSN and its writer's count, so a reader knows a wrong one without being told.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use annals::disk::sim::SimDisk;
use annals::{Durability, Error, Log, LogOptions, Lsn, Record, WriteMethod};

use crate::support::PATIENCE;
use crate::support::seeds::{Cases, Chance};

fn options(directory: &tempfile::TempDir, seed: u64) -> LogOptions {
    LogOptions::new(directory.path().join("log"))
        .segment_bytes(64 << 10)
        .group_bytes(8 << 10)
        .in_flight_bytes_max(256 << 10)
        .write_method(WriteMethod::ALL[seed as usize % 3])
        .verify_reads(seed % 4 != 3)
}

/// A record that can be known again: who wrote it, which one of theirs it is, and bytes that follow from that.
fn payload(writer: u64, count: u64) -> Vec<u8> {
    let mut chance = Chance::new(writer << 32 | count);
    let mut bytes = [writer.to_le_bytes(), count.to_le_bytes()].concat();
    let more = chance.below(1500) as usize;
    // Filled and copied at once: byte by byte it was a fifth of what this suite did.
    bytes.extend_from_slice(&vec![chance.next() as u8; more]);
    bytes
}

/// Who wrote it, and which one of theirs it is.
#[track_caller]
fn known(record: &[u8]) -> (u64, u64) {
    let part = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    let (writer, count) = (part(0), part(8));
    assert!(payload(writer, count) == record, "a record with other bytes");
    (writer, count)
}

/// Says that a test's writers are done, also when one of them panics: or its readers would go on for ever.
struct DoneOnDrop<'a>(&'a AtomicBool);

impl Drop for DoneOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

const WRITERS: u64 = 3;
const RECORDS: u64 = 700;

/// Appends in the ways there are; checks that LSNs and receipts come in order.
fn write(log: &Log, writer: u64) {
    let mut last = Lsn::ZERO;
    let mut waiting = Vec::new();
    for count in 0..RECORDS {
        let bytes = payload(writer, count);
        let ticket = match count % 5 {
            0 => log.append_with(&bytes, Durability::Buffered).unwrap(),
            1 => log.append_batch(&[&bytes]).unwrap(),
            _ => log.append(&bytes).unwrap(),
        };
        assert!(ticket.lsn() > last, "a thread's records are in the order of its appends");
        last = ticket.lsn();
        match count % 7 {
            0 => drop(ticket),
            1 => assert_eq!(ticket.wait().unwrap().lsn(), last),
            2 => assert_eq!(block_on(ticket).unwrap().lsn(), last),
            _ => waiting.push(ticket),
        }
    }
    for ticket in waiting {
        let lsn = ticket.lsn();
        let durability = ticket.wait().unwrap().durability();
        assert!(durability == Durability::Buffered || log.last_lsn() >= lsn, "acknowledged, so durable");
    }
}

/// Reads with cursors from the beginning, over and over; keeps some records beyond their trimming.
fn read_over_and_over(log: &Log, done: &AtomicBool) {
    let mut kept: Vec<(Record, (u64, u64))> = Vec::new();
    while !done.load(Ordering::Acquire) {
        let Ok(mut cursor) = log.cursor(..) else { continue };
        let mut next = cursor.next_lsn();
        loop {
            match cursor.next_record() {
                Ok(Some(record)) => {
                    assert_eq!(record.lsn(), next);
                    next = next.next();
                    let by = known(&record);
                    if next.get() % 97 == 0 {
                        kept.push((record, by));
                    }
                }
                Ok(None) => break,
                Err(Error::Trimmed { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    for (record, by) in kept {
        assert_eq!(known(&record), by, "a record that is kept stays as it was");
    }
}

/// Reads single records near both ends, where they come and go.
fn read_here_and_there(log: &Log, done: &AtomicBool) {
    let mut chance = Chance::new(9);
    while !done.load(Ordering::Acquire) {
        let (first, last) = (log.first_lsn().get(), log.last_lsn().get());
        if first > last {
            continue;
        }
        let lsn = match chance.below(3) {
            0 => first,
            1 => last,
            _ => chance.between(first, last),
        };
        match log.read(Lsn::new(lsn)) {
            Ok(record) => {
                assert_eq!(record.lsn().get(), lsn);
                known(&record);
            }
            Err(Error::Trimmed { first, .. }) => assert!(first.get() > lsn),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Follows the log to its very last record and returns how many of each writer it saw.
fn follow(log: &Log, last: u64) -> Vec<u64> {
    let mut tail = log.tail(log.first_lsn()).unwrap();
    let mut next_of = vec![0; WRITERS as usize];
    while tail.next_lsn().get() <= last {
        let record = tail.next_until(Instant::now() + PATIENCE).unwrap().expect("it is on its way");
        assert!(record.lsn() <= log.last_lsn(), "shown, so durable");
        let (writer, count) = known(&record);
        assert_eq!(count, next_of[writer as usize], "each writer's records in order and without gaps");
        next_of[writer as usize] += 1;
    }
    next_of
}

#[test]
fn readers_see_only_what_was_written_while_the_log_rolls_seals_and_is_read_to_its_end() {
    let test = "readers_see_only_what_was_written_while_the_log_rolls_seals_and_is_read_to_its_end";
    Cases { file: "races", test, usual: 3 }.run(|seed| {
        let directory = tempfile::tempdir().unwrap();
        let log = options(&directory, seed).open().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let follower = scope.spawn(|| follow(&log, WRITERS * RECORDS));
            scope.spawn(|| read_over_and_over(&log, &done));
            scope.spawn(|| read_here_and_there(&log, &done));
            let _done = DoneOnDrop(&done);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let log = log.clone();
                    scope.spawn(move || write(&log, writer))
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            assert_eq!(follower.join().unwrap(), vec![RECORDS; WRITERS as usize]);
        });
        assert!(log.stats().rolls > 10);
        log.close().unwrap();
    });
}

#[test]
fn readers_outlive_the_trimming_and_recycling_of_what_they_read() {
    let test = "readers_outlive_the_trimming_and_recycling_of_what_they_read";
    Cases { file: "races", test, usual: 4 }.run(|seed| {
        let directory = tempfile::tempdir().unwrap();
        let log = options(&directory, seed).recycle(seed % 2 == 0).open().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| read_over_and_over(&log, &done));
            scope.spawn(|| read_here_and_there(&log, &done));
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let last = log.last_lsn().get();
                    log.trim(Lsn::new(last.saturating_sub(150))).unwrap();
                    assert!(log.first_lsn().get() >= last.saturating_sub(150));
                }
            });
            let _done = DoneOnDrop(&done);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn({
                        let log = log.clone();
                        move || write(&log, writer)
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        // The newest segments are sealed a little later, and go then.
        let files = || std::fs::read_dir(directory.path().join("log")).unwrap().count();
        let deadline = Instant::now() + PATIENCE;
        while files() > 12 {
            assert!(Instant::now() < deadline, "{} files are left", files());
            log.trim(log.last_lsn()).unwrap();
            thread::yield_now();
        }
        log.close().unwrap();
    });
}

/// Trims, marks and housekeeping beside truncations: a watermark from before a cut that was written down after
/// it made the next open look for records that were cut away.
#[test]
fn a_truncation_beside_everything_else_leaves_a_log_that_opens() {
    let test = "a_truncation_beside_everything_else_leaves_a_log_that_opens";
    Cases { file: "races", test, usual: 6 }.run(|seed| {
        let directory = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(seed);
        // A real disk is slow at what this does; mostly the simulated one takes its place.
        let open = || match seed % 4 {
            0 => options(&directory, seed).open().unwrap(),
            _ => options(&directory, seed).open_with(Arc::new(disk.clone())).unwrap(),
        };
        let log = open();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| read_over_and_over(&log, &done));
            // A few of each for each truncation: without a pause they would leave the disk to nobody else.
            let (about_to_cut, cuts) = mpsc::sync_channel(1);
            let log = &log;
            scope.spawn(move || {
                while let Ok(last) = cuts.recv() {
                    for back in 0..4 {
                        // Past the end by now, if it was truncated meanwhile.
                        let trimmed = log.trim(Lsn::new(u64::saturating_sub(last, 100 + back)));
                        let marked = log.set_mark(Lsn::new(last), b"m");
                        for changed in [trimmed, marked] {
                            assert!(matches!(changed, Ok(()) | Err(Error::BeyondEnd { .. })), "{changed:?}");
                        }
                    }
                }
            });
            let _done = DoneOnDrop(&done);
            let mut chance = Chance::new(seed);
            for count in 0..25 {
                for more in 0..chance.below(60) {
                    drop(log.append(&payload(count, more)).unwrap());
                }
                let last = log.sync().unwrap().get();
                let after = last.saturating_sub(chance.below(40));
                about_to_cut.send(last).unwrap();
                match log.truncate(Lsn::new(after)) {
                    Ok(()) => assert_eq!(log.last_lsn().get(), after),
                    Err(Error::Trimmed { first, .. }) => assert!(after + 1 < first.get()),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let (first, last) = (log.first_lsn(), log.last_lsn());
        drop(log);
        let log = open();
        assert_eq!((log.first_lsn(), log.last_lsn()), (first, last));
        let mut records = 0;
        for record in log.cursor(..).unwrap().records() {
            known(&record.unwrap());
            records += 1;
        }
        assert_eq!(records, last.get() + 1 - first.get());
    });
}

#[test]
fn a_sync_covers_all_that_was_appended_before_it_by_any_thread() {
    let directory = tempfile::tempdir().unwrap();
    let log = options(&directory, 0).open().unwrap();
    let newest = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (log, newest) = (log.clone(), &newest);
            scope.spawn(move || {
                for count in 0..300 {
                    let durability = [Durability::Buffered, Durability::Durable][count as usize % 2];
                    let ticket = log.append_with(&payload(writer, count), durability).unwrap();
                    newest.fetch_max(ticket.lsn().get(), Ordering::AcqRel);
                    if count % 10 == writer {
                        let before = newest.load(Ordering::Acquire);
                        assert!(log.sync().unwrap().get() >= before);
                        assert!(log.last_lsn().get() >= before);
                    }
                }
            });
        }
    });
    assert_eq!(log.sync().unwrap().get(), WRITERS * 300);
}

#[test]
fn what_was_appended_is_durable_although_tickets_and_handles_were_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let log = options(&directory, 0).open().unwrap();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let log = log.clone();
            scope.spawn(move || (0..50).for_each(|count| drop(log.append(&payload(writer, count)).unwrap())));
        }
    });
    // The last handle is a ticket's.
    let ticket = log.append(&payload(0, 50)).unwrap();
    drop(log);
    assert_eq!(ticket.wait().unwrap().lsn().get(), 151);
    let log = options(&directory, 0).open().unwrap();
    assert_eq!(log.last_lsn().get(), 151);
    // Nobody waits, asks or appends: a tail cursor sees that it becomes durable all the same.
    drop(log.append_with(&payload(0, 51), Durability::Buffered).unwrap());
    let mut tail = log.tail(Lsn::new(152)).unwrap();
    assert_eq!(known(&tail.next_until(Instant::now() + PATIENCE).unwrap().unwrap()), (0, 51));
}

#[test]
fn tickets_can_be_awaited_in_any_order_with_deadlines_and_after_the_close() {
    let directory = tempfile::tempdir().unwrap();
    let log = options(&directory, 0).open().unwrap();
    let mut tickets: Vec<_> = (0..20).map(|count| log.append(&payload(0, count)).unwrap()).collect();
    let deadline = Instant::now() + PATIENCE;
    tickets.reverse();
    for (count, ticket) in tickets.drain(..15).enumerate() {
        let lsn = ticket.lsn();
        let receipt = match count % 2 {
            0 => block_on(ticket).unwrap(),
            _ => {
                ticket.wait_deadline(deadline).unwrap();
                ticket.wait_deadline(deadline).unwrap()
            }
        };
        assert_eq!((receipt.lsn(), receipt.durability()), (lsn, Durability::Durable));
    }
    let clone = log.clone();
    let waiting = clone.append(&payload(0, 20)).unwrap();
    log.close().unwrap();
    tickets.push(waiting);
    for ticket in tickets {
        block_on(ticket).unwrap();
    }
    assert!(matches!(clone.append(b"late"), Err(Error::Closed)));
    assert!(matches!(clone.close(), Err(Error::Closed)));
}

/// A future that was polled and is then dropped is forgotten, and one that moves to another task wakes that.
#[test]
fn a_ticket_that_changes_its_task_wakes_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let log = options(&directory, 0).open().unwrap();
    let abandoned = log.append(&payload(0, 0)).unwrap();
    let mut moved = Box::pin(log.append(&payload(0, 1)).unwrap());
    let mut nobody = Context::from_waker(Waker::noop());
    {
        let mut abandoned = pin!(abandoned);
        let _ = abandoned.as_mut().poll(&mut nobody);
    }
    let _ = moved.as_mut().poll(&mut nobody);
    let receipt = thread::spawn(move || block_on(moved)).join().unwrap().unwrap();
    assert_eq!(receipt.lsn(), Lsn::new(2));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor; gives up on a future that nobody wakes.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(Instant::now() < deadline, "nobody wakes the future");
        thread::park_timeout(PATIENCE);
    }
}
