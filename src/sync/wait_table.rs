//! Where callers wait for the group that holds their record: one word for each group.
//!
//! Threads are woken in a chain: the resolver wakes the first, and each that wakes up wakes one more before
//! it goes on. On two cores that takes half the processor time of waking all of them at once: a woken thread
//! runs, appends and sleeps again where the one before it just did, instead of queueing with all others.
//!
//! A group is known by its sequence number. The table is a ring of slots; a slot's word names the group that
//! it stands for now, so it needs no reset and a late look at it finds that the group is resolved. What
//! *resolved* means (durable, or poisoned) is told by watermarks that are stored before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use super::Mutex;
use super::atomic::{AtomicU32, Ordering};
use super::word::Word;

/// Groups that may be unresolved at once.
pub(crate) const UNRESOLVED_MAX: usize = if cfg!(loom) { 2 } else { 512 };

/// Set in a slot's word while threads sleep on it.
const SLEEPERS: u32 = 1;
/// Set in a slot's word while tasks are listed in the slot.
const TASKS: u32 = 2;
const FLAGS: u32 = SLEEPERS | TASKS;
/// Threads that the resolver wakes itself.
const CHAINS: u32 = 1;

/// The ring of slots.
#[derive(Debug)]
pub(crate) struct WaitTable {
    slots: Box<[Slot]>,
}

/// Alone on its cache lines, so that waiters of two groups do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
struct Slot {
    /// The low 30 bits of the group's sequence number, then the two flags.
    word: Word,
    /// Not 0 once a chain of wake-ups was begun in this slot and not swept up.
    chain: AtomicU32,
    tasks: Mutex<Vec<(u64, Waker)>>,
}

impl WaitTable {
    /// A table whose oldest unresolved group is 0.
    pub(crate) fn new() -> WaitTable {
        let slot = |seq| Slot {
            word: Word::new(name(seq)),
            chain: AtomicU32::new(0),
            tasks: Mutex::new(Vec::new()),
        };
        WaitTable { slots: (0..UNRESOLVED_MAX as u64).map(slot).collect() }
    }

    /// Whether group `seq` is resolved; if so, all that its resolver wrote before is visible.
    pub(crate) fn is_resolved(&self, seq: u64) -> bool {
        // Acquire: pairs with the AcqRel swap in `resolve`, so the watermarks stored before it are seen.
        is_past(self.slot(seq).word.value.load(Ordering::Acquire), seq)
    }

    /// Sleeps until group `seq` is resolved, at most `timeout`; returns whether it is.
    pub(crate) fn sleep(&self, seq: u64, timeout: Option<Duration>) -> bool {
        let word = &self.slot(seq).word;
        let Some(flagged) = self.flag(seq, SLEEPERS) else { return true };
        word.sleep(flagged, timeout);
        let resolved = self.is_resolved(seq);
        if resolved {
            word.wake(1);
        }
        resolved
    }

    /// Lists `waker` to be woken when group `seq` is resolved; `false` if it is resolved already.
    pub(crate) fn register(&self, seq: u64, waker: &Waker) -> bool {
        let mut tasks = self.slot(seq).tasks.lock();
        // Under the lock: `resolve` swaps the word first and takes the list after, so either the flag is
        // refused here or the list is taken after this entry.
        if self.flag(seq, TASKS).is_none() {
            return false;
        }
        if !tasks.iter().any(|(of, listed)| *of == seq && listed.will_wake(waker)) {
            tasks.push((seq, waker.clone()));
        }
        true
    }

    /// Resolves group `seq`. Groups are resolved in order, by one thread at a time.
    ///
    /// Everything that the waiters look at next (watermarks, the poison flag) is stored before. Nobody is
    /// woken yet: that is [`Sleepers::wake`], which needs no order and may come late.
    pub(crate) fn resolve(&self, seq: u64) -> Sleepers<'_> {
        let slot = self.slot(seq);
        let next = name(seq + UNRESOLVED_MAX as u64);
        // AcqRel: Release publishes the watermarks to `is_resolved`; Acquire orders the flags read here
        // after the waiters' compare-exchange that set them.
        let before = slot.word.value.swap(next, Ordering::AcqRel);
        assert_eq!(before & !FLAGS, name(seq), "groups are resolved once and in order");
        // A chain passes through threads that run when the scheduler lets them. Half a round later, long before
        // anybody waits in that slot again, whoever it has not reached is woken at once.
        let swept = self.slot(seq + UNRESOLVED_MAX as u64 / 2);
        Sleepers { slot, swept, seq, flags: before & FLAGS }
    }

    /// Sets `flag` in the word of group `seq` and returns the word; `None` once the group is resolved.
    ///
    /// The slot may still stand for an earlier group: its resolution wakes whoever flagged it, to look again.
    fn flag(&self, seq: u64, flag: u32) -> Option<u32> {
        let word = &self.slot(seq).word.value;
        let mut seen = word.load(Ordering::Acquire);
        loop {
            if is_past(seen, seq) {
                return None;
            }
            if seen & flag != 0 {
                return Some(seen);
            }
            // AcqRel: the resolver's swap reads this flag; a failure is a fresh look (Acquire).
            match word.compare_exchange_weak(seen, seen | flag, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(seen | flag),
                Err(now) => seen = now,
            }
        }
    }

    fn slot(&self, seq: u64) -> &Slot {
        &self.slots[(seq % UNRESOLVED_MAX as u64) as usize]
    }
}

