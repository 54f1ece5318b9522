//! Records: written, synced, read back, truncated.

use bytes::Bytes;

use super::author::Author;
use super::{
    OPTIONS, arc, check_against, crash_everywhere, created, fill, first_base, ignoring, open, range,
};
use crate::disk::sim::{CrashPolicy, SimDisk};
use crate::node::group_of;
use crate::node::store::ReplicaStore;
use crate::protocol::{Content, Group, Health, Member, Meta};
use crate::types::{DiskId, Epoch, Lsn, ReplicaId};

#[test]
fn what_was_synced_is_read_back_after_a_crash_with_what_the_protocol_has_to_know() {
    let disk = created(1);
    let (mut store, state) = open(&disk);
    assert_eq!((state.meta, state.health, state.commit), (Meta::default(), Health::Whole, Lsn::ZERO));
    assert_eq!(state.base, first_base());
    let mut author = Author::new(1);
    fill(&mut store, &mut author, 300);
    assert!(store.parts.len() > 3, "it has rolled");
    check_against(&store, &author);
    let all = range(1, author.last);
    let before = (store.digest_of(all).unwrap(), store.entries(all).unwrap());
    let vote = Some(Member { id: ReplicaId::new(3), disk: DiskId::new(9) });
    let meta = Meta { epoch: Epoch::new(author.epoch + 5), vote, generation: 4 };
    store.save_meta(&meta).unwrap();
    drop(store);
    let disk = disk.crash(CrashPolicy::LOSE_ALL);
    let (store, again) = open(&disk);
    assert_eq!(again.meta, meta);
    assert!(again.incarnation > state.incarnation);
    assert_eq!(again.history.last(), author.position(author.last));
    check_against(&store, &author);
    assert_eq!((store.digest_of(all).unwrap(), store.entries(all).unwrap()), before);
    let known = |(group, _): &(Group, Bytes)| {
        (group.content != Content::PLAIN).then(|| (group.range.first, group.content.clone()))
    };
    assert_eq!(again.replay, author.groups.iter().filter_map(known).collect::<Vec<_>>());
    // Larger pieces are never of two epochs, and control records are alone.
    let mut next = Lsn::FIRST;
    while next <= store.last() {
        let (group, frames) = store.read_log(next, 20_000).unwrap().unwrap();
        assert_eq!(group_of(&frames).unwrap(), group);
        next = group.range.last.next();
    }
}

#[test]
fn a_blank_directory_has_no_store() {
    let disk = SimDisk::new(1);
    let (store, state) = ReplicaStore::open(&arc(&disk), OPTIONS).unwrap();
    assert!(store.is_none() && state.health == Health::Blank);
    let disk = created(2);
    disk.delete("base");
    let (store, state) = ReplicaStore::open(&arc(&disk), OPTIONS).unwrap();
    assert!(store.is_none() && state.health == Health::Blank);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author { epoch: 1, ..Author::new(1) };
    for bytes in [100_000, 10, 300_000, 200_000] {
        let (group, frames) = author.group(Content::PLAIN, &[vec![3; bytes]]);
        store.write(&group, frames.clone()).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    let (store, _) = open(&disk.crash(CrashPolicy::LOSE_ALL));
    check_against(&store, &author);
    assert_eq!(store.last(), Lsn::new(4));
}

#[test]
fn a_crash_while_the_meta_is_saved_leaves_the_old_one_or_the_new_one() {
    let meta = |epoch| Meta {
        epoch: Epoch::new(epoch),
        vote: Some(Member { id: ReplicaId::new(epoch), disk: DiskId::new(5) }),
        generation: epoch,
    };
    crash_everywhere(
        |store| store.save_meta(&meta(7)).unwrap(),
        |store| ignoring(store.save_meta(&meta(8))),
        |found, is_done| {
            let (_, state) = open(found);
            assert!(state.meta == meta(8) || (!is_done && state.meta == meta(7)), "{:?}", state.meta);
        },
    );
}

#[test]
fn a_crash_in_a_truncation_leaves_a_log_without_gaps_and_with_all_that_stays() {
    for (seed, after) in [(1, 0), (2, 30), (3, 90)] {
        let mut author = Author::new(seed);
        let disk = created(9);
        let (mut store, _) = open(&disk);
        fill(&mut store, &mut author, 60);
        let after = author.groups[..]
            .iter()
            .map(|(group, _)| group.range.last.get())
            .rfind(|last| *last <= after)
            .unwrap_or(0);
        drop(store);
        crash_everywhere(
            |store| {
                for (group, frames) in &author.groups {
                    store.write(group, frames.clone()).unwrap();
                    if group.range.first.get() % 3 == 0 {
                        store.sync().unwrap();
                    }
                }
                store.sync().unwrap();
            },
            |store| ignoring(store.truncate(Lsn::new(after))),
            |found, is_done| {
                let (mut store, state) = open(found);
                assert_eq!(state.health, Health::Whole);
                assert!(store.last() >= Lsn::new(after) && store.last() <= Lsn::new(author.last));
                assert!(!is_done || store.last() == Lsn::new(after));
                check_against(&store, &author);
                store.truncate(Lsn::new(after)).unwrap();
                let mut other = author.clone();
                other.truncate(after);
                other.epoch = author.epoch + 1;
                other.chance = 99;
                fill(&mut store, &mut other, 20);
                check_against(&store, &other);
                drop(store);
                let (store, _) = open(&found.crash(CrashPolicy::LOSE_ALL));
                check_against(&store, &other);
                assert_eq!(store.last(), Lsn::new(other.last));
            },
        );
    }
}

#[test]
fn what_was_synced_survives_crashes_at_random() {
    for seed in 0..150 {
        let mut disk = created(seed);
        let mut author = Author::new(seed);
        let mut synced = Lsn::ZERO;
        for round in 0..6 {
            let (mut store, state) = open(&disk);
            assert_eq!(state.health, Health::Whole, "{seed}");
            assert!(store.last() >= synced, "{seed} {round}: {} of {synced}", store.last());
            check_against(&store, &author);
            author.truncate(store.last().get());
            author.epoch += 1;
            disk.crash_after(5 + author.below(150));
            synced = store.last();
            for _ in 0..80 {
                let (group, frames) = author.next();
                if store.write(&group, frames.clone()).is_err() {
                    break;
                }
                if author.below(4) == 0 {
                    match store.sync() {
                        Ok(through) => synced = through,
                        Err(_) => break,
                    }
                }
            }
            drop(store);
            disk = disk.crash(CrashPolicy::seeded(seed * 100 + round));
        }
    }
}
