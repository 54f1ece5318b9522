//! The other replicas: who they are, where, and what goes to each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::SendStream;

use super::close::CloseCode;
use super::dial::{Attempt, Dialer};
use super::error::TransportError;
use super::inbox::{Line, PeerUp};
use super::lane::LaneOut;
use super::probe::Probe;
use super::reading::{PeerReader, read_peer};
use super::{Arrival, Lane, observe};
use crate::protocol::Envelope;
use crate::types::ReplicaId;

/// The higher id leaves the lower one so much time to dial first.
const PRECEDENCE: Duration = Duration::from_millis(200);
/// The first attempt to dial may take so long; each that follows twice as long as the one before.
const ATTEMPT_MIN: Duration = Duration::from_millis(250);
/// Silent for so many ticks, a peer is probed with each tick ...
const SILENT_TICKS_MIN: u32 = 1;
/// ... and after so many only now and then: a connection may be quiet because nobody has anything to say.
const SILENT_TICKS_MANY: u32 = 50;
/// A connection that is not refused for so long after its handshake is good.
const STANDS: Duration = Duration::from_secs(1);
/// Replicas of the cluster that nobody has named, at most.
const STRANGERS_MAX: usize = 64;

/// The other replicas.
pub(crate) struct Peers {
    dialer: Dialer,
    reader: Arc<PeerReader>,
    address: String,
    peers: BTreeMap<ReplicaId, Peer>,
    /// Messages that were dropped.
    pub(crate) dropped: u64,
    /// Whether what `states` says is another thing than before.
    pub(crate) has_changed: bool,
}

struct Peer {
    /// Where it is to be dialed: as it was named, or as it says itself.
    address: Option<String>,
    is_named: bool,
    main: Option<Main>,
    control: LaneOut,
    bulk: LaneOut,
    /// The attempt that is under way, and whether it is not wanted any more.
    dialing: Option<Arc<AtomicBool>>,
    failures: u32,
    catch_up: CatchUp,
    last_error: Option<TransportError>,
    /// Why it could not be connected to, as was logged: once for each reason.
    told: Option<String>,
}

/// The connection for control and bulk.
struct Main {
    line: Arc<Line>,
    is_dialed_by_lower: bool,
    since: Instant,
    probe: Option<Probe>,
    heard: u64,
    silent_ticks: u32,
}

/// What laggards need: dialed when there is something to send, one way.
struct CatchUp {
    line_out: Option<Arc<Line>>,
    line_in: Option<Arc<Line>>,
    lane: LaneOut,
    is_dialing: bool,
}

/// What is known of one peer's connection.
pub(crate) struct PeerState {
    pub(crate) id: ReplicaId,
    pub(crate) address: String,
    pub(crate) line: Option<Arc<Line>>,
    pub(crate) last_error: Option<TransportError>,
}

impl Peers {
    pub(crate) fn new(dialer: Dialer, reader: PeerReader, address: String) -> Peers {
        Peers {
            dialer,
            reader: Arc::new(reader),
            address,
            peers: BTreeMap::new(),
            dropped: 0,
            has_changed: true,
        }
    }

    /// Who they are now: others are cut off.
    pub(crate) fn set(&mut self, named: &[(ReplicaId, String)]) {
        self.has_changed = true;
        let me = self.dialer.options.me;
        let before: Vec<ReplicaId> =
            self.peers.iter().filter(|(_, peer)| peer.is_named).map(|(id, _)| *id).collect();
        for id in before {
            if !named.iter().any(|(other, _)| *other == id)
                && let Some(mut gone) = self.peers.remove(&id)
            {
                gone.cut_off();
            }
        }
        for (id, address) in named.iter().filter(|(id, _)| *id != me) {
            let peer = self.meet(*id);
            peer.is_named = true;
            if peer.address.as_ref() != Some(address) {
                peer.address = Some(address.clone());
                peer.failures = 0;
            }
            self.dial(*id);
        }
    }

