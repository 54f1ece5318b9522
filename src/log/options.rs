//! How a log is opened: every knob, its default, and what it may be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format;
use crate::types::WriteMethod;

/// How a [`Log`](crate::Log) is created or opened.
///
/// Made with [`LogOptions::new`], changed by the setters, used by [`LogOptions::open`]. Sizes are in bytes.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(8 << 20).open()?;
/// let receipt = log.append_durable(b"hello")?;
/// assert_eq!(&*log.read(receipt.lsn())?, b"hello");
/// log.close()
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct LogOptions {
    pub(crate) dir: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) in_flight_bytes_max: u64,
    pub(crate) record_bytes_max: u64,
    pub(crate) group_bytes: u64,
    pub(crate) write_method: Option<WriteMethod>,
    pub(crate) depth: usize,
    pub(crate) recycle: bool,
    pub(crate) zero_fill: ZeroFill,
    pub(crate) strict_blocks: bool,
    pub(crate) retain_bytes: Option<u64>,
    pub(crate) retain_age: Option<Duration>,
    pub(crate) verify_reads: bool,
    pub(crate) scrub_bytes_per_s: Option<u64>,
}

/// When a new segment is written full of zeros before its first use.
///
/// Zeros make a small durable write about twice as fast, because it converts no unwritten extent; they also
/// double the bytes that a log without trimming writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum ZeroFill {
    /// While the groups that are observed are small.
    #[default]
    Adaptive,
    /// Always.
    Always,
    /// Never: blocks are reserved only.
    Never,
}

impl LogOptions {
    /// Options for a log in the directory `dir`, which is created if it does not exist.
    pub fn new(dir: impl AsRef<Path>) -> LogOptions {
        LogOptions {
            dir: dir.as_ref().to_path_buf(),
            segment_bytes: 128 << 20,
            in_flight_bytes_max: 64 << 20,
            record_bytes_max: 64 << 20,
            group_bytes: 512 << 10,
            write_method: None,
            depth: 4,
            recycle: true,
            zero_fill: ZeroFill::Adaptive,
            strict_blocks: false,
            retain_bytes: None,
            retain_age: None,
            verify_reads: true,
            scrub_bytes_per_s: None,
        }
    }

    /// Bytes of a segment file: 64 KiB to 16 GiB, default 128 MiB. A larger record gets a larger segment.
    pub fn segment_bytes(mut self, bytes: u64) -> LogOptions {
        self.segment_bytes = bytes;
        self
    }

    /// Bytes of records that may wait for the disk, default 64 MiB; past it `append` blocks and `try_append`
    /// says so. One record or batch is taken whatever its size when nothing else waits.
    pub fn in_flight_bytes_max(mut self, bytes: u64) -> LogOptions {
        self.in_flight_bytes_max = bytes;
        self
    }

    /// Bytes of the largest record or batch, default 64 MiB, at most 512 MiB.
    pub fn record_bytes_max(mut self, bytes: u64) -> LogOptions {
        self.record_bytes_max = bytes;
        self
    }

    /// Bytes that one flush writes at most, default 512 KiB. Larger groups are not faster on most disks.
    pub fn group_bytes(mut self, bytes: u64) -> LogOptions {
        self.group_bytes = bytes;
        self
    }

    /// How groups are written. Without it a new log probes its directory for a moment and records the winner,
    /// and an existing log goes on with what it recorded.
    pub fn write_method(mut self, method: WriteMethod) -> LogOptions {
        self.write_method = Some(method);
        self
    }

    /// Flushes that may be in flight at once, 1 to 16, default 4. The log uses fewer while groups are small.
    pub fn depth(mut self, flushes: usize) -> LogOptions {
        self.depth = flushes;
        self
    }

    /// Whether the files of trimmed segments are used again, default yes.
    pub fn recycle(mut self, yes: bool) -> LogOptions {
        self.recycle = yes;
        self
    }

    /// When new segments are filled with zeros, default [`ZeroFill::Adaptive`].
    pub fn zero_fill(mut self, when: ZeroFill) -> LogOptions {
        self.zero_fill = when;
        self
    }

    /// Whether each flush begins on a fresh block, so that no block with acknowledged bytes is ever written
    /// again, default no.
    ///
    /// Without it a small group shares the block that the group before it ended in, whose acknowledged bytes
    /// are written again, unchanged. That relies on *powersafe overwrite*: a power cut during a write damages
    /// no byte outside of what the write changes. Disks and flash drives with a 4 KiB atomic write give it.
    /// With it, a small durable append takes 4 KiB of disk.
    pub fn strict_blocks(mut self, yes: bool) -> LogOptions {
        self.strict_blocks = yes;
        self
    }

    /// Trims the oldest segments by itself while the log is larger than this many bytes.
    pub fn retain_bytes(mut self, bytes: u64) -> LogOptions {
        self.retain_bytes = Some(bytes);
        self
    }

    /// Trims segments by itself when their newest record is older than this.
    pub fn retain_age(mut self, age: Duration) -> LogOptions {
        self.retain_age = Some(age);
        self
    }

    /// Whether every read verifies the record's checksum, default yes. Without it the records of sealed
    /// segments are verified when the segment is first read, and not again.
    pub fn verify_reads(mut self, yes: bool) -> LogOptions {
        self.verify_reads = yes;
        self
    }

    /// Checks sealed segments in the background, reading so many bytes a second: 64 KiB or more, default `None`, which
    /// is not at all.
    ///
    /// Records that nobody reads can rot for years before anybody needs them. A check finds that while there may still be
    /// a copy to restore them from; see [`Log::scrub_status`](crate::Log::scrub_status). Choose a rate that a disk does
    /// not notice and that comes round in time: 10 MiB/s reads a terabyte in about a day. A pass over all segments
    /// begins at the earliest a minute after the one before. What is in the operating system's cache is read from there.
    pub fn scrub_bytes_per_s(mut self, bytes_per_s: Option<u64>) -> LogOptions {
        self.scrub_bytes_per_s = bytes_per_s;
        self
    }

    /// Refuses values that cannot work, and fits the group size to the segment size.
    pub(crate) fn checked(mut self) -> Result<LogOptions> {
        let within = |option, given: u64, min: u64, max: u64| {
            if (min..=max).contains(&given) {
                Ok(())
            } else {
                Err(Error::BadOption { option, given, allowed: (min, max) })
            }
        };
        within("segment_bytes", self.segment_bytes, 64 << 10, 16 << 30)?;
        within("record_bytes_max", self.record_bytes_max, 1, 512 << 20)?;
        within("group_bytes", self.group_bytes, 4 << 10, 64 << 20)?;
        within("in_flight_bytes_max", self.in_flight_bytes_max, 64 << 10, 16 << 30)?;
        within("depth", self.depth as u64, 1, 16)?;
        if let Some(rate) = self.scrub_bytes_per_s {
            within("scrub_bytes_per_s", rate, 64 << 10, u64::MAX)?;
        }
        self.segment_bytes = self.segment_bytes.next_multiple_of(format::BLOCK_BYTES as u64);
        // A group lies in one segment, and a roll should waste little of it.
        let group_max = (self.segment_bytes / 8).min(self.in_flight_bytes_max / 4);
        self.group_bytes = self.group_bytes.min(group_max).next_multiple_of(format::BLOCK_BYTES as u64);
        Ok(self)
    }
}
