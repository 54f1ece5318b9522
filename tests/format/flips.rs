//! Every single bit of a small log, flipped: each flip is seen.

use annals::format::{
    BadBlock, FooterKind, FooterView, Frame, GroupHeader, Mark, SEGMENT_BYTES_MIN, SLOT_BYTES,
    SUPERBLOCK_BYTES, SegmentHeader, Superblock, Verdict, block_up, choose_slot, scan_tail,
};
use annals::{LogId, Lsn, WriteMethod};

use crate::small::header;
use annals_fixtures::segment::{Builder, Content, Start, index};

/// Calls `seen` with each bit of `range` flipped in turn.
fn each_flip(bytes: &mut [u8], range: std::ops::Range<usize>, mut seen: impl FnMut(&[u8]) -> bool) {
    for at in range {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert!(seen(bytes), "bit {bit} of byte {at} was flipped, and nothing noticed");
            bytes[at] ^= 1 << bit;
        }
    }
}

fn small_log() -> Builder {
    let mut log = Builder::with(header(SEGMENT_BYTES_MIN));
    log.group(Start::Packed, &[Content::EpochStart, Content::Record(b"odd".to_vec())]);
    log.group(Start::Packed, &[Content::Batch(vec![b"one".to_vec(), Vec::new(), b"three".to_vec()])]);
    log.group(Start::Packed, &[Content::Gap(3), Content::Record(vec![0; 13])]);
    log
}

#[test]
fn every_flip_in_a_segment_header_is_damage() {
    let mut log = small_log();
    each_flip(&mut log.bytes, 0..4096, |bytes| SegmentHeader::decode(bytes) == Err(BadBlock::Damaged));
}

#[test]
fn every_flip_up_to_the_end_is_seen_and_is_rot_where_it_was_vouched_for() {
    let mut log = small_log();
    let (header, end, last) = (log.header, log.end, log.last);
    let whole = 4096..index(block_up(end));
    each_flip(&mut log.bytes, whole, |bytes| {
        let vouched = scan_tail(bytes, &header, last);
        let lost = vouched.last_lsn < last;
        // A flip in the zeros after the last group loses nothing, and is overwritten before the next one.
        let seen = if lost { vouched.verdict.is_loss() } else { vouched.discard_end > vouched.discard_start };
        let alone = vouched.judge(Lsn::ZERO);
        seen && alone != Verdict::Clean
    });
}

#[test]
fn every_flip_in_a_footer_is_damage() {
    let mut log = small_log();
    log.seal(FooterKind::Sealed);
    let region = &mut log.bytes[index(log.header.data_end())..];
    assert!(FooterView::parse(region).is_ok());
    let length = region.len();
    each_flip(region, 0..length, |bytes| FooterView::parse(bytes).is_err_and(|bad| bad == BadBlock::Damaged));
}

#[test]
fn every_flip_in_a_frame_or_a_group_header_is_damage() {
    let log = small_log();
    let mut group = log.bytes[4096..4096 + 64].to_vec();
    each_flip(&mut group, 0..64, |bytes| GroupHeader::decode(bytes).is_err());
    for entry in [4096 + 64, 4096 + 64 + 32] {
        let frame = Frame::parse(&log.bytes[entry..]).unwrap();
        let mut stored = frame.stored().to_vec();
        let length = stored.len();
        each_flip(&mut stored, 0..length, |bytes| {
            Frame::parse(bytes).is_err() || Frame::parse(bytes).unwrap().check().is_err()
        });
    }
}

#[test]
fn every_flip_in_a_superblock_falls_back_to_the_other_slot_and_says_so() {
    let mut file = vec![0; SUPERBLOCK_BYTES];
    let mut older = Superblock::new(LogId::new(9), WriteMethod::Direct);
    older.sequence = 6;
    let mut newer = older.clone();
    newer.sequence = 7;
    newer.mark = Some(Mark { lsn: Lsn::new(3), bytes: b"applied".to_vec() });
    older.encode_into(&mut file);
    newer.encode_into(&mut file[SLOT_BYTES..]);
    assert_eq!(choose_slot(&file).map(|chosen| chosen.superblock), Ok(newer));
    each_flip(&mut file[SLOT_BYTES..], 0..4096, |slot| Superblock::decode(slot, 1) == Err(BadBlock::Damaged));
    file[SLOT_BYTES + 2000] ^= 1;
    let chosen = choose_slot(&file).unwrap();
    assert_eq!((chosen.superblock, chosen.other_is_sound), (older, false));
}
