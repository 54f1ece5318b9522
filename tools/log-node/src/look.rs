//! `status`: a table of the replicas, once or again and again.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use crate::cli::StatusArgs;
use crate::error::Result;
use crate::out;
use crate::session::Sessions;
use crate::status::Status;

/// How long a replica may take to answer, at most: one that needs longer is shown as silent.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Shows the table.
pub(crate) fn run(args: &StatusArgs) -> Result<Status> {
    let target = args.reach.target()?;
    let mut sessions = Sessions::new(target.credentials()?);
    // On a terminal each look takes the place of the last one.
    let replaces = args.watch && !args.json && io::stdout().is_terminal();
    loop {
        let overview = sessions.overview(&target.endpoints, ANSWER_MAX.min(target.deadline));
        let text = match args.json {
            true => format!("{}\n", serde_json::to_string(&overview).expect("strings and numbers")),
            false if replaces => format!("\x1b[H\x1b[2J{}", overview.text()),
            false => overview.text(),
        };
        let is_read = out::print(&text)?;
        if !args.watch || !is_read {
            return Ok(if overview.is_well { Status::Done } else { Status::Unwell });
        }
        if !args.json && !replaces && !out::print("\n")? {
            return Ok(Status::Done);
        }
        thread::sleep(args.every.0);
    }
}
