//! The command line.

use std::path::PathBuf;

use annals::WriteMethod;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::cluster::args::{
    CatchupArgs, FailoverArgs, IdleArgs, OrdealArgs, PauseArgs, ReplicateArgs, StallArgs, TransferArgs,
};
use crate::units::{parse_bytes, parse_bytes_above_zero, parse_rate, parse_record_bytes, parse_secs};

/// Measures a disk, and how close durable appends to an annals log come to its limit.
///
/// Without a subcommand: a tour in under a minute.
#[derive(Debug, Parser)]
#[command(name = "log-bench", version, about, long_about, after_help = STATUSES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    /// A file whose lines are records of one more workload of the tour.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What the exit statuses mean.
const STATUSES: &str = "\
Exit status:
  0    measured
  1    it could not be measured, or the log has broken a promise
  2    the command line makes no sense
  130  stopped by a signal";

impl Cli {
    /// Reads the command line; ends the process where that makes no sense.
    pub(crate) fn read() -> Cli {
        let cli = Cli::parse();
        if cli.input.is_some() && cli.command.is_some() {
            let advice = "--input before a subcommand belongs to the tour; give it to `append`";
            Cli::command().error(ErrorKind::ArgumentConflict, advice).exit();
        }
        cli
    }
}

/// What every subcommand takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Where to work: an empty, a new, or log-bench's own directory [default: a new one under the current
    /// directory].
    #[arg(long, global = true, help_heading = "For every command", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Leave the data; otherwise they are removed at the end.
    #[arg(long, global = true, help_heading = "For every command")]
    pub(crate) keep: bool,
    /// Print exactly one JSON object on standard output, and everything else on standard error.
    #[arg(long, global = true, help_heading = "For every command")]
    pub(crate) json: bool,
    /// Write a self-contained page with plots to FILE.
    #[arg(long, global = true, help_heading = "For every command", value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The raw limit of the directory's disk, by write method, block size and number in flight.
    Device(DeviceArgs),
    /// Appends durably, and tells how close that comes to the raw limit.
    Append(AppendArgs),
    /// Reads sequentially and at random.
    Read(ReadArgs),
    /// Time and memory to open a log after a clean close and after kill -9, by its size.
    Open(OpenArgs),
    /// Latency of appends around segment changes, and away from them.
    Roll(RollArgs),
    /// Kills a process that writes, over and over, and compares what is left with an account of what it was
    /// promised.
    Torture(TortureArgs),
    /// Appends to a cluster: replicas are processes of their own, over the loopback.
    Replicate(ReplicateArgs),
    /// Kills the primary of a cluster under load, over and over: the time without a commit, and what was lost.
    Failover(FailoverArgs),
    /// Hands the primary's role over under load: the time without a commit, and appends that failed.
    Transfer(TransferArgs),
    /// Stops the primary of a cluster with SIGSTOP for a while: whoever wakes up deposed acknowledges nothing.
    Pause(PauseArgs),
    /// Lets the disk under the primary of a cluster stand still under load: how soon another one leads.
    Stall(StallArgs),
    /// Does everything to a cluster that may happen to one, at random by a seed, and compares all logs with an account
    /// kept outside after each round.
    Ordeal(OrdealArgs),
    /// How fast a lagging or a blank replica gets what it lacks, and what clients notice of that.
    Catchup(CatchupArgs),
    /// What each replica of a cluster uses of the processors while nobody asks anything of it.
    Idle(IdleArgs),
    /// The same workloads on annals, raft-engine and okaywal, runs interleaved.
    #[cfg(feature = "peers")]
    Compare(CompareArgs),
    /// The same workloads on other engines: takes a log-bench that was built with `--features peers`.
    #[cfg(not(feature = "peers"))]
    Compare(NoCompareArgs),
    /// Opens a log, tells what that took, and closes it: run in a fresh process by `open`.
    #[command(hide = true)]
    ChildOpen(ChildArgs),
    /// Appends to a log until it is killed or its standard input ends: run by `open`.
    #[command(hide = true)]
    ChildAppend(ChildArgs),
    /// Writes to a log in many ways until it is killed or its standard input ends: run by `torture`.
    #[command(hide = true)]
    ChildTorture(ChildTortureArgs),
    /// Is one replica of a cluster until its standard input ends.
    #[command(hide = true)]
    ChildReplica(ChildReplicaArgs),
    /// Receives a stream: run by `catchup`.
    #[command(hide = true)]
    ChildSink(ChildSinkArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Seconds for each combination.
    #[arg(long, value_name = "S", default_value = "0.3", value_parser = parse_secs)]
    pub(crate) secs: f64,
    /// Only this write method [default: all].
    #[arg(long, value_enum)]
    pub(crate) method: Option<Method>,
    /// Block sizes to write.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "4k,16k,64k,256k,1m", value_parser = parse_block)]
    pub(crate) blocks: Vec<u64>,
    /// Numbers of writes in flight.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,4", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) in_flight: Vec<u32>,
    /// Size of the file that is written over and over, after it was filled with zeros.
    #[arg(long, value_name = "SIZE", default_value = "512m", value_parser = parse_bytes_above_zero)]
    pub(crate) file_bytes: u64,
}

