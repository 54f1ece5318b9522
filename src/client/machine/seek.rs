//! Finding out who leads, and noticing that somebody else does.
//!
//! Whoever says that it is the primary leads, if no later epoch is known; what replicas say of one another only decides
//! who is asked next. While nobody is known to lead, one replica is asked, and if that does not help, all are, in rounds
//! that become rarer. While the primary is silent though something was asked of it, the others are asked in the same
//! way, and nothing is asked of it again: it may yet answer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::places::{Link, PlaceIndex};
use super::{Act, Asked, LinkId, Machine};
use crate::protocol::Role;
use crate::protocol::request::{NodeStatus, Reply, Request};
use crate::types::{Epoch, ReplicaId};

/// Rounds before the time between two of them doubles.
const ROUNDS_ALIKE: u32 = 4;

/// Who leads.
#[derive(Debug)]
pub(super) struct Leading {
    pub(super) place: PlaceIndex,
    pub(super) link: LinkId,
    pub(super) epoch: Epoch,
    /// Since when something is awaited from it without a word.
    pub(super) silent_since: Option<Instant>,
}

/// Rounds of asking replicas for their status.
#[derive(Debug)]
pub(super) struct Rounds {
    rounds: u32,
    next: Instant,
    /// Who is asked alone, at first.
    alone: Option<PlaceIndex>,
}

impl Rounds {
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// The one that was asked alone is gone: the others are asked now.
    pub(super) fn hurry(&mut self, now: Instant, place: PlaceIndex) {
        if self.alone == Some(place) {
            (self.alone, self.next) = (None, now);
        }
    }
}

impl Machine {
    /// The next round of the search for a primary, if it is time and there is a need.
    pub(super) fn seek(&mut self, now: Instant) {
        if self.leading.is_some() || !self.wants_primary() {
            return;
        }
        if self.seeking.is_none() {
            self.begin_search(now, now);
        }
        let Some(seeking) = self.seeking.as_mut().filter(|seeking| seeking.next <= now) else { return };
        let round = seeking.rounds;
        seeking.rounds += 1;
        self.asking += 1;
        if round == 0 {
            let first = self.places.any_up().unwrap_or_else(|| self.places.next());
            seeking.alone = Some(first);
            seeking.next = now + self.settings.round_first;
            self.reach(now, first);
            return;
        }
        seeking.alone = None;
        seeking.next = now + self.chance.pause(self.settings.round, (round - 1) / ROUNDS_ALIKE);
        for place in self.places.all() {
            self.reach(now, place);
        }
    }

    /// Asks the others while the primary is silent.
    pub(super) fn suspect(&mut self, now: Instant) {
        let Some(due) = self.next_suspicion().filter(|due| *due <= now) else { return };
        let rounds = self.suspecting.as_ref().map_or(0, |rounds| rounds.rounds);
        let next = due.max(now) + self.chance.pause(self.settings.round, rounds / ROUNDS_ALIKE);
        self.suspecting = Some(Rounds { rounds: rounds + 1, next, alone: None });
        let leading = self.leading.as_ref().map(|leading| leading.place);
        for place in self.places.all().filter(|place| Some(*place) != leading) {
            self.reach(now, place);
        }
    }

    /// When the others are asked next, if the primary stays silent.
    pub(super) fn next_suspicion(&self) -> Option<Instant> {
        let silent_since = self.leading.as_ref()?.silent_since?;
        let first = silent_since + self.settings.suspect_after;
        Some(self.suspecting.as_ref().map_or(first, Rounds::next))
    }

    /// Something came over this link: whoever is at its other end lives.
    pub(super) fn heard_from(&mut self, link: LinkId) {
        let Some(leading) = self.leading.as_mut().filter(|leading| leading.link == link) else { return };
        leading.silent_since = None;
        self.suspecting = None;
    }

