//! What a replica is told.

use super::group::Group;
use super::membership::{Member, Quorums};
use super::message::{Contents, Envelope, SnapshotId};
use super::state::Base;
use crate::types::{LogIncarnation, Lsn, LsnRange, ProducerId, ReplicaId};

/// Something that has happened. Each is handled at once, and answered by effects.
///
/// A `token` is the caller's own number; the effect that answers bears it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// Time has passed: the deadline that was asked for is here.
    Tick,
    /// A message has arrived. Bytes that travel with it are kept until its effects have been polled.
    Received(Envelope),
    /// Records to append, of a client.
    Propose(Proposal),
    /// A client wants to number its appends.
    Register {
        /// Answered by `Outcome::Committed`: the LSN is the producer's id.
        token: u64,
    },
    /// The superblock with the meta of this number is synced, and so are all before it.
    MetaSaved {
        /// As in [`Effect::SaveMeta`](super::Effect::SaveMeta).
        number: u64,
    },
    /// The log is synced up to this record.
    Durable {
        /// The life of the log in which it was written.
        incarnation: LogIncarnation,
        /// The newest synced record.
        lsn: Lsn,
    },
    /// What [`Effect::ReadLog`](super::Effect::ReadLog) asked for. The bytes are kept until the effects have been polled.
    LogRead {
        /// For whom it was read.
        to: ReplicaId,
        /// Records from the one that was asked for; never of two epochs, and a control record is alone.
        group: Group,
    },
    /// The log does not reach back to what was asked for: it was trimmed in between.
    LogGone {
        /// For whom it was to be read.
        to: ReplicaId,
    },
    /// The log was trimmed up to and with this record, which a snapshot covers.
    Trimmed {
        /// The newest record that is gone.
        through: Lsn,
    },
    /// A snapshot was taken and is synced: what [`Replica::base`](super::Replica::base) said at that time.
    SnapshotTaken {
        /// The replicated state that goes with it.
        base: Base,
        /// What the application's part is.
        contents: Contents,
    },
    /// What [`Effect::ReadSnapshot`](super::Effect::ReadSnapshot) asked for. The bytes are kept until the effects have been polled.
    SnapshotRead {
        /// For whom it was read.
        to: ReplicaId,
        /// Which.
        snapshot: SnapshotId,
        /// Where the part begins.
        offset: u64,
        /// Its size.
        bytes: u32,
        /// Over its bytes.
        digest: u64,
    },
    /// The snapshot can no longer be read.
    SnapshotGone {
        /// For whom it was to be read.
        to: ReplicaId,
    },
    /// A chunk was checked, staged and synced, and so were those before it.
    ChunkStaged {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// How many of its bytes are there now.
        bytes: u64,
    },
    /// A chunk did not check, or could not be stored: nothing has changed.
    ChunkRefused {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Where it begins.
        offset: u64,
    },
    /// The snapshot is what the log now begins with; all before is dropped, and the directory synced (S9).
    Installed {
        /// Which.
        snapshot: SnapshotId,
        /// The life of the log that begins with it.
        incarnation: LogIncarnation,
    },
    /// What [`Effect::ReadRange`](super::Effect::ReadRange) asked for. The bytes are kept until the effects have been polled.
    RangeRead {
        /// For whom it was read.
        to: ReplicaId,
        /// The first records of the range.
        group: Group,
        /// Over their bytes.
        digest: u64,
    },
    /// Records that were lost are back, checked and synced (S11).
    Mended {
        /// Which of them.
        range: LsnRange,
    },
    /// Records did not check against their digest; nothing was written.
    MendRefused {
        /// Which of them.
        range: LsnRange,
    },
    /// A client wants to read what is committed now (S8).
    Read {
        /// Answered by `ReadReady` or `ReadFailed`; by a `Resolve` with [`Outcome::Busy`](super::Outcome::Busy) if too many
        /// wait.
        token: u64,
    },
    /// An operator changes the membership.
    Change {
        /// Answered by a `Resolve`.
        token: u64,
        /// How.
        change: Change,
    },
    /// An operator, or a process that is about to end, hands the primary's role over.
    Transfer {
        /// Answered by a `Resolve`.
        token: u64,
        /// To whom; `None` for whoever has most.
        to: Option<ReplicaId>,
    },
    /// An operator wants this replica to stand for election now. If it stands already, it goes on.
    Promote {
        /// Answered by a `Resolve`: [`Outcome::Stands`](super::Outcome::Stands), or why it does not.
        token: u64,
    },
    /// The transport has lost the connection to a peer: an early sign, never a proof.
    PeerLost {
        /// Whose.
        id: ReplicaId,
    },
    /// A write or a sync has failed: the log is poisoned until it is opened again (S12).
    DiskFailed,
}

/// Records that a client wants to append.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Proposal {
    /// The caller's own number for it.
    pub token: u64,
    /// How many records, at least one.
    pub records: u32,
    /// Size of their frames, in bytes.
    pub bytes: u64,
    /// The producer, and its sequence number of the first of the records.
    pub producer: Option<(ProducerId, u64)>,
}

/// A change of the membership.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// A newcomer receives the log.
    AddLearner(Member),
    /// A learner that has caught up votes from now on.
    PromoteLearner {
        /// Who.
        id: ReplicaId,
        /// Its priority.
        priority: u8,
    },
    /// A learner or voter takes part no more. The primary too can be removed: it hands over in the end.
    Remove(ReplicaId),
    /// Another rule for how many copies and votes it takes.
    SetQuorums(Quorums),
    /// Another order of preference.
    SetPriority {
        /// Whose.
        id: ReplicaId,
        /// Its new priority.
        priority: u8,
    },
}
