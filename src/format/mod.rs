//! Bytes to values and back: the only room where an offset is written.
//!
//! Pure: takes slices and returns values. Imports `types`, `error` and `sync`; never opens a file, reads a
//! clock or starts a thread. Everything here is decoded from bytes that nobody vouches for: lengths are
//! bounded by the slice before they are used, and nothing is allocated by a length that was read.
//!
//! The specification is `docs/format.md`; offsets are in `layout.rs` alone.

mod checksum;
mod correct;
mod extract;
mod footer;
mod frame;
mod group;
mod layout;
mod scan;
mod segment;
mod snapshot;
mod stream;
mod superblock;
mod tables;
mod verdict;
mod walk;

pub use checksum::{Digest, RunningCrc, crc32};
pub use correct::{
    Flip, correct_frame, correct_group, correct_segment_header, correct_slot, correct_trailer,
    flip_among_zeros, flip_in_message, frame_flip, lengths_near, stated_checksum, stated_length,
};
pub use extract::{Extract, ExtractEntries, ExtractHead, Said};
pub(crate) use footer::TableSizes;
pub use footer::{Footer, FooterKind, FooterView};
pub use frame::{
    BatchView, Frame, FrameHeader, FrameKind, Origin, Stamp, batch_payload_bytes, frame_bytes,
    produced_payload_bytes, write_batch, write_control, write_epoch_start, write_gap, write_produced,
    write_record,
};
pub use group::{GroupHeader, GroupPlace};
pub use layout::{
    BLOCK_BYTES, EPOCH_STARTS_MAX, FOOTER_BLOCK_BYTES, FRAME_ALIGN, FRAME_HEADER_BYTES, GROUP_HEADER_BYTES,
    HEADER_BLOCK_BYTES, INDEX_STRIDE_BYTES, MARK_BYTES_MAX, PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SLOT_BYTES, SUPERBLOCK_BYTES, VERSION, all_zero, block_up,
};
pub use scan::{LaterGroups, TailScan, rescan_sealed, scan_tail};
pub use segment::{Incarnation, SegmentHeader, footer_bytes_for};
pub use snapshot::{CHUNK_HEADER_BYTES, Chunk, SnapshotHead, write_chunk};
pub use stream::FrameCheck;
pub use superblock::{Chosen, CleanTail, Mark, Superblock, Vote, choose_slot};
pub use tables::{EpochStart, EpochView, IndexEntry, IndexView, Tables};
pub use verdict::{BadBlock, Damage, Fault, Verdict};
pub use walk::{Frames, Place, Walk};
