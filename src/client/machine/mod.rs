//! What a client does, without a network, a thread or a clock.
//!
//! A [`Machine`] is told what has happened, with the time, and says what is to be done ([`Machine::acts`]) and when it
//! wants to look at the clock again ([`Machine::next_deadline`]). What it promises:
//!
//! - An append is taken once. Each has a number of its producer's, and keeps it as long as any attempt may have been
//!   taken (*exposed*); whoever asks again gives the same number, so the log takes it once.
//! - Appends are taken in the order in which they were given. A request goes out only when all before it have, on the
//!   same link; where numbers do not chain two requests, the second waits for the first.
//! - An error that says *not done* is true for good. Where that is not certain, the error is
//!   [`Unknown`](super::ClientError::Unknown), and the client tries no more.

mod appends;
mod calls;
mod feeds;
mod places;
mod seek;
mod settings;
mod unit;

#[cfg(test)]
mod model;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::appends::Appends;
use self::calls::Calls;
use self::feeds::Feeds;
use self::places::{PlaceIndex, Places};
use self::seek::{Leading, Rounds};
use super::error::{ClientError, Result};
use crate::protocol::request::{Appended, Refused, Reply, Request};
use crate::sync::outcome::Outcome;
use crate::types::{Epoch, ReplicaId};

pub(crate) use self::calls::Call;
pub(crate) use self::feeds::{Delivery, Feed, FeedId, Sink, is_whole};
use self::settings::Chance;
pub(crate) use self::settings::Settings;
pub(crate) use self::unit::{Batch, Place};

/// What became of one append request.
pub(crate) type AppendOutcome = Outcome<Result<Appended>>;
/// What became of another request.
pub(crate) type CallOutcome = Outcome<Result<(Reply, Bytes)>>;

/// A connection that was or is to be made; never used for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct LinkId(pub(crate) u64);

/// What is to be done, in this order.
#[derive(Debug)]
pub(crate) enum Act {
    /// Connect.
    Dial { link: LinkId, address: Arc<str> },
    /// Ask.
    Send { link: LinkId, number: u64, request: Arc<Request>, payload: Bytes },
    /// Close the connection; nothing of it is heard any more.
    Hang { link: LinkId },
    /// Tell those who wait for an append.
    Settle { outcome: Arc<AppendOutcome>, result: Result<Appended> },
    /// Tell who waits for something else.
    Answer { outcome: Arc<CallOutcome>, result: Result<(Reply, Bytes)> },
    /// Hand over what a subscription has brought.
    Deliver { sink: Arc<dyn Sink>, delivery: Delivery },
}

/// Which replica is to answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Target {
    /// Whoever leads.
    #[default]
    Primary,
    /// Whoever answers first.
    Any,
    /// The replica with this id, at an endpoint or an address that the cluster has told.
    Replica(ReplicaId),
    /// Whoever is found at this address.
    At(String),
}

/// What a request, of which the reply is awaited, was for. Appends are kept apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Status(PlaceIndex),
    Register,
    Call(u64),
    Feed(FeedId),
}

/// The client of one cluster.
#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    chance: Chance,
    places: Places,
    /// Who leads, as far as known.
    leading: Option<Leading>,
    /// While nobody is known to lead.
    seeking: Option<Rounds>,
    /// While whoever leads is silent for too long.
    suspecting: Option<Rounds>,
    /// The newest epoch in which somebody led.
    epoch: Epoch,
    appends: Appends,
    calls: Calls,
    feeds: Feeds,
    asked: BTreeMap<u64, (LinkId, Asked)>,
    numbers: u64,
    /// Rounds of all searches, so that a hint is followed once in each.
    asking: u64,
    /// What stood in the way last.
    reason: Arc<str>,
    is_closed: bool,
    acts: VecDeque<Act>,
}

