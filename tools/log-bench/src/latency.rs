//! Latencies, counted into histograms and summed up.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What is told apart at least, in nanoseconds: shorter ones count as this.
const FLOOR_NS: u64 = 64;
/// What is told apart at most, in nanoseconds: longer ones count as this, and show in the maximum.
const CEILING_NS: u64 = 120_000_000_000;

/// A histogram of latencies; the maximum is exact, the rest to a percent or better.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    counts: Histogram<u32>,
    max_ns: u64,
}

/// The figures of a histogram that a table shows, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Half were no longer than this.
    pub(crate) p50: f64,
    /// 99 of 100 were no longer than this.
    pub(crate) p99: f64,
    /// 999 of 1000 were no longer than this.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl Latency {
    /// An empty histogram of a few hundred kilobytes, exact to a tenth of a percent.
    pub(crate) fn fine() -> Latency {
        Latency::with_digits(3)
    }

    /// An empty histogram for one of `threads` threads: smaller, and exact to a percent, if they are many.
    pub(crate) fn for_one_of(threads: usize) -> Latency {
        Latency::with_digits(if threads > 8 { 2 } else { 3 })
    }

    fn with_digits(digits: u8) -> Latency {
        let counts = Histogram::new_with_bounds(FLOOR_NS, CEILING_NS, digits)
            .expect("bounds are valid: the ceiling is more than twice the floor");
        Latency { counts, max_ns: 0 }
    }

    /// Counts one.
    pub(crate) fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts.saturating_record(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds all that `other` has counted.
    pub(crate) fn add(&mut self, other: &Latency) {
        self.counts.add(&other.counts).expect("bounds are the same: fixed above");
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many were counted.
    pub(crate) fn len(&self) -> u64 {
        self.counts.len()
    }

    /// What share of all, in percent, was no longer than the result, in microseconds.
    pub(crate) fn percentile_us(&self, percent: f64) -> f64 {
        if self.counts.is_empty() {
            return 0.0;
        }
        // The histogram answers with the upper end of a bucket, which may lie past the exact maximum.
        self.counts.value_at_percentile(percent).min(self.max_ns) as f64 / 1e3
    }

    /// The figures for a table.
    pub(crate) fn summary(&self) -> Summary {
        let round = |us: f64| (us * 1e3).round() / 1e3;
        Summary {
            p50: round(self.percentile_us(50.0)),
            p99: round(self.percentile_us(99.0)),
            p999: round(self.percentile_us(99.9)),
            max: self.max_ns as f64 / 1e3,
        }
    }

    /// Microseconds by "one in so many is longer", for a plot of percentiles.
    pub(crate) fn tail_curve(&self) -> Vec<(f64, f64)> {
        let deepest = (self.len().max(2) as f64).log10();
        let steps = (deepest * 12.0).ceil().max(1.0) as u32;
        let depths = (0..=steps).map(|step| deepest * f64::from(step) / f64::from(steps));
        depths
            .map(|depth| (10_f64.powf(depth), self.percentile_us(100.0 * (1.0 - 10_f64.powf(-depth)))))
            .collect()
    }

    /// The share of all, in percent, in each of the buckets that divide each power of ten into `parts`:
    /// (lower end in microseconds, upper end, share).
    pub(crate) fn buckets(&self, parts: u32) -> Vec<(f64, f64, f64)> {
        let index = |us: f64| (us.max(1e-3).log10() * f64::from(parts)).floor() as i64;
        let edge = |index: i64| 10_f64.powf(index as f64 / f64::from(parts));
        let mut shares = std::collections::BTreeMap::new();
        for value in self.counts.iter_recorded() {
            let us = value.value_iterated_to() as f64 / 1e3;
            *shares.entry(index(us)).or_insert(0_u64) += value.count_since_last_iteration();
        }
        let all = self.len().max(1) as f64;
        shares.into_iter().map(|(i, count)| (edge(i), edge(i + 1), 100.0 * count as f64 / all)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_is_exact_and_percentiles_are_close() {
        let mut latency = Latency::for_one_of(64);
        for us in 1..=1000 {
            latency.record(Duration::from_micros(us));
        }
        let summary = latency.summary();
        assert!((summary.p50 - 500.0).abs() < 10.0, "{summary:?}");
        assert!((summary.p99 - 990.0).abs() < 20.0, "{summary:?}");
        assert_eq!(summary.max, 1000.0);
    }

    #[test]
    fn histograms_of_different_precision_add_up() {
        let mut all = Latency::fine();
        let mut one = Latency::for_one_of(64);
        one.record(Duration::from_micros(100));
        all.add(&one);
        assert_eq!(all.len(), 1);
        let shares: f64 = all.buckets(10).iter().map(|bucket| bucket.2).sum();
        assert!((shares - 100.0).abs() < 1e-9);
        assert!(all.tail_curve().iter().all(|point| point.1 > 0.0));
    }
}
