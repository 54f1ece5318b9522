//! What a replica keeps beside its log, as bytes.

use std::collections::{BTreeMap, VecDeque};

use super::field::{Field, Reader, fields, put_count, sound, take_reign};
use super::group::{BARE_SPAN_BYTES, put_bare_span, take_bare_span};
use super::{BadMessage, PRODUCERS_MAX};
use crate::protocol::group::Span;
use crate::protocol::history::Position;
use crate::protocol::message::{Contents, SnapshotOffer};
use crate::protocol::producers::{Producer, Producers, SPANS_MAX};
use crate::protocol::state::{Base, Meta};
use crate::types::{Epoch, Lsn, ProducerId};

/// The bytes of a producer that has appended nothing.
const PRODUCER_BYTES_MIN: usize = 12;

fields! {
    Contents { bytes, checksum }
    SnapshotOffer { base, contents }
}

impl Field for Meta {
    fn put(&self, out: &mut Vec<u8>) {
        self.epoch.put(out);
        self.vote.put(out);
        self.generation.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Meta, BadMessage> {
        Ok(Meta { epoch: Epoch::take(reader)?, vote: Field::take(reader)?, generation: take_reign(reader)? })
    }
}

impl Field for Base {
    fn put(&self, out: &mut Vec<u8>) {
        assert!(self.producers.is_committed(), "a base is of what is committed");
        self.position.put(out);
        self.membership.put(out);
        let known = self.producers.known();
        put_count(known.len(), PRODUCERS_MAX, out);
        for (&id, producer) in known {
            put_producer(id, producer, out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Base, BadMessage> {
        let position = Position::take(reader)?;
        let membership = Field::take(reader)?;
        let mut known = BTreeMap::new();
        for _ in 0..reader.count(PRODUCERS_MAX, PRODUCER_BYTES_MIN)? {
            let (id, producer) = take_producer(position.lsn, reader)?;
            if known.last_key_value().is_some_and(|(&before, _)| before >= id) {
                return Err(BadMessage::Malformed);
            }
            known.insert(id, producer);
        }
        Ok(Base { position, membership, producers: Producers::from_known(known) })
    }
}

/// The id and the spans: they tell the newest sequence number, and when it was active last.
fn put_producer(id: ProducerId, producer: &Producer, out: &mut Vec<u8>) {
    assert!(
        newest(id, &producer.spans) == (producer.sequence, producer.active),
        "the newest span is the last"
    );
    id.put(out);
    put_count(producer.spans.len(), SPANS_MAX, out);
    producer.spans.iter().for_each(|span| put_bare_span(span, out));
}

fn take_producer(last: Lsn, reader: &mut Reader<'_>) -> Result<(ProducerId, Producer), BadMessage> {
    let id = ProducerId::take(reader)?;
    let count = reader.count(SPANS_MAX, BARE_SPAN_BYTES)?;
    let mut spans = VecDeque::with_capacity(count);
    for _ in 0..count {
        let span = take_bare_span(id, reader)?;
        if spans.back().is_some_and(|before: &Span| before.last_lsn() >= span.lsn) {
            return Err(BadMessage::Malformed);
        }
        spans.push_back(span);
    }
    let (sequence, active) = newest(id, &spans);
    sound((id, Producer { sequence, active, spans }), id.get() > 0 && active <= last)
}

/// The newest sequence number of a producer with these spans, and when it was active last.
fn newest(id: ProducerId, spans: &VecDeque<Span>) -> (u64, Lsn) {
    spans.back().map_or((0, Lsn::new(id.get())), |span| (span.last_sequence(), span.last_lsn()))
}
