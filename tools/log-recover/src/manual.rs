//! `completions` and `man`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::{Cli, STATUSES};
use crate::error::{Error, Result};
use crate::out;
use crate::status::Status;

/// Prints the completions for `shell`.
pub(crate) fn completions(shell: Shell) -> Result<Status> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "log-recover", &mut text);
    out::print(&String::from_utf8_lossy(&text))?;
    Ok(Status::Whole)
}

/// Prints the page of the program, or writes it and those of the commands into `dir`.
pub(crate) fn man(dir: Option<&Path>) -> Result<Status> {
    let Some(dir) = dir else {
        out::print(&String::from_utf8_lossy(&page(&Cli::command())?))?;
        return Ok(Status::Whole);
    };
    std::fs::create_dir_all(dir).map_err(Error::path("create", dir))?;
    let mut program = Cli::command().disable_help_subcommand(true);
    // Passes the global flags down to the commands, and gives these their full names.
    program.build();
    write_page(dir, &program)?;
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("log-recover-{}", command.get_name());
        write_page(dir, &command.clone().display_name(name))?;
    }
    Ok(Status::Whole)
}

fn write_page(dir: &Path, command: &clap::Command) -> Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?).map_err(Error::path("write", &path))
}

fn page(command: &clap::Command) -> Result<Vec<u8>> {
    // The statuses get a section of their own, with one line for each.
    let command = command.clone().after_help("").version(env!("CARGO_PKG_VERSION"));
    let mut page = Vec::new();
    let written = Man::new(command).render(&mut page).and_then(|()| statuses().to_writer(&mut page));
    written.map_err(Error::path("write", Path::new("a manual page")))?;
    Ok(page)
}

fn statuses() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for line in STATUSES.lines().skip(1) {
        let (number, meaning) = line.trim().split_once(' ').unwrap_or((line, ""));
        roff.control("TP", ["6"]);
        roff.text([roman(number)]);
        roff.text([roman(meaning.trim())]);
    }
    roff
}
