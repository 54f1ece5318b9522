//! The newtypes that cross rooms, so that a bare `u64` never does.
//!
//! Imports nothing of the crate. Never reads a clock, a file or a random source.

use std::fmt;

/// A record's log sequence number: dense, from 1, one for each record.
///
/// [`Lsn::ZERO`] stands for "before the first record".
///
/// ```
/// use annals::Lsn;
///
/// assert_eq!(Lsn::FIRST.get(), 1);
/// assert_eq!(Lsn::new(7).next(), Lsn::new(8));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first record: the value of every watermark of an empty log.
    pub const ZERO: Lsn = Lsn(0);
    /// The LSN of the first record of a log.
    pub const FIRST: Lsn = Lsn(1);
    /// The greatest that a record can have: there is a number after it, so that the next one can be named.
    pub(crate) const LAST: Lsn = Lsn(u64::MAX - 1);

    /// The LSN with this number.
    #[must_use]
    pub const fn new(number: u64) -> Lsn {
        Lsn(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The LSN of the record right after this one.
    #[must_use]
    pub const fn next(self) -> Lsn {
        self.plus(1)
    }

    /// The LSN right before this one; [`Lsn::ZERO`] before the first.
    #[must_use]
    pub const fn prev(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }

    /// The LSN `records` after this one.
    #[must_use]
    pub const fn plus(self, records: u64) -> Lsn {
        Lsn(self.0.checked_add(records).expect("an LSN is never exhausted: 2^64 records"))
    }
}

/// Records with dense LSNs, both ends included; never empty.
///
/// ```
/// use annals::{Lsn, LsnRange};
///
/// let range = LsnRange::new(Lsn::new(3), Lsn::new(5)).expect("it is not empty");
/// assert_eq!((range.records(), range.to_string()), (3, "3 to 5".to_owned()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LsnRange {
    /// The first record.
    pub first: Lsn,
    /// The last record.
    pub last: Lsn,
}

impl LsnRange {
    /// The records from `first` to `last`; `None` if there are none.
    #[must_use]
    pub fn new(first: Lsn, last: Lsn) -> Option<LsnRange> {
        (first <= last).then_some(LsnRange { first, last })
    }

    /// How many there are.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.last.get() - self.first.get() + 1
    }
}

impl fmt::Display for LsnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{} to {}", self.first, self.last)
        }
    }
}

/// The reign of one primary; grows by each election. A log without replicas stays in [`Epoch::FIRST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a new log.
    pub const FIRST: Epoch = Epoch(1);

    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Epoch {
        Epoch(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The name of one replica of a log; 0 for a log without replicas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplicaId(u64);

impl ReplicaId {
    /// The replica with this number.
    #[must_use]
    pub const fn new(number: u64) -> ReplicaId {
        ReplicaId(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The place of a segment in its log: from 1, and one more for each that follows.
///
/// Dense, so that a missing segment is noticed. Hence a truncation gives the ids of the segments that it removes to
/// those that come in their place, from 1 again if it leaves none. Each has an incarnation of its own, and that is
/// what tells two with one id apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SegmentId(u64);

impl SegmentId {
    /// The id of the first segment of a log.
    pub const FIRST: SegmentId = SegmentId(1);
    /// The greatest that a segment can have: there is a number after it.
    pub(crate) const LAST: SegmentId = SegmentId(u64::MAX - 1);

    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> SegmentId {
        SegmentId(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The id of the segment begun right after this one.
    #[must_use]
    pub const fn next(self) -> SegmentId {
        SegmentId(self.0 + 1)
    }
}

/// Drawn at random when a log is created, and written into each of its files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId(u128);

impl LogId {
    /// The log id with this number.
    #[must_use]
    pub const fn new(number: u128) -> LogId {
        LogId(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

/// Drawn at random when a cluster is created; no message of another cluster is ever acted on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(u128);

impl ClusterId {
    /// The cluster id with this number.
    #[must_use]
    pub const fn new(number: u128) -> ClusterId {
        ClusterId(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

/// The identity of what one replica has stored: its log's id. A replica with a blank disk is somebody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DiskId(u128);

impl DiskId {
    /// The disk id with this number.
    #[must_use]
    pub const fn new(number: u128) -> DiskId {
        DiskId(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

/// A life of one replica's log: a greater one begins with each recovery, truncation and snapshot install.
///
/// What was said of the log in one life counts for nothing in the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogIncarnation(u64);

impl LogIncarnation {
    /// No log has lived so often: what claims to know a later life is wrong.
    pub const KNOWN_MAX: LogIncarnation = LogIncarnation(1 << 62);

    /// The incarnation with this number.
    #[must_use]
    pub const fn new(number: u64) -> LogIncarnation {
        LogIncarnation(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The life after this one.
    #[must_use]
    pub const fn next(self) -> LogIncarnation {
        LogIncarnation(self.0 + 1)
    }
}

/// A client that numbers its appends, so that each is taken once: the LSN of the record that registered it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProducerId(u64);

impl ProducerId {
    /// The producer that was registered by the record with this LSN.
    #[must_use]
    pub const fn new(number: u64) -> ProducerId {
        ProducerId(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// How the bytes of a group reach the disk, durably.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum WriteMethod {
    /// Past the page cache, each write durable when it returns (`O_DIRECT` and `O_DSYNC` on Linux).
    Direct,
    /// Through the page cache, then `fdatasync`.
    Buffered,
    /// Through a shared memory map, then `msync`.
    Mapped,
}

impl WriteMethod {
    /// All methods, in the order in which a probe prefers them when they are equally fast.
    pub const ALL: [WriteMethod; 3] = [WriteMethod::Direct, WriteMethod::Buffered, WriteMethod::Mapped];
}

impl fmt::Display for WriteMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteMethod::Direct => "direct",
            WriteMethod::Buffered => "buffered",
            WriteMethod::Mapped => "mapped",
        })
    }
}

macro_rules! shown_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}
shown_as_number!(Lsn, Epoch, ReplicaId, SegmentId, LogIncarnation, ProducerId);

macro_rules! shown_in_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }
    )*};
}
shown_in_hex!(LogId, ClusterId, DiskId);
