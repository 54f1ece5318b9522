//! What replicas say to each other.

use std::sync::Arc;

use super::group::Group;
use super::history::{EpochHistory, Position};
use super::membership::Member;
use super::state::{Base, Staged};
use crate::types::{ClusterId, Epoch, LogIncarnation, Lsn, LsnRange};

/// A message with who sends it, to whom, and what the sender knew.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Envelope {
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// Who sends it.
    pub from: Member,
    /// For whom it is, and for which disk of theirs.
    pub to: Member,
    /// The sender's epoch.
    pub epoch: Epoch,
    /// The generation of the newest membership that the sender knows to be committed.
    pub generation: u64,
    /// What it says.
    pub message: Message,
}

/// What replicas say to each other. `docs/protocol.md` has the table of who says what to whom, and when.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Candidate to voters: would you vote for me in epoch `next`? Promises nothing, persists nothing.
    PreVote {
        /// The epoch that the election would be for.
        next: Epoch,
        /// The candidate's newest synced record.
        last: Position,
    },
    /// Voter to candidate.
    PreVoteReply {
        /// As asked.
        next: Epoch,
        /// Whether it would.
        granted: bool,
    },
    /// Candidate to voters: vote for me in the envelope's epoch.
    Vote {
        /// The candidate's newest synced record.
        last: Position,
        /// Whether the primary has asked for it, so that its being alive is no reason to refuse.
        transfer: bool,
    },
    /// Voter to candidate, once its vote is synced (S1).
    VoteReply {
        /// Whether the candidate has the vote.
        granted: bool,
    },
    /// Primary to all: I lead, and so much is committed.
    Heartbeat {
        /// Grows with each heartbeat, so that a reply tells which one it answers.
        round: u64,
        /// Everything up to here is committed.
        commit: Lsn,
        /// The primary's newest record.
        last: Lsn,
        /// The newest that is synced on the primary's own disk: disk progress (S12).
        durable: Lsn,
    },
    /// Backup to primary. Never waits for the disk.
    HeartbeatReply {
        /// The heartbeat that it answers.
        round: u64,
        /// The backup's newest record, synced or not.
        last: Position,
        /// The newest that is synced.
        durable: Lsn,
        /// The life of its log.
        incarnation: LogIncarnation,
        /// Whether it follows: its log is known to be a part of the primary's.
        is_following: bool,
    },
    /// Primary to a member whose log it does not know: which epochs have you?
    Probe {
        /// Only of records up to this one.
        through: Lsn,
        /// The newest life of the member's log that the primary has heard of in this epoch; 0 if of none.
        known: LogIncarnation,
    },
    /// Backup to primary.
    ProbeReply(Box<ProbeReply>),
    /// Primary to backup: our logs agree up to here; forget the rest, what follows comes now (S5).
    Follow {
        /// The last record that both have.
        common: Position,
        /// The life of the backup's log that was probed.
        incarnation: LogIncarnation,
        /// The primary's newest record.
        last: Lsn,
    },
    /// Primary to backup: a group. Its bytes travel with it.
    Append {
        /// The record right before it.
        previous: Position,
        /// Everything up to here is committed.
        commit: Lsn,
        /// The life of the backup's log that it continues.
        incarnation: LogIncarnation,
        /// The group.
        group: Group,
    },
    /// Backup to primary: everything up to `durable` is synced (S1, S6).
    Ack {
        /// The life of the log that holds it.
        incarnation: LogIncarnation,
        /// The newest synced record.
        durable: Lsn,
        /// Whether the copy counts: not from a replica that is being repaired (S11).
        is_whole: bool,
    },
    /// Backup to primary: what came does not follow on my last record; probe me.
    OutOfOrder {
        /// The life of its log.
        incarnation: LogIncarnation,
        /// The backup's newest record.
        last: Position,
    },
    /// Primary to backup: you need this snapshot.
    SnapshotOffer(Box<SnapshotOffer>),
    /// Backup to primary: go on with the snapshot after so many bytes. As many as there are: it is installed.
    SnapshotAsk {
        /// Which.
        snapshot: SnapshotId,
        /// Bytes that are staged and synced.
        bytes: u64,
    },
    /// Primary to backup: a part of a snapshot. Its bytes travel with it.
    SnapshotChunk {
        /// Which.
        snapshot: SnapshotId,
        /// Where it begins.
        offset: u64,
        /// Its size, in bytes.
        bytes: u32,
        /// Its digest, which the backup's node checks before it stages the chunk.
        digest: u64,
    },
    /// Damaged replica to primary: give me these records again (S11).
    RepairAsk {
        /// What is lost, or the rest of it.
        range: LsnRange,
    },
    /// Primary to damaged replica: records of the range that was asked for. Their bytes travel with it.
    RepairGive {
        /// The first records of the range, as many as fit.
        group: Group,
        /// Over the bytes, which the replica's node checks before it writes them.
        digest: u64,
    },
    /// Primary to damaged replica: the primary's log ends before the range that was asked for.
    RepairNone {
        /// The range that was asked for.
        range: LsnRange,
        /// The primary's newest record.
        last: Position,
    },
    /// Primary to the replica that is to take over: you have all that I have; stand for election at once.
    TakeOver {
        /// The primary's newest record.
        last: Position,
    },
    /// To a sender whose epoch is over: the envelope's is the newer one.
    Stale,
}

/// What a backup says of its log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ProbeReply {
    /// The probe's `through`.
    pub through: Lsn,
    /// The newest part of its history, up to there.
    pub history: EpochHistory,
    /// The life of its log.
    pub incarnation: LogIncarnation,
    /// A snapshot that it has received in part: the primary goes on with it, if it still has it.
    pub staged: Option<Staged>,
}

/// A snapshot's identity. Two replicas may write down the same state as different bytes: a part that came from one of
/// them is of no use with the rest of the other's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SnapshotId {
    /// The last record that it covers.
    pub position: Position,
    /// CRC of the application's part.
    pub checksum: u32,
}

/// What is said of the application's part of a snapshot before its bytes are there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Contents {
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its CRC: whoever receives the bytes switches to them only if they give it.
    pub checksum: u32,
}

/// A snapshot, but for its bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SnapshotOffer {
    /// The replicated state as of the snapshot's last record.
    pub base: Arc<Base>,
    /// What the application's part has to be.
    pub contents: Contents,
}

impl SnapshotOffer {
    /// The snapshot's identity.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        SnapshotId { position: self.base.position, checksum: self.contents.checksum }
    }
}

impl Message {
    /// The message's name in traces, scenarios and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Message::PreVote { .. } => "PreVote",
            Message::PreVoteReply { .. } => "PreVoteReply",
            Message::Vote { .. } => "Vote",
            Message::VoteReply { .. } => "VoteReply",
            Message::Heartbeat { .. } => "Heartbeat",
            Message::HeartbeatReply { .. } => "HeartbeatReply",
            Message::Probe { .. } => "Probe",
            Message::ProbeReply(_) => "ProbeReply",
            Message::Follow { .. } => "Follow",
            Message::Append { .. } => "Append",
            Message::Ack { .. } => "Ack",
            Message::OutOfOrder { .. } => "OutOfOrder",
            Message::SnapshotOffer(_) => "SnapshotOffer",
            Message::SnapshotAsk { .. } => "SnapshotAsk",
            Message::SnapshotChunk { .. } => "SnapshotChunk",
            Message::RepairAsk { .. } => "RepairAsk",
            Message::RepairGive { .. } => "RepairGive",
            Message::RepairNone { .. } => "RepairNone",
            Message::TakeOver { .. } => "TakeOver",
            Message::Stale => "Stale",
        }
    }
}
