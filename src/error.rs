//! What can go wrong, each variant named for what the caller does next.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::types::{LogId, Lsn};

/// The result of an operation on a log.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a log did not succeed. Cheap to clone: one failed flush reaches many waiters.
///
/// ```
/// # fn main() -> annals::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let log = annals::LogOptions::new(dir.path().join("log")).segment_bytes(1 << 20).open()?;
/// use annals::{Error, Lsn};
///
/// let record = match log.read(Lsn::FIRST) {
///     Ok(record) => Some(record),
///     Err(Error::Trimmed { first, .. }) => Some(log.read(first)?), // or begin with a snapshot
///     Err(Error::BeyondEnd { .. }) => None, // not there yet
///     Err(error) => return Err(error), // says what to do next
/// };
/// assert!(record.is_none());
/// # log.close()
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file of the log: see the source.
    Io {
        /// What was tried: "open", "write", "sync".
        doing: &'static str,
        /// The file, relative to the log's directory; empty for the directory itself.
        file: Arc<str>,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The disk is full. Nothing acknowledged is lost; appends work again by themselves once there is space.
    NoSpace,
    /// A write or a sync failed, so what is on the disk is unknown: drop the log and open it again.
    Poisoned,
    /// The log was closed.
    Closed,
    /// The record is larger than the log takes: split it, or raise `record_bytes_max`.
    RecordTooLarge {
        /// Size of the record or of the batch, in bytes as stored.
        bytes: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// A batch without records has no LSN: do not append it.
    EmptyBatch,
    /// The batch has more records than one frame counts: append it in parts.
    TooManyRecords {
        /// How many records it has.
        records: u64,
        /// The limit.
        max: u64,
    },
    /// The mark is larger than a superblock has room for: keep it in a file of its own, and its name in the mark.
    MarkTooLarge {
        /// Size of the mark, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// As many bytes as allowed wait for the disk: wait for a ticket, or use the blocking `append`.
    WouldBlock,
    /// The deadline passed first; the record may still become durable.
    TimedOut,
    /// The record was trimmed away: take a snapshot, or read from `first`.
    Trimmed {
        /// The LSN that was asked for.
        asked: Lsn,
        /// The oldest record that the log still has.
        first: Lsn,
    },
    /// There is no such record, or none that is durable, yet.
    BeyondEnd {
        /// The LSN that was asked for.
        asked: Lsn,
        /// The newest record that could have been read; [`Lsn::ZERO`] for none.
        last: Lsn,
    },
    /// The log cannot be cut here, because `after` is inside a batch whose records live or die together.
    InsideBatch {
        /// The LSN that was asked for.
        after: Lsn,
        /// The first record of the batch.
        first: Lsn,
        /// The last record of the batch.
        last: Lsn,
    },
    /// Another process, or another handle in this one, has the log open for writing.
    InUse {
        /// The process id of the owner, where it could be read.
        owner: Option<u32>,
    },
    /// There is no log in this directory.
    NotALog,
    /// The directory holds something, but no log: choose an empty directory.
    NotEmpty,
    /// The log was written by a newer version of this library: upgrade. Nothing was changed.
    NewerVersion {
        /// The format version found.
        found: u32,
        /// The newest format version that is understood.
        supported: u32,
    },
    /// An option has a value that cannot work.
    BadOption {
        /// The option's name.
        option: &'static str,
        /// The value given.
        given: u64,
        /// The smallest and the largest value that would do.
        allowed: (u64, u64),
    },
    /// Both copies of the superblock are damaged: repair the log before opening it. Nothing was changed.
    SuperblockDamaged,
    /// Acknowledged bytes no longer check: repair the log before opening it. Nothing was changed.
    Rot {
        /// The segment's file.
        file: Arc<str>,
        /// The byte range in the file that does not check.
        bytes: Range<u64>,
        /// The first record at stake.
        first: Lsn,
        /// The last record at stake.
        last: Lsn,
    },
    /// Acknowledged records are missing: repair the log before opening it. Nothing was changed.
    Hole {
        /// The first file that is missing or misplaced, or whose end is.
        file: Arc<str>,
        /// The first record at stake.
        first: Lsn,
        /// The last record at stake.
        last: Lsn,
    },
    /// A file in the directory belongs to another log.
    ForeignFile {
        /// The file.
        file: Arc<str>,
        /// The log that the directory's superblock names.
        expected: LogId,
        /// The log that the file names.
        found: LogId,
    },
    /// The records were lost to damage, and a repair has given them up: go on after `last`.
    Lost {
        /// The first record that is lost.
        first: Lsn,
        /// The last one.
        last: Lsn,
    },
    /// A repair of the log was interrupted: finish it, or undo it, before opening the log. Nothing was changed.
    RepairUnfinished {
        /// The repair's journal.
        journal: Arc<str>,
    },
    /// A repair would give up acknowledged records: repeat how many, to accept that. Nothing was changed.
    LossNotAccepted {
        /// How many records would be given up.
        lost: u64,
        /// The number that was given, if any.
        accepted: Option<u64>,
    },
    /// The log cannot be repaired where it is: salvage what is readable into a new one. Nothing was changed.
    NotRepairable {
        /// What stands in the way.
        file: Arc<str>,
    },
    /// A file is not what it was when the log was looked at: look again. Nothing was changed.
    Outdated {
        /// The file.
        file: Arc<str>,
    },
    /// There is no repair to undo.
    NothingToUndo,
    /// A file is not what the repair has made or put aside: undoing it would lose that, or finishing it would build on
    /// it. Nothing was changed.
    ChangedSince {
        /// A file that is not what the repair has left.
        file: Arc<str>,
    },
}

impl Error {
    /// Whether the operating system was short of something for the moment, and nothing is wrong with the disk.
    pub(crate) fn passes(&self) -> bool {
        // Too many open files, in the process or in the system: these have the same numbers on all Unixes.
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        let Error::Io { source, .. } = self else { return false };
        source.kind() == io::ErrorKind::OutOfMemory || matches!(source.raw_os_error(), Some(ENFILE | EMFILE))
    }

    /// Wraps what the operating system said about `file`; a full disk becomes [`Error::NoSpace`].
    pub(crate) fn io(doing: &'static str, file: &str, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace,
            _ => Error::Io { doing, file: file.into(), source: Arc::new(source) },
        }
    }

    /// The text of the errors about the size of what is appended or kept.
    fn fmt_size(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::RecordTooLarge { bytes, max } => {
                write!(
                    f,
                    "{bytes} bytes are over the limit of {max}; append less at once, or raise `record_bytes_max`"
                )
            }
            Error::EmptyBatch => f.write_str("a batch needs at least one record"),
            Error::TooManyRecords { records, max } => {
                write!(f, "{records} records are over the {max} that a batch may have; append it in parts")
            }
            Error::MarkTooLarge { bytes, max } => {
                write!(
                    f,
                    "a mark of {bytes} bytes is over the limit of {max}; keep it in a file, and the file's name in the mark"
                )
            }
            opening => opening.fmt_opening(f),
        }
    }

    /// The text of the errors that an open ends with.
    fn fmt_opening(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotALog => f.write_str("no log in this directory: it holds no superblock; check the path"),
            Error::NotEmpty => {
                f.write_str("the directory is not empty and holds no log; name a new one, or an empty one")
            }
            Error::NewerVersion { found, supported } => {
                write!(f, "the log has format version {found}, newer than {supported}; upgrade to open it")
            }
            Error::SuperblockDamaged => {
                f.write_str("both copies of the superblock are damaged; repair the log to open it")
            }
            Error::Rot { file, bytes, first, last } => write!(
                f,
                "acknowledged {} damaged in {file}, bytes {} to {}; repair the log to open it",
                records_are(*first, *last),
                bytes.start,
                bytes.end
            ),
            Error::Hole { file, first, last } => write!(
                f,
                "acknowledged {} missing at {file}; repair the log to open it",
                records_are(*first, *last)
            ),
            Error::ForeignFile { file, expected, found } => {
                write!(f, "{file} belongs to log {found}, not to {expected}; move it out of the directory")
            }
            repair => repair.fmt_repair(f),
        }
    }

    /// The text of the errors that have to do with repairs.
    fn fmt_repair(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Lost { first, last } => {
                let (are, them) = (records_are(*first, *last), if first == last { "it" } else { "them" });
                write!(f, "{are} lost, and a repair has given {them} up; read on after {them}")
            }
            Error::RepairUnfinished { journal } => {
                write!(f, "a repair was interrupted ({journal}); finish it or undo it to open the log")
            }
            Error::LossNotAccepted { lost, accepted: None } => {
                write!(f, "the repair would give up {}; repeat that number to accept it", acknowledged(*lost))
            }
            Error::LossNotAccepted { lost, accepted: Some(accepted) } => {
                let lost = acknowledged(*lost);
                write!(f, "the repair would give up {lost}, not {accepted}; look at the plan again")
            }
            Error::NotRepairable { file } => {
                write!(f, "{file} cannot be repaired in its place; salvage what is readable into a new log")
            }
            Error::Outdated { file } => {
                write!(f, "{file} is not what it was when the log was looked at; look at it again")
            }
            Error::NothingToUndo => f.write_str("there is no repair to undo"),
            Error::ChangedSince { file } => {
                write!(f, "{file} was changed after the repair: it is not what the repair's journal says")
            }
            _ => unreachable!("the other errors have their texts above"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, file, source } if file.is_empty() => {
                write!(f, "could not {doing} in the log's directory: {source}")
            }
            Error::Io { doing, file, source } => write!(f, "could not {doing} {file}: {source}"),
            Error::NoSpace => {
                f.write_str("the disk is full; free some space: appends go on by themselves then")
            }
            Error::Poisoned => f.write_str("a write or sync failed earlier; open the log again to continue"),
            Error::Closed => f.write_str("the log is closed; open it again"),
            Error::WouldBlock => {
                f.write_str("the limit of bytes in flight is reached; wait for an earlier append")
            }
            Error::TimedOut => {
                f.write_str("the deadline passed; the record may still become durable: wait again")
            }
            Error::Trimmed { asked, first } => {
                write!(
                    f,
                    "record {asked} was trimmed; the log begins at {first}: go on there, or begin with a snapshot"
                )
            }
            Error::BeyondEnd { asked, last } => {
                write!(
                    f,
                    "record {asked} is past the end of the log at {last}: it is not durable yet, or was never appended"
                )
            }
            Error::InsideBatch { after, first, last } => {
                write!(
                    f,
                    "cannot cut after {after}, inside the batch of records {first} to {last}; cut before or after it"
                )
            }
            Error::InUse { owner: Some(owner) } => {
                write!(
                    f,
                    "the log is open for writing in process {owner}; meanwhile it can be opened read-only"
                )
            }
            Error::InUse { owner: None } => {
                f.write_str("the log is open for writing elsewhere; meanwhile it can be opened read-only")
            }
            Error::BadOption { option, given, allowed: (min, max) } => {
                write!(f, "{option} is {given}, but must be between {min} and {max}")
            }
            size => size.fmt_size(f),
        }
    }
}

