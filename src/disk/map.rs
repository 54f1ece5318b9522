//! The read-only map of a file, and the bound up to which its bytes may be looked at.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapAsRawDesc, MmapOptions, MmapRaw};

/// A read-only map of a whole file, of which only the published prefix can be read.
///
/// Bytes below the bound never change again, so slices of them are sound although the rest of the file is
/// still being written:
///
/// - Only this crate can publish, and it publishes only what is complete and final.
/// - Group commit, the only one to write to a segment that is mapped, writes behind what is noted, and repeats
///   the block before it byte for byte. Writes check that where it costs no read from the device: through a
///   [`File`](super::File), in debug builds and on a simulated disk. A store through a writer's own map of the
///   file skips published bytes, so that no byte behind a `&[u8]` is ever stored to.
/// - Files never shrink while mapped, and are recycled only when no map of them lives and no other process
///   holds the lock of readers.
///
/// What another program does to the files of a log is outside of this proof, as for every memory map: the
/// log's lock keeps its own processes out, and file permissions must keep out the others.
pub struct Map {
    memory: MmapRaw,
    /// Written by `publish`, only ever upwards.
    published: AtomicU64,
    /// Whether the memory is the crate's own and not a file's: only then `store` may write to it.
    #[cfg(any(test, feature = "sim"))]
    simulated: bool,
}

/// How a map is going to be read, as a hint to the operating system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// From front to back: read ahead, and drop what was read.
    Sequential,
    /// Here and there: do not read ahead.
    Random,
}

impl Map {
    /// Maps a file at the length that it has now.
    pub(super) fn of_file(file: impl MmapAsRawDesc) -> io::Result<Map> {
        Ok(Map {
            memory: MmapOptions::new().map_raw_read_only(file)?,
            published: AtomicU64::new(0),
            #[cfg(any(test, feature = "sim"))]
            simulated: false,
        })
    }