/// Those who waited for a group that is resolved.
///
/// They are woken when this is dropped at the latest: also if the thread panics before it came to that.
#[must_use = "they sleep until they are woken"]
#[derive(Debug)]
pub(crate) struct Sleepers<'a> {
    slot: &'a Slot,
    swept: &'a Slot,
    seq: u64,
    flags: u32,
}

impl Sleepers<'_> {
    /// Wakes them: the first threads at once, each other one by the one before it.
    pub(crate) fn wake(self) {
        drop(self);
    }

    fn wake_all(&self) {
        // Relaxed: the flag is about threads in the word's own queue, which orders itself.
        if self.swept.chain.swap(0, Ordering::Relaxed) != 0 {
            self.swept.word.wake(i32::MAX as u32);
        }
        if self.flags & SLEEPERS != 0 {
            self.slot.chain.store(1, Ordering::Relaxed);
            self.slot.word.wake(CHAINS);
        }
        if self.flags & TASKS != 0 {
            // Taken out under the lock, woken after it: a waker may run the task at once.
            let mut tasks = self.slot.tasks.lock();
            let woken: Vec<_> = tasks.extract_if(.., |(seq, _)| *seq <= self.seq).collect();
            drop(tasks);
            Tasks(woken.into_iter()).wake();
        }
    }
}

impl Drop for Sleepers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic that leaves a drop would end the process.
            let _ = catch_unwind(AssertUnwindSafe(|| self.wake_all()));
        } else {
            self.wake_all();
        }
    }
}

/// Tasks to be woken: all of them, also if the program's own code panics when one is.
struct Tasks(std::vec::IntoIter<(u64, Waker)>);

impl Tasks {
    fn wake(mut self) {
        self.0.by_ref().for_each(|(_, waker)| waker.wake());
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for (_, waker) in self.0.by_ref() {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

/// The name of a group in its slot's word.
fn name(seq: u64) -> u32 {
    (seq as u32) << 2
}

/// Whether the slot's word has gone past group `seq`. Counts round: a waiter looks again long before 2^29
/// groups have passed.
fn is_past(word: u32, seq: u64) -> bool {
    ((word & !FLAGS).wrapping_sub(name(seq)) as i32) > 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::sync::wakes::Wakes;

    #[test]
    fn a_resolved_group_is_never_waited_for_however_late() {
        let table = WaitTable::new();
        for seq in 0..3 * UNRESOLVED_MAX as u64 {
            assert!(!table.is_resolved(seq));
            table.resolve(seq).wake();
            assert!(table.is_resolved(seq));
            assert!(table.sleep(seq, None), "returns at once");
        }
        assert!(table.is_resolved(0));
    }

    #[test]
    fn a_task_is_woken_once_for_its_group_and_refused_after() {
        let table = WaitTable::new();
        let (wakes, waker) = Wakes::new();
        assert!(table.register(0, &waker));
        assert!(table.register(0, &waker), "the same task again is one entry");
        assert!(table.register(1, &waker));
        table.resolve(0).wake();
        assert_eq!(wakes.count(), 1);
        assert!(!table.register(0, &waker));
        table.resolve(1).wake();
        assert_eq!(wakes.count(), 2);
    }

    #[test]
    fn a_sleep_without_a_resolution_ends_at_its_timeout() {
        let table = WaitTable::new();
        assert!(!table.sleep(0, Some(Duration::from_millis(1))));
    }

    #[test]
    fn every_thread_sees_the_watermark_of_the_group_it_waited_for() {
        let table = WaitTable::new();
        let watermark = AtomicU64::new(0);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for seq in 0..500 {
                        while !table.sleep(seq, None) {}
                        assert!(watermark.load(Ordering::Relaxed) > seq);
                    }
                });
            }
            for seq in 0..500 {
                watermark.store(seq + 1, Ordering::Relaxed);
                table.resolve(seq).wake();
            }
        });
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64;

    use super::*;

    /// With two waiters, the second is woken by the first: the model is bounded in preemptions, not in threads.
    #[test]
    fn loom_no_wake_up_is_lost_and_the_watermark_is_seen() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let table = Arc::new(WaitTable::new());
            let watermark = Arc::new(AtomicU64::new(0));
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let (table, watermark) = (Arc::clone(&table), Arc::clone(&watermark));
                    loom::thread::spawn(move || {
                        while !table.sleep(0, None) {}
                        assert_eq!(watermark.load(Ordering::Relaxed), 1);
                    })
                })
                .collect();
            watermark.store(1, Ordering::Relaxed);
            table.resolve(0).wake();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        });
    }

    #[test]
    fn loom_a_waiter_whose_slot_stands_for_an_earlier_group_is_woken_by_its_own() {
        loom::model(|| {
            let table = Arc::new(WaitTable::new());
            let waiter = {
                let table = Arc::clone(&table);
                loom::thread::spawn(move || while !table.sleep(UNRESOLVED_MAX as u64, None) {})
            };
            for seq in 0..=UNRESOLVED_MAX as u64 {
                table.resolve(seq).wake();
            }
            waiter.join().unwrap();
        });
    }
}
