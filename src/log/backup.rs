//! A copy of a log that goes on being written: all that was durable at one moment, and nothing after it.

use std::path::Path;
use std::sync::Arc;

use super::Log;
use super::engine::Engine;
use super::superblock_file::SuperblockFile;
use crate::disk::{Disk, File, Lock, RealDisk};
use crate::error::{Error, Result};
use crate::format::{CleanTail, Digest, Mark, SegmentHeader, Superblock, rescan_sealed};
use crate::segment::{Extent, INCOMPLETE, LOCK, SUPERBLOCK, Segment, park_extent, seal_extent, segment_name};
use crate::types::{Lsn, WriteMethod};

/// Bytes that are copied at a time.
const CHUNK_BYTES: u64 = 1 << 20;

impl Log {
    /// Copies the log as it is now into the directory `to`, and returns the newest record of the copy.
    ///
    /// The copy has every record that was durable when this was called, and none after it; what is trimmed
    /// while it is made may be missing from its start. It has the log's identity and mark, and opens as fast as
    /// a log that was closed. Appends, rolls and trims go on meanwhile: no lock is held while bytes are copied.
    /// Every record's checksum is verified in the copy. Records that a repair has given up are so in the copy too. Takes about as long as reading, writing and syncing
    /// the log's files; needs memory for a chunk of 1 MiB and one segment's index.
    ///
    /// Durable when it returns. The directory is created if it does not exist, and has to be empty. Until the
    /// copy is whole it has no superblock and cannot be opened; what a failure leaves is removed where that is
    /// possible, and what a crash leaves is for the caller to remove.
    ///
    /// ```
    /// # fn main() -> annals::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// use annals::LogOptions;
    ///
    /// let log = LogOptions::new(dir.path().join("log")).segment_bytes(8 << 20).open()?;
    /// let receipt = log.append_durable(b"worth keeping")?;
    /// assert_eq!(log.backup(dir.path().join("copy"))?, receipt.lsn());
    ///
    /// let copy = LogOptions::new(dir.path().join("copy")).open()?;
    /// assert_eq!(&*copy.read(receipt.lsn())?, b"worth keeping");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if there is something in the directory, which is left as it is; [`Error::InUse`] if
    /// somebody else is about to put a log there; [`Error::Rot`] and [`Error::Hole`] if the log is damaged, so
    /// that no whole copy can be made; [`Error::NoSpace`] and [`Error::Io`]; [`Error::Closed`].
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<Lsn> {
        let disk = RealDisk::create(to).map_err(|source| Error::io("open", "", source))?;
        self.engine().backup_to(&disk)
    }

    /// Copies the log onto a disk of the caller's.
    ///
    /// # Errors
    /// As for [`backup`](Log::backup).
    #[cfg(any(test, feature = "sim"))]
    pub fn backup_with(&self, to: &dyn Disk) -> Result<Lsn> {
        self.engine().backup_to(to)
    }
}

impl Engine {
    /// Copies the log onto `disk`, which has to be empty.
    pub(crate) fn backup_to(&self, disk: &dyn Disk) -> Result<Lsn> {
        // A log that is only poisoned is still this process's own, and what was durable can be saved.
        if let Err(Error::Closed) = self.check() {
            return Err(Error::Closed);
        }
        let segments = &self.store.segments;
        let (mut cuts, mut moment) = (segments.cuts(), Moment::of(self));
        check_vacant(disk)?;
        let _lock = match disk.lock(LOCK).map_err(|source| Error::io("lock", LOCK, source))? {
            Lock::Held(lock) => lock,
            Lock::Taken(owner) => return Err(Error::InUse { owner }),
        };
        // Again: nobody but this thread puts anything there from here on.
        check_vacant(disk)?;
        let mut copy = Copy::begin(disk)?;
        loop {
            let Err(error) = self.copy(&moment, &mut copy) else { return Ok(moment.durable) };
            // A truncation has taken away what was to be copied: the log is another one now.
            let is_cut = segments.cuts() != cuts;
            if !is_cut || copy.forget_segments().is_err() {
                copy.abandon();
                return Err(error);
            }
            (cuts, moment) = (segments.cuts(), Moment::of(self));
        }
    }

    fn copy(&self, moment: &Moment, copy: &mut Copy<'_>) -> Result<()> {
        let mut first = moment.superblock.first_lsn;
        let mut clean_tail = None;
        for (index, piece) in moment.pieces.iter().enumerate() {
            if piece.last < first {
                continue;
            }
            let is_tail = index + 1 == moment.pieces.len() && piece.segment.as_tail().is_some();
            match copy.add(&*self.store.files.disk, piece, is_tail) {
                Ok(clean) => clean_tail = clean,
                // Trimmed away before it could be opened, and with it all that came before.
                Err(Error::Hole { .. } | Error::Rot { .. })
                    if piece.last < self.store.segments.first_lsn() =>
                {
                    first = self.store.segments.first_lsn().min(moment.durable.next());
                    copy.forget_segments()?;
                }
                Err(error) => return Err(error),
            }
        }
        copy.finish(Superblock { first_lsn: first, clean_tail, ..moment.superblock.clone() })
    }
}

