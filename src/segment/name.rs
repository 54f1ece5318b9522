//! The names of the files in a log's directory. None comes from a clock, but for those that a repair makes.

use crate::types::Lsn;

/// The name of the file that the writer locks.
pub(crate) const LOCK: &str = "LOCK";
/// The name of the file with the two superblock slots.
pub(crate) const SUPERBLOCK: &str = "superblock";
/// A file that is in the directory of a copy until the copy is whole.
pub(crate) const INCOMPLETE: &str = "backup-incomplete";
/// A replica's newest snapshot.
pub(crate) const BASE: &str = "base";
/// What the name of a snapshot begins with that was the base before, and is kept.
const KEPT: &str = "base-";
/// A snapshot that a replica receives.
pub(crate) const STAGE: &str = "stage";
/// One that it is about to begin with.
pub(crate) const INSTALLING: &str = "installing";
/// Is there while a replica lacks records that it had acknowledged.
pub(crate) const DAMAGED: &str = "damaged";
/// Where a replica finds the others.
pub(crate) const PEERS: &str = "peers";
/// What a replica has beside its log: no part of it, and nothing to clear away.
pub(crate) const OF_A_REPLICA: [&str; 5] = [BASE, STAGE, INSTALLING, DAMAGED, PEERS];
/// What the names of all files begin with that a repair makes or puts aside.
pub(crate) const QUARANTINE: &str = "quarantine-";
/// What the name of a repair's journal ends with while the repair is not finished.
pub(crate) const PENDING: &str = ".pending";
/// What the names of extracts end with.
const EXTRACT: &str = ".extract";
/// What the names of files end with that are being prepared, those of a repair included.
pub(crate) const UNFINISHED: &str = ".tmp";

/// What a file in a log's directory is, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileName {
    /// The lock file.
    Lock,
    /// The superblock.
    Superblock,
    /// The segment that begins with this LSN.
    Segment(Lsn),
    /// A prepared segment; it holds records if a crash came before its renaming.
    Spare(u64),
    /// What a replica has noted of the frames of the segment that begins with this LSN.
    Extract(Lsn),
    /// The snapshot of this LSN, which was a replica's base before and is kept.
    Kept(Lsn),
    /// A file that was being prepared, worth nothing.
    Unfinished,
    /// What a repair has put aside, or the journal of one that is done.
    Quarantine,
    /// The journal of a repair that was interrupted.
    PendingRepair,
    /// None of the log's.
    Other,
}

impl FileName {
    /// Reads a name.
    pub(crate) fn of(name: &str) -> FileName {
        match name {
            LOCK => return FileName::Lock,
            SUPERBLOCK => return FileName::Superblock,
            _ if name.ends_with(UNFINISHED) => return FileName::Unfinished,
            _ => {}
        }
        if let Some(rest) = name.strip_prefix(QUARANTINE) {
            let is_pending = rest.strip_suffix(PENDING).is_some_and(is_stamp);
            return if is_pending { FileName::PendingRepair } else { FileName::Quarantine };
        }
        let number = |digits: &str, width| {
            let plain = digits.len() >= width && digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse().ok().filter(|_| plain)
        };
        if let Some(digits) = name.strip_suffix(EXTRACT) {
            return number(digits, 20).map_or(FileName::Other, |lsn| FileName::Extract(Lsn::new(lsn)));
        }
        if let Some(digits) = name.strip_prefix(KEPT) {
            return number(digits, 20).map_or(FileName::Other, |lsn| FileName::Kept(Lsn::new(lsn)));
        }
        let Some(stem) = name.strip_suffix(".seg") else { return FileName::Other };
        match stem.strip_prefix("spare-") {
            Some(digits) => number(digits, 6).map_or(FileName::Other, FileName::Spare),
            None => number(stem, 20).map_or(FileName::Other, |lsn| FileName::Segment(Lsn::new(lsn))),
        }
    }
}

