//! What a stretch of bytes turned out to be.

use std::fmt;
use std::ops::Range;

use crate::types::Lsn;

/// What a stretch of a segment is, from the first place that is no valid group on.
///
/// Byte ranges are positions in the segment's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every group checks, and nothing but zeros follows.
    Clean,
    /// Groups of this life of the file that were never acknowledged: discard them, by overwriting `bytes`
    /// with zeros and syncing, before anything is appended.
    Torn {
        /// From the end of the last valid group to where the discarded ones end, a whole block.
        bytes: Range<u64>,
        /// The first LSN that is discarded, and the next one to be appended.
        next: Lsn,
    },
    /// Bytes of a former life of the file, of which nothing can be mistaken for this one's.
    Stale {
        /// Where they lie, up to a whole block.
        bytes: Range<u64>,
    },
    /// Acknowledged bytes that no longer check.
    Rot {
        /// What does not check.
        bytes: Range<u64>,
        /// The first record at stake.
        first: Lsn,
        /// The last record at stake.
        last: Lsn,
    },
    /// Acknowledged records that are not there: zeros, or the end of the file, stand in their place.
    Hole {
        /// Where they should be.
        bytes: Range<u64>,
        /// The first record at stake.
        first: Lsn,
        /// The last record at stake.
        last: Lsn,
    },
}

impl Verdict {
    /// Whether acknowledged records are at stake, so that a log must not be opened over it.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(self, Verdict::Rot { .. } | Verdict::Hole { .. })
    }
}

/// Why a frame or a group is not valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Damage {
    /// All zeros: nothing was written here.
    Blank,
    /// It would go on past the end of what there is.
    Cut,
    /// A field has a value that is never written.
    Malformed,
    /// The checksum does not fit the bytes.
    Checksum,
    /// A byte that has to be zero is not.
    Padding,
    /// It belongs to another life of the file, or to another place in it.
    Foreign,
    /// Its LSN or its epoch is not what has to follow.
    Sequence,
    /// Its frames are not those that its digest was made over.
    Digest,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Blank => "nothing was written here",
            Damage::Cut => "it is cut short",
            Damage::Malformed => "a field has an impossible value",
            Damage::Checksum => "the checksum does not fit",
            Damage::Padding => "the padding is not zeros",
            Damage::Foreign => "it belongs to another file or place",
            Damage::Sequence => "its sequence number or epoch is out of order",
            Damage::Digest => "its frames are not the ones it was written with",
        })
    }
}

/// A place that is damaged, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Why the bytes do not check.
    pub damage: Damage,
    /// The bytes, as positions in the segment's file.
    pub bytes: Range<u64>,
}

/// Why a block that names a version cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadBlock {
    /// All zeros: it was never written.
    Blank,
    /// It checks, and was written by a newer version of the library: refuse, and change nothing.
    Newer {
        /// The version found.
        found: u32,
    },
    /// It does not check, or says what is never written.
    Damaged,
}

impl fmt::Display for BadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadBlock::Blank => f.write_str("never written"),
            BadBlock::Newer { found } => write!(f, "of the newer format version {found}"),
            BadBlock::Damaged => f.write_str("damaged"),
        }
    }
}
