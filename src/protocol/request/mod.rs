//! What clients and operators ask of a replica, and what they are told.
//!
//! One session carries many requests at a time: each has a number of the client's own, and its reply bears it. The
//! bytes of records travel beside requests and replies, as they do beside the messages of replicas.

mod copies;
mod wire;

use std::fmt;
use std::time::Duration;

pub use self::copies::{Copies, NotCopies};
pub use self::wire::{
    ADDRESSES_MAX, RECORDS_MAX, TEXT_BYTES_MAX, decode_reply, decode_request, encode_reply, encode_request,
};

use super::input::Change;
use super::membership::Membership;
use super::replica::{Role, Stage};
use crate::types::{ClusterId, DiskId, Epoch, Lsn, LsnRange, ProducerId, ReplicaId};

/// [`Request::Read`]s and [`Request::Frames`] of one session that are not answered, at most: the next is [`Refused::Busy`].
pub const READS_MAX: usize = 64;
/// Subscriptions of one session, at most: the next is [`Refused::NotPossible`].
pub const SUBSCRIPTIONS_MAX: usize = 64;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// What are you, and what do you know? Answered by every replica.
    Status,
    /// A producer id, to number appends with.
    Register,
    /// Append these records; their bytes travel beside the request, back to back.
    Append {
        /// The producer, and its number of the first of the records. With it a retry is taken once.
        producer: Option<(ProducerId, u64)>,
        /// What to wait for.
        copies: Copies,
        /// Size of each record, in bytes; they live or die together.
        sizes: Vec<u32>,
    },
    /// Up to which LSN must be read to see all that was acknowledged before this was asked (S8)?
    Linearize,
    /// Committed records from one on: as many as are there and fit, at least one unless there is none.
    Read {
        /// The first one.
        from: Lsn,
        /// At most so many bytes, but at least one record.
        bytes_max: u32,
    },
    /// Committed records from one on, as they come, in replies that bear this request's number.
    Subscribe {
        /// The first one.
        from: Lsn,
        /// So many bytes of records may be sent before more is asked for.
        credit_bytes: u64,
    },
    /// More may be sent of a subscription.
    Credit {
        /// The number of its request.
        subscription: u64,
        /// So many more bytes.
        bytes: u64,
    },
    /// No more of a subscription.
    Unsubscribe {
        /// The number of its request.
        subscription: u64,
    },
    /// Frames of committed records as they are stored, to mend a damaged log with.
    Frames {
        /// Which.
        range: LsnRange,
        /// At most so many bytes, but at least one frame.
        bytes_max: u32,
    },
    /// Hand the primary's role over.
    Transfer {
        /// To whom; `None` for whoever has most.
        to: Option<ReplicaId>,
    },
    /// Stand for election now. What is done is that it stands, or leads already: its status tells whether it is elected.
    Promote,
    /// Take a snapshot now.
    Snapshot,
    /// Forget the records up to and with this one, as far as a snapshot covers them.
    Trim {
        /// The newest record to forget.
        through: Lsn,
    },
    /// Change the membership.
    Change(Change),
}

/// What a client's certificate lets it do. Each may do what those before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ClientRole {
    /// Status, reads and subscriptions.
    Read,
    /// Appends too.
    Append,
    /// Everything.
    Admin,
}

impl ClientRole {
    /// All of them, from the one that may do least.
    pub const ALL: [ClientRole; 3] = [ClientRole::Read, ClientRole::Append, ClientRole::Admin];

    /// The role's word, as certificates and everything that is told to people have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ClientRole::Read => "read",
            ClientRole::Append => "append",
            ClientRole::Admin => "admin",
        }
    }
}

impl fmt::Display for ClientRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Request {
    /// What its sender must be allowed.
    #[must_use]
    pub const fn needs(&self) -> ClientRole {
        match self {
            Request::Status
            | Request::Linearize
            | Request::Read { .. }
            | Request::Subscribe { .. }
            | Request::Credit { .. }
            | Request::Unsubscribe { .. } => ClientRole::Read,
            Request::Register | Request::Append { .. } => ClientRole::Append,
            Request::Frames { .. }
            | Request::Transfer { .. }
            | Request::Promote
            | Request::Snapshot
            | Request::Trim { .. }
            | Request::Change(_) => ClientRole::Admin,
        }
    }

