//! Reading the log in order: as far as it goes, or waiting for more.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Instant;

use super::record::{Record, RecordRef};
use super::segments::Segments;
use crate::error::{Error, Result};
use crate::segment::{Spot, Step, View};
use crate::types::Lsn;

/// What a cursor reads from: a log that is open.
pub(crate) trait Source: Send + Sync + fmt::Debug {
    fn segments(&self) -> &Segments;
    /// The newest record that may be shown.
    fn durable(&self) -> Lsn;
    /// Waits until a record after `lsn` is durable, at most until `deadline`, and returns the newest one.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; what broke or closed the log.
    fn wait_beyond(&self, lsn: Lsn, deadline: Option<Instant>) -> Result<Lsn>;
    /// The segment that holds the record, which is next in it.
    ///
    /// # Errors
    /// As for [`Segments::view`].
    fn view(&self, lsn: Lsn) -> Result<View> {
        self.segments().view(lsn)
    }
}

/// Reads a range of records in order, without copying them.
///
/// It goes as far as records are durable: where it ended for that reason, it goes on when asked again later.
/// The segment that it is in stays readable while it is trimmed. Each record's checksum is verified, unless
/// the log was opened with `verify_reads(false)`. Allocates nothing from record to record.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
/// log.append_batch(&["one", "two"])?.wait()?;
/// let mut cursor = log.cursor(annals::Lsn::FIRST..)?;
/// let mut bytes = 0;
/// while let Some(record) = cursor.next()? {
///     bytes += record.len(); // lent until the next step; `next_record` gives one to keep
/// }
/// assert_eq!((bytes, cursor.next_lsn().get()), (6, 3));
/// log.append_durable(b"three")?;
/// assert!(cursor.next()?.is_some()); // it goes on
/// # log.close()
/// # }
/// ```
#[derive(Debug)]
pub struct Cursor {
    source: Arc<dyn Source>,
    /// The record to be read next.
    next: Lsn,
    /// The last record of the range.
    last: Lsn,
    /// How far it may read without asking again: the last record, or what was durable when it asked.
    bound: Lsn,
    /// The truncations that it knows of.
    cuts: u64,
    /// The segment that it is in.
    view: Option<View>,
}

impl Cursor {
    /// Before the first record of `range`.
    ///
    /// # Errors
    /// [`Error::Trimmed`] if the log begins after the start of the range.
    pub(crate) fn new(source: Arc<dyn Source>, range: &impl RangeBounds<Lsn>) -> Result<Cursor> {
        let segments = source.segments();
        let first = segments.first_lsn();
        let next = match range.start_bound() {
            Bound::Unbounded => first,
            Bound::Included(lsn) => (*lsn).max(Lsn::FIRST),
            Bound::Excluded(lsn) => lsn.next(),
        };
        let last = match range.end_bound() {
            Bound::Unbounded => Lsn::new(u64::MAX),
            Bound::Included(lsn) => *lsn,
            Bound::Excluded(lsn) => lsn.prev(),
        };
        if next < first && next <= last {
            return Err(Error::Trimmed { asked: next, first });
        }
        let cuts = segments.cuts();
        let bound = source.durable().min(last);
        Ok(Cursor { source, next, last, bound, cuts, view: None })
    }

    /// The next record; `None` at the end of the range, or of what is durable.
    ///
    /// # Errors
    /// [`Error::Trimmed`] when it has fallen behind a trim, [`Error::Rot`] or [`Error::Hole`] where the log is
    /// damaged, and whatever the operating system says. The cursor stays where it is.
    ///
    /// [`Error::Lost`] for records that a repair has given up: once for all of them that follow one another, also
    /// those outside of the range. The cursor goes on after them.
    #[expect(clippy::should_implement_trait, reason = "it lends: the record borrows from the cursor")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<RecordRef<'_>>> {
        let Some(spot) = self.advance()? else { return Ok(None) };
        let view = self.view.as_ref().expect("the cursor is in the segment that it has read");
        Ok(Some(RecordRef::new(view.pinned(), spot)))
    }

    /// Like [`next`](Cursor::next), with a record that lives on its own.
    ///
    /// # Errors
    /// As for [`next`](Cursor::next).
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        let Some(spot) = self.advance()? else { return Ok(None) };
        let view = self.view.as_ref().expect("the cursor is in the segment that it has read");
        Ok(Some(Record::new(Arc::clone(view.pinned()), spot)))
    }

    /// The records that are left, as an iterator. It goes on after [`Error::Lost`], and ends after any other error.
    #[must_use]
    pub fn records(self) -> Records {
        Records { cursor: Some(self) }
    }

    /// The LSN of the record to be read next; there may be none yet.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Goes to the next record and past it.
    #[inline]
    fn advance(&mut self) -> Result<Option<Spot>> {
        loop {
            if self.source.segments().cuts() != self.cuts {
                self.start_over();
            }
            if self.next > self.bound && !self.may_go_on() {
                return Ok(None);
            }
            let view = match &mut self.view {
                Some(view) => view,
                None => match self.source.view(self.next) {
                    Ok(view) => self.view.insert(view),
                    // It looked for what a truncation was just taking away.
                    Err(_) if self.source.segments().cuts() != self.cuts => continue,
                    Err(error) => return Err(error),
                },
            };
            match view.step(self.next)? {
                Step::Record(spot) => {
                    self.next = self.next.next();
                    return Ok(Some(spot));
                }
                Step::Control => self.next = self.next.next(),
                Step::Gap { last } => {
                    let (segments, durable) = (self.source.segments(), self.source.durable());
                    let error = segments.lost(view, (self.next, last), durable);
                    // Unless a truncation has just taken it away.
                    if segments.cuts() == self.cuts {
                        self.pass(&error);
                        return Err(error);
                    }
                }
                Step::End => self.view = None,
            }
        }
    }

    /// Goes past a gap that is told now, so that it is told once.
    #[cold]
    fn pass(&mut self, error: &Error) {
        if let Error::Lost { last, .. } = error {
            self.next = last.next();
            self.view = None;
        }
    }

    /// Asks how far it may read now; whether that is further.
    #[cold]
    fn may_go_on(&mut self) -> bool {
        self.bound = self.source.durable().min(self.last);
        self.next <= self.bound
    }

    /// Forgets what a truncation may have changed.
    #[cold]
    fn start_over(&mut self) {
        self.cuts = self.source.segments().cuts();
        self.view = None;
        self.bound = self.source.durable().min(self.last);
    }
}

