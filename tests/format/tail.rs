//! The end of a segment, told apart: clean, torn, stale, rot and hole.

use annals::format::{
    BLOCK_BYTES, Damage, Digest, Footer, FooterKind, GroupHeader, GroupPlace, Incarnation, SegmentHeader,
    Stamp, Verdict, block_up, rescan_sealed, scan_tail, write_record,
};
use annals::{Lsn, SegmentId};

use crate::small::{self, SMALL, header, wipe};
use annals_fixtures::segment::{Builder, Content, Start, Written, index};

fn lsn(number: u64) -> Lsn {
    Lsn::new(number)
}

/// Four groups: three packed, so that they share a block, and one that begins a block.
fn four_groups() -> (Builder, Vec<Written>) {
    let mut log = small::log();
    let mut written = vec![
        log.group(Start::Packed, &[Content::EpochStart, Content::Record(b"one".to_vec())]),
        log.record(Start::Packed, b"two"),
        log.group(Start::Packed, &[Content::Batch(vec![b"a".to_vec(), Vec::new(), b"ccc".to_vec()])]),
    ];
    written.push(log.record(Start::Fresh, b"last"));
    (log, written)
}

#[test]
fn a_clean_segment_is_read_back_to_its_last_record() {
    let (log, _) = four_groups();
    let scan = scan_tail(&log.bytes, &log.header, log.last);
    assert_eq!(scan.verdict, Verdict::Clean);
    assert_eq!((scan.end, scan.last_lsn, scan.epoch), (log.end, log.last, log.epoch));
    assert_eq!((scan.digest, scan.groups), (log.digest, log.groups));
    assert_eq!(scan.tables, log.tables);
    assert_eq!(scan.durable_through, lsn(6), "what the last group knew");
    assert_eq!(scan.dirty_end, scan.end);
    assert_eq!(scan.discard_start, scan.discard_end, "nothing is to be discarded");
}

#[test]
fn an_empty_segment_is_clean_and_ends_at_its_start() {
    let log = small::log();
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!((scan.verdict, scan.end, scan.last_lsn), (Verdict::Clean, 4096, Lsn::ZERO));
    assert_eq!(scan.digest, log.header.previous_digest);
}

#[test]
fn a_segment_full_to_its_last_byte_is_clean() {
    let mut log = small::log();
    let room = log.header.data_end() - log.end - 64 - 32;
    log.record(Start::Packed, &vec![7; index(room)]);
    assert_eq!(log.end, log.header.data_end());
    log.seal(FooterKind::Sealed);
    let scan = scan_tail(&log.bytes, &log.header, log.last);
    assert_eq!((scan.verdict, scan.end), (Verdict::Clean, log.header.data_end()));
}

#[test]
fn torn_tail_is_discarded_back_to_the_last_whole_group() {
    let (mut log, written) = four_groups();
    let torn = written[3];
    log.bytes[index(torn.end) - 8] ^= 1;
    let scan = scan_tail(&log.bytes, &log.header, lsn(6));
    assert_eq!(scan.last_lsn, lsn(6));
    assert_eq!(scan.end, written[2].end);
    assert_eq!(scan.verdict, Verdict::Torn { bytes: scan.end..block_up(torn.end), next: lsn(7) });
    assert_eq!(scan.fault.as_ref().map(|fault| fault.damage), Some(Damage::Checksum));

    wipe(&mut log.bytes, scan.discard_start..scan.discard_end);
    let again = scan_tail(&log.bytes, &log.header, lsn(6));
    assert_eq!((again.verdict, again.end, again.digest), (Verdict::Clean, scan.end, scan.digest));
}

#[test]
fn a_batch_and_a_group_live_or_die_together() {
    let mut log = small::log();
    let first = log.record(Start::Packed, b"kept");
    let contents = [Content::Record(b"whole".to_vec()), Content::Batch(vec![vec![1; 700], vec![2; 700]])];
    let second = log.group(Start::Packed, &contents);
    log.bytes[index(second.end) - 1] ^= 0x80;
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!((scan.end, scan.last_lsn), (first.end, lsn(1)));
    assert!(matches!(scan.verdict, Verdict::Torn { .. }));
}

