//! A cluster of cores in one thread, without disks and without a network: everything is synced and delivered at once.

use std::collections::VecDeque;
use std::sync::Arc;

use annals::protocol::{
    Base, Config, Effect, Envelope, Group, Input, Member, Membership, Message, Proposal, Quorums, Replica,
    Role, State, Time, Voter,
};
use annals::{ClusterId, DiskId, LogIncarnation, Lsn, ProducerId, ReplicaId};

/// From one group to the next on the replicas' clocks: heartbeats come as often as they would at this pace.
const STEP_NANOS: u64 = 1000;

const CLUSTER: ClusterId = ClusterId::new(7);

pub(crate) fn member(id: u64) -> Member {
    Member { id: ReplicaId::new(id), disk: DiskId::new(id.into()) }
}

/// Replicas of which the first is the primary, and all others follow it.
#[derive(Clone)]
pub(crate) struct Quorum {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) now: u64,
    /// What the primary has written.
    log: Vec<Group>,
}

impl Quorum {
    /// Elects the first of so many.
    pub(crate) fn new(replicas: u64) -> Quorum {
        let voters = (1..=replicas).map(|id| Voter { member: member(id), priority: 0 }).collect();
        let membership = Some(Arc::new(Membership::first(voters, Quorums::Majority)));
        let start = |id| {
            let base = Base { membership: membership.clone(), ..Base::default() };
            let state = State { base, incarnation: LogIncarnation::new(id << 20), ..State::default() };
            Replica::recover(Config::new(CLUSTER, member(id)), state, Time::ZERO).unwrap()
        };
        let mut quorum = Quorum { replicas: (1..=replicas).map(start).collect(), now: 0, log: Vec::new() };
        quorum.tick();
        quorum.settle(0, Input::Promote { token: 0 });
        // So that the followers have been heard, and know of the commit.
        for _ in 0..4 {
            quorum.now = quorum.replicas[0].next_deadline().unwrap().nanos();
            quorum.settle(0, Input::Tick);
        }
        assert_eq!(quorum.replicas[0].role(), Role::Primary);
        quorum
    }

    pub(crate) fn tick(&mut self) -> Time {
        self.now += STEP_NANOS;
        Time::from_nanos(self.now)
    }

    /// Handles the input and all that follows from it, on all replicas.
    pub(crate) fn settle(&mut self, at: usize, input: Input) -> Vec<Effect> {
        let (mut inputs, mut answers) = (VecDeque::from([(at, input)]), Vec::new());
        while let Some((at, input)) = inputs.pop_front() {
            let now = self.tick();
            self.replicas[at].handle(now, input);
            while let Some(effect) = self.replicas[at].poll() {
                match effect {
                    Effect::SaveMeta { number, .. } => inputs.push_back((at, Input::MetaSaved { number })),
                    Effect::Write(group) => {
                        inputs.push_back((at, self.synced(at, &group)));
                        self.log.extend((at == 0).then_some(group));
                    }
                    Effect::ReadLog { to, from, .. } => {
                        let group = self.log.iter().find(|group| group.range.first == from).unwrap().clone();
                        inputs.push_back((at, Input::LogRead { to, group }));
                    }
                    Effect::Send(envelope) => {
                        let to = envelope.to.id.get() as usize - 1;
                        inputs.push_back((to, Input::Received(envelope)));
                    }
                    answer => answers.push(answer),
                }
            }
        }
        answers
    }

    pub(crate) fn synced(&self, at: usize, group: &Group) -> Input {
        Input::Durable { incarnation: self.replicas[at].status().incarnation, lsn: group.range.last }
    }

    /// Registers a producer.
    pub(crate) fn producer(&mut self) -> ProducerId {
        self.settle(0, Input::Register { token: 1 });
        ProducerId::new(self.replicas[0].status().last.lsn.get())
    }
}

/// The primary alone, with what it needs to be told of the others.
#[derive(Clone)]
pub(crate) struct Primary {
    replica: Replica,
    now: u64,
    last: Lsn,
    incarnation: LogIncarnation,
    /// One acknowledgement for each backup, but for its LSN.
    acks: Vec<(Envelope, LogIncarnation)>,
    producer: Option<ProducerId>,
    sequence: u64,
    /// One for each of many producers: they append together.
    proposals: Vec<Proposal>,
    taken: Vec<u32>,
}

impl Primary {
    pub(crate) fn of(replicas: u64, has_producer: bool) -> Primary {
        let mut quorum = Quorum::new(replicas);
        let producer = has_producer.then(|| quorum.producer());
        Primary::leading(quorum, producer, Vec::new())
    }

    /// With so many producers, for [`live_together`](Primary::live_together).
    pub(crate) fn of_many(replicas: u64, producers: u64) -> Primary {
        let mut quorum = Quorum::new(replicas);
        let proposal = |token| {
            let producer = Some((quorum.producer(), 1));
            Proposal { token, records: 1, bytes: 320, producer }
        };
        let proposals = (0..producers).map(proposal).collect();
        Primary::leading(quorum, None, proposals)
    }

