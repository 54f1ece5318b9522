//! What clients ask and are told, as bytes: read back, each with a code of its own, pinned by a golden file.
//!
//! `ANNALS_WRITE_GOLDEN=1 cargo test --test wire golden` writes it anew: only ever for a new version.

use std::collections::BTreeMap;
use std::time::Duration;

use annals::protocol::request::{
    Appended, ClientRole, Copies, DiskHealth, NodeStatus, PeerLag, RecordHead, Refused, Reply, Request,
    decode_reply, decode_request, encode_reply, encode_request,
};
use annals::protocol::wire::REIGN_MAX;
use annals::protocol::{Change, Quorums, Role, Stage};
use annals::{ClusterId, Epoch, Lsn, ProducerId, ReplicaId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::any::{LSN_MAX, epochs, members, memberships, numbers, ranges, watermarks};
use crate::golden::{line, member, membership, pinned, range};

fn ids() -> impl Strategy<Value = ReplicaId> {
    any::<u64>().prop_map(ReplicaId::new)
}

fn texts() -> impl Strategy<Value = String> {
    "\\PC{0,40}"
}

fn roles() -> impl Strategy<Value = ClientRole> {
    prop_oneof![Just(ClientRole::Read), Just(ClientRole::Append), Just(ClientRole::Admin)]
}

fn copies() -> impl Strategy<Value = Copies> {
    let some = any::<u8>().prop_map(Copies::AtLeast);
    prop_oneof![Just(Copies::Local), Just(Copies::Quorum), Just(Copies::All), some]
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        members().prop_map(Change::AddLearner),
        (ids(), any::<u8>()).prop_map(|(id, priority)| Change::PromoteLearner { id, priority }),
        ids().prop_map(Change::Remove),
        Just(Change::SetQuorums(Quorums::Majority)),
        (any::<u8>(), any::<u8>())
            .prop_map(|(write, election)| Change::SetQuorums(Quorums::Fixed { write, election })),
        (ids(), any::<u8>()).prop_map(|(id, priority)| Change::SetPriority { id, priority }),
    ]
}

fn appends() -> BoxedStrategy<Request> {
    let producer = option::of((any::<u64>(), numbers(1, u64::MAX - 100)));
    (producer, copies(), vec(any::<u32>(), 0..50))
        .prop_map(|(producer, copies, sizes)| Request::Append {
            producer: producer.map(|(id, sequence)| (ProducerId::new(id), sequence)),
            copies,
            sizes,
        })
        .boxed()
}

pub(crate) fn requests() -> BoxedStrategy<Request> {
    let plain = [Request::Status, Request::Register, Request::Linearize, Request::Promote, Request::Snapshot];
    prop_oneof![
        3 => proptest::sample::select(plain.to_vec()),
        4 => appends(),
        1 => (watermarks(), any::<u32>()).prop_map(|(from, bytes_max)| Request::Read { from, bytes_max }),
        1 => (watermarks(), any::<u64>())
            .prop_map(|(from, credit_bytes)| Request::Subscribe { from, credit_bytes }),
        1 => (any::<u64>(), any::<u64>())
            .prop_map(|(subscription, bytes)| Request::Credit { subscription, bytes }),
        1 => any::<u64>().prop_map(|subscription| Request::Unsubscribe { subscription }),
        1 => (ranges(), any::<u32>()).prop_map(|(range, bytes_max)| Request::Frames { range, bytes_max }),
        1 => option::of(ids()).prop_map(|to| Request::Transfer { to }),
        1 => watermarks().prop_map(|through| Request::Trim { through }),
        2 => changes().prop_map(Request::Change),
    ]
    .boxed()
}

fn refusals() -> BoxedStrategy<Refused> {
    prop_oneof![
        option::of(ids()).prop_map(|primary| Refused::NotPrimary { primary }),
        Just(Refused::Unknown),
        Just(Refused::Busy),
        any::<u64>().prop_map(|expected| Refused::OutOfSequence { expected }),
        Just(Refused::UnknownProducer),
        any::<u64>().prop_map(|bytes_max| Refused::BadSize { bytes_max }),
        roles().prop_map(|needs| Refused::Denied { needs }),
        watermarks().prop_map(|first| Refused::Trimmed { first }),
        texts().prop_map(|reason| Refused::NotPossible { reason }),
    ]
    .boxed()
}

fn appended() -> BoxedStrategy<Appended> {
    (option::of(ranges()), epochs(), vec(ids(), 0..9), any::<bool>(), any::<bool>())
        .prop_map(|(range, epoch, holders, is_committed, is_duplicate)| Appended {
            range,
            epoch,
            holders,
            is_committed,
            is_duplicate,
        })
        .boxed()
}

fn records() -> BoxedStrategy<Reply> {
    let head = (numbers(1, LSN_MAX), numbers(0, REIGN_MAX), any::<u32>())
        .prop_map(|(lsn, epoch, bytes)| RecordHead { lsn: Lsn::new(lsn), epoch: Epoch::new(epoch), bytes });
    (vec(head, 0..50), watermarks(), watermarks())
        .prop_map(|(records, next, committed)| Reply::Records { records, next, committed })
        .boxed()
}

