//! Damage: found, noted, mended.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::author::Author;
use super::{OPTIONS, arc, base_at, check_against, contents_of, created, fill, me, range};
use crate::disk::Disk;
use crate::disk::sim::{CrashPolicy, Fail, Fault, Operation, SimDisk};
use crate::error::{Error, Result};
use crate::format::{SLOT_BYTES, crc32};
use crate::node::digest;
use crate::node::driver::{Done, Task, read};
use crate::node::store::ReplicaStore;
use crate::node::store::part::Part;
use crate::protocol::{Base, Content, Health, LOST_BASE, Meta, Position, SnapshotId, SnapshotOffer, State};
use crate::repair::{Silent, verify};
use crate::types::{Lsn, LsnRange};

/// Opens the store and looks at all of it, as a running replica does in the course of time; again, if something is found.
fn open(disk: &SimDisk) -> (ReplicaStore, State) {
    loop {
        let (mut store, state) = super::open(disk);
        let (mut after, reader) = (Lsn::ZERO, store.reader());
        loop {
            match reader.scrub(after, &mut |_| ControlFlow::Continue(())) {
                Ok(Some(last)) => after = last,
                Ok(None) => return (store, state),
                Err(error) => {
                    assert!(matches!(error, Error::Rot { .. } | Error::Hole { .. }), "{error}");
                    assert!(state.health == Health::Whole, "a repair leaves no damage: {error}");
                    store.doubt().unwrap();
                    break;
                }
            }
        }
    }
}

/// Flips bits of a segment where records up to `vouched` lie.
pub(super) fn damage(disk: &SimDisk, store: &ReplicaStore, part: usize, places: &[u64]) {
    let part = &store.parts[part];
    for place in places {
        let at = 4096 + place % (part.extent.end - 4096);
        for bit in [1, 4, 6] {
            disk.flip_bit(&part.name, at, bit);
        }
    }
}

fn mend_all(disk: &SimDisk, author: &Author) -> Lsn {
    let (mut store, state) = open(disk);
    let Health::Damaged(ranges) = &state.health else { panic!("{:?}", state.health) };
    for lost in ranges {
        let mut next = lost.first;
        while next <= lost.last {
            // As the primary would read it.
            let (group, frames) = author.groups.iter().find(|(group, _)| group.range.first == next).unwrap();
            assert!(!store.mend(group, frames, digest(frames) ^ 4).unwrap());
            assert!(store.mend(group, frames, digest(frames)).unwrap(), "{group:?} {lost}");
            assert!(!store.mend(group, frames, digest(frames)).unwrap(), "twice");
            next = group.range.last.next();
        }
    }
    check_against(&store, author);
    store.recovered().unwrap();
    store.last()
}

/// A log of some groups, of which the disk vouches, with damage in one of its segments.
fn damaged(seed: u64, author: &mut Author, part: impl Fn(&ReplicaStore, &mut Author) -> usize) -> SimDisk {
    let disk = created(seed);
    let (mut store, _) = open(&disk);
    fill(&mut store, author, 60);
    store.vouch().unwrap();
    let part = part(&store, author);
    damage(&disk, &store, part, &[500, 9000]);
    disk
}

/// Cuts `act` short after each of its disk operations, and shows what is there then: after which, and whether it was done.
fn cut_everywhere(base: &SimDisk, act: impl Fn(&SimDisk, u64), check: impl Fn(&SimDisk, u64, bool)) {
    for stop in 0.. {
        assert!(stop < 300, "it ends");
        let disk = base.crash(CrashPolicy::LOSE_ALL);
        act(&disk, stop);
        let is_done = !disk.is_off();
        for policy in [CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL, CrashPolicy::seeded(stop)] {
            check(&disk.crash(policy), stop, is_done);
        }
        if is_done {
            break;
        }
    }
}

