//! What a test does with the commands of the pages.

use std::fs;
use std::process::{Command, Stdio};

use crate::pages::{Call, calls_of, root};
use crate::{Said, Scratch};

/// Why a command is not run by the test that reads the pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The test of this name does, in this file, from the root of the repository.
    Tested(&'static str, &'static str),
    /// It cannot be, or would take too long.
    Because(&'static str),
}

/// A tool's commands, but for those that are left out: by what they begin with, after the tool's name, and the reason.
///
/// # Panics
///
/// If a reason fits no command any more, or names a test that is not there.
#[track_caller]
pub fn to_run(tool: &str, left_out: &[(&str, Reason)]) -> Vec<Call> {
    let mut calls = calls_of(tool);
    assert!(!calls.is_empty(), "no page has a command of {tool}");
    for (beginning, reason) in left_out {
        let before = calls.len();
        calls.retain(|call| !args(tool, &call.text).starts_with(beginning));
        assert!(calls.len() < before, "no page has `{tool} {beginning}` any more: take it out of the list");
        if let Reason::Tested(file, test) = reason {
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            assert!(
                text.contains(&format!("fn {test}(")),
                "{file} has no test {test}: who runs `{beginning}`?"
            );
        }
    }
    calls
}

/// What stands after the tool's name, however it is called.
pub fn args<'a>(tool: &str, text: &'a str) -> &'a str {
    let rest = if text.starts_with("cargo ") {
        text.split_once(" -- ").map_or("", |(_, rest)| rest)
    } else {
        text.split_once(tool).map_or(text, |(_, rest)| rest)
    };
    rest.trim()
}

/// Gives each of these flags its value: in place of the one that stands there, else at the end.
pub fn with_flags(args: &str, flags: &[(&str, &str)]) -> String {
    let mut words: Vec<&str> = args.split_whitespace().collect();
    for (flag, value) in flags {
        match words.iter().position(|word| word == flag) {
            Some(place) => words[place + 1] = value,
            None => words.extend([*flag, *value]),
        }
    }
    words.join(" ")
}

/// Puts something real in place of the words that stand for it, such as `DIR`.
pub fn filled_in(args: &str, words: &[(&str, &str)]) -> String {
    let real = |word: &str| {
        words.iter().find(|(name, _)| *name == word).map_or(word.to_owned(), |(_, real)| (*real).to_owned())
    };
    args.split_whitespace().map(real).collect::<Vec<_>>().join(" ")
}

impl Scratch {
    /// Runs a line of shell here, in which `target/release/TOOL` is this scratch's program.
    pub fn shell(&self, tool: &str, line: &str) -> Said {
        let program = self.program().to_str().expect("a path that is text");
        let line = line.replace(&format!("target/release/{tool}"), program);
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).current_dir(self.path("")).stdin(Stdio::null());
        Said::from(shell.output().expect("there is a shell"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_what_stands_after_the_tool() {
        for text in [
            "cargo run --release -p log-bench -- roll --secs 2",
            "log-bench roll --secs 2",
            "target/release/log-bench roll --secs 2",
        ] {
            assert_eq!(args("log-bench", text), "roll --secs 2");
        }
        assert_eq!(args("log-bench", "cargo run --release -p log-bench"), "");
    }

    #[test]
    fn flags_and_words_are_given_their_values() {
        assert_eq!(
            with_flags("roll --secs 2", &[("--secs", "0.1"), ("--size", "1k")]),
            "roll --secs 0.1 --size 1k"
        );
        assert_eq!(filled_in("verify DIR", &[("DIR", "log")]), "verify log");
    }
}
