//! The remote client of a cluster: finds the primary, follows it through failover, and has each append taken once.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = alone(|options| options)?;
//! # let (address, files) = (&cluster.address, &cluster.client);
//! use annals::Lsn;
//! use annals::client::ClientOptions;
//!
//! // Any replicas of the cluster: those that answer tell of the others.
//! let client = ClientOptions::new([address])
//!     .certificates(&files.ca, &files.cert, &files.key)
//!     .connect()?;
//! let receipt = client.append(b"two lamps")?.wait()?; // synced by a quorum
//! println!("record {} is on {:?}", receipt.lsn(), receipt.holders());
//!
//! let mut records = client.subscribe(Lsn::FIRST); // waits for more at the end
//! let record = records.next().expect("it goes on for ever")?;
//! assert_eq!((record.lsn, &record.bytes[..]), (receipt.lsn(), &b"two lamps"[..]));
//! client.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything that is asked returns at once, with a promise that can be waited for, with or without a timeout, or awaited
//! in any runtime. What an error means is in its type: [`ClientError::Unknown`] says that nobody knows whether it was
//! done, and every other one that it was not, and never will be.
//!
//! # Appends
//!
//! A client registers a producer with its first append, and numbers its records: when a primary dies with the answer in
//! its mouth, the client asks the next one with the same numbers, and the record is taken once. Appends of one client,
//! and of its clones, are taken in their order. While some are on their way the next gather, and go together in one
//! request: give all threads a clone of one client rather than a client each.
//!
//! What is in flight is bounded: past that [`append`](Client::append) waits, [`append_async`](Client::append_async) is
//! awaited without blocking the thread, and [`try_append`](Client::try_append) says so. An append that is not done by the
//! [deadline](ClientOptions::deadline) is given up.
//!
//! This room may import `transport` and all above it. The client's mind is `machine`, which knows no thread, clock or
//! connection; the rest carries out what it says.

mod appends;
mod clock;
mod error;
mod machine;
mod network;
mod options;
mod shared;
mod subscription;
#[cfg(test)]
mod testing;
mod ticket;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::machine::{Call, Machine, Settings};
use self::network::Network;
use self::shared::Shared;
use crate::protocol::Change;
use crate::protocol::request::{NodeStatus, Reply, Request};
use crate::types::{Lsn, LsnRange, ReplicaId};

pub use self::error::{ClientError, Result};
pub use self::machine::Target;
pub use self::options::ClientOptions;
pub use self::subscription::{Record, Subscription};
pub use self::ticket::{Answer, Receipt, Ticket};

/// Bytes of records that a subscription has on their way or waiting, unless it is told otherwise.
const WINDOW_BYTES: u64 = 4 << 20;
/// A record of this part of a request's bytes is copied before it is given to the machine, and goes alone.
const ALONE_PART: usize = 4;

/// A cluster, from afar. Cheap to clone; all clones are one client, with one order of appends.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Ends the client with the last handle or ticket.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    deadline: Duration,
    /// A record of so many bytes goes alone.
    alone_bytes: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.with(|machine, _| machine.close());
    }
}

/// What a read has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Records {
    /// The records, in order; the protocol's own are left out.
    pub records: Vec<Record>,
    /// The LSN to go on at.
    pub next: Lsn,
    /// Everything up to here is known to be committed.
    pub committed: Lsn,
}

/// Stored frames, to mend a damaged log with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frames {
    /// Which records they hold.
    pub range: LsnRange,
    /// The frames as they are stored, back to back.
    pub bytes: Bytes,
}

impl Client {
    fn start(settings: Settings, endpoints: &[Arc<str>], network: Arc<dyn Network>) -> Client {
        let (deadline, alone_bytes) = (settings.deadline, settings.unit_bytes / ALONE_PART);
        // Randomly keyed by the standard library: enough for clients not to do all the same at the same time.
        let seed = RandomState::new().hash_one(endpoints);
        let shared = Shared::new(Machine::new(settings, endpoints, seed), network);
        Client { handle: Arc::new(Handle { shared, deadline, alone_bytes }) }
    }

