//! What a request returns at once, and what waiting on it yields.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Handle;
#[cfg(doc)]
use super::error::ClientError;
use super::error::Result;
use super::machine::{CallOutcome, Place};
use crate::protocol::request::{Appended, Reply};
use crate::types::{Epoch, Lsn, LsnRange, ReplicaId};

/// A promise that a record, or a batch, will be in the cluster's log.
///
/// Redeem it in one of three ways: [`wait`](Ticket::wait) blocks, `.await` works in any runtime or none, and dropping it
/// lets the append go on by itself. It is answered by the client's [deadline](super::ClientOptions::deadline) at the
/// latest.
#[must_use = "a record is known to be in the log only when its ticket says so"]
pub struct Ticket {
    place: Place,
    /// The client goes on while a ticket is held.
    _handle: Arc<Handle>,
}

impl Ticket {
    pub(super) fn new(place: Place, handle: Arc<Handle>) -> Ticket {
        Ticket { place, _handle: handle }
    }

    /// Blocks until the record is as durable as was asked.
    ///
    /// # Errors
    /// [`ClientError::Unknown`] if nobody knows whether it was taken; all others say that it was not, and never will be.
    pub fn wait(self) -> Result<Receipt> {
        let outcome = self.place.outcome.wait(None).expect("without a deadline there is an outcome");
        if let Err(error) = outcome {
            return Err(error.clone());
        }
        Ok(Receipt { place: self.place })
    }

    /// Blocks like [`wait`](Ticket::wait), but at most for so long; `None` if nothing is known by then. The append goes on,
    /// and this can be called again.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use std::time::Duration;
    ///
    /// let ticket = client.append(b"two lamps")?;
    /// let receipt = loop {
    ///     match ticket.wait_timeout(Duration::from_millis(100))? {
    ///         Some(receipt) => break receipt,
    ///         None => println!("not yet"),
    ///     }
    /// };
    /// assert!(receipt.is_committed() && !receipt.is_duplicate());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for `wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Receipt>> {
        let outcome = self.place.outcome.wait(Instant::now().checked_add(timeout));
        outcome.map(|outcome| self.receipt(outcome)).transpose()
    }

    /// Whether the outcome is known.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.place.outcome.look().is_some()
    }

    fn receipt(&self, outcome: &Result<Appended>) -> Result<Receipt> {
        match outcome {
            Ok(_) => Ok(Receipt { place: self.place.clone() }),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Future for Ticket {
    type Output = Result<Receipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        self.place.outcome.poll(context).map(|outcome| self.receipt(outcome))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("outcome", &self.place.outcome.look()).finish()
    }
}

/// Proof that a record, or a batch, is in the cluster's log. Cheap to clone.
#[derive(Clone)]
pub struct Receipt {
    place: Place,
}

impl Receipt {
    /// The LSNs of the records. `None` if the log had them from an earlier attempt, too long ago for that to be known.
    #[must_use]
    pub fn range(&self) -> Option<LsnRange> {
        let share = self.place.share;
        let first = self.appended().range?.first.plus(u64::from(share.first));
        LsnRange::new(first, first.plus(u64::from(share.records)).prev())
    }

    /// The LSN of the record, or of the first record of the batch; [`Lsn::ZERO`] where that is not known any more.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.range().map_or(Lsn::ZERO, |range| range.first)
    }

    /// The epoch that took them; 0 where that is not known any more.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.appended().epoch
    }

    /// Which replicas are known to have them synced.
    #[must_use]
    pub fn holders(&self) -> &[ReplicaId] {
        &self.appended().holders
    }

    /// Whether no failover can lose them. Not so with [`Copies::Local`](crate::protocol::request::Copies::Local), unless
    /// others were fast.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.appended().is_committed
    }

    /// Whether they were there already, from an earlier attempt of which no reply had come.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.appended().is_duplicate
    }

    fn appended(&self) -> &Appended {
        let outcome = self.place.outcome.look().expect("a receipt is made of an outcome");
        outcome.as_ref().expect("a receipt is made of a success")
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let appended = self.appended();
        f.debug_struct("Receipt")
            .field("range", &self.range())
            .field("epoch", &appended.epoch)
            .field("holders", &appended.holders)
            .field("is_committed", &appended.is_committed)
            .field("is_duplicate", &appended.is_duplicate)
            .finish()
    }
}

/// A promise that something will be answered: redeem it as a [`Ticket`].
#[must_use = "what was asked is answered only through this"]
pub struct Answer<T> {
    outcome: Arc<CallOutcome>,
    read: fn(&Reply, &Bytes) -> Result<T>,
    _handle: Arc<Handle>,
}

impl<T> Answer<T> {
    pub(super) fn new(
        outcome: Arc<CallOutcome>,
        read: fn(&Reply, &Bytes) -> Result<T>,
        handle: Arc<Handle>,
    ) -> Answer<T> {
        Answer { outcome, read, _handle: handle }
    }

    /// Blocks until the answer is there, which is by the client's deadline at the latest.
    ///
    /// # Errors
    /// [`ClientError::Unknown`] if nobody knows whether it was done; all others say that it was not.
    pub fn wait(self) -> Result<T> {
        let outcome = self.outcome.wait(None).expect("without a deadline there is an outcome");
        self.read(outcome)
    }

    /// Blocks like [`wait`](Answer::wait), but at most for so long; `None` if nothing is known by then.
    ///
    /// # Errors
    /// As for `wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        let outcome = self.outcome.wait(Instant::now().checked_add(timeout));
        outcome.map(|outcome| self.read(outcome)).transpose()
    }

    fn read(&self, outcome: &Result<(Reply, Bytes)>) -> Result<T> {
        match outcome {
            Ok((reply, payload)) => (self.read)(reply, payload),
            Err(error) => Err(error.clone()),
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.outcome.poll(context).map(|outcome| self.read(outcome))
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("outcome", &self.outcome.look()).finish()
    }
}
