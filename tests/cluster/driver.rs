//! The driver: feeds a replica, and does what it wants done exactly as the effects' texts say.

use std::rc::Rc;

use annals::protocol::{Content, Effect, Envelope, Group, Halt, Input, Message, Replica, Role, SnapshotId};
use annals::{LogIncarnation, Lsn, LsnRange, ReplicaId};

use crate::invariants::{self, Check, Violation, broken};
use crate::node::Node;
use crate::oracle::Ask;
use crate::record::{self, Body, Frame, Frames};
use crate::storage::{Storage, agree};
use crate::trace::{brief, letter};
use crate::world::{Event, MS, World};

/// The bytes that travel with a message, or are at hand while an input is handled.
#[derive(Clone, Debug)]
pub(crate) enum Cargo {
    None,
    Frames(Frames),
    /// A part of the application's state, which is the chain over all that it covers.
    Chunk {
        chain: u64,
    },
    /// What a client has asked for.
    Token(u64),
}

/// What happens inside of one process, after a while.
#[derive(Clone, Debug)]
pub(crate) enum Local {
    MetaSynced { number: u64 },
    LogSynced,
    ReadLog { to: ReplicaId, from: Lsn, bytes_max: u64 },
    ReadRange { to: ReplicaId, range: LsnRange, bytes_max: u64 },
    ReadSnapshot { to: ReplicaId, snapshot: SnapshotId, offset: u64, bytes_max: u32 },
    StageChunk { snapshot: SnapshotId, offset: u64, bytes: u32, digest: u64, chain: u64 },
    Install { snapshot: SnapshotId, incarnation: LogIncarnation },
    Mend { range: LsnRange, frames: Frames, digest: u64 },
    SnapshotTaken(Box<crate::ledger::Snapshot>),
    Ask { token: u64, input: Box<Input> },
    Tell(Input),
}

/// The digest of a part of the application's state.
pub(crate) fn chunk_digest(chain: u64, offset: u64, bytes: u32) -> u64 {
    annals::node::digest(&record::application(chain, offset, u64::from(bytes)))
}

impl World {
    /// The process begins: it recovers what is on its disk.
    pub(crate) fn start(&mut self, at: usize) -> Check {
        if self.nodes[at].is_up() {
            return Ok(());
        }
        let now = self.now;
        if self.nodes[at].full_until > now {
            self.at(self.nodes[at].full_until, Event::Start { node: at });
            return Ok(());
        }
        let seed = self.draw.next();
        let node = &mut self.nodes[at];
        node.life += 1;
        node.config.seed = seed;
        let state = match &mut node.storage {
            None => node.ledger.recover(),
            Some(storage) => {
                let state = storage.open()?;
                agree(&mut node.ledger, &state)?;
                state
            }
        };
        invariants::recovered_is_what_was_synced(&node.ledger, &state)?;
        self.trace.note(now, || format!("{} starts: {}", at + 1, brief(&state)));
        node.commit = state.commit;
        match Replica::recover(node.config.clone(), state, node.clock.local(now)) {
            Ok(replica) => node.replica = Some(replica),
            Err(error) => return broken(2, "what was synced can be recovered", error.to_string()),
        }
        self.drain(at, Cargo::None)
    }

    /// The replica takes an input, and what it wants done is done.
    pub(crate) fn feed(&mut self, at: usize, input: Input, cargo: Cargo) -> Check {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(replica) = &mut node.replica else { return Ok(()) };
        self.trace.note(now, || match &input {
            Input::Received(envelope) => format!("{} hears {}", at + 1, letter(envelope)),
            input => format!("{} <- {}", at + 1, brief(input)),
        });
        replica.handle(node.clock.local(now), input);
        self.drain(at, cargo)
    }

    fn drain(&mut self, at: usize, mut cargo: Cargo) -> Check {
        let life = self.nodes[at].life;
        let mut effects = 0;
        while let Some(effect) = self.nodes[at].replica.as_mut().and_then(Replica::poll) {
            self.trace.note(self.now, || match &effect {
                Effect::Send(envelope) => format!("{} says  {}", at + 1, letter(envelope)),
                effect => format!("{} ->  {}", at + 1, brief(effect)),
            });
            effects += 1;
            self.execute(at, effect, &mut cargo)?;
            if self.nodes[at].life != life {
                return Ok(());
            }
        }
        self.look(at, effects)?;
        self.set_timer(at)
    }

