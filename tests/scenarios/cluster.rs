//! A cluster of nodes with a network between them, all of it a value.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use annals::protocol::{
    Config, FailoverPolicy, Input, Limits, Member, Membership, Quorums, Role, Rules, Start, Timing, Voter,
};
use annals::{ClusterId, DiskId, Epoch, Lsn};

use crate::story::{Done, Trouble};
use crate::words;
use annals_fixtures::node::{Disk, Entry, Kind, Letter, Node, id};

/// Steps after which a cluster that still has something to do goes round in circles.
const STEPS_MAX: usize = 20_000;

/// How often `elect` tries: a replica that was away learns of newer epochs by being refused.
const ELECTIONS_MAX: usize = 3;

/// What replicas that are still to be started are told.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    pub(crate) policy: FailoverPolicy,
    pub(crate) lease_drift_ppm: Option<u32>,
    pub(crate) quorums: Quorums,
    pub(crate) priorities: BTreeMap<u64, u8>,
}

/// Nodes, and messages between them.
pub(crate) struct Cluster {
    rules: Rules,
    pub(crate) settings: Settings,
    pub(crate) nodes: BTreeMap<u64, Node>,
    /// In the order in which they were sent.
    pub(crate) network: VecDeque<Letter>,
    pub(crate) cuts: BTreeSet<(u64, u64)>,
    /// Which messages `settle` leaves alone: from, to, and name if not all.
    pub(crate) held: Vec<(u64, u64, Option<String>)>,
    pub(crate) stalled: BTreeSet<u64>,
    /// Disks as they were when they were copied.
    pub(crate) copies: BTreeMap<u64, Disk>,
    /// Names of answers: which node was asked, and the token.
    pub(crate) names: BTreeMap<String, (u64, u64)>,
    tokens: u64,
    /// Who has been primary in which epoch.
    reigns: BTreeMap<Epoch, u64>,
    /// All that any node has ever shown as committed, from LSN 1.
    committed: Vec<Entry>,
}

impl Cluster {
    pub(crate) fn new(rules: Rules) -> Cluster {
        Cluster {
            rules,
            settings: Settings {
                timing: Timing::default(),
                limits: Limits::default(),
                policy: FailoverPolicy::default(),
                lease_drift_ppm: None,
                quorums: Quorums::default(),
                priorities: BTreeMap::new(),
            },
            nodes: BTreeMap::new(),
            network: VecDeque::new(),
            cuts: BTreeSet::new(),
            held: vec![],
            stalled: BTreeSet::new(),
            copies: BTreeMap::new(),
            names: BTreeMap::new(),
            tokens: 0,
            reigns: BTreeMap::new(),
            committed: vec![],
        }
    }

    /// Starts the first voters.
    pub(crate) fn begin(&mut self, ids: &[u64]) {
        let voters = ids.iter().map(|&number| {
            let priority = self.settings.priorities.get(&number).copied().unwrap_or(0);
            Voter { member: member(number), priority }
        });
        let first = Membership::first(voters.collect(), self.settings.quorums);
        for &number in ids {
            let node = Node::new(self.config(number, Start::Member), Some(first.clone()));
            self.nodes.insert(number, node);
        }
    }

    /// Starts a replica with an empty disk.
    pub(crate) fn begin_empty(&mut self, number: u64, start: Start) {
        let node = Node::new(self.config(number, start), None);
        self.nodes.insert(number, node);
    }

    fn config(&self, number: u64, start: Start) -> Config {
        let mut config = Config::new(ClusterId::new(7), member(number));
        config.timing = self.settings.timing;
        config.limits = self.settings.limits;
        config.policy = self.settings.policy;
        config.lease_drift_ppm = self.settings.lease_drift_ppm;
        config.rules = self.rules;
        config.start = start;
        config
    }

    /// A new token for something that is asked of a node, under this name if it has one.
    pub(crate) fn token(&mut self, node: u64, name: Option<&str>) -> u64 {
        self.tokens += 1;
        if let Some(name) = name {
            self.names.insert(name.to_owned(), (node, self.tokens));
        }
        self.tokens
    }

    pub(crate) fn node(&mut self, number: u64) -> Done<&mut Node> {
        self.nodes.get_mut(&number).ok_or_else(|| Trouble::Syntax(format!("there is no replica {number}")))
    }

    /// Takes what the nodes have sent.
    pub(crate) fn collect(&mut self) {
        for node in self.nodes.values_mut() {
            self.network.extend(node.outbox.drain(..));
        }
    }

    /// The place of the first message on this way that is like this.
    pub(crate) fn find(&self, from: u64, to: u64, like: &[&str]) -> Done<usize> {
        let is_it =
            |letter: &Letter| ends(letter) == (from, to) && words::are_in(like, &words::of_letter(letter));
        self.network.iter().position(is_it).ok_or_else(|| {
            Trouble::Mismatch(format!(
                "there is no such message; from {from} to {to}:\n{}",
                self.letters(from, to)
            ))
        })
    }

    /// All messages on this way, one on each line.
    pub(crate) fn letters(&self, from: u64, to: u64) -> String {
        let all = self.network.iter().filter(|letter| ends(letter) == (from, to)).map(words::of_letter);
        let lines: Vec<String> = all.collect();
        if lines.is_empty() { "none".to_owned() } else { lines.join("\n") }
    }

