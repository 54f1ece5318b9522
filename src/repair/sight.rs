//! What was seen in one segment, and the reading of it.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::chain::Link;
use super::identity;
use super::opening::{Scan, Scans, Upto};
use super::survey::Found;
use super::watch::Watch;
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{Digest, HEADER_BLOCK_BYTES, Incarnation, SegmentHeader, Verdict};
use crate::segment::{Cause, Examined, Question, Run, Stretch, StretchKind, examine, read_footer};
use crate::types::{Epoch, Lsn, LsnRange};

/// How much more is done before the watcher is told.
const TOLD_BYTES: u64 = 1 << 20;

/// What was seen in one segment.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) runs: Vec<Run>,
    pub(super) stretches: Vec<Stretch>,
    pub(super) gaps: Vec<LsnRange>,
    pub(super) end: u64,
    pub(super) last_lsn: Lsn,
    pub(super) epoch: Epoch,
    pub(super) digest: Digest,
    pub(super) vouched: Lsn,
    /// How far every group is valid, and what the engine makes of what follows.
    prefix: (Lsn, Digest),
    verdict: Verdict,
}

impl Seen {
    fn of(examined: Examined) -> Seen {
        let Examined {
            runs, stretches, gaps, end, last_lsn, epoch, digest, vouched, prefix, verdict, ..
        } = examined;
        let prefix = (prefix.last_lsn, prefix.digest);
        Seen { runs, stretches, gaps, end, last_lsn, epoch, digest, vouched, prefix, verdict }
    }

    /// What is seen of a segment without records.
    pub(super) fn nothing(header: &SegmentHeader) -> Seen {
        Seen {
            runs: vec![],
            stretches: vec![],
            gaps: vec![],
            end: HEADER_BLOCK_BYTES as u64,
            last_lsn: header.first_lsn.prev(),
            epoch: header.epoch,
            digest: header.previous_digest,
            vouched: Lsn::ZERO,
            prefix: (header.first_lsn.prev(), header.previous_digest),
            verdict: Verdict::Clean,
        }
    }

    /// Whether acknowledged records are lost here.
    pub(super) fn has_loss(&self) -> bool {
        self.verdict.is_loss()
    }

    /// Whether everything checks, so that the digest is that of the segment.
    pub(super) fn is_sound(&self) -> bool {
        self.gaps.is_empty() && !self.stretches.iter().any(is_damage)
    }

    /// The newest record before the first that is lost, or of all.
    pub(super) fn newest(&self) -> Lsn {
        self.prefix.0
    }

    fn as_scan(&self, name: &Arc<str>, data_end: u64) -> Scan {
        let is_unreadable =
            |stretch: &Stretch| stretch.cause == Cause::Unreadable && stretch.bytes.start < data_end;
        let file = || Arc::clone(name);
        let loss = match &self.verdict {
            _ if self.stretches.iter().any(is_unreadable) => {
                Some(Error::io("read", name, io::Error::other("there are unreadable blocks")))
            }
            Verdict::Rot { bytes, first, last } => {
                Some(Error::Rot { file: file(), bytes: bytes.clone(), first: *first, last: *last })
            }
            Verdict::Hole { first, last, .. } => {
                Some(Error::Hole { file: file(), first: *first, last: *last })
            }
            Verdict::Clean | Verdict::Torn { .. } | Verdict::Stale { .. } => None,
        };
        let (last_lsn, digest) = self.prefix;
        let digest = self.gaps.is_empty().then_some(digest);
        Scan { loss, last_lsn, digest, vouched: self.vouched }
    }
}

/// Whether a stretch is damage, and not merely what a crash may leave.
pub(super) fn is_damage(stretch: &Stretch) -> bool {
    matches!(stretch.kind, StretchKind::Rot | StretchKind::Hole)
}

/// Tells a watcher how far the reading has come, in larger steps than it is done in.
pub(super) struct Meter<'a> {
    watch: &'a dyn Watch,
    /// Bytes that the watcher was promised and not told of yet.
    left: AtomicU64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(watch: &'a dyn Watch) -> Meter<'a> {
        Meter { watch, left: AtomicU64::new(0) }
    }

    pub(super) fn begin(&self, bytes: u64) {
        self.watch.begin(bytes);
        // Relaxed: a count that nothing else depends on.
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// Tells of the rest: what did not have to be read.
    pub(super) fn finish(&self) {
        self.advance(u64::MAX);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.watch.is_given_up()
    }

    fn advance(&self, bytes: u64) {
        let take = |left: u64| Some(left.saturating_sub(bytes));
        // Relaxed: as above. What was read twice is told once.
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let told = before.unwrap_or(0).min(bytes);
        if told > 0 {
            self.watch.advance(told);
        }
    }
}

/// Reads segments, and remembers those that cannot change.
pub(super) struct Reader<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) meter: &'a Meter<'a>,
    /// Whether somebody may be writing to the log.
    pub(super) is_beside_writer: bool,
    pub(super) kept: &'a Kept,
}

/// A segment, and how far it is read.
type Asked = (Arc<str>, Incarnation, Upto);

/// What was seen of sealed segments without damage, and what an open reads.
#[derive(Debug, Default)]
pub(super) struct Kept {
    sealed: Mutex<HashMap<(Incarnation, u64, Lsn), Arc<Seen>>>,
    scans: Mutex<HashMap<Asked, Scan>>,
}

