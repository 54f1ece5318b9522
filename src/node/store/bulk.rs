//! Reading much of a segment at a time, for whoever wants all that comes after too: past the page cache, and handed out
//! where it was read.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::shared::{Use, before};
use super::source::Source;
use crate::disk::slab::{Slab, SlabWriter};
use crate::format::{
    BLOCK_BYTES, GroupHeader, GroupPlace, HEADER_BLOCK_BYTES, INDEX_STRIDE_BYTES, IndexEntry, Walk,
};
use crate::types::{Lsn, LsnRange};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// The way to a frame from the index entry before it, and the blocks at either end.
const SLACK_BYTES: u64 = INDEX_STRIDE_BYTES + 2 * BLOCK;
/// From so far before a frame its group is read with it; the header of one that begins earlier is read alone.
const LEAD_BYTES: u64 = INDEX_STRIDE_BYTES;
/// Pieces of memory that are kept to be filled again.
const KEPT_MAX: usize = 8;
/// A frame that is larger than what was asked for is read all the same, up to this size.
const FRAME_BYTES_MAX: u64 = 4 << 20;
/// A peer that is fed less than this at a time is to make room for those who sync meanwhile: then so much is asked of the
/// disk at a time, and their syncs come in between.
const EASED_BYTES: u64 = 1 << 20;
const PIECE_BYTES: usize = 64 << 10;

/// Memory for bulk reads.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Arc<Slab>>>);

impl Pool {
    /// Memory that nobody has, for at least so many bytes.
    fn take(&self, bytes: usize) -> SlabWriter {
        let mut kept = self.0.lock();
        let is_free = |slab: &Arc<Slab>| slab.capacity() >= bytes && Arc::strong_count(slab) == 1;
        let free = kept.iter().position(is_free).map(|at| kept.swap_remove(at));
        drop(kept);
        free.and_then(SlabWriter::renewed).unwrap_or_else(|| SlabWriter::new(bytes))
    }

    /// Keeps memory that somebody may still read.
    fn keep(&self, slab: &Arc<Slab>) {
        let mut kept = self.0.lock();
        if kept.len() == KEPT_MAX {
            kept.remove(0);
        }
        kept.push(Arc::clone(slab));
    }
}

impl Source {
    /// Frames one after the other, checked, from the one that holds the first record of the range on, as far as they begin
    /// in it and have `bytes_max` together, but for the first, which may have more. `index` is that of the segment, as far as it
    /// is known. `None` if there is something about them that has to be looked at closely: they are damaged, or cannot be
    /// read, or the first is far too large.
    pub(super) fn bulk(
        &self,
        pool: &Pool,
        index: &[IndexEntry],
        range: LsnRange,
        (bytes_max, wanted): (u64, Use),
    ) -> Option<Bytes> {
        let is_eased = wanted == Use::Feed && bytes_max < EASED_BYTES;
        let piece = if is_eased { PIECE_BYTES } else { usize::MAX };
        let together = |bytes| self.read_together(pool, index, range, (bytes, bytes_max), piece);
        together(bytes_max).or_else(|| {
            let first = self.header.first_lsn.max(range.first);
            let begin = before(index, first).map_or(HEADER_BLOCK_BYTES as u64, |entry| entry.frame);
            let next = index[index.partition_point(|entry| entry.lsn <= first)..].first();
            // With the frame there may be a small one before it.
            let bytes = next.map_or(self.end, |entry| entry.frame).saturating_sub(begin);
            (bytes_max..=FRAME_BYTES_MAX).contains(&bytes).then(|| together(bytes)).flatten()
        })
    }