/// The records that a cursor had left, as an iterator.
///
/// Records that a repair has given up are an [`Error::Lost`] among the others: whoever collects the records into a
/// `Result` is told, and whoever can do without them goes on. Any other error is the last item.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
/// log.append_batch(&["one", "two"])?.wait()?;
/// let records = log.cursor(..)?.records().collect::<annals::Result<Vec<_>>>()?;
/// assert_eq!(&*records[1], b"two");
/// # log.close()
/// # }
/// ```
#[derive(Debug)]
pub struct Records {
    cursor: Option<Cursor>,
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let read = self.cursor.as_mut()?.next_record();
        if !matches!(read, Ok(Some(_)) | Err(Error::Lost { .. })) {
            self.cursor = None;
        }
        read.transpose()
    }
}

/// Reads records in order and waits for new ones at the end of the log.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
/// use std::time::{Duration, Instant};
///
/// let mut tail = log.tail(annals::Lsn::FIRST)?;
/// assert!(tail.try_next()?.is_none());
/// log.append_durable(b"news")?;
/// let record = tail.next_until(Instant::now() + Duration::from_secs(5))?;
/// assert_eq!(record.as_deref(), Some(&b"news"[..]));
/// # log.close()
/// # }
/// ```
#[derive(Debug)]
pub struct TailCursor {
    cursor: Cursor,
}

impl TailCursor {
    /// Before the record `from`, which may be one that is yet to be appended.
    ///
    /// # Errors
    /// [`Error::Trimmed`] if the log begins after it.
    pub(crate) fn new(source: Arc<dyn Source>, from: Lsn) -> Result<TailCursor> {
        Ok(TailCursor { cursor: Cursor::new(source, &(from..))? })
    }

    /// The next record, as soon as it is durable.
    ///
    /// # Errors
    /// As for [`Cursor::next`]; [`Error::Closed`] or [`Error::Poisoned`] when no more records will come.
    #[expect(clippy::should_implement_trait, reason = "it lends: the record borrows from the cursor")]
    pub fn next(&mut self) -> Result<RecordRef<'_>> {
        let spot = self.wait(None)?.expect("without a deadline it waits for a record");
        Ok(self.lend(spot))
    }

    /// The next record; `None` if it is not durable by `deadline`.
    ///
    /// # Errors
    /// As for [`next`](TailCursor::next).
    pub fn next_until(&mut self, deadline: Instant) -> Result<Option<RecordRef<'_>>> {
        let spot = self.wait(Some(deadline))?;
        Ok(spot.map(|spot| self.lend(spot)))
    }

    /// The next record if it is durable already.
    ///
    /// # Errors
    /// As for [`Cursor::next`].
    pub fn try_next(&mut self) -> Result<Option<RecordRef<'_>>> {
        self.cursor.next()
    }

    /// The LSN of the record to be read next.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.cursor.next_lsn()
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Option<Spot>> {
        loop {
            if let Some(spot) = self.cursor.advance()? {
                return Ok(Some(spot));
            }
            let cursor = &self.cursor;
            match cursor.source.wait_beyond(cursor.next.prev(), deadline) {
                Ok(_) => {}
                Err(Error::TimedOut) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn lend(&self, spot: Spot) -> RecordRef<'_> {
        let view = self.cursor.view.as_ref().expect("the cursor is in the segment that it has read");
        RecordRef::new(view.pinned(), spot)
    }
}

#[cfg(test)]
mod tests;
