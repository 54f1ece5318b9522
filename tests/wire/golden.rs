//! The file that pins version 1 of the wire form, byte for byte.
//!
//! `ANNALS_WRITE_GOLDEN=1 cargo test --test wire golden` writes it anew: only ever for a new version.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use annals::protocol::{
    Base, Content, Contents, Electorate, Envelope, EpochHistory, EpochStart, Group, Member, Membership,
    Message, Meta, Position, ProbeReply, Producer, Producers, Quorums, SnapshotId, SnapshotOffer, Span,
    Spans, Staged, Voter, wire,
};
use annals::{ClusterId, DiskId, Epoch, LogIncarnation, Lsn, LsnRange, ProducerId, ReplicaId};

const LIFE: LogIncarnation = LogIncarnation::new(0x0070_0001);

pub(crate) fn member(id: u64) -> Member {
    Member { id: ReplicaId::new(id), disk: DiskId::new(0xD15C_0000_0000_0000_0000 + u128::from(id)) }
}

fn at(epoch: u64, lsn: u64) -> Position {
    Position { epoch: Epoch::new(epoch), lsn: Lsn::new(lsn) }
}

pub(crate) fn range(first: u64, last: u64) -> LsnRange {
    LsnRange::new(Lsn::new(first), Lsn::new(last)).unwrap()
}

pub(crate) fn membership() -> Membership {
    let voters =
        |ids: [u64; 3]| ids.map(|id| Voter { member: member(id), priority: 7 * u8::from(id == 2) }).to_vec();
    Membership {
        generation: 6,
        electorate: Electorate {
            voters: voters([1, 2, 4]),
            quorums: Quorums::Fixed { write: 2, election: 2 },
        },
        outgoing: Some(Electorate { voters: voters([1, 2, 3]), quorums: Quorums::Majority }),
        learners: vec![member(5)],
    }
}

fn span(producer: u64, sequence: u64, lsn: u64, records: u32) -> Span {
    Span { producer: ProducerId::new(producer), sequence, lsn: Lsn::new(lsn), records }
}

fn records(spans: &[Span]) -> Group {
    let content = Content::Records(Spans::from_iter(spans.iter().copied()));
    Group { epoch: Epoch::new(3), range: range(300, 320), bytes: 4096, content }
}

fn base() -> Base {
    let idle = Producer { sequence: 0, active: Lsn::new(9), spans: VecDeque::new() };
    let spans = VecDeque::from([span(12, 5, 100, 2), span(12, 7, 110, 1)]);
    let busy = Producer { sequence: 7, active: Lsn::new(110), spans };
    let known = BTreeMap::from([(ProducerId::new(9), idle), (ProducerId::new(12), busy)]);
    Base {
        position: at(2, 200),
        membership: Some(Arc::new(membership())),
        producers: Producers::from_known(known),
    }
}

fn probe_reply() -> ProbeReply {
    let starts = [(2, 201), (3, 290)];
    let starts = starts.map(|(epoch, first)| EpochStart { epoch: Epoch::new(epoch), first: Lsn::new(first) });
    ProbeReply {
        through: Lsn::new(301),
        history: EpochHistory::from_parts(at(2, 200), starts.to_vec(), Lsn::new(299)).unwrap(),
        incarnation: LIFE,
        staged: Some(Staged {
            snapshot: SnapshotId { position: at(3, 295), checksum: 0x5566_7788 },
            bytes: 1 << 33,
        }),
    }
}