    /// Whether it becomes a part of the log, if it is taken.
    #[must_use]
    pub const fn appends(&self) -> bool {
        matches!(self, Request::Append { .. } | Request::Register | Request::Change(_))
    }
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To `Status`.
    Status(Box<NodeStatus>),
    /// To `Register`.
    Registered(ProducerId),
    /// To `Append`: as durable as was asked.
    Appended(Appended),
    /// To `Linearize`: everything up to here.
    Linearized(Lsn),
    /// To `Read`, and again and again to `Subscribe`; the bytes travel beside the reply, back to back.
    Records {
        /// Each record with its LSN, in order; the protocol's own records are left out.
        records: Vec<RecordHead>,
        /// The next LSN to ask for.
        next: Lsn,
        /// Everything up to here is known to be committed.
        committed: Lsn,
    },
    /// To `Frames`; the bytes travel beside the reply.
    Frames {
        /// Which records they hold.
        range: LsnRange,
    },
    /// To `Transfer`, `Promote`, `Trim`, `Change`: done.
    Done,
    /// To `Snapshot`: it covers everything up to here.
    SnapshotTaken(Lsn),
    /// It was not done, or nobody knows.
    Refused(Refused),
}

/// A record in a reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecordHead {
    /// Its LSN.
    pub lsn: Lsn,
    /// The epoch that it was written in.
    pub epoch: Epoch,
    /// Its size, in bytes.
    pub bytes: u32,
}

/// Where an append landed, and who has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Appended {
    /// The records. `None` for a retry of what was taken too long ago for that to be known.
    pub range: Option<LsnRange>,
    /// The epoch that took them; 0 if it is not known any more.
    pub epoch: Epoch,
    /// Which copies are known to be synced.
    pub holders: Vec<ReplicaId>,
    /// Whether they are committed: with [`Copies::Local`] they may not be yet, and can be lost by a failover.
    pub is_committed: bool,
    /// Whether they were there already: this was a retry.
    pub is_duplicate: bool,
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// Not done here, and never will be: ask the primary.
    NotPrimary {
        /// Who leads, as far as known.
        primary: Option<ReplicaId>,
    },
    /// Nobody knows whether it was done: the primary was deposed or its disk has failed (S7). Ask again with the same
    /// producer and sequence number.
    Unknown,
    /// Not done: too much waits already. Ask again later.
    Busy,
    /// Not done: the sequence number is not the producer's next.
    OutOfSequence {
        /// The next one.
        expected: u64,
    },
    /// Not done: nobody registered the producer, or it was idle for too long and forgotten.
    UnknownProducer,
    /// Not done: larger than what is allowed, or empty.
    BadSize {
        /// Bytes of a request's records, at most.
        bytes_max: u64,
    },
    /// Not done: the certificate does not allow it.
    Denied {
        /// What it takes.
        needs: ClientRole,
    },
    /// The records were trimmed.
    Trimmed {
        /// The oldest that is there.
        first: Lsn,
    },
    /// Not possible now, or not at all: another change is under way, too few follow, or it makes no sense.
    NotPossible {
        /// In words, with what to do next.
        reason: String,
    },
}

/// What a replica says of itself and of what it knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who says it.
    pub id: ReplicaId,
    /// With which disk.
    pub disk: DiskId,
    /// What it is.
    pub role: Role,
    /// The newest epoch that it has heard of.
    pub epoch: Epoch,
    /// Who leads, as far as known.
    pub primary: Option<ReplicaId>,
    /// The oldest record that it has.
    pub first: Lsn,
    /// The newest, synced or not.
    pub last: Lsn,
    /// The newest that is synced.
    pub durable: Lsn,
    /// Everything up to here is known to be committed.
    pub committed: Lsn,
    /// Everything up to here has been applied to the state machine.
    pub applied: Lsn,
    /// What its newest snapshot covers.
    pub snapshot: Lsn,
    /// Who takes part; `None` in a newcomer that nobody has told.
    pub membership: Option<Membership>,
    /// Where the others are found, as far as known.
    pub addresses: Vec<(ReplicaId, String)>,
    /// On the primary: how far the others have come.
    pub peers: Vec<PeerLag>,
    /// The state of its disk.
    pub disk_health: DiskHealth,
    /// Since it was started.
    pub uptime: Duration,
}

/// How far one of the others has come, as the primary sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerLag {
    /// Who.
    pub id: ReplicaId,
    /// How it gets its records.
    pub stage: Stage,
    /// The newest that is synced there.
    pub durable: Lsn,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: u64,
}

/// The state of a replica's disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DiskHealth {
    /// It does what it should.
    #[default]
    Good,
    /// A write or sync is under way for longer than it should be (S12).
    Stalled,
    /// Records are lost and are being fetched from a peer (S11).
    Damaged,
    /// A write or a sync has failed: the log is opened again.
    Failed,
}

impl DiskHealth {
    /// The state's word, as everything that is told to people has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DiskHealth::Good => "good",
            DiskHealth::Stalled => "stalled",
            DiskHealth::Damaged => "damaged",
            DiskHealth::Failed => "failed",
        }
    }
}

impl fmt::Display for DiskHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
