//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::mount::FileSystem;

/// Cuts the power under a file system that an annals log lies on, and fills and breaks its disk.
///
/// Needs root, /dev/fuse, loop devices and the mkfs of the file system; where something is missing, it says so and
/// ends with status 77. All it mounts is seen by nobody else, and goes with it.
#[derive(Debug, Parser)]
#[command(name = "power-cut", version, about, long_about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Records what a log asks of its disk, and cuts the power at many places of that.
    Cut(CutArgs),
    /// Damages a log, repairs it, takes that back and salvages it, and cuts the power at many places of that.
    Repair(RepairArgs),
    /// Fills the disk under a log, and makes room again.
    Full(FullArgs),
    /// Lets reads, writes and flushes of the disk fail.
    Broken(BrokenArgs),
    /// Looks once more at what a cut has left that failed.
    Recheck {
        /// The directory that was kept.
        dir: PathBuf,
    },
    /// Writes to a log, and tells of it: run by the others.
    #[command(hide = true)]
    Child {
        /// What to do, as JSON.
        trial: String,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// What all choices and records follow from [default: a new one].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Threads that append.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) writers: u16,
    /// Print one JSON object on standard output, and everything else on standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CutArgs {
    /// Tapes to record.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tapes: u32,
    /// Places to cut each tape at.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) points: usize,
    /// Phases of writing on each tape.
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(crate) phases: u32,
    /// File systems to try [default: ext4, xfs and btrfs, as far as there is a mkfs].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) fs: Vec<FileSystem>,
    /// Break something on purpose: then this has to fail.
    #[arg(long = "break", value_enum)]
    pub(crate) breaks: Option<Break>,
    /// Where to leave what a cut has left that failed.
    #[arg(long, value_name = "DIR", default_value = "power-cut-failed")]
    pub(crate) keep: PathBuf,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RepairArgs {
    /// Logs to damage, on each file system.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tapes: u32,
    /// Places to cut each tape at.
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub(crate) points: usize,
    /// File systems to try [default: ext4, xfs and btrfs, as far as there is a mkfs].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) fs: Vec<FileSystem>,
    /// Let the disk ignore flushes: then this has to fail.
    #[arg(long)]
    pub(crate) drop_flush: bool,
    /// What all choices follow from [default: a new one].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Print one JSON object on standard output, and everything else on standard error.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Break {
    /// The disk ignores flushes.
    DropFlush,
    /// The workload takes a record for durable as soon as it is appended.
    SkipWait,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FullArgs {
    /// Rounds on each file system.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BrokenArgs {
    /// Rounds; each lets another request fail.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// The file system.
    #[arg(long, value_enum, default_value = "ext4")]
    pub(crate) fs: FileSystem,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
