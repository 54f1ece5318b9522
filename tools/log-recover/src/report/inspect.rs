//! What `inspect` shows to people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use annals::format::{FooterKind, Superblock};
use annals::repair::{FileRole, Report, SegmentReport, SlotReport, StretchKind};
use annals::{Epoch, Lsn};
use annals_terminal::Table;

use super::words;
use crate::place::{Place, shown};

/// Segments that are listed at both ends, and damaged ones that are listed between them.
const SEGMENTS_AT_ENDS: usize = 4;
const SEGMENTS_DAMAGED_MAX: usize = 16;
/// Files that are listed for each role.
const FILES_MAX: usize = 4;

/// Everything but the map and the verdict.
pub(crate) fn text(report: &Report, place: &Place, shows_all: bool) -> String {
    let mut text = head(report, place);
    text.push_str("\nsuperblock\n");
    text.push_str(&superblock(report));
    if !report.segments.is_empty() {
        text.push_str("\nsegments\n");
        text.push_str(&segments(report, shows_all));
    }
    if !report.strays.is_empty() {
        text.push_str("\nother files\n");
        text.push_str(&strays(report, shows_all));
    }
    text
}

/// What the log is, in a few lines.
pub(crate) fn head(report: &Report, place: &Place) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:9}  {value}");
    };
    line("log", report.log_id.map_or("unknown: nothing says which".to_owned(), |id| id.to_string()));
    line("directory", shown(&place.dir.to_string_lossy()));
    let records = match report.first_lsn <= report.last_lsn {
        true => format!("{} to {}, durable through {}", report.first_lsn, report.last_lsn, report.durable),
        false => format!("none; the next is {}", report.first_lsn),
    };
    line("records", records);
    line(
        "size",
        format!(
            "{} in {}",
            words::bytes(report.bytes),
            words::plural(report.segments.len() as u64, "segment")
        ),
    );
    line("epochs", epochs(report));
    line(
        "writer",
        match report.writer {
            None => "none".to_owned(),
            Some(None) => "a process has the log open".to_owned(),
            Some(Some(id)) => format!("process {id} has the log open"),
        },
    );
    text
}

/// Where each epoch begins, as far as headers of segments tell.
fn epochs(report: &Report) -> String {
    const SHOWN: usize = 6;
    let mut starts: Vec<(Epoch, Lsn)> = Vec::new();
    for segment in &report.segments {
        if starts.last().is_none_or(|&(epoch, _)| epoch != segment.header.epoch) {
            starts.push((segment.header.epoch, segment.header.first_lsn));
        }
    }
    let newest = format!("newest is {}", report.epoch);
    if starts.len() < 2 {
        return newest;
    }
    let skipped = starts.len().saturating_sub(SHOWN);
    let shown = starts[skipped..].iter().map(|(epoch, lsn)| format!("{epoch} by LSN {lsn}"));
    let before = if skipped > 0 { format!("{skipped} before; ") } else { String::new() };
    format!("{newest}; {before}{}", shown.collect::<Vec<_>>().join(", "))
}

fn superblock(report: &Report) -> String {
    if !report.superblock.exists {
        return "  there is none\n".to_owned();
    }
    let mut table =
        Table::new(&["slot", "sequence", "epoch", "durable", "trim point", "written", "closed", "mark", ""]);
    let mut bad = String::new();
    for (number, slot) in report.superblock.slots.iter().enumerate() {
        match slot {
            SlotReport::Sound(slot) => {
                let chosen = report.superblock.chosen.as_ref().is_some_and(|chosen| chosen == &**slot);
                table.row(slot_cells(number, slot, chosen));
            }
            SlotReport::Bad(why, correction) => {
                let bit = correction.map(|bit| format!("; one flipped bit explains it, {}", words::bit(bit)));
                let _ = writeln!(bad, "  slot {number}: {why}{}", bit.unwrap_or_default());
            }
        }
    }
    let is_empty = report.superblock.slots.iter().all(|slot| matches!(slot, SlotReport::Bad(..)));
    if is_empty { bad } else { table.text() + &bad }
}