impl Kept {
    /// Forgets what may be otherwise at the next look.
    pub(super) fn look_again(&self) {
        self.scans.lock().clear();
    }
}

impl Reader<'_> {
    /// Reads a segment of the log.
    pub(super) fn see(&self, link: &Link) -> Result<Arc<Seen>> {
        let Some(footer) = &link.footer else {
            let upto = link.last.map_or(Upto::Durable(link.durable), Upto::Last);
            let seen = self.ask(link)?;
            if !link.is_rebuilt {
                let key = (Arc::clone(&link.found.name), link.header.incarnation, upto);
                self.kept.scans.lock().insert(key, seen.as_scan(&link.found.name, link.header.data_end()));
            }
            return Ok(Arc::new(seen));
        };
        let key = (link.header.incarnation, footer.end, footer.last_lsn);
        if let Some(seen) = self.kept.sealed.lock().get(&key) {
            return Ok(Arc::clone(seen));
        }
        let seen = Arc::new(self.ask(link)?);
        if self.is_beside_writer && seen.stretches.is_empty() {
            self.kept.sealed.lock().insert(key, Arc::clone(&seen));
        }
        Ok(seen)
    }

    /// Reads a segment of which nobody knows how the one before ends, so that no digest over it can be compared.
    pub(super) fn see_alone(&self, link: &Link) -> Result<Arc<Seen>> {
        let upto = link.last.map_or(Upto::Durable(link.durable), Upto::Last);
        self.examine(&link.found, (&link.header, upto), Some((link, false))).map(Arc::new)
    }

    /// How the segment before has to have ended, by the end of this one.
    pub(super) fn previous_digest(&self, link: &Link, seen: &Seen) -> Option<Digest> {
        let digest = link.footer.map(|footer| footer.digest).or(link.next_digest)?;
        let file = disk_open(self.disk, &link.found).ok().filter(|_| seen.is_sound())?;
        identity::previous_digest(&*file, &link.header, (seen.end, digest))
    }

    /// Reads a segment up to a record that is known to be durable.
    pub(super) fn see_up_to(&self, link: &Link, last: Lsn) -> Result<Arc<Seen>> {
        if last < link.header.first_lsn {
            return Ok(Arc::new(Seen::nothing(&link.header)));
        }
        self.examine(&link.found, (&link.header, Upto::Last(last)), None).map(Arc::new)
    }

    fn ask(&self, link: &Link) -> Result<Seen> {
        let upto = link.last.map_or(Upto::Durable(link.durable), Upto::Last);
        self.examine(&link.found, (&link.header, upto), Some((link, true)))
    }

    fn examine(
        &self,
        found: &Found,
        (header, upto): (&SegmentHeader, Upto),
        link: Option<(&Link, bool)>,
    ) -> Result<Seen> {
        let file = self.open(found, header)?;
        let (last, durable) = match upto {
            Upto::Last(last) => (Some(last), last),
            Upto::Durable(durable) => (None, durable),
        };
        let question = Question {
            file: &*file,
            name: &found.name,
            header,
            footer: link.and_then(|(link, _)| link.footer.as_ref()),
            last,
            durable,
            next_digest: link.and_then(|(link, _)| link.next_digest),
            knows_start: link.is_none_or(|(_, knows_start)| knows_start),
        };
        let untold = Cell::new(0);
        let seen = examine(&question, &|bytes| {
            untold.set(untold.get() + bytes);
            if untold.get() >= TOLD_BYTES {
                self.meter.advance(untold.take());
            }
            if self.meter.is_given_up() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.meter.advance(untold.take());
        seen.map(Seen::of)
    }

    /// Opens a file; beside a writer it is then kept from being used again, and still has this header.
    fn open(&self, found: &Found, header: &SegmentHeader) -> Result<Arc<dyn File>> {
        let file = disk_open(self.disk, found)?;
        if !self.is_beside_writer || found.header() != Some(header) {
            return Ok(file);
        }
        // Where files cannot be locked, what is read twice in the same way has to do.
        let is_locked = file.try_lock(false).unwrap_or(true);
        let mut block = vec![0; HEADER_BLOCK_BYTES];
        let there = file.read_at(&mut block, 0).map_err(|source| Error::io("read", &found.name, source))?;
        if is_locked && SegmentHeader::decode(&block[..there]).as_ref() == Ok(header) {
            return Ok(file);
        }
        Err(Error::io("open", &found.name, io::ErrorKind::NotFound.into()))
    }
}

fn disk_open(disk: &dyn Disk, found: &Found) -> Result<Arc<dyn File>> {
    disk.open(&found.name, Access::Read).map_err(|source| Error::io("open", &found.name, source))
}

impl Scans for Reader<'_> {
    fn scan(&self, found: &Found, header: &SegmentHeader, upto: Upto) -> Result<Scan> {
        let key = (Arc::clone(&found.name), header.incarnation, upto);
        if let Some(scan) = self.kept.scans.lock().get(&key) {
            return Ok(scan.clone());
        }
        let scan = self.examine(found, (header, upto), None)?;
        let scan = scan.as_scan(&found.name, header.data_end());
        self.kept.scans.lock().insert(key, scan.clone());
        Ok(scan)
    }

    fn has_tables(&self, found: &Found, header: &SegmentHeader) -> Result<bool> {
        let file = disk_open(self.disk, found)?;
        read_footer(&*file, &found.name, header).map(|footer| footer.is_some())
    }
}
