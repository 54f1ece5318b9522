//! Appends: who goes together, with which number, and what a reply to it means.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::unit::{Batch, Bounds, Place, Share, Unit};
use super::{Act, Asked, LinkId, Machine};
use crate::client::error::{ClientError, Result};
use crate::protocol::request::{Appended, Copies, Refused, Reply, Request};
use crate::types::{Lsn, ProducerId, ReplicaId};

/// A part of the deadline for which a unit gathers: what joins later times out that much too early.
const AGE_PART: u32 = 16;
/// So often a primary may say that it knows nothing of what was sent before: it may be about to be deposed.
const DOUBTS_MAX: u32 = 3;

/// All appends that are not settled.
#[derive(Debug, Default)]
pub(super) struct Appends {
    registered: Registered,
    /// The number of the next record.
    next: u64,
    /// Units that were sent, or are next; in order.
    sent: VecDeque<Unit>,
    /// Units that gather; in order, and the last one may be joined.
    queue: VecDeque<Unit>,
    weight: u64,
    /// Nothing is sent before then.
    resume_at: Option<Instant>,
    /// In a row.
    refusals: u32,
    doubts: u32,
}

/// The producer whose numbers are given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Registered {
    #[default]
    No,
    Asked,
    Yes(ProducerId),
}

impl Appends {
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.queue.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let units = self.sent.iter().chain(self.queue.front());
        units.map(|unit| unit.deadline).chain(self.resume_at).min()
    }

    pub(super) const fn refusals(&self) -> u32 {
        self.refusals
    }

    pub(super) fn is_on_wire(&self, link: LinkId) -> bool {
        self.sent.iter().any(|unit| unit.attempt.is_some_and(|(of, _)| of == link))
    }

    pub(super) fn forget_register(&mut self) {
        if self.registered == Registered::Asked {
            self.registered = Registered::No;
        }
    }

    fn producer(&self) -> Option<ProducerId> {
        match self.registered {
            Registered::Yes(producer) => Some(producer),
            Registered::No | Registered::Asked => None,
        }
    }

    /// No more numbers are given for this producer: there may be a gap in them that nothing will fill. What was sent
    /// keeps its number as long as it may have been taken.
    fn abandon(&mut self) {
        (self.registered, self.doubts) = (Registered::No, 0);
    }

    /// The last number that was given is free again, if it was this unit's; otherwise there is a gap.
    fn give_back(&mut self, unit: &Unit, is_clean: bool) {
        let Some((producer, first)) = unit.number else { return };
        if Some(producer) != self.producer() {
            return;
        }
        if is_clean && first + u64::from(unit.records()) == self.next {
            self.next = first;
        } else {
            self.abandon();
        }
    }

    /// Whether the unit at this place may be sent while those before it are awaited: only numbers of one producer make
    /// sure that it is not taken when they are not.
    fn may_follow(&self, unit: &Unit, before: Option<&Unit>) -> bool {
        let Some(before) = before else { return true };
        let of = |unit: &Unit| unit.number.map(|(producer, _)| producer).or(self.producer());
        let is_numbered = unit.wants_number() && before.wants_number();
        is_numbered && before.number.is_some() && of(unit) == of(before)
    }
}

impl Machine {
    /// Whether an append has to wait for room.
    pub(crate) fn is_full(&self) -> bool {
        self.appends.weight >= self.settings.in_flight_bytes_max
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.appends.is_empty()
    }

