//! One node: a replica, its state machine, and an HTTP port.

use std::sync::Arc;
use std::time::Duration;

use annals::ReplicaId;
use annals::client::{Client, ClientOptions};
use annals::node::{Replica, ReplicaOptions};
use annals::protocol::Timing;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Watch;
use crate::error::{Error, Result};
use crate::http::{self, Service};
use crate::limits::Limits;
use crate::machine::Machine;
use crate::password::Hasher;
use crate::registry::Registry;
use crate::settings::{Policy, Settings, name};

/// How long a look at another node may take.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// How long a primary tries to hand its role over: in one network that takes milliseconds, and a node that ends together with
/// all others would wait for nobody.
const TRANSFER_MAX: Duration = Duration::from_millis(500);
/// Records from one snapshot to the next, and that are kept in the log before it.
const SNAPSHOT_EVERY: u64 = 10_000;
/// Bytes of a segment file: a record has a few hundred.
const SEGMENT_BYTES: u64 = 4 << 20;

/// Runs a node until a signal, or until standard input ends if that is how it is held.
pub(crate) fn run(settings: &Settings, until_stdin_ends: bool) -> Result<()> {
    end_with_any_thread();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|source| node_failed(settings, &format!("has no threads: {source}")))?;
    let ran = runtime.block_on(serve(settings, until_stdin_ends));
    // A hash that is still made, or standard input that is still read, is not waited for.
    runtime.shutdown_background();
    ran
}

async fn serve(settings: &Settings, until_stdin_ends: bool) -> Result<()> {
    let place = *settings.place(settings.id).expect("looked at when the file was read");
    // First, so that a port in use and a wrong setting are told before anything is touched.
    let listener = http::listen(place.http).await?;
    let hasher = Hasher::new(settings.hash_memory_kib, settings.hash_passes).ok_or_else(|| {
        node_failed(settings, "cannot hash at this cost: correct hash_memory_kib and hash_passes")
    })?;
    let (machine, seen) = Machine::new();
    let replica = options(settings).state_machine(machine).start()?;
    let (session, patience) = (settings.session(), settings.patience());
    let client = client(settings, patience)?;
    let watch = Watch::start(settings, &replica, &self::client(settings, LOOK_MAX)?);
    let registry = Registry { seen, client, replica: replica.clone(), hasher, session, patience };
    let service =
        Service { me: settings.id, registry, watch, limits: Limits::new(), settings: settings.clone() };
    tracing::info!(policy = %settings.policy, "{} serves http://{}", name(settings.id), place.http);
    tokio::select! {
        () = http::serve(listener, Arc::new(service)) => {}
        ended = end(until_stdin_ends) => ended.map_err(Error::path("listen for signals in", &settings.dir))?,
    }
    say_goodbye(settings, replica).await
}

fn options(settings: &Settings) -> ReplicaOptions {
    let place = settings.place(settings.id).expect("looked at when the file was read");
    let others = settings.nodes.iter().filter(|other| other.id != settings.id);
    ReplicaOptions::new(settings.me(), &settings.dir)
        .cluster(settings.cluster())
        .listen(place.replica)
        .peers(others.map(|other| (ReplicaId::new(other.id), other.replica.to_string())))
        .certificates(&settings.ca, &settings.cert, &settings.key)
        .policy(settings.policy.into())
        .timing(timing(settings.policy))
        .snapshot_every(SNAPSHOT_EVERY)
        .keep_records(SNAPSHOT_EVERY)
        .segment_bytes(SEGMENT_BYTES)
}

/// Where another takes over by itself, nearly the library's own. Where nobody does, a primary that has lost its quorum for a
/// moment stays without its role until an operator comes: so it is not to give up that soon.
fn timing(policy: Policy) -> Timing {
    let timing = Timing { transfer_max: TRANSFER_MAX, ..Timing::default() };
    match policy {
        Policy::Automatic | Policy::Priority => timing,
        Policy::Manual => {
            Timing { heartbeat: Duration::from_millis(50), election_min: Duration::from_secs(1), ..timing }
        }
    }
}

/// A client of the cluster that this node is part of: it finds the primary wherever that is, and asks it over the network
/// also if it is here.
fn client(settings: &Settings, deadline: Duration) -> Result<Client> {
    let client = ClientOptions::new(settings.nodes.iter().map(|place| place.replica.to_string()))
        .certificates(&settings.ca, &settings.cert, &settings.key)
        .deadline(deadline)
        .connect()?;
    Ok(client)
}

/// Waits until somebody wants the node to end.
async fn end(until_stdin_ends: bool) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let input_ended = async {
        if until_stdin_ends {
            let (mut stdin, mut ignored) = (tokio::io::stdin(), [0; 64]);
            // An error is an end, too.
            while let Ok(1..) = stdin.read(&mut ignored).await {}
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("ending: asked by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("ending: asked by SIGINT"),
        () = input_ended => tracing::info!("ending: whoever started this process has asked for it, or is gone"),
    }
    Ok(())
}

/// Hands the role over, and closes the log.
async fn say_goodbye(settings: &Settings, replica: Replica) -> Result<()> {
    let ended = tokio::task::spawn_blocking(move || replica.shutdown()).await;
    ended.map_err(|error| node_failed(settings, &format!("ended in disorder: {error}")))??;
    tracing::info!("ended: all is on the disk");
    Ok(())
}

/// A panic in any thread ends the process: a node that applies nothing any more would only be in the way.
fn end_with_any_thread() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

fn node_failed(settings: &Settings, reason: &str) -> Error {
    Error::Node { name: name(settings.id), reason: reason.to_owned(), log: Default::default() }
}
