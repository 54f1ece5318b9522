//! What a replica really has: the real store over a simulated disk, beside the ledger that knows what must be on it.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use annals::Lsn;
use annals::LsnRange;
use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::node::{Done, ReplicaStore, Scribe, StoreOptions, Task};
use annals::protocol::{Base, Health, LOST_BASE, Member, Meta, State};

use crate::invariants::{Check, Violation, broken};
use crate::kept::Kept;
use crate::ledger::Ledger;
use crate::record::{Frame, encode, mix};
use crate::trouble::{Plan, Step, failed};

/// A disk, and the store on it while the process is up.
pub(crate) struct Storage {
    disk: SimDisk,
    store: Option<ReplicaStore>,
    scribe: Scribe,
    options: StoreOptions,
    pub(crate) kept: Kept,
    /// What is to strike a step.
    plan: Option<Plan>,
    /// Something has been let loose on the disk, and need not have struck yet.
    is_armed: bool,
    /// Something was damaged, and need not have been found yet.
    is_rotten: bool,
    /// A step has failed of it: the process is to end.
    pub(crate) has_failed: bool,
    /// What could not be read twice was taken for damage, and may have been noted as such.
    is_doubted: bool,
}

const OPTIONS: StoreOptions = StoreOptions {
    segment_bytes: 32 << 10,
    cache_bytes: 64 << 10,
    newest_bytes: 12 << 10,
    snapshots_kept: 1,
    write_method: None,
};

type Tried<T> = Result<T, Violation>;

impl Storage {
    fn of(disk: SimDisk, kept: Kept) -> Storage {
        Storage {
            disk,
            store: None,
            scribe: Scribe::default(),
            options: OPTIONS,
            kept,
            plan: None,
            is_armed: false,
            is_rotten: false,
            has_failed: false,
            is_doubted: false,
        }
    }

    pub(crate) fn create(seed: u64, member: Member, base: &Base) -> Storage {
        let disk = SimDisk::new(seed);
        ReplicaStore::create(&disk, member, base).expect("an empty disk can be prepared");
        Storage::of(disk, Kept::new(seed))
    }

    pub(crate) fn blank(seed: u64) -> Storage {
        Storage::of(SimDisk::new(seed), Kept::new(seed))
    }

    /// Lets something strike the next step of a kind.
    pub(crate) fn plan(&mut self, plan: Plan) {
        self.plan = Some(plan);
    }

    /// Whether a step may fail.
    pub(crate) fn is_troubled(&self) -> bool {
        self.is_armed || self.plan.is_some()
    }

    /// The disk does what it should from here on.
    pub(crate) fn heal(&mut self) {
        self.plan = None;
        self.disarm();
    }

    /// Nothing is loose on the disk any more.
    fn disarm(&mut self) {
        self.is_armed = false;
        self.disk.heal();
        self.disk.set_capacity(None);
        self.disk.crash_after(u64::MAX);
    }

    fn begin(&mut self, step: Step) {
        if let Some(plan) = self.plan.take_if(|plan| plan.step == step) {
            plan.strike.arm(&self.disk);
            self.is_armed = true;
        }
    }

    /// A store fails only with its disk. Whoever meets damage notes it, and the store is opened again.
    fn ended<T>(&mut self, step: Step, result: annals::Result<T>) -> Tried<T> {
        result.map_err(|error| {
            let what = format!("{step:?}: {error:?}");
            let is_damage = matches!(error, annals::Error::Rot { .. } | annals::Error::Hole { .. });
            if let Some(store) = self.store.as_mut().filter(|_| is_damage && self.is_rotten) {
                // If it cannot be noted, it is met again.
                let _ = store.doubt();
                self.has_failed = true;
                return failed(what);
            }
            if self.is_armed {
                self.is_doubted |= is_damage;
                self.has_failed = true;
                return failed(what);
            }
            Violation { number: 0, promise: "the store works while its disk does", what }
        })
    }

    fn step<T>(&mut self, step: Step, work: impl FnOnce(&mut ReplicaStore) -> annals::Result<T>) -> Tried<T> {
        self.begin(step);
        let result = work(self.store.as_mut().expect("the process is up"));
        self.ended(step, result)
    }

    /// Whether damage may have been noted since this was asked last, where there is none.
    pub(crate) fn was_doubted(&mut self) -> bool {
        std::mem::take(&mut self.is_doubted)
    }

