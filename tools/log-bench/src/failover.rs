//! `failover`, `transfer`, `pause` and `stall`: what clients notice when the primary dies, hands over, or stands still,
//! with its disk only or as a whole.

use std::time::Duration;

use annals::client::{Client, Target};
use annals::protocol::Role;

use crate::cluster::Cluster;
use crate::cluster::args::{FailoverArgs, LoadArgs, PauseArgs, StallArgs, TransferArgs};
use crate::cluster::load::Load;
use crate::cluster::outcome::{Closely, Gaps, Outcome};
use crate::cluster::silence::Silence;
use crate::error::{Error, Result};
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::table::Table;
use crate::units;

/// Appends that wait at a primary that is stopped.
const ASKED: usize = 16;
/// Undisturbed, between one blow and the next.
const CALM: Duration = Duration::from_millis(300);
/// Stretches of the plotted timeline.
const STRETCH: Duration = Duration::from_millis(20);
/// Those of the one that is plotted by itself, with so much before and after it.
const FINE: Duration = Duration::from_millis(2);
const AROUND: Duration = Duration::from_millis(100);

/// Kills primaries with kill -9, and starts them again.
pub(crate) fn run(args: &FailoverArgs, place: &Place) -> Result<Report> {
    let outcome = ordeal(&args.load, args.kills, place, |cluster, client, load| {
        let primary = cluster.index_of(cluster.wait_until_in_sync(client)?.id);
        let moment = load.now();
        cluster.kill(primary);
        load.wait_for_commit_after(moment, CALM)?;
        let recovered = load.now();
        cluster.restart(primary)?;
        Ok((moment, recovered))
    })?;
    let what = format!("Failover: kill -9 of the primary, {}", units::plural(args.kills.into(), "time"));
    Ok(outcome.report(("failover", what), &args.load, place))
}

/// Hands the primary's role over, again and again.
pub(crate) fn transfer(args: &TransferArgs, place: &Place) -> Result<Report> {
    let outcome = ordeal(&args.load, args.times, place, |cluster, client, load| {
        cluster.wait_until_in_sync(client)?;
        let moment = load.now();
        client.transfer(None).wait().map_err(Error::cluster("transfer the primary's role in"))?;
        load.wait_for_commit_after(moment, CALM)?;
        Ok((moment, load.now()))
    })?;
    let what = format!("Transfer: the primary hands over, {}", units::plural(args.times.into(), "time"));
    let mut report = outcome.report(("transfer", what), &args.load, place);
    // A hand-over costs a moment, and no append.
    report.is_failed |= outcome.loaded.failed > 0;
    Ok(report)
}

/// Stops primaries where they stand, and lets them go on when others lead.
pub(crate) fn pause(args: &PauseArgs, place: &Place) -> Result<Report> {
    let length = Duration::from_secs_f64(args.secs);
    let (mut asked_in_all, mut acknowledged) = (0, 0);
    let outcome = ordeal(&args.load, args.times, place, |cluster, client, load| {
        let primary = cluster.index_of(cluster.wait_until_in_sync(client)?.id);
        // Has a connection to it, and knows nobody else.
        let trusting = cluster.connect_to_one(primary)?;
        trusting.status(Target::Primary).wait().map_err(Error::cluster("connect to"))?;
        let moment = load.now();
        cluster.pause(primary)?;
        let asked = load.ask(&trusting, ASKED);
        let others = load.wait_for_commit_after(moment, length.max(CALM));
        let recovered = load.now();
        // It wakes up in its old reign, with these before what others told it meanwhile: what it acknowledges from here on
        // would be missing from the log.
        cluster.resume(primary)?;
        others?;
        asked_in_all += ASKED;
        acknowledged += load.hear(asked);
        load.wait_for_commit_after(load.now(), CALM)?;
        Ok((moment, recovered))
    })?;
    let what = format!(
        "Pause: the primary is stopped for {:.1} s with SIGSTOP, {}",
        args.secs,
        units::plural(args.times.into(), "time")
    );
    let mut report = outcome.report(("pause", what), &args.load, place);
    report.notes.push(format!(
        "A reign that is over acknowledges nothing: each append that was acknowledged is in the log, also of the {asked_in_all} \
         that waited at a stopped primary for it to go on, of which {acknowledged} were acknowledged by whoever led then."
    ));
    report.set("asked_while_stopped", asked_in_all);
    report.set("acknowledged_of_these", acknowledged);
    Ok(report)
}

