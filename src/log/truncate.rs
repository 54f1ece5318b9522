//! Forgetting the newest records: for a replica whose newest records were never committed.

use std::io;
use std::sync::Arc;

use super::engine::Engine;
use super::keep;
use super::recover::{Begin, begin_first};
use super::superblock_file::Copies;
use crate::disk::Access;
use crate::error::{Error, Result};
use crate::format::{Digest, FrameKind, Incarnation, SegmentHeader, Walk, rescan_sealed};
use crate::segment::{Extent, Original, Sealed, Segment, UNFINISHED, recast, seal_extent};
use crate::types::{Lsn, SegmentId};

/// The segment that is cut, and what is left of it.
struct Cut {
    segment: Segment,
    extent: Extent,
}

/// What a cut keeps of a segment, ready to be sealed.
enum Kept {
    /// Where it is, because it was never sealed.
    Tail(Cut),
    /// All of it, sealed as it is.
    AsItIs(Arc<Sealed>),
    /// In another file, which waits for the segment's name.
    Recast { sealed: Sealed, waiting: Arc<str> },
}

impl Kept {
    fn header(&self) -> &SegmentHeader {
        match self {
            Kept::Tail(cut) => cut.segment.header(),
            Kept::AsItIs(sealed) => sealed.header(),
            Kept::Recast { sealed, .. } => sealed.header(),
        }
    }

    /// The end digest.
    fn digest(&self) -> Digest {
        match self {
            Kept::Tail(cut) => cut.extent.digest,
            Kept::AsItIs(sealed) => sealed.digest(),
            Kept::Recast { sealed, .. } => sealed.digest(),
        }
    }
}

