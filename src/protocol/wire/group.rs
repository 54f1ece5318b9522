//! Groups and what the core has to know of their contents, as bytes.

use super::field::{Field, Reader, last_of, put_list, sound, take_record};
use super::{BadMessage, GROUP_SPANS_MAX};
use crate::protocol::group::{Content, Group, Span, Spans};
use crate::types::{Epoch, Lsn, LsnRange, ProducerId};

/// The bytes of a [`Span`] without its producer.
pub(super) const BARE_SPAN_BYTES: usize = 20;
/// The bytes of a [`Span`].
const SPAN_BYTES: usize = 8 + BARE_SPAN_BYTES;

/// Which content it is.
pub(super) const fn code(content: &Content) -> u8 {
    match content {
        Content::Records(_) => 0,
        Content::EpochStart => 1,
        Content::Membership(_) => 2,
        Content::Register => 3,
        Content::Expire { .. } => 4,
    }
}

/// Whether a frame of kind `Control` holds it, and not one of the other kinds.
pub(super) const fn has_control_frame(content: &Content) -> bool {
    matches!(content, Content::Membership(_) | Content::Register | Content::Expire { .. })
}

/// What follows on the code.
pub(super) fn put_content(content: &Content, out: &mut Vec<u8>) {
    match content {
        Content::Records(spans) => put_list(spans.as_slice(), GROUP_SPANS_MAX, out),
        Content::Membership(membership) => membership.put(out),
        Content::Expire { before } => before.put(out),
        Content::EpochStart | Content::Register => {}
    }
}

pub(super) fn take_content(code: u8, reader: &mut Reader<'_>) -> Result<Content, BadMessage> {
    Ok(match code {
        0 => Content::Records(take_spans(reader)?),
        1 => Content::EpochStart,
        2 => Content::Membership(Field::take(reader)?),
        3 => Content::Register,
        4 => Content::Expire { before: take_record(reader)? },
        _ => return Err(BadMessage::Malformed),
    })
}

/// No allocation for one span or none.
fn take_spans(reader: &mut Reader<'_>) -> Result<Spans, BadMessage> {
    Ok(match reader.count(GROUP_SPANS_MAX, SPAN_BYTES)? {
        0 => Spans::None,
        1 => Spans::One(Span::take(reader)?),
        count => {
            let mut spans = Vec::with_capacity(count);
            for _ in 0..count {
                spans.push(Span::take(reader)?);
            }
            Spans::Many(spans.into())
        }
    })
}

/// Whether the spans lie in the range, one after the other.
fn fit(spans: &[Span], range: LsnRange) -> bool {
    let ordered = spans.windows(2).all(|pair| pair[0].last_lsn() < pair[1].lsn);
    let first = spans.first().is_none_or(|span| span.lsn >= range.first);
    ordered && first && spans.last().is_none_or(|span| span.last_lsn() <= range.last)
}

impl Field for Group {
    fn put(&self, out: &mut Vec<u8>) {
        self.epoch.put(out);
        self.range.put(out);
        self.bytes.put(out);
        out.push(code(&self.content));
        put_content(&self.content, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Group, BadMessage> {
        let (epoch, range) = (Epoch::take(reader)?, LsnRange::take(reader)?);
        let bytes = u64::take(reader)?;
        let code = u8::take(reader)?;
        let content = take_content(code, reader)?;
        let is_sound = epoch >= Epoch::FIRST
            && match &content {
                Content::Records(spans) => fit(spans.as_slice(), range),
                _ => range.first == range.last,
            };
        sound(Group { epoch, range, bytes, content }, is_sound)
    }
}

impl Field for Span {
    fn put(&self, out: &mut Vec<u8>) {
        self.producer.put(out);
        put_bare_span(self, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Span, BadMessage> {
        let producer = ProducerId::take(reader)?;
        take_bare_span(producer, reader)
    }
}

/// A span, but for its producer.
pub(super) fn put_bare_span(span: &Span, out: &mut Vec<u8>) {
    span.sequence.put(out);
    span.lsn.put(out);
    span.records.put(out);
}

pub(super) fn take_bare_span(producer: ProducerId, reader: &mut Reader<'_>) -> Result<Span, BadMessage> {
    let (sequence, lsn, records) = (u64::take(reader)?, Lsn::take(reader)?, u32::take(reader)?);
    let numbered = sequence > 0 && last_of(sequence, records).is_some();
    let placed = last_of(lsn.get(), records).is_some_and(|last| last <= Lsn::LAST.get());
    // The producer's id is the LSN of the record that registered it.
    let registered = producer.get() > 0 && producer.get() < lsn.get();
    sound(Span { producer, sequence, lsn, records }, numbered && placed && registered)
}