fn states() -> BoxedStrategy<Reply> {
    let roles = [Role::Primary, Role::Backup, Role::Candidate, Role::Learner, Role::Recovering, Role::Halted];
    let stages = [Stage::Probing, Stage::CatchingUp, Stage::Streaming, Stage::Snapshot, Stage::Mending];
    let healths = [DiskHealth::Good, DiskHealth::Stalled, DiskHealth::Damaged, DiskHealth::Failed];
    let lag = (ids(), proptest::sample::select(stages.to_vec()), watermarks(), any::<u64>())
        .prop_map(|(id, stage, durable, in_flight_bytes)| PeerLag { id, stage, durable, in_flight_bytes });
    let who =
        (any::<u128>(), members(), proptest::sample::select(roles.to_vec()), epochs(), option::of(ids()));
    let others = (option::of(memberships()), vec((ids(), texts()), 0..5), vec(lag, 0..5));
    let since = (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos));
    (who, vec(watermarks(), 6), others, proptest::sample::select(healths.to_vec()), since)
        .prop_map(|(who, lsns, (membership, addresses, peers), disk_health, uptime)| {
            let (cluster, member, role, epoch, primary) = who;
            Reply::Status(Box::new(NodeStatus {
                cluster: ClusterId::new(cluster),
                id: member.id,
                disk: member.disk,
                role,
                epoch,
                primary,
                first: lsns[0],
                last: lsns[1],
                durable: lsns[2],
                committed: lsns[3],
                applied: lsns[4],
                snapshot: lsns[5],
                membership,
                addresses,
                peers,
                disk_health,
                uptime,
            }))
        })
        .boxed()
}

