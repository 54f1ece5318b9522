//! A log that is opened for reading only, maybe while another process writes to it.

use std::fmt;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Instant;

use super::Mark;
use super::cursor::{Cursor, Source};
use super::options::LogOptions;
use super::record::Record;
use super::recover::{Beheld, behold};
use super::segments::Segments;
use super::superblock_file::{FoundSuperblock, SuperblockFile};
use crate::disk::{Disk, RealDisk};
use crate::error::{Error, Result};
use crate::format::Superblock;
use crate::types::{LogId, Lsn};

/// A log as it was at one moment: when it was opened, or last [refreshed](ReadOnlyLog::refresh).
///
/// Made with [`LogOptions::open_read_only`]. Takes no lock that a writer would notice and changes nothing; the
/// writer may be another process, this one, or gone. Shows only what is durable, and less than all of it
/// where a crashed writer left something to repair.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use annals::LogOptions;
///
/// let log = LogOptions::new(dir.path()).segment_bytes(8 << 20).open()?;
/// let one = log.append_durable(b"one")?;
/// let mut reader = LogOptions::new(dir.path()).open_read_only()?;
/// assert_eq!(&*reader.read(one.lsn())?, b"one");
///
/// let two = log.append_durable(b"two")?;
/// assert!(reader.refresh()?);
/// assert_eq!(&*reader.read(two.lsn())?, b"two");
/// # Ok(())
/// # }
/// ```
pub struct ReadOnlyLog {
    disk: Arc<dyn Disk>,
    verify_reads: bool,
    moment: Arc<Moment>,
}

/// What a log held at one moment.
#[derive(Debug)]
struct Moment {
    superblock: Superblock,
    segments: Segments,
    durable: Lsn,
}

impl LogOptions {
    /// Opens the log in the directory for reading only, beside a writer or without one.
    ///
    /// # Errors
    /// [`Error::NotALog`]; [`Error::Rot`], [`Error::Hole`], [`Error::SuperblockDamaged`],
    /// [`Error::ForeignFile`] and [`Error::NewerVersion`] as for [`open`](LogOptions::open); [`Error::Io`].
    pub fn open_read_only(self) -> Result<ReadOnlyLog> {
        let disk = RealDisk::open(&self.dir).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotALog,
            _ => Error::io("open", "", source),
        })?;
        self.open_read_only_on(Arc::new(disk))
    }

    fn open_read_only_on(self, disk: Arc<dyn Disk>) -> Result<ReadOnlyLog> {
        let moment = Arc::new(Moment::of(&disk, self.verify_reads)?);
        Ok(ReadOnlyLog { disk, verify_reads: self.verify_reads, moment })
    }
}

impl ReadOnlyLog {
    /// Looks at the log again; whether it has moved. Cursors and records from before stay as they are.
    ///
    /// Reads the headers of all segments and all of the newest one: meant for now and then.
    ///
    /// # Errors
    /// As for [`LogOptions::open_read_only`]; what was seen before can still be read then.
    pub fn refresh(&mut self) -> Result<bool> {
        let moment = Moment::of(&self.disk, self.verify_reads)?;
        let moved = (moment.durable, moment.superblock.first_lsn)
            != (self.moment.durable, self.moment.superblock.first_lsn);
        self.moment = Arc::new(moment);
        Ok(moved)
    }

    /// Reads one record.
    ///
    /// # Errors
    /// [`Error::Trimmed`] and [`Error::BeyondEnd`] if there is no such record; [`Error::Rot`] if its bytes no
    /// longer check.
    pub fn read(&self, lsn: Lsn) -> Result<Record> {
        let last = self.moment.durable;
        let read = self.moment.segments.read(lsn, last).or_else(|error| self.trimmed_since(lsn, error))?;
        read.ok_or(Error::BeyondEnd { asked: lsn, last })
    }

    /// Tells of a trim if that is why the record is not where it was at the last look.
    fn trimmed_since<T>(&self, lsn: Lsn, error: Error) -> Result<T> {
        match SuperblockFile::read(&*self.disk) {
            Ok(Some(FoundSuperblock { superblock, .. })) if lsn < superblock.first_lsn => {
                Err(Error::Trimmed { asked: lsn, first: superblock.first_lsn })
            }
            _ => Err(error),
        }
    }

    /// A cursor over the records of a range, oldest first.
    ///
    /// # Errors
    /// [`Error::Trimmed`] if the range begins before the oldest record.
    pub fn cursor(&self, range: impl RangeBounds<Lsn>) -> Result<Cursor> {
        Cursor::new(Arc::clone(&self.moment) as Arc<dyn Source>, &range)
    }

    /// The oldest record that the log has, or the one it will have next.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.moment.superblock.first_lsn
    }

    /// The newest record that is known to be durable; [`Lsn::ZERO`] if there never was one.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.moment.durable
    }

    /// The program's mark.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let mark = self.moment.superblock.mark.as_ref()?;
        Some(Mark { lsn: mark.lsn, bytes: mark.bytes.clone() })
    }

    /// The log's identity, drawn when it was created.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.moment.superblock.log_id
    }
}

