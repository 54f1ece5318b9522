//! Snapshots: taken, kept, received, switched to.

use std::sync::Arc;

use bytes::Bytes;

use super::author::Author;
use super::{
    OPTIONS, base_at, check_against, contents_of, crash_everywhere, created, fill, first_base, ignoring,
    open, open_with,
};
use crate::disk::sim::{CrashPolicy, Fail, Fault, Operation};
use crate::format::crc32;
use crate::node::store::{ReplicaStore, StoreOptions};
use crate::node::{Done, Task, digest, perform};
use crate::protocol::{Content, Group, Health, Position, SnapshotId, SnapshotOffer, Spans};
use crate::types::{Epoch, Lsn};

#[test]
fn a_crash_in_an_installation_leaves_the_old_log_or_the_new_base() {
    let application: Vec<u8> = (0..3000_u32).map(|byte| (byte % 251) as u8).collect();
    for at in [40, 5000] {
        let mut author = Author::new(5);
        let disk = created(9);
        let (mut store, _) = open(&disk);
        fill(&mut store, &mut author, 40);
        drop(store);
        let position = Position { epoch: Epoch::new(900), lsn: Lsn::new(at) };
        let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(&application) };
        let act = |store: &mut ReplicaStore| {
            ignoring(store.stage(&offer));
            let mut staged = 0;
            for chunk in application.chunks(1000) {
                let place = (offer.id(), staged);
                assert_eq!(ignoring(store.stage_durably(place, chunk, digest(chunk) ^ 1)), None);
                staged = ignoring(store.stage_durably(place, chunk, digest(chunk))).unwrap();
            }
            ignoring(store.install(offer.id()));
        };
        crash_everywhere(
            |store| {
                for (group, frames) in &author.groups {
                    store.write(group, frames.clone()).unwrap();
                }
                store.sync().unwrap();
            },
            act,
            |found, is_done| {
                let (mut store, state) = open(found);
                assert_eq!(state.health, Health::Whole);
                if state.base.position == position {
                    assert_eq!((store.first(), store.last()), (position.lsn.next(), position.lsn));
                    assert_eq!((state.history.last(), state.commit), (position, position.lsn));
                    assert_eq!(state.contents, Some(contents_of(&application)));
                    assert_eq!(store.application().unwrap(), application);
                    let mut other = Author { epoch: 900, last: at, ..Author::new(3) };
                    fill(&mut store, &mut other, 30);
                    drop(store);
                    let (store, _) = open(&found.crash(CrashPolicy::LOSE_ALL));
                    check_against(&store, &other);
                    return;
                }
                assert!(!is_done);
                assert_eq!((state.base, store.last()), (first_base(), Lsn::new(author.last)));
                check_against(&store, &author);
                // Resumed where it was.
                if state.staged.is_none() {
                    ignoring(store.stage(&offer));
                }
                let staged = state.staged.map_or(0, |staged| staged.bytes);
                let mut next = usize::try_from(staged).unwrap();
                while next < application.len() {
                    let chunk = &application[next..(next + 700).min(application.len())];
                    let place = (offer.id(), next as u64);
                    next =
                        usize::try_from(store.stage_durably(place, chunk, digest(chunk)).unwrap().unwrap())
                            .unwrap();
                }
                store.install(offer.id()).unwrap();
                drop(store);
                let (store, state) = open(found);
                assert_eq!(
                    (state.base.position, store.application().unwrap()),
                    (position, application.clone())
                );
            },
        );
    }
}

#[test]
fn a_snapshot_lets_the_log_be_trimmed_and_is_sent_in_parts() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(2);
    fill(&mut store, &mut author, 200);
    let covered = author.groups[150].0.range.last.get();
    let base = base_at(author.position(covered));
    store.take_snapshot(&base, b"all of it").unwrap();
    let trimmed = author.groups[120].0.range.last.get();
    store.trim(Lsn::new(trimmed)).unwrap();
    assert_eq!(store.read_log(Lsn::new(trimmed), 100).unwrap(), None);
    let id = SnapshotId { position: base.position, checksum: crc32(b"all of it") };
    assert_eq!(store.read_snapshot(id, 4, 2).unwrap().unwrap().0, b"of"[..]);
    assert_eq!(store.read_snapshot(SnapshotId::default(), 4, 2).unwrap(), None);
    drop(store);
    let (mut store, state) = open(&disk.crash(CrashPolicy::LOSE_ALL));
    assert_eq!((state.commit, &state.base), (Lsn::new(covered), &base));
    assert_eq!((store.first(), state.history.base()), (Lsn::new(trimmed + 1), author.position(trimmed)));
    assert!(state.replay.iter().all(|(lsn, _)| *lsn > Lsn::new(covered)));
    check_against(&store, &author);
    fill(&mut store, &mut author, 50);
    check_against(&store, &author);
}

