//! What the transport costs: over loopback, both sides in this process, so CPU is that of both.
//!
//! `cargo bench --bench transport --features bench [-- PART... CHOICE...]`, where a part is `raw`, `bulk`, `catch-up`, `peers`,
//! `clients`, `idle` or `handshakes`; `SECS` is how long each runs (default 3). A choice is made otherwise than the library
//! has it: `--congestion cubic|new-reno|bbr`, `--datagram BYTES`, `--offload yes|no`, `--acks PACKETS`, `--window BYTES` or
//! `--socket-buffer BYTES`. `docs/transport.md` has what came of each.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use annals::protocol::request::{ClientRole, Reply, Request};
use annals::protocol::{Envelope, Member, Message};
use annals::transport::certs::{Authority, Validity};
use annals::transport::{
    Actor, Arrival, ClientLink, Credentials, Lane, LinkEvents, LinkOptions, Network, TlsFiles, Transport,
    TransportError, TransportOptions,
    yardstick::{self, Setup},
};
use annals::{ClusterId, DiskId, Epoch, ReplicaId};
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

const CLUSTER: ClusterId = ClusterId::new(1);
const PARTS: [&str; 7] = ["raw", "bulk", "catch-up", "peers", "clients", "idle", "handshakes"];
const SMALL: usize = 256;
const GROUP: usize = 1 << 20;
/// Bytes on their way that were not acknowledged, as the protocol's default has it.
const WINDOW: u64 = 16 << 20;

fn main() {
    // A run as a test, without anything asked for, only sees that it works.
    let is_test = std::env::args().any(|arg| arg == "--test");
    // What is asked of all tests and benches together need not make sense here.
    let is_alone = std::env::args().any(|arg| arg == "--bench");
    let args = std::env::args().skip(1).filter(|arg| !["--bench", "--test"].contains(&arg.as_str()));
    let asked = parts(args, is_alone);
    let secs = std::env::var("SECS").ok().and_then(|secs| secs.parse().ok());
    let lasting = Duration::from_secs_f64(if is_test { 0.05 } else { secs.unwrap_or(3.0) });
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|one| one == part);
    if wanted("raw") {
        raw(lasting);
    }
    for (part, lane) in [("bulk", Lane::Bulk), ("catch-up", Lane::CatchUp)] {
        if wanted(part) {
            stream(part, lane, lasting);
        }
    }
    if wanted("peers") {
        peers(lasting);
    }
    if wanted("clients") {
        // Without optimisation, beside others, hundreds of handshakes at once take longer than a client waits.
        let most = if is_test { 16 } else { 256 };
        for (links, outstanding) in [(1, 1), (16, 1), (64, 1), (256, 1), (1, 64), (4, 64)] {
            clients(links.min(most), outstanding, true, lasting);
        }
        for links in [16, 64, 256] {
            clients(links.min(most), 1, false, lasting);
        }
    }
    if wanted("idle") {
        idle(lasting);
    }
    if wanted("handshakes") {
        handshakes(lasting);
    }
}

/// The parts that are asked for. What is to be otherwise than the library has it is made so, and said.
fn parts(mut args: impl Iterator<Item = String>, is_alone: bool) -> Vec<String> {
    let mut parts = Vec::new();
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--") {
            None => {
                let is_part = PARTS.contains(&arg.as_str());
                assert!(is_part || !is_alone, "no part {arg}: it is one of {}", PARTS.join(", "));
                parts.push(arg);
            }
            Some(choice) => {
                let value = args.next().unwrap_or_default();
                let is_made = yardstick::tune(choice, &value);
                assert!(is_made || !is_alone, "no choice --{choice} {value}: docs/transport.md has them");
                if is_made {
                    println!("with {choice} {value}");
                }
            }
        }
    }
    parts
}

