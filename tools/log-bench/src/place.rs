//! The directory that a measurement works in: taken, guarded, and given back as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::machine;

/// The file that says that a directory is log-bench's; locked while one works in it.
const MARKER: &str = ".log-bench";
/// The only other thing that log-bench makes in its directory, and the only one that it ever removes.
const DATA: &str = "data";
const MARKER_TEXT: &str = "log-bench works here and removes the directory \"data\" beside this file\n";

/// What to remove should the process be stopped for good: see [`remove_at_exit`].
static TAKEN: Mutex<Option<Leavings>> = Mutex::new(None);

/// A directory taken for one measurement; its data are removed when this is dropped, unless kept.
#[derive(Debug)]
pub(crate) struct Place {
    leavings: Leavings,
    // Held for its lock.
    _marker: fs::File,
}

#[derive(Clone, Debug)]
struct Leavings {
    dir: PathBuf,
    /// The directories that were not there before, deepest first.
    made: Vec<PathBuf>,
    keep: bool,
}

impl Place {
    /// Takes `dir`, or a fresh directory under the current one.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if it holds anything that log-bench did not put there; nothing is changed then.
    pub(crate) fn take(dir: Option<&Path>, keep: bool) -> Result<Place> {
        let dir = match dir {
            Some(dir) => dir.to_path_buf(),
            None => fresh_name()?,
        };
        let named = dir.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty());
        let made = named.take_while(|ancestor| !ancestor.exists()).map(Path::to_path_buf).collect();
        if dir.exists() {
            refuse_foreign(&dir)?;
        } else {
            fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        }
        let leavings = Leavings { dir, made, keep };
        match Place::claim(&leavings) {
            Ok(marker) => {
                *TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(leavings.clone());
                Ok(Place { leavings, _marker: marker })
            }
            Err(error) => {
                leavings.remove_made();
                Err(error)
            }
        }
    }

    fn claim(leavings: &Leavings) -> Result<fs::File> {
        let path = leavings.dir.join(MARKER);
        let marker =
            fs::File::options().create(true).append(true).open(&path).map_err(Error::io("write", &path))?;
        match marker.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy { dir: leavings.dir.clone() }),
            Err(fs::TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
        }
        if marker.metadata().map_err(Error::io("read", &path))?.len() == 0 {
            fs::write(&path, MARKER_TEXT).map_err(Error::io("write", &path))?;
        }
        let data = leavings.dir.join(DATA);
        remove_tree(&data).map_err(Error::io("remove", &data))?;
        fs::create_dir(&data).map_err(Error::io("create", &data))?;
        Ok(marker)
    }

    /// A path in the directory for data of this measurement; nothing is created.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.leavings.dir.join(DATA).join(name)
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.leavings.dir
    }

    /// Refuses to begin what would not fit on the disk.
    pub(crate) fn require(&self, needed: u64) -> Result<()> {
        match machine::free_bytes(self.dir()) {
            Some(free) if free < needed => Err(Error::NoRoom { dir: self.dir().to_path_buf(), needed, free }),
            _ => Ok(()),
        }
    }

    /// Removes one of the data directories or files, between two runs.
    pub(crate) fn discard(&self, name: &str) -> Result<()> {
        let path = self.data(name);
        remove_tree(&path).map_err(Error::io("remove", &path))
    }

    /// The same of what is only looked at afterwards, unless the data are kept.
    pub(crate) fn discard_unless_kept(&self, name: &str) -> Result<()> {
        if self.leavings.keep { Ok(()) } else { self.discard(name) }
    }

    /// Leaves the data: there is something in them to look at.
    pub(crate) fn keep(&mut self) {
        self.leavings.keep = true;
        *TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    /// What became of the data, for the last line of a report.
    pub(crate) fn epitaph(&self) -> String {
        let dir = self.leavings.dir.display();
        let memory =
            if machine::is_in_memory(&self.leavings.dir) { " (a file system in memory)" } else { "" };
        if self.leavings.keep {
            format!("The data are in {dir}{memory}; they were kept, as --keep does.")
        } else {
            format!("The data lay in {dir}{memory}; they were removed.")
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        self.leavings.clear();
    }
}

/// Removes the data of the measurement under way, for a process that is about to be ended by force.
pub(crate) fn remove_at_exit() {
    let taken = TAKEN.try_lock().ok().and_then(|mut taken| taken.take());
    if let Some(leavings) = taken {
        leavings.clear();
    }
}

impl Leavings {
    fn clear(&self) {
        if self.keep {
            return;
        }
        let removed = remove_tree(&self.dir.join(DATA)).and_then(|()| remove_file(&self.dir.join(MARKER)));
        if let Err(error) = removed {
            eprintln!("warning: could not remove the data in {}: {error}", self.dir.display());
        } else {
            self.remove_made();
        }
    }

    fn remove_made(&self) {
        // Fails where somebody has put a file beside ours: theirs to keep.
        let _ = self.made.iter().try_for_each(fs::remove_dir);
    }
}

fn fresh_name() -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(Error::io("find", Path::new(".")))?;
    let id = std::process::id();
    let names =
        (0_u32..).map(|n| if n == 0 { format!("log-bench-{id}") } else { format!("log-bench-{id}-{n}") });
    let mut fresh = names.map(|name| here.join(name)).filter(|dir| !dir.exists());
    Ok(fresh.next().expect("some number is not taken: there are 2^32"))
}

fn refuse_foreign(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(Error::io("read", dir))?.file_name());
    }
    let ours = names.iter().any(|name| name == MARKER);
    match names.iter().find(|name| !ours || (*name != MARKER && *name != DATA)) {
        Some(foreign) => {
            Err(Error::NotOurs { dir: dir.to_path_buf(), found: foreign.to_string_lossy().into_owned() })
        }
        None => Ok(()),
    }
}

/// Removes a file or a directory with all that is in it; nothing there is fine.
///
/// Tries again for as long as somebody still adds to the directory, a few times.
fn remove_tree(path: &Path) -> io::Result<()> {
    for _ in 0..8 {
        let gone = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => remove_file(path),
            Err(error) => Err(error),
        };
        match gone {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) => return Err(error),
        }
    }
    fs::remove_dir_all(path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
