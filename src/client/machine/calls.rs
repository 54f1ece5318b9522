//! Everything that is asked once and answered once, but appends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::places::PlaceIndex;
use super::{Act, Asked, CallOutcome, LinkId, Machine, Target};
use crate::client::error::{ClientError, Result};
use crate::protocol::Role;
use crate::protocol::request::{Refused, Reply, Request};
use crate::types::Lsn;

/// Something to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Of whom.
    pub(crate) target: Target,
    /// What.
    pub(crate) request: Request,
    /// Until when.
    pub(crate) deadline: Instant,
}

/// All calls that are not answered.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<u64, Pending>,
    /// Those to be sent, in order.
    waiting: VecDeque<u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// How many are for the primary, and wait.
    for_primary: usize,
    /// One of them is looked at again then.
    resume_at: Option<Instant>,
    /// Everybody is asked again then for a replica that nobody knows.
    look_at: Option<Instant>,
    refusals: u32,
    names: u64,
}

#[derive(Debug)]
struct Pending {
    target: Target,
    request: Arc<Request>,
    deadline: Instant,
    outcome: Arc<CallOutcome>,
    /// The link over which it was asked.
    attempt: Option<LinkId>,
    /// It is not asked again before then.
    resume_at: Option<Instant>,
}

impl Pending {
    fn asked_lsn(&self) -> Lsn {
        match *self.request {
            Request::Read { from, .. } => from,
            Request::Frames { range, .. } => range.first,
            _ => Lsn::ZERO,
        }
    }

    /// Whether asking twice is the same as asking once.
    fn is_repeatable(&self) -> bool {
        !matches!(*self.request, Request::Transfer { .. } | Request::Promote | Request::Change(_))
    }
}

impl Calls {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let resume = self.resume_at.filter(|_| !self.waiting.is_empty());
        self.deadlines.first().map(|(deadline, _)| *deadline).into_iter().chain(resume).min()
    }

    pub(super) const fn wants_primary(&self) -> bool {
        self.for_primary > 0
    }

    fn add(&mut self, call: Pending) {
        self.names += 1;
        self.for_primary += usize::from(call.target == Target::Primary);
        self.deadlines.insert((call.deadline, self.names));
        self.waiting.push_back(self.names);
        self.open.insert(self.names, call);
    }

    fn remove(&mut self, name: u64) -> Option<Pending> {
        let call = self.open.remove(&name)?;
        self.deadlines.remove(&(call.deadline, name));
        self.for_primary -= usize::from(call.target == Target::Primary);
        Some(call)
    }
}

impl Machine {
    /// Asks, as soon as there is somebody to ask.
    pub(crate) fn call(&mut self, now: Instant, call: Call) -> Arc<CallOutcome> {
        let outcome = Arc::new(CallOutcome::new());
        let Call { target, request, deadline } = call;
        let request = Arc::new(request);
        let told = Arc::clone(&outcome);
        self.calls.add(Pending { target, request, deadline, outcome: told, attempt: None, resume_at: None });
        self.seek(now);
        self.call_all(now);
        outcome
    }

    /// Asks what has not been asked.
    pub(super) fn call_all(&mut self, now: Instant) {
        let mut left = VecDeque::new();
        let mut again = None;
        for name in std::mem::take(&mut self.calls.waiting) {
            let Some(call) = self.calls.open.get(&name) else { continue };
            let (target, request) = (call.target.clone(), Arc::clone(&call.request));
            let route = match call.resume_at.filter(|at| now < *at) {
                Some(at) => Route::Later(Some(at)),
                None => self.route(now, &target),
            };
            match route {
                Route::Over(link) => {
                    let number = self.send(now, link, request, Bytes::new());
                    self.asked.insert(number, (link, Asked::Call(name)));
                    self.calls.open.get_mut(&name).expect("looked at above").attempt = Some(link);
                }
                Route::Later(at) => {
                    again = again.into_iter().chain(at).min();
                    left.push_back(name);
                }
                Route::Nowhere => {
                    let call = self.calls.remove(name).expect("looked at above");
                    let reason = "no such replica is known; name its address as an endpoint".into();
                    self.answer(call, Err(ClientError::NotPossible { reason }));
                }
            }
        }
        self.calls.waiting = left;
        self.calls.resume_at = again;
    }

    /// How a target is reached, dialing it if that is what it takes.
    pub(super) fn route(&mut self, now: Instant, target: &Target) -> Route {
        let place = match target {
            Target::Primary => return self.leader().map_or(Route::Later(None), Route::Over),
            Target::Any => match self.leading.as_ref().map(|leading| leading.place) {
                Some(place) => place,
                None => self.places.any_up().unwrap_or_else(|| self.places.next()),
            },
            Target::Replica(id) => match self.places.with_id(*id) {
                Some(place) => place,
                None => return self.look_for(now),
            },
            Target::At(address) => {
                let known = self.places.at(address);
                let Some(place) = known.or_else(|| self.places.add(&address.as_str().into(), None)) else {
                    return Route::Nowhere;
                };
                place
            }
        };
        self.route_to(now, place)
    }