impl Engine {
    /// Forgets the records after `after`.
    ///
    /// No byte that a reader may see is overwritten: the segment is sealed at the cut, and the log goes on in a
    /// new one. In this order a crash leaves all of the suffix, a part without gaps, or nothing of it: the
    /// superblock no longer vouches for the suffix, then whole segments go, newest first, then the cut segment
    /// is sealed, or gives way to what is kept of it.
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
            let kept = cut.map(|cut| self.prepare(cut)).transpose()?;
            let spare = self.take_spare(frame_bytes).inspect_err(|_| self.abandon(kept.as_ref()))?;
            self.carry_out(after, kept, spare).inspect_err(|error| self.poison(error.clone()))
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
        let kept = cut.map(|cut| self.prepare(cut)).transpose()?;
        let spare = self.take_spare(0).inspect_err(|_| self.abandon(kept.as_ref()))?;
        // From here on a failure leaves the log half cut: only reopening says where it ends.
        let done = self.carry_out(after, kept, spare);
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
            return Err(inside(bytes, &header, (after, scan.last_lsn)));
        }
        if scan.last_lsn < after {
            let first = scan.last_lsn.next();
            return Err(Error::Rot { file: name, bytes: scan.end..end, first, last: after });
        }
        let extent = Extent::of_scan(&scan);
        Ok(Some(Cut { segment, extent }))
    }

    fn carry_out(&self, after: Lsn, kept: Option<Kept>, spare: crate::segment::Spare) -> Result<()> {
        let tail = Arc::clone(self.commit().tail());
        self.store.superblock.lock().update(Copies::Both, |superblock| superblock.durable = after)?;
        // Nobody looks for what is about to go, neither above the watermark nor in the list.
        self.lower_durable(after);
        for segment in self.store.segments.drop_after(after) {
            self.store.files.remove(&segment.name())?;
            // One by one: what a crash leaves has no gap.
            self.store.files.sync_dir()?;
        }
        let last = kept.as_ref().map(|kept| (kept.header().segment_id, kept.digest()));
        let sealed = kept.map(|kept| self.seal(kept)).transpose()?.flatten();
        let begin = Begin {
            log_id: tail.header().log_id,
            segment_id: last.map_or(SegmentId::FIRST, |(id, _)| id.next()),
            first_lsn: after.next(),
            epoch: self.commit().epoch,
            previous_digest: last.map_or(Digest::ZERO, |(_, digest)| digest),
        };
        let tail = begin_first(&*self.store.files.disk, spare, &begin)?;
        self.go_on_behind(Arc::clone(&tail));
        self.store.segments.cut(after, sealed, tail);
        Ok(())
    }

    /// Makes ready what a cut keeps of its segment, with nothing changed yet.
    ///
    /// A tail is sealed where it is. A segment that is sealed may have been cut before: see
    /// [`recast`](crate::segment::recast()).
    fn prepare(&self, cut: Cut) -> Result<Kept> {
        let sealed = match &cut.segment {
            Segment::Tail(_) => return Ok(Kept::Tail(cut)),
            Segment::Sealed(sealed) => Arc::clone(sealed),
        };
        if sealed.end() == cut.extent.end {
            return Ok(Kept::AsItIs(sealed));
        }
        let (files, name) = (&self.store.files, cut.segment.name());
        let waiting = format!("{name}{UNFINISHED}");
        let made = self.recast(&cut, &waiting);
        if made.is_err() {
            // The error that led to it is the one to tell; what is left is removed by the next open.
            let _ = files.remove(&waiting);
        }
        made.map(|sealed| Kept::Recast { sealed, waiting: waiting.into() })
    }

    /// Removes what was made ready. The error that led to it is the one to tell; what is left is removed by the next
    /// open.
    fn abandon(&self, kept: Option<&Kept>) {
        if let Some(Kept::Recast { waiting, .. }) = kept {
            let _ = self.store.files.remove(waiting);
        }
    }

    /// Writes what is kept into a file of its own, durably but for its name.
    fn recast(&self, cut: &Cut, waiting: &str) -> Result<Sealed> {
        let (files, old) = (&self.store.files, *cut.segment.header());
        match files.disk.remove(waiting) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return files.io("remove", waiting, Err(error));
            }
            _ => {}
        }
        let file = files.io("create", waiting, files.disk.create(waiting))?;
        files.io("reserve space for", waiting, file.allocate(old.segment_bytes))?;
        let map =
            files.io("map", &cut.segment.name(), files.open(&cut.segment.name(), Access::Read)?.map())?;
        map.publish(cut.extent.end.min(map.mapped()));
        let bytes = map.bytes(0..map.published().min(cut.extent.end));
        let header = SegmentHeader { incarnation: Incarnation::new(files.disk.entropy()), ..old };
        let extent = recast(&*file, Original { header: &old, bytes, extent: &cut.extent }, &header)?;
        let sealed = seal_extent(&*file, &header, &extent, files.disk.wall_ms())?;
        Ok(sealed.found_as(waiting.into(), extent.tables))
    }

    /// Seals what is kept; `None` if that is how it was sealed before.
    fn seal(&self, kept: Kept) -> Result<Option<Sealed>> {
        let files = &self.store.files;
        match kept {
            Kept::AsItIs(_) => Ok(None),
            Kept::Tail(cut) => {
                let file = files.open(&cut.segment.name(), Access::ReadWrite)?;
                seal_extent(&*file, cut.segment.header(), &cut.extent, files.disk.wall_ms()).map(Some)
            }
            Kept::Recast { sealed, waiting } => {
                let name = sealed.name();
                // Before the names change: who looks for the old one under that name finds another file.
                self.store.segments.replace_newest(sealed);
                files.rename(&waiting, &name)?;
                files.sync_dir()?;
                Ok(None)
            }
        }
    }
}

/// The error for a cut after `after` that would divide a frame, which ends with `last`.
fn inside(bytes: &[u8], header: &SegmentHeader, (after, last): (Lsn, Lsn)) -> Error {
    let mut walk = Walk::from_start(header.incarnation).verified(false);
    let frame = walk.seek(bytes, after).ok().flatten().map(|(_, frame)| *frame.header());
    let first = frame.map_or(after, |frame| frame.lsn);
    match frame {
        Some(frame) if frame.kind == FrameKind::Gap => Error::Lost { first, last },
        _ => Error::InsideBatch { after, first, last },
    }
}