    pub(crate) fn open(&mut self) -> Tried<State> {
        if !self.is_troubled() {
            self.kept.are_whole(&self.disk)?;
        }
        self.options.snapshots_kept = self.kept.ask();
        self.begin(Step::Open);
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let result = ReplicaStore::open(&disk, self.options);
        let (store, state) = self.ended(Step::Open, result)?;
        self.store = store;
        self.recovers_again(&state)?;
        let has_base = state.health != Health::Blank && state.health != Health::Damaged(vec![LOST_BASE]);
        if has_base {
            self.look_at_kept()?;
        }
        Ok(state)
    }

    /// The base is another one now, or was found.
    fn look_at_kept(&mut self) -> Check {
        let base = self.store.as_ref().expect("the process is up").base().position.lsn;
        self.kept.note(&self.disk, base);
        if self.is_troubled() {
            return Ok(());
        }
        self.kept.are_whole(&self.disk)?;
        self.kept.are_no_more_than(self.options.snapshots_kept, (&self.disk, base))
    }

    /// 4: recovering once more gives the same, also after a loss of power: all that was found is durable.
    fn recovers_again(&self, first: &State) -> Check {
        let found = self.disk.crash(CrashPolicy::LOSE_ALL);
        found.set_capacity(None);
        let disk: Arc<dyn Disk> = Arc::new(found);
        let again = match ReplicaStore::open(&disk, self.options) {
            Ok((_, again)) => again,
            Err(error) => return broken(4, "recovering twice gives the same", format!("{error:?}")),
        };
        let is_same = State { incarnation: first.incarnation, ..again.clone() } == *first;
        // The extract of a damaged segment was not synced, and is gone: then the frames are read.
        if self.is_rotten && first.health == Health::Whole && matches!(again.health, Health::Damaged(_)) {
            return Ok(());
        }
        let is_newer = first.health == Health::Blank || again.incarnation > first.incarnation;
        if is_same && is_newer {
            return Ok(());
        }
        broken(4, "recovering twice gives the same", format!("{first:?}, then {again:?}"))
    }

    /// The oldest record that can be read.
    pub(crate) fn first(&self) -> Option<Lsn> {
        self.store.as_ref().map(ReplicaStore::first)
    }

    /// The digest over the frames of all these records, which have to be there.
    pub(crate) fn digest_of(&self, range: LsnRange) -> Tried<Option<u64>> {
        let digest = self.store.as_ref().map(|store| store.digest_of(range)).transpose();
        digest.map_err(|error| Violation {
            number: 16,
            promise: "all records can be read in the end",
            what: format!("{error:?}"),
        })
    }

    /// The disk does what the driver wants of it, and says what has come of it.
    pub(crate) fn perform(&mut self, task: Task) -> Tried<Vec<Done>> {
        let step = match task {
            Task::Write { .. } => Step::Write,
            Task::SaveMeta { .. } => Step::Meta,
            Task::Truncate { .. } => Step::Truncate,
            Task::ReadLog { .. } | Task::ReadRange { .. } => Step::Read,
            Task::ReadSnapshot { .. } | Task::TakeSnapshot { .. } | Task::KeepSnapshots(_) => Step::Snapshot,
            Task::Stage(_) | Task::StageChunk { .. } => Step::Stage,
            Task::Install { .. } => Step::Install,
            Task::Mend { .. } => Step::Mend,
            Task::Trim { .. } => Step::Trim,
        };
        self.begin(step);
        let mut done = vec![];
        let store = self.store.as_mut().expect("the process is up");
        let taken = self.scribe.take(store, task, &mut done);
        let result = taken.and_then(|()| self.scribe.sync_stage(store, &mut done));
        self.ended(step, result)?;
        if done.iter().any(|done| matches!(done, Done::SnapshotTaken { .. } | Done::Installed { .. })) {
            self.look_at_kept()?;
        }
        Ok(done)
    }

    /// What was written is synced; then what the log will need before long is prepared.
    pub(crate) fn sync(&mut self) -> Tried<Vec<Done>> {
        self.begin(Step::Sync);
        let mut done = vec![];
        let store = self.store.as_mut().expect("the process is up");
        let synced = self.scribe.sync(store, &mut done);
        let prepared = synced.and_then(|()| match store.prepare() {
            Some(preparation) => store.prepared(preparation.run()),
            None => Ok(()),
        });
        self.ended(Step::Sync, prepared)?;
        Ok(done)
    }

    /// The newest record that is synced.
    pub(crate) fn durable(&self) -> Lsn {
        self.store.as_ref().map_or(Lsn::ZERO, ReplicaStore::durable)
    }

    pub(crate) fn save_meta(&mut self, meta: &Meta) -> Check {
        self.step(Step::Meta, |store| store.save_meta(meta))
    }