/// What is the same for all that append.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogArgs {
    /// How bytes reach the disk [default: what a short probe finds best].
    #[arg(long, value_enum)]
    pub(crate) method: Option<Method>,
    /// Size of a segment file [default: the library's].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes_above_zero)]
    pub(crate) segment_bytes: Option<u64>,
    /// Flushes in flight at most [default: the library's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) depth: Option<u32>,
    /// Trim the log to about this size while it grows [default: a quarter of what is free, at most 16 GiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes_above_zero)]
    pub(crate) retain: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AppendArgs {
    /// Threads that append.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) threads: u32,
    /// Size of a record.
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = parse_record_bytes, conflicts_with = "input")]
    pub(crate) size: u64,
    /// Records in a batch, appended as one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch: u32,
    /// Appends outstanding for each thread; with 1, it waits for each [default: 1, or 4096 with --rate].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) in_flight: Option<u32>,
    /// Seconds to append for [default: 5; with --input, until each line is appended once].
    #[arg(long, value_name = "S", value_parser = parse_secs)]
    pub(crate) secs: Option<f64>,
    /// Records a second of all threads together, on a fixed schedule; latency counts from when an append was
    /// due, so that a stall counts for all that it delayed.
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Append the lines of FILE, then read all of them back and compare.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Size of a record.
    #[arg(long, value_name = "SIZE", default_value = "1k", value_parser = parse_record_bytes)]
    pub(crate) size: u64,
    /// Bytes of records to write, then to read.
    #[arg(long, value_name = "SIZE", default_value = "1g", value_parser = parse_bytes_above_zero)]
    pub(crate) log_bytes: u64,
    /// Passes over the log; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Seconds of reads at random.
    #[arg(long, value_name = "S", default_value = "2", value_parser = parse_secs)]
    pub(crate) secs: f64,
    /// How bytes reach the disk [default: what a short probe finds best].
    #[arg(long, value_enum)]
    pub(crate) method: Option<Method>,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// Sizes of the log to open.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "64m,512m,2g", value_parser = parse_bytes_above_zero)]
    pub(crate) log_bytes: Vec<u64>,
    /// Size of a record.
    #[arg(long, value_name = "SIZE", default_value = "1k", value_parser = parse_record_bytes)]
    pub(crate) size: u64,
    /// Times to open each; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Drop the log from the page cache before each opening.
    #[arg(long)]
    pub(crate) cold: bool,
    /// How bytes reach the disk [default: what a short probe finds best].
    #[arg(long, value_enum)]
    pub(crate) method: Option<Method>,
}