/// Whether `text` is the date and time of a repair, in UTC, as in `20261122T013000Z`, with `-2`, `-3` and so on for
/// others in the same second. Nobody else's file is taken for a repair's.
pub(crate) fn is_stamp(text: &str) -> bool {
    let (time, number) = text.split_once('-').unwrap_or((text, "2"));
    let fits = |(at, byte): (usize, u8)| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    let number = (number, number.parse::<u64>());
    let is_number = matches!(number, (text, Ok(2..)) if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0'));
    time.len() == 16 && time.bytes().enumerate().all(fits) && is_number
}

/// The name of the segment that begins with `first`.
pub(crate) fn segment_name(first: Lsn) -> String {
    format!("{:020}.seg", first.get())
}

/// The name of the extract of the segment that begins with `first`.
#[cfg(any(feature = "quic", feature = "sim"))]
pub(crate) fn extract_name(first: Lsn) -> String {
    format!("{:020}{EXTRACT}", first.get())
}

/// The name of the snapshot of `lsn` once it is not the base any more.
#[cfg(any(feature = "quic", feature = "sim"))]
pub(crate) fn kept_name(lsn: Lsn) -> String {
    format!("{KEPT}{:020}", lsn.get())
}

/// The name of the prepared segment `number`.
pub(crate) fn spare_name(number: u64) -> String {
    format!("spare-{number:06}.seg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_were_made() {
        for number in [0, 1, 999_999, 1_000_000, u64::MAX] {
            assert_eq!(FileName::of(&spare_name(number)), FileName::Spare(number));
            assert_eq!(FileName::of(&segment_name(Lsn::new(number))), FileName::Segment(Lsn::new(number)));
            let extract = format!("{number:020}{EXTRACT}");
            assert_eq!(FileName::of(&extract), FileName::Extract(Lsn::new(number)));
            let kept = format!("{KEPT}{number:020}");
            assert_eq!(FileName::of(&kept), FileName::Kept(Lsn::new(number)));
        }
    }

    #[test]
    fn only_a_repair_makes_a_log_wait_for_a_repair() {
        for stamp in ["20261122T013000Z", "20261122T013000Z-2", "20261122T013000Z-19"] {
            assert_eq!(
                FileName::of(&format!("quarantine-{stamp}.pending")),
                FileName::PendingRepair,
                "{stamp}"
            );
        }
        let time = "20261122T013000Z";
        for stamp in [
            "foo",
            "",
            "20261122",
            &format!("{time}-1"),
            &format!("{time}-02"),
            &format!("{time}-+2"),
            &format!("{time}-"),
        ] {
            assert_eq!(FileName::of(&format!("quarantine-{stamp}.pending")), FileName::Quarantine, "{stamp}");
        }
    }

    #[test]
    fn foreign_names_are_none_of_the_log() {
        for name in [
            "",
            "x",
            "1.seg",
            "spare-.seg",
            "spare-1.seg",
            "+0000000000000000001.seg",
            ".seg",
            "base",
            "base-",
            "base-17",
        ] {
            assert_eq!(FileName::of(name), FileName::Other, "{name}");
        }
        assert_eq!(FileName::of("superblock.tmp"), FileName::Unfinished);
    }

    #[test]
    fn files_of_a_repair_are_told_apart() {
        let stem = "quarantine-20261122T013000Z";
        for name in ["", ".journal", ".00000000000000000001.seg", ".superblock", ".pending.seg"] {
            assert_eq!(FileName::of(&format!("{stem}{name}")), FileName::Quarantine, "{name}");
        }
        assert_eq!(FileName::of(&format!("{stem}.pending")), FileName::PendingRepair);
        for name in [".new.00000000000000000001.seg.tmp", ".pending.tmp"] {
            assert_eq!(FileName::of(&format!("{stem}{name}")), FileName::Unfinished, "{name}");
        }
        assert_eq!(FileName::of("quarantine"), FileName::Other);
        assert_eq!(FileName::of("notes.pending"), FileName::Other);
    }
}
