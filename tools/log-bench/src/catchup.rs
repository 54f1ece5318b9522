//! `catchup`: how fast a replica that lacks records gets them, and what clients notice of that.

use std::time::{Duration, Instant};

use annals::protocol::{Change, Member, Stage};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::cluster::args::CatchupArgs;
use crate::cluster::clients::Clients;
use crate::cluster::load::Load;
use crate::drive::Engine;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::json::rounded;
use crate::report::table::Table;
use crate::units;
use crate::workload::Records;

/// For so long the latency before and after is measured.
const CALM: Duration = Duration::from_secs(2);
/// Bytes of the records that the laggard lacks.
const RECORD_BYTES: usize = 4096;

/// A replica that has caught up.
#[derive(Clone, Debug, Serialize)]
struct Caught {
    from: &'static str,
    bytes: u64,
    secs: f64,
    mb_per_s: f64,
    /// 99th percentile of the clients' latency before, during and after, in microseconds.
    before_us: f64,
    during_us: f64,
    after_us: f64,
}

/// Measures a laggard that the log serves, then a blank one that needs all of it.
pub(crate) fn run(args: &CatchupArgs, place: &Place) -> Result<Report> {
    let mut cluster = Cluster::start(&args.load.cluster, place)?;
    let client = cluster.connect()?;
    let leader = cluster.wait_until_in_sync(&client)?;
    let laggard = (0..cluster.len()).find(|index| *index != cluster.index_of(leader.id));
    let laggard = laggard.ok_or(Error::Child {
        doing: "looking for a backup",
        left: "a cluster of one has none; ask for more --replicas".to_string(),
    })?;
    cluster.kill(laggard);
    fill(&cluster, args.log_bytes)?;
    let mut caught = Vec::new();
    caught.push(measure(args, &mut cluster, ("the log, after a restart", laggard), |cluster| {
        cluster.restart(laggard)
    })?);
    let newcomer = cluster.len();
    caught.push(measure(args, &mut cluster, ("a blank disk, as a new replica", newcomer), |cluster| {
        let (id, disk) = cluster.add(place)?;
        let client = cluster.connect()?;
        client
            .change(Change::AddLearner(Member { id, disk }))
            .wait()
            .map_err(Error::cluster("add a replica to"))
    })?);
    cluster.end();
    Ok(report(args, &caught, place))
}

/// Appends so many bytes as fast as the cluster takes them.
fn fill(cluster: &Cluster, bytes: u64) -> Result<()> {
    const OUTSTANDING: usize = 1024;
    let phase = Phase::bytes("filling the log", bytes);
    let clients = Clients::connect(cluster, 1, Default::default())?;
    let records = Records::synthetic(RECORD_BYTES);
    let mut feed = records.feed(0, 1);
    let (mut batch, mut window) = (Vec::new(), std::collections::VecDeque::new());
    let mut filled = 0;
    while filled < bytes && feed.next(&mut batch, false).is_some() {
        window.push_back(clients.submit(0, &batch)?);
        filled += RECORD_BYTES as u64;
        if window.len() == OUTSTANDING {
            window.pop_front().map_or(Ok(0), |oldest| clients.wait(oldest))?;
            phase.reach(filled);
            progress::check_stopped()?;
        }
    }
    window.into_iter().try_for_each(|ticket| clients.wait(ticket).map(drop))
}

/// Starts the laggard under load, and measures until it gets each group as it is appended.
fn measure(
    args: &CatchupArgs,
    cluster: &mut Cluster,
    (from, laggard): (&'static str, usize),
    start: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<Caught> {
    let client = cluster.connect()?;
    let load = Load::start(cluster, args.load.clients, args.load.size as usize, args.load.rate)?;
    load.wait_for_commit_after(load.now(), CALM)?;
    let begun = load.now();
    let clock = Instant::now();
    start(cluster)?;
    let id = annals::ReplicaId::new(laggard as u64 + 1);
    cluster.wait(&client, "a laggard that catches up", |status| {
        let peer = status.peers.iter().find(|peer| peer.id == id);
        peer.is_some_and(|peer| peer.stage == Stage::Streaming)
    })?;
    let secs = clock.elapsed().as_secs_f64();
    let ended = load.now();
    load.wait_for_commit_after(ended, CALM)?;
    let p99 = |from, to| load.latency(from, to).percentile_us(99.0);
    let (before_us, during_us) = (p99(Duration::ZERO, begun), p99(begun, ended));
    let after_us = p99(ended, load.now());
    let loaded = load.end_without_reading();
    if loaded > 0 {
        return Err(Error::Child { doing: "serving clients", left: format!("{loaded} appends failed") });
    }
    let mb_per_s = rounded(args.log_bytes as f64 / 1e6 / secs);
    Ok(Caught { from, bytes: args.log_bytes, secs: rounded(secs), mb_per_s, before_us, during_us, after_us })
}

fn report(args: &CatchupArgs, caught: &[Caught], place: &Place) -> Report {
    let title = format!("Catch-up: {} of records", units::bytes(args.log_bytes));
    let mut report = Report::new(title, &Machine::under(place.dir()));
    let columns = ["from", "seconds", "MB/s", "clients' p99 before", "during", "after"];
    let mut table = Table::new("A replica that lacks records", &columns);
    for one in caught {
        table.row([
            one.from.to_string(),
            format!("{:.2}", one.secs),
            units::mb_per_s(one.mb_per_s),
            units::time_us(one.before_us),
            units::time_us(one.during_us),
            units::time_us(one.after_us),
        ]);
    }
    report.tables.push(table);
    report.notes.push(
        "Seconds count from the start of the replica's process until the primary sends it each group as it is \
         appended; records appended meanwhile are not counted in MB/s."
            .to_string(),
    );
    report.set("workload", "catchup");
    report.set("catchup_mb_per_s", caught.first().map(|one| one.mb_per_s));
    report.set("catchups", caught);
    report
}
