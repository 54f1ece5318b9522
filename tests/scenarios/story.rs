//! A story: its lines, and how it is played.

use std::fmt;

use annals::protocol::{Rule, Rules};

use crate::cluster::Cluster;
use crate::command;

/// A file of commands.
pub(crate) struct Story {
    pub(crate) name: String,
    /// Without each of these it fails.
    pub(crate) rules: Vec<Rule>,
    lines: Vec<Line>,
}

struct Line {
    number: usize,
    words: Vec<String>,
}

/// Why a story is not true.
#[derive(Debug)]
pub(crate) struct Failure {
    story: String,
    pub(crate) line: usize,
    command: String,
    what: String,
    /// Whether the line is no command at all.
    pub(crate) is_syntax: bool,
}

/// What a line may come to: nothing, a mismatch, or it is no command.
pub(crate) type Done<T = ()> = Result<T, Trouble>;

/// Why a line went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is no command.
    Syntax(String),
    /// What it says is not so.
    Mismatch(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { story, line, command, what, .. } = self;
        write!(f, "{story}:{line}: {command}\n    {}", what.replace('\n', "\n    "))
    }
}

impl Story {
    pub(crate) fn parse(name: &str, text: &str) -> Story {
        let mut story = Story { name: name.to_owned(), rules: vec![], lines: vec![] };
        for (text, number) in text.lines().zip(1..) {
            let text = text.split('#').next().unwrap_or_default();
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            if words.first().is_some_and(|word| word == "rules") {
                let named = |word: &String| Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == *word);
                story.rules.extend(words[1..].iter().filter_map(named));
            }
            if !words.is_empty() {
                story.lines.push(Line { number, words });
            }
        }
        story
    }

    /// Plays it with these rules.
    pub(crate) fn play(&self, rules: Rules) -> Result<(), Failure> {
        let mut cluster = Cluster::new(rules);
        for Line { number, words } in &self.lines {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let done = command::run(&mut cluster, &words).and_then(|()| cluster.check());
            if let Err(trouble) = done {
                let (what, is_syntax) = match trouble {
                    Trouble::Syntax(what) => (what, true),
                    Trouble::Mismatch(what) => (what, false),
                };
                let (story, command) = (self.name.clone(), words.join(" "));
                return Err(Failure { story, line: *number, command, what, is_syntax });
            }
        }
        Ok(())
    }
}
