//! The client, its links and the cluster in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::cluster::{Entry, Replica, What};
use crate::client::machine::settings::Chance;
use crate::client::machine::{
    Act, Call, CallOutcome, Delivery, Feed, FeedId, LinkId, Machine, Place, Settings, Sink, Target,
};
use crate::protocol::request::{Copies, Reply, Request};
use crate::types::{Epoch, Lsn, ReplicaId};

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    /// Whether anything breaks.
    pub(super) is_rough: bool,
    pub(super) deadline_ms: u64,
    /// Whether producers are forgotten.
    pub(super) forgets: bool,
    /// Whether some appends ask for less than a commit, and some for more.
    pub(super) weak: bool,
    /// Whether an append may end in an error.
    pub(super) may_fail: bool,
}

impl Mix {
    pub(super) const QUIET: Mix =
        Mix { is_rough: false, deadline_ms: 20_000, forgets: false, weak: false, may_fail: false };
    pub(super) const ROUGH: Mix = Mix { is_rough: true, ..Mix::QUIET };
}

/// How long things break, and when a run is over, in ms.
pub(super) const TROUBLE_MS: u64 = 6_000;
const END_MS: u64 = 40_000;

#[derive(Debug)]
pub(super) enum Event {
    Client,
    Trouble,
    Connected(LinkId),
    Closed(LinkId),
    Ask { link: LinkId, number: u64, request: Arc<Request>, payload: Bytes },
    Tell { link: LinkId, number: u64, reply: Reply, payload: Bytes },
    Commit { replica: usize, epoch: Epoch, through: Lsn },
    Elect,
    Depose { replica: usize, epoch: Epoch },
    Restart(usize),
    Resume(usize),
    Feed { replica: usize, link: LinkId, number: u64, from: Lsn },
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) replica: usize,
    pub(super) is_cut: bool,
    /// Whether what was sent before a cut still arrives.
    pub(super) arrives: bool,
    pub(super) asks_at: Instant,
    pub(super) tells_at: Instant,
}

#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) records: Vec<u64>,
    pub(super) copies: Copies,
    pub(super) place: Place,
}

/// Collects what a subscription brings.
#[derive(Debug, Default)]
pub(super) struct Basket(pub(super) Mutex<Vec<(u64, u64)>>, Mutex<u64>);

impl Sink for Basket {
    fn deliver(&self, delivery: Delivery) {
        let (heads, payload) = delivery.expect("nothing is trimmed in a model");
        *self.1.lock() += payload.len() as u64;
        let values = payload.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        self.0.lock().extend(heads.iter().zip(values).map(|(head, value)| (head.lsn.get(), value)));
    }
}

pub(super) struct World {
    pub(super) mix: Mix,
    pub(super) chance: Chance,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) events: BTreeMap<(Instant, u64), Event>,
    pub(super) names: u64,
    pub(super) machine: Machine,
    pub(super) replicas: Vec<Replica>,
    /// Who really leads.
    pub(super) reign: Option<usize>,
    pub(super) epoch: Epoch,
    pub(super) truth: Vec<Entry>,
    pub(super) links: BTreeMap<LinkId, Connection>,
    /// What arrived at a replica that is paused.
    pub(super) held: Vec<(usize, Event)>,
    pub(super) appends: Vec<Tracked>,
    pub(super) calls: Vec<Arc<CallOutcome>>,
    pub(super) records: u64,
    pub(super) basket: Arc<Basket>,
    pub(super) feed: Option<FeedId>,
}

