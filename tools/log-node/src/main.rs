//! Runs a replica of an annals log, or a whole cluster on one machine, and operates it.
//!
//! One module for each group of commands over `annals::node` and `annals::client`. What a replica does is the
//! library's; here are the command line, the configuration, processes, logs, and what is shown.

mod address;
mod admin;
mod bounds;
mod certs;
mod cli;
mod client_name;
mod create;
mod dev;
mod error;
mod fates;
mod http;
mod lifeline;
mod logs;
mod look;
mod out;
mod overview;
mod reach;
mod records;
mod replica;
mod report;
mod run;
mod session;
mod settings;
mod size;
mod status;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use error::Result;
use status::Status;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            // Help that nobody reads is no error.
            let _ = said.print();
            return if said.use_stderr() { Status::Usage } else { Status::Done }.into();
        }
    };
    let status = run(&cli.command).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        if let Some(advice) = error.advice() {
            eprintln!("next:  {advice}");
        }
        error.status()
    });
    status.into()
}

fn run(command: &Command) -> Result<Status> {
    match command {
        Command::Dev(args) => dev::run(args),
        Command::Certs(args) => certs::run(args),
        Command::Create(args) => create::run(args),
        Command::Run(args) => run::run(args),
        Command::Status(args) => look::run(args),
        Command::Append(args) => records::append(args),
        Command::Tail(args) => records::tail(args),
        Command::Transfer(args) => admin::transfer(args),
        Command::Snapshot(args) => admin::snapshot(args),
        Command::Trim(args) => admin::trim(args),
        Command::Add(args) => admin::add(args),
        Command::Remove(args) => admin::remove(args),
        Command::Priority(args) => admin::priority(args),
        Command::Quorums(args) => admin::quorums(args),
        Command::Promote(args) => admin::promote(args),
    }
}
