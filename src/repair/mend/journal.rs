//! The journal of a repair: which files go aside, and which new ones come into their place.
//!
//! Lines of text, so that it can be read in an emergency; the last one is a checksum over all before it.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use super::stamp::Stamp;
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::crc32;
use crate::segment::FileName;
use crate::types::{Lsn, LsnRange};

const TITLE: &str = "annals repair journal 1";
/// More than the journal of the largest log takes; what is longer is none.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;

/// What a repair does to the names in the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Journal {
    pub(super) stamp: Stamp,
    /// The files that go aside, by the names that they had.
    pub(super) old: Vec<Noted>,
    /// The files that come, by the names that they get; the superblock last.
    pub(super) new: Vec<Noted>,
    pub(super) gave_up: Vec<LsnRange>,
}

/// A file, and what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Noted {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// The checksum over all of it; `None` if not all of it could be read.
    pub(super) sum: Option<u32>,
    /// What could not be read: rising.
    pub(super) unread: Vec<Range<u64>>,
}

impl Journal {
    /// Reads the journal that has this name now.
    ///
    /// # Errors
    /// [`Error::NotRepairable`] if it is none, and whatever the operating system says.
    pub(super) fn read(disk: &dyn Disk, name: &str, stamp: Stamp) -> Result<Journal> {
        let io = |doing| move |source| Error::io(doing, name, source);
        let damaged = || Error::NotRepairable { file: name.into() };
        let file = disk.open(name, Access::Read).map_err(io("open"))?;
        let bytes = file.bytes().map_err(io("look at"))?;
        if bytes > JOURNAL_BYTES_MAX {
            return Err(damaged());
        }
        let mut text = vec![0; usize::try_from(bytes).map_err(|_| damaged())?];
        let there = file.read_at(&mut text, 0).map_err(io("read"))?;
        Journal::decode(&text[..there], stamp).ok_or_else(damaged)
    }

    /// The text of the journal.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{TITLE}\n");
        for (word, files) in [("old", &self.old), ("new", &self.new)] {
            for Noted { name, bytes, sum, unread } in files {
                let sum = sum.map_or("-".to_owned(), |sum| format!("{sum:08x}"));
                writeln!(text, "{word} {name} {bytes} {sum}").expect("a string takes any text");
                for Range { start, end } in unread {
                    writeln!(text, "unread {name} {start} {end}").expect("a string takes any text");
                }
            }
        }
        for LsnRange { first, last } in &self.gave_up {
            writeln!(text, "lost {first} {last}").expect("a string takes any text");
        }
        let sum = crc32(text.as_bytes());
        writeln!(text, "end {sum:08x}").expect("a string takes any text");
        text
    }

    /// Reads the text of a journal; `None` if it is none.
    pub(super) fn decode(text: &[u8], stamp: Stamp) -> Option<Journal> {
        let text = std::str::from_utf8(text).ok()?;
        let at = text.rfind("end ")?;
        let (body, end) = text.split_at(at);
        if end != format!("end {:08x}\n", crc32(body.as_bytes())) {
            return None;
        }
        let mut journal = Journal { stamp, old: vec![], new: vec![], gave_up: vec![] };
        let mut lines = body.lines();
        if lines.next()? != TITLE {
            return None;
        }
        for line in lines {
            match *line.split(' ').collect::<Vec<_>>() {
                ["old", name, bytes, sum] => journal.old.push(Noted::decode(name, bytes, sum)?),
                ["new", name, bytes, sum] => journal.new.push(Noted::decode(name, bytes, sum)?),
                // It stands behind the line of its file, which is an old one.
                ["unread", name, start, end] => {
                    let file = journal.old.last_mut().filter(|old| old.name == name && old.sum.is_none())?;
                    file.unread.push(start.parse().ok()?..end.parse().ok()?);
                }
                ["lost", first, last] => {
                    let (first, last) = (Lsn::new(first.parse().ok()?), Lsn::new(last.parse().ok()?));
                    journal.gave_up.push(LsnRange::new(first, last)?);
                }
                _ => return None,
            }
        }
        Some(journal)
    }
}

impl Noted {
    /// A repair moves nothing but the files of a log, whatever a journal says.
    fn decode(name: &str, bytes: &str, sum: &str) -> Option<Noted> {
        if !matches!(FileName::of(name), FileName::Superblock | FileName::Segment(_) | FileName::Spare(_)) {
            return None;
        }
        let sum = match sum {
            "-" => None,
            sum => Some(u32::from_str_radix(sum, 16).ok()?),
        };
        Some(Noted { name: name.to_owned(), bytes: bytes.parse().ok()?, sum, unread: vec![] })
    }
}

/// Reads bytes as a journal, and panics if something does not hold: for tests and fuzzing.
///
/// # Panics
/// If what was read is not read again from what it is written as, or moves what is no file of a log.
#[cfg(feature = "sim")]
pub fn check_journal(bytes: &[u8]) {
    let stamp = Stamp::after(&[], 0);
    let Some(journal) = Journal::decode(bytes, stamp.clone()) else { return };
    assert!(bytes.starts_with(TITLE.as_bytes()));
    assert!(journal.gave_up.iter().all(|lost| lost.first <= lost.last));
    for Noted { name, .. } in journal.old.iter().chain(&journal.new) {
        assert!(!name.contains('/') && !name.starts_with('.') && name != crate::segment::LOCK, "{name}");
        let moved = [stamp.aside(name), stamp.waiting(name)];
        assert!(
            moved.iter().all(|moved| Stamp::read(moved).is_some_and(|(read, _)| read == stamp)),
            "{name}"
        );
    }
    assert!(Journal::decode(journal.encode().as_bytes(), stamp).as_ref() == Some(&journal));
}

/// The error for a file that is not what the journal says.
pub(super) fn changed(name: &str) -> Error {
    Error::ChangedSince { file: Arc::from(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Journal {
        let noted = |name: &str, bytes, sum| Noted { name: name.to_owned(), bytes, sum, unread: vec![] };
        let damaged =
            Noted { unread: vec![0..4096, 8192..8193], ..noted("00000000000000000001.seg", 8193, None) };
        Journal {
            stamp: Stamp::after(&[], 0),
            old: vec![noted("superblock", 131_072, Some(7)), damaged],
            new: vec![
                noted("00000000000000000001.seg", 20_480, Some(u32::MAX)),
                noted("superblock", 0, Some(0)),
            ],
            gave_up: vec![LsnRange::new(Lsn::new(3), Lsn::new(9)).unwrap()],
        }
    }

    #[test]
    fn a_journal_is_read_back_as_it_was_written() {
        let journal = journal();
        assert_eq!(Journal::decode(journal.encode().as_bytes(), journal.stamp.clone()), Some(journal));
    }

    #[test]
    fn a_journal_that_was_cut_or_changed_is_none() {
        let journal = journal();
        let text = journal.encode().into_bytes();
        for bytes in 0..text.len() {
            assert_eq!(Journal::decode(&text[..bytes], journal.stamp.clone()), None, "cut to {bytes}");
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[bytes] ^= 1 << bit;
                assert_eq!(Journal::decode(&flipped, journal.stamp.clone()), None, "bit {bit} of {bytes}");
            }
        }
    }

    #[test]
    fn a_journal_cannot_move_what_is_no_file_of_a_log() {
        for name in ["LOCK", "../superblock", "notes", "quarantine-x.journal", "a.tmp", "/etc/x.seg"] {
            let mut journal = journal();
            name.clone_into(&mut journal.old[0].name);
            assert_eq!(Journal::decode(journal.encode().as_bytes(), journal.stamp.clone()), None, "{name}");
        }
    }
}
