//! Snapshots and trims: when they are asked for, and by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Node, Store};
use crate::node::apply::ApplyNote;
use crate::node::driver::{Done, Task};
use crate::node::error::Result;
use crate::node::mail::Asker;
use crate::node::observe;
use crate::node::options::Policy;
use crate::protocol::request::{Refused, Reply};
use crate::protocol::{Base, Contents, Role};
use crate::transport::Network;
use crate::types::Lsn;

/// How long after a snapshot that could not be taken another is tried by itself.
const RETRY: Duration = Duration::from_secs(1);

/// What is known of snapshots and trims.
pub(crate) struct Upkeep {
    policy: Policy,
    /// Whether the application has a state: then only it can say what goes.
    pub(super) has_machine: bool,
    /// What readers are shown.
    pub(super) shown: Lsn,
    /// What the newest snapshot covers.
    pub(super) newest: Lsn,
    /// Bytes of frames that were written, and how many of them were when the newest snapshot was begun.
    written: u64,
    begun_at: u64,
    /// The same of the one that is being written: it may fail.
    tried_at: u64,
    /// What the snapshot covers that is being written.
    writing: Option<Lsn>,
    /// The thread that applies, and freezes the state, is gone.
    is_over: bool,
    /// Peers that catch up need all after this.
    pin: Option<Lsn>,
    /// After one could not be taken, no other is tried by itself before this.
    not_before: Option<Instant>,
    /// Those who wait for a snapshot.
    askers: Vec<Asker>,
    /// Those who want records gone that no snapshot covers yet.
    uncovered: Vec<(Lsn, Asker)>,
    /// Those who wait until records are gone.
    trims: Vec<(Lsn, Asker)>,
}

impl Upkeep {
    /// With so many bytes of frames that are there after `newest`: a replica that is started again and again before it has
    /// written enough would never take a snapshot.
    pub(crate) fn new(policy: Policy, has_machine: bool, (newest, bytes): (Lsn, u64)) -> Upkeep {
        Upkeep {
            policy,
            has_machine,
            shown: newest,
            newest,
            written: bytes,
            begun_at: 0,
            tried_at: 0,
            writing: None,
            is_over: false,
            not_before: None,
            pin: None,
            askers: Vec::new(),
            uncovered: Vec::new(),
            trims: Vec::new(),
        }
    }

    /// Whether the applying thread has something to do when more is shown.
    pub(super) const fn needs_applying(&self) -> bool {
        self.has_machine || self.writing.is_some()
    }

    /// So many bytes more of frames are written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
    }

    /// Whether a snapshot is to be taken, with everything up to `commit` known to be committed.
    fn is_due(&self, commit: Lsn) -> bool {
        let Policy { snapshot_every, snapshot_every_bytes, .. } = self.policy;
        let is_by_records =
            snapshot_every.is_some_and(|every| commit.get().saturating_sub(self.newest.get()) >= every);
        let is_by_bytes = snapshot_every_bytes.is_some_and(|every| self.written - self.begun_at >= every);
        is_by_records || (is_by_bytes && commit > self.newest)
    }

    pub(super) fn pin(&mut self, pin: Option<Lsn>) {
        self.pin = pin;
    }
}

impl Node {
    /// What is due by itself.
    pub(super) fn keep_up(&mut self, network: &mut dyn Network) {
        let is_time = self.upkeep.not_before.is_none_or(|at| at <= Instant::now());
        if self.upkeep.is_due(self.commit) && self.upkeep.writing.is_none() && is_time {
            self.begin_snapshot(network);
        }
        self.hand_over_tasks();
    }

    pub(super) fn ask_snapshot(&mut self, network: &mut dyn Network, asker: Asker) {
        self.upkeep.askers.push(asker);
        if self.upkeep.writing.is_none() {
            self.begin_snapshot(network);
        }
    }

    /// The state as of what is committed now will be frozen once that is applied.
    fn begin_snapshot(&mut self, network: &mut dyn Network) {
        if self.upkeep.is_over {
            return self.no_snapshot(network, "the thread that applies is gone; start this replica again");
        }
        let is_well =
            self.store == Store::Open && !matches!(self.driver.role(), Role::Recovering | Role::Halted);
        let base = self.driver.base().filter(|base| is_well && base.position.lsn > Lsn::ZERO);
        let Some(base) = base else {
            return self.no_snapshot(network, "nothing is known to be committed here; ask again later");
        };
        let lsn = base.position.lsn;
        if lsn <= self.upkeep.newest {
            return self.snapshot_stands(network);
        }
        self.upkeep.writing = Some(lsn);
        self.upkeep.tried_at = self.upkeep.written;
        self.tell_apply(ApplyNote::Freeze(Arc::new(base)));
    }

