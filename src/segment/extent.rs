//! How far a segment reaches, and the sparse index over what it holds.

use crate::format::{BLOCK_BYTES, Digest, FrameHeader, GroupHeader, SegmentHeader, Tables, TailScan};
use crate::types::Lsn;

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
    /// Frames a stride apart, and where epochs start.
    pub(crate) tables: Tables,
}

/// A group as an extent takes note of it.
#[derive(Debug)]
pub(crate) struct Noted<'a> {
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    /// Where its header lies, and where its last frame ends.
    pub(crate) position: u64,
    pub(crate) end: u64,
    pub(crate) digest: Digest,
    /// Frames of the group with their positions: the first one, and then one for each stride.
    pub(crate) points: &'a [(u64, FrameHeader)],
}

impl<'a> Noted<'a> {
    /// The group with this header.
    pub(crate) fn new(header: &GroupHeader, points: &'a [(u64, FrameHeader)]) -> Noted<'a> {
        let (first, last, position) = (header.first_lsn, header.last_lsn(), header.place.position);
        Noted { first, last, position, end: header.end(), digest: header.digest, points }
    }
}

impl Extent {
    /// The extent of a segment without records.
    pub(crate) fn empty(header: &SegmentHeader) -> Extent {
        Extent {
            end: BLOCK_BYTES as u64,
            last: header.first_lsn.prev(),
            digest: header.previous_digest,
            groups: 0,
            tables: Tables::new(),
        }
    }

    /// The extent that a scan found.
    pub(crate) fn of_scan(scan: &TailScan) -> Extent {
        Extent {
            end: scan.end,
            last: scan.last_lsn,
            digest: scan.digest,
            groups: scan.groups,
            tables: scan.tables.clone(),
        }
    }

    /// Takes note of the group that follows.
    pub(crate) fn note(&mut self, group: &Noted<'_>) {
        assert!(group.first == self.last.next(), "groups are noted in the order of their LSNs");
        assert!(group.end > self.end, "groups are noted in the order of their places");
        for (position, frame) in group.points {
            self.tables.note(frame, group.position, *position);
        }
        self.end = group.end;
        self.last = group.last;
        self.digest = self.digest.fold(group.digest.get());
        self.groups += 1;
    }
}