/// A raw stream as quinn comes, and with the settings of the transport: the yardsticks of catch-up.
fn raw(lasting: Duration) {
    let dir = tempfile::tempdir().expect("what the bench builds on works");
    for (part, setup) in [("raw stream", Setup::Stock), ("tuned stream", Setup::Tuned)] {
        let used = Used::now();
        let (bytes, taken) =
            yardstick::raw_stream(setup, lasting, dir.path()).expect("what the bench builds on works");
        used.bytes(part, bytes, taken);
    }
}

/// Groups of 1 MiB on one lane, acknowledged on the control lane, with a window of bytes on their way.
fn stream(part: &str, lane: Lane, lasting: Duration) {
    let papers = Papers::new();
    let received = Arc::new(AtomicU64::new(0));
    let sender = Streamer {
        lane,
        peer: ReplicaId::new(2),
        acked: 0,
        sent: 0,
        group: Bytes::from(vec![7; GROUP]),
        met: false,
    };
    let receiver = Taker { received: Arc::clone(&received) };
    let (one, two) = papers.pair(Box::new(sender), Box::new(receiver));
    wait_for(|| received.load(Ordering::Relaxed) > 4 * WINDOW);
    let (used, begun, before) = (Used::now(), Instant::now(), received.load(Ordering::Relaxed));
    std::thread::sleep(lasting);
    let bytes = received.load(Ordering::Relaxed) - before;
    used.bytes(part, bytes, begun.elapsed());
    drop((one, two));
}

/// Round trips of 256 bytes between two actors on the bulk lane and back on control: as an append and its acknowledgement.
fn peers(lasting: Duration) {
    let papers = Papers::new();
    let (times, told) = channel();
    let asker = Asker { asked: None, times, payload: Bytes::from(vec![7; SMALL]) };
    let (one, two) = papers.pair(Box::new(asker), Box::new(Echo));
    told.recv().expect("what the bench builds on works");
    let (used, begun) = (Used::now(), Instant::now());
    let mut all = Vec::new();
    while begun.elapsed() < lasting {
        all.push(told.recv().expect("what the bench builds on works"));
    }
    used.times("peers, 1 at a time", &mut all, begun.elapsed());
    drop((one, two));
}

/// Requests of 256 bytes and their replies.
fn clients(links: usize, outstanding: usize, is_shared: bool, lasting: Duration) {
    let papers = Papers::new();
    let transport = papers.start(1, Box::new(Answerer));
    let address = transport.local_addr().to_string();
    let files = papers.client();
    // Clones of the same credentials share connections.
    let load = || Credentials::load(&files).expect("what the bench builds on works");
    let shared = load();
    let is_over = Arc::new(AtomicBool::new(false));
    let open = |_: usize| {
        let credentials = if is_shared { shared.clone() } else { load() };
        Caller::open(&credentials, &address, outstanding, Arc::clone(&is_over))
    };
    let is_answered = |caller: &Arc<Caller>| !caller.times.lock().is_empty();
    let mut callers: Vec<Arc<Caller>> = Vec::new();
    while callers.len() < links {
        // Not all at once: one address gets half of the handshakes that a replica leads at a time.
        callers.extend((callers.len()..links).take(64).map(open));
        wait_for(|| callers.iter().all(is_answered));
    }
    callers.iter().for_each(|caller| caller.times.lock().clear());
    let (used, begun) = (Used::now(), Instant::now());
    std::thread::sleep(lasting);
    let taken = begun.elapsed();
    let mut all: Vec<Duration> =
        callers.iter().flat_map(|caller| std::mem::take(&mut *caller.times.lock())).collect();
    let how = if is_shared { "shared" } else { "a connection each" };
    used.times(&format!("{links} clients x {outstanding}, {how}"), &mut all, taken);
    is_over.store(true, Ordering::Relaxed);
}

