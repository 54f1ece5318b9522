//! What a replica knows of its own log: never a byte of it, but every epoch, watermark and control record.

use std::sync::Arc;

use crate::protocol::config::ConfigError;
use crate::protocol::group::{Content, Group};
use crate::protocol::health::Health;
use crate::protocol::history::{EpochHistory, Position};
use crate::protocol::membership::Membership;
use crate::protocol::message::{Contents, SnapshotId, SnapshotOffer};
use crate::protocol::producers::Producers;
use crate::protocol::state::{Base, State};
use crate::types::{LogIncarnation, Lsn};

/// One replica's log, as far as the protocol looks at it.
///
/// `commit <= last`, `durable <= last`; `commit` may be ahead of `durable`, because others have synced.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ledger {
    pub(super) history: EpochHistory,
    /// Where the log begins for those who need a snapshot.
    pub(super) base: Arc<Base>,
    pub(super) contents: Option<Contents>,
    pub(super) durable: Lsn,
    pub(super) commit: Lsn,
    pub(super) incarnation: LogIncarnation,
    /// The oldest life whose syncs may still end, and up to where the log is what it was then.
    kept: (LogIncarnation, Lsn),
    pub(super) producers: Producers,
    /// The newest that is committed, and those after it; with the records that hold them.
    memberships: Vec<(Lsn, Arc<Membership>)>,
}

impl Ledger {
    pub(super) fn recover(state: &State) -> Result<Ledger, ConfigError> {
        let base = &state.base;
        let last = state.history.last();
        let is_whole = state.health == Health::Whole;
        let reaches = state.history.base().lsn <= base.position.lsn && base.position.lsn <= last.lsn;
        if !reaches || (is_whole && !state.history.has(base.position)) {
            return Err(ConfigError::State);
        }
        let mut ledger = Ledger {
            history: state.history.clone(),
            base: Arc::new(base.clone()),
            contents: state.contents,
            durable: last.lsn,
            commit: base.position.lsn,
            incarnation: state.incarnation,
            kept: (state.incarnation, Lsn::LAST),
            producers: base.producers.clone(),
            memberships: base.membership.iter().map(|first| (base.position.lsn, Arc::clone(first))).collect(),
        };
        let mut before = base.position.lsn;
        for (lsn, content) in &state.replay {
            if *lsn <= before || *lsn > last.lsn {
                return Err(ConfigError::State);
            }
            before = *lsn;
            ledger.apply(*lsn, content);
        }
        if ledger.memberships.iter().any(|(_, membership)| !membership.is_sound()) {
            return Err(ConfigError::Membership);
        }
        ledger.commit_through(state.commit.clamp(base.position.lsn, last.lsn));
        Ok(ledger)
    }

    pub(super) fn last(&self) -> Position {
        self.history.last()
    }

    /// The newest record that is synced here: what a vote may be asked with, and is weighed against.
    pub(super) fn synced(&self) -> Position {
        self.history.position(self.durable).unwrap_or_else(|| self.history.base())
    }

    /// The oldest record that the log has, or would have.
    pub(super) fn first(&self) -> Lsn {
        self.history.base().lsn.next()
    }

    /// The membership to act on: the newest in the log, committed or not (S10).
    pub(super) fn membership(&self) -> Option<&Arc<Membership>> {
        self.memberships.last().map(|(_, membership)| membership)
    }

    /// All memberships that may still count: the newest committed one, and those after it.
    pub(super) fn memberships(&self) -> impl Iterator<Item = &Arc<Membership>> {
        self.memberships.iter().map(|(_, membership)| membership)
    }

    /// The record that holds the newest membership.
    pub(super) fn membership_lsn(&self) -> Lsn {
        self.memberships.last().map_or(Lsn::ZERO, |(lsn, _)| *lsn)
    }

    /// The generation of the newest membership that is known to be committed.
    pub(super) fn committed_generation(&self) -> u64 {
        self.membership_as_of(self.commit).map_or(0, |membership| membership.generation)
    }

    /// Takes note of a group that follows on the last record.
    pub(super) fn append(&mut self, group: &Group) {
        self.history.append(group.epoch, group.range);
        self.apply(group.range.first, &group.content);
    }

