//! What clients append: taken by a primary, answered when it is committed.

use std::collections::VecDeque;

use super::{Office, Replica};
use crate::protocol::effect::Outcome;
use crate::protocol::group::{Content, Group, Span, Spans};
use crate::protocol::history::Position;
use crate::protocol::input::Proposal;
use crate::protocol::message::Message;
use crate::protocol::producers::Known;
use crate::protocol::rules::Rule;
use crate::protocol::time::Time;
use crate::protocol::wire::{self, GROUP_SPANS_MAX};
use crate::types::{Epoch, Lsn, LsnRange};

/// Tokens that wait for a commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Pending {
    /// In the order of the log.
    appended: VecDeque<Appended>,
    bytes: u64,
    /// Retries of what is in the log already and not committed; few, in no order.
    retried: Vec<Retried>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Appended {
    token: u64,
    range: LsnRange,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Retried {
    token: u64,
    through: Lsn,
    range: Option<LsnRange>,
}

impl Replica {
    /// Takes records of clients: each proposal is judged in its turn, as if it came alone, and those that are taken
    /// become one group. Then [`poll`](Replica::poll) until there is no more effect.
    ///
    /// Returns how many were looked at: at least the first, and then as long as the group has room. `taken` is cleared, and
    /// told the places of those that are in the group, in its order. The others that were looked at are answered by
    /// effects: at once, or with the commit of what they repeat.
    pub fn propose(&mut self, now: Time, proposals: &[Proposal], taken: &mut Vec<u32>) -> usize {
        taken.clear();
        if self.halted.is_some() {
            for proposal in proposals {
                self.resolve(proposal.token, Outcome::NotTaken { primary: None });
            }
            return proposals.len();
        }
        self.now = self.now.max(now);
        self.keep_time();
        let looked = self.gather(proposals, |place| taken.push(place));
        self.tell_role();
        looked
    }

    /// Makes a group of the proposals that can be taken, and says their places; returns how many were looked at.
    pub(super) fn gather(&mut self, proposals: &[Proposal], mut take: impl FnMut(u32)) -> usize {
        let bytes_max = self.config.limits.group_bytes_max;
        let first = self.ledger.last().lsn.next();
        let (mut next, mut bytes, mut looked) = (first, 0_u64, 0);
        let mut spans = std::mem::take(&mut self.spans);
        for (proposal, place) in proposals.iter().zip(0_u32..) {
            let is_full = bytes.saturating_add(proposal.bytes) > bytes_max || spans.len() == GROUP_SPANS_MAX;
            if is_full && next > first {
                break;
            }
            looked += 1;
            match self.judge(proposal, next) {
                Err(Some(outcome)) => self.resolve(proposal.token, outcome),
                Err(None) => {}
                Ok(span) => {
                    // So that the next one of the same producer is judged by it.
                    span.iter().for_each(|span| self.ledger.producers.add(span));
                    spans.extend(span);
                    let range = LsnRange { first: next, last: next.plus(u64::from(proposal.records) - 1) };
                    self.await_commit(proposal.token, range, proposal.bytes);
                    next = range.last.next();
                    bytes += proposal.bytes;
                    take(place);
                }
            }
        }
        if next > first {
            let range = LsnRange { first, last: next.prev() };
            let content = Content::Records(Spans::from(spans.as_slice()));
            let group = Group { epoch: self.meta.epoch, range, bytes, content };
            let previous = self.ledger.last();
            self.ledger.history.append(group.epoch, group.range);
            self.publish(previous, group);
            if let Office::Primary(reign) = &mut self.office {
                reign.ease.appended(range.last, bytes, self.now);
            }
        }
        spans.clear();
        self.spans = spans;
        looked
    }

    pub(super) fn register(&mut self, token: u64) {
        if let Some(refused) = self.refuses(0) {
            return self.resolve(token, refused);
        }
        let max = self.config.limits.producers_max;
        if self.ledger.producers.known().len() >= 2 * max as usize {
            return self.resolve(token, Outcome::Busy);
        }
        let range = self.append_control(Content::Register);
        self.await_commit(token, range, 0);
        if let Some(before) = self.ledger.producers.surplus(max) {
            self.append_control(Content::Expire { before });
        }
        // A cluster of one needs nobody else.
        self.count();
    }

    /// Appends a record of the protocol's own.
    pub(super) fn append_control(&mut self, content: Content) -> LsnRange {
        let first = self.ledger.last().lsn.next();
        let range = LsnRange { first, last: first };
        let bytes = wire::control_bytes(&content);
        self.append_group(range, bytes, content);
        range
    }

    fn append_group(&mut self, range: LsnRange, bytes: u64, content: Content) {
        let group = Group { epoch: self.meta.epoch, range, bytes, content };
        let previous = self.ledger.last();
        self.ledger.append(&group);
        self.publish(previous, group);
    }

    /// Writes a group and sends it to all who are where it begins; neither waits for the other.
    fn publish(&mut self, previous: Position, group: Group) {
        let (range, bytes) = (group.range, group.bytes);
        self.write(group.clone());
        let commit = self.ledger.commit;
        let (window, now) = (self.config.limits.window_bytes, self.now);
        let mut index = 0;
        while let Office::Primary(reign) = &mut self.office
            && let Some(peer) = reign.peers.get_mut(index)
        {
            let ship = peer.ship(range, bytes, window, now).map(|incarnation| (peer.member, incarnation));
            if let Some((member, incarnation)) = ship {
                self.send(member, Message::Append { previous, commit, incarnation, group: group.clone() });
            }
            index += 1;
        }
    }

    /// The span that a proposal becomes, whose first record is `lsn`; otherwise what it is answered, if it is answered now.
    fn judge(&mut self, proposal: &Proposal, lsn: Lsn) -> Result<Option<Span>, Option<Outcome>> {
        match (self.refuses(proposal.bytes), self.never_takes(proposal, lsn)) {
            // Who is told to come back later has to have something to come back with.
            (None | Some(Outcome::Busy), Some(never)) => return Err(Some(never)),
            (Some(refused), _) => return Err(Some(refused)),
            (None, None) => {}
        }
        let Some((producer, sequence)) = proposal.producer else { return Ok(None) };
        match self.ledger.producers.look_up(producer, sequence, proposal.records) {
            Known::New => {}
            Known::Duplicate { .. } if !self.rules(Rule::RefuseDuplicates) => {}
            Known::Duplicate { range, through } => return Err(self.retried(proposal.token, range, through)),
            Known::OutOfSequence { expected } => return Err(Some(Outcome::OutOfSequence { expected })),
            Known::Unknown => return Err(Some(Outcome::UnknownProducer)),
        }
        Ok(Some(Span { producer, sequence, lsn, records: proposal.records }))
    }

    /// A retry is answered when what it repeats is committed.
    fn retried(&mut self, token: u64, range: Option<LsnRange>, through: Lsn) -> Option<Outcome> {
        if through <= self.ledger.commit {
            return Some(Outcome::Duplicate { range });
        }
        if let Office::Primary(reign) = &mut self.office {
            reign.pending.retried.push(Retried { token, through, range });
        }
        None
    }

    /// Why nothing can be appended now.
    fn refuses(&self, bytes: u64) -> Option<Outcome> {
        let Office::Primary(reign) = &self.office else {
            return Some(Outcome::NotTaken { primary: self.leader.map(|leader| leader.id) });
        };
        if reign.transfer.is_some() {
            return Some(Outcome::NotTaken { primary: None });
        }
        let limits = &self.config.limits;
        let is_full = reign.uncommitted_bytes().saturating_add(bytes) > limits.uncommitted_bytes_max
            && reign.uncommitted_bytes() > 0;
        (is_full || reign.pending.tokens_len() >= limits.waiting_max).then_some(Outcome::Busy)
    }

    /// Why this can never be appended, whenever it is tried.
    fn never_takes(&self, proposal: &Proposal, lsn: Lsn) -> Option<Outcome> {
        let bytes_max = self.config.limits.group_bytes_max;
        if proposal.bytes > bytes_max {
            return Some(Outcome::TooLarge { bytes_max });
        }
        let end = lsn.get().checked_add(u64::from(proposal.records));
        let fits = end.is_some_and(|end| end <= Lsn::LAST.get());
        (proposal.records == 0 || !fits).then_some(Outcome::Invalid)
    }

    fn await_commit(&mut self, token: u64, range: LsnRange, bytes: u64) {
        let Office::Primary(reign) = &mut self.office else { return };
        reign.pending.bytes += bytes;
        reign.pending.appended.push_back(Appended { token, range, bytes });
    }
}

impl Pending {
    /// The next token that this commit answers.
    pub(super) fn committed(&mut self, commit: Lsn, epoch: Epoch) -> Option<(u64, Outcome)> {
        if let Some(done) = self.appended.pop_front_if(|waiting| waiting.range.last <= commit) {
            self.bytes -= done.bytes;
            return Some((done.token, Outcome::Committed { range: done.range, epoch }));
        }
        let done = self.retried.iter().position(|waiting| waiting.through <= commit)?;
        let done = self.retried.remove(done);
        Some((done.token, Outcome::Duplicate { range: done.range }))
    }

    /// Every token that still waits.
    pub(super) fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.appended
            .iter()
            .map(|waiting| waiting.token)
            .chain(self.retried.iter().map(|waiting| waiting.token))
    }

    pub(super) fn tokens_len(&self) -> usize {
        self.appended.len() + self.retried.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}
