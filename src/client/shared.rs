//! What all handles of a client share: the machine under its lock, and whoever does what it says.
//!
//! Whoever gives the machine something to think about does what comes of it, outside of the lock: unless somebody is at
//! it already, who then does that too. So what is sent is sent in the order in which it was decided, and no lock is held
//! while it is.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::clock::Clock;
use super::error::{ClientError, Result};
use super::machine::{Act, CallOutcome, LinkId, Machine};
use super::network::{Ear, Line, Network};
use crate::protocol::request::Reply;
use crate::sync::waking::wake;

/// What all handles of a client share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// There is room for another append.
    room: Condvar,
    network: Arc<dyn Network>,
    clock: &'static Clock,
    myself: Weak<Shared>,
}

#[derive(Debug)]
struct State {
    machine: Machine,
    /// Whoever has it does what the machine says.
    performer: Option<Performer>,
    /// The clock wakes us then at the latest.
    alarm: Option<Instant>,
    /// Threads that wait for room.
    blocked: usize,
    /// Tasks that do.
    tasks: Vec<Waker>,
    /// Threads that wait until nothing is in flight.
    draining: usize,
}

#[derive(Debug, Default)]
struct Performer {
    lines: HashMap<LinkId, Box<dyn Line>>,
    acts: VecDeque<Act>,
    /// What is told to those that wait, once all is sent.
    told: Vec<Act>,
}

impl Shared {
    pub(super) fn new(machine: Machine, network: Arc<dyn Network>) -> Arc<Shared> {
        let performer = Some(Performer::default());
        let (alarm, blocked, tasks, draining) = (None, 0, vec![], 0);
        let state = State { machine, performer, alarm, blocked, tasks, draining };
        Arc::new_cyclic(|myself| Shared {
            state: Mutex::new(state),
            room: Condvar::new(),
            network,
            clock: Clock::of_process(),
            myself: myself.clone(),
        })
    }

    /// Tells the machine something, and does what comes of it.
    pub(super) fn with<T>(&self, tell: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut state = self.state.lock();
        let told = tell(&mut state.machine, Instant::now());
        self.perform(state);
        told
    }

    /// Like [`with`](Shared::with), once there is room for an append, at the deadline at the latest.
    pub(super) fn with_room<T>(
        &self,
        deadline: Instant,
        tell: impl FnOnce(&mut Machine, Instant) -> T,
    ) -> Result<T> {
        let mut state = self.state.lock();
        while state.machine.is_full() && !state.machine.is_closed() {
            state.blocked += 1;
            let is_late = self.room.wait_until(&mut state, deadline).timed_out();
            state.blocked -= 1;
            if is_late && state.machine.is_full() {
                return Err(state.machine.timed_out());
            }
        }
        self.tell_open(state, tell)
    }

    /// Like [`with`](Shared::with), if there is room for an append.
    pub(super) fn with_room_now<T>(&self, tell: impl FnOnce(&mut Machine, Instant) -> T) -> Result<T> {
        let state = self.state.lock();
        if state.machine.is_full() && !state.machine.is_closed() {
            return Err(ClientError::Full);
        }
        self.tell_open(state, tell)
    }

