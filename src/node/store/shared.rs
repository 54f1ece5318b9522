//! What the store and its readers share.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::bulk::Pool;
use super::part::Part;
use super::recent::{Entry, Recent, Stretch};
use super::snapshots::Snapshot;
use super::source::{Source, Stored, Window};
use crate::disk::Disk;
use crate::disk::slab::Slab;
use crate::error::{Error, Result};
use crate::format::{Frame, IndexEntry};
use crate::types::{Lsn, LsnRange};

/// Sealed segments that are kept open.
const OPENED_MAX: usize = 32;
/// Frames in memory are copied together up to this size where they do not follow on one another; from this size on
/// they are handed out where they are.
const COPIED_BYTES: usize = 64 << 10;
/// The least and the most that is read from a file at a time.
const WINDOW_BYTES: (u64, u64) = (64 << 10, 1 << 20);

/// So much is read past the page cache, where it is wanted once.
const BULK_BYTES: std::ops::RangeInclusive<u64> = 128 << 10..=4 << 20;

/// What the store and its readers share. The locks are held for moments, never across a read or a write.
#[derive(Debug)]
pub(super) struct Shared {
    disk: Arc<dyn Disk>,
    view: Mutex<View>,
    /// A change is over, or the store closed.
    changed: Condvar,
    /// Memory for whoever reads next.
    window: Mutex<Window>,
    /// And for whoever reads much.
    pool: Pool,
    /// The one that was used last comes last.
    opened: Mutex<VecDeque<(Arc<Stored>, Arc<Opened>)>>,
}

/// The log as readers see it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    pub(super) durable: Lsn,
    /// Counts the changes that take something away, so that readers notice.
    changes: u64,
    /// Whether one is under way: what is listed need not be there.
    is_changing: bool,
    is_closed: bool,
    sealed: Vec<Arc<Stored>>,
    tail: Opened,
    pub(super) recent: Recent,
    /// The base.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Those before it that peers still receive.
    pub(super) older: Vec<Arc<Snapshot>>,
}

/// A segment to be read.
#[derive(Clone, Debug)]
struct Opened {
    source: Source,
    index: Vec<IndexEntry>,
}

/// What becomes of the records that are read from a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// A peer that catches up gets them, and what comes after, once. Whoever syncs meanwhile comes first.
    Feed,
    /// Somebody gets them, and what comes after, once.
    Once,
    /// Others may read the same soon.
    Again,
}

