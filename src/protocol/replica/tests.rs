//! What no story can tell: answers of the disk that come late, and what is held back for good.

mod snapshots;
mod transfers;

use std::time::Duration;

use super::*;
use crate::protocol::health::LOST_BASE;
use crate::protocol::random::Random;
use crate::protocol::{
    Change, Content, Contents, EpochHistory, Group, Membership, Position, ProbeReply, Proposal, Quorums,
    SnapshotId, SnapshotOffer, Span, Timing, Voter,
};
use crate::types::{ClusterId, DiskId, ProducerId};

/// One replica of three, whose peers are the test.
struct Bench {
    replica: Replica,
    now: Time,
    effects: Vec<Effect>,
}

const LIFE: LogIncarnation = LogIncarnation::new(5);

fn member(number: u64) -> Member {
    Member { id: ReplicaId::new(number), disk: DiskId::new(u128::from(number)) }
}

fn at(epoch: u64, lsn: u64) -> Position {
    Position { epoch: Epoch::new(epoch), lsn: Lsn::new(lsn) }
}

fn range(first: u64, last: u64) -> LsnRange {
    LsnRange { first: Lsn::new(first), last: Lsn::new(last) }
}

fn group(epoch: u64, first: u64, last: u64) -> Group {
    Group { epoch: Epoch::new(epoch), range: range(first, last), bytes: 100, content: Content::PLAIN }
}

impl Bench {
    fn new() -> Bench {
        Bench::of(1)
    }

    fn of(me: u64) -> Bench {
        let voters = (1..=3).map(|number| Voter { member: member(number), priority: 0 }).collect();
        let membership = Some(Membership::first(voters, Quorums::Majority).into());
        let base = Base { membership, ..Base::default() };
        let meta = Meta { generation: 1, ..Meta::default() };
        let state = State { meta, base, incarnation: LIFE, ..State::default() };
        let now = Time::from_nanos(1_000_000_000);
        let replica = Replica::recover(Config::new(ClusterId::new(7), member(me)), state, now).unwrap();
        let mut bench = Bench { replica, now, effects: vec![] };
        bench.poll();
        bench
    }

    fn poll(&mut self) {
        self.effects.extend(std::iter::from_fn(|| self.replica.poll()));
    }

    /// What it does about it.
    fn give(&mut self, input: Input) -> Vec<Effect> {
        self.replica.handle(self.now, input);
        self.effects.clear();
        self.poll();
        self.effects.clone()
    }

    fn hear(&mut self, from: u64, epoch: u64, message: Message) -> Vec<Effect> {
        self.give(Input::Received(Envelope {
            cluster: ClusterId::new(7),
            from: member(from),
            to: self.replica.config().me,
            epoch: Epoch::new(epoch),
            generation: 1,
            message,
        }))
    }

    fn sync(&mut self, lsn: u64) -> Vec<Effect> {
        let incarnation = self.replica.status().incarnation;
        self.give(Input::Durable { incarnation, lsn: Lsn::new(lsn) })
    }

    /// Leads in epoch 1.
    fn reign(&mut self) {
        self.now = self.now.plus(Duration::from_secs(1));
        self.give(Input::Promote { token: 0 });
        self.hear(2, 0, Message::PreVoteReply { next: Epoch::new(1), granted: true });
        self.give(Input::MetaSaved { number: 1 });
        self.hear(2, 1, Message::VoteReply { granted: true });
        assert_eq!(self.replica.role(), Role::Primary);
    }

    /// The log of 2, which leads, is empty but for what the messages bring.
    fn follow(&mut self, epoch: u64, common: Position) {
        let incarnation = self.replica.status().incarnation;
        self.hear(2, epoch, Message::Follow { common, incarnation, last: common.lsn });
    }

    fn append(&mut self, epoch: u64, previous: Position, group: Group) {
        let incarnation = self.replica.status().incarnation;
        let message = Message::Append { previous, commit: Lsn::ZERO, incarnation, group };
        self.hear(2, epoch, message);
    }
}

