//! Everything that is asked once and answered once, but appends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::places::PlaceIndex;
use super::{Act, Asked, CallOutcome, LinkId, Machine, Target};
use crate::client::error::{ClientError, Result};
use crate::protocol::Role;
use crate::protocol::request::{READS_MAX, Refused, Reply, Request};
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
    /// Whether an attempt whose reply never came may have done it.
    is_exposed: bool,
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

    /// Whether nothing is changed by it: then it does not matter whether it was done.
    fn only_asks(&self) -> bool {
        matches!(*self.request, Request::Status | Request::Linearize) || is_read(&self.request)
    }

    /// Whether it may have been done although no answer says so.
    fn may_be_done(&self) -> bool {
        !self.only_asks() && (self.is_exposed || self.attempt.is_some())
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

    /// How many reads are asked over each link and not answered.
    fn reads(&self) -> BTreeMap<LinkId, usize> {
        let mut reads = BTreeMap::new();
        if self.waiting.is_empty() {
            return reads;
        }
        for link in self.open.values().filter(|call| is_read(&call.request)).filter_map(|call| call.attempt) {
            *reads.entry(link).or_default() += 1;
        }
        reads
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
        self.calls.add(Pending {
            target,
            request,
            deadline,
            outcome: Arc::clone(&outcome),
            attempt: None,
            is_exposed: false,
            resume_at: None,
        });
        self.seek(now);
        self.call_all(now);
        outcome
    }

    /// Asks what has not been asked.
    pub(super) fn call_all(&mut self, now: Instant) {
        let mut left = VecDeque::new();
        let mut again = None;
        let mut reads = self.calls.reads();
        for name in std::mem::take(&mut self.calls.waiting) {
            let Some(call) = self.calls.open.get(&name) else { continue };
            let (target, request) = (call.target.clone(), Arc::clone(&call.request));
            let route = match call.resume_at.filter(|at| now < *at) {
                Some(at) => Route::Later(Some(at)),
                None => self.route(now, &target),
            };
            match route {
                // It goes when another one is answered.
                Route::Over(link) if is_read(&request) && reads.get(&link).copied() >= Some(READS_MAX) => {
                    left.push_back(name);
                }
                Route::Over(link) => {
                    if is_read(&request) {
                        *reads.entry(link).or_default() += 1;
                    }
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
                let error = match call.may_be_done() {
                    true => ClientError::Unknown,
                    false => ClientError::refused(refused, asked, 0),
                };
                self.answer(call, Err(error));
            }
        }
    }

    /// Nobody knows whether it was done: it is asked again where that is harmless.
    pub(super) fn call_lost(&mut self, name: u64) {
        let Some(call) = self.calls.open.get_mut(&name) else { return };
        (call.attempt, call.is_exposed) = (None, true);
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
            let error = if call.may_be_done() { ClientError::Unknown } else { self.timed_out() };
            self.answer(call, Err(error));
        }
    }

    pub(super) fn close_calls(&mut self) {
        while let Some((_, name)) = self.calls.deadlines.first().copied() {
            let call = self.calls.remove(name).expect("it has a deadline");
            let error = if call.may_be_done() { ClientError::Unknown } else { ClientError::Closed };
            self.answer(call, Err(error));
        }
    }

    fn answer(&mut self, call: Pending, result: Result<(Reply, Bytes)>) {
        self.acts.push_back(Act::Answer { outcome: call.outcome, result });
    }
}

