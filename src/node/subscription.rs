//! Committed records in order, as they come, for a program that runs a replica itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::error::{ReplicaError, Result};
use super::reading::{READ_BYTES, read_records};
use super::shown::{Shown, View};
use crate::error::Error;
use crate::types::{Epoch, Lsn};

/// A committed record of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its LSN.
    pub lsn: Lsn,
    /// The epoch that it was written in.
    pub epoch: Epoch,
    /// The client's bytes.
    pub bytes: Bytes,
}

/// Committed records in the order of their LSNs, each once, whoever is primary; LSNs that are left out are the
/// protocol's own.
///
/// Read in the thread that asks for them. An iterator: [`next`](Iterator::next) waits for more, and there is none after the
/// replica was shut down, or after an error.
pub struct Subscription {
    shown: Arc<Shown>,
    /// The next LSN to be read from the log.
    next: Lsn,
    ready: VecDeque<Record>,
    has_failed: bool,
}

impl Subscription {
    pub(crate) fn new(shown: Arc<Shown>, from: Lsn) -> Subscription {
        Subscription { shown, next: from.max(Lsn::FIRST), ready: VecDeque::new(), has_failed: false }
    }

    /// The next record, if it comes within this time; `None` if not.
    ///
    /// # Errors
    /// [`Refused::Trimmed`](crate::protocol::request::Refused::Trimmed) if the replica has it no more, [`ReplicaError::Closed`] once it is shut down,
    /// [`ReplicaError::Log`] if it cannot be read here.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record>> {
        self.next_until(Some(Instant::now() + timeout))
    }

    /// The LSN to go on from, in another subscription.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.ready.front().map_or(self.next, |record| record.lsn)
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            let Some(view) = self.shown.wait_past(self.next.prev(), deadline) else { return Ok(None) };
            if view.is_closed {
                return Err(ReplicaError::Closed);
            }
            self.read(&view)?;
        }
    }

    fn read(&mut self, view: &View) -> Result<()> {
        let Some(reader) = &view.reader else { return Ok(()) };
        let (records, next) = match read_records(reader, self.next, view.through, READ_BYTES) {
            // The store has failed, and the node is about to hear of it: then there will be another reader.
            Err(ReplicaError::Log(Error::Closed)) => {
                std::thread::yield_now();
                return Ok(());
            }
            read => read?,
        };
        self.ready.extend(records);
        self.next = next;
        Ok(())
    }
}

impl Iterator for Subscription {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.has_failed {
            return None;
        }
        match self.next_until(None) {
            Ok(record) => record.map(Ok),
            Err(ReplicaError::Closed) => None,
            Err(error) => {
                self.has_failed = true;
                Some(Err(error))
            }
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("position", &self.position()).finish_non_exhaustive()
    }
}
