//! raft-engine: each thread writes entries of a Raft group of its own, synced.
//!
//! Its most favourable honest setting: no compression, since the records cannot be compressed; no purging; and
//! files that are filled with zeros and synced before the clock starts, so that no write converts an unwritten
//! extent - except with many waiting threads, where it was seen to be faster without: a slower sync gathers
//! larger write groups, and each has its cost.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine as Inner, LogBatch, MessageExt, ReadableSize};

use super::Workload;
use crate::drive::{Engine, Measured, drive};
use crate::error::{Error, Result};

pub(super) const CONFIGURATION: &str = "fdatasync for each write group, no compression, no purging, files of \
    128 MiB filled with zeros and synced ahead (but reserved only for 64 and more threads, where that is faster)";

const FILE_BYTES: u64 = 128 << 20;
const MANY_THREADS: usize = 64;

/// One run on a fresh log in `dir`.
pub(super) fn run(workload: &Workload, dir: &Path, name: &str) -> Result<Measured> {
    let fills_ahead = workload.plan.threads < MANY_THREADS;
    let files = workload.bytes_max.div_ceil(FILE_BYTES) + 2;
    let config = Config {
        dir: dir.to_string_lossy().into_owned(),
        target_file_size: ReadableSize(FILE_BYTES),
        batch_compression_threshold: ReadableSize(0),
        purge_threshold: ReadableSize(FILE_BYTES * files),
        prefill_for_recycle: fills_ahead,
        prefill_limit: fills_ahead.then_some(ReadableSize(FILE_BYTES * files)),
        ..Config::default()
    };
    let inner = Inner::open(config).map_err(failed)?;
    let engine = RaftEngine {
        inner,
        groups: (0..workload.plan.threads).map(|thread| Mutex::new(Group::new(thread as u64 + 1))).collect(),
    };
    if fills_ahead {
        engine.leave_first_file()?;
        super::sync_files(dir)?;
    }
    drive(&engine, &workload.plan, &workload.records, name)
}

struct RaftEngine {
    inner: Inner,
    // Each belongs to one thread: the lock is never contended.
    groups: Vec<Mutex<Group>>,
}

/// One Raft group: its batch is used again, as the engine's own writers do.
struct Group {
    id: u64,
    next_index: u64,
    batch: LogBatch,
    entries: Vec<BytesValue>,
}

impl Group {
    fn new(id: u64) -> Group {
        Group { id, next_index: 1, batch: LogBatch::default(), entries: Vec::new() }
    }
}

/// Entries are bare bytes, of which the first eight stand for the index that a Raft entry holds.
struct Entries;

impl MessageExt for Entries {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let first = entry.value.first_chunk().expect("an entry begins with its index");
        u64::from_le_bytes(*first)
    }
}

impl RaftEngine {
    /// The file that an engine begins with is not one of those that were filled with zeros: fill it up.
    fn leave_first_file(&self) -> Result<()> {
        let mut batch = LogBatch::default();
        let filler = vec![1_u8; 4 << 20];
        for _ in 0..=FILE_BYTES / filler.len() as u64 {
            batch.put(u64::from(u32::MAX), b"filler".to_vec(), filler.clone()).map_err(failed)?;
            self.inner.write(&mut batch, false).map_err(failed)?;
        }
        self.inner.sync().map_err(failed)
    }
}

impl Engine for RaftEngine {
    type Pending = u64;

    fn submit(&self, thread: usize, records: &[&[u8]]) -> Result<u64> {
        let mut group = self.groups[thread].lock().unwrap_or_else(PoisonError::into_inner);
        let Group { id, next_index, batch, entries } = &mut *group;
        let first = *next_index;
        entries.resize_with(records.len(), BytesValue::new);
        for (entry, record) in entries.iter_mut().zip(records) {
            entry.value.clear();
            entry.value.extend_from_slice(&next_index.to_le_bytes());
            entry.value.extend_from_slice(record.get(8..).unwrap_or(&[]));
            *next_index += 1;
        }
        batch.add_entries::<Entries>(*id, entries).map_err(failed)?;
        self.inner.write(batch, true).map_err(failed)?;
        Ok(first)
    }

    fn is_done(&self, _: &u64) -> bool {
        true
    }

    fn wait(&self, first: u64) -> Result<u64> {
        Ok(first)
    }
}

fn failed(error: raft_engine::Error) -> Error {
    Error::Peer { engine: "raft-engine", message: error.to_string() }
}
