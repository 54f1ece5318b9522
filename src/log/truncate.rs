//! Forgetting the newest records: for a replica whose newest records were never committed.

use std::sync::Arc;

use super::engine::Engine;
use super::keep;
use super::recover::{Begin, begin_first};
use super::superblock_file::Copies;
use crate::disk::Access;
use crate::error::{Error, Result};
use crate::format::{Digest, SegmentHeader, Walk, rescan_sealed};
use crate::segment::{Extent, Sealed, Segment, seal_extent};
use crate::types::{Lsn, SegmentId};

/// The segment that is cut, and what is left of it.
struct Cut {
    segment: Segment,
    extent: Extent,
}

impl Engine {
    /// Forgets the records after `after`.
    ///
    /// No byte that a reader may see is overwritten: the segment is sealed at the cut, and the log goes on in a
    /// new one. In this order a crash leaves all of the suffix, a part without gaps, or nothing of it: the
    /// superblock no longer vouches for the suffix, then whole segments go, newest first, then the cut segment
    /// is sealed.
    pub(crate) fn truncate(&self, after: Lsn) -> Result<()> {
        self.while_quiet(|| self.truncate_quiet(after))
    }

    /// Replaces a tail without records by one that has room for a group of `frame_bytes`.
    ///
    /// The log cannot simply roll there: a segment is named for its first record, so two that begin with the
    /// same one would be in each other's way.
    pub(crate) fn enlarge_empty_tail(&self, frame_bytes: u64) -> Result<()> {
        self.while_quiet(|| {
            // Others may have appended before it was quiet.
            if self.commit().has_room_after_tail(frame_bytes) {
                return Ok(());
            }
            self.settle()?;
            let after = self.durable();
            let cut = self.look_for_cut(after)?;
            let spare = self.take_spare(frame_bytes)?;
            self.carry_out(after, cut, spare).inspect_err(|error| self.poison(error.clone()))
        })
    }

    /// Changes the log while nothing is appended, and nothing else changes it.
    fn while_quiet(&self, change: impl FnOnce() -> Result<()>) -> Result<()> {
        self.check()?;
        // Housekeeping, a trim or a mark beside it would vouch for what is cut away.
        let _alone = self.keeping.lock();
        self.quiesce()?;
        let done = change();
        let mut commit = self.commit();
        commit.resume();
        self.room_changed(&mut commit);
        done
    }

    /// Stops claims and waits until all that was claimed is durable.
    fn quiesce(&self) -> Result<()> {
        let newest = {
            let mut commit = self.commit();
            commit.pause();
            commit.newest()
        };
        match newest {
            Some((seq, last)) => self.wait_durable(seq, last),
            None => self.check(),
        }
    }

    fn truncate_quiet(&self, after: Lsn) -> Result<()> {
        let (first, durable) = (self.store.segments.first_lsn(), self.durable());
        if after.next() < first {
            return Err(Error::Trimmed { asked: after, first });
        }
        if after > durable {
            return Err(Error::BeyondEnd { asked: after, last: durable });
        }
        if after == durable {
            return Ok(());
        }
        self.settle()?;
        let cut = self.look_for_cut(after)?;
        let spare = self.take_spare(0)?;
        // From here on a failure leaves the log half cut: only reopening says where it ends.
        let done = self.carry_out(after, cut, spare);
        done.inspect_err(|error| self.poison(error.clone()))
    }

    /// Gives every segment its seal and its final name, and clears away what is trimmed: none of it is left to
    /// housekeeping, and the segment that is cut is one that stays.
    fn settle(&self) -> Result<()> {
        let tail = Arc::clone(self.commit().tail());
        let settled = keep::tidy_up(self).and_then(|()| keep::name_for_good(self, &tail));
        settled.inspect_err(|error| self.poison(error.clone()))
    }

    /// Finds the frame that ends with `after`; `None` if no record is left.
    fn look_for_cut(&self, after: Lsn) -> Result<Option<Cut>> {
        let Some(segment) = self.store.segments.find(after).filter(|found| found.last_lsn() >= after) else {
            return Ok(None);
        };
        let header = *segment.header();
        let name = segment.name();
        let end = match &segment {
            Segment::Tail(tail) => tail.with_extent(|extent| extent.end),
            Segment::Sealed(sealed) => sealed.end(),
        };
        let file = self.store.files.open(&name, Access::Read)?;
        let map = self.store.files.io("map", &name, file.map())?;
        // All of it is durable and nothing is in flight; what follows a truncation goes to another file.
        map.publish(end.min(map.mapped()));
        let bytes = map.bytes(0..map.published());
        let scan = rescan_sealed(bytes, &header, after);
        if scan.last_lsn > after {
            let first = first_of_batch(bytes, &header, after).unwrap_or(after);
            return Err(Error::InsideBatch { after, first, last: scan.last_lsn });
        }
        if scan.last_lsn < after {
            let first = scan.last_lsn.next();
            return Err(Error::Rot { file: name, bytes: scan.end..end, first, last: after });
        }
        let extent = Extent::of_scan(&scan);
        Ok(Some(Cut { segment, extent }))
    }

    fn carry_out(&self, after: Lsn, cut: Option<Cut>, spare: crate::segment::Spare) -> Result<()> {
        let tail = Arc::clone(self.commit().tail());
        self.store.superblock.lock().update(Copies::Both, |superblock| superblock.durable = after)?;
        // Nobody looks for what is about to go, neither above the watermark nor in the list.
        self.lower_durable(after);
        for segment in self.store.segments.drop_after(after) {
            self.store.files.remove(&segment.name())?;
            // One by one: what a crash leaves has no gap.
            self.store.files.sync_dir()?;
        }
        let sealed = cut.as_ref().map(|cut| self.seal_cut(cut)).transpose()?;
        let begin = Begin {
            log_id: tail.header().log_id,
            segment_id: cut.as_ref().map_or(SegmentId::FIRST, |cut| cut.segment.header().segment_id.next()),
            first_lsn: after.next(),
            epoch: self.commit().epoch,
            previous_digest: cut.as_ref().map_or(Digest::ZERO, |cut| cut.extent.digest),
        };
        let tail = begin_first(&*self.store.files.disk, spare, &begin)?;
        self.go_on_behind(Arc::clone(&tail));
        self.store.segments.cut(after, sealed, tail);
        Ok(())
    }

    fn seal_cut(&self, cut: &Cut) -> Result<Sealed> {
        let file = self.store.files.open(&cut.segment.name(), Access::ReadWrite)?;
        seal_extent(&*file, cut.segment.header(), &cut.extent, self.store.files.disk.wall_ms())
    }
}

/// The first record of the batch that holds `lsn`.
fn first_of_batch(bytes: &[u8], header: &SegmentHeader, lsn: Lsn) -> Option<Lsn> {
    let mut walk = Walk::from_start(header.incarnation).verified(false);
    let (_, frame) = walk.seek(bytes, lsn).ok()??;
    Some(frame.header().lsn)
}