    /// Takes records of so many bytes in all that live or die together.
    pub(crate) fn append<'a>(
        &mut self,
        now: Instant,
        copies: Copies,
        records: impl ExactSizeIterator<Item = &'a [u8]>,
        bytes: usize,
    ) -> Place {
        let bounds = Bounds { bytes: self.settings.unit_bytes, age: self.settings.deadline / AGE_PART };
        let count = records.len();
        let takes = |unit: &Unit| unit.takes(copies, count, bytes, now, bounds);
        if !self.appends.queue.back().is_some_and(takes) {
            let deadline = now + self.settings.deadline;
            self.appends.queue.push_back(Unit::open(copies, now, deadline, bytes));
        }
        let unit = self.appends.queue.back_mut().expect("pushed above");
        let (first, weight) = (unit.records(), unit.weight());
        records.for_each(|record| unit.push(record));
        self.appends.weight += unit.weight() - weight;
        let place = Place {
            outcome: Arc::clone(&unit.outcome),
            share: Share { first, records: unit.records() - first },
        };
        self.take_note(now);
        place
    }

    /// Takes records that were put together already, and that nothing joins.
    pub(crate) fn append_whole(&mut self, now: Instant, copies: Copies, batch: Batch) -> Place {
        let unit = Unit::whole(copies, now, now + self.settings.deadline, batch);
        self.appends.weight += unit.weight();
        let share = Share { first: 0, records: unit.records() };
        let place = Place { outcome: Arc::clone(&unit.outcome), share };
        self.appends.queue.push_back(unit);
        self.take_note(now);
        place
    }

    /// Something is to be appended.
    fn take_note(&mut self, now: Instant) {
        if self.leading.is_some() {
            self.pump(now);
        } else {
            self.seek(now);
        }
    }

    /// Sends what may be sent.
    pub(super) fn pump(&mut self, now: Instant) {
        if self.appends.resume_at.is_some_and(|at| now < at) {
            return;
        }
        self.appends.resume_at = None;
        let Some(link) = self.leader() else { return };
        for at in 0..self.appends.sent.len() {
            if self.appends.sent[at].attempt.is_none() && !self.send_unit(now, link, at) {
                return;
            }
        }
        while self.may_take_more() {
            let unit = self.appends.queue.pop_front().expect("looked at above");
            self.appends.sent.push_back(unit);
            if !self.send_unit(now, link, self.appends.sent.len() - 1) {
                return;
            }
        }
    }

    /// Whether the next unit of the queue goes now, rather than gather more.
    fn may_take_more(&self) -> bool {
        let (sent, queue) = (&self.appends.sent, &self.appends.queue);
        let Some(unit) = queue.front() else { return false };
        let is_full = queue.len() > 1 || unit.bytes() >= self.settings.unit_bytes as u64 / 2;
        let depth = if is_full { self.settings.depth } else { self.settings.depth_eager };
        sent.len() < depth && self.appends.may_follow(unit, sent.back())
    }

    /// Sends one of the units, if it may go; those before it have gone.
    fn send_unit(&mut self, now: Instant, link: LinkId, at: usize) -> bool {
        let before = at.checked_sub(1).map(|before| &self.appends.sent[before]);
        if !self.appends.may_follow(&self.appends.sent[at], before) {
            return false;
        }
        let appends = &mut self.appends;
        let unit = &mut appends.sent[at];
        if unit.wants_number() && unit.number.is_none() {
            let Registered::Yes(producer) = appends.registered else {
                self.register(now, link);
                return false;
            };
            unit.number = Some((producer, appends.next));
            appends.next += u64::from(unit.records());
        }
        let (request, payload) = unit.sealed();
        let number = self.send(now, link, request, payload);
        self.appends.sent[at].attempt = Some((link, number));
        true
    }

    fn register(&mut self, now: Instant, link: LinkId) {
        if self.appends.registered == Registered::No {
            self.appends.registered = Registered::Asked;
            let number = self.send(now, link, Arc::new(Request::Register), Bytes::new());
            self.asked.insert(number, (link, Asked::Register));
        }
    }

    pub(super) fn register_answered(&mut self, now: Instant, link: LinkId, reply: Reply) {
        self.appends.forget_register();
        match reply {
            Reply::Registered(producer) => {
                self.appends.registered = Registered::Yes(producer);
                (self.appends.next, self.appends.refusals) = (1, 0);
            }
            Reply::Refused(refused) => {
                self.note(&refused);
                match refused {
                    Refused::NotPrimary { primary } => self.refused_here(now, primary),
                    Refused::Unknown => self.refused_here(now, None),
                    Refused::Busy => self.pause(now),
                    refused => self.fail_unnumbered(&refused),
                }
            }
            _ => self.distrust(now, link),
        }
    }

    /// What came under the number of an append, if that is still awaited.
    pub(super) fn append_answered(&mut self, now: Instant, link: LinkId, number: u64, reply: Reply) {
        let is_it = |unit: &Unit| unit.attempt == Some((link, number));
        let Some(at) = self.appends.sent.iter().position(is_it) else { return };
        match reply {
            Reply::Appended(appended) => self.appended(at, appended),
            Reply::Refused(refused) => {
                self.note(&refused);
                self.append_refused(now, at, refused);
            }
            _ => self.distrust(now, link),
        }
    }

    fn appended(&mut self, at: usize, mut appended: Appended) {
        self.epoch = self.epoch.max(appended.epoch);
        (self.appends.refusals, self.appends.doubts) = (0, 0);
        let records = u64::from(self.appends.sent[at].records());
        appended.range = appended.range.filter(|range| range.records() == records);
        self.settle(at, Ok(appended));
    }

    fn append_refused(&mut self, now: Instant, at: usize, refused: Refused) {
        let unit = &mut self.appends.sent[at];
        unit.attempt = None;
        match refused {
            Refused::NotPrimary { primary } => {
                self.release(at);
                self.refused_here(now, primary);
            }
            Refused::Unknown => {
                if unit.wants_number() {
                    unit.is_exposed = true;
                } else {
                    self.settle(at, Err(ClientError::Unknown));
                }
                self.refused_here(now, None);
            }
            Refused::Busy => {
                self.release(at);
                self.pause(now);
            }
            Refused::OutOfSequence { .. } | Refused::UnknownProducer if self.is_behind_another(at) => {
                self.pause(now);
            }
            Refused::OutOfSequence { .. } | Refused::UnknownProducer => self.lost_track(now, at),
            refused => self.refused_for_good(at, refused),
        }
    }

    /// Whether one before it, of the same producer, has not been taken yet.
    fn is_behind_another(&self, at: usize) -> bool {
        let producer = |unit: &Unit| unit.number.map(|(producer, _)| producer);
        let of = producer(&self.appends.sent[at]);
        self.appends.sent.iter().take(at).any(|unit| producer(unit) == of)
    }

    /// The primary cannot place a unit whose predecessors are all settled: it does not know the producer, or there is a
    /// gap before the unit. So it was not taken just now. If no attempt before may have been taken, it gets a new
    /// number; otherwise the primary is asked again after another look who leads, and then nobody knows.
    fn lost_track(&mut self, now: Instant, at: usize) {
        let unit = &self.appends.sent[at];
        let is_current = unit.number.map(|(producer, _)| producer) == self.appends.producer();
        if unit.is_exposed && is_current && self.appends.doubts < DOUBTS_MAX {
            self.appends.doubts += 1;
            self.refused_here(now, None);
            return;
        }
        if is_current {
            self.appends.abandon();
        }
        if self.appends.sent[at].is_exposed {
            self.settle(at, Err(ClientError::Unknown));
        } else {
            self.appends.sent[at].number = None;
        }
        self.pump(now);
    }

    /// It was refused, and asking again would not help.
    fn refused_for_good(&mut self, at: usize, refused: Refused) {
        let unit = &self.appends.sent[at];
        let error = match unit.is_exposed {
            true => ClientError::Unknown,
            false => ClientError::refused(refused, Lsn::ZERO, unit.bytes()),
        };
        self.settle(at, Err(error));
    }

    /// What has a number of a producer that is not used any more, and was certainly not taken, needs it no more.
    fn release(&mut self, at: usize) {
        let producer = self.appends.producer();
        let unit = &mut self.appends.sent[at];
        if !unit.is_exposed && unit.number.map(|(producer, _)| producer) != producer {
            unit.number = None;
        }
    }

    /// Whoever was asked does not lead.
    fn refused_here(&mut self, now: Instant, hint: Option<ReplicaId>) {
        self.appends.refusals = self.appends.refusals.saturating_add(1);
        self.leave(now, hint);
    }

    /// What was refused for the moment is asked again in a while; the first refusal of many says when.
    fn pause(&mut self, now: Instant) {
        if self.appends.resume_at.is_some() {
            return;
        }
        let pause = self.chance.pause(self.settings.pause, self.appends.refusals);
        self.appends.refusals = self.appends.refusals.saturating_add(1);
        self.appends.resume_at = Some(now + pause);
    }

    /// What is awaited over this link may have been taken.
    pub(super) fn expose(&mut self, link: LinkId) {
        self.expose_where(|of| of == link);
    }

    /// Everything is asked over this link from now on; what is awaited over others may have been taken.
    pub(super) fn expose_others(&mut self, link: LinkId) {
        self.expose_where(|of| of != link);
        let asked = |(of, asked): &(LinkId, Asked)| *asked == Asked::Register && *of != link;
        if self.asked.values().any(asked) {
            self.asked.retain(|_, entry| !asked(entry));
            self.appends.forget_register();
        }
    }

    fn expose_where(&mut self, is_lost: impl Fn(LinkId) -> bool) {
        let mut at = 0;
        while at < self.appends.sent.len() {
            let unit = &mut self.appends.sent[at];
            let is_exposed = unit.attempt.take_if(|(of, _)| is_lost(*of)).is_some();
            unit.is_exposed |= is_exposed;
            if is_exposed && !unit.wants_number() {
                self.settle(at, Err(ClientError::Unknown));
            } else {
                at += 1;
            }
        }
    }

    /// Gives up what has waited for too long.
    pub(super) fn expire_appends(&mut self, now: Instant) {
        while let Some(at) = self.appends.sent.iter().position(|unit| unit.deadline <= now) {
            let unit = &self.appends.sent[at];
            let is_unknown = unit.is_exposed || unit.attempt.is_some();
            let error = if is_unknown { ClientError::Unknown } else { self.timed_out() };
            self.settle(at, Err(error));
        }
        while let Some(unit) = self.appends.queue.pop_front_if(|unit| unit.deadline <= now) {
            let error = self.timed_out();
            self.settle_unit(unit, Err(error));
        }
    }

    /// Whoever asked for a producer may not: neither may those that wait for it.
    fn fail_unnumbered(&mut self, refused: &Refused) {
        while let Some(at) =
            self.appends.sent.iter().position(|unit| unit.wants_number() && unit.number.is_none())
        {
            let bytes = self.appends.sent[at].bytes();
            self.settle(at, Err(ClientError::refused(refused.clone(), Lsn::ZERO, bytes)));
        }
        for unit in std::mem::take(&mut self.appends.queue) {
            if unit.wants_number() {
                let error = ClientError::refused(refused.clone(), Lsn::ZERO, unit.bytes());
                self.settle_unit(unit, Err(error));
            } else {
                self.appends.queue.push_back(unit);
            }
        }
    }

    pub(super) fn close_appends(&mut self) {
        while let Some(unit) = self.appends.sent.front() {
            let is_unknown = unit.is_exposed || unit.attempt.is_some();
            let error = if is_unknown { ClientError::Unknown } else { ClientError::Closed };
            self.settle(0, Err(error));
        }
        while let Some(unit) = self.appends.queue.pop_front() {
            self.settle_unit(unit, Err(ClientError::Closed));
        }
    }

    /// A unit that was sent has come to its end.
    fn settle(&mut self, at: usize, result: Result<Appended>) {
        let unit = self.appends.sent.remove(at).expect("the place of a unit");
        if let Err(error) = &result {
            self.appends.give_back(&unit, !error.is_unknown());
        }
        self.settle_unit(unit, result);
    }

    fn settle_unit(&mut self, unit: Unit, result: Result<Appended>) {
        self.appends.weight -= unit.weight();
        self.acts.push_back(Act::Settle { outcome: unit.outcome, result });
    }
}
