//! Reading much of a segment at a time, for whoever wants all that comes after too: past the page cache, and handed out
//! where it was read.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::source::Source;
use crate::disk::slab::{Slab, SlabWriter};
use crate::error::Result;
use crate::format::{BLOCK_BYTES, IndexEntry};
use crate::types::{Lsn, LsnRange};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// The way to a frame from the index entry before it, and the blocks at either end.
const SLACK_BYTES: u64 = (32 << 10) + 2 * BLOCK;
/// Memory that is kept to be filled again, in pieces of a read.
const KEPT_MAX: usize = 8;

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
    /// in it and have `bytes_max` together. `None` if there is something about them that has to be looked at closely:
    /// they are damaged, or cannot be read, or the first is too large.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn bulk(
        &self,
        pool: &Pool,
        entry: Option<IndexEntry>,
        range: LsnRange,
        bytes_max: u64,
    ) -> Result<Option<Bytes>> {
        let mut next = self.header.first_lsn.max(range.first);
        let mut walk = self.walk(entry, next)?;
        let start = walk.position() - walk.position() % BLOCK;
        let wanted = (bytes_max + SLACK_BYTES).min(self.end.saturating_sub(start)).next_multiple_of(BLOCK);
        let size = usize::try_from(wanted).expect("a part of a segment that fits in memory");
        let mut slab = pool.take(size);
        let open = slab.open();
        let Ok(there) = self.file.read_bulk(&mut open[..size], start) else { return Ok(None) };
        let held = there.min(usize::try_from(self.end - start).unwrap_or(usize::MAX));
        walk = walk.within(start);
        let (mut stretches, mut bytes): (Vec<std::ops::Range<usize>>, u64) = (Vec::new(), 0);
        loop {
            let seen = &open[..held];
            let stepped = if stretches.is_empty() { walk.seek(seen, next) } else { walk.step(seen) };
            // Anything else ends it: whoever goes on from here is told what it is.
            let Ok(Some((place, frame))) = stepped else { break };
            let (header, size) = (frame.header(), frame.stored().len());
            let is_next = header.lsn <= next && next <= header.last_lsn();
            if !is_next || header.lsn > range.last || bytes + size as u64 > bytes_max {
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
        let Some(first) = stretches.first().map(|first| first.start) else { return Ok(None) };
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
        Ok(Some(slab.slab().part(first..end)))
    }
}
