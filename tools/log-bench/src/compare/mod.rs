//! `compare`: the same workloads on annals and on other engines, each in the best configuration that still
//! syncs before it acknowledges.
//!
//! Runs are interleaved (A B C A B C ...), because machines drift: a ratio is always one of two runs that
//! stood beside each other.

mod annals;
mod okaywal;
mod raft_engine;

use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::CompareArgs;
use crate::drive::Measured;
use crate::error::{Error, Result};
use crate::latency::Summary;
use crate::machine::Machine;
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::json::rounded;
use crate::report::table::Table;
use crate::spread::Spread;
use crate::units;
use crate::workload::{Plan, Records};

/// What can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EngineKind {
    /// This project's log, with default options.
    Annals,
    /// raft-engine, the log of TiKV.
    RaftEngine,
    /// okaywal, a write-ahead log with group commit.
    Okaywal,
}

impl EngineKind {
    fn name(self) -> &'static str {
        match self {
            EngineKind::Annals => "annals",
            EngineKind::RaftEngine => "raft-engine",
            EngineKind::Okaywal => "okaywal",
        }
    }

    /// How it was set up, for the report.
    fn configuration(self) -> &'static str {
        match self {
            EngineKind::Annals => annals::CONFIGURATION,
            EngineKind::RaftEngine => raft_engine::CONFIGURATION,
            EngineKind::Okaywal => okaywal::CONFIGURATION,
        }
    }

    /// One run on a fresh log in `place`.
    fn run(self, workload: &Workload, place: &Place, name: &str) -> Result<Measured> {
        place.discard("log")?;
        let dir = place.data("log");
        let measured = match self {
            EngineKind::Annals => annals::run(workload, &dir, name),
            EngineKind::RaftEngine => raft_engine::run(workload, &dir, name),
            EngineKind::Okaywal => okaywal::run(workload, &dir, name),
        }?;
        place.discard("log")?;
        Ok(measured)
    }
}

/// One workload, the same for all engines.
#[derive(Debug)]
pub(crate) struct Workload {
    plan: Plan,
    records: Records,
    /// More bytes than any engine will append in one run: how much is prepared ahead where that helps.
    bytes_max: u64,
}

fn workloads(args: &CompareArgs) -> Vec<Workload> {
    let length = Duration::from_secs_f64(args.secs);
    let workload = |threads, batch, size, mb_per_s_max: f64| Workload {
        plan: Plan { threads, batch, in_flight: 1, rate: None, length: Some(length) },
        records: Records::synthetic(size),
        bytes_max: (args.secs * mb_per_s_max * 1e6) as u64,
    };
    let all = [
        workload(1, 1, 256, 50.0),
        workload(64, 1, 256, 150.0),
        workload(256, 1, 256, 250.0),
        workload(8, 64, 1024, 2000.0),
    ];
    let numbered = all.into_iter().zip(1_u32..);
    let chosen = numbered.filter(|(_, number)| args.workload.is_empty() || args.workload.contains(number));
    chosen.map(|(workload, _)| workload).collect()
}

/// Runs all that was asked for.
pub(crate) fn run(args: &CompareArgs, place: &Place) -> Result<Report> {
    let machine = Machine::under(place.dir());
    let engines = match args.engine.as_slice() {
        [] => EngineKind::value_variants(),
        some => some,
    };
    let workloads = workloads(args);
    let largest = workloads.iter().map(|workload| workload.bytes_max).max().unwrap_or(0);
    place.require(largest * 2 + (1 << 30))?;

    let mut report = Report::new("Engines compared: runs interleaved, each on a fresh log", &machine);
    report.facts.extend(engines.iter().map(|engine| (engine.name(), engine.configuration().to_string())));
    let steps = workloads.len() as u64 * u64::from(args.runs) * engines.len() as u64;
    let phase = Phase::steps("comparing", steps);
    let mut done = 0;
    let mut races = Vec::new();
    for workload in &workloads {
        let mut race = Race::new(workload.plan.name(&workload.records), engines);
        for _ in 0..args.runs {
            for lane in &mut race.lanes {
                progress::check_stopped()?;
                let name = format!("{}: {}", lane.engine.name(), race.name);
                phase.say(&name);
                lane.runs.push(Run::of(&lane.engine.run(workload, place, &name)?));
                done += 1;
                phase.reach(done);
            }
        }
        races.push(race);
    }
    drop(phase);
    report.tables.extend(races.iter().map(Race::table));
    report.charts.extend(races.iter().map(Race::chart));
    report.notes.push(format!(
        "Figures are medians of {} runs of {} s each; a ratio is of two runs that stood beside each other, and its \
         spread is from the least to the greatest.",
        args.runs, args.secs
    ));
    report.set("workload", "compare");
    report.set("runs", args.runs);
    report.set("secs", args.secs);
    report.set("workloads", races.iter().map(Race::figures).collect::<Vec<_>>());
    Ok(report)
}