/// What is copied: the log at one moment.
struct Moment {
    /// As it is to be in the copy, but for what is known only when the copy is made.
    superblock: Superblock,
    pieces: Vec<Piece>,
    durable: Lsn,
}

/// The durable part of a segment.
struct Piece {
    segment: Segment,
    /// Up to where bytes are copied: of the tail, what is durable; else all that there may be. After a
    /// truncation the last group goes on past the end.
    copied: u64,
    /// Where the last frame ends.
    end: u64,
    last: Lsn,
    digest: Digest,
}

impl Moment {
    /// The log as it is now, between two trims or truncations.
    fn of(engine: &Engine) -> Moment {
        let _alone = engine.keeping.lock();
        // The superblock first: what it says of the mark is durable by then.
        let current = engine.store.superblock.lock().current().clone();
        let commit = engine.commit();
        let (durable, epoch) = (engine.durable(), commit.epoch);
        // Under this lock, what the tail has taken note of is what is durable.
        let all = engine.store.segments.all();
        let pieces: Vec<_> = all.into_iter().filter_map(|segment| Piece::of(segment, durable)).collect();
        drop(commit);
        // After the list: what was taken off it is before the trim point.
        let first_lsn = engine.store.segments.first_lsn().min(durable.next());
        assert!(current.mark.as_ref().is_none_or(|Mark { lsn, .. }| *lsn <= durable), "a mark is durable");
        assert!(pieces.last().map_or(first_lsn.prev(), |piece| piece.last) == durable, "all that is durable");
        let fresh = Superblock::new(current.log_id, current.write_method);
        let superblock = Superblock {
            sequence: fresh.sequence,
            epoch: current.epoch.max(epoch),
            durable,
            first_lsn,
            clean_tail: None,
            ..current
        };
        Moment { superblock, pieces, durable }
    }
}

impl Piece {
    /// What of the segment is durable; `None` if nothing is.
    fn of(segment: Segment, durable: Lsn) -> Option<Piece> {
        if segment.first_lsn() > durable {
            return None;
        }
        let (copied, end, last, digest) = match &segment {
            Segment::Tail(tail) => {
                tail.with_extent(|extent| (extent.end, extent.end, extent.last, extent.digest))
            }
            Segment::Sealed(sealed) => {
                (sealed.header().data_end(), sealed.end(), sealed.last_lsn(), sealed.digest())
            }
        };
        assert!(last <= durable, "a segment takes note of what is durable");
        Some(Piece { segment, copied, end, last, digest })
    }

    /// The segment's file, which stays what it is while it is open.
    fn open(&self, disk: &dyn Disk) -> Result<Arc<dyn File>> {
        match &self.segment {
            // It holds the lock of readers itself.
            Segment::Tail(tail) => Ok(Arc::clone(tail.file())),
            Segment::Sealed(sealed) => sealed.open_locked(disk),
        }
    }

    /// Reads the copied bytes as recovery would: all of the records, or an error.
    fn verify(&self, bytes: &[u8]) -> Result<Extent> {
        let header = self.segment.header();
        let scan = rescan_sealed(bytes, header, self.last);
        // The digest of a segment that was repaired may be over frames that are lost: it goes on as it is stated.
        let is_same = scan.has_gaps || scan.digest == self.digest;
        if !scan.verdict.is_loss() && scan.end == self.end && is_same {
            return Ok(Extent { digest: self.digest, ..Extent::of_scan(&scan) });
        }
        let (first, last) = (scan.last_lsn.next().min(self.last), self.last);
        Err(Error::Rot { file: self.segment.name(), bytes: scan.end.min(self.end)..self.end, first, last })
    }
}

/// The copy while it is made.
struct Copy<'a> {
    disk: &'a dyn Disk,
    /// The segments' files that were created.
    names: Vec<String>,
    /// The newest of them.
    newest: Option<Arc<dyn File>>,
}

