//! Replicas that are nothing but their transport, and clients that write down what they are told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use annals::protocol::request::{ClientRole, Reply, Request};
use annals::protocol::{Envelope, Member, Message};
use annals::transport::certs::{Authority, Validity};
use annals::transport::{
    Actor, Arrival, ClientLink, Credentials, Lane, LinkEvents, LinkOptions, Network, SessionId, TlsFiles,
    Transport, TransportError, TransportOptions,
};
use annals::{ClusterId, DiskId, Epoch, ReplicaId};
use bytes::Bytes;

pub(crate) const CLUSTER: ClusterId = ClusterId::new(0x00c0_ffee);
/// Nothing here takes so long, however busy the machine is.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// What a test has an actor do in its next turn.
type Order = Box<dyn FnOnce(&mut dyn Network) + Send>;

/// Writes down what arrives, does what it is told, and answers each request with its own bytes.
struct Scribe {
    orders: Receiver<Order>,
    arrivals: Sender<Arrival>,
}

impl Actor for Scribe {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        for arrival in arrivals.drain(..) {
            if let Arrival::Asked { session, number, request: Request::Status, payload } = &arrival {
                network.reply(*session, *number, &Reply::Done, std::slice::from_ref(payload));
            }
            let _ = self.arrivals.send(arrival);
        }
        for order in self.orders.try_iter() {
            order(network);
        }
        None
    }
}

/// A replica that is nothing but its transport.
pub(crate) struct Place {
    pub(crate) id: ReplicaId,
    pub(crate) transport: Transport,
    orders: Sender<Order>,
    arrivals: Receiver<Arrival>,
}

impl Place {
    pub(crate) fn start(options: TransportOptions) -> Place {
        let id = options.me;
        let bound = Transport::bind(options).unwrap();
        let (orders, for_actor) = channel();
        let (from_actor, arrivals) = channel();
        let transport = bound.start(Box::new(Scribe { orders: for_actor, arrivals: from_actor })).unwrap();
        Place { id, transport, orders, arrivals }
    }

    pub(crate) fn address(&self) -> String {
        self.transport.local_addr().to_string()
    }

    pub(crate) fn order(&self, order: impl FnOnce(&mut dyn Network) + Send + 'static) {
        self.orders.send(Box::new(order)).unwrap();
        self.transport.bell().ring();
    }

    pub(crate) fn knows(&self, others: &[&Place]) {
        let peers: Vec<_> = others.iter().map(|other| (other.id, other.address())).collect();
        self.order(move |network| network.set_peers(&peers));
    }

    pub(crate) fn send(&self, lane: Lane, to: ReplicaId, number: u64, payload: Bytes) {
        let envelope = envelope(self.id, to, number);
        self.order(move |network| network.send(lane, &envelope, &payload));
    }

