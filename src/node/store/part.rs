//! One segment of the store's log.

use std::sync::Arc;

use super::source::{Source, read_twice};
use crate::disk::{Access, File};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, GROUP_HEADER_BYTES, HEADER_BLOCK_BYTES, SegmentHeader, footer_bytes_for};
use crate::log::store::Files;
use crate::segment::{Extent, Sealed, Tail, segment_name};
use crate::types::Lsn;

/// One segment of the store's log.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) header: SegmentHeader,
    /// Its name now.
    pub(super) name: Arc<str>,
    /// Open as long as it may be written to: a log may have very many of those that are sealed.
    pub(super) file: Option<Arc<dyn File>>,
    /// How far it reaches; without tables and groups if it was found sealed.
    pub(super) extent: Extent,
    pub(super) is_sealed: bool,
    /// Whether it has the name that it has for good.
    pub(super) is_named: bool,
    /// Whether the header is still to be written, with the first group.
    pub(super) is_headless: bool,
}

impl Part {
    /// A segment as recovery has found it.
    pub(super) fn of_sealed(sealed: &Sealed) -> Part {
        let mut extent = Extent::empty(sealed.header());
        (extent.end, extent.last, extent.digest) = (sealed.end(), sealed.last_lsn(), sealed.digest());
        Part {
            header: *sealed.header(),
            name: sealed.name().into(),
            file: None,
            extent,
            is_sealed: true,
            is_named: true,
            is_headless: false,
        }
    }

    /// The tail as recovery has found it, or as it was just begun.
    pub(super) fn of_tail(tail: &Tail) -> Part {
        let extent = tail.with_extent(Extent::clone);
        Part::new(*tail.header(), tail.name(), Arc::clone(tail.file()), extent)
    }

    pub(super) fn new(header: SegmentHeader, name: Arc<str>, file: Arc<dyn File>, extent: Extent) -> Part {
        let is_named = *name == *segment_name(header.first_lsn);
        Part { header, name, file: Some(file), extent, is_sealed: false, is_named, is_headless: false }
    }

    /// Takes note that it has its footer: nothing is written to it any more.
    pub(super) fn sealed(mut self) -> Part {
        self.seal();
        self
    }

    /// The same.
    pub(super) fn seal(&mut self) {
        (self.is_sealed, self.file) = (true, None);
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

    /// How many bytes of frames a group may have that is written next, and how many epochs may begin in it.
    pub(super) fn room(&self) -> (u64, usize) {
        let taken = self.extent.end + GROUP_HEADER_BYTES as u64;
        (self.header.data_end().saturating_sub(taken), self.extent.tables.epochs_left())
    }

    /// The segment's file.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn file(&self, files: &Files) -> Result<Arc<dyn File>> {
        match &self.file {
            Some(file) => Ok(Arc::clone(file)),
            None => files.open(&self.name, Access::ReadWrite),
        }
    }

    /// What counts of it, to be read.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn source(&self, files: &Files) -> Result<Source> {
        let (file, name) = (self.file(files)?, Arc::clone(&self.name));
        Ok(Source { file, header: self.header, name, end: self.extent.end, last: self.last() })
    }

    /// The bytes from the start of the file up to the end of what counts.
    pub(super) fn bytes(&self, files: &Files) -> Result<Vec<u8>> {
        let end = usize::try_from(self.extent.end).expect("a segment that fits in memory");
        let mut bytes = vec![0; end];
        let there = read_twice(&*self.file(files)?, &mut bytes, 0);
        bytes.truncate(there.ok_or_else(|| self.rot(0..self.extent.end, self.header.first_lsn))?);
        Ok(bytes)
    }

    /// What stands before the end of what counts in its block.
    pub(super) fn last_block(&self, files: &Files) -> Result<Vec<u8>> {
        let used = self.extent.end % BLOCK_BYTES as u64;
        let mut block = vec![0; usize::try_from(used).expect("less than a block")];
        let there = read_twice(&*self.file(files)?, &mut block, self.extent.end - used);
        if there == Some(block.len()) {
            Ok(block)
        } else {
            Err(self.rot(self.extent.end - used..self.extent.end, self.last()))
        }
    }

    /// The error for bytes that do not check, where the record `first` was to be read.
    pub(super) fn rot(&self, bytes: std::ops::Range<u64>, first: Lsn) -> Error {
        Error::Rot { file: self.name.clone(), bytes, first, last: self.last().max(first) }
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
