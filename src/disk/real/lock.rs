//! The lock that keeps a second writer out of a directory.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::dir::FILE_MODE;
use crate::disk::Lock;
use crate::disk::whole::{read_whole, write_whole};

/// Tries to take the exclusive lock on the file `name`, creating it as needed.
///
/// The lock belongs to the descriptor, so the operating system frees it with the process, however that ends.
/// The file stays: removing it would let two processes hold locks on two files of one name.
pub(super) fn take(dir: &OwnedFd, name: &str) -> io::Result<Lock> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, FILE_MODE)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Lock::Taken(owner(&fd))),
        Err(error) => return Err(error.into()),
    }
    let id = format!("{}\n", std::process::id());
    write_whole(id.as_bytes(), 0, |buf, offset| Ok(rustix::io::pwrite(&fd, buf, offset)?))?;
    // After the write, so that nobody finds the file empty while the lock is held for long.
    rustix::fs::ftruncate(&fd, id.len() as u64)?;
    Ok(Lock::Held(Box::new(fd)))
}

/// The process id that the file holds.
fn owner(fd: &OwnedFd) -> Option<u32> {
    let mut text = [0; 16];
    let bytes = read_whole(&mut text, 0, |buf, offset| Ok(rustix::io::pread(fd, buf, offset)?)).ok()?;
    str::from_utf8(&text[..bytes]).ok()?.lines().next()?.parse().ok()
}
