//! A client's connection to one replica, without a runtime of the caller's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::TransportError;
use super::identity::Identity;
use super::link_task::{self, Outgoing};
use super::options::TlsFiles;
use super::tls::{Proof, Speech};
use crate::protocol::request::{ClientRole, Reply, Request};
use crate::types::{ClusterId, ReplicaId};

/// What a client proves its identity with, loaded and checked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    identity: Arc<Identity>,
    config: quinn::ClientConfig,
}

impl Credentials {
    /// Reads the files. Read them again to take up a new certificate; links that stand go on with the old one.
    ///
    /// # Errors
    /// If they cannot be read, or the certificate names no client or replica.
    pub fn load(files: &TlsFiles) -> Result<Credentials, TransportError> {
        let proof = Proof::load(files)?;
        let config = proof.client(files, Speech::Client)?;
        Ok(Credentials { identity: Arc::new(proof.identity), config })
    }

    /// Whom the certificate is for: a client, or a replica, which may do everything.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The cluster that it opens.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.identity.cluster()
    }

    /// Whether both are clones of one.
    pub(super) fn is_same(&self, other: &Credentials) -> bool {
        Arc::ptr_eq(&self.identity, &other.identity)
    }

    pub(super) fn config(&self) -> quinn::ClientConfig {
        self.config.clone()
    }
}

/// How a link is to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkOptions {
    /// The connection must stand after so long.
    pub connect_max: Duration,
    /// It is lost if nothing is heard for so long.
    pub idle_max: Duration,
    /// On a quiet link something is said so often.
    pub keep_alive: Duration,
    /// While replies are awaited and nothing is heard, the replica's port is tried so often: the kernel of a live host tells
    /// at once when the process is gone. For a quiet subscription it is an eighth as often.
    pub probe: Duration,
    /// Bytes that travel beside one reply, at most.
    pub reply_bytes_max: u32,
}

impl Default for LinkOptions {
    fn default() -> LinkOptions {
        LinkOptions {
            connect_max: Duration::from_secs(2),
            idle_max: Duration::from_secs(3),
            keep_alive: Duration::from_millis(700),
            probe: Duration::from_millis(30),
            reply_bytes_max: 128 << 20,
        }
    }
}

/// Whoever is told what happens to a link: from the links' thread, one thing after another, and under no lock. Must not
/// block; may send.
pub trait LinkEvents: Send + Sync {
    /// It stands: what was sent before is on its way too.
    fn opened(&self, id: ReplicaId, role: ClientRole);

    /// Replies: all that have come together, in their order, each with the number of its request and the bytes that
    /// travel beside it. The list may be emptied, or left as it is.
    fn replies(&self, replies: &mut Vec<(u64, Reply, Bytes)>);

    /// It is over, or could not be made: told once, as the last. Whoever waits for a reply will get none.
    fn closed(&self, error: TransportError);
}

/// A client's connection to one replica. Dropping it closes the connection.
///
/// All links of a process share one thread, and those with clones of the same credentials to the same address share
/// connections: many links are cheap. Nothing here waits.
#[derive(Debug)]
pub struct ClientLink {
    outgoing: Arc<Outgoing>,
}

impl ClientLink {
    /// Begins to connect to "host:port", and returns at once. All that happens is told to `events`.
    ///
    /// # Errors
    /// If the links' thread cannot be started.
    pub fn open(
        credentials: &Credentials,
        address: &str,
        options: LinkOptions,
        events: Arc<dyn LinkEvents>,
    ) -> Result<ClientLink, TransportError> {
        let outgoing = Arc::new(Outgoing::default());
        link_task::spawn(credentials, address, options, events, Arc::clone(&outgoing))?;
        Ok(ClientLink { outgoing })
    }

    /// Sends a request, with the bytes that travel beside it, one piece after another. Those sent before the link stands
    /// wait for that.
    ///
    /// # Errors
    /// If the link is closed.
    pub fn send(&self, number: u64, request: &Request, payload: &[Bytes]) -> Result<(), TransportError> {
        self.outgoing.put(number, request, payload)
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        self.outgoing.backlog_bytes()
    }

    /// Closes the connection; [`LinkEvents::closed`] follows, unless it was told already.
    pub fn close(&self) {
        self.outgoing.close();
    }
}

impl Drop for ClientLink {
    fn drop(&mut self) {
        self.close();
    }
}
