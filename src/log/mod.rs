//! The log itself: options, open, append, group commit, tickets, read, roll, recycle, trim.
//!
//! Imports every room above it. The way of a record: [`append`](Log::append) claims a place in the open group
//! (`append.rs`), fills it in the caller's thread and hands out a ticket; a flush closes the group, finds it a
//! place (`commit.rs`), writes it durably (`flush.rs`), moves the durable watermark and wakes those who wait
//! (`engine.rs`).

mod append;
mod backup;
#[cfg(feature = "bench")]
pub mod bench;
mod commit;
mod cursor;
mod engine;
mod flush;
mod keep;
mod observe;
mod open;
mod options;
mod panic;
pub(crate) mod prepare;
mod read_only;
mod record;
pub(crate) mod recover;
mod scrub;
pub(crate) mod segments;
mod stats;
pub(crate) mod store;
pub(crate) mod superblock_file;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod ticket;
mod trim;
mod truncate;
mod wheel;

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{LogId, Lsn, WriteMethod};

use append::{Batch, Single, WhenFull};
use engine::Engine;
use open::Shared;

pub use cursor::{Cursor, Records, TailCursor};
pub use options::{LogOptions, ZeroFill};
pub use read_only::ReadOnlyLog;
pub use record::{Record, RecordRef};
pub use scrub::ScrubStatus;
pub use stats::Stats;
pub use ticket::{Durability, Receipt, Ticket};

/// A log that is open for appending and reading.
///
/// Cheap to clone, and meant to be cloned for each thread that appends. The log is closed when
/// [`close`](Log::close) is called on any clone, or when the last clone, ticket and cursor is dropped.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use annals::{LogOptions, Lsn};
///
/// let log = LogOptions::new(dir.path().join("log")).segment_bytes(8 << 20).open()?;
/// let tickets = [log.append(b"one")?, log.append(b"two")?];
/// for ticket in tickets {
///     ticket.wait()?; // durable on this disk
/// }
/// let mut cursor = log.cursor(Lsn::FIRST..)?;
/// while let Some(record) = cursor.next()? {
///     println!("{}: {} bytes", record.lsn(), record.len());
/// }
/// log.close()
/// # }
/// ```
pub struct Log {
    handle: Arc<Handle>,
}

/// One clone of a log. Tickets count their references here, so that threads with clones of their own do not
/// meet on one counter.
#[derive(Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn engine(&self) -> &Engine {
        self.shared.engine()
    }
}

/// How far a log has come. Always `trimmed <= applied <= committed <= appended` and `durable <= appended`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Watermarks {
    /// The newest record that has an LSN.
    pub appended: Lsn,
    /// The newest record that is on this disk and synced.
    pub durable: Lsn,
    /// The newest record that is durable on a write quorum; without replicas, the same as `durable`.
    pub committed: Lsn,
    /// The newest record that was handed to the application; without replicas, the same as `committed`.
    pub applied: Lsn,
    /// The newest record that was trimmed away; [`Lsn::ZERO`] if none was.
    pub trimmed: Lsn,
}

