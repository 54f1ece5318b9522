//! The world: a queue of events in virtual time, and the order in which they happen.
//!
//! One thread, one seed. Events are ordered by (time, sequence), so that the same seed is the same run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use annals::node::DriverOptions;
use annals::protocol::{
    Base, Config, Envelope, FailoverPolicy, Limits, Member, Membership, Outcome, Start, Voter,
};
use annals::{ClusterId, DiskId, ReplicaId};
use bytes::Bytes;

use crate::client::Client;
use crate::copies::OldCopy;
use crate::driver::{Local, Told};
use crate::faults::Undo;
use crate::invariants::{Check, Violation};
use crate::ledger::Ledger;
use crate::mix::Mix;
use crate::network::Network;
use crate::node::Node;
use crate::oracle::Oracle;
use crate::record::mix;
use crate::seeds::Chance;
use crate::storage::Storage;
use crate::trace::Trace;
use crate::trouble::is_failure;

pub(crate) const MS: u64 = 1_000_000;
/// The cluster that all replicas are of.
pub(crate) const CLUSTER: ClusterId = ClusterId::new(0xA77A15);

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    Arrive { from: usize, to: usize, life: u64, envelope: Box<Envelope>, payload: Bytes },
    Timer { node: usize, at: u64 },
    Local { node: usize, life: u64, what: Box<Local> },
    Client(usize),
    Answer { client: usize, token: u64, outcome: Option<Outcome> },
    Fault,
    Undo(Undo),
    Start { node: usize },
    Heal,
    Settle,
}

struct Due {
    at: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Due>>,
    pub(crate) mix: Mix,
    pub(crate) draw: Chance,
    pub(crate) nodes: Vec<Node>,
    /// Disks that were taken out of the world, with all that was on them.
    pub(crate) retired: Vec<Ledger>,
    /// What is put back of the first replica one day.
    pub(crate) old: Option<OldCopy>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) tokens: u64,
    pub(crate) payloads: u64,
    pub(crate) disks: u64,
    /// The change that the operator waits for, and since when.
    pub(crate) order: Option<(u64, u64)>,
    pub(crate) newest_sent: Option<(Envelope, Bytes)>,
    /// The append that shows that the cluster serves again.
    pub(crate) proof: Option<u64>,
    pub(crate) proof_asked: u64,
    pub(crate) is_proved: bool,
    pub(crate) healed_at: u64,
    pub(crate) is_healed: bool,
    pub(crate) is_settled: bool,
    pub(crate) violation: Option<Violation>,
}

/// How a run has ended.
pub(crate) struct Ending {
    pub(crate) violation: Option<Violation>,
    pub(crate) world: World,
}

impl World {
    pub(crate) fn new(seed: u64, mix: Mix, is_traced: bool) -> World {
        let mut draw = Chance::new(seed);
        let network = Network::new(mix.nodes + mix.spares, Chance::new(draw.next()));
        let mut world = World {
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            draw,
            nodes: vec![],
            retired: vec![],
            old: None,
            network,
            clients: vec![],
            oracle: Oracle::default(),
            trace: Trace::new(is_traced),
            tokens: 0,
            payloads: seed << 24,
            disks: 0,
            order: None,
            newest_sent: None,
            proof: None,
            proof_asked: 0,
            is_proved: false,
            healed_at: 0,
            is_healed: false,
            is_settled: false,
            violation: None,
            mix,
        };
        world.people();
        world
    }

    /// Puts replicas and clients into the world.
    fn people(&mut self) {
        self.network.weather = self.mix.weather;
        let voters: Vec<Voter> = (0..self.mix.nodes).map(|at| self.voter(at)).collect();
        let membership = Membership::first(voters.clone(), self.mix.quorums);
        let first = Base { membership: Some(membership.into()), ..Base::default() };
        let options = self.options();
        for at in 0..self.mix.nodes + self.mix.spares {
            let voter = voters.get(at).copied();
            let is_spare = voter.is_none();
            let member = voter.map_or_else(|| self.fresh(at), |voter| voter.member);
            let base = if is_spare { Base::default() } else { first.clone() };
            let config = self.config(member, if is_spare { Start::Newcomer } else { Start::Member });
            let drift = self.mix.drift_ppm;
            let drift = self.draw.below(2 * drift as u64 + 1) as i64 - drift;
            let storage = self.mix.is_real.then(|| Storage::create(self.draw.next(), member, &base));
            let mut node = Node::new(config, Ledger::new(member, base), drift, &mut self.draw);
            node.storage = storage;
            node.options = options;
            self.nodes.push(node);
            let start = self.draw.below(50 * MS);
            self.at(start, Event::Start { node: at });
        }
        for at in 0..self.mix.clients {
            let client = Client::draw(at, &self.mix, &mut self.draw);
            self.clients.push(client);
            let start = self.draw.between(100 * MS, 500 * MS);
            self.at(start, Event::Client(at));
        }
        let first = self.draw.between(300 * MS, 800 * MS);
        self.at(first, Event::Fault);
        self.at(self.mix.run_ms * MS, Event::Heal);
    }

    fn voter(&mut self, at: usize) -> Voter {
        Voter { member: self.fresh(at), priority: self.draw.below(4) as u8 }
    }

    /// The replica at this place with a disk that nobody has seen before.
    pub(crate) fn fresh(&mut self, at: usize) -> Member {
        self.disks += 1;
        let id = ReplicaId::new(at as u64 + 1);
        Member { id, disk: DiskId::new((u128::from(id.get()) << 64) + u128::from(self.disks)) }
    }

