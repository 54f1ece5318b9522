//! Why a command could not do what it was asked to, and what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use annals::Error as LogError;

use crate::place::{command, shown};
use crate::progress;
use crate::status::Status;

/// The result of a command.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Error {
    /// The operating system refused something.
    Path {
        /// What was tried: "open", "write".
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log refused something.
    Log {
        /// Its directory.
        dir: PathBuf,
        /// What it said.
        source: LogError,
    },
    /// The log cannot be repaired in its place, or only with a loss that was not accepted.
    Unrepaired {
        /// The log's directory.
        dir: PathBuf,
        /// Why.
        source: LogError,
        /// How the log is.
        status: Status,
    },
    /// The process that writes to the log has trimmed it while it was read.
    Trimmed {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A new log could not be made.
    NewLog {
        /// Its directory.
        dir: PathBuf,
        /// What was said.
        source: LogError,
    },
    /// A new log was to be made inside the old one.
    InsideLog {
        /// Where.
        path: PathBuf,
        /// The log's directory.
        dir: PathBuf,
    },
    /// Nothing can be fetched from this replica.
    Peer {
        /// Why.
        reason: String,
        /// What to do next.
        advice: &'static str,
    },
    /// A signal ended it.
    Stopped,
}

impl Error {
    /// Wraps what the operating system said about `path`, for `map_err`.
    pub(crate) fn path(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Path { doing, path: path.to_path_buf(), source }
    }

    /// Wraps what the log in `dir` said, for `map_err`.
    pub(crate) fn log(dir: &Path) -> impl FnOnce(LogError) -> Error {
        move |source| match source {
            // A watcher that gives up ends the work with this error.
            LogError::TimedOut if progress::is_stopped() => Error::Stopped,
            source => Error::Log { dir: dir.to_path_buf(), source },
        }
    }

    /// Wraps what was said while the log in `from` was copied to `to`, for `map_err`.
    pub(crate) fn salvage(from: &Path, to: &Path) -> impl FnOnce(LogError) -> Error {
        move |source| match source {
            LogError::NotEmpty | LogError::NoSpace => Error::NewLog { dir: to.to_path_buf(), source },
            source => Error::log(from)(source),
        }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> Status {
        match self {
            Error::Path { .. }
            | Error::Log { .. }
            | Error::Trimmed { .. }
            | Error::NewLog { .. }
            | Error::Peer { .. } => Status::Refused,
            Error::Unrepaired { status, .. } => *status,
            Error::InsideLog { .. } => Status::Usage,
            Error::Stopped => Status::Stopped,
        }
    }

    /// A word for programs.
    pub(crate) fn kind(&self) -> String {
        match self {
            Error::Path { source, .. } => in_snake_case(&format!("{:?}", source.kind())),
            Error::Log { source: LogError::Io { source, .. }, .. } => {
                in_snake_case(&format!("{:?}", source.kind()))
            }
            Error::Log { source, .. } | Error::NewLog { source, .. } | Error::Unrepaired { source, .. } => {
                in_snake_case(&format!("{source:?}"))
            }
            Error::Trimmed { .. } => "trimmed".to_owned(),
            Error::InsideLog { .. } => "inside_log".to_owned(),
            Error::Peer { .. } => "peer".to_owned(),
            Error::Stopped => "stopped".to_owned(),
        }
    }

    /// What to do next.
    pub(crate) fn advice(&self) -> Option<String> {
        match self {
            Error::Path { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Some("name a place on a disk that can be written to".to_owned())
            }
            Error::Path { source, .. } => io_advice(source),
            Error::Log { dir, source } | Error::Unrepaired { dir, source, .. } => log_advice(dir, source),
            Error::Trimmed { .. } => Some("begin again, with a later --from".to_owned()),
            Error::NewLog { source: LogError::NoSpace, .. } => {
                Some("free some space, or name a directory on another disk".to_owned())
            }
            Error::NewLog { .. } => Some("name a directory that is new or empty".to_owned()),
            Error::InsideLog { .. } => Some("name a directory that is not inside the log's own".to_owned()),
            Error::Peer { advice, .. } => Some((*advice).to_owned()),
            Error::Stopped => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Path| shown(&path.to_string_lossy());
        match self {
            Error::Path { doing, path, source } => write!(f, "could not {doing} {}: {source}", name(path)),
            Error::Trimmed { dir } => {
                write!(f, "{}: the process that writes to the log trimmed it while it was read", name(dir))
            }
            Error::NewLog { dir, source: LogError::NotEmpty } => write!(f, "{} is not empty", name(dir)),
            // The library's own text is about appends.
            Error::Log { dir, source: LogError::NoSpace }
            | Error::NewLog { dir, source: LogError::NoSpace } => {
                write!(f, "{}: the disk is full", name(dir))
            }
            Error::Log { dir, source }
            | Error::NewLog { dir, source }
            | Error::Unrepaired { dir, source, .. } => {
                write!(f, "{}: {}", name(dir), shown(&source.to_string()))
            }
            Error::InsideLog { path, dir } => {
                write!(f, "{} is inside the log's own directory {}", name(path), name(dir))
            }
            Error::Peer { reason, .. } => f.write_str(&shown(reason)),
            Error::Stopped => f.write_str("stopped by a signal before it was done"),
        }
    }
}

/// The name of an enum's variant, of what `Debug` shows of it.
fn in_snake_case(debug: &str) -> String {
    let name: String = debug.chars().take_while(char::is_ascii_alphanumeric).collect();
    let mut snake = String::new();
    for char in name.chars() {
        if char.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}

fn io_advice(source: &io::Error) -> Option<String> {
    let advice = match source.kind() {
        io::ErrorKind::PermissionDenied => "run it as the user who owns the log, or as root",
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::NotADirectory => "name the log's directory, not a file in it",
        io::ErrorKind::AlreadyExists => "name a file that is not there yet",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or use another disk",
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount it for writing, or salvage what is readable to another disk"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

fn log_advice(dir: &Path, source: &LogError) -> Option<String> {
    let salvage = || command("salvage", dir, "--out NEW");
    Some(match source {
        LogError::Io { source, .. } => return io_advice(source),
        LogError::NotALog => "name the directory that holds the superblock and the .seg files".to_owned(),
        LogError::InUse { owner } => {
            let process =
                owner.map_or("the process that has it open".to_owned(), |id| format!("process {id}"));
            format!("stop {process} first; inspect, verify, dump and scrub work beside it")
        }
        LogError::NoSpace => {
            format!("nothing was changed: free some space, or use another disk: {}", salvage())
        }
        LogError::NewerVersion { .. } => "use a log-recover that is as new as the program".to_owned(),
        LogError::LossNotAccepted { lost, .. } => format!(
            "nothing was changed; read {}, then {}",
            command("plan", dir, ""),
            command("repair", dir, &format!("--accept-loss {lost}"))
        ),
        LogError::NotRepairable { .. } => format!("nothing was changed; {}", salvage()),
        LogError::RepairUnfinished { .. } => {
            format!("{} finishes it, {} takes it back", command("repair", dir, ""), command("undo", dir, ""))
        }
        LogError::ChangedSince { .. } => {
            "nothing was changed; the old files stay in the quarantine: copy them elsewhere to look at them"
                .to_owned()
        }
        LogError::Outdated { .. } => {
            "nothing was changed; see to it that no process writes to it, and try again".to_owned()
        }
        LogError::SuperblockDamaged | LogError::Rot { .. } | LogError::Hole { .. } => {
            command("verify", dir, "")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_the_kind() {
        let kind = |source| Error::Log { dir: "d".into(), source }.kind();
        assert_eq!(kind(LogError::NotALog), "not_a_log");
        assert_eq!(kind(LogError::InUse { owner: Some(7) }), "in_use");
        assert_eq!(Error::path("open", Path::new("d"))(io::ErrorKind::NotFound.into()).kind(), "not_found");
    }
}
