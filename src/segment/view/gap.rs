//! How far a gap reaches: records that were lost, and that a repair has given up.

use super::View;
use crate::format::{FrameKind, Frames, IndexEntry, Place, Walk};
use crate::types::{Lsn, LsnRange};

impl View {
    /// The gap that `lsn` is in, as far as it lies in this segment: it may take several frames. `None` if there is
    /// no gap, or no frame that checks says so.
    pub(crate) fn gap_around(&self, lsn: Lsn) -> Option<LsnRange> {
        let mut gap = self.gap_from(self.entry_for(lsn), (lsn, None))?;
        // The walk began at an entry of the index; the gap may have begun before that.
        while gap.first > self.header.first_lsn {
            let before = gap.first.prev();
            let Some(earlier) = self.gap_from(self.entry_for(before), (before, Some(before))) else { break };
            gap.first = earlier.first;
        }
        Some(gap)
    }

    fn entry_for(&self, lsn: Lsn) -> Option<IndexEntry> {
        self.with_tables(|tables| tables.find(lsn))
    }

    /// The gap that `lsn` is in, looked for from an entry of the index on, and no farther than `stop`.
    fn gap_from(&self, entry: Option<IndexEntry>, (lsn, stop): (Lsn, Option<Lsn>)) -> Option<LsnRange> {
        let bytes = self.pinned.map.bytes(0..self.end);
        let walk = match entry {
            Some(entry) => Walk::at(bytes, self.header.incarnation, Place::from(entry)).ok()?,
            None => Walk::from_start(self.header.incarnation),
        };
        let mut gap: Option<LsnRange> = None;
        // Records on the way are nobody's business here.
        for step in Frames::new(bytes, walk.verified(false)) {
            let Ok((_, frame)) = step else { break };
            let header = frame.header();
            let is_gap = header.kind == FrameKind::Gap && frame.check().is_ok();
            if stop.is_some_and(|stop| header.lsn > stop) || !is_gap && header.lsn > lsn {
                break;
            }
            let first = gap.filter(|gap| gap.last.next() == header.lsn).map_or(header.lsn, |gap| gap.first);
            gap = LsnRange::new(first, header.last_lsn()).filter(|_| is_gap);
        }
        gap.filter(|gap| gap.first <= lsn && lsn <= gap.last)
    }
}
