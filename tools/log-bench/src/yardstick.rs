//! What a workload is held against: the raw limit of the disk, measured in the same run.
//!
//! Machines drift, so the raw limit is measured just before and just after. Appends that wait for the disk are
//! cut into rounds with the raw limit between them: the share is then the median of several.

use std::time::Duration;

use annals::WriteMethod;
use serde::Serialize;

use crate::device;
use crate::drive::{self, Measured};
use crate::engine::{Annals, Counts, Settings};
use crate::error::{Error, Result};
use crate::place::Place;
use crate::raw::{Limit, RawFile, Way};
use crate::spread::Spread;
use crate::workload::{Plan, Records};

/// What is counted against the raw limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Basis {
    /// Durable writes a second, of the size and with as many in flight as the log had.
    Syncs,
    /// Bytes of records a second, against the best block size and number in flight.
    Bytes,
}

impl Basis {
    /// Appends that wait for the disk one by one are bound by how often it syncs, the others by its bandwidth.
    pub(crate) fn of(plan: &Plan, records: &Records) -> Basis {
        let small = records.mean_bytes() * (plan.batch as f64) < 16_384.0;
        if plan.rate.is_some() || (plan.waits_for_each() && small) { Basis::Syncs } else { Basis::Bytes }
    }
}

/// The raw limit around each round of a workload, and the shares of it that the rounds came to.
#[derive(Debug)]
pub(crate) struct Yardstick {
    /// What is counted.
    pub(crate) basis: Basis,
    /// Before the first round, between rounds, and after the last.
    pub(crate) limits: Vec<Limit>,
    /// For each round, the share of the mean of the limits on both sides.
    shares: Vec<f64>,
}

impl Yardstick {
    /// Finds how the disk is to be written for a fair comparison, and measures that for the first time.
    pub(crate) fn find(
        plan: &Plan,
        records: &Records,
        settings: &Settings,
        method: WriteMethod,
        place: &Place,
        raw: &RawFile,
    ) -> Result<Yardstick> {
        let basis = Basis::of(plan, records);
        let ways = match basis {
            Basis::Syncs => vec![rehearse(plan, records, settings, method, place)?],
            Basis::Bytes => large_writes(method),
        };
        let limits = device::measure_all(raw, &ways, moment(plan), true)?;
        let best = device::best_bandwidth(&limits).expect("the log writes by the same method, so it works");
        Ok(Yardstick { basis, limits: vec![*best], shares: Vec::new() })
    }

    /// Takes in one round, and measures the raw limit after it.
    pub(crate) fn add(&mut self, round: &Measured, counts: Counts, plan: &Plan, raw: &RawFile) -> Result<()> {
        let before = self.limits[self.limits.len() - 1];
        let after = raw.measure(before.way, moment(plan))?;
        self.limits.push(after);
        let both = Limit::mean(&[before, after]);
        self.shares.push(match self.basis {
            Basis::Syncs => counts.syncs as f64 / round.elapsed.as_secs_f64() / both.syncs_per_s,
            Basis::Bytes => round.mb_per_s() / both.mb_per_s,
        });
        Ok(())
    }

    /// The raw limit, on average.
    pub(crate) fn raw(&self) -> Limit {
        Limit::mean(&self.limits)
    }

    /// How many rounds there were.
    pub(crate) fn rounds(&self) -> usize {
        self.shares.len()
    }

    /// The share of the raw limit, 1 for all of it, over the rounds: the median counts.
    pub(crate) fn share(&self) -> Spread {
        Spread::of(self.shares.iter().copied())
    }
}

/// Into how many rounds a workload is cut: one where appends are to go on without a break, so that what the log
/// does in the background has no pause to catch up in.
pub(crate) fn rounds(plan: &Plan, records: &Records) -> u32 {
    match (Basis::of(plan, records), plan.rate, plan.length, records) {
        (Basis::Syncs, None, Some(length), Records::Synthetic(_)) => {
            (length.as_secs_f64() / 0.8).clamp(1.0, 5.0) as u32
        }
        _ => 1,
    }
}

/// How long the raw limit is measured at a time.
fn moment(plan: &Plan) -> Duration {
    let secs = plan.length.map_or(0.4, |length| (length.as_secs_f64() / 6.0).clamp(0.1, 0.4));
    Duration::from_secs_f64(secs)
}

/// Runs the workload for a moment on a log of its own, to learn how many bytes a durable write has and how many
/// writes are in flight.
fn rehearse(
    plan: &Plan,
    records: &Records,
    settings: &Settings,
    method: WriteMethod,
    place: &Place,
) -> Result<Way> {
    let plan = Plan { length: Some(moment(plan)), ..plan.clone() };
    let settings = Settings { method: Some(method), segment_bytes: Some(8 << 20), ..settings.clone() };
    let stand_in = Records::synthetic(records.mean_bytes().round() as usize);
    let log = settings.open(&place.data("rehearsal"))?;
    let measured = drive::drive(&Annals(&log), &plan, &stand_in, "rehearsing")?;
    let counts = Counts::of(&log);
    log.close().map_err(Error::log("close"))?;
    place.discard("rehearsal")?;
    Ok(Way { method, block_bytes: counts.block_bytes(), in_flight: counts.in_flight(measured.elapsed) })
}

/// Where the best bandwidth is looked for.
fn large_writes(method: WriteMethod) -> Vec<Way> {
    let way = |block_bytes, in_flight| Way { method, block_bytes, in_flight };
    [256 << 10, 1 << 20]
        .into_iter()
        .flat_map(|bytes| [1, 2, 4].map(|in_flight| way(bytes, in_flight)))
        .collect()
}