/// Three replicas that only have heartbeats for each other, every 30 ms.
fn idle(lasting: Duration) {
    let papers = Papers::new();
    let all: Vec<Transport> = (1..=3).map(|id| papers.start(id, Box::new(Heart::new(id)))).collect();
    let addresses: Vec<(u64, String)> =
        (1..).zip(&all).map(|(id, transport)| (id, transport.local_addr().to_string())).collect();
    ADDRESSES.lock().clone_from(&addresses);
    all.iter().for_each(|transport| transport.bell().ring());
    wait_for(|| all.iter().all(|one| one.stats().peers.iter().filter(|peer| peer.is_connected).count() == 2));
    let before: u64 = all.iter().map(|one| one.stats().turns).sum();
    let (used, begun) = (Used::now(), Instant::now());
    std::thread::sleep(lasting);
    let (cpu, taken) = (used.cpu(), begun.elapsed());
    let share = cpu.as_secs_f64() / taken.as_secs_f64() / 3.0;
    let turns: u64 = all.iter().map(|one| one.stats().turns).sum();
    let turns = (turns - before) as f64 / taken.as_secs_f64() / 3.0;
    println!("{:<36} {:6.3} % of a core and {turns:.0} turns/s for each of three", "idle", share * 100.0);
}

/// Connections that are made and closed, one after another.
fn handshakes(lasting: Duration) {
    let papers = Papers::new();
    let transport = papers.start(1, Box::new(Answerer));
    let address = transport.local_addr().to_string();
    let files = papers.client();
    let (used, begun) = (Used::now(), Instant::now());
    let mut all = Vec::new();
    while begun.elapsed() < lasting {
        let one = Instant::now();
        // Its own: links with clones of one share a connection.
        let credentials = Credentials::load(&files).expect("what the bench builds on works");
        let (answered, answer) = channel();
        let link = ClientLink::open(
            &credentials,
            &address,
            LinkOptions::default(),
            Arc::new(Answered(Mutex::new(answered))),
        );
        let link = link.expect("what the bench builds on works");
        link.send(1, &Request::Status, &[]).expect("it is open");
        answer.recv().expect("it is answered");
        all.push(one.elapsed());
    }
    used.times("handshakes, one after another", &mut all, begun.elapsed());
}

fn wait_for(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "in vain");
        std::thread::yield_now();
    }
}

/// CPU time of this process.
struct Used(Duration);

impl Used {
    fn now() -> Used {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        Used(Duration::new(
            used.tv_sec.unsigned_abs(),
            u32::try_from(used.tv_nsec).expect("what the bench builds on works"),
        ))
    }

    fn cpu(&self) -> Duration {
        Used::now().0 - self.0
    }

    fn bytes(&self, what: &str, bytes: u64, taken: Duration) {
        let cpu = self.cpu().as_secs_f64();
        let (mb, gb) = (bytes as f64 / 1e6, bytes as f64 / 1e9);
        println!("{what:<36} {:8.0} MB/s {:8.3} CPU s/GB", mb / taken.as_secs_f64(), cpu / gb);
    }

    fn times(&self, what: &str, all: &mut [Duration], taken: Duration) {
        let cpu = self.cpu().as_secs_f64();
        if all.is_empty() {
            return println!("{what:<36} not once in {taken:.1?}");
        }
        all.sort_unstable();
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
        println!(
            "{what:<36} {:8.0} /s   p50 {:7.0} us   p99 {:7.0} us   {:7.1} CPU us each",
            all.len() as f64 / taken.as_secs_f64(),
            at(0.5),
            at(0.99),
            cpu / all.len() as f64 * 1e6
        );
    }
}

struct Papers {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Papers {
    fn new() -> Papers {
        let dir = tempfile::tempdir().expect("what the bench builds on works");
        let authority = Authority::create(dir.path(), CLUSTER, Validity::days(1))
            .expect("what the bench builds on works");
        Papers { dir, authority }
    }

    fn client(&self) -> TlsFiles {
        let issued = self
            .authority
            .client(ClientRole::Admin, "bench", Validity::days(1))
            .expect("what the bench builds on works");
        issued.write(self.dir.path(), "client").expect("what the bench builds on works")
    }

