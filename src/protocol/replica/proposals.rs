//! What clients append: taken by a primary, answered when it is committed.

use std::collections::VecDeque;

use super::{Office, Replica};
use crate::protocol::effect::Outcome;
use crate::protocol::group::{Content, Group, Span, Spans};
use crate::protocol::input::Proposal;
use crate::protocol::message::Message;
use crate::protocol::producers::Known;
use crate::protocol::rules::Rule;
use crate::protocol::wire;
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
    pub(super) fn propose(&mut self, proposal: &Proposal) {
        let content = match self.judge(proposal) {
            Ok(content) => content,
            Err(Some(outcome)) => return self.resolve(proposal.token, outcome),
            Err(None) => return,
        };
        let first = self.ledger.last().lsn.next();
        let range = LsnRange { first, last: first.plus(u64::from(proposal.records) - 1) };
        self.await_commit(proposal.token, range, proposal.bytes);
        self.append_group(range, proposal.bytes, content);
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

    /// Writes a group and sends it to all who are where it begins; neither waits for the other.
    fn append_group(&mut self, range: LsnRange, bytes: u64, content: Content) {
        let group = Group { epoch: self.meta.epoch, range, bytes, content };
        let previous = self.ledger.last();
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

    /// The content that a proposal becomes; otherwise what it is answered, if it is answered now.
    fn judge(&mut self, proposal: &Proposal) -> Result<Content, Option<Outcome>> {
        match (self.refuses(proposal.bytes), self.never_takes(proposal)) {
            // Who is told to come back later has to have something to come back with.
            (None | Some(Outcome::Busy), Some(never)) => return Err(Some(never)),
            (Some(refused), _) => return Err(Some(refused)),
            (None, None) => {}
        }
        let first = self.ledger.last().lsn;
        let Some((producer, sequence)) = proposal.producer else { return Ok(Content::PLAIN) };
        match self.ledger.producers.look_up(producer, sequence, proposal.records) {
            Known::New => {}
            Known::Duplicate { .. } if !self.rules(Rule::RefuseDuplicates) => {}
            Known::Duplicate { range, through } => return Err(self.retried(proposal.token, range, through)),
            Known::OutOfSequence { expected } => return Err(Some(Outcome::OutOfSequence { expected })),
            Known::Unknown => return Err(Some(Outcome::UnknownProducer)),
        }
        let span = Span { producer, sequence, lsn: first.next(), records: proposal.records };
        Ok(Content::Records(Spans::One(span)))
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
    fn never_takes(&self, proposal: &Proposal) -> Option<Outcome> {
        let bytes_max = self.config.limits.group_bytes_max;
        if proposal.bytes > bytes_max {
            return Some(Outcome::TooLarge { bytes_max });
        }
        let last = self.ledger.last().lsn.get().checked_add(u64::from(proposal.records));
        let fits = last.is_some_and(|last| last < Lsn::LAST.get());
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
