//! The links' thread, and the connections that they share.
//!
//! What costs is the datagram, not the message: so links of one process with the same credentials to the same address
//! have a stream each on one connection, and what they say at one time travels together.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::{Connection, Endpoint};
use tokio::runtime::{Builder, Handle};
use tokio::sync::OnceCell;

use super::attempts;
use super::close::CloseCode;
use super::dial::resolve;
use super::error::TransportError;
use super::identity;
use super::link::{Credentials, LinkOptions};
use super::probe::Probe;
use super::timer::Tokio;
use super::tuning;

/// What all links of the process share.
pub(crate) struct Thread {
    pub(crate) handle: Handle,
    v4: Endpoint,
    /// On hosts that have it.
    v6: Option<Endpoint>,
    trunks: Mutex<Vec<Arc<Trunk>>>,
}

/// A connection that links share.
struct Trunk {
    credentials: Credentials,
    address: String,
    options: LinkOptions,
    connection: OnceCell<Connection>,
    /// Links that have or want a stream in it. Changed under the lock of the list only.
    links: Mutex<u32>,
    /// With when it was used last.
    probe: Mutex<Option<(Probe, Instant)>>,
}

/// A link's share of a trunk. The last one to go closes the connection.
pub(crate) struct Share {
    thread: &'static Thread,
    trunk: Arc<Trunk>,
}

impl Thread {
    /// The one thread, started with the first link.
    pub(crate) fn shared() -> Result<&'static Thread, TransportError> {
        static THREAD: OnceLock<Result<Thread, TransportError>> = OnceLock::new();
        let not_started = |why: std::io::Error| TransportError::Other {
            reason: format!("the links' thread could not be started: {why}"),
        };
        THREAD.get_or_init(|| Thread::start().map_err(not_started)).as_ref().map_err(Clone::clone)
    }

    fn start() -> std::io::Result<Thread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let endpoint = |any: SocketAddr| {
            let _inside = runtime.enter();
            Endpoint::new(tuning::endpoint_config(), None, tuning::socket(any)?, Arc::new(Tokio))
        };
        let v4 = endpoint((Ipv4Addr::UNSPECIFIED, 0).into())?;
        let v6 = endpoint((Ipv6Addr::UNSPECIFIED, 0).into()).ok();
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("annals-links".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(Thread { handle, v4, v6, trunks: Mutex::new(Vec::new()) })
    }

    /// A share of a connection to this address: one that stands or is being made, or a new one.
    pub(crate) fn share(
        &'static self,
        credentials: &Credentials,
        address: &str,
        options: &LinkOptions,
    ) -> Share {
        let mut trunks = self.trunks.lock();
        trunks.retain(|trunk| !trunk.is_over());
        let has_room = |trunk: &&Arc<Trunk>| {
            trunk.address == address
                && trunk.options == *options
                && trunk.credentials.is_same(credentials)
                && *trunk.links.lock() < tuning::SESSIONS_MAX
        };
        let found = trunks.iter().find(has_room).map(Arc::clone);
        let trunk = found.unwrap_or_else(|| {
            let trunk = Arc::new(Trunk {
                credentials: credentials.clone(),
                address: address.to_owned(),
                options: *options,
                connection: OnceCell::new(),
                links: Mutex::new(0),
                probe: Mutex::new(None),
            });
            trunks.push(Arc::clone(&trunk));
            trunk
        });
        *trunk.links.lock() += 1;
        Share { thread: self, trunk }
    }
}

impl Trunk {
    fn is_over(&self) -> bool {
        self.connection.get().is_some_and(|connection| connection.close_reason().is_some())
    }
}

impl Share {
    /// The connection, made by whoever of the sharers asks first.
    pub(crate) async fn connection(&self) -> Result<Connection, TransportError> {
        self.trunk.connection.get_or_try_init(|| self.connect()).await.cloned()
    }

    async fn connect(&self) -> Result<Connection, TransportError> {
        let Trunk { credentials, address, options, .. } = &*self.trunk;
        let there = resolve(address).await?;
        let mut config = credentials.config();
        let is_local = there.ip().to_canonical().is_loopback();
        let keep_alive = Some(options.keep_alive);
        config.transport_config(Arc::new(tuning::transport_config(is_local, options.idle_max, keep_alive)));
        let Thread { v4, v6, .. } = self.thread;
        let endpoint = if there.is_ipv6() { v6.as_ref().unwrap_or(v4) } else { v4 };
        let name = identity::any_replica(credentials.cluster());
        let begin = || {
            let begun = endpoint.connect_with(config.clone(), there, &name);
            begun.map_err(|why| TransportError::Other { reason: why.to_string() })
        };
        attempts::connect(there, address, options.probe, begin).await
    }

    /// Whether the host says that the replica's process is gone. Then nobody has anything of the connection any more.
    /// Whoever asks while another has just asked hears of it by the connection.
    pub(crate) fn is_gone(&self, pace: Duration) -> bool {
        let Some(connection) = self.trunk.connection.get() else { return false };
        let now = Instant::now();
        let mut probe = self.trunk.probe.lock();
        let (probe, asked) = match &mut *probe {
            Some((_, asked)) if now - *asked < pace / 2 => return false,
            Some((probe, asked)) => (probe, asked),
            empty => match Probe::new(connection.remote_address()) {
                Ok(new) => {
                    let (probe, asked) = empty.insert((new, now));
                    (probe, asked)
                }
                Err(_) => return false,
            },
        };
        *asked = now;
        let is_gone = probe.is_refused();
        if is_gone {
            connection.close(CloseCode::Done.number(), b"");
        }
        is_gone
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut trunks = self.thread.trunks.lock();
        let mut links = self.trunk.links.lock();
        *links -= 1;
        if *links == 0 {
            trunks.retain(|trunk| !Arc::ptr_eq(trunk, &self.trunk));
            if let Some(connection) = self.trunk.connection.get() {
                connection.close(CloseCode::Done.number(), b"");
            }
        }
    }
}