#[test]
fn a_proposal_without_a_record_or_without_an_lsn_left_is_invalid() {
    let mut bench = Bench::new();
    bench.reign();
    let base = bench.replica.ledger.last();
    let propose = |records| Input::Propose(Proposal { token: 1, records, bytes: 100, producer: None });
    let invalid = Effect::Resolve { token: 1, outcome: Outcome::Invalid };
    assert_eq!(bench.give(propose(0)), std::slice::from_ref(&invalid));
    let last = Position { lsn: Lsn::new(Lsn::LAST.get() - 3), ..base };
    bench.replica.ledger.history = EpochHistory::new(last);
    for records in [3, u32::MAX] {
        assert_eq!(bench.give(propose(records)), std::slice::from_ref(&invalid), "{records} records");
    }
    assert!(!bench.give(propose(2)).contains(&invalid));
}

#[test]
fn a_peer_whose_records_are_trimmed_while_they_are_read_is_looked_at_again() {
    let mut bench = Bench::new();
    bench.reign();
    for token in 0..5 {
        bench.give(Input::Propose(Proposal { token, records: 1, bytes: 100, producer: None }));
    }
    bench.sync(6);
    let ack = |durable| Message::Ack { incarnation: LIFE, durable: Lsn::new(durable), is_whole: true };
    for (peer, last) in [(2, 6), (3, 0)] {
        let mut history = EpochHistory::default();
        if last > 0 {
            history.append(Epoch::new(1), range(1, last));
        }
        let through = Lsn::LAST;
        let reply = ProbeReply { through, history, incarnation: LIFE, staged: None };
        bench.hear(peer, 1, Message::ProbeReply(Box::new(reply)));
    }
    bench.hear(2, 1, ack(6));
    let reads = bench.hear(3, 1, ack(0));
    assert!(reads.iter().any(|effect| matches!(effect, Effect::ReadLog { .. })), "{reads:?}");
    assert_eq!(bench.replica.status().commit, Lsn::new(6));

    let base = bench.replica.base().unwrap();
    bench.give(Input::SnapshotTaken { base, contents: Contents { bytes: 10, checksum: 0 } });
    bench.give(Input::Trimmed { through: Lsn::new(4) });
    let effects = bench.give(Input::LogRead { to: ReplicaId::new(3), group: group(1, 1, 1) });
    let is_probe = |effect: &Effect| matches!(effect, Effect::Send(envelope) if matches!(envelope.message, Message::Probe { .. }));
    assert!(effects.iter().any(is_probe), "{effects:?}");
}

