//! Whether there is room on a disk that was full.

use std::fs;
use std::path::PathBuf;

use super::Store;
use super::checkpoint::write_synced;

/// A file that is written, and removed again.
const ATTEMPT: &str = "room";
/// It is written in parts of so many bytes, and has not more of them than so many.
const PART_BYTES: usize = 64 << 10;
const PARTS_MAX: usize = 128;

/// Room that is waited for.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    parts: usize,
}

impl Store {
    /// As much room as what was written since the last checkpoint takes, or a good part of it.
    pub(super) fn room(&self) -> Room {
        let parts = usize::try_from(self.bytes_since).unwrap_or(usize::MAX) / PART_BYTES + 1;
        Room { path: self.root.join(ATTEMPT), parts: parts.min(PARTS_MAX) }
    }
}

impl Room {
    /// Whether the disk takes it.
    pub(super) fn is_there(&self) -> bool {
        let part = [0; PART_BYTES];
        let written = write_synced(&self.path, &vec![&part[..]; self.parts]);
        // What stays behind, if so, is written over by the next attempt.
        let _ = fs::remove_file(&self.path);
        written.is_ok()
    }
}
