//! The command line.

use std::num::NonZeroU64;
use std::path::PathBuf;

use annals::protocol::request::Copies;
use clap::{Args, Parser, Subcommand};

use crate::address;
use crate::address::{Cluster, Preference};
use crate::client_name::ClientName;
use crate::settings::{ClientSettings, Policy, ReplicaSettings};
use crate::size::Span;

/// Runs a replica of an annals log, or a whole cluster on one machine, and operates it.
///
/// An annals log is a sequence of records that several replicas keep on their disks: what was acknowledged survives
/// the loss of any minority of them. To try it, begin with `log-node dev --dir cluster`: it starts three replicas
/// on this machine and prints how to append from another terminal.
#[derive(Debug, Parser)]
#[command(name = "log-node", version, about, long_about, after_help = STATUSES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the exit statuses mean.
const STATUSES: &str = "\
Exit status:
  0    done
  1    status: something is not as it should be; dev: all replicas have ended by themselves
  2    nobody knows whether it was done (append says of which lines)
  3    it could not be done; the error says what to do next
  64   the command line or the configuration makes no sense
  130  stopped by a signal";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts a whole cluster on this machine, to try and to develop with
    ///
    /// Makes certificates and a directory for each replica at the first time, and starts the replicas as child
    /// processes. Prints how to append from another terminal. Ctrl-C ends them all; a replica that ends by itself, or
    /// is killed, is not started again: that is for you to try.
    Dev(DevArgs),
    /// Makes certificates: an authority, and a certificate for each replica and client
    ///
    /// For development and small clusters. With the authority's key that it leaves in the directory it makes more
    /// certificates for the same cluster later. Whoever has that key is let in everywhere: keep it off the replicas.
    Certs(CertsArgs),
    /// Makes a replica's directory, once, before its first run
    ///
    /// The replicas that a cluster begins with are each made with the same --peers. One that is added later, and one
    /// that has lost its disk, is made with --join: it takes part once `log-node add` has said so.
    Create(CreateArgs),
    /// Runs a replica until SIGTERM or Ctrl-C
    ///
    /// Each setting can be in the file of --config, with underscores, such as `log_format = "json"`; a flag wins over
    /// the file. A primary that is asked to end hands its role over first. SIGHUP reads the certificates again.
    Run(RunArgs),
    /// Shows a table of the replicas: roles, epochs, watermarks, lag and disks
    ///
    /// Below the table stands what is not as it should be, and then it ends with status 1: a replica that does not answer,
    /// does not follow the primary, is recovering or has halted; a disk that is not good; no primary; and a replica that is
    /// not `streaming`, which is what it is getting. Whoever streams lacks `window` bytes (16m) at most; whoever lacks more
    /// is catching up until it has almost all.
    ///
    /// In the table `first` is the oldest record that a replica has, and `snapshot` what its newest snapshot covers, 0 for
    /// none. `lag` counts the records of the primary that it has not synced.
    Status(StatusArgs),
    /// Appends each line of a file, or of standard input, as a record
    ///
    /// Returns once all of them are as durable as asked. A failover in between is not noticed: each line is taken
    /// exactly once. If a line fails, those that are on their way with it are waited for, and the last lines tell which are
    /// in the log, and where to go on.
    Append(AppendArgs),
    /// Prints committed records, one on each line
    Tail(TailArgs),
    /// Hands the primary's role over, without a failed append
    Transfer(TransferArgs),
    /// Takes a snapshot on one replica now
    ///
    /// What a snapshot covers can be trimmed.
    Snapshot(ReplicaArgs),
    /// Forgets the oldest records of one replica's log
    ///
    /// A snapshot has to cover them. Under `log-node run` one that does is taken first where it is missing. A program of
    /// your own with a state machine refuses instead: take a snapshot before. Records that a laggard needs stay.
    Trim(TrimArgs),
    /// Takes a replica that was made with `create --join` into the cluster
    ///
    /// It receives the log as a learner, and votes once it has caught up.
    Add(AddArgs),
    /// Takes a replica out of the cluster
    ///
    /// Also one that is gone for good. The process of a removed replica can be ended then.
    Remove(RemoveArgs),
    /// Gives a voter another priority
    ///
    /// With `policy = "priority"` the role goes to a voter with a greater priority than the primary's, once that one has
    /// caught up. The other policies do not look at priorities. A learner has none.
    Priority(PriorityArgs),
    /// Says how many copies commit a record, and how many votes make a primary
    ///
    /// Any two elections must share a voter, and so must any election and any commit: so that --election is more than half
    /// of the voters, and --write and --election together are more than all. Where fewer copies commit, a failover needs
    /// more votes. `status --json` shows what holds.
    Quorums(QuorumsArgs),
    /// Lets a replica stand for election now: with `policy = "manual"` nobody else does
    Promote(PromoteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where everything goes: certificates, configurations, and a directory for each replica
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// How many replicas, at the first time; later as many as there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=15))]
    pub(crate) replicas: Option<u8>,
    /// The port of the first replica, at the first time; the others follow, and then the status pages. 0 chooses
    /// free ones
    #[arg(long, value_name = "PORT", default_value_t = 7101)]
    pub(crate) port: u16,
    /// Who takes over when the primary is gone, at the first time [default: automatic]
    #[arg(long, value_name = "WHO")]
    pub(crate) policy: Option<Policy>,
    /// Whom the policy priority prefers, the greatest number first, at the first time: 1=20,2=10,... [default: nobody]
    #[arg(long, value_name = "ID=N", value_delimiter = ',')]
    pub(crate) priorities: Option<Vec<Preference>>,
    /// What the replicas log: error, warn, info, debug, trace
    #[arg(long, value_name = "FILTER")]
    pub(crate) log_level: Option<String>,
    #[command(flatten)]
    pub(crate) lifeline: LifelineArgs,
}

