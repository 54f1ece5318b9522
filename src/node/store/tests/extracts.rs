//! Opening by the extracts of sealed segments: what it does not read, and that it forgets nothing for it.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::author::Author;
use super::damage::{becomes_whole, damage};
use super::*;
use crate::disk::sim::{Fail, Fault, Operation};
use crate::error::Error;
use crate::protocol::{Content, Group, Health};
use crate::segment::extract_name;

/// A log of several segments, of which the disk vouches.
fn filled(seed: u64) -> (SimDisk, ReplicaStore, Author) {
    let disk = created(seed);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(seed);
    fill(&mut store, &mut author, 150);
    store.vouch().unwrap();
    assert!(store.parts.len() > 3, "it has rolled");
    drop(store);
    // The extracts that were not written are made by an opening.
    let (store, _) = open(&disk);
    (disk, store, author)
}

fn names(store: &ReplicaStore) -> Vec<String> {
    let sealed = store.parts.iter().filter(|part| part.is_sealed);
    sealed.map(|part| extract_name(part.header.first_lsn)).collect()
}

fn replay_of(author: &Author) -> Vec<(Lsn, Content)> {
    let known = |(group, _): &(Group, Bytes)| {
        (group.content != Content::PLAIN).then(|| (group.range.first, group.content.clone()))
    };
    author.groups.iter().filter_map(known).collect()
}

fn scrub_all(store: &ReplicaStore) -> Result<()> {
    let mut after = Lsn::ZERO;
    while let Some(last) = store.reader().scrub(after, &mut |_| ControlFlow::Continue(()))? {
        after = last;
    }
    Ok(())
}

#[test]
fn opening_reads_the_tail_and_not_the_segments_that_are_sealed() {
    for seed in 0..10 {
        let (disk, store, author) = filled(seed);
        let first = store.parts[0].last();
        let frames = store.parts[0].extent.end - 4096;
        // Every frame of the oldest segment is damaged: whoever looks at one of them says so.
        let places: Vec<u64> = (0..frames).step_by(16).collect();
        damage(&disk, &store, 0, &places);
        drop(store);
        let (store, state) = open(&disk);
        assert_eq!(state.health, Health::Whole, "it was not looked at");
        assert_eq!(state.replay, replay_of(&author), "and still all is known");
        assert_eq!(state.history.last(), author.position(author.last));
        for lsn in 1..=author.last {
            assert_eq!(state.history.epoch_at(Lsn::new(lsn)), Some(author.position(lsn).epoch), "{lsn}");
        }
        // Whoever reads it is told, and so is the scrub.
        assert!(matches!(store.read_log(Lsn::FIRST, 1), Err(Error::Rot { .. } | Error::Hole { .. })));
        assert!(store.read_log(first.next(), 1).is_ok());
        assert!(matches!(scrub_all(&store), Err(Error::Rot { .. } | Error::Hole { .. })));
    }
}

#[test]
fn what_a_scrub_finds_damaged_comes_back_from_a_peer() {
    for seed in 0..20 {
        let (disk, store, mut author) = filled(seed);
        scrub_all(&store).unwrap();
        let part = author.below(store.parts.len() as u64 - 1) as usize;
        damage(&disk, &store, part, &[author.below(1 << 20)]);
        let mut store = store;
        let found = scrub_all(&store).unwrap_err();
        assert!(matches!(found, Error::Rot { .. } | Error::Hole { .. }), "{seed}: {found}");
        store.doubt().unwrap();
        drop(store);
        becomes_whole(&disk, &author);
        // By extracts again, which are of what is there now.
        let (store, state) = open(&disk.crash(CrashPolicy::LOSE_ALL));
        scrub_all(&store).unwrap();
        assert_eq!((state.health, state.replay), (Health::Whole, replay_of(&author)));
    }
}

#[test]
fn a_scrub_ends_when_it_is_told_to_and_passes_over_what_is_trimmed() {
    let (disk, mut store, author) = filled(3);
    let ended = store.reader().scrub(Lsn::ZERO, &mut |_| ControlFlow::Break(()));
    // A segment of these is smaller than what is read between two looks.
    assert!(matches!(ended, Ok(Some(_)) | Err(Error::TimedOut)), "{ended:?}");
    let through = author.groups[30].0.range.last.get();
    store.take_snapshot(&base_at(author.position(through)), b"").unwrap();
    store.trim(Lsn::new(through)).unwrap();
    scrub_all(&store).unwrap();
    assert!(store.first() > Lsn::FIRST);
    let kept = names(&store);
    drop(store);
    let left: Vec<String> =
        disk.list().unwrap().into_iter().filter(|name| name.ends_with(".extract")).collect();
    assert!(left.iter().all(|name| kept.contains(name)), "{left:?}");
    let (store, state) = open(&disk);
    let replay: Vec<_> = replay_of(&author).into_iter().filter(|(lsn, _)| lsn.get() > through).collect();
    assert_eq!(state.replay, replay);
    scrub_all(&store).unwrap();
}