fn slot_cells(number: usize, slot: &Superblock, chosen: bool) -> [String; 9] {
    let closed = slot.clean_tail.map_or("no".to_owned(), |tail| format!("at {}", tail.last_lsn));
    let mark = slot.mark.as_ref().map_or("none".to_owned(), |mark| {
        format!("{} at {}", words::plural(mark.bytes.len() as u64, "byte"), mark.lsn)
    });
    let vote = slot.vote;
    let epoch = if vote.epoch == Epoch::default() {
        slot.epoch.to_string()
    } else {
        format!("{} (vote: {} in {})", slot.epoch, vote.replica, vote.epoch)
    };
    [
        number.to_string(),
        slot.sequence.to_string(),
        epoch,
        slot.durable.to_string(),
        slot.first_lsn.to_string(),
        slot.write_method.to_string(),
        closed,
        mark,
        if chosen { "<- counts".to_owned() } else { String::new() },
    ]
}

fn segments(report: &Report, shows_all: bool) -> String {
    let is_damage = |kind| matches!(kind, StretchKind::Rot | StretchKind::Hole);
    let damaged: BTreeSet<&str> =
        report.stretches.iter().filter(|one| is_damage(one.kind)).map(|one| &*one.file).collect();
    let mut table = Table::new(&["file", "id", "records", "epoch", "bytes", "used", "state"]);
    let (mut skipped, mut listed_damaged) = (0, 0);
    let count = report.segments.len();
    for (index, segment) in report.segments.iter().enumerate() {
        let is_damaged = damaged.contains(&*segment.file);
        let at_ends = index < SEGMENTS_AT_ENDS || index + SEGMENTS_AT_ENDS >= count;
        let is_listed = shows_all || at_ends || (is_damaged && listed_damaged < SEGMENTS_DAMAGED_MAX);
        if !is_listed {
            skipped += 1;
            continue;
        }
        listed_damaged += usize::from(is_damaged && !at_ends);
        if skipped > 0 {
            table.row([format!("... {skipped} more")]);
            skipped = 0;
        }
        table.row(segment_cells(segment, is_damaged));
    }
    let hint = if count > 2 * SEGMENTS_AT_ENDS && !shows_all { "  (--all lists all of them)\n" } else { "" };
    table.text() + hint
}

fn segment_cells(segment: &SegmentReport, is_damaged: bool) -> [String; 7] {
    let state = match segment.footer.map(|footer| footer.kind) {
        Some(FooterKind::Sealed) => "sealed",
        Some(FooterKind::Parked) => "tail, closed",
        None if segment.is_tail => "tail",
        None => "no footer",
    };
    let records = match segment.last_lsn < segment.header.first_lsn {
        true => "none".to_owned(),
        false => format!("{} to {}", segment.header.first_lsn, segment.last_lsn),
    };
    [
        shown(&segment.file),
        segment.header.segment_id.to_string(),
        records,
        segment.header.epoch.to_string(),
        segment.bytes.to_string(),
        segment.end.to_string(),
        if is_damaged { format!("{state}, DAMAGED") } else { state.to_owned() },
    ]
}

fn strays(report: &Report, shows_all: bool) -> String {
    let mut table = Table::new(&["file", "bytes", "what it is"]);
    let mut roles: Vec<&FileRole> = Vec::new();
    for stray in &report.strays {
        if !roles.contains(&&stray.role) {
            roles.push(&stray.role);
        }
    }
    for role in roles {
        let alike: Vec<_> = report.strays.iter().filter(|stray| stray.role == *role).collect();
        let listed = if shows_all { alike.len() } else { FILES_MAX };
        for stray in alike.iter().take(listed) {
            table.row([shown(&stray.file), stray.bytes.to_string(), words::role(role).1]);
        }
        let rest = &alike[listed.min(alike.len())..];
        if !rest.is_empty() {
            let bytes: u64 = rest.iter().map(|stray| stray.bytes).sum();
            table.row([format!("... {} more", rest.len()), bytes.to_string(), words::role(role).1]);
        }
    }
    table.text()
}
