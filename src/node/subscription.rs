//! Committed records in order, as they come, for a program that runs a replica itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::error::{ReplicaError, Result};
use super::mail::Mail;
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
    mail: Arc<Mail>,
    /// The next LSN to be read from the log.
    next: Lsn,
    ready: VecDeque<Record>,
    /// The opening of the store that could not be read any more.
    failed: Option<u64>,
    has_failed: bool,
}

impl Subscription {
    pub(crate) fn new(shown: Arc<Shown>, mail: Arc<Mail>, from: Lsn) -> Subscription {
        let (next, ready) = (from.max(Lsn::FIRST), VecDeque::new());
        Subscription { shown, mail, next, ready, failed: None, has_failed: false }
    }

    /// The next record, if it comes within this time; `None` if not.
    ///
    /// ```
    /// # #[cfg(not(feature = "quic"))] fn main() {}
    /// # #[cfg(feature = "quic")] include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # #[cfg(feature = "quic")] fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let replica = cluster.replica.clone();
    /// use std::time::Duration;
    ///
    /// use annals::Lsn;
    ///
    /// let mut records = replica.subscribe(Lsn::FIRST);
    /// assert!(records.next_timeout(Duration::from_millis(1))?.is_none(), "nobody has appended yet");
    /// replica.append(b"two lamps")?.wait()?;
    /// assert_eq!(&records.next().expect("one was appended")?.bytes[..], b"two lamps");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Refused::Trimmed`](crate::protocol::request::Refused::Trimmed) if the replica has it no more, [`ReplicaError::Closed`] once it is shut down,
    /// [`ReplicaError::Log`] if it cannot be read here.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record>> {
        self.next_until(Instant::now().checked_add(timeout))
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
            let Some(view) = self.shown.wait_past(self.next.prev(), self.failed, deadline) else {
                return Ok(None);
            };
            if view.is_closed {
                return Err(ReplicaError::Closed);
            }
            self.read(&view)?;
        }
    }

    fn read(&mut self, view: &View) -> Result<()> {
        let Some(reader) = &view.reader else { return Ok(()) };
        let (records, next) = match read_records((reader, &self.mail), self.next, view.through, READ_BYTES) {
            // The store has failed, and the node is about to hear of it: then there will be another reader.
            Err(ReplicaError::Log(Error::Closed)) => {
                self.failed = Some(view.openings);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::SimDisk;
    use crate::node::frames::frame_group;
    use crate::node::place::Bell;
    use crate::node::store::{ReplicaStore, StoreOptions};
    use crate::protocol::{Base, Content, Group, Member, Membership, Quorums, Voter};
    use crate::types::{DiskId, LsnRange, ReplicaId};

    const SOON: Duration = Duration::from_millis(20);

    fn open(disk: &Arc<dyn Disk>) -> ReplicaStore {
        ReplicaStore::open(disk, StoreOptions::default()).unwrap().0.unwrap()
    }

    fn write(store: &mut ReplicaStore, lsn: u64, content: Content, records: &[&[u8]]) {
        let range = LsnRange { first: Lsn::new(lsn), last: Lsn::new(lsn) };
        let mut group = Group { epoch: Epoch::new(1), range, bytes: 0, content };
        let frames = Bytes::from(frame_group(&group, records));
        group.bytes = frames.len() as u64;
        store.write(&group, frames).unwrap();
        store.sync().unwrap();
    }

    /// Whoever waits sleeps, whatever becomes of the store meanwhile, and looks at the clock.
    #[test]
    fn a_subscription_waits_while_the_store_is_away_or_has_lost_its_newest_records() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let member = Member { id: ReplicaId::new(1), disk: DiskId::new(1) };
        let voters = vec![Voter { member, priority: 0 }];
        let membership = Some(Arc::new(Membership::first(voters, Quorums::Majority)));
        ReplicaStore::create(&*disk, member, &Base { membership, ..Base::default() }).unwrap();
        let mut store = open(&disk);
        write(&mut store, 1, Content::EpochStart, &[]);
        write(&mut store, 2, Content::PLAIN, &[b"one"]);

        let (shown, (mail, _notes)) = (Shown::new(), Mail::new(Bell::new(|| {})));
        shown.reopened(Some(store.reader()));
        shown.advance(Lsn::new(2));
        let mut subscription = Subscription::new(Arc::clone(&shown), mail, Lsn::FIRST);
        assert_eq!(subscription.next_timeout(SOON).unwrap().unwrap().bytes, b"one"[..]);
        // Three more were shown, and then lost: the disk had not synced them.
        shown.advance(Lsn::new(5));
        assert_eq!(shown.reopened(Some(store.reader())), Lsn::new(2));
        assert_eq!(subscription.next_timeout(SOON).unwrap(), None);
        write(&mut store, 3, Content::PLAIN, &[b"two"]);
        // It has failed, and the node has not heard of it.
        shown.advance(Lsn::new(3));
        drop(store);
        assert_eq!(subscription.next_timeout(SOON).unwrap(), None);
        let store = open(&disk);
        shown.reopened(Some(store.reader()));
        assert_eq!(subscription.next_timeout(SOON).unwrap().unwrap().bytes, b"two"[..]);
        shown.close();
        assert!(matches!(subscription.next_timeout(SOON), Err(ReplicaError::Closed)));
    }
}