/// Lets the disks of primaries stand still until others lead, and then go on.
pub(crate) fn stall(args: &StallArgs, place: &Place) -> Result<Report> {
    let mut load = args.load.clone();
    load.cluster.is_gated = true;
    let mut takeovers = Vec::new();
    let outcome = ordeal(&load, args.times, place, |cluster, client, load| {
        let old = cluster.wait_until_in_sync(client)?.id;
        let primary = cluster.index_of(old);
        let from = load.now();
        cluster.stall(primary, true)?;
        let other = cluster
            .wait(client, "another primary", |status| status.role == Role::Primary && status.id != old);
        let to = load.now();
        cluster.stall(primary, false)?;
        other?;
        takeovers.push(Silence { from, to });
        load.wait_for_commit_after(load.now(), CALM)?;
        Ok((from, to))
    })?;
    let what = format!(
        "Stall: the disk under the primary stands still, {}",
        units::plural(args.times.into(), "time")
    );
    let mut report = outcome.report(("stall", what), &load, place);
    let takeover = Gaps::of(&takeovers);
    let mut table = Table::new("Until another primary says that it leads", &["p50", "p99", "max"]);
    table.row([takeover.p50, takeover.p99, takeover.max].map(|ms| units::time_us(ms * 1e3)));
    report.tables.insert(0, table);
    report.set("takeover_ms", takeover);
    Ok(report)
}

/// Does something to a cluster under load so many times; each tells from when to when it lasted.
fn ordeal(
    args: &LoadArgs,
    times: u32,
    place: &Place,
    mut blow: impl FnMut(&mut Cluster, &Client, &Load) -> Result<(Duration, Duration)>,
) -> Result<Outcome> {
    let mut cluster = Cluster::start(&args.cluster, place)?;
    let client = cluster.connect()?;
    cluster.wait_until_in_sync(&client)?;
    let before = cluster.cpu_in_all();
    let load = Load::start(&cluster, (args.clients, args.durability), args.size as usize, args.rate)?;
    load.wait_for_commit_after(load.now(), CALM)?;
    let phase = Phase::steps("disturbing the cluster", u64::from(times));
    let (mut moments, mut silences) = (Vec::new(), Vec::new());
    for time in 0..times {
        progress::check_stopped()?;
        let (from, to) = blow(&mut cluster, &client, &load)?;
        // Somebody was acknowledged before and after it.
        let silence = load.acknowledgements().longest_silence(from, to).expect("a time between two commits");
        moments.push(from);
        silences.push(silence);
        phase.reach(u64::from(time) + 1);
    }
    drop(phase);
    cluster.wait_until_in_sync(&client)?;
    let lasted = load.now();
    let latency = load.latency(Duration::ZERO, lasted);
    let gb = latency.len() as f64 * args.size as f64 / 1e9;
    let cpu_s_per_gb = (cluster.cpu_in_all() - before).as_secs_f64() / gb.max(f64::MIN_POSITIVE);
    let rates = load.acknowledgements().rates(Duration::ZERO, lasted, STRETCH);
    let longest = (0..silences.len()).max_by_key(|at| silences[*at].length());
    let longest = longest.map(|at| {
        let Silence { from, to } = silences[at];
        let begin = from.min(moments[at]).saturating_sub(AROUND);
        Closely { at, begin, rates: load.acknowledgements().rates(begin, to + AROUND, FINE) }
    });
    let loaded = load.end(&cluster, &client)?;
    cluster.end();
    Ok(Outcome {
        moments,
        silences,
        loaded,
        lasted,
        latency: latency.summary(),
        cpu_s_per_gb,
        rates,
        longest,
    })
}
