//! What is asked for of snapshots, and what is done with chunks that come.

use std::collections::VecDeque;

use super::*;

const MIB: u32 = 1 << 20;

/// A primary whose replica 3 was offered a snapshot of so many bytes.
fn offering(bytes: u64) -> (Bench, SnapshotId) {
    let mut bench = Bench::new();
    bench.reign();
    bench.give(Input::Propose(Proposal { token: 1, records: 5, bytes: 100, producer: None }));
    bench.sync(6);
    let mut history = EpochHistory::default();
    history.append(Epoch::new(1), range(1, 6));
    let reply = |history| ProbeReply { through: Lsn::LAST, history, incarnation: LIFE, staged: None };
    bench.hear(2, 1, Message::ProbeReply(Box::new(reply(history))));
    bench.hear(2, 1, Message::Ack { incarnation: LIFE, durable: Lsn::new(6), is_whole: true });
    let base = bench.replica.base().unwrap();
    bench.give(Input::SnapshotTaken { base, contents: Contents { bytes, checksum: 0 } });
    bench.give(Input::Trimmed { through: Lsn::new(6) });
    bench.hear(3, 1, Message::ProbeReply(Box::new(reply(EpochHistory::default()))));
    let snapshot = bench.replica.ledger.snapshot().unwrap().id();
    (bench, snapshot)
}

/// Where the chunk begins that is to be read, and how long it may be.
fn read_of(effects: &[Effect]) -> Option<(u64, u32)> {
    effects.iter().find_map(|effect| match effect {
        Effect::ReadSnapshot { offset, bytes_max, .. } => Some((*offset, *bytes_max)),
        _ => None,
    })
}

/// Reads what is to be read for replica 3, as long as there is something; how many chunks that are.
fn read_all(bench: &mut Bench, snapshot: SnapshotId, effects: &[Effect]) -> usize {
    let mut read = read_of(effects);
    let mut chunks = 0;
    while let Some((offset, bytes)) = read {
        let to = ReplicaId::new(3);
        read = read_of(&bench.give(Input::SnapshotRead { to, snapshot, offset, bytes, digest: 1 }));
        chunks += 1;
    }
    chunks
}

#[test]
fn whoever_gets_a_snapshot_beside_those_who_append_gets_less_at_a_time() {
    let (mut bench, snapshot) = offering(10 << 20);
    let ask = |bench: &mut Bench, bytes| {
        let effects = bench.hear(3, 1, Message::SnapshotAsk { snapshot, bytes });
        (read_of(&effects), read_all(bench, snapshot, &effects))
    };
    assert_eq!(ask(&mut bench, 0), (Some((0, 256 << 10)), 1), "half of what may be on its way, and no other");
    assert_eq!(ask(&mut bench, 256 << 10), (Some((256 << 10, 256 << 10)), 1), "once that is staged");
    bench.now = bench.now.plus(Duration::from_millis(110));
    assert_eq!(ask(&mut bench, 512 << 10), (Some((512 << 10, MIB)), 10), "nobody appends any more");
}

#[test]
fn chunks_of_a_snapshot_are_on_their_way_within_the_window() {
    let (mut bench, snapshot) = offering(100 << 20);
    bench.now = bench.now.plus(Duration::from_millis(110));
    let ask = |bench: &mut Bench, mib: u64| {
        let effects = bench.hear(3, 1, Message::SnapshotAsk { snapshot, bytes: mib << 20 });
        read_all(bench, snapshot, &effects)
    };
    let in_flight = |bench: &Bench| bench.replica.status().peers[1].in_flight_bytes >> 20;
    assert_eq!((ask(&mut bench, 0), in_flight(&bench)), (16, 16));
    assert_eq!((ask(&mut bench, 1), in_flight(&bench)), (1, 16));
    assert_eq!(ask(&mut bench, 1), 0, "it says so twice");
    assert_eq!((ask(&mut bench, 9), in_flight(&bench)), (8, 16));
    assert_eq!(ask(&mut bench, 7), 0, "what it has said before comes late");
    // The first of what is on its way are there since before it was offered once more.
    assert_eq!((ask(&mut bench, 30), in_flight(&bench)), (16, 16));
    assert_eq!((ask(&mut bench, 90), in_flight(&bench)), (10, 10), "there is no more of it");
    assert_eq!(ask(&mut bench, 92), 0);
}

