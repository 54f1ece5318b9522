//! A real directory.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use super::file::{OpenFile, RealFile};
use super::{file, lock};
use crate::disk::{Access, Disk, File, Holder, Lock};

/// A directory of the operating system.
///
/// Held open by descriptor: renaming the directory itself does not confuse a log inside it.
#[derive(Debug)]
pub struct RealDisk {
    dir: Arc<OwnedFd>,
}

impl RealDisk {
    /// Opens a directory that exists.
    ///
    /// # Errors
    /// `NotFound` where there is none, and whatever else the operating system says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<RealDisk> {
        Ok(RealDisk { dir: Arc::new(open_dir(path.as_ref())?) })
    }

    /// Opens a directory, after creating it and those above it as needed, all of them durably.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn create(path: impl AsRef<Path>) -> io::Result<RealDisk> {
        let path = path.as_ref();
        create_durably(path)?;
        RealDisk::open(path)
    }

    fn open_file(&self, name: &str, access: Access, flags: OFlags) -> io::Result<Arc<dyn File>> {
        let access_flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let flags = flags | access_flags | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.dir, plain(name)?, flags, FILE_MODE)?;
        Ok(Arc::new(RealFile::new(OpenFile::new(fd, Arc::clone(&self.dir), name, access))))
    }

    /// The names of all files, sorted.
    fn list_once(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*self.dir)? {
            let entry = entry?;
            if entry.file_type() != FileType::Directory {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// A listing is repeated so often until it is the same twice: a log in use changes its names once in many milliseconds.
const LISTINGS_MAX: usize = 16;

/// Owner reads and writes, the group reads; the umask takes away more.
pub(super) const FILE_MODE: Mode = Mode::from_raw_mode(0o640);

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        // A file that is renamed meanwhile may be found under neither name, and is there the next time.
        let mut names = self.list_once()?;
        for _ in 0..LISTINGS_MAX {
            let again = self.list_once()?;
            if again == names {
                break;
            }
            names = again;
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_file(name, Access::ReadWrite, OFlags::CREATE | OFlags::EXCL)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.open_file(name, access, OFlags::empty())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&*self.dir, plain(from)?, &*self.dir, plain(to)?)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::linkat(&*self.dir, plain(from)?, &*self.dir, plain(to)?, AtFlags::empty())?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&*self.dir, plain(name)?, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        file::sync_all(&self.dir)
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        lock::take(&self.dir, plain(name)?)
    }

    fn holder(&self, name: &str) -> io::Result<Holder> {
        lock::holder(&self.dir, plain(name)?)
    }

    fn entropy(&self) -> u64 {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        // The keys of the hasher come from the operating system's random source, once for each thread; the
        // rest keeps draws apart when a process was forked or a virtual machine resumed from a snapshot.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(DRAWN.fetch_add(1, Ordering::Relaxed));
        hasher.write_u32(std::process::id());
        hasher.write_u128(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
        hasher.finish()
    }

    fn wall_ms(&self) -> u64 {
        // A clock before 1970 only makes records look old: retention by age is the one use.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// Lets pass only names that stay in the directory.
fn plain(name: &str) -> io::Result<&str> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
    }
    Ok(name)
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Creates the directory and those above it, and syncs each name into the directory that holds it.
fn create_durably(path: &Path) -> io::Result<()> {
    // Without the trailing "." that `parent` would skip and `create_dir` would not.
    let path: PathBuf = path.components().collect();
    let above = holder(&path);
    let mut created = std::fs::create_dir(&path);
    if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) && above != path {
        create_durably(&above)?;
        created = std::fs::create_dir(&path);
    }
    match created {
        Ok(()) => file::sync_all(&open_dir(&above)?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            // It may be new, of a process that crashed before it could sync the name. What cannot be opened
            // was not created by the likes of us.
            open_dir(&above).map_or(Ok(()), |above| file::sync_all(&above))
        }
        Err(error) => Err(error),
    }
}

/// The directory that holds the name `path`.
fn holder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => PathBuf::from("."),
        Some(above) => above.to_owned(),
        None => path.to_owned(),
    }
}
