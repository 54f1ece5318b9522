//! A new log of all that is readable in an old one.

use std::cell::Cell;
use std::sync::Arc;

use super::plan::{SuperblockRecipe, begun_in, damage_by_file, readable_pieces};
use super::rebuild::{
    Ending, FoundFrame, GAP_FRAMES_MAX, NewSegment, Piece, RunFrames, Source, segment_bytes_for,
};
use super::report::{Report, SegmentReport};
use super::watch::Watch;
use crate::disk::{Access, Disk, Lock};
use crate::error::{Error, Result};
use crate::format::{
    Digest, FRAME_HEADER_BYTES, FrameKind, Incarnation, Mark, SEGMENT_BYTES_MIN, SegmentHeader, Superblock,
    footer_bytes_for,
};
use crate::segment::{INCOMPLETE, LOCK, SUPERBLOCK, Stretch, UNFINISHED, segment_name};
use crate::types::{Epoch, LogId, Lsn, LsnRange, SegmentId, WriteMethod};

/// Progress is told about once for so many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What was salvaged.
#[derive(Clone, Debug)]
pub struct Salvaged {
    /// Records in the new log.
    pub records: u64,
    /// LSNs that it says are lost: rising, merged.
    pub gaps: Vec<LsnRange>,
}

/// Makes a new, whole log on `to`, which has to be empty, of all that is readable. Records keep their LSNs.
///
/// The new log has an identity of its own, and the mark of the old one if that can be read; its frames are byte for
/// byte those of the old one. What is lost, is lost in it as it would be after a repair. The report has to be one of
/// [`verify`](super::verify). The old log is only read, and may be one on a read-only file system. If it is being
/// written to, the new one has what the report knows of.
///
/// Durable when it returns; until it is whole it has no superblock and cannot be opened. What a failure leaves is
/// removed where that is possible, and what a crash leaves is for the caller to remove.
///
/// ```
/// # #[cfg(unix)]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use annals::disk::{Disk, RealDisk};
/// use annals::repair::{self, Silent};
/// # use annals::{LogOptions, Lsn};
/// # let temporary = tempfile::tempdir()?;
/// # let dir = temporary.path().join("orders");
/// # let log = LogOptions::new(&dir).segment_bytes(1 << 20).open()?;
/// # log.append_durable(b"two lamps")?;
/// # log.close()?;
///
/// # let new = temporary.path().join("salvaged");
/// # std::fs::create_dir(&new)?;
/// let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir)?);
/// let report = repair::verify(&disk, 2, &Silent)?;
/// let salvaged = repair::salvage(&disk, &report, &RealDisk::open(&new)?, &Silent)?;
/// assert_eq!((salvaged.records, salvaged.gaps.len()), (1, 0));
///
/// let log = LogOptions::new(&new).open()?;
/// assert_eq!(&*log.read(Lsn::FIRST)?, b"two lamps");
/// # log.close()?;
/// # Ok(())
/// # }
/// # #[cfg(not(unix))] fn main() {}
/// ```
///
/// # Errors
/// [`Error::NotEmpty`]; [`Error::NotALog`] if nothing is known of the old log; [`Error::InUse`] if somebody is about
/// to put a log on `to`; [`Error::Outdated`] if the old log is not any more what the report says;
/// [`Error::TimedOut`] if the watcher gives up; [`Error::NoSpace`]; whatever the operating system says.
///
/// # Panics
/// If the report is one of [`inspect`](super::inspect), which does not know what can be read.
pub fn salvage(from: &Arc<dyn Disk>, report: &Report, to: &dyn Disk, watch: &dyn Watch) -> Result<Salvaged> {
    assert!(report.is_verified, "a log is made of what can be read");
    if report.log_id.is_none() {
        return Err(Error::NotALog);
    }
    // No frame can have this LSN, so none can say that it is lost.
    if report.last_lsn.get() == u64::MAX {
        return Err(Error::NotRepairable { file: SUPERBLOCK.into() });
    }
    check_vacant(to)?;
    let _lock = match io("lock", LOCK, to.lock(LOCK))? {
        Lock::Held(lock) => lock,
        Lock::Taken(owner) => return Err(Error::InUse { owner }),
    };
    // Again: nobody but this thread puts anything there from here on.
    check_vacant(to)?;
    let mut author = Author::new(to, report, watch);
    let written =
        author.begin().and_then(|()| author.write(&**from, report)).and_then(|()| author.finish(report));
    match written {
        Ok(()) => Ok(Salvaged { records: author.records, gaps: author.gaps }),
        Err(error) => {
            author.abandon();
            Err(error)
        }
    }
}

