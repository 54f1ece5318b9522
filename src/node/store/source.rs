//! Reading the frames of one segment through a bounded window.
//!
//! With plain reads and not through a map: what the device cannot read is an error here, which a peer can help with,
//! and a signal there, which ends the process.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::outage::rest;
use crate::disk::{Disk, File, Gentle};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, Damage, Footer, Frame, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, IndexEntry,
    SegmentHeader, Tables, Walk, rescan_sealed,
};
use crate::segment::read_footer;
use crate::types::Lsn;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// The part of a segment that counts.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: Arc<dyn File>,
    pub(super) header: SegmentHeader,
    /// What the file is called.
    pub(super) name: Arc<str>,
    /// Where the last frame ends that counts.
    pub(super) end: u64,
    /// The last record that counts.
    pub(super) last: Lsn,
}

/// Some bytes of a segment, in memory that may be used for others.
#[derive(Debug, Default)]
pub(super) struct Window {
    start: u64,
    /// Memory, of which a part holds what was read.
    memory: Vec<u8>,
    held: usize,
    /// Whether the bytes that count end here, or the file does.
    is_last: bool,
}

impl Window {
    /// Bytes of memory that it takes.
    pub(super) const fn room(&self) -> usize {
        self.memory.len()
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[..self.held]
    }
}

/// Reads what is there of these bytes. `None` if they cannot be read: once may pass, but what cannot be read twice is as
/// lost as what does not check, and a peer has it (S11).
pub(super) fn read_twice(file: &dyn File, into: &mut [u8], position: u64) -> Option<usize> {
    file.read_at(into, position).or_else(|_| file.read_at(into, position)).ok()
}

/// Finds something; what cannot be read twice, with a rest in between, does not check.
///
/// # Errors
/// Whatever else the operating system says.
pub(super) fn find_readable<T>(disk: &dyn Disk, find: impl Fn() -> Result<Option<T>>) -> Result<Option<T>> {
    let again = |error| {
        if !is_unreadable(&error) {
            return Err(error);
        }
        rest(disk);
        find()
    };
    match find().or_else(again) {
        Err(error) if is_unreadable(&error) => Ok(None),
        found => found,
    }
}

/// Whether something could not be read, and it was not tried again.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error, Error::Io { doing: "read", .. })
}

impl Source {
    /// The same for whoever reads much of it while others wait for the disk.
    pub(super) fn gently(self) -> Source {
        Source { file: Arc::new(Gentle::new(self.file)), ..self }
    }

