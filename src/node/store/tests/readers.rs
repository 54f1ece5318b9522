//! Reading from memory and from the disk, and beside whatever is done to the log meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::author::Author;
use super::*;
use crate::disk::sim::{Fail, Fault, Operation};
use crate::error::Error;
use crate::node::{StoreReader, group_of};
use crate::protocol::{Content, Contents, SnapshotOffer};
use crate::types::Epoch;

fn open_with(disk: &SimDisk, cache_bytes: u64) -> ReplicaStore {
    let options = StoreOptions { segment_bytes: 8 << 20, cache_bytes, ..OPTIONS };
    ReplicaStore::open(&arc(disk), options).unwrap().0.unwrap()
}

#[test]
fn recent_frames_come_from_memory_and_older_ones_from_the_disk() {
    let disk = created(1);
    let mut store = open_with(&disk, 1 << 20);
    let mut author = Author { epoch: 1, ..Author::new(1) };
    for _ in 0..40 {
        let (group, frames) = author.group(Content::PLAIN, &[vec![7; 70_000]]);
        store.write_all([(group, frames)]).unwrap();
    }
    check_against(&store, &author);
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).and_later());
    let (_, frames) = store.read_log(store.last(), 1 << 20).unwrap().unwrap();
    let (_, again) = store.read_log(store.last(), 1 << 20).unwrap().unwrap();
    assert_eq!(frames.as_ptr(), again.as_ptr(), "nothing is copied");
    assert!(matches!(store.read_log(Lsn::FIRST, 100), Err(Error::Rot { .. })), "that one is not in memory");
    disk.heal();
    assert!(store.read_log(Lsn::FIRST, 100).unwrap().is_some());
    // What somebody still has is not written over.
    let before = frames.to_vec();
    for _ in 0..60 {
        let (group, frames) = author.group(Content::PLAIN, &[vec![8; 70_000]]);
        store.write_all([(group, frames)]).unwrap();
    }
    assert_eq!(frames, before);
    check_against(&store, &author);
}

/// Three segments of large groups in one epoch, of which several are written as one here and there; nothing is in memory.
fn large_groups(disk: &SimDisk) -> (ReplicaStore, Author) {
    let options = StoreOptions { segment_bytes: 2 << 20, cache_bytes: 0, ..OPTIONS };
    let (mut store, _) = super::open_with(disk, options);
    let mut author = Author { epoch: 1, ..Author::new(3) };
    for flush in 0..12 {
        for _ in 0..=flush % 4 {
            let records: Vec<Vec<u8>> = (0..20).map(|at| vec![at; 2000 + 700 * usize::from(at)]).collect();
            let (group, frames) = author.group(Content::PLAIN, &records);
            store.write(&group, frames).unwrap();
        }
        store.sync().unwrap();
    }
    drop(store);
    (super::open_with(disk, options).0, author)
}

#[test]
fn how_far_a_read_gets_is_known_before_it() {
    let disk = created(1);
    let (store, author) = large_groups(&disk);
    let reader = store.reader();
    let expected: Vec<u8> = author.groups.iter().flat_map(|(_, frames)| frames.to_vec()).collect();
    for bytes_max in [256 << 10, 500_000, 1 << 20, 4 << 20] {
        let (mut next, mut read, mut chunks) = (Lsn::FIRST, Vec::new(), 0_u64);
        while next <= store.last() {
            let last = reader.reach(next, bytes_max).unwrap();
            let range = LsnRange::new(next, last).unwrap();
            let (group, frames) = reader.read_range(range, bytes_max).unwrap().unwrap();
            assert_eq!((group.range, group.bytes), (range, frames.len() as u64));
            read.extend_from_slice(&frames);
            (next, chunks) = (last.next(), chunks + 1);
        }
        assert!(read == expected, "{bytes_max}");
        // Not much less than it takes: a frame is as long as a group here, and segments end.
        assert!(chunks <= 4 + 2 * expected.len() as u64 / bytes_max, "{chunks} of at most {bytes_max}");
    }
    assert_eq!(reader.reach(Lsn::FIRST, 100 << 10), None, "the first frame is larger");
    assert_eq!(reader.reach(store.last().next(), 1 << 20), None);
    drop(store);
    assert_eq!(reader.reach(Lsn::FIRST, 1 << 20), None);
}

