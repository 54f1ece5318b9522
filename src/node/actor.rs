//! The node: takes its turns on the network's thread, and owns the driver. Everything here is done by that one thread, and
//! nothing of it waits.
//!
//! `actor.rs` is the turn; `actor/asks.rs` takes what clients and handles ask, `actor/acts.rs` does what the driver wants
//! done, `actor/notes.rs` reads what the other threads have left, `actor/upkeep.rs` snapshots and trims, and
//! `actor/report.rs` tells how it is.

mod acts;
mod asks;
mod commits;
mod notes;
mod pauses;
mod report;
mod sessions;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender};

use self::commits::Commits;
use self::pauses::Pauses;
use self::sessions::Session;
pub(crate) use self::upkeep::Upkeep;
use super::apply::{Applied, ApplyNote};
use super::disk::{DiskNote, Pulse};
use super::driver::{Driver, DriverOptions, Input, Task};
use super::identity::Peers;
use super::mail::{Asker, Mail, Note};
use super::observe;
use super::readers::{Audience, Key, ReadNote};
use super::shown::Shown;
use super::tokens::Tokens;
use crate::protocol::request::{DiskHealth, Reply};
use crate::protocol::{Config, Halt, Member, Time};
use crate::transport::{Actor, Arrival, Network, SessionId};
use crate::types::{Lsn, ReplicaId};

/// Over so many bytes that wait to be sent to a client, its subscriptions and reads wait.
const BACKLOG_BYTES: u64 = 1 << 20;
/// While subscriptions wait for their client, it is looked at so often.
const BACKLOG_LOOK: Duration = Duration::from_millis(5);

/// The node, as an actor of the transport.
pub(crate) struct Node {
    me: Member,
    config: Config,
    options: DriverOptions,
    origin: Instant,
    driver: Driver,
    /// Where the store stands.
    store: Store,
    pauses: Pauses,
    /// Tasks for the disk that were decided on in this turn, and then what is to be read for peers: it may be of what is
    /// written only now.
    tasks: Vec<Task>,
    reads: Vec<Task>,
    ways: Ways,
    tokens: Tokens,
    /// What is answered once what this turn has committed is shown.
    answers: Vec<(Asker, Reply)>,
    /// Those who wait until what they may read is shown here.
    linear: Vec<(Lsn, Asker)>,
    sessions: HashMap<SessionId, Session>,
    /// Subscriptions, and reads after a large answer, that wait until their client has read more.
    held: Vec<Key>,
    /// Everything up to here is committed, as the driver says.
    commit: Lsn,
    upkeep: Upkeep,
    /// Where others find this replica.
    address: Option<String>,
    peers: Peers,
    /// Whose connection is lost, and who has said nothing since.
    lost: BTreeSet<ReplicaId>,
    commits: Commits,
    /// Whether the network has not been told yet who the others are.
    peers_changed: bool,
    halted: Option<Halt>,
    health: DiskHealth,
    /// Whether it was told to shut down.
    is_ending: bool,
}

/// The ways to the other threads, and what is shared with them.
pub(crate) struct Ways {
    pub(crate) mail: Arc<Mail>,
    pub(crate) notes: Receiver<Note>,
    pub(crate) disk: Sender<DiskNote>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) feed: Sender<Task>,
    pub(crate) apply: Sender<ApplyNote>,
    pub(crate) applied: Arc<Applied>,
    pub(crate) readers: Sender<ReadNote>,
    pub(crate) audience: Arc<Audience>,
    pub(crate) shown: Arc<Shown>,
}

/// Where the store stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Store {
    /// The driver's tasks go to it.
    Open,
    /// It is being opened again; nothing is done until then.
    Opening,
    /// Its thread has panicked: this replica does nothing any more.
    Gone,
    /// It has failed, and is tried again at that time.
    Failed {
        /// When.
        until: Instant,
    },
}

