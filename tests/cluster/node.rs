//! One replica as the world sees it: its driver, its disk, its clock, and the process around them.

use std::collections::{BTreeMap, BTreeSet};

use annals::node::{Done, Driver, DriverOptions, Task};
use annals::protocol::{Config, Role, SnapshotId, Start};
use annals::{Epoch, LogIncarnation, Lsn};

use crate::clock::Clock;
use crate::invariants::{Check, Violation};
use crate::ledger::{Ledger, Snapshot};
use crate::seeds::Chance;
use crate::storage::Storage;
use crate::world::Event;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// How quick a disk is, and what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spindle {
    least: u64,
    most: u64,
    /// Nothing ends before this time.
    pub(crate) stalled_until: u64,
    /// The next sync fails.
    pub(crate) fails: bool,
    /// When the newest operation ends: a disk does one after the other.
    free_at: u64,
}

impl Spindle {
    fn new(draw: &mut Chance) -> Spindle {
        let least = draw.between(50 * US, 500 * US);
        Spindle { least, most: least * draw.between(2, 20), stalled_until: 0, fails: false, free_at: 0 }
    }

    /// When an operation that begins now ends.
    pub(crate) fn ends(&mut self, now: u64, draw: &mut Chance) -> u64 {
        let hiccup = if draw.below(300) == 0 { draw.between(20 * MS, 200 * MS) } else { 0 };
        let took = draw.between(self.least, self.most) + hiccup;
        self.free_at = (self.free_at.max(now + took)).max(self.stalled_until) + 1;
        self.free_at
    }
}

/// One replica with all that is around it.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) options: DriverOptions,
    pub(crate) ledger: Ledger,
    /// The real store; `None` where the ledger stands for it.
    pub(crate) storage: Option<Storage>,
    pub(crate) clock: Clock,
    pub(crate) spindle: Spindle,
    /// The process, if it is up.
    pub(crate) driver: Option<Driver>,
    /// Grows with each start: what was asked for in an earlier life is answered to nobody.
    pub(crate) life: u64,
    /// A process that is stopped hears of everything later.
    pub(crate) is_paused: bool,
    pub(crate) held: Vec<Event>,
    /// The true time of the timer that is set.
    pub(crate) timer: u64,
    /// The sync that is under way: of this life of the log, up to this record.
    pub(crate) flush: Option<(LogIncarnation, Lsn)>,
    /// Asked of this process, and not answered.
    pub(crate) tokens: BTreeSet<u64>,
    pub(crate) pin: Option<Lsn>,
    /// Snapshots that it has to keep when it takes newer ones, and those that it keeps so.
    keeps: Vec<SnapshotId>,
    pub(crate) older: Vec<Snapshot>,
    /// What this process knows to be committed.
    pub(crate) commit: Lsn,
    pub(crate) role: Role,
    /// The epoch of its newest role.
    pub(crate) reign: Epoch,
    /// How often a deadline of this very moment was asked for.
    pub(crate) ticks: BTreeMap<u64, u32>,
    /// It is not a part of the cluster before an operator adds it.
    pub(crate) is_spare: bool,
    /// The newest synced record of this primary, and since when there has been no newer one.
    pub(crate) progress: (Lsn, u64),
    /// The operator wants it to vote.
    pub(crate) is_wanted: bool,
    /// There is no room on the disk before this time.
    pub(crate) full_until: u64,
    /// A snapshot is being taken.
    pub(crate) takes_snapshot: bool,
}

impl Node {
    pub(crate) fn new(config: Config, ledger: Ledger, drift_ppm: i64, draw: &mut Chance) -> Node {
        let is_spare = config.start == Start::Newcomer;
        Node {
            config,
            options: DriverOptions::default(),
            ledger,
            storage: None,
            clock: Clock::new(draw.below(1 << 40), drift_ppm),
            spindle: Spindle::new(draw),
            driver: None,
            life: 0,
            is_paused: false,
            held: vec![],
            timer: u64::MAX,
            flush: None,
            tokens: BTreeSet::new(),
            pin: None,
            keeps: vec![],
            older: vec![],
            commit: Lsn::ZERO,
            role: Role::Backup,
            reign: Epoch::default(),
            ticks: BTreeMap::new(),
            is_spare,
            progress: (Lsn::ZERO, 0),
            is_wanted: !is_spare,
            full_until: 0,
            takes_snapshot: false,
        }
    }

    /// The process is gone, with everything that it had only in memory.
    pub(crate) fn stop(&mut self) {
        self.life += 1;
        self.driver = None;
        self.is_paused = false;
        self.held.clear();
        self.timer = u64::MAX;
        self.flush = None;
        self.pin = None;
        self.keeps.clear();
        self.older.clear();
        self.commit = Lsn::ZERO;
        self.role = Role::Backup;
        self.takes_snapshot = false;
        self.spindle.fails = false;
    }

    /// A newer snapshot takes the place of the one before.
    pub(crate) fn replace_snapshot(&mut self, newer: Snapshot) {
        let before = std::mem::replace(&mut self.ledger.snapshot, newer);
        if self.keeps.contains(&before.id()) {
            self.older.push(before);
        }
    }

    pub(crate) fn keep_snapshots(&mut self, ids: Vec<SnapshotId>) -> Check {
        self.older.retain(|older| ids.contains(&older.id()));
        self.keeps.clone_from(&ids);
        self.perform(Task::KeepSnapshots(ids)).map(drop)
    }

    /// The real store does what it is asked; `None` where the ledger stands for it.
    pub(crate) fn perform(&mut self, task: Task) -> Result<Option<Vec<Done>>, Violation> {
        self.storage.as_mut().map(|storage| storage.perform(task)).transpose()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.driver.is_some()
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.is_up() && self.role == Role::Primary
    }
}
