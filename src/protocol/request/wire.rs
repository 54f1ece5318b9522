//! Requests and replies as bytes: the same preamble, fields and promises as the messages of replicas.

use std::time::Duration;

use super::{
    Appended, ClientRole, Copies, DiskHealth, NodeStatus, PeerLag, RecordHead, Refused, Reply, Request,
};
use crate::protocol::input::Change;
use crate::protocol::replica::{Role, Stage};
use crate::protocol::wire::field::{
    Field, Reader, coded, coded_fields, fields, last_of, put_list, put_text, sound, take_record, take_text,
    words,
};
use crate::protocol::wire::{BadMessage, Form, decode_coded, encode_coded};
use crate::types::ReplicaId;

/// Records in a request or a reply, at most: with their heads they take 1.3 MB beside their bytes.
pub const RECORDS_MAX: usize = 1 << 16;
/// Replicas that a reply names, at most.
pub const ADDRESSES_MAX: usize = 64;
/// Bytes of an address or of a reason, at most: what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 1024;

/// The bytes of a [`RecordHead`].
const RECORD_HEAD_BYTES: usize = 20;
/// The bytes of a [`PeerLag`].
const PEER_LAG_BYTES: usize = 25;
/// The bytes of a replica with an address without letters.
const ADDRESS_BYTES_MIN: usize = 12;

/// Appends the request's bytes. Those of records travel beside it.
///
/// # Panics
/// If it is over a bound of this module.
pub fn encode_request(request: &Request, out: &mut Vec<u8>) {
    encode_coded(Form::Request, request, out);
}

/// Reads a request.
///
/// # Errors
/// If the bytes are not exactly one.
pub fn decode_request(bytes: &[u8]) -> Result<Request, BadMessage> {
    decode_coded(Form::Request, bytes).and_then(|request| {
        let is_sound = is_numbered(&request);
        sound(request, is_sound)
    })
}

/// Appends the reply's bytes. Those of records travel beside it.
///
/// # Panics
/// If it is over a bound of this module.
pub fn encode_reply(reply: &Reply, out: &mut Vec<u8>) {
    encode_coded(Form::Reply, reply, out);
}

/// Reads a reply.
///
/// # Errors
/// If the bytes are not exactly one.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, BadMessage> {
    decode_coded(Form::Reply, bytes)
}

/// Whether each record has the sequence number that its producer's numbers give it.
fn is_numbered(request: &Request) -> bool {
    match request {
        Request::Append { producer: Some((_, sequence)), sizes, .. } => {
            let records = u32::try_from(sizes.len()).unwrap_or(u32::MAX).max(1);
            *sequence > 0 && last_of(*sequence, records).is_some()
        }
        _ => true,
    }
}

coded! { Request {
    holding {
        14 Change
    }
    plain {
        1 Status {}
        2 Register {}
        3 Append { producer, copies, sizes }
        4 Linearize {}
        5 Read { from, bytes_max }
        6 Subscribe { from, credit_bytes }
        7 Credit { subscription, bytes }
        8 Unsubscribe { subscription }
        9 Frames { range, bytes_max }
        10 Transfer { to }
        11 Promote {}
        12 Snapshot {}
        13 Trim { through }
    }
} }

coded! { Reply {
    holding {
        1 Status
        2 Registered
        3 Appended
        4 Linearized
        8 SnapshotTaken
        9 Refused
    }
    plain {
        5 Records { records, next, committed }
        6 Frames { range }
        7 Done {}
    }
} }

coded! { Copies {
    holding {
        3 AtLeast
    }
    plain {
        0 Local {}
        1 Quorum {}
        2 All {}
    }
} }

coded! { Change {
    holding {
        1 AddLearner
        3 Remove
        4 SetQuorums
    }
    plain {
        2 PromoteLearner { id, priority }
        5 SetPriority { id, priority }
    }
} }

coded! { Refused {
    holding {}
    plain {
        1 NotPrimary { primary }
        2 Unknown {}
        3 Busy {}
        4 OutOfSequence { expected }
        5 UnknownProducer {}
        6 BadSize { bytes_max }
        7 Denied { needs }
        8 Trimmed { first }
        9 NotPossible { reason }
    }
} }

coded_fields!(Copies, Change, Refused);

words! {
    ClientRole { 0 Read, 1 Append, 2 Admin }
    Role { 0 Primary, 1 Backup, 2 Candidate, 3 Learner, 4 Recovering, 5 Halted }
    Stage { 0 Probing, 1 CatchingUp, 2 Streaming, 3 Snapshot, 4 Mending }
    DiskHealth { 0 Good, 1 Stalled, 2 Damaged, 3 Failed }
}

fields! {
    Appended { range, epoch, holders, is_committed, is_duplicate }
    PeerLag { id, stage, durable, in_flight_bytes }
    NodeStatus {
        cluster, id, disk, role, epoch, primary, first, last, durable, committed, applied, snapshot, membership,
        addresses, peers, disk_health, uptime
    }
}

impl Field for RecordHead {
    fn put(&self, out: &mut Vec<u8>) {
        self.lsn.put(out);
        self.epoch.put(out);
        self.bytes.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<RecordHead, BadMessage> {
        Ok(RecordHead { lsn: take_record(reader)?, epoch: Field::take(reader)?, bytes: Field::take(reader)? })
    }
}

/// A list with a bound of its own, wherever it stands.
macro_rules! lists {
    ($($item:ty: $max:expr, $bytes_min:expr;)*) => {$(
        impl Field for Vec<$item> {
            fn put(&self, out: &mut Vec<u8>) {
                put_list(self, $max, out);
            }

            fn take(reader: &mut Reader<'_>) -> Result<Vec<$item>, BadMessage> {
                reader.list($max, $bytes_min)
            }
        }
    )*};
}
lists! {
    u32: RECORDS_MAX, 4;
    RecordHead: RECORDS_MAX, RECORD_HEAD_BYTES;
    ReplicaId: ADDRESSES_MAX, 8;
    PeerLag: ADDRESSES_MAX, PEER_LAG_BYTES;
    (ReplicaId, String): ADDRESSES_MAX, ADDRESS_BYTES_MIN;
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self, TEXT_BYTES_MAX, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<String, BadMessage> {
        take_text(reader, TEXT_BYTES_MAX)
    }
}

/// Whole seconds in 8 bytes, and nanoseconds in 4.
impl Field for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_secs().put(out);
        self.subsec_nanos().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Duration, BadMessage> {
        let (seconds, nanos) = (u64::take(reader)?, u32::take(reader)?);
        sound((), nanos < 1_000_000_000).map(|()| Duration::new(seconds, nanos))
    }
}
