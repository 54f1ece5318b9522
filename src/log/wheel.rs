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
    /// Counts the kicks.
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
    pub(crate) fn take(&self) -> bool {
        // AcqRel, and a write even when it is taken: its holder's swap in `leave` then reads from here, and so
        // sees every claim that was made before this.
        self.held.fetch_or(TAKEN, Ordering::AcqRel) == FREE
    }

    /// Whether somebody is at the wheel, who will see every claim that was made before this.
    pub(crate) fn is_taken(&self) -> bool {
        // A write for the same reason as in `take`.
        self.held.fetch_or(FREE, Ordering::AcqRel) == TAKEN
    }

    /// Leaves the wheel. The caller looks for claims after this.
    pub(crate) fn leave(&self) {
        // AcqRel: pairs with `take` and `is_taken`, see there.
        self.held.swap(FREE, Ordering::AcqRel);
    }

    /// Wakes a flusher.
    pub(crate) fn kick(&self) {
        self.bell.value.fetch_add(1, Ordering::AcqRel);
        // AcqRel, and a write: a flusher that counts itself after this reads from here, sees the new bell, and
        // does not sleep. One that counted itself before is seen here.
        if self.sleeping.fetch_add(0, Ordering::AcqRel) > 0 {
            self.bell.wake(1);
        }
    }

    /// Begins a look for work; `None` when the flushers end.
    pub(crate) fn watch(&self) -> Option<Watch> {
        // Acquire: pairs with the Release of `kick` and `stop`, so what was done before them is seen.
        let watch = Watch(self.bell.value.load(Ordering::Acquire));
        // After the bell: `stop` sets the flag before it rings.
        (self.stopped.load(Ordering::Acquire) == 0).then_some(watch)
    }

    /// Sleeps unless there was a kick since `watch`.
    pub(crate) fn sleep(&self, watch: Watch) {
        // AcqRel: pairs with `kick`, see there.
        self.sleeping.fetch_add(1, Ordering::AcqRel);
        self.bell.sleep(watch.0, None);
        // Relaxed: it only saves a later kick its wake-up call.
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends all flushers.
    pub(crate) fn stop(&self) {
        self.stopped.store(1, Ordering::Release);
        self.bell.value.fetch_add(1, Ordering::Release);
        self.bell.wake(i32::MAX as u32);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_is_at_the_wheel() {
        let wheel = Wheel::new();
        assert!(wheel.take());
        assert!(!wheel.take());
        wheel.leave();
        assert!(wheel.take());
    }

    #[test]
    fn a_kick_since_the_watch_keeps_a_flusher_awake() {
        let wheel = Wheel::new();
        let watch = wheel.watch().unwrap();
        wheel.kick();
        wheel.sleep(watch);
    }

    #[test]
    fn stopping_ends_a_sleep_and_every_later_watch() {
        let wheel = Wheel::new();
        let watch = wheel.watch().unwrap();
        wheel.stop();
        wheel.sleep(watch);
        assert!(wheel.watch().is_none());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32 as Count;

    use super::*;

    /// A claim, then a look at the wheel, against leaving the wheel, then a look at the claims: one of the
    /// two sees the other, or a record would wait for ever.
    #[test]
    fn loom_no_claim_is_left_behind_when_the_wheel_is_left() {
        loom::model(|| {
            let wheel = Arc::new(Wheel::new());
            let claims = Arc::new(Count::new(0));
            assert!(wheel.take());
            let claimer = {
                let (wheel, claims) = (Arc::clone(&wheel), Arc::clone(&claims));
                loom::thread::spawn(move || {
                    claims.fetch_add(1, Ordering::AcqRel);
                    wheel.take()
                })
            };
            wheel.leave();
            let seen = claims.load(Ordering::Acquire) == 1;
            assert!(claimer.join().unwrap() || seen);
        });
    }

    #[test]
    fn loom_a_kick_is_never_slept_through() {
        loom::model(|| {
            let wheel = Arc::new(Wheel::new());
            let work = Arc::new(Count::new(0));
            let flusher = {
                let (wheel, work) = (Arc::clone(&wheel), Arc::clone(&work));
                loom::thread::spawn(move || {
                    while let Some(watch) = wheel.watch() {
                        if work.load(Ordering::Acquire) == 1 {
                            return;
                        }
                        wheel.sleep(watch);
                    }
                })
            };
            work.store(1, Ordering::Release);
            wheel.kick();
            flusher.join().unwrap();
        });
    }
}