    fn tell_open<'a, T>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        tell: impl FnOnce(&mut Machine, Instant) -> T,
    ) -> Result<T> {
        if state.machine.is_closed() {
            return Err(ClientError::Closed);
        }
        let told = tell(&mut state.machine, Instant::now());
        if state.blocked > 0 && !state.machine.is_full() {
            self.room.notify_one();
        }
        self.perform(state);
        Ok(told)
    }

    /// Like [`with`](Shared::with), if there is room for an append; if not, the task is woken when there is.
    pub(super) fn poll_with_room<T>(
        &self,
        context: &mut Context<'_>,
        tell: impl FnOnce(&mut Machine, Instant) -> T,
    ) -> Poll<Result<T>> {
        let mut state = self.state.lock();
        if !state.machine.is_full() || state.machine.is_closed() {
            return Poll::Ready(self.tell_open(state, tell));
        }
        if !state.tasks.iter().any(|task| task.will_wake(context.waker())) {
            state.tasks.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until every append is settled.
    pub(super) fn drain(&self) {
        let mut state = self.state.lock();
        state.draining += 1;
        while !state.machine.is_idle() {
            self.room.wait(&mut state);
        }
        state.draining -= 1;
    }

    /// Has the network read its certificates again, on a thread of its own: a disk may take its time.
    pub(super) fn reload(&self) -> Arc<CallOutcome> {
        let outcome = Arc::new(CallOutcome::new());
        if self.state.lock().machine.is_closed() {
            outcome.settle(Err(ClientError::Closed));
            return outcome;
        }
        let (network, told) = (Arc::clone(&self.network), Arc::clone(&outcome));
        let reload = move || told.settle(network.reload().map(|()| (Reply::Done, Bytes::new())));
        if let Err(why) = thread::Builder::new().name("annals-reload".to_owned()).spawn(reload) {
            let reason = format!("no thread to read the certificates again: {why}").into();
            outcome.settle(Err(ClientError::Network { reason }));
        }
        outcome
    }

    /// The clock has come to what was set.
    pub(super) fn alarm(&self, at: Instant) {
        let mut state = self.state.lock();
        if state.alarm == Some(at) {
            state.alarm = None;
        }
        state.machine.drive(Instant::now());
        self.perform(state);
    }

    /// Does what the machine says, outside of the lock, unless somebody is at it.
    fn perform<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        self.set_alarm(&mut state);
        if state.machine.acts().is_empty() {
            return;
        }
        let Some(performer) = state.performer.take() else { return };
        let mut performing = Performing { shared: self, performer };
        let mut tasks = vec![];
        loop {
            mem::swap(state.machine.acts(), &mut performing.performer.acts);
            drop(state);
            performing.performer.perform(self);
            mem::take(&mut tasks).into_iter().for_each(wake);
            state = self.state.lock();
            self.make_room(&mut state, &mut tasks);
            if state.machine.acts().is_empty() && tasks.is_empty() {
                break;
            }
        }
        // While the lock is held: what is decided next is done by whoever decides it.
        state.performer = Some(mem::take(&mut performing.performer));
        drop(state);
        mem::forget(performing);
    }

    /// Those that wait for room are woken: threads at once, tasks by the caller, outside of the lock.
    fn make_room(&self, state: &mut State, tasks: &mut Vec<Waker>) {
        if state.draining > 0 && state.machine.is_idle() {
            self.room.notify_all();
        } else if state.blocked > 0 && !state.machine.is_full() {
            self.room.notify_one();
        }
        if !state.tasks.is_empty() && (!state.machine.is_full() || state.machine.is_closed()) {
            tasks.append(&mut state.tasks);
        }
    }

    fn set_alarm(&self, state: &mut State) {
        let Some(next) = state.machine.next_deadline() else { return };
        if state.alarm.is_none_or(|alarm| next < alarm) {
            state.alarm = Some(next);
            self.clock.set(next, self.myself.clone());
        }
    }
}

impl Performer {
    /// What is to be sent is sent first: the cluster works while those that wait are woken.
    fn perform(&mut self, shared: &Shared) {
        while let Some(act) = self.acts.pop_front() {
            match act {
                Act::Dial { link, address } => self.dial(shared, link, &address),
                Act::Send { link, number, request, payload } => {
                    if let Some(line) = self.lines.get(&link) {
                        line.send(number, &request, payload);
                    }
                }
                Act::Hang { link } => drop(self.lines.remove(&link)),
                told => self.told.push(told),
            }
        }
        for told in self.told.drain(..) {
            match told {
                Act::Settle { outcome, result } => outcome.settle(result),
                Act::Answer { outcome, result } => outcome.settle(result),
                Act::Deliver { sink, delivery } => sink.deliver(delivery),
                Act::Dial { .. } | Act::Send { .. } | Act::Hang { .. } => unreachable!("done above"),
            }
        }
    }

    fn dial(&mut self, shared: &Shared, link: LinkId, address: &str) {
        let ear = Ear::new(shared.myself.clone(), link);
        match shared.network.dial(address, ear) {
            Some(line) => drop(self.lines.insert(link, line)),
            None => {
                let reason = "no connection could be begun".into();
                let mut state = shared.state.lock();
                state.machine.closed(Instant::now(), link, &reason);
            }
        }
    }
}

/// Gives the performer back, also if what it calls panics.
struct Performing<'a> {
    shared: &'a Shared,
    performer: Performer,
}

impl Drop for Performing<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().performer = Some(mem::take(&mut self.performer));
    }
}
