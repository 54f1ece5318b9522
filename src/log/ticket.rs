//! What an append returns at once, and what waiting on it yields.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Handle;
use crate::error::Result;
use crate::types::{Epoch, Lsn};

/// How safe an appended record is asked to be before its ticket is redeemed.
///
/// More levels come with replication; match with a wildcard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// In the log's memory: it has an LSN, and is written within a tenth of a second or with the next sync.
    /// A crash of the process before that loses it.
    Buffered,
    /// On this disk and synced.
    #[default]
    Durable,
}

/// A promise that a record, or a batch, will be as durable as was asked.
///
/// Redeem it in one of three ways: [`wait`](Ticket::wait) blocks, `.await` works in any runtime or none, and
/// dropping it lets the record become durable by itself. Tickets become durable in the order of their LSNs.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(8 << 20).open()?;
/// let first = log.append(b"one")?;
/// let second = log.append(b"two")?;
/// assert!(second.wait()?.lsn() > first.wait()?.lsn());
/// # log.close()
/// # }
/// ```
#[must_use = "a record is known to be durable only when its ticket says so"]
pub struct Ticket {
    handle: Arc<Handle>,
    appended: Appended,
    durability: Durability,
}

/// Where an append landed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) first: Lsn,
    pub(crate) records: u32,
    pub(crate) epoch: Epoch,
    /// The group to wait for.
    pub(crate) seq: u64,
}

impl Appended {
    pub(crate) fn last(&self) -> Lsn {
        self.first.plus(u64::from(self.records)).prev()
    }
}

/// Proof that a record, or a batch, is as durable as it says.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
/// let receipt = log.append_batch(&["debit 5", "credit 5"])?.wait()?;
/// assert_eq!((receipt.lsn().get(), receipt.last_lsn().get()), (1, 2));
/// assert_eq!(receipt.durability(), annals::Durability::Durable);
/// # log.close()
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    first: Lsn,
    last: Lsn,
    epoch: Epoch,
    durability: Durability,
}

impl Ticket {
    pub(crate) fn new(handle: Arc<Handle>, appended: Appended, durability: Durability) -> Ticket {
        Ticket { handle, appended, durability }
    }

    /// The LSN of the record, or of the first record of the batch.
    ///
    /// Known before the record is durable: until then a crash gives the number to another record.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.appended.first
    }

    /// Blocks until the record is as durable as was asked.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) after a failed flush: whether the record survived is known only by reopening.
    pub fn wait(self) -> Result<Receipt> {
        if self.durability == Durability::Durable {
            self.handle.engine().wait_durable(self.appended.seq, self.appended.last())?;
        }
        Ok(self.receipt())
    }

    /// Blocks like [`wait`](Ticket::wait), but not past `deadline`; can be called again.
    ///
    /// # Errors
    /// [`Error::TimedOut`](crate::Error::TimedOut) at the deadline, when the outcome is unknown; otherwise as for `wait`.
    pub fn wait_deadline(&self, deadline: Instant) -> Result<Receipt> {
        if self.durability == Durability::Durable {
            let (seq, last) = (self.appended.seq, self.appended.last());
            self.handle.engine().wait_durable_until(seq, last, deadline)?;
        }
        Ok(self.receipt())
    }

    fn receipt(&self) -> Receipt {
        Receipt {
            first: self.appended.first,
            last: self.appended.last(),
            epoch: self.appended.epoch,
            durability: self.durability,
        }
    }
}

impl Future for Ticket {
    type Output = Result<Receipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        if self.durability == Durability::Buffered {
            return Poll::Ready(Ok(self.receipt()));
        }
        let (seq, last) = (self.appended.seq, self.appended.last());
        match self.handle.engine().poll_durable(seq, last, context.waker()) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map(|()| self.receipt())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ticket { appended, durability, .. } = self;
        f.debug_struct("Ticket").field("appended", appended).field("durability", durability).finish()
    }
}

impl Receipt {
    pub(crate) fn durable(appended: &Appended) -> Receipt {
        Receipt {
            first: appended.first,
            last: appended.last(),
            epoch: appended.epoch,
            durability: Durability::Durable,
        }
    }

    /// The LSN of the record, or of the first record of the batch.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.first
    }

    /// The LSN of the last record of the batch; the same as [`lsn`](Receipt::lsn) for a single record.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.last
    }

    /// The epoch that the record was written in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How durable the record is now, at least.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }
}