/// Where frames are.
enum Found {
    Memory(Vec<Stretch>),
    /// With what is known of the way there, and of what comes after.
    Tail(Source, Vec<IndexEntry>),
    Sealed(Arc<Stored>),
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, tail: Source, cache_bytes: u64) -> Shared {
        let bytes_max = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let view = View {
            first: Lsn::FIRST,
            last: Lsn::ZERO,
            durable: Lsn::ZERO,
            changes: 0,
            is_changing: false,
            is_closed: false,
            sealed: Vec::new(),
            tail: Opened { source: tail, index: Vec::new() },
            recent: Recent::new(bytes_max),
            snapshot: None,
            older: Vec::new(),
        };
        let (window, pool, opened) = (Mutex::default(), Pool::default(), Mutex::new(VecDeque::new()));
        Shared { disk, view: Mutex::new(view), changed: Condvar::new(), window, pool, opened }
    }

    /// Looks at the log, or changes what is known of it, for a moment.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut View) -> T) -> T {
        look(&mut self.view.lock())
    }

    /// Frames one after the other, from the one that holds the first record of the range on: at least one, and as many
    /// as begin in the range, lie together and have `bytes_max`. `None` if the log does not have the first.
    ///
    /// # Errors
    /// [`Error::Rot`] and [`Error::Hole`] if the first cannot be read, [`Error::Closed`], and whatever the operating
    /// system says.
    pub(super) fn frames(&self, range: LsnRange, bytes_max: u64, wanted: Use) -> Result<Option<Bytes>> {
        loop {
            let (found, changes) = {
                let view = self.view.lock();
                if view.is_closed {
                    return Err(Error::Closed);
                }
                if range.first < view.first || range.first > view.last {
                    return Ok(None);
                }
                (view.find(range.first, bytes_max), view.changes)
            };
            let read = match found {
                Found::Memory(stretches) => return Ok(gather(&stretches, range, bytes_max)),
                Found::Tail(source, index) => self.read(&source, &index, range, (bytes_max, wanted)),
                Found::Sealed(stored) => self.opened(&stored).and_then(|opened| {
                    let Opened { source, index } = &*opened;
                    self.read(source, index, range, (bytes_max, wanted))
                }),
            };
            match read {
                // What was looked for is not there any more, or in another file.
                Err(Error::Rot { .. } | Error::Hole { .. }) if self.has_changed(changes) => {}
                read => return read.map(Some),
            }
        }
    }

    /// Up to which record a read from this one on gets, if it takes at most `bytes_max` of one file: known without reading.
    /// `None` where only a read tells, and where none is needed because it is in memory.
    pub(super) fn reach(&self, from: Lsn, bytes_max: u64) -> Option<Lsn> {
        let (found, last) = {
            let view = self.view.lock();
            if view.is_closed || from < view.first || from > view.last {
                return None;
            }
            (view.find(from, bytes_max), view.last)
        };
        match found {
            Found::Memory(_) => None,
            Found::Tail(source, index) => reach((&source, &index), from, bytes_max),
            Found::Sealed(stored) => {
                let opened = self.opened(&stored).ok()?;
                reach((&opened.source, &opened.index), from, bytes_max)
            }
        }
        .filter(|reached| *reached <= last)
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The oldest sealed segment that ends after the record.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) fn sealed_after(&self, after: Lsn) -> Result<Option<Arc<Stored>>> {
        let view = self.view.lock();
        if view.is_closed {
            return Err(Error::Closed);
        }
        Ok(view.sealed.get(view.sealed.partition_point(|stored| stored.last <= after)).map(Arc::clone))
    }

    /// Whether the log has this segment, as it is known; while something is being taken away, once that is over.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) fn lists(&self, stored: &Arc<Stored>) -> Result<bool> {
        let mut view = self.view.lock();
        while view.is_changing && !view.is_closed {
            self.changed.wait(&mut view);
        }
        if view.is_closed {
            return Err(Error::Closed);
        }
        Ok(view.sealed_with(stored.header.first_lsn).is_some_and(|other| Arc::ptr_eq(other, stored)))
    }

    /// Frames from a file, copied.
    fn read(
        &self,
        source: &Source,
        index: &[IndexEntry],
        range: LsnRange,
        (bytes_max, wanted): (u64, Use),
    ) -> Result<Bytes> {
        let window_bytes = bytes_max.clamp(WINDOW_BYTES.0, WINDOW_BYTES.1);
        if wanted != Use::Again
            && BULK_BYTES.contains(&bytes_max)
            && let Some(frames) = source.bulk(&self.pool, index, range, (bytes_max, wanted))
        {
            return Ok(frames);
        }
        // Whoever reads at the same time makes one of its own.
        let mut window = std::mem::take(&mut *self.window.lock());
        let mut frames = Vec::new();
        let from = (range.first, before(index, range.first));
        let visited = source.visit_in(&mut window, from, window_bytes, &mut |frame| {
            let header = frame.header();
            let is_within =
                header.lsn <= range.last && frames.len() as u64 + header.frame_bytes() <= bytes_max;
            if !frames.is_empty() && !is_within {
                return Ok(ControlFlow::Break(()));
            }
            if frames.is_empty() {
                frames.reserve(usize::try_from(bytes_max.min(WINDOW_BYTES.1)).unwrap_or(0));
            }
            frames.extend_from_slice(frame.stored());
            Ok(ControlFlow::Continue(()))
        });
        if window.room() as u64 <= WINDOW_BYTES.1 {
            *self.window.lock() = window;
        }
        match visited {
            // What was read before it can be used.
            Err(Error::Rot { .. } | Error::Hole { .. }) if !frames.is_empty() => {}
            visited => drop(visited?),
        }
        Ok(frames.into())
    }

    /// The newest snapshot of those that are kept and that are meant.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) fn snapshot(&self, is_meant: impl Fn(&Snapshot) -> bool) -> Result<Option<Arc<Snapshot>>> {
        let view = self.view.lock();
        if view.is_closed {
            return Err(Error::Closed);
        }
        let mut all = view.snapshot.iter().chain(&view.older);
        Ok(all.find(|snapshot| is_meant(snapshot)).map(Arc::clone))
    }

    /// Whether something was taken away since then; if it is just being done, once it is over.
    fn has_changed(&self, since: u64) -> bool {
        let mut view = self.view.lock();
        while view.is_changing && !view.is_closed {
            self.changed.wait(&mut view);
        }
        view.changes != since || view.is_closed
    }

    /// Something is about to be taken away, or to be put into the place of something.
    pub(super) fn begin_change(&self) {
        self.view.lock().is_changing = true;
    }

    /// It is done. What is in memory may be something else now.
    pub(super) fn end_change(&self) {
        let mut view = self.view.lock();
        view.is_changing = false;
        view.changes += 1;
        view.recent.clear();
        self.changed.notify_all();
    }

    /// Nobody reads any more: the directory is about to be somebody else's.
    pub(super) fn close(&self) {
        let mut view = self.view.lock();
        view.is_closed = true;
        view.recent.clear();
        (view.snapshot, view.older) = (None, Vec::new());
        self.changed.notify_all();
    }

    fn opened(&self, stored: &Arc<Stored>) -> Result<Arc<Opened>> {
        {
            let mut opened = self.opened.lock();
            if let Some(at) = opened.iter().position(|(other, _)| Arc::ptr_eq(other, stored)) {
                let used = opened.remove(at).expect("just found");
                let found = Arc::clone(&used.1);
                opened.push_back(used);
                return Ok(found);
            }
        }
        let source = stored.open(&*self.disk)?;
        let index = source.index()?;
        let found = Arc::new(Opened { source, index });
        let mut opened = self.opened.lock();
        opened.push_back((Arc::clone(stored), Arc::clone(&found)));
        let gone = if opened.len() > OPENED_MAX { opened.pop_front() } else { None };
        drop(opened);
        // A file is closed outside of the lock.
        drop(gone);
        Ok(found)
    }

    /// Lets go of files that the log does not have any more, so that they can be used again.
    pub(super) fn close_unused(&self) {
        let view = self.view.lock();
        let mut opened = self.opened.lock();
        let is_used = |stored: &Arc<Stored>| {
            let at = view.sealed.partition_point(|other| other.header.first_lsn < stored.header.first_lsn);
            view.sealed.get(at).is_some_and(|other| Arc::ptr_eq(other, stored))
        };
        let (used, gone): (VecDeque<_>, VecDeque<_>) =
            opened.drain(..).partition(|(stored, _)| is_used(stored));
        *opened = used;
        drop((opened, view));
        drop(gone);
    }
}

