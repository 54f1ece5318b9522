//! The footer of a segment: its tables, and a trailer in the file's last block.

use super::checksum::{Digest, crc32};
use super::layout::{
    EPOCH_STARTS_MAX, FOOTER_BLOCK_BYTES, FOOTER_MAGIC, FRAME_ALIGN, HEADER_BLOCK_BYTES, SEGMENT_BYTES_MAX,
    all_zero, epoch_start, index_entry, trailer,
};
use super::segment::{Incarnation, SegmentHeader, check_block, seal_block};
use super::tables::{EpochView, IndexView, Tables};
use super::verdict::BadBlock;
use crate::types::{LogId, Lsn, SegmentId};

/// Why a footer was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FooterKind {
    /// The segment is complete: nothing is appended to it any more.
    Sealed,
    /// The log was closed with this segment as its tail. Valid only while the superblock says the same.
    Parked,
}

/// What a footer says of its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footer {
    /// Why it was written.
    pub kind: FooterKind,
    /// The log that the segment belongs to.
    pub log_id: LogId,
    /// The life of the file.
    pub incarnation: Incarnation,
    /// The segment's place among the log's segments.
    pub segment_id: SegmentId,
    /// LSN of the first record.
    pub first_lsn: Lsn,
    /// LSN of the last record; the one before `first_lsn` if there are none.
    pub last_lsn: Lsn,
    /// Where the last frame ends, as a position in the file; what follows it is stale.
    pub end: u64,
    /// How many groups there are; one that was cut by a truncation counts.
    pub groups: u64,
    /// The segment's end digest.
    pub digest: Digest,
    /// When it was written, in milliseconds since 1970.
    pub sealed_at_ms: u64,
}

impl Footer {
    /// The footer of the segment with this header; what only the caller knows is left at the segment's start.
    #[must_use]
    pub const fn of(header: &SegmentHeader, kind: FooterKind) -> Footer {
        Footer {
            kind,
            log_id: header.log_id,
            incarnation: header.incarnation,
            segment_id: header.segment_id,
            first_lsn: header.first_lsn,
            last_lsn: header.first_lsn.prev(),
            end: HEADER_BLOCK_BYTES as u64,
            groups: 0,
            digest: header.previous_digest,
            sealed_at_ms: 0,
        }
    }

    /// Reads and checks the last block of a segment alone, without the tables.
    ///
    /// # Errors
    /// [`BadBlock`]; a block that is too short is damaged.
    pub fn decode(block: &[u8]) -> Result<Footer, BadBlock> {
        Trailer::decode(block).map(|trailer| trailer.footer)
    }

    /// Writes the whole footer: `tables` at the start of `region`, and the trailer in its last block.
    ///
    /// # Panics
    /// If `region` is not the segment's `footer_bytes` long, so that the tables do not fit.
    pub fn encode_into(&self, tables: &Tables, region: &mut [u8]) {
        assert!(self.is_possible(), "a footer that will be taken when it is read");
        let table_space = region.len() - FOOTER_BLOCK_BYTES;
        assert!(tables.bytes() <= table_space, "the footer's size is for the worst case");
        region.fill(0);
        let (space, block) = region.split_at_mut(table_space);
        tables.encode_into(space);
        trailer::LOG_ID.put(block, self.log_id.get());
        trailer::INCARNATION.put(block, self.incarnation.get());
        trailer::SEGMENT_ID.put(block, self.segment_id.get());
        trailer::FIRST_LSN.put(block, self.first_lsn.get());
        trailer::LAST_LSN.put(block, self.last_lsn.get());
        trailer::END.put(block, self.end);
        trailer::RECORDS.put(block, self.records());
        trailer::GROUPS.put(block, self.groups);
        trailer::DIGEST.put(block, self.digest.get());
        trailer::SEALED_AT_MS.put(block, self.sealed_at_ms);
        let counted = |entries: usize| u32::try_from(entries).expect("tables bounded by the segment");
        trailer::INDEX_ENTRIES.put(block, counted(tables.index().len()));
        trailer::EPOCH_STARTS.put(block, counted(tables.epochs().len()));
        trailer::TABLE_CHECKSUM.put(block, crc32(space));
        trailer::KIND.put(block, self.kind.code());
        seal_block(block, FOOTER_MAGIC);
    }

    /// How many records the segment holds.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.last_lsn.get() + 1 - self.first_lsn.get()
    }

    /// Whether this footer was written for the segment with this header, in this life of the file.
    #[must_use]
    pub fn is_of(&self, header: &SegmentHeader) -> bool {
        self.log_id == header.log_id
            && self.incarnation == header.incarnation
            && self.segment_id == header.segment_id
            && self.first_lsn == header.first_lsn
            && self.end <= header.data_end()
    }

    fn is_possible(&self) -> bool {
        let end = (HEADER_BLOCK_BYTES as u64..SEGMENT_BYTES_MAX).contains(&self.end)
            && self.end.is_multiple_of(FRAME_ALIGN as u64);
        let lsns = self.first_lsn > Lsn::ZERO
            && self.last_lsn <= Lsn::LAST
            && self.last_lsn.next() >= self.first_lsn;
        end && lsns && (SegmentId::FIRST..=SegmentId::LAST).contains(&self.segment_id)
    }
}

impl FooterKind {
    const fn code(self) -> u32 {
        match self {
            FooterKind::Sealed => 1,
            FooterKind::Parked => 2,
        }
    }

    const fn from_code(code: u32) -> Option<FooterKind> {
        match code {
            1 => Some(FooterKind::Sealed),
            2 => Some(FooterKind::Parked),
            _ => None,
        }
    }
}