impl World {
    pub(super) fn new(mix: Mix, seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let start = Instant::now();
        let all: Vec<Arc<str>> = (1..=3).map(|id| format!("replica-{id}:1").into()).collect();
        let endpoints = if chance.below(2) == 0 { &all[..1] } else { &all[..] };
        let deadline = Duration::from_millis(mix.deadline_ms);
        let settings =
            Settings { deadline, unit_bytes: 200, in_flight_bytes_max: 4000, ..Settings::default() };
        World {
            mix,
            machine: Machine::new(settings, endpoints, chance.number()),
            chance,
            start,
            now: start,
            events: BTreeMap::new(),
            names: 0,
            replicas: (1..=3).map(Replica::new).collect(),
            reign: None,
            epoch: Epoch::default(),
            truth: vec![],
            links: BTreeMap::new(),
            held: vec![],
            appends: vec![],
            calls: vec![],
            records: 0,
            basket: Arc::default(),
            feed: None,
        }
    }

    pub(super) fn run(mut self) {
        self.after_us(0, 50_000, Event::Elect);
        self.after_us(0, 50_000, Event::Client);
        if self.mix.is_rough {
            self.after_us(50_000, 500_000, Event::Trouble);
        }
        let sink = Arc::clone(&self.basket) as Arc<dyn Sink>;
        let feed = Feed { target: Target::Primary, from: Lsn::FIRST, window: 4096, sink };
        self.feed = Some(self.machine.subscribe(self.now, feed));
        self.act();
        let end = self.start + Duration::from_millis(END_MS);
        let mut still = 0;
        while self.now < end && !self.is_over() {
            let next = self.events.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.machine.next_deadline().map(|at| at.max(self.now));
            let Some(at) = next.into_iter().chain(deadline).min() else { break };
            still = if at == self.now { still + 1 } else { 0 };
            assert!(still < 1000, "time stands still at {:?}", self.elapsed());
            self.now = at;
            if Some(at) == deadline && Some(at) != next {
                self.machine.drive(at);
            } else {
                let (_, event) = self.events.pop_first().unwrap();
                self.happen(event);
            }
            self.act();
        }
        self.judge();
    }

