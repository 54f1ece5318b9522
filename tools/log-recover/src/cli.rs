//! The command line.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Looks at damaged annals logs, repairs them with a way back, and salvages what is readable.
///
/// Nothing is changed but by repair and undo; all others work on read-only media and on a full disk. inspect,
/// verify, dump and scrub also work beside a process that writes to the log. In doubt, begin with verify: it says
/// what to do next.
#[derive(Debug, Parser)]
#[command(name = "log-recover", version, about, long_about, after_help = STATUSES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the exit statuses mean.
pub(crate) const STATUSES: &str = "\
Exit status:
  0    the log is whole, or the command did what it was asked to
  1    damaged, but no acknowledged record is lost
  2    acknowledged records are lost or cannot be read
  3    could not be done: not a log, no permission, in use, no space
  64   the command line makes no sense
  130  stopped by a signal";

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Print one JSON object on standard output (dump: one on each line)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Colours; auto is on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the superblock, the segments and a map of the log
    ///
    /// Reads headers and footers alone, so it is quick on a log of any size, and does not see rotten records:
    /// verify does.
    Inspect(InspectArgs),
    /// Reads every byte; tells which acknowledged records are lost, if any
    ///
    /// Lists each stretch that is not clean, with its verdict: torn (never acknowledged; the next open discards
    /// it), stale (a former life of the file; ignored), rot (bytes that do not check any more) and hole (bytes
    /// or files that are not there). Names the next command.
    Verify(VerifyArgs),
    /// Writes records to standard output, also around damage
    ///
    /// Without an option, a line for each record with the beginning of its bytes, escaped. Exit status 2 if
    /// records in the range cannot be read.
    Dump(DumpArgs),
    /// Tells what repair would do, step by step, and what each step loses
    ///
    /// Changes nothing. Ends with the command that carries the plan out.
    Plan(VerifyArgs),
    /// Carries out the plan; the old files go into a quarantine
    ///
    /// Writes whole new files and moves the old ones, bit for bit as they are, to quarantine-DATE.* in the log's
    /// directory, with a journal. Asks nothing. If it is interrupted, run it again: it finishes, or changes
    /// nothing. The undo command takes it back.
    Repair(RepairArgs),
    /// Puts back exactly what the last repair has changed
    ///
    /// Also a repair that was interrupted. Refused once the log was written to after the repair.
    Undo(UndoArgs),
    /// Makes a new log, or a file of records, of all that is readable
    ///
    /// Leaves the old log as it is. Records keep their LSNs; those that cannot be read are gaps, which the new
    /// log tells whoever reads them. Exit status 2 if there are any.
    Salvage(SalvageArgs),
    /// Reads the complete segments at a bounded rate, once or again and again
    ///
    /// Works beside the program that writes to the log, and tells what is damaged as soon as it has gone through all.
    /// Says nothing of the newest segment, nor of how segments fit together: that is verify.
    Scrub(ScrubArgs),
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Prints the manual page, or writes a page for each command into a directory
    Man {
        /// Write `log-recover.1` and a page for each command into this directory
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The log's directory
    pub(crate) dir: PathBuf,
    /// List all segments, not only the first, the last and the damaged ones
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The log's directory
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Threads {
    /// Threads that read [default: two for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

impl Threads {
    /// How many threads are to read.
    pub(crate) fn number(self) -> usize {
        // One waits for the disk while another checks: measured half again as fast as one for each processor.
        let two_each = || 2 * std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(two_each, usize::from)
    }
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The log's directory
    pub(crate) dir: PathBuf,
    /// The first record [default: the oldest]
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub(crate) from: Option<NonZeroU64>,
    /// The last record [default: the newest]
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub(crate) to: Option<NonZeroU64>,
    /// The records' bytes as they are, one after the other; gaps are told on standard error
    #[arg(long, conflicts_with = "hex")]
    pub(crate) raw: bool,
    /// The records' bytes in hexadecimal, with addresses
    #[arg(long)]
    pub(crate) hex: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// The log's directory
    pub(crate) dir: PathBuf,
    /// The log is a replica's: fetch exactly what it has lost from another replica, at this address
    #[arg(long, value_name = "HOST:PORT", requires = "certs", conflicts_with = "accept_loss")]
    pub(crate) from_peer: Option<String>,
    /// With --from-peer: a directory with ca.pem, and the certificate and key of a replica or an admin
    #[arg(long, value_name = "DIR", requires = "from_peer")]
    pub(crate) certs: Option<PathBuf>,
    /// With --from-peer: how many seconds the other replica may take to answer
    #[arg(long, value_name = "SECS", default_value = "10", requires = "from_peer", value_parser = parse_secs)]
    pub(crate) deadline: f64,
    /// How many acknowledged records the repair gives up, as plan tells; needed if it gives up any
    #[arg(long, value_name = "N")]
    pub(crate) accept_loss: Option<u64>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// The log's directory
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SalvageArgs {
    /// The log's directory
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) to: SalvageTo,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// Where what is salvaged goes.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SalvageTo {
    /// Make a new log in this directory, which has to be new or empty
    #[arg(long, value_name = "NEW")]
    pub(crate) out: Option<PathBuf>,
    /// Write the records to this new file: lines of JSON with the bytes in base64, gaps included
    #[arg(long, value_name = "FILE")]
    pub(crate) records: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    /// The log's directory
    pub(crate) dir: PathBuf,
    /// MiB to read each second at most
    #[arg(long, value_name = "MIB", default_value = "16", value_parser = parse_positive)]
    pub(crate) rate: f64,
    /// Begin again this many seconds after each pass, until damage is found or a signal ends it
    #[arg(long, value_name = "SECS", num_args = 0..=1, default_missing_value = "0", value_parser = parse_secs)]
    pub(crate) repeat: Option<f64>,
}

impl Cli {
    /// Reads the command line; the error is to be printed, and says itself whether it is one.
    pub(crate) fn read() -> Result<Cli, clap::Error> {
        Cli::check(Cli::try_parse()?)
    }

    /// What the arguments cannot say of one another by themselves.
    fn check(cli: Cli) -> Result<Cli, clap::Error> {
        match &cli.command {
            Command::Dump(DumpArgs { from: Some(from), to: Some(to), .. }) if from > to => {
                let advice = format!("--from {from} is after --to {to}: there is nothing between them");
                Err(Cli::command().error(ErrorKind::ValueValidation, advice))
            }
            Command::Dump(args) if cli.common.json && (args.raw || args.hex) => {
                let advice = "--json, --raw and --hex are three ways to show a record: choose one";
                Err(Cli::command().error(ErrorKind::ArgumentConflict, advice))
            }
            Command::Completions { .. } | Command::Man { .. } if cli.common.json => {
                let advice = "--json goes with commands that look at a log";
                Err(Cli::command().error(ErrorKind::ArgumentConflict, advice))
            }
            _ => Ok(cli),
        }
    }
}

impl Command {
    /// The command's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Inspect(_) => "inspect",
            Command::Verify(_) => "verify",
            Command::Dump(_) => "dump",
            Command::Plan(_) => "plan",
            Command::Repair(_) => "repair",
            Command::Undo(_) => "undo",
            Command::Salvage(_) => "salvage",
            Command::Scrub(_) => "scrub",
            Command::Completions { .. } => "completions",
            Command::Man { .. } => "man",
        }
    }

    /// The directory of the log that it is about.
    pub(crate) fn dir(&self) -> Option<&PathBuf> {
        match self {
            Command::Inspect(InspectArgs { dir, .. })
            | Command::Verify(VerifyArgs { dir, .. })
            | Command::Dump(DumpArgs { dir, .. })
            | Command::Plan(VerifyArgs { dir, .. })
            | Command::Repair(RepairArgs { dir, .. })
            | Command::Undo(UndoArgs { dir })
            | Command::Salvage(SalvageArgs { dir, .. })
            | Command::Scrub(ScrubArgs { dir, .. }) => Some(dir),
            Command::Completions { .. } | Command::Man { .. } => None,
        }
    }
}

