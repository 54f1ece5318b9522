//! A few replicas as a model: what can happen next, and what comes of it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use annals::protocol::{Config, Input, Member, Membership, Message, Quorums, Replica, Role, Rules, Voter};
use annals::{ClusterId, DiskId, Epoch, Lsn};
use stateright::{Model, Property};

use crate::promises;
use annals_fixtures::node::{Entry, Letter, Node, id};

/// The replicas, and how much may happen to them.
#[derive(Clone, Debug)]
pub(crate) struct Few {
    pub(crate) replicas: u8,
    pub(crate) rules: Rules,
    pub(crate) network: Network,
    /// Whether nobody leads at the beginning.
    pub(crate) is_fresh: bool,
    pub(crate) budget: Budget,
    /// From then on there is nothing beyond the states that are known: the walk ends, with any number of threads. The
    /// checker's own timeout is not looked at by a thread that has no company.
    pub(crate) until: Option<Instant>,
    /// Whether the walk is over: the ways to what it has found are gone once more, and they are what they were.
    pub(crate) is_over: Arc<AtomicBool>,
}

/// How messages travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Network {
    /// In the order in which they were sent, from each to each; lost only in a partition or a crash.
    Ordered,
    /// In any order, as late as may be, or never.
    Unordered,
}

/// How often something may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Budget {
    pub(crate) elections: u8,
    pub(crate) records: u8,
    pub(crate) crashes: u8,
    pub(crate) partitions: u8,
    pub(crate) beats: u8,
}

/// Replicas, messages on their way, and what an onlooker remembers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Arc<Node>>,
    network: Vec<Arc<Letter>>,
    /// Who is cut off from all others.
    cut_off: Option<usize>,
    left: Budget,
    /// Who has led in which epoch.
    pub(crate) reigns: BTreeMap<Epoch, usize>,
    /// All that any replica has ever shown as committed, and in which epoch that was first.
    pub(crate) committed: Vec<(Entry, Epoch)>,
    /// What no state can show afterwards.
    pub(crate) seen: Seen,
}

/// What was seen on the way to a state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) two_primaries: bool,
    pub(crate) two_records: bool,
    /// Somebody began to lead who did not have what was committed in an older epoch.
    pub(crate) poor_primary: bool,
}

/// Something that can happen next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// An election timeout passes for all who do not lead, and this one stands.
    Stand(usize),
    /// A client appends a record.
    Propose(usize),
    /// The log syncs.
    Sync(usize),
    /// The superblock syncs.
    SyncMeta(usize),
    /// A message arrives: from, to, its name, its place.
    Deliver(u64, u64, &'static str, usize),
    /// The primary's heartbeat falls due.
    Beat(usize),
    /// Power is lost, and back.
    Crash(usize),
    /// This one is cut off.
    CutOff(usize),
    /// Nobody is cut off any more.
    Heal,
}

impl Model for Few {
    type State = Cluster;
    type Action = Step;

    fn init_states(&self) -> Vec<Cluster> {
        let voters: Vec<Voter> = (1..=u64::from(self.replicas))
            .map(|number| Voter { member: member(number), priority: 0 })
            .collect();
        let first = Membership::first(voters.clone(), Quorums::Majority);
        let node = |voter: &Voter| {
            let mut config = Config::new(ClusterId::new(7), voter.member);
            config.rules = self.rules;
            Arc::new(Node::new(config, Some(first.clone())))
        };
        let mut cluster = Cluster {
            nodes: voters.iter().map(node).collect(),
            network: vec![],
            cut_off: None,
            left: Budget { elections: 1, ..self.budget },
            reigns: BTreeMap::new(),
            committed: vec![],
            seen: Seen::default(),
        };
        if !self.is_fresh {
            cluster.stand(0);
            while cluster.settle() {}
        }
        cluster.watch();
        cluster.left = self.budget;
        vec![cluster]
    }

    fn actions(&self, state: &Cluster, steps: &mut Vec<Step>) {
        // Relaxed: set when no thread walks any more.
        if !self.is_over.load(Ordering::Relaxed) && self.until.is_some_and(|until| until <= Instant::now()) {
            return;
        }
        let left = &state.left;
        for (index, node) in state.nodes.iter().enumerate() {
            let is_primary = state.role(index) == Some(Role::Primary);
            let may = [
                (left.elections > 0 && !is_primary, Step::Stand(index)),
                (left.records > 0 && is_primary, Step::Propose(index)),
                (node.owes_sync(), Step::Sync(index)),
                (node.owes_meta(), Step::SyncMeta(index)),
                (left.beats > 0 && is_primary, Step::Beat(index)),
                (left.crashes > 0, Step::Crash(index)),
                (left.partitions > 0 && state.cut_off.is_none() && self.replicas > 1, Step::CutOff(index)),
            ];
            steps.extend(may.into_iter().filter(|(may, _)| *may).map(|(_, step)| step));
        }
        if state.cut_off.is_some() {
            steps.push(Step::Heal);
        }
        for (index, letter) in state.network.iter().enumerate() {
            let (from, to) = ends(letter);
            let is_first = !state.network[..index].iter().any(|before| ends(before) == (from, to));
            if is_first || self.network == Network::Unordered {
                steps.push(Step::Deliver(from, to, letter.envelope.message.name(), index));
            }
        }
    }