/// `keep_records` counts records, and may ask for a part of a batch.
#[test]
fn a_trim_leaves_whole_frames() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(2);
    fill(&mut store, &mut author, 200);
    let is_batch = |(group, _): &&(Group, Bytes)| {
        let is_one = matches!(&group.content, Content::Records(Spans::One(span)) if span.records > 2);
        is_one && group.range.first.get() > 100
    };
    let batch = author.groups.iter().find(is_batch).expect("some are").0.range;
    store.take_snapshot(&base_at(author.position(author.last)), b"").unwrap();
    for inside in batch.first.get()..batch.last.get() {
        store.trim(Lsn::new(inside)).unwrap();
        assert_eq!(store.first(), batch.first);
    }
    drop(store);
    let (mut store, state) = open(&disk.crash(CrashPolicy::LOSE_ALL));
    assert_eq!(state.history.base(), author.position(batch.first.get() - 1));
    store.trim(batch.last).unwrap();
    assert_eq!(store.first(), batch.last.next());
    store.trim(Lsn::new(author.last)).unwrap();
    assert_eq!(store.first(), Lsn::new(author.last + 1));
}

/// Anything damaged in the segment before it kept the end of a frame from being found, and the log began in the middle of
/// one (`ANNALS_SEED=39` of `alone::steps_of_the_store_fail`, as it was then).
#[test]
fn a_trim_leaves_whole_frames_wherever_something_is_damaged() {
    let is_batch = |(group, _): &&(Group, Bytes)| {
        let is_one = matches!(&group.content, Content::Records(Spans::One(span)) if span.records > 2);
        is_one && group.range.first.get() > 100
    };
    let (mut exact, mut less) = (0, 0);
    for (cache_bytes, block) in [64 << 20, 0].into_iter().flat_map(|cache| (0..8).map(move |at| (cache, at)))
    {
        let disk = created(1);
        let (mut store, _) = open_with(&disk, StoreOptions { cache_bytes, ..OPTIONS });
        let mut author = Author::new(2);
        fill(&mut store, &mut author, 200);
        let batch = author.groups.iter().find(is_batch).expect("some are").0.range;
        store.take_snapshot(&base_at(author.position(author.last)), b"").unwrap();
        let part =
            store.parts.iter().rfind(|part| part.header.first_lsn <= batch.first).expect("it is there");
        let begin = part.header.first_lsn;
        assert!(begin < batch.first && batch.last < part.last(), "{batch:?} is inside");
        disk.lose_sectors(&part.name, block * 4096..(block + 1) * 4096);
        store.trim(Lsn::new(batch.first.get() + 1)).unwrap();
        let first = store.first();
        assert!(first == batch.first || first == begin, "it begins with {first}, {batch:?} from {begin} on");
        assert!(first == batch.first || cache_bytes == 0, "it is in memory");
        exact += usize::from(first == batch.first);
        less += usize::from(first == begin);
        store.trim(Lsn::new(author.last)).unwrap();
        assert_eq!(store.first(), Lsn::new(author.last + 1));
    }
    assert!(exact > 8 && less > 0, "{exact} {less}");
}

#[test]
fn a_snapshot_that_is_kept_is_read_after_it_was_replaced() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(2);
    fill(&mut store, &mut author, 200);
    let bases = [20, 50, 80].map(|group: usize| {
        let covered = author.groups[group].0.range.last.get();
        base_at(author.position(covered))
    });
    let id = |at: usize, application: &[u8]| SnapshotId {
        position: bases[at].position,
        checksum: crc32(application),
    };
    let (first, second, third) = (id(0, b"first"), id(1, b"second"), id(2, b"third"));
    let reads = |store: &ReplicaStore, id| store.read_snapshot(id, 0, 9).unwrap().map(|(part, _)| part);
    store.take_snapshot(&bases[0], b"first").unwrap();
    store.keep_snapshots(&[first]);
    store.take_snapshot(&bases[1], b"second").unwrap();
    store.take_snapshot(&bases[2], b"third").unwrap();
    assert_eq!(reads(&store, first).unwrap(), b"first"[..]);
    assert_eq!(store.read_snapshot(first, 3, 9).unwrap().unwrap().0, b"st"[..]);
    assert_eq!(store.read_snapshot(first, 6, 9).unwrap(), None);
    assert_eq!(reads(&store, second), None);
    assert_eq!(reads(&store, third).unwrap(), b"third"[..]);
    store.keep_snapshots(&[third]);
    assert_eq!(reads(&store, first), None);
    assert_eq!(reads(&store, third).unwrap(), b"third"[..]);
}