    /// What holds of a replica after each step.
    fn look(&mut self, at: usize, effects: usize) -> Check {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(replica) = &node.replica else { return Ok(()) };
        let status = replica.status();
        let before = if node.ledger.is_noted { Lsn::ZERO } else { node.commit };
        invariants::watermarks_are_in_order(&status, &node.ledger, before)?;
        let window = node.config.limits.window_bytes + node.config.limits.group_bytes_max;
        invariants::memory_is_bounded(&status, effects, window)?;
        node.role = status.role;
        let synced = node.ledger.synced;
        let owes = node.role == Role::Primary && synced < node.ledger.last().lsn;
        if !owes || synced != node.progress.0 {
            node.progress = (synced, now);
        }
        let still = now - node.progress.1;
        let (reign, is_primary) = (node.reign, node.role == Role::Primary);
        // One that was deposed and has not heard of it may count on what is truncated meanwhile.
        let is_newest = self.oracle.primaries.last_key_value().is_some_and(|(newest, _)| *newest == reign);
        if is_primary && is_newest {
            let disks: Vec<_> = self.nodes.iter().map(|node| &node.ledger).chain(&self.retired).collect();
            for peer in &status.peers {
                let copy = (peer.member, peer.durable);
                invariants::counted_copies_are_there(&self.nodes[at].ledger, &disks, copy)?;
            }
        }
        if !self.mix.watches_stalls {
            return Ok(());
        }
        let peers = self.nodes.iter().map(|node| node.ledger.synced).max();
        invariants::a_stalled_primary_hands_over(still, peers > Some(synced), at)
    }

    fn set_timer(&mut self, at: usize) -> Check {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(deadline) = node.replica.as_ref().and_then(Replica::next_deadline) else { return Ok(()) };
        let when = node.clock.when(deadline, now);
        if when == now {
            // A deadline in the past that stays there would stop the world.
            let ticks = node.ticks.entry(now).or_insert(0);
            *ticks += 1;
            if *ticks > 1000 {
                return broken(
                    18,
                    "a deadline that has passed is dealt with",
                    format!("{} at {now}", at + 1),
                );
            }
            node.ticks = std::mem::take(&mut node.ticks).split_off(&now);
        }
        if when < node.timer {
            node.timer = when;
            self.at(when, Event::Timer { node: at, at: when });
        }
        Ok(())
    }

