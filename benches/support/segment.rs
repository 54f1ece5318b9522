//! A segment to measure with.

use annals::format::{
    BLOCK_BYTES, Digest, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, Incarnation, SegmentHeader, Stamp,
    footer_bytes_for, frame_bytes, write_record,
};
use annals::{Epoch, LogId, Lsn, SegmentId};

/// A segment of `segment_bytes` full of groups of 64 KiB, or of one frame with `size` bytes, and its header.
pub(crate) fn filled(segment_bytes: u64, size: usize) -> (Vec<u8>, SegmentHeader) {
    let header = SegmentHeader {
        log_id: LogId::new(1),
        incarnation: Incarnation::new(2),
        segment_id: SegmentId::FIRST,
        first_lsn: Lsn::FIRST,
        epoch: Epoch::FIRST,
        previous_digest: Digest::ZERO,
        segment_bytes,
        footer_bytes: footer_bytes_for(segment_bytes),
    };
    let mut bytes = vec![0; segment_bytes as usize];
    header.encode_into(&mut bytes);
    let (mut at, mut next) = (BLOCK_BYTES, Lsn::FIRST);
    let payload = vec![0x5A; size];
    // What a group takes at most.
    let room = BLOCK_BYTES + (64 << 10) + frame_bytes(size as u64) as usize;
    while at + room < header.data_end() as usize {
        let mut frames = Vec::new();
        while frames.len() < 64 << 10 {
            let mut frame = vec![0; frame_bytes(size as u64) as usize];
            write_record(&mut frame, Stamp { lsn: next, epoch: Epoch::FIRST }, &payload);
            frames.extend(frame);
            next = next.next();
        }
        let place = GroupPlace { incarnation: header.incarnation, position: at as u64 };
        GroupHeader::over(&frames, place, Lsn::ZERO).encode_into(&mut bytes[at..]);
        bytes[at + GROUP_HEADER_BYTES..][..frames.len()].copy_from_slice(&frames);
        at = (at + GROUP_HEADER_BYTES + frames.len()).next_multiple_of(BLOCK_BYTES);
    }
    (bytes, header)
}
