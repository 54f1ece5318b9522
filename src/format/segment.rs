//! The block at the start of a segment, and how much the footer at its end takes.

use std::fmt;

use super::checksum::{Digest, block_checksum};
use super::layout::{
    BLOCK_BYTES, EPOCH_STARTS_MAX, FOOTER_BLOCK_BYTES, HEADER_BLOCK_BYTES, INDEX_STRIDE_BYTES,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_MAGIC, VERSION, all_zero, block_up, epoch_start,
    index_entry, preamble, segment,
};
use super::verdict::BadBlock;
use crate::types::{Epoch, LogId, Lsn, SegmentId};

/// One life of a file: drawn at random each time that a segment begins in it, also when it is recycled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The life with this number.
    #[must_use]
    pub const fn new(number: u64) -> Incarnation {
        Incarnation(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({:016x})", self.0)
    }
}

/// What a segment says of itself at its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The log that the segment belongs to.
    pub log_id: LogId,
    /// The life of the file.
    pub incarnation: Incarnation,
    /// The segment's place among the log's segments.
    pub segment_id: SegmentId,
    /// LSN of the first record.
    pub first_lsn: Lsn,
    /// The epoch in force when the segment was begun: no frame in it has a lower one.
    pub epoch: Epoch,
    /// End digest of the segment before; [`Digest::ZERO`] for the first one.
    pub previous_digest: Digest,
    /// Size of the file, in bytes: whole blocks.
    pub segment_bytes: u64,
    /// Size of the footer at the end of the file, in bytes: whole blocks.
    pub footer_bytes: u64,
}

impl SegmentHeader {
    /// Reads and checks the first block of a segment.
    ///
    /// # Errors
    /// [`BadBlock`]; a block that is too short is damaged.
    pub fn decode(block: &[u8]) -> Result<SegmentHeader, BadBlock> {
        let Some(block) = block.get(..HEADER_BLOCK_BYTES) else { return Err(BadBlock::Damaged) };
        check_block(block, SEGMENT_MAGIC)?;
        let header = SegmentHeader {
            log_id: LogId::new(segment::LOG_ID.get(block)),
            incarnation: Incarnation::new(segment::INCARNATION.get(block)),
            segment_id: SegmentId::new(segment::SEGMENT_ID.get(block)),
            first_lsn: Lsn::new(segment::FIRST_LSN.get(block)),
            epoch: Epoch::new(segment::EPOCH.get(block)),
            previous_digest: Digest::new(segment::PREVIOUS_DIGEST.get(block)),
            segment_bytes: segment::SEGMENT_BYTES.get(block),
            footer_bytes: segment::FOOTER_BYTES.get(block),
        };
        let sound = header.is_possible() && all_zero(&block[segment::BYTES..]);
        if sound { Ok(header) } else { Err(BadBlock::Damaged) }
    }

    /// Writes the header over the first block of `block`.
    ///
    /// # Panics
    /// If the sizes cannot be: they would be refused when they are read.
    pub fn encode_into(&self, block: &mut [u8]) {
        assert!(self.is_possible(), "a segment of whole blocks with room for a group and its footer");
        let block = &mut block[..HEADER_BLOCK_BYTES];
        block.fill(0);
        segment::LOG_ID.put(block, self.log_id.get());
        segment::INCARNATION.put(block, self.incarnation.get());
        segment::SEGMENT_ID.put(block, self.segment_id.get());
        segment::FIRST_LSN.put(block, self.first_lsn.get());
        segment::EPOCH.put(block, self.epoch.get());
        segment::PREVIOUS_DIGEST.put(block, self.previous_digest.get());
        segment::SEGMENT_BYTES.put(block, self.segment_bytes);
        segment::FOOTER_BYTES.put(block, self.footer_bytes);
        seal_block(block, SEGMENT_MAGIC);
    }

    /// Where groups have to end, as a position in the file: the footer begins there.
    #[must_use]
    pub const fn data_end(&self) -> u64 {
        self.segment_bytes - self.footer_bytes
    }

    fn is_possible(&self) -> bool {
        let whole = |bytes: u64| bytes.is_multiple_of(BLOCK_BYTES as u64);
        let sizes = whole(self.segment_bytes)
            && whole(self.footer_bytes)
            && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            // Nothing else is written; whoever reads the footer may hold so much of it in memory.
            && self.footer_bytes == footer_bytes_for(self.segment_bytes)
            && self.footer_bytes <= self.segment_bytes - 2 * BLOCK_BYTES as u64;
        let is_numbered = (SegmentId::FIRST..=SegmentId::LAST).contains(&self.segment_id);
        sizes && (Lsn::FIRST..=Lsn::LAST).contains(&self.first_lsn) && is_numbered
    }
}

/// How many bytes at the end of a segment of `segment_bytes` the footer takes, whatever is in it.
#[must_use]
pub const fn footer_bytes_for(segment_bytes: u64) -> u64 {
    let entries = segment_bytes / INDEX_STRIDE_BYTES + 1;
    let index_bytes = entries * index_entry::BYTES as u64;
    let epoch_bytes = (EPOCH_STARTS_MAX * epoch_start::BYTES) as u64;
    block_up(index_bytes + epoch_bytes) + FOOTER_BLOCK_BYTES as u64
}

const _: () = assert!(SEGMENT_BYTES_MIN == footer_bytes_for(SEGMENT_BYTES_MIN) + 2 * BLOCK_BYTES as u64);

/// Checks magic, checksum and version of a block that begins with a preamble.
///
/// The checksum is judged before the version, so that a damaged version number is not taken for a newer
/// one; in exchange every version to come keeps preamble and checksum as they are.
pub(super) fn check_block(block: &[u8], magic: [u8; 8]) -> Result<(), BadBlock> {
    if preamble::MAGIC.get(block) != magic {
        return Err(if all_zero(block) { BadBlock::Blank } else { BadBlock::Damaged });
    }
    if preamble::CHECKSUM.get(block) != block_checksum(block) {
        return Err(BadBlock::Damaged);
    }
    match preamble::VERSION.get(block) {
        VERSION => Ok(()),
        found if found > VERSION => Err(BadBlock::Newer { found }),
        _ => Err(BadBlock::Damaged),
    }
}

/// Completes a block whose fields are in their places with its preamble.
pub(super) fn seal_block(block: &mut [u8], magic: [u8; 8]) {
    preamble::MAGIC.put(block, magic);
    preamble::VERSION.put(block, VERSION);
    let checksum = block_checksum(block);
    preamble::CHECKSUM.put(block, checksum);
}
