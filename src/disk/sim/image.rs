//! The contents of a simulated file at one moment, kept as sparse pages that copies share.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

pub(super) const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE_BYTES as usize];

static ZEROS: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE_BYTES as usize]));

/// Contents and length of a file. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Image {
    /// By number; a page that is absent was never written, and reads as zeros.
    pages: BTreeMap<u64, Arc<Page>>,
    pub(super) bytes: u64,
    /// Pages that no program can read.
    unreadable: BTreeSet<u64>,
}

/// One change to a file that the operating system has accepted.
#[derive(Clone)]
pub(super) enum Change {
    /// New bytes from `offset` on, growing the file as needed.
    Bytes { offset: u64, bytes: Arc<[u8]> },
    /// Real zeros from the start of the file up to `end`.
    Zeros { end: u64 },
    /// Growth to this length.
    Length(u64),
}

impl Change {
    /// The bytes that it writes.
    pub(super) fn range(&self) -> Range<u64> {
        match self {
            Change::Bytes { offset, bytes } => *offset..offset + bytes.len() as u64,
            Change::Zeros { end } => 0..*end,
            Change::Length(_) => 0..0,
        }
    }

    /// The length that the file has at least, after it.
    pub(super) fn length(&self) -> u64 {
        match self {
            Change::Length(bytes) => *bytes,
            _ => self.range().end,
        }
    }

    /// Only the part of it that lies in `within`, with the length left out, applied to `bytes` there.
    pub(super) fn apply_within(&self, within: Range<u64>, bytes: &mut [u8]) {
        let own = self.range();
        let (start, end) = (own.start.max(within.start), own.end.min(within.end));
        if start >= end {
            return;
        }
        let to = &mut bytes[(start - within.start) as usize..(end - within.start) as usize];
        match self {
            Change::Bytes { offset, bytes } => {
                to.copy_from_slice(&bytes[(start - offset) as usize..(end - offset) as usize]);
            }
            _ => to.fill(0),
        }
    }
}

impl Image {
    /// Lets the pages that hold a byte of the range be read no more, until they are written as a whole.
    pub(super) fn break_pages(&mut self, range: &Range<u64>) {
        self.unreadable.extend(range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES));
    }

    /// Whether all of the range can be read.
    pub(super) fn is_readable(&self, range: &Range<u64>) -> bool {
        let pages = range.start / PAGE_BYTES..range.end.min(self.bytes).div_ceil(PAGE_BYTES);
        pages.is_empty() || self.unreadable.range(pages).next().is_none()
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Bytes { offset, bytes } => self.write(bytes, *offset),
            Change::Zeros { end } => self.zero(*end),
            Change::Length(bytes) => self.bytes = self.bytes.max(*bytes),
        }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8], mut offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.bytes = self.bytes.max(offset + bytes.len() as u64);
        while !bytes.is_empty() {
            let within = (offset % PAGE_BYTES) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_BYTES as usize - within));
            if now.len() as u64 == PAGE_BYTES {
                self.unreadable.remove(&(offset / PAGE_BYTES));
            }
            let page = self.pages.entry(offset / PAGE_BYTES).or_insert_with(|| Arc::clone(&ZEROS));
            if page[within..within + now.len()] != *now {
                Arc::make_mut(page)[within..within + now.len()].copy_from_slice(now);
            }
            offset += now.len() as u64;
            bytes = later;
        }
    }

    fn zero(&mut self, end: u64) {
        for number in 0..end / PAGE_BYTES {
            self.unreadable.remove(&number);
            self.pages.insert(number, Arc::clone(&ZEROS));
        }
        self.write(&vec![0; (end % PAGE_BYTES) as usize], end - end % PAGE_BYTES);
        self.bytes = self.bytes.max(end);
    }

    /// Fills `buf` from `offset`; returns fewer bytes only at the end of the file.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let bytes = self.bytes.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.peek(&mut buf[..bytes], offset);
        bytes
    }

    /// Fills `buf` from `offset`, with zeros where nothing is; the length of the file does not matter.
    pub(super) fn peek(&self, buf: &mut [u8], offset: u64) {
        buf.fill(0);
        let end = offset + buf.len() as u64;
        for (number, page) in self.pages.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let at = number * PAGE_BYTES;
            let (from, to) = (at.max(offset), (at + PAGE_BYTES).min(end));
            let part = &page[(from - at) as usize..(to - at) as usize];
            buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        }
    }

    pub(super) fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes as usize];
        self.peek(&mut bytes, 0);
        bytes
    }

    /// Cuts or grows the file to `bytes`; what was cut off reads as zeros if it comes back.
    pub(super) fn set_length(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.pages.split_off(&bytes.div_ceil(PAGE_BYTES));
            let within = (bytes % PAGE_BYTES) as usize;
            if let Some(page) = self.pages.get_mut(&(bytes / PAGE_BYTES)) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.bytes = bytes;
    }

    /// The pages that hold something, each with its offset.
    pub(super) fn written(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(number, page)| (number * PAGE_BYTES, &page[..]))
    }

    /// How many of the pages in `range` were never written.
    pub(super) fn holes(&self, range: Range<u64>) -> u64 {
        let pages = range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES);
        if pages.is_empty() {
            return 0;
        }
        pages.end - pages.start - self.pages.range(pages).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_of(bytes: &[u8]) -> Image {
        let mut image = Image::default();
        image.write(bytes, 0);
        image
    }

    #[test]
    fn bytes_are_read_back_as_written_across_pages_and_holes() {
        let mut image = image_of(b"start");
        image.write(&[7; 5000], 4000);
        let mut buf = [1; 10];
        assert_eq!(image.read(&mut buf, 3995), 10);
        assert_eq!(buf, [0, 0, 0, 0, 0, 7, 7, 7, 7, 7]);
        assert_eq!(image.read(&mut buf, 8995), 5);
        assert_eq!(image.bytes, 9000);
        assert_eq!(&image.contents()[..6], b"start\0");
    }

    #[test]
    fn a_file_far_past_four_gigabytes_takes_only_what_is_written() {
        let mut image = Image::default();
        image.write(b"far", 5 << 32);
        let mut buf = [0; 3];
        assert_eq!(image.read(&mut buf, 5 << 32), 3);
        assert_eq!((&buf, image.written().count()), (b"far", 1));
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut image = image_of(&[9; 9000]);
        image.set_length(5000);
        image.set_length(9000);
        assert_eq!(image.contents(), [vec![9; 5000], vec![0; 4000]].concat());
    }

    #[test]
    fn zeros_reach_exactly_to_their_end() {
        let mut image = image_of(&[9; 9000]);
        image.apply(&Change::Zeros { end: 5000 });
        assert_eq!(image.contents(), [vec![0; 5000], vec![9; 4000]].concat());
        assert_eq!(image.holes(0..40960), 7);
    }
}
