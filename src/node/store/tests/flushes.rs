//! What one sync makes durable, and segments that are prepared for it.

use std::sync::Arc;

use bytes::Bytes;

use super::author::Author;
use super::*;
use crate::disk::sim::{Fail, Fault, Operation};
use crate::error::Error;
use crate::protocol::{Content, Contents, Group, Health, SnapshotOffer};
use crate::types::Epoch;

#[test]
fn all_that_was_written_is_one_durable_write() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author { epoch: 1, ..Author::new(1) };
    for count in [1, 7, 3] {
        for _ in 0..count {
            let (group, frames) = author.group(Content::PLAIN, &[vec![1; 300]]);
            store.write(&group, frames).unwrap();
        }
        let before = disk.operations();
        assert_eq!(store.sync().unwrap().get(), author.last);
        assert_eq!(disk.operations(), before + 1, "{}", disk.trace());
    }
    let before = disk.operations();
    store.sync().unwrap();
    assert_eq!(disk.operations(), before, "nothing was written");
}

#[test]
fn what_is_not_synced_can_be_read_and_is_gone_after_a_crash() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(1);
    fill(&mut store, &mut author, 20);
    let durable = store.durable();
    for _ in 0..5 {
        let (group, frames) = author.next();
        store.write(&group, frames).unwrap();
    }
    assert_eq!((store.durable(), store.last().get()), (durable, author.last));
    let reader = store.reader();
    assert_eq!((reader.durable(), reader.last()), (store.durable(), store.last()));
    check_against(&store, &author);
    drop(store);
    assert!(matches!(reader.read_log(Lsn::FIRST, 100), Err(Error::Closed)));
    let (store, _) = open(&disk.crash(CrashPolicy::KEEP_ALL));
    assert_eq!(store.last(), durable);
}

#[test]
fn after_a_failed_sync_nothing_more_is_taken() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author { epoch: 1, ..Author::new(1) };
    let (group, frames) = author.group(Content::PLAIN, &[vec![1; 300]]);
    disk.fail(Fail::nth(Operation::WriteDurable, 1, Fault::Io));
    store.write(&group, frames).unwrap();
    assert!(matches!(store.sync(), Err(Error::Io { .. })));
    let (group, frames) = author.group(Content::PLAIN, &[vec![1; 300]]);
    assert!(matches!(store.write(&group, frames), Err(Error::Poisoned)));
    assert!(matches!(store.sync(), Err(Error::Poisoned)));
    assert!(store.prepare().is_none());
}

#[test]
fn a_crash_inside_of_a_flush_leaves_whole_groups_from_the_first_on() {
    for seed in 0..2 {
        let mut author = Author::new(seed);
        let (mut store, _) = open(&created(9));
        fill(&mut store, &mut author, 10);
        let before = author.clone();
        // Several segments of it.
        let more: Vec<(Group, Bytes)> = (0..60).map(|_| author.next()).collect();
        drop(store);
        crash_everywhere(
            |store| {
                store.write_all(before.groups.iter().cloned()).unwrap();
            },
            |store| {
                ignoring(store.write_all(more.iter().cloned()));
            },
            |found, is_done| {
                let (mut store, state) = open(found);
                assert_eq!(state.health, Health::Whole);
                assert!(store.last().get() >= before.last);
                assert!(!is_done || store.last().get() == author.last);
                check_against(&store, &author);
                let mut other = author.clone();
                other.groups.retain(|(group, _)| group.range.last <= store.last());
                other.last = store.last().get();
                assert_eq!(other.groups.last().unwrap().0.range.last, store.last(), "a group is divided");
                (other.epoch, other.chance) = (author.epoch + 1, 77);
                fill(&mut store, &mut other, 10);
                drop(store);
                let (store, _) = open(&found.crash(CrashPolicy::LOSE_ALL));
                check_against(&store, &other);
                assert_eq!(store.last().get(), other.last);
            },
        );
    }
}

fn prepare(store: &mut ReplicaStore) -> Result<()> {
    match store.prepare() {
        Some(preparation) => store.prepared(preparation.run()),
        None => Ok(()),
    }
}

#[test]
fn a_segment_that_is_prepared_is_the_next_one() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author { epoch: 1, ..Author::new(1) };
    prepare(&mut store).unwrap();
    assert!(store.prepare().is_none(), "one is ready");
    let spare = disk.list().unwrap().into_iter().find(|name| name.starts_with("spare")).unwrap();
    assert!(disk.contents(&spare).iter().all(|byte| *byte == 0));
    let created = |disk: &SimDisk| disk.trace().matches("Create").count();
    let before = created(&disk);
    while store.parts.len() < 2 {
        let (group, frames) = author.group(Content::PLAIN, &[vec![1; 900]]);
        store.write_all([(group, frames)]).unwrap();
    }
    assert_eq!(created(&disk), before, "no file was made by a sync");
    assert!(!disk.list().unwrap().contains(&spare));
    assert!(store.prepare().is_some());
}