#[test]
fn nothing_is_read_that_lies_behind_what_is_wanted() {
    let disk = created(1);
    let (store, author) = large_groups(&disk);
    let reader = store.reader();
    let mut next = Lsn::FIRST;
    let before = disk.bytes_read();
    while let Some(last) = reader.reach(next, 256 << 10) {
        reader.read_range(LsnRange::new(next, last).unwrap(), 256 << 10).unwrap().unwrap();
        next = last.next();
    }
    assert_eq!(next, store.last().next());
    let wanted: u64 = author.groups.iter().map(|(group, _)| group.bytes).sum();
    let read = disk.bytes_read() - before;
    assert!(read < wanted + wanted / 5, "{read} for {wanted}");
}

/// Syncs of somebody else come in between.
#[test]
fn whoever_asks_for_little_asks_the_disk_for_less_at_a_time() {
    let disk = created(1);
    let (store, author) = large_groups(&disk);
    let all: Vec<u8> = author.groups.iter().flat_map(|(_, frames)| frames.to_vec()).collect();
    for (bytes_max, at_a_time) in [(256 << 10, 1..=64 << 10), (1 << 20, (256 << 10) + 1..=2 << 20)] {
        disk.take_largest_read();
        let (mut next, mut read) = (Lsn::FIRST, Vec::new());
        while next <= store.last() {
            let (group, frames) = store.read_log(next, bytes_max).unwrap().unwrap();
            read.extend_from_slice(&frames);
            next = group.range.last.next();
        }
        let largest = disk.take_largest_read();
        assert!(read == all && at_a_time.contains(&largest), "{largest} for at most {bytes_max}");
    }
    // Whoever is not a peer that catches up, is not held back.
    let range = LsnRange { first: Lsn::FIRST, last: store.last() };
    store.read_range(range, 256 << 10).unwrap().unwrap();
    assert!(disk.take_largest_read() > 200 << 10);
}

#[test]
fn a_frame_that_is_larger_than_what_is_asked_for_is_read_like_others() {
    let disk = created(1);
    let mut store = open_with(&disk, 0);
    let mut author = Author { epoch: 1, ..Author::new(1) };
    for at in 0..20 {
        let size = [700_000, 600_000, 100, 900_000, 100][at % 5];
        let (group, frames) = author.group(Content::PLAIN, &[vec![7; size]]);
        store.write(&group, frames).unwrap();
        if at % 4 == 3 {
            store.sync().unwrap();
        }
    }
    drop(store);
    let store = open_with(&disk, 0);
    store.read_log(Lsn::FIRST, 1 << 20).unwrap().unwrap();
    for (lsn, size) in [(1, 700_000), (2, 600_000), (3, 100), (4, 900_000), (7, 600_000), (19, 900_000)] {
        let before = disk.bytes_read();
        let (group, frames) = store.read_log(Lsn::new(lsn), 256 << 10).unwrap().unwrap();
        assert_eq!((group.range.first, group.range.last), (Lsn::new(lsn), Lsn::new(lsn)));
        let read = disk.bytes_read() - before;
        // What it asks for first is not enough, and then so much as the frame takes.
        assert!(frames.len() > size && read < size as u64 + (512 << 10), "{read} for {size}");
    }
    check_against(&store, &author);
}

#[test]
fn small_groups_are_read_together() {
    let disk = created(1);
    let mut store = open_with(&disk, 1 << 20);
    let mut author = Author { epoch: 1, ..Author::new(1) };
    for at in 0..200 {
        let (group, frames) = author.group(Content::PLAIN, &[vec![7; 100]]);
        store.write(&group, frames).unwrap();
        if at % 3 == 0 && at < 150 {
            store.sync().unwrap();
        }
    }
    let (group, frames) = store.read_log(Lsn::new(10), 8 << 10).unwrap().unwrap();
    assert!(frames.len() > 7 << 10 && frames.len() <= 8 << 10, "{}", frames.len());
    assert_eq!((group.range.first, group_of(&frames).unwrap()), (Lsn::new(10), group));
    // From what is flushed on into what is not.
    let (group, _) = store.read_log(Lsn::new(140), 1 << 20).unwrap().unwrap();
    assert_eq!(group.range, range(140, 200));
}