/// All comes back, and the replica is whole.
pub(super) fn becomes_whole(disk: &SimDisk, author: &Author) {
    assert_eq!(mend_all(disk, author).get(), author.last);
    let (store, state) = open(disk);
    assert_eq!(state.health, Health::Whole);
    check_against(&store, author);
}

#[test]
fn what_is_damaged_is_noted_and_mended_until_the_log_is_what_it_was() {
    for seed in 0..40 {
        let disk = created(seed);
        let (mut store, _) = open(&disk);
        let mut author = Author::new(seed);
        fill(&mut store, &mut author, 150);
        store.vouch().unwrap();
        assert_eq!(store.vouched(), store.last());
        let places: Vec<u64> = (0..=seed % 3).map(|_| author.below(1 << 20)).collect();
        let part = author.below(store.parts.len() as u64) as usize;
        damage(&disk, &store, part, &places);
        if seed % 5 == 0 {
            let name = store.parts[0].name.to_string();
            drop(store);
            disk.delete(&name);
        } else {
            drop(store);
        }
        let (store, state) = open(&disk);
        let Health::Damaged(ranges) = state.health else { panic!("{seed}: {:?}", state.health) };
        assert_eq!(store.last().get(), author.last, "{seed}");
        for lost in &ranges {
            assert!(matches!(store.read_log(lost.first, 1), Err(Error::Lost { .. })));
        }
        drop(store);
        // It stays noted over a crash.
        let disk = disk.crash(CrashPolicy::LOSE_ALL);
        assert_eq!(mend_all(&disk, &author).get(), author.last);
        let disk = disk.crash(CrashPolicy::LOSE_ALL);
        let report = verify(&arc(&disk), 1, &Silent).unwrap();
        assert!(report.is_whole() && report.given_up.is_empty(), "{seed}: {report:#?}");
        let (mut store, state) = open(&disk);
        assert_eq!(state.health, Health::Whole);
        check_against(&store, &author);
        let whole = range(1, author.last);
        let other = created(seed + 1000);
        let (mut copy, _) = open(&other);
        for (group, frames) in &author.groups {
            copy.write(group, frames.clone()).unwrap();
        }
        assert_eq!(store.digest_of(whole).unwrap(), copy.digest_of(whole).unwrap());
        fill(&mut store, &mut author, 30);
        drop(store);
        let (store, _) = open(&disk.crash(CrashPolicy::LOSE_ALL));
        check_against(&store, &author);
    }
}

#[test]
fn a_crash_while_a_gap_is_mended_leaves_the_gap_or_the_records() {
    for part in [0, 1, 2] {
        let mut author = Author::new(8);
        let base = damaged(3, &mut author, |store, _| part.min(store.parts.len() - 1));
        let (store, state) = open(&base);
        drop(store);
        let Health::Damaged(ranges) = &state.health else { panic!() };
        let (group, frames) =
            author.groups.iter().find(|(group, _)| group.range.first == ranges[0].first).unwrap();
        cut_everywhere(
            &base,
            |disk, stop| {
                let (mut store, _) = open(disk);
                disk.crash_after(stop);
                let _ = store.mend(group, frames, digest(frames));
            },
            |found, stop, is_done| {
                let (store, state) = open(found);
                drop(store);
                let Health::Damaged(left) = &state.health else { panic!() };
                let is_mended = left.first().is_none_or(|left| left.first > group.range.last);
                assert!(is_mended || (!is_done && left == ranges), "{stop}: {left:?} of {ranges:?}");
                becomes_whole(found, &author);
            },
        );
    }
}

#[test]
fn a_crash_while_damage_is_found_and_repaired_forgets_neither_the_records_nor_the_note() {
    for seed in 0..6 {
        let mut author = Author::new(seed);
        let base =
            damaged(seed, &mut author, |store, author| author.below(store.parts.len() as u64) as usize);
        cut_everywhere(
            &base,
            |disk, stop| {
                disk.crash_after(stop);
                let _ = ReplicaStore::open(&arc(disk), OPTIONS);
            },
            |found, _, _| becomes_whole(found, &author),
        );
    }
}

