//! The disk's thread: owns the store, does what the node wants done, in order, and says what has come of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::driver::{Task, perform};
use super::identity::Peers;
use super::mail::{Mail, Note, Witness};
use super::observe;
use super::store::{Preparation, Prepared, ReplicaStore, SnapshotWriter, StoreOptions, TakenSnapshot};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::protocol::{Base, Health, LOST_BASE, State};
use crate::types::Lsn;

/// With nothing left to vouch for, it need not wake up; now and then all the same, to be seen alive.
const LONG: Duration = Duration::from_secs(3600);
/// What the disk's thread is called when it has panicked.
pub(crate) const DISK: &str = "disk";
/// After so long without work, the superblock vouches for what is synced.
const IDLE: Duration = Duration::from_millis(300);
/// Of a backlog, so many bytes share a sync and are told of at once: whoever sends goes on while the rest is written, and
/// what others want of the device comes in between.
const PART_BYTES: usize = 2 << 20;
/// So many bytes of a snapshot count for one: where a file grows, a sync costs a journal commit beside what is written.
const STAGED_BYTES: usize = 2;

/// What the disk's thread is asked for.
pub(crate) enum DiskNote {
    /// To do these, in order.
    Tasks(Vec<Task>),
    /// A writer for a snapshot of the application.
    BeginSnapshot {
        /// What goes with it.
        base: Arc<Base>,
        /// Where the writer goes, with the life of the store that it is of.
        to: Sender<Result<(SnapshotWriter, u64)>>,
    },
    /// To make a snapshot that was written the newest one.
    KeepSnapshot {
        /// What goes with it.
        base: Arc<Base>,
        /// What was written.
        taken: Box<TakenSnapshot>,
        /// The life of the store that it was written for.
        life: u64,
    },
    /// To take a segment that was prepared.
    Prepared(Prepared),
    /// To end.
    End,
    /// To remember where the others are.
    KeepPeers(Peers),
    /// To open the store again. `is_whole`: nothing is damaged any more. `doubts`: look at every byte.
    Reopen {
        /// Nothing is lost any more: the note of it is removed first (S11).
        is_whole: bool,
        /// Something could not be read: it is looked at every byte.
        doubts: bool,
        /// Others have a base, if the one that is here does not check.
        has_peers: bool,
    },
}

/// How long the disk has been at what it does now.
#[derive(Debug)]
pub(crate) struct Pulse {
    origin: Instant,
    /// Nanoseconds since the origin, and 0 while it is idle.
    busy_since: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Arc<Pulse> {
        Arc::new(Pulse { origin: Instant::now(), busy_since: AtomicU64::new(0) })
    }

    /// How long the disk has been busy without an end to it.
    pub(crate) fn busy_for(&self) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.origin.elapsed().saturating_sub(Duration::from_nanos(since)),
        }
    }

    fn begin(&self) {
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        self.busy_since.store(now, Ordering::Relaxed);
    }

    fn end(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }
}

/// The disk's thread, from within.
struct Spindle {
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    /// `None` after a failure, until it is opened again.
    store: Option<ReplicaStore>,
    /// How often it was opened again.
    life: u64,
    /// Something could not be read, and nothing was lost before: up to where all was synced then.
    doubted: Option<Lsn>,
    mail: Arc<Mail>,
    pulse: Arc<Pulse>,
    /// To the thread that makes segments ahead of time.
    preparing: Sender<Preparation>,
}

/// Starts the thread. It ends when it is told to, and says how the log was left.
pub(crate) fn spawn(
    disk: Arc<dyn Disk>,
    (options, store): (StoreOptions, ReplicaStore),
    mail: Arc<Mail>,
    pulse: Arc<Pulse>,
) -> Result<(Sender<DiskNote>, JoinHandle<Result<()>>)> {
    let (sender, receiver) = unbounded();
    let failed = |source| Error::io("start a thread for", "", source);
    let (preparing, preparations) = unbounded();
    let back = sender.clone();
    let builder = thread::Builder::new().name("annals-prepare".to_owned());
    let preparer = builder.spawn(move || prepare(&preparations, &back)).map_err(failed)?;
    let (store, doubted) = (Some(store), None);
    let spindle = Spindle { disk, options, store, life: 0, doubted, mail, pulse, preparing };
    let builder = thread::Builder::new().name("annals-disk".to_owned());
    let witness = Witness { thread: DISK, mail: Arc::clone(&spindle.mail) };
    let thread = builder.spawn(move || {
        let _witness = witness;
        let closed = spindle.run(&receiver);
        let _ = preparer.join();
        closed
    });
    Ok((sender, thread.map_err(failed)?))
}

