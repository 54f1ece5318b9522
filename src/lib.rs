//! A segmented, checksummed, memory-mapped append-only log with group commit.
//!
//! The rooms of the crate and who may import whom are in `docs/architecture.md`; `tests/tidy/` keeps
//! the arrows honest.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod disk;
mod error;
pub mod format;
mod log;
mod segment;
mod sync;
mod types;

pub use error::{Error, Result};
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use log::bench;
pub use log::{
    Cursor, Durability, Log, LogOptions, Mark, ReadOnlyLog, Receipt, Record, RecordRef, Records, Stats,
    TailCursor, Ticket, Watermarks, ZeroFill,
};
pub use types::{Epoch, LogId, Lsn, ReplicaId, SegmentId, WriteMethod};

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
