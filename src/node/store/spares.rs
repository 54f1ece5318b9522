//! Segments ahead of time: recycled, or created and filled with zeros, by whatever thread has time for it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::ReplicaStore;
use super::extract::Waiting;
use crate::error::{Error, Result};
use crate::log::prepare::{Go, make_spare, recycle};
use crate::log::store::Files;
use crate::segment::Spare;

/// Flushes of this size and more gain less from zeros than writing the zeros costs; as for the log of one node.
const ZEROS_UP_TO_FLUSH_BYTES: u64 = 128 << 10;
/// Zeros written at a time: a flush that comes meanwhile waits for them in the device.
const CHUNK_BYTES: usize = 64 << 10;
/// Zeros that may be written ahead of the tail's own growth: few, so that no burst of them follows a roll.
const HEAD_START_BYTES: u64 = 256 << 10;
/// How often the zero filling looks how far the tail has come: less and less often while it stands still.
const LOOK_MIN: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Files of trimmed segments that wait to be used again.
const RETIRED_MAX: usize = 2;
/// A flush counts this much for the mean, among so many.
const MEAN_OF: u64 = 16;

/// The prepared segments of a store, and how it grows.
#[derive(Debug)]
pub(super) struct Spares {
    ready: Vec<Spare>,
    /// The names of trimmed segments' files that have the size of new ones.
    retired: Vec<String>,
    /// Counts how often all files were dropped.
    life: u64,
    is_preparing: bool,
    /// Since the disk was full: not before the store has grown to this.
    not_before: u64,
    growth: Arc<Growth>,
}

/// How a store grows, for whoever paces itself by it.
#[derive(Debug, Default)]
struct Growth {
    grown: Mutex<Grown>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Grown {
    /// Bytes of frames that were flushed since the store was opened.
    bytes: u64,
    flush_bytes_mean: u64,
    /// A write had to make a segment for itself.
    is_short: bool,
    is_closed: bool,
    /// Somebody waits until it has grown to this.
    awaited: Option<u64>,
    /// Somebody prepares a segment in the directory.
    is_running: bool,
}

/// The work of making the next segment, to be [run](Preparation::run) by any thread and then handed
/// [back](ReplicaStore::prepared).
#[must_use = "it prepares nothing until it is run"]
pub struct Preparation {
    files: Arc<Files>,
    extracts: Vec<Waiting>,
    retired: Vec<String>,
    segment_bytes: u64,
    life: u64,
    growth: Arc<Growth>,
}

/// Says that somebody works in the directory.
struct Running<'a>(&'a Growth);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.grown.lock().is_running = false;
        self.0.moved.notify_all();
    }
}

/// What a preparation has come to.
#[must_use = "the store has it only when it is handed back"]
#[derive(Debug)]
pub struct Prepared {
    /// Whose it is.
    growth: Arc<Growth>,
    life: u64,
    made: Result<Option<Spare>>,
}

impl Spares {
    pub(super) fn new(ready: Vec<Spare>, retired: Vec<String>) -> Spares {
        Spares { ready, retired, life: 0, is_preparing: false, not_before: 0, growth: Arc::default() }
    }

    /// Takes note of a flush.
    pub(super) fn wrote(&self, bytes: u64) {
        let mut grown = self.growth.grown.lock();
        grown.bytes += bytes;
        grown.flush_bytes_mean = (grown.flush_bytes_mean * (MEAN_OF - 1) + bytes) / MEAN_OF;
        if grown.awaited.is_some_and(|bytes| grown.bytes >= bytes) {
            grown.awaited = None;
            self.growth.moved.notify_all();
        }
    }

    /// A segment that is ready and has this size.
    pub(super) fn take(&mut self, segment_bytes: u64) -> Option<Spare> {
        let index = self.ready.iter().position(|spare| spare.segment_bytes == segment_bytes);
        if index.is_none() {
            self.growth.grown.lock().is_short = true;
        }
        index.map(|index| self.ready.swap_remove(index))
    }

    /// Takes the file of a trimmed segment, to be used again; whether it is wanted.
    pub(super) fn retire(&mut self, name: &str) -> bool {
        let is_wanted = self.retired.len() < RETIRED_MAX;
        if is_wanted {
            self.retired.push(name.to_owned());
        }
        is_wanted
    }

    /// All files are dropped, also one that is still prepared.
    pub(super) fn forget(&mut self) {
        self.ready.clear();
        self.retired.clear();
        self.life += 1;
    }

