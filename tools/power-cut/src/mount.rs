//! Loop devices and mounts, each gone when its guard is dropped.
//!
//! All mounts are made in a mount namespace of this process's own, and every loop device is told to go with its
//! last user: so the kernel clears up after a process that was killed, too.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Error, Result};

/// How long the last user of something may take to let go of it.
const LET_GO: Duration = Duration::from_secs(10);
const BREATH: Duration = Duration::from_millis(2);

/// Leaves the mounts of everybody else. Before any thread is started.
pub(crate) fn leave_namespace() -> Result<()> {
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let left = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| mount(none, "/", none, private, none));
    left.map_err(|errno| Error::Skipped(format!("a mount namespace cannot be made here ({errno})")))
}

/// A directory in memory that nobody else sees: all files of a campaign lie in it.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Result<Scratch> {
        let dir = std::env::temp_dir().join(format!("power-cut-{}", std::process::id()));
        fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
        let scratch = Scratch { dir };
        mount_memory(&scratch.dir, "90%")?;
        Ok(scratch)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it; with a directory there.
    pub(crate) fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        Ok(dir)
    }

    /// Removes it, whatever is still mounted there.
    pub(crate) fn clear(dir: &Path) {
        let _ = umount2(dir, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(dir);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        Scratch::clear(&self.dir);
    }
}

/// Mounts a file system in memory, of at most this size.
pub(crate) fn mount_memory(dir: &Path, size: &str) -> Result<()> {
    let size = format!("size={size}");
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(&*size))
        .map_err(|errno| Error::io("mount memory at", dir)(errno.into()))
}

/// Something that is mounted.
#[derive(Debug)]
pub(crate) struct Mounted {
    dir: PathBuf,
}

impl Mounted {
    /// A file system in memory.
    pub(crate) fn memory(dir: &Path, size: &str) -> Result<Mounted> {
        mount_memory(dir, size)?;
        Ok(Mounted { dir: dir.to_path_buf() })
    }

    /// The file system in `image`, by way of a loop device.
    pub(crate) fn image(image: &Path, kind: FileSystem, direct: bool, dir: &Path) -> Result<Mounted> {
        let device = attach(image, direct)?;
        let mounted = mount(Some(&*device), dir, Some(kind.name()), MsFlags::empty(), kind.options());
        // From now on it goes when it is unmounted; or at once.
        detach(&device);
        match mounted {
            Ok(()) => Ok(Mounted { dir: dir.to_path_buf() }),
            Err(errno) => Err(Error::FileSystem(format!("{}: {errno}", kind.name()))),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.dir);
    }
}

/// Unmounts, once nobody uses it any more; in the end, whoever does.
pub(crate) fn unmount(dir: &Path) {
    let began = Instant::now();
    while umount2(dir, MntFlags::empty()) == Err(nix::errno::Errno::EBUSY) {
        if began.elapsed() > LET_GO {
            eprintln!("warning: {} is still in use", dir.display());
            let _ = umount2(dir, MntFlags::MNT_DETACH);
            return;
        }
        thread::sleep(BREATH);
    }
}

/// Puts a loop device on a file.
fn attach(image: &Path, direct: bool) -> Result<String> {
    let direct = if direct { "--direct-io=on" } else { "--direct-io=off" };
    let output = Command::new("losetup").args(["--find", "--show", direct]).arg(image).output();
    let output = output.map_err(Error::io("start losetup on", image))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(Error::io("put a loop device on", image)(io::Error::other(said)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn detach(device: &str) {
    let _ = Command::new("losetup").args(["--detach", device]).stderr(Stdio::null()).status();
}

/// A file system that is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub(crate) enum FileSystem {
    /// Ext4, ordered.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl FileSystem {
    /// All of them.
    pub(crate) const ALL: [FileSystem; 3] = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
        }
    }

    /// The program that makes one.
    pub(crate) fn maker(self) -> String {
        format!("mkfs.{}", self.name())
    }

    /// Bytes of the smallest that can be made and leaves room for a log.
    pub(crate) fn image_bytes(self) -> u64 {
        match self {
            FileSystem::Ext4 => 64 << 20,
            FileSystem::Xfs => 320 << 20,
            FileSystem::Btrfs => 192 << 20,
        }
    }

    /// Bytes that a device has to write as a whole for this file system to come back. Ext4 replays whole blocks
    /// from its journal, and survives any torn sector. XFS skips the replay of a block whose first sector is
    /// already the newer one, and btrfs has no second superblock that it would mount by itself.
    pub(crate) fn sector_bytes(self) -> u64 {
        if self == FileSystem::Ext4 { 512 } else { 4096 }
    }

    fn options(self) -> Option<&'static str> {
        // Both kinds of errors are to reach the log, not to stop the machine.
        (self == FileSystem::Ext4).then_some("errors=remount-ro")
    }

    /// Whether there is a program that makes one.
    pub(crate) fn is_there(self) -> bool {
        Command::new(self.maker()).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }

    /// Makes one of `bytes` bytes in the new file `image`.
    pub(crate) fn make(self, image: &Path, bytes: u64) -> Result<()> {
        let file = File::create(image).map_err(Error::io("create", image))?;
        file.set_len(bytes).map_err(Error::io("write", image))?;
        let quietly = match self {
            FileSystem::Ext4 => &["-q", "-F"][..],
            FileSystem::Xfs | FileSystem::Btrfs => &["-q", "-f"],
        };
        let output = Command::new(self.maker()).args(quietly).arg(image).output();
        let output = output.map_err(Error::io("make a file system in", image))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(Error::io("make a file system in", image)(io::Error::other(said)));
        }
        Ok(())
    }
}

/// Copies a file and leaves out what is zero.
pub(crate) fn copy_sparsely(from: &File, to: &Path) -> Result<File> {
    let copy = || {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(to)?;
        let bytes = from.metadata()?.len();
        file.set_len(bytes)?;
        let mut chunk = vec![0; 64 << 10];
        let mut at = 0;
        while at < bytes {
            let there = (bytes - at).min(chunk.len() as u64) as usize;
            from.read_exact_at(&mut chunk[..there], at)?;
            if chunk[..there].iter().any(|&byte| byte != 0) {
                file.write_all_at(&chunk[..there], at)?;
            }
            at += there as u64;
        }
        Ok(file)
    };
    copy().map_err(Error::io("write", to))
}
