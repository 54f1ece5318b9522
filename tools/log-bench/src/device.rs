//! `device`: the raw limit of a directory's disk by method, block size and number in flight.

use std::time::Duration;

use annals::WriteMethod;

use crate::cli::DeviceArgs;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::place::Place;
use crate::progress::Phase;
use crate::raw::{Limit, RawFile, Way};
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::table::Table;
use crate::units;

/// Measures all combinations that were asked for.
pub(crate) fn run(args: &DeviceArgs, place: &Place) -> Result<Report> {
    let machine = Machine::under(place.dir());
    let largest = args.blocks.iter().max().copied().unwrap_or(0);
    let in_flight_max = args.in_flight.iter().max().copied().unwrap_or(1);
    // No two writes in flight may meet in one block.
    let file_bytes = args.file_bytes.max(largest * u64::from(in_flight_max) * 2);
    place.require(file_bytes)?;
    let raw = RawFile::create(&place.data("raw"), file_bytes)?;
    let methods: Vec<WriteMethod> = match args.method {
        Some(method) => vec![method.into()],
        None => WriteMethod::ALL.to_vec(),
    };
    let ways: Vec<Way> = methods
        .iter()
        .flat_map(|&method| args.in_flight.iter().map(move |&in_flight| (method, in_flight)))
        .flat_map(|(method, in_flight)| {
            args.blocks.iter().map(move |&block_bytes| Way { method, block_bytes, in_flight })
        })
        .collect();
    let limits = measure_all(&raw, &ways, Duration::from_secs_f64(args.secs), args.method.is_some())?;

    let mut report = Report::new("Raw limit of the disk", &machine);
    report.facts.push(("file written to", format!("{}, filled with zeros first", units::bytes(file_bytes))));
    report.tables.push(table(&limits));
    report.charts.extend(charts(&limits));
    if let (Some(bandwidth), Some(rate)) = (best_bandwidth(&limits), best_rate(&limits)) {
        report.notes.push(format!(
            "Most bytes: {} MB/s, {}. Most syncs: {} a second, {}.",
            units::mb_per_s(bandwidth.mb_per_s),
            in_words(&bandwidth.way),
            units::count(rate.syncs_per_s),
            in_words(&rate.way),
        ));
        report.set("best_bandwidth", bandwidth);
        report.set("best_sync_rate", rate);
    }
    report.set("workload", "device");
    report.set("file_bytes", file_bytes);
    report.set("limits", &limits);
    Ok(report)
}

/// Measures each of `ways`; leaves out what the file system cannot do, unless that was asked for by name.
pub(crate) fn measure_all(raw: &RawFile, ways: &[Way], each: Duration, by_name: bool) -> Result<Vec<Limit>> {
    let phase = Phase::steps("writing raw", ways.len() as u64);
    let mut limits = Vec::with_capacity(ways.len());
    for (done, way) in ways.iter().enumerate() {
        phase.say(&format!("writing raw: {}", in_words(way)));
        match raw.measure(*way, each) {
            Ok(limit) => limits.push(limit),
            Err(Error::MethodUnsupported { .. }) if !by_name => {}
            Err(error) => return Err(error),
        }
        phase.reach(done as u64 + 1);
    }
    Ok(limits)
}

/// The way that moves the most bytes.
pub(crate) fn best_bandwidth(limits: &[Limit]) -> Option<&Limit> {
    limits.iter().max_by(|a, b| a.mb_per_s.total_cmp(&b.mb_per_s))
}

/// The way that syncs most often.
pub(crate) fn best_rate(limits: &[Limit]) -> Option<&Limit> {
    limits.iter().max_by(|a, b| a.syncs_per_s.total_cmp(&b.syncs_per_s))
}

/// `direct, 4 KiB, 2 in flight`.
pub(crate) fn in_words(way: &Way) -> String {
    format!("{}, {}, {} in flight", way.method, units::bytes(way.block_bytes), way.in_flight)
}

/// One row for each way.
pub(crate) fn table(limits: &[Limit]) -> Table {
    let mut table = Table::new(
        "Durable writes, nothing else",
        &["method", "block", "in flight", "syncs/s", "MB/s", "p50", "p99", "max"],
    );
    for limit in limits {
        table.row([
            limit.way.method.to_string(),
            units::bytes(limit.way.block_bytes),
            limit.way.in_flight.to_string(),
            units::count(limit.syncs_per_s),
            units::mb_per_s(limit.mb_per_s),
            units::time_us(limit.latency_us.p50),
            units::time_us(limit.latency_us.p99),
            units::time_us(limit.latency_us.max),
        ]);
    }
    table
}

/// The cells of a row of [`Table::figures`].
pub(crate) fn short_row(limit: &Limit) -> [String; 7] {
    [
        format!("raw limit: {}", in_words(&limit.way)),
        units::count(limit.syncs_per_s),
        units::mb_per_s(limit.mb_per_s),
        units::time_us(limit.latency_us.p50),
        units::time_us(limit.latency_us.p99),
        units::time_us(limit.latency_us.max),
        "1".to_string(),
    ]
}

/// Bandwidth and latency by block size, a line for each method and number in flight.
pub(crate) fn charts(limits: &[Limit]) -> Vec<Chart> {
    let mut kinds: Vec<(WriteMethod, u32)> = Vec::new();
    for limit in limits {
        let kind = (limit.way.method, limit.way.in_flight);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let lines = |figure: fn(&Limit) -> f64| -> Vec<Line> {
        let of_kind = |&(method, in_flight): &(WriteMethod, u32)| {
            let same =
                limits.iter().filter(|limit| (limit.way.method, limit.way.in_flight) == (method, in_flight));
            let points = same.map(|limit| (limit.way.block_bytes as f64, figure(limit))).collect();
            Line::marked(format!("{method}, {in_flight} in flight"), points)
        };
        kinds.iter().map(of_kind).collect()
    };
    vec![
        Chart::new(
            "Bandwidth by block size",
            Axis::bytes("bytes of one durable write"),
            Axis::log("MB/s"),
            lines(|limit| limit.mb_per_s),
        ),
        Chart::new(
            "Time of one durable write (median)",
            Axis::bytes("bytes of one durable write"),
            Axis::time("time"),
            lines(|limit| limit.latency_us.p50),
        ),
    ]
}
