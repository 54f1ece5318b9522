//! The sentences that matter: whether anything acknowledged is lost, and what to do next.

use annals::LsnRange;
use annals::repair::{Opening, Report, StretchKind};

use super::words;
use crate::out::{Paint, Tone};
use crate::place::{Place, shown};
use crate::status::Status;

/// What it comes to.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// How the log is.
    pub(crate) status: Status,
    /// The one sentence that matters.
    pub(crate) sentence: String,
    /// What else there is to know, a sentence each.
    pub(crate) notes: Vec<String>,
    /// The next command, or what has to be done before it.
    pub(crate) next: Option<String>,
}

impl Verdict {
    /// What `report` comes to.
    pub(crate) fn of(report: &Report, place: &Place) -> Verdict {
        let status = Status::of(report);
        Verdict {
            status,
            sentence: sentence(report, status),
            notes: notes(report),
            next: next(report, place),
        }
    }

    /// For people.
    pub(crate) fn text(&self, paint: Paint) -> String {
        let tone = match self.status {
            Status::Whole => Tone::Good,
            Status::Damaged => Tone::Notice,
            _ => Tone::Bad,
        };
        let mut text = format!("{}\n", paint.paint(tone, &self.sentence));
        for note in &self.notes {
            text.push_str(note);
            text.push('\n');
        }
        if let Some(next) = &self.next {
            text.push_str(&format!("Next: {next}\n"));
        }
        text
    }
}

fn sentence(report: &Report, status: Status) -> String {
    let reach = if report.is_verified { "" } else { ", by headers and footers alone" };
    match status {
        Status::Whole => format!("Whole{reach}: no acknowledged record is lost."),
        Status::Damaged => format!("Damaged{reach}, but no acknowledged record is lost."),
        _ => {
            let lost = words::plural(report.lost_records(), "acknowledged record");
            format!("LOST OR UNREADABLE{reach}: {lost}, {}.", words::ranges(&report.lost))
        }
    }
}

fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let by_correction = correctable(report);
    if by_correction > 0 && by_correction == report.lost_records() {
        notes.push(
            "Flipped bits explain all of it: a repair puts them right, and nothing is lost.".to_owned(),
        );
    } else if by_correction > 0 {
        let of_them = words::plural(by_correction, "record");
        notes.push(format!("Flipped bits explain {of_them} of these, which a repair gets back."));
    }
    let torn = report.stretches.iter().filter(|stretch| stretch.kind == StretchKind::Torn);
    let torn = merged(torn.filter_map(|stretch| stretch.lsns).collect());
    if !torn.is_empty() {
        let which = words::ranges(&torn);
        notes.push(format!("Torn at the end: {which} never acknowledged; the next open discards that."));
    }
    if !report.given_up.is_empty() {
        let (which, records) = (words::ranges(&report.given_up), words::total(&report.given_up));
        notes.push(format!("An earlier repair has given up {}: {which}.", words::plural(records, "record")));
    }
    if report.superblock.chosen.is_none() {
        let (first, last) = (report.first_lsn, report.last_lsn);
        notes.push(format!(
            "Without a superblock nothing says whether there were records before {first} or after {last}."
        ));
    }
    if let Some(journal) = &report.unfinished_repair {
        notes.push(format!("A repair was interrupted: its journal is {}.", shown(journal)));
    } else if let Opening::Refuses(error) = &report.opening {
        // That somebody writes to it is said below.
        if !matches!(error, annals::Error::InUse { .. }) {
            notes.push(format!("An open would be refused: {}.", shown(&error.to_string())));
        }
    } else if !report.is_whole() {
        notes.push("An open would succeed: it does not look at every byte.".to_owned());
    }
    if let Some(owner) = report.writer {
        let process = owner.map_or("A process".to_owned(), |id| format!("Process {id}"));
        let durable = report.durable;
        notes.push(format!("{process} writes to the log: nothing is said of records after {durable}."));
    }
    notes
}

fn next(report: &Report, place: &Place) -> Option<String> {
    if report.unfinished_repair.is_some() {
        let (repair, undo) = (place.command("repair", ""), place.command("undo", ""));
        return Some(format!("{repair} (finishes it), or {undo} (takes it back)"));
    }
    match (report.is_whole(), report.is_verified, report.writer) {
        (true, true, _) => None,
        (_, false, _) => Some(place.command("verify", "")),
        (false, true, None) => Some(place.command("plan", "")),
        (false, true, Some(_)) => {
            Some(format!("stop the process that writes to the log, then {}", place.command("plan", "")))
        }
    }
}

/// How many of the lost records only a flipped bit keeps from being read.
pub(crate) fn correctable(report: &Report) -> u64 {
    let of = |is_correctable: bool| {
        let at_stake = report.stretches.iter().filter(|stretch| stretch.is_acknowledged);
        let chosen = at_stake.filter(|stretch| stretch.correction.is_some() == is_correctable);
        merged(chosen.filter_map(|stretch| stretch.lsns).collect())
    };
    let (good, bad) = (common(&of(true), &report.lost), of(false));
    words::total(&good) - words::total(&common(&good, &bad))
}

/// The same records in as few ranges as it takes, rising.
fn merged(mut ranges: Vec<LsnRange>) -> Vec<LsnRange> {
    ranges.sort_unstable();
    let mut merged: Vec<LsnRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(before) if range.first <= before.last.next() => before.last = before.last.max(range.last),
            _ => merged.push(range),
        }
    }
    merged
}

/// The records that are in both; both are rising.
fn common(ours: &[LsnRange], theirs: &[LsnRange]) -> Vec<LsnRange> {
    let mut common = Vec::new();
    let (mut one, mut other) = (0, 0);
    while let (Some(a), Some(b)) = (ours.get(one), theirs.get(other)) {
        common.extend(LsnRange::new(a.first.max(b.first), a.last.min(b.last)));
        if a.last <= b.last {
            one += 1;
        } else {
            other += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use annals::Lsn;

    use super::*;

    fn lsns(ranges: &[(u64, u64)]) -> Vec<LsnRange> {
        let range = |&(first, last)| LsnRange::new(Lsn::new(first), Lsn::new(last)).unwrap();
        ranges.iter().map(range).collect()
    }

    #[test]
    fn ranges_are_merged_where_they_touch() {
        assert_eq!(merged(lsns(&[(7, 9), (1, 3), (4, 4), (8, 20)])), lsns(&[(1, 4), (7, 20)]));
    }

    #[test]
    fn what_two_lists_have_in_common_is_found() {
        assert_eq!(
            common(&lsns(&[(1, 5), (8, 30)]), &lsns(&[(3, 9), (20, 40)])),
            lsns(&[(3, 5), (8, 9), (20, 30)])
        );
        assert_eq!(common(&lsns(&[(1, 5)]), &[]), []);
    }
}
