//! The rules of the protocol that a test may switch off, to see that it would be noticed.

/// A rule of the protocol, or a mistake that would be easy to make in its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// S1: nothing that promises leaves before what it promises is synced.
    PersistBeforeSend,
    /// S2: a vote goes only to a candidate that has all that the voter may have acknowledged.
    VoteByPosition,
    /// S2: one vote for each epoch.
    VoteOnce,
    /// S3: nothing is acknowledged before the start of the epoch has committed; off: reads are.
    CommitEpochStartFirst,
    /// S4: only copies of records of the current epoch are counted.
    CountCurrentEpochOnly,
    /// S5: truncate to the common point of the epoch histories; off: to the commit watermark.
    TruncateByHistory,
    /// S6: an acknowledgement counts only for the epoch, disk and incarnation it was given in.
    BindAcknowledgements,
    /// S7: a deposed primary resolves what is pending as unknown; off: as not taken.
    ResolveAsUnknown,
    /// S8: a linearizable read makes a quorum round at or after the start of the epoch.
    ReadByQuorumRound,
    /// S8: readers stop at what is committed.
    StopAtCommitted,
    /// S9: a snapshot is switched to only when each chunk is there and checked.
    VerifySnapshot,
    /// S9: a snapshot below known commit is refused.
    SnapshotAboveCommit,
    /// S10: a change of the voters goes through a joint membership.
    ChangeJointly,
    /// S11: a damaged replica neither votes nor acknowledges before it is whole.
    DamagedAbstains,
    /// S12: a primary whose disk stands still hands its role over; off: it goes on sending heartbeats.
    StalledDiskHandsOver,
    /// A retry with a known producer and sequence is answered with the first LSN; off: it is appended again.
    RefuseDuplicates,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 16] = [
        Rule::PersistBeforeSend,
        Rule::VoteByPosition,
        Rule::VoteOnce,
        Rule::CommitEpochStartFirst,
        Rule::CountCurrentEpochOnly,
        Rule::TruncateByHistory,
        Rule::BindAcknowledgements,
        Rule::ResolveAsUnknown,
        Rule::ReadByQuorumRound,
        Rule::StopAtCommitted,
        Rule::VerifySnapshot,
        Rule::SnapshotAboveCommit,
        Rule::ChangeJointly,
        Rule::DamagedAbstains,
        Rule::StalledDiskHandsOver,
        Rule::RefuseDuplicates,
    ];
}

/// The rules that hold: all of them, but in the builds of tests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Rules {
    #[cfg(any(test, feature = "sim"))]
    off: Option<Rule>,
}

impl Rules {
    /// All rules but this one, for tests that must notice.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub const fn without(rule: Rule) -> Rules {
        Rules { off: Some(rule) }
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn hold(self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    #[cfg(not(any(test, feature = "sim")))]
    #[allow(clippy::unused_self, reason = "as in the builds of tests")]
    pub(crate) const fn hold(self, _rule: Rule) -> bool {
        true
    }
}
