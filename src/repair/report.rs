//! What was found in a log's directory.

use std::sync::Arc;

use crate::error::Error;
use crate::format::{BadBlock, Footer, SegmentHeader, Superblock};
use crate::segment::{Correction, Run, Stretch, StretchKind};
use crate::types::{Epoch, LogId, Lsn, LsnRange};

/// Everything that was found in a log's directory: by headers alone, or by every byte.
#[derive(Clone, Debug)]
pub struct Report {
    /// The log, by the superblock or else by the segments; `None` if nothing says.
    pub log_id: Option<LogId>,
    /// The superblock.
    pub superblock: SuperblockReport,
    /// The segments that make up the log, in the order of their LSNs.
    pub segments: Vec<SegmentReport>,
    /// The files that do not, in the order of their names.
    pub strays: Vec<Stray>,
    /// Every stretch that is not clean, of all files, in the order of LSNs and then of places. Missing segments
    /// are among them.
    pub stretches: Vec<Stretch>,
    /// Acknowledged records that are lost or cannot be read as things stand: rising, merged.
    pub lost: Vec<LsnRange>,
    /// Records that an earlier repair has given up: rising, merged.
    pub given_up: Vec<LsnRange>,
    /// The oldest record that the log retains; the one after the last if there are none.
    pub first_lsn: Lsn,
    /// The newest record that counts, readable or not.
    pub last_lsn: Lsn,
    /// The newest record that something vouches for having been acknowledged.
    pub durable: Lsn,
    /// The newest epoch.
    pub epoch: Epoch,
    /// Records that can be read; only headers were read if [`is_verified`](Report::is_verified) is false, and
    /// then it is what they say.
    pub records: u64,
    /// Bytes of all files of the log.
    pub bytes: u64,
    /// Whether every byte was read.
    pub is_verified: bool,
    /// What an attempt to open the log for writing would end with. If it is in use and also damaged, the damage
    /// is named.
    pub opening: Opening,
    /// The process that has the log open for writing, if one has: then nothing is said of records that are not
    /// known to be durable. The inner value is its process id, where it could be read.
    pub writer: Option<Option<u32>>,
    /// The journal of a repair that was interrupted: to be finished or undone before anything else.
    pub unfinished_repair: Option<String>,
}

/// What the engine would do.
#[derive(Clone, Debug)]
pub enum Opening {
    /// It opens the log.
    Opens,
    /// It refuses, with this error (the range that it names may be a part of what is lost).
    Refuses(Error),
}

/// The superblock's file.
#[derive(Clone, Debug)]
pub struct SuperblockReport {
    /// Whether there is such a file.
    pub exists: bool,
    /// The two slots.
    pub slots: [SlotReport; 2],
    /// The slot that counts.
    pub chosen: Option<Superblock>,
}

/// One slot of the superblock.
#[derive(Clone, Debug)]
pub enum SlotReport {
    /// It checks.
    Sound(Box<Superblock>),
    /// It does not, and one flipped bit would explain that, or nothing.
    Bad(BadBlock, Option<Correction>),
}

/// A segment that is part of the log.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// The file's name.
    pub file: Arc<str>,
    /// The file's length, in bytes.
    pub bytes: u64,
    /// The header as it is, or as it has to be if it is damaged; then a stretch says so.
    pub header: SegmentHeader,
    /// The footer, if there is one that checks and counts.
    pub footer: Option<Footer>,
    /// Whether this is the newest segment and records can be appended to it.
    pub is_tail: bool,
    /// Where the last group ends.
    pub end: u64,
    /// The last record that belongs here, readable or not; the one before the first if there are none.
    pub last_lsn: Lsn,
    /// Where groups, or frames of a damaged group, can be read: rising. Nothing where only the header and the
    /// footer were read.
    pub runs: Vec<Run>,
}

/// A file that is not part of the log.
#[derive(Clone, Debug)]
pub struct Stray {
    /// The file's name.
    pub file: Arc<str>,
    /// The file's length, in bytes.
    pub bytes: u64,
    /// What it is.
    pub role: FileRole,
}

/// What a file is that is not part of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FileRole {
    /// The lock.
    Lock,
    /// A prepared segment.
    Spare,
    /// A segment below the trim point, which the next open recycles.
    Trimmed,
    /// Something that was being prepared when the process ended; the next open removes it.
    Unfinished,
    /// A file with a segment's name and nothing in it that was acknowledged.
    Blank,
    /// A segment of another log.
    Foreign(LogId),
    /// A segment of this log whose place another file has.
    Duplicate,
    /// What an earlier repair put aside, and its journal.
    Quarantine,
    /// A replica's, beside its log: its snapshot, one that it receives, or where it finds the others.
    Replica,
    /// None of the log's.
    Other,
}

impl Report {
    /// Whether there is nothing at all that is damaged. That a writer has it open is no damage.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let is_damage = |stretch: &Stretch| matches!(stretch.kind, StretchKind::Rot | StretchKind::Hole);
        let opens = matches!(self.opening, Opening::Opens | Opening::Refuses(Error::InUse { .. }));
        let opens = opens && self.unfinished_repair.is_none();
        opens && self.lost.is_empty() && !self.stretches.iter().any(is_damage)
    }

    /// How many acknowledged records are lost or cannot be read as things stand.
    #[must_use]
    pub fn lost_records(&self) -> u64 {
        self.lost.iter().map(LsnRange::records).sum()
    }
}