/// A footer and its tables, read where they are stored.
#[derive(Clone, Copy, Debug)]
pub struct FooterView<'a> {
    footer: Footer,
    index: &'a [u8],
    epochs: &'a [u8],
}

impl<'a> FooterView<'a> {
    /// Reads and checks the whole footer, the last `footer_bytes` of a segment.
    ///
    /// # Errors
    /// [`BadBlock`], also if only the tables do not check.
    pub fn parse(region: &'a [u8]) -> Result<FooterView<'a>, BadBlock> {
        let table_space = region.len().checked_sub(FOOTER_BLOCK_BYTES).ok_or(BadBlock::Damaged)?;
        let (space, block) = region.split_at(table_space);
        let trailer = Trailer::decode(block)?;
        if crc32(space) != trailer.table_checksum {
            return Err(BadBlock::Damaged);
        }
        let index_bytes = trailer.index_entries as usize * index_entry::BYTES;
        let epoch_bytes = trailer.epoch_starts as usize * epoch_start::BYTES;
        let (index, rest) = space.split_at_checked(index_bytes).ok_or(BadBlock::Damaged)?;
        let (epochs, unused) = rest.split_at_checked(epoch_bytes).ok_or(BadBlock::Damaged)?;
        let view = FooterView { footer: trailer.footer, index, epochs };
        if all_zero(unused) && view.tables_are_possible() { Ok(view) } else { Err(BadBlock::Damaged) }
    }

    /// What the trailer says.
    #[must_use]
    pub const fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The sparse index.
    #[must_use]
    pub fn index(&self) -> IndexView<'a> {
        IndexView::new(self.index)
    }

    /// The epochs.
    #[must_use]
    pub fn epochs(&self) -> EpochView<'a> {
        EpochView::new(self.epochs)
    }

    /// The tables as they were when the footer was written, to go on with a segment that was parked.
    #[must_use]
    pub fn to_tables(&self) -> Tables {
        Tables::of(self.index().iter().collect(), self.epochs().iter().collect())
    }

    /// Where the tables lie in the region: the index, then the epochs. For one who keeps a map of the file.
    #[must_use]
    pub const fn table_bytes(&self) -> (usize, usize) {
        (self.index.len(), self.epochs.len())
    }

    fn tables_are_possible(&self) -> bool {
        let Footer { first_lsn, last_lsn, end, .. } = self.footer;
        let rising = self.index().iter().is_sorted_by(|a, b| a.lsn < b.lsn && a.frame < b.frame)
            && self.epochs().iter().is_sorted_by(|a, b| a.epoch < b.epoch && a.first_lsn < b.first_lsn);
        let inside = |entry: super::tables::IndexEntry| {
            entry.lsn <= last_lsn && entry.group < entry.frame && entry.frame < end
        };
        let empty = last_lsn < first_lsn;
        rising
            && self.index().iter().all(inside)
            && self.epochs().iter().all(|start| start.first_lsn <= last_lsn)
            && self.index().iter().next().map(|first| first.lsn) == (!empty).then_some(first_lsn)
            && self.epochs().iter().next().map(|first| first.first_lsn) == (!empty).then_some(first_lsn)
    }
}

/// How large the tables of a footer are, for one who reads them in parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TableSizes {
    /// Entries of the index.
    pub(crate) index: u32,
    /// Entries of the epochs, which follow.
    pub(crate) epochs: u32,
    /// CRC over the tables' space.
    pub(crate) checksum: u32,
}

impl TableSizes {
    /// Reads and checks the last block of a segment.
    ///
    /// # Errors
    /// [`BadBlock`]; a block that is too short is damaged.
    pub(crate) fn decode(block: &[u8]) -> Result<(Footer, TableSizes), BadBlock> {
        let Trailer { footer, index_entries, epoch_starts, table_checksum } = Trailer::decode(block)?;
        let sizes = TableSizes { index: index_entries, epochs: epoch_starts, checksum: table_checksum };
        Ok((footer, sizes))
    }
}

struct Trailer {
    footer: Footer,
    index_entries: u32,
    epoch_starts: u32,
    table_checksum: u32,
}

impl Trailer {
    fn decode(block: &[u8]) -> Result<Trailer, BadBlock> {
        let Some(block) = block.get(..FOOTER_BLOCK_BYTES) else { return Err(BadBlock::Damaged) };
        check_block(block, FOOTER_MAGIC)?;
        let kind = FooterKind::from_code(trailer::KIND.get(block)).ok_or(BadBlock::Damaged)?;
        let footer = Footer {
            kind,
            log_id: LogId::new(trailer::LOG_ID.get(block)),
            incarnation: Incarnation::new(trailer::INCARNATION.get(block)),
            segment_id: SegmentId::new(trailer::SEGMENT_ID.get(block)),
            first_lsn: Lsn::new(trailer::FIRST_LSN.get(block)),
            last_lsn: Lsn::new(trailer::LAST_LSN.get(block)),
            end: trailer::END.get(block),
            groups: trailer::GROUPS.get(block),
            digest: Digest::new(trailer::DIGEST.get(block)),
            sealed_at_ms: trailer::SEALED_AT_MS.get(block),
        };
        let epoch_starts = trailer::EPOCH_STARTS.get(block);
        let sound = footer.is_possible()
            && footer.records() == trailer::RECORDS.get(block)
            && epoch_starts as usize <= EPOCH_STARTS_MAX
            && trailer::ZERO.get(block) == 0
            && all_zero(&block[trailer::BYTES..]);
        let index_entries = trailer::INDEX_ENTRIES.get(block);
        let table_checksum = trailer::TABLE_CHECKSUM.get(block);
        let trailer = Trailer { footer, index_entries, epoch_starts, table_checksum };
        if sound { Ok(trailer) } else { Err(BadBlock::Damaged) }
    }
}
