//! Looks at damaged annals logs, repairs them with a way back, and salvages what is readable.
//!
//! One module for each group of commands over `annals::repair`; `report` shows what was found. Nothing here decides
//! anything about a log: that is the library's.

mod cli;
mod dump;
mod error;
mod look;
mod manual;
mod mend;
mod out;
mod peer;
mod place;
mod progress;
mod records;
mod report;
mod salvage;
mod scrub;
mod session;
mod status;

use std::process::ExitCode;

use cli::{Cli, Command};
use error::Result;
use session::Session;
use status::Status;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(said) => {
            // Help that nobody reads is no error.
            let _ = said.print();
            return if said.use_stderr() { Status::Usage } else { Status::Whole }.into();
        }
    };
    listen_for_signals();
    let session = Session::new(cli.command.name(), &cli.common);
    let status = run(&cli.command, &session).unwrap_or_else(|error| {
        session.show_error(cli.command.dir().map(AsRef::as_ref), &error);
        error.status()
    });
    status.into()
}

/// The first signal lets what is under way stop and tidy up; the second ends the process.
fn listen_for_signals() {
    let heard = ctrlc::set_handler(|| {
        if progress::stop() {
            std::process::exit(Status::Stopped.number().into());
        }
    });
    if let Err(error) = heard {
        session::note(&format!("cannot listen for signals, so Ctrl-C ends the process at once: {error}"));
    }
}

fn run(command: &Command, session: &Session) -> Result<Status> {
    match command {
        Command::Inspect(args) => look::inspect(args, session),
        Command::Verify(args) => look::verify(args, session),
        Command::Dump(args) => dump::run(args, session),
        Command::Plan(args) => mend::plan(args, session),
        Command::Repair(args) => mend::repair(args, session),
        Command::Undo(args) => mend::undo(args, session),
        Command::Salvage(args) => salvage::run(args, session),
        Command::Scrub(args) => scrub::run(args, session),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { out } => manual::man(out.as_deref()),
    }
}