#[test]
fn chunks_that_come_together_share_a_sync_and_are_told_of_after_it() {
    let position = Position { epoch: Epoch::new(9), lsn: Lsn::new(40) };
    let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(&[5; 300]) };
    let snapshot = offer.id();
    let chunk = |offset| {
        let bytes = Bytes::from_static(&[5; 100]);
        Task::StageChunk { snapshot, offset, digest: digest(&bytes), bytes }
    };
    let staged = |tasks: &[Task], fault: Option<Fail>| {
        let disk = created(6);
        let (mut store, _) = open(&disk);
        store.stage(&offer).unwrap();
        let before = disk.operations();
        fault.into_iter().for_each(|fault| disk.fail(fault));
        let mut done = vec![];
        let performed = perform(&mut store, &mut tasks.iter().cloned().collect(), &mut done);
        let (_, state) = open(&disk.crash(CrashPolicy::LOSE_ALL));
        let durable = state.staged.map_or(0, |staged| staged.bytes);
        (performed.is_ok(), done, disk.operations() - before, durable)
    };
    let all = Done::ChunkStaged { snapshot, bytes: 300 };
    let together = staged(&[chunk(0), chunk(100), chunk(200)], None);
    assert_eq!(together, (true, vec![all.clone()], 4, 300), "three writes and a sync");
    // One that came twice is refused, and what was staged before it is told of all the same.
    let (part, twice) =
        (Done::ChunkStaged { snapshot, bytes: 200 }, Done::ChunkRefused { snapshot, offset: 100 });
    let doubled = staged(&[chunk(0), chunk(100), chunk(100), chunk(200)], None);
    assert_eq!(doubled, (true, vec![part, twice, all], 5, 300));
    let fault = Fail::nth(Operation::Sync, 1, Fault::LoseChanges);
    let (is_done, done, ..) = staged(&[chunk(0), chunk(100)], Some(fault));
    assert_eq!((is_done, done), (false, vec![]), "S1: nothing is told that is not synced");
}

/// A chunk whose sync failed was in memory only, and was resumed behind: a power cut after the next one took it, with all
/// that was acknowledged since.
#[test]
fn a_chunk_whose_sync_failed_is_staged_for_good_once_it_was_found() {
    let disk = created(6);
    let (mut store, _) = open(&disk);
    let position = Position { epoch: Epoch::new(9), lsn: Lsn::new(40) };
    let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(&[5; 300]) };
    let chunk = [5; 100];
    store.stage(&offer).unwrap();
    disk.fail(Fail::nth(Operation::Sync, 1, Fault::LoseChanges));
    store.stage_durably((offer.id(), 0), &chunk, digest(&chunk)).unwrap_err();
    drop(store);
    let (mut store, state) = open(&disk);
    let found = state.staged.unwrap().bytes;
    assert_eq!(found, 100, "it can be read");
    assert_eq!(store.stage_durably((offer.id(), found), &chunk, digest(&chunk)).unwrap(), Some(200));
    drop(store);
    let (_, state) = open(&disk.crash(CrashPolicy::LOSE_ALL));
    assert_eq!(state.staged.unwrap().bytes, 200);
}

/// The digest of a chunk is of what was read at the other end: a bit that had flipped on that disk came along with it.
#[test]
fn a_snapshot_that_does_not_give_its_checksum_is_not_switched_to() {
    let (disk, sound, position) =
        (created(6), [5; 300], Position { epoch: Epoch::new(9), lsn: Lsn::new(40) });
    let (mut store, _) = open(&disk);
    let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(&sound) };
    let mut rotten = sound;
    rotten[17] ^= 1;
    store.stage(&offer).unwrap();
    let stage = |store: &mut ReplicaStore, from: &[u8], offset: usize, bytes: usize| {
        let chunk = &from[offset..offset + bytes];
        store.stage_durably((offer.id(), offset as u64), chunk, digest(chunk)).unwrap()
    };
    assert_eq!(stage(&mut store, &rotten, 0, 200), Some(200));
    assert_eq!(stage(&mut store, &rotten, 200, 100), None);
    drop(store);
    let (mut store, state) = open(&disk);
    assert_eq!(state.staged.unwrap().bytes, 200);
    assert_eq!(stage(&mut store, &rotten, 200, 100), None, "also what was staged before a restart counts");
    store.stage(&offer).unwrap();
    assert_eq!(stage(&mut store, &sound, 0, 200), Some(200));
    assert_eq!(stage(&mut store, &sound, 200, 100), Some(300));
    store.install(offer.id()).unwrap();
    assert_eq!(store.application().unwrap(), sound);
}
