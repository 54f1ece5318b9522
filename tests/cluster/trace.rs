//! What has happened, for whoever looks at a failing seed.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};

use annals::protocol::Envelope;

use crate::record::{mix, text};

/// Lines that are kept for the report.
const LINES: usize = 60;

/// Names whose one number says it all.
const PLAIN: [&str; 8] =
    ["Lsn(", "Epoch(", "ReplicaId(", "LogIncarnation(", "ProducerId(", "DiskId(", "SnapshotId(", "Some("];

/// Words for something, without those that every line would repeat.
pub(crate) fn brief(what: &impl Debug) -> String {
    let mut text = format!("{what:?}");
    for name in PLAIN {
        let mut brief = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(name) {
            let (before, after) = rest.split_at(at);
            let after = &after[name.len()..];
            brief.push_str(before);
            let mut depth = 0;
            let end = after.find(|char| {
                depth += i32::from(char == '(') - i32::from(char == ')');
                depth < 0
            });
            let end = end.unwrap_or(after.len());
            brief.push_str(&after[..end]);
            rest = after.get(end + 1..).unwrap_or("");
        }
        brief.push_str(rest);
        text = brief;
    }
    text
}

/// A message, with who says it to whom.
pub(crate) fn letter(envelope: &Envelope) -> String {
    let Envelope { from, to, epoch, generation, message, .. } = envelope;
    format!("{}->{} e{} g{generation} {}", from.id.get(), to.id.get(), epoch.get(), brief(message))
}

/// The newest events, and a number that stands for all of them.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Events are put into words only when somebody will read them.
    is_on: bool,
    lines: VecDeque<String>,
    hash: u64,
    events: u64,
}

impl Trace {
    pub(crate) fn new(is_on: bool) -> Trace {
        Trace { is_on, ..Trace::default() }
    }

    /// Takes note of an event at this time.
    pub(crate) fn note(&mut self, now: u64, event: impl FnOnce() -> String) {
        self.events += 1;
        if !self.is_on {
            return;
        }
        let line = format!("{:>4}.{:06} ms  {}", now / 1_000_000, now % 1_000_000, event());
        self.hash = mix(self.hash, text(&line));
        if std::env::var_os("ANNALS_TRACE").is_some() {
            eprintln!("{line}");
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The same for two runs in which the same has happened.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    /// The newest events, one on each line.
    pub(crate) fn report(&self) -> String {
        self.lines.iter().fold(String::new(), |mut report, line| {
            let _ = writeln!(report, "{line}");
            report
        })
    }
}