#[test]
fn groups_in_flight_behind_a_torn_one_are_torn_with_it() {
    let mut log = small::log();
    log.record(Start::Packed, b"acknowledged");
    let torn = log.record(Start::Fresh, &[1; 300]);
    let whole = log.group_knowing(Start::Fresh, lsn(1), &[Content::Record(b"in flight too".to_vec())]);
    log.bytes[index(torn.start)..index(torn.start) + 4096].fill(0);
    let scan = scan_tail(&log.bytes, &log.header, lsn(1));
    let later = scan.later.unwrap();
    assert_eq!((later.position, later.first_lsn, later.groups), (whole.start, whole.last, 1));
    assert_eq!((later.end, later.last_lsn, later.durable_through), (whole.end, whole.last, lsn(1)));
    assert_eq!(scan.verdict, Verdict::Torn { bytes: scan.end..block_up(whole.end), next: lsn(2) });

    wipe(&mut log.bytes, scan.discard_start..scan.discard_end);
    assert_eq!(scan_tail(&log.bytes, &log.header, lsn(1)).verdict, Verdict::Clean);
}

#[test]
fn a_later_group_tells_rot_from_tearing_also_when_it_is_packed() {
    for start in [Start::Packed, Start::Fresh] {
        let mut log = small::log();
        log.record(Start::Packed, b"one");
        let rotten = log.group(Start::Packed, &[Content::Record(vec![5; 99]), Content::Record(vec![6; 99])]);
        log.record(start, b"knows that two and three are durable");
        log.bytes[index(rotten.end) - 20] ^= 4;
        let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
        let damaged = rotten.end - 136..rotten.end;
        assert_eq!(scan.verdict, Verdict::Rot { bytes: damaged, first: lsn(3), last: lsn(3) }, "{start:?}");
    }
}

#[test]
fn a_header_alone_vouches_even_if_its_own_frames_are_torn() {
    let mut log = small::log();
    let rotten = log.record(Start::Packed, &[1; 64]);
    let torn = log.record(Start::Fresh, &[2; 64]);
    log.bytes[index(rotten.start)] ^= 1;
    log.bytes[index(torn.end) - 1] ^= 1;
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!(scan.verdict, Verdict::Rot { bytes: 4096..torn.start, first: lsn(1), last: lsn(1) });
}

#[test]
fn the_superblock_and_later_segments_tell_rot_from_tearing() {
    let (mut log, written) = four_groups();
    log.bytes[index(written[3].end) - 8] ^= 1;
    let scan = scan_tail(&log.bytes, &log.header, lsn(6));
    assert!(matches!(scan.verdict, Verdict::Torn { .. }));
    let frame = written[3].start + 64..written[3].end;
    assert_eq!(scan.judge(lsn(7)), Verdict::Rot { bytes: frame, first: lsn(7), last: lsn(7) });
    assert!(scan_tail(&log.bytes, &log.header, lsn(7)).verdict.is_loss());
}

#[test]
fn zeros_in_the_place_of_acknowledged_groups_are_a_hole() {
    let (mut log, written) = four_groups();
    wipe(&mut log.bytes, written[1].start..written[3].start);
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    let bytes = written[1].start..written[3].start;
    assert_eq!(scan.verdict, Verdict::Hole { bytes, first: lsn(3), last: lsn(6) });
}

#[test]
fn a_file_cut_at_a_clean_boundary_is_a_hole_if_the_superblock_contradicts() {
    let (mut log, written) = four_groups();
    for cut in [written[3].start, written[3].start + 10, written[3].end - 3, block_up(written[2].end)] {
        log.bytes.truncate(index(cut.max(written[2].end)));
        let scan = scan_tail(&log.bytes, &log.header, lsn(7));
        assert_eq!((scan.end, scan.last_lsn), (written[2].end, lsn(6)));
        let bytes = scan.end..log.header.data_end();
        assert_eq!(scan.verdict, Verdict::Hole { bytes, first: lsn(7), last: lsn(7) });
        assert!(!scan.judge(lsn(6)).is_loss());
    }
}

#[test]
fn a_former_life_is_stale_and_never_taken() {
    let mut former = Builder::with(SegmentHeader { incarnation: Incarnation::new(1), ..header(SMALL) });
    former.record(Start::Packed, b"short");
    former.record(Start::Fresh, b"exactly the record that is expected next");
    let mut log = small::log();
    log.bytes[4096..].copy_from_slice(&former.bytes[4096..]);
    log.bytes[4096..8192].fill(0);
    log.record(Start::Packed, b"short");
    let scan = scan_tail(&log.bytes, &log.header, lsn(1));
    assert_eq!((scan.last_lsn, scan.end), (lsn(1), log.end));
    assert_eq!(scan.verdict, Verdict::Stale { bytes: log.end..3 * BLOCK_BYTES as u64 });
    assert_eq!(scan.fault.map(|fault| fault.damage), Some(Damage::Foreign));
    assert_eq!(scan.discard_start, scan.discard_end, "nothing of it can be mistaken for this life's");
}

