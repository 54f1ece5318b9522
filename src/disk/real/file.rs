//! A real file.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::writers;
use crate::disk::whole::{read_whole, write_whole};
use crate::disk::{Access, BLOCK_BYTES, DurableWriter, File, Map};
use crate::types::WriteMethod;

/// A file of the operating system. Closed when it and its writers are dropped.
#[derive(Debug)]
pub(super) struct RealFile(Arc<OpenFile>);

/// What a file and its writers share.
pub(super) struct OpenFile {
    pub(super) fd: OwnedFd,
    dir: Arc<OwnedFd>,
    /// The name under which the file was opened; it may have another one by now.
    name: String,
    access: Access,
    maps: Mutex<Vec<Weak<Map>>>,
    /// For reading past the page cache, once that was asked for; `None` where it cannot be done.
    bulk: OnceLock<Option<OwnedFd>>,
}

impl RealFile {
    pub(super) fn new(open: OpenFile) -> RealFile {
        RealFile(Arc::new(open))
    }
}

impl File for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        read_whole(buf, offset, |buf, offset| Ok(rustix::io::pread(&self.0.fd, buf, offset)?))
    }

    fn read_bulk(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let is_whole = buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES)
            && buf.len().is_multiple_of(BLOCK_BYTES)
            && offset.is_multiple_of(BLOCK_BYTES as u64);
        let bulk = if is_whole { self.0.bulk() } else { None };
        // Whatever is in the way of it: the other way says what that is, or reads it.
        let done = bulk.and_then(|fd| rustix::io::pread(fd, &mut *buf, offset).ok()).unwrap_or(0);
        let rest = self.read_at(&mut buf[done..], offset + done as u64)?;
        Ok(done + rest)
    }

    fn will_read(&self, bytes: Range<u64>) {
        read_ahead(&self.0.fd, bytes);
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.repeated(buf, offset);
        self.0.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        sync_data(&self.0.fd)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if !reserve(&self.0.fd, bytes)? && bytes > self.bytes()? {
            rustix::fs::ftruncate(&self.0.fd, bytes)?;
        }
        Ok(())
    }

    fn write_zeroes(&self, bytes: u64) -> io::Result<bool> {
        let published = |map: &Weak<Map>| map.upgrade().is_some_and(|map| map.published() > 0);
        assert!(!self.0.maps.lock().iter().any(published), "published bytes may only be repeated");
        write_zeroes(&self.0.fd, bytes)
    }

    fn map(&self) -> io::Result<Arc<Map>> {
        let bytes = self.bytes()?;
        let mut maps = self.0.maps.lock();
        maps.retain(|map| map.strong_count() > 0);
        if let Some(map) = maps.iter().filter_map(Weak::upgrade).find(|map| map.mapped() == bytes) {
            return Ok(map);
        }
        let map = Arc::new(Map::of_file(self.0.fd.as_raw_fd())?);
        maps.push(Arc::downgrade(&map));
        Ok(map)
    }

    fn writer(&self, method: WriteMethod) -> io::Result<Box<dyn DurableWriter>> {
        if self.0.access == Access::Read {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        writers::open(&self.0, method)
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        let operation = match exclusive {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        match rustix::fs::flock(&self.0.fd, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl OpenFile {
    pub(super) fn new(fd: OwnedFd, dir: Arc<OwnedFd>, name: &str, access: Access) -> OpenFile {
        OpenFile {
            fd,
            dir,
            name: name.to_owned(),
            access,
            maps: Mutex::new(Vec::new()),
            bulk: OnceLock::new(),
        }
    }

    pub(super) fn bytes(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.fd)?.st_size as u64)
    }

    /// The file once more, to be read past the page cache.
    fn bulk(&self) -> Option<&OwnedFd> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return self.bulk.get_or_init(|| self.reopen(OFlags::RDONLY | OFlags::DIRECT).ok()).as_ref();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        return None;
    }

    /// Writes through the page cache.
    pub(super) fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        write_whole(buf, offset, |buf, offset| Ok(rustix::io::pwrite(&self.fd, buf, offset)?))
    }

    /// How many of `bytes`, about to be written at `offset`, some living map has published.
    ///
    /// # Panics
    /// If they would change what is published.
    pub(super) fn repeated(&self, bytes: &[u8], offset: u64) -> usize {
        self.store(bytes, offset, |repeated| repeated)
    }

    /// Gives `store` what [`repeated`](Self::repeated) gives, while nobody else stores to the file's memory.
    pub(super) fn store<R>(&self, bytes: &[u8], offset: u64, store: impl FnOnce(usize) -> R) -> R {
        let maps = self.maps.lock();
        let living = maps.iter().filter_map(Weak::upgrade);
        store(living.map(|map| map.repeated(bytes, offset)).max().unwrap_or(0))
    }

    /// The file once more, with flags of its own; never another file that has its name by now.
    pub(super) fn reopen(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            // Where /proc is mounted this finds the file whatever it is called now.
            let own = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
            match rustix::fs::openat(rustix::fs::CWD, own, flags, Mode::empty()) {
                Err(Errno::NOENT) => {}
                opened => return self.identified(opened?),
            }
        }
        self.identified(rustix::fs::openat(&*self.dir, self.name.as_str(), flags, Mode::empty())?)
    }

    fn identified(&self, fd: OwnedFd) -> io::Result<OwnedFd> {
        let (own, found) = (rustix::fs::fstat(&self.fd)?, rustix::fs::fstat(&fd)?);
        if (own.st_dev, own.st_ino) != (found.st_dev, found.st_ino) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(fd)
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile").field("name", &self.name).field("access", &self.access).finish()
    }
}

