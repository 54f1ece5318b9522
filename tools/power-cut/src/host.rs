//! The process: what it needs, its signals, and how it ends.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde_json::{Map, Value};

use crate::cli::{Cli, Command, Common};
use crate::error::{Error, Result};
use crate::mount::{self, FileSystem, Scratch};
use crate::{broken, cutting, full, mending};

/// The status of a step that cannot run here.
const SKIPPED: u8 = 77;

/// Set by the first signal.
static STOPPED: AtomicBool = AtomicBool::new(false);
/// What the second signal clears away.
static SCRATCH: Mutex<Option<PathBuf>> = Mutex::new(None);

/// What a campaign has to say.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// A line for each thing that was counted, in order.
    pub(crate) lines: Vec<(String, String)>,
    /// What went wrong, if something did.
    pub(crate) failed: Option<String>,
}

impl Outcome {
    /// Adds a line.
    pub(crate) fn count(&mut self, what: impl Into<String>, count: impl ToString) {
        self.lines.push((what.into(), count.to_string()));
    }
}

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Child { trial } = &cli.command {
        return match annals_ledger::run_as_child(trial) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    match campaign(&cli.command) {
        Ok((outcome, json)) => {
            show(&outcome, json);
            if outcome.failed.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error @ Error::Skipped(_)) => {
            eprintln!("{error}");
            ExitCode::from(SKIPPED)
        }
        Err(Error::Stopped) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn campaign(command: &Command) -> Result<(Outcome, bool)> {
    check_host()?;
    mount::leave_namespace()?;
    let scratch = Scratch::new()?;
    *SCRATCH.lock().unwrap_or_else(PoisonError::into_inner) = Some(scratch.dir().to_path_buf());
    let heard = ctrlc::set_handler(|| {
        if STOPPED.swap(true, Ordering::Relaxed) {
            let taken = SCRATCH.try_lock().ok().and_then(|mut scratch| scratch.take());
            taken.iter().for_each(|dir| Scratch::clear(dir));
            std::process::exit(130);
        }
    });
    heard.map_err(|error| Error::Skipped(format!("signals cannot be heard ({error})")))?;
    match command {
        Command::Cut(args) => Ok((cutting::run(args, seed(&args.common), &scratch)?, args.common.json)),
        Command::Repair(args) => Ok((mending::run(args, seed_or_new(args.seed), &scratch)?, args.json)),
        Command::Full(args) => Ok((full::run(args, seed(&args.common), &scratch)?, args.common.json)),
        Command::Broken(args) => Ok((broken::run(args, seed(&args.common), &scratch)?, args.common.json)),
        Command::Recheck { dir } => Ok((cutting::recheck(dir, &scratch)?, false)),
        Command::Child { .. } => unreachable!("main runs it without a campaign"),
    }
}

/// Says in one line what is missing.
fn check_host() -> Result<()> {
    let skipped = |why: &str| Err(Error::Skipped(why.to_string()));
    if !nix::unistd::geteuid().is_root() {
        return skipped("only root can mount");
    }
    for (path, what) in [("/dev/fuse", "FUSE"), ("/dev/loop-control", "loop devices")] {
        if fs::File::options().read(true).write(true).open(path).is_err() {
            return skipped(&format!("{path} cannot be opened, so there is no way to {what}"));
        }
    }
    let losetup = std::process::Command::new("losetup").arg("--version").output();
    if !losetup.is_ok_and(|output| output.status.success()) {
        return skipped("there is no losetup");
    }
    if !FileSystem::ALL.iter().any(|kind| kind.is_there()) {
        return skipped("there is no mkfs.ext4, mkfs.xfs or mkfs.btrfs");
    }
    Ok(())
}

/// Fails once a signal asked the process to stop.
pub(crate) fn check_stopped() -> Result<()> {
    if STOPPED.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
}

/// The seed that was asked for, or one that no run had before.
fn seed(common: &Common) -> u64 {
    seed_or_new(common.seed)
}

fn seed_or_new(seed: Option<u64>) -> u64 {
    seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64 >> 10
    })
}

fn show(outcome: &Outcome, json: bool) {
    let width = outcome.lines.iter().map(|line| line.0.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (what, count) in &outcome.lines {
        text.push_str(&format!("{what:width$}  {count:>10}\n"));
    }
    if let Some(failed) = &outcome.failed {
        text.push_str(&format!("FAILED: {failed}\n"));
    }
    if !json {
        return print!("{text}");
    }
    eprint!("{text}");
    let value = |count: &String| count.parse::<u64>().map_or_else(|_| count.clone().into(), Value::from);
    let mut object: Map<String, Value> =
        outcome.lines.iter().map(|(what, count)| (what.replace([' ', ','], "_"), value(count))).collect();
    object.insert("failed".into(), outcome.failed.clone().into());
    println!("{}", Value::Object(object));
}
