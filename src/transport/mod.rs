//! The seam between a node and the network.
//!
//! A node is an [`Actor`]: the transport gives it turns, in one thread, one at a time. In a turn it takes what has
//! arrived and sends what follows from it over the [`Network`] that it is lent. Another thread that has something for
//! the actor leaves it where the actor looks, and rings the [`Bell`]. So the core of a replica needs no lock, what arrives
//! together is handled together, and a test can be the network.
//!
//! May import `protocol` and the rooms above it. The one room with sockets, TLS and an async runtime.

#[cfg(feature = "quic")]
mod accept;
#[cfg(feature = "quic")]
mod attempts;
#[cfg(feature = "quic")]
mod awaited;
#[cfg(feature = "quic")]
mod bell;
#[cfg(feature = "quic")]
pub mod certs;
#[cfg(feature = "quic")]
mod close;
#[cfg(feature = "quic")]
mod configs;
#[cfg(feature = "quic")]
mod crowd;
#[cfg(feature = "quic")]
mod dial;
#[cfg(feature = "quic")]
mod error;
#[cfg(feature = "quic")]
mod expiry;
#[cfg(feature = "quic")]
mod frame;
#[cfg(feature = "quic")]
mod hub;
#[cfg(feature = "quic")]
mod identity;
#[cfg(feature = "quic")]
mod inbox;
#[cfg(feature = "quic")]
mod lane;
#[cfg(feature = "quic")]
mod link;
#[cfg(feature = "quic")]
mod link_task;
#[cfg(feature = "quic")]
mod observe;
#[cfg(feature = "quic")]
mod options;
#[cfg(feature = "quic")]
mod outbox;
#[cfg(feature = "quic")]
mod peers;
#[cfg(feature = "quic")]
mod probe;
#[cfg(feature = "quic")]
mod reading;
#[cfg(feature = "quic")]
mod refusals;
#[cfg(feature = "quic")]
mod reset;
#[cfg(feature = "quic")]
mod server;
#[cfg(feature = "quic")]
mod sessions;
#[cfg(feature = "quic")]
mod stats;
#[cfg(feature = "quic")]
mod timer;
#[cfg(feature = "quic")]
mod tls;
#[cfg(feature = "quic")]
mod trunk;
#[cfg(feature = "quic")]
mod tuning;
#[cfg(all(feature = "quic", feature = "bench"))]
#[doc(hidden)]
pub mod yardstick;

use std::time::Instant;

use bytes::Bytes;

use crate::protocol::Envelope;
use crate::protocol::request::{ClientRole, Reply, Request};
use crate::types::ReplicaId;

#[cfg(feature = "quic")]
pub use self::bell::Bell;
#[cfg(feature = "quic")]
pub use self::error::{CertificateFault, TransportError, Whose};
#[cfg(feature = "quic")]
pub use self::identity::Identity;
#[cfg(feature = "quic")]
pub use self::link::{ClientLink, Credentials, LinkEvents, LinkOptions};
#[cfg(feature = "quic")]
pub use self::options::{TlsFiles, TransportLimits, TransportOptions, TransportTiming};
#[cfg(feature = "quic")]
pub use self::refusals::Refusals;
#[cfg(feature = "quic")]
pub use self::server::{Bound, Transport};
#[cfg(feature = "quic")]
pub use self::stats::{PeerStats, TransportStats};

/// Which way a message takes. Messages of one lane to one replica arrive in order or not at all; lanes overtake one
/// another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// Votes, heartbeats and acknowledgements: never behind bulk.
    Control,
    /// The running stream of groups.
    Bulk,
    /// What a laggard needs: old groups, snapshots and repairs, on a connection of their own.
    CatchUp,
}

/// A client's connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// What has arrived.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A message of a peer, whose certificate says that it is the envelope's sender.
    Message {
        /// What it says.
        envelope: Envelope,
        /// The bytes that travel with it.
        payload: Bytes,
    },
    /// A client has connected.
    Opened {
        /// Which connection.
        session: SessionId,
        /// What its certificate allows.
        role: ClientRole,
    },
    /// A client asks.
    Asked {
        /// Which connection.
        session: SessionId,
        /// The client's own number, which the reply bears.
        number: u64,
        /// What.
        request: Request,
        /// The bytes of its records.
        payload: Bytes,
    },
    /// A client is gone: nobody waits for its replies any more.
    Closed {
        /// Which connection.
        session: SessionId,
    },
    /// A replica of this cluster has connected, and says where it is found: at another place than `set_peers` says, or it
    /// is nobody whom `set_peers` names. Messages to it take that connection.
    PeerAddress {
        /// Whose.
        id: ReplicaId,
        /// Where: "host:port".
        address: String,
    },
    /// The connection to a peer is lost, or its port is closed: an early sign that it is dead, never a proof.
    PeerLost {
        /// Whose.
        id: ReplicaId,
    },
}

/// What a node may do with the network. Nothing of it waits: what does not fit into a lane's queue is dropped, as the
/// protocol allows, and the lane begins anew.
pub trait Network {
    /// Sends a message to the replica that it is addressed to, with the bytes that travel beside it.
    fn send(&mut self, lane: Lane, envelope: &Envelope, payload: &Bytes);

    /// Answers a client. The bytes travel beside the reply, one piece after another.
    fn reply(&mut self, session: SessionId, number: u64, reply: &Reply, payload: &[Bytes]);

    /// Bytes that wait to be sent to a client.
    fn backlog_bytes(&self, session: SessionId) -> u64;

    /// Who the others are, and where: connections to others are closed.
    fn set_peers(&mut self, peers: &[(ReplicaId, String)]);
}

/// Whoever is driven by the transport: a node.
pub trait Actor: Send {
    /// Takes all that has arrived, does what is to be done, and says when it wants its next turn at the latest.
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant>;
}