    /// Something inside of the process ends when the disk has done its part.
    pub(crate) fn when_disk_is_done(&mut self, at: usize, what: Local) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let when = node.spindle.ends(now, &mut self.draw);
        let life = node.life;
        self.at(when, Event::Local { node: at, life, what });
    }

    fn execute(&mut self, at: usize, effect: Effect, cargo: &mut Cargo) -> Check {
        match effect {
            Effect::SaveMeta { number, meta } => {
                self.nodes[at].ledger.unsynced_metas.push_back((number, meta));
                self.when_disk_is_done(at, Local::MetaSynced { number });
            }
            Effect::Send(envelope) => return self.send(at, envelope, cargo),
            Effect::Write(group) => return self.write(at, &group, cargo),
            Effect::Truncate { after, incarnation } => return self.truncate(at, after, incarnation),
            Effect::ReadLog { to, from, bytes_max } => {
                self.when_disk_is_done(at, Local::ReadLog { to, from, bytes_max });
            }
            Effect::ReadSnapshot { to, snapshot, offset, bytes_max } => {
                self.when_disk_is_done(at, Local::ReadSnapshot { to, snapshot, offset, bytes_max });
            }
            Effect::ReadRange { to, range, bytes_max } => {
                self.when_disk_is_done(at, Local::ReadRange { to, range, bytes_max });
            }
            Effect::StageSnapshot(offer) => return self.stage(at, *offer),
            Effect::StageChunk { snapshot, offset, bytes, digest } => {
                let Cargo::Chunk { chain } = *cargo else {
                    return broken(0, "a chunk is staged when it has come", format!("{cargo:?}"));
                };
                self.when_disk_is_done(at, Local::StageChunk { snapshot, offset, bytes, digest, chain });
            }
            Effect::Install { snapshot, incarnation, .. } => return self.install(at, snapshot, incarnation),
            Effect::Mend { group, digest } => {
                let frames = frames_of(cargo, group.range).unwrap_or_default();
                self.when_disk_is_done(at, Local::Mend { range: group.range, frames, digest });
            }
            Effect::Reopen { is_whole } => return self.reopen(at, is_whole),
            Effect::Pin(pin) => self.nodes[at].pin = pin,
            Effect::KeepSnapshots(ids) => self.nodes[at].keep_snapshots(ids),
            Effect::Halt(halt) => return self.halt(at, halt),
            Effect::Committed(lsn) => return self.committed(at, lsn),
            Effect::Resolve { token, outcome } => return self.resolve(at, token, outcome),
            Effect::ReadReady { token, lsn } => return self.read_ready(at, token, lsn),
            Effect::ReadFailed { token, .. } => self.read_failed(at, token),
            Effect::Became { role, epoch, .. } => return self.became(at, role, epoch),
        }
        Ok(())
    }

    fn send(&mut self, at: usize, envelope: Envelope, cargo: &Cargo) -> Check {
        let ledger = &self.nodes[at].ledger;
        invariants::messages_have_a_wire_form(&envelope)?;
        invariants::promises_are_synced_before_they_leave(ledger, &envelope)?;
        invariants::the_damaged_abstain(ledger, &envelope)?;
        invariants::one_vote_for_each_epoch(&mut self.oracle, &envelope)?;
        let Some(to) = self.place(envelope.to.id).filter(|&to| to != at) else {
            return broken(0, "messages go to others", format!("{envelope:?}"));
        };
        // Bytes that are gone, because the log went on, are a message that was lost.
        let Some(bytes) = self.bytes_for(at, &envelope.message, cargo) else { return Ok(()) };
        self.newest_sent = Some(envelope.clone());
        for arrival in self.network.send(self.now, (at, to), &envelope.message) {
            let (life, envelope) = (arrival.life, Box::new(envelope.clone()));
            self.at(arrival.at, Event::Arrive { from: at, to, life, envelope, cargo: bytes.clone() });
        }
        Ok(())
    }

    fn bytes_for(&self, at: usize, message: &Message, cargo: &Cargo) -> Option<Cargo> {
        let Node { ledger, older, .. } = &self.nodes[at];
        match message {
            Message::Append { group, .. } | Message::RepairGive { group, .. } => {
                let kept = frames_of(cargo, group.range).or_else(|| {
                    let mut frames = Frames::new();
                    for range in ledger.frames(group.range.first, group.range.last) {
                        frames.extend(ledger.read(range.first, range.last, u64::MAX)?);
                    }
                    record::slice(&frames, group.range)
                })?;
                (kept[0].epoch == group.epoch).then_some(Cargo::Frames(kept))
            }
            Message::SnapshotChunk { snapshot, .. } => match cargo {
                Cargo::Chunk { .. } => Some(cargo.clone()),
                _ => {
                    let kept = ledger.snapshot_of(older, *snapshot);
                    kept.map(|kept| Cargo::Chunk { chain: kept.chain })
                }
            },
            _ => Some(Cargo::None),
        }
    }

    fn write(&mut self, at: usize, group: &Group, cargo: &mut Cargo) -> Check {
        let Some(frames) = self.frames_for(group, cargo) else {
            return broken(
                0,
                "a group's bytes are at hand when it is written",
                format!("{group:?} {cargo:?}"),
            );
        };
        let ledger = &mut self.nodes[at].ledger;
        let last = ledger.last();
        if group.range.first != last.lsn.next() || group.epoch < last.epoch || frames[0].epoch != group.epoch
        {
            return broken(
                2,
                "records are dense, and epochs never go back",
                format!("{group:?} after {last:?}"),
            );
        }
        for frame in &frames {
            self.nodes[at].ledger.append(frame);
            self.oracle.written(&self.nodes[at].ledger, frame)?;
        }
        let node = &mut self.nodes[at];
        if let Some(storage) = &mut node.storage {
            node.ledger.synced = storage.write(&frames)?;
        }
        if let (Cargo::Token(token), false) = (&*cargo, group.content.is_control()) {
            if let Some(attempt) = self.oracle.attempts.get_mut(token) {
                attempt.written = Some(group.range);
            }
            *cargo = Cargo::Frames(frames);
        } else if matches!(cargo, Cargo::None) {
            *cargo = Cargo::Frames(frames);
        }
        self.flush(at);
        Ok(())
    }

    /// The frames of a group that is to be written: what was proposed, what came, or the protocol's own.
    fn frames_for(&self, group: &Group, cargo: &Cargo) -> Option<Frames> {
        if let Some(frames) = frames_of(cargo, group.range) {
            return Some(frames);
        }
        let body = match (&group.content, cargo) {
            (Content::Records(spans), Cargo::Token(token)) => {
                let Ask::Append { payloads, .. } = &self.oracle.attempts.get(token)?.ask else { return None };
                let producer = spans.as_slice().first().map(|span| (span.producer, span.sequence));
                Body::Records { payloads: payloads.clone(), producer }
            }
            (Content::Records(_), _) => return None,
            (content, _) => Body::Control(content.clone()),
        };
        let frame = Frame { epoch: group.epoch, first: group.range.first, body, bytes: group.bytes };
        (frame.range() == group.range).then(|| vec![Rc::new(frame)])
    }

    /// Begins a sync of what is not synced, unless one is under way.
    pub(crate) fn flush(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.flush.is_none() {
            node.flush = Some((node.ledger.incarnation, node.ledger.last().lsn));
            self.when_disk_is_done(at, Local::LogSynced);
        }
    }

    fn halt(&mut self, at: usize, halt: Halt) -> Check {
        match halt {
            Halt::DiskFailed => {
                self.kill(at);
                let down =
                    self.draw.between(MS, 300 * MS).max(self.nodes[at].full_until.saturating_sub(self.now));
                self.after(down, Event::Start { node: at });
                Ok(())
            }
            halted => broken(11, "truncation never reaches below committed", format!("{halted:?}")),
        }
    }

    /// The process is gone; the disk keeps what it may.
    pub(crate) fn kill(&mut self, at: usize) {
        if !self.nodes[at].is_up() {
            return;
        }
        self.trace.note(self.now, || format!("{} is killed", at + 1));
        self.oracle.tally.crashes += 1;
        self.nodes[at].stop();
        let fate = self.draw.next();
        let node = &mut self.nodes[at];
        match &mut node.storage {
            None => node.ledger.crash(&mut self.draw),
            Some(storage) => {
                let meta = node.ledger.unsynced_metas.back().map(|(_, meta)| meta).filter(|_| fate % 7 < 4);
                storage.crash(meta, fate);
            }
        }
        self.forget_tokens(at);
    }

    /// Steps of stores were cut short: their processes are gone.
    pub(crate) fn disks_failed(&mut self, why: &Violation) {
        for at in 0..self.nodes.len() {
            if !self.nodes[at].storage.as_ref().is_some_and(|storage| storage.has_failed) {
                continue;
            }
            self.trace.note(self.now, || format!("{} ends: {}", at + 1, why.what));
            self.oracle.tally.cut_short += 1;
            self.nodes[at].stop();
            self.forget_tokens(at);
            let (fate, down) = (self.draw.next(), self.draw.between(MS, 300 * MS));
            if let Some(storage) = &mut self.nodes[at].storage {
                storage.give_up(fate);
            }
            self.after(down, Event::Start { node: at });
        }
    }

    /// A step of the store begins that changes what the ledger says, which may be cut short.
    pub(crate) fn may_fail(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.storage.as_ref().is_some_and(Storage::is_troubled) {
            node.ledger.other = None;
            node.ledger.other = Some(Box::new(node.ledger.clone()));
        }
    }

    /// Whoever waits for a process that is gone does not know what came of it.
    pub(crate) fn forget_tokens(&mut self, at: usize) {
        for token in std::mem::take(&mut self.nodes[at].tokens) {
            if let Some(attempt) = self.oracle.attempts.get(&token) {
                let client = attempt.client;
                self.after(MS, Event::Answer { client, token, outcome: None });
            }
        }
    }
}

/// The frames of the range, if they are at hand.
fn frames_of(cargo: &Cargo, range: LsnRange) -> Option<Frames> {
    match cargo {
        Cargo::Frames(frames) => record::slice(frames, range),
        _ => None,
    }
}
