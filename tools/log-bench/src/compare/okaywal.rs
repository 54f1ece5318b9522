//! okaywal: each append is an entry, each record a chunk of it.
//!
//! Its most favourable honest setting: large files filled with zeros, of which some are written and synced
//! before the clock starts and used again after a checkpoint; a checkpoint itself costs nothing here.

use std::path::Path;

use okaywal::{Configuration, LogVoid, WriteAheadLog};

use super::Workload;
use crate::drive::{Engine, Measured, drive};
use crate::error::{Error, Result};

pub(super) const CONFIGURATION: &str = "files of 128 MiB filled with zeros and synced ahead, used again, checkpoints that cost nothing, buffer of 256 KiB";

const FILE_BYTES: u32 = 128 << 20;
/// So much less than a file that no entry makes one grow.
const CHECKPOINT_BYTES: u64 = 112 << 20;
const BUFFER_BYTES: usize = 256 << 10;
/// Files that are ready before the clock starts; a checkpointed one is ready again at once.
const FILES_READY: u32 = 3;

/// One run on a fresh log in `dir`.
pub(super) fn run(workload: &Workload, dir: &Path, name: &str) -> Result<Measured> {
    let configuration = Configuration::default_for(dir)
        .preallocate_bytes(FILE_BYTES)
        .checkpoint_after_bytes(CHECKPOINT_BYTES)
        .buffer_bytes(BUFFER_BYTES);
    let log = OkayWal(configuration.open(LogVoid).map_err(failed)?);
    for _ in 0..FILES_READY {
        log.append(&[b"makes a new file"]).map_err(failed)?;
        log.0.checkpoint_active().map_err(failed)?;
    }
    super::sync_files(dir)?;
    let measured = drive(&log, &workload.plan, &workload.records, name)?;
    log.0.shutdown().map_err(failed)?;
    Ok(measured)
}

struct OkayWal(WriteAheadLog);

impl OkayWal {
    fn append(&self, records: &[&[u8]]) -> std::io::Result<u64> {
        let mut entry = self.0.begin_entry()?;
        for record in records {
            entry.write_chunk(record)?;
        }
        entry.commit().map(|id| id.0)
    }
}

impl Engine for OkayWal {
    type Pending = u64;

    fn submit(&self, _: usize, records: &[&[u8]]) -> Result<u64> {
        self.append(records).map_err(failed)
    }

    fn is_done(&self, _: &u64) -> bool {
        true
    }

    fn wait(&self, id: u64) -> Result<u64> {
        Ok(id)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Peer { engine: "okaywal", message: error.to_string() }
}
