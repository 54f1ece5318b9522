//! `roll`: latency of appends around segment changes, and away from them.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::RollArgs;
use crate::drive::Engine;
use crate::engine::{Annals, Counts, Settings};
use crate::error::{Error, Result};
use crate::latency::{Latency, Summary};
use crate::machine::{self, Machine};
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::table::Table;
use crate::units;
use crate::workload::Records;

/// Appends so close after a roll are told apart from those away from one.
const NEAR: u64 = 8;

/// Appends one by one to a log of small segments.
pub(crate) fn run(args: &RollArgs, place: &Place) -> Result<Report> {
    let machine = Machine::under(place.dir());
    let quarter = machine::free_bytes(place.dir()).map_or(1 << 30, |free| free / 4);
    let settings = Settings {
        method: args.method.map(Into::into),
        segment_bytes: Some(args.segment_bytes),
        retain_bytes: Some(quarter.min(16 << 30)),
        ..Settings::default()
    };
    let log = settings.open(&place.data("log"))?;
    let method = log.write_method();
    let appends = append(&Annals(&log), || Counts::of(&log).rolls, args)?;
    log.close().map_err(Error::log("close"))?;
    let split = Split::of(&appends);

    let title = format!(
        "Rolls: 1 thread, {}, wait for each, segments of {}",
        units::bytes(args.size),
        units::bytes(args.segment_bytes)
    );
    let mut report = Report::new(title, &machine);
    report.facts.push(("write method", method.to_string()));
    report.tables.push(split.table());
    report.charts.extend(charts(&appends, &split));
    report.notes.push(match split.worst_to_p99() {
        Some(ratio) => format!(
            "The worst append across {} took {:.2} times the p99 of those away from one.",
            units::plural(split.across.len(), "roll"),
            ratio
        ),
        None => "No segment was filled: append for longer (--secs) or to smaller ones (--segment-bytes)."
            .to_string(),
    });
    report.set("workload", "roll");
    report.set("size", args.size);
    report.set("segment_bytes", args.segment_bytes);
    report.set("write_method", method.to_string());
    report.set("rolls", split.across.len());
    report.set("across_us", split.across.summary());
    report.set("just_after_us", split.after.summary());
    report.set("away_us", split.away.summary());
    report.set("worst_across_to_p99_away", split.worst_to_p99());
    Ok(report)
}

/// One append: when it ended, how long it took, and whether the segment changed under it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Append {
    at_s: f64,
    latency: Duration,
    rolled: bool,
}

fn append(engine: &Annals<'_>, rolls: impl Fn() -> u64, args: &RollArgs) -> Result<Vec<Append>> {
    let length = Duration::from_secs_f64(args.secs);
    let phase = Phase::timed("appending across rolls", length);
    let records = Records::synthetic(args.size as usize);
    let mut feed = records.feed(0, 1);
    let mut batch = Vec::new();
    let mut appends = Vec::new();
    let mut seen = rolls();
    let began = Instant::now();
    while began.elapsed() < length && feed.next(&mut batch, false).is_some() {
        let since = Instant::now();
        let pending = engine.submit(0, &batch)?;
        engine.wait(pending)?;
        let latency = since.elapsed();
        let now = rolls();
        appends.push(Append { at_s: began.elapsed().as_secs_f64(), latency, rolled: now != seen });
        seen = now;
        if appends.len() % 256 == 0 {
            phase.tick();
            progress::check_stopped()?;
        }
    }
    Ok(appends)
}

/// Appends by how near to a roll they were.
struct Split {
    across: Latency,
    after: Latency,
    away: Latency,
}

impl Split {
    fn of(appends: &[Append]) -> Split {
        let mut split = Split { across: Latency::fine(), after: Latency::fine(), away: Latency::fine() };
        let mut since_roll = NEAR;
        for append in appends {
            since_roll = if append.rolled { 0 } else { since_roll + 1 };
            let kind = match since_roll {
                0 => &mut split.across,
                n if n <= NEAR => &mut split.after,
                _ => &mut split.away,
            };
            kind.record(append.latency);
        }
        split
    }

    /// The worst append across a roll, in units of the p99 away from one.
    fn worst_to_p99(&self) -> Option<f64> {
        let p99 = self.away.summary().p99;
        (self.across.len() > 0 && p99 > 0.0).then(|| self.across.summary().max / p99)
    }

    fn table(&self) -> Table {
        let mut table = Table::new("Latency of appends", &["append", "count", "p50", "p99", "p99.9", "max"]);
        for (name, latency) in [
            ("across a roll".to_string(), &self.across),
            (format!("up to {NEAR} after one"), &self.after),
            ("away from any".to_string(), &self.away),
        ] {
            let Summary { p50, p99, p999, max } = latency.summary();
            let mut row = vec![name, latency.len().to_string()];
            row.extend([p50, p99, p999, max].map(units::time_us));
            table.row(row);
        }
        table
    }
}

fn charts(appends: &[Append], split: &Split) -> Vec<Chart> {
    // A page with more dots than this is slow to open; the slow appends are kept.
    const DOTS: usize = 4000;
    let every = appends.len().div_ceil(DOTS).max(1);
    let slow = split.away.percentile_us(99.0);
    let dot = |append: &Append| (append.at_s, units::us(append.latency));
    let away = appends
        .iter()
        .enumerate()
        .filter(|(i, append)| !append.rolled && (i % every == 0 || units::us(append.latency) > slow));
    let over_time = vec![
        Line::dots("away from a roll", away.map(|(_, append)| dot(append)).collect()),
        Line::dots("across a roll", appends.iter().filter(|append| append.rolled).map(dot).collect()),
    ];
    let by_percentile = vec![
        Line::plain("away from a roll", split.away.tail_curve()),
        Line::plain(
            "across a roll",
            if split.across.len() > 0 { split.across.tail_curve() } else { Vec::new() },
        ),
    ];
    vec![
        Chart::new("Latency over time", Axis::linear("seconds"), Axis::time("latency"), over_time),
        Chart::new(
            "Latency by percentile",
            Axis::percentiles("share of appends that took no longer"),
            Axis::time("latency"),
            by_percentile,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_are_split_by_their_distance_from_a_roll() {
        let append = |i: u64| Append { at_s: 0.0, latency: Duration::from_micros(100 + i), rolled: i == 20 };
        let appends: Vec<Append> = (0..40).map(append).collect();
        let split = Split::of(&appends);
        assert_eq!((split.across.len(), split.after.len(), split.away.len()), (1, NEAR, 31));
        assert_eq!(split.across.summary().max, 120.0);
    }
}