    /// A message arrives, or is lost on a way that is cut or at a replica that is down.
    pub(crate) fn deliver(&mut self, index: usize) {
        let Some(letter) = self.network.remove(index) else { return };
        let (from, to) = ends(&letter);
        let is_cut = self.cuts.contains(&(from, to));
        if let Some(node) = self.nodes.get_mut(&to).filter(|_| !is_cut) {
            node.receive(&letter);
        }
        self.collect();
    }

    /// Delivers and syncs until nothing is left to do. No time passes.
    pub(crate) fn settle(&mut self) -> Done {
        for _ in 0..STEPS_MAX {
            self.collect();
            let mut is_quiet = true;
            for (number, node) in &mut self.nodes {
                let is_moving = !self.stalled.contains(number);
                if is_moving && node.owes_meta() {
                    is_quiet = false;
                    node.sync_meta();
                }
                if is_moving && node.owes_sync() {
                    is_quiet = false;
                    node.sync();
                }
            }
            self.collect();
            let held = &self.held;
            let is_held = |letter: &Letter| {
                held.iter().any(|(from, to, name)| {
                    let is_named = name.as_ref().is_none_or(|name| name == letter.envelope.message.name());
                    ends(letter) == (*from, *to) && is_named
                })
            };
            if let Some(index) = self.network.iter().position(|letter| !is_held(letter)) {
                is_quiet = false;
                self.deliver(index);
            }
            if is_quiet {
                return Ok(());
            }
        }
        Err(Trouble::Mismatch(format!(
            "there is no end to it: {STEPS_MAX} steps, and still messages:\n{}",
            self.traffic()
        )))
    }

    /// One replica leads: nobody hears a primary for an election timeout, it stands, and everything settles.
    pub(crate) fn elect(&mut self, number: u64) -> Done {
        let silence = self.settings.timing.election_min;
        for _ in 0..ELECTIONS_MAX {
            let is_primary = |node: &Node| words::are_in(&["primary"], &words::of_node(node));
            for node in self.nodes.values_mut().filter(|node| !is_primary(node)) {
                node.now = node.now.plus(silence);
            }
            let token = self.token(number, None);
            self.node(number)?.give(Input::Promote { token });
            self.settle()?;
            if words::are_in(&["primary"], &words::of_node(self.node(number)?)) {
                return Ok(());
            }
        }
        Err(Trouble::Mismatch(format!("it was not elected: {}", words::of_node(self.node(number)?))))
    }

    fn traffic(&self) -> String {
        let shown = self.network.iter().take(20).map(|letter| {
            let (from, to) = ends(letter);
            format!("{from}->{to} {}", words::of_letter(letter))
        });
        shown.collect::<Vec<_>>().join("\n")
    }

    /// All clocks run, and everything settles at each deadline; until `node` is like `like`, if that is given.
    pub(crate) fn pass(&mut self, time: Duration, until: Option<(u64, &[&str])>) -> Done {
        let mut left = time;
        loop {
            self.settle()?;
            self.check()?;
            let is_there = |(number, like): (u64, &[&str])| {
                self.nodes.get(&number).is_some_and(|node| words::are_in(like, &words::of_node(node)))
            };
            match until {
                Some(until) if is_there(until) => return Ok(()),
                Some((number, _)) if left.is_zero() => {
                    let is = words::of_node(self.node(number)?);
                    return Err(Trouble::Mismatch(format!("after {time:?} replica {number} is {is}")));
                }
                None if left.is_zero() => return Ok(()),
                _ => {}
            }
            let next = self.nodes.values().filter_map(|node| Some(node.deadline()?.since(node.now))).min();
            let step = next.unwrap_or(left).max(Duration::from_micros(10)).min(left);
            self.nodes.values_mut().for_each(|node| node.pass(step));
            left -= step;
        }
    }

    /// What must never happen, whatever the story.
    pub(crate) fn check(&mut self) -> Done {
        for (&number, node) in &self.nodes {
            if let Some(outrage) = &node.told.outrage {
                return Err(Trouble::Mismatch(outrage.clone()));
            }
            let Some(status) = node.replica.as_ref().map(annals::protocol::Replica::status) else { continue };
            if status.role == Role::Primary {
                let first = *self.reigns.entry(status.epoch).or_insert(number);
                if first != number {
                    let epoch = status.epoch;
                    return Err(Trouble::Mismatch(format!(
                        "epoch {epoch} has two primaries, {first} and {number}"
                    )));
                }
            }
            for lsn in 1..=node.told.committed.get() {
                let Some(entry) = node.log.at(Lsn::new(lsn)).or_else(|| node.disk.entry(Lsn::new(lsn)))
                else {
                    continue;
                };
                let index = usize::try_from(lsn - 1).expect("a log of a test is short");
                match self.committed.get(index) {
                    _ if entry.kind == Kind::Lost => {}
                    Some(before) if before == entry => {}
                    Some(before) => {
                        let (was, is) = (&before.text, &entry.text);
                        let what =
                            format!("record {lsn} was committed as {was}, and replica {number} shows {is}");
                        return Err(Trouble::Mismatch(what));
                    }
                    None if index == self.committed.len() => self.committed.push(entry.clone()),
                    None => {}
                }
            }
        }
        Ok(())
    }
}

/// From whom and to whom a message is.
pub(crate) fn ends(letter: &Letter) -> (u64, u64) {
    (letter.envelope.from.id.get(), letter.envelope.to.id.get())
}

/// The replica with this number, on its first disk.
pub(crate) fn member(number: u64) -> Member {
    Member { id: id(number), disk: DiskId::new(u128::from(number) * 100) }
}
