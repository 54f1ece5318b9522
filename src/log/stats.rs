//! What a log has done since it was opened: counted for each group, never for each record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a log has done since it was opened.
///
/// Counted when a group is flushed, so records that are not durable yet are not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Records made durable.
    pub records: u64,
    /// Bytes of their frames, headers and padding included.
    pub frame_bytes: u64,
    /// Groups flushed; each took one synced write.
    pub groups: u64,
    /// Bytes written by those flushes: whole blocks.
    pub written_bytes: u64,
    /// Time from the start of each flush until its group was on the disk, added up.
    pub flush_time: Duration,
    /// Time that the oldest record of each group waited for its flush to start, added up.
    pub queue_time: Duration,
    /// Time taken to wake those that waited, added up.
    pub wake_time: Duration,
    /// Segments begun.
    pub rolls: u64,
    /// Appends that had to wait for room.
    pub backpressure_waits: u64,
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    records: AtomicU64,
    frame_bytes: AtomicU64,
    groups: AtomicU64,
    written_bytes: AtomicU64,
    flush_ns: AtomicU64,
    queue_ns: AtomicU64,
    wake_ns: AtomicU64,
    rolls: AtomicU64,
    backpressure_waits: AtomicU64,
    /// A moving mean of the bytes of a group, over about 32 of them.
    group_bytes_mean: AtomicU64,
}

/// One flush, as it is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flushed {
    pub(crate) records: u64,
    pub(crate) frame_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) flush: Duration,
    pub(crate) queue: Duration,
    pub(crate) wake: Duration,
}

impl Counters {
    pub(crate) fn flushed(&self, flushed: &Flushed) {
        // Relaxed, all of them: counts for people, which order nothing.
        let add = |counter: &AtomicU64, by| counter.fetch_add(by, Ordering::Relaxed);
        add(&self.records, flushed.records);
        add(&self.frame_bytes, flushed.frame_bytes);
        add(&self.groups, 1);
        add(&self.written_bytes, flushed.written_bytes);
        add(&self.flush_ns, flushed.flush.as_nanos() as u64);
        add(&self.queue_ns, flushed.queue.as_nanos() as u64);
        add(&self.wake_ns, flushed.wake.as_nanos() as u64);
        let mean = self.group_bytes_mean.load(Ordering::Relaxed);
        self.group_bytes_mean.store(mean - mean / 32 + flushed.frame_bytes / 32, Ordering::Relaxed);
        super::observe::flushed(flushed);
    }

    /// How large groups were lately, in bytes.
    pub(crate) fn group_bytes_mean(&self) -> u64 {
        self.group_bytes_mean.load(Ordering::Relaxed)
    }

    pub(crate) fn rolled(&self) {
        self.rolls.fetch_add(1, Ordering::Relaxed);
        super::observe::rolled();
    }

    pub(crate) fn held(&self) {
        self.backpressure_waits.fetch_add(1, Ordering::Relaxed);
        super::observe::held();
    }

    pub(crate) fn stats(&self) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        Stats {
            records: count(&self.records),
            frame_bytes: count(&self.frame_bytes),
            groups: count(&self.groups),
            written_bytes: count(&self.written_bytes),
            flush_time: time(&self.flush_ns),
            queue_time: time(&self.queue_ns),
            wake_time: time(&self.wake_ns),
            rolls: count(&self.rolls),
            backpressure_waits: count(&self.backpressure_waits),
        }
    }
}