    pub(crate) fn config(&mut self, me: Member, start: Start) -> Config {
        let limits = Limits {
            window_bytes: self.mix.window_bytes,
            uncommitted_bytes_max: 64 << 10,
            chunk_bytes: 1 << 10,
            catch_up_bytes_per_s: self.mix.catch_up_bytes_per_s,
            group_bytes_max: 64 << 10,
            producers_max: self.mix.producers_max,
            waiting_max: 64,
        };
        Config {
            limits,
            policy: self.mix.policy,
            lease_drift_ppm: self.mix.lease_drift_ppm,
            start,
            rules: self.mix.rules,
            seed: self.draw.next(),
            ..Config::new(CLUSTER, me)
        }
    }

    /// How the drivers of this run gather: the seed says, without a draw.
    fn options(&self) -> DriverOptions {
        let seed = mix(self.payloads, 17);
        DriverOptions {
            depth: [1, 2, 2, 4][seed as usize % 4],
            gather_bytes: [500, 4 << 10, 256 << 10][(seed >> 8) as usize % 3],
            group_bytes: [1 << 10, 1 << 20][(seed >> 16) as usize % 2],
            held_bytes_max: [300, 16 << 20][(seed >> 24) as usize % 2],
        }
    }

    /// Something is to happen at this time.
    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        let at = at.max(self.now);
        self.queue.push(Reverse(Due { at, sequence: self.sequence, event }));
    }

    /// Something is to happen after so long.
    pub(crate) fn after(&mut self, nanos: u64, event: Event) {
        self.at(self.now + nanos, event);
    }

    /// The replica with this id.
    pub(crate) fn place(&self, id: ReplicaId) -> Option<usize> {
        let place = id.get().checked_sub(1)? as usize;
        (place < self.nodes.len()).then_some(place)
    }

    /// Everything that happens, until the cluster has settled or a promise is broken.
    pub(crate) fn run(mut self) -> Ending {
        while self.violation.is_none() && !self.is_settled {
            let Some(Reverse(due)) = self.queue.pop() else { break };
            self.now = due.at;
            let outcome = self.happen(due.event);
            self.judge(outcome);
        }
        Ending { violation: self.violation.take(), world: self }
    }

    /// Keeps the first promise that was broken.
    pub(crate) fn judge(&mut self, check: Check) {
        let Err(violation) = check else { return };
        if is_failure(&violation) {
            self.disks_failed(&violation);
        } else if self.violation.is_none() {
            self.trace.note(self.now, || violation.to_string());
            self.violation = Some(violation);
        }
    }

    fn happen(&mut self, event: Event) -> Check {
        let node = match &event {
            Event::Arrive { to: node, .. } | Event::Timer { node, .. } | Event::Local { node, .. } => {
                Some(*node)
            }
            _ => None,
        };
        if let Some(node) = node.filter(|&node| self.nodes[node].is_paused) {
            // A stopped process finds what came in the meantime, as far as buffers hold it.
            if self.nodes[node].held.len() < 300 || !matches!(event, Event::Arrive { .. }) {
                self.nodes[node].held.push(event);
            }
            return Ok(());
        }
        match event {
            Event::Arrive { from, to, life, envelope, payload } => {
                self.arrive((from, to), life, *envelope, payload)
            }
            Event::Timer { node, at } if self.nodes[node].timer == at => {
                self.nodes[node].timer = u64::MAX;
                self.feed(node, Told::Tick)
            }
            Event::Local { node, life, what } if self.nodes[node].life == life => self.local(node, *what),
            Event::Timer { .. } | Event::Local { .. } => Ok(()),
            Event::Client(client) => self.client(client),
            Event::Answer { client, token, outcome } => {
                self.answer(client, token, outcome);
                Ok(())
            }
            Event::Fault => self.fault(),
            Event::Undo(undo) => self.undo(undo),
            Event::Start { node } => self.start(node),
            Event::Heal => self.heal(),
            Event::Settle => self.settle(),
        }
    }

    fn arrive(&mut self, link: (usize, usize), life: u64, envelope: Envelope, payload: Bytes) -> Check {
        if !self.network.arrives(link, life) || !self.nodes[link.1].is_up() {
            return Ok(());
        }
        let tampers = self.draw.below(1000) < self.mix.tampers;
        let payload = if tampers { tamper(&payload, self.draw.next()) } else { payload };
        let dropped =
            |world: &World| world.nodes[link.1].driver.as_ref().map(|driver| driver.counts().bad_payloads);
        let before = dropped(self);
        self.feed(link.1, Told::Message(envelope, payload))?;
        // The node drops a message whose bytes were changed, as if it had been lost.
        self.oracle.tally.tampered += u64::from(dropped(self) > before);
        Ok(())
    }

    /// Whether the operator has to say who leads.
    pub(crate) fn is_manual(&self) -> bool {
        self.mix.policy == FailoverPolicy::Manual
    }
}

/// One of the bytes that travel with a message changes in somebody's memory.
fn tamper(payload: &Bytes, draw: u64) -> Bytes {
    let mut bytes = payload.to_vec();
    if let Some(place) = draw.checked_rem(bytes.len() as u64) {
        bytes[place as usize] ^= 1 << (draw >> 61);
    }
    bytes.into()
}
