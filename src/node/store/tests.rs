use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ReplicaStore, StoreOptions};
use crate::disk::Disk;
use crate::disk::sim::{CrashPolicy, SimDisk};
use crate::error::{Error, Result};
use crate::node::{check_group, digest, frame_group, group_of};
use crate::protocol::{
    Base, Content, Group, Health, Member, Membership, Meta, Position, Producers, Quorums, SnapshotId,
    SnapshotOffer, Span, Spans, State, Voter,
};
use crate::repair::{Silent, verify};
use crate::types::{DiskId, Epoch, Lsn, LsnRange, ProducerId, ReplicaId};

const OPTIONS: StoreOptions = StoreOptions { segment_bytes: 32 << 10 };

fn me() -> Member {
    Member { id: ReplicaId::new(1), disk: DiskId::new(77) }
}

fn membership() -> Arc<Membership> {
    Arc::new(Membership::first(vec![Voter { member: me(), priority: 0 }], Quorums::Majority))
}

fn first_base() -> Base {
    Base { membership: Some(membership()), ..Base::default() }
}

fn range(first: u64, last: u64) -> LsnRange {
    LsnRange::new(Lsn::new(first), Lsn::new(last)).unwrap()
}

/// What was written, as the primary would have it.
#[derive(Clone, Default)]
struct Author {
    groups: Vec<(Group, Vec<u8>)>,
    epoch: u64,
    last: u64,
    chance: u64,
}

impl Author {
    fn new(seed: u64) -> Author {
        Author { chance: seed, ..Author::default() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % bound
    }

    fn group(&mut self, content: Content, records: &[Vec<u8>]) -> (Group, Vec<u8>) {
        let count = records.len().max(1) as u64;
        let range = range(self.last + 1, self.last + count);
        let mut group = Group { epoch: Epoch::new(self.epoch), range, bytes: 0, content };
        let frames = frame_group(&group, records);
        group.bytes = frames.len() as u64;
        check_group(&group, &frames).unwrap();
        self.last += count;
        self.groups.push((group.clone(), frames.clone()));
        (group, frames)
    }

    fn next(&mut self) -> (Group, Vec<u8>) {
        if self.epoch == 0 || self.below(12) == 0 {
            self.epoch += 1 + self.below(2);
            return self.group(Content::EpochStart, &[]);
        }
        let count = 1 + self.below(4);
        let records: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let (byte, length) = (self.below(256) as u8, self.below(900));
                vec![byte; length as usize]
            })
            .collect();
        match self.below(6) {
            0 => self.group(Content::Register, &[]),
            1 => self.group(Content::Membership(membership()), &[]),
            2 => {
                let span = Span {
                    producer: ProducerId::new(1),
                    sequence: 1 + self.last,
                    lsn: Lsn::new(self.last + 1),
                    records: count as u32,
                };
                self.group(Content::Records(Spans::One(span)), &records)
            }
            _ => self.group(Content::PLAIN, &records),
        }
    }

    fn truncate(&mut self, after: u64) {
        self.groups.retain(|(group, _)| group.range.last.get() <= after);
        self.last = self.groups.last().map_or(0, |(group, _)| group.range.last.get());
        assert_eq!(self.last, after);
    }

    /// The records of the groups, by LSN.
    fn frames(&self) -> BTreeMap<u64, Vec<u8>> {
        self.groups.iter().map(|(group, frames)| (group.range.first.get(), frames.clone())).collect()
    }

    fn position(&self, lsn: u64) -> Position {
        let holds = |(group, _): &&(Group, Vec<u8>)| group.range.last.get() >= lsn;
        let epoch = self.groups.iter().find(holds).map_or(Epoch::new(0), |(group, _)| group.epoch);
        Position { epoch: if lsn == 0 { Epoch::new(0) } else { epoch }, lsn: Lsn::new(lsn) }
    }
}

fn arc(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn open(disk: &SimDisk) -> (ReplicaStore, State) {
    let (store, state) =
        ReplicaStore::open(&arc(disk), OPTIONS).unwrap_or_else(|error| panic!("{error}\n{}", disk.trace()));
    let store = store.unwrap_or_else(|| panic!("it is not blank\n{}", disk.trace()));
    assert_eq!(state.history.last().lsn, store.last());
    (store, state)
}

fn created(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    ReplicaStore::create(&disk, me(), &first_base()).unwrap();
    disk
}

/// Every group as it is read back from the store, one frame at a time put together again.
fn check_against(store: &ReplicaStore, author: &Author) {
    let frames = author.frames();
    for (group, bytes) in &author.groups {
        if group.range.first < store.first() || group.range.last > store.last() {
            continue;
        }
        let read = store.read_range(group.range, bytes.len() as u64).unwrap().unwrap();
        assert_eq!(&read, &(group.clone(), frames[&group.range.first.get()].clone()));
    }
}

fn fill(store: &mut ReplicaStore, author: &mut Author, groups: u64) {
    for _ in 0..groups {
        let (group, frames) = author.next();
        store.write(&group, &frames).unwrap();
        if author.below(3) == 0 {
            store.sync().unwrap();
        }
    }
    store.sync().unwrap();
}

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
    let known = |(group, _): &(Group, Vec<u8>)| {
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
        store.write(&group, &frames).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    let (store, _) = open(&disk.crash(CrashPolicy::LOSE_ALL));
    check_against(&store, &author);
    assert_eq!(store.last(), Lsn::new(4));
}

/// Does something to a store up to each of its disk operations, and looks at what a crash leaves.
fn crash_everywhere(
    prepare: impl Fn(&mut ReplicaStore),
    act: impl Fn(&mut ReplicaStore),
    check: impl Fn(&SimDisk, bool),
) {
    for stop in 0.. {
        assert!(stop < 300, "it ends");
        let disk = created(stop);
        let (mut store, _) = open(&disk);
        prepare(&mut store);
        disk.crash_after(stop);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&mut store))).ok();
        let is_done = !disk.is_off();
        drop(store);
        for policy in [CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL]
            .into_iter()
            .chain((0..3).map(|seed| CrashPolicy::seeded(stop * 7 + seed)))
        {
            let found = disk.crash(policy);
            check(&found, is_done);
            // Also when the recovery is cut short.
            let found = disk.crash(policy);
            found.crash_after(stop % 23);
            let _ = ReplicaStore::open(&arc(&found), OPTIONS);
            check(&found.crash(CrashPolicy::seeded(stop)), is_done);
        }
        if is_done {
            break;
        }
    }
}