    /// How many bytes are mapped: the length of the file when it was mapped.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        self.memory.len() as u64
    }

    /// The bound below which bytes can be read.
    #[must_use]
    pub fn published(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`, so the bytes below the bound are seen as written.
        self.published.load(Ordering::Acquire)
    }

    /// Makes everything before `end` readable; does nothing if it is already.
    ///
    /// The caller promises that no write to the bytes before `end` is in flight, and that none will follow
    /// that does more than to repeat them, for as long as this map lives.
    ///
    /// # Panics
    /// If `end` is past the end of the map.
    pub(crate) fn publish(&self, end: u64) {
        assert!(end <= self.mapped(), "published past the end of the map");
        // Release: pairs with the Acquire in `published`, so whoever sees the bound sees the bytes.
        self.published.fetch_max(end, Ordering::Release);
    }

    /// The bytes in `range`, counted from the start of the file.
    ///
    /// # Panics
    /// If `range` is not wholly published.
    #[must_use]
    pub fn bytes(&self, range: Range<u64>) -> &[u8] {
        assert!(range.start <= range.end, "a range does not run backwards");
        assert!(range.end <= self.published(), "only published bytes can be read");
        let bytes = (range.end - range.start) as usize;
        // SAFETY: `publish` keeps the bound within the mapped memory, which lives as long as `self`, is
        // readable and initialised by the operating system. The bytes below the bound are not written to
        // while `self` lives: see the type's documentation.
        unsafe { slice::from_raw_parts(self.memory.as_ptr().add(range.start as usize), bytes) }
    }

    /// Tells the operating system how the map is going to be read. A hint: failures do not matter.
    pub fn advise(&self, reading: Reading) {
        #[cfg(unix)]
        let _ = self.memory.advise(match reading {
            Reading::Sequential => memmap2::Advice::Sequential,
            Reading::Random => memmap2::Advice::Random,
        });
        #[cfg(not(unix))]
        let _ = reading;
    }

    /// Where `bytes`, about to be written to the file at `offset`, leave the published prefix: the first
    /// index into them that may be stored.
    ///
    /// # Panics
    /// If they would change what is published.
    pub(super) fn repeated(&self, bytes: &[u8], offset: u64) -> usize {
        let published = self.published();
        if published <= offset {
            return 0;
        }
        let repeated = bytes.len().min((published - offset) as usize);
        let there = self.bytes(offset..offset + repeated as u64);
        assert!(there == &bytes[..repeated], "published bytes may only be repeated");
        repeated
    }
}

#[cfg(any(test, feature = "sim"))]
impl Map {
    /// Memory of its own, filled with zeros, that stands for a simulated file.
    pub(super) fn simulated(bytes: u64) -> io::Result<Map> {
        let memory = MmapOptions::new().len(bytes as usize).no_reserve_swap().map_anon()?;
        Ok(Map { memory: MmapRaw::from(memory), published: AtomicU64::new(0), simulated: true })
    }

    /// Shows a write to the simulated file: stores what lies inside the map and is not published yet.
    ///
    /// The caller holds the simulated disk's lock, so that no two stores run at once.
    ///
    /// # Panics
    /// If `bytes` would change what is published.
    pub(super) fn store(&self, bytes: &[u8], offset: u64) {
        assert!(self.simulated, "a file's map is read-only");
        let first = self.repeated(bytes, offset);
        let start = offset.saturating_add(first as u64);
        if start >= self.mapped() {
            return;
        }
        let rest = &bytes[first..];
        let inside = rest.len().min((self.mapped() - start) as usize);
        // SAFETY: `start + inside` is within the anonymous memory, which is writable and lives as long as
        // `self`. Nobody reads what is stored to: it lies at or above the bound, and by the contract of
        // `publish` the bound does not pass a write in flight. Nobody else stores: the disk's lock is held.
        unsafe {
            let to = self.memory.as_mut_ptr().add(start as usize);
            to.copy_from_nonoverlapping(rest.as_ptr(), inside);
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("mapped", &self.mapped()).field("published", &self.published()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_with(published: u64) -> Map {
        let map = Map::simulated(8192).unwrap();
        map.store(b"abcdefgh", 0);
        map.publish(published);
        map
    }

    #[test]
    fn published_bytes_can_be_read() {
        let map = map_with(8);
        assert_eq!(map.bytes(2..5), b"cde");
        assert_eq!(map.bytes(8..8), b"");
        assert_eq!((map.published(), map.mapped()), (8, 8192));
    }

    #[test]
    #[should_panic(expected = "only published bytes can be read")]
    fn bytes_past_the_published_bound_cannot_be_read() {
        let _ = map_with(8).bytes(4..9);
    }

    #[test]
    #[should_panic(expected = "a range does not run backwards")]
    fn a_backward_range_cannot_be_read() {
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is tried")]
        let _ = map_with(8).bytes(5..4);
    }

    #[test]
    #[should_panic(expected = "published past the end of the map")]
    fn nothing_past_the_end_of_the_map_can_be_published() {
        map_with(8193);
    }

    #[test]
    fn the_published_bound_never_goes_back() {
        let map = map_with(8);
        map.publish(3);
        assert_eq!(map.published(), 8);
    }

    #[test]
    fn a_write_may_repeat_published_bytes_and_go_on_after_them() {
        let map = map_with(4);
        map.store(b"cdXY", 2);
        map.publish(8);
        assert_eq!(map.bytes(0..8), b"abcdXYgh");
    }

    #[test]
    #[should_panic(expected = "published bytes may only be repeated")]
    fn a_write_that_would_change_published_bytes_is_refused() {
        map_with(4).store(b"x", 3);
    }

    #[test]
    fn a_write_past_the_end_of_the_map_is_not_seen_through_it() {
        let map = map_with(0);
        map.store(&[7; 10], 8190);
        map.store(&[7; 10], 9000);
        map.publish(8192);
        assert_eq!(map.bytes(8189..8192), [0, 7, 7]);
    }

    #[test]
    fn an_empty_file_can_be_mapped() {
        let map = Map::simulated(0).unwrap();
        assert_eq!(map.bytes(0..0), b"");
    }
}
