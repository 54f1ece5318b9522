//! What all handles and threads of one open log share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::commit::{Commit, Durable, Flight, Landed, Limits, NoRoom, Start};
use super::flush::fly;
use super::observe;
use super::panic::PoisonOnPanic;
use super::prepare::segment_bytes_for;
use super::scrub::Scrub;
use super::stats::{Counters, Flushed};
use super::store::Store;
use super::superblock_file::{Copies, SuperblockFile};
use super::wheel::Wheel;
use crate::disk::buffer::GroupBuffer;
use crate::error::{Error, Result};
use crate::format::Superblock;
use crate::segment::{Spare, Tail};
use crate::sync::wait_table::{Sleepers, UNRESOLVED_MAX, WaitTable};
use crate::types::Lsn;

/// Bytes that have to gather before a flush is started beside another one.
///
/// Below it the disk writes two small groups hardly faster than one, and the second costs wake-ups.
pub(crate) const PARALLEL_BYTES: usize = 128 << 10;

/// Producers that a flush waits for at most, and for how long: a fraction of what a flush takes.
const GATHERED_MAX: u64 = 16;
const GATHER_TIME: Duration = Duration::from_micros(40);

/// Why a log takes no more appends.
const RUNNING: usize = 0;
/// No more appends; what was appended is flushed.
const CLOSING: usize = 1;
const CLOSED: usize = 2;
const POISONED: usize = 3;

/// The shared state of group commit.
///
/// Producers claim in `buffers[open]` without a lock. Everything else about groups is decided under
/// `commit`, which is never held across a write. `durable` has one writer: the holder of `commit`.
#[derive(Debug)]
pub(crate) struct Engine {
    buffers: Box<[Arc<GroupBuffer>]>,
    open: AtomicUsize,
    group_bytes: usize,
    pub(crate) record_bytes_max: u64,
    commit: Mutex<Commit>,
    /// Signalled when a group was opened, or when one cannot be.
    room: Condvar,
    /// Signalled when a segment began, or one is asked for.
    spare_taken: Condvar,
    /// Signalled when housekeeping has something to do at once.
    housekeeping: Condvar,
    pub(crate) store: Store,
    durable: AtomicU64,
    waits: WaitTable,
    pub(crate) wheel: Wheel,
    state: AtomicUsize,
    /// Whether preparing a segment failed for lack of space, and has not succeeded since.
    pub(crate) out_of_space: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) scrub: Scrub,
    /// Held by the one who changes what the log consists of: which segments there are, their seals and names,
    /// and what the superblock says of them. Taken before every other lock.
    pub(crate) keeping: Mutex<()>,
    /// What broke the log, for the one who asks later.
    cause: Mutex<Option<Error>>,
}

impl Engine {
    pub(crate) fn new(store: Store, start: Start) -> Engine {
        let limits = Limits::of(&store.options);
        // One more than fit in flight, so that the group that is open does not count.
        let in_flight = limits.in_flight_bytes_max as usize / limits.group_bytes;
        let count = (in_flight + 1).clamp(limits.depth + 2, UNRESOLVED_MAX / 2);
        let (buffers, vacant): (Vec<_>, Vec<_>) =
            (0..count).map(|index| GroupBuffer::new(index, limits.group_bytes)).unzip();
        let durable = start.next_lsn.prev();
        Engine {
            buffers: buffers.into(),
            open: AtomicUsize::new(0),
            group_bytes: limits.group_bytes,
            record_bytes_max: store.options.record_bytes_max,
            commit: Mutex::new(Commit::new(limits, start, vacant)),
            room: Condvar::new(),
            spare_taken: Condvar::new(),
            store,
            housekeeping: Condvar::new(),
            durable: AtomicU64::new(durable.get()),
            waits: WaitTable::new(),
            wheel: Wheel::new(),
            state: AtomicUsize::new(RUNNING),
            out_of_space: AtomicBool::new(false),
            counters: Counters::default(),
            scrub: Scrub::default(),
            keeping: Mutex::new(()),
            cause: Mutex::new(None),
        }
    }

