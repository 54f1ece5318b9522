//! Strategies for whatever can be sent or kept. The large ones are boxed: they would overflow a test's stack.

use std::collections::BTreeMap;
use std::sync::Arc;

use annals::protocol::wire::{HISTORY_EPOCHS_MAX, REIGN_MAX};
use annals::protocol::{
    Base, Content, Contents, Electorate, Envelope, EpochHistory, Group, Member, Membership, Message, Meta,
    Position, ProbeReply, Producer, Producers, Quorums, SnapshotId, SnapshotOffer, Span, Spans, Staged,
    Voter,
};
use annals::{ClusterId, DiskId, Epoch, LogIncarnation, Lsn, LsnRange, ProducerId, ReplicaId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The greatest LSN that a record can have.
pub(crate) const LSN_MAX: u64 = u64::MAX - 1;

/// Mostly small numbers, and the ends.
pub(crate) fn numbers(min: u64, max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![4 => min..=max.min(min + 1000), 1 => Just(min), 1 => Just(max), 2 => min..=max]
}

/// LSNs of watermarks: zero, too.
pub(crate) fn watermarks() -> impl Strategy<Value = Lsn> {
    numbers(0, LSN_MAX).prop_map(Lsn::new)
}

pub(crate) fn epochs() -> impl Strategy<Value = Epoch> {
    numbers(0, REIGN_MAX).prop_map(Epoch::new)
}

fn incarnations() -> impl Strategy<Value = LogIncarnation> {
    any::<u64>().prop_map(LogIncarnation::new)
}

pub(crate) fn members() -> impl Strategy<Value = Member> {
    (any::<u64>(), any::<u128>())
        .prop_map(|(id, disk)| Member { id: ReplicaId::new(id), disk: DiskId::new(disk) })
}

pub(crate) fn positions() -> impl Strategy<Value = Position> {
    let record = (numbers(1, REIGN_MAX), numbers(1, LSN_MAX))
        .prop_map(|(epoch, lsn)| Position { epoch: Epoch::new(epoch), lsn: Lsn::new(lsn) });
    prop_oneof![1 => Just(Position::default()), 5 => record]
}

pub(crate) fn ranges() -> impl Strategy<Value = LsnRange> {
    (numbers(1, LSN_MAX), numbers(1, LSN_MAX))
        .prop_map(|(a, b)| LsnRange::new(Lsn::new(a.min(b)), Lsn::new(a.max(b))).unwrap())
}

fn snapshot_ids() -> impl Strategy<Value = SnapshotId> {
    (positions(), any::<u32>()).prop_map(|(position, checksum)| SnapshotId { position, checksum })
}

pub(crate) fn histories() -> BoxedStrategy<EpochHistory> {
    let base = (0..50_u64, 0..1000_u64);
    let steps = vec((1..5_u64, 1..100_u64), 0..=HISTORY_EPOCHS_MAX);
    (base, steps, 0..50_u64, any::<bool>())
        .prop_map(|((epoch, lsn), steps, more, goes_on)| {
            let is_first = epoch == 0 || lsn == 0;
            let base = match is_first {
                true => Position::default(),
                false => Position { epoch: Epoch::new(epoch), lsn: Lsn::new(lsn) },
            };
            let mut history = EpochHistory::new(base);
            let mut epoch = base.epoch.get();
            for (index, (grows, records)) in steps.into_iter().enumerate() {
                // The epoch of the base may go on right after it.
                epoch += if index == 0 && goes_on && !is_first { 0 } else { grows };
                let first = history.last().lsn.next();
                history.append(Epoch::new(epoch), LsnRange::new(first, first.plus(records + more)).unwrap());
            }
            history
        })
        .boxed()
}

/// Spans in a range that begins at `first`, each with some records between it and the one before; and the range.
fn spans(first: u64) -> impl Strategy<Value = (Vec<Span>, LsnRange)> {
    let span = (1..first, 1..1_u64 << 40, 1..50_u32, 0..9_u64);
    (vec(span, 0..20), 0..9_u64).prop_map(move |(parts, after)| {
        let mut next = first;
        let mut spans = Vec::new();
        for (producer, sequence, records, between) in parts {
            let lsn = Lsn::new(next + between);
            spans.push(Span { producer: ProducerId::new(producer), sequence, lsn, records });
            next = lsn.get() + u64::from(records);
        }
        (spans, LsnRange::new(Lsn::new(first), Lsn::new(next + after)).unwrap())
    })
}

pub(crate) fn quorums(voters: usize) -> impl Strategy<Value = Quorums> {
    let voters = voters as u8;
    let fixed = (voters / 2 + 1..=voters, 0..voters).prop_map(move |(election, more)| {
        let write = (voters - election + 1 + more).min(voters);
        Quorums::Fixed { write, election }
    });
    prop_oneof![Just(Quorums::Majority), fixed]
}

/// Voters from the members with these ids; a member's disk follows from its id.
fn electorates(ids: Vec<u64>) -> impl Strategy<Value = Electorate> {
    let count = ids.len();
    (vec(any::<u8>(), count), quorums(count)).prop_map(move |(priorities, quorums)| {
        let voters = ids.iter().zip(priorities).map(|(&id, priority)| Voter { member: member(id), priority });
        Electorate { voters: voters.collect(), quorums }
    })
}

fn member(id: u64) -> Member {
    Member { id: ReplicaId::new(id), disk: DiskId::new(u128::from(id) << 70 | 5) }
}

/// Sound ones: a replica has one disk wherever it stands, and no learner votes.
pub(crate) fn memberships() -> BoxedStrategy<Membership> {
    let some = |min| proptest::sample::subsequence((1..=15_u64).collect::<Vec<_>>(), min..=15);
    let outgoing = prop_oneof![Just(None), some(1).prop_map(Some)];
    (some(1), outgoing, some(0), numbers(1, REIGN_MAX))
        .prop_flat_map(|(voters, old, learners, generation)| {
            let outgoing = match old {
                Some(ids) => electorates(ids).prop_map(Some).boxed(),
                None => Just(None).boxed(),
            };
            let learners: Vec<Member> = learners.into_iter().map(|id| member(id + 100)).collect();
            (electorates(voters), outgoing).prop_map(move |(electorate, outgoing)| Membership {
                generation,
                electorate,
                outgoing,
                learners: learners.clone(),
            })
        })
        .boxed()
}

pub(crate) fn contents() -> impl Strategy<Value = Content> {
    prop_oneof![
        memberships().prop_map(|membership| Content::Membership(Arc::new(membership))),
        Just(Content::Register),
        numbers(1, LSN_MAX).prop_map(|before| Content::Expire { before: Lsn::new(before) }),
    ]
}

pub(crate) fn groups() -> BoxedStrategy<Group> {
    let records = numbers(2, 1 << 62)
        .prop_flat_map(spans)
        .prop_map(|(spans, range)| (Content::Records(Spans::from_iter(spans)), range));
    let control = (prop_oneof![contents(), Just(Content::EpochStart)], numbers(1, LSN_MAX)).prop_map(
        |(content, lsn)| {
            let lsn = Lsn::new(lsn);
            (content, LsnRange::new(lsn, lsn).unwrap())
        },
    );
    (numbers(1, REIGN_MAX), any::<u64>(), prop_oneof![records, control])
        .prop_map(|(epoch, bytes, (content, range))| Group {
            epoch: Epoch::new(epoch),
            range,
            bytes,
            content,
        })
        .boxed()
}

/// Producers that were registered at the LSNs up to `last`.
fn producers(last: u64) -> impl Strategy<Value = Producers> {
    let ids = vec(numbers(1, last.max(1)), 0..if last == 0 { 1 } else { 20 });
    let spans = vec((1..3_u64, 1..9_u32, 1..9_u64), 0..=8);
    (ids, vec(spans, 20)).prop_map(move |(ids, parts)| {
        let mut known = BTreeMap::new();
        for (id, parts) in ids.into_iter().filter(|_| last > 0).zip(parts) {
            let producer = ProducerId::new(id);
            let (mut active, mut sequence) = (id, 0);
            let mut spans = std::collections::VecDeque::new();
            for (between, records, skipped) in parts {
                let Some(end) = active.checked_add(between + u64::from(records) - 1) else { break };
                if end > last {
                    break;
                }
                let first = sequence + skipped;
                spans.push_back(Span { producer, sequence: first, lsn: Lsn::new(active + between), records });
                (active, sequence) = (end, first + u64::from(records) - 1);
            }
            known.insert(producer, Producer { sequence, active: Lsn::new(active), spans });
        }
        Producers::from_known(known)
    })
}

pub(crate) fn bases() -> BoxedStrategy<Base> {
    positions()
        .prop_flat_map(|position| {
            let membership = option::of(memberships().prop_map(Arc::new));
            (membership, producers(position.lsn.get())).prop_map(move |(membership, producers)| Base {
                position,
                membership,
                producers,
            })
        })
        .boxed()
}

pub(crate) fn offers() -> impl Strategy<Value = SnapshotOffer> {
    (bases(), any::<u64>(), any::<u32>()).prop_map(|(base, bytes, checksum)| SnapshotOffer {
        base: Arc::new(base),
        contents: Contents { bytes, checksum },
    })
}

pub(crate) fn metas() -> impl Strategy<Value = Meta> {
    (epochs(), option::of(members()), numbers(0, REIGN_MAX)).prop_map(|(epoch, vote, generation)| Meta {
        epoch,
        vote,
        generation,
    })
}

fn elections() -> BoxedStrategy<Message> {
    prop_oneof![
        (epochs(), positions()).prop_map(|(next, last)| Message::PreVote { next, last }),
        (epochs(), any::<bool>()).prop_map(|(next, granted)| Message::PreVoteReply { next, granted }),
        (positions(), any::<bool>()).prop_map(|(last, transfer)| Message::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Message::VoteReply { granted }),
        positions().prop_map(|last| Message::TakeOver { last }),
        Just(Message::Stale),
    ]
    .boxed()
}

fn probes() -> BoxedStrategy<Message> {
    let staged =
        option::of((snapshot_ids(), any::<u64>()).prop_map(|(snapshot, bytes)| Staged { snapshot, bytes }));
    let reply = (watermarks(), histories(), incarnations(), staged).prop_map(
        |(through, history, incarnation, staged)| {
            Message::ProbeReply(Box::new(ProbeReply { through, history, incarnation, staged }))
        },
    );
    let follow = (positions(), incarnations(), watermarks())
        .prop_map(|(common, incarnation, last)| Message::Follow { common, incarnation, last });
    let probe = (watermarks(), incarnations()).prop_map(|(through, known)| Message::Probe { through, known });
    prop_oneof![probe, reply, follow].boxed()
}

fn replication() -> BoxedStrategy<Message> {
    let heartbeat = (any::<u64>(), watermarks(), watermarks(), watermarks())
        .prop_map(|(round, commit, last, durable)| Message::Heartbeat { round, commit, last, durable });
    let reply = (any::<u64>(), positions(), watermarks(), incarnations(), any::<bool>()).prop_map(
        |(round, last, durable, incarnation, is_following)| Message::HeartbeatReply {
            round,
            last,
            durable,
            incarnation,
            is_following,
        },
    );
    let append = (positions(), watermarks(), incarnations(), groups()).prop_map(
        |(previous, commit, incarnation, group)| Message::Append { previous, commit, incarnation, group },
    );
    let ack = (incarnations(), watermarks(), any::<bool>())
        .prop_map(|(incarnation, durable, is_whole)| Message::Ack { incarnation, durable, is_whole });
    let out_of_order = (incarnations(), positions())
        .prop_map(|(incarnation, last)| Message::OutOfOrder { incarnation, last });
    prop_oneof![heartbeat, reply, append, ack, out_of_order].boxed()
}

fn bulk() -> BoxedStrategy<Message> {
    let offer = offers().prop_map(|offer| Message::SnapshotOffer(Box::new(offer)));
    let chunk = (snapshot_ids(), 0..=u64::MAX - u64::from(u32::MAX), any::<u32>(), any::<u64>()).prop_map(
        |(snapshot, offset, bytes, digest)| Message::SnapshotChunk { snapshot, offset, bytes, digest },
    );
    prop_oneof![
        offer,
        (snapshot_ids(), any::<u64>()).prop_map(|(snapshot, bytes)| Message::SnapshotAsk { snapshot, bytes }),
        chunk,
        ranges().prop_map(|range| Message::RepairAsk { range }),
        (groups(), any::<u64>()).prop_map(|(group, digest)| Message::RepairGive { group, digest }),
        (ranges(), positions()).prop_map(|(range, last)| Message::RepairNone { range, last }),
    ]
    .boxed()
}

pub(crate) fn envelopes() -> BoxedStrategy<Envelope> {
    let message = prop_oneof![elections(), probes(), replication(), bulk()];
    let head = (any::<u128>(), members(), members(), epochs(), numbers(0, REIGN_MAX));
    (head, message)
        .prop_map(|((cluster, from, to, epoch, generation), message)| Envelope {
            cluster: ClusterId::new(cluster),
            from,
            to,
            epoch,
            generation,
            message,
        })
        .boxed()
}
