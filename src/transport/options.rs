//! What a transport is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::types::{ClusterId, ReplicaId};

/// The files with which a process proves who it is; all in PEM.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TlsFiles {
    /// Certificates of the authorities that the others' certificates are signed by. Several while one replaces another.
    pub ca: PathBuf,
    /// The own certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// The own private key.
    pub key: PathBuf,
}

/// What a transport is told when it starts.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// The UDP address to listen at.
    pub listen: SocketAddr,
    /// How the others reach this replica, if not at `listen`: said to whoever connects.
    pub advertise: Option<String>,
    /// Which replica this is.
    pub me: ReplicaId,
    /// Of which cluster.
    pub cluster: ClusterId,
    /// How it proves that.
    pub tls: TlsFiles,
    /// How much of everything.
    pub limits: TransportLimits,
    /// How long things may take.
    pub timing: TransportTiming,
}

impl TransportOptions {
    /// A transport with the default limits and times.
    #[must_use]
    pub fn new(listen: SocketAddr, me: ReplicaId, cluster: ClusterId, tls: TlsFiles) -> TransportOptions {
        TransportOptions {
            listen,
            advertise: None,
            me,
            cluster,
            tls,
            limits: TransportLimits::default(),
            timing: TransportTiming::default(),
        }
    }
}

/// How much of everything. What is over a limit is refused, or its connection closed; nothing grows without bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransportLimits {
    /// Bytes that travel beside one message of a peer.
    pub group_bytes_max: u32,
    /// Bytes of one request of a client, with its records.
    pub request_bytes_max: u32,
    /// Bytes that wait in the control lane to one peer.
    pub control_queue_bytes_max: u64,
    /// Bytes that wait in the bulk lane to one peer.
    pub bulk_queue_bytes_max: u64,
    /// Bytes that wait in the catch-up lane to one peer.
    pub catch_up_queue_bytes_max: u64,
    /// Bytes of replies that wait for one client to read them; if it lets more gather, the next reply cuts it off.
    pub session_backlog_bytes_max: u64,
    /// Clients at a time. Of their connections, which several of them may share, there may be `handshakes_max` more.
    pub sessions_max: usize,
    /// Connections at a time that have not said yet who they are. From one address no more than there are places left: half of
    /// them, where nobody else comes.
    pub handshakes_max: usize,
}

impl Default for TransportLimits {
    fn default() -> TransportLimits {
        TransportLimits {
            group_bytes_max: 128 << 20,
            request_bytes_max: 80 << 20,
            control_queue_bytes_max: 8 << 20,
            bulk_queue_bytes_max: 256 << 20,
            catch_up_queue_bytes_max: 256 << 20,
            session_backlog_bytes_max: 64 << 20,
            sessions_max: 4096,
            handshakes_max: 256,
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TransportTiming {
    /// A connection on which nothing is heard for so long is lost.
    pub idle_max: Duration,
    /// On a quiet connection something is said so often.
    pub keep_alive: Duration,
    /// A peer's port is tried so often, so that the kernel of a live host tells at once when the process is gone. Zero
    /// for never.
    pub probe: Duration,
    /// A handshake may take so long; and a client's connection on which there is no session is closed after that time.
    pub handshake_max: Duration,
    /// The first pause before a peer is dialed again; doubled with each failure.
    pub redial_min: Duration,
    /// The longest pause.
    pub redial_max: Duration,
}

impl Default for TransportTiming {
    fn default() -> TransportTiming {
        TransportTiming {
            idle_max: Duration::from_secs(3),
            keep_alive: Duration::from_millis(700),
            probe: Duration::from_millis(30),
            handshake_max: Duration::from_secs(2),
            redial_min: Duration::from_millis(20),
            redial_max: Duration::from_millis(500),
        }
    }
}
