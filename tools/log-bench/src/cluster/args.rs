//! The command line of what is measured on a cluster.

use annals::protocol::request::Copies;
use clap::Args;

use crate::units::{parse_bytes_above_zero, parse_rate, parse_record_bytes, parse_secs};

/// What is the same for every cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Replicas, each a process of its own on this machine, over the loopback.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=7))]
    pub(crate) replicas: u32,
    /// Size of a segment file [default: the library's].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes_above_zero)]
    pub(crate) segment_bytes: Option<u64>,
    /// Groups of a primary that wait for their commit at most, before the next one gathers [default: the library's].
    #[arg(long, value_name = "N", value_parser = parse_depth)]
    pub(crate) depth: Option<usize>,
    /// Take a snapshot and trim the log after so many records [default: never].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_every: Option<u64>,
    /// Whether the replicas' disks can be made to stand still.
    #[arg(skip)]
    pub(crate) is_gated: bool,
    /// Bytes of the state of an application that each replica has, if there is one.
    #[arg(skip)]
    pub(crate) state_bytes: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ReplicateArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Threads that append.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) clients: u32,
    /// `Client`s that the threads share, each with a stream of its own; all of them share a QUIC connection [default: one
    /// for each thread, at most 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) connections: Option<u32>,
    /// Append requests of a `Client` under way, from which on the next one waits until it is half full [default: the
    /// library's].
    #[arg(long, value_name = "N", value_parser = parse_depth)]
    pub(crate) depth_eager: Option<usize>,
    /// Size of a record.
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = parse_record_bytes)]
    pub(crate) size: u64,
    /// Records in a batch, appended as one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch: u32,
    /// Appends outstanding for each client; with 1, it waits for each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) in_flight: u32,
    /// Seconds of each run.
    #[arg(long, value_name = "S", default_value = "5", value_parser = parse_secs)]
    pub(crate) secs: f64,
    /// Runs on the same cluster; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Synced copies that each append waits for: local, quorum, all, or a number.
    #[arg(long, value_name = "COPIES", default_value = "quorum")]
    pub(crate) durability: Copies,
}

/// What is the same for all that do something to a cluster under load.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Clients that append meanwhile, each a thread; they share a QUIC connection.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) clients: u32,
    /// Size of a record.
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = parse_record_bytes)]
    pub(crate) size: u64,
    /// Records a second of all clients together [default: as fast as they are acknowledged].
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Synced copies that each append waits for: local, quorum, all, or a number. With local, records may be lost.
    #[arg(long, value_name = "COPIES", default_value = "quorum")]
    pub(crate) durability: Copies,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FailoverArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Primaries to kill with kill -9, one after another.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) kills: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Planned transfers of the primary's role.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) times: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Primaries to stop with SIGSTOP and to let go on, one after another.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) times: u32,
    /// Seconds for which each is stopped.
    #[arg(long, value_name = "S", default_value = "2", value_parser = parse_secs)]
    pub(crate) secs: f64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OrdealArgs {
    /// Replicas, each a process of its own on this machine.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=7))]
    pub(crate) replicas: u32,
    /// Rounds; after each of them everything is compared.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rounds: u32,
    /// What is done, to whom and when, follows from it [default: a new one].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Rounds until the cluster is ended, its logs are examined, and a new one begins, with the next seed.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) life: u32,
    /// Only these kinds of trouble [default: all that are possible].
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    pub(crate) only: Vec<crate::ordeal::trouble::Kind>,
    /// Clients that append meanwhile, each a thread; they share a QUIC connection.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) clients: u32,
    /// Size of a record.
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = parse_record_bytes)]
    pub(crate) size: u64,
    /// Records a second of all clients together.
    #[arg(long, value_name = "R", default_value = "1000", value_parser = parse_rate)]
    pub(crate) rate: f64,
    /// Size of a segment file: small, so that most of the log is in complete ones.
    #[arg(long, value_name = "SIZE", default_value = "256k", value_parser = parse_bytes_above_zero)]
    pub(crate) segment_bytes: u64,
    /// Synced copies that each append waits for: local, quorum, all, or a number. With local it has to fail.
    #[arg(long, value_name = "COPIES", default_value = "quorum")]
    pub(crate) durability: Copies,
    /// Each replica in a network namespace of its own, and links between them are cut too (Linux, root).
    #[arg(long)]
    pub(crate) namespaces: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StallArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Primaries whose disk is made to stand still, one after another.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) times: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Seconds for which the cluster is left alone.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_secs)]
    pub(crate) secs: f64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CatchupArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Bytes of records that a laggard lacks; a blank replica gets twice as many.
    #[arg(long, value_name = "SIZE", default_value = "512m", value_parser = parse_bytes_above_zero)]
    pub(crate) log_bytes: u64,
    /// Bytes of an application's state, which blank replicas get in a snapshot [default: as many as --log-bytes].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes_above_zero)]
    pub(crate) state_bytes: Option<u64>,
    /// Measure laggards too that get a snapshot, because the records that they lack were trimmed away.
    #[arg(long)]
    pub(crate) trimmed: bool,
    /// How many seconds clients append before a laggard starts, and after it has caught up.
    #[arg(long, value_name = "S", default_value = "2", value_parser = parse_secs)]
    pub(crate) calm: f64,
}

fn parse_depth(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(depth @ 1..=64) => Ok(depth),
        _ => Err("must be between 1 and 64".to_string()),
    }
}
