//! The bytes of a file, a bounded part of them at a time.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::disk::File;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, all_zero, block_up};

/// Bytes that are held, and read at a time.
const WINDOW_BYTES: usize = 1 << 20;
/// Extents that cannot be read of which each is remembered; more are merged.
const BAD_EXTENTS_MAX: usize = 1 << 10;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A part of a file, which moves to where somebody looks.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    name: &'a Arc<str>,
    progress: &'a dyn Fn(u64) -> ControlFlow<()>,
    buffer: Vec<u8>,
    /// The position of the first byte that is held: the start of a block.
    start: u64,
    held: usize,
    /// Where the bytes end that may be looked at.
    length: u64,
    /// The blocks among those held that cannot be read: rising.
    bad: Vec<u64>,
    /// All that was found to be unreadable.
    bad_extents: Vec<Range<u64>>,
    /// Up to where progress was told.
    told: u64,
}

impl<'a> Window<'a> {
    /// On the bytes of a file before `limit`; nothing is read yet.
    ///
    /// # Errors
    /// Whatever the operating system says of the file's length.
    pub(super) fn new(
        file: &'a dyn File,
        name: &'a Arc<str>,
        limit: u64,
        progress: &'a dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<Window<'a>> {
        let bytes = file.bytes().map_err(|source| Error::io("look at", name, source))?;
        Ok(Window {
            file,
            name,
            progress,
            buffer: Vec::new(),
            start: 0,
            held: 0,
            length: bytes.min(limit),
            bad: Vec::new(),
            bad_extents: Vec::new(),
            told: 0,
        })
    }

    /// Where the bytes end that may be looked at: there the file ends, or what was asked for.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `at` on: as many as are held, and at least `need`, unless the file ends before that or a
    /// block cannot be read, which is where they end.
    ///
    /// # Errors
    /// Whatever the operating system says of the file; [`Error::TimedOut`] if the watcher gives up.
    ///
    /// # Panics
    /// If more is needed than a window can hold wherever it begins in a block.
    #[inline]
    pub(super) fn fetch(&mut self, at: u64, need: usize) -> Result<&[u8]> {
        if at >= self.length {
            return Ok(&[]);
        }
        let end = (at + need as u64).min(self.length);
        if at < self.start || end > self.start + self.held as u64 {
            self.move_to(at, need)?;
        }
        let held = self.start + self.held as u64;
        let end = if self.bad.is_empty() { held } else { self.readable_end(at).min(held) };
        if at >= end {
            return Ok(&[]);
        }
        Ok(&self.buffer[(at - self.start) as usize..(end - self.start) as usize])
    }

    /// Whether `need` bytes can be held at once, wherever they begin.
    pub(super) const fn holds(need: u64) -> bool {
        need <= (WINDOW_BYTES / 4) as u64
    }

    /// Whether some block of the range was found to be unreadable.
    pub(super) fn is_unreadable(&self, range: &Range<u64>) -> bool {
        let after = self.bad_extents.partition_point(|bad| bad.end <= range.start);
        self.bad_extents.get(after).is_some_and(|bad| bad.start < range.end)
    }

    /// All extents that were found to be unreadable: rising.
    pub(super) fn unreadable(&self) -> &[Range<u64>] {
        &self.bad_extents
    }

    /// Whether all bytes of the range are zeros, as far as the file goes; those that cannot be read are not.
    pub(super) fn all_zero(&mut self, range: Range<u64>) -> Result<bool> {
        self.first_set(range).map(|set| set.is_none())
    }

    /// The first block, or part of one, in the range that is not zeros; unreadable ones are not.
    pub(super) fn first_set(&mut self, range: Range<u64>) -> Result<Option<Range<u64>>> {
        let mut at = range.start;
        let end = range.end.min(self.length);
        while at < end {
            let stop = ((at + 1).next_multiple_of(BLOCK)).min(end);
            let bytes = self.fetch(at, (stop - at) as usize)?;
            let wanted = (stop - at) as usize;
            if bytes.len() < wanted || !all_zero(&bytes[..wanted]) {
                return Ok(Some(at..stop).filter(|_| at < self.length));
            }
            at = stop;
        }
        Ok(None)
    }

    /// Where the group after one that ended at `end` has to begin, as [`crate::format`] specifies; `None` if the
    /// bytes end before that.
    pub(super) fn next_group_at(&mut self, end: u64) -> Result<Option<u64>> {
        if end >= self.length {
            return Ok(None);
        }
        let boundary = block_up(end);
        let start = if self.all_zero(end..boundary)? { boundary } else { end };
        Ok((start < self.length).then_some(start))
    }

    /// Where the readable bytes from `at` on end.
    fn readable_end(&self, at: u64) -> u64 {
        let after = self.bad.partition_point(|bad| bad + BLOCK <= at);
        self.bad.get(after).copied().unwrap_or(u64::MAX)
    }

    /// Reads what is missing of a window that begins in the block of `at`.
    fn move_to(&mut self, at: u64, need: usize) -> Result<()> {
        assert!(need <= WINDOW_BYTES - BLOCK_BYTES, "a window holds what is asked for");
        if self.buffer.is_empty() {
            let bytes = self.length.next_multiple_of(BLOCK).min(WINDOW_BYTES as u64);
            self.buffer = vec![0; bytes as usize];
        }
        let start = at - at % BLOCK;
        let held = self.start + self.held as u64;
        let kept = if (self.start..held).contains(&start) { (held - start) as usize } else { 0 };
        let from = self.held - kept;
        self.buffer.copy_within(from..self.held, 0);
        (self.start, self.held) = (start, kept);
        self.bad.retain(|bad| *bad >= start && *bad < start + kept as u64);
        let missing = self.length.saturating_sub(start + kept as u64).min((self.buffer.len() - kept) as u64);
        if missing > 0 {
            self.read(missing as usize)?;
        }
        Ok(())
    }

    /// Reads so many bytes more behind those that are held.
    fn read(&mut self, bytes: usize) -> Result<()> {
        let at = self.start + self.held as u64;
        // What comes next is read while these bytes are checked.
        let next = at + bytes as u64;
        self.file.will_read(next..(next + WINDOW_BYTES as u64).min(self.length));
        let space = &mut self.buffer[self.held..self.held + bytes];
        let there = match self.file.read_at(space, at) {
            Err(error) if is_of_blocks(&error) => self.read_blocks(bytes)?,
            read => read.map_err(|source| Error::io("read", self.name, source))?,
        };
        self.held += there;
        if there < bytes {
            // Somebody cuts the file meanwhile.
            self.length = at + there as u64;
        }
        let end = at + there as u64;
        let more = end.saturating_sub(self.told.max(at));
        self.told = self.told.max(end);
        match (self.progress)(more) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::TimedOut),
        }
    }

    /// The same, block by block: those that cannot be read are zeros, and noted.
    fn read_blocks(&mut self, bytes: usize) -> Result<usize> {
        let mut done = 0;
        while done < bytes {
            let at = self.start + (self.held + done) as u64;
            let wanted = (bytes - done).min(BLOCK_BYTES);
            let space = &mut self.buffer[self.held + done..][..wanted];
            match self.file.read_at(space, at) {
                Ok(there) => {
                    done += there;
                    if there < wanted {
                        break;
                    }
                }
                Err(error) if is_of_blocks(&error) => {
                    space.fill(0);
                    done += wanted;
                    self.bad.push(at);
                    self.note_bad(at..at + wanted as u64);
                }
                Err(error) => return Err(Error::io("read", self.name, error)),
            }
        }
        Ok(done)
    }

    fn note_bad(&mut self, range: Range<u64>) {
        let index = self.bad_extents.partition_point(|bad| bad.end < range.start);
        match self.bad_extents.get_mut(index) {
            Some(bad) if bad.start <= range.end => {
                *bad = bad.start.min(range.start)..bad.end.max(range.end);
            }
            Some(bad) if self.told > range.end || index >= BAD_EXTENTS_MAX => {
                // Read again, or too many: what lies between is counted in.
                bad.start = bad.start.min(range.start);
            }
            None if index >= BAD_EXTENTS_MAX => {
                let last = self.bad_extents.last_mut().expect("there are many");
                last.end = range.end;
            }
            _ => self.bad_extents.insert(index, range),
        }
    }
}

/// Whether an error may be that of some blocks of a file, and not of all of it.
fn is_of_blocks(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    !matches!(
        error.kind(),
        Kind::NotFound
            | Kind::PermissionDenied
            | Kind::InvalidInput
            | Kind::IsADirectory
            | Kind::OutOfMemory
            | Kind::StaleNetworkFileHandle
            | Kind::Unsupported
    )
}
