//! Drivers of a small cluster, each over a store, with the test for network, clock and disk's patience.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::node::{Records, ReplicaStore, StoreOptions};
use crate::protocol::{Content, Halt, Limits, Member, Membership, Message, Quorums, Voter};
use crate::types::{ClusterId, DiskId, Epoch, ProducerId, ReplicaId};

struct Machine {
    driver: Driver,
    store: ReplicaStore,
    tasks: VecDeque<Task>,
    told: Vec<Action>,
    /// Its disk does nothing.
    stands_still: bool,
    /// Nothing reaches it.
    is_cut: bool,
}

struct Cluster {
    machines: Vec<Machine>,
    now: Time,
    mail: VecDeque<(Lane, Envelope, Bytes)>,
    /// All that was ever sent.
    sent: Vec<(Lane, Envelope, Bytes)>,
}

fn member(number: u64) -> Member {
    Member { id: ReplicaId::new(number), disk: DiskId::new(u128::from(number)) }
}

fn ids(numbers: &[u64]) -> Vec<ReplicaId> {
    numbers.iter().map(|number| ReplicaId::new(*number)).collect()
}

fn append(token: u64, text: &'static str, copies: Copies) -> Append {
    Append { token, producer: None, copies, records: Records::one(text) }
}

impl Cluster {
    /// Of so many, the first of them primary.
    fn new(count: u64, options: DriverOptions) -> Cluster {
        Cluster::within(count, options, Limits::default())
    }