    /// The next arrival that `pick` takes; others are passed over.
    pub(crate) fn next<T>(&self, mut pick: impl FnMut(Arrival) -> Option<T>) -> T {
        let deadline = Instant::now() + LONG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let arrival = self.arrivals.recv_timeout(left).expect("it arrives in time");
            if let Some(picked) = pick(arrival) {
                return picked;
            }
        }
    }

    /// The next message's number and bytes.
    pub(crate) fn message(&self) -> (u64, Bytes) {
        self.next(|arrival| match arrival {
            // Number 0 was only sent to meet.
            Arrival::Message { envelope, .. } if number_of(&envelope) == 0 => None,
            Arrival::Message { envelope, payload } => Some((number_of(&envelope), payload)),
            _ => None,
        })
    }

    /// All that has arrived by now.
    pub(crate) fn arrived(&self) -> Vec<Arrival> {
        self.arrivals.try_iter().collect()
    }

    /// Sends until one comes through: whoever is not connected yet sends into the void.
    pub(crate) fn meet(&self, other: &Place) {
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            self.send(Lane::Control, other.id, 0, Bytes::new());
            if let Ok(Arrival::Message { .. }) = other.arrivals.recv_timeout(Duration::from_millis(5)) {
                return;
            }
        }
        panic!("replicas {} and {} do not meet: {:?}", self.id, other.id, self.transport.stats());
    }

    /// Waits until what the transport says of itself is so.
    pub(crate) fn wait_until(&self, is_so: impl Fn(&annals::transport::TransportStats) -> bool) {
        let deadline = Instant::now() + LONG;
        while !is_so(&self.transport.stats()) {
            assert!(Instant::now() < deadline, "in vain: {:?}", self.transport.stats());
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Certificates of one cluster in a directory of their own.
pub(crate) struct Papers {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Authority,
}

impl Papers {
    pub(crate) fn new(cluster: ClusterId) -> Papers {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), cluster, Validity::days(1)).unwrap();
        Papers { dir, authority }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn replica(&self, id: u64) -> TlsFiles {
        let issued = self.authority.replica(ReplicaId::new(id), Validity::days(1)).unwrap();
        issued.write(self.path(), &format!("replica-{id}")).unwrap()
    }

    pub(crate) fn client(&self, role: ClientRole) -> TlsFiles {
        let issued = self.authority.client(role, "tester", Validity::days(1)).unwrap();
        issued.write(self.path(), &format!("{role:?}")).unwrap()
    }

    pub(crate) fn options(&self, id: u64) -> TransportOptions {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        TransportOptions::new(listen, ReplicaId::new(id), CLUSTER, self.replica(id))
    }

    pub(crate) fn place(&self, id: u64) -> Place {
        Place::start(self.options(id))
    }

    /// Two replicas that are connected.
    pub(crate) fn pair(&self) -> (Place, Place) {
        let (one, two) = (self.place(1), self.place(2));
        one.knows(&[&two]);
        two.knows(&[&one]);
        one.meet(&two);
        two.meet(&one);
        (one, two)
    }
}

/// What a client was told.
#[derive(Debug)]
pub(crate) enum Told {
    Opened(ReplicaId, ClientRole),
    Reply(u64, Reply, Bytes),
    Closed(TransportError),
}

struct Notes(Sender<Told>);

impl LinkEvents for Notes {
    fn opened(&self, id: ReplicaId, role: ClientRole) {
        let _ = self.0.send(Told::Opened(id, role));
    }

    fn replies(&self, replies: &mut Vec<(u64, Reply, Bytes)>) {
        for (number, reply, payload) in replies.drain(..) {
            let _ = self.0.send(Told::Reply(number, reply, payload));
        }
    }

    fn closed(&self, error: TransportError) {
        let _ = self.0.send(Told::Closed(error));
    }
}

/// A client that writes down what it is told.
pub(crate) struct Caller {
    pub(crate) link: ClientLink,
    told: Receiver<Told>,
}

impl Caller {
    pub(crate) fn open(files: &TlsFiles, address: &str) -> Caller {
        Caller::share(&Credentials::load(files).unwrap(), address)
    }

    /// With the same credentials as others.
    pub(crate) fn share(credentials: &Credentials, address: &str) -> Caller {
        Caller::with(LinkOptions::default(), credentials, address)
    }

    pub(crate) fn with(options: LinkOptions, credentials: &Credentials, address: &str) -> Caller {
        let (notes, told) = channel();
        let events = Arc::new(Notes(notes));
        let link = ClientLink::open(credentials, address, options, events).unwrap();
        Caller { link, told }
    }

    pub(crate) fn told(&self) -> Told {
        self.told.recv_timeout(LONG).expect("it is told in time")
    }

    /// Why it could not connect, or has ended.
    pub(crate) fn refusal(&self) -> TransportError {
        loop {
            if let Told::Closed(error) = self.told() {
                return error;
            }
        }
    }

    pub(crate) fn ask(&self, number: u64, payload: &[Bytes]) {
        self.link.send(number, &Request::Status, payload).unwrap();
    }

    pub(crate) fn reply(&self) -> (u64, Reply, Bytes) {
        loop {
            match self.told() {
                Told::Opened(..) => {}
                Told::Reply(number, reply, payload) => return (number, reply, payload),
                Told::Closed(error) => panic!("closed: {error}"),
            }
        }
    }
}

pub(crate) fn envelope(from: ReplicaId, to: ReplicaId, number: u64) -> Envelope {
    let member = |id: ReplicaId| Member { id, disk: DiskId::new(u128::from(id.get())) };
    Envelope {
        cluster: CLUSTER,
        from: member(from),
        to: member(to),
        epoch: Epoch::new(1),
        generation: number,
        message: Message::Stale,
    }
}

pub(crate) fn number_of(envelope: &Envelope) -> u64 {
    envelope.generation
}

/// Bytes that differ from place to place, at no cost: a turn that makes them would keep the network waiting.
pub(crate) fn pattern(bytes: usize, seed: u64) -> Bytes {
    static NOISE: OnceLock<Bytes> = OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[5]
        };
        (0..1 << 19).map(|_| next()).collect()
    });
    let from = usize::try_from(seed * 997 % 100_000).unwrap();
    noise.slice(from..from + bytes)
}

pub(crate) fn session_of(arrival: Arrival) -> Option<SessionId> {
    match arrival {
        Arrival::Opened { session, .. } => Some(session),
        _ => None,
    }
}
