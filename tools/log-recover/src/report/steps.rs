//! The steps of a repair, for people.

use std::fmt::Write as _;

use annals::repair::{Plan, Step};

use super::words;
use crate::place::shown;

/// A numbered line or two for each step.
pub(crate) fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (step, number) in plan.steps.iter().zip(1..) {
        let (what, loses) = step_text(step);
        let _ = writeln!(text, "  {number:>2}. {what}\n      {loses}");
    }
    text
}

/// What the step does, and what it loses.
fn step_text(step: &Step) -> (String, String) {
    let nothing = || "loses nothing".to_owned();
    match step {
        Step::Correct { file, corrections } => {
            let mut bits: Vec<String> = corrections.iter().take(4).map(|&bit| words::bit(bit)).collect();
            if corrections.len() > bits.len() {
                bits.push(format!("{} more", corrections.len() - bits.len()));
            }
            (format!("correct {}: flip back {}", shown(file), bits.join(", ")), nothing())
        }
        Step::Reseal { file, header } => {
            let what = format!(
                "reseal {}: header and footer of segment {} anew, from what the rest of the log says",
                shown(file),
                header.segment_id
            );
            (what, nothing())
        }
        Step::Rebuild { file, lsns, gives_up, .. } => {
            let what =
                format!("rebuild {}: {} anew, of what is readable", shown(file), words::records(*lsns));
            let lost = words::total(gives_up);
            let loses = match lost {
                0 => nothing(),
                _ => format!("GIVES UP {}: {}", words::plural(lost, "record"), words::ranges(gives_up)),
            };
            (what, loses)
        }
        Step::Bridge { file, lsns, .. } => {
            let what = format!("bridge {}: a segment that says its records are lost", shown(file));
            let lost = words::plural(lsns.records(), "record");
            (what, format!("GIVES UP {lost}: {lsns}"))
        }
        Step::Rename { from, to } => (format!("rename {} to {}", shown(from), shown(to)), nothing()),
        Step::SetAside { file, role } => {
            (format!("set aside {}: {}", shown(file), words::role(role).1), nothing())
        }
        Step::Superblock { is_from_segments: true } => (
            "superblock: anew, from the segments alone".to_owned(),
            "loses the mark and the vote; the trim point is where the segments begin".to_owned(),
        ),
        Step::Superblock { is_from_segments: false } => {
            ("superblock: anew, from the slot that is sound".to_owned(), nothing())
        }
        other => (format!("{other:?}"), "see the release notes".to_owned()),
    }
}
