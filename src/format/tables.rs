//! The tables of a footer: a sparse index by LSN, and where each epoch begins.

use super::frame::FrameHeader;
use super::layout::{EPOCH_STARTS_MAX, FRAME_ALIGN, INDEX_STRIDE_BYTES, epoch_start, index_entry};
use crate::types::{Epoch, Lsn};

/// Where a frame lies, and the group that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry {
    /// LSN of the frame's first record.
    pub lsn: Lsn,
    /// Position of the group's header in the file, in bytes.
    pub group: u64,
    /// Position of the frame's header in the file, in bytes.
    pub frame: u64,
}

impl IndexEntry {
    fn decode(bytes: &[u8]) -> IndexEntry {
        IndexEntry {
            lsn: Lsn::new(index_entry::LSN.get(bytes)),
            group: u64::from(index_entry::GROUP.get(bytes)) * FRAME_ALIGN as u64,
            frame: u64::from(index_entry::FRAME.get(bytes)) * FRAME_ALIGN as u64,
        }
    }

    fn encode_into(self, bytes: &mut [u8]) {
        let units = |position: u64| {
            assert!(position.is_multiple_of(FRAME_ALIGN as u64), "frames and groups are aligned");
            u32::try_from(position / FRAME_ALIGN as u64).expect("a position inside a segment")
        };
        index_entry::LSN.put(bytes, self.lsn.get());
        index_entry::GROUP.put(bytes, units(self.group));
        index_entry::FRAME.put(bytes, units(self.frame));
    }
}

/// The first LSN that a segment holds of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// The first LSN in it, in this segment.
    pub first_lsn: Lsn,
}

impl EpochStart {
    fn decode(bytes: &[u8]) -> EpochStart {
        EpochStart {
            epoch: Epoch::new(epoch_start::EPOCH.get(bytes)),
            first_lsn: Lsn::new(epoch_start::FIRST_LSN.get(bytes)),
        }
    }

    fn encode_into(self, bytes: &mut [u8]) {
        epoch_start::EPOCH.put(bytes, self.epoch.get());
        epoch_start::FIRST_LSN.put(bytes, self.first_lsn.get());
    }
}

/// The tables of a segment as they grow, frame by frame.
///
/// Bounded by the segment: an entry for each 32 KiB, and at most [`EPOCH_STARTS_MAX`] epochs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tables {
    index: Vec<IndexEntry>,
    epochs: Vec<EpochStart>,
}

impl Tables {
    /// Tables over no frames.
    #[must_use]
    pub const fn new() -> Tables {
        Tables { index: Vec::new(), epochs: Vec::new() }
    }

    pub(super) const fn of(index: Vec<IndexEntry>, epochs: Vec<EpochStart>) -> Tables {
        Tables { index, epochs }
    }

    /// Takes note of the next frame, at position `frame` of the group at position `group`.
    ///
    /// # Panics
    /// If it would begin more epochs than [`Tables::epochs_left`].
    #[inline]
    pub fn note(&mut self, header: &FrameHeader, group: u64, frame: u64) {
        if self.index.last().is_none_or(|last| frame - last.frame >= INDEX_STRIDE_BYTES) {
            self.index.push(IndexEntry { lsn: header.lsn, group, frame });
        }
        if self.epochs.last().is_none_or(|last| last.epoch != header.epoch) {
            assert!(self.epochs_left() > 0, "a segment rolls before it holds too many epochs");
            self.epochs.push(EpochStart { epoch: header.epoch, first_lsn: header.lsn });
        }
    }

    /// How many entries the index and the epochs have, to go [back to](Tables::back_to).
    pub(crate) fn moment(&self) -> (usize, usize) {
        (self.index.len(), self.epochs.len())
    }

    /// Forgets what was noted since that moment.
    pub(crate) fn back_to(&mut self, (index, epochs): (usize, usize)) {
        self.index.truncate(index);
        self.epochs.truncate(epochs);
    }

    /// How many more epochs may begin in this segment.
    #[must_use]
    pub fn epochs_left(&self) -> usize {
        EPOCH_STARTS_MAX - self.epochs.len()
    }

    /// The index: its first entry is the segment's first frame.
    #[must_use]
    pub fn index(&self) -> &[IndexEntry] {
        &self.index
    }

    /// The epochs, the first frame's included.
    #[must_use]
    pub fn epochs(&self) -> &[EpochStart] {
        &self.epochs
    }

    /// The entry to start from on the way to `lsn`: the last one that is not past it.
    #[must_use]
    pub fn find(&self, lsn: Lsn) -> Option<IndexEntry> {
        let after = self.index.partition_point(|entry| entry.lsn <= lsn);
        self.index[..after].last().copied()
    }

    /// The epoch of the record `lsn`, if it is in the segment.
    #[must_use]
    pub fn epoch_of(&self, lsn: Lsn) -> Option<Epoch> {
        let after = self.epochs.partition_point(|start| start.first_lsn <= lsn);
        self.epochs[..after].last().map(|start| start.epoch)
    }

    /// Size of both tables as they are stored, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.index.len() * index_entry::BYTES + self.epochs.len() * epoch_start::BYTES
    }

    /// Writes the index, and right after it the epochs, over the start of `bytes`.
    pub(super) fn encode_into(&self, bytes: &mut [u8]) {
        let (index, epochs) = bytes.split_at_mut(self.index.len() * index_entry::BYTES);
        for (entry, bytes) in self.index.iter().zip(index.chunks_exact_mut(index_entry::BYTES)) {
            entry.encode_into(bytes);
        }
        for (start, bytes) in self.epochs.iter().zip(epochs.chunks_exact_mut(epoch_start::BYTES)) {
            start.encode_into(bytes);
        }
    }
}

/// The index of a sealed segment, read where it is stored.
#[derive(Clone, Copy, Debug)]
pub struct IndexView<'a> {
    entries: &'a [[u8; index_entry::BYTES]],
}

impl<'a> IndexView<'a> {
    /// Over `bytes`, whose last odd bytes are ignored.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> IndexView<'a> {
        IndexView { entries: bytes.as_chunks().0 }
    }

    /// The entry to start from on the way to `lsn`: the last one that is not past it.
    #[must_use]
    pub fn find(&self, lsn: Lsn) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| index_entry::LSN.get(entry) <= lsn.get());
        self.entries[..after].last().map(|entry| IndexEntry::decode(entry))
    }

    /// The entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = IndexEntry> + use<'a> {
        self.entries.iter().map(|entry| IndexEntry::decode(entry))
    }
}

/// The epochs of a sealed segment, read where they are stored.
#[derive(Clone, Copy, Debug)]
pub struct EpochView<'a> {
    starts: &'a [[u8; epoch_start::BYTES]],
}

impl<'a> EpochView<'a> {
    /// Over `bytes`, whose last odd bytes are ignored.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> EpochView<'a> {
        EpochView { starts: bytes.as_chunks().0 }
    }

    /// The epoch of the record `lsn`, if it is in the segment.
    #[must_use]
    pub fn epoch_of(&self, lsn: Lsn) -> Option<Epoch> {
        let after = self.starts.partition_point(|start| epoch_start::FIRST_LSN.get(start) <= lsn.get());
        self.starts[..after].last().map(|start| EpochStart::decode(start).epoch)
    }

    /// The epochs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EpochStart> + use<'a> {
        self.starts.iter().map(|start| EpochStart::decode(start))
    }
}
