//! The three ways in which a block becomes durable.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::descriptors::Descriptors;
use super::file::{OpenFile, sync_data};
use crate::disk::whole::write_whole;
use crate::disk::{DurableWriter, assert_whole_blocks};
use crate::types::WriteMethod;

/// A writer by the given method, or `Unsupported`.
pub(super) fn open(file: &Arc<OpenFile>, method: WriteMethod) -> io::Result<Box<dyn DurableWriter>> {
    Ok(match method {
        WriteMethod::Direct => Box::new(Direct::open(file)?),
        WriteMethod::Buffered => Box::new(Buffered::open(file)?),
        WriteMethod::Mapped => Box::new(Mapped::open(file)?),
    })
}

/// Checks that published bytes are only repeated, in debug builds: a direct write drops the page from the
/// cache, so that a look at it before each write would read it from the device again.
fn check_repeated(file: &OpenFile, blocks: &[u8], offset: u64) {
    if cfg!(debug_assertions) {
        file.repeated(blocks, offset);
    }
}

/// Past the page cache, durable when the write returns.
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), allow(dead_code, reason = "cannot open"))]
#[derive(Debug)]
struct Direct {
    file: Arc<OpenFile>,
    fd: OwnedFd,
}

impl Direct {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn open(file: &Arc<OpenFile>) -> io::Result<Direct> {
        let block_bytes = crate::disk::BLOCK_BYTES as u32;
        if direct_alignment(&file.fd).is_some_and(|bytes| bytes == 0 || bytes > block_bytes) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match file.reopen(OFlags::WRONLY | OFlags::DIRECT | OFlags::DSYNC) {
            Ok(fd) => Ok(Direct { file: Arc::clone(file), fd }),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(io::ErrorKind::Unsupported.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Elsewhere the flags exist in part and mean less.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn open(_: &Arc<OpenFile>) -> io::Result<Direct> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The alignment that direct writes need, where the kernel tells (since Linux 6.1); 0 for "no such writes".
#[cfg(any(target_os = "linux", target_os = "android"))]
fn direct_alignment(fd: &OwnedFd) -> Option<u32> {
    use rustix::fs::{AtFlags, StatxFlags};
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let told = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    told.then(|| stat.stx_dio_mem_align.max(stat.stx_dio_offset_align))
}

impl DurableWriter for Direct {
    fn write_durable(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        assert_whole_blocks(blocks, offset);
        check_repeated(&self.file, blocks, offset);
        write_whole(blocks, offset, |buf, offset| Ok(rustix::io::pwrite(&self.fd, buf, offset)?))
    }
}

/// Through the page cache, then `fdatasync`.
#[derive(Debug)]
struct Buffered {
    file: Arc<OpenFile>,
    /// One more descriptor of the file for each write that was in flight at once.
    ///
    /// Linux reports a failed writeback once to each open file description. If writes in flight shared one,
    /// the sync of the first could be told about the loss of the second, whose own sync then succeeds.
    descriptors: Descriptors<OwnedFd>,
}

impl Buffered {
    /// Opens the first descriptor at once: a write must not fail because there are too many open files.
    fn open(file: &Arc<OpenFile>) -> io::Result<Buffered> {
        let first = file.reopen(OFlags::WRONLY)?;
        Ok(Buffered { file: Arc::clone(file), descriptors: Descriptors::new(first) })
    }
}

impl DurableWriter for Buffered {
    fn write_durable(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        assert_whole_blocks(blocks, offset);
        check_repeated(&self.file, blocks, offset);
        self.descriptors.with_one(
            || self.file.reopen(OFlags::WRONLY),
            |fd| {
                write_whole(blocks, offset, |buf, offset| Ok(rustix::io::pwrite(fd, buf, offset)?))?;
                sync_data(fd)
            },
        )
    }
}

/// Through a shared map of the file, then `msync`.
struct Mapped {
    file: Arc<OpenFile>,
    memory: MmapRaw,
    /// Held while flushing, for the reason given at [`Buffered::descriptors`]: a map has one description only.
    /// `true` once a flush has failed, after which none may be believed.
    failed: Mutex<bool>,
}

impl Mapped {
    fn open(file: &Arc<OpenFile>) -> io::Result<Mapped> {
        let stat = rustix::fs::fstat(&file.fd)?;
        // A store to a hole on a full disk would end the process with SIGBUS. (The unit is 512 by POSIX.)
        if (stat.st_blocks as u64) < (stat.st_size as u64).div_ceil(512) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the file has holes"));
        }
        let memory = MmapOptions::new().map_raw(file.fd.as_raw_fd())?;
        Ok(Mapped { file: Arc::clone(file), memory, failed: Mutex::new(false) })
    }
}

impl DurableWriter for Mapped {
    fn write_durable(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        assert_whole_blocks(blocks, offset);
        let inside =
            offset.checked_add(blocks.len() as u64).is_some_and(|end| end <= self.memory.len() as u64);
        if !inside {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "past the end of the mapped file"));
        }
        let start = offset as usize;
        self.file.store(blocks, offset, |repeated| {
            let fresh = &blocks[repeated..];
            // SAFETY: the range was just checked to lie within the map, which is writable and lives as long
            // as `self`; the file keeps its length, and was checked for holes. `fresh` cannot overlap the
            // map, which no safe code can borrow from. Nobody reads what is stored to: slices exist only of
            // what a `Map` of this file has published, and `repeated` leaves that out. Nobody else stores:
            // `OpenFile::store` lets one in at a time.
            unsafe {
                let to = self.memory.as_mut_ptr().add(start + repeated);
                to.copy_from_nonoverlapping(fresh.as_ptr(), fresh.len());
            }
        });
        let mut failed = self.failed.lock();
        if *failed {
            return Err(io::Error::other("an earlier flush of the map failed"));
        }
        // Where msync does not reach the device's own cache, a full sync does.
        let flushed = self.memory.flush_range(start, blocks.len());
        #[cfg(target_vendor = "apple")]
        let flushed = flushed.and_then(|()| sync_data(&self.file.fd));
        *failed = flushed.is_err();
        flushed
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapped").field("file", &self.file).finish_non_exhaustive()
    }
}