    fn start(&self, id: u64, actor: Box<dyn Actor>) -> Transport {
        let issued = self
            .authority
            .replica(ReplicaId::new(id), Validity::days(1))
            .expect("what the bench builds on works");
        let files =
            issued.write(self.dir.path(), &format!("replica-{id}")).expect("what the bench builds on works");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = TransportOptions::new(listen, ReplicaId::new(id), CLUSTER, files);
        Transport::bind(options)
            .expect("what the bench builds on works")
            .start(actor)
            .expect("what the bench builds on works")
    }

    /// Two replicas; the first is told of the second, and its bell is rung until they have met.
    fn pair(&self, one: Box<dyn Actor>, two: Box<dyn Actor>) -> (Transport, Transport) {
        let two = self.start(2, two);
        let address = two.local_addr().to_string();
        let one = self.start(1, Box::new(Meeting { other: Some(address), actor: one }));
        wait_for(|| one.stats().peers.iter().any(|peer| peer.is_connected));
        one.bell().ring();
        (one, two)
    }
}

/// Names replica 2 in the first turn.
struct Meeting {
    other: Option<String>,
    actor: Box<dyn Actor>,
}

impl Actor for Meeting {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        if let Some(address) = self.other.take() {
            network.set_peers(&[(ReplicaId::new(2), address)]);
        }
        self.actor.turn(network, arrivals)
    }
}

fn envelope(from: u64, to: u64, number: u64) -> Envelope {
    let member = |id| Member { id: ReplicaId::new(id), disk: DiskId::new(1) };
    Envelope {
        cluster: CLUSTER,
        from: member(from),
        to: member(to),
        epoch: Epoch::new(1),
        generation: number,
        message: Message::Stale,
    }
}

/// Keeps a window full.
struct Streamer {
    lane: Lane,
    peer: ReplicaId,
    acked: u64,
    sent: u64,
    group: Bytes,
    met: bool,
}

impl Actor for Streamer {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        for arrival in arrivals.drain(..) {
            if let Arrival::Message { envelope, .. } = arrival {
                self.acked = envelope.generation;
                self.met = true;
            }
        }
        if !self.met {
            // Nobody may be there yet: a little at a time, until the first is acknowledged.
            network.send(Lane::Control, &envelope(1, self.peer.get(), 0), &Bytes::new());
            return Some(Instant::now() + Duration::from_millis(5));
        }
        while self.sent - self.acked < WINDOW {
            self.sent += GROUP as u64;
            network.send(self.lane, &envelope(1, self.peer.get(), self.sent), &self.group);
        }
        None
    }
}

/// Acknowledges what comes.
struct Taker {
    received: Arc<AtomicU64>,
}

impl Actor for Taker {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        let mut newest = None;
        for arrival in arrivals.drain(..) {
            if let Arrival::Message { envelope, payload } = arrival {
                self.received.fetch_add(payload.len() as u64, Ordering::Relaxed);
                newest = newest.max(Some(envelope.generation));
            }
        }
        if let Some(newest) = newest {
            network.send(Lane::Control, &envelope(2, 1, newest), &Bytes::new());
        }
        None
    }
}

/// Asks, and asks again when it is answered.
struct Asker {
    asked: Option<Instant>,
    times: Sender<Duration>,
    payload: Bytes,
}

impl Actor for Asker {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        let now = Instant::now();
        let is_answered = arrivals.drain(..).any(|arrival| matches!(arrival, Arrival::Message { .. }));
        if is_answered && let Some(asked) = self.asked.take() {
            let _ = self.times.send(now - asked);
        }
        if self.asked.is_none_or(|asked| now - asked > Duration::from_millis(50)) {
            self.asked = Some(now);
            network.send(Lane::Bulk, &envelope(1, 2, 1), &self.payload);
        }
        Some(now + Duration::from_millis(60))
    }
}

struct Echo;

impl Actor for Echo {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        for arrival in arrivals.drain(..) {
            if matches!(arrival, Arrival::Message { .. }) {
                network.send(Lane::Control, &envelope(2, 1, 1), &Bytes::new());
            }
        }
        None
    }
}

