//! A 32-bit word that threads sleep on until it changes: a futex where there is one.

use std::time::Duration;

use super::atomic::AtomicU32;

/// A word to sleep on. Sleeping and waking compare the word itself, so no wake-up is lost between a
/// look at it and going to sleep.
#[derive(Debug, Default)]
pub(crate) struct Word {
    pub(crate) value: AtomicU32,
    #[cfg(any(loom, not(target_os = "linux")))]
    gate: gate::Gate,
}

impl Word {
    pub(crate) fn new(value: u32) -> Word {
        Word {
            value: AtomicU32::new(value),
            #[cfg(any(loom, not(target_os = "linux")))]
            gate: gate::Gate::default(),
        }
    }

    /// Sleeps while the word is `expected`, at most `timeout`; may return early for no reason.
    #[cfg(all(target_os = "linux", not(loom)))]
    pub(crate) fn sleep(&self, expected: u32, timeout: Option<Duration>) {
        use rustix::thread::futex;
        let timeout = timeout.map(|limit| rustix::time::Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        // Every outcome (woken, changed before, timed out, interrupted) has the caller look again.
        let _ = futex::wait(&self.value, futex::Flags::PRIVATE, expected, timeout.as_ref());
    }

    /// Wakes up to `threads` of those that sleep on the word.
    #[cfg(all(target_os = "linux", not(loom)))]
    pub(crate) fn wake(&self, threads: u32) {
        use rustix::thread::futex;
        // The kernel takes a signed number, and wakes one thread for a negative one. It fails only for an
        // address that is no word.
        let _ = futex::wake(&self.value, futex::Flags::PRIVATE, threads.min(i32::MAX as u32));
    }

    /// Sleeps while the word is `expected`, at most `timeout`; may return early for no reason.
    #[cfg(any(loom, not(target_os = "linux")))]
    pub(crate) fn sleep(&self, expected: u32, timeout: Option<Duration>) {
        self.gate.sleep(|| self.value.load(super::atomic::Ordering::Acquire) == expected, timeout);
    }

    /// Wakes up to `threads` of those that sleep on the word; more than one may mean all of them.
    #[cfg(any(loom, not(target_os = "linux")))]
    pub(crate) fn wake(&self, threads: u32) {
        self.gate.wake(threads == 1);
    }
}

/// The portable stand-in for a futex: the look at the word and the sleep happen under one mutex.
#[cfg(all(not(loom), not(target_os = "linux")))]
mod gate {
    use std::time::Duration;

    #[derive(Debug, Default)]
    pub(crate) struct Gate {
        mutex: parking_lot::Mutex<()>,
        changed: parking_lot::Condvar,
    }

    impl Gate {
        pub(crate) fn sleep(&self, unchanged: impl Fn() -> bool, timeout: Option<Duration>) {
            let mut guard = self.mutex.lock();
            if unchanged() {
                match timeout {
                    Some(limit) => drop(self.changed.wait_for(&mut guard, limit)),
                    None => self.changed.wait(&mut guard),
                }
            }
        }

        pub(crate) fn wake(&self, one: bool) {
            drop(self.mutex.lock());
            if one {
                self.changed.notify_one();
            } else {
                self.changed.notify_all();
            }
        }
    }
}

#[cfg(loom)]
mod gate {
    use std::time::Duration;

    #[derive(Debug, Default)]
    pub(crate) struct Gate {
        mutex: loom::sync::Mutex<()>,
        changed: loom::sync::Condvar,
    }

    impl Gate {
        pub(crate) fn sleep(&self, unchanged: impl Fn() -> bool, _timeout: Option<Duration>) {
            let guard = self.mutex.lock().expect("no thread panics in a model");
            if unchanged() {
                drop(self.changed.wait(guard).expect("no thread panics in a model"));
            }
        }

        pub(crate) fn wake(&self, one: bool) {
            drop(self.mutex.lock().expect("no thread panics in a model"));
            if one {
                self.changed.notify_one();
            } else {
                self.changed.notify_all();
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_word_that_changed_before_is_not_slept_on() {
        let word = Word::new(1);
        word.value.store(2, Ordering::Release);
        word.sleep(1, None);
    }

    #[test]
    fn a_sleep_ends_at_its_timeout() {
        let word = Word::new(1);
        word.sleep(1, Some(Duration::from_millis(1)));
        assert_eq!(word.value.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_wake_after_a_change_ends_every_sleep() {
        let word = Word::new(0);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    while word.value.load(Ordering::Acquire) == 0 {
                        word.sleep(0, None);
                    }
                });
            }
            word.value.store(1, Ordering::Release);
            word.wake(u32::MAX);
        });
    }
}
