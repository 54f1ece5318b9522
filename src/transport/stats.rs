//! What a transport has done so far, for people.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::Arrival;
use super::accept::Gate;
use super::error::TransportError;
use super::expiry::Standing;
use super::observe;
use super::options::TransportOptions;
use super::peers::{PeerState, Peers};
use super::refusals::Refusals;
use crate::types::ReplicaId;

/// What a transport has done so far.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TransportStats {
    /// Turns of the actor.
    pub turns: u64,
    /// Messages of peers that arrived.
    pub messages: u64,
    /// Requests of clients that arrived.
    pub requests: u64,
    /// Messages that were dropped because their lane was full or there was no connection.
    pub dropped: u64,
    /// Clients that are connected.
    pub sessions: usize,
    /// Connections of clients, which several of them may share.
    pub connections: usize,
    /// Connections that were refused or cut off for what they did.
    pub refused: u64,
    /// The same, by reason.
    pub refusals: Refusals,
    /// When the certificate in use ends, if that can be read.
    pub certificate_end: Option<SystemTime>,
    /// The peers that are known, in the order of their ids.
    pub peers: Vec<PeerStats>,
}

/// One peer's connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerStats {
    /// Whose.
    pub id: ReplicaId,
    /// Where it was dialed, or should be.
    pub address: String,
    /// Whether a connection stands.
    pub is_connected: bool,
    /// The round trip as the connection sees it.
    pub round_trip: Option<Duration>,
    /// Why the newest attempt has failed, or the newest connection ended; `None` while one stands.
    pub last_error: Option<TransportError>,
}

/// What the network thread shares with the handle on it.
pub(crate) struct Shared {
    pub(crate) options: Arc<TransportOptions>,
    pub(crate) gate: Arc<Gate>,
    turns: AtomicU64,
    messages: AtomicU64,
    requests: AtomicU64,
    dropped: AtomicU64,
    peers: Mutex<Vec<PeerState>>,
}

impl Shared {
    pub(crate) fn new(options: Arc<TransportOptions>, gate: Arc<Gate>) -> Shared {
        Shared {
            options,
            gate,
            turns: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            peers: Mutex::new(Vec::new()),
        }
    }

    // Relaxed, all of them: counts for people, each with one writer.

    pub(crate) fn count_turn(&self, arrivals: &[Arrival]) {
        let count =
            |is_one: fn(&Arrival) -> bool| arrivals.iter().filter(|arrival| is_one(arrival)).count() as u64;
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.messages.fetch_add(count(|a| matches!(a, Arrival::Message { .. })), Ordering::Relaxed);
        self.requests.fetch_add(count(|a| matches!(a, Arrival::Asked { .. })), Ordering::Relaxed);
    }

    /// After a turn: what its rooms have counted, and the peers if anything about them has changed.
    pub(crate) fn note(&self, peers: &mut Peers) {
        self.dropped.store(peers.dropped, Ordering::Relaxed);
        if std::mem::take(&mut peers.has_changed) {
            *self.peers.lock() = peers.states();
        }
    }

    /// Says when the certificate ends, and warns if that is soon.
    pub(crate) fn tell_end(&self) {
        if let Some(end) = self.gate.configs.end() {
            observe::certificate(self.options.me, end, Standing::at(SystemTime::now(), end));
        }
    }

    pub(crate) fn stats(&self) -> TransportStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let peer = |state: &PeerState| PeerStats {
            id: state.id,
            address: state.address.clone(),
            is_connected: state.line.is_some(),
            round_trip: state.line.as_ref().map(|line| line.connection.rtt()),
            last_error: state.last_error.clone(),
        };
        let refusals = self.gate.inbox.refusals.read();
        TransportStats {
            turns: read(&self.turns),
            messages: read(&self.messages),
            requests: read(&self.requests),
            dropped: read(&self.dropped),
            sessions: self.gate.sessions(),
            connections: self.gate.connections(),
            refused: refusals.total(),
            refusals,
            certificate_end: self.gate.configs.end(),
            peers: self.peers.lock().iter().map(peer).collect(),
        }
    }
}