/// Whether a replica takes only so many of its kind at a time.
const fn is_read(request: &Request) -> bool {
    matches!(request, Request::Read { .. } | Request::Frames { .. })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::machine::Settings;
    use crate::client::testing::status_of;
    use crate::types::ReplicaId;

    /// A client of three replicas, and the clock.
    struct Bench {
        machine: Machine,
        now: Instant,
        /// By which link each replica is reached.
        links: BTreeMap<u64, LinkId>,
        /// What was sent: to whom, and under which number.
        sent: Vec<(u64, u64, Arc<Request>)>,
        answers: Vec<Result<(Reply, Bytes)>>,
    }

    impl Bench {
        fn new() -> Bench {
            let endpoints: Vec<Arc<str>> = (1..=3).map(|id| format!("replica-{id}:1").into()).collect();
            let machine = Machine::new(Settings::default(), &endpoints, 7);
            let (links, sent, answers) = (BTreeMap::new(), vec![], vec![]);
            Bench { machine, now: Instant::now(), links, sent, answers }
        }

        /// Does what the machine wants; connections stand at once.
        fn act(&mut self) {
            while let Some(act) = self.machine.acts().pop_front() {
                match act {
                    Act::Dial { link, address } => {
                        let id = address["replica-".len()..][..1].parse().expect("a digit");
                        self.links.insert(id, link);
                        self.machine.connected(self.now, link, Some(ReplicaId::new(id)));
                    }
                    Act::Send { link, number, request, .. } => {
                        let (id, _) = self.links.iter().find(|(_, of)| **of == link).expect("it stands");
                        self.sent.push((*id, number, request));
                    }
                    Act::Answer { result, .. } => self.answers.push(result),
                    _ => {}
                }
            }
        }

        /// Each replica says of all it was asked what it is, if that was asked.
        fn answer_statuses(&mut self, primary: u64) {
            for (id, number, request) in std::mem::take(&mut self.sent) {
                if *request == Request::Status {
                    let link = self.links[&id];
                    self.machine.reply(self.now, link, number, status_of(id, primary), Bytes::new());
                }
            }
            self.machine.drive(self.now);
            self.act();
        }

        fn call(&mut self, target: Target, request: Request) {
            let deadline = self.now + Duration::from_secs(30);
            self.machine.call(self.now, Call { target, request, deadline });
            self.act();
        }

        /// Replica 1 leads, and time passes until what was asked is answered.
        fn pass_until_answered(&mut self) {
            while self.answers.is_empty() {
                self.answer_statuses(1);
                if self.answers.is_empty() {
                    self.pass();
                }
            }
        }

        fn pass(&mut self) {
            self.now = self.machine.next_deadline().expect("something is waited for").max(self.now);
            self.machine.drive(self.now);
            self.act();
        }
    }

    /// Each replica answers `Status`. Who asks the primary how the cluster is, and is answered by one that has just been
    /// deposed, would be shown a cluster without a primary.
    #[test]
    fn the_status_of_the_primary_is_told_by_the_primary() {
        let mut bench = Bench::new();
        bench.call(Target::Primary, Request::Status);
        bench.answer_statuses(1);
        while bench.sent.is_empty() {
            bench.pass();
        }
        assert!(bench.answers.is_empty());
        // 1 was found to lead, and is asked; but 2 leads now.
        while bench.answers.is_empty() {
            bench.answer_statuses(2);
            if bench.sent.is_empty() && bench.answers.is_empty() {
                bench.pass();
            }
        }
        let Ok((Reply::Status(status), _)) = &bench.answers[0] else { panic!("{:?}", bench.answers) };
        assert_eq!((status.id, status.role), (ReplicaId::new(2), Role::Primary));
    }

    #[test]
    fn the_status_of_any_other_is_told_by_whoever_is_asked() {
        let mut bench = Bench::new();
        bench.call(Target::Replica(ReplicaId::new(3)), Request::Status);
        bench.pass_until_answered();
        let Ok((Reply::Status(status), _)) = &bench.answers[0] else { panic!("{:?}", bench.answers) };
        assert_eq!((status.id, status.role), (ReplicaId::new(3), Role::Backup));
    }

    /// What a call ends with at its deadline, if it was asked and no answer came; with the connection lost meanwhile, or not.
    fn unanswered(request: Request, is_lost: bool) -> ClientError {
        let mut bench = Bench::new();
        bench.call(Target::Replica(ReplicaId::new(2)), Request::Status);
        bench.pass_until_answered();
        bench.sent.clear();
        bench.answers.clear();
        bench.call(Target::Replica(ReplicaId::new(2)), request.clone());
        assert!(bench.sent.iter().any(|(to, _, sent)| (*to, &**sent) == (2, &request)), "it is on its way");
        if is_lost {
            // And not made again.
            bench.machine.closed(bench.now, bench.links[&2], &"lost".into());
            let answers = bench.machine.acts().drain(..).filter_map(|act| match act {
                Act::Answer { result, .. } => Some(result),
                _ => None,
            });
            bench.answers.extend(answers);
        }
        bench.now += Duration::from_secs(31);
        bench.machine.drive(bench.now);
        bench.act();
        bench.answers.pop().expect("its time is over").expect_err("nobody has answered")
    }

    /// That a deadline is over says that nothing was done: for a trim, and a snapshot, too.
    #[test]
    fn what_was_asked_and_not_answered_is_unknown_if_it_changes_anything() {
        let lsn = Lsn::FIRST;
        for is_lost in [false, true] {
            for request in [Request::Trim { through: lsn }, Request::Snapshot, Request::Promote] {
                assert_eq!(unanswered(request.clone(), is_lost), ClientError::Unknown, "{request:?}");
            }
            for request in [Request::Read { from: lsn, bytes_max: 1 }, Request::Status] {
                let ended = unanswered(request.clone(), is_lost);
                assert!(matches!(ended, ClientError::TimedOut { .. }), "{request:?}: {ended}");
            }
        }
    }

    /// A replica refuses more reads of one session than it takes at a time, and a client does not make it.
    #[test]
    fn reads_of_a_link_wait_for_each_other_before_the_replica_refuses_them() {
        let mut bench = Bench::new();
        bench.call(Target::Replica(ReplicaId::new(2)), Request::Status);
        bench.pass_until_answered();
        bench.sent.clear();
        for lsn in 1..=100 {
            let read = Request::Read { from: Lsn::new(lsn), bytes_max: 1 };
            bench.call(Target::Replica(ReplicaId::new(2)), read);
        }
        assert_eq!(bench.sent.len(), READS_MAX);
        let (id, number, _) = bench.sent.remove(0);
        let reply = Reply::Records { records: vec![], next: Lsn::new(2), committed: Lsn::ZERO };
        bench.machine.reply(bench.now, bench.links[&id], number, reply, Bytes::new());
        bench.machine.drive(bench.now);
        bench.act();
        assert_eq!(bench.sent.len(), READS_MAX, "one more takes the place of the one that was answered");
        // What is no read does not wait for them.
        bench.call(Target::Replica(ReplicaId::new(2)), Request::Status);
        assert!(bench.sent.iter().any(|(_, _, request)| **request == Request::Status));
    }
}
