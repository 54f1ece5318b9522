use std::cell::Cell;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

use super::{DAMAGED_MAX, ScrubStatus, pass};
use crate::disk::Disk;
use crate::disk::sim::{Fail, Fault, Operation, SimDisk};
use crate::error::Error;
use crate::log::{Log, LogOptions};
use crate::segment::{Cause, StretchKind, segment_name};
use crate::types::{Lsn, LsnRange, WriteMethod};

fn options() -> LogOptions {
    LogOptions::new("").segment_bytes(64 << 10).write_method(WriteMethod::Direct)
}

fn open(disk: &SimDisk) -> Log {
    options().open_with(Arc::new(disk.clone())).unwrap()
}

/// A log with the records 1 to `count`, of 3000 bytes each, all segments but the newest sealed.
fn written(disk: &SimDisk, count: u64) -> Log {
    let log = open(disk);
    for number in 1..=count {
        log.append_durable(&[number as u8; 3000]).unwrap();
    }
    log.close().unwrap();
    open(disk)
}

fn lsn(number: u64) -> Lsn {
    Lsn::new(number)
}

fn on(_: u64) -> ControlFlow<()> {
    Continue(())
}

fn scrubbed(log: &Log) -> ScrubStatus {
    assert_eq!(pass(log.engine(), &on), Continue(()));
    log.scrub_status()
}

/// The first LSNs of the segments, the tail's included.
fn begins(log: &Log) -> Vec<u64> {
    log.engine().store.segments.all().iter().map(|segment| segment.first_lsn().get()).collect()
}

/// Where a record's payload begins in the file of the segment that begins with `first`.
fn payload_of(disk: &SimDisk, first: u64, record: u64) -> u64 {
    let bytes = disk.contents(&segment_name(lsn(first)));
    bytes.windows(64).position(|window| window.iter().all(|byte| *byte == record as u8)).unwrap() as u64
}

#[test]
fn a_bit_that_flips_below_a_running_log_is_found_and_told_and_the_log_goes_on() {
    let disk = SimDisk::new(1);
    let log = written(&disk, 60);
    let status = scrubbed(&log);
    assert_eq!((status.passes, &status.damaged[..], status.damaged_more), (1, &[][..], 0));
    let sealed = begins(&log).len() as u64 - 1;
    assert!(status.bytes >= 3 * 3000 * 16 && status.bytes <= sealed * (64 << 10) * 2);
    assert!(status.last_pass_at_ms.is_some());
    let second = begins(&log)[1];
    let record = second + 3;
    let at = payload_of(&disk, second, record) + 17;
    disk.flip_bit(&segment_name(lsn(second)), at, 3);
    for passes in 2..4 {
        let status = scrubbed(&log);
        assert_eq!((status.passes, status.damaged.len()), (passes, 1), "told once, and known from then on");
        let stretch = &status.damaged[0];
        assert_eq!((stretch.kind, &*stretch.file), (StretchKind::Rot, &*segment_name(lsn(second))));
        assert_eq!(stretch.lsns, LsnRange::new(lsn(record), lsn(record)));
        assert!(stretch.bytes.contains(&at) && stretch.is_acknowledged);
        assert_eq!(stretch.correction.map(|bit| (bit.offset, bit.bit)), Some((at, 3)));
    }
    assert!(log.failure().is_none());
    log.append_durable(b"goes on").unwrap();
    assert_eq!(&log.read(lsn(record - 1)).unwrap()[..3], &[record as u8 - 1; 3]);
    assert!(matches!(log.read(lsn(record)), Err(Error::Rot { .. })));
    disk.flip_bit(&segment_name(lsn(second)), at, 3);
    assert_eq!(scrubbed(&log).damaged, [], "and forgotten when it is mended");
    log.close().unwrap();
}

#[test]
fn headers_footers_missing_files_and_bad_sectors_of_sealed_segments_are_found() {
    let disk = SimDisk::new(2);
    let log = written(&disk, 100);
    let firsts = begins(&log);
    let names: Vec<_> = firsts.iter().map(|first| segment_name(lsn(*first))).collect();
    disk.flip_bit(&names[0], 40, 0);
    disk.flip_bit(&names[1], (64 << 10) - 4096 + 30, 0);
    disk.delete(&names[2]);
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).on(&names[3]).and_later());
    let found = |log: &Log| -> Vec<_> {
        let status = scrubbed(log);
        let seen = |file: &str| names.iter().position(|name| name == file).unwrap();
        status.damaged.iter().map(|stretch| (seen(&stretch.file), stretch.kind, stretch.cause)).collect()
    };
    let expected = [
        (0, StretchKind::Rot, Cause::Header),
        (1, StretchKind::Rot, Cause::Footer),
        (2, StretchKind::Hole, Cause::Missing),
        (3, StretchKind::Rot, Cause::Unreadable),
    ];
    assert_eq!(found(&log), expected);
    disk.heal();
    assert_eq!(found(&log), expected[..3]);
    log.trim(lsn(firsts[3])).unwrap();
    assert_eq!(found(&log), [], "what is trimmed is nobody's loss");
    log.close().unwrap();
}