    fn route_to(&mut self, now: Instant, place: PlaceIndex) -> Route {
        if let Some(link) = self.places.up(place) {
            return Route::Over(link);
        }
        self.reach(now, place);
        Route::Later(self.places.wait_for(place).filter(|until| *until > now))
    }

    /// Nobody with the id is known: all are asked for whom they know, until the deadline.
    fn look_for(&mut self, now: Instant) -> Route {
        if self.calls.look_at.is_none_or(|at| at <= now) {
            self.calls.look_at = Some(now + self.settings.round.1);
            for place in self.places.all() {
                self.reach(now, place);
            }
        }
        Route::Later(self.calls.look_at)
    }

    pub(super) fn call_answered(&mut self, now: Instant, name: u64, reply: Reply, payload: Bytes) {
        let Some(call) = self.calls.open.get_mut(&name) else { return };
        let link = call.attempt.take();
        let reply = match reply {
            // Every replica says what it is: one that leads no more is not who was asked for.
            Reply::Status(status) if call.target == Target::Primary && status.role != Role::Primary => {
                let primary = status.primary.filter(|id| *id != status.id);
                Reply::Refused(Refused::NotPrimary { primary })
            }
            reply => reply,
        };
        let Reply::Refused(refused) = reply else {
            self.calls.refusals = 0;
            let call = self.calls.remove(name).expect("looked at above");
            self.answer(call, Ok((reply, payload)));
            return;
        };
        self.note(&refused);
        let is_for_primary = self.calls.open[&name].target == Target::Primary;
        match refused {
            Refused::NotPrimary { primary } if is_for_primary => {
                if link.is_some() && link == self.leader() {
                    self.leave(now, primary);
                }
                self.calls.waiting.push_back(name);
            }
            Refused::Unknown => {
                if is_for_primary && link.is_some() && link == self.leader() {
                    self.leave(now, None);
                }
                self.call_lost(name);
            }
            Refused::Busy => {
                let pause = self.chance.pause(self.settings.pause, self.calls.refusals);
                self.calls.refusals = self.calls.refusals.saturating_add(1);
                self.calls.open.get_mut(&name).expect("looked at above").resume_at = Some(now + pause);
                self.calls.waiting.push_back(name);
            }
            Refused::NotPrimary { .. } => {
                let call = self.calls.remove(name).expect("looked at above");
                let reason = "only the primary can do that; ask it".into();
                self.answer(call, Err(ClientError::NotPossible { reason }));
            }
            refused => {
                let call = self.calls.remove(name).expect("looked at above");
                let asked = call.asked_lsn();
                self.answer(call, Err(ClientError::refused(refused, asked, 0)));
            }
        }
    }

    /// Nobody knows whether it was done: it is asked again where that is harmless.
    pub(super) fn call_lost(&mut self, name: u64) {
        let Some(call) = self.calls.open.get_mut(&name) else { return };
        call.attempt = None;
        if call.is_repeatable() {
            self.calls.waiting.push_back(name);
            return;
        }
        let call = self.calls.remove(name).expect("looked at above");
        self.answer(call, Err(ClientError::Unknown));
    }

    /// Calls to a primary that does not lead any more are asked of the one that does.
    pub(super) fn calls_lost_but(&mut self, link: LinkId) {
        let is_lost =
            |call: &Pending| call.target == Target::Primary && call.attempt.is_some_and(|of| of != link);
        let lost: Vec<u64> =
            self.calls.open.iter().filter(|(_, call)| is_lost(call)).map(|(name, _)| *name).collect();
        for name in lost {
            self.asked.retain(|_, (_, asked)| *asked != Asked::Call(name));
            self.call_lost(name);
        }
    }

    pub(super) fn expire_calls(&mut self, now: Instant) {
        while let Some((_, name)) = self.calls.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            let call = self.calls.remove(name).expect("it has a deadline");
            if call.attempt.is_some() {
                self.asked.retain(|_, (_, asked)| *asked != Asked::Call(name));
            }
            let is_unknown = call.attempt.is_some() && !call.is_repeatable();
            let error = if is_unknown { ClientError::Unknown } else { self.timed_out() };
            self.answer(call, Err(error));
        }
    }

    pub(super) fn close_calls(&mut self) {
        while let Some((_, name)) = self.calls.deadlines.first().copied() {
            let call = self.calls.remove(name).expect("it has a deadline");
            let is_unknown = call.attempt.is_some() && !call.is_repeatable();
            let error = if is_unknown { ClientError::Unknown } else { ClientError::Closed };
            self.answer(call, Err(error));
        }
    }

    fn answer(&mut self, call: Pending, result: Result<(Reply, Bytes)>) {
        self.acts.push_back(Act::Answer { outcome: call.outcome, result });
    }
}

/// How a target is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    Over(LinkId),
    /// Not now; perhaps by then.
    Later(Option<Instant>),
    /// Not at all.
    Nowhere,
}