    fn leading(mut quorum: Quorum, producer: Option<ProducerId>, proposals: Vec<Proposal>) -> Primary {
        let status = quorum.replicas[0].status();
        let ack = |backup: &Replica| {
            let own = backup.status();
            let message = Message::Ack { incarnation: own.incarnation, durable: own.durable, is_whole: true };
            let from = backup.config().me;
            let envelope =
                Envelope { cluster: CLUSTER, from, to: member(1), epoch: own.epoch, generation: 1, message };
            (envelope, own.incarnation)
        };
        Primary {
            acks: quorum.replicas[1..].iter().map(ack).collect(),
            now: quorum.now,
            last: status.last.lsn,
            incarnation: status.incarnation,
            replica: quorum.replicas.swap_remove(0),
            producer,
            sequence: 0,
            proposals,
            taken: Vec::new(),
        }
    }

    /// The same life of one group in which each of the producers has a record.
    pub(crate) fn live_together(&mut self) -> usize {
        self.now += STEP_NANOS;
        self.last = self.last.plus(self.proposals.len() as u64);
        let looked = self.replica.propose(Time::from_nanos(self.now), &self.proposals, &mut self.taken);
        assert!(looked == self.proposals.len() && self.taken.len() == looked);
        for (_, sequence) in self.proposals.iter_mut().filter_map(|proposal| proposal.producer.as_mut()) {
            *sequence += 1;
        }
        let effects = self.drain();
        effects + self.sync_everywhere()
    }

    /// The whole life of `groups` groups of eight records: proposed, written, sent, synced here, acknowledged by all,
    /// committed and answered, every effect polled; how many effects there were. Groups beyond the first are proposed
    /// before anything of the first is synced, and acknowledged together.
    pub(crate) fn live(&mut self, groups: u64) -> usize {
        let mut effects = 0;
        for token in 0..groups {
            self.now += STEP_NANOS;
            let producer = self.producer.map(|id| (id, self.sequence + 1));
            self.sequence += 8;
            self.last = self.last.plus(8);
            self.give(Input::Propose(Proposal { token, records: 8, bytes: 4096, producer }));
            effects += self.drain();
        }
        effects + self.sync_everywhere()
    }

    fn sync_everywhere(&mut self) -> usize {
        self.give(Input::Durable { incarnation: self.incarnation, lsn: self.last });
        let mut effects = self.drain();
        for index in 0..self.acks.len() {
            let (mut envelope, incarnation) = self.acks[index].clone();
            envelope.message = Message::Ack { incarnation, durable: self.last, is_whole: true };
            self.give(Input::Received(envelope));
            effects += self.drain();
        }
        effects
    }

    fn give(&mut self, input: Input) {
        self.replica.handle(Time::from_nanos(self.now), input);
    }

    fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.replica.poll()).map(std::hint::black_box).count()
    }

    pub(crate) fn has_committed_all(&self) -> bool {
        self.replica.status().commit == self.last
    }
}

/// A backup alone, with what its primary would send.
#[derive(Clone)]
pub(crate) struct Backup {
    replica: Replica,
    now: u64,
    append: Envelope,
    heartbeat: Envelope,
    incarnation: LogIncarnation,
    /// What it had refused when its primary began to lead.
    refused: u64,
}

impl Backup {
    pub(crate) fn of(replicas: u64) -> Backup {
        let mut quorum = Quorum::new(replicas);
        let mut sent = Vec::new();
        for input in [
            Input::Propose(Proposal { token: 1, records: 8, bytes: 4096, producer: None }),
            Input::Read { token: 2 },
        ] {
            let now = quorum.tick();
            quorum.replicas[0].handle(now, input);
            while let Some(effect) = quorum.replicas[0].poll() {
                if let Effect::Send(envelope) = effect
                    && envelope.to == member(2)
                {
                    sent.push(envelope);
                }
            }
        }
        let named = |name| sent.iter().find(|envelope| envelope.message.name() == name).unwrap().clone();
        let incarnation = quorum.replicas[1].status().incarnation;
        Backup {
            append: named("Append"),
            heartbeat: named("Heartbeat"),
            refused: quorum.replicas[1].refusals().total(),
            replica: quorum.replicas.swap_remove(1),
            now: quorum.now,
            incarnation,
        }
    }

    /// A group comes, is written, is synced and acknowledged; how many effects there were.
    pub(crate) fn take_group(&mut self) -> usize {
        self.now += STEP_NANOS;
        let envelope = self.append.clone();
        let Message::Append { previous, commit, group, .. } = &mut self.append.message else { panic!() };
        let lsn = group.range.last;
        // The next one follows on it, and says that it is committed.
        (*previous, *commit) = (annals::protocol::Position { epoch: group.epoch, lsn }, lsn);
        (group.range.first, group.range.last) = (lsn.next(), lsn.plus(8));
        self.give(Input::Received(envelope));
        let written = self.drain();
        self.give(Input::Durable { incarnation: self.incarnation, lsn });
        written + self.drain()
    }

    /// A heartbeat comes and is answered.
    pub(crate) fn take_heartbeat(&mut self) -> usize {
        self.now += STEP_NANOS;
        let Message::Heartbeat { round, .. } = &mut self.heartbeat.message else { panic!() };
        *round += 1;
        let envelope = self.heartbeat.clone();
        self.give(Input::Received(envelope));
        self.drain()
    }

    fn give(&mut self, input: Input) {
        self.replica.handle(Time::from_nanos(self.now), input);
    }

    fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.replica.poll()).map(std::hint::black_box).count()
    }

    pub(crate) fn refused(&self) -> u64 {
        self.replica.refusals().total() - self.refused
    }
}
