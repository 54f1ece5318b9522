//! Reading records one after the other, also around damage.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::report::{Report, SegmentReport};
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{
    FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, GROUP_HEADER_BYTES, GroupHeader, GroupPlace,
    Incarnation, block_up,
};
use crate::segment::{Question, Run, examine};
use crate::types::{Epoch, Lsn, LsnRange};

/// Bytes that are read at a time, unless a frame is larger.
const WINDOW_BYTES: u64 = 256 << 10;

/// Gives the records of a log that was looked at, and says where some are missing.
///
/// Records up to the last one that counts are given in the order of their LSNs. What was readable then and is
/// not now is missing.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use std::sync::Arc;
///
/// use annals::disk::{Disk, RealDisk};
/// use annals::repair::{Dump, Dumped, Silent, verify};
/// use annals::{LogOptions, Lsn, LsnRange};
///
/// let log = LogOptions::new(dir.path()).segment_bytes(8 << 20).open()?;
/// log.append_durable(b"one")?;
/// log.close()?;
/// let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
/// let report = Arc::new(verify(&disk, 1, &Silent)?);
/// let all = LsnRange { first: report.first_lsn, last: report.last_lsn };
/// let mut dump = Dump::new(disk, report, all);
/// assert!(matches!(dump.next()?, Some(Dumped::Record { lsn: Lsn::FIRST, bytes: b"one", .. })));
/// assert!(dump.next()?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Dump {
    report: Arc<Report>,
    disk: Arc<dyn Disk>,
    /// The next record that is to be given, and the last one.
    next: Lsn,
    last: Lsn,
    /// Index of the segment that is read after this one.
    next_segment: usize,
    /// The runs of this segment that are still to be read.
    runs: VecDeque<Run>,
    reading: Option<Reading>,
    /// The frame whose records are being given.
    frame: Option<FrameHeader>,
}

/// What comes next.
#[derive(Debug)]
pub enum Dumped<'a> {
    /// A record. Its bytes were checked just now.
    Record {
        /// Its LSN.
        lsn: Lsn,
        /// The epoch that it was written in.
        epoch: Epoch,
        /// The record.
        bytes: &'a [u8],
    },
    /// An LSN that begins an epoch, and holds no record.
    EpochStart {
        /// Its LSN.
        lsn: Lsn,
        /// The epoch.
        epoch: Epoch,
    },
    /// An LSN that the replication has a record of its own under.
    Control {
        /// Its LSN.
        lsn: Lsn,
        /// The epoch that it was written in.
        epoch: Epoch,
        /// What it says, in the replication's own form.
        bytes: &'a [u8],
    },
    /// Records that cannot be read.
    Gap {
        /// Which.
        lsns: LsnRange,
        /// Whether an earlier repair has given them up.
        is_given_up: bool,
    },
}

impl Dump {
    /// Of the log that was [verified](super::verify), the records of this range. One that was only
    /// [inspected](super::inspect) will do: then each segment is looked at when it is come to.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, report: Arc<Report>, range: LsnRange) -> Dump {
        let next = range.first.max(report.first_lsn);
        let last = range.last.min(report.last_lsn);
        let after = report.segments.partition_point(|segment| segment.header.first_lsn <= next);
        let next_segment = after.saturating_sub(1);
        Dump { report, disk, next, last, next_segment, runs: VecDeque::new(), reading: None, frame: None }
    }

    /// The next record or gap, in the order of LSNs; `None` at the end.
    ///
    /// # Errors
    /// Whatever the operating system says when a file is opened that could be opened before.
    #[expect(clippy::should_implement_trait, reason = "it lends: the record borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Dumped<'_>>> {
        if self.next > self.last {
            return Ok(None);
        }
        let Some(frame) = self.frame_of_next()? else { return Ok(Some(self.gap())) };
        let (lsn, epoch) = (self.next, frame.epoch);
        if frame.kind == FrameKind::Gap {
            let last = frame.last_lsn().min(self.last);
            self.next = last.next();
            return Ok(Some(Dumped::Gap { lsns: LsnRange { first: lsn, last }, is_given_up: true }));
        }
        self.next = lsn.next();
        let reading = self.reading.as_ref().expect("a frame was read");
        Ok(Some(match (frame.kind, reading.frame().record(lsn)) {
            (_, Some(bytes)) => Dumped::Record { lsn, epoch, bytes },
            (FrameKind::Control, None) => Dumped::Control { lsn, epoch, bytes: reading.frame().payload() },
            (_, None) => Dumped::EpochStart { lsn, epoch },
        }))
    }

    /// The frame that holds the next record, checked; `None` if that cannot be read.
    fn frame_of_next(&mut self) -> Result<Option<FrameHeader>> {
        loop {
            if let Some(frame) = self.frame {
                if frame.lsn > self.next {
                    return Ok(None);
                }
                if frame.last_lsn() >= self.next {
                    return Ok(Some(frame));
                }
            }
            self.frame = match &mut self.reading {
                Some(reading) => reading.step(),
                None => None,
            };
            if self.frame.is_none() && !self.next_run()? {
                return Ok(None);
            }
        }
    }

    /// Goes on with the next run that may hold the next record; `false` if there is none.
    fn next_run(&mut self) -> Result<bool> {
        loop {
            let Some(run) = self.runs.pop_front() else {
                let Some(segment) = self.report.segments.get(self.next_segment) else {
                    self.reading = None;
                    return Ok(false);
                };
                self.runs = self.runs_of(segment)?.into();
                self.next_segment += 1;
                continue;
            };
            if run.lsns.last >= self.next {
                let segment = &self.report.segments[self.next_segment - 1];
                self.reading = Some(Reading::new(self.open(segment)?, segment.header.incarnation, run));
                return Ok(true);
            }
        }
    }

    /// Where records can be read: as it was reported, or as it is found out now.
    fn runs_of(&self, segment: &SegmentReport) -> Result<Vec<Run>> {
        let SegmentReport { header, footer, last_lsn, runs, .. } = segment;
        let is_ahead = *last_lsn >= self.next && header.first_lsn <= self.last;
        if self.report.is_verified || !runs.is_empty() || !is_ahead || *last_lsn < header.first_lsn {
            return Ok(runs.clone());
        }
        let file = self.open(segment)?;
        let question = Question {
            file: &*file,
            name: &segment.file,
            header,
            footer: footer.as_ref(),
            last: Some(*last_lsn),
            durable: *last_lsn,
            next_digest: None,
            knows_start: true,
        };
        Ok(examine(&question, &|_| ControlFlow::Continue(()))?.runs)
    }

    fn open(&self, segment: &SegmentReport) -> Result<Arc<dyn File>> {
        let file = self.disk.open(&segment.file, Access::Read);
        file.map_err(|source| Error::io("open", &segment.file, source))
    }

    /// Everything up to the frame that was read ahead, or to the end.
    fn gap(&mut self) -> Dumped<'_> {
        let end = self.frame.map_or(self.last, |frame| frame.lsn.prev().min(self.last));
        let lsns = LsnRange { first: self.next, last: end };
        self.next = end.next();
        Dumped::Gap { lsns, is_given_up: false }
    }
}