    /// If something more is awaited from whoever leads, its silence is counted from now on.
    pub(super) fn listen(&mut self, now: Instant) {
        let Some(leading) = self.leading.as_ref().filter(|leading| leading.silent_since.is_none()) else {
            return;
        };
        let link = leading.link;
        let is_awaited = |(of, asked): &(LinkId, Asked)| *of == link && !matches!(asked, Asked::Feed(_));
        if self.appends.is_on_wire(link) || self.asked.values().any(is_awaited) {
            self.leading.as_mut().expect("as above").silent_since = Some(now);
        }
    }

    /// Whoever was thought to lead does not. What was asked of it may still be answered.
    pub(super) fn leave(&mut self, now: Instant, hint: Option<ReplicaId>) {
        let Some(left) = self.leading.take() else { return };
        self.suspecting = None;
        let pause = self.chance.pause(self.settings.pause, self.appends.refusals());
        self.begin_search(now, now + pause);
        let hinted = hint.and_then(|id| self.places.with_id(id)).filter(|place| *place != left.place);
        if let Some(place) = hinted {
            self.ask_once(now, place);
        }
    }

    /// Connects to a place, or asks it for its status.
    pub(super) fn reach(&mut self, now: Instant, place: PlaceIndex) {
        if self.places.up(place).is_some() {
            self.ask_status(place);
        } else if let Some((link, address)) = self.places.dial(now, place) {
            self.acts.push_back(Act::Dial { link, address });
        }
    }

    pub(super) fn ask_status(&mut self, place: PlaceIndex) {
        let spot = self.places.spot(place);
        let Link::Up(link) = spot.link else { return };
        if spot.asked.is_some() {
            return;
        }
        self.numbers += 1;
        spot.asked = Some(self.numbers);
        self.asked.insert(self.numbers, (link, Asked::Status(place)));
        let (request, payload) = (Arc::new(Request::Status), Bytes::new());
        self.acts.push_back(Act::Send { link, number: self.numbers, request, payload });
    }

    /// What a replica says of itself and of the others.
    pub(super) fn status_answered(&mut self, now: Instant, place: PlaceIndex, link: LinkId, reply: Reply) {
        self.places.spot(place).asked = None;
        let Reply::Status(status) = reply else {
            if let Reply::Refused(refused) = &reply {
                return self.note(refused);
            }
            return self.distrust(now, link);
        };
        self.learn(place, &status);
        if status.role == Role::Primary && status.epoch >= self.epoch {
            self.follow(now, place, link, status.epoch);
            return;
        }
        if self.leading.is_some() {
            return;
        }
        self.reason = "no primary was found".into();
        let named = status.primary.filter(|id| *id != status.id).and_then(|id| self.places.with_id(id));
        if let Some(named) = named {
            self.ask_once(now, named);
        } else if let Some(seeking) = self.seeking.as_mut() {
            seeking.hurry(now, place);
        }
    }

    fn learn(&mut self, place: PlaceIndex, status: &NodeStatus) {
        self.places.spot(place).id = Some(status.id);
        for (id, address) in &status.addresses {
            self.places.told(*id, address);
        }
    }

    /// Everything for the primary goes there from now on.
    fn follow(&mut self, now: Instant, place: PlaceIndex, link: LinkId, epoch: Epoch) {
        let is_known = |leading: &Leading| leading.link == link && leading.epoch == epoch;
        if self.leading.as_ref().is_some_and(is_known) {
            return;
        }
        let before = self.leader();
        self.epoch = epoch;
        self.leading = Some(Leading { place, link, epoch, silent_since: None });
        (self.seeking, self.suspecting) = (None, None);
        self.expose_others(link);
        if before.is_some_and(|before| before != link) {
            self.calls_lost_but(link);
        }
        self.listen(now);
    }

    /// Asks on somebody's word, but once in a round: two replicas may name each other.
    fn ask_once(&mut self, now: Instant, place: PlaceIndex) {
        let round = self.asking;
        let spot = self.places.spot(place);
        if std::mem::replace(&mut spot.asked_in, round) != round {
            self.reach(now, place);
        }
    }

    fn begin_search(&mut self, now: Instant, next: Instant) {
        let rounds = u32::from(next > now);
        self.asking += 1;
        self.seeking = Some(Rounds { rounds, next, alone: None });
    }
}
