//! Whether a replica still has what it may have acknowledged.

use crate::types::{Lsn, LsnRange};

/// What recovery found on this replica's disk (S11).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Health {
    /// Everything that was ever acknowledged is there.
    #[default]
    Whole,
    /// Records that may have been acknowledged are lost: these LSNs, in order, none twice. None
    /// are left when all are back, but the replica has not caught up yet with what its primary had then.
    /// [`LOST_BASE`] alone: the base is lost, and the log that follows on it stands for nothing.
    Damaged(Vec<LsnRange>),
    /// There is nothing, and nobody has said that the disk is new.
    Blank,
}

/// What is lost when the base is: a log begins after it, so that no record is at this LSN.
pub const LOST_BASE: LsnRange = LsnRange { first: Lsn::ZERO, last: Lsn::ZERO };
