//! Whose turn it is with the readers' thread: one client after the other, one piece of work each, so that nobody who wants
//! much keeps the others waiting.

use std::collections::{BTreeMap, VecDeque};

use super::mail::Asker;
use super::readers::Key;
use crate::transport::SessionId;
use crate::types::{Lsn, LsnRange};

/// Something to be read once.
pub(crate) struct Job {
    /// Who asks.
    pub(crate) asker: Asker,
    /// What.
    pub(crate) wanted: Wanted,
    /// At most so many bytes.
    pub(crate) bytes_max: u32,
}

/// What is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Records, from this one on.
    Records(Lsn),
    /// Frames as they are stored.
    Frames(LsnRange),
}

/// What is done next.
pub(crate) enum Turn {
    /// A read.
    Job(Job),
    /// The next part of a subscription.
    Feed(Key),
}

/// A client, or `None` for this process.
type Guest = Option<SessionId>;

/// All that is to be read, by who has asked for it.
#[derive(Default)]
pub(super) struct Desks {
    desks: BTreeMap<Guest, Desk>,
    /// Those for whom something can be done, each once, in the order of their turns.
    row: VecDeque<Guest>,
}

/// What is to be read for one client.
#[derive(Default)]
struct Desk {
    jobs: VecDeque<Job>,
    /// Subscriptions that there is something to read for.
    feeds: VecDeque<u64>,
    /// Nothing is read for a job while the answer to this one, which is large, is not on its way.
    large: Option<u64>,
    /// Whether it stands in the row.
    is_in_row: bool,
    /// Whether a job came last, so that it is a subscription's turn.
    was_job: bool,
}

impl Desks {
    /// Something is to be read once.
    pub(super) fn add(&mut self, job: Job) {
        let guest = match job.asker {
            Asker::Client { session, .. } => Some(session),
            Asker::Local(_) => None,
        };
        self.desks.entry(guest).or_default().jobs.push_back(job);
        self.call(guest);
    }

    /// There is something to be read for a subscription.
    pub(super) fn feed(&mut self, (session, number): Key) {
        self.desks.entry(Some(session)).or_default().feeds.push_back(number);
        self.call(Some(session));
    }

    /// The answer to this job is large: the client's other jobs wait until it is on its way.
    pub(super) fn wait_for(&mut self, (session, number): Key) {
        self.desks.entry(Some(session)).or_default().large = Some(number);
    }

    /// What was read for this one is on its way.
    pub(super) fn delivered(&mut self, (session, number): Key) {
        let guest = Some(session);
        if let Some(desk) = self.desks.get_mut(&guest) {
            desk.large.take_if(|large| *large == number);
            self.call(guest);
        }
    }

    /// Nothing more is read for this client.
    pub(super) fn close(&mut self, session: SessionId) {
        self.desks.remove(&Some(session));
    }

    /// What is to be done next.
    pub(super) fn next(&mut self) -> Option<Turn> {
        while let Some(guest) = self.row.pop_front() {
            let Some(desk) = self.desks.get_mut(&guest) else { continue };
            desk.is_in_row = false;
            let turn = desk.next(guest);
            self.call(guest);
            if turn.is_some() {
                return turn;
            }
        }
        None
    }

    /// Gives the client a place in the row, if there is something to do for it; forgets it if there never will be.
    fn call(&mut self, guest: Guest) {
        let Some(desk) = self.desks.get_mut(&guest) else { return };
        if desk.has_work() && !desk.is_in_row {
            desk.is_in_row = true;
            self.row.push_back(guest);
        } else if desk.is_empty() {
            self.desks.remove(&guest);
        }
    }
}

impl Desk {
    fn next(&mut self, guest: Guest) -> Option<Turn> {
        let is_feeds_turn = self.was_job || self.jobs.is_empty() || self.large.is_some();
        self.was_job = false;
        if is_feeds_turn && let (Some(number), Some(session)) = (self.feeds.pop_front(), guest) {
            return Some(Turn::Feed((session, number)));
        }
        if self.large.is_some() {
            return None;
        }
        self.was_job = true;
        self.jobs.pop_front().map(Turn::Job)
    }

    fn has_work(&self) -> bool {
        !self.feeds.is_empty() || (self.large.is_none() && !self.jobs.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.feeds.is_empty() && self.jobs.is_empty() && self.large.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(session: u64, number: u64) -> Job {
        let asker = Asker::Client { session: SessionId(session), number };
        Job { asker, wanted: Wanted::Records(Lsn::FIRST), bytes_max: 1 }
    }

    /// What is done until nothing is left: the client, the number, and whether it is a subscription's.
    fn all(desks: &mut Desks) -> Vec<(u64, u64, bool)> {
        let name = |turn| match turn {
            Turn::Feed((session, number)) => (session.0, number, true),
            Turn::Job(Job { asker: Asker::Client { session, number }, .. }) => (session.0, number, false),
            Turn::Job(_) => unreachable!("only clients here"),
        };
        std::iter::from_fn(|| desks.next().map(name)).collect()
    }

    #[test]
    fn who_wants_much_waits_for_who_wants_little_and_not_the_other_way() {
        let mut desks = Desks::default();
        (1..=4).for_each(|number| desks.add(job(1, number)));
        desks.feed((SessionId(1), 9));
        desks.add(job(2, 1));
        desks.feed((SessionId(3), 1));
        let done = all(&mut desks);
        let expected = [
            (1, 1, false),
            (2, 1, false),
            (3, 1, true),
            (1, 9, true),
            (1, 2, false),
            (1, 3, false),
            (1, 4, false),
        ];
        assert_eq!(done, expected);
        assert!(desks.desks.is_empty(), "nobody is remembered without a reason");
    }

    #[test]
    fn a_large_answer_holds_back_the_reads_of_its_client_and_nothing_else() {
        let mut desks = Desks::default();
        let key = (SessionId(1), 1);
        desks.wait_for(key);
        desks.add(job(1, 2));
        desks.add(job(2, 1));
        desks.feed((SessionId(1), 9));
        assert_eq!(all(&mut desks), [(2, 1, false), (1, 9, true)]);
        desks.delivered((SessionId(1), 9));
        assert_eq!(all(&mut desks), [], "that was the subscription");
        desks.delivered(key);
        assert_eq!(all(&mut desks), [(1, 2, false)]);
    }

    #[test]
    fn nothing_is_read_for_a_client_that_is_gone() {
        let mut desks = Desks::default();
        desks.add(job(1, 1));
        desks.feed((SessionId(1), 9));
        desks.add(job(2, 1));
        desks.close(SessionId(1));
        assert_eq!(all(&mut desks), [(2, 1, false)]);
    }
}
