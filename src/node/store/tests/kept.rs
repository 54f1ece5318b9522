//! Snapshots that stay when they are not the base any more.

use std::sync::Arc;

use super::author::Author;
use super::{
    OPTIONS, arc, base_at, contents_of, crash_everywhere_with, created, fill, first_base, ignoring, me, open,
    open_with,
};
use crate::disk::Disk;
use crate::disk::sim::{CrashPolicy, Fail, Fault, Operation, SimDisk};
use crate::node::digest;
use crate::node::store::snapshots::{BASE, Snapshot};
use crate::node::store::{ReplicaStore, StoreOptions};
use crate::protocol::{Health, LOST_BASE, Member, Position, SnapshotOffer};
use crate::segment::{FileName, kept_name};
use crate::types::{DiskId, Epoch, LogId, Lsn};

const KEEPS_THREE: StoreOptions = StoreOptions { snapshots_kept: 3, ..OPTIONS };

/// The snapshots that are kept beside the base; all of them check.
fn kept(disk: &SimDisk) -> Vec<u64> {
    let log_id = LogId::new(me().disk.get());
    let names = disk.list().unwrap().into_iter();
    let kept = names.filter_map(|name| match FileName::of(&name) {
        FileName::Kept(lsn) => Some((name, lsn)),
        _ => None,
    });
    let mut kept: Vec<u64> = kept
        .map(|(name, lsn)| {
            let snapshot = Snapshot::find(disk, &name, log_id).unwrap().unwrap();
            assert_eq!(snapshot.base.position.lsn, lsn);
            lsn.get()
        })
        .collect();
    kept.sort_unstable();
    kept
}

/// Takes snapshots of the records up to each of these LSNs.
fn take(store: &mut ReplicaStore, lsns: &[u64]) {
    for lsn in lsns {
        let position = store.history.position(Lsn::new(*lsn)).unwrap();
        ignoring(store.take_snapshot(&base_at(position), format!("as of {lsn}").as_bytes()));
    }
}

fn write(store: &mut ReplicaStore, author: &Author) {
    for (group, frames) in &author.groups {
        store.write(group, frames.clone()).unwrap();
    }
    store.sync().unwrap();
}

/// About a hundred records.
fn hundred() -> Author {
    let mut author = Author::new(7);
    fill(&mut open(&created(1)).0, &mut author, 60);
    assert!(author.last >= 90);
    author
}

#[test]
fn as_many_snapshots_are_kept_as_asked_for() {
    let (disk, author) = (created(1), hundred());
    let (mut store, _) = open(&disk);
    write(&mut store, &author);
    take(&mut store, &[10, 20]);
    assert_eq!(kept(&disk), [0; 0], "by default the base is the only one");
    drop(store);
    let (mut store, _) = open_with(&disk, KEEPS_THREE);
    take(&mut store, &[30]);
    assert_eq!(kept(&disk), [20]);
    take(&mut store, &[40, 50]);
    assert_eq!(kept(&disk), [30, 40]);
    take(&mut store, &[50]);
    assert_eq!(kept(&disk), [30, 40], "the same once more is no other");
    drop(store);
    let (store, state) = open_with(&disk.crash(CrashPolicy::LOSE_ALL), KEEPS_THREE);
    assert_eq!((state.base.position.lsn, store.application().unwrap()), (Lsn::new(50), b"as of 50".to_vec()));
    drop(store);
    assert_eq!(kept(&disk), [30, 40]);
    drop(open_with(&disk, StoreOptions { snapshots_kept: 2, ..OPTIONS }));
    assert_eq!(kept(&disk), [40]);
    drop(open(&disk));
    assert_eq!(kept(&disk.crash(CrashPolicy::LOSE_ALL)), [0; 0]);
}

#[test]
fn a_crash_leaves_a_base_and_no_more_beside_it_than_are_kept() {
    let author = hundred();
    crash_everywhere_with(
        KEEPS_THREE,
        |store| {
            write(store, &author);
            take(store, &[10, 20, 30]);
        },
        |store| take(store, &[40]),
        |found, is_done| {
            let names = found.list().unwrap();
            assert!(names.iter().any(|name| name == BASE), "{names:?}\n{}", found.trace());
            let (mut store, state) = open_with(found, KEEPS_THREE);
            match state.base.position.lsn.get() {
                30 => assert!(!is_done && kept(found) == [10, 20], "{:?}", kept(found)),
                // A name that was not synced need not be there.
                40 => assert!(kept(found) == [20, 30] || (!is_done && kept(found) == [10, 20])),
                other => panic!("a base at {other}"),
            }
            take(&mut store, &[50]);
            assert_eq!(kept(found).len(), 2);
        },
    );
}

#[test]
fn a_crash_in_an_installation_loses_none_that_is_kept() {
    let author = hundred();
    let position = Position { epoch: Epoch::new(900), lsn: Lsn::new(5000) };
    let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(&[5; 300]) };
    crash_everywhere_with(
        KEEPS_THREE,
        |store| {
            write(store, &author);
            take(store, &[10, 20, 30]);
        },
        |store| {
            ignoring(store.stage(&offer));
            ignoring(store.stage_durably((offer.id(), 0), &[5; 300], digest(&[5; 300]))).unwrap();
            ignoring(store.install(offer.id()));
        },
        |found, is_done| {
            let names = found.list().unwrap();
            assert!(names.iter().any(|name| name == BASE), "{names:?}\n{}", found.trace());
            let (_, state) = open_with(found, KEEPS_THREE);
            assert_eq!(state.health, Health::Whole);
            match state.base.position.lsn.get() {
                30 => assert!(!is_done && kept(found) == [10, 20], "{:?}", kept(found)),
                5000 => assert!(kept(found) == [20, 30] || (!is_done && kept(found) == [10, 20])),
                other => panic!("a base at {other}"),
            }
        },
    );
}