fn ignoring<T>(result: Result<T>) -> T {
    match result {
        Ok(done) => done,
        // Ends the act; the disk has no power.
        Err(_) => std::panic::resume_unwind(Box::new(())),
    }
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
                    store.write(group, frames).unwrap();
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

fn base_at(position: Position) -> Base {
    Base { position, membership: Some(membership()), producers: Producers::default() }
}

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
        let offer = SnapshotOffer { base: Arc::new(base_at(position)), bytes: application.len() as u64 };
        let act = |store: &mut ReplicaStore| {
            ignoring(store.stage(&offer));
            let mut staged = 0;
            for chunk in application.chunks(1000) {
                let place = (offer.id(), staged);
                assert_eq!(ignoring(store.stage_chunk(place, chunk, digest(chunk) ^ 1)), None);
                staged = ignoring(store.stage_chunk(place, chunk, digest(chunk))).unwrap();
            }
            ignoring(store.install(offer.id()));
        };
        crash_everywhere(
            |store| {
                for (group, frames) in &author.groups {
                    store.write(group, frames).unwrap();
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
                    assert_eq!(state.snapshot_bytes, Some(application.len() as u64));
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
                    next = usize::try_from(store.stage_chunk(place, chunk, digest(chunk)).unwrap().unwrap())
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
    let id = SnapshotId(base.position);
    assert_eq!(store.read_snapshot(id, 4, 2).unwrap().unwrap().0, b"of");
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

/// Flips bits of a segment where records up to `vouched` lie.
fn damage(disk: &SimDisk, store: &ReplicaStore, part: usize, places: &[u64]) {
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
            copy.write(group, frames).unwrap();
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
        let base = created(3);
        let (mut store, _) = open(&base);
        fill(&mut store, &mut author, 60);
        store.vouch().unwrap();
        damage(&base, &store, part.min(store.parts.len() - 1), &[500, 9000]);
        drop(store);
        let (store, _) = open(&base);
        drop(store);
        for stop in 0..200 {
            let disk = base.crash(CrashPolicy::LOSE_ALL);
            let (mut store, state) = open(&disk);
            let Health::Damaged(ranges) = &state.health else { panic!() };
            let (group, frames) =
                author.groups.iter().find(|(group, _)| group.range.first == ranges[0].first).unwrap();
            disk.crash_after(stop);
            let _ = store.mend(group, frames, digest(frames));
            let is_done = !disk.is_off();
            drop(store);
            for policy in [CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL, CrashPolicy::seeded(stop)] {
                let found = disk.crash(policy);
                let (store, state) = open(&found);
                let Health::Damaged(left) = &state.health else { panic!() };
                let is_mended = left.first().is_none_or(|left| left.first > group.range.last);
                assert!(is_mended || (!is_done && left == ranges), "{stop}: {left:?} of {ranges:?}");
                drop(store);
                mend_all(&found, &author);
                let (store, state) = open(&found);
                assert_eq!(state.health, Health::Whole);
                check_against(&store, &author);
            }
            if is_done {
                break;
            }
        }
    }
}

#[test]
fn a_crash_while_damage_is_found_and_repaired_forgets_neither_the_records_nor_the_note() {
    for seed in 0..6 {
        let mut author = Author::new(seed);
        let base = created(seed);
        let (mut store, _) = open(&base);
        fill(&mut store, &mut author, 60);
        store.vouch().unwrap();
        let part = author.below(store.parts.len() as u64) as usize;
        damage(&base, &store, part, &[500, 9000]);
        drop(store);
        for stop in 0..300 {
            let disk = base.crash(CrashPolicy::LOSE_ALL);
            disk.crash_after(stop);
            let _ = ReplicaStore::open(&arc(&disk), OPTIONS);
            let is_done = !disk.is_off();
            for policy in [CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL, CrashPolicy::seeded(stop)] {
                let found = disk.crash(policy);
                assert_eq!(mend_all(&found, &author).get(), author.last);
                let (store, state) = open(&found);
                assert_eq!(state.health, Health::Whole);
                check_against(&store, &author);
            }
            if is_done {
                break;
            }
        }
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
                if store.write(&group, &frames).is_err() {
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
