//! Disks that cannot be read for a while: nothing is given up that can be read later.

use std::cell::Cell;

use super::author::Author;
use super::*;
use crate::disk::Disk;
use crate::disk::sim::{CrashPolicy, Fail, Fault, Operation};
use crate::error::Error;
use crate::node::frames::digest;
use crate::protocol::{Health, Position, SnapshotOffer};
use crate::segment::INSTALLING;
use crate::types::{Epoch, Lsn};

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
/// lost then; all else is there, whether it was opened in the first place or not.
fn lost_in_an_outage(disk: &SimDisk, nth: u64, reads: Option<u64>) -> Health {
    let (whole, _) = open(&disk.crash(CrashPolicy::KEEP_ALL));
    let all = (whole.base().position.lsn, whole.last());
    let disk = disk.crash(CrashPolicy::KEEP_ALL);
    match reads {
        None => disk.fail(Fail::nth(Operation::Read, nth, Fault::Io).and_later()),
        Some(reads) => {
            (nth..nth + reads).for_each(|nth| disk.fail(Fail::nth(Operation::Read, nth, Fault::Io)));
        }
    }
    match ReplicaStore::open_among_peers(&arc(&disk), OPTIONS) {
        Ok((store, _)) => assert!(store.is_some(), "taken for blank"),
        Err(error) => assert!(matches!(error, Error::Io { doing: "read", .. }), "{error}"),
    }
    disk.heal();
    let (store, state) = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap();
    let store = store.expect("a replica that is not blank");
    assert_eq!((store.base().position.lsn, store.last()), all);
    state.health
}

/// Whatever could not be read was put aside, the base and all of the log if it came to that, and was to be fetched from peers:
/// which may have met the same.
#[test]
fn a_disk_that_is_away_while_the_log_is_opened_costs_nothing() {
    let disk = filled();
    for reads in [None, Some(3), Some(7), Some(20), Some(70), Some(150), Some(400)] {
        for nth in 1..=reads_max(&disk) {
            // Nor the vote: nobody would have it back before there is a primary.
            let health = lost_in_an_outage(&disk, nth, reads);
            assert_eq!(health, Health::Whole, "away from read {nth} on for {reads:?}");
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

/// Calls this with each disk that a crash leaves behind in the switch to a snapshot, once that is no mere stage any more, and
/// before it is the base.
fn in_each_switch(check: impl Fn(&SimDisk)) {
    let mut author = Author::new(5);
    fill(&mut open(&created(9)).0, &mut author, 40);
    let application = [7; 3000];
    let position = Position { epoch: Epoch::new(900), lsn: Lsn::new(40) };
    let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(&application) };
    let checked = Cell::new(0);
    crash_everywhere(
        |store| {
            for (group, frames) in &author.groups {
                store.write(group, frames.clone()).unwrap();
            }
            store.sync().unwrap();
        },
        |store| {
            ignoring(store.stage(&offer));
            ignoring(store.stage_durably((offer.id(), 0), &application, digest(&application)));
            ignoring(store.install(offer.id()));
        },
        |found, _| {
            if is_there(found, INSTALLING) {
                checked.set(checked.get() + 1);
                check(found);
            }
        },
    );
    assert!(checked.get() > 10, "a switch has more steps");
}

fn is_there(disk: &SimDisk, name: &str) -> bool {
    disk.list().unwrap().iter().any(|there| there == name)
}

#[test]
fn a_disk_that_is_away_in_the_midst_of_a_switch_costs_nothing() {
    in_each_switch(|found| {
        for reads in [None, Some(3), Some(9), Some(40)] {
            for nth in 1..=16 {
                let health = lost_in_an_outage(found, nth, reads);
                assert_eq!(health, Health::Whole, "away from read {nth} on for {reads:?}");
            }
        }
    });
}

/// The log goes on without it. Were it found later, because it can be read again, it would take the place of all that was
/// acknowledged since.
#[test]
fn a_snapshot_that_cannot_be_read_in_a_switch_is_not_switched_to_later() {
    in_each_switch(|found| {
        let disk = found.crash(CrashPolicy::KEEP_ALL);
        disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).and_later().on(INSTALLING));
        let (store, state) = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap();
        let mut store = store.expect("a replica that is not blank");
        assert!(matches!(state.health, Health::Damaged(_)), "it may have been promised to somebody");
        let mut author = Author { epoch: 901, last: store.last().get(), ..Author::new(3) };
        fill(&mut store, &mut author, 10);
        let acknowledged = (store.first(), store.last());
        drop(store);
        disk.heal();
        let (store, state) = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap();
        let store = store.expect("a replica that is not blank");
        assert_eq!((store.first(), store.last()), acknowledged);
        assert!(matches!(state.health, Health::Damaged(_)), "nobody has fetched it meanwhile");
    });
}
