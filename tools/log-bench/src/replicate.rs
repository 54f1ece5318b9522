//! `replicate`: appends to a cluster whose replicas are processes of their own.

use std::time::Duration;

use crate::cluster::args::ReplicateArgs;
use crate::cluster::clients::Clients;
use crate::cluster::sick::Written;
use crate::cluster::{Cluster, Ground};
use crate::drive::{self, Measured};
use crate::error::Result;
use crate::machine::Machine;
use crate::place::Place;
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::json::rounded;
use crate::report::table::Table;
use crate::spread::Spread;
use crate::units;
use crate::workload::{Plan, Records};

/// One run.
struct Run {
    measured: Measured,
    /// Seconds of the processors that all replicas and this process used for each GB (10^9) of records.
    cpu_s_per_gb: f64,
    /// What the primary has written durably meanwhile.
    written: Written,
}

/// Runs the workload that was asked for.
pub(crate) fn run(args: &ReplicateArgs, place: &Place) -> Result<Report> {
    let records = Records::synthetic(args.size as usize);
    let plan = Plan {
        threads: args.clients as usize,
        batch: args.batch as usize,
        in_flight: args.in_flight as usize,
        rate: None,
        length: Some(Duration::from_secs_f64(args.secs)),
    };
    let connections = args.connections.unwrap_or(args.clients.min(8)).min(args.clients);
    // Their disks count.
    let ground = Ground { is_sickly: true, ..Ground::default() };
    let mut cluster = Cluster::start_on(&args.cluster, place, &ground)?;
    let status = cluster.connect()?;
    let primary = cluster.wait_until_in_sync(&status)?.id;
    let primary = cluster.index_of(primary);
    let options = cluster.options();
    let options = args.depth_eager.map_or(options.clone(), |depth| options.depth_eager(depth));
    let clients = Clients::connect(&options, connections as usize, args.durability)?;
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        let (before, written) = (cluster.cpu_in_all(), cluster.written(primary)?);
        let measured = drive::drive(&clients, &plan, &records, &format!("run {number} of {}", args.runs))?;
        let cpu = cluster.cpu_in_all() - before;
        let cpu_s_per_gb = cpu.as_secs_f64() / (measured.bytes.max(1) as f64 / 1e9);
        let mut now = cluster.written(primary)?;
        now.syncs -= written.syncs;
        now.bytes -= written.bytes;
        runs.push(Run { measured, cpu_s_per_gb, written: now });
    }
    drop(clients);
    cluster.end();
    Ok(report(args, (&plan, &records, connections), &runs, place))
}

fn report(
    args: &ReplicateArgs,
    (plan, records, connections): (&Plan, &Records, u32),
    runs: &[Run],
    place: &Place,
) -> Report {
    let name = plan.name(records).replace("thread", "client");
    let mut report = Report::new(format!("Replicate: {name}"), &Machine::under(place.dir()));
    report.facts.push(("replicas", args.cluster.replicas.to_string()));
    report.facts.push(("durability", args.durability.to_string()));
    report.facts.push(("connections", connections.to_string()));
    report.facts.extend(args.depth_eager.map(|depth| ("depth_eager", depth.to_string())));
    let columns = ["run", "appends/s", "MB/s", "p50", "p99", "p99.9", "max", "cpu s/GB"];
    let mut table = Table::new("Acknowledged appends", &columns);
    for (number, run) in runs.iter().enumerate() {
        let summary = run.measured.latency.summary();
        table.row([
            (number + 1).to_string(),
            units::count(appends_per_s(plan, run)),
            units::mb_per_s(run.measured.mb_per_s()),
            units::time_us(summary.p50),
            units::time_us(summary.p99),
            units::time_us(summary.p999),
            units::time_us(summary.max),
            format!("{:.1}", run.cpu_s_per_gb),
        ]);
    }
    report.tables.push(table);
    let spread = |figure: fn(&Run) -> f64| Spread::of(runs.iter().map(figure));
    let records_per_s = spread(|run| run.measured.records_per_s());
    report.notes.push(format!(
        "Median of {}: {} records a second ({} to {}). Replicas, clients and the disk share this machine.",
        units::plural(runs.len() as u64, "run"),
        units::count(records_per_s.median),
        units::count(records_per_s.min),
        units::count(records_per_s.max),
    ));
    let timeline =
        |run: &Run| run.measured.timeline.iter().map(|moment| (moment.at_s, moment.records_per_s)).collect();
    let lines = runs
        .iter()
        .enumerate()
        .map(|(number, run)| Line::plain(format!("run {}", number + 1), timeline(run)));
    report.charts.push(Chart::new(
        "Records a second",
        Axis::linear("seconds"),
        Axis::linear("records/s"),
        lines.collect(),
    ));
    report.set("workload", "replicate");
    report.set("replicas", args.cluster.replicas);
    report.set("clients", args.clients);
    report.set("connections", connections);
    report.set("threads", args.clients);
    report.set("size", args.size);
    report.set("batch", args.batch);
    report.set("in_flight", args.in_flight);
    report.set("durability", args.durability.to_string());
    report.set("records_per_s", records_per_s.median);
    report.set("records_per_s_spread", records_per_s);
    report.set("mb_per_s", spread(|run| run.measured.mb_per_s()).median);
    report.set("mb_per_s_spread", spread(|run| run.measured.mb_per_s()));
    let mut all = crate::latency::Latency::fine();
    runs.iter().for_each(|run| all.add(&run.measured.latency));
    report.set("latency_us", all.summary());
    report.set("p50_us_spread", spread(|run| run.measured.latency.summary().p50));
    report.set("cpu_s_per_gb", rounded(spread(|run| run.cpu_s_per_gb).median));
    set_totals(&mut report, runs);
    report
}

/// What all runs come to together, under the keys of `append`: of the primary what its disk was given.
fn set_totals(report: &mut Report, runs: &[Run]) {
    let sum = |figure: fn(&Run) -> u64| runs.iter().map(figure).sum::<u64>();
    let secs: f64 = runs.iter().map(|run| run.measured.elapsed.as_secs_f64()).sum();
    let (records, bytes) = (sum(|run| run.measured.records), sum(|run| run.written.bytes));
    let syncs = sum(|run| run.written.syncs);
    let of_syncs = |figure: u64| rounded(figure as f64 / syncs.max(1) as f64);
    report.set("rate", None::<f64>);
    report.set("write_method", runs.last().map(|run| run.written.method.clone()));
    report.set("secs", rounded(secs));
    report.set("records", records);
    report.set("syncs", syncs);
    report.set("syncs_per_s", rounded(syncs as f64 / secs));
    report.set("records_per_sync", of_syncs(records));
    report.set("bytes_per_sync", of_syncs(bytes));
    report.set("bytes_written", bytes);
    let moments = runs.iter().flat_map(|run| &run.measured.timeline);
    report.set("timeline", moments.collect::<Vec<_>>());
}

fn appends_per_s(plan: &Plan, run: &Run) -> f64 {
    run.measured.records_per_s() / plan.batch as f64
}