/// The answers to questions for a pre-vote among these effects: to whom, and whether it is granted.
fn pre_votes(effects: &[Effect]) -> Vec<(u64, bool)> {
    let answer = |effect: &Effect| match effect {
        Effect::Send(Envelope { to, message: Message::PreVoteReply { granted, .. }, .. }) => {
            Some((to.id.get(), *granted))
        }
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

#[test]
fn who_notices_the_end_of_the_primary_first_is_answered_when_the_others_notice_it_too() {
    let heartbeat = |round| {
        let (commit, last, durable) = (Lsn::ZERO, Lsn::ZERO, Lsn::ZERO);
        Message::Heartbeat { round, commit, last, durable }
    };
    let question = |next| Message::PreVote { next: Epoch::new(next), last: at(0, 0) };
    let lost = || Input::PeerLost { id: ReplicaId::new(2) };

    let mut bench = Bench::new();
    bench.hear(2, 1, heartbeat(1));
    bench.give(Input::MetaSaved { number: 1 });
    assert_eq!(pre_votes(&bench.hear(3, 1, question(2))), [(3, false)], "the primary is heard");
    assert_eq!(pre_votes(&bench.give(lost())), [(3, true)]);
    assert_eq!(pre_votes(&bench.give(lost())), [], "answered once");

    // It lives after all: whoever asked has heard it again too, or asks again.
    bench.hear(2, 1, heartbeat(2));
    bench.hear(3, 1, question(2));
    bench.hear(2, 1, heartbeat(3));
    assert_eq!(pre_votes(&bench.give(lost())), []);

    // What has changed meanwhile counts: that epoch is over.
    bench.hear(2, 1, heartbeat(4));
    bench.hear(3, 1, question(2));
    bench.hear(2, 2, heartbeat(5));
    bench.give(Input::MetaSaved { number: 2 });
    assert_eq!(pre_votes(&bench.hear(3, 2, question(2))), [(3, false)]);
    assert_eq!(pre_votes(&bench.give(lost())), [(3, false)]);
}

#[test]
fn of_two_who_ask_at_the_same_time_one_goes_on() {
    let grant = || Message::PreVoteReply { next: Epoch::new(1), granted: true };
    // This one is 2, and has nothing.
    for (other, last, goes_on) in [(1, at(0, 0), false), (3, at(0, 0), true), (3, at(1, 1), false)] {
        let mut bench = Bench::of(2);
        bench.now = bench.now.plus(Duration::from_secs(1));
        bench.give(Input::Promote { token: 0 });
        assert_eq!(bench.replica.role(), Role::Candidate);
        let asked = bench.hear(other, 0, Message::PreVote { next: Epoch::new(1), last });
        assert_eq!(pre_votes(&asked), [(other, true)]);
        bench.hear(other, 0, grant());
        let wants_votes = bench.replica.status().epoch == Epoch::new(1);
        assert_eq!(wants_votes, goes_on, "beside {other} with {last:?}");
        // Should the other one fail, this one asks again when its time has come.
        bench.now = bench.now.plus(Duration::from_secs(10));
        bench.give(Input::Tick);
        assert_eq!(bench.replica.role(), Role::Candidate);
    }
}

/// The other one asks too soon and is kept waiting, this one asks too when it hears nothing any more; only then is the
/// connection to the primary lost.
#[test]
fn of_two_who_ask_one_goes_on_also_if_it_is_answered_late() {
    let (commit, last, durable) = (Lsn::ZERO, Lsn::ZERO, Lsn::ZERO);
    let next = Epoch::new(2);
    // This one is 2, and has nothing; the third led.
    for (other, has, goes_on) in [(1, at(0, 0), false), (3, at(0, 0), true), (3, at(1, 1), false)] {
        let mut bench = Bench::of(2);
        let led = 4 - other;
        bench.hear(led, 1, Message::Heartbeat { round: 1, commit, last, durable });
        bench.give(Input::MetaSaved { number: 1 });
        assert_eq!(pre_votes(&bench.hear(other, 1, Message::PreVote { next, last: has })), [(other, false)]);
        bench.now = bench.now.plus(Duration::from_secs(10));
        bench.give(Input::Tick);
        assert_eq!(bench.replica.role(), Role::Candidate);
        let answered = bench.give(Input::PeerLost { id: ReplicaId::new(led) });
        assert_eq!(pre_votes(&answered), [(other, true)]);
        bench.hear(other, 1, Message::PreVoteReply { next, granted: true });
        let wants_votes = bench.replica.status().epoch == next;
        assert_eq!(wants_votes, goes_on, "beside {other} with {has:?}");
    }
}

#[test]
fn messages_that_wait_for_a_superblock_are_bounded() {
    let mut bench = Bench::new();
    for round in 1..20_000 {
        let (commit, last, durable) = (Lsn::ZERO, Lsn::ZERO, Lsn::ZERO);
        bench.hear(2, 1, Message::Heartbeat { round, commit, last, durable });
    }
    let sent = bench.give(Input::MetaSaved { number: 1 });
    assert!(sent.len() <= 4096, "{}", sent.len());
    // The newest are those that help.
    let Some(Effect::Send(Envelope { message: Message::HeartbeatReply { round, .. }, .. })) = sent.last()
    else {
        panic!("{sent:?}")
    };
    assert_eq!(*round, 19_999);
}

#[test]
fn a_sync_that_ends_after_a_truncation_counts_for_what_has_stayed() {
    let mut bench = Bench::new();
    bench.follow(1, at(0, 0));
    bench.give(Input::MetaSaved { number: 1 });
    bench.append(1, at(0, 0), group(1, 1, 1));
    bench.append(1, at(1, 1), group(1, 2, 2));
    bench.append(1, at(1, 2), group(1, 3, 3));
    // A newer primary has the first two. The sync of all three was on its way.
    bench.follow(2, at(1, 2));
    bench.give(Input::MetaSaved { number: 2 });
    assert_eq!(bench.replica.status().last, at(1, 2));
    bench.append(2, at(1, 2), group(2, 3, 3));
    bench.give(Input::Durable { incarnation: LIFE, lsn: Lsn::new(3) });
    assert_eq!(bench.replica.status().durable, Lsn::new(2));
    // What another process has said long ago is not known to be about this log.
    bench.give(Input::Durable { incarnation: LogIncarnation::new(4), lsn: Lsn::new(3) });
    assert_eq!(bench.replica.status().durable, Lsn::new(2));
    bench.sync(3);
    assert_eq!(bench.replica.status().durable, Lsn::new(3));
}

#[test]
fn a_primary_with_too_many_reads_is_busy_and_names_nobody_else() {
    let mut bench = Bench::new();
    bench.reign();
    bench.replica.config.limits.waiting_max = 2;
    for token in 1..=2 {
        let effects = bench.give(Input::Read { token });
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Resolve { .. })), "{effects:?}");
    }
    let busy = Effect::Resolve { token: 3, outcome: Outcome::Busy };
    assert_eq!(bench.give(Input::Read { token: 3 }), [busy]);
}

