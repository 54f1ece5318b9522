//! `catchup`: how fast a replica that lacks records gets them, and what clients notice of that.

use std::cell::Cell;
use std::time::{Duration, Instant};

use annals::client::{Client, Target};
use annals::protocol::request::PeerLag;
use annals::protocol::{Change, Member, Role, Stage};
use annals::transport::yardstick::Setup;
use annals::{Lsn, ReplicaId};
use serde::Serialize;

use crate::cluster::args::{CatchupArgs, ClusterArgs};
use crate::cluster::clients::Clients;
use crate::cluster::load::Load;
use crate::cluster::{Cluster, Ground, HANG};
use crate::drive::Engine;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::json::rounded;
use crate::report::table::Table;
use crate::spread::Spread;
use crate::stream;
use crate::units;
use crate::workload::Records;

/// Bytes of the records that the laggard lacks.
const RECORD_BYTES: usize = 4096;
/// Where the data of the two clusters are.
const LOG: &str = "from-log";
const SNAPSHOT: &str = "from-snapshot";
/// Bytes of records that are in a snapshot and not in the log any more.
const TRIMMED_BYTES: u64 = 1 << 20;
/// Whoever catches up more slowly is taken for stuck, in the end.
const BYTES_PER_S_MIN: u64 = 4 << 20;
/// For so long at most, and so often, a stream of each setup is measured; the median counts.
const STREAM_MAX: Duration = Duration::from_secs(1);
const STREAM_RUNS: usize = 3;

/// What a laggard is, and what goes on meanwhile.
#[derive(Clone, Copy, Debug)]
struct Case {
    from: &'static str,
    /// Its place among the replicas.
    laggard: usize,
    /// The last record that it has.
    has: Lsn,
    /// What it lacks.
    bytes: u64,
    /// Whether clients append meanwhile.
    is_loaded: bool,
}

/// A replica that has caught up.
#[derive(Clone, Debug, Serialize)]
struct Caught {
    from: &'static str,
    bytes: u64,
    /// From the start of its process until it gets each group as it is appended, and has all before.
    secs: f64,
    /// Of these, until it is sent the first of what it lacks: its start and opening, the connection, the agreement on where
    /// the logs part.
    start_secs: f64,
    /// In the rest of them.
    mb_per_s: f64,
    /// Compared with a raw stream, and with one that has the settings of the replicas.
    of_raw: f64,
    of_tuned: f64,
    /// 99th percentile of the clients' latency, where there were any.
    p99: Option<Latencies>,
}

/// What one stream of QUIC moves on this machine with nothing around it, in MB/s.
#[derive(Clone, Copy, Debug)]
struct Streams {
    /// As quinn comes.
    raw: Spread,
    /// With the settings of the replicas.
    tuned: Spread,
}

/// Latencies around a catch-up, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Latencies {
    before_us: f64,
    during_us: f64,
    after_us: f64,
}

/// Measures a laggard that the log serves, without clients and with them, then blank ones: one that needs all of the log,
/// and two that get a snapshot; if asked for, laggards that get one too.
pub(crate) fn run(args: &CatchupArgs, place: &Place) -> Result<Report> {
    if args.load.cluster.replicas == 1 {
        return Err(no_backup());
    }
    let streams = Streams::measure(STREAM_MAX.min(Duration::from_secs_f64(args.calm)), place)?;
    let mut caught = from_log(args, streams, place)?;
    place.discard_unless_kept(LOG)?;
    caught.extend(from_snapshot(args, streams, place)?);
    Ok(report(args, streams, &caught, place))
}

fn from_log(args: &CatchupArgs, streams: Streams, place: &Place) -> Result<Vec<Caught>> {
    let mut cluster = Cluster::start_on(&args.load.cluster, place, &apart(LOG))?;
    let client = cluster.connect()?;
    let mut caught = Vec::new();
    let mut total = 0;
    for (from, is_loaded) in [("the log, nobody appends", false), ("the log, clients append", true)] {
        let before = cluster.wait_until_in_sync(&client)?;
        let (laggard, has) = (backup(&cluster, before.id)?, before.last);
        cluster.kill(laggard);
        fill(&cluster, args.log_bytes)?;
        total += args.log_bytes;
        let case = Case { from, laggard, has, bytes: args.log_bytes, is_loaded };
        caught.push(measure(args, &mut cluster, case, streams, |cluster| cluster.restart(laggard))?);
    }
    let case = Case {
        from: "a blank disk, clients append",
        laggard: cluster.len(),
        has: Lsn::ZERO,
        bytes: total,
        is_loaded: true,
    };
    caught.push(measure(args, &mut cluster, case, streams, |cluster| add(cluster, &client))?);
    cluster.end();
    Ok(caught)
}