    /// The newest record that is durable on this disk.
    pub(crate) fn durable(&self) -> Lsn {
        // Acquire: pairs with the Release in `land`, so the segments' extents are seen with it.
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn commit(&self) -> MutexGuard<'_, Commit> {
        self.commit.lock()
    }

    /// Refuses to go on when the log is poisoned or closed.
    pub(crate) fn check(&self) -> Result<()> {
        // Acquire: pairs with the Release in `stop`, so `cause` is seen with it.
        match self.state.load(Ordering::Acquire) {
            RUNNING => Ok(()),
            POISONED => Err(Error::Poisoned),
            _ => Err(Error::Closed),
        }
    }

    /// Whether nothing is flushed any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CLOSED
    }

    /// What broke the log, if something did.
    pub(crate) fn cause(&self) -> Option<Error> {
        self.cause.lock().clone()
    }

    /// The buffer that was open a moment ago, to claim in.
    pub(crate) fn open_buffer(&self) -> &GroupBuffer {
        // Relaxed: a stale index leads to a buffer that refuses, or that is open again.
        &self.buffers[self.open.load(Ordering::Relaxed)]
    }

    pub(crate) fn buffers(&self) -> &[Arc<GroupBuffer>] {
        &self.buffers
    }

    /// Whether a frame of this size goes into a group of its own.
    pub(crate) fn is_oversized(&self, frame_bytes: usize) -> bool {
        frame_bytes > self.group_bytes
    }

    /// Opens the next group if none is open, so that claims go on.
    pub(crate) fn reopen(&self, commit: &mut Commit) -> std::result::Result<(), NoRoom> {
        if commit.open().is_none() && self.check().is_ok() {
            let index = commit.open_group()?;
            self.open.store(index, Ordering::Relaxed);
            self.room.notify_all();
        }
        Ok(())
    }

    /// Waits until a spare is wanted, and returns the size that its segment has to have; `None` when the log
    /// ends.
    pub(crate) fn wait_for_demand(&self, spares: usize) -> Option<u64> {
        let mut commit = self.commit.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(frame_bytes) = commit.oversized() {
                return Some(segment_bytes_for(frame_bytes).max(self.store.options.segment_bytes));
            }
            if commit.spares() < spares && !commit.puts_chores_off() {
                return Some(self.store.options.segment_bytes);
            }
            // Nothing is wanted that there is no space for: the next large group is tried anew.
            self.out_of_space.store(false, Ordering::Release);
            self.spare_taken.wait(&mut commit);
        }
    }

    /// Waits until a segment began or is asked for, or the log ends, at most `limit`.
    pub(crate) fn wait_for_change(&self, commit: &mut MutexGuard<'_, Commit>, limit: Duration) {
        if !self.is_stopped() {
            self.spare_taken.wait_for(commit, limit);
        }
    }

    /// Waits for the next round of housekeeping; returns whether a segment began meanwhile.
    pub(crate) fn wait_for_housekeeping(&self, limit: Duration) -> bool {
        let mut commit = self.commit.lock();
        let called = !self.is_stopped() && !self.housekeeping.wait_for(&mut commit, limit).timed_out();
        if commit.chores_are_due(true) {
            self.spare_taken.notify_all();
        }
        called
    }

    /// Has a flusher write what was appended and nobody waits for.
    pub(crate) fn flush_leftovers(&self) {
        if !self.wheel.is_taken() && self.commit.lock().can_start() {
            self.wheel.kick();
        }
    }

    /// Has the preparing thread look again: appends wait for a segment.
    pub(crate) fn hurry_segments(&self) {
        self.spare_taken.notify_all();
    }

    /// Asks the preparing thread for a segment that can hold a group of `frame_bytes`.
    pub(crate) fn ask_for_segment(&self, commit: &mut Commit, no_room: NoRoom, frame_bytes: u64) {
        if no_room == NoRoom::Segments {
            commit.ask_for_segment(frame_bytes);
            self.spare_taken.notify_all();
        }
    }

    /// Waits until there may be room for another group.
    pub(crate) fn wait_for_room(&self, commit: &mut MutexGuard<'_, Commit>) {
        self.room.wait(commit);
    }

    /// Lets everybody who waits for room look again.
    pub(crate) fn room_changed(&self, commit: &mut Commit) {
        // What cannot be opened now is tried again by whoever waits.
        let _ = self.reopen(commit);
        self.room.notify_all();
    }

    /// Takes the next group that waits for its flush, if one may start.
    pub(crate) fn start(&self) -> Option<Flight> {
        let mut commit = self.commit.lock();
        self.start_with(&mut commit)
    }

    /// Like [`start`](Engine::start), but only if a flush beside others is worth it.
    pub(crate) fn start_beside(&self) -> Option<Flight> {
        let mut commit = self.commit.lock();
        if commit.has_work_of(PARALLEL_BYTES) { self.start_with(&mut commit) } else { None }
    }

    fn start_with(&self, commit: &mut Commit) -> Option<Flight> {
        if self.is_stopped() {
            return None;
        }
        let flight = commit.start(self.durable())?;
        // The open group may have been closed. Where there is no room for another, appends wait or refuse.
        let _ = self.reopen(commit);
        let rolled = commit.take_rolled();
        if !rolled.is_empty() {
            self.counters.rolled();
            self.store.segments.add_tails(rolled);
        }
        // With large groups the next segment is needed soon, and no append is quick.
        let at_once = self.counters.group_bytes_mean() >= PARALLEL_BYTES as u64;
        if commit.chores_are_due(at_once) {
            self.spare_taken.notify_all();
            self.housekeeping.notify_all();
        }
        Some(flight)
    }

    /// Flushes a group that was started, acknowledges what is durable by it, and wakes who waits for that.
    /// Returns the records made durable.
    pub(crate) fn flush(&self, flight: Flight) -> u64 {
        let begun = Instant::now();
        let queue =
            flight.closed.claimed_at().map_or(Duration::ZERO, |at| begun.saturating_duration_since(at));
        let aloft = Aloft(self);
        match fly(flight) {
            Ok((seq, landed)) => {
                std::mem::forget(aloft);
                self.land(seq, landed, (queue, begun))
            }
            Err(error) => {
                self.poison(error);
                0
            }
        }
    }

    /// Waits until nobody writes a group any more, in a log that has stopped.
    pub(crate) fn wait_for_flights(&self) {
        let mut commit = self.commit.lock();
        while commit.is_writing() {
            self.room.wait(&mut commit);
        }
    }

    fn land(&self, seq: u64, landed: Landed, (queue, begun): (Duration, Instant)) -> u64 {
        let (frame_bytes, written_bytes) = (landed.frame_bytes, landed.written_bytes);
        let mut commit = self.commit.lock();
        commit.came_back();
        if self.is_stopped() {
            self.room.notify_all();
            return 0;
        }
        let before = self.durable();
        let durable = commit.land(seq, landed);
        let records = durable.as_ref().map_or(0, |durable| durable.through.get() - before.get());
        let sleepers = durable.map(|Durable { through, seqs }| {
            assert!(through > before, "the durable watermark never goes back");
            // Release: pairs with the Acquire in `durable`.
            self.durable.store(through.get(), Ordering::Release);
            // In order, hence under the lock; a swap for each group.
            seqs.map(|seq| self.resolve(&mut commit, seq)).collect::<Vec<_>>()
        });
        let _ = self.reopen(&mut commit);
        if commit.has_large_waiting() {
            self.room.notify_all();
        }
        drop(commit);
        let landed_at = Instant::now();
        sleepers.into_iter().flatten().for_each(|sleepers| sleepers.wake());
        let wake = landed_at.elapsed();
        self.counters.flushed(&Flushed {
            records,
            frame_bytes,
            written_bytes,
            flush: landed_at - begun,
            queue,
            wake,
        });
        records
    }

    fn resolve(&self, commit: &mut Commit, seq: u64) -> Sleepers<'_> {
        let sleepers = self.waits.resolve(seq);
        commit.resolved(seq);
        sleepers
    }

    /// Makes durable all that was appended before, and returns the newest durable record.
    pub(crate) fn sync(&self) -> Result<Lsn> {
        let newest = self.commit.lock().newest();
        match newest {
            Some((seq, last)) => self.wait_durable(seq, last)?,
            None => self.check()?,
        }
        Ok(self.durable())
    }

    /// Blocks until a record after `lsn` is durable, and returns the newest that is.
    pub(crate) fn wait_beyond(&self, lsn: Lsn, deadline: Option<Instant>) -> Result<Lsn> {
        loop {
            // The group first: if it is resolved right after this look, the watermark below has moved.
            let next = self.commit.lock().unresolved().start;
            let durable = self.durable();
            if durable > lsn {
                return Ok(durable);
            }
            // A log that is closing still makes records durable.
            if self.is_stopped() {
                self.check()?;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::TimedOut);
            }
            self.waits.sleep(next, left);
        }
    }

    /// Changes the superblock, durably. A failure poisons the log.
    pub(crate) fn update_superblock(
        &self,
        superblock: &mut SuperblockFile,
        copies: Copies,
        change: impl FnOnce(&mut Superblock),
    ) -> Result<()> {
        superblock.update(copies, change).inspect_err(|error| self.poison(error.clone()))
    }

    /// Takes the durable watermark back to where a truncation cuts: the one way in which it goes back. Nothing
    /// is open, queued or in flight.
    pub(crate) fn lower_durable(&self, after: Lsn) {
        let _commit = self.commit.lock();
        // Release: pairs with the Acquire in `durable`.
        self.durable.store(after.get(), Ordering::Release);
    }

    /// Goes on behind `tail` after a truncation, when the watermark was lowered.
    pub(crate) fn go_on_behind(&self, tail: Arc<Tail>) {
        let mut commit = self.commit.lock();
        commit.restart(tail);
        self.spare_taken.notify_all();
    }

    /// A spare to go on in, with room for a group of `frame_bytes`: waits for the preparing thread.
    ///
    /// # Errors
    /// [`Error::NoSpace`], and what ended the log.
    pub(crate) fn take_spare(&self, frame_bytes: u64) -> Result<Spare> {
        let mut commit = self.commit.lock();
        loop {
            if let Some(spare) = commit.take_spare(frame_bytes) {
                self.spare_taken.notify_all();
                return Ok(spare);
            }
            self.check()?;
            if self.out_of_space.load(Ordering::Acquire) {
                return Err(Error::NoSpace);
            }
            if frame_bytes > 0 {
                self.ask_for_segment(&mut commit, NoRoom::Segments, frame_bytes);
            }
            self.room.wait(&mut commit);
        }
    }

    /// The outcome for whoever waited for a resolved group: durable as far as `last`, or not.
    fn outcome(&self, last: Lsn) -> Result<()> {
        // Resolved while the log runs: it was durable, and a truncation may have come since.
        if self.durable() >= last || !self.is_stopped() {
            return Ok(());
        }
        Err(self.check().err().unwrap_or(Error::Poisoned))
    }

    /// Whether there is nothing to wait for. The watermark answers for tickets of any age; a group's word only
    /// for those that are redeemed before the sequence numbers have come round.
    fn is_settled(&self, seq: u64, last: Lsn) -> bool {
        self.durable() >= last || self.waits.is_resolved(seq)
    }

    /// Blocks until the group `seq`, whose last awaited record is `last`, is durable.
    pub(crate) fn wait_durable(&self, seq: u64, last: Lsn) -> Result<()> {
        while !self.is_settled(seq, last) {
            if !self.lead() {
                self.waits.sleep(seq, None);
            }
        }
        self.outcome(last)
    }

    /// Like [`wait_durable`](Engine::wait_durable), up to a deadline; never flushes for others meanwhile.
    pub(crate) fn wait_durable_until(&self, seq: u64, last: Lsn, deadline: Instant) -> Result<()> {
        self.request_flush();
        while !self.is_settled(seq, last) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut);
            }
            self.waits.sleep(seq, Some(left));
        }
        self.outcome(last)
    }

    /// The same as a future's poll.
    pub(crate) fn poll_durable(&self, seq: u64, last: Lsn, waker: &Waker) -> Poll<Result<()>> {
        if !self.is_settled(seq, last) && self.waits.register(seq, waker) {
            self.request_flush();
            return Poll::Pending;
        }
        Poll::Ready(self.outcome(last))
    }

    /// Has a flusher start with what has gathered, unless somebody is at it.
    pub(crate) fn request_flush(&self) {
        if !self.wheel.is_taken() {
            self.wheel.kick();
        }
    }

    /// Runs one flush if nobody is at the wheel; returns whether it did.
    fn lead(&self) -> bool {
        if !self.wheel.take() {
            return false;
        }
        let _guard = PoisonOnPanic::new(self);
        let flight = self.start();
        let led = flight.is_some();
        if let Some(flight) = flight {
            self.flush(flight);
        }
        self.leave_wheel();
        led
    }

    /// Leaves the wheel; what could be flushed next is handed to a flusher.
    ///
    /// What cannot start now (as many flushes as allowed are in flight, or the segment has to change) is left
    /// to whoever makes it possible: each flush that lands is followed by a look for the next.
    fn leave_wheel(&self) {
        self.wheel.leave();
        // After the wheel is free: whoever claims from here on finds it free, whoever claimed before is seen.
        if self.commit.lock().can_start() && !self.is_stopped() {
            self.wheel.kick();
        }
    }

    /// A flusher's life: at the wheel while there is something to flush, beside it when much has gathered.
    pub(crate) fn run_flusher(&self) {
        while let Some(watch) = self.wheel.watch() {
            if self.wheel.take() {
                while let Some(flight) = self.start() {
                    let records = self.flush(flight);
                    self.gather(records);
                }
                self.leave_wheel();
            } else if let Some(flight) = self.start_beside() {
                self.flush(flight);
                continue;
            }
            self.wheel.sleep(watch);
        }
    }

    /// Lets a few producers that a flush has just served come back into the next group.
    ///
    /// The disk takes longer for two small groups than they take to come back. Many producers are better left
    /// alone: while one group is flushed, the chain of wake-ups fills the next.
    fn gather(&self, served: u64) {
        let gathered = || self.open_buffer().gathered().map_or(u64::MAX, |open| u64::from(open.records));
        let expected = served.saturating_add(gathered());
        if expected > GATHERED_MAX {
            return;
        }
        let begun = Instant::now();
        while gathered() < expected && begun.elapsed() < GATHER_TIME {
            std::thread::yield_now();
        }
    }

    /// Ends the log: every waiter and every later append gets an error.
    pub(crate) fn poison(&self, error: Error) {
        observe::poisoned(&error);
        self.stop(POISONED, Some(error));
    }

    /// Refuses appends from here on, and flushes all that was appended.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if a flush fails.
    pub(crate) fn drain(&self) -> Result<()> {
        // AcqRel: as in `stop`; only a running log begins to close.
        let _ = self.state.compare_exchange(RUNNING, CLOSING, Ordering::AcqRel, Ordering::Acquire);
        let newest = {
            let mut commit = self.commit.lock();
            commit.close_group();
            self.room.notify_all();
            commit.newest()
        };
        match newest {
            Some((seq, last)) => self.wait_durable(seq, last),
            None if self.is_stopped() => Err(self.check().err().unwrap_or(Error::Closed)),
            None => Ok(()),
        }
    }

    /// Ends the log in good order, after [`drain`](Engine::drain).
    pub(crate) fn close(&self) {
        self.stop(CLOSED, None);
    }

    fn stop(&self, how: usize, cause: Option<Error>) {
        let mut commit = self.commit.lock();
        if self.is_stopped() {
            return;
        }
        *self.cause.lock() = cause;
        // Release: pairs with the Acquire in `check`.
        self.state.store(how, Ordering::Release);
        // Nobody claims from here on: no group is opened again.
        commit.close_for_good();
        let unresolved = commit.unresolved();
        let sleepers: Vec<_> = unresolved.map(|seq| self.resolve(&mut commit, seq)).collect();
        drop(commit);
        sleepers.into_iter().for_each(|sleepers| sleepers.wake());
        self.room.notify_all();
        self.spare_taken.notify_all();
        self.housekeeping.notify_all();
        self.wheel.stop();
        self.scrub.wake();
    }
}

/// A flight until it has landed: if it does not, whoever waits for it to come back is told.
struct Aloft<'a>(&'a Engine);

impl Drop for Aloft<'_> {
    fn drop(&mut self) {
        self.0.commit.lock().came_back();
        self.0.room.notify_all();
    }
}
