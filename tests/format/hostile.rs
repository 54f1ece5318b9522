//! Bytes that nobody wrote: decoding them ends, stays in bounds, and allocates nothing by their say.

use annals::format::{
    BLOCK_BYTES, BadBlock, BatchView, Chunk, CleanTail, Damage, Digest, Footer, FooterView, Frame,
    FrameHeader, FrameKind, Frames, GroupHeader, GroupPlace, Incarnation, PAYLOAD_BYTES_MAX, SLOT_BYTES,
    SUPERBLOCK_BYTES, SegmentHeader, SnapshotHead, Superblock, Walk, choose_slot, crc32, frame_bytes,
    scan_tail, write_chunk,
};
use annals::{Epoch, LogId, Lsn, SegmentId, WriteMethod};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::small::{self, header};
use annals_fixtures::segment::{Start, index};

const LONGEST: FrameHeader = FrameHeader {
    checksum: 0,
    length: PAYLOAD_BYTES_MAX,
    lsn: Lsn::FIRST,
    epoch: Epoch::FIRST,
    kind: FrameKind::Record,
    count: 1,
};

#[test]
fn zeros_are_never_a_frame_or_a_group_although_the_checksum_of_nothing_is_zero() {
    assert_eq!(crc32(b""), 0);
    assert_eq!(FrameHeader::decode(&[0; 4096]), Err(Damage::Blank));
    assert_eq!(GroupHeader::decode(&[0; 4096]), Err(Damage::Blank));
    assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(BadBlock::Blank));
    assert_eq!(Footer::decode(&[0; 4096]), Err(BadBlock::Blank));
    assert_eq!(choose_slot(&vec![0; SUPERBLOCK_BYTES]), Err(BadBlock::Blank));
    assert_eq!(choose_slot(&[]), Err(BadBlock::Blank));
}

#[test]
fn the_largest_lengths_are_bounded_by_the_bytes_there_are() {
    let mut stored = [0; 64];
    LONGEST.encode_into(&mut stored);
    assert_eq!(FrameHeader::decode(&stored), Ok(LONGEST));
    assert_eq!(Frame::parse(&stored).unwrap_err(), Damage::Cut);
    assert!(u32::try_from(frame_bytes(PAYLOAD_BYTES_MAX.into())).is_ok(), "it fits the count of a group");

    FrameHeader { length: u32::MAX, ..LONGEST }.encode_into(&mut stored);
    assert_eq!(FrameHeader::decode(&stored), Err(Damage::Malformed));
    let batch = FrameHeader { kind: FrameKind::Batch, count: u32::MAX, ..LONGEST };
    batch.encode_into(&mut stored);
    assert_eq!(FrameHeader::decode(&stored), Err(Damage::Malformed));
    assert!(BatchView::parse(&[0; 64], u32::MAX).is_err());
    for (length, count, fits) in [(20, 1, true), (19, 1, false), (16, 0, false), (64, 13, false)] {
        FrameHeader { kind: FrameKind::Produced, length, count, ..LONGEST }.encode_into(&mut stored);
        assert_eq!(FrameHeader::decode(&stored).is_ok(), fits, "{length} {count}");
    }
    for (count, fits) in [(1, true), (2, false), (0, false)] {
        FrameHeader { kind: FrameKind::Control, count, ..LONGEST }.encode_into(&mut stored);
        assert_eq!(FrameHeader::decode(&stored).is_ok(), fits, "{count}");
    }
}

#[test]
fn a_snapshot_that_claims_four_gigabytes_is_refused() {
    let head = SnapshotHead {
        log_id: LogId::new(1),
        application_bytes: u64::MAX,
        application_checksum: 0,
        state: vec![7; 20],
    };
    let mut bytes = head.encode();
    assert_eq!(SnapshotHead::decode(&bytes), Ok(head));
    bytes[44..48].fill(0xFF);
    assert_eq!(SnapshotHead::decode(&bytes), Err(BadBlock::Damaged));
    let mut chunk = write_chunk(u64::MAX, b"a chunk");
    assert_eq!(Chunk::parse(&chunk).map(|chunk| chunk.offset), Ok(u64::MAX));
    chunk[4..8].fill(0xFF);
    assert_eq!(Chunk::parse(&chunk), Err(Damage::Cut));
    assert_eq!(Chunk::parse(&[]), Err(Damage::Cut));
}

