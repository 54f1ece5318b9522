//! Where the tasks of the network thread leave what they have for the next turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, SendStream};
use tokio::sync::Notify;

use super::bell::Bell;
use super::close::CloseCode;
use super::error::TransportError;
use super::refusals::Counts;
use super::{Arrival, SessionId};
use crate::protocol::request::ClientRole;
use crate::types::ReplicaId;

/// What happens to connections.
pub(crate) enum Event {
    /// A connection to a replica stands, dialed here or there.
    PeerUp(PeerUp),
    /// An attempt to dial a replica has failed.
    DialFailed { id: ReplicaId, is_catch_up: bool, error: TransportError },
    /// A connection to a replica has ended.
    PeerDown { line: Arc<Line>, error: TransportError },
    /// A replica says where it is found.
    Found { id: ReplicaId, address: String },
    /// A client's session stands: its replies go into this stream, the greeting first. To cut it off, notify.
    SessionUp { session: SessionId, stream: SendStream, greeting: Bytes, cut: Arc<Notify> },
    /// A client has asked for what it may not do.
    Denied { session: SessionId, number: u64, needs: ClientRole },
    /// A client's session has ended.
    SessionDown { session: SessionId },
    /// A turn is the last one.
    ShutDown,
}

/// A connection to a replica that stands.
pub(crate) struct PeerUp {
    pub(crate) id: ReplicaId,
    /// For control and bulk, or for catch-up.
    pub(crate) is_catch_up: bool,
    pub(crate) is_dialed_here: bool,
    pub(crate) line: Arc<Line>,
}

/// A connection to a replica, as those see it who read from it.
pub(crate) struct Line {
    pub(crate) id: ReplicaId,
    pub(crate) connection: Connection,
    /// Set when another connection has taken its place: what is still read from this one would come too late.
    pub(crate) is_over: AtomicBool,
    /// Grows with all that is heard.
    pub(crate) heard: AtomicU64,
    /// For each lane the newest stream: what is still read from an older one would come too late.
    pub(crate) newest: [AtomicU64; 3],
}

impl Line {
    pub(crate) fn new(id: ReplicaId, connection: Connection) -> Line {
        Line {
            id,
            connection,
            is_over: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            newest: Default::default(),
        }
    }

    /// Ends it, as far as messages go at once.
    pub(crate) fn end(&self, why: CloseCode) {
        // Relaxed, here and below: all tasks of a transport run in one thread.
        self.is_over.store(true, Ordering::Relaxed);
        self.connection.close(why.number(), b"");
    }
}

/// Where the tasks of the network thread leave what they have for the next turn.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    bell: Bell,
    /// Connections that were refused or cut off for what they did.
    pub(crate) refusals: Counts,
}

#[derive(Default)]
struct State {
    arrivals: Vec<Arrival>,
    events: Vec<Event>,
}

impl Inbox {
    pub(crate) fn new(bell: Bell) -> Inbox {
        Inbox { bell, ..Inbox::default() }
    }

    pub(crate) const fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Leaves what has arrived, in its order, and empties the list.
    pub(crate) fn arrive(&self, arrivals: &mut Vec<Arrival>) {
        if !arrivals.is_empty() {
            self.state.lock().arrivals.append(arrivals);
            self.bell.ring();
        }
    }

    /// Leaves an event, and one arrival that is its consequence.
    pub(crate) fn happen(&self, event: Event, arrival: Option<Arrival>) {
        let mut state = self.state.lock();
        state.events.push(event);
        state.arrivals.extend(arrival);
        drop(state);
        self.bell.ring();
    }

    /// Takes all that is there.
    pub(crate) fn take(&self, arrivals: &mut Vec<Arrival>, events: &mut Vec<Event>) {
        let mut state = self.state.lock();
        arrivals.append(&mut state.arrivals);
        events.append(&mut state.events);
    }
}