/// In a cluster of its own: its replicas have an application with a state.
fn from_snapshot(args: &CatchupArgs, streams: Streams, place: &Place) -> Result<Vec<Caught>> {
    let bytes = args.state_bytes.unwrap_or(args.log_bytes);
    let with_state = ClusterArgs { state_bytes: Some(bytes), ..args.load.cluster.clone() };
    let mut cluster = Cluster::start_on(&with_state, place, &apart(SNAPSHOT))?;
    let client = cluster.connect()?;
    let mut caught = Vec::new();
    if args.trimmed {
        caught.extend(trimmed_away(args, &mut cluster, &client, bytes, streams)?);
    }
    for (from, is_loaded) in [("a snapshot, nobody appends", false), ("a snapshot, clients append", true)] {
        fill(&cluster, TRIMMED_BYTES)?;
        let last = cluster.wait_until_in_sync(&client)?.last;
        take_snapshots(&cluster, &client, None)?;
        cluster.wait(&client, "a log that was trimmed", |status| status.first > last)?;
        let case = Case { from, laggard: cluster.len(), has: Lsn::ZERO, bytes, is_loaded };
        caught.push(measure(args, &mut cluster, case, streams, |cluster| add(cluster, &client))?);
    }
    cluster.end();
    Ok(caught)
}

/// Laggards that have a part of the log, and lack what the others have trimmed away.
fn trimmed_away(
    args: &CatchupArgs,
    cluster: &mut Cluster,
    client: &Client,
    bytes: u64,
    streams: Streams,
) -> Result<Vec<Caught>> {
    let mut caught = Vec::new();
    for (from, is_loaded) in
        [("a snapshot, a laggard, nobody appends", false), ("a snapshot, a laggard, clients append", true)]
    {
        let before = cluster.wait_until_in_sync(client)?;
        let (laggard, has) = (backup(cluster, before.id)?, before.last);
        cluster.kill(laggard);
        // A primary keeps for a minute what somebody lacks who was heard before; the next one has never heard it.
        client.transfer(None).wait().map_err(Error::cluster("hand over in"))?;
        cluster.wait(client, "another primary", |status| {
            status.role == Role::Primary && status.id != before.id
        })?;
        fill(cluster, TRIMMED_BYTES)?;
        take_snapshots(cluster, client, Some(laggard))?;
        cluster.wait(client, "a log that was trimmed", |status| status.first > has.next())?;
        let case = Case { from, laggard, has, bytes, is_loaded };
        caught.push(measure(args, cluster, case, streams, |cluster| cluster.restart(laggard))?);
        let target = Target::Replica(ReplicaId::new(laggard as u64 + 1));
        let there = client.status(target).wait().map_err(Error::cluster("ask"))?;
        if there.first <= has {
            let left = format!("its log still begins with {}", there.first);
            return Err(Error::Child { doing: "catching up from a snapshot", left });
        }
    }
    Ok(caught)
}

/// Each replica but the one that is `gone` takes a snapshot and trims its log, so that whoever leads has none of it.
fn take_snapshots(cluster: &Cluster, client: &Client, gone: Option<usize>) -> Result<()> {
    let phase = Phase::steps("taking snapshots", cluster.len() as u64);
    let ids = cluster.ids().filter(|id| gone != Some(cluster.index_of(*id)));
    for (done, id) in (1..).zip(ids) {
        let through =
            client.snapshot(Target::Replica(id)).wait().map_err(Error::cluster("take a snapshot in"))?;
        client.trim(Target::Replica(id), through).wait().map_err(Error::cluster("trim a replica of"))?;
        phase.reach(done);
        progress::check_stopped()?;
    }
    Ok(())
}

fn apart(apart: &'static str) -> Ground {
    Ground { apart, ..Ground::default() }
}

/// Adds a blank replica.
fn add(cluster: &mut Cluster, client: &Client) -> Result<()> {
    let (id, disk) = cluster.add()?;
    let change = client.change(Change::AddLearner(Member { id, disk }));
    change.wait().map_err(Error::cluster("add a replica to"))
}

impl Streams {
    /// In turn, so that both meet the same machine.
    fn measure(length: Duration, place: &Place) -> Result<Streams> {
        let phase = Phase::steps("measuring streams of QUIC", STREAM_RUNS as u64);
        let dir = place.data("yardstick");
        std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let (mut raw, mut tuned) = (Vec::new(), Vec::new());
        while raw.len() < STREAM_RUNS {
            progress::check_stopped()?;
            raw.push(stream::mb_per_s(Setup::Stock, length, &dir)?);
            tuned.push(stream::mb_per_s(Setup::Tuned, length, &dir)?);
            phase.reach(raw.len() as u64);
        }
        Ok(Streams { raw: Spread::of(raw), tuned: Spread::of(tuned) })
    }
}

