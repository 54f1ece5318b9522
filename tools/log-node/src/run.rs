//! `run`: one replica, until it is asked to end.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use annals::node::{Replica, ReplicaError};
use annals::transport::{Credentials, TlsFiles};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::RunArgs;
use crate::error::{Error, Result};
use crate::http::{self, HttpPort, Subject};
use crate::lifeline;
use crate::logs;
use crate::overview::Overview;
use crate::replica;
use crate::report::ReplicaReport;
use crate::session::Sessions;
use crate::settings::{ReplicaSettings, required};
use crate::status::Status;

/// How long the status page waits for the other replicas.
const OTHERS_MAX: Duration = Duration::from_millis(700);

/// Runs the replica.
pub(crate) fn run(args: &RunArgs) -> Result<Status> {
    let settings = args.settings.clone().with_file(args.config.as_deref())?;
    logs::start(settings.log_format.unwrap_or_default(), settings.log_level.as_deref().unwrap_or("info"))?;
    end_with_any_thread();
    // Before the replica, which counts from its beginning; and a port in use is told before anything is touched.
    let metrics = http::collect_metrics()?;
    let files = tls_files(&settings)?;
    let started = replica::options(&settings)?.start();
    let replica = started.map_err(|error| not_started(error, settings.listen))?;
    let others = Arc::new(Mutex::new(Sessions::new(Credentials::load(&files)?)));
    let port = match settings.http {
        Some(address) => {
            let node = Node { replica: replica.clone(), others: Arc::clone(&others) };
            Some(HttpPort::open(address, node, metrics)?)
        }
        None => None,
    };
    let id = required(settings.id, "id")?;
    let listen = replica.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(replica = id, listen, "the replica runs");
    if let Some(port) = &port {
        tracing::info!("status page at http://{}/", port.address());
    }
    let reload = || {
        replica.reload_certificates()?;
        // The status page asks the others with the same certificate.
        *others.lock().unwrap_or_else(PoisonError::into_inner) = Sessions::new(Credentials::load(&files)?);
        Ok(())
    };
    let (end, input_ended) = oneshot::channel();
    if args.lifeline.until_stdin_ends {
        lifeline::on_end_of_input(move || {
            // Refused if the end has come already.
            let _ = end.send(());
        })?;
        wait_for_end(reload, Some(input_ended))
    } else {
        wait_for_end(reload, None)
    }?;
    drop(port);
    say_goodbye(replica)
}

/// Why the replica does not start: of a port in use it can be told what to do about it.
fn not_started(error: ReplicaError, listen: Option<SocketAddr>) -> Error {
    if let (ReplicaError::Network { .. }, Some(address)) = (&error, listen)
        && let Err(source) = UdpSocket::bind(address)
    {
        return Error::Listen { address, purpose: "the replica", source };
    }
    error.into()
}

/// A panic in any thread ends the process, so that whoever watches over it starts it again: a replica without its
/// network or its disk would only be in the way of the others.
fn end_with_any_thread() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// Waits until somebody wants the replica to end. A SIGHUP meanwhile has the certificates read again.
fn wait_for_end(reload: impl Fn() -> Result<()>, input_ended: Option<oneshot::Receiver<()>>) -> Result<()> {
    runtime()?.block_on(async {
        let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let mut hang_up = listen(SignalKind::hangup())?;
        let input_ended = async {
            match input_ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::pin!(input_ended);
        loop {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("ending: asked by SIGTERM"),
                _ = interrupt.recv() => tracing::info!("ending: asked by SIGINT"),
                () = &mut input_ended => tracing::info!("ending: whoever started this process has asked for it, or is gone"),
                _ = hang_up.recv() => {
                    match reload() {
                        Ok(()) => tracing::info!("the certificates were read again"),
                        Err(error) => tracing::error!(%error, "the certificates cannot be used; those from before stay in use"),
                    }
                    continue;
                }
            }
            return Ok(());
        }
    })
}

/// Hands the role over, closes the log, and ends. A second signal ends at once: the log is recovered at the next start.
fn say_goodbye(replica: Replica) -> Result<Status> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let goodbye = tokio::task::spawn_blocking(move || replica.shutdown());
        tokio::select! {
            ended = goodbye => Ok(ended.ok()),
            _ = terminate.recv() => Err(Error::Stopped),
            _ = interrupt.recv() => Err(Error::Stopped),
        }
    });
    // Whoever has asked twice does not want to wait for the rest.
    runtime.shutdown_background();
    match ended? {
        Some(Ok(())) => tracing::info!("ended: all is on the disk"),
        Some(Err(error)) => return Err(error.into()),
        None => tracing::error!("ended in disorder: the log is recovered at the next start"),
    }
    Ok(Status::Done)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::path("listen for", Path::new("signals")))
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(Error::path("listen for", Path::new("signals")))
}

fn tls_files(settings: &ReplicaSettings) -> Result<TlsFiles> {
    Ok(TlsFiles {
        ca: required(settings.ca.clone(), "ca")?,
        cert: required(settings.cert.clone(), "cert")?,
        key: required(settings.key.clone(), "key")?,
    })
}

/// The replica for the status page, which asks the others too: with the replica's own certificate.
struct Node {
    replica: Replica,
    others: Arc<Mutex<Sessions>>,
}

impl Subject for Node {
    fn report(&self) -> Result<ReplicaReport, String> {
        self.replica.status().map(|status| ReplicaReport::of(&status)).map_err(|error| error.to_string())
    }

    fn overview(&self) -> Overview {
        let Ok(own) = self.replica.status() else { return Overview::of(vec![]) };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.overview_from(own, OTHERS_MAX)
    }
}
