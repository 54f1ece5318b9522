//! A segment small enough for every bit of it, and what only these tests do with it.

use std::ops::Range;

use annals::format::{BLOCK_BYTES, Digest, Incarnation, SegmentHeader, footer_bytes_for};
use annals::{Epoch, LogId, Lsn, SegmentId};

use annals_fixtures::segment::{Builder, index};

/// A segment small enough to flip each of its bits: four blocks of data.
pub(crate) const SMALL: u64 = 8 * BLOCK_BYTES as u64;

/// A small first segment, without a group.
pub(crate) fn log() -> Builder {
    Builder::with(header(SMALL))
}

/// The header of a first segment of this size.
pub(crate) fn header(segment_bytes: u64) -> SegmentHeader {
    SegmentHeader {
        log_id: LogId::new(0x00AA_11BB_22CC_33DD_44EE_55FF_6677_8899),
        incarnation: Incarnation::new(0x1234_5678_9ABC_DEF1),
        segment_id: SegmentId::FIRST,
        first_lsn: Lsn::FIRST,
        epoch: Epoch::FIRST,
        previous_digest: Digest::ZERO,
        segment_bytes,
        footer_bytes: footer_bytes_for(segment_bytes),
    }
}

/// Zeros a range, as the repair of a torn tail does.
pub(crate) fn wipe(bytes: &mut [u8], range: Range<u64>) {
    bytes[index(range.start)..index(range.end)].fill(0);
}