/// How a process notices that whoever started it is gone.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LifelineArgs {
    /// End when standard input ends: whoever started this process is gone then
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    /// Where the certificates go, or where those of the cluster are already
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Certificates for the replicas 1 to N
    #[arg(long, value_name = "N", conflicts_with = "replica", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) replicas: Option<u64>,
    /// A certificate for this replica; more of them with commas
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) replica: Vec<u64>,
    /// A certificate for a client, ROLE:NAME, such as append:shop; roles are read, append and admin, and each may do
    /// what those before it may. More of them with commas
    #[arg(long, value_name = "ROLE:NAME", value_delimiter = ',')]
    pub(crate) client: Vec<ClientName>,
    /// The cluster's id, for a new authority [default: drawn at random]
    #[arg(long, value_name = "HEX")]
    pub(crate) cluster: Option<Cluster>,
    /// Days until the certificates expire; the authority lives ten years
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The file with the settings
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A newcomer, whom `log-node add` takes into a cluster that is there already
    #[arg(long)]
    pub(crate) join: bool,
    #[command(flatten)]
    pub(crate) settings: ReplicaSettings,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The file with the settings
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: ReplicaSettings,
    #[command(flatten)]
    pub(crate) lifeline: LifelineArgs,
}

/// How a cluster is reached.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reach {
    /// The file with the settings of a client, such as the client.toml of `log-node dev`
    #[arg(long, short, value_name = "FILE", help_heading = "The cluster")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: ClientSettings,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Show it again and again, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
    /// From one look to the next, with --watch
    #[arg(long, value_name = "TIME", default_value = "1s", requires = "watch")]
    pub(crate) every: Span,
    /// Print one JSON object for each look
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// The file; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Which synced copies each record waits for: quorum (a write quorum: no failover loses it), all (every voter), a
    /// number of replicas (and a write quorum at least), or local (the primary's alone: a failover may lose the record,
    /// and the last line tells of how many that is so)
    #[arg(long, value_name = "COPIES", default_value = "quorum")]
    pub(crate) durability: Copies,
    /// Records on their way at most
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) in_flight: u32,
    /// The lines are those of `log-recover dump --json`: a new cluster gets the records of an old log
    #[arg(long)]
    pub(crate) dump: bool,
    /// Print the LSN of each record
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// The first record [default: the oldest; with --follow, what comes from now on]
    #[arg(long, value_name = "LSN", value_parser = address::lsn)]
    pub(crate) from: Option<NonZeroU64>,
    /// Wait for more at the end, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Print so many records at most
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
    /// Print the LSN before each record
    #[arg(long)]
    pub(crate) lsn: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// To this replica [default: whichever has most]
    #[arg(long, value_name = "N", value_parser = address::replica_id)]
    pub(crate) to: Option<annals::ReplicaId>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplicaArgs {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Which replica
    #[arg(value_name = "REPLICA", value_parser = address::replica_id)]
    pub(crate) replica: annals::ReplicaId,
}

#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    #[command(flatten)]
    pub(crate) on: ReplicaArgs,
    /// The newest record to forget
    #[arg(long, value_name = "LSN", value_parser = address::lsn)]
    pub(crate) through: NonZeroU64,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// The newcomer and where it is reached: 4=HOST:PORT
    #[arg(value_name = "ID=HOST:PORT")]
    pub(crate) newcomer: address::Peer,
    /// Let it receive the log without ever voting
    #[arg(long)]
    pub(crate) learner: bool,
    /// Its priority, for `policy = "priority"`
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "learner")]
    pub(crate) priority: u8,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) on: ReplicaArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PriorityArgs {
    #[command(flatten)]
    pub(crate) on: ReplicaArgs,
    /// Its priority: the greatest leads
    #[arg(value_name = "PRIORITY")]
    pub(crate) priority: u8,
}

#[derive(Debug, Args)]
pub(crate) struct QuorumsArgs {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Synced copies that commit a record
    #[arg(long, value_name = "N", requires = "election", value_parser = clap::value_parser!(u8).range(1..=15))]
    pub(crate) write: Option<u8>,
    /// Votes that make a primary
    #[arg(long, value_name = "N", requires = "write", value_parser = clap::value_parser!(u8).range(1..=15))]
    pub(crate) election: Option<u8>,
    /// More than half of the voters for either, however many there are
    #[arg(long, conflicts_with_all = ["write", "election"], required_unless_present = "write")]
    pub(crate) majority: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    pub(crate) on: ReplicaArgs,
}
