//! Writing groups, rolling to new segments, and syncing.

use bytes::Bytes;

use super::ReplicaStore;
use super::extract;
use super::front::{Front, Laid};
use super::part::{Part, segment_bytes_for};
use super::recent::{Entry, STRIDE_BYTES};
use crate::disk::slab::SlabWriter;
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, Extract, FrameHeader, GROUP_HEADER_BYTES, GroupHeader, HEADER_BLOCK_BYTES,
    INDEX_STRIDE_BYTES, SegmentHeader,
};
use crate::log::prepare::{Go, make_spare};
use crate::log::recover::{Begin, begin_first};
use crate::protocol::Group;
use crate::segment::{Extent, Noted, Spare, Tail, seal_extent};
use crate::types::{Epoch, Lsn, LsnRange};

/// Groups that one write makes durable have at most this many bytes, unless a single one has more.
const FLUSH_BYTES_MAX: u64 = 256 << 20;

/// Extracts of sealed segments that wait to be written.
const EXTRACTS_MAX: usize = 4;

/// A group that waits for the next sync.
#[derive(Debug)]
pub(super) struct Pending {
    range: LsnRange,
    epoch: Epoch,
    frames: Bytes,
}

impl AsRef<[u8]> for Pending {
    fn as_ref(&self) -> &[u8] {
        &self.frames
    }
}

/// Lists that are made anew for each flush, in memory that is not.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Frames for the index of the segment.
    points: Vec<(u64, FrameHeader)>,
    /// Places for those who read from memory.
    entries: Vec<Entry>,
}

impl ReplicaStore {
    /// Takes a group after the last one. It is kept in memory until the next [`sync`](ReplicaStore::sync), and can be read
    /// meanwhile; nothing is copied, and the disk is not waited for. The frames are those that
    /// [`frame_group`](crate::node::frame_group) makes, or came from the primary and were
    /// [checked](crate::node::check_group).
    ///
    /// # Errors
    /// [`Error::Poisoned`] after a failed sync.
    ///
    /// # Panics
    /// If the group does not follow on the last record.
    pub fn write(&mut self, group: &Group, frames: Bytes) -> Result<()> {
        self.check()?;
        assert!(group.range.first == self.last().next(), "a group follows on the last record");
        self.history.append(group.epoch, group.range);
        let (range, epoch) = (group.range, group.epoch);
        self.shared.with(|view| {
            view.recent.wrote(range, frames.clone());
            view.last = range.last;
        });
        self.pending.push(Pending { range, epoch, frames });
        Ok(())
    }

    /// Makes everything durable that was written, and returns the last record of it. All of it is one write to the device,
    /// but where a segment is full.
    ///
    /// # Errors
    /// Whatever the operating system says; from then on [`Error::Poisoned`].
    ///
    /// # Panics
    /// If the frames of a group are not its own.
    pub fn sync(&mut self) -> Result<Lsn> {
        self.check()?;
        let flushed = self.flush();
        self.is_poisoned = flushed.is_err();
        flushed.map(|()| self.durable)
    }

    /// Writes groups and makes them durable: [`write`](ReplicaStore::write) for each of them, and
    /// [`sync`](ReplicaStore::sync).
    ///
    /// # Errors
    /// As for these.
    ///
    /// # Panics
    /// As these.
    pub fn write_all(&mut self, groups: impl IntoIterator<Item = (Group, Bytes)>) -> Result<Lsn> {
        for (group, frames) in groups {
            self.write(&group, frames)?;
        }
        self.sync()
    }

    fn check(&self) -> Result<()> {
        if self.is_poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        while let Some(first) = self.pending.first() {
            let frame_bytes = first.frames.len() as u64;
            match self.fitting() {
                0 => self.roll(frame_bytes)?,
                groups => self.flush_groups(groups)?,
            }
        }
        self.name_for_good()
    }