impl fmt::Debug for ReadOnlyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first_lsn(), self.last_lsn());
        f.debug_struct("ReadOnlyLog")
            .field("first_lsn", &first)
            .field("last_lsn", &last)
            .finish_non_exhaustive()
    }
}

impl Moment {
    fn of(disk: &Arc<dyn Disk>, verify_reads: bool) -> Result<Moment> {
        let Beheld { superblock, segments, durable } = behold(&**disk)?;
        let segments = Segments::new(Arc::clone(disk), segments, verify_reads);
        Ok(Moment { superblock, segments, durable })
    }
}

impl Source for Moment {
    fn segments(&self) -> &Segments {
        &self.segments
    }

    fn durable(&self) -> Lsn {
        self.durable
    }

    fn wait_beyond(&self, _: Lsn, _: Option<Instant>) -> Result<Lsn> {
        // A moment does not move on.
        Err(Error::Closed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn options(dir: &Path) -> LogOptions {
        LogOptions::new(dir).segment_bytes(64 << 10)
    }

    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        let named = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries
            .map(|entry| (entry.path(), named(entry)))
            .map(|(path, name)| (name, std::fs::read(path).unwrap()))
            .collect()
    }

    fn lsns(log: &ReadOnlyLog) -> Vec<u64> {
        log.cursor(..).unwrap().records().map(|record| record.unwrap().lsn().get()).collect()
    }

    #[test]
    fn a_reader_follows_a_live_writer_and_never_shows_what_is_not_durable() {
        let dir = tempfile::tempdir().unwrap();
        let log = options(dir.path()).open().unwrap();
        let mut reader = options(dir.path()).open_read_only().unwrap();
        assert_eq!(reader.last_lsn(), Lsn::ZERO);
        for round in 0..60 {
            let receipt = log.append_durable(&[round; 3000]).unwrap();
            let not_waited_for = log.append(b"later").unwrap();
            let moved = reader.refresh().unwrap();
            assert!(moved && reader.last_lsn() >= receipt.lsn() && reader.last_lsn() <= not_waited_for.lsn());
            assert_eq!(*reader.read(receipt.lsn()).unwrap(), [round; 3000]);
            not_waited_for.wait().unwrap();
        }
        reader.refresh().unwrap();
        assert_eq!(lsns(&reader), (1..=120).collect::<Vec<_>>());
        assert!(matches!(reader.read(Lsn::new(121)), Err(Error::BeyondEnd { .. })));
    }

    #[test]
    fn a_reader_of_a_trimmed_and_recycled_log_reads_on_or_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = options(dir.path()).open().unwrap();
        log.append_durable(&[0; 3000]).unwrap();
        let mut reader = options(dir.path()).open_read_only().unwrap();
        let held = reader.read(Lsn::FIRST).unwrap();
        for round in 1..=100_u8 {
            let receipt = log.append_durable(&[round; 3000]).unwrap();
            log.trim(receipt.lsn()).unwrap();
        }
        assert_eq!(*held, [0; 3000], "what is held stays as it was");
        drop(held);
        // The map may be kept for a while, but no longer than the reader is.
        let stale = options(dir.path()).open_read_only().unwrap();
        let receipt = log.append_durable(b"next").unwrap();
        log.trim(receipt.lsn().next()).unwrap();
        for round in 0..60 {
            log.append_durable(&[round; 3000]).unwrap();
        }
        log.trim(log.last_lsn()).unwrap();
        assert!(matches!(stale.read(receipt.lsn()), Err(Error::Trimmed { .. })));
        reader.refresh().unwrap();
        assert_eq!(reader.first_lsn(), log.last_lsn());
        assert_eq!(*reader.read(log.last_lsn()).unwrap(), [59; 3000]);
        assert!(matches!(reader.read(Lsn::FIRST), Err(Error::Trimmed { .. })));
    }

    #[test]
    fn reading_changes_no_byte_of_a_closed_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = options(dir.path()).open().unwrap();
        let tickets: Vec<_> = (0..50).map(|round| log.append(&[round; 2000]).unwrap()).collect();
        tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
        log.set_mark(Lsn::new(7), b"mine").unwrap();
        log.close().unwrap();
        let before = files(dir.path());
        let reader = options(dir.path()).open_read_only().unwrap();
        assert_eq!(lsns(&reader), (1..=50).collect::<Vec<_>>());
        assert_eq!(reader.mark().unwrap().bytes, b"mine");
        drop(reader);
        assert!(before == files(dir.path()), "not a byte, not a name");
    }

    #[test]
    fn there_is_nothing_to_read_where_there_is_no_log() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("nowhere")] {
            assert!(matches!(options(&path).open_read_only(), Err(Error::NotALog)));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
