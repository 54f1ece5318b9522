//! What can go wrong in a measurement, each said with what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of a step of a measurement.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a measurement has no result.
#[derive(Debug)]
pub(crate) enum Error {
    /// The operating system refused something.
    Io {
        /// What was tried: "create", "read".
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log refused something.
    Log {
        /// What was tried: "open", "append to".
        doing: &'static str,
        /// What the log said.
        source: annals::Error,
    },
    /// A replica or a client of a cluster refused something.
    Cluster {
        /// What was tried: "start", "append to".
        doing: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is nothing to compare with.
    #[cfg(not(feature = "peers"))]
    NoPeers,
    /// Another engine of `compare` refused something.
    #[cfg(feature = "peers")]
    Peer {
        /// The engine's name.
        engine: &'static str,
        /// What it said.
        message: String,
    },
    /// The directory holds files that log-bench did not put there.
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// One of the files.
        found: String,
    },
    /// Another log-bench works in the directory.
    Busy {
        /// The directory.
        dir: PathBuf,
    },
    /// The disk has too little room for what was asked for.
    NoRoom {
        /// The directory.
        dir: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The input has no line to append.
    EmptyInput {
        /// The input.
        path: PathBuf,
    },
    /// What was read back is not what was appended.
    Mismatch {
        /// The record's number in the log.
        lsn: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file system of the directory cannot write by the method asked for.
    MethodUnsupported {
        /// The method.
        method: annals::WriteMethod,
        /// The directory.
        dir: PathBuf,
    },
    /// A child process of the measurement ended in a way it should not have.
    Child {
        /// What it was doing.
        doing: &'static str,
        /// What it left behind: its status or its last words.
        left: String,
    },
    /// A trial of `torture` could not go on.
    Trial(annals_ledger::Failure),
    /// The log has broken a promise, and the report says which.
    Broken,
    /// The measurement was stopped by a signal.
    Interrupted,
}

impl Error {
    /// Wraps what the operating system said about `path`, for `map_err`.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { doing, path: path.to_path_buf(), source }
    }

    /// Wraps what a replica or a client said, for `map_err`.
    pub(crate) fn cluster<E: std::error::Error + Send + Sync + 'static>(
        doing: &'static str,
    ) -> impl FnOnce(E) -> Error {
        move |source| Error::Cluster { doing, source: Box::new(source) }
    }

    /// Wraps what the log said, for `map_err`.
    pub(crate) fn log(doing: &'static str) -> impl FnOnce(annals::Error) -> Error {
        move |source| Error::Log { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, path, source } => {
                write!(f, "could not {doing} {}: {source}{}", path.display(), io_advice(source))
            }
            Error::Log { doing, source: annals::Error::NoSpace } => write!(
                f,
                "could not {doing} the log: the disk is full; free some space, choose another disk with \
                 --dir, or ask for less (--secs, --segment-bytes, --retain, --log-bytes)"
            ),
            Error::Log { doing, source: source @ annals::Error::RecordTooLarge { .. } } => {
                write!(
                    f,
                    "could not {doing} the log: {source}; use smaller records or batches (--size, --batch)"
                )
            }
            Error::Log { doing, source } => write!(f, "could not {doing} the log: {source}"),
            #[cfg(not(feature = "peers"))]
            Error::NoPeers => f.write_str(
                "this log-bench was built without the engines to compare with; build it with them: \
                 cargo run --release -p log-bench --features peers -- compare",
            ),
            #[cfg(feature = "peers")]
            Error::Peer { engine, message } => write!(f, "{engine} failed: {message}"),
            Error::NotOurs { dir, found } => write!(
                f,
                "{} is not empty and not log-bench's own: it holds {found}; name an empty or a new directory \
                 with --dir",
                dir.display()
            ),
            Error::Busy { dir } => write!(
                f,
                "another log-bench is working in {}; wait for it, or name another directory with --dir",
                dir.display()
            ),
            Error::NoRoom { dir, needed, free } => write!(
                f,
                "{} has {} free, and this needs {}; free some space, choose another disk with --dir, or ask \
                 for less",
                dir.display(),
                crate::units::bytes(*free),
                crate::units::bytes(*needed)
            ),
            Error::Cluster { doing, source } => write!(f, "could not {doing} the cluster: {source}"),
            Error::EmptyInput { path } => {
                write!(f, "{} has no line to append; name a text file with --input", path.display())
            }
            Error::Mismatch { lsn, what } => {
                write!(
                    f,
                    "record {lsn} did not come back as it was appended: {what}; keep the data with --keep"
                )
            }
            Error::MethodUnsupported { method, dir } => write!(
                f,
                "the file system of {} cannot write by the method {method}; choose another with --method, or \
                 another disk with --dir",
                dir.display()
            ),
            Error::Child { doing, left } => write!(f, "a child process that was {doing} failed: {left}"),
            Error::Trial(failure) => write!(f, "{failure}"),
            Error::Broken => f.write_str("the log has broken a promise"),
            Error::Interrupted => f.write_str("stopped by a signal before it was done"),
        }
    }
}

fn io_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, or choose another disk with --dir"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name a directory that you may write to with --dir"
        }
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::NotADirectory => "; a part of the path is a file: check it",
        io::ErrorKind::AlreadyExists => "; name a place that is not there yet",
        _ => "",
    }
}
