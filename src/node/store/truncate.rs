//! Forgetting the newest records, step by step as the engine does it.

use super::ReplicaStore;
use super::extract;
use super::mend::Ending;
use super::open::INCARNATION_BITS;
use super::part::Part;
use crate::error::{Error, Result};
use crate::format::{Digest, FrameKind, Incarnation, SegmentHeader, Walk, rescan_sealed};
use crate::log::recover::{Begin, begin_first};
use crate::log::superblock_file::Copies;
use crate::segment::{Extent, Original, UNFINISHED, recast, seal_extent};
use crate::types::{LogIncarnation, Lsn, SegmentId};

/// What a cut keeps of the segment at `index`.
enum Kept {
    /// All of it, sealed as it is.
    AsItIs { index: usize },
    /// Where it is, because it was never sealed.
    InPlace { index: usize, extent: Extent },
    /// In another file, which waits for the segment's name.
    Waiting { index: usize, part: Box<Part> },
}

impl Kept {
    const fn index(&self) -> usize {
        match self {
            Kept::AsItIs { index } | Kept::InPlace { index, .. } | Kept::Waiting { index, .. } => *index,
        }
    }
}

impl ReplicaStore {
    /// Forgets the records after `after`, durably (S5). A crash may leave some of them, without gaps.
    ///
    /// # Errors
    /// [`Error::InsideBatch`], with nothing changed, and whatever the operating system says.
    ///
    /// # Panics
    /// If that is before the first record that is retained.
    pub fn truncate(&mut self, after: Lsn) -> Result<()> {
        assert!(after.next() >= self.first(), "a truncation stays inside of the log");
        if after >= self.last() {
            return Ok(());
        }
        self.sync()?;
        let kept = self.prepare_cut(after)?;
        let spare = self.spare(0)?;
        self.shared.begin_change();
        self.superblock.update(Copies::Both, |superblock| superblock.durable = after)?;
        while self.parts.last().is_some_and(|part| part.header.first_lsn > after) {
            let part = self.parts.pop().expect("looked at above");
            self.files.remove(&part.name)?;
            extract::forget(&self.files, part.header.first_lsn)?;
            // One by one: what a crash leaves has no gap.
            self.files.sync_dir()?;
        }
        self.history.truncate(after);
        self.extracts.retain(|extract| extract.first() <= after);
        self.durable = after;
        self.vouched = after;
        let last = kept.as_ref().map(Kept::index);
        if let Some(kept) = kept {
            self.cut(kept)?;
        }
        let log_id = self.superblock.current().log_id;
        let (segment_id, previous_digest) = match last.map(|index| &self.parts[index]) {
            Some(part) => (part.header.segment_id.next(), part.extent.digest),
            None => (SegmentId::FIRST, Digest::ZERO),
        };
        let epoch = self.history.last().epoch;
        let begin = Begin { log_id, segment_id, first_lsn: after.next(), epoch, previous_digest };
        let tail = begin_first(&*self.files.disk, spare, &begin)?;
        self.go_on_in(&tail)?;
        self.show_change()
    }

    /// Sees to it that recovery gives a later life of the log than this one.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn outlive(&mut self, incarnation: LogIncarnation) -> Result<()> {
        let sequence = incarnation.get() >> INCARNATION_BITS;
        if self.superblock.current().sequence < sequence {
            self.superblock.skip_to(sequence)?;
        }
        Ok(())
    }

    /// Makes ready what a cut keeps of the segment that holds `after`, with nothing changed yet; `None` if no record is
    /// left.
    fn prepare_cut(&self, after: Lsn) -> Result<Option<Kept>> {
        let holds = |part: &Part| part.header.first_lsn <= after && after <= part.last();
        let Some(index) = self.parts.iter().rposition(holds) else { return Ok(None) };
        let part = &self.parts[index];
        if part.is_sealed && part.last() == after {
            return Ok(Some(Kept::AsItIs { index }));
        }
        let bytes = part.bytes(&self.files)?;
        let scan = rescan_sealed(&bytes, &part.header, after);
        if scan.last_lsn < after {
            return Err(part.rot(scan.end..part.extent.end, scan.last_lsn.next()));
        }
        if scan.last_lsn > after {
            let part = self.cut_in_gap(part, &bytes, after)?;
            return Ok(Some(Kept::Waiting { index, part: Box::new(part) }));
        }
        let extent = Extent::of_scan(&scan);
        if !part.is_sealed {
            return Ok(Some(Kept::InPlace { index, extent }));
        }
        let part =
            self.recast(part, &bytes[..usize::try_from(extent.end).expect("a place in memory")], &extent)?;
        Ok(Some(Kept::Waiting { index, part: Box::new(part) }))
    }

    /// Writes what is kept into a file of its own, durably but for its name.
    fn recast(&self, part: &Part, bytes: &[u8], extent: &Extent) -> Result<Part> {
        let waiting = format!("{}{UNFINISHED}", part.final_name());
        let file = self.create_anew(&waiting, part.header.segment_bytes)?;
        let incarnation = Incarnation::new(self.files.disk.entropy());
        let header = SegmentHeader { incarnation, ..part.header };
        let extent = recast(&*file, Original { header: &part.header, bytes, extent }, &header)?;
        seal_extent(&*file, &header, &extent, self.files.disk.wall_ms())?;
        Ok(Part::new(header, waiting.into(), file, extent).sealed())
    }

    /// The same where the cut divides a gap; a batch is never divided.
    fn cut_in_gap(&self, part: &Part, bytes: &[u8], after: Lsn) -> Result<Part> {
        let mut walk = Walk::from_start(part.header.incarnation);
        let found = walk.seek(bytes, after).ok().flatten().map(|(_, frame)| *frame.header());
        match found {
            Some(frame) if frame.kind == FrameKind::Gap => {
                let mut pieces = part.pieces(&self.files)?;
                pieces.cut(after);
                self.forge(part, &pieces, Ending::Sealed { stated: None })
            }
            Some(frame) => Err(Error::InsideBatch { after, first: frame.lsn, last: frame.last_lsn() }),
            None => Err(part.rot(0..part.extent.end, after)),
        }
    }

    fn cut(&mut self, kept: Kept) -> Result<()> {
        match kept {
            Kept::AsItIs { .. } => Ok(()),
            Kept::InPlace { index, extent } => {
                let part = &mut self.parts[index];
                let file = part.file(&self.files)?;
                seal_extent(&*file, &part.header, &extent, self.files.disk.wall_ms())?;
                part.extent = extent;
                part.seal();
                Ok(())
            }
            Kept::Waiting { index, part } => self.switch(index, *part),
        }
    }

    /// Gives a part that waits the name of the one in whose place it comes.
    pub(super) fn switch(&mut self, index: usize, part: Part) -> Result<()> {
        let name = part.final_name();
        self.files.rename(&part.name, &name)?;
        self.files.sync_dir()?;
        self.parts[index] = Part { name: name.into(), is_named: true, ..part };
        Ok(())
    }
}
