//! A value that is set once and that many wait for: threads on a word, tasks by their wakers.
//!
//! Sleeping threads are woken in a chain, as in the [wait table](super::wait_table): whoever sets the value wakes the
//! first, and each that wakes up wakes one more before it goes on.

use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::Mutex;
use super::atomic::Ordering;
use super::waking::wake;
use super::word::Word;

/// Set in the word while threads sleep on it.
const SLEEPERS: u32 = 1;
/// Set in the word while tasks are listed.
const TASKS: u32 = 2;
/// Set in the word once the value is there.
const SETTLED: u32 = 4;

/// A value that is there once, and then for good.
#[derive(Debug)]
pub(crate) struct Outcome<T> {
    word: Word,
    value: OnceLock<T>,
    tasks: Mutex<Vec<Waker>>,
}

impl<T> Outcome<T> {
    pub(crate) fn new() -> Outcome<T> {
        Outcome { word: Word::new(0), value: OnceLock::new(), tasks: Mutex::new(Vec::new()) }
    }

    /// The value, if it is there.
    pub(crate) fn look(&self) -> Option<&T> {
        // Acquire: pairs with the AcqRel swap in `settle`, so the value set before it is seen.
        let is_settled = self.word.value.load(Ordering::Acquire) & SETTLED != 0;
        is_settled.then(|| self.value.get().expect("set before the word says so"))
    }

    /// Sets the value and wakes whoever waits for it.
    ///
    /// # Panics
    /// If it is set already.
    pub(crate) fn settle(&self, value: T) {
        assert!(self.value.set(value).is_ok(), "an outcome is settled once");
        // AcqRel: Release publishes the value; Acquire orders the flags after the waiters' compare-exchange.
        let before = self.word.value.swap(SETTLED, Ordering::AcqRel);
        if before & SLEEPERS != 0 {
            self.word.wake(1);
        }
        if before & TASKS != 0 {
            // Taken out under the lock, woken after it: a waker may run the task at once.
            let tasks = std::mem::take(&mut *self.tasks.lock());
            tasks.into_iter().for_each(wake);
        }
    }

    /// Sleeps until the value is there, or until the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<&T> {
        let mut has_slept = false;
        loop {
            let Some(flagged) = self.flag(SLEEPERS) else {
                // Only those that slept were counted on by the chain, and one wake-up too many harms nobody.
                if has_slept {
                    self.word.wake(1);
                }
                return self.look();
            };
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            self.word.sleep(flagged, left);
            has_slept = true;
        }
    }

    /// The value, or the task is woken once it is there.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<&T> {
        if let Some(value) = self.look() {
            return Poll::Ready(value);
        }
        let mut tasks = self.tasks.lock();
        // Under the lock: `settle` swaps the word first and takes the list after, so either the flag is refused here
        // or the list is taken after this entry.
        if self.flag(TASKS).is_none() {
            drop(tasks);
            return Poll::Ready(self.look().expect("settled"));
        }
        if !tasks.iter().any(|listed| listed.will_wake(context.waker())) {
            tasks.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Sets `flag` and returns the word; `None` once the value is there.
    fn flag(&self, flag: u32) -> Option<u32> {
        let word = &self.word.value;
        let mut seen = word.load(Ordering::Acquire);
        loop {
            if seen & SETTLED != 0 {
                return None;
            }
            if seen & flag != 0 {
                return Some(seen);
            }
            // AcqRel: the swap in `settle` reads this flag; a failure is a fresh look (Acquire).
            match word.compare_exchange_weak(seen, seen | flag, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(seen | flag),
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sync::wakes::Wakes;

    #[test]
    fn all_that_sleep_are_woken_by_one_call() {
        for _ in 0..200 {
            let outcome = Outcome::new();
            std::thread::scope(|threads| {
                for number in 0..8 {
                    let outcome = &outcome;
                    let far = (number % 2 == 0).then(|| Instant::now() + Duration::from_secs(60));
                    threads.spawn(move || assert_eq!(outcome.wait(far), Some(&7)));
                }
                outcome.settle(7);
            });
        }
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_can_be_repeated() {
        let outcome = Outcome::new();
        assert_eq!(outcome.wait(Some(Instant::now() + Duration::from_millis(1))), None);
        assert_eq!(outcome.look(), None);
        outcome.settle(7);
        assert_eq!(outcome.wait(Some(Instant::now())), Some(&7));
        assert_eq!(outcome.wait(None), Some(&7));
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_else_from_being_woken() {
        let outcome = Outcome::new();
        let (wakes, waker) = Wakes::new();
        for waker in [crate::sync::wakes::panicking(), waker] {
            assert!(outcome.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        outcome.settle(7);
        assert_eq!(wakes.count(), 1);
    }

    #[test]
    fn a_task_is_woken_once_however_often_it_asked() {
        let outcome = Outcome::new();
        let (wakes, waker) = Wakes::new();
        let mut context = Context::from_waker(&waker);
        assert!(outcome.poll(&mut context).is_pending());
        assert!(outcome.poll(&mut context).is_pending());
        outcome.settle(7);
        assert_eq!(wakes.count(), 1);
        assert_eq!(outcome.poll(&mut context), Poll::Ready(&7));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    /// With two waiters, the second is woken by the first: the model is bounded in preemptions, not in threads.
    #[test]
    fn loom_each_waiter_of_an_outcome_sees_it() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let outcome = Arc::new(Outcome::new());
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let outcome = Arc::clone(&outcome);
                    loom::thread::spawn(move || assert_eq!(outcome.wait(None), Some(&7)))
                })
                .collect();
            outcome.settle(7);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        });
    }
}
