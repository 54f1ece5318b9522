//! The handle of a running replica.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{ReplicaError, Result};
use super::life::Life;
use super::mail::Note;
use super::subscription::{Record, Subscription};
use super::ticket::{Receipt, Ticket, promise};
use crate::protocol::request::{Copies, NodeStatus, Reply, Request};
use crate::protocol::{Change, Member};
use crate::types::{DiskId, Lsn, ProducerId, ReplicaId};

/// A running replica of a log. Cheap to clone; all clones are one replica.
///
/// What it is asked goes the same way as what a client asks over the network. When the last clone is dropped, the
/// replica stops at once, as if its process had ended; [`shutdown`](Replica::shutdown) says goodbye.
///
/// ```
/// # #[cfg(not(feature = "quic"))] fn main() {}
/// # #[cfg(feature = "quic")] include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
/// # #[cfg(feature = "quic")] fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = alone(|options| options)?;
/// # let replica = cluster.replica.clone();
/// // Only the primary appends; another one's error says who is.
/// let receipt = replica.append(b"two lamps")?.wait()?; // synced by a write quorum
///
/// // Whoever is primary: what is committed, as far as this replica knows.
/// let record = replica.read(receipt.lsn())?.expect("a record, and none of the protocol's own");
/// assert_eq!(&record.bytes[..], b"two lamps");
///
/// // All that was acknowledged anywhere before this was asked is at or before `end`, and shown here.
/// let end = replica.linearizable_read()?.wait()?;
/// assert!(end >= receipt.lsn());
///
/// // What a snapshot covers can be forgotten.
/// let covered = replica.snapshot()?.wait()?;
/// replica.trim(covered)?.wait()?;
/// replica.shutdown()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Replica {
    life: Arc<Life>,
}

impl Replica {
    pub(super) fn new(life: Arc<Life>) -> Replica {
        Replica { life }
    }

    /// Appends a record, to be synced on a write quorum of replicas. Only the primary takes it.
    ///
    /// Returns at once. Records are appended in the order in which one thread hands them over.
    ///
    /// # Errors
    /// [`Refused::NotPrimary`](crate::protocol::request::Refused::NotPrimary) once a shutdown has begun: it is not appended.
    /// All else is told by the ticket: that another replica is primary, that too much waits already, that nobody knows
    /// whether it lasts.
    pub fn append(&self, record: &[u8]) -> Result<Ticket<Receipt>> {
        self.append_with(&[record], Copies::Quorum, None)
    }

    /// Appends records that live or die together.
    ///
    /// ```
    /// # #[cfg(not(feature = "quic"))] fn main() {}
    /// # #[cfg(feature = "quic")] include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # #[cfg(feature = "quic")] fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let replica = cluster.replica.clone();
    /// let receipt = replica.append_batch(&["two lamps", "one shade"])?.wait()?;
    /// assert_eq!(receipt.range().map(|range| range.records()), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Replica::append).
    pub fn append_batch(&self, records: &[impl AsRef<[u8]>]) -> Result<Ticket<Receipt>> {
        self.append_with(records, Copies::Quorum, None)
    }

    /// Appends records that live or die together, and waits for as many copies as is said; with a producer and its
    /// sequence number of the first of them, a retry is taken once.
    ///
    /// ```
    /// # #[cfg(not(feature = "quic"))] fn main() {}
    /// # #[cfg(feature = "quic")] include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # #[cfg(feature = "quic")] fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let replica = cluster.replica.clone();
    /// use annals::protocol::request::Copies;
    ///
    /// let producer = replica.register()?.wait()?;
    /// for _ in 0..2 {
    ///     // As one does who has not seen the first answer: the same number, so it is taken once.
    ///     let receipt = replica.append_with(&["two lamps"], Copies::All, Some((producer, 1)))?.wait()?;
    ///     println!("record {}, for the second time: {}", receipt.lsn(), receipt.is_duplicate());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Replica::append).
    pub fn append_with(
        &self,
        records: &[impl AsRef<[u8]>],
        copies: Copies,
        producer: Option<(ProducerId, u64)>,
    ) -> Result<Ticket<Receipt>> {
        let sizes = records.iter().map(|record| u32::try_from(record.as_ref().len()).unwrap_or(u32::MAX));
        let sizes = sizes.collect();
        let payload = match records {
            [record] => Bytes::copy_from_slice(record.as_ref()),
            records => {
                let bytes = records.iter().map(|record| record.as_ref().len()).sum();
                let mut payload = Vec::with_capacity(bytes);
                records.iter().for_each(|record| payload.extend_from_slice(record.as_ref()));
                payload.into()
            }
        };
        self.ask(Request::Append { producer, copies, sizes }, payload, appended)
    }

    /// A producer id, to number appends with, so that a retry is taken once.
    ///
    /// # Errors
    /// As for [`append`](Replica::append).
    pub fn register(&self) -> Result<Ticket<ProducerId>> {
        self.ask(Request::Register, Bytes::new(), |reply| match reply {
            Reply::Registered(id) => Ok(id),
            other => refused(other),
        })
    }