#[test]
fn a_group_is_taken_only_in_its_own_place() {
    let mut log = small::log();
    let first = log.record(Start::Packed, b"first");
    let second = log.record(Start::Fresh, b"next");
    let block = log.bytes[index(second.start)..][..4096].to_vec();
    wipe(&mut log.bytes, second.start..second.start + 4096);
    log.bytes[index(second.start) + 4096..][..4096].copy_from_slice(&block);
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!((scan.end, scan.later), (first.end, None));
    assert!(matches!(scan.verdict, Verdict::Stale { .. }));
}

#[test]
fn payloads_that_embed_valid_groups_and_frames_are_payloads() {
    let (inner, written) = four_groups();
    let copy = inner.bytes[4096..index(written[3].end)].to_vec();
    let mut log = small::log();
    let outer = log.record(Start::Packed, &copy);
    let after = log.record(Start::Packed, b"after");
    assert_eq!(scan_tail(&log.bytes, &log.header, after.last).verdict, Verdict::Clean);

    // Torn, so that the payload lies where a later group might be looked for.
    log.bytes[index(outer.start) + 64] ^= 1;
    wipe(&mut log.bytes, after.start..after.end);
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!((scan.end, scan.last_lsn, scan.later), (4096, Lsn::ZERO, None));
    assert!(matches!(scan.verdict, Verdict::Torn { .. }));
}

#[test]
fn frames_of_a_discarded_group_do_not_complete_the_one_written_over_it() {
    // A group of two blocks was torn; one of the same shape took its place, and lost its second block.
    let contents = |fill| [Content::Record(vec![1; 4096 - 64 - 32]), Content::Record(vec![fill; 200])];
    let (mut old, mut new) = (small::log(), small::log());
    old.group(Start::Packed, &contents(8));
    let torn = new.group(Start::Packed, &contents(9));
    new.bytes[8192..12288].copy_from_slice(&old.bytes[8192..12288]);
    let scan = scan_tail(&new.bytes, &new.header, Lsn::ZERO);
    assert_eq!(scan.end, 4096);
    assert_eq!(scan.fault.map(|fault| fault.damage), Some(Damage::Digest));
    assert_eq!(scan.verdict, Verdict::Torn { bytes: 4096..block_up(torn.end), next: lsn(1) });
}

#[test]
fn records_of_nothing_and_of_zeros_are_records() {
    let mut log = small::log();
    let empty =
        [Content::Record(Vec::new()), Content::Batch(vec![Vec::new(); 3]), Content::Record(Vec::new())];
    log.group(Start::Packed, &empty);
    log.record(Start::Packed, &[0; 5000]);
    let rotten = log.record(Start::Fresh, &[0; 100]);
    let scan = scan_tail(&log.bytes, &log.header, log.last);
    assert_eq!((scan.verdict.clone(), scan.last_lsn), (Verdict::Clean, lsn(7)));

    log.bytes[index(rotten.start) + 64..index(rotten.end)].fill(0);
    let scan = scan_tail(&log.bytes, &log.header, lsn(7));
    assert_eq!(scan.last_lsn, lsn(6));
    assert_eq!(scan.fault.map(|fault| fault.damage), Some(Damage::Blank), "zeros are never a frame");
    assert!(scan.verdict.is_loss());
}

#[test]
fn groups_out_of_order_are_not_taken() {
    let mut log = small::log();
    let first = log.record(Start::Packed, b"one");
    log.last = lsn(4);
    log.group_knowing(Start::Fresh, Lsn::ZERO, &[Content::Record(b"five".to_vec())]);
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!((scan.end, scan.last_lsn), (first.end, lsn(1)));
    assert_eq!(scan.fault.map(|fault| fault.damage), Some(Damage::Sequence));
    assert_eq!(scan.later.map(|later| later.first_lsn), Some(lsn(5)));
}

#[test]
fn an_epoch_never_goes_back() {
    let mut log = small::log();
    log.group(Start::Packed, &[Content::EpochStart]);
    let end = log.end;
    log.epoch = annals::Epoch::new(1);
    log.record(Start::Packed, b"from a deposed primary");
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!((scan.end, scan.fault.map(|fault| fault.damage)), (end, Some(Damage::Sequence)));
}

