//! The side that connects: an address, an attempt, and what became of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::Connection;
use tokio::time::{Instant, sleep_until, timeout};

use super::close::CloseCode;
use super::configs::Configs;
use super::error::{CertificateFault, TransportError, Whose};
use super::identity::Identity;
use super::inbox::{Event, Inbox, Line, PeerUp};
use super::options::TransportOptions;
use super::probe::Probe;
use super::tls::{self, Speech};
use crate::types::ReplicaId;

/// What dialing takes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) options: Arc<TransportOptions>,
    pub(crate) configs: Arc<Configs>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) here: SocketAddr,
}

/// One attempt.
pub(crate) struct Attempt {
    pub(crate) id: ReplicaId,
    /// Set when the other side was quicker.
    pub(crate) is_needless: Arc<AtomicBool>,
    pub(crate) address: String,
    pub(crate) is_catch_up: bool,
    /// A pause before it.
    pub(crate) pause: Duration,
    /// It may take so long.
    pub(crate) wait_max: Duration,
}

impl Dialer {
    /// Begins an attempt, which ends with an event.
    pub(crate) fn dial(&self, attempt: Attempt) {
        let dialer = self.clone();
        tokio::spawn(async move {
            sleep_until(Instant::now() + attempt.pause).await;
            let (id, is_catch_up) = (attempt.id, attempt.is_catch_up);
            let event = match dialer.connect(&attempt).await {
                Ok(connection) => {
                    let line = Arc::new(Line::new(id, connection));
                    Event::PeerUp(PeerUp { id, is_catch_up, is_dialed_here: true, line })
                }
                Err(error) => Event::DialFailed { id, is_catch_up, error },
            };
            dialer.inbox.happen(event, None);
        });
    }

    async fn connect(&self, attempt: &Attempt) -> Result<Connection, TransportError> {
        if attempt.is_needless.load(Ordering::Relaxed) {
            return Err(TransportError::Closed);
        }
        let there = resolve(&attempt.address).await?;
        let unreachable = || TransportError::Unreachable { address: attempt.address.clone() };
        if Probe::new(there).is_ok_and(|probe| probe.is_refused()) {
            return Err(unreachable());
        }
        let expected = Identity::Replica { cluster: self.options.cluster, id: attempt.id };
        let speech = if attempt.is_catch_up { Speech::CatchUp } else { Speech::Peer };
        let config = self.configs.dial(&self.options, self.here, there, attempt.is_catch_up);
        let connecting = self
            .endpoint
            .connect_with(config, there, &expected.name())
            .map_err(|why| TransportError::Other { reason: why.to_string() })?;
        let connection = timeout(attempt.wait_max, connecting)
            .await
            .map_err(|_| unreachable())?
            .map_err(|why| tls::explain(&why, &attempt.address, speech))?;
        // The name has been checked against the certificate's names; this one holds it against all of them.
        if tls::other_side(&connection).is_some_and(|(who, _)| who == expected) {
            return Ok(connection);
        }
        connection.close(CloseCode::WrongName.number(), b"");
        let fault = CertificateFault::WrongName;
        Err(TransportError::Certificate { whose: Whose::Theirs, fault })
    }
}

/// The socket address that "host:port" stands for.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, TransportError> {
    if let Ok(known) = address.parse() {
        return Ok(known);
    }
    let bad = || TransportError::BadAddress { address: address.to_owned() };
    tokio::net::lookup_host(address).await.map_err(|_| bad())?.next().ok_or_else(bad)
}
