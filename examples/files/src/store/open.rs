//! Opening a store: what the newest checkpoint says counts, and the rest goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use annals::ClusterId;

use super::blob::{BlobWriter, path_of, sums_of};
use super::checkpoint::{read_state, replace, sync_dir, write_state};
use super::{Shared, Store};
use crate::state::{BlobId, Contents, State};

/// The directory of the blobs in that of a generation.
pub(super) const BLOBS: &str = "blobs";
const CURRENT: &str = "current";
const OWNER: &str = "owner";

pub(super) fn generation_name(generation: u64) -> String {
    format!("g-{generation}")
}

impl Store {
    /// Opens the store in this directory, or makes it. Also says why it was begun anew, if it could not be used: the
    /// replica then fills it from its snapshot and its log.
    ///
    /// # Errors
    /// If it is another cluster's, or the disk does not do what it should.
    pub fn open(root: &Path, cluster: ClusterId) -> io::Result<(Store, Option<String>)> {
        fs::create_dir_all(root)?;
        check_owner(root, cluster)?;
        let generation = current(root)?;
        let found = generation.map(|generation| load(root, generation)).transpose()?;
        let (store, reason) = match (generation, found) {
            (Some(generation), Some(Ok((state, writers)))) => {
                (Store::with(root, generation, state, writers), None)
            }
            (generation, found) => {
                let reason = found.and_then(Result::err);
                let generation = generation.map_or(1, |before| before + 1);
                begin(root, generation)?;
                switch(root, generation)?;
                (Store::with(root, generation, State::default(), BTreeMap::new()), reason)
            }
        };
        store.sweep()?;
        Ok((store, reason))
    }

    fn with(root: &Path, generation: u64, state: State, writers: BTreeMap<BlobId, BlobWriter>) -> Store {
        let blobs = root.join(generation_name(generation)).join(BLOBS);
        Store {
            root: root.to_owned(),
            generation,
            shared: Arc::new(Shared::new(state, blobs)),
            writers,
            dropped: vec![],
            bytes_since: 0,
            changes_since: 0,
            pin: Arc::new(()),
            sync: File::sync_data,
        }
    }

    /// Removes what the state does not speak of: other generations, and blobs from after the checkpoint.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let own = OsString::from(generation_name(self.generation));
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            if name != own && name.to_string_lossy().starts_with("g-") {
                fs::remove_dir_all(self.root.join(name))?;
            }
        }
        let dir = self.blobs_dir();
        let state = self.shared.frozen().state;
        let blobs = state.contents().map(|contents| contents.blob);
        let files = blobs.flat_map(|blob| [path_of(&dir, blob), sums_of(&dir, blob)]);
        let known: BTreeSet<_> = files.collect();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if !known.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Makes the directory of a generation, with nothing in it.
pub(super) fn begin(root: &Path, generation: u64) -> io::Result<()> {
    let dir = root.join(generation_name(generation));
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(dir.join(BLOBS))?;
    write_state(&dir, &State::default())
}

/// From now on this generation counts.
pub(super) fn switch(root: &Path, generation: u64) -> io::Result<()> {
    sync_dir(root)?;
    replace(&root.join(CURRENT), &[generation_name(generation).as_bytes(), b"\n"])
}

fn current(root: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(root.join(CURRENT)) {
        Ok(name) => Ok(name.trim_end().strip_prefix("g-").and_then(|number| number.parse().ok())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A store of another cluster has applied other records under the same numbers.
fn check_owner(root: &Path, cluster: ClusterId) -> io::Result<()> {
    let owner = root.join(OWNER);
    match fs::read_to_string(&owner) {
        Ok(found) if found.trim_end() == cluster.to_string() => Ok(()),
        Ok(found) => Err(io::Error::other(format!(
            "{} is the store of cluster {}, not of {cluster}: correct the directory",
            root.display(),
            found.trim_end()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            replace(&owner, &[cluster.to_string().as_bytes(), b"\n"])
        }
        Err(error) => Err(error),
    }
}

/// A state, and the puts that go on in it.
type Loaded = (State, BTreeMap<BlobId, BlobWriter>);

/// The state of a generation, with its puts ready to go on, or why it cannot be used.
fn load(root: &Path, generation: u64) -> io::Result<Result<Loaded, String>> {
    let dir = root.join(generation_name(generation));
    let Some(state) = read_state(&dir)? else {
        return Ok(Err(format!("the state in {} cannot be read", dir.display())));
    };
    let blobs = dir.join(BLOBS);
    let mut writers = BTreeMap::new();
    for contents in state.contents() {
        if let Err(reason) = check_size(&blobs, contents) {
            return Ok(Err(reason));
        }
        if contents.digest.is_none() {
            match BlobWriter::reopened(&blobs, contents) {
                Ok(writer) => drop(writers.insert(contents.blob, writer)),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
    }
    Ok(Ok((state, writers)))
}

/// Whether what the checkpoint has synced is there; whether it is unharmed is looked at when it is read.
fn check_size(dir: &Path, contents: Contents) -> Result<(), String> {
    let path = path_of(dir, contents.blob);
    let bytes = fs::metadata(&path).map(|found| found.len());
    match bytes {
        Ok(bytes) if bytes >= contents.bytes && sums_of(dir, contents.blob).exists() => Ok(()),
        Ok(_) | Err(_) => Err(format!("{} is not there as it was synced", path.display())),
    }
}
