//! The device as a file: served to the kernel through FUSE, so that a loop device can lie on it.
//!
//! One thread serves all requests, so that the tape has them in the one order in which they were answered. The
//! page cache is passed by, so that a write of the loop device arrives here when it is made.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use annals_ledger::{EVENT_BYTES, Event};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::error::{Error, Result};
use crate::tape::{Content, Patch, Tape};

/// The device.
pub(crate) const IMAGE: &str = "image";
/// Where the workload tells what it does; each write is one event.
pub(crate) const NOTES: &str = "notes";

const IMAGE_INODE: u64 = 2;
const NOTES_INODE: u64 = 3;
const TTL: Duration = Duration::from_secs(3600);
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// Bits of the mode of fallocate: the bytes read as zeros afterwards.
const PUNCH_HOLE: i32 = 2;
const ZERO_RANGE: i32 = 16;

/// A device that is served; it goes when this is dropped.
pub(crate) struct Served {
    dir: PathBuf,
    session: Option<BackgroundSession>,
}

impl Served {
    /// Serves `tape` in the directory `dir`.
    pub(crate) fn begin(tape: Arc<Tape>, dir: &Path) -> Result<Served> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("power-cut".into())];
        let session = fuser::spawn_mount(Server { tape }, dir, &config);
        let session = session.map_err(Error::io("serve a device in", dir))?;
        Ok(Served { dir: dir.to_path_buf(), session: Some(session) })
    }

    /// The device.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join(IMAGE)
    }

    /// Where the workload tells.
    pub(crate) fn notes(&self) -> PathBuf {
        self.dir.join(NOTES)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The loop device may let go of the file a moment after it was detached.
        crate::mount::unmount(&self.dir);
        drop(self.session.take());
    }
}

struct Server {
    tape: Arc<Tape>,
}

impl Server {
    fn attributes(&self, inode: u64) -> Option<FileAttr> {
        let (kind, size, perm) = match inode {
            1 => (FileType::Directory, 0, 0o700),
            IMAGE_INODE => (FileType::RegularFile, self.tape.bytes(), 0o600),
            NOTES_INODE => (FileType::RegularFile, 0, 0o600),
            _ => return None,
        };
        Some(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn write(&self, inode: u64, offset: u64, data: &[u8]) -> bool {
        if inode == IMAGE_INODE {
            return self.tape.write(Patch { offset, bytes: Content::Bytes(data.into()) }).is_ok();
        }
        let Ok(bytes) = <&[u8; EVENT_BYTES]>::try_from(data) else { return false };
        let event = Event::decode(bytes);
        event.map(|event| self.tape.tell(event)).is_some()
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Whatever the kernel takes less than that.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inode = match name.to_str() {
            Some(IMAGE) if parent == INodeNo::ROOT => IMAGE_INODE,
            Some(NOTES) if parent == INodeNo::ROOT => NOTES_INODE,
            _ => 0,
        };
        match self.attributes(inode) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode.0) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // Times do not matter, and the size stays.
        self.getattr(request, inode, handle, reply);
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(inode.0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match inode.0 {
            IMAGE_INODE => match self.tape.read(offset, size) {
                Ok(bytes) => reply.data(&bytes),
                Err(_) => reply.error(Errno::EIO),
            },
            _ => reply.data(&[]),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match Server::write(self, inode.0, offset, data) {
            true => reply.written(data.len() as u32),
            false => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A file was closed, which makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match inode.0 != IMAGE_INODE || self.tape.flush().is_ok() {
            true => reply.ok(),
            false => reply.error(Errno::EIO),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if inode.0 != IMAGE_INODE || mode & (PUNCH_HOLE | ZERO_RANGE) == 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        match self.tape.write(Patch { offset, bytes: Content::Zeros(length) }) {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }
}
