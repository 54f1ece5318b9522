//! A network in memory: gives nodes their turns, carries what they say, and cuts them off on demand.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annals::ReplicaId;
use annals::node::{Bell, Place, ReplicaError, Running};
use annals::protocol::Envelope;
use annals::protocol::request::{ClientRole, Reply, Request};
use annals::transport::{Actor, Arrival, Lane, Network, SessionId};
use bytes::Bytes;

/// After so long without an answer something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The network; a clone is another handle on the same one.
#[derive(Clone, Default)]
pub(crate) struct Net {
    wires: Arc<Mutex<Wires>>,
    next_session: Arc<AtomicU64>,
}

#[derive(Default)]
struct Wires {
    posts: HashMap<ReplicaId, Arc<Post>>,
    cut: HashSet<ReplicaId>,
    clients: HashMap<SessionId, Sender<(u64, Reply, Bytes)>>,
    /// Bytes of snapshots that were sent.
    chunks: u64,
    /// The name of the messages that are lost.
    lost: Option<&'static str>,
    /// How many heartbeats each replica has sent, as a primary.
    beats: HashMap<ReplicaId, u64>,
    endings: HashMap<ReplicaId, Ending>,
}

/// What is done in the last moments of a node.
pub(crate) struct Ending {
    /// While it still has its turns.
    pub(crate) before_last_turn: Box<dyn FnOnce() + Send>,
    /// When it has had its last one, and is there.
    pub(crate) after_last_turn: Box<dyn FnOnce() + Send>,
}

/// Where what is for a node waits for its turn.
#[derive(Default)]
struct Post {
    inbox: Mutex<Inbox>,
    filled: Condvar,
}

#[derive(Default)]
struct Inbox {
    arrivals: Vec<Arrival>,
    is_rung: bool,
    has_ended: bool,
}

impl Post {
    fn change(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.inbox.lock().expect("nobody panics with it"));
        self.filled.notify_all();
    }

    /// What has come by the deadline; `None` at the end.
    fn wait(&self, deadline: Option<Instant>) -> Option<Vec<Arrival>> {
        let mut inbox = self.inbox.lock().expect("nobody panics with it");
        while !inbox.has_ended && !inbox.is_rung && inbox.arrivals.is_empty() {
            let left = deadline.map_or(PATIENCE, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            inbox = self.filled.wait_timeout(inbox, left).expect("nobody panics with it").0;
        }
        inbox.is_rung = false;
        (!inbox.has_ended).then(|| std::mem::take(&mut inbox.arrivals))
    }
}

impl Net {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().expect("nobody panics with it")
    }

    /// A place for this replica.
    pub(crate) fn place(&self, id: ReplicaId) -> Box<dyn Place> {
        let post = Arc::new(Post::default());
        self.wires().posts.insert(id, Arc::clone(&post));
        Box::new(Spot { id, post, net: self.clone() })
    }

    /// Nothing comes to this replica, and nothing from it.
    pub(crate) fn cut(&self, id: ReplicaId) {
        self.wires().cut.insert(id);
    }

    pub(crate) fn join(&self, id: ReplicaId) {
        self.wires().cut.remove(&id);
    }

    /// All messages of this name are lost from now on.
    pub(crate) fn lose(&self, name: &'static str) {
        self.wires().lost = Some(name);
    }

    /// How many heartbeats this replica has sent, as a primary, to all the others.
    pub(crate) fn beats(&self, id: ReplicaId) -> u64 {
        self.wires().beats.get(&id).copied().unwrap_or(0)
    }

    /// What is to be done when this replica ends.
    pub(crate) fn at_end(&self, id: ReplicaId, ending: Ending) {
        self.wires().endings.insert(id, ending);
    }

    /// Bytes of snapshots that were sent.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.wires().chunks
    }

    pub(crate) fn connect(&self, to: ReplicaId, role: ClientRole) -> Client {
        let session = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let (sender, replies) = channel();
        let mut wires = self.wires();
        wires.clients.insert(session, sender);
        let post = Arc::clone(&wires.posts[&to]);
        drop(wires);
        post.change(|inbox| inbox.arrivals.push(Arrival::Opened { session, role }));
        Client { session, post, replies, net: self.clone() }
    }
}

/// A client that speaks the bare protocol.
pub(crate) struct Client {
    session: SessionId,
    post: Arc<Post>,
    replies: Receiver<(u64, Reply, Bytes)>,
    net: Net,
}

