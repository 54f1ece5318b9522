//! Logs to look at, and the comparison of what is told of one with an open of it.

use std::mem::discriminant;
use std::sync::Arc;

use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::repair::{self, Cause, Opening, Report, Silent};
use annals::{Log, Lsn, LsnRange};

pub(crate) use crate::small::options;
use crate::support::killed;
pub(crate) use crate::support::{BLOCK, SLOT_BYTES, SUPERBLOCK, copy, payload, segments};

pub(crate) fn append(log: &Log, count: u64, bytes: usize) {
    for _ in 0..count {
        let lsn = log.last_lsn().get() + 1;
        log.append_durable(&payload(lsn, bytes)).unwrap();
    }
}

/// A log that was written, and closed or killed.
pub(crate) fn log(is_closed: bool, write: impl FnOnce(&Log)) -> SimDisk {
    let disk = SimDisk::new(1);
    let log = options().open_with(Arc::new(disk.clone())).unwrap();
    write(&log);
    if is_closed {
        log.close().unwrap();
        return disk;
    }
    killed(&disk)
}

/// Some segments.
pub(crate) fn large(is_closed: bool) -> SimDisk {
    log(is_closed, |log| append(log, 80, 3000))
}

/// One segment.
pub(crate) fn small(is_closed: bool) -> SimDisk {
    log(is_closed, |log| append(log, 5, 20))
}

/// Some segments, the first ones trimmed away.
pub(crate) fn trimmed(is_closed: bool) -> SimDisk {
    log(is_closed, |log| {
        append(log, 80, 3000);
        log.trim(Lsn::new(30)).unwrap();
    })
}

pub(crate) fn verified(disk: &SimDisk) -> Report {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    repair::verify(&disk, 2, &Silent).unwrap()
}

/// Looks at a log in both ways, and compares with an open of it. Returns what every byte says.
#[track_caller]
pub(crate) fn looked(what: &str, disk: &SimDisk) -> Report {
    let before = disk.operations();
    let inspected = repair::inspect(disk).unwrap();
    let report = verified(disk);
    assert_eq!(disk.operations(), before, "{what}: looking has changed something");
    for told in [&inspected.opening, &report.opening] {
        let opened = options().open_with(Arc::new(copy(disk)));
        match (told, opened) {
            (Opening::Opens, Ok(log)) => agrees(what, &report, &log),
            (Opening::Refuses(told), Err(error)) => {
                assert_eq!(discriminant(told), discriminant(&error), "{what}: {told} is not {error}");
            }
            (told, opened) => panic!("{what}: {told:?} is not {opened:?}\n{report:#?}"),
        }
    }
    check(what, &report);
    report
}

/// Every record that an open log gives is told to be there. Whoever reads more carefully may find more.
#[track_caller]
pub(crate) fn agrees(what: &str, report: &Report, log: &Log) {
    assert_eq!(log.first_lsn(), report.first_lsn, "{what}: {report:#?}");
    assert!(log.last_lsn() >= report.durable, "{what}: {report:#?}");
    for lsn in report.first_lsn.get()..=log.last_lsn().get() {
        let is_lost = report.lost.iter().any(|range| (range.first.get()..=range.last.get()).contains(&lsn));
        let read = log.read(Lsn::new(lsn));
        assert!(read.is_err() || !is_lost, "{what}: record {lsn}: {read:?}\n{report:#?}");
    }
}

/// What holds for every report.
#[track_caller]
pub(crate) fn check(what: &str, report: &Report) {
    let firsts = report.segments.iter().map(|segment| segment.header.first_lsn);
    assert!(firsts.is_sorted_by(|a, b| a < b), "{what}: {report:#?}");
    let lost: Vec<Lsn> = report.lost.iter().flat_map(|range| [range.first, range.last]).collect();
    assert!(lost.is_sorted(), "{what}: {report:#?}");
    assert!(report.durable <= report.last_lsn, "{what}: {report:#?}");
    let is_told = |range: &LsnRange| {
        report.stretches.iter().filter_map(|stretch| stretch.lsns).any(|lsns| lsns.last >= range.first)
    };
    assert!(report.lost.iter().all(is_told), "{what}: lost without a stretch: {report:#?}");
    if matches!(report.opening, Opening::Opens) {
        let missing = report.stretches.iter().find(|stretch| stretch.cause == Cause::Missing);
        assert!(missing.is_none(), "{what}: {report:#?}");
    }
}