    /// Whether nothing more can come.
    fn is_over(&self) -> bool {
        let is_late = self.elapsed() > Duration::from_millis(TROUBLE_MS + 3_000);
        is_late && self.machine.is_idle() && {
            let records = self.truth.iter().filter_map(|entry| match &entry.what {
                What::Records { records, .. } => Some(records.len()),
                _ => None,
            });
            self.calls.iter().all(|call| call.look().is_some())
                && self.basket.0.lock().len() == records.sum::<usize>()
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.elapsed() < Duration::from_millis(TROUBLE_MS)
    }

    pub(super) fn draw_us(&mut self, min: u64, max: u64) -> Duration {
        Duration::from_micros(min + self.chance.below(max - min))
    }

    pub(super) fn after_us(&mut self, min: u64, max: u64, event: Event) {
        let at = self.now + self.draw_us(min, max);
        self.at(at, event);
    }

    pub(super) fn at(&mut self, at: Instant, event: Event) {
        self.names += 1;
        self.events.insert((at, self.names), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client => self.client(),
            Event::Trouble => self.trouble(),
            Event::Connected(link) => {
                let id = self
                    .links
                    .get(&link)
                    .filter(|line| !line.is_cut)
                    .map(|line| self.replicas[line.replica].id);
                if id.is_some() {
                    self.machine.connected(self.now, link, id);
                }
            }
            Event::Closed(link) => {
                self.links.remove(&link);
                self.machine.closed(self.now, link, &"cut".into());
            }
            Event::Ask { link, number, request, payload } => self.asked(link, number, request, payload),
            Event::Tell { link, number, reply, payload } => {
                if self.links.get(&link).is_some_and(|line| !line.is_cut) {
                    self.machine.reply(self.now, link, number, reply, payload);
                    self.machine.drive(self.now);
                }
            }
            Event::Commit { replica, epoch, through } => self.commit(replica, epoch, through),
            Event::Elect => self.elect(),
            Event::Depose { replica, epoch } => self.depose(replica, epoch),
            Event::Restart(replica) => self.replicas[replica].is_up = true,
            Event::Resume(replica) => {
                self.replicas[replica].is_paused = false;
                let held = self.held.extract_if(.., |(of, _)| *of == replica).collect::<Vec<_>>();
                held.into_iter().for_each(|(_, event)| self.happen(event));
            }
            Event::Feed { replica, link, number, from } => self.feed(replica, link, number, from),
        }
    }

    // --- the client --------------------------------------------------------------------------------------------

    fn client(&mut self) {
        let calm = !self.is_troubled();
        if self.elapsed() < Duration::from_millis(TROUBLE_MS + 2_000) {
            let burst = if self.chance.below(10) == 0 { 30 } else { 1 };
            (0..burst).for_each(|_| self.append());
            if self.chance.below(5) == 0 {
                self.call();
            }
            self.after_us(100, if calm { 20_000 } else { 40_000 }, Event::Client);
        }
        let read = std::mem::take(&mut *self.basket.1.lock());
        if let Some(feed) = self.feed {
            self.machine.consumed(feed, read);
        }
    }

    fn append(&mut self) {
        if self.machine.is_full() {
            return;
        }
        let count = if self.chance.below(4) == 0 { 1 + self.chance.below(4) } else { 1 };
        let records: Vec<u64> = (0..count).map(|number| self.records + number + 1).collect();
        self.records += count;
        let copies = match self.chance.below(8) {
            0 if self.mix.weak => Copies::Local,
            1 if self.mix.weak => Copies::All,
            _ => Copies::Quorum,
        };
        let bytes: Vec<[u8; 8]> = records.iter().map(|record| record.to_le_bytes()).collect();
        let slices = bytes.iter().map(|bytes| &bytes[..]);
        let place = self.machine.append(self.now, copies, slices, bytes.len() * 8);
        self.appends.push(Tracked { records, copies, place });
    }

    fn call(&mut self) {
        let request = match self.chance.below(4) {
            0 => Request::Status,
            1 => Request::Linearize,
            2 => Request::Read { from: Lsn::FIRST, bytes_max: 100 },
            _ => Request::Transfer { to: None },
        };
        let target = match (&request, self.chance.below(3)) {
            (Request::Linearize | Request::Transfer { .. }, _) | (_, 0) => Target::Primary,
            (_, 1) => Target::Any,
            _ => Target::Replica(ReplicaId::new(1 + self.chance.below(3))),
        };
        let deadline = self.now + Duration::from_millis(self.mix.deadline_ms);
        self.calls.push(self.machine.call(self.now, Call { target, request, deadline }));
    }

    fn act(&mut self) {
        while let Some(act) = self.machine.acts().pop_front() {
            match act {
                Act::Dial { link, address } => self.dial(link, &address),
                Act::Send { link, number, request, payload } => self.send(link, number, request, payload),
                Act::Hang { link } => {
                    self.links.remove(&link);
                }
                Act::Settle { outcome, result } => outcome.settle(result),
                Act::Answer { outcome, result } => outcome.settle(result),
                Act::Deliver { sink, delivery } => sink.deliver(delivery),
            }
        }
    }

    fn dial(&mut self, link: LinkId, address: &str) {
        let replica =
            (1..=3).find(|id| *address == format!("replica-{id}:1")).expect("an address that was told") - 1;
        if !self.replicas[replica].is_up
            || (self.mix.is_rough && self.is_troubled() && self.chance.below(10) == 0)
        {
            self.after_us(1_000, 2_000_000, Event::Closed(link));
            return;
        }
        let (asks_at, tells_at) = (self.now, self.now);
        self.links.insert(link, Connection { replica, is_cut: false, arrives: true, asks_at, tells_at });
        self.after_us(500, 5_000, Event::Connected(link));
    }

    fn send(&mut self, link: LinkId, number: u64, request: Arc<Request>, payload: Bytes) {
        let delay = self.draw_us(20, 2_000);
        let Some(line) = self.links.get_mut(&link).filter(|line| !line.is_cut) else { return };
        line.asks_at = line.asks_at.max(self.now + delay);
        let at = line.asks_at;
        self.at(at, Event::Ask { link, number, request, payload });
    }
}