    fn next_state(&self, last: &Cluster, step: Step) -> Option<Cluster> {
        let mut next = last.clone();
        match step {
            Step::Stand(index) => next.stand(index),
            Step::Propose(index) => {
                next.left.records -= 1;
                let token = u64::from(next.left.records);
                let text = format!("r{token}").into();
                next.at(index, |node| node.propose(token, &[text], None));
            }
            Step::Sync(index) => next.at(index, Node::sync),
            Step::SyncMeta(index) => next.at(index, Node::sync_meta),
            Step::Deliver(_, _, _, index) => next.deliver(index),
            Step::Beat(index) => {
                next.left.beats -= 1;
                let heartbeat = last.nodes[index].config.timing.heartbeat;
                next.at(index, |node| node.pass(heartbeat));
            }
            Step::Crash(index) => {
                next.left.crashes -= 1;
                next.at(index, |node| {
                    node.crash();
                    node.start();
                });
            }
            Step::CutOff(index) => {
                next.left.partitions -= 1;
                next.cut_off = Some(index);
            }
            Step::Heal => next.cut_off = None,
        }
        next.watch();
        if self.network == Network::Unordered {
            next.forget_order();
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Few>> {
        promises::all()
    }
}

impl Cluster {
    /// What a replica is; nothing if it is down.
    pub(crate) fn role(&self, index: usize) -> Option<Role> {
        self.nodes[index].replica.as_ref().map(|replica| replica.status().role)
    }

    /// Something happens at one replica; what it sends is on its way.
    fn at(&mut self, index: usize, what: impl FnOnce(&mut Node)) {
        let node = Arc::make_mut(&mut self.nodes[index]);
        what(node);
        // Who asked for what is no matter here, and would only make more states.
        node.told.outcomes.clear();
        let sent: Vec<Letter> = node.outbox.drain(..).collect();
        for letter in sent {
            let (from, to) = ends(&letter);
            if !self.is_cut(from, to) {
                self.network.push(Arc::new(letter));
            }
        }
    }

    fn deliver(&mut self, index: usize) {
        let letter = self.network.remove(index);
        let (from, to) = ends(&letter);
        if !self.is_cut(from, to) {
            self.at(place(to), |node| node.receive(&letter));
        }
    }

    /// An election timeout passes for all who do not lead, and one of them asks for pre-votes. These arrive at once,
    /// and refusals are dropped: neither changes anything. What was granted travels like any other message.
    fn stand(&mut self, index: usize) {
        self.left.elections -= 1;
        for other in 0..self.nodes.len() {
            if self.role(other) != Some(Role::Primary) {
                let silence = self.nodes[other].config.timing.election_min + Duration::from_nanos(1);
                let node = Arc::make_mut(&mut self.nodes[other]);
                node.now = node.now.plus(silence);
            }
        }
        self.at(index, |node| node.give(Input::Promote { token: 0 }));
        let is_pre = |letter: &Arc<Letter>| matches!(letter.envelope.message, Message::PreVote { .. });
        while let Some(index) = self.network.iter().position(is_pre) {
            self.deliver(index);
        }
        self.network.retain(|letter| {
            !matches!(letter.envelope.message, Message::PreVoteReply { granted: false, .. })
        });
    }

    /// One of the things that would happen anyway; false if there is none.
    fn settle(&mut self) -> bool {
        for index in 0..self.nodes.len() {
            if self.nodes[index].owes_meta() || self.nodes[index].owes_sync() {
                self.at(index, |node| {
                    node.sync_meta();
                    node.sync();
                });
                return true;
            }
        }
        let is_some = !self.network.is_empty();
        if is_some {
            self.deliver(0);
        }
        is_some
    }

    /// An onlooker remembers who led, and what was committed.
    fn watch(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(status) = node.replica.as_ref().map(Replica::status) else { continue };
            if status.role == Role::Primary && self.reigns.get(&status.epoch) != Some(&index) {
                self.seen.two_primaries |= self.reigns.insert(status.epoch, index).is_some();
                let has_all = self.committed.iter().zip(1..).all(|((entry, epoch), lsn)| {
                    *epoch >= status.epoch || node.log.at(Lsn::new(lsn)) == Some(entry)
                });
                self.seen.poor_primary |= !has_all;
            }
            for (lsn, place) in (1..=node.told.committed.get()).zip(0..) {
                let Some(entry) = node.log.at(Lsn::new(lsn)) else { continue };
                match self.committed.get(place) {
                    Some((before, _)) => self.seen.two_records |= before != entry,
                    None => self.committed.push((entry.clone(), status.epoch)),
                }
            }
        }
    }

    /// Messages that may arrive in any order have none.
    fn forget_order(&mut self) {
        self.network.sort_by_cached_key(|letter| {
            let mut hasher = DefaultHasher::new();
            letter.hash(&mut hasher);
            hasher.finish()
        });
        self.network.dedup();
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut_off.is_some_and(|index| index == place(from) || index == place(to))
    }
}

fn member(number: u64) -> Member {
    Member { id: id(number), disk: DiskId::new(u128::from(number)) }
}

fn ends(letter: &Letter) -> (u64, u64) {
    (letter.envelope.from.id.get(), letter.envelope.to.id.get())
}

/// Where the replica with this number stands.
fn place(number: u64) -> usize {
    usize::try_from(number - 1).expect("numbers are small, from 1")
}