    fn within(count: u64, options: DriverOptions, limits: Limits) -> Cluster {
        let voters = (1..=count).map(|number| Voter { member: member(number), priority: 0 }).collect();
        let membership = Some(Arc::new(Membership::first(voters, Quorums::Majority)));
        let base = Base { membership, ..Base::default() };
        let now = Time::from_nanos(1_000_000_000);
        let machine = |number| {
            let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(number));
            ReplicaStore::create(&*disk, member(number), &base).unwrap();
            let (store, state) = ReplicaStore::open(&disk, StoreOptions::default()).unwrap();
            let config = Config { limits, ..Config::new(ClusterId::new(7), member(number)) };
            Machine {
                driver: Driver::recover(config, options, state, now).unwrap(),
                store: store.unwrap(),
                tasks: VecDeque::new(),
                told: vec![],
                stands_still: false,
                is_cut: false,
            }
        };
        let machines = (1..=count).map(machine).collect();
        let mut cluster = Cluster { machines, now, mail: VecDeque::new(), sent: vec![] };
        cluster.elect(0);
        cluster
    }

    fn elect(&mut self, at: usize) {
        self.now = self.now.plus(Duration::from_secs(1));
        let now = self.now;
        self.machines[at].driver.input(now, Input::Promote { token: 0 });
        self.settle();
        self.beat(at);
        self.beat(at);
        assert_eq!(self.machines[at].driver.role(), Role::Primary);
        let stands = Action::Resolve { token: 0, outcome: Outcome::Stands };
        self.machines[at].told.retain(|told| *told != stands);
    }

    fn beat(&mut self, at: usize) {
        self.now = self.machines[at].driver.next_deadline().unwrap().max(self.now);
        let now = self.now;
        self.machines[at].driver.tick(now);
        self.settle();
    }

    /// The primary takes these in one turn; nothing of it is done yet.
    fn append(&mut self, appends: impl IntoIterator<Item = Append>) {
        let now = self.now;
        appends.into_iter().for_each(|append| self.machines[0].driver.append(now, append));
        self.pump(0);
    }

    fn pump(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        while let Some(action) = machine.driver.poll() {
            match action {
                Action::Disk(task) => machine.tasks.push_back(task),
                Action::Send { lane, envelope, payload } => {
                    let letter = (lane, envelope, payload);
                    self.sent.push(letter.clone());
                    self.mail.push_back(letter);
                }
                told => machine.told.push(told),
            }
        }
    }

    /// Disks do what they are asked and messages arrive, until nothing is left.
    fn settle(&mut self) {
        loop {
            let mut is_idle = true;
            for at in 0..self.machines.len() {
                self.pump(at);
                is_idle &= !self.disk(at);
            }
            while let Some((_, envelope, payload)) = self.mail.pop_front() {
                is_idle = false;
                let places = [envelope.from, envelope.to].map(|member| member.id.get() as usize - 1);
                if !places.iter().any(|&at| self.machines[at].is_cut) {
                    self.machines[places[1]].driver.message(self.now, envelope, payload);
                    self.pump(places[1]);
                }
            }
            if is_idle {
                return;
            }
        }
    }

    fn disk(&mut self, at: usize) -> bool {
        let machine = &mut self.machines[at];
        if machine.stands_still || machine.tasks.is_empty() {
            return false;
        }
        let mut done = vec![];
        perform(&mut machine.store, &mut machine.tasks, &mut done).unwrap();
        for done in done {
            self.machines[at].driver.done(self.now, done);
            self.pump(at);
        }
        true
    }

    /// What the clients of the primary were told since it was asked last.
    fn told(&mut self) -> Vec<Action> {
        let told = std::mem::take(&mut self.machines[0].told);
        let is_answer = |action: &Action| matches!(action, Action::Appended { .. } | Action::Resolve { .. });
        told.into_iter().filter(is_answer).collect()
    }

    /// The tokens that were answered, with who holds their records and whether they are committed.
    fn placed(&mut self) -> Vec<(u64, Vec<ReplicaId>, bool)> {
        let placed = |action| match action {
            Action::Appended { token, placed } => (token, placed.holders.to_vec(), placed.is_committed),
            other => panic!("{other:?}"),
        };
        self.told().into_iter().map(placed).collect()
    }

    /// The groups that the primary is to write.
    fn groups(&self) -> Vec<Group> {
        let group = |task: &Task| match task {
            Task::Write { group, .. } => Some(group.clone()),
            _ => None,
        };
        self.machines[0].tasks.iter().filter_map(group).collect()
    }

    fn register(&mut self) -> ProducerId {
        let now = self.now;
        self.machines[0].driver.input(now, Input::Register { token: 1 << 40 });
        self.settle();
        match self.told().pop() {
            Some(Action::Resolve { outcome: Outcome::Committed { range, .. }, .. }) => {
                ProducerId::new(range.first.get())
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_comes_in_one_turn_is_one_group_and_its_frames_are_made_once() {
    let mut cluster = Cluster::new(3, DriverOptions::default());
    cluster.sent.clear();
    cluster.append((0..100).map(|token| append(token, "record", Copies::Quorum)));
    let [group] = &cluster.groups()[..] else { panic!("{:?}", cluster.groups()) };
    assert_eq!(group.range.records(), 100);
    let Some(Task::Write { frames, .. }) = cluster.machines[0].tasks.front().cloned() else { panic!() };
    let shipped: Vec<_> =
        cluster.sent.iter().filter(|(_, envelope, _)| envelope.message.name() == "Append").collect();
    assert_eq!(shipped.len(), 2);
    for (lane, _, payload) in shipped {
        assert_eq!(*lane, Lane::Bulk);
        assert!(std::ptr::eq(payload.as_ptr(), frames.as_ptr()), "the same bytes, not a copy");
    }
    cluster.settle();
    let placed = cluster.placed();
    assert_eq!(placed.iter().map(|(token, ..)| *token).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    let range = LsnRange { first: Lsn::FIRST, last: cluster.machines[0].store.last() };
    let digests: Vec<_> =
        cluster.machines.iter().map(|machine| machine.store.digest_of(range).unwrap()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn appends_gather_while_groups_are_under_way() {
    let mut cluster = Cluster::new(3, DriverOptions { gather_bytes: 4096, ..DriverOptions::default() });
    for token in 0..10 {
        cluster.append([append(token, "record", Copies::Quorum)]);
    }
    assert_eq!(cluster.groups().len(), 2, "the depth");
    // So much that it does not wait for a commit.
    cluster.append((10..80).map(|token| append(token, "more of a record, or of several", Copies::Quorum)));
    assert_eq!(cluster.groups().iter().map(|group| group.range.records()).collect::<Vec<_>>(), [1, 1, 78]);
    cluster.append([append(80, "left", Copies::Quorum)]);
    assert_eq!(cluster.groups().len(), 3);
    cluster.settle();
    assert_eq!(cluster.placed().len(), 81);
}

#[test]
fn a_turn_that_is_more_than_a_group_becomes_several() {
    let mut cluster =
        Cluster::new(1, DriverOptions { group_bytes: 1000, gather_bytes: 100, ..DriverOptions::default() });
    cluster.append(
        (0..100).map(|token| append(token, "0123456789012345678901234567890123456789", Copies::Quorum)),
    );
    let groups = cluster.groups();
    assert!(groups.len() >= 8 && groups.iter().all(|group| group.bytes <= 1000), "{groups:?}");
    cluster.settle();
    assert_eq!(cluster.placed().len(), 100);
}

#[test]
fn a_producers_appends_in_one_turn_see_each_other() {
    let mut cluster = Cluster::new(3, DriverOptions::default());
    let producer = cluster.register();
    let numbered = |token, sequence, count: usize| {
        let records = Records::back_to_back(Bytes::from_static(&[7; 9]).slice(..3 * count), vec![3; count]);
        let producer = Some((producer, sequence));
        Append { token, producer, copies: Copies::Quorum, records: records.unwrap() }
    };
    // 2 is the next after 1; 3 repeats 2; 4 leaves a gap; 5 has no producer; 6 is the next.
    cluster.append([numbered(1, 1, 2), numbered(2, 3, 3), numbered(3, 3, 3), numbered(4, 9, 1)]);
    cluster.append([append(5, "plain", Copies::Quorum), numbered(6, 6, 1)]);
    let groups = cluster.groups();
    let Content::Records(spans) = &groups[0].content else { panic!() };
    assert_eq!(
        spans.as_slice().iter().map(|span| (span.sequence, span.records)).collect::<Vec<_>>(),
        [(1, 2), (3, 3)]
    );
    cluster.settle();
    let told = cluster.told();
    let answers: Vec<_> = told
        .iter()
        .map(|action| match action {
            Action::Appended { token, placed } => (*token, placed.is_duplicate),
            Action::Resolve { token: 4, outcome: Outcome::OutOfSequence { expected: 6 } } => (4, false),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answers, [(4, false), (1, false), (2, false), (5, false), (6, false), (3, true)]);
    let place = |wanted| {
        told.iter().find_map(|action| match action {
            Action::Appended { token, placed } if *token == wanted => placed.range,
            _ => None,
        })
    };
    assert_eq!(place(2), place(3), "a retry is told where the first is");
    let entries = cluster.machines[1].store.entries(place(6).unwrap()).unwrap();
    assert_eq!(entries[0].producer, Some((producer, 6)));
}

#[test]
fn an_append_is_answered_by_the_copies_that_it_asks_for() {
    let mut cluster = Cluster::new(3, DriverOptions { depth: 9, ..DriverOptions::default() });
    cluster.machines[2].stands_still = true;
    cluster.machines[1].stands_still = true;
    let asks = [Copies::Local, Copies::Quorum, Copies::AtLeast(2), Copies::AtLeast(3), Copies::All];
    let all: Vec<_> =
        asks.into_iter().zip(1..).map(|(copies, token)| append(token, "record", copies)).collect();
    cluster.append(all);
    cluster.settle();
    assert_eq!(cluster.placed(), [(1, ids(&[1]), false)], "on this disk, and nowhere else");
    cluster.machines[1].stands_still = false;
    cluster.settle();
    assert_eq!(cluster.placed(), [(2, ids(&[1, 2]), true), (3, ids(&[1, 2]), true)]);
    cluster.machines[2].stands_still = false;
    cluster.settle();
    assert_eq!(cluster.placed(), [(4, ids(&[1, 2, 3]), true), (5, ids(&[1, 2, 3]), true)]);

    cluster.append([append(6, "record", Copies::AtLeast(4))]);
    assert_eq!(cluster.told(), [Action::Resolve { token: 6, outcome: Outcome::TooFew { members: 3 } }]);
    // What others have committed first is answered as committed.
    cluster.machines[0].stands_still = true;
    cluster.append([append(7, "record", Copies::Local)]);
    cluster.settle();
    assert_eq!(cluster.placed(), [(7, ids(&[2, 3]), true)]);
    cluster.machines[0].stands_still = false;
    cluster.settle();
    assert_eq!(cluster.told(), []);
}

#[test]
fn appends_that_wait_for_more_copies_than_come_are_bounded_and_none_is_answered_early() {
    let limits = Limits { waiting_max: 4, ..Limits::default() };
    let mut cluster = Cluster::within(3, DriverOptions::default(), limits);
    cluster.machines[2].stands_still = true;
    for token in 1..=5 {
        cluster.append([append(token, "record", Copies::All)]);
        cluster.settle();
    }
    assert_eq!(cluster.told(), [Action::Resolve { token: 5, outcome: Outcome::Busy }]);
    cluster.append([append(6, "record", Copies::Quorum)]);
    cluster.settle();
    assert_eq!(cluster.placed(), [(6, ids(&[1, 2]), true)]);
    cluster.machines[2].stands_still = false;
    cluster.settle();
    let everybody = |token| (token, ids(&[1, 2, 3]), true);
    assert_eq!(cluster.placed(), [everybody(1), everybody(2), everybody(3), everybody(4)]);
}

#[test]
fn what_was_promised_more_copies_is_unknown_when_the_reign_ends() {
    let mut cluster = Cluster::new(3, DriverOptions { depth: 1, ..DriverOptions::default() });
    cluster.machines[2].is_cut = true;
    cluster.append([append(1, "on two of three", Copies::All)]);
    cluster.settle();
    assert_eq!(cluster.told(), [], "the third has not got it");
    cluster.machines[1].is_cut = true;
    cluster.append([append(2, "on this one", Copies::Local)]);
    cluster.append([append(3, "nobody has it", Copies::Quorum)]);
    cluster.settle();
    assert_eq!(cluster.placed(), [(2, ids(&[1]), false)]);
    while cluster.machines[0].driver.role() == Role::Primary {
        cluster.beat(0);
    }
    cluster.settle();
    // Committed, but nobody will say whether the third ever gets it: whoever asked for all has not been given all. What was
    // told once is not told again; what only gathered was never taken.
    let unknown = Action::Resolve { token: 1, outcome: Outcome::Unknown };
    let refused = Action::Resolve { token: 3, outcome: Outcome::NotTaken { primary: None } };
    assert_eq!(cluster.told(), [unknown, refused]);
}

#[test]
fn a_retry_of_long_ago_waits_for_the_copies_that_it_asks_for() {
    let mut cluster = Cluster::new(3, DriverOptions::default());
    let producer = cluster.register();
    let numbered = |token, copies| {
        let producer = Some((producer, token));
        Append { token, producer, copies, records: Records::one("record") }
    };
    cluster.machines[2].is_cut = true;
    for token in 1..=20 {
        cluster.append([numbered(token, Copies::Quorum), append(100 + token, "between", Copies::Quorum)]);
        cluster.settle();
    }
    cluster.told();
    cluster.append([numbered(1, Copies::All)]);
    cluster.settle();
    assert_eq!(cluster.told(), [], "it is on two of three");
    cluster.machines[2].is_cut = false;
    while cluster.machines[2].store.last() < cluster.machines[0].store.last() {
        cluster.beat(0);
    }
    let told = cluster.told();
    let [Action::Appended { token: 1, placed }] = &told[..] else { panic!("{told:?}") };
    assert!(placed.range.is_none() && placed.is_duplicate, "{placed:?}");
}

#[test]
fn what_was_in_the_log_of_a_deposed_primary_is_unknown() {
    let mut cluster = Cluster::new(3, DriverOptions::default());
    cluster.append([append(1, "record", Copies::Quorum), append(2, "record", Copies::All)]);
    let now = cluster.now;
    cluster.machines[0].driver.input(now, Input::DiskFailed);
    cluster.append([append(3, "record", Copies::Local)]);
    assert_eq!(
        cluster.machines[0].told.iter().filter(|action| **action == Action::Halt(Halt::DiskFailed)).count(),
        1
    );
    let unknown = |token| Action::Resolve { token, outcome: Outcome::Unknown };
    let refused = Action::Resolve { token: 3, outcome: Outcome::NotTaken { primary: None } };
    assert_eq!(cluster.told(), [unknown(1), unknown(2), refused]);
}

#[test]
fn bytes_that_are_not_what_the_message_says_never_reach_the_core() {
    let mut cluster = Cluster::new(3, DriverOptions::default());
    cluster.append([append(1, "record", Copies::Quorum)]);
    let (_, envelope, payload) = cluster.mail.pop_front().unwrap();
    let at = envelope.to.id.get() as usize - 1;
    let now = cluster.now;
    for place in 0..payload.len() {
        let mut bytes = payload.to_vec();
        bytes[place] ^= 1;
        cluster.machines[at].driver.message(now, envelope.clone(), bytes.into());
    }
    cluster.machines[at].driver.message(now, envelope.clone(), Bytes::new());
    cluster.machines[at].driver.message(now, envelope.clone(), payload.slice(..payload.len() - 8));
    let heartbeat = Message::Heartbeat { round: 1, commit: Lsn::ZERO, last: Lsn::ZERO, durable: Lsn::ZERO };
    let heartbeat = Envelope { message: heartbeat, ..envelope.clone() };
    cluster.machines[at].driver.message(now, heartbeat, Bytes::from_static(b"what for"));
    let refused = cluster.machines[at].driver.counts().bad_payloads;
    assert_eq!(refused, payload.len() as u64 + 3);
    cluster.pump(at);
    assert!(cluster.machines[at].tasks.is_empty(), "nothing is written");
    cluster.machines[at].driver.message(now, envelope, payload);
    cluster.settle();
    assert_eq!(cluster.placed().len(), 1);
}

/// While the generation of a membership is saved, all that is said waits for it (S1).
#[test]
fn bytes_stay_as_long_as_their_message_waits_for_a_save() {
    for held_bytes_max in [1 << 20, 100] {
        let options = DriverOptions { depth: 99, held_bytes_max, ..DriverOptions::default() };
        let mut cluster = Cluster::new(3, options);
        let now = cluster.now;
        let change = crate::protocol::Change::SetPriority { id: ReplicaId::new(2), priority: 3 };
        cluster.machines[0].driver.input(now, Input::Change { token: 1 << 41, change });
        cluster.settle_but_metas();
        cluster.sent.clear();
        for token in 0..10 {
            cluster.append([append(token, "a record that waits", Copies::Quorum)]);
        }
        assert_eq!(cluster.sent.len(), 0, "held back");
        let held = cluster.machines[0].driver.held_bytes();
        assert!(held > 0 && held <= held_bytes_max, "{held}");
        cluster.settle();
        let given_up = cluster.machines[0].driver.counts().bytes_given_up;
        assert_eq!(given_up > 0, held_bytes_max == 100, "{given_up}");
        assert_eq!(cluster.machines[0].driver.held_bytes(), 0);
        // What was lost is sent again.
        for _ in 0..20 {
            cluster.beat(0);
        }
        let told = cluster.told();
        assert_eq!(told.len(), 11, "{told:?}");
        let durable: Vec<Lsn> = cluster.machines.iter().map(|machine| machine.store.durable()).collect();
        assert!(durable.iter().all(|lsn| *lsn == durable[0]), "{durable:?}");
    }
}

impl Cluster {
    /// All but the saving of the primary's meta is done.
    fn settle_but_metas(&mut self) {
        loop {
            self.pump(0);
            let tasks = std::mem::take(&mut self.machines[0].tasks);
            let (metas, others): (VecDeque<_>, _) =
                tasks.into_iter().partition(|task| matches!(task, Task::SaveMeta { .. }));
            if !metas.is_empty() && others.is_empty() {
                self.machines[0].tasks = metas;
                return;
            }
            self.machines[0].tasks = others;
            self.disk(0);
            self.machines[0].tasks.extend(metas);
            while let Some((_, envelope, payload)) = self.mail.pop_front() {
                let to = envelope.to.id.get() as usize - 1;
                self.machines[to].driver.message(self.now, envelope, payload);
                self.pump(to);
                if to > 0 {
                    self.disk(to);
                }
            }
        }
    }
}

#[test]
fn a_laggard_is_fed_on_the_second_connection() {
    let mut cluster = Cluster::new(3, DriverOptions::default());
    let epoch = cluster.machines[0].driver.status().epoch;
    cluster.machines[2].is_cut = true;
    for token in 0..50 {
        cluster.append([append(token, "record", Copies::Quorum)]);
        cluster.settle();
    }
    cluster.machines[2].is_cut = false;
    cluster.sent.clear();
    for _ in 0..20 {
        cluster.beat(0);
    }
    let lanes = |name: &str| {
        let lanes = cluster.sent.iter().filter(|(_, envelope, _)| envelope.message.name() == name);
        lanes.map(|(lane, ..)| *lane).collect::<Vec<_>>()
    };
    assert!(lanes("Append").contains(&Lane::CatchUp));
    assert!(lanes("Heartbeat").iter().all(|lane| *lane == Lane::Control));
    assert_eq!(cluster.machines[2].store.last(), cluster.machines[0].store.last());
    assert_eq!(cluster.machines[0].driver.status().epoch, epoch);
}

#[test]
fn a_task_list_shares_syncs_and_saves_the_newest_meta() {
    let mut cluster = Cluster::new(1, DriverOptions { depth: 9, ..DriverOptions::default() });
    for token in 0..5 {
        cluster.append([append(token, "record", Copies::Quorum)]);
    }
    let machine = &mut cluster.machines[0];
    let last = machine.store.last().plus(5);
    let meta = |epoch| crate::protocol::Meta { epoch: Epoch::new(epoch), ..Default::default() };
    machine.tasks.extend((1..4).map(|number| Task::SaveMeta { number, meta: meta(number) }));
    let to = ReplicaId::new(2);
    machine.tasks.insert(2, Task::ReadLog { to, from: last.plus(3), bytes_max: 10 });
    machine.tasks.insert(2, Task::ReadLog { to, from: Lsn::FIRST, bytes_max: 10 });
    let mut done = vec![];
    perform(&mut machine.store, &mut machine.tasks, &mut done).unwrap();
    let [Done::Durable { lsn, .. }, Done::MetaSaved { number: 3 }, Done::LogRead { group, .. }] = &done[..]
    else {
        panic!("{done:?}")
    };
    assert_eq!((*lsn, group.range.first), (last, Lsn::FIRST));
}
