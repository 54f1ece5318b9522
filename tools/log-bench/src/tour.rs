//! The tour: in under a minute, what the disk can do and how close the log comes to it.

use std::path::Path;
use std::time::Duration;

use crate::append;
use crate::cli::OpenArgs;
use crate::device;
use crate::engine::Settings;
use crate::error::Result;
use crate::machine::Machine;
use crate::place::Place;
use crate::raw::{Limit, RawFile, Way};
use crate::read;
use crate::reopen;
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::table::Table;
use crate::workload::{Lines, Plan, Records};

const APPEND: Duration = Duration::from_millis(2500);
const READ_BYTES: u64 = 256 << 20;
const READ_SIZE: u64 = 1 << 10;

/// Probes the disk, appends, reads and reopens; with the lines of `input` too.
pub(crate) fn run(input: Option<&Path>, place: &Place) -> Result<Report> {
    let machine = Machine::under(place.dir());
    // Read before anything is measured: a missing file should not cost a minute.
    let lines = input.map(Lines::read).transpose()?;
    let mut report = Report::new("A tour of this disk and of annals on it", &machine);
    let raw = RawFile::create(&place.data("raw"), append::raw_bytes(Some(APPEND)))?;
    let mut table = Table::figures("Durable appends, reads and reopens");
    probe(&raw, &mut report)?.into_iter().for_each(|row| table.row(row));

    let (mut outcomes, mut objects) = (Vec::new(), Vec::new());
    for (plan, records) in workloads(lines) {
        let outcome = append::measure(&plan, &records, &Settings::default(), place, &raw)?;
        table.row(outcome.short_row());
        let figures = outcome.figures(&plan, &records).into_iter();
        objects.push(figures.map(|(key, value)| (key.to_string(), value)).collect::<serde_json::Map<_, _>>());
        outcomes.push(outcome);
    }
    report.facts.extend(outcomes.first().map(|outcome| ("write method", outcome.method.to_string())));
    report.charts.splice(0..0, charts(&outcomes));

    let moment = Duration::from_millis(500);
    let reads = read::measure(READ_SIZE, READ_BYTES, 3, moment, &Settings::default(), place)?;
    reads.rows(READ_SIZE).into_iter().for_each(|row| table.row(row));
    let args = OpenArgs { log_bytes: vec![READ_BYTES], size: READ_SIZE, runs: 3, cold: false, method: None };
    let opened = reopen::measure(READ_BYTES, &args, place)?;
    opened.short_rows().into_iter().for_each(|row| table.row(row));
    report.tables.insert(0, table);

    report.notes.push(
        "The raw limit is measured just before and after each workload by the same method. \"syncs\": durable \
         writes a second, against the disk's own of the same size and with as many in flight. \"MB/s\": bytes \
         of records a second, against the disk's best. \"read()\": the operating system copying the same files out of its \
         page cache."
            .to_string(),
    );
    for outcome in &outcomes {
        if let Some(compared) = outcome.compared {
            report.notes.push(append::compared_note(compared));
        }
    }
    report.set("workload", "tour");
    report.set("appends", objects);
    report.set("read", reads.checked);
    report.set("open", &opened);
    Ok(report)
}

/// The raw limit at the ends of the range: rows for what is best of small and of large writes.
fn probe(raw: &RawFile, report: &mut Report) -> Result<Vec<[String; 7]>> {
    let mut ways = Vec::new();
    for method in annals::WriteMethod::ALL {
        for in_flight in [1, 4] {
            ways.extend([4 << 10, 64 << 10, 1 << 20].map(|block_bytes| Way {
                method,
                block_bytes,
                in_flight,
            }));
        }
    }
    let limits = device::measure_all(raw, &ways, Duration::from_millis(200), false)?;
    report.tables.push(Table { page_only: true, ..device::table(&limits) });
    report.charts.extend(device::charts(&limits));
    report.set("limits", &limits);
    let alone: Vec<Limit> = limits.iter().filter(|limit| limit.way.in_flight == 1).copied().collect();
    let best = [device::best_rate(&alone), device::best_rate(&limits), device::best_bandwidth(&limits)];
    let mut best: Vec<&Limit> = best.into_iter().flatten().collect();
    // On a busy machine several in flight may be no quicker than one.
    best.dedup_by_key(|limit| limit.way);
    Ok(best.into_iter().map(device::short_row).collect())
}

fn workloads(lines: Option<Lines>) -> Vec<(Plan, Records)> {
    let plan =
        |threads, batch, in_flight| Plan { threads, batch, in_flight, rate: None, length: Some(APPEND) };
    let mut workloads = vec![
        (plan(1, 1, 1), Records::synthetic(256)),
        (plan(64, 1, 1), Records::synthetic(256)),
        (plan(8, 64, 1), Records::synthetic(1024)),
        (plan(1, 1, 8192), Records::synthetic(1024)),
    ];
    let lines = lines.unwrap_or_else(generated_lines);
    // Many outstanding, so that a long file does not make the tour long; a short one is appended again.
    let length = Some(Duration::from_secs(1));
    workloads.push((Plan { length, ..plan(4, 1, 4096) }, Records::Lines(lines)));
    workloads
}

/// Stands in for a file that was not given: lines of the lengths of a server's log.
fn generated_lines() -> Lines {
    const LINES: u64 = 200_000;
    let mut text = String::new();
    for i in 0..LINES {
        let mixed = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let path = "/a-path-of-some-length".repeat(1 + (mixed >> 62) as usize);
        text.push_str(&format!("request {i} from 10.0.{}.{} for {path}?id={mixed:x}", mixed as u8, i as u8));
        text.push_str(&format!(" took {} us, status {}\n", mixed % 90_000, 200 + (mixed >> 40) % 5));
    }
    Lines::of("generated text".to_string(), text.into_bytes())
}

fn charts(outcomes: &[append::Outcome]) -> Vec<Chart> {
    let over_time = outcomes.iter().map(|outcome| {
        let points =
            outcome.measured.timeline.iter().map(|moment| (moment.at_s, moment.records_per_s.max(1.0)));
        Line::plain(outcome.name.clone(), points.collect())
    });
    let by_percentile = outcomes
        .iter()
        .map(|outcome| Line::plain(outcome.name.clone(), outcome.measured.latency.tail_curve()));
    vec![
        Chart::new(
            "Throughput over time",
            Axis::linear("seconds"),
            Axis::log("records/s"),
            over_time.collect(),
        ),
        Chart::new(
            "Latency by percentile",
            Axis::percentiles("share of appends that took no longer"),
            Axis::time("latency"),
            by_percentile.collect(),
        ),
    ]
}