    /// A snapshot was written, or was not.
    pub(super) fn snapshot_written(
        &mut self,
        network: &mut dyn Network,
        base: Base,
        outcome: Result<Contents>,
    ) {
        let lsn = base.position.lsn;
        observe::snapshot(self.me, lsn, &outcome);
        self.upkeep.writing = None;
        match outcome {
            Ok(contents) => {
                if self.store == Store::Open {
                    self.driver.done(self.now(), Done::SnapshotTaken { base: Box::new(base), contents });
                }
                self.upkeep.newest = self.upkeep.newest.max(lsn);
                self.upkeep.begun_at = self.upkeep.tried_at;
                self.snapshot_stands(network);
            }
            Err(error) => self.no_snapshot(network, &format!("no snapshot was taken: {error}")),
        }
        // What the snapshot has changed for others, who wait for it.
        self.act(network);
    }

    fn snapshot_stands(&mut self, network: &mut dyn Network) {
        let newest = self.upkeep.newest;
        for asker in std::mem::take(&mut self.upkeep.askers) {
            self.answer(network, asker, Reply::SnapshotTaken(newest), &[]);
        }
        for (through, asker) in std::mem::take(&mut self.upkeep.uncovered) {
            self.trim(network, through, Some(asker));
        }
        if let Some(keep) = self.upkeep.policy.keep_records {
            self.trim(network, Lsn::new(newest.get().saturating_sub(keep)), None);
        }
    }

    /// The program's own code has panicked, in the thread that writes the snapshot or in the one that freezes the state: then
    /// there will be no other.
    pub(super) fn snapshot_died(&mut self, network: &mut dyn Network, is_over: bool) {
        self.upkeep.is_over |= is_over;
        self.upkeep.writing = None;
        self.no_snapshot(network, "no snapshot was taken: the state machine has panicked");
    }

    pub(super) fn no_snapshot(&mut self, network: &mut dyn Network, reason: &str) {
        self.upkeep.not_before = Some(Instant::now() + RETRY);
        let uncovered = std::mem::take(&mut self.upkeep.uncovered).into_iter().map(|(_, asker)| asker);
        let askers: Vec<Asker> =
            std::mem::take(&mut self.upkeep.askers).into_iter().chain(uncovered).collect();
        for asker in askers {
            self.refuse(network, asker, Refused::NotPossible { reason: reason.to_owned() });
        }
    }

    pub(super) fn ask_trim(&mut self, network: &mut dyn Network, asker: Asker, through: Lsn) {
        if through <= self.upkeep.newest {
            return self.trim(network, through, Some(asker));
        }
        if self.upkeep.has_machine {
            let newest = self.upkeep.newest;
            let reason =
                format!("the newest snapshot covers the records up to {newest} only; take another one first");
            return self.refuse(network, asker, Refused::NotPossible { reason });
        }
        // Without a state, a snapshot is no more than the place where the log begins.
        self.upkeep.uncovered.push((through, asker));
        if self.upkeep.writing.is_none() {
            self.begin_snapshot(network);
        }
    }

    /// Forgets records that the newest snapshot covers, but for those that a laggard needs.
    fn trim(&mut self, network: &mut dyn Network, through: Lsn, asker: Option<Asker>) {
        let through = through.min(self.upkeep.newest).min(self.upkeep.pin.unwrap_or(through));
        if self.store != Store::Open {
            if let Some(asker) = asker {
                self.refuse(network, asker, Refused::Busy);
            }
            return;
        }
        if through < self.driver.replica().first() {
            if let Some(asker) = asker {
                self.answer(network, asker, Reply::Done, &[]);
            }
            return;
        }
        self.tasks.push(Task::Trim { through });
        self.upkeep.trims.extend(asker.map(|asker| (through, asker)));
    }

    /// Nobody says any more what became of the trims that were asked of the store before this one.
    pub(super) fn give_up_trims(&mut self, network: &mut dyn Network) {
        for (_, asker) in std::mem::take(&mut self.upkeep.trims) {
            self.refuse(network, asker, Refused::Unknown);
        }
    }

    /// Records are gone, up to what was asked for, or to the end of a frame before it.
    pub(super) fn trimmed(&mut self, network: &mut dyn Network, asked: Lsn) {
        let done = self.upkeep.trims.extract_if(.., |(wanted, _)| *wanted <= asked);
        for (_, asker) in done.collect::<Vec<_>>() {
            self.answer(network, asker, Reply::Done, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A primary that was to take none for as long as anybody lives took one after each commit.
    #[test]
    fn however_rare_snapshots_are_to_be_one_is_due_after_so_many_records_and_not_before() {
        let due = |every: u64, newest: u64, commit: u64| {
            let policy = Policy { snapshot_every: Some(every), ..Policy::default() };
            Upkeep::new(policy, false, (Lsn::new(newest), 0)).is_due(Lsn::new(commit))
        };
        assert!(!due(u64::MAX, 7, 9) && !due(u64::MAX, 9, 7));
        assert!(!due(10, 7, 16) && due(10, 7, 17));
    }
}
