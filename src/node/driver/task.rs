//! What a driver wants of the disk, and what the disk says.

use bytes::Bytes;

use crate::protocol::{Base, Contents, Group, Meta, SnapshotId, SnapshotOffer};
use crate::types::{LogIncarnation, Lsn, LsnRange, ReplicaId};

/// Something that the disk is to do: [`perform`](super::perform) does it on a [`ReplicaStore`](crate::node::ReplicaStore).
///
/// Tasks are carried out in order; those that read may come later, and those that were overtaken by a newer one of their
/// kind may be left out where it says so.
#[derive(Clone, PartialEq, Debug)]
pub enum Task {
    /// Save the meta durably. Only the newest has to be.
    SaveMeta {
        /// Grows with each.
        number: u64,
        /// What to save.
        meta: Meta,
    },
    /// Append the group, and sync it.
    Write {
        /// What it is.
        group: Group,
        /// The life of the log in which it is written.
        incarnation: LogIncarnation,
        /// Its frames: checked, or made here.
        frames: Bytes,
    },
    /// Forget the records after this one (S5).
    Truncate {
        /// The last record that stays.
        after: Lsn,
        /// The life of the log that begins.
        incarnation: LogIncarnation,
    },
    /// Read a group from the log.
    ReadLog {
        /// For whom.
        to: ReplicaId,
        /// The first record.
        from: Lsn,
        /// At most so many bytes, but at least one frame.
        bytes_max: u64,
    },
    /// Read records again for a damaged replica.
    ReadRange {
        /// For whom.
        to: ReplicaId,
        /// Which; at least the first of them.
        range: LsnRange,
        /// At most so many bytes, but at least one frame.
        bytes_max: u64,
    },
    /// Read a part of the newest snapshot.
    ReadSnapshot {
        /// For whom.
        to: ReplicaId,
        /// Which.
        snapshot: SnapshotId,
        /// Where the part begins.
        offset: u64,
        /// At most so many bytes.
        bytes_max: u32,
    },
    /// Keep these snapshots readable when a newer one has been taken.
    KeepSnapshots(Vec<SnapshotId>),
    /// Begin to stage a snapshot, from nothing.
    Stage(Box<SnapshotOffer>),
    /// Put a chunk into the stage; durably, with those that follow at once.
    StageChunk {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Where it begins.
        offset: u64,
        /// What its bytes must give.
        digest: u64,
        /// The chunk.
        bytes: Bytes,
    },
    /// Make the staged snapshot the beginning of the log, and drop the log (S9).
    Install {
        /// Which.
        snapshot: SnapshotId,
        /// The life of the log that begins.
        incarnation: LogIncarnation,
    },
    /// Put records where they were lost, durably (S11).
    Mend {
        /// Which records.
        group: Group,
        /// What their bytes must give.
        digest: u64,
        /// Their frames.
        frames: Bytes,
    },
    /// Keep a snapshot of the application, durably, in the place of the one before.
    TakeSnapshot {
        /// The state that goes with it.
        base: Box<Base>,
        /// The application's bytes.
        application: Bytes,
    },
    /// Forget the records up to and with this one, which the newest snapshot covers; but no part of a frame.
    Trim {
        /// The newest record to forget.
        through: Lsn,
    },
}

impl Task {
    /// Whether it only reads.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self, Task::ReadLog { .. } | Task::ReadRange { .. } | Task::ReadSnapshot { .. })
    }
}

/// What the disk has done.
#[derive(Clone, PartialEq, Debug)]
pub enum Done {
    /// The meta of this number is synced, and so are all before it.
    MetaSaved {
        /// As in [`Task::SaveMeta`].
        number: u64,
    },
    /// The log is synced up to this record.
    Durable {
        /// The life of the log in which it was written.
        incarnation: LogIncarnation,
        /// The newest synced record.
        lsn: Lsn,
    },
    /// A group was read from the log.
    LogRead {
        /// For whom.
        to: ReplicaId,
        /// What it is.
        group: Group,
        /// Its frames.
        frames: Bytes,
    },
    /// The log does not reach back to what was to be read.
    LogGone {
        /// For whom it was to be read.
        to: ReplicaId,
    },
    /// Records were read for a damaged replica.
    RangeRead {
        /// For whom.
        to: ReplicaId,
        /// The first records of the range.
        group: Group,
        /// Over their bytes.
        digest: u64,
        /// Their frames.
        frames: Bytes,
    },
    /// A part of a snapshot was read.
    SnapshotRead {
        /// For whom.
        to: ReplicaId,
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Where it begins.
        offset: u64,
        /// Over its bytes.
        digest: u64,
        /// The part.
        bytes: Bytes,
    },
    /// The snapshot can no longer be read.
    SnapshotGone {
        /// For whom it was to be read.
        to: ReplicaId,
    },
    /// Chunks were checked, staged and synced.
    ChunkStaged {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// How many of its bytes are there now.
        bytes: u64,
    },
    /// A chunk does not check, or is not what comes next: nothing has changed.
    ChunkRefused {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Where it begins.
        offset: u64,
    },
    /// The snapshot is what the log now begins with.
    Installed {
        /// Which.
        snapshot: SnapshotId,
        /// The life of the log that begins with it.
        incarnation: LogIncarnation,
    },
    /// Records that were lost are back.
    Mended {
        /// Which of them.
        range: LsnRange,
    },
    /// Records do not check, or do not fit: nothing was written.
    MendRefused {
        /// Which of them.
        range: LsnRange,
    },
    /// A snapshot of the application is kept.
    SnapshotTaken {
        /// The state that goes with it.
        base: Box<Base>,
        /// What the application's part is.
        contents: Contents,
    },
    /// The log was trimmed.
    Trimmed {
        /// Up to and with this record, as in the task.
        asked: Lsn,
        /// The newest record that is gone: with it a frame ends.
        through: Lsn,
    },
}
