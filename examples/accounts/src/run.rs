//! The program: reads the command line, and does what it says.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, NodeArgs};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::{demo, node, start};

/// Does what the command line says, and gives the exit status: 0 if it was done, 1 if not, 130 after Ctrl-C.
#[must_use]
pub fn run() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Demo(args) => {
            with_runtime(|program| async move { demo::run(&program, args.costs.costs(), args.pause).await })
        }
        Command::Start(args) => with_runtime(|program| async move { start::run(&program, &args).await }),
        Command::Node(args) => run_node(&args),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Stopped) => {
            eprintln!("stopped; nothing is left running");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_node(args: &NodeArgs) -> Result<()> {
    let mut settings = Settings::read(&args.file)?;
    if let Some(policy) = args.policy {
        settings.policy = policy;
    }
    let filter = EnvFilter::try_new(&args.log_level).map_err(|error| Error::Settings {
        file: PathBuf::from("--log-level"),
        reason: format!("{error}; use a word such as info"),
    })?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    node::run(&settings, args.until_stdin_ends)
}

/// Runs with the path of this program, which is that of the nodes too.
fn with_runtime<F: Future<Output = Result<()>>>(run: impl FnOnce(PathBuf) -> F) -> Result<()> {
    let program = std::env::current_exe().map_err(Error::path("find", Path::new("this program")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(Error::path("start threads for", &program))?;
    let ran = runtime.block_on(run(program));
    // Standard input that is still read is not waited for.
    runtime.shutdown_background();
    ran
}