    /// The committed records from one on, as they come: those that this replica has, whoever is primary.
    ///
    /// ```
    /// # #[cfg(not(feature = "quic"))] fn main() {}
    /// # #[cfg(feature = "quic")] include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # #[cfg(feature = "quic")] fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let replica = cluster.replica.clone();
    /// use annals::Lsn;
    ///
    /// let receipt = replica.append(b"two lamps")?.wait()?;
    /// let record = replica.subscribe(Lsn::FIRST).next().expect("it goes on for ever")?;
    /// assert_eq!((record.lsn, &record.bytes[..]), (receipt.lsn(), &b"two lamps"[..]));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn subscribe(&self, from: Lsn) -> Subscription {
        Subscription::new(Arc::clone(&self.life.shown), Arc::clone(&self.life.mail), from)
    }

    /// Reads a committed record; `None` if it is the protocol's own. What was acknowledged can be read
    /// at once if this replica's disk has it, too: that may be slower than those of a quorum, and a
    /// [linearizable read](Replica::linearizable_read) waits for it.
    ///
    /// # Errors
    /// [`Error::BeyondEnd`](crate::Error::BeyondEnd) if it is not committed yet, as far as known here, or not synced here;
    /// [`Refused::Trimmed`](crate::protocol::request::Refused::Trimmed) if it is not there any more;
    /// [`Refused::Busy`](crate::protocol::request::Refused::Busy) while the log is opened again after a failure of the disk.
    pub fn read(&self, lsn: Lsn) -> Result<Option<Record>> {
        self.life.shown.read_one(&self.life.mail, lsn)
    }

    /// Up to which LSN must be read to see all that was acknowledged before this was asked (S8)? Answered once this
    /// replica shows it. Only the primary knows.
    ///
    /// # Errors
    /// [`ReplicaError::Closed`] after a shutdown. All else is told by the ticket.
    pub fn linearizable_read(&self) -> Result<Ticket<Lsn>> {
        self.ask(Request::Linearize, Bytes::new(), |reply| match reply {
            Reply::Linearized(lsn) => Ok(lsn),
            other => refused(other),
        })
    }

    /// Answered once this replica's state machine has been given everything up to and with this record, be it a snapshot that
    /// holds it or records, of the protocol's own too; without a state machine, once it is shown. Says how far it is then.
    ///
    /// After a [linearizable read](Replica::linearizable_read) it tells that the machine has seen all that the read must see:
    ///
    /// ```no_run
    /// # async fn answer(replica: &annals::node::Replica) -> Result<(), annals::node::ReplicaError> {
    /// let through = replica.linearizable_read()?.await?;
    /// replica.applied(through)?.await?;
    /// // What the state machine holds now is no older than the question.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A record that is never committed is waited for until the replica is shut down: wait with a
    /// [timeout](Ticket::wait_timeout) where that may be.
    ///
    /// # Errors
    /// [`ReplicaError::Closed`] after a shutdown.
    pub fn applied(&self, through: Lsn) -> Result<Ticket<Lsn>> {
        let (ticket, promise) = promise(|reply| match reply {
            Reply::Linearized(lsn) => Ok(lsn),
            other => refused(other),
        });
        self.life.mail.leave(Note::AwaitApplied { through, promise })?;
        Ok(ticket)
    }

    /// What this replica is, and what it knows. Blocks for as long as a turn of the network's thread takes;
    /// [`status_ticket`](Replica::status_ticket) does not.
    ///
    /// # Errors
    /// [`ReplicaError::Closed`] after a shutdown.
    pub fn status(&self) -> Result<NodeStatus> {
        self.status_ticket()?.wait()
    }

    /// The same as [`status`](Replica::status), to be awaited.
    ///
    /// # Errors
    /// [`ReplicaError::Closed`] after a shutdown.
    pub fn status_ticket(&self) -> Result<Ticket<NodeStatus>> {
        self.ask(Request::Status, Bytes::new(), |reply| match reply {
            Reply::Status(status) => Ok(*status),
            other => refused(other),
        })
    }

    /// Hands the primary's role over: to this replica, or to whoever has most. No append fails by it.
    ///
    /// ```no_run
    /// # fn hand_over(replica: &annals::node::Replica) -> Result<(), annals::node::ReplicaError> {
    /// replica.transfer_to(None)?.wait() // to whoever has most
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`linearizable_read`](Replica::linearizable_read).
    pub fn transfer_to(&self, id: Option<ReplicaId>) -> Result<Ticket<()>> {
        self.ask(Request::Transfer { to: id }, Bytes::new(), done)
    }

    /// Stands for election now: for [`FailoverPolicy::Manual`](crate::protocol::FailoverPolicy::Manual). Done means that
    /// it stands, or leads already; its [status](Replica::status) tells whether it is elected.
    ///
    /// # Errors
    /// [`Refused::NotPossible`](crate::protocol::request::Refused::NotPossible) while it hears a primary, which can hand over,
    /// and if it may not lead; [`Refused::Busy`](crate::protocol::request::Refused::Busy) in the first moment after its start.
    pub fn promote(&self) -> Result<Ticket<()>> {
        self.ask(Request::Promote, Bytes::new(), done)
    }

    /// Forgets the records of this replica up to and with this one, as far as a snapshot covers them and no laggard needs
    /// them. Without a state machine a snapshot that covers them is taken first.
    ///
    /// # Errors
    /// As for [`linearizable_read`](Replica::linearizable_read).
    pub fn trim(&self, through: Lsn) -> Result<Ticket<()>> {
        self.ask(Request::Trim { through }, Bytes::new(), done)
    }

    /// Takes a snapshot on this replica, and says what it covers. Appends go on meanwhile.
    ///
    /// # Errors
    /// As for [`linearizable_read`](Replica::linearizable_read).
    pub fn snapshot(&self) -> Result<Ticket<Lsn>> {
        self.ask(Request::Snapshot, Bytes::new(), |reply| match reply {
            Reply::SnapshotTaken(lsn) => Ok(lsn),
            other => refused(other),
        })
    }

    /// Adds a replica as a learner: it receives the log, and does not vote. `disk` is what its own
    /// [`join`](super::ReplicaOptions::join), or its status, says. To make it a voter, see
    /// [`promote_learner`](Replica::promote_learner).
    ///
    /// ```no_run
    /// # fn add(replica: &annals::node::Replica, disk: annals::DiskId) -> Result<(), annals::node::ReplicaError> {
    /// use annals::ReplicaId;
    /// use annals::protocol::Stage;
    /// use annals::protocol::request::NodeStatus;
    ///
    /// let four = ReplicaId::new(4);
    /// replica.add_replica(four, disk)?.wait()?; // gets the log from now on
    /// let has_all = |status: NodeStatus| {
    ///     status.peers.iter().any(|peer| peer.id == four && peer.stage == Stage::Streaming)
    /// };
    /// while !has_all(replica.status()?) {
    ///     std::thread::sleep(std::time::Duration::from_millis(100));
    /// }
    /// replica.promote_learner(four, 0)?.wait() // has it all, and votes
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Replica::append).
    pub fn add_replica(&self, id: ReplicaId, disk: DiskId) -> Result<Ticket<()>> {
        self.change(Change::AddLearner(Member { id, disk }))
    }

    /// Makes a voter of a learner that has caught up.
    ///
    /// # Errors
    /// As for [`append`](Replica::append).
    pub fn promote_learner(&self, id: ReplicaId, priority: u8) -> Result<Ticket<()>> {
        self.change(Change::PromoteLearner { id, priority })
    }

    /// Takes a replica out of the membership.
    ///
    /// # Errors
    /// As for [`append`](Replica::append).
    pub fn remove_replica(&self, id: ReplicaId) -> Result<Ticket<()>> {
        self.change(Change::Remove(id))
    }

    /// Changes the membership; see [`Change`].
    ///
    /// # Errors
    /// As for [`append`](Replica::append).
    pub fn change(&self, change: Change) -> Result<Ticket<()>> {
        self.ask(Request::Change(change), Bytes::new(), done)
    }

    /// Where it is reached; `None` in a network of memory.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.life.local_addr()
    }

    /// Reads the certificates again, for connections to come.
    ///
    /// # Errors
    /// [`ReplicaError::Network`] if they cannot be used; those from before stay in use.
    pub fn reload_certificates(&self) -> Result<()> {
        self.life.reload_certificates()
    }

    /// Hands the primary's role over, if it has it, syncs what is written, and ends. What is asked to be appended from now
    /// on is refused, whatever comes of the hand-over: ask another replica. What still waits at the end is answered with
    /// [`ReplicaError::Closed`].
    ///
    /// # Errors
    /// [`ReplicaError::Log`] if the log could not be closed cleanly: it will be recovered when it is opened again.
    /// [`ReplicaError::TimedOut`] if that takes longer than [`close_max`](crate::node::ReplicaOptions::close_max),
    /// because the disk stands still: the directory stays locked until it goes on, or the process ends.
    pub fn shutdown(self) -> Result<()> {
        self.life.shut_down()
    }

    /// Asks, as a client would.
    pub(super) fn ask<T>(
        &self,
        request: Request,
        payload: Bytes,
        read: fn(Reply) -> Result<T>,
    ) -> Result<Ticket<T>> {
        let (ticket, promise) = promise(read);
        self.life.ask(request, payload, promise)?;
        Ok(ticket)
    }
}

fn appended(reply: Reply) -> Result<Receipt> {
    match reply {
        Reply::Appended(appended) => Ok(Receipt::new(appended)),
        other => refused(other),
    }
}

fn done(reply: Reply) -> Result<()> {
    match reply {
        Reply::Done => Ok(()),
        other => refused(other),
    }
}

/// What a reply means that is not the one which was asked for.
fn refused<T>(reply: Reply) -> Result<T> {
    match reply {
        Reply::Refused(refused) => Err(ReplicaError::Refused(refused)),
        other => unreachable!("a reply of another kind: {other:?}"),
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("me", &self.life.me).finish_non_exhaustive()
    }
}