/// `records 3 to 9 are`, or `record 3 is`.
fn records_are(first: Lsn, last: Lsn) -> String {
    if first == last { format!("record {first} is") } else { format!("records {first} to {last} are") }
}

fn acknowledged(records: u64) -> String {
    format!("{records} acknowledged record{}", if records == 1 { "" } else { "s" })
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operator may be told, one of each that the page has.
    fn said() -> Vec<String> {
        let (first, last, file) = (Lsn::new(3), Lsn::new(9), Arc::<str>::from("00000000000000000001.seg"));
        let errors = [
            Error::Rot { file: Arc::clone(&file), bytes: 1..2, first, last },
            Error::Hole { file: Arc::clone(&file), first, last },
            Error::SuperblockDamaged,
            Error::RepairUnfinished { journal: "quarantine-20261122T021747Z.pending".into() },
            Error::ForeignFile { file, expected: LogId::new(1), found: LogId::new(2) },
            Error::InUse { owner: Some(7) },
            Error::NewerVersion { found: 2, supported: 1 },
            Error::Lost { first, last },
        ];
        errors.iter().map(Error::to_string).collect()
    }

    /// Whether the pieces of `quoted` between its dots follow one another in `text`.
    fn quotes(quoted: &str, text: &str) -> bool {
        let mut rest = text;
        quoted.split("...").map(str::trim).all(|piece| {
            let found = rest.find(piece);
            rest = found.map_or("", |at| &rest[at + piece.len()..]);
            found.is_some()
        })
    }

    #[test]
    fn one_record_is_told_as_one() {
        let rot = |last| Error::Rot { file: "a.seg".into(), bytes: 1..2, first: Lsn::new(3), last };
        assert!(rot(Lsn::new(3)).to_string().starts_with("acknowledged record 3 is damaged"));
        assert!(rot(Lsn::new(4)).to_string().starts_with("acknowledged records 3 to 4 are damaged"));
        let lost = Error::Lost { first: Lsn::new(3), last: Lsn::new(3) };
        assert_eq!(lost.to_string(), "record 3 is lost, and a repair has given it up; read on after it");
        let loss = Error::LossNotAccepted { lost: 1, accepted: None };
        assert!(loss.to_string().contains("1 acknowledged record;"), "{loss}");
    }

    /// The page said "belongs to another log", which no program ever said.
    #[test]
    fn the_page_for_operators_quotes_what_is_said() {
        let page = include_str!("../docs/operations.md");
        let symptoms = page.lines().filter_map(|line| {
            let symptom = line.strip_prefix("| ")?.split(" | ").next()?;
            ["the program says", "a read returns"]
                .iter()
                .any(|begins| symptom.starts_with(begins))
                .then_some(symptom)
        });
        let quoted: Vec<&str> = symptoms.flat_map(|symptom| symptom.split('`').skip(1).step_by(2)).collect();
        assert!(quoted.len() >= 8, "{quoted:?}");
        for quoted in quoted {
            assert!(said().iter().any(|text| quotes(quoted, text)), "nobody says {quoted:?}");
        }
    }
}