#[test]
fn a_log_is_appended_to_trimmed_and_truncated_while_a_segment_is_read_and_that_is_no_damage() {
    for step in 0..40 {
        let disk = SimDisk::new(3);
        let log = written(&disk, 100);
        let steps = Cell::new(0);
        let change = |_| {
            steps.set(steps.get() + 1);
            if steps.get() == step {
                // In the same thread: a lock that is held here would never be given back.
                log.append_durable(&[9; 3000]).unwrap();
                log.trim(lsn(30)).unwrap();
                log.truncate(lsn(70)).unwrap();
                for _ in 0..60 {
                    log.append_durable(&[8; 3000]).unwrap();
                }
            }
            Continue(())
        };
        assert_eq!(pass(log.engine(), &change), Continue(()));
        assert_eq!(log.scrub_status().damaged, [], "changed at step {step}");
        assert_eq!(scrubbed(&log).damaged, []);
        log.close().unwrap();
    }
}

#[test]
fn damage_in_what_is_trimmed_while_it_is_read_is_not_told() {
    let disk = SimDisk::new(4);
    let log = written(&disk, 60);
    let second = begins(&log)[1];
    disk.flip_bit(&segment_name(lsn(second)), payload_of(&disk, second, second), 0);
    let read = Cell::new(0);
    let trim = |bytes| {
        read.set(read.get() + bytes);
        if read.get() > 100 << 10 {
            log.trim(lsn(55)).unwrap();
        }
        Continue(())
    };
    assert_eq!(pass(log.engine(), &trim), Continue(()));
    assert_eq!(log.scrub_status().damaged, []);
}

#[test]
fn what_is_listed_is_bounded_and_the_rest_is_counted() {
    let disk = SimDisk::new(5);
    let log = open(&disk);
    for _ in 0..60 {
        log.append_batch(&vec![[7; 8]; 40]).unwrap().wait().unwrap();
        for _ in 0..40 {
            drop(log.append(&[7; 64]).unwrap());
        }
        log.sync().unwrap();
    }
    // Whether housekeeping has come to sealing the first segment is left to chance.
    log.close().unwrap();
    let log = open(&disk);
    let first = segment_name(Lsn::FIRST);
    assert!(begins(&log).len() > 1);
    let bytes = disk.contents(&first);
    for at in (4096..bytes.len() - (16 << 10)).step_by(64) {
        if bytes[at..at + 16].iter().all(|byte| *byte == 7) {
            disk.flip_bit(&first, at as u64 + 8, 1);
        }
    }
    let status = scrubbed(&log);
    assert_eq!(status.damaged.len(), DAMAGED_MAX);
    assert!(status.damaged_more > 0);
    assert_eq!(scrubbed(&log).damaged_more, status.damaged_more);
}

#[test]
fn the_thread_scrubs_by_itself_and_ends_with_the_log() {
    let disk = SimDisk::new(6);
    let log = written(&disk, 60);
    let second = begins(&log)[1];
    log.close().unwrap();
    disk.flip_bit(&segment_name(lsn(second)), payload_of(&disk, second, second), 0);
    let log = options().scrub_bytes_per_s(Some(u64::MAX)).open_with(Arc::new(disk.clone())).unwrap();
    while log.scrub_status().passes == 0 {
        std::thread::yield_now();
    }
    assert_eq!(log.scrub_status().damaged.len(), 1);
    log.append_durable(b"goes on").unwrap();
    // It rests now, for much longer than a test takes.
    log.close().unwrap();
    let slow = options().scrub_bytes_per_s(Some(64 << 10)).open_with(Arc::new(disk.clone())).unwrap();
    while slow.scrub_status().bytes == 0 {
        std::thread::yield_now();
    }
    slow.close().unwrap();
    assert!(disk.list().unwrap().len() > 1);
}

#[test]
fn a_pass_that_is_ended_is_not_counted_and_a_rate_too_low_is_refused() {
    let disk = SimDisk::new(7);
    let log = written(&disk, 60);
    log.engine().close();
    assert_eq!(pass(log.engine(), &|_| Break(())), Break(()));
    assert_eq!(log.scrub_status().passes, 0);
    let refused = options().scrub_bytes_per_s(Some(1)).open_with(Arc::new(SimDisk::new(8)));
    assert!(matches!(refused, Err(Error::BadOption { option: "scrub_bytes_per_s", .. })));
}

/// Between the seal of the segment that is cut and the end of the truncation, its footer is another one than the log
/// knows; a truncation that fails there has left it like that.
#[test]
fn a_truncation_that_fails_below_a_scrub_is_no_damage() {
    for (operation, nth, call) in [Operation::Write, Operation::Sync, Operation::SyncDir]
        .into_iter()
        .flat_map(|operation| (1..7).flat_map(move |nth| (3..9).map(move |call| (operation, nth, call))))
    {
        let disk = SimDisk::new(8);
        let log = written(&disk, 40);
        let second = begins(&log)[1];
        let left = Cell::new(call);
        let cut = |_| {
            left.set(left.get() - 1);
            if left.get() == 0 {
                disk.fail(Fail::nth(operation, nth, Fault::Io));
                let _ = log.truncate(lsn(second + 2));
                disk.heal();
            }
            Continue(())
        };
        let _ = pass(log.engine(), &cut);
        let damaged = log.scrub_status().damaged;
        assert_eq!(damaged, [], "{operation:?} {nth} at call {call}: {:?}", log.failure());
        let _ = log.close();
    }
}