pub(crate) fn replies() -> BoxedStrategy<Reply> {
    prop_oneof![
        2 => states(),
        1 => any::<u64>().prop_map(|id| Reply::Registered(ProducerId::new(id))),
        2 => appended().prop_map(Reply::Appended),
        1 => watermarks().prop_map(Reply::Linearized),
        2 => records(),
        1 => ranges().prop_map(|range| Reply::Frames { range }),
        1 => Just(Reply::Done),
        1 => watermarks().prop_map(Reply::SnapshotTaken),
        3 => refusals().prop_map(Reply::Refused),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_is_read_back(request in requests()) {
        let mut bytes = vec![0xEE; 3];
        encode_request(&request, &mut bytes);
        prop_assert_eq!(&bytes[..3], [0xEE; 3], "it is appended to what is there");
        prop_assert_eq!(decode_request(&bytes[3..]), Ok(request));
    }

    #[test]
    fn a_reply_is_read_back(reply in replies()) {
        let mut bytes = Vec::new();
        encode_reply(&reply, &mut bytes);
        prop_assert_eq!(decode_reply(&bytes), Ok(reply));
    }
}

/// One of each.
fn asked() -> Vec<(&'static str, Request)> {
    let producer = Some((ProducerId::new(12), 8));
    let append = |producer, copies| Request::Append { producer, copies, sizes: vec![256, 0, 70_000] };
    let change = Request::Change;
    let id = ReplicaId::new(4);
    vec![
        ("Status", Request::Status),
        ("Register", Request::Register),
        ("Append", append(producer, Copies::Quorum)),
        ("Append", append(None, Copies::Local)),
        ("Append", append(producer, Copies::All)),
        ("Append", append(producer, Copies::AtLeast(2))),
        ("Linearize", Request::Linearize),
        ("Read", Request::Read { from: Lsn::new(300), bytes_max: 1 << 20 }),
        ("Subscribe", Request::Subscribe { from: Lsn::new(301), credit_bytes: 1 << 33 }),
        ("Credit", Request::Credit { subscription: 17, bytes: 65_536 }),
        ("Unsubscribe", Request::Unsubscribe { subscription: 17 }),
        ("Frames", Request::Frames { range: range(20, 30), bytes_max: 1 << 20 }),
        ("Transfer", Request::Transfer { to: Some(ReplicaId::new(2)) }),
        ("Transfer", Request::Transfer { to: None }),
        ("Promote", Request::Promote),
        ("Snapshot", Request::Snapshot),
        ("Trim", Request::Trim { through: Lsn::new(200) }),
        ("Change", change(Change::AddLearner(member(4)))),
        ("Change", change(Change::PromoteLearner { id, priority: 7 })),
        ("Change", change(Change::Remove(id))),
        ("Change", change(Change::SetQuorums(Quorums::Fixed { write: 2, election: 3 }))),
        ("Change", change(Change::SetPriority { id, priority: 3 })),
    ]
}

pub(crate) fn status() -> NodeStatus {
    let lag =
        |id, stage| PeerLag { id: ReplicaId::new(id), stage, durable: Lsn::new(290), in_flight_bytes: 4096 };
    NodeStatus {
        cluster: ClusterId::new(0x00AA_11BB_22CC_33DD_44EE_55FF_6677_8899),
        id: ReplicaId::new(1),
        disk: member(1).disk,
        role: Role::Primary,
        epoch: Epoch::new(3),
        primary: Some(ReplicaId::new(1)),
        first: Lsn::new(201),
        last: Lsn::new(320),
        durable: Lsn::new(310),
        committed: Lsn::new(300),
        applied: Lsn::new(299),
        snapshot: Lsn::new(200),
        membership: Some(membership()),
        addresses: vec![(ReplicaId::new(2), "replica-2.example:7400".to_owned())],
        peers: vec![
            lag(2, Stage::Streaming),
            lag(3, Stage::CatchingUp),
            lag(4, Stage::Snapshot),
            lag(5, Stage::Mending),
        ],
        disk_health: DiskHealth::Good,
        uptime: Duration::new(86_400, 5_000_000),
    }
}

fn told() -> Vec<(&'static str, Reply)> {
    let quiet = |role, disk_health| NodeStatus {
        role,
        disk_health,
        primary: None,
        membership: None,
        addresses: vec![],
        peers: vec![PeerLag {
            id: ReplicaId::new(3),
            stage: Stage::Probing,
            durable: Lsn::ZERO,
            in_flight_bytes: 0,
        }],
        ..status()
    };
    let state = |status| ("Status", Reply::Status(Box::new(status)));
    let appended = |range, is_duplicate: bool| {
        let holders = vec![ReplicaId::new(1), ReplicaId::new(3)];
        Reply::Appended(Appended {
            range,
            epoch: Epoch::new(3),
            holders,
            is_committed: !is_duplicate,
            is_duplicate,
        })
    };
    let head = |lsn, bytes| RecordHead { lsn: Lsn::new(lsn), epoch: Epoch::new(3), bytes };
    let mut told = vec![
        state(status()),
        state(quiet(Role::Backup, DiskHealth::Stalled)),
        state(quiet(Role::Candidate, DiskHealth::Damaged)),
        state(quiet(Role::Learner, DiskHealth::Failed)),
        state(quiet(Role::Recovering, DiskHealth::Good)),
        state(quiet(Role::Halted, DiskHealth::Good)),
        ("Registered", Reply::Registered(ProducerId::new(12))),
        ("Appended", appended(Some(range(300, 302)), false)),
        ("Appended", appended(None, true)),
        ("Linearized", Reply::Linearized(Lsn::new(300))),
        (
            "Records",
            Reply::Records {
                records: vec![head(300, 256), head(302, 0)],
                next: Lsn::new(303),
                committed: Lsn::new(302),
            },
        ),
        ("Frames", Reply::Frames { range: range(20, 25) }),
        ("Done", Reply::Done),
        ("SnapshotTaken", Reply::SnapshotTaken(Lsn::new(200))),
    ];
    told.extend(refused().into_iter().map(|refused| ("Refused", Reply::Refused(refused))));
    told
}

fn refused() -> Vec<Refused> {
    let mut refused = vec![
        Refused::NotPrimary { primary: Some(ReplicaId::new(2)) },
        Refused::NotPrimary { primary: None },
        Refused::Unknown,
        Refused::Busy,
        Refused::OutOfSequence { expected: 9 },
        Refused::UnknownProducer,
        Refused::BadSize { bytes_max: 1 << 26 },
        Refused::Trimmed { first: Lsn::new(201) },
        Refused::NotPossible { reason: "too few follow; add a replica".to_owned() },
    ];
    let roles = [ClientRole::Read, ClientRole::Append, ClientRole::Admin];
    refused.extend(roles.map(|needs| Refused::Denied { needs }));
    refused
}

#[test]
fn golden_requests_and_replies_are_what_is_written_and_read_back() {
    let mut text = String::new();
    asked().iter().for_each(|(name, request)| line(&mut text, name, |out| encode_request(request, out)));
    told().iter().for_each(|(name, reply)| line(&mut text, name, |out| encode_reply(reply, out)));
    let bytes = pinned("request-v1.txt", &text);
    for (bytes, (_, request)) in bytes.iter().zip(asked()) {
        assert_eq!(decode_request(bytes), Ok(request));
    }
    for (bytes, (_, reply)) in bytes[asked().len()..].iter().zip(told()) {
        assert_eq!(decode_reply(bytes), Ok(reply));
    }
}

#[test]
fn each_request_and_each_reply_has_a_code_of_its_own() {
    let mut codes: BTreeMap<(u8, u8), &str> = BTreeMap::new();
    let mut note = |bytes: &[u8], form, name| {
        assert_eq!(bytes[..3], [1, 0, form]);
        assert_eq!(*codes.entry((form, bytes[3])).or_insert(name), name);
    };
    for (name, request) in asked() {
        let mut bytes = Vec::new();
        encode_request(&request, &mut bytes);
        note(&bytes, 6, name);
    }
    for (name, reply) in told() {
        let mut bytes = Vec::new();
        encode_reply(&reply, &mut bytes);
        note(&bytes, 7, name);
    }
    let expected = (1..=14).map(|code| (6, code)).chain((1..=9).map(|code| (7, code)));
    assert!(codes.keys().copied().eq(expected), "{codes:?}");
}
