//! Measures a disk, and how close durable appends to an annals log come to its limit.
//!
//! One module for each subcommand; `drive` runs workloads on an `engine`, `raw` finds the raw limit, `place`
//! guards the directory, and `report` shows what was found.

mod append;
mod catchup;
mod cli;
mod cluster;
#[cfg(feature = "peers")]
mod compare;
mod device;
mod drive;
mod engine;
mod error;
mod failover;
mod idle;
mod latency;
mod machine;
mod ordeal;
mod place;
mod progress;
mod raw;
mod read;
mod reopen;
mod replicate;
mod report;
mod roll;
mod spread;
mod stream;
mod torture;
mod tour;
mod units;
mod workload;
mod yardstick;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use cli::{Cli, Command, Common, TortureArgs};
use error::{Error, Result};
use place::Place;
use report::Report;

fn main() -> ExitCode {
    let cli = Cli::read();
    listen_for_signals();
    let done = match &cli.command {
        Some(Command::ChildOpen(args)) => reopen::child_open(args),
        Some(Command::ChildAppend(args)) => reopen::child_append(args),
        Some(Command::ChildTorture(args)) => torture::child(args),
        Some(Command::ChildReplica(args)) => cluster::replica::child(&args.duty),
        Some(Command::ChildSink(args)) => stream::child(args),
        _ => measure(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The report has said what.
        Err(Error::Broken) => ExitCode::FAILURE,
        Err(Error::Interrupted) => {
            eprintln!("{}", Error::Interrupted);
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The first signal lets all that is under way stop and tidy up; the second ends the process.
fn listen_for_signals() {
    let heard = ctrlc::set_handler(|| {
        if progress::stop() {
            place::remove_at_exit();
            std::process::exit(130);
        }
    });
    if let Err(error) = heard {
        eprintln!("warning: cannot listen for signals, so Ctrl-C would leave the data: {error}");
    }
}

fn measure(cli: &Cli) -> Result<()> {
    if let Some(path) = &cli.common.html {
        check_page_path(path)?;
    }
    if let Some(Command::Torture(TortureArgs { recheck: Some(dir), .. })) = &cli.command {
        return torture::recheck(dir);
    }
    if let Some(Command::Ordeal(args)) = &cli.command
        && args.namespaces
        && !ordeal::network::is_inside()
    {
        return ordeal::network::enter();
    }
    #[cfg(not(feature = "peers"))]
    if let Some(Command::Compare(_)) = &cli.command {
        return Err(Error::NoPeers);
    }
    let mut place = Place::take(cli.common.dir.as_deref(), cli.common.keep)?;
    if machine::is_in_memory(place.dir()) {
        let dir = place.dir().display();
        eprintln!("note: {dir} is in memory: the figures say nothing about a disk; choose one with --dir");
    }
    let report = run(cli, &place);
    if matches!(&report, Ok(report) if report.is_failed) {
        place.keep();
    }
    let epitaph = place.epitaph();
    drop(place);
    let mut report = report?;
    report.notes.push(epitaph);
    show(&mut report, &cli.common)?;
    if report.is_failed { Err(Error::Broken) } else { Ok(()) }
}

fn run(cli: &Cli, place: &Place) -> Result<Report> {
    match &cli.command {
        None => tour::run(cli.input.as_deref(), place),
        Some(Command::Device(args)) => device::run(args, place),
        Some(Command::Append(args)) => append::run(args, place),
        Some(Command::Read(args)) => read::run(args, place),
        Some(Command::Open(args)) => reopen::run(args, place),
        Some(Command::Roll(args)) => roll::run(args, place),
        Some(Command::Torture(args)) => torture::run(args, place),
        Some(Command::Replicate(args)) => replicate::run(args, place),
        Some(Command::Failover(args)) => failover::run(args, place),
        Some(Command::Transfer(args)) => failover::transfer(args, place),
        Some(Command::Pause(args)) => failover::pause(args, place),
        Some(Command::Stall(args)) => failover::stall(args, place),
        Some(Command::Ordeal(args)) => ordeal::run(args, place),
        Some(Command::Catchup(args)) => catchup::run(args, place),
        Some(Command::Idle(args)) => idle::run(args, place),
        #[cfg(feature = "peers")]
        Some(Command::Compare(args)) => compare::run(args, place),
        #[cfg(not(feature = "peers"))]
        Some(Command::Compare(_)) => unreachable!("refused before a place is taken"),
        Some(
            Command::ChildOpen(_)
            | Command::ChildAppend(_)
            | Command::ChildTorture(_)
            | Command::ChildReplica(_)
            | Command::ChildSink(_),
        ) => {
            unreachable!("main runs them without a place")
        }
    }
}

/// Refuses a page that could not be written, before minutes are spent on what it would show.
fn check_page_path(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let meta = std::fs::metadata(parent).map_err(Error::io("write a page in", parent))?;
    if !meta.is_dir() || path.is_dir() {
        let kind =
            if path.is_dir() { std::io::ErrorKind::IsADirectory } else { std::io::ErrorKind::NotADirectory };
        return Err(Error::io("write", path)(kind.into()));
    }
    Ok(())
}

fn show(report: &mut Report, common: &Common) -> Result<()> {
    if let Some(path) = &common.html {
        std::fs::write(path, report::html::page(report)).map_err(Error::io("write", path))?;
        report.notes.push(format!("The page with plots is {}.", path.display()));
    }
    let text = report.text();
    let stdout = Path::new("standard output");
    if common.json {
        eprint!("{text}");
        let object = serde_json::Value::Object(std::mem::take(&mut report.json));
        writeln!(std::io::stdout(), "{object}").map_err(Error::io("write to", stdout))
    } else {
        std::io::stdout().write_all(text.as_bytes()).map_err(Error::io("write to", stdout))
    }
}