/// Syncs all files in `dir`, so that no engine pays during its run for what was prepared before.
fn sync_files(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let path = entry.map_err(Error::io("read", dir))?.path();
        match fs::File::open(&path).and_then(|file| file.sync_all()) {
            // An engine may rename its files in the background; it has synced them then.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            synced => synced.map_err(Error::io("sync", &path))?,
        }
    }
    Ok(())
}

/// One workload on all engines.
#[derive(Debug)]
struct Race {
    name: String,
    lanes: Vec<Lane>,
}

#[derive(Debug, Serialize)]
struct Lane {
    engine: EngineKind,
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    records_per_s: f64,
    mb_per_s: f64,
    latency_us: Summary,
}

impl Run {
    fn of(measured: &Measured) -> Run {
        Run {
            records_per_s: rounded(measured.records_per_s()),
            mb_per_s: rounded(measured.mb_per_s()),
            latency_us: measured.latency.summary(),
        }
    }
}

impl Race {
    fn new(name: String, engines: &[EngineKind]) -> Race {
        Race { name, lanes: engines.iter().map(|&engine| Lane { engine, runs: Vec::new() }).collect() }
    }

    /// How many times faster the first engine was than `other`, run by run.
    fn ratios(&self, other: &Lane) -> Vec<f64> {
        let pairs = self.lanes[0].runs.iter().zip(&other.runs);
        pairs.map(|(one, other)| rounded(one.records_per_s / other.records_per_s)).collect()
    }

    fn table(&self) -> Table {
        let first = self.lanes[0].engine.name();
        let ratio = format!("{first} is faster by");
        let columns = ["engine", "records/s", "MB/s", "p50", "p99", "max", &ratio, "spread", "run by run"];
        let mut table = Table::new(self.name.clone(), &columns);
        for lane in &self.lanes {
            let middle = |figure: fn(&Run) -> f64| Spread::of(lane.runs.iter().map(figure)).median;
            let ratios = self.ratios(lane);
            let spread = Spread::of(ratios.iter().copied());
            let mut row = vec![
                lane.engine.name().to_string(),
                units::count(middle(|run| run.records_per_s)),
                units::mb_per_s(middle(|run| run.mb_per_s)),
                units::time_us(middle(|run| run.latency_us.p50)),
                units::time_us(middle(|run| run.latency_us.p99)),
                units::time_us(middle(|run| run.latency_us.max)),
            ];
            row.extend(if lane.engine == self.lanes[0].engine {
                ["-".to_string(), "-".to_string(), "-".to_string()]
            } else {
                let each = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect::<Vec<_>>().join(" ");
                [format!("{:.2} x", spread.median), format!("{:.2} to {:.2}", spread.min, spread.max), each]
            });
            table.row(row);
        }
        table
    }

    fn chart(&self) -> Chart {
        let lines = self.lanes.iter().enumerate().map(|(place, lane)| {
            let width = 0.8 / lane.runs.len().max(1) as f64;
            let bars = lane.runs.iter().enumerate().map(|(i, run)| {
                let from = place as f64 - 0.4 + width * i as f64;
                (from + width * 0.08, from + width * 0.92, run.records_per_s)
            });
            Line::bars(lane.engine.name(), bars.collect())
        });
        let names = self.lanes.iter().map(|lane| lane.engine.name().to_string()).collect();
        let title = format!("Records/s, run by run: {}", self.name);
        Chart::new(title, Axis::names("engine", names), Axis::linear("records/s"), lines.collect())
            .without_legend()
    }

    fn figures(&self) -> serde_json::Value {
        let ratios: Vec<_> = self.lanes[1..]
            .iter()
            .map(|lane| {
                let ratios = self.ratios(lane);
                serde_json::json!({
                    "to": lane.engine.name(),
                    "spread": Spread::of(ratios.iter().copied()),
                    "run_by_run": ratios,
                })
            })
            .collect();
        serde_json::json!({ "workload": self.name, "engines": self.lanes, "ratios": ratios })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_pair_the_runs_that_stood_beside_each_other() {
        let mut race = Race::new("w".into(), &[EngineKind::Annals, EngineKind::Okaywal]);
        let run = |records_per_s| Run { records_per_s, mb_per_s: 1.0, latency_us: Summary::default() };
        race.lanes[0].runs = vec![run(200.0), run(300.0)];
        race.lanes[1].runs = vec![run(100.0), run(100.0)];
        assert_eq!(race.ratios(&race.lanes[1]), [2.0, 3.0]);
        assert!(race.table().text().contains("2.50 x"));
    }
}