/// Opens the store. Where there are others, a base that does not check is put aside: they have one (S11).
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    options: StoreOptions,
    has_peers: bool,
) -> Result<(Option<ReplicaStore>, State)> {
    if !has_peers {
        return ReplicaStore::open(disk, options);
    }
    let opened = ReplicaStore::open_among_peers(disk, options)?;
    if opened.1.health == Health::Damaged(vec![LOST_BASE]) {
        observe::base_lost();
    }
    Ok(opened)
}

/// Makes segments ahead of time, so that no append waits for one.
fn prepare(preparations: &Receiver<Preparation>, disk: &Sender<DiskNote>) {
    for preparation in preparations {
        // Nobody is there to take it at the end.
        let _ = disk.send(DiskNote::Prepared(preparation.run()));
    }
}

impl Spindle {
    fn run(mut self, notes: &Receiver<DiskNote>) -> Result<()> {
        let mut has_rested = false;
        loop {
            let patience = if has_rested { LONG } else { IDLE };
            match notes.recv_timeout(patience) {
                Ok(note) => {
                    has_rested = false;
                    self.pulse.begin();
                    let goes_on = self.take(note, notes);
                    self.pulse.end();
                    if !goes_on {
                        return self.close();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.rest();
                    has_rested = true;
                }
                Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
        }
    }

    /// Does all that is there: neighbouring tasks are done together, so that they share a sync. Whether it goes on.
    fn take(&mut self, note: DiskNote, notes: &Receiver<DiskNote>) -> bool {
        let mut tasks = VecDeque::new();
        for note in std::iter::once(note).chain(notes.try_iter()) {
            if let DiskNote::Tasks(more) = note {
                tasks.extend(more);
                continue;
            }
            self.perform(std::mem::take(&mut tasks));
            if matches!(note, DiskNote::End) {
                return false;
            }
            self.take_other(note);
        }
        self.perform(tasks);
        true
    }

    fn perform(&mut self, mut tasks: VecDeque<Task>) {
        while let Some(store) = self.store.as_mut().filter(|_| !tasks.is_empty()) {
            let mut part = first_part(&mut tasks);
            let mut done = Vec::new();
            let performed = perform(store, &mut part, &mut done);
            if !done.is_empty() {
                self.leave(Note::Done(done));
            }
            match performed {
                Ok(()) => self.prepare(),
                Err(error) => self.fail(error),
            }
        }
    }

    /// Has the next segment made, if it is time to.
    fn prepare(&mut self) {
        if let Some(preparation) = self.store.as_mut().and_then(ReplicaStore::prepare) {
            // Without the thread a roll makes its segment itself.
            let _ = self.preparing.send(preparation);
        }
    }

    fn prepared(&mut self, prepared: Prepared) {
        let taken = self.store.as_mut().map(|store| store.prepared(prepared));
        if let Some(Err(error)) = taken {
            self.fail(error);
        }
    }

    fn take_other(&mut self, note: DiskNote) {
        match note {
            DiskNote::Tasks(_) | DiskNote::End => unreachable!("they are taken before"),
            DiskNote::BeginSnapshot { base, to } => {
                // Whoever has asked may be gone.
                let _ = to.send(self.begin_snapshot(&base));
            }
            DiskNote::KeepSnapshot { base, taken, life } => self.keep(&base, *taken, life),
            DiskNote::Prepared(prepared) => self.prepared(prepared),
            DiskNote::KeepPeers(peers) => {
                // They are learned again, or given: no reason to fail.
                if let Err(error) = peers.store(&*self.disk) {
                    observe::peers_not_kept(&error);
                }
            }
            DiskNote::Reopen { is_whole, doubts, has_peers } => self.reopen((is_whole, doubts), has_peers),
        }
    }

    fn begin_snapshot(&self, base: &Base) -> Result<(SnapshotWriter, u64)> {
        let store = self.store.as_ref().ok_or(Error::Poisoned)?;
        if base.position.lsn > store.durable() {
            // It was opened again meanwhile, and has lost something.
            return Err(Error::BeyondEnd { asked: base.position.lsn, last: store.durable() });
        }
        Ok((store.begin_snapshot(base)?, self.life))
    }

    fn keep(&mut self, base: &Base, taken: TakenSnapshot, life: u64) {
        // Opened again, the store has removed what was in the making.
        let Some(store) = self.store.as_mut().filter(|_| life == self.life) else {
            let outcome = Err(Error::Poisoned.into());
            return self.leave(Note::Snapshot { base: Box::new(base.clone()), outcome });
        };
        let contents = taken.contents();
        match store.snapshot_taken(taken) {
            Ok(()) => {
                let base = Box::new(base.clone());
                self.leave(Note::Snapshot { base, outcome: Ok(contents) });
            }
            Err(error) => {
                // Whoever waits for it is told, and the next one can be taken.
                let outcome = Err(Error::Poisoned.into());
                self.leave(Note::Snapshot { base: Box::new(base.clone()), outcome });
                self.fail(error);
            }
        }
    }

    /// Nothing is known of the disk any more (S12).
    fn fail(&mut self, error: Error) {
        if let (Some(store), Error::Rot { .. } | Error::Hole { .. }) = (&mut self.store, &error) {
            // Every byte is looked at when it is opened again: by its extracts alone the log would seem whole. If the note
            // cannot be written, the same damage is met again.
            self.doubted = store.begin_doubt().ok().flatten();
        }
        self.store = None;
        self.leave(Note::DiskFailed(error));
    }

    fn reopen(&mut self, (is_whole, doubts): (bool, bool), has_peers: bool) {
        let noted = match &mut self.store {
            Some(store) if is_whole => store.recovered(),
            Some(store) if doubts => store.begin_doubt().map(|synced| self.doubted = synced),
            _ => Ok(()),
        };
        // Its lock is taken anew.
        self.store = None;
        self.life += 1;
        let opened = noted.and_then(|()| open(&self.disk, self.options, has_peers));
        let settled = opened.and_then(|(mut store, mut state)| {
            if let (Some(synced), Some(store)) = (self.doubted.take(), &mut store) {
                store.settle(&mut state, synced)?;
            }
            Ok((store, state))
        });
        let opened = settled.map(|(store, state)| {
            let reader = store.as_ref().map(ReplicaStore::reader);
            self.store = store;
            reader.map(|reader| Box::new((state, reader)))
        });
        self.leave(Note::Opened(opened));
    }

    /// Nothing is to be done: what is synced is vouched for, so that damage to it can be told from a torn write.
    fn rest(&mut self) {
        if let Some(store) = &mut self.store
            && let Err(error) = store.vouch()
        {
            self.fail(error);
        }
    }

    fn close(mut self) -> Result<()> {
        let Some(store) = &mut self.store else { return Err(Error::Poisoned) };
        store.sync()?;
        store.vouch()
    }

    fn leave(&self, note: Note) {
        // Without a node there is nobody who would want to know; this thread is about to end too.
        let _ = self.mail.leave(note);
    }
}

/// Takes the oldest tasks: as many as share a sync.
fn first_part(tasks: &mut VecDeque<Task>) -> VecDeque<Task> {
    let mut bytes = 0;
    let fits = |task: &&Task| {
        let before = bytes;
        bytes += match task {
            Task::Write { frames, .. } => frames.len(),
            Task::StageChunk { bytes, .. } => bytes.len() / STAGED_BYTES,
            _ => 0,
        };
        before < PART_BYTES
    };
    let count = tasks.iter().take_while(fits).count();
    let rest = tasks.split_off(count);
    std::mem::replace(tasks, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Content, Group, Meta};
    use crate::types::{Epoch, LogIncarnation, LsnRange};

    #[test]
    fn a_backlog_is_written_in_parts_and_little_things_share_one() {
        let write = |bytes: usize| {
            let range = LsnRange { first: Lsn::FIRST, last: Lsn::FIRST };
            let epoch = Epoch::default();
            let group = Group { epoch, range, bytes: bytes as u64, content: Content::PLAIN };
            Task::Write { group, incarnation: LogIncarnation::default(), frames: vec![0; bytes].into() }
        };
        let meta = || Task::SaveMeta { number: 1, meta: Meta::default() };
        let sizes = [10, PART_BYTES / 2, PART_BYTES / 2, 10, 3 * PART_BYTES, 10];
        let mut tasks: VecDeque<Task> = sizes.map(write).into_iter().chain([meta()]).collect();
        let mut parts = Vec::new();
        while !tasks.is_empty() {
            parts.push(first_part(&mut tasks).len());
        }
        assert_eq!(parts, [3, 2, 2]);
    }
}
