//! The world around a driver: feeds it, and does what it wants done exactly as the actions' texts say.

use annals::node::{Action, Append, Done, Driver, Input, Task};
use annals::protocol::{Envelope, Group, Halt, Role};
use annals::transport::Lane;
use annals::{LogIncarnation, Lsn};
use bytes::Bytes;

use crate::invariants::{self, Check, Violation, broken};
use crate::record;
use crate::storage::{Storage, agree};
use crate::trace::{brief, letter};
use crate::world::{Event, MS, World};

/// What a driver is told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Message(Envelope, Bytes),
    Append(Append),
    Input(Input),
    Done(Done),
    Tick,
}

/// What happens inside of one process, after a while.
#[derive(Clone, Debug)]
pub(crate) enum Local {
    /// The disk has come to this.
    Task(Task),
    LogSynced,
    SnapshotTaken(Box<crate::ledger::Snapshot>),
    /// The log is looked through.
    Scrub,
    Ask {
        token: u64,
        told: Told,
    },
    Tell(Vec<Told>),
}

impl Told {
    fn words(&self) -> String {
        match self {
            Told::Message(envelope, _) => format!("hears {}", letter(envelope)),
            Told::Append(append) => {
                let Append { token, producer, copies, records } = append;
                format!("<- append {token} of {}: {producer:?} {copies:?}", records.count())
            }
            Told::Input(input) => format!("<- {}", brief(input)),
            Told::Done(Done::LogRead { to, group, .. } | Done::RangeRead { to, group, .. }) => {
                format!("<- read for {}: {}", to.get(), brief(group))
            }
            Told::Done(Done::SnapshotRead { to, snapshot, offset, bytes, .. }) => {
                format!("<- read for {}: {} {offset} {}", to.get(), brief(snapshot), bytes.len())
            }
            Told::Done(done) => format!("<- {}", brief(done)),
            Told::Tick => "<- Tick".to_owned(),
        }
    }
}

