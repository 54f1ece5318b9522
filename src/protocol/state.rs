//! What a replica keeps on its disk (S0).

use super::group::Content;
use super::health::Health;
use super::history::{EpochHistory, Position};
use super::membership::{Member, Membership};
use super::message::{Contents, SnapshotId};
use super::producers::Producers;
use crate::types::{Epoch, LogIncarnation, Lsn};
use std::sync::Arc;

/// The small part that is saved as one: before any message that depends on it leaves (S1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Meta {
    /// The newest epoch that this replica has heard of.
    pub epoch: Epoch,
    /// Who got this replica's vote in that epoch.
    pub vote: Option<Member>,
    /// The generation of the newest membership that it knows to be committed.
    pub generation: u64,
}

/// The replicated state as of one record, without the application's part: what a snapshot holds beside it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Base {
    /// The last record that it covers; LSN 0 in the base that a cluster begins with.
    pub position: Position,
    /// Who takes part as of that record; `None` in a newcomer that nobody has told.
    pub membership: Option<Arc<Membership>>,
    /// The producers as of that record.
    pub producers: Producers,
}

/// A snapshot of which a part has been received and synced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Staged {
    /// Which.
    pub snapshot: SnapshotId,
    /// How many of its bytes are there, from the first.
    pub bytes: u64,
}

/// All that recovery has found, for [`Replica::recover`](super::Replica::recover). All of it is synced.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    /// As saved last.
    pub meta: Meta,
    /// The newest snapshot that was taken or installed, or what the cluster began with.
    pub base: Base,
    /// The epochs of the records that the log holds.
    pub history: EpochHistory,
    /// What the records after the base hold that the core has to know, in order; plain records are left out.
    pub replay: Vec<(Lsn, Content)>,
    /// A record up to which all is known to be committed; never past the log's end. Saved only once the log is synced up
    /// to it: before that, a crash may bring back a suffix that was truncated, and it would be taken for committed.
    pub commit: Lsn,
    /// Greater than any that this disk's log has ever had: see [`LogIncarnation`].
    pub incarnation: LogIncarnation,
    /// Whether something is lost.
    pub health: Health,
    /// A snapshot that was being received.
    pub staged: Option<Staged>,
    /// What the application's part of the base's snapshot is, if it can be sent to others.
    pub contents: Option<Contents>,
}