#[test]
fn what_the_base_covers_is_not_lost() {
    for seed in 0..20 {
        let disk = created(seed);
        let (mut store, _) = open(&disk);
        let mut author = Author::new(seed);
        fill(&mut store, &mut author, 150);
        let covered = author.groups[100].0.range.last.get();
        let base = base_at(author.position(covered));
        store.take_snapshot(&base, b"").unwrap();
        store.vouch().unwrap();
        let parts = store.parts.len();
        for part in 0..parts {
            damage(&disk, &store, part, &[author.below(1 << 20)]);
        }
        drop(store);
        let (store, state) = open(&disk);
        assert!(state.history.has(base.position), "{seed}: {:?}", state.history);
        let Health::Damaged(ranges) = state.health else { panic!("{seed}") };
        assert!(ranges.iter().all(|lost| lost.first.get() > covered), "{seed}: {ranges:?}");
        assert!(state.replay.iter().all(|(lsn, _)| lsn.get() > covered), "{seed}");
        drop(store);
        mend_all(&disk, &author);
        let (store, state) = open(&disk);
        assert_eq!((state.health, state.commit.get()), (Health::Whole, covered));
        assert_eq!(store.last().get(), author.last);
        check_against(&store, &author);
    }
}

#[test]
fn a_log_with_gaps_can_be_truncated_inside_of_one() {
    for seed in 0..20 {
        let disk = created(seed);
        let (mut store, _) = open(&disk);
        let mut author = Author::new(seed);
        fill(&mut store, &mut author, 120);
        store.vouch().unwrap();
        damage(&disk, &store, 1, &[400, 5000, 9000]);
        drop(store);
        let (mut store, state) = open(&disk);
        let Health::Damaged(ranges) = state.health else { panic!() };
        let lost = ranges[0];
        let after =
            author.groups.iter().map(|(group, _)| group.range.last).find(|last| *last >= lost.first).unwrap();
        store.truncate(after).unwrap();
        assert_eq!(store.last(), after);
        author.truncate(after.get());
        author.epoch += 1;
        drop(store);
        let (mut store, _) = open(&disk.crash(CrashPolicy::LOSE_ALL));
        fill(&mut store, &mut author, 20);
        drop(store);
        mend_all(&disk, &author);
        let (store, _) = open(&disk);
        check_against(&store, &author);
    }
}

/// The primary's records fit into the gap, but not before what another one has written after it, in the next segment:
/// they were put there, and the log could not be opened any more.
#[test]
fn records_are_not_mended_in_front_of_older_ones_in_the_next_segment() {
    let disk = created(4);
    let (mut store, _) = open(&disk);
    let mut author = Author { epoch: 1, ..Author::new(4) };
    while store.parts.len() < 3 {
        let (group, frames) = author.group(Content::PLAIN, &[vec![7; 900]]);
        store.write(&group, frames.clone()).unwrap();
        store.sync().unwrap();
    }
    store.vouch().unwrap();
    let last = store.parts[1].last();
    damage(&disk, &store, 1, &[store.parts[1].extent.end - 4096 - 200]);
    drop(store);
    let (mut store, state) = open(&disk);
    assert_eq!(state.health, Health::Damaged(vec![LsnRange { first: last, last }]));
    let mut primary = Author { epoch: 4, last: last.get() - 1, ..Author::default() };
    let (newer, frames) = primary.group(Content::EpochStart, &[]);
    assert!(!store.mend(&newer, &frames, digest(&frames)).unwrap(), "epochs would go back behind it");
    drop(store);
    mend_all(&disk, &author);
    assert_eq!(open(&disk).1.health, Health::Whole);
}

