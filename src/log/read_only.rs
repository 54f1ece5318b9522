//! A log that is only read, beside a writer in this or another process or without one.

mod watch;

use std::fmt;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::Mark;
use super::cursor::{Cursor, Source};
use super::options::LogOptions;
use super::record::Record;
use super::recover::{Watched, behold};
use super::segments::Segments;
use super::superblock_file::SuperblockFile;
use crate::disk::{Disk, RealDisk};
use crate::error::{Error, Result};
use crate::format::Superblock;
use crate::segment::{SUPERBLOCK, Sealed, View};
use crate::types::{LogId, Lsn};

/// A log as it was when it was opened, or last [refreshed](ReadOnlyLog::refresh).
///
/// Made with [`LogOptions::open_read_only`]. Cheap to clone: all clones see the same. Creates, writes and
/// removes nothing, and works on read-only media. A segment that it reads is kept from being used again by
/// the writer through a shared lock on its file; records that were read stay as they are.
///
/// It shows only what the log itself vouches for: records that the superblock or a later group of records
/// says are durable. While a writer is busy that is all but the newest groups, and within a moment of an idle
/// or an orderly end all of them. What was acknowledged right before a crash is shown once a writer has opened
/// the log again.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use annals::LogOptions;
///
/// let log = LogOptions::new(dir.path()).segment_bytes(8 << 20).open()?;
/// let reader = LogOptions::new(dir.path()).open_read_only()?;
/// let receipt = log.append_durable(b"news")?;
/// while reader.refresh()? < receipt.lsn() {
///     std::thread::yield_now();
/// }
/// assert_eq!(&*reader.read(receipt.lsn())?, b"news");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReadOnlyLog {
    shared: Arc<Shared>,
}

/// What all clones and cursors share.
#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    segments: Segments,
    durable: AtomicU64,
    superblock: Mutex<Superblock>,
    /// Where the log may grow. Held by the one who looks for news.
    newest: Mutex<Option<Watched>>,
}

impl LogOptions {
    /// Opens the log in the directory for reading only, beside a writer or without one.
    ///
    /// Changes nothing, also where a writer would repair something. Takes a time that depends on the newest
    /// segment and on the number of segments. Of the options, only the directory and
    /// [`verify_reads`](LogOptions::verify_reads) matter.
    ///
    /// # Errors
    /// [`Error::NotALog`] if there is none; [`Error::Rot`], [`Error::Hole`] and [`Error::SuperblockDamaged`] if
    /// acknowledged records are damaged or missing; [`Error::RepairUnfinished`]; [`Error::ForeignFile`],
    /// [`Error::NewerVersion`] and [`Error::Io`].
    pub fn open_read_only(self) -> Result<ReadOnlyLog> {
        let disk = RealDisk::open(&self.dir).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotALog,
            _ => Error::io("open", "", source),
        })?;
        self.open_read_only_on(Arc::new(disk))
    }

    /// Opens the log on a disk of the caller's for reading only.
    ///
    /// # Errors
    /// As for [`open_read_only`](LogOptions::open_read_only).
    #[cfg(any(test, feature = "sim"))]
    pub fn open_read_only_with(self, disk: Arc<dyn Disk>) -> Result<ReadOnlyLog> {
        self.open_read_only_on(disk)
    }

    fn open_read_only_on(self, disk: Arc<dyn Disk>) -> Result<ReadOnlyLog> {
        let found = behold(&*disk)?;
        let segments = Segments::new(Arc::clone(&disk), found.segments, self.verify_reads);
        let shared = Shared {
            disk,
            segments,
            durable: AtomicU64::new(found.durable.get()),
            superblock: Mutex::new(found.superblock),
            newest: Mutex::new(found.newest),
        };
        Ok(ReadOnlyLog { shared: Arc::new(shared) })
    }
}

impl ReadOnlyLog {
    /// Looks for newer records, and returns the newest that is known to be durable.
    ///
    /// Follows the writer across segments and trims. Reads what was appended since the last look; only after
    /// a truncation, or if segments in between were trimmed away meanwhile, everything is looked at as in an open. Cursors go
    /// on with what is new.
    ///
    /// # Errors
    /// As for [`LogOptions::open_read_only`]; what was seen before can still be read.
    pub fn refresh(&self) -> Result<Lsn> {
        let mut newest = self.shared.newest.lock();
        // Whatever is odd is looked at as a whole, and judged then.
        if !matches!(self.shared.follow(&mut newest), Ok(true)) {
            self.shared.start_over(&mut newest)?;
        }
        Ok(self.shared.durable())
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`Error::Trimmed`] and [`Error::BeyondEnd`] if there is no such record as far as was seen;
    /// [`Error::Lost`] if a repair has given it up; [`Error::Rot`] if its bytes no longer check; [`Error::Io`].
    pub fn read(&self, lsn: Lsn) -> Result<Record> {
        let shared = &self.shared;
        let record = shared.settled(|| shared.segments.read(lsn, shared.durable()))?;
        record.ok_or_else(|| Error::BeyondEnd { asked: lsn, last: shared.durable() })
    }

