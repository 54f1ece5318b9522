//! One segment of the store's log.

use std::sync::Arc;

use crate::disk::{Access, File};
use crate::error::Result;
use crate::format::{BLOCK_BYTES, GROUP_HEADER_BYTES, HEADER_BLOCK_BYTES, SegmentHeader, footer_bytes_for};
use crate::log::store::Files;
use crate::segment::{Extent, Sealed, Tail, segment_name};
use crate::types::{Epoch, Lsn};

/// One segment of the store's log.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) header: SegmentHeader,
    /// Its name now.
    pub(super) name: Arc<str>,
    pub(super) file: Arc<dyn File>,
    /// How far it reaches; without tables and groups if it is sealed.
    pub(super) extent: Extent,
    pub(super) is_sealed: bool,
    /// Whether it has the name that it has for good.
    pub(super) is_named: bool,
    /// Whether something was written that is not synced.
    pub(super) is_dirty: bool,
    /// Whether the header is still to be written, with the first group.
    pub(super) is_headless: bool,
}

impl Part {
    /// A segment as recovery has found it.
    pub(super) fn of_sealed(files: &Files, sealed: &Sealed) -> Result<Part> {
        let name: Arc<str> = sealed.name().into();
        let mut extent = Extent::empty(sealed.header());
        (extent.end, extent.last, extent.digest) = (sealed.end(), sealed.last_lsn(), sealed.digest());
        let file = files.open(&name, Access::ReadWrite)?;
        Ok(Part { is_sealed: true, ..Part::new(*sealed.header(), name, file, extent) })
    }

    /// The tail as recovery has found it, or as it was just begun.
    pub(super) fn of_tail(tail: &Tail) -> Part {
        let extent = tail.with_extent(Extent::clone);
        Part::new(*tail.header(), tail.name(), Arc::clone(tail.file()), extent)
    }

    pub(super) fn new(header: SegmentHeader, name: Arc<str>, file: Arc<dyn File>, extent: Extent) -> Part {
        let is_named = *name == *segment_name(header.first_lsn);
        Part { header, name, file, extent, is_sealed: false, is_named, is_dirty: false, is_headless: false }
    }

    /// The name that it has for good.
    pub(super) fn final_name(&self) -> String {
        segment_name(self.header.first_lsn)
    }

    pub(super) fn last(&self) -> Lsn {
        self.extent.last
    }

    pub(super) fn is_empty(&self) -> bool {
        self.extent.last < self.header.first_lsn
    }

    /// Where a group with so many bytes of frames goes; `None` if it has no room here.
    ///
    /// A group that is written while another is not synced begins at a fresh block.
    pub(super) fn place(&self, frame_bytes: u64, epoch: Epoch) -> Option<u64> {
        let end = self.extent.end;
        let position = if self.is_dirty { end.next_multiple_of(BLOCK_BYTES as u64) } else { end };
        let tables = &self.extent.tables;
        let takes_epoch =
            tables.epochs_left() > 0 || tables.epochs().last().is_some_and(|start| start.epoch == epoch);
        let fits = position + GROUP_HEADER_BYTES as u64 + frame_bytes <= self.header.data_end();
        (fits && takes_epoch).then_some(position)
    }

    /// The bytes from the start of the file up to the end of what counts.
    pub(super) fn bytes(&self, files: &Files) -> Result<Vec<u8>> {
        let end = usize::try_from(self.extent.end).expect("a segment that fits in memory");
        let mut bytes = vec![0; end];
        let there = files.io("read", &self.name, self.file.read_at(&mut bytes, 0))?;
        bytes.truncate(there);
        Ok(bytes)
    }
}

/// Bytes of a segment with room for one group of so many bytes of frames; at least `least`.
pub(super) fn segment_bytes_for(frame_bytes: u64, least: u64) -> u64 {
    let group = (GROUP_HEADER_BYTES as u64 + frame_bytes).next_multiple_of(BLOCK_BYTES as u64);
    let data = HEADER_BLOCK_BYTES as u64 + group;
    let mut segment_bytes = least.max(data + footer_bytes_for(data));
    // The footer grows with the segment, by far less than the segment.
    while segment_bytes - footer_bytes_for(segment_bytes) < data {
        segment_bytes += BLOCK_BYTES as u64;
    }
    segment_bytes
}