#[test]
fn bytes_that_are_not_zero_after_the_end_are_discarded_with_what_follows() {
    // The block of the last group was torn in its padding: nothing was acknowledged, and the log opens.
    let mut log = small::log();
    let last = log.record(Start::Packed, b"whole");
    let next = log.group_knowing(Start::Fresh, Lsn::ZERO, &[Content::Record(b"in flight".to_vec())]);
    log.bytes[index(last.end) + 600] = 9;
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!(scan.verdict, Verdict::Torn { bytes: last.end..block_up(next.end), next: lsn(2) });
    assert!(scan.judge(lsn(2)).is_loss());
}

#[test]
fn a_lost_footer_is_rebuilt_up_to_the_record_that_a_truncation_left() {
    let mut log = small::log();
    log.record(Start::Packed, b"one");
    let kept = log.clone();
    let cut = log.group(Start::Packed, &[Content::Record(vec![2; 40]), Content::Record(vec![3; 40])]);
    log.record(Start::Packed, b"four");
    log.bytes[index(cut.end) - 1] ^= 1; // rot in what was cut off does not matter
    let scan = rescan_sealed(&log.bytes, &log.header, lsn(2));
    assert_eq!((scan.verdict, scan.last_lsn), (Verdict::Clean, lsn(2)));
    assert_eq!(scan.end, cut.start + 64 + 72);
    assert_eq!(scan.groups, 2);
    assert_ne!(scan.digest, kept.digest);
    assert!(rescan_sealed(&log.bytes, &log.header, lsn(3)).verdict.is_loss());
    // Readers of such a segment see no more of it than that.
    let seen = rescan_sealed(&log.bytes[..index(scan.end)], &log.header, lsn(2));
    assert_eq!((seen.verdict, seen.end, seen.digest), (Verdict::Clean, scan.end, scan.digest));
    for bytes in index(cut.start)..index(scan.end) {
        assert!(rescan_sealed(&log.bytes[..bytes], &log.header, lsn(2)).verdict.is_loss(), "{bytes}");
    }
}

#[test]
fn a_footer_is_of_one_life_of_one_segment() {
    let (mut log, _) = four_groups();
    let footer = log.seal(FooterKind::Sealed);
    assert!(footer.is_of(&log.header));
    assert!(!footer.is_of(&SegmentHeader { incarnation: Incarnation::new(1), ..log.header }));
    assert!(!footer.is_of(&SegmentHeader { segment_id: SegmentId::new(2), ..log.header }));
    let block = &log.bytes[log.bytes.len() - BLOCK_BYTES..];
    assert_eq!(Footer::decode(block), Ok(footer));
}

#[test]
fn the_digest_of_a_segment_begins_with_the_one_before() {
    let mut one = small::log();
    let mut two = Builder::with(SegmentHeader { previous_digest: Digest::new(5), ..header(SMALL) });
    one.record(Start::Packed, b"same");
    two.record(Start::Packed, b"same");
    let scans = [&one, &two].map(|log| scan_tail(&log.bytes, &log.header, Lsn::ZERO).digest);
    assert_ne!(scans[0], scans[1]);
}

#[test]
fn a_segment_that_never_rolls_for_its_epochs_stops_at_the_bound() {
    let mut log = Builder::with(header(64 * BLOCK_BYTES as u64));
    for _ in 0..256 {
        log.group(Start::Packed, &[Content::EpochStart]);
    }
    let (end, last) = (log.end, log.last);
    assert_eq!(log.tables.epochs_left(), 0);
    // Written by hand: the library itself refuses.
    let mut frame = [0; 32];
    write_record(&mut frame, Stamp { lsn: last.next(), epoch: annals::Epoch::new(1000) }, b"");
    let place = GroupPlace { incarnation: log.header.incarnation, position: end };
    GroupHeader::over(&frame, place, last).encode_into(&mut log.bytes[index(end)..]);
    log.bytes[index(end) + 64..][..32].copy_from_slice(&frame);
    let scan = scan_tail(&log.bytes, &log.header, Lsn::ZERO);
    assert_eq!((scan.end, scan.last_lsn), (end, last));
    assert_eq!(scan.fault.map(|fault| fault.damage), Some(Damage::Malformed));
}
