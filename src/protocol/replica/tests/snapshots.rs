//! What is asked for of snapshots, and what is done with chunks that come.

use super::*;

#[test]
fn whoever_gets_a_snapshot_beside_those_who_append_gets_less_at_a_time() {
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
    bench.give(Input::SnapshotTaken { base, contents: Contents { bytes: 10 << 20, checksum: 0 } });
    bench.give(Input::Trimmed { through: Lsn::new(6) });
    bench.hear(3, 1, Message::ProbeReply(Box::new(reply(EpochHistory::default()))));
    let (snapshot, to) = (bench.replica.ledger.snapshot().unwrap().id(), ReplicaId::new(3));
    let ask = |bench: &mut Bench, bytes| {
        let effects = bench.hear(3, 1, Message::SnapshotAsk { snapshot, bytes });
        let asked = effects.iter().find_map(|effect| match effect {
            Effect::ReadSnapshot { bytes_max, .. } => Some(*bytes_max),
            _ => None,
        });
        let bytes_max = asked.unwrap_or_else(|| panic!("{effects:?}"));
        bench.give(Input::SnapshotRead { to, snapshot, offset: bytes, bytes: bytes_max, digest: 1 });
        bytes_max
    };
    assert_eq!(ask(&mut bench, 0), 256 << 10, "half of what may be on its way");
    bench.now = bench.now.plus(Duration::from_millis(110));
    assert_eq!(ask(&mut bench, 256 << 10), 1 << 20, "nobody appends any more");
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
        bench.give(Input::ChunkRefused { snapshot });
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
            bench.give(Input::ChunkRefused { snapshot });
        }
        let effects = bench.hear(2, 1, offer.clone());
        let begins = |effect: &Effect| matches!(effect, Effect::StageSnapshot(_));
        assert!(!effects.iter().any(begins), "after {number} good ones: {effects:?}");
        bench.hear(2, 1, chunk);
        bench.give(Input::ChunkStaged { snapshot, bytes: 50 * (number + 1) });
    }
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