#[test]
fn a_chunk_that_is_read_when_its_peer_has_it_already_is_not_sent() {
    let (mut bench, snapshot) = offering(100 << 20);
    bench.now = bench.now.plus(Duration::from_millis(110));
    let first = bench.hear(3, 1, Message::SnapshotAsk { snapshot, bytes: 0 });
    assert_eq!(read_of(&first), Some((0, MIB)));
    let then = bench.hear(3, 1, Message::SnapshotAsk { snapshot, bytes: 5 << 20 });
    assert_eq!(read_of(&then), Some((5 << 20, MIB)));
    let read =
        |offset| Input::SnapshotRead { to: ReplicaId::new(3), snapshot, offset, bytes: MIB, digest: 1 };
    assert_eq!(bench.give(read(0)), []);
    assert_eq!(read_all(&mut bench, snapshot, &then), 16);
}

/// A snapshot of so many bytes.
fn snapshot_of(bytes: u64) -> (SnapshotId, Message) {
    let voters = (1..=3).map(|number| Voter { member: member(number), priority: 0 }).collect();
    let membership = Some(Membership::first(voters, Quorums::Majority).into());
    let base = std::sync::Arc::new(Base { position: at(1, 9), membership, ..Base::default() });
    let offer = SnapshotOffer { base, contents: Contents { bytes, checksum: 0 } };
    (offer.id(), Message::SnapshotOffer(Box::new(offer)))
}

#[test]
fn a_stage_that_is_not_what_it_was_taken_for_is_begun_again() {
    let mut bench = Bench::new();
    let (snapshot, offer) = snapshot_of(100);
    let begins = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::StageSnapshot(_)));
    assert!(begins(&bench.hear(2, 1, offer.clone())));
    bench.give(Input::MetaSaved { number: 1 });
    let mut attempts = 0;
    while !begins(&bench.hear(2, 1, offer.clone())) {
        let chunk = Message::SnapshotChunk { snapshot, offset: 0, bytes: 50, digest: 1 };
        let effects = bench.hear(2, 1, chunk);
        assert!(matches!(effects[..], [Effect::StageChunk { .. }]), "{effects:?}");
        // A chunk of an attempt that was given up is no answer to this one.
        bench.give(Input::ChunkStaged { snapshot, bytes: 100 });
        bench.give(Input::ChunkRefused { snapshot, offset: 0 });
        attempts += 1;
        assert!(attempts < 10);
    }
    assert!(attempts > 2, "noise alone does not begin it again");
}

/// A large snapshot over a bad network: chunks that do not check now and then are no reason to begin it again.
#[test]
fn chunks_that_are_refused_between_good_ones_cost_nothing_of_what_is_staged() {
    let mut bench = Bench::new();
    let (snapshot, offer) = snapshot_of(5000);
    bench.hear(2, 1, offer.clone());
    bench.give(Input::MetaSaved { number: 1 });
    for number in 0..20 {
        let chunk = Message::SnapshotChunk { snapshot, offset: 50 * number, bytes: 50, digest: 1 };
        for _ in 0..2 {
            bench.hear(2, 1, chunk.clone());
            bench.give(Input::ChunkRefused { snapshot, offset: 0 });
        }
        let effects = bench.hear(2, 1, offer.clone());
        let begins = |effect: &Effect| matches!(effect, Effect::StageSnapshot(_));
        assert!(!effects.iter().any(begins), "after {number} good ones: {effects:?}");
        bench.hear(2, 1, chunk);
        bench.give(Input::ChunkStaged { snapshot, bytes: 50 * (number + 1) });
    }
}