    /// How many of the groups that wait fit into the tail, as one group there.
    fn fitting(&self) -> usize {
        let (mut room, mut epochs_left) = self.tail().room();
        room = room.min(FLUSH_BYTES_MAX.max(self.pending[0].frames.len() as u64));
        let mut epoch = self.tail().extent.tables.epochs().last().map(|start| start.epoch);
        let fitting = self.pending.iter().take_while(|pending| {
            let begins = epoch != Some(pending.epoch);
            let fits = pending.frames.len() as u64 <= room && !(begins && epochs_left == 0);
            if fits {
                room -= pending.frames.len() as u64;
                epochs_left -= usize::from(begins);
                epoch = Some(pending.epoch);
            }
            fits
        });
        fitting.count()
    }

    /// Writes the oldest groups that wait as one group of the tail, durably.
    fn flush_groups(&mut self, groups: usize) -> Result<()> {
        let frame_bytes = self.pending[..groups].iter().map(|pending| pending.frames.len()).sum();
        self.make_room(Front::needs(frame_bytes));
        let tail = self.parts.last().expect("a store has a tail");
        let begins = tail.is_headless.then_some(&tail.header);
        let laid = self.front.lay(begins, &self.pending[..groups]);
        let noting = (&mut self.notes, &mut self.extract);
        let header = note(&self.front, &laid, &tail.header, self.durable, noting);
        let range =
            LsnRange { first: self.pending[0].range.first, last: self.pending[groups - 1].range.last };
        assert!(
            (header.first_lsn, header.last_lsn()) == (range.first, range.last),
            "the frames of the groups"
        );
        self.front.head_group(&laid, &header);
        let written = self.writer.write_durable(self.front.blocks(&laid), laid.position);
        self.files.io("write", &tail.name, written)?;
        self.front.written(&laid);
        self.pending.drain(..groups);
        self.spares.wrote(laid.frames.len() as u64);
        let tail = self.parts.last_mut().expect("a store has a tail");
        tail.is_headless = false;
        tail.extent.note(&Noted::new(&header, &self.notes.points));
        self.vouched = self.vouched.max(self.durable);
        self.durable = range.last;
        self.shared.with(|view| view.flushed(tail, self.front.slab(), &self.notes.entries));
        Ok(())
    }

    /// Goes on in a slab with room for so many bytes, if this one has not.
    fn make_room(&mut self, bytes: usize) {
        if self.front.room() >= bytes {
            return;
        }
        let capacity = self.options.slab_bytes().max(bytes).next_multiple_of(BLOCK_BYTES);
        let old = self.shared.with(|view| view.recent.make_room(capacity));
        let slab = old.and_then(SlabWriter::renewed).unwrap_or_else(|| SlabWriter::new(capacity));
        self.front.renew(slab);
    }

    /// Goes on in a new segment, which has room for a group of so many bytes of frames.
    ///
    /// All before it is durable: its header says so.
    fn roll(&mut self, frame_bytes: u64) -> Result<()> {
        if self.tail().is_empty() {
            // Two segments that begin with the same record would be in each other's way: it takes the name.
            let Part { header, .. } = *self.tail();
            let own = (header.segment_id, header.previous_digest);
            let spare = self.spare(frame_bytes)?;
            let (segment_id, previous_digest) = own;
            let tail = begin_first(
                &*self.files.disk,
                spare,
                &Begin { segment_id, previous_digest, ..self.begin() },
            )?;
            self.parts.pop();
            self.go_on_in(&tail)?;
            return self.show();
        }
        self.name_for_good()?;
        self.seal_tail()?;
        let spare = self.spare(frame_bytes)?;
        let header = self.begin().header(&spare);
        let part = Part::new(header, spare.name, spare.file, Extent::empty(&header));
        self.writer = spare.writer;
        self.front.go_to(0, &[]);
        self.extract = extract::begin(&part);
        self.parts.push(Part { is_headless: true, ..part });
        self.show()
    }

