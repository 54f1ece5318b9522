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
//! What is in flight is bounded: past that [`append`](Client::append) waits, and [`try_append`](Client::try_append) says
//! so. An append that is not done by the [deadline](ClientOptions::deadline) is given up.
//!
//! This room may import `transport` and all above it. The client's mind is `machine`, which knows no thread, clock or
//! connection; the rest carries out what it says.

mod clock;
mod error;
mod machine;
mod network;
mod options;
mod shared;
mod subscription;
mod ticket;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::machine::{Batch, Call, Machine, Place, Settings};
use self::network::Network;
use self::options::BATCH_RECORDS_MAX;
use self::shared::Shared;
use crate::protocol::Change;
use crate::protocol::request::{Copies, NodeStatus, Reply, Request};
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

    /// Appends a record, to be synced by a write quorum. Returns at once with a ticket, unless too much is in flight: then
    /// it waits for room.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// let tickets = [client.append(b"one")?, client.append(b"two")?]; // on their way together
    /// let mut lsns = Vec::new();
    /// for ticket in tickets {
    ///     lsns.push(ticket.wait()?.lsn());
    /// }
    /// assert_eq!(lsns[1], lsns[0].next());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] if there is no room by the deadline, and what the ticket says.
    pub fn append(&self, record: &[u8]) -> Result<Ticket> {
        self.append_with(record, Copies::Quorum)
    }

    /// Appends a record and says how durable it is to be before its ticket is answered.
    ///
    /// With [`Copies::Local`] it may be lost after that, so it is not numbered either: if the primary is lost before it
    /// answers, the outcome is [`ClientError::Unknown`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use annals::protocol::request::Copies;
    ///
    /// let receipt = client.append_with(b"two lamps", Copies::All)?.wait()?; // synced by every voter
    /// assert!(receipt.is_committed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Client::append).
    pub fn append_with(&self, record: &[u8], copies: Copies) -> Result<Ticket> {
        if let Some(batch) = self.alone(record)? {
            return self.append_alone(batch, copies);
        }
        let deadline = Instant::now() + self.handle.deadline;
        let place = self.handle.shared.with_room(deadline, |machine, now| {
            machine.append(now, copies, [record].into_iter(), record.len())
        });
        self.ticket(place)
    }

    /// Appends a record if there is room for it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// use annals::client::ClientError;
    ///
    /// match client.try_append(b"two lamps") {
    ///     Ok(ticket) => println!("it is record {}", ticket.wait()?.lsn()),
    ///     Err(ClientError::Full) => println!("too much is on its way: later"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Full`] if not, and what the ticket says.
    pub fn try_append(&self, record: &[u8]) -> Result<Ticket> {
        let copies = Copies::Quorum;
        let place = match self.alone(record)? {
            Some(batch) => {
                self.handle.shared.with_room_now(|machine, now| machine.append_whole(now, copies, batch))
            }
            None => self.handle.shared.with_room_now(|machine, now| {
                machine.append(now, copies, [record].into_iter(), record.len())
            }),
        };
        self.ticket(place)
    }

    /// Appends a record, and awaits room for it instead of blocking; the ticket is awaited by itself.
    ///
    /// ```no_run
    /// # async fn order(client: &annals::client::Client) -> annals::client::Result<()> {
    /// let ticket = client.append_async(b"two lamps").await?; // has its place
    /// let receipt = ticket.await?; // is synced by a quorum
    /// # let _ = receipt;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the ticket says.
    pub async fn append_async(&self, record: &[u8]) -> Result<Ticket> {
        loop {
            match self.try_append(record) {
                Err(ClientError::Full) => {
                    poll_fn(|context| self.handle.shared.poll_room(context)).await;
                }
                appended => return appended,
            }
        }
    }

    /// Appends records that live or die together, with LSNs that follow on one another.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = alone(|options| options)?;
    /// # let files = &cluster.client;
    /// # let client = annals::client::ClientOptions::new([&cluster.address])
    /// #     .certificates(&files.ca, &files.cert, &files.key)
    /// #     .connect()?;
    /// let receipt = client.append_batch(&["two lamps", "one shade"])?.wait()?;
    /// assert_eq!(receipt.range().map(|range| range.records()), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError::EmptyBatch`] without any, [`ClientError::TooManyRecords`] with more than 65,536; otherwise as for
    /// [`append`](Client::append).
    pub fn append_batch<T: AsRef<[u8]>>(&self, records: &[T]) -> Result<Ticket> {
        self.append_batch_with(records, Copies::Quorum)
    }

    /// Appends records that live or die together, and says how durable they are to be.
    ///
    /// # Errors
    /// As for [`append_batch`](Client::append_batch).
    pub fn append_batch_with<T: AsRef<[u8]>>(&self, records: &[T], copies: Copies) -> Result<Ticket> {
        if records.is_empty() {
            return Err(ClientError::EmptyBatch);
        }
        if records.len() > BATCH_RECORDS_MAX {
            let (records, max) = (records.len() as u64, BATCH_RECORDS_MAX as u64);
            return Err(ClientError::TooManyRecords { records, max });
        }
        let bytes = records.iter().map(|record| record.as_ref().len()).sum();
        if bytes >= self.handle.alone_bytes {
            return self.append_alone(put_together(records.iter().map(AsRef::as_ref), bytes)?, copies);
        }
        let deadline = Instant::now() + self.handle.deadline;
        let place = self.handle.shared.with_room(deadline, |machine, now| {
            machine.append(now, copies, records.iter().map(AsRef::as_ref), bytes)
        });
        self.ticket(place)
    }

    /// Appends a record and waits for it.
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
    /// println!("record {} is on {:?}", receipt.lsn(), receipt.holders());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`append`](Client::append) and [`Ticket::wait`].
    pub fn append_durable(&self, record: &[u8]) -> Result<Receipt> {
        self.append(record)?.wait()
    }

    /// A large record, copied here: not under the lock of all.
    fn alone(&self, record: &[u8]) -> Result<Option<Batch>> {
        if record.len() < self.handle.alone_bytes {
            return Ok(None);
        }
        put_together([record].into_iter(), record.len()).map(Some)
    }

    fn append_alone(&self, batch: Batch, copies: Copies) -> Result<Ticket> {
        let deadline = Instant::now() + self.handle.deadline;
        let place =
            self.handle.shared.with_room(deadline, |machine, now| machine.append_whole(now, copies, batch));
        self.ticket(place)
    }

    fn ticket(&self, place: Result<Place>) -> Result<Ticket> {
        place.map(|place| Ticket::new(place, Arc::clone(&self.handle)))
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

    /// Has a replica stand for election now: with the manual policy, and when a quorum has to be found again.
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

/// Records back to back, of so many bytes in all.
fn put_together<'a>(records: impl Iterator<Item = &'a [u8]>, bytes: usize) -> Result<Batch> {
    let mut sizes = Vec::with_capacity(records.size_hint().0);
    let mut payload = Vec::with_capacity(bytes);
    for record in records {
        let too_large = || ClientError::TooLarge { bytes: record.len() as u64, max: u64::from(u32::MAX) };
        sizes.push(u32::try_from(record.len()).map_err(|_| too_large())?);
        payload.extend_from_slice(record);
    }
    Ok(Batch { sizes, payload: payload.into() })
}
