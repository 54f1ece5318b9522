//! The table of producers: what makes a retry of an append the same append.

use std::collections::{BTreeMap, VecDeque};

use super::group::{Content, Span};
use crate::types::{Lsn, LsnRange, ProducerId};

/// Spans that are remembered of each producer, so that a retry can be told where its records are.
pub(crate) const SPANS_MAX: usize = 8;

/// What is known of one producer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Producer {
    /// Its newest sequence number; 0 if it has appended nothing.
    pub sequence: u64,
    /// The record with which it was active last.
    pub active: Lsn,
    /// Its newest appends, oldest first.
    pub spans: VecDeque<Span>,
}

/// What a sequence number stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Known {
    /// The producer's next records.
    New,
    /// Records that are there: they are, or were, part of the log; the newest of them has at most this LSN.
    Duplicate {
        /// Where they are, if that is still known.
        range: Option<LsnRange>,
        /// Committed when this record is.
        through: Lsn,
    },
    /// Neither: the producer's next number is this.
    OutOfSequence {
        /// The next one.
        expected: u64,
    },
    /// There is no such producer.
    Unknown,
}

/// All producers as of the end of a log, and how to take back what is not committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Producers {
    known: BTreeMap<ProducerId, Producer>,
    /// What applying each record that is not committed has replaced, oldest first.
    undo: VecDeque<Undo>,
}

/// One entry as it was before the record with this LSN.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Undo {
    lsn: Lsn,
    /// The last record of the span that was added; `lsn` otherwise.
    last: Lsn,
    id: ProducerId,
    before: Before,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Before {
    Absent,
    Forgotten(Producer),
    /// A span was added: the sequence, the last activity, and the span that made room.
    Shorter {
        sequence: u64,
        active: Lsn,
        dropped: Option<Span>,
    },
}

impl Producers {
    /// The table with these producers, all of it committed.
    #[must_use]
    pub fn from_known(known: BTreeMap<ProducerId, Producer>) -> Producers {
        Producers { known, undo: VecDeque::new() }
    }

    /// The producers, by id.
    #[must_use]
    pub const fn known(&self) -> &BTreeMap<ProducerId, Producer> {
        &self.known
    }

    /// Whether nothing of it can be taken back any more.
    pub(crate) fn is_committed(&self) -> bool {
        self.undo.is_empty()
    }

    /// What `records` records of a producer, from this sequence number on, would be.
    #[must_use]
    pub fn look_up(&self, id: ProducerId, sequence: u64, records: u32) -> Known {
        let Some(producer) = self.known.get(&id) else { return Known::Unknown };
        let Some(expected) = producer.sequence.checked_add(1) else { return Known::Unknown };
        let last = sequence.checked_add(u64::from(records.max(1)) - 1);
        match last {
            Some(_) if sequence == expected => Known::New,
            Some(last) if sequence > 0 && last <= producer.sequence => {
                let range = producer.spans.iter().find_map(|span| within(span, sequence, last));
                Known::Duplicate { range, through: range.map_or(producer.active, |range| range.last) }
            }
            _ => Known::OutOfSequence { expected },
        }
    }

    /// Takes note of a group that was appended; `lsn` is its first record.
    pub(crate) fn apply(&mut self, lsn: Lsn, content: &Content) {
        match content {
            Content::Records(spans) => spans.as_slice().iter().for_each(|span| self.add(span)),
            Content::Register => {
                let id = ProducerId::new(lsn.get());
                let fresh = Producer { sequence: 0, active: lsn, spans: VecDeque::new() };
                self.known.insert(id, fresh);
                self.undo.push_back(Undo { lsn, last: lsn, id, before: Before::Absent });
            }
            Content::Expire { before } => {
                let idle: Vec<_> = self
                    .known
                    .iter()
                    .filter(|(_, producer)| producer.active < *before)
                    .map(|(&id, _)| id)
                    .collect();
                for id in idle {
                    let producer = self.known.remove(&id).expect("taken from the table above");
                    self.undo.push_back(Undo { lsn, last: lsn, id, before: Before::Forgotten(producer) });
                }
            }
            Content::EpochStart | Content::Membership(_) => {}
        }
    }

    /// Everything up to this record is committed: it will never be taken back.
    pub(crate) fn commit(&mut self, through: Lsn) {
        while self.undo.front().is_some_and(|undo| undo.last <= through) {
            self.undo.pop_front();
        }
    }

    /// Takes back what the records after this one did.
    pub(crate) fn truncate(&mut self, after: Lsn) {
        while let Some(undo) = self.undo.pop_back_if(|undo| undo.lsn > after) {
            match undo.before {
                Before::Absent => {
                    self.known.remove(&undo.id);
                }
                Before::Forgotten(producer) => {
                    self.known.insert(undo.id, producer);
                }
                Before::Shorter { sequence, active, dropped } => {
                    let producer = self.known.get_mut(&undo.id).expect("a span was added to it");
                    producer.spans.pop_back();
                    if let Some(span) = dropped {
                        producer.spans.push_front(span);
                    }
                    (producer.sequence, producer.active) = (sequence, active);
                }
            }
        }
        self.shorten(after);
    }

    /// Takes back the end of the newest span, if it goes on after this record.
    fn shorten(&mut self, after: Lsn) {
        let Some(undo) = self.undo.back_mut().filter(|undo| undo.last > after) else { return };
        let producer = self.known.get_mut(&undo.id).expect("a span was added to it");
        let span = producer.spans.back_mut().expect("a span was added to it");
        let surplus = u32::try_from(span.last_lsn().get() - after.get()).expect("fewer than the span has");
        span.records -= surplus;
        (producer.sequence, producer.active) = (span.last_sequence(), span.last_lsn());
        undo.last = after;
    }

    /// The table as of an earlier record, which must not be below what is committed.
    #[must_use]
    pub(crate) fn as_of(&self, lsn: Lsn) -> Producers {
        let mut table = self.clone();
        table.truncate(lsn);
        table.undo.clear();
        table
    }

    /// The LSN before which producers are to be forgotten, so that at least an eighth of `max` is free again;
    /// `None` while there is room.
    pub(crate) fn surplus(&self, max: u32) -> Option<Lsn> {
        let max = max as usize;
        if self.known.len() < max {
            return None;
        }
        let mut active: Vec<Lsn> = self.known.values().map(|producer| producer.active).collect();
        let index = (self.known.len() - max + max.div_ceil(8)).min(active.len() - 1);
        Some(*active.select_nth_unstable(index).1)
    }

    /// Takes note of a span that was appended.
    pub(crate) fn add(&mut self, span: &Span) {
        // A span of a producer that is not known is not the protocol's doing; it changes nothing.
        let Some(producer) = self.known.get_mut(&span.producer) else { return };
        let (sequence, active) = (producer.sequence, producer.active);
        let dropped = if producer.spans.len() == SPANS_MAX { producer.spans.pop_front() } else { None };
        producer.spans.push_back(*span);
        (producer.sequence, producer.active) = (span.last_sequence(), span.last_lsn());
        let before = Before::Shorter { sequence, active, dropped };
        self.undo.push_back(Undo { lsn: span.lsn, last: span.last_lsn(), id: span.producer, before });
    }
}

/// The LSNs of these sequence numbers, if they are all in the span.
fn within(span: &Span, sequence: u64, last: u64) -> Option<LsnRange> {
    let is_in = sequence >= span.sequence && last <= span.last_sequence();
    let lsn = |number: u64| Lsn::new(span.lsn.get() + (number - span.sequence));
    is_in.then(|| LsnRange { first: lsn(sequence), last: lsn(last) })
}

#[cfg(test)]
mod tests;