fn messages() -> Vec<Message> {
    let (next, snapshot) = (Epoch::new(4), SnapshotId { position: at(2, 200), checksum: 0x1122_3344 });
    let (commit, durable, last) = (Lsn::new(290), Lsn::new(298), Lsn::new(299));
    let control = |content| Group { content, range: range(300, 300), bytes: 40, ..records(&[]) };
    let append = |group| Message::Append { previous: at(3, 299), commit, incarnation: LIFE, group };
    vec![
        Message::PreVote { next, last: at(3, 299) },
        Message::PreVoteReply { next, granted: true },
        Message::Vote { last: at(3, 299), transfer: true },
        Message::VoteReply { granted: false },
        Message::Heartbeat { round: 77, commit, last, durable },
        Message::HeartbeatReply {
            round: 77,
            last: at(3, 299),
            durable,
            incarnation: LIFE,
            is_following: true,
        },
        Message::Probe { through: Lsn::new(301), known: LIFE },
        Message::ProbeReply(Box::new(probe_reply())),
        Message::Follow { common: at(2, 289), incarnation: LIFE, last },
        append(records(&[])),
        append(records(&[span(12, 8, 301, 4)])),
        append(records(&[span(12, 8, 301, 4), span(9, 1, 305, 16)])),
        append(control(Content::EpochStart)),
        append(control(Content::Membership(Arc::new(membership())))),
        append(control(Content::Register)),
        append(control(Content::Expire { before: Lsn::new(100) })),
        Message::Ack { incarnation: LIFE, durable, is_whole: true },
        Message::OutOfOrder { incarnation: LIFE, last: at(3, 250) },
        Message::SnapshotOffer(Box::new(SnapshotOffer {
            base: Arc::new(base()),
            contents: Contents { bytes: 1 << 33, checksum: 0x5566_7788 },
        })),
        Message::SnapshotAsk { snapshot, bytes: 1 << 20 },
        Message::SnapshotChunk { snapshot, offset: 1 << 20, bytes: 65_536, digest: 0x0123_4567_89AB_CDEF },
        Message::RepairAsk { range: range(20, 30) },
        Message::RepairGive { group: records(&[]), digest: 0x0123_4567_89AB_CDEF },
        Message::RepairNone { range: range(300, 310), last: at(3, 299) },
        Message::TakeOver { last: at(3, 299) },
        Message::Stale,
    ]
}

fn envelope(message: Message) -> Envelope {
    Envelope {
        cluster: ClusterId::new(0x00AA_11BB_22CC_33DD_44EE_55FF_6677_8899),
        from: member(1),
        to: member(2),
        epoch: Epoch::new(3),
        generation: 5,
        message,
    }
}

pub(crate) fn line(text: &mut String, name: &str, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    write!(text, "{name} ").unwrap();
    bytes.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
    text.push('\n');
}

fn built() -> String {
    let mut text = String::new();
    for message in messages() {
        line(&mut text, message.name(), |out| wire::encode(&envelope(message.clone()), out));
    }
    let controls = [
        Content::Membership(Arc::new(membership())),
        Content::Register,
        Content::Expire { before: Lsn::new(8) },
    ];
    for content in controls {
        line(&mut text, "control", |out| wire::encode_control(&content, out));
    }
    for base in [base(), Base::default()] {
        line(&mut text, "base", |out| wire::encode_base(&base, out));
    }
    let offer = SnapshotOffer {
        base: Arc::new(base()),
        contents: Contents { bytes: 1 << 33, checksum: 0x5566_7788 },
    };
    line(&mut text, "offer", |out| wire::encode_offer(&offer, out));
    let meta = Meta { epoch: Epoch::new(3), vote: Some(member(1)), generation: 5 };
    for meta in [meta, Meta::default()] {
        line(&mut text, "meta", |out| wire::encode_meta(&meta, out));
    }
    text
}

#[test]
fn golden_wire_form_is_what_is_written_and_read_back() {
    let bytes = pinned("wire-v1.txt", &built());
    for (bytes, message) in bytes.iter().zip(messages()) {
        assert_eq!(wire::decode(bytes), Ok(envelope(message)));
    }
}

/// The bytes on each line of a golden file, which is what is built now.
pub(crate) fn pinned(file: &str, built: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    if std::env::var_os("ANNALS_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, built).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap();
    assert!(pinned == built, "the wire form changed: that takes a new version");
    let bytes = |line: &str| {
        let hex = line.split_once(' ').unwrap().1;
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    pinned.lines().map(bytes).collect()
}

#[test]
fn golden_file_has_each_message_by_its_own_code() {
    let mut codes = BTreeMap::new();
    for message in messages() {
        let mut bytes = Vec::new();
        wire::encode(&envelope(message.clone()), &mut bytes);
        assert_eq!(bytes[..3], [1, 0, 1]);
        assert_eq!(*codes.entry(bytes[3]).or_insert(message.name()), message.name());
    }
    assert!(codes.keys().copied().eq(1..=20), "{codes:?}");
}
