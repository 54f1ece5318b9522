//! Cuts the power under a file system that a log lies on, and fills and breaks its disk.
//!
//! A device is served to the kernel as a file through FUSE, and a loop device with a file system lies on it. So
//! every write and every flush of that file system is on a tape, in order, and between them what the log has
//! promised to whom. `cut` makes of it what a disk may hold after a power cut at any place, mounts that, and
//! compares the log with the promises. `repair` does the same while a damaged log is repaired, put back and salvaged.

#[cfg(target_os = "linux")]
mod broken;
#[cfg(target_os = "linux")]
mod cli;
#[cfg(target_os = "linux")]
mod cut;
#[cfg(target_os = "linux")]
mod cutting;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod full;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod mended;
#[cfg(target_os = "linux")]
mod mending;
#[cfg(target_os = "linux")]
mod mount;
#[cfg(target_os = "linux")]
mod recording;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod tape;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    host::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("skipped: FUSE and loop devices are those of Linux");
    ExitCode::from(77)
}
