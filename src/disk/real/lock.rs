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
    Ok(Lock::Held(Box::new(Held { fd, process: std::process::id() })))
}

/// The lock, until this is dropped.
#[derive(Debug)]
struct Held {
    fd: OwnedFd,
    process: u32,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing the descriptor alone frees the lock only once nobody has a copy of it, and a program that some other thread
        // is just starting has one, until it is the other program: whoever opened the log again meanwhile was told that it is
        // in use by himself. A process that was forked off and goes on has none of its own to free.
        if self.process == std::process::id() {
            let _ = rustix::fs::flock(&self.fd, FlockOperation::NonBlockingUnlock);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that was just being started had a copy of the descriptor.
    #[test]
    fn a_lock_is_free_once_it_is_dropped_whoever_has_a_copy_of_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let fd = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        assert!(matches!(take(&fd, "LOCK").unwrap(), Lock::Held(_)));
        let lock = Held {
            fd: rustix::fs::openat(&fd, "LOCK", OFlags::RDWR, Mode::empty()).unwrap(),
            process: std::process::id(),
        };
        assert!(try_lock(&lock.fd, FlockOperation::NonBlockingLockExclusive).unwrap());
        let copy = lock.fd.try_clone().unwrap();
        assert!(
            matches!(take(&fd, "LOCK").unwrap(), Lock::Taken(Some(owner)) if owner == std::process::id())
        );
        drop(lock);
        assert!(matches!(take(&fd, "LOCK").unwrap(), Lock::Held(_)));
        drop(copy);
    }
}
