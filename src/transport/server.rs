//! The transport of a replica: its socket, its thread, and the handle on both.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

use quinn::Endpoint;
use tokio::runtime::{Builder, Runtime};

use super::Actor;
use super::accept::Gate;
use super::bell::Bell;
use super::configs::Configs;
use super::dial::Dialer;
use super::error::TransportError;
use super::hub::Hub;
use super::inbox::{Event, Inbox};
use super::options::TransportOptions;
use super::peers::Peers;
use super::reading::PeerReader;
use super::stats::{Shared, TransportStats};
use super::timer::Tokio;
use super::tuning;

/// A transport whose socket is open, and whose thread is not started yet: so an actor can be made that has its bell.
pub struct Bound {
    options: Arc<TransportOptions>,
    configs: Arc<Configs>,
    inbox: Arc<Inbox>,
    socket: UdpSocket,
    address: SocketAddr,
}

impl Bound {
    /// The bell with which threads ask for a turn.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.inbox.bell().clone()
    }

    /// Where it listens: with the port that was chosen, if port 0 was asked for.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Starts the thread, which gives the actor its turns and drops it in the end.
    ///
    /// # Errors
    /// If the operating system refuses a thread or a poller.
    pub fn start(self, actor: Box<dyn Actor>) -> Result<Transport, TransportError> {
        let Bound { options, configs, inbox, socket, address } = self;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(not_started)?;
        let endpoint = endpoint(&runtime, socket, &configs, address).map_err(not_started)?;
        let gate =
            Arc::new(Gate::new(Arc::clone(&options), Arc::clone(&configs), Arc::clone(&inbox), address));
        let shared = Arc::new(Shared::new(Arc::clone(&options), Arc::clone(&gate)));
        let dialer = Dialer {
            options: Arc::clone(&options),
            configs: Arc::clone(&configs),
            inbox: Arc::clone(&inbox),
            endpoint: endpoint.clone(),
            here: address,
        };
        let reader = PeerReader {
            inbox: Arc::clone(&inbox),
            cluster: options.cluster,
            me: options.me,
            group_bytes_max: options.limits.group_bytes_max,
        };
        let peers = Peers::new(dialer, reader, advertised(&options, address));
        let hub = Hub::new(actor, peers, Arc::clone(&inbox), Arc::clone(&shared), endpoint.clone());
        let gate_endpoint = endpoint.clone();
        let thread = std::thread::Builder::new()
            .name(format!("annals-net-{}", options.me))
            .spawn(move || {
                // As tasks both, and not as what the runtime blocks on: to wake that costs a system call each time.
                runtime.spawn(gate.keep(gate_endpoint));
                let _ = runtime.block_on(runtime.spawn(hub.run()));
            })
            .map_err(not_started)?;
        Ok(Transport { shared, configs, inbox, endpoint, address, thread: Some(thread) })
    }
}

/// A running transport. Dropping it is [`shutdown`](Transport::shutdown).
pub struct Transport {
    shared: Arc<Shared>,
    configs: Arc<Configs>,
    inbox: Arc<Inbox>,
    endpoint: Endpoint,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Transport {
    /// Opens the socket and reads the certificates. Nothing is answered before [`Bound::start`].
    ///
    /// # Errors
    /// If the socket cannot be had, or the certificates are not good for this replica.
    pub fn bind(options: TransportOptions) -> Result<Bound, TransportError> {
        let configs = Arc::new(Configs::load(&options)?);
        let failed = |source| TransportError::Bind { address: options.listen, source: Arc::new(source) };
        let socket = tuning::socket(options.listen).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let inbox = Arc::new(Inbox::new(Bell::default()));
        Ok(Bound { options: Arc::new(options), configs, inbox, socket, address })
    }

    /// The bell with which threads ask for a turn.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.inbox.bell().clone()
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Reads the certificate files again. Connections made from now on use them; those that stand go on.
    ///
    /// # Errors
    /// If they are not good for this replica: then nothing has changed.
    pub fn reload_certificates(&self) -> Result<(), TransportError> {
        self.configs.reload(&self.shared.options)?;
        let config = self.configs.server(self.address, self.address);
        self.endpoint.set_server_config(Some((*config).clone()));
        self.shared.tell_end();
        Ok(())
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> TransportStats {
        self.shared.stats()
    }

    /// Sends what the actor has given it (for a moment at most), closes all connections, drops the actor and ends the
    /// thread.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.inbox.happen(Event::ShutDown, None);
        if let Some(thread) = self.thread.take() {
            // A panic of the actor has been printed; there is nobody here to whom it could be told.
            let _ = thread.join();
        }
    }
}

fn endpoint(
    runtime: &Runtime,
    socket: UdpSocket,
    configs: &Configs,
    address: SocketAddr,
) -> std::io::Result<Endpoint> {
    let _inside = runtime.enter();
    let server = (*configs.server(address, address)).clone();
    Endpoint::new(configs.endpoint(), Some(server), socket, Arc::new(Tokio))
}

/// Where the others find this replica; nothing if only it knows.
fn advertised(options: &TransportOptions, address: SocketAddr) -> String {
    match &options.advertise {
        Some(told) => told.clone(),
        None if address.ip().is_unspecified() => String::new(),
        None => address.to_string(),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn not_started(source: std::io::Error) -> TransportError {
    TransportError::Other { reason: format!("the network thread could not be started: {source}") }
}
