//! The log under test: the one place that knows how it is opened, fed and asked for its counters.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use annals::{Log, LogOptions, Ticket, WriteMethod};

use crate::cli::LogArgs;
use crate::drive::Engine;
use crate::error::{Error, Result};
use crate::progress::{self, Phase};
use crate::workload::Records;

/// Bytes of a record, and of a batch: what a log takes unless it is told otherwise.
pub(crate) const RECORD_BYTES_MAX: u64 = 64 << 20;

/// What of a log's options a measurement sets; the rest stay at their defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// How bytes reach the disk; `None` lets the log find out.
    pub(crate) method: Option<WriteMethod>,
    /// Bytes of a segment.
    pub(crate) segment_bytes: Option<u64>,
    /// Flushes in flight at most.
    pub(crate) depth: Option<u32>,
    /// Bytes that the log may grow to before its oldest segments are trimmed.
    pub(crate) retain_bytes: Option<u64>,
    /// Whether reads of sealed segments skip the checksum once it was verified.
    pub(crate) trusts_sealed: bool,
}

impl From<&LogArgs> for Settings {
    fn from(args: &LogArgs) -> Settings {
        Settings {
            method: args.method.map(WriteMethod::from),
            segment_bytes: args.segment_bytes,
            depth: args.depth,
            retain_bytes: args.retain,
            trusts_sealed: false,
        }
    }
}

impl Settings {
    /// The defaults, with this method.
    pub(crate) fn by(method: Option<WriteMethod>) -> Settings {
        Settings { method, ..Settings::default() }
    }

    /// Opens the log in `dir`, which is created if it does not exist.
    pub(crate) fn open(&self, dir: &Path) -> Result<Log> {
        let mut options = LogOptions::new(dir).verify_reads(!self.trusts_sealed);
        options = options.record_bytes_max(RECORD_BYTES_MAX);
        if let Some(method) = self.method {
            options = options.write_method(method);
        }
        if let Some(bytes) = self.segment_bytes {
            options = options.segment_bytes(bytes);
        }
        if let Some(depth) = self.depth {
            options = options.depth(depth as usize);
        }
        if let Some(bytes) = self.retain_bytes {
            options = options.retain_bytes(bytes);
        }
        options.open().map_err(Error::log("open"))
    }
}

/// What a log has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Durable writes.
    pub(crate) syncs: u64,
    /// Bytes of those.
    pub(crate) bytes_written: u64,
    /// Segments begun.
    pub(crate) rolls: u64,
    /// Appends that had to wait for room.
    pub(crate) backpressure_waits: u64,
    /// From the start of each durable write to its end, added up.
    pub(crate) flush_time: Duration,
    /// For which the oldest record of each durable write had waited, added up.
    pub(crate) queue_time: Duration,
    /// Spent on waking those that waited, added up.
    pub(crate) wake_time: Duration,
}

impl Counts {
    /// Since the log was opened.
    pub(crate) fn of(log: &Log) -> Counts {
        let stats = log.stats();
        Counts {
            syncs: stats.groups,
            bytes_written: stats.written_bytes,
            rolls: stats.rolls,
            backpressure_waits: stats.backpressure_waits,
            flush_time: stats.flush_time,
            queue_time: stats.queue_time,
            wake_time: stats.wake_time,
        }
    }

    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Counts) -> Counts {
        Counts {
            syncs: self.syncs - earlier.syncs,
            bytes_written: self.bytes_written - earlier.bytes_written,
            rolls: self.rolls - earlier.rolls,
            backpressure_waits: self.backpressure_waits - earlier.backpressure_waits,
            flush_time: self.flush_time.saturating_sub(earlier.flush_time),
            queue_time: self.queue_time.saturating_sub(earlier.queue_time),
            wake_time: self.wake_time.saturating_sub(earlier.wake_time),
        }
    }

    /// What was counted in two stretches of time.
    pub(crate) fn plus(self, other: Counts) -> Counts {
        Counts {
            syncs: self.syncs + other.syncs,
            bytes_written: self.bytes_written + other.bytes_written,
            rolls: self.rolls + other.rolls,
            backpressure_waits: self.backpressure_waits + other.backpressure_waits,
            flush_time: self.flush_time + other.flush_time,
            queue_time: self.queue_time + other.queue_time,
            wake_time: self.wake_time + other.wake_time,
        }
    }

    /// Mean bytes of a durable write, as whole blocks.
    pub(crate) fn block_bytes(self) -> u64 {
        let mean = self.bytes_written as f64 / self.syncs.max(1) as f64;
        ((mean / 4096.0).round() as u64).max(1) * 4096
    }

    /// Mean number of durable writes in flight over `elapsed` (Little's law), 1 at least.
    pub(crate) fn in_flight(self, elapsed: Duration) -> u32 {
        (self.flush_time.as_secs_f64() / elapsed.as_secs_f64()).round().clamp(1.0, 64.0) as u32
    }
}

/// A log as the engine of a workload.
#[derive(Debug)]
pub(crate) struct Annals<'a>(pub(crate) &'a Log);

impl Engine for Annals<'_> {
    type Pending = Ticket;

    fn submit(&self, _: usize, records: &[&[u8]]) -> Result<Ticket> {
        let appended = match records {
            [record] => self.0.append(record),
            batch => self.0.append_batch(batch),
        };
        appended.map_err(Error::log("append to"))
    }

    fn is_done(&self, ticket: &Ticket) -> bool {
        // A batch becomes durable as a whole, so its first record tells.
        self.0.last_lsn() >= ticket.lsn()
    }

    fn wait(&self, ticket: Ticket) -> Result<u64> {
        ticket.wait().map(|receipt| receipt.lsn().get()).map_err(Error::log("append to"))
    }
}

/// Appends records of `size` bytes until they have `bytes` together, as fast as it goes.
pub(crate) fn fill(log: &Log, size: u64, bytes: u64, name: &str) -> Result<()> {
    const OUTSTANDING: usize = 4096;
    /// Appends between two looks at the progress.
    const STRIDE: u64 = 256;
    let phase = Phase::bytes(name, bytes);
    let records = Records::synthetic(size as usize);
    let mut feed = records.feed(0, 1);
    let mut batch = Vec::new();
    let mut window = VecDeque::new();
    let engine = Annals(log);
    let mut filled = 0;
    while filled < bytes && feed.next(&mut batch, false).is_some() {
        window.push_back(engine.submit(0, &batch)?);
        // An empty record takes the room of its header.
        filled += batch.len() as u64 * size.max(1);
        if window.len() == OUTSTANDING {
            window.pop_front().map_or(Ok(0), |oldest| engine.wait(oldest))?;
            if (filled / size.max(1)).is_multiple_of(STRIDE) {
                phase.reach(filled);
                progress::check_stopped()?;
            }
        }
    }
    window.into_iter().try_for_each(|ticket| engine.wait(ticket).map(|_| ()))
}