#[test]
fn a_gap_takes_lsns_and_has_no_payload() {
    let mut stored = [0; 64];
    let gap = FrameHeader { kind: FrameKind::Gap, length: 0, count: u32::MAX, ..LONGEST };
    gap.encode_into(&mut stored);
    assert_eq!(FrameHeader::decode(&stored), Ok(gap));
    let last = u64::MAX - u64::from(u32::MAX);
    FrameHeader { lsn: Lsn::new(last), ..gap }.encode_into(&mut stored);
    assert_eq!(FrameHeader::decode(&stored).map(|gap| gap.last_lsn().next()), Ok(Lsn::new(u64::MAX)));
    let beyond = FrameHeader { lsn: Lsn::new(last + 1), ..gap };
    for bad in [FrameHeader { length: 1, ..gap }, FrameHeader { count: 0, ..gap }, beyond] {
        bad.encode_into(&mut stored);
        assert_eq!(FrameHeader::decode(&stored), Err(Damage::Malformed));
    }
}

#[test]
fn a_group_that_claims_four_gigabytes_is_cut() {
    let mut log = small::log();
    let place = GroupPlace { incarnation: log.header.incarnation, position: 4096 };
    let claim = GroupHeader {
        place,
        first_lsn: Lsn::FIRST,
        durable_through: Lsn::ZERO,
        frame_bytes: u32::MAX - 7,
        frames: 1,
        records: 1,
        digest: place.digest_seed(),
    };
    claim.encode_into(&mut log.bytes[4096..]);
    LONGEST.encode_into(&mut log.bytes[4160..]);
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!(scan.fault.map(|fault| fault.damage), Some(Damage::Cut));
    assert_eq!((scan.end, scan.discard_end), (4096, log.header.data_end()));
    let step = Frames::new(&log.bytes, Walk::from_start(log.header.incarnation)).next();
    assert_eq!(step.unwrap().unwrap_err().damage, Damage::Cut);
}

#[test]
fn lsns_at_the_end_of_their_range_do_not_overflow() {
    let mut stored = [0; 64];
    FrameHeader { lsn: Lsn::new(u64::MAX), length: 0, ..LONGEST }.encode_into(&mut stored);
    assert_eq!(FrameHeader::decode(&stored), Err(Damage::Malformed));
    FrameHeader { lsn: Lsn::new(u64::MAX - 1), length: 0, ..LONGEST }.encode_into(&mut stored);
    assert!(FrameHeader::decode(&stored).is_ok());
    FrameHeader { lsn: Lsn::ZERO, length: 0, ..LONGEST }.encode_into(&mut stored);
    assert_eq!(FrameHeader::decode(&stored), Err(Damage::Malformed));
}

#[test]
fn the_table_of_a_batch_has_to_rise_to_the_end_of_its_payload() {
    let payload = |ends: [u32; 3]| [&ends.map(u32::to_le_bytes).concat()[..], b"abcdef"].concat();
    assert!(BatchView::parse(&payload([0, 6, 6]), 3).is_ok());
    for ends in [[3, 2, 6], [0, 1, 5], [0, 1, 7], [u32::MAX, u32::MAX, 6]] {
        assert_eq!(BatchView::parse(&payload(ends), 3).unwrap_err(), Damage::Malformed, "{ends:?}");
    }
    assert_eq!(BatchView::parse(&[], 0).unwrap_err(), Damage::Malformed, "a batch has records");
}

/// Whoever asked for the next number panicked.
#[test]
fn a_block_with_a_number_after_which_there_is_none_is_damaged() {
    let slot = |change: &dyn Fn(&mut Superblock)| {
        let mut superblock = Superblock::new(LogId::new(1), WriteMethod::Buffered);
        superblock.sequence = 8;
        change(&mut superblock);
        let mut bytes = vec![0; superblock.used_bytes()];
        superblock.encode_into(&mut bytes);
        Superblock::decode(&bytes, 0).map(drop)
    };
    let tail = |last: u64| CleanTail {
        segment_id: SegmentId::FIRST,
        end: 4096,
        last_lsn: Lsn::new(last),
        digest: Digest::ZERO,
    };
    for (number, said) in [(u64::MAX - 1, Ok(())), (u64::MAX, Err(BadBlock::Damaged))] {
        assert_eq!(slot(&|superblock| superblock.durable = Lsn::new(number)), said);
        assert_eq!(slot(&|superblock| superblock.first_lsn = Lsn::new(number)), said);
        assert_eq!(slot(&|superblock| superblock.clean_tail = Some(tail(number))), said);
        let known = header(1 << 20);
        for put in [40, 48] {
            let mut block = vec![0; 4096];
            known.encode_into(&mut block);
            block[put..put + 8].copy_from_slice(&number.to_le_bytes());
            let sum = crc32(&[&block[..12], &block[16..]].concat());
            block[12..16].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(SegmentHeader::decode(&block).map(drop), said, "{put}");
        }
    }
}

