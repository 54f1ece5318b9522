//! The stretches that are not clean, for people.

use std::fmt::Write as _;

use annals::repair::{Cause, Report, Stretch, StretchKind};

use super::words;
use crate::out::{Paint, Tone};
use crate::place::shown;

/// Two lines for each stretch: where it is, and what it means.
pub(crate) fn text(report: &Report, paint: Paint) -> String {
    report.stretches.iter().map(|stretch| one(stretch, paint)).collect()
}

/// One of them.
pub(crate) fn one(stretch: &Stretch, paint: Paint) -> String {
    let tone = match stretch.kind {
        StretchKind::Rot | StretchKind::Hole => Tone::Bad,
        StretchKind::Torn => Tone::Notice,
        StretchKind::Stale => Tone::Dim,
    };
    let word = words::verdict(stretch.kind);
    let mut text =
        format!("{}{}  {}", paint.paint(tone, word), " ".repeat(5 - word.len()), shown(&stretch.file));
    if stretch.cause != Cause::Missing {
        let _ = write!(text, ", bytes {} to {}", stretch.bytes.start, stretch.bytes.end);
    }
    let _ = write!(text, "\n       {}: {}\n", words::at_stake(stretch), words::cause(stretch.cause).1);
    if let Some(correction) = stretch.correction {
        let bit = words::bit(correction);
        let _ = writeln!(text, "       one flipped bit explains it, {bit}: a repair puts it right");
    }
    text
}