#[test]
fn a_trimmed_segment_is_used_again_unless_somebody_reads_it() {
    for is_read in [false, true] {
        let disk = created(1);
        let (mut store, _) = open(&disk);
        let mut author = Author { epoch: 1, ..Author::new(1) };
        while store.parts.len() < 5 {
            let (group, frames) = author.group(Content::PLAIN, &[vec![1; 900]]);
            store.write_all([(group, frames)]).unwrap();
        }
        store.take_snapshot(&base_at(author.position(author.last)), b"").unwrap();
        let first = store.parts[0].name.to_string();
        let held = is_read.then(|| disk.open(&first, crate::disk::Access::Read).unwrap());
        if let Some(file) = &held {
            assert!(file.try_lock(false).unwrap());
        }
        let second = store.parts[1].header.first_lsn;
        store.trim(second.prev()).unwrap();
        assert!(disk.list().unwrap().contains(&first), "it waits");
        disk.note("now it is prepared");
        prepare(&mut store).unwrap();
        assert!(!disk.list().unwrap().contains(&first));
        let trace = disk.trace();
        let since = trace.split("now it is prepared").nth(1).unwrap();
        let makes = |line: &str| line.contains("Create") && !line.contains(".extract");
        assert_eq!(since.lines().any(makes), is_read, "{since}");
        fill(&mut store, &mut author, 60);
        check_against(&store, &author);
        drop(store);
        let (store, _) = open(&disk.crash(CrashPolicy::LOSE_ALL));
        check_against(&store, &author);
    }
}

#[test]
fn a_crash_while_a_segment_is_prepared_recycled_and_begun_loses_nothing() {
    for seed in 0..2 {
        let mut author = Author::new(seed);
        let (mut store, _) = open(&created(9));
        fill(&mut store, &mut author, 60);
        let before = author.clone();
        let covered = author.groups[40].0.range.last;
        let base = base_at(author.position(covered.get()));
        let more: Vec<(Group, Bytes)> = (0..30).map(|_| author.next()).collect();
        drop(store);
        let synced = std::cell::Cell::new(0);
        crash_everywhere(
            |store| {
                store.write_all(before.groups.iter().cloned()).unwrap();
                store.take_snapshot(&base, b"so far").unwrap();
                synced.set(before.last);
            },
            |store| {
                ignoring(store.trim(covered));
                for (group, frames) in &more {
                    ignoring(prepare(store));
                    ignoring(store.write(group, frames.clone()));
                    synced.set(ignoring(store.sync()).get());
                }
            },
            |found, is_done| {
                let (mut store, state) = open(found);
                assert_eq!((state.health, &state.base), (Health::Whole, &base));
                assert!(store.last().get() >= synced.get(), "{} of {}", store.last(), synced.get());
                assert!(!is_done || store.first() > covered.prev());
                check_against(&store, &author);
                let mut other = author.clone();
                other.groups.retain(|(group, _)| group.range.last <= store.last());
                (other.last, other.epoch, other.chance) = (store.last().get(), author.epoch + 1, 5);
                prepare(&mut store).unwrap();
                fill(&mut store, &mut other, 40);
                check_against(&store, &other);
            },
        );
    }
}

#[test]
fn a_full_disk_is_no_failure_of_what_is_prepared() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    disk.set_capacity(Some(disk.used() + 100));
    prepare(&mut store).unwrap();
    assert!(store.prepare().is_none(), "it waits until the log has grown");
    disk.set_capacity(None);
    let mut author = Author { epoch: 1, ..Author::new(1) };
    for _ in 0..10 {
        let (group, frames) = author.group(Content::PLAIN, &[vec![1; 900]]);
        store.write_all([(group, frames)]).unwrap();
    }
    assert!(store.prepare().is_some());
}

#[test]
fn what_is_prepared_for_a_log_that_was_dropped_is_not_used() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let prepared = store.prepare().unwrap().run();
    let position = Position { epoch: Epoch::new(9), lsn: Lsn::new(40) };
    let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: Contents::default() };
    store.stage(&offer).unwrap();
    store.install(offer.id()).unwrap();
    store.prepared(prepared).unwrap();
    let mut author = Author { epoch: 9, last: 40, ..Author::new(3) };
    fill(&mut store, &mut author, 100);
    drop(store);
    let (store, _) = open(&disk.crash(CrashPolicy::LOSE_ALL));
    check_against(&store, &author);
    assert_eq!(store.last().get(), author.last);
}

#[test]
fn a_preparation_that_is_run_after_its_store_was_dropped_does_nothing() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let preparation = store.prepare().unwrap();
    drop(store);
    let before = disk.operations();
    drop(preparation.run());
    assert_eq!(disk.operations(), before);
}

#[test]
fn what_was_prepared_for_a_store_that_was_opened_again_is_not_used_twice() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let prepared = store.prepare().unwrap().run();
    drop(store);
    let (mut store, _) = open(&disk);
    store.prepared(prepared).unwrap();
    let mut author = Author { epoch: 1, ..Author::new(3) };
    fill(&mut store, &mut author, 200);
    assert!(store.parts.len() > 3, "it has rolled");
    check_against(&store, &author);
    drop(store);
    let (store, _) = open(&disk.crash(CrashPolicy::LOSE_ALL));
    check_against(&store, &author);
}
