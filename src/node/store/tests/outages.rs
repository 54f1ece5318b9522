//! Disks that cannot be read for a while: nothing is given up that can be read later.

use super::author::Author;
use super::*;
use crate::disk::sim::{CrashPolicy, Fail, Fault, Operation};
use crate::error::Error;
use crate::protocol::Health;

/// A log of some segments after a snapshot, of which the disk vouches.
fn filled() -> SimDisk {
    let disk = created(9);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(9);
    fill(&mut store, &mut author, 40);
    let base = base_at(store.history.position(store.last()).unwrap());
    store.take_snapshot(&base, &[7; 5000]).unwrap();
    fill(&mut store, &mut author, 80);
    store.vouch().unwrap();
    assert!(store.parts.len() > 3, "it has rolled");
    disk
}

/// No more reads than this are done when the disk is opened as it is.
fn reads_max(disk: &SimDisk) -> u64 {
    let disk = disk.crash(CrashPolicy::KEEP_ALL);
    let before = disk.operations();
    ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap();
    disk.operations() - before
}

/// Opens a copy of the disk of which so many reads fail from the `nth` on, or all, and then once more when it is well. What is
/// lost then.
fn lost_in_an_outage(disk: &SimDisk, nth: u64, reads: Option<u64>) -> Health {
    let disk = disk.crash(CrashPolicy::KEEP_ALL);
    match reads {
        None => disk.fail(Fail::nth(Operation::Read, nth, Fault::Io).and_later()),
        Some(reads) => {
            (nth..nth + reads).for_each(|nth| disk.fail(Fail::nth(Operation::Read, nth, Fault::Io)));
        }
    }
    if let Err(error) = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS) {
        assert!(matches!(error, Error::Io { doing: "read", .. }), "{error}");
    }
    disk.heal();
    let (store, state) = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap();
    assert!(store.is_some());
    state.health
}

/// Whatever could not be read was put aside, the base and all of the log if it came to that, and was to be fetched from peers:
/// which may have met the same.
#[test]
fn a_disk_that_is_away_while_the_log_is_opened_costs_nothing() {
    let disk = filled();
    for reads in [None, Some(3), Some(7), Some(20), Some(70), Some(150), Some(400)] {
        for nth in 1..=reads_max(&disk) {
            let health = lost_in_an_outage(&disk, nth, reads);
            // It may be noted that something is doubtful: then a peer is asked whether all is there, and it is.
            let is_all_there = health == Health::Whole || health == Health::Damaged(vec![]);
            assert!(is_all_there, "away from read {nth} on for {reads:?}: {health:?}");
        }
    }
}

/// Something is lost, and then the disk is away, also while that is given up: no more is lost for it.
#[test]
fn a_disk_that_is_away_costs_no_more_than_was_lost_before() {
    let disk = filled();
    let (store, _) = open(&disk.crash(CrashPolicy::KEEP_ALL));
    let part = store.parts.iter().rev().find(|part| part.is_sealed).unwrap();
    disk.lose_sectors(&part.name, 9000..9001);
    disk.lose_sectors(&part.name, part.extent.end - 10..part.extent.end + 10);
    let lost = open(&disk.crash(CrashPolicy::KEEP_ALL)).1.health;
    assert!(matches!(&lost, Health::Damaged(lost) if !lost.is_empty()), "{lost:?}");
    for reads in [None, Some(5), Some(40), Some(200)] {
        for nth in 1..=reads_max(&disk) {
            assert_eq!(lost_in_an_outage(&disk, nth, reads), lost, "away from read {nth} on for {reads:?}");
        }
    }
}
