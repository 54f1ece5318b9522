//! The newest frames in memory, so that whoever lags a little, subscribes or applies does not ask the disk.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::slab::Slab;
use crate::types::{Lsn, LsnRange};

/// Frames between two places that can be gone to, in bytes.
pub(super) const STRIDE_BYTES: usize = 4 << 10;

/// A place among the frames of a slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// The first record of the frame that is there.
    pub(super) first: Lsn,
    pub(super) start: usize,
    /// Up to where frames follow on one another.
    pub(super) end: usize,
}

/// Frames that follow on one another.
#[derive(Clone, Debug)]
pub(super) enum Stretch {
    Slab(Arc<Slab>, Range<usize>),
    Group(Bytes),
}

/// The frames of the newest records, without a gap: those that are flushed, in slabs, and then those that are not.
#[derive(Debug)]
pub(super) struct Recent {
    bytes_max: usize,
    /// Oldest first.
    held: VecDeque<Held>,
    unsynced: VecDeque<(LsnRange, Bytes)>,
}

#[derive(Debug)]
struct Held {
    slab: Arc<Slab>,
    /// In the order of their LSNs; at least one.
    entries: Vec<Entry>,
}

impl Stretch {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Stretch::Slab(slab, range) => slab.bytes(range.clone()),
            Stretch::Group(bytes) => bytes,
        }
    }

    /// A part of it, not copied.
    pub(super) fn part(&self, range: Range<usize>) -> Bytes {
        match self {
            Stretch::Slab(slab, own) => slab.part(own.start + range.start..own.start + range.end),
            Stretch::Group(bytes) => bytes.slice(range),
        }
    }
}

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Recent {
        Recent { bytes_max, held: VecDeque::new(), unsynced: VecDeque::new() }
    }

    /// Takes note of a group that is not flushed yet.
    pub(super) fn wrote(&mut self, range: LsnRange, frames: Bytes) {
        self.unsynced.push_back((range, frames));
    }

    /// Takes note that the oldest groups are flushed, up to this record, and in the slab.
    pub(super) fn flushed(&mut self, through: Lsn, slab: &Arc<Slab>, entries: &[Entry]) {
        while self.unsynced.front().is_some_and(|(range, _)| range.last <= through) {
            self.unsynced.pop_front();
        }
        match self.held.back_mut() {
            Some(held) if Arc::ptr_eq(&held.slab, slab) => held.entries.extend_from_slice(entries),
            _ => self.held.push_back(Held { slab: Arc::clone(slab), entries: entries.to_vec() }),
        }
    }

    /// Forgets the oldest slabs, so that there is room for one of this size: one of them, if it has the size.
    pub(super) fn make_room(&mut self, bytes: usize) -> Option<Arc<Slab>> {
        let mut held: usize = self.held.iter().map(|held| held.slab.capacity()).sum();
        let mut fit = None;
        while held + bytes > self.bytes_max {
            let Some(Held { slab, .. }) = self.held.pop_front() else { break };
            held -= slab.capacity();
            fit = fit.or((slab.capacity() == bytes).then_some(slab));
        }
        fit
    }

    /// Forgets everything: the log has changed.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.unsynced.clear();
    }

    /// Stretches in order, from one that begins at or before `from` on, of about this many bytes; none if that is older.
    pub(super) fn find(&self, from: Lsn, bytes: usize) -> Vec<Stretch> {
        let mut found = Vec::new();
        let mut size = 0;
        let mut take = |stretch: Stretch| {
            size += stretch.bytes().len();
            found.push(stretch);
            size < bytes
        };
        let is_unsynced = self.unsynced.front().is_some_and(|(range, _)| range.first <= from);
        let mut more = true;
        if !is_unsynced {
            let Some(start) = self.held.partition_point(|held| held.entries[0].first <= from).checked_sub(1)
            else {
                return found;
            };
            for (index, held) in self.held.iter().enumerate().skip(start) {
                let mut at = match index == start {
                    true => held.entries.partition_point(|entry| entry.first <= from) - 1,
                    false => 0,
                };
                while more && let Some(entry) = held.entries.get(at) {
                    more = take(Stretch::Slab(Arc::clone(&held.slab), entry.start..entry.end));
                    // On to the first place that is not in that stretch.
                    at += held.entries[at..].partition_point(|other| other.end <= entry.end);
                }
            }
        }
        let skip = self.unsynced.partition_point(|(range, _)| range.last < from);
        for (_, frames) in self.unsynced.iter().skip(skip) {
            if !more {
                break;
            }
            more = take(Stretch::Group(frames.clone()));
        }
        found
    }
}