    /// Ends what is being prepared, and waits for that: the directory is about to be somebody else's.
    pub(super) fn close(&self) {
        let mut grown = self.growth.grown.lock();
        grown.is_closed = true;
        self.growth.moved.notify_all();
        while grown.is_running {
            self.growth.moved.wait(&mut grown);
        }
    }
}

impl ReplicaStore {
    /// What is to be done so that the next segment is ready in time, if it is not and nobody is at it. Ask after each
    /// [`sync`](ReplicaStore::sync), and let another thread do it: it takes as long as a segment takes to fill.
    ///
    /// A segment that is not ready when it is needed is made by the sync that needs it, and is slower to write to.
    pub fn prepare(&mut self) -> Option<Preparation> {
        let Spares { ready, is_preparing, not_before, growth, .. } = &self.spares;
        let is_due = ready.is_empty() && !is_preparing && growth.grown.lock().bytes >= *not_before;
        if !is_due || self.is_poisoned {
            return None;
        }
        self.spares.is_preparing = true;
        let mut grown = self.spares.growth.grown.lock();
        grown.is_short = false;
        drop(grown);
        Some(Preparation {
            files: Arc::clone(&self.files),
            extracts: std::mem::take(&mut self.extracts),
            retired: std::mem::take(&mut self.spares.retired),
            segment_bytes: self.options.segment_bytes,
            life: self.spares.life,
            growth: Arc::clone(&self.spares.growth),
        })
    }

    /// Takes what was prepared. A full disk is no error here: it is tried again later.
    ///
    /// # Errors
    /// Whatever the operating system said while it was prepared; from then on [`Error::Poisoned`].
    pub fn prepared(&mut self, prepared: Prepared) -> Result<()> {
        if !Arc::ptr_eq(&prepared.growth, &self.spares.growth) {
            // Of the store that was here before: opening this one has found what it made.
            return Ok(());
        }
        self.spares.is_preparing = false;
        match prepared.made {
            Ok(Some(spare)) if prepared.life == self.spares.life => self.spares.ready.push(spare),
            // Its file was removed meanwhile, or made after the others were.
            Ok(Some(spare)) => drop(self.files.disk.remove(&spare.name)),
            Ok(None) => {}
            Err(Error::NoSpace) => {
                let bytes = self.spares.growth.grown.lock().bytes;
                self.spares.not_before = bytes + self.options.segment_bytes / 8;
            }
            Err(error) => {
                self.is_poisoned = true;
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Preparation {
    /// Does it: writes the extracts of the segments before, and uses the file of a trimmed segment again, or makes a new one.
    ///
    /// A new one is filled with zeros, not faster than the store's growth asks for, unless what is written at a time is
    /// large; on a simulated disk at once. Whoever drops the store meanwhile waits until this has noticed.
    pub fn run(self) -> Prepared {
        let made = self.make();
        Prepared { growth: self.growth, life: self.life, made }
    }

    fn make(&self) -> Result<Option<Spare>> {
        let begun_at = {
            let mut grown = self.growth.grown.lock();
            if grown.is_closed {
                return Ok(None);
            }
            grown.is_running = true;
            grown.bytes
        };
        let _running = Running(&self.growth);
        self.extracts.iter().try_for_each(|extract| extract.write(&self.files))?;
        for name in &self.retired {
            match recycle(&self.files, name, self.segment_bytes) {
                Ok(None) => {}
                // The log was dropped meanwhile, and its files with it.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                made => return made,
            }
        }
        make_spare(&self.files, self.segment_bytes, &|done| self.pace(begun_at, done))
    }

    fn pace(&self, begun_at: u64, done: u64) -> Go {
        if self.files.disk.simulated() {
            return Go::On(CHUNK_BYTES);
        }
        let mut grown = self.growth.grown.lock();
        let mut look = LOOK_MIN;
        let go = loop {
            if grown.is_closed {
                break Go::End;
            }
            // Slower writes to what is not filled yet are better than none.
            if grown.is_short || grown.flush_bytes_mean >= ZEROS_UP_TO_FLUSH_BYTES {
                break Go::Enough;
            }
            let wanted = begun_at + done.saturating_sub(HEAD_START_BYTES) * 2 / 3;
            if grown.bytes >= wanted {
                break Go::On(CHUNK_BYTES);
            }
            grown.awaited = Some(wanted);
            self.growth.moved.wait_for(&mut grown, look);
            look = (look * 2).min(LOOK_MAX);
        };
        grown.awaited = None;
        go
    }
}

impl fmt::Debug for Preparation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preparation").field("segment_bytes", &self.segment_bytes).finish_non_exhaustive()
    }
}
