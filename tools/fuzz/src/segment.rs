//! What has to hold of a segment, whatever the bytes.

use annals::Lsn;
use annals::format::{
    FooterView, FrameKind, Frames, HEADER_BLOCK_BYTES, SegmentHeader, TailScan, Verdict, Walk, rescan_sealed,
    scan_tail,
};

/// A scan ends and stays in bounds; what it found is there; what it tells to discard leaves nothing behind.
pub fn fuzz_segment(bytes: &[u8]) {
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let mut block = [0xEE; HEADER_BLOCK_BYTES];
    header.encode_into(&mut block);
    assert_eq!(block, bytes[..HEADER_BLOCK_BYTES]);

    let scan = scan_tail(bytes, &header, Lsn::ZERO);
    assert!(scan.last_lsn >= header.first_lsn.prev());
    assert!(scan.end <= header.data_end() && scan.end <= bytes.len() as u64);
    assert!(scan.discard_start >= scan.end && scan.discard_start <= scan.discard_end);
    assert!(scan.discard_end <= header.data_end() && scan.discard_end <= bytes.len() as u64);
    assert!(scan.tables.index().len() as u64 <= header.segment_bytes / (32 << 10) + 1);
    check_frames(bytes, &header, &scan);
    check_verdicts(&header, &scan);
    check_discard(bytes, &header, &scan);
    check_footer(bytes, &header);

    // Frames of bytes that nobody looked at yet: an end, and no more of them than fit.
    let walk = Walk::from_start(header.incarnation).verified(false);
    assert!(Frames::new(bytes, walk).count() <= bytes.len() / 32 + 1);
}

/// Every record up to the end can be read, and a scan up to a known end finds the same one.
fn check_frames(bytes: &[u8], header: &SegmentHeader, scan: &TailScan) {
    let (mut next, mut has_gaps) = (header.first_lsn, false);
    for step in Frames::new(&bytes[..index(scan.end)], Walk::from_start(header.incarnation)) {
        let (place, frame) = step.expect("a frame that the scan took");
        assert_eq!(frame.header().lsn, next);
        assert_eq!(scan.tables.epoch_of(next), Some(frame.header().epoch));
        let entry = scan.tables.find(next).expect("an entry at or before each frame");
        assert!(entry.frame <= place.frame && entry.lsn <= next);
        next = frame.header().last_lsn().next();
        has_gaps |= frame.header().kind == FrameKind::Gap;
    }
    assert_eq!((next, has_gaps), (scan.last_lsn.next(), scan.has_gaps));
    let again = rescan_sealed(bytes, header, scan.last_lsn);
    assert_eq!((again.end, again.digest, again.verdict), (scan.end, scan.digest, Verdict::Clean));
    assert_eq!(again.tables, scan.tables);
}

/// A verdict is a loss exactly if the next record is vouched for.
fn check_verdicts(header: &SegmentHeader, scan: &TailScan) {
    let next = scan.last_lsn.next();
    let known = scan.later.map_or(Lsn::ZERO, |later| later.durable_through);
    assert_eq!(scan.verdict.is_loss(), known >= next);
    for durable in [scan.last_lsn, next] {
        let verdict = scan.judge(durable);
        assert_eq!(verdict.is_loss(), known.max(durable) >= next);
        if let Verdict::Rot { bytes, first, last } | Verdict::Hole { bytes, first, last } = verdict {
            assert!(bytes.start >= scan.end && bytes.end <= header.segment_bytes.max(bytes.start));
            assert!(first >= next && first <= last);
        }
    }
}

/// After a discard the log ends where it did, and nothing of its own is left behind.
fn check_discard(bytes: &[u8], header: &SegmentHeader, scan: &TailScan) {
    let mut wiped = bytes.to_vec();
    wiped[index(scan.discard_start)..index(scan.discard_end)].fill(0);
    let clean = scan_tail(&wiped, header, scan.last_lsn);
    assert_eq!((clean.end, clean.digest, clean.later), (scan.end, scan.digest, None));
    assert!(matches!(clean.verdict, Verdict::Clean | Verdict::Stale { .. }));
}

/// A footer that is taken is encoded to the same bytes again.
fn check_footer(bytes: &[u8], header: &SegmentHeader) {
    let Some(region) = bytes.get(index(header.data_end())..index(header.segment_bytes)) else { return };
    let Ok(view) = FooterView::parse(region) else { return };
    let mut again = vec![0xEE; region.len()];
    view.footer().encode_into(&view.to_tables(), &mut again);
    assert!(again == region);
}

/// A position in a file, as an index into its bytes.
pub(crate) fn index(position: u64) -> usize {
    position.try_into().expect("as small as the bytes")
}