    /// Puts a message into its lane.
    pub(crate) fn send(&mut self, lane: Lane, envelope: &Envelope, payload: &Bytes) {
        let id = envelope.to.id;
        let Some(peer) = self.peers.get_mut(&id) else {
            self.dropped += 1;
            return;
        };
        let is_put = match lane {
            Lane::CatchUp => peer.address.is_some() && peer.catch_up.lane.put(envelope, payload),
            Lane::Control => peer.main.is_some() && peer.control.put(envelope, payload),
            Lane::Bulk => peer.main.is_some() && peer.bulk.put(envelope, payload),
        };
        if !is_put {
            self.dropped += 1;
        } else if lane == Lane::CatchUp && peer.catch_up.line_out.is_none() {
            self.dial_catch_up(id);
        }
    }

    /// Writes what waits, as far as the connections take it.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) {
        for peer in self.peers.values_mut() {
            if let Some(main) = &peer.main {
                peer.control.flush(&main.line.connection, cx);
                peer.bulk.flush(&main.line.connection, cx);
            }
            if let Some(line) = &peer.catch_up.line_out {
                peer.catch_up.lane.flush(&line.connection, cx);
            }
        }
    }

    /// A connection stands.
    pub(crate) fn up(&mut self, up: PeerUp) {
        self.has_changed = true;
        let PeerUp { id, is_catch_up, is_dialed_here, line } = up;
        let is_known = self.peers.contains_key(&id);
        if !is_known && (is_dialed_here || self.peers.len() >= STRANGERS_MAX) {
            // It was cut off while it was being dialed, or too many are here whom nobody has named.
            return line.end(CloseCode::Done);
        }
        let me = self.dialer.options.me;
        let reader = Arc::clone(&self.reader);
        let peer = self.meet(id);
        match (is_catch_up, is_dialed_here) {
            (true, true) => {
                peer.catch_up.is_dialing = false;
                peer.catch_up.line_out = Some(Arc::clone(&line));
            }
            (true, false) => {
                if let Some(old) = peer.catch_up.line_in.replace(Arc::clone(&line)) {
                    old.end(CloseCode::Replaced);
                }
            }
            (false, _) => {
                if is_dialed_here {
                    peer.dialing = None;
                }
                if !peer.take_main(&line, is_dialed_here == (me < id)) {
                    return line.end(CloseCode::Replaced);
                }
            }
        }
        tokio::spawn(read_peer(reader, line));
    }

    /// An attempt to connect has failed.
    pub(crate) fn dial_failed(&mut self, id: ReplicaId, is_catch_up: bool, error: TransportError) {
        self.has_changed = true;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.main.is_none() {
            peer.tell(self.dialer.options.me, id, &error);
        }
        if peer.main.is_none() || is_catch_up {
            peer.last_error = Some(error);
        }
        if is_catch_up {
            peer.catch_up.is_dialing = false;
            peer.catch_up.lane.forget();
            self.dropped += 1;
        } else {
            peer.dialing = None;
            peer.failures = if peer.main.is_some() { 0 } else { peer.failures.saturating_add(1) };
            self.dial(id);
        }
    }

    /// A connection has ended.
    pub(crate) fn down(&mut self, line: &Arc<Line>, error: TransportError, arrivals: &mut Vec<Arrival>) {
        self.has_changed = true;
        let id = line.id;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let is_this = |other: &Arc<Line>| Arc::ptr_eq(other, line);
        if peer.catch_up.line_in.as_ref().is_some_and(is_this) {
            peer.catch_up.line_in = None;
        }
        if peer.catch_up.line_out.as_ref().is_some_and(is_this) {
            peer.catch_up.line_out = None;
            peer.catch_up.lane.forget();
        }
        if peer.main.as_ref().is_some_and(|main| is_this(&main.line)) {
            // A certificate is refused after the handshake, as whoever presents it sees it: without a pause it would be
            // presented again at once, for ever.
            peer.tell(self.dialer.options.me, id, &error);
            let has_stood = peer.main.as_ref().is_some_and(Main::stands);
            peer.failures = if has_stood { 0 } else { peer.failures.saturating_add(1) };
            peer.lose_main(error);
            arrivals.push(Arrival::PeerLost { id });
            if !peer.is_named {
                self.peers.remove(&id);
            }
            self.dial(id);
        }
    }

    /// A peer says where it is found.
    pub(crate) fn found(&mut self, id: ReplicaId, address: String, arrivals: &mut Vec<Arrival>) {
        self.has_changed = true;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.address.as_ref() != Some(&address) {
            if !peer.is_named {
                peer.address = Some(address.clone());
            }
            arrivals.push(Arrival::PeerAddress { id, address });
        }
    }

    /// Probes those who are silent, and tells who is gone.
    pub(crate) fn tick(&mut self, arrivals: &mut Vec<Arrival>) {
        let mut gone = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.main.as_ref().is_some_and(Main::stands) {
                peer.failures = 0;
                if peer.told.take().is_some() {
                    observe::connects_again(self.dialer.options.me, *id);
                }
            }
            if peer.main.as_mut().is_some_and(Main::is_gone) {
                peer.main.as_ref().expect("just seen").line.end(CloseCode::Done);
                peer.lose_main(TransportError::Lost);
                arrivals.push(Arrival::PeerLost { id: *id });
                gone.push(*id);
            }
        }
        for id in gone {
            self.has_changed = true;
            self.dial(id);
        }
    }

    /// What is known of each.
    pub(crate) fn states(&self) -> Vec<PeerState> {
        let state = |(id, peer): (&ReplicaId, &Peer)| PeerState {
            id: *id,
            address: peer.address.clone().unwrap_or_default(),
            line: peer.main.as_ref().map(|main| Arc::clone(&main.line)),
            last_error: peer.last_error.clone(),
        };
        self.peers.iter().map(state).collect()
    }

    /// Says to all that nothing more will come; the streams whose end can be waited for.
    pub(crate) fn finish(&mut self) -> Vec<SendStream> {
        let lanes = |peer: &mut Peer| [peer.control.finish(), peer.bulk.finish()];
        self.peers.values_mut().flat_map(lanes).flatten().collect()
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.peers.values().all(|peer| peer.control.is_empty() && peer.bulk.is_empty())
    }

    fn meet(&mut self, id: ReplicaId) -> &mut Peer {
        let options = &self.dialer.options;
        let limits = &options.limits;
        let lane = |lane, bytes_max| LaneOut::new(lane, options.me, self.address.clone(), bytes_max);
        self.peers.entry(id).or_insert_with(|| Peer {
            address: None,
            is_named: false,
            main: None,
            control: lane(Lane::Control, limits.control_queue_bytes_max),
            bulk: lane(Lane::Bulk, limits.bulk_queue_bytes_max),
            dialing: None,
            failures: 0,
            catch_up: CatchUp {
                line_out: None,
                line_in: None,
                lane: lane(Lane::CatchUp, limits.catch_up_queue_bytes_max),
                is_dialing: false,
            },
            last_error: None,
            told: None,
        })
    }

    /// Begins to dial it, if there is no connection and nothing under way.
    fn dial(&mut self, id: ReplicaId) {
        let options = Arc::clone(&self.dialer.options);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let (Some(address), None, false) = (&peer.address, &peer.main, peer.dialing.is_some()) else {
            return;
        };
        let timing = &options.timing;
        let doubled = |least: Duration, most: Duration| (least * (1 << peer.failures.min(10))).min(most);
        let pause = match peer.failures {
            0 => Duration::ZERO,
            _ => doubled(timing.redial_min, timing.redial_max),
        };
        let precedence = if options.me < id { Duration::ZERO } else { PRECEDENCE };
        let is_needless = Arc::new(AtomicBool::new(false));
        peer.dialing = Some(Arc::clone(&is_needless));
        self.dialer.dial(Attempt {
            id,
            is_needless,
            address: address.clone(),
            is_catch_up: false,
            pause: pause + precedence,
            wait_max: doubled(ATTEMPT_MIN, timing.handshake_max),
        });
    }

    fn dial_catch_up(&mut self, id: ReplicaId) {
        let wait_max = self.dialer.options.timing.handshake_max;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let (Some(address), false) = (&peer.address, peer.catch_up.is_dialing) else { return };
        peer.catch_up.is_dialing = true;
        let (address, pause, is_needless) = (address.clone(), Duration::ZERO, Arc::default());
        self.dialer.dial(Attempt { id, is_needless, address, is_catch_up: true, pause, wait_max });
    }
}

