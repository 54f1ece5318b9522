//! Who starts flushes: one thread at a time is at the wheel, and flusher threads sleep until they are needed.
//!
//! When nobody is at the wheel, a caller that waits anyway takes it for one flush, so a lone appender hands
//! nothing over to another thread. When more waits after that flush, a flusher takes over and stays while
//! there is a backlog, so that no caller is kept flushing for others.

use std::sync::atomic::Ordering;

use crate::sync::atomic::AtomicU32;
use crate::sync::word::Word;

const FREE: u32 = 0;
const TAKEN: u32 = 1;

/// The wheel, and the bell that wakes flushers.
#[derive(Debug)]
pub(crate) struct Wheel {
    held: AtomicU32,
    /// Counts the kicks; [`STOPPED`] ends the flushers.
    bell: Word,
    sleeping: AtomicU32,
    stopped: AtomicU32,
}

/// What the bell said when a flusher began to look for work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch(u32);

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel {
            held: AtomicU32::new(FREE),
            bell: Word::new(0),
            sleeping: AtomicU32::new(0),
            stopped: AtomicU32::new(0),
        }
    }

    /// Takes the wheel if it is free.
    ///
    /// SeqCst with the claim before it: either this finds the wheel free, or its holder, who leaves it and
    /// then looks for claims, sees the claim.
    pub(crate) fn take(&self) -> bool {
        self.held.load(Ordering::SeqCst) == FREE
            && self.held.compare_exchange(FREE, TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.held.load(Ordering::SeqCst) == TAKEN
    }

    /// Leaves the wheel. The caller looks for claims after this.
    pub(crate) fn leave(&self) {
        self.held.swap(FREE, Ordering::SeqCst);
    }

    /// Wakes a flusher.
    pub(crate) fn kick(&self) {
        // SeqCst, both: a flusher counts itself before it compares the bell, so either it is seen here or
        // it sees the new count and does not sleep.
        self.bell.value.fetch_add(1, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            self.bell.wake(1);
        }
    }

    /// Begins a look for work; `None` when the flushers end.
    pub(crate) fn watch(&self) -> Option<Watch> {
        let watch = Watch(self.bell.value.load(Ordering::SeqCst));
        // After the bell: `stop` sets the flag before it rings.
        (self.stopped.load(Ordering::SeqCst) == 0).then_some(watch)
    }

    /// Sleeps unless there was a kick since `watch`.
    pub(crate) fn sleep(&self, watch: Watch) {
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        self.bell.sleep(watch.0, None);
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }

    /// Ends all flushers.
    pub(crate) fn stop(&self) {
        self.stopped.store(1, Ordering::SeqCst);
        self.bell.value.fetch_add(1, Ordering::SeqCst);
        self.bell.wake(i32::MAX as u32);
    }
}