impl View {
    fn find(&self, from: Lsn, bytes_max: u64) -> Found {
        let wanted = usize::try_from(bytes_max).unwrap_or(usize::MAX).clamp(1, COPIED_BYTES);
        let recent = self.recent.find(from, wanted);
        if !recent.is_empty() {
            return Found::Memory(recent);
        }
        if from >= self.tail.source.header.first_lsn {
            return Found::Tail(self.tail.source.clone(), near(&self.tail.index, from, bytes_max).to_vec());
        }
        match self.sealed_with(from) {
            Some(stored) => Found::Sealed(Arc::clone(stored)),
            None => Found::Tail(self.tail.source.clone(), Vec::new()),
        }
    }

    fn sealed_with(&self, lsn: Lsn) -> Option<&Arc<Stored>> {
        self.sealed[..self.sealed.partition_point(|stored| stored.header.first_lsn <= lsn)].last()
    }

    /// The name of the file that holds a record.
    pub(super) fn name_of(&self, lsn: Lsn) -> Arc<str> {
        let in_tail = lsn >= self.tail.source.header.first_lsn;
        let sealed = self.sealed_with(lsn).filter(|_| !in_tail);
        Arc::clone(sealed.map_or(&self.tail.source.name, |stored| &stored.name))
    }

    /// Takes note of a flush: of frames in the slab, and how far the tail reaches now.
    pub(super) fn flushed(&mut self, tail: &Part, slab: &Arc<Slab>, entries: &[Entry]) {
        self.durable = tail.last();
        self.tail.source.end = tail.extent.end;
        self.tail.source.last = tail.last();
        let known = self.tail.index.len();
        self.tail.index.extend_from_slice(&tail.extent.tables.index()[known..]);
        self.recent.flushed(tail.last(), slab, entries);
    }