/// What [`Log::set_mark`] stored last.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Mark {
    /// The LSN that the mark belongs to.
    pub lsn: Lsn,
    /// Whatever the program stored with it.
    pub bytes: Vec<u8>,
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>) -> Log {
        Log { handle: Arc::new(Handle { shared }) }
    }

    fn engine(&self) -> &Engine {
        self.handle.engine()
    }

    /// Appends a record and returns a ticket for it.
    ///
    /// Never waits for the disk: the record is copied into the group that is flushed next. Blocks only while
    /// more than [`in_flight_bytes_max`](LogOptions::in_flight_bytes_max) wait for the disk. The flush starts
    /// when somebody waits, when enough has gathered, or within a twentieth of a second.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// let tickets = [log.append(b"one")?, log.append(b"two")?]; // they share a sync
    /// for ticket in tickets {
    ///     println!("record {} is durable", ticket.wait()?.lsn());
    /// }
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`](crate::Error::RecordTooLarge) over
    /// [`record_bytes_max`](LogOptions::record_bytes_max); [`Error::NoSpace`](crate::Error::NoSpace) while the
    /// disk has no room for another segment; [`Error::Poisoned`](crate::Error::Poisoned) after a failed flush;
    /// [`Error::Closed`](crate::Error::Closed). The record is not in the log then.
    pub fn append(&self, record: &[u8]) -> Result<Ticket> {
        self.append_with(record, Durability::Durable)
    }

    /// Appends a record and returns a ticket that is redeemed when it is as durable as asked.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// use annals::Durability;
    ///
    /// let ticket = log.append_with(b"a reading", Durability::Buffered)?;
    /// ticket.wait()?; // at once: it is in memory
    /// log.sync()?; // now it is on the disk
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Log::append).
    pub fn append_with(&self, record: &[u8], durability: Durability) -> Result<Ticket> {
        let appended = self.engine().append(&Single(record), WhenFull::Block)?;
        Ok(Ticket::new(Arc::clone(&self.handle), appended, durability))
    }

    /// Appends a record, but does not block when as many bytes as allowed wait for the disk.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// match log.try_append(b"a sample") {
    ///     Ok(ticket) => drop(ticket),
    ///     Err(annals::Error::WouldBlock) => { /* the disk is behind: leave this one out */ }
    ///     Err(error) => return Err(error),
    /// }
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::WouldBlock`](crate::Error::WouldBlock) in that case; otherwise as for [`append`](Log::append).
    pub fn try_append(&self, record: &[u8]) -> Result<Ticket> {
        let appended = self.engine().append(&Single(record), WhenFull::Refuse)?;
        Ok(Ticket::new(Arc::clone(&self.handle), appended, Durability::Durable))
    }

    /// Appends records that live or die together: after a crash the log has all of them or none.
    ///
    /// They get consecutive LSNs and share one checksum.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// let receipt = log.append_batch(&["debit 5", "credit 5"])?.wait()?;
    /// assert_eq!(receipt.last_lsn(), receipt.lsn().next());
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::EmptyBatch`](crate::Error::EmptyBatch) without records;
    /// [`Error::TooManyRecords`](crate::Error::TooManyRecords) for more than 2,097,152; otherwise as for
    /// [`append`](Log::append), the size limit being on the batch as a whole, with 4 bytes more for each record.
    pub fn append_batch<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<Ticket> {
        let appended = self.engine().append(&Batch::new(records)?, WhenFull::Block)?;
        Ok(Ticket::new(Arc::clone(&self.handle), appended, Durability::Durable))
    }

    /// Appends a record and returns when it is durable.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// let receipt = log.append_durable(b"an order")?;
    /// assert_eq!(receipt.lsn(), annals::Lsn::FIRST);
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Log::append) and [`Ticket::wait`].
    pub fn append_durable(&self, record: &[u8]) -> Result<Receipt> {
        let engine = self.engine();
        let appended = engine.append(&Single(record), WhenFull::Block)?;
        engine.wait_durable(appended.seq, appended.last())?;
        Ok(Receipt::durable(&appended))
    }

    /// Makes durable all that was appended before, by any thread, and returns the newest durable LSN.
    ///
    /// Returns at once if all of it is durable already; otherwise waits for a write and its sync.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// drop(log.append(b"one")?);
    /// drop(log.append(b"two")?);
    /// assert_eq!(log.sync()?, annals::Lsn::new(2));
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) if a flush failed.
    pub fn sync(&self) -> Result<Lsn> {
        self.engine().sync()
    }

    /// Reads one record.
    ///
    /// Only durable records can be read. The record borrows the segment's memory map: nothing is copied, and
    /// the segment's file stays while the record lives, trimmed or not.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// let lsn = log.append_durable(b"hello")?.lsn();
    /// let record = log.read(lsn)?;
    /// assert_eq!(&*record, b"hello");
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Trimmed`](crate::Error::Trimmed) and [`Error::BeyondEnd`](crate::Error::BeyondEnd) if there is
    /// no such record; [`Error::Lost`](crate::Error::Lost) if a repair has given it up, with all of its neighbours
    /// that were; [`Error::Rot`](crate::Error::Rot) if its bytes no longer check.
    pub fn read(&self, lsn: Lsn) -> Result<Record> {
        let engine = self.engine();
        let last = engine.durable();
        // An epoch's start has an LSN and no bytes that are a caller's.
        let beyond = |last| Error::BeyondEnd { asked: lsn, last };
        match engine.store.segments.read(lsn, last) {
            Ok(record) => record.ok_or(beyond(last)),
            // It was truncated away meanwhile.
            Err(_) if lsn > engine.durable() => Err(beyond(engine.durable())),
            Err(error) => Err(error),
        }
    }

    /// A cursor over the records of a range, oldest first, as far as they are durable now.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// for word in ["one", "two", "three"] {
    ///     log.append_durable(word.as_bytes())?;
    /// }
    /// let mut cursor = log.cursor(annals::Lsn::new(2)..)?;
    /// while let Some(record) = cursor.next()? {
    ///     println!("{}: {} bytes", record.lsn(), record.len());
    /// }
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Trimmed`](crate::Error::Trimmed) if the range begins before the oldest record.
    pub fn cursor(&self, range: impl RangeBounds<Lsn>) -> Result<Cursor> {
        Cursor::new(Arc::clone(&self.handle.shared) as Arc<dyn cursor::Source>, &range)
    }

    /// A cursor from `from` on that waits for new durable records at the end.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// let mut tail = log.tail(annals::Lsn::FIRST)?;
    /// log.append_durable(b"news")?;
    /// assert_eq!(&*tail.next()?, b"news"); // waits if there is none yet
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Trimmed`](crate::Error::Trimmed) if `from` is before the oldest record.
    pub fn tail(&self, from: Lsn) -> Result<TailCursor> {
        TailCursor::new(Arc::clone(&self.handle.shared) as Arc<dyn cursor::Source>, from)
    }

    /// Forgets the records before `before`: the log begins there from now on. It may begin inside a batch, or among
    /// records that a repair has given up.
    ///
    /// Durable when it returns. Disk space is given back, or used again, in whole segments. Readers that are in
    /// a trimmed segment may finish it.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// let newest = log.append_batch(&["old", "old", "new"])?.wait()?.last_lsn();
    /// log.trim(newest)?;
    /// assert_eq!(log.first_lsn(), newest);
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::BeyondEnd`](crate::Error::BeyondEnd) if `before` is past the next record to be durable.
    pub fn trim(&self, before: Lsn) -> Result<()> {
        self.engine().trim(before)
    }

    /// Forgets the records after `after`: for a replica whose newest records were never committed.
    ///
    /// Waits for flushes in flight, and blocks appends meanwhile. Durable when it returns. The next record
    /// gets the LSN after `after`.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// let kept = log.append_durable(b"committed")?.lsn();
    /// log.append_durable(b"never committed")?;
    /// log.truncate(kept)?;
    /// assert_eq!(log.append_durable(b"instead")?.lsn(), kept.next());
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Trimmed`](crate::Error::Trimmed) before the oldest record,
    /// [`Error::BeyondEnd`](crate::Error::BeyondEnd) past the newest, and
    /// [`Error::InsideBatch`](crate::Error::InsideBatch) between records that live or die together;
    /// [`Error::Lost`](crate::Error::Lost) between records that a repair has given up: it can cut before the first
    /// and after the last that are named.
    pub fn truncate(&self, after: Lsn) -> Result<()> {
        self.engine().truncate(after)
    }

    /// The oldest record that the log has, or the one it will have next.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.engine().store.segments.first_lsn()
    }

    /// The newest durable record; [`Lsn::ZERO`] if there never was one.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.engine().durable()
    }

    /// How far the log has come.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// log.append_durable(b"record")?;
    /// let marks = log.watermarks();
    /// assert!(marks.trimmed <= marks.applied && marks.applied <= marks.committed);
    /// assert!(marks.committed <= marks.appended && marks.durable <= marks.appended);
    /// # log.close()
    /// # }
    /// ```
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        // In this order, each no newer than the ones after it.
        let trimmed = self.first_lsn().prev();
        let durable = self.engine().durable();
        let appended = self.engine().commit().appended();
        Watermarks { appended, durable, committed: durable, applied: durable, trimmed }
    }

    /// What the log has done since it was opened.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// log.append_durable(b"record")?;
    /// log.append_durable(b"record")?;
    /// assert_eq!(log.stats().groups, 2); // each waited for a sync of its own
    /// # log.close()
    /// # }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine().counters.stats()
    }

    /// What the [background check](LogOptions::scrub_bytes_per_s) has done since the log was opened, and the damage
    /// that it has found. Damage does not poison the log: records that are whole are read and appended as before.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let options = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20);
    /// let log = options.scrub_bytes_per_s(Some(10 << 20)).open()?;
    /// for stretch in log.scrub_status().damaged {
    ///     println!("{}, bytes {:?}: {:?}", stretch.file, stretch.bytes, stretch.lsns);
    /// }
    /// # log.close()
    /// # }
    /// ```
    #[must_use]
    pub fn scrub_status(&self) -> ScrubStatus {
        self.engine().scrub.status()
    }

    /// Stores a mark of the program's own beside the log, durably: say, up to where its state is in a snapshot.
    ///
    /// It replaces the one before. A crash leaves the old or the new one.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
    /// let lsn = log.append_durable(b"change 1")?.lsn();
    /// log.set_mark(lsn, b"snapshot-0001")?;
    /// assert_eq!(log.mark().map(|mark| mark.lsn), Some(lsn));
    /// # log.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::MarkTooLarge`](crate::Error::MarkTooLarge) over 60 KiB;
    /// [`Error::BeyondEnd`](crate::Error::BeyondEnd) if `lsn` is not durable.
    pub fn set_mark(&self, lsn: Lsn, bytes: &[u8]) -> Result<()> {
        self.engine().set_mark(lsn, bytes)
    }

    /// The mark that was stored last, also before the log was opened.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let superblock = self.engine().store.superblock.lock();
        let mark = superblock.current().mark.as_ref()?;
        Some(Mark { lsn: mark.lsn, bytes: mark.bytes.clone() })
    }

    /// The log's identity, drawn when it was created.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.engine().commit().log_id
    }

    /// How this log writes its groups.
    #[must_use]
    pub fn write_method(&self) -> WriteMethod {
        self.engine().store.files.write_method
    }

    /// What poisoned the log, if something did.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.engine().cause()
    }

    /// Flushes what was appended, closes the log for all its clones, and tells of errors on the way.
    ///
    /// The next open is fast then. Tickets that were not redeemed stay valid: all of them are durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) if a flush failed, now or before;
    /// [`Error::Closed`](crate::Error::Closed) if another clone closed the log first.
    pub fn close(self) -> Result<()> {
        self.handle.shared.close()
    }
}

impl Clone for Log {
    fn clone(&self) -> Log {
        Log::new(Arc::clone(&self.handle.shared))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.engine().store.options.dir).finish_non_exhaustive()
    }
}