/// Whoever writes the new log.
struct Author<'a> {
    disk: &'a dyn Disk,
    watch: &'a dyn Watch,
    log_id: LogId,
    segment_bytes: u64,
    /// The names of the segments that were created.
    names: Vec<String>,
    segment: Option<NewSegment>,
    /// The end digest of the segment before that one.
    digest: Digest,
    /// The oldest record that is retained, and the next one to be written.
    first: Lsn,
    next: Lsn,
    /// The newest one that is known of.
    last: Lsn,
    epoch: Epoch,
    records: u64,
    gaps: Vec<LsnRange>,
    told: Cell<u64>,
}

impl<'a> Author<'a> {
    fn new(disk: &'a dyn Disk, report: &Report, watch: &'a dyn Watch) -> Author<'a> {
        let last = report.segments.last();
        Author {
            disk,
            watch,
            log_id: LogId::new(u128::from(disk.entropy()) << 64 | u128::from(disk.entropy())),
            // As large as the newest one: that is what the log was last configured with.
            segment_bytes: last.map_or(SEGMENT_BYTES_MIN, |last| last.header.segment_bytes),
            names: vec![],
            segment: None,
            digest: Digest::ZERO,
            first: report.first_lsn,
            next: report.first_lsn,
            last: report.last_lsn,
            epoch: begun_in(report, 0),
            records: 0,
            gaps: vec![],
            told: Cell::new(0),
        }
    }

    /// Marks the directory as one that holds no log, before there is anything that looks like one.
    fn begin(&self) -> Result<()> {
        io("create", INCOMPLETE, self.disk.create(INCOMPLETE))?;
        self.sync_names()
    }

    /// Copies what can be read of all segments, with gaps for what is not there.
    fn write(&mut self, from: &dyn Disk, report: &Report) -> Result<()> {
        let runs = report.segments.iter().flat_map(|segment| &segment.runs);
        self.watch.begin(runs.map(|run| run.bytes.end - run.bytes.start).sum());
        let damage = damage_by_file(report);
        for segment in &report.segments {
            let damage = damage.get(&*segment.file).map_or(&[][..], |damage| damage);
            self.copy(from, (segment, damage))?;
        }
        if let Some(lost) = LsnRange::new(self.next, report.last_lsn) {
            self.give_up(lost)?;
        }
        Ok(())
    }

    fn copy(&mut self, from: &dyn Disk, (segment, damage): (&SegmentReport, &[&Stretch])) -> Result<()> {
        let last = segment.last_lsn.min(self.last);
        let pieces = readable_pieces(from, segment, (damage, last))?;
        let corrections: Vec<_> = damage.iter().filter_map(|stretch| stretch.correction).collect();
        let name = Arc::clone(&segment.file);
        let file = io("open", &name, from.open(&name, Access::Read))?;
        let mut source = Source::new(file, name, segment.header.incarnation, &corrections);
        for piece in &pieces {
            let Piece::Frames(run) = piece else { continue };
            let mut frames = RunFrames::new(&mut source, run);
            while let Some(frame) = frames.next(&mut source)? {
                self.frame(&mut source, &frame)?;
                self.advance(frame.header.frame_bytes())?;
            }
        }
        Ok(())
    }

    /// Copies a frame, unless its records are trimmed or there already.
    fn frame(&mut self, source: &mut Source, frame: &FoundFrame) -> Result<()> {
        let header = frame.header;
        // The first one may begin before the first record that is retained.
        let begins = self.names.is_empty() && header.lsn < self.next && header.last_lsn() >= self.next;
        // Segments that do not continue one another may have epochs that do not either.
        if (header.lsn < self.next && !begins) || header.epoch < self.epoch {
            return Ok(());
        }
        if begins {
            self.next = header.lsn;
        }
        if let Some(lost) = LsnRange::new(self.next, header.lsn.prev()) {
            self.give_up(lost)?;
        }
        self.segment_for(header.frame_bytes(), header.epoch)?.copy(source, frame, false)?;
        (self.next, self.epoch) = (header.last_lsn().next(), header.epoch);
        if let Some(lsns) = LsnRange::new(header.lsn.max(self.first), header.last_lsn()) {
            match header.kind {
                FrameKind::Gap => self.note_gap(lsns),
                _ => self.records += lsns.records(),
            }
        }
        Ok(())
    }

    /// Says that these records, the next ones, are lost.
    fn give_up(&mut self, lost: LsnRange) -> Result<()> {
        let most = u64::from(u32::MAX);
        if lost.records().div_ceil(most) > GAP_FRAMES_MAX {
            return Err(Error::NotRepairable { file: segment_name(lost.first).into() });
        }
        let mut first = lost.first;
        while first <= lost.last {
            let last = lost.last.min(first.plus(most - 1));
            let epoch = self.epoch;
            self.segment_for(FRAME_HEADER_BYTES as u64, epoch)?.give_up(LsnRange { first, last }, epoch)?;
            self.next = last.next();
            first = self.next;
        }
        self.note_gap(lost);
        Ok(())
    }

    fn note_gap(&mut self, lsns: LsnRange) {
        match self.gaps.last_mut() {
            Some(last) if last.last.next() == lsns.first => last.last = lsns.last,
            _ => self.gaps.push(lsns),
        }
    }

    /// The segment that takes a frame like this next.
    fn segment_for(&mut self, frame_bytes: u64, epoch: Epoch) -> Result<&mut NewSegment> {
        let full = self.segment.take_if(|segment| !segment.takes(frame_bytes, epoch));
        if let Some(full) = full {
            let ending = Ending::Sealed { stated: None, sealed_at_ms: self.disk.wall_ms() };
            self.digest = full.finish(ending)?.digest;
        }
        match &mut self.segment {
            Some(segment) => Ok(segment),
            none => {
                let name = segment_name(self.next);
                let segment_bytes = segment_bytes_for(frame_bytes, 1, self.segment_bytes)
                    .ok_or_else(|| Error::NotRepairable { file: name.as_str().into() })?;
                let header = SegmentHeader {
                    log_id: self.log_id,
                    incarnation: Incarnation::new(self.disk.entropy()),
                    segment_id: SegmentId::new(self.names.len() as u64 + 1),
                    first_lsn: self.next,
                    epoch,
                    previous_digest: self.digest,
                    segment_bytes,
                    footer_bytes: footer_bytes_for(segment_bytes),
                };
                // Before it is there, so that it is removed even if only part of it was made.
                self.names.push(name.clone());
                Ok(none.insert(NewSegment::create(self.disk, name, header)?))
            }
        }
    }

    /// Makes it a log: its superblock comes when all the rest is durable.
    fn finish(&mut self, report: &Report) -> Result<()> {
        if let Some(tail) = self.segment.take() {
            tail.finish(Ending::Open)?;
        }
        self.sync_names()?;
        let old = report.superblock.chosen.as_ref();
        let method = old.map_or(WriteMethod::Direct, |old| old.write_method);
        let last = self.next.prev();
        let is_there = |mark: &Mark| mark.lsn <= last;
        let superblock = Superblock {
            epoch: report.epoch.max(Epoch::FIRST),
            durable: last,
            first_lsn: report.first_lsn,
            mark: old.and_then(|old| old.mark.clone()).filter(is_there),
            ..Superblock::new(self.log_id, method)
        };
        let unfinished = format!("{SUPERBLOCK}{UNFINISHED}");
        SuperblockRecipe::new_log(superblock).write(self.disk, &unfinished)?;
        io("rename", &unfinished, self.disk.rename(&unfinished, SUPERBLOCK))?;
        self.sync_names()?;
        io("remove", INCOMPLETE, self.disk.remove(INCOMPLETE))?;
        self.sync_names()
    }

    /// Removes everything again, the mark last. The error that led to it is the one to tell.
    fn abandon(&mut self) {
        self.segment = None;
        let unfinished = format!("{SUPERBLOCK}{UNFINISHED}");
        // Without a superblock first, so that what a crash leaves is no log.
        let is_removed = [SUPERBLOCK, &unfinished].iter().all(|name| is_gone(self.disk.remove(name)));
        if !is_removed || self.sync_names().is_err() {
            return;
        }
        let is_removed = self.names.iter().all(|name| is_gone(self.disk.remove(name)));
        if !is_removed || self.sync_names().is_err() {
            return;
        }
        let _ = self.disk.remove(INCOMPLETE);
        let _ = self.sync_names();
    }

    fn advance(&self, bytes: u64) -> Result<()> {
        self.told.set(self.told.get() + bytes);
        if self.told.get() >= PROGRESS_BYTES {
            self.watch.advance(self.told.replace(0));
        }
        if self.watch.is_given_up() { Err(Error::TimedOut) } else { Ok(()) }
    }

    fn sync_names(&self) -> Result<()> {
        io("sync", "", self.disk.sync_dir())
    }
}

fn is_gone(removed: std::io::Result<()>) -> bool {
    match removed {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Refuses a directory that holds anything but a lock.
fn check_vacant(disk: &dyn Disk) -> Result<()> {
    let names = io("list files", "", disk.list())?;
    if names.iter().all(|name| name == LOCK) { Ok(()) } else { Err(Error::NotEmpty) }
}

fn io<T>(doing: &'static str, name: &str, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::io(doing, name, source))
}