    /// Forgets the records after this one; a new life of the log begins.
    pub(super) fn truncate(&mut self, after: Lsn) {
        self.history.truncate(after);
        self.producers.truncate(after);
        let kept = self.memberships.partition_point(|(lsn, _)| *lsn <= after);
        self.memberships.truncate(kept);
        self.durable = self.durable.min(after);
        self.incarnation = self.incarnation.next();
        self.kept.1 = self.kept.1.min(after);
    }

    /// A life of the log begins after one that others know of, and that this log has forgotten.
    pub(super) fn outlive(&mut self, known: LogIncarnation) {
        assert!(known > self.incarnation, "lives only grow");
        self.kept.1 = self.kept.1.min(self.last().lsn);
        self.incarnation = known.next();
    }

    /// Everything up to here is committed. Whether that makes another membership the committed one.
    pub(super) fn commit_through(&mut self, lsn: Lsn) -> bool {
        assert!(
            lsn >= self.commit && lsn <= self.last().lsn,
            "commit never goes back, nor past the log's end"
        );
        self.commit = lsn;
        self.producers.commit(lsn);
        let committed = self.memberships.partition_point(|(at, _)| *at <= lsn);
        self.memberships.drain(..committed.saturating_sub(1)).count() > 0
    }

    /// The log now begins with this snapshot, and holds nothing after it.
    pub(super) fn install(&mut self, base: Arc<Base>, contents: Contents, incarnation: LogIncarnation) {
        self.history = EpochHistory::new(base.position);
        self.durable = base.position.lsn;
        self.commit = base.position.lsn;
        self.producers = base.producers.clone();
        self.memberships =
            base.membership.iter().map(|first| (base.position.lsn, Arc::clone(first))).collect();
        self.base = base;
        self.contents = Some(contents);
        self.incarnation = incarnation;
        self.kept = (incarnation, Lsn::LAST);
    }

    /// How much of what was synced in this life is synced now: a sync may end after a truncation that it outruns.
    pub(super) fn synced_of(&self, incarnation: LogIncarnation, lsn: Lsn) -> Lsn {
        match incarnation {
            now if now == self.incarnation => lsn,
            earlier if earlier >= self.kept.0 && earlier < self.incarnation => lsn.min(self.kept.1),
            _ => Lsn::ZERO,
        }
    }

    /// A newer snapshot of this replica's own; gives the one whose place it takes.
    pub(super) fn take(&mut self, base: Base, contents: Contents) -> Option<SnapshotOffer> {
        if base.position.lsn <= self.base.position.lsn || base.position.lsn > self.commit {
            return None;
        }
        let before = self.snapshot();
        self.base = Arc::new(base);
        self.contents = Some(contents);
        before
    }

    /// The newest snapshot, if it can be sent: before the first one, what the cluster began with, which is a snapshot of
    /// nothing.
    pub(super) fn snapshot(&self) -> Option<SnapshotOffer> {
        let is_first = self.base.position.lsn == Lsn::ZERO && self.base.membership.is_some();
        let contents = self.contents.or(is_first.then(Contents::default))?;
        Some(SnapshotOffer { base: Arc::clone(&self.base), contents })
    }

    /// Whether the log holds all that follows on this snapshot.
    pub(super) fn reaches(&self, snapshot: SnapshotId) -> bool {
        snapshot.position.lsn >= self.history.base().lsn
    }

    /// The replicated state as of what is committed now.
    pub(super) fn committed_base(&self) -> Base {
        let position = self.history.position(self.commit).unwrap_or(self.base.position);
        let membership = self.membership_as_of(self.commit).cloned();
        Base { position, membership, producers: self.producers.as_of(self.commit) }
    }

    fn membership_as_of(&self, lsn: Lsn) -> Option<&Arc<Membership>> {
        self.memberships.iter().rev().find(|(at, _)| *at <= lsn).map(|(_, membership)| membership)
    }

    fn apply(&mut self, lsn: Lsn, content: &Content) {
        self.producers.apply(lsn, content);
        if let Content::Membership(membership) = content {
            self.memberships.push((lsn, Arc::clone(membership)));
        }
    }
}