/// Whatever becomes of the extracts, recovery says the same.
#[test]
fn extracts_that_are_missing_damaged_or_of_another_life_change_nothing() {
    for seed in 0..30 {
        let (disk, store, mut author) = filled(seed);
        let all = names(&store);
        drop(store);
        let contents: Vec<Vec<u8>> = all.iter().map(|name| disk.contents(name)).collect();
        for name in &all {
            match author.below(5) {
                0 => disk.delete(name),
                1 => {
                    let at = author.below(disk.contents(name).len() as u64);
                    disk.flip_bit(name, at, 3);
                }
                // Of another segment.
                2 => {
                    let other = &contents[author.below(all.len() as u64) as usize];
                    disk.delete(name);
                    disk.create(name).unwrap().write_at(other, 0).unwrap();
                }
                // Torn.
                3 => {
                    let whole = disk.contents(name);
                    disk.delete(name);
                    let part = author.below(whole.len() as u64) as usize;
                    disk.create(name).unwrap().write_at(&whole[..part], 0).unwrap();
                }
                _ => {}
            }
        }
        for _ in 0..2 {
            let (store, state) = open(&disk);
            assert_eq!((state.health, state.replay), (Health::Whole, replay_of(&author)), "{seed}");
            assert_eq!(state.history.last(), author.position(author.last));
            check_against(&store, &author);
            assert!(all.iter().all(|name| disk.list().unwrap().contains(name)), "they are made again");
        }
    }
}

/// What was cut off was noted in an extract, or was about to be.
#[test]
fn what_is_truncated_is_in_no_extract() {
    for seed in 0..30 {
        let (disk, mut store, mut author) = filled(seed);
        for _ in 0..3 {
            let groups = author.groups.len() as u64;
            let kept = groups - 1 - author.below(groups / 2);
            let after = author.groups[kept as usize].0.range.last;
            store.truncate(after).unwrap();
            author.truncate(after.get());
            author.epoch += 1;
            fill(&mut store, &mut author, 40);
            if let Some(preparation) = store.prepare() {
                store.prepared(preparation.run()).unwrap();
            }
        }
        drop(store);
        let (store, state) = open(&disk.crash(CrashPolicy::seeded(seed)));
        assert_eq!((state.health, state.replay), (Health::Whole, replay_of(&author)), "{seed}");
        scrub_all(&store).unwrap();
        check_against(&store, &author);
    }
}

/// A record that is not committed yet counts as a copy as soon as the log is open, and its extract would vouch for bytes that
/// nobody can read any more (S11).
#[test]
fn the_newest_segments_are_read_whatever_their_extracts_say() {
    let (disk, store, _) = filled(5);
    let newer_bytes: u64 = store.parts[2..].iter().map(|part| part.extent.end).sum();
    damage(&disk, &store, 1, &[5000]);
    drop(store);
    let open_with = |newest_bytes| {
        let options = StoreOptions { newest_bytes, ..OPTIONS };
        ReplicaStore::open(&arc(&disk), options).unwrap().1.health
    };
    assert_eq!(open_with(newer_bytes), Health::Whole, "it was not looked at");
    assert!(matches!(open_with(newer_bytes + 1), Health::Damaged(_)));
}

#[test]
fn an_extract_that_cannot_be_read_is_made_again() {
    let (disk, store, author) = filled(6);
    let name = &names(&store)[0];
    drop(store);
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).on(name));
    let (_, state) = open(&disk);
    assert_eq!((state.health, state.replay), (Health::Whole, replay_of(&author)));
}

/// All that was there was trimmed, and the segment ended before another record came: nothing in it concerns anybody. The scrub
/// took that for a hole, so that the replica opened its log again and abstained, each hour, and a majority might at once.
#[test]
fn a_segment_of_which_all_is_trimmed_is_no_damage() {
    let (_, mut store, mut author) = filled(3);
    store.take_snapshot(&base_at(author.position(author.last)), b"").unwrap();
    store.trim(store.last()).unwrap();
    let first = store.first();
    let (group, frames) = author.group(Content::PLAIN, &[vec![7; 28_000]]);
    store.write_all([(group, frames)]).unwrap();
    assert!(store.parts[0].is_sealed && store.parts[0].last() < first, "it had no room for that");
    scrub_all(&store).unwrap();
}