    /// Takes a tail that was just begun: nothing but its header is there.
    pub(super) fn go_on_in(&mut self, tail: &Tail) -> Result<()> {
        self.writer = self.files.io("open", &tail.name(), tail.file().writer(self.files.write_method))?;
        self.front.go_to(HEADER_BLOCK_BYTES as u64, &[]);
        let part = Part::of_tail(tail);
        self.extract = extract::begin(&part);
        self.parts.push(part);
        Ok(())
    }

    /// A prepared file with room for a group of so many bytes of frames.
    pub(super) fn spare(&mut self, frame_bytes: u64) -> Result<Spare> {
        let segment_bytes = segment_bytes_for(frame_bytes, self.options.segment_bytes);
        if let Some(spare) = self.spares.take(segment_bytes) {
            return Ok(spare);
        }
        // Without zeros: a write waits for this.
        let spare = make_spare(&self.files, segment_bytes, &|_| Go::Enough)?;
        Ok(spare.expect("nothing ends the preparation"))
    }

    /// What is known of a segment that follows on the tail.
    fn begin(&self) -> Begin {
        let Part { header, extent, .. } = self.tail();
        let first_lsn = extent.last.next();
        Begin {
            log_id: header.log_id,
            segment_id: header.segment_id.next(),
            first_lsn,
            // Not the newest that was heard of: older records may still come from the primary.
            epoch: self.history.epoch_at(extent.last).unwrap_or(header.epoch),
            previous_digest: extent.digest,
        }
    }

    fn seal_tail(&mut self) -> Result<()> {
        let tail = self.parts.last_mut().expect("a store has a tail");
        seal_extent(&*tail.file(&self.files)?, &tail.header, &tail.extent, self.files.disk.wall_ms())?;
        tail.seal();
        // Another thread writes it; until that has time the next opening can do without.
        self.extracts.truncate(EXTRACTS_MAX - 1);
        self.extracts.extend(extract::Waiting::new(self.tail(), &self.extract));
        Ok(())
    }

    /// Gives the tail its final name, if it is still called a spare.
    fn name_for_good(&mut self) -> Result<()> {
        let tail = self.parts.last_mut().expect("a store has a tail");
        if tail.is_named {
            return Ok(());
        }
        let name = tail.final_name();
        self.files.rename(&tail.name, &name)?;
        (tail.name, tail.is_named) = (name.into(), true);
        self.files.sync_dir()?;
        self.show()
    }

    /// Shows the segments to the readers as they are now.
    pub(super) fn show(&mut self) -> Result<()> {
        let tail = self.tail().source(&self.files)?;
        self.shared.with(|view| {
            (view.first, view.last, view.durable) = (self.first(), self.last(), self.durable);
            view.list(&self.parts, tail);
        });
        Ok(())
    }

    /// The same after a change.
    pub(super) fn show_change(&mut self) -> Result<()> {
        self.show()?;
        self.shared.end_change();
        self.shared.close_unused();
        Ok(())
    }
}

/// The header of the group that is laid out, and notes of its frames.
fn note(
    front: &Front,
    laid: &Laid,
    segment: &SegmentHeader,
    durable: Lsn,
    (notes, extract): (&mut Notes, &mut Extract),
) -> GroupHeader {
    let Notes { points, entries } = notes;
    points.clear();
    entries.clear();
    let place = front.place(laid, segment);
    let first = place.position + GROUP_HEADER_BYTES as u64;
    GroupHeader::noting(front.frames(laid), place, durable, |position, parsed| {
        extract.note(parsed);
        let frame = parsed.header();
        let is_far = |last: &(u64, FrameHeader)| position - last.0 >= INDEX_STRIDE_BYTES;
        if points.last().is_none_or(|last| is_far(last) || last.1.epoch != frame.epoch) {
            points.push((position, *frame));
        }
        let start = laid.frames.start + usize::try_from(position - first).expect("a place in memory");
        if entries.last().is_none_or(|last| start - last.start >= STRIDE_BYTES) {
            entries.push(Entry { first: frame.lsn, start, end: laid.frames.end });
        }
    })
}
