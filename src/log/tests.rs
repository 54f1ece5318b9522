//! The log as a whole over the simulated disk: what went wrong once, and must not again.

use std::sync::Arc;

use super::{Log, LogOptions};
use crate::disk::sim::SimDisk;
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