    pub(crate) fn vouch(&mut self) -> Tried<Lsn> {
        self.step(Step::Meta, |store| {
            store.vouch()?;
            Ok(store.vouched())
        })
    }

    pub(crate) fn recovered(&mut self) -> Check {
        self.step(Step::Note, ReplicaStore::recovered)?;
        self.is_rotten = false;
        Ok(())
    }

    /// Looks through all that opening the store has not read.
    pub(crate) fn scrub(&mut self) -> Check {
        if self.store.is_none() {
            // The disk is blank.
            return Ok(());
        }
        self.step(Step::Read, |store| {
            let (mut after, reader) = (Lsn::ZERO, store.reader());
            while let Some(last) = reader.scrub(after, &mut |_| ControlFlow::Continue(()))? {
                after = last;
            }
            Ok(())
        })
    }

    /// The process ends, in the middle of a flush or of saving a meta if there is one; with it the power, or not.
    pub(crate) fn crash(&mut self, meta: Option<&Meta>, fate: u64) {
        if let Some(store) = self.store.as_mut().filter(|store| store.last() > store.durable()) {
            self.disk.crash_after(fate / 4 % 3);
            let _ = store.sync();
        }
        if let (Some(meta), Some(store), false) = (meta, &mut self.store, self.disk.is_off()) {
            self.disk.crash_after(fate % 5);
            let _ = store.save_meta(meta);
        }
        self.close();
        if self.disk.is_off() || meta.is_some() || !fate.is_multiple_of(3) {
            self.lose_power(fate);
        } else {
            self.disk.crash_after(u64::MAX);
        }
    }

    /// The disk as it is, to be put back one day.
    pub(crate) fn copy(&self) -> Storage {
        Storage::of(self.disk.crash(CrashPolicy::KEEP_ALL), self.kept.clone())
    }

    fn lose_power(&mut self, fate: u64) {
        self.disk = self.disk.crash(CrashPolicy::seeded(fate));
        self.is_armed = false;
        self.disk.set_capacity(None);
    }

    /// The process has ended in the middle of a step; with it the power, or not.
    pub(crate) fn give_up(&mut self, fate: u64) {
        self.close();
        self.has_failed = false;
        if self.disk.is_off() || fate.is_multiple_of(2) {
            self.lose_power(fate);
        } else if fate.is_multiple_of(3) {
            // Also a power cut that has not come yet: it was damage that the step met first.
            self.disarm();
        } else {
            // For one more attempt the disk is as full as it was, and the power as near its end.
            self.disk.heal();
        }
    }

    pub(crate) fn close(&mut self) {
        (self.store, self.scribe) = (None, Scribe::default());
    }

    /// The base of a process that is down is damaged, and put aside.
    pub(crate) fn lose_base(&mut self) -> Check {
        self.heal();
        self.disk.flip_bit("base", 40, 2);
        self.kept.base_is_harmed(&self.disk);
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        match ReplicaStore::open_among_peers(&disk, self.options) {
            Ok((Some(_), state)) if state.health == Health::Damaged(vec![LOST_BASE]) => Ok(()),
            other => broken(17, "damage to the base is found", format!("{other:?}")),
        }
    }

    /// Something is suspected, and nothing lost.
    pub(crate) fn doubt(&mut self) -> Check {
        self.step(Step::Note, ReplicaStore::doubt)
    }

    /// Puts noise into this frame, flips one bit, which a repair may set right, or lets nobody read it; whether the frame was
    /// found. While the process is up only in segments that are sealed: what is written next stands in the last block.
    pub(crate) fn rot(&mut self, frame: &Rc<Frame>, place: u64) -> bool {
        let bytes = encode(frame);
        let names = self.disk.list().unwrap_or_default();
        let is_of_log =
            |name: &&String| name.ends_with(".seg") && name.starts_with(|first: char| first.is_ascii_digit());
        let newest = names.iter().filter(is_of_log).max().filter(|_| self.store.is_some());
        for name in names.iter().filter(|name| name.ends_with(".seg") && Some(*name) != newest) {
            if self.store.is_some() && !is_of_log(&name) {
                continue;
            }
            let contents = self.disk.contents(name);
            let found = contents.windows(bytes.len()).position(|window| window == bytes);
            if let Some(at) = found {
                let at = at as u64 + place % (bytes.len() as u64 - 16);
                self.is_rotten = true;
                match place >> 60 {
                    10.. => self.disk.lose_sectors(name, at..at + 1),
                    0..3 => self.disk.flip_bit(name, at, (place >> 32) as u8 % 8),
                    _ => self.disk.overwrite(name, at, &mix(place, at).to_le_bytes()),
                }
                return true;
            }
        }
        false
    }
}