#[test]
fn chunks_that_are_lost_doubled_and_reordered_are_staged_once_each_and_in_order() {
    const CHUNKS: u64 = 40;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut draw = move |below: u64| random.number() % below;
        let mut bench = Bench::new();
        let (snapshot, offer) = snapshot_of(50 * CHUNKS);
        bench.hear(2, 1, offer.clone());
        bench.give(Input::MetaSaved { number: 1 });
        let (mut staged, mut sent, mut is_installed) = (0, 0, false);
        let (mut chunks, mut tasks) = (vec![], VecDeque::new());
        for _ in 0..10_000 {
            let effects = match draw(8) {
                // The primary sends on, and what it sends may be lost, doubled, and overtake each other.
                0..=2 if sent < CHUNKS => {
                    let chunk = Message::SnapshotChunk { snapshot, offset: 50 * sent, bytes: 50, digest: 1 };
                    sent += 1;
                    chunks.extend(std::iter::repeat_n(chunk, [0, 1, 1, 1, 1, 2][draw(6) as usize]));
                    vec![]
                }
                3 | 4 if !chunks.is_empty() => {
                    let next = if draw(4) == 0 { draw(chunks.len() as u64) as usize } else { 0 };
                    let chunk = chunks.remove(next);
                    bench.hear(2, 1, chunk)
                }
                // The disk does things in order, and now and then there is no room.
                5 | 6 if !tasks.is_empty() => {
                    let Some((offset, bytes)) = tasks.pop_front().unwrap() else {
                        staged = 0;
                        continue;
                    };
                    if offset == staged && draw(10) > 0 {
                        staged += u64::from(bytes);
                        bench.give(Input::ChunkStaged { snapshot, bytes: staged })
                    } else {
                        bench.give(Input::ChunkRefused { snapshot, offset })
                    }
                }
                // It is looked at again, now and then.
                7 if draw(10) == 0 => bench.hear(2, 1, offer.clone()),
                _ => continue,
            };
            for effect in effects {
                match effect {
                    Effect::StageChunk { offset, bytes, .. } => tasks.push_back(Some((offset, bytes))),
                    Effect::StageSnapshot(_) => tasks.push_back(None),
                    Effect::Send(Envelope { message: Message::SnapshotAsk { bytes, .. }, .. }) => {
                        assert!(bytes == staged || bytes == 0, "{seed}: it says {bytes} of {staged}");
                        sent = bytes / 50;
                    }
                    Effect::Install { .. } => {
                        assert_eq!(staged, 50 * CHUNKS, "{seed}: all of it is staged");
                        is_installed = true;
                    }
                    _ => {}
                }
            }
        }
        assert!(is_installed, "{seed}: {staged} of {}", 50 * CHUNKS);
    }
}

/// Of chunks that are staged one after another the first did not check: the others are refused for its sake alone.
#[test]
fn a_chunk_that_is_refused_with_many_after_it_is_one_that_is_refused() {
    let mut bench = Bench::new();
    let (snapshot, offer) = snapshot_of(1000);
    bench.hear(2, 1, offer.clone());
    bench.give(Input::MetaSaved { number: 1 });
    let chunk = |number: u64| Message::SnapshotChunk { snapshot, offset: 50 * number, bytes: 50, digest: 1 };
    for number in 0..10 {
        let effects = bench.hear(2, 1, chunk(number));
        assert!(matches!(effects[..], [Effect::StageChunk { .. }]), "{effects:?}");
    }
    bench.give(Input::ChunkStaged { snapshot, bytes: 50 });
    bench.give(Input::ChunkRefused { snapshot, offset: 50 });
    let asks = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Send(Envelope { message: Message::SnapshotAsk { bytes, .. }, .. }) => Some(*bytes),
            _ => None,
        })
    };
    assert_eq!(asks(&bench.hear(2, 1, offer)), Some(50));
    // It comes again before the disk has looked at the others.
    assert!(matches!(bench.hear(2, 1, chunk(1))[..], [Effect::StageChunk { offset: 50, .. }]));
    (2..10).for_each(|number| drop(bench.give(Input::ChunkRefused { snapshot, offset: 50 * number })));
    assert_eq!(asks(&bench.give(Input::ChunkStaged { snapshot, bytes: 100 })), Some(100));
}

#[test]
fn whoever_receives_a_snapshot_takes_no_more_than_its_window_at_once() {
    let mut bench = Bench::new();
    let (snapshot, offer) = snapshot_of(100 << 20);
    bench.hear(2, 1, offer);
    bench.give(Input::MetaSaved { number: 1 });
    let mut hear = |number: u64| {
        let offset = number << 20;
        bench.hear(2, 1, Message::SnapshotChunk { snapshot, offset, bytes: MIB, digest: 1 }).len()
    };
    assert_eq!((0..20).map(&mut hear).sum::<usize>(), 16);
}

#[test]
fn a_base_that_is_offered_twice_is_installed_once() {
    let mut bench = Bench::new();
    let base = bench.replica.base().unwrap();
    let offer = || {
        Message::SnapshotOffer(Box::new(SnapshotOffer {
            base: base.clone().into(),
            contents: Contents::default(),
        }))
    };
    let health = Health::Damaged(vec![LOST_BASE]);
    let state = State { health, incarnation: LIFE, ..State::default() };
    bench.replica = Replica::recover(bench.replica.config().clone(), state, bench.now).unwrap();
    let effects = bench.hear(2, 1, offer());
    let installs = effects.iter().find_map(|effect| match effect {
        Effect::Install { snapshot, incarnation, .. } => Some((*snapshot, *incarnation)),
        _ => None,
    });
    let (snapshot, incarnation) = installs.expect("it lacks it");
    bench.give(Input::Installed { snapshot, incarnation });
    let again = bench.hear(2, 1, offer());
    let is_begun = |effect: &Effect| matches!(effect, Effect::StageSnapshot(_) | Effect::Install { .. });
    assert!(!again.iter().any(is_begun), "{again:?}");
}