impl Machine {
    pub(crate) fn new(settings: Settings, endpoints: &[Arc<str>], seed: u64) -> Machine {
        let mut chance = Chance::new(seed);
        let places = Places::new(endpoints, &mut chance);
        Machine {
            settings,
            chance,
            places,
            leading: None,
            seeking: None,
            suspecting: None,
            epoch: Epoch::default(),
            appends: Appends::default(),
            calls: Calls::default(),
            feeds: Feeds::default(),
            asked: BTreeMap::new(),
            numbers: 0,
            asking: 0,
            reason: "no replica was asked yet".into(),
            is_closed: false,
            acts: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub(crate) fn acts(&mut self) -> &mut VecDeque<Act> {
        &mut self.acts
    }

    /// The connection is made, to this replica.
    pub(crate) fn connected(&mut self, now: Instant, link: LinkId, id: Option<ReplicaId>) {
        let Some(place) = self.places.connected(link, id) else { return };
        if self.seeking.is_some() || self.suspecting.is_some() {
            self.ask_status(place);
        }
        self.drive(now);
    }

    /// The connection could not be made, or is lost: what was asked may have been done.
    pub(crate) fn closed(&mut self, now: Instant, link: LinkId, reason: &Arc<str>) {
        let Some(place) = self.places.closed(now, link, &mut self.chance) else { return };
        self.acts.push_back(Act::Hang { link });
        self.reason = Arc::clone(reason);
        self.lose(now, link);
        if let Some(seeking) = self.seeking.as_mut() {
            seeking.hurry(now, place);
        }
        self.drive(now);
    }

    /// A reply has come. What was asked over another link since is not answered by it any more.
    pub(crate) fn reply(&mut self, now: Instant, link: LinkId, number: u64, reply: Reply, payload: Bytes) {
        if self.places.of(link).is_none() {
            return;
        }
        self.heard_from(link);
        match self.asked.get(&number).copied() {
            Some((of, asked)) if of == link => self.answered(now, link, number, asked, reply, payload),
            Some(_) => {}
            None => self.append_answered(now, link, number, reply),
        }
    }

    /// Does what the clock and the events up to now demand. Called after each batch of replies, and at the deadline.
    pub(crate) fn drive(&mut self, now: Instant) {
        if self.is_closed {
            return;
        }
        self.expire_appends(now);
        self.expire_calls(now);
        self.suspect(now);
        self.seek(now);
        self.pump(now);
        self.call_all(now);
        self.feed_all(now);
        self.listen(now);
    }

    /// When [`drive`](Machine::drive) is to be called at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.is_closed {
            return None;
        }
        let deadlines = [
            self.appends.next_deadline(),
            self.calls.next_deadline(),
            self.feeds.next_deadline(),
            self.seeking.as_ref().filter(|_| self.wants_primary()).map(Rounds::next),
            self.next_suspicion(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Ends everything: what may have been done is unknown, the rest is not done.
    pub(crate) fn close(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        self.close_appends();
        self.close_calls();
        self.close_feeds();
        for link in self.places.links() {
            self.acts.push_back(Act::Hang { link });
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The link over which whoever leads is asked.
    fn leader(&self) -> Option<LinkId> {
        self.leading.as_ref().map(|leading| leading.link)
    }

    /// Whether there is something that only the primary can do.
    fn wants_primary(&self) -> bool {
        !self.appends.is_empty() || self.calls.wants_primary() || self.feeds.wants_primary()
    }

    fn answered(
        &mut self,
        now: Instant,
        link: LinkId,
        number: u64,
        asked: Asked,
        reply: Reply,
        payload: Bytes,
    ) {
        match asked {
            Asked::Status(place) => {
                self.asked.remove(&number);
                self.status_answered(now, place, link, reply);
            }
            Asked::Register => {
                self.asked.remove(&number);
                self.register_answered(now, link, reply);
            }
            Asked::Call(call) => {
                self.asked.remove(&number);
                self.call_answered(now, call, reply, payload);
            }
            Asked::Feed(feed) => self.feed_answered(now, feed, number, reply, payload),
        }
    }

    /// Nothing more comes over this link.
    fn lose(&mut self, now: Instant, link: LinkId) {
        if self.leader() == Some(link) {
            self.leave(now, None);
        }
        self.expose(link);
        let lost = self.asked.extract_if(.., |_, (of, _)| *of == link);
        let lost: Vec<Asked> = lost.map(|(_, (_, asked))| asked).collect();
        for asked in lost {
            match asked {
                Asked::Status(_) => {}
                Asked::Register => self.appends.forget_register(),
                Asked::Call(call) => self.call_lost(call),
                Asked::Feed(feed) => self.feeds.idle(feed, now),
            }
        }
    }

    /// A replica said what makes no sense: nothing more is asked of it over this connection.
    fn distrust(&mut self, now: Instant, link: LinkId) {
        self.acts.push_back(Act::Hang { link });
        self.places.closed(now, link, &mut self.chance);
        self.reason = "a replica said what makes no sense".into();
        self.lose(now, link);
    }

    /// Notes why what was asked was not done, for who is told of a deadline.
    fn note(&mut self, refused: &Refused) {
        let reason = match refused {
            Refused::NotPrimary { .. } => "no primary was found",
            Refused::Unknown => "the primary was deposed",
            Refused::Busy => "the primary has too much to do",
            Refused::OutOfSequence { .. } | Refused::UnknownProducer => "the producer is not known",
            _ => return,
        };
        if *self.reason != *reason {
            self.reason = reason.into();
        }
    }

    pub(crate) fn timed_out(&self) -> ClientError {
        ClientError::TimedOut { reason: Arc::clone(&self.reason) }
    }

    /// Asks over a link; the reply comes under this number.
    fn send(&mut self, now: Instant, link: LinkId, request: Arc<Request>, payload: Bytes) -> u64 {
        self.numbers += 1;
        if let Some(leading) = self.leading.as_mut().filter(|leading| leading.link == link) {
            leading.silent_since.get_or_insert(now);
        }
        self.acts.push_back(Act::Send { link, number: self.numbers, request, payload });
        self.numbers
    }
}
