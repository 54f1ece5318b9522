//! Segments as a log writes them, damaged: what is found has to be what was done.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

mod builder;
mod harm;

use builder::{Builder, Content, SMALL, Written, lsn, mixed, record};
use harm::{apply, harm};

use super::memory::{Known, Memory, check, examine_memory};
use super::*;
use crate::format::{
    BLOCK_BYTES, FooterKind, FrameHeader, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, Incarnation, Stamp,
    batch_payload_bytes, block_up, footer_bytes_for, frame_bytes, write_batch, write_epoch_start, write_gap,
    write_record,
};
use crate::types::{LogId, SegmentId};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn contents() -> impl Strategy<Value = Vec<Content>> {
    let payload = || (0..200_usize).prop_map(|bytes| (0..bytes).map(|byte| byte as u8).collect::<Vec<u8>>());
    let content = prop_oneof![
        4 => (0..200_usize).prop_map(record),
        1 => (0..3000_usize).prop_map(record),
        2 => vec(payload(), 1..5).prop_map(Content::Batch),
        1 => Just(Content::EpochStart),
        1 => (1..5_u32).prop_map(Content::Gap),
    ];
    vec(content, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_examination_and_a_scan_agree_on_any_damage(
        groups in vec((any::<bool>(), contents(), 0..4_u64), 0..12),
        is_sealed in any::<bool>(),
        harms in vec(harm(), 0..4),
        durable in 0..30_u64,
    ) {
        let mut log = Builder::new(10 * BLOCK);
        for (is_packed, contents, behind) in &groups {
            let durable = Lsn::new(log.reach.last_lsn.get().saturating_sub(*behind));
            log.group_knowing(*is_packed, durable, contents);
        }
        if is_sealed {
            log.seal();
        }
        let mut bytes = log.bytes.clone();
        harms.iter().for_each(|harm| apply(&mut bytes, harm));
        check(&bytes, Lsn::new(durable));
        log.check_runs(&bytes, Lsn::new(durable));
    }
}

/// What a flipped bit has to be found as: the bytes, and the records.
fn expected(log: &Builder, at: u64) -> (Range<u64>, Option<LsnRange>) {
    if let Some(frame) = log.frames.iter().find(|frame| frame.bytes.contains(&at)) {
        return (frame.bytes.clone(), Some(frame.lsns));
    }
    let group = log.frames.iter().find(|frame| frame.group.contains(&at));
    if let Some(frame) = group {
        return (frame.group.start..frame.group.start + GROUP_HEADER_BYTES as u64, None);
    }
    let end = log.frames.iter().map(|frame| frame.group.end).filter(|end| *end <= at).max().unwrap();
    (end..block_up(end), None)
}

#[test]
fn each_bit_of_a_segment_that_is_flipped_is_named() {
    let mut log = mixed();
    let footer = log.seal();
    for at in BLOCK..footer.end {
        // Zeros between groups are all the same.
        let is_written = log.frames.iter().any(|frame| frame.group.contains(&at));
        for bit in 0..8 {
            if !is_written && (at * 8 + u64::from(bit)) % 41 != 0 {
                continue;
            }
            log.flip(at, bit);
            for found in log.both(&footer) {
                let [stretch] = &found.stretches[..] else { panic!("{at} {bit}: {found:?}") };
                let told = (stretch.bytes.clone(), stretch.lsns);
                assert_eq!(told, expected(&log, at), "{at} {bit}");
                assert_eq!(stretch.correction, Some(Correction { offset: at, bit }), "{stretch:?}");
                assert_eq!(stretch.is_acknowledged, stretch.lsns.is_some());
                assert_eq!(stretch.kind, StretchKind::Rot);
                assert_eq!((found.last_lsn, found.end), (log.reach.last_lsn, log.reach.end));
            }
            log.flip(at, bit);
        }
    }
    let space = log.header.data_end()..log.header.segment_bytes - BLOCK;
    for at in space.clone().step_by(3) {
        let bit = (at / 3 % 8) as u8;
        log.flip(at, bit);
        let found = log.sealed(&footer);
        let [stretch] = &found.stretches[..] else { panic!("{at}: {found:?}") };
        assert_eq!(
            (stretch.bytes.clone(), stretch.lsns, stretch.cause),
            (space.clone(), None, Cause::Footer)
        );
        assert_eq!(stretch.correction, Some(Correction { offset: at, bit }));
        log.flip(at, bit);
    }
    assert!(log.both(&footer).iter().all(|found| found.stretches.is_empty()));
}

#[test]
fn stale_bytes_behind_the_end_of_a_sealed_segment_are_nobodys_business() {
    let mut log = mixed();
    let footer = log.seal();
    let end = log.header.data_end() as usize;
    log.bytes[footer.end as usize..end].fill(0xAB);
    assert!(log.sealed(&footer).stretches.is_empty());
}

#[test]
fn a_frame_that_is_scribbled_over_costs_its_own_records() {
    let mut log = mixed();
    let footer = log.seal();
    for (index, frame) in log.frames.clone().iter().enumerate() {
        // Its payload, its length and what lies before, or all of it.
        for range in [32..40_u64, 8..32, 0..4, 0..frame.bytes.end - frame.bytes.start] {
            let mut harmed = log.clone();
            let end = (frame.bytes.start + range.end).min(frame.bytes.end);
            let bytes = (frame.bytes.start + range.start).min(end) as usize..end as usize;
            let keeps_length = !range.contains(&4);
            harmed.bytes[bytes.clone()].iter_mut().for_each(|byte| *byte ^= 0x55);
            if bytes.is_empty() {
                continue;
            }
            for found in harmed.both(&footer) {
                let lost = harmed.unread(&found);
                let own: Vec<u64> = (frame.lsns.first.get()..=frame.lsns.last.get()).collect();
                match keeps_length {
                    true => assert_eq!(lost, own, "frame {index}, {range:?}"),
                    // Nothing says where the next frame is: the rest of the group is lost with it.
                    false => assert!(own.iter().all(|lsn| lost.contains(lsn)), "frame {index}: {lost:?}"),
                }
                let in_group = |lsn: &u64| {
                    let lsn = Lsn::new(*lsn);
                    let mut own = log.frames.iter().filter(|other| other.group == frame.group);
                    own.any(|other| (other.lsns.first..=other.lsns.last).contains(&lsn))
                };
                assert!(lost.iter().all(in_group), "the other groups are readable");
            }
        }
    }
}

#[test]
fn a_group_header_that_is_gone_costs_nothing_if_the_digest_of_the_segment_proves_its_frames() {
    let mut log = mixed();
    let footer = log.seal();
    for group in [log.frames[0].group.clone(), log.frames[3].group.clone(), log.frames[8].group.clone()] {
        let mut harmed = log.clone();
        harmed.bytes[group.start as usize..][..GROUP_HEADER_BYTES].fill(0x77);
        let [sealed, tail] = harmed.both(&footer);
        assert_eq!(harmed.unread(&sealed), [0; 0]);
        let [stretch] = &sealed.stretches[..] else { panic!("{sealed:?}") };
        let header = group.start..group.start + GROUP_HEADER_BYTES as u64;
        assert_eq!((stretch.bytes.clone(), stretch.lsns), (header.clone(), None));
        // In a tail nothing proves them: they may be those of a torn group that was in the same place.
        let own: Vec<u64> = log
            .frames
            .iter()
            .filter(|frame| frame.group == group)
            .flat_map(|frame| frame.lsns.first.get()..=frame.lsns.last.get())
            .collect();
        assert_eq!(harmed.unread(&tail), own);
        let [stretch] = &tail.stretches[..] else { panic!("{tail:?}") };
        assert_eq!(stretch.bytes, header);
        assert!(stretch.is_acknowledged);
    }
}

#[test]
fn whole_blocks_that_are_gone_cost_what_was_in_them_up_to_the_next_landmark() {
    let mut log = Builder::new(64 * BLOCK);
    for _ in 0..8 {
        assert!(log.group(false, &[record(3000), record(3000), record(3000)]));
    }
    let footer = log.seal();
    let second = log.frames[3].group.start;
    let mut harmed = log.clone();
    harmed.bytes[second as usize..second as usize + 4096].fill(0xEE);
    for found in harmed.both(&footer) {
        assert_eq!(harmed.unread(&found), [4, 5, 6]);
        let [stretch] = &found.stretches[..] else { panic!("{found:?}") };
        // From the end of the group before: whether the next one was packed is not known any more.
        assert_eq!((stretch.bytes.start, stretch.cause), (log.frames[2].bytes.end, Cause::GroupHeader));
        assert_eq!(stretch.bytes.end, log.frames[6].group.start);
    }
    // Zeros are records that are not there.
    harmed.bytes[second as usize..log.frames[6].group.start as usize].fill(0);
    for found in harmed.both(&footer) {
        assert_eq!(harmed.unread(&found), [4, 5, 6]);
        let [stretch] = &found.stretches[..] else { panic!("{found:?}") };
        assert_eq!((stretch.kind, stretch.cause), (StretchKind::Hole, Cause::Blank));
    }
}

#[test]
fn the_index_tells_where_to_go_on_in_a_large_group() {
    let mut log = Builder::new(256 * BLOCK);
    let contents: Vec<Content> = (0..100).map(|_| record(4000)).collect();
    assert!(log.group(true, &contents));
    let footer = log.seal();
    let entries = log.tables.index().to_vec();
    // The group's header and the first frames: everything from the next entry on is there.
    let mut harmed = log.clone();
    harmed.bytes[4096..4096 + 9000].fill(0xEE);
    let found = harmed.sealed(&footer);
    let lost: Vec<u64> = (1..entries[1].lsn.get()).collect();
    assert_eq!(harmed.unread(&found), lost);
    // A frame's header in the middle.
    let mut harmed = log.clone();
    let frame = harmed.frames[entries[2].lsn.get() as usize].bytes.start as usize;
    harmed.bytes[frame..frame + 32].fill(0xEE);
    let found = harmed.sealed(&footer);
    let lost: Vec<u64> = (entries[2].lsn.get() + 1..entries[3].lsn.get()).collect();
    assert_eq!(harmed.unread(&found), lost);
}

#[test]
fn payloads_that_hold_frames_and_groups_of_the_same_segment_fool_nobody() {
    // The frames that will stand there, in the payload of the one before.
    let mut inner = vec![0; frame_bytes(8) as usize];
    write_record(&mut inner, Stamp { lsn: lsn(2), epoch: Epoch::FIRST }, b"forgery!");
    let mut payload = vec![0; 40];
    payload.extend(&inner);
    // And a group of this life, in the very place that it will have.
    let at = BLOCK + 64 + 32 + payload.len() as u64;
    let mut log = Builder::new(SMALL);
    let place = GroupPlace { incarnation: log.header.incarnation, position: at };
    let header = GroupHeader::over(&inner, place, Lsn::ZERO);
    let mut group = vec![0; GROUP_HEADER_BYTES];
    header.encode_into(&mut group);
    payload.extend(group);
    payload.extend(&inner);
    assert!(log.group(true, &[Content::Record(payload), record(77), record(5)]));
    assert!(log.group(true, &[record(9)]));
    let footer = log.seal();
    for range in [0..4, 4..8, 8..16, 32..36, 0..64, 0..96] {
        for bit in 0..8 {
            let mut harmed = log.clone();
            let start = BLOCK as usize;
            harmed.bytes[start + range.start..start + range.end]
                .iter_mut()
                .for_each(|byte| *byte ^= 1 << bit);
            harmed.check_runs(&harmed.bytes, log.reach.last_lsn);
            for found in harmed.both(&footer) {
                for run in &found.runs {
                    log.check_run(&harmed.bytes, run);
                }
            }
        }
    }
    for at in log.frames[0].bytes.clone() {
        for bit in 0..8 {
            let mut harmed = log.clone();
            harmed.flip(at, bit);
            for found in harmed.both(&footer) {
                assert_eq!(harmed.unread(&found), [1], "{at} {bit}");
            }
        }
    }
}

#[test]
fn a_frame_of_a_discarded_group_is_not_taken_for_the_one_written_over_it() {
    let mut old = Builder::new(SMALL);
    let contents = |fill| [record(4096 - 64 - 32), Content::Record(vec![fill; 200]), record(30)];
    assert!(old.group(true, &contents(8)));
    let mut log = Builder::new(SMALL);
    assert!(log.group(true, &contents(9)));
    let footer = log.seal();
    log.bytes[8192..12288].copy_from_slice(&old.bytes[8192..12288]);
    for found in log.both(&footer) {
        assert_eq!(log.unread(&found), [1, 2, 3]);
        assert_eq!(found.stretches[0].cause, Cause::Digest);
    }
    // Nor if another frame of the group is damaged.
    log.flip(BLOCK + 200, 3);
    for found in log.both(&footer) {
        assert_eq!(log.unread(&found), [1, 2, 3]);
    }
}

#[test]
fn blocks_that_cannot_be_read_cost_the_frames_that_touch_them() {
    let mut log = Builder::new(64 * BLOCK);
    for _ in 0..4 {
        assert!(log.group(false, &[record(3000), record(9000), record(3000)]));
    }
    let footer = log.seal();
    // Inside the payload of the middle frame of the second group.
    let bad = log.frames[4].bytes.start / BLOCK + 1;
    let file = Memory { bytes: log.bytes.clone(), bad: [bad].into() };
    for known in [
        Known { footer: Some(&footer), ..Known::default() },
        Known { durable: footer.last_lsn, ..Known::default() },
    ] {
        let found = examine_memory(&file, &log.header, known);
        assert_eq!(log.unread(&found), [5]);
        let [stretch] = &found.stretches[..] else { panic!("{found:?}") };
        assert_eq!((stretch.bytes.clone(), stretch.cause), (log.frames[4].bytes.clone(), Cause::Unreadable));
        assert_eq!(stretch.correction, None);
    }
    // With the header of a group, all of it.
    let bad = log.frames[3].group.start / BLOCK;
    let file = Memory { bytes: log.bytes.clone(), bad: [bad].into() };
    let found = examine_memory(&file, &log.header, Known { footer: Some(&footer), ..Known::default() });
    assert_eq!(log.unread(&found), [4, 5, 6]);
    assert_eq!(found.stretches[0].cause, Cause::Unreadable);
    // Behind the end of a tail, no record.
    let bad = log.header.data_end() / BLOCK - 1;
    let file = Memory { bytes: log.bytes.clone(), bad: [bad].into() };
    let found = examine_memory(&file, &log.header, Known::default());
    assert_eq!(log.unread(&found), [0; 0]);
    let [stretch, ..] = &found.stretches[..] else { panic!("{found:?}") };
    assert!(
        found.stretches.iter().any(|stretch| stretch.cause == Cause::Unreadable && stretch.lsns.is_none())
    );
    assert!(stretch.kind != StretchKind::Torn);
}

#[test]
fn frames_larger_than_the_window_are_checked_in_pieces() {
    let mut log = Builder::new(2048 * BLOCK);
    let batch = Content::Batch((0..300_000_usize).map(|number| vec![number as u8; number % 3]).collect());
    assert!(log.group(true, &[record(10), record(3 << 20), record(10), batch, record(10)]));
    assert!(log.group(false, &[record(700 << 10)]));
    let footer = log.seal();
    check(&log.bytes, footer.last_lsn);
    assert!(log.both(&footer).iter().all(|found| found.stretches.is_empty()));
    for (index, lost) in [(1, 2..=2), (3, 4..=300_003)] {
        let mut harmed = log.clone();
        let middle = (harmed.frames[index].bytes.start + harmed.frames[index].bytes.end) / 2;
        harmed.flip(middle, 1);
        for found in harmed.both(&footer) {
            let [stretch] = &found.stretches[..] else { panic!("{found:?}") };
            assert_eq!(stretch.bytes, log.frames[index].bytes);
            assert_eq!(stretch.lsns, LsnRange::new(lsn(*lost.start()), lsn(*lost.end())));
        }
    }
    let mut harmed = log.clone();
    let at = harmed.frames[5].bytes.start + 300_000;
    harmed.flip(at, 6);
    for found in harmed.both(&footer) {
        assert_eq!(found.stretches[0].correction, Some(Correction { offset: at, bit: 6 }));
    }
}

#[test]
fn more_damage_than_is_told_apart_is_merged_and_nothing_lost_is_said_to_be_readable() {
    let mut log = Builder::new(2048 * BLOCK);
    let frames = findings::STRETCHES_MAX * 2 + 5000;
    let contents: Vec<Content> = (0..frames).map(|_| record(1)).collect();
    assert!(contents.chunks(5000).all(|chunk| log.group(false, chunk)));
    let footer = log.seal();
    let mut harmed = log.clone();
    for frame in log.frames.iter().step_by(2) {
        harmed.bytes[frame.bytes.start as usize + 32] ^= 0xFF;
    }
    for found in harmed.both(&footer) {
        assert_eq!(found.stretches.len(), findings::STRETCHES_MAX);
        for run in &found.runs {
            // Each frame has one record.
            for number in run.lsns.first.get()..=run.lsns.last.get() {
                let bytes = log.frames[number as usize - 1].bytes.clone();
                let bytes = bytes.start as usize..bytes.end as usize;
                assert_eq!(harmed.bytes[bytes.clone()], log.bytes[bytes]);
            }
        }
        let told =
            found.runs.iter().map(|run| run.lsns).chain(found.stretches.iter().filter_map(|at| at.lsns));
        assert_eq!(told.map(|lsns| lsns.records()).sum::<u64>(), frames as u64);
        assert_eq!(found.last_lsn, footer.last_lsn);
    }
}

#[test]
fn a_tail_is_lost_up_to_the_record_that_was_acknowledged_and_torn_behind_it() {
    let mut log = Builder::new(SMALL);
    assert!(log.group(false, &[record(10)]));
    assert!(log.group_knowing(false, lsn(1), &[record(20), record(30)]));
    assert!(log.group_knowing(false, lsn(1), &[record(40)]));
    let second = log.frames[1].group.clone();
    log.bytes[second.start as usize..second.end as usize].fill(0xEE);
    let found = examine_memory(&log.memory(), &log.header, Known { durable: lsn(2), ..Known::default() });
    let [rot, torn] = &found.stretches[..] else { panic!("{found:?}") };
    assert_eq!((rot.kind, rot.lsns), (StretchKind::Rot, LsnRange::new(lsn(2), lsn(2))));
    assert_eq!((torn.kind, torn.lsns), (StretchKind::Torn, LsnRange::new(lsn(3), lsn(4))));
    assert_eq!(found.last_lsn, lsn(2));
    // Nothing vouches for it: all of it is torn.
    let found = examine_memory(&log.memory(), &log.header, Known::default());
    let [torn] = &found.stretches[..] else { panic!("{found:?}") };
    assert_eq!((torn.kind, torn.lsns), (StretchKind::Torn, LsnRange::new(lsn(2), lsn(4))));
    assert_eq!(found.last_lsn, lsn(1));
}

#[test]
fn a_file_that_is_cut_is_a_hole_up_to_what_was_acknowledged() {
    let mut log = mixed();
    let footer = log.seal();
    let frame = log.frames[6].bytes.clone();
    log.bytes.truncate(frame.start as usize + 10);
    for known in [
        Known { last: Some(footer.last_lsn), ..Known::default() },
        Known { durable: footer.last_lsn, ..Known::default() },
    ] {
        let found = examine_memory(&log.memory(), &log.header, known);
        assert!(found.stretches.iter().all(|stretch| stretch.cause == Cause::Cut), "{found:?}");
        assert!(found.stretches.iter().all(|stretch| stretch.kind == StretchKind::Hole));
        assert_eq!(found.last_lsn, footer.last_lsn);
        let readable = found.runs.last().map(|run| run.lsns.last);
        assert_eq!(readable, Some(log.frames[5].lsns.last));
    }
}

#[test]
fn groups_that_check_and_do_not_belong_together_are_not_trusted() {
    let mut log = mixed();
    let footer = log.seal();
    let wrong = Footer { digest: Digest::new(1), ..footer };
    wrong.encode_into(&log.tables, &mut log.bytes[log.header.data_end() as usize..]);
    let found = log.sealed(&wrong);
    assert_eq!(found.stretches[0].cause, Cause::Digest);
    assert!(found.runs.is_empty());
    let known = Known { last: Some(footer.last_lsn), next_digest: Some(Digest::new(1)), ..Known::default() };
    let found = examine_memory(&log.memory(), &log.header, known);
    assert_eq!(found.stretches[0].cause, Cause::Chain);
    assert_eq!(found.stretches[0].lsns, LsnRange::new(lsn(1), footer.last_lsn));
}

#[test]
fn gaps_are_told_and_exempt_a_segment_from_its_digest() {
    let mut log = Builder::new(SMALL);
    assert!(log.group(true, &[record(10), Content::Gap(5)]));
    assert!(log.group(true, &[Content::Gap(2), record(3)]));
    log.reach.digest = Digest::new(12345);
    let footer = log.seal();
    let found = log.sealed(&footer);
    assert!(found.stretches.is_empty());
    assert_eq!(found.gaps, [LsnRange { first: lsn(2), last: lsn(8) }]);
    assert_eq!(found.records, 2);
}

#[test]
fn an_index_that_checks_and_points_elsewhere_is_told() {
    let mut log = mixed();
    let mut tables = Tables::new();
    let frame = log.frames[0].bytes.clone();
    let header = FrameHeader::decode(&log.bytes[frame.start as usize..]).unwrap();
    tables.note(&header, log.frames[0].group.start, frame.start + 8);
    log.tables = tables;
    let footer = log.seal();
    let found = log.sealed(&footer);
    let [stretch] = &found.stretches[..] else { panic!("{found:?}") };
    assert_eq!((stretch.cause, stretch.lsns), (Cause::Footer, None));
}

#[test]
fn whoever_watches_is_told_of_every_byte_once_and_may_give_up() {
    use std::cell::Cell;
    let mut log = Builder::new(2048 * BLOCK);
    while log.group(false, &[record(60_000)]) {}
    let name = "segment".into();
    let file = log.memory();
    let (footer, last, durable, next_digest) = (None, None, Lsn::ZERO, None);
    let question = Question {
        file: &file,
        name: &name,
        header: &log.header,
        footer,
        last,
        durable,
        next_digest,
        knows_start: true,
    };
    let told = Cell::new(0);
    let watch = |bytes| {
        told.set(told.get() + bytes);
        ControlFlow::Continue(())
    };
    examine(&question, &watch).unwrap();
    assert!((log.reach.end - BLOCK..=log.header.data_end()).contains(&told.get()));
    let given_up = examine(&question, &|_| ControlFlow::Break(()));
    assert!(matches!(given_up, Err(crate::error::Error::TimedOut)));
}

#[test]
fn zeros_over_a_header_and_the_first_frames_are_told_with_their_bytes() {
    let mut log = Builder::new(SMALL);
    assert!(log.group(false, &[record(100), record(100), record(1), record(5)]));
    assert!(log.group(false, &[record(40), record(50)]));
    let footer = log.seal();
    for bytes in [100, 300, 450, 512, 4096] {
        let mut harmed = log.clone();
        harmed.bytes[4096..4096 + bytes].fill(0);
        for found in harmed.both(&footer) {
            let lost = harmed.unread(&found);
            assert_eq!(lost, [1, 2, 3, 4], "{bytes}");
            let [stretch] = &found.stretches[..] else { panic!("{bytes}: {found:?}") };
            assert_eq!((stretch.bytes.clone(), stretch.lsns), (4096..8192, LsnRange::new(lsn(1), lsn(4))));
        }
    }
}

/// A group was given up, although it checks, because no other followed it that would have said so.
#[test]
fn a_group_between_a_blank_one_and_nothing_at_all_is_read() {
    let mut log = Builder::new(SMALL);
    assert!(log.group(false, &[record(100)]));
    assert!(log.group(false, &[record(3000)]));
    assert!(log.group(false, &[record(10), record(20)]));
    log.group(true, &[record(5)]);
    let last = log.reach.last_lsn;
    let ranges: Vec<_> = log.frames.iter().map(|frame| frame.group.clone()).collect();
    log.bytes[ranges[1].start as usize..ranges[2].start as usize].fill(0);
    log.bytes[ranges[2].end as usize..].fill(0);
    let found = examine_memory(&log.memory(), &log.header, Known { last: Some(last), ..Known::default() });
    assert_eq!(log.unread(&found), [2, 5], "{found:?}");
}

/// What was held of the index was another part of it after a search in it, and the next entry that was due was looked
/// for in that.
#[test]
fn an_index_of_many_entries_is_in_step_again_after_it_was_searched() {
    let mut builder = Builder::new(38 << 20);
    while builder.tables.index().len() < 1024 {
        assert!(builder.group(false, &[record(10_000)]));
    }
    let footer = builder.seal();
    let lost = 511 * 3 + 1;
    let Written { group, lsns, .. } = builder.frames[lost].clone();
    assert_eq!(builder.tables.find(lsns.first).unwrap(), builder.tables.index()[511]);
    builder.bytes[group.start as usize..group.end as usize].fill(0xA5);
    let found = builder.sealed(&footer);
    assert_eq!(builder.unread(&found), [lsns.first.get()]);
}