/// Something small enough to hit what matters.
fn any(random: &mut Random, below: u64) -> u64 {
    random.number() % below
}

fn any_position(random: &mut Random) -> Position {
    let lsn = any(random, 12);
    at(if lsn == 0 { 0 } else { 1 + any(random, 4) }, lsn)
}

fn any_content(random: &mut Random, range: LsnRange) -> Content {
    let voters = |count| (1..=count).map(|number| Voter { member: member(number), priority: 0 }).collect();
    let span = |random: &mut Random| Span {
        producer: ProducerId::new(1 + any(random, 8)),
        sequence: 1 + any(random, 4),
        lsn: range.first,
        records: 1 + any(random, range.records()) as u32,
    };
    match any(random, 8) {
        0 => Content::EpochStart,
        1 => Content::Register,
        2 => Content::Expire { before: Lsn::new(1 + any(random, 12)) },
        3 => {
            let first = Membership::first(voters(2 + any(random, 4)), Quorums::Majority);
            Content::Membership(Membership { generation: 1 + any(random, 4), ..first }.into())
        }
        4 | 5 => Content::Records([span(random)].into_iter().collect()),
        _ => Content::PLAIN,
    }
}

fn any_group(random: &mut Random, first: Lsn) -> Group {
    let records = if any(random, 2) == 0 { 0 } else { any(random, 3) };
    let range = LsnRange { first, last: first.plus(records) };
    let content = any_content(random, range);
    Group { epoch: Epoch::new(1 + any(random, 4)), range, bytes: 1 + any(random, 200), content }
}

fn any_history(random: &mut Random) -> EpochHistory {
    let mut history = EpochHistory::new(if any(random, 2) == 0 { at(0, 0) } else { any_position(random) });
    for _ in 0..any(random, 3) {
        let (first, epoch) = (history.last().lsn.next(), history.last().epoch.get() + any(random, 2));
        history.append(Epoch::new(epoch.max(1)), range(first.get(), first.get() + any(random, 3)));
    }
    history
}

