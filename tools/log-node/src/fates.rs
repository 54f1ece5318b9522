//! What became of the lines of an `append`: which are in the log, and what to do about the others.

use std::fmt;

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It is in the log.
    Taken,
    /// It is not.
    Missing,
    /// Nobody knows.
    Unknown,
}

/// What became of each line that was handed over, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fates(Vec<Run>);

/// Lines that follow on one another, but for such as hold no record, with the same fate.
#[derive(Clone, Copy, Debug)]
struct Run {
    fate: Fate,
    first: u64,
    last: u64,
}

/// Some lines, in words.
struct Lines<'a>(&'a [Run]);

impl Fates {
    /// Takes note of the next line.
    pub(crate) fn note(&mut self, line: u64, fate: Fate) {
        match self.0.last_mut() {
            Some(run) if run.fate == fate => run.last = line,
            _ => self.0.push(Run { fate, first: line, last: line }),
        }
    }

    /// Whether nobody knows of some line.
    pub(crate) fn has_unknown(&self) -> bool {
        self.0.iter().any(|run| run.fate == Fate::Unknown)
    }

    /// The lines that are in the log, in words; `None` if there is none.
    pub(crate) fn taken(&self) -> Option<String> {
        lines(&self.0, Fate::Taken)
    }

    /// What to do so that each line is in the log once.
    pub(crate) fn advice(&self) -> String {
        // What is missing at the end is what comes next.
        let kept = self.0.iter().rposition(|run| run.fate != Fate::Missing).map_or(0, |last| last + 1);
        let (kept, rest) = self.0.split_at(kept);
        let after = kept.last().map_or(1, |run| run.last + 1);
        let next = rest.first().map_or(after, |run| run.first);
        let (missing, unknown) = (lines(kept, Fate::Missing), lines(kept, Fate::Unknown));
        if let (None, Some(unknown), Some(Run { fate: Fate::Unknown, first, last })) =
            (&missing, &unknown, kept.last())
            && first == last
            && !unknown.starts_with("lines")
        {
            return format!(
                "look for {unknown} with `log-node tail`; go on there if it is missing, and after it if not"
            );
        }
        let missing =
            missing.map(|lines| format!("append {lines} alone, for what comes after is in the log; "));
        let unknown = unknown.map(|lines| {
            format!("look for {lines} with `log-node tail`, and append what is missing alone; ")
        });
        let first: String = missing.into_iter().chain(unknown).collect();
        format!("{first}go on at line {next}, such as with `tail -n +{next} FILE`")
    }
}

/// Those of the lines with this fate, in words; `None` if there is none.
fn lines(runs: &[Run], fate: Fate) -> Option<String> {
    let runs: Vec<Run> = runs.iter().copied().filter(|run| run.fate == fate).collect();
    (!runs.is_empty()).then(|| Lines(&runs).to_string())
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_one = matches!(self.0, [Run { first, last, .. }] if first == last);
        f.write_str(if is_one { "line " } else { "lines " })?;
        for (at, Run { first, last, .. }) in self.0.iter().enumerate() {
            f.write_str(match at {
                0 => "",
                _ if at + 1 == self.0.len() => " and ",
                _ => ", ",
            })?;
            if first == last { write!(f, "{first}") } else { write!(f, "{first} to {last}") }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Fate::{Missing, Taken, Unknown};
    use super::*;

    fn fates(of: &[Fate]) -> Fates {
        let mut fates = Fates::default();
        of.iter().zip(1..).for_each(|(fate, line)| fates.note(line, *fate));
        fates
    }

    #[test]
    fn what_is_missing_at_the_end_is_gone_on_with() {
        assert_eq!(fates(&[]).advice(), "go on at line 1, such as with `tail -n +1 FILE`");
        for end in [&[Taken, Taken, Missing][..], &[Taken, Taken, Missing, Missing], &[Taken, Taken]] {
            assert_eq!(fates(end).advice(), "go on at line 3, such as with `tail -n +3 FILE`", "{end:?}");
            assert!(!fates(end).has_unknown());
        }
    }

    #[test]
    fn a_single_line_of_which_nobody_knows_is_looked_for() {
        let wanted =
            "look for line 2 with `log-node tail`; go on there if it is missing, and after it if not";
        for end in [&[Taken, Unknown][..], &[Taken, Unknown, Missing]] {
            assert_eq!(fates(end).advice(), wanted, "{end:?}");
            assert!(fates(end).has_unknown());
        }
    }

    /// Whoever went on at the first line that has failed had those after it twice.
    #[test]
    fn what_is_in_the_log_behind_a_line_that_has_failed_is_not_appended_again() {
        let some = fates(&[Taken, Missing, Taken, Taken, Unknown, Unknown, Taken, Missing]);
        assert_eq!(some.taken().as_deref(), Some("lines 1, 3 to 4 and 7"));
        let advice = some.advice();
        assert!(advice.starts_with("append line 2 alone"), "{advice}");
        assert!(advice.contains("look for lines 5 to 6 with"), "{advice}");
        assert!(advice.contains("go on at line 8,"), "{advice}");
        let several = fates(&[Taken, Unknown, Unknown, Missing]).advice();
        assert!(
            several.starts_with("look for lines 2 to 3 with") && several.contains("at line 4,"),
            "{several}"
        );
        let between = fates(&[Unknown, Taken]).advice();
        assert!(between.starts_with("look for line 1 with") && between.contains("at line 3,"), "{between}");
        assert_eq!(fates(&[Missing, Unknown]).taken(), None);
    }

    #[test]
    fn lines_without_a_record_are_between_no_two_runs() {
        let mut fates = Fates::default();
        for line in [2, 5, 9] {
            fates.note(line, Taken);
        }
        assert_eq!(fates.taken().as_deref(), Some("lines 2 to 9"));
    }
}