/// Answers each request with nothing.
struct Answerer;

impl Actor for Answerer {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        for arrival in arrivals.drain(..) {
            if let Arrival::Asked { session, number, .. } = arrival {
                network.reply(session, number, &Reply::Done, &[]);
            }
        }
        None
    }
}

static ADDRESSES: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());

/// Beats every 30 ms, if it is the first; the others answer.
struct Heart {
    me: u64,
    next: Instant,
    is_told: bool,
}

impl Heart {
    fn new(me: u64) -> Heart {
        Heart { me, next: Instant::now(), is_told: false }
    }
}

impl Actor for Heart {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        if !self.is_told {
            let peers: Vec<_> =
                ADDRESSES.lock().iter().map(|(id, address)| (ReplicaId::new(*id), address.clone())).collect();
            network.set_peers(&peers);
            self.is_told = !peers.is_empty();
        }
        for arrival in arrivals.drain(..) {
            if let Arrival::Message { envelope: heard, .. } = arrival
                && self.me != 1
            {
                network.send(Lane::Control, &envelope(self.me, heard.from.id.get(), 1), &Bytes::new());
            }
        }
        if self.me != 1 {
            return None;
        }
        if Instant::now() >= self.next {
            self.next = Instant::now() + Duration::from_millis(30);
            for other in [2, 3] {
                network.send(Lane::Control, &envelope(1, other, 1), &Bytes::new());
            }
        }
        Some(self.next)
    }
}

/// A client that keeps so many requests outstanding, from the links' own thread.
struct Caller {
    times: Mutex<Vec<Duration>>,
    asked: Mutex<BTreeMap<u64, Instant>>,
    link: OnceLock<ClientLink>,
    outstanding: usize,
    is_over: Arc<AtomicBool>,
}

impl Caller {
    fn open(
        credentials: &Credentials,
        address: &str,
        outstanding: usize,
        is_over: Arc<AtomicBool>,
    ) -> Arc<Caller> {
        let caller = Arc::new(Caller {
            times: Mutex::default(),
            asked: Mutex::default(),
            link: OnceLock::new(),
            outstanding,
            is_over,
        });
        let events = Arc::new(Told(Arc::downgrade(&caller)));
        let link = ClientLink::open(credentials, address, LinkOptions::default(), events)
            .expect("what the bench builds on works");
        caller.link.set(link).expect("what the bench builds on works");
        for number in 0..caller.outstanding {
            caller.ask(number as u64);
        }
        caller
    }

    fn ask(&self, number: u64) {
        static PAYLOAD: [u8; SMALL] = [7; SMALL];
        self.asked.lock().insert(number, Instant::now());
        let payload = Bytes::from_static(&PAYLOAD);
        let _ = self.link.get().expect("what the bench builds on works").send(
            number,
            &Request::Status,
            &[payload],
        );
    }
}

/// Says that there was an answer.
struct Answered(Mutex<Sender<()>>);

impl LinkEvents for Answered {
    fn opened(&self, _: ReplicaId, _: ClientRole) {}

    fn replies(&self, _: &mut Vec<(u64, Reply, Bytes)>) {
        let _ = self.0.lock().send(());
    }

    fn closed(&self, _: TransportError) {}
}

struct Told(std::sync::Weak<Caller>);

impl LinkEvents for Told {
    fn opened(&self, _: ReplicaId, _: ClientRole) {}

    fn replies(&self, replies: &mut Vec<(u64, Reply, Bytes)>) {
        let Some(caller) = self.0.upgrade() else { return };
        for (number, ..) in replies.drain(..) {
            let asked = caller.asked.lock().remove(&number).expect("what the bench builds on works");
            caller.times.lock().push(asked.elapsed());
            if !caller.is_over.load(Ordering::Relaxed) {
                caller.ask(number);
            }
        }
    }

    fn closed(&self, error: TransportError) {
        assert!(self.0.upgrade().is_none(), "closed: {error}");
    }
}
