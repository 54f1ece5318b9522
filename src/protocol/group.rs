//! What one flush makes durable and one message ships, without its bytes.

use std::sync::Arc;

use super::membership::Membership;
use crate::types::{Epoch, Lsn, LsnRange, ProducerId};

/// Records with dense LSNs, all of one epoch, that are written, shipped and acknowledged together.
///
/// The bytes travel beside it: the core never sees them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Group {
    /// The epoch that the records were written in.
    pub epoch: Epoch,
    /// The LSNs that it takes.
    pub range: LsnRange,
    /// Size of its frames, in bytes; of a control record, the size of its payload.
    pub bytes: u64,
    /// What the core has to know of the contents.
    pub content: Content,
}

/// What the core has to know of the contents of a group.
///
/// Everything but [`Content::Records`] is the protocol's own: one record that takes one LSN and is alone in its group.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Content {
    /// Records of clients, with the producers that some of them come from.
    Records(Spans),
    /// The first record of an epoch (S3).
    EpochStart,
    /// Who takes part from here on (S10).
    Membership(Arc<Membership>),
    /// A producer is known from here on; its id is the LSN of this record.
    Register,
    /// Producers that have appended nothing at or after this LSN are forgotten.
    Expire {
        /// Who was active here or later is kept.
        before: Lsn,
    },
}

impl Content {
    /// Records without producers.
    pub const PLAIN: Content = Content::Records(Spans::None);

    /// Whether it is the protocol's own record, and alone in its group.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        !matches!(self, Content::Records(_))
    }
}

/// Records of one producer with dense sequence numbers and dense LSNs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    /// Who appended them.
    pub producer: ProducerId,
    /// The producer's number of the first record; its numbers are dense, from 1.
    pub sequence: u64,
    /// LSN of the first record.
    pub lsn: Lsn,
    /// How many records, at least one.
    pub records: u32,
}

impl Span {
    /// The producer's number of the last record.
    #[must_use]
    pub const fn last_sequence(&self) -> u64 {
        self.sequence + (self.records as u64 - 1)
    }

    /// LSN of the last record.
    #[must_use]
    pub const fn last_lsn(&self) -> Lsn {
        Lsn::new(self.lsn.get() + (self.records as u64 - 1))
    }
}

/// The spans of a group, in the order of the log. One span, the usual case, takes no allocation.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Spans {
    /// No record has a producer.
    #[default]
    None,
    /// All that have a producer are in one span.
    One(Span),
    /// Several; never fewer than two.
    Many(Arc<[Span]>),
}

impl Spans {
    /// The spans, in the order of the log.
    #[must_use]
    pub fn as_slice(&self) -> &[Span] {
        match self {
            Spans::None => &[],
            Spans::One(span) => std::slice::from_ref(span),
            Spans::Many(spans) => spans,
        }
    }
}

impl From<&[Span]> for Spans {
    fn from(spans: &[Span]) -> Spans {
        match spans {
            [] => Spans::None,
            [one] => Spans::One(*one),
            many => Spans::Many(many.into()),
        }
    }
}

impl FromIterator<Span> for Spans {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Spans {
        let mut spans = spans.into_iter();
        match (spans.next(), spans.next()) {
            (None, _) => Spans::None,
            (Some(one), None) => Spans::One(one),
            (Some(one), Some(two)) => Spans::Many([one, two].into_iter().chain(spans).collect()),
        }
    }
}
