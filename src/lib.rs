//! A durable append-only log: segmented, checksummed, memory-mapped, with group commit; replicated where one disk is not
//! enough.
//!
//! A program hands [`Log::append`] a record and gets a [`Ticket`]; waiting on the ticket returns once the record
//! is on the disk, synced. Records that are appended at the same time share a sync.
//!
//! ```
//! # fn main() -> annals::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("orders");
//! use annals::{LogOptions, Lsn};
//!
//! let log = LogOptions::new(path).segment_bytes(8 << 20).open()?;
//! let ticket = log.append(b"two lamps")?; // has its place and its LSN
//! let receipt = ticket.wait()?; // is on the disk
//! assert_eq!(&*log.read(receipt.lsn())?, b"two lamps");
//! log.close()
//! # }
//! ```
//!
//! # Where to go
//!
//! | to | begin with | feature |
//! |---|---|---|
//! | keep a log on one disk | [`LogOptions`], [`Log`] | |
//! | be a replica of a log | [`node::ReplicaOptions`](node/struct.ReplicaOptions.html), [`node::Replica`](node/struct.Replica.html) | `quic` |
//! | have a state that follows from the log on each replica | [`node::StateMachine`](node/trait.StateMachine.html) | `quic` |
//! | append to a cluster from afar, each record once | [`client::ClientOptions`](client/struct.ClientOptions.html), [`client::Client`](client/struct.Client.html) | `quic` |
//! | make certificates for a small cluster | [`transport::certs::Authority`](transport/certs/struct.Authority.html) | `quic` |
//! | find out what is wrong with a log, and mend it | [`repair`] | |
//! | try a program against crashes and failing disks | [`disk`], with its `sim::SimDisk` | `sim` |
//! | read or write the format by yourself | [`format`](mod@format) | |
//! | drive the replication protocol by yourself | [`protocol`] | |
//!
//! # Words
//!
//! A *record* is the caller's bytes. Its *LSN*, log sequence number, is its place: dense, from 1, and never given to other
//! bytes once the record was acknowledged. Records that were appended together are a *batch*: they live or die together. A
//! *group* is what one sync makes durable, and a *segment* one file of the log. *Durable* means on this disk and synced;
//! *committed*, of a replicated log, durable on a quorum of replicas. An *epoch* is the reign of one primary; a log without
//! replicas stays in epoch 1. To *trim* is to forget the oldest records, to *truncate* the newest.
//!
//! # Appending
//!
//! [`append`](Log::append) never waits for the disk, only for room; [`try_append`](Log::try_append) does not even
//! do that. [`append_batch`](Log::append_batch) takes records that live or die together.
//! [`append_durable`](Log::append_durable) appends and waits. LSNs are dense and in the order of the log; tickets
//! become durable in that order. Give each thread a clone of the log.
//!
//! A ticket can be waited for, with or without a deadline, awaited in any runtime, or dropped:
//! [`Durability::Buffered`] asks for no more than a place, and [`sync`](Log::sync) makes durable all that was
//! appended before.
//!
//! # Reading
//!
//! [`read`](Log::read) gives one record, [`cursor`](Log::cursor) a range in order, [`tail`](Log::tail) waits for
//! more at the end. None of them copies: a [`Record`] keeps the map of its segment alive. Only durable records are
//! ever shown. [`LogOptions::open_read_only`] reads beside a writer, also from another process.
//!
//! # Keeping it small, and whole
//!
//! [`trim`](Log::trim) forgets the oldest records; [`retain_bytes`](LogOptions::retain_bytes) and
//! [`retain_age`](LogOptions::retain_age) do so by themselves. A [mark](Log::set_mark) stores where a program's own
//! snapshot stands. [`backup`](Log::backup) copies a log that is in use.
//!
//! # When something fails
//!
//! Each [`Error`] says what to do next. A failed write or sync *poisons* the log: everybody is told, and opening it
//! again finds what is on the disk. A full disk is no such failure. Damage to records that nobody reads is found by a
//! [background check](LogOptions::scrub_bytes_per_s). Opening a log discards by itself what a crash
//! left half-written, and refuses, without changing anything, if records that were acknowledged are damaged.
//!
//! What cannot be told as an error is a block that the disk itself cannot read: records are read through a memory map,
//! and there the operating system ends the process with `SIGBUS`. Opening, the background check and [`repair`] read such
//! files with plain reads and say where the damage is.
//!
//! # Replicated
//!
//! Three or more replicas keep the same log, each on a disk of its own. One is primary: it gives each record its LSN and
//! sends it to the others, and the record is committed once a quorum has it synced. When the primary is gone the others
//! elect another, by votes, and nothing committed is lost. A replica is a few threads of your own process
//! (`node::ReplicaOptions` has an example that runs), or one of `log-node run`; a client (`client`) finds the primary and
//! follows it. What waits for what:
//!
//! - An append's ticket waits for as many synced copies as it asked for (`protocol::request::Copies`): by default a quorum.
//! - A subscription waits for the commit, and shows nothing before it. So does a state machine, which is fed beside the
//!   appends: nothing of an append waits for it.
//! - A linearizable read waits for a round of a quorum, and then for this replica to show what that allows; that the state
//!   machine has it, too, is what `node::Replica::applied` waits for.
//! - A hand-over waits until its target has everything, and no append fails by it.
//!
//! # Features
//!
//! `metrics` and `tracing` (both on by default) report through the facades of these names, for groups, never for
//! single records. `quic` (on by default) adds the replicated log, in `node` and `client`. `sim` adds a
//! [simulated disk](disk) with faults, to test programs that are built on the log.
//!
//! The format is specified in `docs/format.md`, the protocol in `docs/protocol.md`; the rooms of the crate and who may import
//! whom are in `docs/architecture.md`, and `docs/operations.md` is for whoever runs it.

#[cfg(feature = "quic")]
pub mod client;
pub mod disk;
mod error;
pub mod format;
mod log;
#[cfg(any(feature = "quic", feature = "sim"))]
pub mod node;
pub mod protocol;
pub mod repair;
mod segment;
mod sync;
#[cfg(any(feature = "quic", feature = "sim"))]
pub mod transport;
mod types;

pub use error::{Error, Result};
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use log::bench;
pub use log::{
    Cursor, Durability, Log, LogOptions, Mark, ReadOnlyLog, Receipt, Record, RecordRef, Records, ScrubStatus,
    Stats, TailCursor, Ticket, Watermarks, ZeroFill,
};
#[cfg(feature = "sim")]
#[doc(hidden)]
pub use segment::examination;
pub use types::{
    ClusterId, DiskId, Epoch, LogId, LogIncarnation, Lsn, LsnRange, ProducerId, ReplicaId, SegmentId,
    WriteMethod,
};

/// The examples in the README compile.
#[cfg(all(doctest, feature = "quic"))]
#[doc = include_str!("../README.md")]
struct Readme;