    /// Takes note of the segments as they are now.
    pub(super) fn list(&mut self, parts: &[Part], tail: Source) {
        let sealed = parts.iter().take(parts.len() - 1).filter(|part| !part.is_empty());
        let mut known = std::mem::take(&mut self.sealed).into_iter().peekable();
        self.sealed = sealed
            .map(|part| {
                while known.next_if(|stored| stored.header.first_lsn < part.header.first_lsn).is_some() {}
                let is_same = |stored: &Arc<Stored>| {
                    let known = (&stored.header, &stored.name, stored.end, stored.last);
                    known == (&part.header, &part.name, part.extent.end, part.last())
                };
                known.next_if(is_same).unwrap_or_else(|| {
                    let (header, name) = (part.header, Arc::clone(&part.name));
                    Arc::new(Stored { header, name, end: part.extent.end, last: part.last() })
                })
            })
            .collect();
        let newest = parts.last().expect("a store has a tail");
        self.tail = Opened { source: tail, index: newest.extent.tables.index().to_vec() };
    }

    /// Takes note that something was taken away.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
    }
}

/// The last record before an index entry, or of the segment, up to which there are at most so many bytes.
fn reach((source, index): (&Source, &[IndexEntry]), from: Lsn, bytes_max: u64) -> Option<Lsn> {
    let end = before(index, from)?.frame.saturating_add(bytes_max);
    if source.end <= end {
        return Some(source.last).filter(|last| *last >= from);
    }
    let within = index.partition_point(|entry| entry.frame <= end);
    index[..within].last().filter(|entry| entry.lsn > from).map(|entry| entry.lsn.prev())
}

/// The entry for the record, and those after it, as far as so many bytes from there and one more.
fn near(index: &[IndexEntry], from: Lsn, bytes_max: u64) -> &[IndexEntry] {
    let index = &index[index.partition_point(|entry| entry.lsn <= from).saturating_sub(1)..];
    let end = index.first().map_or(0, |first| first.frame.saturating_add(bytes_max));
    &index[..index.len().min(index.partition_point(|entry| entry.frame <= end) + 1)]
}

/// The last entry that is not past the record.
pub(super) fn before(index: &[IndexEntry], lsn: Lsn) -> Option<IndexEntry> {
    index[..index.partition_point(|entry| entry.lsn <= lsn)].last().copied()
}

/// Frames from memory: where they are, if the first that is wanted is in a large stretch, else copied together.
fn gather(stretches: &[Stretch], range: LsnRange, bytes_max: u64) -> Option<Bytes> {
    let mut copied = Vec::new();
    for stretch in stretches {
        let bytes = stretch.bytes();
        if !copied.is_empty() && bytes.len() >= COPIED_BYTES {
            break;
        }
        let (mut start, mut end) = (None, 0);
        while end < bytes.len() {
            let frame = Frame::parse(&bytes[end..]).expect("frames as they were written");
            let header = frame.header();
            if header.last_lsn() >= range.first {
                let begun = *start.get_or_insert(end);
                let before = copied.len() + end - begun;
                let fits = header.lsn <= range.last && before as u64 + header.frame_bytes() <= bytes_max;
                if before > 0 && !fits {
                    break;
                }
            }
            end += frame.stored().len();
        }
        let is_whole = end == bytes.len();
        let Some(start) = start else { continue };
        if copied.is_empty() && (end - start >= COPIED_BYTES || !is_whole || stretches.len() == 1) {
            return Some(stretch.part(start..end));
        }
        copied.extend_from_slice(&bytes[start..end]);
        if !is_whole {
            break;
        }
    }
    (!copied.is_empty()).then(|| copied.into())
}
