//! How the demo talks: headings, sentences, commands and what they say.

use std::io::{self, IsTerminal, Write};

/// Writes to standard output, in colours if that is a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    is_coloured: bool,
}

impl Voice {
    pub(super) fn new() -> Voice {
        let is_forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Voice { is_coloured: is_forced || (io::stdout().is_terminal() && !is_refused) }
    }

    /// What comes next.
    pub(super) fn title(self, number: usize, text: &str) {
        self.print(&format!("\n{}\n", self.painted("1;36", &format!("{number}. {text}"))));
    }

    /// A sentence.
    pub(super) fn say(self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// Something that went as it should.
    pub(super) fn good(self, text: &str) {
        self.print(&format!("{} {text}\n", self.painted("1;32", "ok")));
    }

    /// A command, as one would type it.
    pub(super) fn command(self, words: &[&str]) {
        self.print(&format!("{}\n", self.painted("1", &format!("$ files {}", words.join(" ")))));
    }

    /// What a command has said.
    pub(super) fn answer(self, text: &str) {
        for line in text.lines() {
            let line = match line.split_whitespace().nth(1) {
                Some("leader") => self.painted("32", line),
                Some("candidate") => self.painted("33", line),
                Some("silent") => self.painted("31", line),
                _ => line.to_owned(),
            };
            self.print(&format!("  {line}\n"));
        }
    }

    fn painted(self, colour: &str, text: &str) -> String {
        if self.is_coloured { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Whoever reads no further is no error: the story goes on to its end.
    fn print(self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
