//! Envelopes and messages as bytes.

use super::BadMessage;
use super::field::{Field, Reader, sound, take_lost, take_reign};
use crate::protocol::membership::Member;
use crate::protocol::message::{Envelope, Message};
use crate::types::{ClusterId, Epoch};

/// A field: as its type says, or by another function.
macro_rules! take {
    ($reader:ident) => {
        Field::take($reader)?
    };
    ($reader:ident by $take:ident) => {
        $take($reader)?
    };
}
/// One table for both ways: each message's code, and its fields in the order in which they go.
macro_rules! messages {
    (
        boxed { $($boxed_code:literal $boxed:ident)* }
        plain { $($code:literal $name:ident { $($field:ident $(by $take:ident)?),* })* }
    ) => {
        /// Which message it is.
        pub(super) const fn code(message: &Message) -> u8 {
            match message {
                $(Message::$boxed(_) => $boxed_code,)*
                $(Message::$name { .. } => $code,)*
            }
        }

        fn put_message(message: &Message, out: &mut Vec<u8>) {
            match message {
                $(Message::$boxed(body) => body.put(out),)*
                $(Message::$name { $($field),* } => { $($field.put(out);)* })*
            }
        }

        fn take_message(code: u8, reader: &mut Reader<'_>) -> Result<Message, BadMessage> {
            Ok(match code {
                $($boxed_code => Message::$boxed(Field::take(reader)?),)*
                $($code => Message::$name { $($field: take!(reader $(by $take)?)),* },)*
                _ => return Err(BadMessage::Malformed),
            })
        }
    };
}
messages! {
    boxed {
        8 ProbeReply
        13 SnapshotOffer
    }
    plain {
        1 PreVote { next, last }
        2 PreVoteReply { next, granted }
        3 Vote { last, transfer }
        4 VoteReply { granted }
        5 Heartbeat { round, commit, last, durable }
        6 HeartbeatReply { round, last, durable, incarnation, is_following }
        7 Probe { through, known }
        9 Follow { common, incarnation, last }
        10 Append { previous, commit, incarnation, group }
        11 Ack { incarnation, durable, is_whole }
        12 OutOfOrder { incarnation, last }
        14 SnapshotAsk { snapshot, bytes }
        15 SnapshotChunk { snapshot, offset, bytes, digest }
        16 RepairAsk { range by take_lost }
        17 RepairGive { group, digest }
        18 RepairNone { range, last }
        19 TakeOver { last }
        20 Stale {}
    }
}

pub(super) fn put_envelope(envelope: &Envelope, out: &mut Vec<u8>) {
    envelope.cluster.put(out);
    envelope.from.put(out);
    envelope.to.put(out);
    envelope.epoch.put(out);
    envelope.generation.put(out);
    put_message(&envelope.message, out);
}

pub(super) fn take_envelope(code: u8, reader: &mut Reader<'_>) -> Result<Envelope, BadMessage> {
    let envelope = Envelope {
        cluster: ClusterId::take(reader)?,
        from: Member::take(reader)?,
        to: Member::take(reader)?,
        epoch: Epoch::take(reader)?,
        generation: take_reign(reader)?,
        message: take_message(code, reader)?,
    };
    let is_placed = match envelope.message {
        Message::SnapshotChunk { offset, bytes, .. } => offset.checked_add(u64::from(bytes)).is_some(),
        _ => true,
    };
    sound(envelope, is_placed)
}