fn words(action: &Action) -> String {
    match action {
        Action::Send { envelope, payload, .. } => format!("says  {} +{}", letter(envelope), payload.len()),
        Action::Disk(Task::Write { group, .. }) => format!("->  write {}", brief(group)),
        Action::Disk(Task::Mend { group, .. }) => format!("->  mend {}", brief(group)),
        Action::Disk(Task::StageChunk { snapshot, offset, bytes, .. }) => {
            format!("->  stage {} {offset} {}", brief(snapshot), bytes.len())
        }
        action => format!("->  {}", brief(action)),
    }
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
                agree(&mut node.ledger, storage.was_doubted(), &state)?;
                state
            }
        };
        invariants::recovered_is_what_was_synced(&node.ledger, &state)?;
        self.trace.note(now, || format!("{} starts: {}", at + 1, brief(&state)));
        node.commit = state.commit;
        match Driver::recover(node.config.clone(), node.options, state, node.clock.local(now)) {
            Ok(driver) => node.driver = Some(driver),
            Err(error) => return broken(2, "what was synced can be recovered", error.to_string()),
        }
        self.scrub_later(at);
        self.drain(at)
    }

    /// The driver is told something, and what it wants done is done.
    pub(crate) fn feed(&mut self, at: usize, told: Told) -> Check {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(driver) = &mut node.driver else { return Ok(()) };
        self.trace.note(now, || format!("{} {}", at + 1, told.words()));
        let local = node.clock.local(now);
        match told {
            Told::Message(envelope, payload) => driver.message(local, envelope, payload),
            Told::Append(append) => driver.append(local, append),
            Told::Input(input) => driver.input(local, input),
            Told::Done(done) => driver.done(local, done),
            Told::Tick => driver.tick(local),
        }
        self.drain(at)
    }

    /// The same with several things, one after the other, as long as the process lives.
    pub(crate) fn feed_all(&mut self, at: usize, told: impl IntoIterator<Item = Told>) -> Check {
        let life = self.nodes[at].life;
        for told in told {
            if self.nodes[at].life == life {
                self.feed(at, told)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self, at: usize) -> Check {
        let life = self.nodes[at].life;
        let mut actions = 0;
        while let Some(action) = self.nodes[at].driver.as_mut().and_then(Driver::poll) {
            self.trace.note(self.now, || format!("{} {}", at + 1, words(&action)));
            actions += 1;
            self.execute(at, action)?;
            if self.nodes[at].life != life {
                return Ok(());
            }
        }
        self.look(at, actions)?;
        self.set_timer(at)
    }

    /// What holds of a replica after each step.
    fn look(&mut self, at: usize, actions: usize) -> Check {
        let now = self.now;
        let newest = self.nodes.iter().map(|node| node.ledger.synced).max().unwrap_or_default();
        let node = &mut self.nodes[at];
        let Some(driver) = &node.driver else { return Ok(()) };
        let status = driver.status();
        let before = if node.ledger.is_noted { Lsn::ZERO } else { node.commit };
        invariants::watermarks_are_in_order(&status, &node.ledger, before)?;
        let window = node.config.limits.window_bytes + node.config.limits.group_bytes_max;
        invariants::memory_is_bounded(&status, actions, window)?;
        invariants::bytes_held_back_are_bounded(driver.held_bytes(), node.options.held_bytes_max)?;
        node.role = status.role;
        let synced = node.ledger.synced;
        let owes = node.role == Role::Primary && synced < node.ledger.last().lsn;
        // While all disks stand still, nobody is better off with another primary.
        if !owes || synced != node.progress.0 || newest <= synced {
            node.progress = (synced, now);
        }
        let still = now - node.progress.1;
        let (reign, is_primary) = (node.reign, node.role == Role::Primary);
        // One that was deposed and has not heard of it may count on what is truncated meanwhile.
        let is_newest = self.oracle.primaries.last_key_value().is_some_and(|(newest, _)| *newest == reign);
        if is_primary && is_newest {
            // Of a disk that was lost more than once, the newest state counts.
            let retired = self.retired.iter().rev();
            let disks: Vec<_> = self.nodes.iter().map(|node| &node.ledger).chain(retired).collect();
            for peer in &status.peers {
                let copy = (peer.member, peer.durable);
                invariants::counted_copies_are_there(&self.nodes[at].ledger, &disks, copy)?;
            }
        }
        if !self.mix.watches_stalls {
            return Ok(());
        }
        invariants::a_stalled_primary_hands_over(still, at)
    }

    fn set_timer(&mut self, at: usize) -> Check {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(deadline) = node.driver.as_ref().and_then(Driver::next_deadline) else { return Ok(()) };
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
        self.at(when, Event::Local { node: at, life, what: Box::new(what) });
    }

    fn execute(&mut self, at: usize, action: Action) -> Check {
        match action {
            Action::Disk(task) => return self.begin(at, task),
            Action::Send { lane, envelope, payload } => return self.send(at, lane, envelope, payload),
            Action::Reopen { is_whole } => return self.reopen(at, is_whole),
            Action::Pin(pin) => self.nodes[at].pin = pin,
            Action::Halt(halt) => return self.halt(at, halt),
            Action::Committed(lsn) => return self.committed(at, lsn),
            Action::Appended { token, placed } => return self.appended(at, token, &placed),
            Action::Resolve { token, outcome } => return self.resolve(at, token, outcome),
            Action::ReadReady { token, lsn } => return self.read_ready(at, token, lsn),
            Action::ReadFailed { token, .. } => self.read_failed(at, token),
            Action::Became { role, epoch, .. } => return self.became(at, role, epoch),
        }
        Ok(())
    }

    /// The disk begins with a task: a write and a truncation are under way at once, all else is in doubt until it ends.
    fn begin(&mut self, at: usize, task: Task) -> Check {
        match task {
            Task::Write { group, incarnation, frames } => return self.write(at, group, incarnation, frames),
            Task::Truncate { after, incarnation } => return self.truncate(at, after, incarnation),
            Task::Stage(offer) => return self.stage(at, *offer),
            Task::SaveMeta { number, meta } => {
                self.nodes[at].ledger.unsynced_metas.push_back((number, meta));
            }
            Task::KeepSnapshots(ids) => return self.nodes[at].keep_snapshots(ids),
            Task::Install { snapshot, .. } => self.may_install(at, snapshot)?,
            _ => {}
        }
        self.when_disk_is_done(at, Local::Task(task));
        Ok(())
    }

    fn send(&mut self, at: usize, lane: Lane, envelope: Envelope, payload: Bytes) -> Check {
        let ledger = &self.nodes[at].ledger;
        invariants::messages_have_a_wire_form(&envelope)?;
        invariants::promises_are_synced_before_they_leave(ledger, &envelope)?;
        invariants::the_damaged_abstain(ledger, &envelope)?;
        invariants::one_vote_for_each_epoch(&mut self.oracle, &envelope)?;
        let Some(to) = self.place(envelope.to.id).filter(|&to| to != at) else {
            return broken(0, "messages go to others", format!("{envelope:?}"));
        };
        self.newest_sent = Some((envelope.clone(), payload.clone()));
        for arrival in self.network.send(self.now, (at, to), lane) {
            let (life, envelope, payload) = (arrival.life, Box::new(envelope.clone()), payload.clone());
            self.at(arrival.at, Event::Arrive { from: at, to, life, envelope, payload });
        }
        Ok(())
    }

    fn write(&mut self, at: usize, group: Group, incarnation: LogIncarnation, bytes: Bytes) -> Check {
        let node = &mut self.nodes[at];
        let Some(frames) = record::decode(&bytes).filter(|_| incarnation == node.ledger.incarnation) else {
            return broken(0, "a group is written in its life of the log", format!("{group:?} {bytes:?}"));
        };
        let last = node.ledger.last();
        if group.range.first != last.lsn.next() || group.epoch < last.epoch || frames[0].epoch != group.epoch
        {
            let what = format!("{group:?} after {last:?}");
            return broken(2, "records are dense, and epochs never go back", what);
        }
        for frame in &frames {
            self.nodes[at].ledger.append(frame);
            self.oracle.written(&self.nodes[at].ledger, frame)?;
        }
        let node = &mut self.nodes[at];
        // Nobody is told that it was not written from here on.
        let pending = node.driver.iter().flat_map(Driver::pending);
        for (token, range) in pending.filter(|(_, range)| range.first >= group.range.first) {
            if let Some(attempt) = self.oracle.attempts.get_mut(&token) {
                attempt.written = Some(range);
            }
        }
        if let Some(storage) = &mut node.storage {
            storage.perform(Task::Write { group, incarnation, frames: bytes })?;
            node.ledger.synced = storage.durable();
        }
        self.flush(at);
        Ok(())
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
