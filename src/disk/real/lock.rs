//! The lock that keeps a second writer out of a directory.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::dir::FILE_MODE;
use crate::disk::whole::{read_whole, write_whole};
use crate::disk::{Holder, Lock};

/// Tries to take the exclusive lock on the file `name`, creating it as needed.
///
/// The lock belongs to the descriptor, so the operating system frees it with the process, however that ends.
/// The file stays: removing it would let two processes hold locks on two files of one name.
pub(super) fn take(dir: &OwnedFd, name: &str) -> io::Result<Lock> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, FILE_MODE)?;
    while !try_lock(&fd, FlockOperation::NonBlockingLockExclusive)? {
        if !try_lock(&fd, FlockOperation::NonBlockingLockShared)? {
            return Ok(Lock::Taken(owner(&fd)));
        }
        // Nobody has it but those who only ask, each for a moment.
        std::thread::yield_now();
    }
    let id = format!("{}\n", std::process::id());
    write_whole(id.as_bytes(), 0, |buf, offset| Ok(rustix::io::pwrite(&fd, buf, offset)?))?;
    // After the write, so that nobody finds the file empty while the lock is held for long.
    rustix::fs::ftruncate(&fd, id.len() as u64)?;
    Ok(Lock::Held(Box::new(fd)))
}

/// Asks who holds the lock, with a shared one of its own for a moment: on a descriptor of its own too, so that
/// a lock that this process holds stays as it is.
pub(super) fn holder(dir: &OwnedFd, name: &str) -> io::Result<Holder> {
    let fd = match rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(Holder::Nobody),
        Err(error) => return Err(error.into()),
    };
    match try_lock(&fd, FlockOperation::NonBlockingLockShared)? {
        true => Ok(Holder::Nobody),
        false => Ok(Holder::Process(owner(&fd))),
    }
}

fn try_lock(fd: &OwnedFd, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(fd, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The process id that the file holds.
fn owner(fd: &OwnedFd) -> Option<u32> {
    let mut text = [0; 16];
    let bytes = read_whole(&mut text, 0, |buf, offset| Ok(rustix::io::pread(fd, buf, offset)?)).ok()?;
    str::from_utf8(&text[..bytes]).ok()?.lines().next()?.parse().ok()
}
