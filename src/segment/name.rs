//! The names of the files in a log's directory. None comes from a clock.

use crate::types::Lsn;

/// The name of the file that the writer locks.
pub(crate) const LOCK: &str = "LOCK";
/// The name of the file with the two superblock slots.
pub(crate) const SUPERBLOCK: &str = "superblock";

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
    /// A file that was being prepared, worth nothing.
    Unfinished,
    /// None of the log's.
    Other,
}

impl FileName {
    /// Reads a name.
    pub(crate) fn of(name: &str) -> FileName {
        match name {
            LOCK => return FileName::Lock,
            SUPERBLOCK => return FileName::Superblock,
            _ if name.ends_with(".tmp") => return FileName::Unfinished,
            _ => {}
        }
        let Some(stem) = name.strip_suffix(".seg") else { return FileName::Other };
        let number = |digits: &str, width| {
            let plain = digits.len() >= width && digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse().ok().filter(|_| plain)
        };
        match stem.strip_prefix("spare-") {
            Some(digits) => number(digits, 6).map_or(FileName::Other, FileName::Spare),
            None => number(stem, 20).map_or(FileName::Other, |lsn| FileName::Segment(Lsn::new(lsn))),
        }
    }
}

/// The name of the segment that begins with `first`.
pub(crate) fn segment_name(first: Lsn) -> String {
    format!("{:020}.seg", first.get())
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
        }
    }

    #[test]
    fn foreign_names_are_none_of_the_log() {
        for name in ["", "x", "1.seg", "spare-.seg", "spare-1.seg", "+0000000000000000001.seg", ".seg"] {
            assert_eq!(FileName::of(name), FileName::Other, "{name}");
        }
        assert_eq!(FileName::of("superblock.tmp"), FileName::Unfinished);
    }
}
