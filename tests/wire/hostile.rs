//! Bytes that are no message: cut, flipped, invented. None is taken that would not be sent, and none costs memory.

use std::fmt::Debug;

use allocation_counter::measure;
use annals::protocol::request::{
    RECORDS_MAX, Reply, Request, TEXT_BYTES_MAX, decode_reply, decode_request, encode_reply, encode_request,
};
use annals::protocol::wire::{
    self, BadMessage, GROUP_SPANS_MAX, HISTORY_EPOCHS_MAX, PRODUCERS_MAX, REIGN_MAX,
};
use annals::protocol::{
    Base, Content, Envelope, Group, LOST_BASE, Member, Membership, Message, Position, Quorums, Span, Spans,
    Voter,
};
use annals::{ClusterId, DiskId, Epoch, LogIncarnation, Lsn, LsnRange, ProducerId, ReplicaId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::any::{LSN_MAX, bases, contents, envelopes, metas, offers};
use crate::requests::{replies, requests, status};

/// What decoding may allocate for each byte that is there: a producer is 12 bytes of the wire, and in memory an entry
/// in a tree of nodes that may be half empty.
const BYTES_PER_BYTE_MAX: u64 = 24;
/// And besides: one node of a tree, one message in a box.
const BYTES_BESIDES: u64 = 2048;

/// Where the fields of a message begin.
const BODY: usize = 4 + 16 + 24 + 24 + 8 + 8;

type Encode<T> = fn(&T, &mut Vec<u8>);
type Decode<T> = fn(&[u8]) -> Result<T, BadMessage>;

/// Decodes; what is taken gives the same bytes again, and nothing is allocated that the bytes do not pay for.
fn judge<T: Debug>(bytes: &[u8], encode: Encode<T>, decode: Decode<T>) -> Result<T, BadMessage> {
    let mut result = Err(BadMessage::Cut);
    let used = measure(|| result = decode(bytes));
    let max = BYTES_BESIDES + BYTES_PER_BYTE_MAX * bytes.len() as u64;
    assert!(used.bytes_max <= max, "{} bytes were allocated for {}", used.bytes_max, bytes.len());
    if let Ok(value) = &result {
        let mut again = Vec::new();
        encode(value, &mut again);
        assert_eq!(again, bytes, "{value:?} has two forms");
    }
    result
}

fn judge_all(bytes: &[u8]) {
    let _ = judge(bytes, wire::encode, wire::decode);
    let _ = judge(bytes, wire::encode_control, wire::decode_control);
    let _ = judge(bytes, wire::encode_base, wire::decode_base);
    let _ = judge(bytes, wire::encode_meta, wire::decode_meta);
    let _ = judge(bytes, wire::encode_offer, wire::decode_offer);
    let _ = judge(bytes, encode_request, decode_request);
    let _ = judge(bytes, encode_reply, decode_reply);
}

fn encoded<T>(value: &T, encode: Encode<T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    bytes
}

fn forms() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => envelopes().prop_map(|value| encoded(&value, wire::encode)),
        2 => contents().prop_map(|value| encoded(&value, wire::encode_control)),
        2 => bases().prop_map(|value| encoded(&value, wire::encode_base)),
        1 => offers().prop_map(|value| encoded(&value, wire::encode_offer)),
        1 => metas().prop_map(|value| encoded(&value, wire::encode_meta)),
        4 => requests().prop_map(|value| encoded(&value, encode_request)),
        4 => replies().prop_map(|value| encoded(&value, encode_reply)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_flipped_bit_is_taken_for_what_it_is_not(bytes in forms()) {
        for bit in 0..bytes.len().min(400) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            judge_all(&flipped);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_envelope_is_cut_and_a_longer_one_has_surplus(envelope in envelopes(), more in 1..9_usize) {
        let bytes = encoded(&envelope, wire::encode);
        for end in 0..bytes.len() {
            prop_assert_eq!(judge(&bytes[..end], wire::encode, wire::decode), Err(BadMessage::Cut), "at {}", end);
        }
        let longer = [&bytes[..], &vec![0; more]].concat();
        prop_assert_eq!(wire::decode(&longer), Err(BadMessage::Surplus));
    }

    #[test]
    fn a_cut_request_or_reply_is_cut_and_a_longer_one_has_surplus(request in requests(), reply in replies()) {
        let bytes = encoded(&request, encode_request);
        for end in 0..bytes.len() {
            prop_assert_eq!(judge(&bytes[..end], encode_request, decode_request), Err(BadMessage::Cut), "at {}", end);
        }
        prop_assert_eq!(decode_request(&[&bytes[..], &[0]].concat()), Err(BadMessage::Surplus));
        let bytes = encoded(&reply, encode_reply);
        for end in 0..bytes.len() {
            prop_assert_eq!(judge(&bytes[..end], encode_reply, decode_reply), Err(BadMessage::Cut), "at {}", end);
        }
        prop_assert_eq!(decode_reply(&[&bytes[..], &[0]].concat()), Err(BadMessage::Surplus));
    }

    #[test]
    fn no_overwritten_number_costs_memory(bytes in forms(), at in any::<usize>(), number in any::<u32>()) {
        for number in [number, u32::MAX, u32::MAX >> 1, 1 << 20, 8192, 64, 15, 8, 1, 0] {
            let mut bytes = bytes.clone();
            let at = at % bytes.len();
            let end = bytes.len().min(at + 4);
            bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            judge_all(&bytes);
        }
    }

    #[test]
    fn noise_behind_a_preamble_is_refused_or_means_one_thing(
        form in 0..8_u8, code in 0..24_u8, noise in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..300),
    ) {
        judge_all(&[&[1, 0, form, code], &noise[..]].concat());
    }
}

fn member(id: u64) -> Member {
    Member { id: ReplicaId::new(id), disk: DiskId::new(id.into()) }
}

fn bytes_of(message: Message) -> Vec<u8> {
    let envelope = Envelope {
        cluster: ClusterId::new(1),
        from: member(1),
        to: member(2),
        epoch: Epoch::new(3),
        generation: 1,
        message,
    };
    encoded(&envelope, wire::encode)
}

/// What becomes of the message once the number at `at` of its body is another one.
fn with_number(message: Message, at: usize, number: u64) -> Result<Message, BadMessage> {
    let mut bytes = bytes_of(message);
    bytes[BODY + at..BODY + at + 8].copy_from_slice(&number.to_le_bytes());
    judge(&bytes, wire::encode, wire::decode).map(|envelope| envelope.message)
}

fn range(first: u64, last: u64) -> LsnRange {
    LsnRange::new(Lsn::new(first), Lsn::new(last)).unwrap()
}

fn position(epoch: u64, lsn: u64) -> Position {
    Position { epoch: Epoch::new(epoch), lsn: Lsn::new(lsn) }
}

/// A repair of the records 10 to 20 in epoch 3.
fn give(content: Content) -> Message {
    let group = Group { epoch: Epoch::new(3), range: range(10, 20), bytes: 800, content };
    Message::RepairGive { group, digest: 5 }
}

#[test]
fn ranges_that_run_backward_or_name_no_record_are_refused() {
    let ask = || Message::RepairAsk { range: range(10, 20) };
    for (at, number) in [(0, 0), (0, 21), (0, u64::MAX), (8, 9), (8, 0), (8, u64::MAX)] {
        assert_eq!(with_number(ask(), at, number), Err(BadMessage::Malformed), "{at} {number}");
    }
    assert_eq!(with_number(ask(), 8, LSN_MAX), Ok(Message::RepairAsk { range: range(10, LSN_MAX) }));
    assert_eq!(with_number(ask(), 0, 20), Ok(Message::RepairAsk { range: range(20, 20) }));

    // The base may be asked for, and is no record that anybody could give.
    let base = || Message::RepairAsk { range: LOST_BASE };
    assert_eq!(with_number(base(), 0, 0), Ok(base()));
    assert_eq!(with_number(base(), 8, 1), Err(BadMessage::Malformed));
    let none = || Message::RepairNone { range: LOST_BASE, last: position(3, 9) };
    assert_eq!(with_number(none(), 0, 0), Err(BadMessage::Malformed));
}

#[test]
fn positions_and_watermarks_that_no_record_has_are_refused() {
    let vote = || Message::Vote { last: position(3, 9), transfer: false };
    for (at, number) in [(0, 0), (0, REIGN_MAX + 1), (8, 0), (8, u64::MAX)] {
        assert_eq!(with_number(vote(), at, number), Err(BadMessage::Malformed), "{at} {number}");
    }
    let beat = Message::Heartbeat { round: 1, commit: Lsn::ZERO, last: Lsn::ZERO, durable: Lsn::ZERO };
    assert_eq!(with_number(beat.clone(), 8, u64::MAX), Err(BadMessage::Malformed));
    assert!(with_number(beat, 8, LSN_MAX).is_ok());
}

#[test]
fn spans_that_do_not_lie_in_their_group_are_refused() {
    let span = |producer, sequence, lsn, records| Span {
        producer: ProducerId::new(producer),
        sequence,
        lsn: Lsn::new(lsn),
        records,
    };
    let good = span(4, 1, 12, 3);
    let give = |spans: &[Span]| bytes_of(give(Content::Records(Spans::from_iter(spans.iter().copied()))));
    let refused = [
        vec![Span { records: 0, ..good }],
        vec![Span { records: 10, ..good }],
        vec![Span { lsn: Lsn::new(9), ..good }],
        vec![Span { sequence: 0, ..good }],
        vec![Span { sequence: u64::MAX - 1, ..good }],
        vec![Span { producer: ProducerId::new(0), ..good }],
        vec![Span { producer: ProducerId::new(12), ..good }],
        vec![good, span(5, 1, 14, 1)],
        vec![span(5, 1, 15, 1), good],
    ];
    for spans in refused {
        let bytes = give(&spans);
        assert_eq!(judge(&bytes, wire::encode, wire::decode), Err(BadMessage::Malformed), "{spans:?}");
    }
    for spans in [vec![good, span(5, 1, 15, 6)], vec![Span { records: 9, ..good }], vec![]] {
        assert!(judge(&give(&spans), wire::encode, wire::decode).is_ok(), "{spans:?}");
    }
}

#[test]
fn a_control_record_with_company_is_refused() {
    let bytes = bytes_of(give(Content::Register));
    assert_eq!(judge(&bytes, wire::encode, wire::decode), Err(BadMessage::Malformed));
}

#[test]
fn a_chunk_past_the_end_of_all_numbers_is_refused() {
    let snapshot = annals::protocol::SnapshotId { position: position(1, 1), checksum: 0 };
    let chunk = Message::SnapshotChunk { snapshot, offset: u64::MAX, bytes: 1, digest: 0 };
    assert_eq!(wire::decode(&bytes_of(chunk)), Err(BadMessage::Malformed));
}

#[test]
fn unsound_memberships_are_refused() {
    let voters = |ids: &[u64]| ids.iter().map(|&id| Voter { member: member(id), priority: 0 }).collect();
    let sound = Membership::first(voters(&[1, 2, 3]), Quorums::Fixed { write: 2, election: 2 });
    let bytes = encoded(&Content::Membership(sound.into()), wire::encode_control);
    assert!(wire::decode_control(&bytes).is_ok());
    let voters_at = 4 + 8 + 4;
    let quorums_at = voters_at + 3 * 25;
    let refused = [
        (4, vec![0; 8], "no generation"),
        (voters_at, vec![2], "the second voter's id on the first"),
        (voters_at, vec![9], "out of order"),
        (quorums_at + 1, vec![1], "a commit that an election may miss"),
        (quorums_at + 2, vec![4], "more votes than voters"),
    ];
    for (at, change, what) in refused {
        let mut bytes = bytes.clone();
        bytes[at..at + change.len()].copy_from_slice(&change);
        let judged = judge(&bytes, wire::encode_control, wire::decode_control);
        assert_eq!(judged, Err(BadMessage::Malformed), "{what}");
    }
}

#[test]
fn a_producer_from_after_the_base_is_refused() {
    let mut bytes = encoded(&Base { position: position(1, 7), ..Base::default() }, wire::encode_base);
    // The count of producers is the last field.
    let count_at = bytes.len() - 4;
    bytes[count_at] = 1;
    for (id, judged) in [(7_u64, true), (8, false), (0, false)] {
        let bytes = [&bytes[..], &id.to_le_bytes(), &[0; 4]].concat();
        assert_eq!(judge(&bytes, wire::encode_base, wire::decode_base).is_ok(), judged, "{id}");
    }
}

#[test]
fn counts_over_their_bounds_are_too_large_and_within_them_cut() {
    let bounds: [(Vec<u8>, usize, usize); 3] = [
        (bytes_of(give(Content::PLAIN)), BODY + 8 + 16 + 8 + 1, GROUP_SPANS_MAX),
        (encoded(&Base::default(), wire::encode_base), 4 + 16 + 1, PRODUCERS_MAX),
        (bytes_of(probe_reply()), BODY + 8 + 16 + 8, HISTORY_EPOCHS_MAX),
    ];
    for (bytes, at, max) in bounds {
        for (count, expected) in [(max, BadMessage::Cut), (max + 1, BadMessage::TooLarge)] {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
            let judged = match bytes[2] {
                1 => judge(&bytes, wire::encode, wire::decode).map(drop),
                _ => judge(&bytes, wire::encode_base, wire::decode_base).map(drop),
            };
            assert_eq!(judged, Err(expected), "{count}");
        }
    }
}

fn probe_reply() -> Message {
    Message::ProbeReply(Box::new(annals::protocol::ProbeReply {
        through: Lsn::ZERO,
        history: annals::protocol::EpochHistory::default(),
        incarnation: LogIncarnation::new(1),
        staged: None,
    }))
}

#[test]
fn another_version_or_form_is_told_apart_from_damage() {
    let mut bytes = bytes_of(Message::Stale);
    assert_eq!(wire::decode_meta(&bytes), Err(BadMessage::Malformed));
    bytes[0] = 2;
    assert_eq!(wire::decode(&bytes), Err(BadMessage::Version { found: 2 }));
    let error: &dyn std::error::Error = &BadMessage::Version { found: 2 };
    assert_eq!(error.to_string(), "the bytes are of version 2, and this is version 1");
}

fn append(sequence: u64, records: usize) -> Request {
    let producer = Some((ProducerId::new(7), sequence));
    Request::Append { producer, copies: annals::protocol::request::Copies::Quorum, sizes: vec![3; records] }
}

#[test]
fn appends_whose_records_have_no_numbers_are_refused() {
    for (sequence, records, is_sound) in
        [(0, 1, false), (0, 0, false), (1, 0, true), (u64::MAX, 1, true), (u64::MAX, 2, false)]
    {
        let bytes = encoded(&append(sequence, records), encode_request);
        assert_eq!(judge(&bytes, encode_request, decode_request).is_ok(), is_sound, "{sequence} {records}");
    }
}

#[test]
fn lists_of_a_request_or_a_reply_over_their_bounds_are_too_large_and_within_them_cut() {
    let request = encoded(&append(1, 0), encode_request);
    let records = Reply::Records { records: vec![], next: Lsn::FIRST, committed: Lsn::ZERO };
    let reply = encoded(&records, encode_reply);
    for (count, expected) in [(RECORDS_MAX, BadMessage::Cut), (RECORDS_MAX + 1, BadMessage::TooLarge)] {
        let count = u32::try_from(count).unwrap().to_le_bytes();
        let mut bytes = request.clone();
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&count);
        assert_eq!(judge(&bytes, encode_request, decode_request), Err(expected));
        let mut bytes = reply.clone();
        bytes[4..8].copy_from_slice(&count);
        assert_eq!(judge(&bytes, encode_reply, decode_reply).map(drop), Err(expected));
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_between_two_characters() {
    let mut long = status();
    long.addresses[0].1 = format!("{}\u{fc}", "x".repeat(TEXT_BYTES_MAX - 1));
    let bytes = encoded(&Reply::Status(Box::new(long)), encode_reply);
    let Ok(Reply::Status(read)) = judge(&bytes, encode_reply, decode_reply) else { panic!("a status") };
    assert_eq!(read.addresses[0].1, "x".repeat(TEXT_BYTES_MAX - 1));
    let mut bytes = bytes;
    let at = bytes.iter().position(|byte| *byte == b'x').unwrap();
    bytes[at] = 0xFF;
    assert_eq!(decode_reply(&bytes), Err(BadMessage::Malformed), "no text");
}