    /// A cursor over the records of a range, oldest first, as far as was seen; it goes on after a
    /// [`refresh`](ReadOnlyLog::refresh).
    ///
    /// # Errors
    /// [`Error::Trimmed`] if the range begins before the oldest record.
    pub fn cursor(&self, range: impl RangeBounds<Lsn>) -> Result<Cursor> {
        Cursor::new(Arc::clone(&self.shared) as Arc<dyn Source>, &range)
    }

    /// The oldest record that the log had at the last look, or the one it would have next.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.shared.segments.first_lsn()
    }

    /// The newest record that was known to be durable at the last look; [`Lsn::ZERO`] if there never was one.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.shared.durable()
    }

    /// The mark that the program had stored last, as of the last look.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let superblock = self.shared.superblock.lock();
        superblock.mark.as_ref().map(|mark| Mark { lsn: mark.lsn, bytes: mark.bytes.clone() })
    }

    /// The log's identity, drawn when it was created.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.shared.superblock.lock().log_id
    }
}

impl fmt::Debug for ReadOnlyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first_lsn(), self.last_lsn());
        f.debug_struct("ReadOnlyLog").field("first", &first).field("last", &last).finish_non_exhaustive()
    }
}

impl Shared {
    /// Reads on where the log may have grown; `false` if it is not the log that it was, or something that
    /// should be there is not.
    fn follow(&self, newest: &mut Option<Watched>) -> Result<bool> {
        let Some(newest) = newest else { return Ok(false) };
        let found = self.read_superblock()?;
        let known = self.superblock.lock();
        if found.sequence < known.sequence || found.durable < known.durable {
            return Ok(false);
        }
        drop(known);
        let seen = (newest.header.first_lsn, newest.extent.last);
        let mut full = Vec::new();
        loop {
            // Before the segment is read: whoever has a successor grows no more.
            let next = newest.successor(&*self.disk)?;
            let ended = next.as_ref().map(|next| (next.header.first_lsn.prev(), next.header.previous_digest));
            if !newest.read_on(&*self.disk, found.durable, ended.map(|(last, _)| last))? {
                return Ok(false);
            }
            let Some(next) = next else { break };
            if Some((newest.extent.last, newest.extent.digest)) != ended {
                return Ok(false);
            }
            full.push(std::mem::replace(newest, next).as_sealed());
        }
        // What a later trim has taken away need not be here.
        if newest.extent.last < found.durable.max(found.first_lsn.prev()) {
            return Ok(false);
        }
        if (newest.header.first_lsn, newest.extent.last) != seen {
            full.push(newest.as_sealed());
        }
        self.publish(full, newest.extent.last, found);
        Ok(true)
    }

    /// Lets readers at what is new: the newest segment as it is now, and those that follow it.
    fn publish(&self, grown: Vec<Sealed>, durable: Lsn, superblock: Superblock) {
        self.segments.grow(grown);
        self.segments.begin_at(superblock.first_lsn);
        drop(self.segments.take_trimmed());
        // Release: pairs with the Acquire in `durable`, so the list is seen with it.
        self.durable.store(durable.get(), Ordering::Release);
        *self.superblock.lock() = superblock;
    }

    /// Looks at the whole log again.
    fn start_over(&self, newest: &mut Option<Watched>) -> Result<()> {
        let id = self.superblock.lock().log_id;
        let found = behold(&*self.disk)?;
        check_id(id, &found.superblock)?;
        // After a truncation the watermark goes back first, so that whoever notices asks for nothing that is
        // gone; what is new is shown when the list has it.
        // Release: pairs with the Acquire in `durable`.
        self.durable.fetch_min(found.durable.get(), Ordering::Release);
        self.segments.renew(found.segments);
        self.durable.store(found.durable.get(), Ordering::Release);
        *self.superblock.lock() = found.superblock;
        *newest = found.newest;
        Ok(())
    }

    fn read_superblock(&self) -> Result<Superblock> {
        let found = SuperblockFile::read(&*self.disk)?.ok_or(Error::NotALog)?.superblock;
        check_id(self.superblock.lock().log_id, &found)?;
        Ok(found)
    }

    /// Reads, and if something is missing or is not what it was, looks at the whole log and reads again: the
    /// writer may have trimmed or truncated since the last look.
    fn settled<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        match read() {
            Err(Error::Rot { .. } | Error::Hole { .. }) => {
                self.start_over(&mut self.newest.lock())?;
                read()
            }
            done => done,
        }
    }
}

fn check_id(expected: LogId, superblock: &Superblock) -> Result<()> {
    let found = superblock.log_id;
    if found == expected {
        Ok(())
    } else {
        Err(Error::ForeignFile { file: SUPERBLOCK.into(), expected, found })
    }
}

impl Source for Shared {
    fn segments(&self) -> &Segments {
        &self.segments
    }

    fn durable(&self) -> Lsn {
        // Acquire: pairs with the Release in `publish`.
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    fn wait_beyond(&self, _: Lsn, _: Option<Instant>) -> Result<Lsn> {
        // It moves on when it is refreshed, not by itself.
        Err(Error::TimedOut)
    }

    fn view(&self, lsn: Lsn) -> Result<View> {
        self.settled(|| self.segments.view(lsn))
    }
}

#[cfg(test)]
mod tests;