fn any_message(random: &mut Random, status: &Status) -> Message {
    let lsn = |random: &mut Random| Lsn::new(any(random, 12));
    let last = if any(random, 2) == 0 { status.last } else { any_position(random) };
    let incarnation = LogIncarnation::new(status.incarnation.get() + 1 - any(random, 5) / 3);
    let incarnation = if any(random, 4) == 0 { incarnation } else { status.incarnation };
    let snapshot = SnapshotId { position: any_position(random), checksum: 0 };
    let lost = LsnRange::new(lsn(random).next(), lsn(random).next()).unwrap_or_else(|| range(2, 3));
    let yes = any(random, 4) > 0;
    match any(random, 22) {
        0 => Message::PreVote { next: Epoch::new(1 + any(random, 5)), last },
        1 => Message::PreVoteReply { next: Epoch::new(status.epoch.get() + 1), granted: yes },
        2 => Message::Vote { last, transfer: any(random, 2) == 0 },
        3 => Message::VoteReply { granted: yes },
        4 => Message::Heartbeat {
            round: any(random, 9),
            commit: lsn(random),
            last: last.lsn,
            durable: lsn(random),
        },
        5 => Message::HeartbeatReply {
            round: any(random, 9),
            last,
            durable: lsn(random),
            incarnation,
            is_following: yes,
        },
        6 => Message::Probe { through: if yes { Lsn::LAST } else { lsn(random) }, known: incarnation },
        7 => {
            let through = if yes { Lsn::LAST } else { lsn(random) };
            let history = any_history(random);
            Message::ProbeReply(Box::new(ProbeReply { through, history, incarnation, staged: None }))
        }
        8 | 9 => Message::Follow { common: last, incarnation, last: lsn(random) },
        10..=12 => {
            let group = any_group(random, last.lsn.next());
            Message::Append { previous: last, commit: lsn(random), incarnation, group }
        }
        13 | 14 => Message::Ack { incarnation, durable: lsn(random), is_whole: yes },
        15 => Message::OutOfOrder { incarnation, last },
        16 => {
            let voters = (1..=3).map(|number| Voter { member: member(number), priority: 0 }).collect();
            let membership = yes.then(|| Membership::first(voters, Quorums::Majority).into());
            let base = Base { position: snapshot.position, membership, ..Base::default() }.into();
            Message::SnapshotOffer(Box::new(SnapshotOffer {
                base,
                contents: Contents { bytes: any(random, 3) * 50, checksum: snapshot.checksum },
            }))
        }
        17 => Message::SnapshotAsk { snapshot, bytes: any(random, 3) * 50 },
        18 => Message::SnapshotChunk { snapshot, offset: any(random, 2) * 50, bytes: 50, digest: 1 },
        19 => Message::RepairAsk { range: lost },
        20 => Message::RepairGive { group: any_group(random, lost.first), digest: 1 },
        _ if yes => Message::TakeOver { last },
        _ => Message::RepairNone { range: lost, last },
    }
}

/// What a driver may say: answers to what was asked, now or long ago, and what clients and clocks do.
fn any_input(random: &mut Random, asked: &mut Vec<Input>, token: u64) -> Input {
    let peer = ReplicaId::new(2 + any(random, 2));
    match any(random, 9) {
        0 => Input::Tick,
        1 => Input::Propose(Proposal { token, records: 1, bytes: 10, producer: None }),
        2 => Input::Register { token },
        3 => Input::Read { token },
        4 => Input::Transfer { token, to: Some(peer) },
        5 if any(random, 2) == 0 => Input::Promote { token },
        5 => Input::PeerLost { id: peer },
        6 => Input::Change { token, change: Change::Remove(peer) },
        _ if asked.is_empty() => Input::Tick,
        _ => asked.remove(any(random, asked.len() as u64) as usize),
    }
}