/// Nothing of it is gone before a peer's is there; and what was staged before a crash is gone on with.
#[test]
fn a_base_that_does_not_check_is_put_aside_until_another_one_is_installed() {
    for stop in 0.. {
        let disk = created(stop);
        let (mut store, _) = open(&disk);
        let mut author = Author::new(6);
        fill(&mut store, &mut author, 10);
        let before = author.position(author.last);
        store.take_snapshot(&base_at(before), &[7; 5000]).unwrap();
        let meta = Meta { epoch: before.epoch, vote: Some(me()), generation: 3 };
        store.save_meta(&meta).unwrap();
        drop(store);
        let among_peers = |disk: &SimDisk| ReplicaStore::open_among_peers(&arc(disk), OPTIONS);
        assert_eq!(among_peers(&disk).unwrap().1.health, Health::Whole, "it checks");
        disk.flip_bit("base", 3000, 5);
        let rotten = disk.contents("base");

        disk.crash_after(stop);
        let _ = among_peers(&disk);
        let is_done = !disk.is_off();
        let disk = disk.crash(CrashPolicy::seeded(stop));
        drop(among_peers(&disk).unwrap().0.unwrap());
        assert_eq!(disk.contents("quarantine-base-1"), rotten);
        let lost = || {
            let (store, state) = ReplicaStore::open(&arc(&disk), OPTIONS).unwrap();
            assert_eq!((state.health, state.meta), (Health::Damaged(vec![LOST_BASE]), meta));
            assert_eq!((state.base, state.history.last()), (Base::default(), Position::default()));
            store.unwrap()
        };
        let mut store = lost();
        assert_eq!(store.last(), before.lsn, "the log is there until it is replaced");
        let position = Position { lsn: before.lsn.plus(5), ..before };
        let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(b"four") };
        store.stage(&offer).unwrap();
        drop(store);
        let mut store = lost();
        store.stage_durably((offer.id(), 0), b"four", digest(b"four")).unwrap().unwrap();
        store.install(offer.id()).unwrap();
        drop(store);

        let (mut store, state) = open(&disk);
        assert_eq!((state.health, state.base.position), (Health::Damaged(vec![]), position));
        store.recovered().unwrap();
        drop(store);
        assert_eq!(open(&disk).1.health, Health::Whole);
        assert!(!disk.list().unwrap().iter().any(|name| name.starts_with("quarantine")));
        if is_done {
            break;
        }
    }
}

#[test]
fn a_base_of_a_newer_version_is_no_damage_and_stays_where_it_is() {
    let disk = created(3);
    let mut base = disk.contents("base");
    base[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let sum = crc32(&[&base[..12], &base[16..]].concat());
    base[12..16].copy_from_slice(&sum.to_le_bytes());
    disk.overwrite("base", 0, &base);
    let newer = |error| matches!(error, Error::NewerVersion { found: 2, supported: 1 });
    assert!(newer(ReplicaStore::open(&arc(&disk), OPTIONS).unwrap_err()));
    assert!(newer(ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap_err()));
    assert_eq!(disk.contents("base"), base);
}

/// Nothing is put aside where another base would not help.
#[test]
fn a_base_stays_where_the_log_is_not_to_be_opened_anyway() {
    let disk = created(3);
    disk.flip_bit("base", 40, 2);
    disk.delete("superblock");
    let before = disk.list().unwrap();
    assert_eq!(ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap().1.health, Health::Blank);
    assert_eq!(disk.list().unwrap(), before);
}

#[test]
fn a_base_that_cannot_be_read_twice_is_lost() {
    let disk = created(3);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(6);
    fill(&mut store, &mut author, 10);
    let position = author.position(author.last);
    store.take_snapshot(&base_at(position), &[7; 5000]).unwrap();
    let (to, snapshot) = (me().id, SnapshotId { position, checksum: crc32(&[7; 5000]) });
    let task = Task::ReadSnapshot { to, snapshot, offset: 0, bytes_max: 100 };
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).on("base").and_later());
    assert!(matches!(read(&store.reader(), &task), Err(Error::Rot { .. })));
    disk.heal();
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).on("base"));
    assert!(matches!(read(&store.reader(), &task), Ok(Done::SnapshotRead { .. })), "once may pass");
    let snapshot = store.reader().snapshot().unwrap().expect("it was taken");
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).on("base"));
    snapshot.verify().expect("once may pass");
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).on("base").and_later());
    drop(store);
    let opened = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap();
    assert_eq!(opened.1.health, Health::Damaged(vec![LOST_BASE]));
}