/// Takes what recovery has found for what the ledger holds from here on, if it may be (1, 2, 3 and 17).
///
/// After a crash in the middle of a step that is the state before it or the one after, and nothing in between.
pub(crate) fn agree(ledger: &mut Ledger, is_doubted: bool, state: &State) -> Check {
    // Every byte was looked at since, and all is there.
    if is_doubted && state.health == Health::Damaged(vec![]) {
        ledger.is_noted = true;
        if let Some(other) = &mut ledger.other {
            other.is_noted = true;
        }
    }
    let Some(other) = ledger.other.take() else { return agree_with(ledger, state) };
    let mut trial = ledger.clone();
    if agree_with(&mut trial, state).is_ok() {
        *ledger = trial;
        return Ok(());
    }
    let is_either = agree_with(ledger, state);
    *ledger = *other;
    agree_with(ledger, state).map_err(|violation| Violation {
        what: format!("{}; or {:?}", violation.what, is_either),
        ..violation
    })
}

fn agree_with(ledger: &mut Ledger, state: &State) -> Check {
    let lies = |promise, what: String| broken(1, promise, what);
    if state.health == Health::Blank {
        return if ledger.is_blank {
            Ok(())
        } else {
            lies("a disk does not turn blank", format!("{:?}", ledger.member))
        };
    }
    let metas = ledger.unsynced_metas.drain(..).map(|(_, meta)| meta);
    if !metas.chain([ledger.meta]).any(|meta| meta == state.meta) {
        return lies("the meta is one that was saved", format!("{:?}, synced {:?}", state.meta, ledger.meta));
    }
    ledger.meta = state.meta;
    if state.base != ledger.snapshot.base {
        let what = format!("{:?}, not {:?}", state.base.position, ledger.snapshot.base.position);
        return lies("the base is the one that was synced", what);
    }
    let (begin, last) = (state.history.base(), state.history.last());
    ledger.forget_harmed(begin);
    if begin != ledger.begin || last.lsn < ledger.synced || last.lsn > ledger.last().lsn {
        let what = format!(
            "{begin:?} to {last:?}, not {:?} to {} or {:?}",
            ledger.begin,
            ledger.synced,
            ledger.last()
        );
        return lies("what was synced is recovered, and nothing else", what);
    }
    // Not where a gap is: the frames that were there are nobody's any more.
    if !ledger.is_boundary(last.lsn) && state.health == Health::Whole {
        return broken(2, "batches are recovered whole or not at all", format!("up to {last:?}"));
    }
    ledger.truncate(last.lsn);
    ledger.synced = last.lsn;
    if state.incarnation <= ledger.incarnation {
        return lies("a life of the log is greater than any before", format!("{:?}", state.incarnation));
    }
    ledger.incarnation = state.incarnation;
    ledger.stage = ledger.stage.take().filter(|_| state.staged.is_some());
    if let (Some(stage), Some(staged)) = (&mut ledger.stage, state.staged)
        && (stage.offer.id() != staged.snapshot || stage.bytes != staged.bytes)
    {
        return lies("what was staged is there", format!("{staged:?}, not {}", stage.bytes));
    }
    ledger.commit = state.commit;
    match &state.health {
        Health::Damaged(lost) => {
            ledger.harmed.clear();
            if !ledger.was_harmed && !ledger.is_noted {
                return lies("nothing is lost that was not harmed", format!("{lost:?}"));
            }
            (ledger.is_noted, ledger.lost) = (true, lost.clone());
        }
        _ if ledger.is_noted => return broken(17, "damage is not forgotten", format!("{:?}", ledger.member)),
        // What was harmed is found before long: see `World::scrub`.
        _ => {}
    }
    compare(ledger, state)
}

/// What is not lost is what was written: the epochs, and what the core has to know.
fn compare(ledger: &Ledger, state: &State) -> Check {
    let mut lsn = ledger.begin.lsn.next();
    while lsn <= ledger.last().lsn {
        let is_lost = ledger.lost.iter().any(|lost| lost.first <= lsn && lsn <= lost.last);
        if !is_lost && state.history.epoch_at(lsn) != ledger.epoch_at(lsn) {
            return broken(
                3,
                "a record has the epoch that it was written in",
                format!("{lsn} of {:?}", ledger.member),
            );
        }
        lsn = lsn.next();
    }
    let replay = ledger.replay(state.base.position.lsn);
    if replay != state.replay {
        return broken(
            3,
            "what is replayed is what was written",
            format!("{:?} is not {replay:?}", state.replay),
        );
    }
    Ok(())
}
