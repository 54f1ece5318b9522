//! `idle`: what a cluster uses of the processors while nobody asks anything of it.

use std::time::{Duration, Instant};

use annals::ReplicaId;

use crate::cluster::Cluster;
use crate::cluster::args::IdleArgs;
use crate::error::Result;
use crate::machine::Machine;
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::json::rounded;
use crate::report::table::Table;
use crate::units;

/// Before it is measured, so that nothing of the start is left: what was synced is vouched for, the client is gone.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two looks whether the measurement was stopped.
const LOOK: Duration = Duration::from_millis(50);

/// Starts a cluster, leaves it alone, and looks what each replica has used.
pub(crate) fn run(args: &IdleArgs, place: &Place) -> Result<Report> {
    let cluster = Cluster::start(&args.cluster, place)?;
    // The client goes before it is measured: its connection would be kept alive.
    let primary = cluster.wait_until_in_sync(&cluster.connect()?)?.id;
    let length = Duration::from_secs_f64(args.secs);
    let phase = Phase::timed("leaving the cluster alone", SETTLE + length);
    rest(SETTLE, &phase)?;
    let (began, before) = (Instant::now(), cluster.cpu().collect::<Vec<_>>());
    rest(length, &phase)?;
    let (took, after) = (began.elapsed(), cluster.cpu());
    let percent = |(after, before): (Duration, &Duration)| {
        rounded(100.0 * after.saturating_sub(*before).as_secs_f64() / took.as_secs_f64())
    };
    let percent: Vec<f64> = after.zip(&before).map(percent).collect();
    let replicas: Vec<(ReplicaId, f64)> = cluster.ids().zip(percent).collect();
    cluster.end();
    Ok(report(&replicas, primary, args, place))
}

fn rest(length: Duration, phase: &Phase) -> Result<()> {
    let began = Instant::now();
    while let Some(left) = length.checked_sub(began.elapsed()) {
        progress::check_stopped()?;
        phase.tick();
        std::thread::sleep(left.min(LOOK));
    }
    Ok(())
}

fn report(replicas: &[(ReplicaId, f64)], primary: ReplicaId, args: &IdleArgs, place: &Place) -> Report {
    let title = format!("Idle: {} left alone", units::plural(replicas.len() as u64, "replica"));
    let mut report = Report::new(title, &Machine::under(place.dir()));
    let mut table = Table::new("Of one core", &["replica", "role", "percent"]);
    for (id, percent) in replicas {
        let role = if *id == primary { "primary" } else { "backup" };
        table.row([id.to_string(), role.to_string(), format!("{percent:.2}")]);
    }
    report.tables.push(table);
    report.notes.push(format!("Over {:.1} s, with heartbeats and without a client.", args.secs));
    report.set("workload", "idle");
    report.set("replicas", replicas.len());
    report.set("secs", args.secs);
    report.set("cpu_percent", replicas.iter().map(|(_, percent)| *percent).collect::<Vec<_>>());
    report.set("cpu_percent_max", replicas.iter().map(|(_, percent)| *percent).fold(0.0, f64::max));
    report
}
