//! The command line.

mod commands;
mod nodes;
mod out;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::demo::{self, DemoArgs};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::name::FileName;
use crate::node::{self, NodeArgs};
use crate::operation::OperationId;

pub use nodes::cluster_text;

/// A small distributed file store: several nodes, each with all files, that agree by an annals log.
///
/// To see it at work: `files demo`. To try it yourself: `files demo --stay`, and the commands that it prints.
#[derive(Debug, Parser)]
#[command(name = "files", version, about, long_about, after_help = STATUSES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What the exit statuses mean.
const STATUSES: &str = "\
Exit status:
  0    done
  1    nothing was changed: the error says why, such as a name that is taken; or a node is not well (stat --cluster)
  2    nobody knows whether it was done: give the command again with the --id that the error names
  3    it could not be done; the error says what to do next
  64   the command line makes no sense
  130  stopped by a signal";

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells the store's story: a cluster, a killed leader, a newcomer; in about ten seconds
    Demo(DemoArgs),
    /// Puts a file, as a whole or not at all
    ///
    /// If it is interrupted, the same command with the same --id goes on where it was.
    Put(PutArgs),
    /// Gets a file, and checks it
    Get(GetArgs),
    /// Lists the files
    List(ListArgs),
    /// Deletes a file
    Delete(DeleteArgs),
    /// Gives a file another name
    Rename(RenameArgs),
    /// Shows what is known of a file, or with --cluster of the nodes
    Stat(StatArgs),
    /// Makes a new cluster's directory, with certificates, for nodes on this machine
    Create(CreateArgs),
    /// Runs a node until Ctrl-C or SIGTERM
    Node(NodeArgs),
}

#[derive(Clone, Debug, Args)]
struct Reach {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", env = "FILES_HOME")]
    home: PathBuf,
    /// How many seconds a request may take, with all attempts
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    deadline: u64,
    /// The node to read from before all others
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// End when standard input does
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

#[derive(Debug, Args)]
struct PutArgs {
    /// The file to read, or - for standard input
    file: PathBuf,
    /// Its name in the store, if not the file's own
    #[arg(long = "as", value_name = "NAME")]
    name: Option<FileName>,
    /// A file that has this name already goes
    #[arg(long)]
    replace: bool,
    /// Goes on with an earlier attempt, or chooses the id of a first one
    #[arg(long, value_name = "ID")]
    id: Option<OperationId>,
    /// Bytes a second at most
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
struct GetArgs {
    /// Its name in the store
    name: FileName,
    /// The file to write, a directory to write it into, or - for standard output [default: the last part of the name, here]
    to: Option<PathBuf>,
    /// A file that is there already is replaced
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only names that begin so
    prefix: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// Its name
    name: FileName,
    /// Of an earlier attempt
    #[arg(long, value_name = "ID")]
    id: Option<OperationId>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
struct RenameArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    old: FileName,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    new: FileName,
    /// A file that has this name already goes
    #[arg(long)]
    replace: bool,
    /// Of an earlier attempt
    #[arg(long, value_name = "ID")]
    id: Option<OperationId>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
struct StatArgs {
    /// A file's name
    #[arg(required_unless_present = "cluster", conflicts_with = "cluster")]
    name: Option<FileName>,
    /// Shows the nodes: roles, epochs, watermarks, and the digest of the serialized state
    #[arg(long)]
    cluster: bool,
    /// And the serialized state itself
    #[arg(long, requires = "cluster")]
    state: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The directory to make it in
    #[arg(long, value_name = "DIR", env = "FILES_HOME")]
    home: PathBuf,
    /// How many nodes it begins with
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..10))]
    nodes: u64,
}

impl Reach {
    fn client(&self) -> Result<crate::client::FileClient> {
        if self.until_stdin_ends {
            crate::lifeline::on_end_of_input(|| std::process::exit(3))?;
        }
        crate::client::FileClient::connect(&self.home()?, self.patience(), self.from)
    }

    fn home(&self) -> Result<Home> {
        Home::open(&self.home)
    }

    const fn patience(&self) -> Duration {
        Duration::from_secs(self.deadline)
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            // Help that nobody reads is no error.
            let _ = said.print();
            return ExitCode::from(if said.use_stderr() { 64 } else { 0 });
        }
    };
    match run(&cli.command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(advice) = error.advice() {
                eprintln!("next:  {advice}");
            }
            ExitCode::from(error.status())
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Put(args) => commands::put(args),
        Command::Get(args) => commands::get(args),
        Command::List(args) => commands::list(args),
        Command::Delete(args) => commands::delete(args),
        Command::Rename(args) => commands::rename(args),
        Command::Stat(args) => return commands::stat(args),
        Command::Demo(args) => demo::run(args),
        Command::Node(args) => node::run(args),
        Command::Create(args) => create(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(args: &CreateArgs) -> Result<()> {
    let home = Home::create(&args.home, args.nodes)?;
    node::bootstrap(&home)?;
    let mut text =
        format!("a cluster of {} nodes in {}; start each of them:\n", args.nodes, args.home.display());
    for (node, _) in home.nodes() {
        text.push_str(&format!("  files node --home {} --id {node}\n", args.home.display()));
    }
    out::print(&text).map_err(Error::file("write to", std::path::Path::new("standard output")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