/// A failed read was told as one, the store was opened again by its extracts, which are whole, and the same read failed
/// again: such a primary could feed nobody, and was never mended.
#[test]
fn what_cannot_be_read_twice_is_damage_to_whoever_reads_it() {
    let disk = created(5);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(5);
    fill(&mut store, &mut author, 150);
    store.vouch().unwrap();
    drop(store);
    let (mut store, _) = open(&disk);
    let (part, name) = (&store.parts[1], store.parts[1].name.to_string());
    assert!(part.is_sealed && store.parts.len() > 3, "it has rolled");
    let all = LsnRange { first: part.header.first_lsn, last: part.last() };
    let is_rot = |error: Error| matches!(error, Error::Rot { file, .. } if *file == *name);
    type Read<'a> = &'a dyn Fn(&ReplicaStore) -> Result<()>;
    let reads: [Read<'_>; 5] = [
        &|store| store.read_log(all.first, 1 << 10).map(drop),
        // As a peer is fed.
        &|store| store.read_log(all.first, 1 << 20).map(drop),
        &|store| store.entries(all).map(drop),
        &|store| store.digest_of(all).map(drop),
        &|store| store.reader().scrub(all.first.prev(), &mut |_| ControlFlow::Continue(())).map(drop),
    ];
    for read in reads {
        disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).on(&name));
        read(&store).unwrap();
    }
    // Nothing is lost with a footer: where its records lie is found again.
    let footless = disk.crash(CrashPolicy::KEEP_ALL);
    let (opened, _) = super::open(&footless);
    let end = footless.contents(&name).len() as u64;
    footless.lose_sectors(&name, part.extent.end.next_multiple_of(4096)..end);
    opened.read_log(all.last, 1 << 10).unwrap().expect("it is there");
    drop(opened);
    disk.lose_sectors(&name, 4096..part.extent.end);
    for read in reads {
        assert!(is_rot(read(&store).unwrap_err()));
    }
    assert!(is_rot(store.truncate(all.first).unwrap_err()));
    drop(store);
    becomes_whole(&disk, &author);
}

#[test]
fn what_an_opening_cannot_read_twice_is_damage_and_once_may_pass() {
    let mut author = Author::new(6);
    let disk = created(6);
    let (mut store, _) = open(&disk);
    fill(&mut store, &mut author, 60);
    store.vouch().unwrap();
    drop(store);
    for nth in 1..40 {
        let disk = disk.crash(CrashPolicy::KEEP_ALL);
        disk.fail(Fail::nth(Operation::Read, nth, Fault::Io));
        let (_, state) =
            ReplicaStore::open(&arc(&disk), OPTIONS).unwrap_or_else(|error| panic!("{nth}: {error}"));
        assert_eq!(state.health, Health::Whole, "read {nth}");
    }
    let (store, _) = open(&disk);
    let blocks = |part: &Part| {
        let name = part.name.to_string();
        (0..part.extent.end).step_by(3 * 4096).map(move |at| (name.clone(), at))
    };
    for (name, at) in store.parts.iter().flat_map(blocks) {
        let disk = disk.crash(CrashPolicy::KEEP_ALL);
        disk.lose_sectors(&name, at..at + 1);
        becomes_whole(&disk, &author);
    }
    // What is in both copies of the superblock is there in one.
    for slot in [0, SLOT_BYTES as u64] {
        let disk = disk.crash(CrashPolicy::KEEP_ALL);
        disk.lose_sectors("superblock", slot..slot + 1);
        assert_eq!(open(&disk).1.health, Health::Whole, "{slot}");
    }
}