impl Peer {
    /// Takes a connection for control and bulk, unless one that takes precedence was made at the same time.
    fn take_main(&mut self, line: &Arc<Line>, is_dialed_by_lower: bool) -> bool {
        if let Some(old) = &self.main {
            // Of two that were dialed at the same time both sides keep the same one. An old one is another thing: whoever
            // dials again has lost it.
            if old.is_dialed_by_lower && !is_dialed_by_lower && old.since.elapsed() < PRECEDENCE {
                return false;
            }
            old.line.end(CloseCode::Replaced);
        }
        if let Some(is_needless) = &self.dialing {
            is_needless.store(true, Ordering::Relaxed);
        }
        self.control.forget();
        self.bulk.forget();
        self.catch_up.end();
        self.control.begin();
        self.last_error = None;
        self.main = Some(Main {
            line: Arc::clone(line),
            is_dialed_by_lower,
            since: Instant::now(),
            probe: Probe::new(line.connection.remote_address()).ok(),
            heard: 0,
            silent_ticks: 0,
        });
        true
    }

    /// Logs why it cannot be connected to, unless that was logged already.
    fn tell(&mut self, me: ReplicaId, id: ReplicaId, error: &TransportError) {
        // Not needed any more, or nobody there yet: no reason to look at the settings.
        if matches!(error, TransportError::Closed | TransportError::Lost | TransportError::Unreachable { .. })
        {
            return;
        }
        let reason = error.to_string();
        if self.told.as_ref() != Some(&reason) {
            observe::cannot_connect(me, id, error);
            self.told = Some(reason);
        }
    }