    /// The same with one read of as many bytes, and what is around them.
    fn read_together(
        &self,
        pool: &Pool,
        index: &[IndexEntry],
        range: LsnRange,
        (read_bytes, bytes_max): (u64, u64),
        piece: usize,
    ) -> Option<Bytes> {
        let mut next = self.header.first_lsn.max(range.first);
        let entry = before(index, next);
        let frame = entry.map_or(HEADER_BLOCK_BYTES as u64, |entry| entry.frame);
        let group = entry.map(|entry| entry.group).filter(|group| frame.saturating_sub(*group) <= LEAD_BYTES);
        let begin = group.unwrap_or(frame);
        let start = begin - begin % BLOCK;
        // Behind the range there is nothing to be read, if it is known where that is.
        let behind = index[index.partition_point(|entry| entry.lsn <= range.last)..].first();
        let end = behind.map_or(self.end, |entry| entry.frame.min(self.end));
        // As much memory for each, so that it can be used again.
        let room = (LEAD_BYTES + read_bytes + SLACK_BYTES).next_multiple_of(BLOCK);
        let mut slab = pool.take(usize::try_from(room).ok()?);
        let wanted = room.min(end.saturating_sub(start).next_multiple_of(BLOCK));
        let size = usize::try_from(wanted).expect("no more than there is room for");
        let open = slab.open();
        let there = self.read_pieces(&mut open[..size], start, piece).ok()?;
        let held = there.min(usize::try_from(self.end.checked_sub(start)?).unwrap_or(usize::MAX));
        let mut walk = self.walk_in(&open[..held], start, entry)?;
        let (mut stretches, mut bytes): (Vec<std::ops::Range<usize>>, u64) = (Vec::new(), 0);
        loop {
            let seen = &open[..held];
            let stepped = if stretches.is_empty() { walk.seek(seen, next) } else { walk.step(seen) };
            // Anything else ends it: whoever goes on from here is told what it is.
            let Ok(Some((place, frame))) = stepped else { break };
            let (header, size) = (frame.header(), frame.stored().len());
            let is_next = header.lsn <= next && next <= header.last_lsn();
            let is_too_much = !stretches.is_empty() && bytes + size as u64 > bytes_max;
            if !is_next || header.lsn > range.last || is_too_much {
                break;
            }
            let at = usize::try_from(place.frame - start).expect("a place in memory");
            match stretches.last_mut() {
                Some(last) if last.end == at => last.end += size,
                _ => stretches.push(at..at + size),
            }
            bytes += size as u64;
            next = header.last_lsn().next();
            if next > self.last.min(Lsn::LAST) {
                break;
            }
        }
        let first = stretches.first()?.start;
        // Between groups there is a header, which nobody wants: what comes after is moved over it.
        let mut end = first;
        for stretch in stretches {
            let bytes = stretch.len();
            if stretch.start != end {
                open.copy_within(stretch, end);
            }
            end += bytes;
        }
        slab.publish(end);
        pool.keep(slab.slab());
        Some(slab.slab().part(first..end))
    }

    /// Reads so much at a time, one after another.
    fn read_pieces(&self, buf: &mut [u8], offset: u64, piece: usize) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let end = buf.len().min(done.saturating_add(piece));
            let there = self.file.read_bulk(&mut buf[done..end], offset + done as u64)?;
            done += there;
            if done < end {
                break;
            }
        }
        Ok(done)
    }

    /// Before the frame of the entry, or the first, in bytes that were read from `start` on.
    fn walk_in(&self, bytes: &[u8], start: u64, entry: Option<IndexEntry>) -> Option<Walk> {
        let Some(IndexEntry { group, frame, .. }) = entry else {
            return Some(Walk::from_start(self.header.incarnation).within(start));
        };
        let header =
            if group < start { self.header_alone(group) } else { self.header_in(bytes, (start, group)) };
        Some(Walk::inside(&header?, frame).ok()?.within(start))
    }

    /// The header of the group at this position, in bytes that were read from `start` on.
    fn header_in(&self, bytes: &[u8], (start, group): (u64, u64)) -> Option<GroupHeader> {
        let place = GroupPlace { incarnation: self.header.incarnation, position: group };
        let at = usize::try_from(group.checked_sub(start)?).ok()?;
        GroupHeader::decode_at(bytes.get(at..)?, place).ok()
    }

    /// The same, of a group that begins far before what is read: two blocks, as it may lie across their border.
    fn header_alone(&self, group: u64) -> Option<GroupHeader> {
        const BYTES: usize = 2 * BLOCK_BYTES;
        let start = group - group % BLOCK;
        let mut slab = SlabWriter::new(BYTES);
        let there = self.file.read_bulk(&mut slab.open()[..BYTES], start).ok()?;
        self.header_in(&slab.open()[..there], (start, group))
    }
}
