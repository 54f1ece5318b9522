//! Why a campaign has no result.

use std::fmt;
use std::io;
use std::path::Path;

use annals_ledger::Failure;

/// The result of a step of a campaign.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a campaign, or one step of it, has no result.
#[derive(Debug)]
pub(crate) enum Error {
    /// It cannot run here, for this reason.
    Skipped(String),
    /// The operating system refused something.
    Io {
        /// What was tried, and with what.
        doing: String,
        /// What it said.
        source: io::Error,
    },
    /// The file system cannot be mounted again.
    FileSystem(String),
    /// The log refused something, or broke a promise.
    Log(Failure),
    /// A signal came.
    Stopped,
}

impl Error {
    /// Wraps what the operating system said about `path`, for `map_err`.
    pub(crate) fn io(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let doing = format!("{doing} {}", path.display());
        move |source| Error::Io { doing, source }
    }

    /// A promise that was broken.
    pub(crate) fn broken(promise: impl Into<String>) -> Error {
        Error::Log(Failure::Broken(promise.into()))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::Log(failure)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Skipped(why) => write!(f, "skipped: {why}"),
            Error::Io { doing, source } => write!(f, "could not {doing}: {source}"),
            Error::FileSystem(what) => write!(f, "the file system does not come back: {what}"),
            Error::Log(failure) => write!(f, "{failure}"),
            Error::Stopped => f.write_str("stopped by a signal"),
        }
    }
}
