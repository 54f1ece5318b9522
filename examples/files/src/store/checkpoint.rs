//! The state on the disk, as of one record.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::Store;
use super::blob::{path_of, sums_of};
use crate::digest::Digest;
use crate::state::State;

/// The state's file in a generation's directory.
const STATE: &str = "state";

impl Store {
    /// Makes all that was applied so far survive a loss of power.
    ///
    /// # Errors
    /// `NoRoom`, as the source of the error, if there is no room for the state: it can be tried again. If anything else
    /// cannot be written or synced it is not: nobody knows what the disk holds then, and only a store that was opened anew
    /// can be trusted.
    pub fn checkpoint(&mut self) -> io::Result<()> {
        let sync = self.sync;
        self.writers.values_mut().try_for_each(|writer| writer.sync(sync))?;
        let state = self.shared.frozen().state;
        sync_dir(&self.blobs_dir())?;
        write_state(&self.generation_dir(), &state)?;
        let under_way: Vec<u64> = state.unfinished.values().map(|put| put.blob).collect();
        drop(state);
        self.writers.retain(|blob, _| under_way.contains(blob));
        (self.bytes_since, self.changes_since) = (0, 0);
        self.unlink_dropped();
        Ok(())
    }

    /// Unlinks what no state on the disk speaks of, and no snapshot reads.
    fn unlink_dropped(&mut self) {
        if std::sync::Arc::strong_count(&self.pin) > 1 {
            return;
        }
        let dir = self.blobs_dir();
        for blob in self.dropped.drain(..) {
            // What stays behind is removed by the next open.
            let _ = fs::remove_file(path_of(&dir, blob));
            let _ = fs::remove_file(sums_of(&dir, blob));
        }
    }
}

/// Writes the state of a generation.
pub(super) fn write_state(dir: &Path, state: &State) -> io::Result<()> {
    let json = state.to_json();
    let head = format!("{}\n", Digest::of(&json));
    replace(&dir.join(STATE), &[head.as_bytes(), &json, b"\n"])
}

/// Reads the state of a generation; `None` if there is none that can be used.
pub(super) fn read_state(dir: &Path) -> io::Result<Option<State>> {
    let bytes = match fs::read(dir.join(STATE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((head, json)) = bytes.trim_ascii_end().split_at_checked(65) else { return Ok(None) };
    let is_whole = Digest::of(json).to_string().as_bytes() == head.trim_ascii_end();
    Ok(if is_whole { serde_json::from_slice(json).ok() } else { None })
}

/// There was no room for a file that was to take the place of another: that one is as it was.
#[derive(Debug)]
pub(super) struct NoRoom(io::Error);

impl NoRoom {
    /// Whether it is this that an error is about.
    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|source| source.is::<NoRoom>())
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NoRoom {}

/// Whether a disk is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Puts a file in the place of another: as a whole, or not at all.
pub(super) fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let staged = path.with_extension("new");
    if let Err(error) = write_synced(&staged, parts) {
        // Its room is needed, and a later attempt begins with a file of its own: nothing of this one is trusted.
        let is_gone = fs::remove_file(&staged).is_ok() || !staged.exists();
        let can_repeat = is_full(&error) && is_gone;
        return Err(if can_repeat { io::Error::new(error.kind(), NoRoom(error)) } else { error });
    }
    fs::rename(&staged, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

pub(super) fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::create(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

/// Makes names in a directory survive a loss of power.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}
