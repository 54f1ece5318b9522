//! Writing groups, rolling to new segments, and syncing.

use std::sync::Arc;

use super::ReplicaStore;
use super::part::{Part, segment_bytes_for};
use crate::error::Result;
use crate::format::{
    BLOCK_BYTES, FrameHeader, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, HEADER_BLOCK_BYTES,
};
use crate::log::prepare::{Go, make_spare};
use crate::log::recover::{Begin, begin_first};
use crate::protocol::Group;
use crate::segment::{Extent, Noted, Spare, seal_extent};
use crate::types::Lsn;

const BLOCK: u64 = BLOCK_BYTES as u64;

impl ReplicaStore {
    /// Writes a group after the last one, without syncing it; where a segment is full, those before it are synced. The frames are those that
    /// [`frame_group`](crate::node::frame_group) makes, or came from the primary and were
    /// [checked](crate::node::check_group).
    ///
    /// # Errors
    /// Whatever the operating system says.
    ///
    /// # Panics
    /// If the group does not follow on the last record, or the frames are not its own.
    pub fn write(&mut self, group: &Group, frames: &[u8]) -> Result<()> {
        assert!(group.range.first == self.last().next(), "a group follows on the last record");
        let position = match self.tail().place(frames.len() as u64, group.epoch) {
            Some(position) => position,
            None => {
                self.roll(frames.len() as u64)?;
                HEADER_BLOCK_BYTES as u64
            }
        };
        let place = GroupPlace { incarnation: self.tail().header.incarnation, position };
        let header = GroupHeader::over(frames, place, self.durable);
        let range = (header.first_lsn, header.last_lsn());
        assert!(range == (group.range.first, group.range.last), "the frames of the group");
        self.write_blocks(&header, frames)?;
        self.vouched.1 = self.vouched.1.max(self.durable);
        self.history.append(group.epoch, group.range);
        self.note(&header, frames);
        Ok(())
    }

    /// Makes everything durable that was written, and returns the last record of it.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn sync(&mut self) -> Result<Lsn> {
        for part in self.parts.iter_mut().filter(|part| part.is_dirty) {
            self.files.io("sync", &part.name, part.file.sync())?;
            part.is_dirty = false;
        }
        self.durable = self.last();
        self.vouched.0 = self.vouched.1;
        self.tidy_up()?;
        Ok(self.durable)
    }

    /// Writes a group in whole blocks, with what stands before it in its first one; the header of a segment that
    /// begins goes with its first group.
    fn write_blocks(&mut self, header: &GroupHeader, frames: &[u8]) -> Result<()> {
        let position = header.place.position;
        let tail = self.parts.last_mut().expect("a store has a tail");
        let mut blocks = Vec::with_capacity(frames.len() + 2 * HEADER_BLOCK_BYTES);
        let at = if tail.is_headless {
            blocks.resize(HEADER_BLOCK_BYTES, 0);
            tail.header.encode_into(&mut blocks);
            0
        } else if position.is_multiple_of(BLOCK) {
            position
        } else {
            blocks.extend_from_slice(&self.last_block);
            position - self.last_block.len() as u64
        };
        assert!(at.is_multiple_of(BLOCK) && at + blocks.len() as u64 == position, "whole blocks are written");
        let start = blocks.len();
        blocks.resize(start + GROUP_HEADER_BYTES, 0);
        header.encode_into(&mut blocks[start..]);
        blocks.extend_from_slice(frames);
        let used = blocks.len();
        blocks.resize(used.next_multiple_of(BLOCK_BYTES), 0);
        self.files.io("write", &tail.name, tail.file.write_at(&blocks, at))?;
        (tail.is_headless, tail.is_dirty) = (false, true);
        self.last_block = blocks[used - used % BLOCK_BYTES..used].to_vec();
        Ok(())
    }

    fn note(&mut self, header: &GroupHeader, frames: &[u8]) {
        let mut points = Vec::new();
        let mut at = 0;
        while at < frames.len() {
            let frame = FrameHeader::decode(&frames[at..]).expect("frames that were just written");
            points.push((header.frames_start() + at as u64, frame));
            at += usize::try_from(frame.frame_bytes()).expect("a frame in memory");
        }
        self.tail_mut().extent.note(&Noted::new(header, &points));
    }

    /// Goes on in a new segment, which has room for a group of so many bytes of frames.
    fn roll(&mut self, frame_bytes: u64) -> Result<()> {
        // A segment begins when all before it is durable: its header says so.
        self.sync()?;
        let spare = self.spare(frame_bytes)?;
        let begin = self.begin();
        if self.tail().is_empty() {
            // Two segments that begin with the same record would be in each other's way: it takes the name.
            let header = self.tail().header;
            let begin =
                Begin { segment_id: header.segment_id, previous_digest: header.previous_digest, ..begin };
            let tail = begin_first(&*self.files.disk, spare, &begin)?;
            *self.tail_mut() = Part::of_tail(&tail);
            return Ok(());
        }
        let header = begin.header(&spare);
        let extent = Extent::empty(&header);
        let part = Part::new(header, Arc::clone(&spare.name), Arc::clone(&spare.file), extent);
        self.parts.push(Part { is_headless: true, ..part });
        Ok(())
    }

    /// A prepared file with room for a group of so many bytes of frames.
    pub(super) fn spare(&self, frame_bytes: u64) -> Result<Spare> {
        let segment_bytes = segment_bytes_for(frame_bytes, self.options.segment_bytes);
        let spare = make_spare(&self.files, segment_bytes, &|_| Go::Enough)?;
        Ok(spare.expect("nothing ends the preparation"))
    }

    /// What is known of a segment that follows on the tail.
    pub(super) fn begin(&self) -> Begin {
        let Part { header, extent, .. } = self.tail();
        Begin {
            log_id: header.log_id,
            segment_id: header.segment_id.next(),
            first_lsn: extent.last.next(),
            // Not the newest that was heard of: older records may still come from the primary.
            epoch: self.history.last().epoch,
            previous_digest: extent.digest,
        }
    }

    /// Seals the segments that are full, oldest first, and gives the next ones their final names.
    fn tidy_up(&mut self) -> Result<()> {
        for index in 0..self.parts.len() {
            let is_tail = index + 1 == self.parts.len();
            if !is_tail && !self.parts[index].is_sealed {
                self.seal(index)?;
            }
            self.name_for_good(index)?;
        }
        Ok(())
    }

    fn seal(&mut self, index: usize) -> Result<()> {
        let part = &mut self.parts[index];
        seal_extent(&*part.file, &part.header, &part.extent, self.files.disk.wall_ms())?;
        part.is_sealed = true;
        Ok(())
    }

    fn name_for_good(&mut self, index: usize) -> Result<()> {
        let part = &mut self.parts[index];
        if part.is_named {
            return Ok(());
        }
        let name = part.final_name();
        self.files.rename(&part.name, &name)?;
        (part.name, part.is_named) = (name.into(), true);
        self.files.sync_dir()
    }
}