impl<'a> Copy<'a> {
    /// Marks the directory as one that holds no log, before there is anything that looks like one.
    fn begin(disk: &'a dyn Disk) -> Result<Copy<'a>> {
        let copy = Copy { disk, names: Vec::new(), newest: None };
        match io("create", INCOMPLETE, disk.create(INCOMPLETE)).and_then(|_| copy.sync_names()) {
            Ok(()) => Ok(copy),
            Err(error) => {
                copy.abandon();
                Err(error)
            }
        }
    }

    /// Copies a segment, and closes it with a footer. Returns where the log ends if it is the tail.
    fn add(&mut self, from: &dyn Disk, piece: &Piece, is_tail: bool) -> Result<Option<CleanTail>> {
        let source = piece.open(from)?;
        let header = piece.segment.header();
        let name = segment_name(header.first_lsn);
        let file = io("create", &name, self.disk.create(&name))?;
        self.names.push(name.clone());
        // All of it: the copy may be appended to, and its files recycled.
        io("reserve space for", &name, file.allocate(header.segment_bytes))?;
        copy_bytes(&*source, &*file, (piece, &name))?;
        let map = io("map", &name, file.map())?;
        // Nothing is written to it from here on but the footer.
        map.publish(piece.copied.min(map.mapped()));
        let extent = piece.verify(map.bytes(0..map.published()))?;
        drop(map);
        let clean_tail = close(&*file, header, &extent, (piece, is_tail, self.disk.wall_ms()))?;
        self.newest = Some(file);
        Ok(clean_tail)
    }

    /// Makes the copy a log: its superblock comes when all the rest is durable.
    fn finish(&mut self, mut superblock: Superblock) -> Result<()> {
        superblock.write_method = self.supported(superblock.write_method)?;
        self.sync_names()?;
        SuperblockFile::create(self.disk, superblock)?;
        io("remove", INCOMPLETE, self.disk.remove(INCOMPLETE))?;
        self.sync_names()
    }

    /// The write method to go on with: the file system may be another one.
    fn supported(&self, method: WriteMethod) -> Result<WriteMethod> {
        let Some(newest) = &self.newest else { return Ok(method) };
        match newest.writer(method) {
            Ok(_) => Ok(method),
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(WriteMethod::Buffered),
            Err(source) => Err(Error::io("open", SUPERBLOCK, source)),
        }
    }

    /// Removes the segments that were copied.
    fn forget_segments(&mut self) -> Result<()> {
        self.newest = None;
        while let Some(name) = self.names.last() {
            io("remove", name, self.disk.remove(name))?;
            self.names.pop();
        }
        // A later copy may have the same names.
        self.sync_names()
    }

    /// Removes everything again, the mark last. The error that led to it is the one to tell.
    fn abandon(mut self) {
        let unfinished = format!("{SUPERBLOCK}.tmp");
        for name in [SUPERBLOCK, &unfinished] {
            match self.disk.remove(name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return,
                _ => {}
            }
        }
        // Without a superblock first, so that what a crash leaves is no log.
        if self.sync_names().is_err() || self.forget_segments().is_err() {
            return;
        }
        let _ = self.disk.remove(INCOMPLETE);
        let _ = self.sync_names();
    }

    fn sync_names(&self) -> Result<()> {
        io("sync", "", self.disk.sync_dir())
    }
}

/// Refuses a directory that holds anything but a lock.
fn check_vacant(disk: &dyn Disk) -> Result<()> {
    let names = io("list files", "", disk.list())?;
    if names.iter().all(|name| name == LOCK) { Ok(()) } else { Err(Error::NotEmpty) }
}

/// Copies what is durable of a segment; what follows it in the copy are zeros.
fn copy_bytes(source: &dyn File, file: &dyn File, (piece, name): (&Piece, &str)) -> Result<()> {
    let mut chunk = vec![0; piece.copied.min(CHUNK_BYTES) as usize];
    let mut at = 0;
    while at < piece.copied {
        let bytes = (piece.copied - at).min(CHUNK_BYTES) as usize;
        let there = io("read", &piece.segment.name(), source.read_at(&mut chunk[..bytes], at))?;
        if there < bytes {
            let cut = at + there as u64..piece.copied;
            let (first, last) = (piece.segment.first_lsn(), piece.last);
            return Err(Error::Rot { file: piece.segment.name(), bytes: cut, first, last });
        }
        io("write", name, file.write_at(&chunk[..bytes], at))?;
        at += bytes as u64;
    }
    Ok(())
}

/// Writes the footer and syncs the file.
fn close(
    file: &dyn File,
    header: &SegmentHeader,
    extent: &Extent,
    (piece, is_tail, wall_ms): (&Piece, bool, u64),
) -> Result<Option<CleanTail>> {
    if is_tail {
        return park_extent(file, header, extent, wall_ms).map(Some);
    }
    let sealed_at_ms = match &piece.segment {
        Segment::Sealed(sealed) => sealed.sealed_at_ms(),
        // Full, and not sealed yet.
        Segment::Tail(_) => wall_ms,
    };
    seal_extent(file, header, extent, sealed_at_ms).map(|_| None)
}

fn io<T>(doing: &'static str, name: &str, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::io(doing, name, source))
}