impl Client {
    pub(crate) fn send(&self, number: u64, request: Request, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let asked = Arrival::Asked { session: self.session, number, request, payload };
        self.post.change(|inbox| inbox.arrivals.push(asked));
    }

    pub(crate) fn receive(&self) -> (u64, Reply, Bytes) {
        self.replies.recv_timeout(PATIENCE).expect("an answer in time")
    }

    pub(crate) fn ask(&self, request: Request, payload: &[u8]) -> Reply {
        self.send(0, request, payload);
        self.receive().1
    }

    /// Whether nothing more has come.
    pub(crate) fn is_silent(&self) -> bool {
        self.replies.try_recv().is_err()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.net.wires().clients.remove(&self.session);
        self.post.change(|inbox| inbox.arrivals.push(Arrival::Closed { session: self.session }));
    }
}

struct Spot {
    id: ReplicaId,
    post: Arc<Post>,
    net: Net,
}

struct Turning {
    id: ReplicaId,
    post: Arc<Post>,
    net: Net,
    thread: Mutex<Option<JoinHandle<Box<dyn Actor>>>>,
}

impl Place for Spot {
    fn bell(&self) -> Bell {
        let post = Arc::clone(&self.post);
        Bell::new(move || post.change(|inbox| inbox.is_rung = true))
    }

    fn begin(self: Box<Self>, mut actor: Box<dyn Actor>) -> Result<Box<dyn Running>, ReplicaError> {
        let (id, post, net) = (self.id, Arc::clone(&self.post), self.net.clone());
        let mut wire = Wire { id, net: net.clone() };
        let thread = std::thread::spawn(move || {
            let mut deadline = Some(Instant::now());
            while let Some(mut arrivals) = self.post.wait(deadline) {
                deadline = actor.turn(&mut wire, &mut arrivals);
            }
            actor
        });
        Ok(Box::new(Turning { id, post, net, thread: Mutex::new(Some(thread)) }))
    }
}

impl Running for Turning {
    fn end(&self) {
        let ending = self.net.wires().endings.remove(&self.id);
        let (before_last_turn, after_last_turn) =
            ending.map(|ending| (ending.before_last_turn, ending.after_last_turn)).unzip();
        before_last_turn.into_iter().for_each(|act| act());
        self.post.change(|inbox| inbox.has_ended = true);
        if let Some(thread) = self.thread.lock().expect("nobody panics with it").take() {
            let actor = thread.join().expect("the actor does not panic");
            after_last_turn.into_iter().for_each(|act| act());
            drop(actor);
        }
        let mut wires = self.net.wires();
        wires.posts.remove(&self.id);
        // As a connection that is closed would tell.
        for (_, post) in wires.posts.iter().filter(|(id, _)| !wires.cut.contains(id)) {
            post.change(|inbox| inbox.arrivals.push(Arrival::PeerLost { id: self.id }));
        }
    }
}

/// One node's end of the network.
struct Wire {
    id: ReplicaId,
    net: Net,
}

impl Network for Wire {
    fn send(&mut self, _: Lane, envelope: &Envelope, payload: &Bytes) {
        let mut wires = self.net.wires();
        if envelope.message.name() == "Heartbeat" {
            *wires.beats.entry(self.id).or_default() += 1;
        }
        if wires.lost == Some(envelope.message.name()) {
            return;
        }
        if wires.cut.contains(&self.id) || wires.cut.contains(&envelope.to.id) {
            return;
        }
        if envelope.message.name() == "SnapshotChunk" {
            wires.chunks += payload.len() as u64;
        }
        if let Some(post) = wires.posts.get(&envelope.to.id) {
            let (envelope, payload) = (envelope.clone(), payload.clone());
            post.change(|inbox| inbox.arrivals.push(Arrival::Message { envelope, payload }));
        }
    }

    fn reply(&mut self, session: SessionId, number: u64, reply: &Reply, payload: &[Bytes]) {
        if let Some(client) = self.net.wires().clients.get(&session) {
            let _ = client.send((number, reply.clone(), payload.concat().into()));
        }
    }

    fn backlog_bytes(&self, _: SessionId) -> u64 {
        0
    }

    fn set_peers(&mut self, _: &[(ReplicaId, String)]) {}
}
