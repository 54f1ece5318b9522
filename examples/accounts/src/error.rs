//! Why a command of the program did not succeed, each with what to do next.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use annals::client::ClientError;
use annals::node::ReplicaError;
use annals::transport::TransportError;

/// The result of a command.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Error {
    /// A file or a directory.
    Path {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// An address to listen on.
    Listen {
        /// Which.
        address: SocketAddr,
        /// What came of it.
        source: io::Error,
    },
    /// A configuration that makes no sense.
    Settings {
        /// The file.
        file: PathBuf,
        /// Where, and what was expected.
        reason: String,
    },
    /// No run of free ports was found.
    NoPorts,
    /// A directory that holds something else.
    NotEmpty {
        /// Which.
        dir: PathBuf,
    },
    /// A directory that another process has open.
    InUse {
        /// Which.
        dir: PathBuf,
    },
    /// A node has ended, or does not do what it should.
    Node {
        /// Its name.
        name: String,
        /// What happened.
        reason: String,
        /// Where it says more.
        log: PathBuf,
    },
    /// Something has not come about in time.
    TooLate {
        /// What was waited for.
        what: String,
        /// What there was instead.
        seen: String,
    },
    /// The story has gone another way than it should.
    Story {
        /// What was expected, and what came.
        reason: String,
    },
    /// A request over HTTP got no answer.
    Http {
        /// Whom it was for.
        address: SocketAddr,
        /// What came of it.
        reason: String,
    },
    /// The cluster.
    Client(ClientError),
    /// The replica.
    Replica(ReplicaError),
    /// Certificates.
    Transport(TransportError),
    /// The user has asked for the end.
    Stopped,
}

impl Error {
    /// For `map_err`: what was tried with which path.
    pub(crate) fn path(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Path { doing, path, source }
    }

    /// What to do next, if there is anything to say that the error itself does not.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Error::Listen { .. } => {
                Some("another process may have the port: name another in the node's file")
            }
            Error::NoPorts => {
                Some("free some ports between 15000 and 30000, or name them in the nodes' files")
            }
            Error::NotEmpty { .. } => Some("name a new directory, or remove this one"),
            Error::InUse { .. } => Some("end it, or name another directory"),
            Error::TooLate { .. } => Some("is the machine very busy? try again"),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Path { doing, path, source } => {
                write!(f, "could not {doing} {}: {source}", path.display())
            }
            Error::Listen { address, source } => write!(f, "could not listen on {address}: {source}"),
            Error::Settings { file, reason } => write!(f, "{}: {reason}", file.display()),
            Error::NoPorts => f.write_str("no free ports were found"),
            Error::NotEmpty { dir } => {
                write!(f, "{} is not empty, and holds no whole cluster of accounts", dir.display())
            }
            Error::InUse { dir } => {
                write!(f, "another process runs the cluster in {}", dir.display())
            }
            Error::Node { name, reason, log } => {
                write!(f, "{name} {reason}")?;
                match last_lines(log) {
                    Some(lines) => write!(f, "; the last that it said:\n{lines}"),
                    None => Ok(()),
                }
            }
            Error::TooLate { what, seen } => write!(f, "it took too long until {what}; there was {seen}"),
            Error::Story { reason } => f.write_str(reason),
            Error::Http { address, reason } => write!(f, "no answer from http://{address}: {reason}"),
            Error::Client(error) => error.fmt(f),
            Error::Replica(error) => error.fmt(f),
            Error::Transport(error) => error.fmt(f),
            Error::Stopped => f.write_str("stopped"),
        }?;
        self.advice().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl std::error::Error for Error {}

/// What `?` makes an [`Error`] of.
macro_rules! wraps {
    ($($variant:ident($source:ty)),*) => {$(
        impl From<$source> for Error {
            fn from(source: $source) -> Error {
                Error::$variant(source)
            }
        }
    )*};
}
wraps!(Client(ClientError), Replica(ReplicaError), Transport(TransportError));

/// The end of a log, for a message.
fn last_lines(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(6)..];
    (!last.is_empty()).then(|| last.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n"))
}