#[derive(Debug, Args)]
pub(crate) struct RollArgs {
    /// Size of a segment; small, so that there are many changes.
    #[arg(long, value_name = "SIZE", default_value = "4m", value_parser = parse_bytes_above_zero)]
    pub(crate) segment_bytes: u64,
    /// Size of a record.
    #[arg(long, value_name = "SIZE", default_value = "4k", value_parser = parse_record_bytes)]
    pub(crate) size: u64,
    /// Seconds to append for.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_secs)]
    pub(crate) secs: f64,
    /// How bytes reach the disk [default: what a short probe finds best].
    #[arg(long, value_enum)]
    pub(crate) method: Option<Method>,
}

#[derive(Debug, Args)]
pub(crate) struct TortureArgs {
    /// Processes to kill.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Threads that append.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) writers: u16,
    /// What all choices and records follow from [default: a new one].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Seconds that a process lives for on average, if nothing else kills it sooner.
    #[arg(long, value_name = "S", default_value = "0.15", value_parser = parse_secs)]
    pub(crate) secs_per_round: f64,
    /// Check once more what a round that failed has left in DIR, and do nothing else.
    #[arg(long, value_name = "DIR")]
    pub(crate) recheck: Option<PathBuf>,
    /// Break something on purpose: take a record for durable as soon as it is appended. Has to fail.
    #[arg(long)]
    pub(crate) skip_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChildTortureArgs {
    /// What to do, as JSON.
    pub(crate) trial: String,
}

#[derive(Debug, Args)]
pub(crate) struct ChildReplicaArgs {
    /// Which one, and where, as JSON.
    pub(crate) duty: String,
}

/// Whatever follows: it is told in one word why it cannot be done.
#[cfg(not(feature = "peers"))]
#[derive(Debug, Args)]
pub(crate) struct NoCompareArgs {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ChildSinkArgs {
    /// Where its certificates go.
    pub(crate) dir: PathBuf,
    /// With the settings of the replicas, not as quinn comes.
    #[arg(long)]
    pub(crate) tuned: bool,
}

#[cfg(feature = "peers")]
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Seconds for each run.
    #[arg(long, value_name = "S", default_value = "2", value_parser = parse_secs)]
    pub(crate) secs: f64,
    /// Runs of each engine on each workload, in turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Only these workloads, by number [default: all].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4))]
    pub(crate) workload: Vec<u32>,
    /// Only these engines [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) engine: Vec<crate::compare::EngineKind>,
}

#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// The log's directory.
    #[arg(long)]
    pub(crate) log: PathBuf,
    /// Bytes to append before saying so; then go on.
    #[arg(long, default_value_t = 0)]
    pub(crate) log_bytes: u64,
    /// Size of a record.
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: u64,
    /// How bytes reach the disk.
    #[arg(long, value_enum)]
    pub(crate) method: Option<Method>,
}

/// The write methods by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// Past the page cache, each write durable when it returns.
    Direct,
    /// Through the page cache, then fdatasync.
    Buffered,
    /// Through a shared memory map, then msync.
    Mapped,
}

impl From<Method> for WriteMethod {
    fn from(method: Method) -> WriteMethod {
        match method {
            Method::Direct => WriteMethod::Direct,
            Method::Buffered => WriteMethod::Buffered,
            Method::Mapped => WriteMethod::Mapped,
        }
    }
}

fn parse_block(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes > 0 && bytes % 4096 == 0 && bytes <= 64 << 20 {
        Ok(bytes)
    } else {
        Err("must be a multiple of 4k, at most 64m".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_takes_the_common_flags() {
        for command in [
            "device",
            "append",
            "read",
            "open",
            "roll",
            "torture",
            "replicate",
            "failover",
            "transfer",
            "pause",
            "stall",
            "ordeal",
            "catchup",
            "idle",
        ] {
            let cli =
                Cli::try_parse_from(["log-bench", command, "--dir", "d", "--keep", "--json", "--html", "h"]);
            let common = cli.unwrap().common;
            assert!(common.keep && common.json && common.dir.is_some() && common.html.is_some(), "{command}");
        }
    }
}