    /// Committed records from one on: as many as are there and fit into so many bytes, at least one unless there is none.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use annals::Lsn;
    /// use annals::client::Target;
    ///
    /// client.append(b"two lamps")?.wait()?;
    /// // Everything that was acknowledged before this was asked is at or before `end`.
    /// let end = client.linearizable_read().wait()?;
    /// let read = client.read(Target::Primary, Lsn::FIRST, 1 << 20).wait()?;
    /// assert_eq!(read.records.len(), 1);
    /// assert!(read.next > end); // where to go on
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(&self, target: Target, from: Lsn, bytes_max: u32) -> Answer<Records> {
        self.ask(target, Request::Read { from, bytes_max }, |reply, payload| match reply {
            Reply::Records { records, next, committed } if machine::is_whole(records, payload) => {
                let records = subscription::split(records, payload.clone()).collect();
                Ok(Records { records, next: *next, committed: *committed })
            }
            _ => Err(ClientError::BadReply),
        })
    }

    /// Committed records from one on, as they come, from the primary.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use annals::Lsn;
    ///
    /// client.append_batch(&["two lamps", "one shade"])?.wait()?;
    /// for record in client.subscribe(Lsn::FIRST).take(2) {
    ///     let record = record?;
    ///     println!("{}: {} bytes", record.lsn, record.bytes.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, from: Lsn) -> Subscription {
        self.subscribe_with(Target::Primary, from, WINDOW_BYTES)
    }

    /// Committed records from one on, as they come, with at most so many bytes on their way or waiting to be read.
    pub fn subscribe_with(&self, target: Target, from: Lsn, window_bytes: u64) -> Subscription {
        Subscription::new(&self.handle, target, from, window_bytes)
    }

    /// What a replica says of itself, and on the primary of the others.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use annals::client::Target;
    ///
    /// let status = client.status(Target::Primary).wait()?;
    /// assert_eq!(status.primary, Some(status.id));
    /// println!("replica {} leads in epoch {}", status.id, status.epoch);
    /// # Ok(())
    /// # }
    /// ```
    pub fn status(&self, target: Target) -> Answer<NodeStatus> {
        self.ask(target, Request::Status, |reply, _| match reply {
            Reply::Status(status) => Ok(NodeStatus::clone(status)),
            _ => Err(ClientError::BadReply),
        })
    }

    /// Up to which LSN must be read to see everything that was acknowledged before this was asked?
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// let receipt = client.append_durable(b"two lamps")?;
    /// // Whoever has seen everything up to here misses nothing that was acknowledged, to anybody.
    /// assert!(client.linearizable_read().wait()? >= receipt.lsn());
    /// # Ok(())
    /// # }
    /// ```
    pub fn linearizable_read(&self) -> Answer<Lsn> {
        self.ask(Target::Primary, Request::Linearize, |reply, _| match reply {
            Reply::Linearized(lsn) => Ok(*lsn),
            _ => Err(ClientError::BadReply),
        })
    }

    /// Hands the primary's role over, to this replica or whichever has most. Appends go on meanwhile.
    ///
    /// ```no_run
    /// # fn hand_over(client: &annals::client::Client) -> annals::client::Result<()> {
    /// client.transfer(Some(annals::ReplicaId::new(2))).wait() // replica 2 leads then
    /// # }
    /// ```
    pub fn transfer(&self, to: Option<ReplicaId>) -> Answer<()> {
        self.command(Target::Primary, Request::Transfer { to })
    }

    /// Has a replica stand for election now: with the [manual policy](crate::protocol::FailoverPolicy::Manual), when the
    /// primary is gone. While the replica hears one, this is refused: [`transfer`](Client::transfer) hands over.
    ///
    /// It is elected by a quorum of the voters, and not without one: what brings a quorum back is its replicas. If those are
    /// gone for good, the way out is a new cluster with the records of a survivor.
    ///
    /// ```no_run
    /// # fn choose(client: &annals::client::Client) -> annals::client::Result<()> {
    /// use annals::ReplicaId;
    /// use annals::client::Target;
    ///
    /// client.promote(Target::Replica(ReplicaId::new(2))).wait() // its status tells whether it was elected
    /// # }
    /// ```
    pub fn promote(&self, target: Target) -> Answer<()> {
        self.command(target, Request::Promote)
    }

    /// Has a replica take a snapshot now. The answer is up to which LSN it covers.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use annals::client::Target;
    ///
    /// client.append_durable(b"two lamps")?;
    /// let covered = client.snapshot(Target::Primary).wait()?;
    /// client.trim(Target::Primary, covered).wait()?; // the log need not hold that any more
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot(&self, target: Target) -> Answer<Lsn> {
        self.ask(target, Request::Snapshot, |reply, _| match reply {
            Reply::SnapshotTaken(lsn) => Ok(*lsn),
            _ => Err(ClientError::BadReply),
        })
    }

    /// Has a replica forget the records up to and with this one, as far as its snapshot covers them.
    pub fn trim(&self, target: Target, through: Lsn) -> Answer<()> {
        self.command(target, Request::Trim { through })
    }

    /// Changes the membership.
    ///
    /// ```no_run
    /// # fn leave(client: &annals::client::Client) -> annals::client::Result<()> {
    /// use annals::ReplicaId;
    /// use annals::protocol::Change;
    ///
    /// client.change(Change::Remove(ReplicaId::new(2))).wait()
    /// # }
    /// ```
    pub fn change(&self, change: Change) -> Answer<()> {
        self.command(Target::Primary, Request::Change(change))
    }

    /// Frames of committed records as a replica has stored them, at most so many bytes and at least one frame.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn frames(&self, target: Target, range: RangeInclusive<Lsn>, bytes_max: u32) -> Answer<Frames> {
        let range = LsnRange::new(*range.start(), *range.end()).expect("a range that is not empty");
        self.ask(target, Request::Frames { range, bytes_max }, |reply, payload| match reply {
            Reply::Frames { range } => Ok(Frames { range: *range, bytes: payload.clone() }),
            _ => Err(ClientError::BadReply),
        })
    }

    /// Reads the certificate files again, for connections to come; those that stand go on as they are. So a client that
    /// lives long outlives its certificate: put the new files into the places of the old ones, and call this.
    ///
    /// It is done on a thread of its own, and waits for the disk alone, whatever the deadline. Clients that were made apart,
    /// with the same files, each do it for themselves.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use annals::protocol::request::ClientRole;
    /// # use annals::transport::certs::{Authority, Validity};
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// client.append_durable(b"two lamps")?;
    /// # let authority = Authority::open(cluster.dir.path())?;
    /// # authority.client(ClientRole::Admin, "me", Validity::days(90))?.write(cluster.dir.path(), "admin-me")?;
    /// // Once there are new files, and without a connection that is lost by it.
    /// client.reload_certificates().wait()?;
    /// client.append_durable(b"one shade")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The answer is [`ClientError::Network`] if the files cannot be used, or are for another cluster, with the reason; those
    /// from before stay in use.
    pub fn reload_certificates(&self) -> Answer<()> {
        let outcome = self.handle.shared.reload();
        Answer::new(outcome, |_, _| Ok(()), Arc::clone(&self.handle))
    }

    /// Waits until all appends are settled, and ends the client. Clones of it can do nothing any more.
    ///
    /// # Errors
    /// None yet: what became of each append is told by its ticket.
    pub fn close(self) -> Result<()> {
        self.handle.shared.drain();
        self.handle.shared.with(|machine, _| machine.close());
        Ok(())
    }

    fn command(&self, target: Target, request: Request) -> Answer<()> {
        self.ask(target, request, |reply, _| match reply {
            Reply::Done => Ok(()),
            _ => Err(ClientError::BadReply),
        })
    }

    fn ask<T>(&self, target: Target, request: Request, read: fn(&Reply, &Bytes) -> Result<T>) -> Answer<T> {
        let deadline = self.handle.deadline;
        let outcome = self.handle.shared.with(|machine, now| {
            let deadline = now + deadline;
            machine.call(now, Call { target, request, deadline })
        });
        Answer::new(outcome, read, Arc::clone(&self.handle))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
