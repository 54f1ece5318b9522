//! A segment that is written anew, frame by frame, into a file that nobody else knows of yet.

use std::sync::Arc;

use super::frames::{FoundFrame, Source};
use crate::disk::{Disk, File};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, Digest, FRAME_HEADER_BYTES, FrameHeader, FrameKind, GROUP_HEADER_BYTES, GroupHeader,
    GroupPlace, HEADER_BLOCK_BYTES, SEGMENT_BYTES_MAX, SegmentHeader, Stamp, footer_bytes_for, write_gap,
};
use crate::segment::{Extent, seal_extent};
use crate::types::{Epoch, Lsn, LsnRange};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// A group that has this many bytes of frames is followed by another one, unless the old ones are kept.
pub(in crate::repair) const GROUP_BYTES: u64 = 1 << 20;
/// The same where there is no room for many headers: as many as a group can have.
pub(in crate::repair) const GROUP_BYTES_MAX: u64 = u32::MAX as u64;
/// Frames that say that records are lost, of which each stands for some four thousand millions: what asks for more
/// says what cannot be.
pub(in crate::repair) const GAP_FRAMES_MAX: u64 = 1 << 20;
/// Groups whose digests are remembered to find out how a segment begins: more than any has that is written to last.
const SUMS_MAX: usize = 16 << 20;

/// A segment that is written.
pub(in crate::repair) struct NewSegment {
    file: Arc<dyn File>,
    name: String,
    header: SegmentHeader,
    /// Gathered bytes, and where they belong in the file.
    buffer: Vec<u8>,
    buffer_at: u64,
    group: Option<GroupHeader>,
    extent: Extent,
    epoch: Epoch,
    has_gaps: bool,
    group_bytes: u64,
    /// The digests of the groups, if it has to be found out from its end how the segment begins.
    sums: Option<Vec<u64>>,
}

/// What a segment that was written says of those beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::repair) struct Built {
    /// The end digest of the one before.
    pub(in crate::repair) previous_digest: Digest,
    /// Its own end digest.
    pub(in crate::repair) digest: Digest,
}

/// How a segment that is written ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::repair) enum Ending<S> {
    /// It is the tail: what follows can be appended to it.
    Open,
    /// It is complete.
    Sealed {
        /// What the next segment, or the footer that it had, says of its end.
        stated: S,
        /// When it was sealed first, in milliseconds since 1970.
        sealed_at_ms: u64,
    },
}

/// Where the next frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Right after the last one.
    Next,
    /// Where it was before, in a group that was where.
    Same { group: u64, frame: u64, durable_through: Lsn },
}

impl NewSegment {
    /// Creates the file `name`, reserves its space, and writes the header.
    ///
    /// # Errors
    /// [`Error::NoSpace`], and whatever the operating system says. The file may be there then.
    pub(in crate::repair) fn create(
        disk: &dyn Disk,
        name: String,
        header: SegmentHeader,
    ) -> Result<NewSegment> {
        let file = disk.create(&name).map_err(|source| Error::io("create", &name, source))?;
        let reserved = file.allocate(header.segment_bytes);
        reserved.map_err(|source| Error::io("reserve space for", &name, source))?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        buffer.resize(HEADER_BLOCK_BYTES, 0);
        header.encode_into(&mut buffer);
        let (extent, epoch) = (Extent::empty(&header), header.epoch);
        Ok(NewSegment {
            file,
            name,
            header,
            buffer,
            buffer_at: 0,
            group: None,
            extent,
            epoch,
            has_gaps: false,
            group_bytes: GROUP_BYTES,
            sums: None,
        })
    }

    /// Lets groups have so many bytes.
    pub(in crate::repair) fn with_groups_of(self, group_bytes: u64) -> NewSegment {
        NewSegment { group_bytes, ..self }
    }

    /// Lets the end that is stated decide how the segment begins.
    pub(in crate::repair) fn with_free_start(self) -> NewSegment {
        NewSegment { sums: Some(Vec::new()), ..self }
    }

    /// The record that comes next.
    pub(in crate::repair) fn next_lsn(&self) -> Lsn {
        self.extent.last.next()
    }

    /// The epoch that the newest record is in.
    pub(in crate::repair) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a frame of this size and epoch has room, under a group header of its own if need be.
    pub(in crate::repair) fn takes(&self, frame_bytes: u64, epoch: Epoch) -> bool {
        let end = self.position() + GROUP_HEADER_BYTES as u64 + frame_bytes;
        end <= self.header.data_end() && self.takes_epoch(epoch)
    }