    /// Visits the frames in order, each of them checked, from the one that holds `from` on; `entry` is of a frame that
    /// is not past it. Holds `window_bytes` at a time, and more for a frame that is larger.
    ///
    /// # Errors
    /// [`Error::Rot`] and [`Error::Hole`], those of `visit`, and whatever the operating system says.
    pub(super) fn visit(
        &self,
        (from, entry): (Lsn, Option<IndexEntry>),
        window_bytes: u64,
        visit: &mut impl FnMut(&Frame<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        self.visit_in(&mut Window::default(), (from, entry), window_bytes, visit)
    }

    /// The same in memory that was used before.
    ///
    /// # Errors
    /// As for [`visit`](Source::visit).
    pub(super) fn visit_in(
        &self,
        window: &mut Window,
        (from, entry): (Lsn, Option<IndexEntry>),
        window_bytes: u64,
        visit: &mut impl FnMut(&Frame<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut next = self.header.first_lsn.max(from);
        let mut walk = self.walk(entry, next)?;
        // What is in it is of somewhere else.
        window.held = 0;
        self.slide(window, walk.position(), (window_bytes, next))?;
        let mut is_there = false;
        loop {
            walk = walk.within(window.start);
            let stepped = if is_there { walk.step(window.bytes()) } else { walk.seek(window.bytes(), next) };
            match stepped {
                Ok(Some((_, frame))) => {
                    let header = frame.header();
                    if header.lsn > next || header.last_lsn() < next {
                        break;
                    }
                    if visit(&frame)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    (is_there, next) = (true, header.last_lsn().next());
                    if next > self.last {
                        return Ok(ControlFlow::Continue(()));
                    }
                    continue;
                }
                Ok(None) if window.is_last => break,
                Err(fault) if window.is_last || fault.damage != Damage::Cut => {
                    return Err(self.rot(fault.bytes, next));
                }
                _ => {}
            }
            self.slide(window, walk.position(), (window_bytes, next))?;
        }
        Err(Error::Hole { file: self.name.clone(), first: next, last: self.last })
    }

    /// A walk that begins at `entry`, or with the segment.
    pub(super) fn walk(&self, entry: Option<IndexEntry>, next: Lsn) -> Result<Walk> {
        let incarnation = self.header.incarnation;
        let Some(entry) = entry else { return Ok(Walk::from_start(incarnation)) };
        let mut header = [0; GROUP_HEADER_BYTES];
        let there = self.read_at(&mut header, entry.group, next)?;
        let place = GroupPlace { incarnation, position: entry.group };
        let bytes = entry.group..entry.group + GROUP_HEADER_BYTES as u64;
        let header =
            GroupHeader::decode_at(&header[..there], place).map_err(|_| self.rot(bytes.clone(), next))?;
        Walk::inside(&header, entry.frame).map_err(|_| self.rot(bytes, next))
    }

    /// Moves the window to the block that holds `position`, for the record `next`; makes it larger if it is there already.
    fn slide(&self, window: &mut Window, position: u64, (bytes, next): (u64, Lsn)) -> Result<()> {
        let start = position - position % BLOCK;
        let held = window.held as u64;
        let wanted = if start == window.start && held > 0 { held * 2 } else { bytes.max(2 * BLOCK) };
        let wanted = wanted.min(self.end.saturating_sub(start));
        let size = usize::try_from(wanted).expect("a part of a segment that fits in memory");
        // What is there is written over. Memory that was never used is not cleared by hand: most reads are short.
        if window.memory.len() < size {
            window.memory = vec![0; size];
        }
        let into = &mut window.memory[..size];
        let there = self.read_at(into, start, next)?;
        (window.start, window.held) = (start, there);
        window.is_last = there < size || start + wanted >= self.end;
        Ok(())
    }

    /// The index of the segment, sealed, which is in its footer; made again from the frames where that does not check, or
    /// cannot be read.
    ///
    /// # Errors
    /// [`Error::Rot`], and whatever the operating system says.
    pub(super) fn index(&self) -> Result<Vec<IndexEntry>> {
        let footer = match read_footer(&*self.file, &self.name, &self.header) {
            Err(error) if is_unreadable(&error) => None,
            footer => footer?,
        };
        let is_own = |(footer, _): &(Footer, Tables)| footer.end == self.end && footer.last_lsn == self.last;
        if let Some((_, tables)) = footer.filter(is_own) {
            return Ok(tables.index().to_vec());
        }
        let mut bytes = vec![0; usize::try_from(self.end).expect("a segment that fits in memory")];
        let there = self.read_at(&mut bytes, 0, self.header.first_lsn)?;
        if there < bytes.len() {
            return Err(self.rot(there as u64..self.end, self.header.first_lsn));
        }
        // What does not check ends it: the way from there on is the same as without an index.
        Ok(rescan_sealed(&bytes, &self.header, self.last).tables.index().to_vec())
    }

    /// Whether the file is still this life of the segment.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn is_same(&self) -> Result<bool> {
        let mut block = vec![0; BLOCK_BYTES];
        let there = self.read_at(&mut block, 0, self.header.first_lsn)?;
        Ok(there == block.len() && SegmentHeader::decode(&block).ok() == Some(self.header))
    }

    /// Reads what is there of these bytes, where the record `next` was to be found.
    ///
    /// # Errors
    /// [`Error::Rot`] if they cannot be read.
    fn read_at(&self, into: &mut [u8], position: u64, next: Lsn) -> Result<usize> {
        read_twice(&*self.file, into, position)
            .ok_or_else(|| self.rot(position..position + into.len() as u64, next))
    }

    /// The error for a record that contradicts those before it, or that nobody understands.
    pub(super) fn contradiction(&self, lsn: Lsn) -> Error {
        self.rot(0..self.end, lsn)
    }

    /// The error for bytes that do not check, where the record `first` was to be read.
    pub(super) fn rot(&self, bytes: Range<u64>, first: Lsn) -> Error {
        Error::Rot { file: self.name.clone(), bytes, first, last: self.last.max(first) }
    }
}

/// A segment that is sealed, as readers know it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) header: SegmentHeader,
    pub(super) name: Arc<str>,
    pub(super) end: u64,
    pub(super) last: Lsn,
}

impl Stored {
    /// Opens it with the lock of readers: while it is open, the file is not used again.
    ///
    /// # Errors
    /// [`Error::Hole`] if the file is gone, [`Error::Rot`] if it is another one now, and whatever the operating system
    /// says.
    pub(super) fn open(&self, disk: &dyn Disk) -> Result<Source> {
        let (header, name) = (self.header, Arc::clone(&self.name));
        let file = match disk.open(&name, crate::disk::Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Hole { file: name, first: header.first_lsn, last: self.last });
            }
            file => file.map_err(|source| Error::io("open", &name, source))?,
        };
        let locked = file.try_lock(false).map_err(|source| Error::io("lock", &name, source))?;
        let source = Source { file, header, name, end: self.end, last: self.last };
        if locked && source.is_same()? { Ok(source) } else { Err(source.rot(0..BLOCK, header.first_lsn)) }
    }
}
