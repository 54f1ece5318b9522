//! Metrics and events, by the facades that a program may listen to; nothing where the features are off.
//!
//! Called for groups, rolls and rarer things only, never for a record.

use super::stats::Flushed;

/// A group became durable.
pub(crate) fn flushed(flushed: &Flushed) {
    #[cfg(feature = "metrics")]
    {
        metrics::counter!("annals_records_total").increment(flushed.records);
        metrics::counter!("annals_bytes_total").increment(flushed.frame_bytes);
        metrics::counter!("annals_groups_total").increment(1);
        metrics::histogram!("annals_group_records").record(flushed.records as f64);
        metrics::histogram!("annals_flush_seconds").record(flushed.flush);
        metrics::histogram!("annals_queue_seconds").record(flushed.queue);
        metrics::histogram!("annals_wake_seconds").record(flushed.wake);
    }
    #[cfg(feature = "tracing")]
    tracing::trace!(
        records = flushed.records,
        bytes = flushed.frame_bytes,
        flush_us = flushed.flush.as_micros() as u64,
        "group flushed"
    );
    #[cfg(not(any(feature = "metrics", feature = "tracing")))]
    let _ = flushed;
}

/// A segment began.
pub(crate) fn rolled() {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_rolls_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::debug!("segment begun");
}

/// An append has to wait for room.
pub(crate) fn held() {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_backpressure_waits_total").increment(1);
}

/// The disk is full, or has space again.
pub(crate) fn space(there_is: bool) {
    #[cfg(feature = "tracing")]
    if there_is {
        tracing::info!("the disk has space again; appends resume");
    } else {
        tracing::warn!("the disk is full; appends that need a new segment are refused");
    }
    #[cfg(not(feature = "tracing"))]
    let _ = there_is;
}

/// The log is poisoned.
pub(crate) fn poisoned(error: &crate::error::Error) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_poisoned_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(%error, "a flush failed; the log takes no more appends until it is opened again");
    #[cfg(not(feature = "tracing"))]
    let _ = error;
}

/// Something in the background failed that loses nothing and is tried again.
pub(crate) fn postponed(what: &'static str, error: &crate::error::Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(%error, what, "will be tried again");
    #[cfg(not(feature = "tracing"))]
    let _ = (what, error);
}

/// The background check has read some bytes more.
pub(crate) fn scrubbed(bytes: u64) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_scrubbed_bytes_total").increment(bytes);
    #[cfg(not(feature = "metrics"))]
    let _ = bytes;
}

/// The background check has found a stretch that is damaged, and was not known to be.
pub(crate) fn damaged(stretch: &crate::segment::Stretch) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_scrub_damage_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(
        file = &*stretch.file,
        bytes = ?stretch.bytes,
        first = stretch.lsns.map(|lsns| lsns.first.get()),
        last = stretch.lsns.map(|lsns| lsns.last.get()),
        cause = ?stretch.cause,
        "stored bytes are damaged; repair the log, or restore what is in them from a copy"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = stretch;
}

/// The background check has panicked, and checks nothing any more.
pub(crate) fn scrub_ended() {
    #[cfg(feature = "tracing")]
    tracing::error!("the background check has failed and ended; the log goes on without it");
}
