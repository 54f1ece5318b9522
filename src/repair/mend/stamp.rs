//! The date and time that the names of one repair's files begin with.

use std::fmt;

use crate::segment::{PENDING, QUARANTINE, UNFINISHED, is_stamp};

const MS_PER_SECOND: u64 = 1000;
const SECONDS_PER_DAY: u64 = 86_400;
/// What the name of a journal ends with once its repair is done.
const DONE: &str = ".journal";
/// What it ends with once the repair is undone, and only leftovers have to go.
const UNDONE: &str = ".undone";

/// What tells the files of one repair from those of others: the time in UTC, and a number if it was taken.
///
/// Later repairs have greater ones, also if the clock goes back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Stamp {
    /// Like `20261122T013000Z`: in the order of time.
    time: String,
    number: u64,
}

/// What a name says that a repair made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    /// A journal: the repair is to be finished or undone.
    Pending,
    /// A journal: the repair is done.
    Done,
    /// A journal: the repair was undone.
    Undone,
    /// Something that was being prepared.
    Unfinished,
    /// What was put aside.
    Aside,
}

impl Stamp {
    /// One for a repair that begins now, beside files with these names.
    pub(super) fn after(names: &[String], wall_ms: u64) -> Stamp {
        let now = Stamp { time: time_of(wall_ms), number: 1 };
        match names.iter().filter_map(|name| Stamp::read(name)).map(|(stamp, _)| stamp).max() {
            Some(newest) if newest >= now => Stamp { number: newest.number.saturating_add(1), ..newest },
            _ => now,
        }
    }

    /// The stamp in a name, and what has that name.
    pub(super) fn read(name: &str) -> Option<(Stamp, Made)> {
        let (stem, rest) = name.strip_prefix(QUARANTINE)?.split_once('.')?;
        if !is_stamp(stem) {
            return None;
        }
        let (time, number) = stem.split_once('-').unwrap_or((stem, "1"));
        let stamp = Stamp { time: time.to_owned(), number: number.parse().ok()? };
        let of_journal = [(PENDING, Made::Pending), (DONE, Made::Done)];
        let journal = of_journal.into_iter().find(|(ending, _)| ending.strip_prefix('.') == Some(rest));
        let made = match journal {
            Some((_, made)) => made,
            None if name == stamp.undone() => Made::Undone,
            None if name.ends_with(UNFINISHED) => Made::Unfinished,
            None => Made::Aside,
        };
        Some((stamp, made))
    }

    /// The journal while it is written.
    pub(super) fn unfinished(&self) -> String {
        format!("{QUARANTINE}{self}{PENDING}{UNFINISHED}")
    }

    /// The journal while the repair is to be finished or undone.
    pub(super) fn pending(&self) -> String {
        format!("{QUARANTINE}{self}{PENDING}")
    }

    /// The journal of the repair once it is done.
    pub(super) fn done(&self) -> String {
        format!("{QUARANTINE}{self}{DONE}")
    }

    /// The journal of the repair once it is undone.
    pub(super) fn undone(&self) -> String {
        format!("{QUARANTINE}{self}{UNDONE}{UNFINISHED}")
    }

    /// The name that the file `name` gets when it is put aside.
    pub(super) fn aside(&self, name: &str) -> String {
        format!("{QUARANTINE}{self}.{name}")
    }

    /// The name of the new file while it waits for `name`.
    pub(super) fn waiting(&self, name: &str) -> String {
        format!("{QUARANTINE}{self}.new.{name}{UNFINISHED}")
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => f.write_str(&self.time),
            number => write!(f, "{}-{number}", self.time),
        }
    }
}

/// The time in UTC, by the algorithm `civil_from_days` (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn time_of(wall_ms: u64) -> String {
    let seconds = wall_ms / MS_PER_SECOND;
    // Years of four digits: a clock that is off has to make names nevertheless.
    let days = (seconds / SECONDS_PER_DAY).min(2_932_896) + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Counted from March, so that the leap day is the last one.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next_year;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day_of_month:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, time) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_700_000_000, "20231114T221320Z"),
            (4_107_542_400, "21000301T000000Z"),
            (253_402_300_799, "99991231T235959Z"),
        ] {
            assert_eq!(time_of(seconds * MS_PER_SECOND), time);
        }
        assert_eq!(time_of(u64::MAX).len(), time_of(0).len());
    }

    #[test]
    fn names_are_read_back_and_later_repairs_have_greater_stamps() {
        let first = Stamp::after(&[], 1_700_000_000_000);
        let names = [
            (first.unfinished(), Made::Unfinished),
            (first.pending(), Made::Pending),
            (first.done(), Made::Done),
            (first.undone(), Made::Undone),
            (first.aside("superblock"), Made::Aside),
            (first.waiting("superblock"), Made::Unfinished),
        ];
        for (name, made) in names {
            assert_eq!(Stamp::read(&name), Some((first.clone(), made)), "{name}");
            for wall_ms in [0, 1_700_000_000_000, 1_800_000_000_000] {
                let second = Stamp::after(std::slice::from_ref(&name), wall_ms);
                assert!(second > first);
                assert_eq!(Stamp::read(&second.done()), Some((second.clone(), Made::Done)));
            }
        }
        assert_eq!(first.done(), "quarantine-20231114T221320Z.journal");
        for name in ["quarantine-", "quarantine-x.journal", "superblock", "quarantine-20231114T221320Z"] {
            assert_eq!(Stamp::read(name), None, "{name}");
        }
    }
}
