//! Disks that cannot read what they hold, while a log is looked at.

use std::sync::Arc;

use annals::disk::Disk;
use annals::disk::sim::{Fail, Fault, Operation};
use annals::repair::{Cause, Report, Silent, verify};
use annals::{Error, Result};

use crate::directory::{Directory, SUPERBLOCK};
use crate::forge;
use crate::seeds::{Cases, Chance};
use crate::trial::look;
use crate::truth::numbers;

/// Looks at a log while reads fail as planned; whatever is said, nothing is made up.
fn look_failing(files: &Directory, fail: Fail, whole: &Report) -> Result<Report> {
    let disk = files.disk(1);
    disk.fail(fail);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let looked = verify(&shared, 1, &Silent);
    assert!(Directory::of(&disk) == *files, "looking changes nothing");
    if let Ok(report) = &looked {
        assert!(report.last_lsn <= whole.last_lsn, "{report:#?}");
        let known = numbers(&report.lost).into_iter().all(|lsn| lsn <= whole.last_lsn.get());
        assert!(known, "{report:#?}");
    }
    looked
}

#[test]
fn a_read_that_fails_once_is_an_error_or_costs_nothing() {
    let test = "a_read_that_fails_once_is_an_error_or_costs_nothing";
    Cases { file: "media", test, usual: 6 }.run(|seed| {
        let forged = forge::log(seed);
        let whole = look(&forged.files.disk(0), 1).unwrap();
        // Until none is left to fail: then it is whole.
        for nth in 1.. {
            let fail = Fail::nth(Operation::Read, nth, Fault::Io);
            match look_failing(&forged.files, fail, &whole) {
                Ok(report) if report.is_whole() => {
                    assert_eq!(report.records, whole.records, "read {nth}");
                    let is_done = nth > 100 || {
                        let disk = forged.files.disk(1);
                        look(&disk, 1).unwrap();
                        reads(&disk.trace()) < nth
                    };
                    if is_done {
                        return;
                    }
                }
                Ok(report) => {
                    let says = report.stretches.iter().any(|stretch| stretch.cause == Cause::Unreadable);
                    assert!(says || report.lost.is_empty(), "read {nth}: {report:#?}");
                }
                Err(error) => assert!(matches!(error, Error::Io { .. }), "read {nth}: {error:?}"),
            }
        }
    });
}

fn reads(trace: &str) -> u64 {
    trace.lines().filter(|line| line.contains("Read")).count() as u64
}

#[test]
fn a_file_that_cannot_be_read_at_all_is_named() {
    let test = "a_file_that_cannot_be_read_at_all_is_named";
    Cases { file: "media", test, usual: 20 }.run(|seed| {
        let forged = forge::log(seed);
        let whole = look(&forged.files.disk(0), 1).unwrap();
        let names: Vec<String> = whole.segments.iter().map(|segment| segment.file.to_string()).collect();
        for name in names.into_iter().chain([SUPERBLOCK.to_owned()]) {
            let fail = Fail::nth(Operation::Read, 1, Fault::Io).on(&name).and_later();
            match look_failing(&forged.files, fail, &whole) {
                Ok(report) => {
                    let says = report.stretches.iter().any(|stretch| *stretch.file == *name);
                    assert!(says && !report.is_whole(), "{name}: {report:#?}");
                }
                Err(Error::Io { file, .. }) => assert_eq!(*file, *name),
                Err(error) => panic!("{name}: {error:?}"),
            }
        }
    });
}

#[test]
fn short_reads_and_interrupted_ones_cost_nothing() {
    let test = "short_reads_and_interrupted_ones_cost_nothing";
    Cases { file: "media", test, usual: 20 }.run(|seed| {
        let forged = forge::log(seed);
        let whole = look(&forged.files.disk(0), 1).unwrap();
        let mut chance = Chance::new(seed);
        for _ in 0..10 {
            let fault = chance.pick(&[Fault::Interrupted, Fault::Short(1), Fault::Short(700)]);
            let fail = Fail::nth(Operation::Read, chance.between(1, 12), fault);
            let report = look_failing(&forged.files, fail, &whole).unwrap();
            assert!(report.is_whole(), "{report:#?}");
            assert_eq!((report.records, report.last_lsn), (whole.records, whole.last_lsn));
        }
    });
}
