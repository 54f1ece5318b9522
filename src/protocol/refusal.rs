//! Messages that are not acted on, by reason.

/// Why a message was refused. It has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// It belongs to another cluster.
    OtherCluster,
    /// It is meant for another replica, or for another disk of this one.
    NotForThis,
    /// The sender is known under another disk id, or claims this replica's own id.
    FalseIdentity,
    /// A candidate that is no voter any more, by a newer membership than it knows.
    StaleMembership,
    /// Its epoch is over.
    StaleEpoch,
    /// Only a primary sends this, and the sender is not this epoch's; or only a backup, and it is none of ours.
    WrongRole,
    /// Its LSNs contradict each other or what is known.
    ImpossibleLsn,
    /// Its sizes are over the limits.
    ImpossibleSize,
    /// It acknowledges what an earlier incarnation of the log held (S6).
    StaleIncarnation,
    /// It does not follow on what is here; the sender is told.
    OutOfOrder,
    /// It answers a question that is no longer asked.
    NotAsked,
    /// A snapshot that reaches no further than what is known to be committed (S9).
    BelowCommit,
    /// A replica that is damaged, blank or halted does not take part.
    NotWhole,
}

impl Refusal {
    /// All reasons.
    pub const ALL: [Refusal; 13] = [
        Refusal::OtherCluster,
        Refusal::NotForThis,
        Refusal::FalseIdentity,
        Refusal::StaleMembership,
        Refusal::StaleEpoch,
        Refusal::WrongRole,
        Refusal::ImpossibleLsn,
        Refusal::ImpossibleSize,
        Refusal::StaleIncarnation,
        Refusal::OutOfOrder,
        Refusal::NotAsked,
        Refusal::BelowCommit,
        Refusal::NotWhole,
    ];
}

/// How many messages were refused, by reason, since the replica was recovered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// How often for this reason.
    #[must_use]
    pub const fn count(&self, reason: Refusal) -> u64 {
        self.0[reason as usize]
    }

    /// How often in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn note(&mut self, reason: Refusal) {
        self.0[reason as usize] += 1;
    }
}