/// What answers an effect, if anything does.
fn answer(effect: &Effect, incarnation: LogIncarnation) -> Option<Input> {
    match effect {
        Effect::SaveMeta { number, .. } => Some(Input::MetaSaved { number: *number }),
        Effect::Write(group) => Some(Input::Durable { incarnation, lsn: group.range.last }),
        Effect::ReadLog { to, from, .. } => {
            let range = LsnRange { first: *from, last: *from };
            Some(Input::LogRead { to: *to, group: Group { range, ..group(1, 1, 1) } })
        }
        Effect::ReadSnapshot { to, snapshot, offset, .. } => {
            let (to, snapshot, offset) = (*to, *snapshot, *offset);
            Some(Input::SnapshotRead { to, snapshot, offset, bytes: 50, digest: 1 })
        }
        Effect::StageChunk { snapshot, offset, bytes, .. } => {
            Some(Input::ChunkStaged { snapshot: *snapshot, bytes: offset + u64::from(*bytes) })
        }
        Effect::Install { snapshot, incarnation, .. } => {
            Some(Input::Installed { snapshot: *snapshot, incarnation: *incarnation })
        }
        Effect::Mend { group, .. } => Some(Input::Mended { range: group.range }),
        _ => None,
    }
}

/// Whatever comes, in whatever order, is taken or refused; and who asks is answered once.
#[test]
fn no_message_and_no_late_answer_makes_a_replica_panic() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let mut bench = Bench::new();
        if any(&mut random, 3) == 0 {
            bench.reign();
        }
        let (mut asked, mut answered) = (vec![], std::collections::BTreeSet::new());
        for token in 0..150 {
            let status = bench.replica.status();
            bench.now = bench.now.plus(Duration::from_millis(any(&mut random, 60)));
            let effects = if any(&mut random, 3) > 0 {
                let epoch = (status.epoch.get() + any(&mut random, 12) / 10).max(1);
                let message = any_message(&mut random, &status);
                bench.hear(2 + any(&mut random, 2), epoch, message)
            } else {
                let input = any_input(&mut random, &mut asked, token);
                bench.give(input)
            };
            let incarnation = bench.replica.status().incarnation;
            asked.extend(effects.iter().filter_map(|effect| answer(effect, incarnation)));
            for effect in &effects {
                if let Effect::Resolve { token, .. }
                | Effect::ReadReady { token, .. }
                | Effect::ReadFailed { token, .. } = effect
                {
                    assert!(answered.insert(*token), "seed {seed}: {token} is answered twice");
                }
            }
            let after = bench.replica.status();
            assert!(
                after.commit <= after.last.lsn && after.durable <= after.last.lsn,
                "seed {seed}: {after:?}"
            );
            let next = bench.replica.next_deadline();
            let is_late = |next: Time| next < bench.now && bench.replica.now == bench.now;
            if next.is_some_and(is_late) {
                bench.give(Input::Tick);
                assert!(bench.replica.next_deadline().is_none_or(|next| next > bench.now), "seed {seed}");
            }
        }
    }
}

#[test]
fn whoever_was_told_to_lead_still_is_when_its_log_was_opened_again() {
    for (start, stands) in [(Start::Chosen, true), (Start::Member, false)] {
        let mut bench = Bench::new();
        let state = State { base: bench.replica.base().unwrap(), incarnation: LIFE, ..State::default() };
        let policy = FailoverPolicy::Manual;
        let config = Config { policy, start, ..bench.replica.config().clone() };
        bench.replica = Replica::recover(config, state, bench.now).unwrap();
        assert_eq!(bench.replica.next_deadline().is_some(), stands);
        bench.now = bench.now.plus(Duration::from_secs(10));
        bench.give(Input::Tick);
        assert_eq!(bench.replica.role(), if stands { Role::Candidate } else { Role::Backup });
    }
}
