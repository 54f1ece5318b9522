//! What a replica wants done.

use std::sync::Arc;

use super::group::Group;
use super::history::Position;
use super::message::{Envelope, SnapshotId, SnapshotOffer};
use super::replica::Role;
use super::state::{Base, Meta};
use crate::types::{Epoch, LogIncarnation, Lsn, LsnRange, ReplicaId};

/// Something to be done, in the order in which it comes. Nothing waits for anything but what its text names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Save the meta, sync it, then say [`Input::MetaSaved`](super::Input::MetaSaved). Only the newest has to be written.
    SaveMeta {
        /// Grows with each.
        number: u64,
        /// What to save.
        meta: Meta,
    },
    /// Send a message. To lose it is allowed, to change it is not.
    ///
    /// With `Append`, `SnapshotChunk` and `RepairGive` go the bytes of what was proposed or read.
    Send(Envelope),
    /// Append the group to the log and sync it, then say [`Input::Durable`](super::Input::Durable). Its bytes are those that were
    /// proposed, or came with the message; a control record's are made from its content.
    Write(Group),
    /// Forget the records after this one (S5), before any later `Write` and `SaveMeta`. A new life of the log begins. It may
    /// be the last record, and the life any number of lives away: then recovery has to give a later one still.
    Truncate {
        /// The last record that stays.
        after: Lsn,
        /// The life that begins.
        incarnation: LogIncarnation,
    },
    /// Read from the log, for [`Input::LogRead`](super::Input::LogRead).
    ReadLog {
        /// For whom.
        to: ReplicaId,
        /// The first record.
        from: Lsn,
        /// At most so many bytes, but at least one frame.
        bytes_max: u64,
    },
    /// Read a part of a snapshot, the newest or one of `KeepSnapshots`, for [`Input::SnapshotRead`](super::Input::SnapshotRead).
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
    /// Begin to stage a snapshot, from nothing: its base is to be kept with it. What was staged is dropped, also of this
    /// one; to go on with what is there the replica asks for chunks, and does not say this again.
    StageSnapshot(Box<SnapshotOffer>),
    /// Check the chunk's digest, write it into the stage and sync it, then say `ChunkStaged`.
    StageChunk {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Where it begins.
        offset: u64,
        /// Its size.
        bytes: u32,
        /// What its bytes must give.
        digest: u64,
    },
    /// Make the staged snapshot the beginning of the log, atomically, then drop the log (S9). A crash at any step
    /// resumes.
    Install {
        /// Which.
        snapshot: SnapshotId,
        /// The state that goes with it.
        base: Arc<Base>,
        /// The life of the log that begins.
        incarnation: LogIncarnation,
    },
    /// Read records again for a damaged replica, for [`Input::RangeRead`](super::Input::RangeRead).
    ReadRange {
        /// For whom.
        to: ReplicaId,
        /// Which; at least the first of them.
        range: LsnRange,
        /// At most so many bytes, but at least one frame.
        bytes_max: u64,
    },
    /// Check the records that came with the message against the digest, put them where they were lost, sync, then
    /// say `Mended`.
    Mend {
        /// Which records.
        group: Group,
        /// What their bytes must give.
        digest: u64,
    },
    /// What was lost is back (S11): recover the replica anew from its disk.
    Reopen {
        /// Whether nothing is damaged any more: then remove the note of it first. Else it goes on catching up, with
        /// [`Health::Damaged`](super::Health::Damaged) of nothing, because the histories have changed with the repair.
        is_whole: bool,
    },
    /// Everything up to here is committed: may be shown to readers and applied.
    Committed(Lsn),
    /// A token's answer.
    Resolve {
        /// The caller's own number.
        token: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The linearizable read sees everything up to here, once that is applied.
    ReadReady {
        /// The caller's own number.
        token: u64,
        /// What it sees.
        lsn: Lsn,
    },
    /// The read cannot be answered here.
    ReadFailed {
        /// The caller's own number.
        token: u64,
        /// Who leads, as far as known.
        primary: Option<ReplicaId>,
    },
    /// The role, the epoch or the primary has changed.
    Became {
        /// What this replica is now.
        role: Role,
        /// In this epoch.
        epoch: Epoch,
        /// Who leads, if known.
        primary: Option<ReplicaId>,
    },
    /// The log must keep everything after this record for peers that catch up; `None`: nothing for them.
    Pin(Option<Lsn>),
    /// These snapshots can still be asked for by `ReadSnapshot` when a newer one has been taken: peers receive them. None
    /// but these, and the newest; and they need not outlive the process. If there is no room for one, it may go.
    KeepSnapshots(Vec<SnapshotId>),
    /// This replica does nothing any more.
    Halt(Halt),
}

/// What came of a proposal, a change or a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// On a write quorum of disks.
    Committed {
        /// The records.
        range: LsnRange,
        /// Their epoch.
        epoch: Epoch,
    },
    /// The producer's records were there already; they are committed.
    Duplicate {
        /// Where they are; `None` if it is too long ago for that to be known.
        range: Option<LsnRange>,
    },
    /// Not appended, and it never will be: append it at the primary.
    NotTaken {
        /// Who leads, as far as known.
        primary: Option<ReplicaId>,
    },
    /// Appended, and nobody knows yet whether it lasts: the primary was deposed (S7).
    Unknown,
    /// Not appended: too many bytes wait for their commit. Or not read: too many reads wait.
    Busy,
    /// Not appended, and it never will be: a group of this size is refused everywhere. Split it.
    TooLarge {
        /// Bytes that a group may have: [`Limits::group_bytes_max`](super::Limits::group_bytes_max).
        bytes_max: u64,
    },
    /// Not appended, and it never will be: it holds no record, or more than there are LSNs left. Do not retry it.
    Invalid,
    /// Not appended: the sequence number is not the producer's next.
    OutOfSequence {
        /// The next one.
        expected: u64,
    },
    /// Not appended: it asks for more copies than there are members.
    TooFew {
        /// How many there are.
        members: u64,
    },
    /// Not appended: nobody registered the producer, or it was idle for too long and forgotten.
    UnknownProducer,
    /// The change is not possible now, or not at all: another one is under way, too few follow, or it makes no sense.
    ChangeRefused,
    /// The role was handed over: this replica has seen the new primary.
    Transferred {
        /// Who leads.
        primary: ReplicaId,
    },
    /// The role was not handed over in time; this replica still leads.
    NotTransferred,
    /// This replica stands for election, or leads already. Its status tells whether it is elected.
    Stands,
    /// It does not stand: a primary was heard a moment ago, and a transfer is the way. Or it was just started, and may have
    /// heard one before.
    HearsPrimary {
        /// Who leads, as far as known.
        primary: Option<ReplicaId>,
    },
    /// It does not stand: it is no voter, or not whole, or its disk stands still.
    MayNotStand,
}

/// Why a replica does nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Halt {
    /// Truncating as the primary's history demands would take committed records away (S5). Somebody is wrong: look.
    TruncationBelowCommit {
        /// Known to be committed.
        commit: Lsn,
        /// What both logs are said to have in common.
        common: Position,
    },
    /// The disk has failed: open the log again.
    DiskFailed,
}
