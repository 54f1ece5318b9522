//! Committed records as they come.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::Handle;
#[cfg(doc)]
use super::error::ClientError;
use super::error::Result;
use super::machine::{Delivery, Feed, FeedId, Sink, Target};
use crate::protocol::request::RecordHead;
use crate::sync::waking::wake;
use crate::types::{Epoch, Lsn};

/// A committed record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Its LSN.
    pub lsn: Lsn,
    /// The epoch that it was written in.
    pub epoch: Epoch,
    /// What was appended.
    pub bytes: Bytes,
}

/// The records of a reply, each with its part of the bytes beside it; no byte is copied.
pub(super) fn split(heads: &[RecordHead], mut payload: Bytes) -> impl Iterator<Item = Record> {
    heads.iter().map(move |head| {
        let bytes = payload.split_to((head.bytes as usize).min(payload.len()));
        Record { lsn: head.lsn, epoch: head.epoch, bytes }
    })
}

/// Committed records from one on, in order, each once, without end; follows the cluster through failover.
///
/// An iterator that waits for the next record. It ends after its first error: then nothing more will come. At most as
/// many bytes as the window has wait here to be read, or are on their way.
pub struct Subscription {
    handle: Arc<Handle>,
    id: FeedId,
    queue: Arc<Queue>,
    /// Taken from the queue, and not given out.
    records: VecDeque<Record>,
    /// Bytes of the delivery that the records above are of.
    bytes: u64,
    has_ended: bool,
}

/// Where deliveries wait to be read.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    has_more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    deliveries: VecDeque<Delivery>,
    is_slept_on: bool,
    waker: Option<Waker>,
}

impl Subscription {
    pub(super) fn new(handle: &Arc<Handle>, target: Target, from: Lsn, window: u64) -> Subscription {
        let queue = Arc::new(Queue::default());
        let sink = Arc::clone(&queue) as Arc<dyn Sink>;
        let feed = Feed { target, from: from.max(Lsn::FIRST), window, sink };
        let id = handle.shared.with(|machine, now| machine.subscribe(now, feed));
        let (handle, records) = (Arc::clone(handle), VecDeque::new());
        Subscription { handle, id, queue, records, bytes: 0, has_ended: false }
    }

    /// The next record, at most so long from now; `None` if there is none by then, or after an error.
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
    /// use annals::Lsn;
    ///
    /// let mut records = client.subscribe(Lsn::FIRST);
    /// assert!(records.next_timeout(Duration::from_millis(1))?.is_none(), "nobody has appended yet");
    /// client.append_durable(b"two lamps")?;
    /// assert_eq!(&records.next().expect("one was appended")?.bytes[..], b"two lamps");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Trimmed`] if records that were not read yet are gone; others as they say. It is over then.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record>> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    /// The next record, awaited in any runtime or none; `None` after an error.
    ///
    /// # Errors
    /// As for [`next_timeout`](Subscription::next_timeout).
    pub async fn next_async(&mut self) -> Result<Option<Record>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next record, if there is one; otherwise the task is woken when there is. For whoever builds a stream of it.
    ///
    /// # Errors
    /// As for [`next_timeout`](Subscription::next_timeout).
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Record>>> {
        loop {
            if let Some(record) = self.next_here() {
                return Poll::Ready(Ok(Some(record)));
            }
            if self.has_ended {
                return Poll::Ready(Ok(None));
            }
            let mut waiting = self.queue.waiting.lock();
            let Some(delivery) = waiting.deliveries.pop_front() else {
                waiting.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            drop(waiting);
            if let Err(error) = self.take(delivery) {
                return Poll::Ready(Err(error));
            }
        }
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.next_here() {
                return Ok(Some(record));
            }
            if self.has_ended {
                return Ok(None);
            }
            match self.queue.next(deadline) {
                Some(delivery) => self.take(delivery)?,
                None => return Ok(None),
            }
        }
    }

    /// The next of those that have come. With the last of a delivery, as many bytes more may come.
    fn next_here(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        if self.records.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            self.handle.shared.with(|machine, _| machine.consumed(self.id, bytes));
        }
        Some(record)
    }

    fn take(&mut self, delivery: Delivery) -> Result<()> {
        match delivery {
            Ok((heads, payload)) => {
                self.bytes = payload.len() as u64;
                self.records.extend(split(&heads, payload));
                Ok(())
            }
            Err(error) => {
                self.has_ended = true;
                Err(error)
            }
        }
    }
}

impl Iterator for Subscription {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        self.next_until(None).transpose()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.shared.with(|machine, _| machine.unsubscribe(self.id));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subscription { id, has_ended, .. } = self;
        f.debug_struct("Subscription").field("id", id).field("has_ended", has_ended).finish()
    }
}

impl Queue {
    fn next(&self, deadline: Option<Instant>) -> Option<Delivery> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(delivery) = waiting.deliveries.pop_front() {
                return Some(delivery);
            }
            waiting.is_slept_on = true;
            match deadline {
                None => self.has_more.wait(&mut waiting),
                Some(deadline) if self.has_more.wait_until(&mut waiting, deadline).timed_out() => {
                    return waiting.deliveries.pop_front();
                }
                Some(_) => {}
            }
        }
    }
}

impl Sink for Queue {
    fn deliver(&self, delivery: Delivery) {
        let mut waiting = self.waiting.lock();
        waiting.deliveries.push_back(delivery);
        let (is_slept_on, waker) = (std::mem::take(&mut waiting.is_slept_on), waiting.waker.take());
        drop(waiting);
        if is_slept_on {
            self.has_more.notify_one();
        }
        waker.into_iter().for_each(wake);
    }
}