    fn lose_main(&mut self, error: TransportError) {
        if let Some(main) = self.main.take() {
            main.line.is_over.store(true, Ordering::Relaxed);
        }
        self.control.forget();
        self.bulk.forget();
        self.catch_up.end();
        self.last_error = Some(error);
    }

    fn cut_off(&mut self) {
        let CatchUp { line_in, line_out, .. } = &self.catch_up;
        let main = self.main.as_ref().map(|main| &main.line);
        for line in [main, line_in.as_ref(), line_out.as_ref()].into_iter().flatten() {
            line.end(CloseCode::Done);
        }
    }
}

impl CatchUp {
    /// The peer is gone, or another process: nobody would answer here, and that may show only after `idle_max`.
    fn end(&mut self) {
        for line in [self.line_in.take(), self.line_out.take()].into_iter().flatten() {
            line.end(CloseCode::Replaced);
        }
        self.lane.forget();
    }
}

impl Main {
    /// Whether the other side has taken it after its handshake: it says something, or did not refuse it for a while. Without
    /// the first, a replica that is killed again soon would be dialed with a growing pause, which elections have to wait for.
    fn stands(&self) -> bool {
        self.line.heard.load(Ordering::Relaxed) > 0 || self.since.elapsed() > STANDS
    }

    /// Whether the host says that the process is gone. Asked only while nothing is heard.
    fn is_gone(&mut self) -> bool {
        let heard = self.line.heard.load(Ordering::Relaxed);
        if heard != self.heard {
            (self.heard, self.silent_ticks) = (heard, 0);
            return false;
        }
        self.silent_ticks = self.silent_ticks.saturating_add(1);
        let is_due = self.silent_ticks >= SILENT_TICKS_MIN
            && (self.silent_ticks < SILENT_TICKS_MANY || self.silent_ticks.is_multiple_of(SILENT_TICKS_MANY));
        is_due && self.probe.as_ref().is_some_and(Probe::is_refused)
    }
}
