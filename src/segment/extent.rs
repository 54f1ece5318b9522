//! How far a segment reaches, and the sparse index over what it holds.

use crate::format::{Digest, EPOCH_STARTS_MAX, EpochStart, INDEX_STRIDE_BYTES, IndexEntry};
use crate::types::{Epoch, Lsn};

/// What is known of the durable part of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where the last group ends, or the last frame that counts after a truncation.
    pub(crate) end: u64,
    /// The last record; one less than the segment's first while it is empty.
    pub(crate) last: Lsn,
    /// Digest over the groups.
    pub(crate) digest: Digest,
    pub(crate) groups: u64,
    /// Frames a stride apart, in order.
    pub(crate) points: Vec<IndexEntry>,
    /// Where the epochs of the segment start, the one of its first record included.
    pub(crate) epoch_starts: Vec<EpochStart>,
}

/// A group as an extent takes note of it.
#[derive(Debug)]
pub(crate) struct Noted<'a> {
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    pub(crate) end: u64,
    pub(crate) epoch: Epoch,
    pub(crate) digest: Digest,
    /// Frames of the group, a stride apart from each other.
    pub(crate) points: &'a [IndexEntry],
}

impl Extent {
    /// The extent of a segment without records.
    pub(crate) fn empty(first: Lsn, data_start: u64, previous: Digest) -> Extent {
        Extent {
            end: data_start,
            last: first.prev(),
            digest: previous,
            groups: 0,
            points: Vec::new(),
            epoch_starts: Vec::new(),
        }
    }

    /// Takes note of the group that follows.
    pub(crate) fn note(&mut self, group: &Noted<'_>) {
        assert!(group.first == self.last.next(), "groups are noted in the order of their LSNs");
        assert!(group.end > self.end, "groups are noted in the order of their places");
        for &point in group.points {
            let far = |last: &IndexEntry| {
                point.frame_position >= last.frame_position + INDEX_STRIDE_BYTES
            };
            if self.points.last().is_none_or(far) {
                self.points.push(point);
            }
        }
        if self.epoch_starts.last().is_none_or(|start| start.epoch < group.epoch) {
            assert!(self.epoch_starts.len() < EPOCH_STARTS_MAX, "a roll comes first");
            self.epoch_starts.push(EpochStart { epoch: group.epoch, first_lsn: group.first });
        }
        self.end = group.end;
        self.last = group.last;
        self.digest = self.digest.fold(group.digest.get());
        self.groups += 1;
    }
}