/// The place of a replica that does not lead.
fn backup(cluster: &Cluster, primary: ReplicaId) -> Result<usize> {
    let backup = (0..cluster.len()).find(|index| *index != cluster.index_of(primary));
    backup.ok_or_else(no_backup)
}

fn no_backup() -> Error {
    Error::Child {
        doing: "looking for a backup",
        left: "a cluster of one has none; ask for more --replicas".to_string(),
    }
}

/// Appends so many bytes as fast as the cluster takes them.
fn fill(cluster: &Cluster, bytes: u64) -> Result<()> {
    const OUTSTANDING: usize = 1024;
    let phase = Phase::bytes("filling the log", bytes);
    let clients = Clients::connect(&cluster.options(), 1, Default::default())?;
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

/// Starts the laggard, under load if there is to be any, and measures until it gets each group as it is appended.
fn measure(
    args: &CatchupArgs,
    cluster: &mut Cluster,
    case: Case,
    streams: Streams,
    start: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<Caught> {
    let client = cluster.connect()?;
    let clients = if case.is_loaded { args.load.clients } else { 0 };
    let load =
        Load::start(cluster, (clients, args.load.durability), args.load.size as usize, args.load.rate)?;
    let calm = Duration::from_secs_f64(args.calm);
    if case.is_loaded {
        load.wait_for_commit_after(load.now(), calm)?;
    }
    let lacks = cluster.wait_for_primary(&client)?.last;
    let begun = load.now();
    let clock = Instant::now();
    start(cluster)?;
    let id = ReplicaId::new(case.laggard as u64 + 1);
    let way = Way::default();
    let longest = HANG + Duration::from_secs(case.bytes / BYTES_PER_S_MIN);
    cluster.wait_for(longest, &client, "a laggard that catches up", |status| {
        let peer = status.peers.iter().find(|peer| peer.id == id);
        peer.is_some_and(|peer| way.is_over(peer, clock.elapsed(), lacks))
    })?;
    let secs = clock.elapsed().as_secs_f64();
    let ended = load.now();
    let mut p99 = None;
    if case.is_loaded {
        load.wait_for_commit_after(ended, calm)?;
        let of = |from, to| load.latency(from, to).percentile_us(99.0);
        let (before_us, during_us) = (of(Duration::ZERO, begun), of(begun, ended));
        p99 = Some(Latencies { before_us, during_us, after_us: of(ended, load.now()) });
    }
    let failed = load.end_without_reading();
    if failed > 0 {
        return Err(Error::Child { doing: "serving clients", left: format!("{failed} appends failed") });
    }
    let Case { from, bytes, has, .. } = case;
    let (begun, had) = way.begun.get().unwrap_or_default();
    let (start_secs, left) = (begun.as_secs_f64(), lacks.get() - had.max(has).min(lacks).get());
    // Records of one size, but for few.
    let part = left as f64 / (lacks.get() - has.get()).max(1) as f64;
    let mb_per_s = bytes as f64 * part / 1e6 / (secs - start_secs);
    let of = |stream: Spread| rounded(mb_per_s / stream.median);
    let (of_raw, of_tuned) = (of(streams.raw), of(streams.tuned));
    let (secs, start_secs, mb_per_s) = (rounded(secs), rounded(start_secs), rounded(mb_per_s));
    Ok(Caught { from, bytes, secs, start_secs, mb_per_s, of_raw, of_tuned, p99 })
}

/// How far a laggard has come, as its primary sees it.
#[derive(Debug, Default)]
struct Way {
    /// When it was sent the first of what it lacks, or was about to be; and what it had then.
    begun: Cell<Option<(Duration, Lsn)>>,
    /// The look before.
    looked: Cell<(Duration, Lsn)>,
    /// Whether it was sent a snapshot: then it is probed once more when it has that.
    has_snapshot: Cell<bool>,
}

impl Way {
    /// Takes a look; whether it has all up to the record `lacks`, and gets each group as it is appended.
    fn is_over(&self, peer: &PeerLag, now: Duration, lacks: Lsn) -> bool {
        self.has_snapshot.set(self.has_snapshot.get() || peer.stage == Stage::Snapshot);
        match peer.stage {
            Stage::Probing if self.has_snapshot.get() => {}
            // What was thought of it before it was gone.
            Stage::Probing if self.begun.get().is_some_and(|(_, had)| peer.durable <= had) => {
                self.begun.set(None);
            }
            Stage::Probing => {}
            // All of it between two looks.
            Stage::Streaming if self.begun.get().is_none() && peer.durable >= lacks => {
                self.begun.set(Some(self.looked.get()));
            }
            _ if self.begun.get().is_none() => self.begun.set(Some((now, peer.durable))),
            _ => {}
        }
        self.looked.set((now, peer.durable));
        peer.stage == Stage::Streaming && peer.durable >= lacks
    }
}

fn report(args: &CatchupArgs, streams: Streams, caught: &[Caught], place: &Place) -> Report {
    let title = format!("Catch-up: {} of records", units::bytes(args.log_bytes));
    let mut report = Report::new(title, &Machine::under(place.dir()));
    let Streams { raw, tuned } = streams;
    for (fact, rate) in [("raw stream", raw), ("tuned stream", tuned)] {
        let [median, min, max] = [rate.median, rate.min, rate.max].map(units::mb_per_s);
        report.facts.push((fact, format!("{median} MB/s ({min} to {max})")));
    }
    let columns = [
        "from",
        "start s",
        "in all s",
        "MB/s",
        "of raw",
        "of tuned",
        "clients' p99 before",
        "during",
        "after",
    ];
    let mut table = Table::new("A replica that lacks records", &columns);
    for one in caught {
        let p99 = |of: fn(&Latencies) -> f64| {
            one.p99.as_ref().map_or("-".to_string(), |p99| units::time_us(of(p99)))
        };
        table.row([
            one.from.to_string(),
            format!("{:.2}", one.start_secs),
            format!("{:.2}", one.secs),
            units::mb_per_s(one.mb_per_s),
            format!("{:.2}", one.of_raw),
            format!("{:.2}", one.of_tuned),
            p99(|p99| p99.before_us),
            p99(|p99| p99.during_us),
            p99(|p99| p99.after_us),
        ]);
    }
    report.tables.push(table);
    report.notes.push(
        "MB/s is what the laggard lacks, in the time from the first look at which it is sent some of that until it has synced \
         all of it and gets each group as it is appended. The start before that is its process, the opening of its log, the \
         connection, and the agreement on where the logs part; in all s is both. Records appended meanwhile do not count. \
         From a snapshot it is the application's state, whose log is gone. The raw stream is one of QUIC between two \
         processes as quinn comes, the tuned one has the settings of the replicas; both without a disk."
            .to_string(),
    );
    report.set("workload", "catchup");
    report.set("raw_stream_mb_per_s", rounded(raw.median));
    report.set("raw_stream_mb_per_s_spread", raw);
    report.set("tuned_stream_mb_per_s", rounded(tuned.median));
    report.set("tuned_stream_mb_per_s_spread", tuned);
    report.set("catchup_mb_per_s", caught.first().map(|one| one.mb_per_s));
    report.set("catchup_of_raw", caught.first().map(|one| one.of_raw));
    report.set("catchup_of_tuned", caught.first().map(|one| one.of_tuned));
    report.set("catchup_start_secs", caught.first().map(|one| one.start_secs));
    report.set("catchups", caught);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(stage: Stage, durable: u64) -> PeerLag {
        PeerLag { id: ReplicaId::new(4), stage, durable: Lsn::new(durable), in_flight_bytes: 0 }
    }

    fn begun(looks: &[(Stage, u64)]) -> Option<(Duration, Lsn)> {
        let way = Way::default();
        for (secs, (stage, durable)) in (1..).zip(looks) {
            let is_over = way.is_over(&peer(*stage, *durable), Duration::from_secs(secs), Lsn::new(100));
            assert_eq!(is_over, secs as usize == looks.len(), "{looks:?}");
        }
        way.begun.get()
    }

    #[test]
    fn a_catch_up_begins_when_something_is_sent() {
        use Stage::{CatchingUp, Probing, Snapshot, Streaming};
        let at = |secs, lsn| Some((Duration::from_secs(secs), Lsn::new(lsn)));
        assert_eq!(begun(&[(Probing, 0), (CatchingUp, 10), (CatchingUp, 50), (Streaming, 100)]), at(2, 10));
        // What was thought of it before it was gone does not count.
        assert_eq!(begun(&[(Streaming, 10), (Probing, 10), (CatchingUp, 20), (Streaming, 100)]), at(3, 20));
        // Somebody did not look while it was sent all of it.
        assert_eq!(begun(&[(Probing, 10), (Streaming, 100)]), at(1, 10));
        // With a snapshot in place it is probed once more.
        assert_eq!(begun(&[(Snapshot, 0), (Snapshot, 0), (Probing, 0), (Streaming, 100)]), at(1, 0));
    }
}
