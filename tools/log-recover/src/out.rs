//! Standard output, of which the reader may go away at any time.

use std::io::{self, IsTerminal};
use std::path::Path;

use crate::cli::Color;
use crate::error::{Error, Result};

/// Writes `text` to standard output. A reader who has seen enough is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    annals_terminal::write(text.as_bytes()).map(drop).map_err(to_stdout())
}

/// Whether somebody still reads standard output, by what writing to it has come to.
pub(crate) fn has_reader(written: io::Result<()>) -> Result<bool> {
    annals_terminal::has_reader(written).map_err(to_stdout())
}

fn to_stdout() -> impl FnOnce(io::Error) -> Error {
    Error::path("write to", Path::new("standard output"))
}

/// Colours, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Paint {
    is_on: bool,
}

/// What a text says, so how it is coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// Nothing to look at.
    Dim,
    /// All is well.
    Good,
    /// Something to know.
    Notice,
    /// Damage.
    Bad,
}

impl Paint {
    /// No colours.
    pub(crate) const NONE: Paint = Paint { is_on: false };
    /// Colours, wherever the output goes.
    #[cfg(test)]
    pub(crate) const ALL: Paint = Paint { is_on: true };

    /// Colours on standard output when they are wanted there.
    pub(crate) fn of(color: Color) -> Paint {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_on = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb(),
        };
        Paint { is_on }
    }

    /// `text` in the colours of `tone`.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.is_on {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Notice => "33",
            Tone::Bad => "1;37;41",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
