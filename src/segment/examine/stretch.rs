//! What is found in a segment: what can be read, and what not.

use std::ops::Range;
use std::sync::Arc;

use crate::types::LsnRange;

/// Frames that follow one another and all check.
///
/// One that begins inside a group whose header is damaged holds frames only, and ends with the last of them in that
/// group. Any other goes on from group to group, each with its header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Where they lie in the file: from the header of a group, or from a frame inside one, to a frame's end.
    pub bytes: Range<u64>,
    /// Where the group begins in which the first of them lies: `bytes.start` if the run begins with a group.
    pub group: u64,
    /// The first and the last record.
    pub lsns: LsnRange,
}

/// A stretch that is not clean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The verdict.
    pub kind: StretchKind,
    /// The file; for a missing one, the name that it would have.
    pub file: Arc<str>,
    /// The bytes in that file; all that it would have had, or nothing, if it is missing.
    pub bytes: Range<u64>,
    /// The records that are at stake, or were discarded; `None` where there are none.
    pub lsns: Option<LsnRange>,
    /// Whether those were acknowledged.
    pub is_acknowledged: bool,
    /// Why.
    pub cause: Cause,
    /// The one flipped bit that explains it, if there is one.
    pub correction: Option<Correction>,
}

/// The verdict on a stretch; one that is clean has none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StretchKind {
    /// Groups that were never acknowledged: the next open discards them.
    Torn,
    /// A former life of the file, or a suffix that was truncated: ignored.
    Stale,
    /// Bytes that have to check, and do not.
    Rot,
    /// Records that are not there at all.
    Hole,
}

/// Why a stretch is not clean.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The operating system cannot read it.
    Unreadable,
    /// Nothing but zeros.
    Blank,
    /// The file ends before it.
    Cut,
    /// There is no such file.
    Missing,
    /// A slot of the superblock does not check.
    Slot,
    /// The header of the segment does not check.
    Header,
    /// The footer, or the index in it, does not check.
    Footer,
    /// The header of a group does not check.
    GroupHeader,
    /// A frame, or the header of one, does not check.
    Frame,
    /// The group's digest is not that of its frames.
    Digest,
    /// The file does not have the name of the segment that is in it.
    Name,
    /// The segment does not continue the one before.
    Chain,
    /// It was never acknowledged.
    NeverAcknowledged,
    /// It is left from before a truncation, or from the file's former life.
    Former,
}

/// One bit that was flipped: the checksum fits once it is flipped back, and for no other bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Correction {
    /// Where its byte lies in the file.
    pub offset: u64,
    /// The bit, from 0 for the lowest.
    pub bit: u8,
}
