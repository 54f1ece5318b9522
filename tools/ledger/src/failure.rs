//! Why a trial could not go on.

use std::fmt;
use std::io;

/// The result of a step of a trial.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a trial, or the reading of a log after one, could not go on.
#[derive(Debug)]
pub enum Failure {
    /// The log refused something.
    Log {
        /// What was tried: "open", "append to".
        doing: &'static str,
        /// What it said.
        source: annals::Error,
    },
    /// The operating system refused something that is not the log's.
    Io {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The log broke a promise.
    Broken(String),
}

impl Failure {
    /// Wraps what the log said, for `map_err`.
    pub fn log(doing: &'static str) -> impl FnOnce(annals::Error) -> Failure {
        move |source| Failure::Log { doing, source }
    }

    /// Wraps what the operating system said, for `map_err`.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
        move |source| Failure::Io { doing, source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Log { doing, source } => write!(f, "could not {doing} the log: {source}"),
            Failure::Io { doing, source } => write!(f, "could not {doing}: {source}"),
            Failure::Broken(promise) => f.write_str(promise),
        }
    }
}

impl std::error::Error for Failure {}
