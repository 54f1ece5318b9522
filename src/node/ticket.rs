//! What a request to a replica returns at once, and what waiting on it yields.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::error::{ReplicaError, Result};
use crate::protocol::request::{Appended, Reply};
use crate::sync::waking::wake;
use crate::types::{Epoch, Lsn, LsnRange, ReplicaId};

/// A promise that what was asked of a replica will be answered.
///
/// Redeem it in one of three ways: [`wait`](Ticket::wait) blocks, `.await` works in any runtime or none, and dropping
/// it lets the request go on by itself.
#[must_use = "whether it was done is known only when the ticket says so"]
pub struct Ticket<T> {
    cell: Arc<Cell>,
    read: fn(Reply) -> Result<T>,
}

/// Where the answer goes. Dropped without one, it says that the replica was closed.
pub(crate) struct Promise {
    cell: Option<Arc<Cell>>,
}

#[derive(Default)]
struct Cell {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    answer: Option<Result<Reply>>,
    /// Whoever waited has it: there is no other.
    is_taken: bool,
    is_slept_on: bool,
    waker: Option<Waker>,
}

/// A ticket and the promise that it waits for.
pub(crate) fn promise<T>(read: fn(Reply) -> Result<T>) -> (Ticket<T>, Promise) {
    let cell = Arc::new(Cell::default());
    (Ticket { cell: Arc::clone(&cell), read }, Promise { cell: Some(cell) })
}

impl<T> Ticket<T> {
    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// [`ReplicaError::Refused`] with what to do next, and [`ReplicaError::Closed`] if the replica was shut down.
    ///
    /// # Panics
    /// If the answer was taken before, by [`wait_timeout`](Ticket::wait_timeout).
    pub fn wait(self) -> Result<T> {
        self.take(None).expect("without a deadline there is an answer").and_then(self.read)
    }

    /// Blocks like [`wait`](Ticket::wait), but at most for so long; can be called again then.
    ///
    /// # Errors
    /// [`ReplicaError::TimedOut`] when the time is over: it may still be done. Otherwise as for `wait`.
    ///
    /// # Panics
    /// If the answer was taken before.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<T> {
        let deadline = Instant::now().checked_add(timeout);
        self.take(deadline).ok_or(ReplicaError::TimedOut)?.and_then(self.read)
    }

    /// Whether the answer is there.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.cell.state.lock().answer.is_some()
    }

    fn take(&self, deadline: Option<Instant>) -> Option<Result<Reply>> {
        let mut state = self.cell.state.lock();
        loop {
            if let Some(answer) = state.take() {
                return Some(answer);
            }
            state.is_slept_on = true;
            match deadline {
                None => self.cell.answered.wait(&mut state),
                Some(deadline) if self.cell.answered.wait_until(&mut state, deadline).timed_out() => {
                    return state.take();
                }
                Some(_) => {}
            }
        }
    }
}

impl State {
    /// The answer, if it is there.
    ///
    /// # Panics
    /// If it was taken before: whoever waits would do so for ever.
    fn take(&mut self) -> Option<Result<Reply>> {
        assert!(!self.is_taken, "the answer was taken before");
        self.is_taken = self.answer.is_some();
        self.answer.take()
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = self.cell.state.lock();
        match state.take() {
            Some(answer) => Poll::Ready(answer.and_then(self.read)),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("is_answered", &self.is_answered()).finish()
    }
}

impl Promise {
    /// Whether the ticket is gone: nobody will ask.
    pub(crate) fn is_given_up(&self) -> bool {
        self.cell.as_ref().is_none_or(|cell| Arc::strong_count(cell) == 1)
    }

    /// Answers, and wakes whoever waits.
    pub(crate) fn keep(mut self, answer: Result<Reply>) {
        if let Some(cell) = self.cell.take() {
            cell.answer(answer);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            cell.answer(Err(ReplicaError::Closed));
        }
    }
}

impl Cell {
    fn answer(&self, answer: Result<Reply>) {
        let mut state = self.state.lock();
        state.answer = Some(answer);
        let (is_slept_on, waker) = (state.is_slept_on, state.waker.take());
        drop(state);
        if is_slept_on {
            self.answered.notify_all();
        }
        waker.into_iter().for_each(wake);
    }
}

/// Proof that a record, or a batch, is as durable as it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    appended: Appended,
}

impl Receipt {
    pub(crate) const fn new(appended: Appended) -> Receipt {
        Receipt { appended }
    }

    /// The LSNs of the records. `None` for a retry of what was taken too long ago for that to be known.
    #[must_use]
    pub const fn range(&self) -> Option<LsnRange> {
        self.appended.range
    }

    /// The LSN of the record, or of the first record of the batch; [`Lsn::ZERO`] where that is not known any more.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.appended.range.map_or(Lsn::ZERO, |range| range.first)
    }

    /// The epoch that took them; 0 where that is not known any more.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.appended.epoch
    }

    /// Which replicas are known to have them synced.
    #[must_use]
    pub fn holders(&self) -> &[ReplicaId] {
        &self.appended.holders
    }

    /// Whether no failover can lose them. Not so with [`Copies::Local`](crate::protocol::request::Copies::Local), unless
    /// others were fast.
    #[must_use]
    pub const fn is_committed(&self) -> bool {
        self.appended.is_committed
    }

    /// Whether they were there already: this was a retry.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        self.appended.is_duplicate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node answers on its network's thread, which would end with it.
    #[test]
    fn a_waker_that_panics_does_so_alone() {
        let (mut ticket, promise) = promise(|_| Ok(()));
        let waker = crate::sync::wakes::panicking();
        assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
        promise.keep(Ok(Reply::Done));
        assert!(ticket.is_answered());
    }

    #[test]
    #[should_panic(expected = "taken before")]
    fn an_answer_is_taken_once() {
        let (ticket, promise) = promise(|_| Ok(()));
        promise.keep(Ok(Reply::Done));
        ticket.wait_timeout(Duration::ZERO).unwrap();
        let _ = ticket.wait();
    }

    /// Whoever waits with a deadline, over and over, for what does not come would else be remembered for ever.
    #[test]
    fn a_promise_knows_that_its_ticket_is_gone() {
        let (ticket, promise) = promise(|_| Ok(()));
        assert!(!promise.is_given_up());
        assert!(matches!(ticket.wait_timeout(Duration::ZERO), Err(ReplicaError::TimedOut)));
        assert!(!promise.is_given_up());
        drop(ticket);
        assert!(promise.is_given_up());
    }
}