#[test]
fn a_newer_version_is_told_from_damage_in_all_three_places() {
    let newer = |block: &mut [u8], length: usize| {
        block[8] = 2;
        let sum = crc32(&[&block[..12], &block[16..length]].concat());
        block[12..16].copy_from_slice(&sum.to_le_bytes());
    };
    let mut log = small::log();
    log.record(Start::Packed, b"one");
    log.seal(annals::format::FooterKind::Sealed);
    newer(&mut log.bytes, 4096);
    assert_eq!(SegmentHeader::decode(&log.bytes), Err(BadBlock::Newer { found: 2 }));
    let trailer = log.bytes.len() - BLOCK_BYTES;
    newer(&mut log.bytes[trailer..], 4096);
    assert_eq!(Footer::decode(&log.bytes[trailer..]), Err(BadBlock::Newer { found: 2 }));
    let region = &log.bytes[index(log.header.data_end())..];
    assert_eq!(FooterView::parse(region).unwrap_err(), BadBlock::Newer { found: 2 });

    let mut file = vec![0; SUPERBLOCK_BYTES];
    let mut superblock = Superblock::new(LogId::new(1), WriteMethod::Buffered);
    for sequence in [8, 9] {
        superblock.sequence = sequence;
        superblock.encode_into(&mut file[index(superblock.position())..]);
    }
    newer(&mut file, 4096);
    assert_eq!(choose_slot(&file), Err(BadBlock::Newer { found: 2 }), "whichever slot it is in");
}

#[test]
fn a_slot_that_is_gone_or_was_put_back_makes_the_other_one_suspect() {
    let mut file = vec![0; SUPERBLOCK_BYTES];
    let mut superblock = Superblock::new(LogId::new(1), WriteMethod::Buffered);
    superblock.encode_into(&mut file[index(superblock.position())..]);
    assert!(choose_slot(&file).unwrap().other_is_sound, "the first one ever written stands alone");
    let old = file.clone();
    for sequence in 2..=4 {
        superblock.sequence = sequence;
        superblock.encode_into(&mut file[index(superblock.position())..]);
        assert_eq!(choose_slot(&file).map(|chosen| chosen.superblock.sequence), Ok(sequence));
    }
    file[SLOT_BYTES..].copy_from_slice(&old[SLOT_BYTES..]);
    assert!(!choose_slot(&file).unwrap().other_is_sound);
    file[SLOT_BYTES..].fill(0);
    assert!(!choose_slot(&file).unwrap().other_is_sound);
    file[..SLOT_BYTES].fill(1);
    assert_eq!(choose_slot(&file), Err(BadBlock::Damaged));
    file.truncate(100);
    assert_eq!(choose_slot(&file), Err(BadBlock::Damaged));
}

proptest! {
    #[test]
    fn noise_is_never_taken_for_anything(noise in vec(any::<u8>(), 0..9000)) {
        prop_assert!(FrameHeader::decode(&noise).is_err() || Frame::parse(&noise).map_or(true, |f| f.check().is_err()));
        prop_assert!(GroupHeader::decode(&noise).is_err());
        prop_assert!(SegmentHeader::decode(&noise).is_err());
        prop_assert!(FooterView::parse(&noise).is_err());
        prop_assert!(choose_slot(&noise).is_err());
    }

    #[test]
    fn noise_after_a_header_is_stale_or_torn_and_holds_no_group(noise in vec(any::<u8>(), 0..9000)) {
        let header = header(8 * 4096);
        let mut segment = vec![0; 4096];
        header.encode_into(&mut segment);
        segment.extend(noise);
        let scan = scan_tail(&segment, &header, Lsn::ZERO);
        prop_assert_eq!((scan.end, scan.groups, scan.later), (4096, 0, None));
        prop_assert!(!scan.verdict.is_loss());
        let walk = Walk::from_start(Incarnation::new(1)).verified(false);
        prop_assert!(Frames::new(&segment, walk).all(|step| step.is_err()));
    }
}
