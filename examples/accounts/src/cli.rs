//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::home::Costs;
use crate::settings::Policy;

/// A highly available registry of users, on four nodes
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tell the whole story on four nodes of its own, and clean up
    Demo(DemoArgs),
    /// Run four nodes until Ctrl-C, with a page to register and log in
    Start(StartArgs),
    /// Run one node
    Node(NodeArgs),
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Seconds to wait before each chapter, for whoever wants to read along
    #[arg(long, default_value = "0", value_parser = seconds)]
    pub(crate) pause: Duration,
    #[command(flatten)]
    pub(crate) costs: CostArgs,
}

#[derive(Args)]
pub(crate) struct StartArgs {
    /// Where the cluster is kept; without it, in a temporary directory that is removed at the end
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Who takes over when the primary is gone
    #[arg(long, value_enum)]
    pub(crate) policy: Option<Policy>,
    #[command(flatten)]
    pub(crate) costs: CostArgs,
}

#[derive(Args)]
pub(crate) struct NodeArgs {
    /// The node's file, as `start --dir` has made it
    pub(crate) file: PathBuf,
    /// Who takes over when the primary is gone, whatever the file says
    #[arg(long, value_enum)]
    pub(crate) policy: Option<Policy>,
    /// End when standard input does: with whoever has started it
    #[arg(long)]
    pub(crate) until_stdin_ends: bool,
    /// What to say on standard error: a word such as warn, info or debug
    #[arg(long, default_value = "info")]
    pub(crate) log_level: String,
}

/// What a hash of a password costs, in a new cluster.
#[derive(Args)]
pub(crate) struct CostArgs {
    /// KiB of memory that a hash takes; less than the default is for tests only
    #[arg(long, default_value_t = Costs::default().memory_kib, value_parser = clap::value_parser!(u32).range(8..=4 << 20))]
    hash_memory_kib: u32,
    /// Passes over that memory
    #[arg(long, default_value_t = Costs::default().passes, value_parser = clap::value_parser!(u32).range(1..=100))]
    hash_passes: u32,
}

impl CostArgs {
    pub(crate) fn costs(&self) -> Costs {
        Costs { memory_kib: self.hash_memory_kib, passes: self.hash_passes }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "a number of seconds, such as 1.5".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