/// Lets the kernel begin to read.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn read_ahead(fd: &OwnedFd, bytes: Range<u64>) {
    if let Some(length) = NonZeroU64::new(bytes.end.saturating_sub(bytes.start)) {
        // Without it the read takes longer, and nothing else changes.
        let _ = rustix::fs::fadvise(fd, bytes.start, Some(length), rustix::fs::Advice::WillNeed);
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn read_ahead(_: &OwnedFd, _: Range<u64>) {}

/// Makes data and as much metadata durable as it takes to read it again, the length included.
///
/// Not repeated when interrupted: only the caller knows what is lost if a second attempt skips pages that
/// the first one marked clean.
pub(super) fn sync_data(fd: &OwnedFd) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    return sync_all(fd);
    #[cfg(target_os = "dragonfly")]
    return sync_all(fd);
    #[cfg(not(any(target_vendor = "apple", target_os = "dragonfly")))]
    Ok(rustix::fs::fdatasync(fd)?)
}

/// Makes a file or a directory durable with all of its metadata.
pub(super) fn sync_all(fd: &OwnedFd) -> io::Result<()> {
    // There, fsync leaves the data in the cache of the device.
    #[cfg(target_vendor = "apple")]
    match rustix::fs::fcntl_fullfsync(fd) {
        // Some file systems, and directories on others, know no more than fsync.
        Err(Errno::NOTSUP | Errno::INVAL | Errno::NOTTY) => {}
        done => return Ok(done?),
    }
    Ok(rustix::fs::fsync(fd)?)
}

/// Grows the file and reserves its blocks; `false` where the file system cannot.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(fd: &OwnedFd, bytes: u64) -> io::Result<bool> {
    loop {
        match rustix::fs::fallocate(fd, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Elsewhere the calls differ too much in what they do to the length: let the caller write zeros.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_: &OwnedFd, _: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn write_zeroes(fd: &OwnedFd, bytes: u64) -> io::Result<bool> {
    // FALLOC_FL_WRITE_ZEROES, since Linux 6.17: zeros as written extents, by a command to the device.
    let flags = rustix::fs::FallocateFlags::from_bits_retain(0x80);
    loop {
        match rustix::fs::fallocate(fd, flags, 0, bytes) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn write_zeroes(_: &OwnedFd, _: u64) -> io::Result<bool> {
    Ok(false)
}