#[test]
fn frames_of_any_size_are_read_through_a_window() {
    for cache_bytes in [0, 300_000, 64 << 20] {
        let disk = created(1);
        let mut store = open_with(&disk, cache_bytes);
        let mut author = Author { epoch: 1, ..Author::new(1) };
        for bytes in [10, 3_000_000, 0, 65_000, 66_000, 1 << 20, 2_200_000, 4000, 9_000_000, 5] {
            for records in [1, 3] {
                let records = vec![vec![9; bytes / records]; records];
                let (group, frames) = author.group(Content::PLAIN, &records);
                store.write(&group, frames).unwrap();
            }
            if bytes % 3 == 0 {
                store.sync().unwrap();
            }
        }
        store.sync().unwrap();
        let all = range(1, author.last);
        let expected: Vec<Vec<u8>> =
            store.entries(all).unwrap().iter().map(|entry| entry.bytes.to_vec()).collect();
        assert_eq!(expected.len() as u64, author.last);
        check_against(&store, &author);
        for bytes_max in [0, 5000, 100_000, 2 << 20, u64::MAX] {
            let (mut next, mut read) = (Lsn::FIRST, Vec::new());
            while next <= store.last() {
                let (group, frames) = store.read_log(next, bytes_max).unwrap().unwrap();
                assert_eq!(group.range.first, next);
                read.extend_from_slice(&frames);
                next = group.range.last.next();
            }
            assert!(read == author.groups.iter().flat_map(|(_, frames)| frames.to_vec()).collect::<Vec<_>>());
        }
        // A record in the middle of a batch: the frame that holds it.
        assert_eq!(store.read_log(Lsn::new(3), 10).unwrap().unwrap().0.range, range(2, 4));
        drop(store);
        let store = open_with(&disk.crash(CrashPolicy::LOSE_ALL), cache_bytes);
        check_against(&store, &author);
    }
}

/// Everything that ever had these places in the log.
type Written = Mutex<BTreeMap<u64, Vec<Bytes>>>;

fn read_at_random(reader: &StoreReader, written: &Written, seed: u64) {
    let mut chance = Author::new(seed);
    let (first, last) = (reader.first().get(), reader.last().get().max(1));
    let from = Lsn::new(first + chance.below(last.saturating_sub(first) + 1));
    match reader.read_log(from, 1 + chance.below(20_000)) {
        Ok(Some((group, frames))) => {
            assert_eq!(group_of(&frames).unwrap().range, group.range);
            let mut rest = &frames[..];
            while !rest.is_empty() {
                let frame = crate::format::Frame::parse(rest).unwrap();
                let lsn = frame.header().lsn.get();
                let was = |one: &Bytes| *one == frame.stored();
                assert!(written.lock()[&lsn].iter().any(was), "{lsn} was never written so");
                rest = &rest[frame.stored().len()..];
            }
        }
        Ok(None) | Err(Error::BeyondEnd { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn readers_beside_trims_truncations_and_installations_see_what_was_written_or_nothing() {
    for seed in 0..8 {
        let disk = created(seed);
        let (mut store, _) = open(&disk);
        let (written, is_over): (Written, _) = (Mutex::default(), AtomicBool::new(false));
        let mut author = Author { epoch: 1, ..Author::new(seed) };
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (reader, written, is_over) = (store.reader(), &written, &is_over);
                scope.spawn(move || {
                    let mut round = thread;
                    while !is_over.load(Ordering::Relaxed) {
                        read_at_random(&reader, written, round);
                        round += 2;
                    }
                });
            }
            for round in 0..40 {
                for _ in 0..20 {
                    // One frame for each group.
                    let record = vec![author.below(256) as u8; author.below(900) as usize];
                    let (group, frames) = author.group(Content::PLAIN, &[record]);
                    written.lock().entry(group.range.first.get()).or_default().push(frames.clone());
                    store.write(&group, frames).unwrap();
                    if author.below(3) == 0 {
                        store.sync().unwrap();
                    }
                }
                store.sync().unwrap();
                if let Some(preparation) = store.prepare() {
                    store.prepared(preparation.run()).unwrap();
                }
                change(&mut store, &mut author, round);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        check_against(&store, &author);
    }
}

fn change(store: &mut ReplicaStore, author: &mut Author, round: u64) {
    match round % 4 {
        0 => {
            let least = store.base().position.lsn.max(store.first().prev()).get();
            let after = least.max(author.last.saturating_sub(author.below(60)));
            store.truncate(Lsn::new(after)).unwrap();
            author.groups.retain(|(group, _)| group.range.last.get() <= after);
            (author.last, author.epoch) = (after, author.epoch + 1);
        }
        1 | 2 => {
            let covered = (author.last - author.below(10)).max(store.first().prev().get());
            let base = base_at(store.history.position(Lsn::new(covered)).unwrap());
            if base.position.lsn >= store.base().position.lsn {
                store.take_snapshot(&base, b"").unwrap();
                store.trim(Lsn::new(covered)).unwrap();
            }
        }
        _ if round % 8 == 7 => {
            let position = Position { epoch: Epoch::new(author.epoch), lsn: Lsn::new(author.last + 100) };
            let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: Contents::default() };
            store.stage(&offer).unwrap();
            store.install(offer.id()).unwrap();
            (author.last, author.groups) = (author.last + 100, Vec::new());
        }
        _ => {}
    }
}