fn parse_lsn(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "expected the number of a record, from 1".to_string())
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected MiB a second, such as 64 or 0.5".to_string())?;
    if number > 0.0 && number.is_finite() { Ok(number) } else { Err("must be more than 0".to_string()) }
}

fn parse_secs(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected seconds, such as 3600".to_string())?;
    let allowed = 0.0..=1e9;
    if allowed.contains(&number) { Ok(number) } else { Err("must be 0 to 1000000000".to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::check(Cli::try_parse_from(line.split_whitespace())?)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_goes_before_and_after_the_command() {
        for line in
            ["log-recover --json verify d", "log-recover verify d --json", "log-recover undo --json d"]
        {
            assert!(parse(line).unwrap().common.json, "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "log-recover",
            "log-recover verify",
            "log-recover verify d --threads 0",
            "log-recover dump d --raw --hex",
            "log-recover dump d --raw --json",
            "log-recover --json dump d --hex",
            "log-recover dump d --from 0",
            "log-recover dump d --from 9 --to 8",
            "log-recover salvage d",
            "log-recover salvage d --out n --records f",
            "log-recover scrub d --rate 0",
            "log-recover scrub d --repeat -1",
            "log-recover repair d --accept-loss all",
            "log-recover repair d --from-peer a:1",
            "log-recover repair d --certs c",
            "log-recover repair d --deadline 5",
            "log-recover repair d --from-peer a:1 --certs c --accept-loss 1",
            "log-recover completions bash --json",
            "log-recover mend d",
        ] {
            assert!(parse(line).is_err_and(|error| error.use_stderr()), "{line}");
        }
    }
}