    fn takes_epoch(&self, epoch: Epoch) -> bool {
        let tables = &self.extent.tables;
        tables.epochs_left() > 0 || tables.epochs().last().is_some_and(|start| start.epoch == epoch)
    }

    /// Copies a frame, to where it was before if `is_same_place`, and else right after the one before.
    ///
    /// # Errors
    /// [`Error::Outdated`] if it is not what it was; [`Error::NotRepairable`] if it has no room; whatever the
    /// operating system says.
    pub(in crate::repair) fn copy(
        &mut self,
        source: &mut Source,
        frame: &FoundFrame,
        is_same_place: bool,
    ) -> Result<()> {
        let &FoundFrame { header, position, group, durable_through } = frame;
        let place = match is_same_place {
            true => Place::Same { group, frame: position, durable_through },
            false => Place::Next,
        };
        if header.lsn != self.next_lsn() || header.epoch < self.epoch {
            return Err(source.outdated());
        }
        self.begin_frame(&header, place)?;
        source.copy(frame, &mut |bytes| self.put(bytes))
    }

    /// Writes frames that say that these records are lost.
    ///
    /// # Errors
    /// As for [`copy`](NewSegment::copy).
    pub(in crate::repair) fn give_up(&mut self, lsns: LsnRange, epoch: Epoch) -> Result<()> {
        assert!(lsns.first == self.next_lsn(), "records are written in their order");
        let mut next = lsns.first;
        while next <= lsns.last {
            let left = lsns.last.get() - next.get() + 1;
            let count = u32::try_from(left).unwrap_or(u32::MAX);
            let mut frame = [0; FRAME_HEADER_BYTES];
            write_gap(&mut frame, Stamp { lsn: next, epoch }, count);
            let header = FrameHeader::decode(&frame).expect("a frame that was just written");
            self.begin_frame(&header, Place::Next)?;
            self.put(&frame)?;
            next = header.last_lsn().next();
        }
        Ok(())
    }

    /// Takes the tables over from the footer of the old segment, of which this one has all frames where they were.
    ///
    /// # Errors
    /// [`Error::Outdated`] if they do not check any more; whatever the operating system says.
    pub(in crate::repair) fn keep_tables(&mut self, source: &Source) -> Result<()> {
        self.extent.tables = source.tables(&self.header)?.ok_or_else(|| source.outdated())?;
        Ok(())
    }

    /// Ends the segment and makes it durable.
    ///
    /// # Errors
    /// [`Error::NotRepairable`] if it does not end as the next segment says, and nothing in it explains that;
    /// whatever the operating system says.
    pub(in crate::repair) fn finish(mut self, ending: Ending<Option<Digest>>) -> Result<Built> {
        self.end_group()?;
        self.flush()?;
        if let Ending::Sealed { stated, sealed_at_ms } = ending {
            if let Some(stated) = stated {
                self.end_with(stated)?;
            }
            seal_extent(&*self.file, &self.header, &self.extent, sealed_at_ms)?;
        } else {
            self.file.sync().map_err(|source| Error::io("sync", &self.name, source))?;
        }
        Ok(Built { previous_digest: self.header.previous_digest, digest: self.extent.digest })
    }

    /// Sees to it that the end digest is this one.
    fn end_with(&mut self, stated: Digest) -> Result<()> {
        if self.extent.digest == stated {
            return Ok(());
        }
        // With gaps it is a digest of frames that are lost: it can only be stated.
        if !self.has_gaps {
            let Some(sums) = &self.sums else { return Err(self.not_repairable()) };
            let start = sums.iter().rev().fold(stated, |digest, sum| digest.before(*sum));
            self.header.previous_digest = start;
            let mut block = vec![0; HEADER_BLOCK_BYTES];
            self.header.encode_into(&mut block);
            self.write(&block, 0)?;
        }
        self.extent.digest = stated;
        Ok(())
    }

    fn not_repairable(&self) -> Error {
        Error::NotRepairable { file: self.name.as_str().into() }
    }

    /// Where the next byte goes.
    fn position(&self) -> u64 {
        self.buffer_at + self.buffer.len() as u64
    }