impl Node {
    pub(crate) fn new(
        (config, options): (Config, DriverOptions),
        (driver, origin): (Driver, Instant),
        ways: Ways,
        upkeep: Upkeep,
        (address, peers): (Option<String>, Peers),
    ) -> Node {
        Node {
            me: config.me,
            config,
            options,
            origin,
            driver,
            store: Store::Open,
            pauses: Pauses::default(),
            tasks: Vec::new(),
            reads: Vec::new(),
            ways,
            tokens: Tokens::default(),
            answers: Vec::new(),
            linear: Vec::new(),
            sessions: HashMap::new(),
            held: Vec::new(),
            commit: Lsn::ZERO,
            upkeep,
            address,
            peers,
            lost: BTreeSet::new(),
            commits: Commits::default(),
            peers_changed: true,
            halted: None,
            health: DiskHealth::Good,
            is_ending: false,
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn arrive(&mut self, network: &mut dyn Network, arrival: Arrival) {
        match arrival {
            // While the store is opened again, this replica is as one that is down.
            Arrival::Message { .. } if self.store != Store::Open => {}
            Arrival::Message { envelope, payload } => {
                if !self.lost.is_empty() {
                    self.lost.remove(&envelope.from.id);
                }
                self.driver.message(self.now(), envelope, payload);
            }
            Arrival::Opened { session, role } => drop(self.sessions.insert(session, Session::new(role))),
            Arrival::Asked { session, number, request, payload } => {
                let Some(role) = self.sessions.get(&session).map(|known| known.role) else { return };
                let asker = Asker::Client { session, number };
                self.ask(network, (asker, role), request, payload);
            }
            Arrival::Closed { session } => {
                self.sessions.remove(&session);
                self.held.retain(|(of, _)| *of != session);
                self.tell_readers(ReadNote::Closed(session));
            }
            Arrival::PeerLost { id } => {
                self.lost.insert(id);
                self.driver.input(self.now(), Input::PeerLost { id });
            }
            Arrival::PeerAddress { id, address } => self.peer_moved(id, address),
        }
    }

    /// Answers whoever has asked. A client that is gone is not told.
    fn answer(&self, network: &mut dyn Network, asker: Asker, reply: Reply, pieces: &[Bytes]) {
        match asker {
            Asker::Client { session, number } if self.sessions.contains_key(&session) => {
                network.reply(session, number, &reply, pieces);
            }
            Asker::Client { .. } => {}
            Asker::Local(promise) => promise.keep(Ok(reply)),
        }
    }

    /// Time has passed.
    fn keep_time(&mut self, network: &mut dyn Network) {
        let now = self.now();
        if self.store == Store::Open && self.driver.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.driver.tick(now);
        }
        if let Store::Failed { until } = self.store
            && until <= Instant::now()
        {
            self.reopen(false, false);
        }
        let held = std::mem::take(&mut self.held);
        for key in held {
            self.delivered(network, key);
        }
    }

    /// A part of a subscription, or a large answer, is on its way: the next one may come, once the client keeps up.
    fn delivered(&mut self, network: &dyn Network, key: Key) {
        if network.backlog_bytes(key.0) > BACKLOG_BYTES {
            self.held.push(key);
        } else {
            self.tell_readers(ReadNote::Delivered(key));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let driver = self.driver.next_deadline().filter(|_| self.store == Store::Open);
        let driver = driver.map(|time| self.origin + Duration::from_nanos(time.nanos()));
        let reopen = match self.store {
            Store::Failed { until } => Some(until),
            Store::Open | Store::Opening | Store::Gone => None,
        };
        let look = (!self.held.is_empty()).then(|| Instant::now() + BACKLOG_LOOK);
        driver.into_iter().chain(reopen).chain(look).min()
    }

    fn tell_readers(&self, note: ReadNote) {
        // It ends after this node, unless it has panicked; then there are no replies, and nothing to be done about it.
        let _ = self.ways.readers.send(note);
    }

    fn tell_feeder(&self, task: Task) {
        // As for the readers: peers are not fed then, and find another primary.
        let _ = self.ways.feed.send(task);
    }

    fn tell_disk(&self, note: DiskNote) {
        // As for the readers; that nothing becomes durable any more is noticed by the core (S12).
        let _ = self.ways.disk.send(note);
    }

    fn tell_apply(&self, note: ApplyNote) {
        let _ = self.ways.apply.send(note);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Also when a turn has panicked: nobody would wake those who wait for more records.
        self.ways.shown.close();
    }
}

impl Actor for Node {
    fn turn(&mut self, network: &mut dyn Network, arrivals: &mut Vec<Arrival>) -> Option<Instant> {
        self.ways.mail.answered();
        for arrival in arrivals.drain(..) {
            self.arrive(network, arrival);
        }
        // What is left from now on is for the next turn.
        for _ in 0..self.ways.notes.len() {
            let Ok(note) = self.ways.notes.try_recv() else { break };
            self.read_note(network, note);
        }
        self.keep_time(network);
        self.act(network);
        self.keep_up(network);
        if std::mem::take(&mut self.peers_changed) {
            let peers: BTreeMap<_, _> = self.peers.addresses.clone();
            network.set_peers(&peers.into_iter().collect::<Vec<_>>());
        }
        self.look_at_disk();
        self.deadline()
    }
}

impl Node {
    /// Tells if the disk has begun to stand still, or goes on.
    fn look_at_disk(&mut self) {
        let health = self.disk_health();
        if health != self.health {
            self.health = health;
            observe::disk_health(self.me, health);
        }
    }
}