/// One run, frame by frame.
#[derive(Debug)]
struct Reading {
    file: Arc<dyn File>,
    incarnation: Incarnation,
    run: Run,
    /// Where the next frame or group begins, and with which record.
    at: u64,
    next: Lsn,
    /// Bytes of the file, and where they begin.
    window: Vec<u8>,
    start: u64,
    /// The frame that was read last, in the window.
    frame: std::ops::Range<usize>,
}

impl Reading {
    fn new(file: Arc<dyn File>, incarnation: Incarnation, run: Run) -> Reading {
        let (at, next) = (run.bytes.start, run.lsns.first);
        Reading { file, incarnation, run, at, next, window: vec![], start: at, frame: 0..0 }
    }

    /// The next frame, if it checks; `None` at the end of the run, and where it is not what it was.
    fn step(&mut self) -> Option<FrameHeader> {
        while self.next <= self.run.lsns.last {
            let rest = self.at..self.run.bytes.end;
            if self.enters_group(rest.start) {
                self.at += GROUP_HEADER_BYTES as u64;
            }
            if let Some(frame) = self.frame_here() {
                self.at += frame.frame_bytes();
                self.next = frame.last_lsn().next();
                return Some(frame);
            }
            // The next group may begin in the next block.
            let block = block_up(self.at);
            if block == self.at || !self.enters_group(block) {
                return None;
            }
            self.at = block;
        }
        None
    }

    /// Whether the header of the group stands there that holds the next frame.
    fn enters_group(&mut self, position: u64) -> bool {
        let (place, next) = (GroupPlace { incarnation: self.incarnation, position }, self.next);
        let header = self.bytes(position, GROUP_HEADER_BYTES as u64);
        header
            .and_then(|bytes| GroupHeader::decode_at(bytes, place).ok())
            .is_some_and(|header| header.first_lsn == next)
    }

    fn frame_here(&mut self) -> Option<FrameHeader> {
        let at = self.at;
        let header = FrameHeader::decode(self.bytes(at, FRAME_HEADER_BYTES as u64)?).ok()?;
        if header.lsn != self.next {
            return None;
        }
        let frame = Frame::parse(self.bytes(at, header.frame_bytes())?).ok()?;
        frame.check().ok()?;
        let start = (at - self.start) as usize;
        self.frame = start..start + header.frame_bytes() as usize;
        Some(header)
    }

    fn frame(&self) -> Frame<'_> {
        Frame::parse(&self.window[self.frame.clone()]).expect("parsed when it was read")
    }

    /// Bytes of the run, by way of the window; `None` if they are past its end, or cannot be read.
    fn bytes(&mut self, at: u64, bytes: u64) -> Option<&[u8]> {
        let end = at.checked_add(bytes).filter(|end| *end <= self.run.bytes.end)?;
        if at < self.start || end > self.start + self.window.len() as u64 {
            let wanted = bytes.max(WINDOW_BYTES).min(self.run.bytes.end - at);
            self.window.resize(usize::try_from(wanted).ok()?, 0);
            self.start = at;
            // Beside a bad sector, what can be read of the rest still is.
            let read = self.file.read_at(&mut self.window, at).or_else(|_| {
                self.window.truncate(bytes as usize);
                self.file.read_at(&mut self.window, at)
            });
            self.window.truncate(read.unwrap_or(0));
        }
        let from = (at - self.start) as usize;
        self.window.get(from..from + bytes as usize)
    }
}
