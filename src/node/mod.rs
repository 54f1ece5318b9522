//! A replica's node: drives `protocol` over `log` and `transport`.
//!
//! [`ReplicaOptions`] makes and starts a [`Replica`], which is some threads:
//!
//! | thread | does | never |
//! |---|---|---|
//! | the network's, of `transport` | gives the node (`actor.rs`) its turns: the protocol's core, and who waits for what | waits for a disk |
//! | `annals-disk` | owns the [`ReplicaStore`]: writes and syncs | |
//! | `annals-prepare` | makes the next segment ahead of time | |
//! | `annals-feed` | reads what peers lack from the log and the snapshots | writes |
//! | `annals-ahead`, two | read what a peer that catches up will ask for next | write |
//! | `annals-apply` | gives committed records to the [`StateMachine`], freezes and restores it | |
//! | `annals-read` | serves clients that read and subscribe | shows what is not committed |
//! | `annals-scrub` | reads the sealed segments now and then, and doubts what is damaged | writes |
//! | `annals-snapshot`, now and then | writes a snapshot from a frozen view | |
//!
//! They leave each other notes in channels, and each piece of state has one thread that owns it. What of a node needs no
//! thread, clock or socket is apart, so that a simulation can decide what happens when: the [`Driver`], which is the core
//! with its bytes, and the [`ReplicaStore`].
//!
//! Imports every room above it.

mod actor;
mod ahead;
mod apply;
mod desks;
mod disk;
mod driver;
mod error;
mod feed;
mod frames;
mod identity;
mod life;
mod machine;
mod mail;
mod observe;
mod options;
mod place;
#[cfg(feature = "quic")]
mod quic;
mod readers;
mod reading;
mod records;
mod replica;
mod scribble;
mod scrub;
mod shown;
mod start;
mod store;
mod subscription;
mod ticket;
mod tokens;

pub use driver::{
    Action, Append, Counts, Done, Driver, DriverOptions, Input, Placed, Scribe, Task, perform, read,
};
pub use error::ReplicaError;
pub use frames::{BadGroup, Entry, check_group, digest, frame_group, frames_bytes, group_of};
pub use machine::{Frozen, StateMachine};
pub use options::ReplicaOptions;
pub use place::{Bell, Place, Running};
pub use records::{BadSizes, Records};
pub use replica::Replica;
pub use store::{
    Preparation, Prepared, ReplicaStore, SnapshotReader, SnapshotWriter, StoreOptions, StoreReader,
    TakenSnapshot,
};
pub use subscription::{Record, Subscription};
pub use ticket::{Receipt, Ticket};
