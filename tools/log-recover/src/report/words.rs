//! What is found, in words.

use annals::LsnRange;
use annals::repair::{Cause, Correction, FileRole, Stretch, StretchKind};
use indicatif::BinaryBytes;

/// The verdict's word.
pub(crate) fn verdict(kind: StretchKind) -> &'static str {
    match kind {
        StretchKind::Torn => "torn",
        StretchKind::Stale => "stale",
        StretchKind::Rot => "rot",
        StretchKind::Hole => "hole",
    }
}

/// Why a stretch is not clean: a word for programs, and a sentence for people.
pub(crate) fn cause(cause: Cause) -> (&'static str, &'static str) {
    match cause {
        Cause::Unreadable => ("unreadable", "the disk cannot read it"),
        Cause::Blank => ("blank", "there are only zeros"),
        Cause::Cut => ("cut", "the file ends before it"),
        Cause::Missing => ("missing", "the file is missing"),
        Cause::Slot => ("slot", "a slot of the superblock does not check"),
        Cause::Header => ("header", "the segment's header does not check"),
        Cause::Footer => ("footer", "the segment's footer or index does not check"),
        Cause::GroupHeader => ("group_header", "the header of a group does not check"),
        Cause::Frame => ("frame", "a frame does not check"),
        Cause::Digest => ("digest", "a group's digest is not that of its frames"),
        Cause::Chain => ("chain", "the segment does not continue the one before"),
        Cause::NeverAcknowledged => ("never_acknowledged", "never acknowledged; the next open discards it"),
        Cause::Former => ("former", "left from the file's former life or from before a truncation; ignored"),
        _ => ("other", "it is not as it has to be"),
    }
}

/// What a file is that is no part of the log: a word for programs, and one for people.
pub(crate) fn role(role: &FileRole) -> (&'static str, String) {
    let (word, text) = match role {
        FileRole::Lock => ("lock", "the writer's lock"),
        FileRole::Spare => ("spare", "a prepared segment"),
        FileRole::Trimmed => ("trimmed", "below the trim point; the next open takes it away"),
        FileRole::Unfinished => ("unfinished", "was being prepared; the next open takes it away"),
        FileRole::Blank => ("blank", "a segment without anything that was acknowledged"),
        FileRole::Foreign(log_id) => return ("foreign", format!("a segment of another log, {log_id}")),
        FileRole::Duplicate => ("duplicate", "a segment whose place another file has"),
        FileRole::Quarantine => ("quarantine", "put aside by a repair"),
        FileRole::Replica => ("replica", "the replica's, beside its log: leave it there"),
        FileRole::Other => ("other", "not the log's"),
        _ => ("other", "unknown"),
    };
    (word, text.to_owned())
}

/// `bit 3 of byte 5000`.
pub(crate) fn bit(correction: Correction) -> String {
    format!("bit {} of byte {}", correction.bit, correction.offset)
}

/// `record 17`, `records 17 to 18`.
pub(crate) fn records(lsns: LsnRange) -> String {
    let s = if lsns.records() == 1 { "" } else { "s" };
    format!("record{s} {lsns}")
}

/// `17 to 18, 20 and 5 more ranges`.
pub(crate) fn ranges(lsns: &[LsnRange]) -> String {
    const SHOWN: usize = 12;
    let mut shown: Vec<String> = lsns.iter().take(SHOWN).map(LsnRange::to_string).collect();
    if let Some(more) = lsns.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        return format!("{} and {}", shown.join(", "), plural(more as u64, "more range"));
    }
    match shown.pop() {
        Some(last) if !shown.is_empty() => format!("{} and {last}", shown.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// All records in these ranges.
pub(crate) fn total(lsns: &[LsnRange]) -> u64 {
    lsns.iter().map(LsnRange::records).fold(0, u64::saturating_add)
}

/// `1 step`, `2 steps`.
pub(crate) fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// `64.00 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    BinaryBytes(bytes).to_string()
}

/// Records that a stretch is about.
pub(crate) fn at_stake(stretch: &Stretch) -> String {
    match stretch.lsns {
        Some(lsns) if stretch.is_acknowledged => format!("acknowledged {}", records(lsns)),
        Some(lsns) => format!("{}, not acknowledged", records(lsns)),
        None => "no record at stake".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use annals::Lsn;

    use super::*;

    fn lsns(first: u64, last: u64) -> LsnRange {
        LsnRange::new(Lsn::new(first), Lsn::new(last)).unwrap()
    }

    #[test]
    fn ranges_are_listed_up_to_a_bound() {
        assert_eq!(ranges(&[lsns(7, 7)]), "7");
        assert_eq!(ranges(&[lsns(7, 7), lsns(9, 12), lsns(20, 21)]), "7, 9 to 12 and 20 to 21");
        let many: Vec<_> = (1..=40).map(|n| lsns(10 * n, 10 * n)).collect();
        assert!(ranges(&many).ends_with("120 and 28 more ranges"));
        assert_eq!(total(&many), 40);
    }
}
