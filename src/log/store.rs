//! The log's directory and what is known of it: everything beside group commit.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::options::LogOptions;
use super::segments::Segments;
use super::superblock_file::SuperblockFile;
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::types::WriteMethod;

/// The log's directory, and how its files are written and named.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) write_method: WriteMethod,
    next_spare_number: AtomicU64,
}

/// The superblock, the list of segments, and the files that may be used again.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) files: Files,
    pub(crate) options: LogOptions,
    pub(crate) superblock: Mutex<SuperblockFile>,
    pub(crate) segments: Segments,
    /// Files of trimmed segments, with their sizes.
    retired: Mutex<Vec<(String, u64)>>,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, write_method: WriteMethod, next_spare_number: u64) -> Files {
        Files { disk, write_method, next_spare_number: AtomicU64::new(next_spare_number) }
    }

    /// Says which file an error of the operating system is about.
    pub(crate) fn io<T>(&self, doing: &'static str, name: &str, result: io::Result<T>) -> Result<T> {
        result.map_err(|source| Error::io(doing, name, source))
    }

    pub(crate) fn open(&self, name: &str, access: Access) -> Result<Arc<dyn File>> {
        self.io("open", name, self.disk.open(name, access))
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.io("remove", name, self.disk.remove(name))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.io("rename", from, self.disk.rename(from, to))
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        self.io("sync", "", self.disk.sync_dir())
    }

    /// A number that no spare of this log has.
    pub(crate) fn next_spare_number(&self) -> u64 {
        // Relaxed: only the number's uniqueness matters.
        self.next_spare_number.fetch_add(1, Ordering::Relaxed)
    }
}

impl Store {
    pub(crate) fn new(
        files: Files,
        options: LogOptions,
        superblock: SuperblockFile,
        segments: Segments,
    ) -> Store {
        let retired = Mutex::new(Vec::new());
        Store { files, options, superblock: Mutex::new(superblock), segments, retired }
    }

    /// Puts the file of a trimmed segment up for recycling.
    pub(crate) fn retire(&self, name: String, bytes: u64) {
        self.retired.lock().push((name, bytes));
    }

    /// Takes a file that was put up for recycling and has this size.
    pub(crate) fn take_retired(&self, bytes: u64) -> Option<String> {
        let mut retired = self.retired.lock();
        let index = retired.iter().position(|(_, size)| *size == bytes)?;
        Some(retired.swap_remove(index).0)
    }

    /// The files put up for recycling.
    pub(crate) fn retired(&self) -> usize {
        self.retired.lock().len()
    }
}
