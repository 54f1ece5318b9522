//! Whether a replica still has what it may have acknowledged.

use crate::types::LsnRange;

/// What recovery found on this replica's disk (S11).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Health {
    /// Everything that was ever acknowledged is there.
    #[default]
    Whole,
    /// Records that may have been acknowledged are lost: these LSNs, in order, none twice. None
    /// are left when all are back, but the replica has not caught up yet with what its primary had then.
    Damaged(Vec<LsnRange>),
    /// There is nothing, and nobody has said that the disk is new.
    Blank,
}
