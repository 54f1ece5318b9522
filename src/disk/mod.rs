//! The seam to the disk: real files, and a simulated disk with faults.
//!
//! The one room with `unsafe` code. Imports `types`, `error`, `sync` and `format`. Everything above reaches
//! files, the clock on the wall and randomness through [`Disk`] and [`File`] only.

pub(crate) mod aligned;
pub(crate) mod buffer;
mod gentle;
mod map;
mod probe;
#[cfg(unix)]
mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(any(feature = "quic", feature = "sim"))]
pub(crate) mod slab;
mod whole;
mod zeroed;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use aligned::Blocks;
pub(crate) use gentle::Gentle;
pub use map::{Map, Reading};
pub use probe::{Measured, ProbeResult, probe};
#[cfg(unix)]
pub use real::RealDisk;

use crate::types::WriteMethod;

pub use crate::format::BLOCK_BYTES;

/// A directory that holds one log.
///
/// Names are plain file names inside it. A name that was created, given, renamed or removed survives a crash only
/// after [`sync_dir`](Disk::sync_dir).
pub trait Disk: Send + Sync + fmt::Debug {
    /// The names of all files in the directory, in no order; of one that is renamed meanwhile, one of its names.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file for reading and writing; fails with `AlreadyExists` if the name is taken.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens a file.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file one name more, and fails with `AlreadyExists` if that is taken: `Unsupported` where no file has two.
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a name; the bytes stay readable through open files and maps.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes every earlier `create`, `rename`, `link` and `remove` durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Takes the exclusive lock on the directory by way of the file `name`, writing the process id into it.
    fn lock(&self, name: &str) -> io::Result<Lock>;
    /// Who holds that lock. Creates and writes nothing, and works on read-only media.
    ///
    /// The answer may be outdated when it is given; a lock that is taken meanwhile is not in its way.
    fn holder(&self, name: &str) -> io::Result<Holder>;
    /// Sixty-four random bits.
    fn entropy(&self) -> u64;
    /// Milliseconds since 1970 by the clock on the wall; only ever used for retention by age.
    fn wall_ms(&self) -> u64;
    /// Whether this disk is a model, on which nothing is worth timing.
    fn simulated(&self) -> bool {
        false
    }
}

/// What an opened file may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading only; works on read-only media.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// What an attempt to lock a directory found.
#[derive(Debug)]
pub enum Lock {
    /// The lock is held until this value is dropped.
    Held(Box<dyn Send + Sync + fmt::Debug>),
    /// Somebody else has it: their process id, where it could be read.
    Taken(Option<u32>),
}

/// Whoever has locked a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// Somebody: their process id, where it could be read.
    Process(Option<u32>),
}

/// An open file.
///
/// All offsets are absolute; no operation has a cursor, so all of them take `&self`.
pub trait File: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Fills `buf` from `offset`; returns fewer bytes only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The same for much that is read once and in order: past the page cache where that can be done, which takes half of the
    /// processor's time. Asks for a `buf` of whole blocks that begins at a block's address, and for a block's `offset`;
    /// does without where they are not.
    fn read_bulk(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buf, offset)
    }
    /// Says that these bytes will be read soon, so that they may be on their way by then. Only ever a hint.
    fn will_read(&self, bytes: Range<u64>) {
        let _ = bytes;
    }
    /// Writes all of `buf` at `offset`, or fails; not durable before a sync.
    ///
    /// Not while a durable write to the same file is in flight: the kernel may then fail to drop a page that
    /// the cache and the device disagree about. Sync between this and the next durable write.
    ///
    /// # Panics
    /// If it would change bytes that a living [`Map`] of this file has published.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes contents and length durable, and through them every earlier write.
    ///
    /// After an error nothing is known about what was written since the last success, and a second attempt
    /// that succeeds proves nothing; nor does another one that ran at the same time.
    fn sync(&self) -> io::Result<()>;
    /// Grows the file to `bytes` and reserves its blocks where the file system can; the new bytes read as
    /// zeros. Never shrinks.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Asks the device to write real zeros over the file cheaply; `false` where it cannot.
    fn write_zeroes(&self, bytes: u64) -> io::Result<bool>;
    /// Maps the whole file, at the length that it has now, for reading; nothing can be read through the map
    /// before it is published. While a map of that length lives, later calls give the same one.
    fn map(&self) -> io::Result<Arc<Map>>;
    /// A writer whose every write is durable when it returns; fails with `Unsupported` where the file
    /// system cannot do `method`. Writing through a map needs a file without holes, which keeps its length.
    fn writer(&self, method: WriteMethod) -> io::Result<Box<dyn DurableWriter>>;
    /// Takes or tries to take the advisory lock of readers (shared) or of the recycler (exclusive);
    /// `false` if it is held the other way; a lock held before the attempt may then be lost. Held until the
    /// file is dropped.
    fn try_lock(&self, exclusive: bool) -> io::Result<bool>;
}

/// Writes whole blocks durably. Several writes may be in flight at once, at blocks that do not overlap.
pub trait DurableWriter: Send + Sync + fmt::Debug {
    /// Writes `blocks` at `offset` and returns when they are durable.
    ///
    /// `blocks` begins at an address, and `offset` at a position, that is a multiple of [`BLOCK_BYTES`];
    /// so is its length. A short write or an error leaves the blocks in an unknown state.
    ///
    /// # Panics
    /// If something is not a multiple. Also, where that costs no read (in debug builds, on a simulated disk,
    /// and through a map), if it would change bytes that a living [`Map`] of this file has published:
    /// repeating them is fine, changing them breaks the promise that the map's readers rely on.
    fn write_durable(&self, blocks: &[u8], offset: u64) -> io::Result<()>;
}

/// Checks the contract of [`DurableWriter::write_durable`].
fn assert_whole_blocks(blocks: &[u8], offset: u64) {
    assert!(blocks.as_ptr().addr().is_multiple_of(BLOCK_BYTES), "blocks begin at a block's address");
    assert!(blocks.len().is_multiple_of(BLOCK_BYTES), "whole blocks only");
    assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "blocks begin at a block's position");
}

#[cfg(test)]
mod tests;