/// The disk is full, or has no files with two names: the snapshot is taken all the same.
#[test]
fn what_cannot_be_kept_is_no_failure() {
    let (disk, author) = (created(1), hundred());
    let (mut store, _) = open_with(&disk, KEEPS_THREE);
    write(&mut store, &author);
    take(&mut store, &[10]);
    for (lsn, fault) in [(20, Fault::NoSpace), (30, Fault::Io)] {
        disk.fail(Fail::nth(Operation::Link, 1, fault).on(BASE));
        take(&mut store, &[lsn]);
        assert_eq!((store.base().position.lsn, kept(&disk)), (Lsn::new(lsn), vec![]));
    }
    take(&mut store, &[40, 50]);
    disk.fail(Fail::nth(Operation::Remove, 1, Fault::Io).on(&kept_name(Lsn::new(30))));
    take(&mut store, &[60]);
    assert_eq!(kept(&disk), [30, 40, 50], "it could not be removed");
    take(&mut store, &[70]);
    assert_eq!(kept(&disk), [50, 60]);
}

/// No file but `base` is the base, whatever is kept.
#[test]
fn none_that_is_kept_is_taken_for_the_base() {
    let (disk, author) = (created(1), hundred());
    let (mut store, _) = open_with(&disk, KEEPS_THREE);
    write(&mut store, &author);
    take(&mut store, &[10, 20, 30]);
    drop(store);
    let bytes = disk.contents(BASE).len() as u64;
    disk.flip_bit(BASE, bytes - 1, 3);
    let (store, state) = ReplicaStore::open(&arc(&disk), KEEPS_THREE).unwrap();
    assert!(store.is_none() && state.health == Health::Blank);
    let (_, state) = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap();
    assert_eq!(state.health, Health::Damaged(vec![LOST_BASE]));
    assert_eq!(kept(&disk), [10, 20], "nobody removes any while the base is lost");
    // What is put into its place by hand is it.
    disk.copy_from(&disk, &kept_name(Lsn::new(20)), BASE);
    disk.delete(super::super::DAMAGED);
    let (store, state) = open_with(&disk, KEEPS_THREE);
    assert_eq!((state.health, state.base.position.lsn), (Health::Whole, Lsn::new(20)));
    assert_eq!((store.application().unwrap(), store.last()), (b"as of 20".to_vec(), Lsn::new(author.last)));
}

/// Nobody removes any while the base is lost, so they stayed for a whole life if none is kept any more.
#[test]
fn those_from_before_the_base_was_lost_go_with_the_next_one() {
    let (disk, author) = (created(1), hundred());
    let (mut store, _) = open_with(&disk, KEEPS_THREE);
    write(&mut store, &author);
    take(&mut store, &[10, 20, 30]);
    drop(store);
    disk.flip_bit(BASE, 40, 2);
    let (store, _) = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap();
    let mut store = store.unwrap();
    assert_eq!(kept(&disk), [10, 20]);
    let position = Position { epoch: Epoch::new(900), lsn: Lsn::new(5000) };
    let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(&[5; 300]) };
    store.stage(&offer).unwrap();
    store.stage_durably((offer.id(), 0), &[5; 300], digest(&[5; 300])).unwrap().unwrap();
    store.install(offer.id()).unwrap();
    assert!(kept(&disk).is_empty());
}

/// A directory that was emptied but for them is nobody's, and whoever begins there anew does not count them for its own.
#[test]
fn those_of_an_earlier_life_of_the_directory_are_the_first_to_go() {
    let (disk, author) = (SimDisk::new(1), hundred());
    let before = created(2);
    let (mut store, _) = open_with(&before, KEEPS_THREE);
    write(&mut store, &author);
    take(&mut store, &[50, 60, 70]);
    for lsn in [50, 60] {
        let name = kept_name(Lsn::new(lsn));
        disk.copy_from(&before, &name, &name);
    }
    let (store, state) = ReplicaStore::open(&arc(&disk), KEEPS_THREE).unwrap();
    assert!(store.is_none() && state.health == Health::Blank);
    assert_eq!(kept(&disk), [50, 60]);
    let anew = Member { disk: DiskId::new(78), ..me() };
    ReplicaStore::create(&disk, anew, &first_base()).unwrap();
    let (mut store, state) = open_with(&disk, KEEPS_THREE);
    assert_eq!((state.health, state.base), (Health::Whole, first_base()));
    write(&mut store, &author);
    take(&mut store, &[10, 20]);
    let names = |disk: &SimDisk| -> Vec<String> {
        let is_kept = |name: &String| matches!(FileName::of(name), FileName::Kept(_));
        disk.list().unwrap().into_iter().filter(is_kept).collect()
    };
    assert_eq!(names(&disk), [10, 60].map(|lsn| kept_name(Lsn::new(lsn))));
    // One of them has the name that the next one gets.
    disk.copy_from(&before, &kept_name(Lsn::new(60)), &kept_name(Lsn::new(20)));
    take(&mut store, &[30]);
    let own = LogId::new(anew.disk.get());
    for lsn in [10, 20].map(Lsn::new) {
        let found = Snapshot::find(&disk, &kept_name(lsn), own).unwrap().expect("its own");
        assert_eq!(found.base.position.lsn, lsn);
    }
    assert_eq!(names(&disk), [10, 20].map(|lsn| kept_name(Lsn::new(lsn))));
}