    /// Takes note of a frame that is about to be put, in its group.
    fn begin_frame(&mut self, frame: &FrameHeader, place: Place) -> Result<()> {
        if !self.is_open_for(frame, place) {
            self.end_group()?;
            self.begin_group(frame.lsn, place)?;
        }
        let at = self.position();
        let is_in_place = match place {
            Place::Next => true,
            Place::Same { frame, .. } => frame == at,
        };
        let has_room = at + frame.frame_bytes() <= self.header.data_end() && self.takes_epoch(frame.epoch);
        if !is_in_place || !has_room {
            return Err(self.not_repairable());
        }
        let group = self.group.as_mut().expect("begun above");
        group.frame_bytes += frame.frame_bytes() as u32;
        group.frames += 1;
        group.records += frame.count;
        group.digest = group.digest.fold(u64::from(frame.checksum));
        self.extent.tables.note(frame, group.place.position, at);
        self.extent.last = frame.last_lsn();
        self.epoch = frame.epoch;
        self.has_gaps |= frame.kind == FrameKind::Gap;
        Ok(())
    }

    /// Whether the group that is open takes this frame.
    fn is_open_for(&self, frame: &FrameHeader, place: Place) -> bool {
        let Some(open) = &self.group else { return false };
        let counts = open.frame_bytes.checked_add(u32::try_from(frame.frame_bytes()).unwrap_or(u32::MAX));
        let fits = counts.is_some() && open.records.checked_add(frame.count).is_some();
        fits && match place {
            Place::Next => u64::from(open.frame_bytes) < self.group_bytes,
            Place::Same { group, .. } => group == open.place.position,
        }
    }

    fn begin_group(&mut self, first_lsn: Lsn, place: Place) -> Result<()> {
        let durable_through = match place {
            Place::Next => first_lsn.prev(),
            Place::Same { group, durable_through, .. } => {
                self.pad_to(group)?;
                durable_through.min(first_lsn.prev())
            }
        };
        let place = GroupPlace { incarnation: self.header.incarnation, position: self.position() };
        let digest = place.digest_seed();
        let begun =
            GroupHeader { place, first_lsn, durable_through, frame_bytes: 0, frames: 0, records: 0, digest };
        self.group = Some(begun);
        // Its place; what it says is known at its end.
        self.put(&[0; GROUP_HEADER_BYTES])
    }

    /// Writes zeros up to where a group was that is kept.
    fn pad_to(&mut self, position: u64) -> Result<()> {
        match position.checked_sub(self.position()) {
            Some(padding) if padding < BLOCK_BYTES as u64 => self.put(&[0; BLOCK_BYTES][..padding as usize]),
            _ => Err(self.not_repairable()),
        }
    }

    /// Writes the header of the group that is open.
    fn end_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let mut bytes = [0; GROUP_HEADER_BYTES];
        group.encode_into(&mut bytes);
        if group.place.position < self.buffer_at {
            self.flush()?;
            self.write(&bytes, group.place.position)?;
        } else {
            let start = (group.place.position - self.buffer_at) as usize;
            self.buffer[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        self.extent.end = self.position();
        self.extent.digest = self.extent.digest.fold(group.digest.get());
        self.extent.groups += 1;
        match &mut self.sums {
            Some(sums) if sums.len() < SUMS_MAX => sums.push(group.digest.get()),
            sums => *sums = None,
        }
        Ok(())
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = BUFFER_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.write(&self.buffer, self.buffer_at)?;
            self.buffer_at += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_at(bytes, at).map_err(|source| Error::io("write", &self.name, source))
    }
}

/// Bytes of a segment with room for this many bytes of frames, `pieces` of which may begin a group for their own
/// sake; at least `least`. `None` if no segment is as large.
pub(in crate::repair) fn segment_bytes_for(frame_bytes: u64, pieces: u64, least: u64) -> Option<u64> {
    let groups = (frame_bytes / GROUP_BYTES).checked_add(pieces)?.checked_add(1)?;
    let headers = groups.checked_mul(GROUP_HEADER_BYTES as u64)?;
    let data = frame_bytes.checked_add(headers)?.checked_add(HEADER_BLOCK_BYTES as u64)?;
    let mut segment_bytes = least.max(data.checked_next_multiple_of(BLOCK_BYTES as u64)?);
    // The footer grows with the segment, by far less than the segment.
    while segment_bytes <= SEGMENT_BYTES_MAX {
        if segment_bytes - footer_bytes_for(segment_bytes).min(segment_bytes) >= data {
            return Some(segment_bytes);
        }
        segment_bytes += BLOCK_BYTES as u64;
    }
    None
}
