//! What can go wrong, and what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use annals::client::ClientError;
use annals::node::ReplicaError;
use annals::transport::TransportError;

use crate::name::BadName;
use crate::operation::OperationId;
use crate::state::{MEMORY_RECORDS, Outcome};

/// The result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something was not done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A name that is none: choose another.
    Name(BadName),
    /// A command or a setting that makes no sense: correct it.
    Usage(String),
    /// A file on this machine.
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The operation has changed nothing, for the reason that the outcome says.
    Refused(Outcome),
    /// Nobody knows whether it was done: ask again with the same id.
    Unknown {
        /// The operation's id.
        id: OperationId,
        /// Why.
        reason: Box<Error>,
    },
    /// The log: is there a majority of nodes?
    Log(ClientError),
    /// This node's replica.
    Replica(ReplicaError),
    /// The certificates.
    Certificates(TransportError),
    /// No node could answer. What each of them said.
    NoNode(Vec<(u64, String)>),
    /// What was received is not what the digest says: nothing of it was kept.
    Mismatch {
        /// Of which file.
        name: String,
    },
    /// A file was replaced, renamed or deleted while it was read: get it again.
    Changed {
        /// Its name.
        name: String,
    },
    /// The demo does not go on.
    Demo(String),
    /// A signal has asked for the end.
    Stopped,
}

impl Error {
    /// An error about a file, for `map_err`.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { doing, path, source }
    }

    /// What to do next.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        Some(match self {
            Error::Unknown { id, .. } => {
                format!(
                    "give the same command once more with --id {id}: before the next {MEMORY_RECORDS} records it is done \
                     once, however often it is tried"
                )
            }
            Error::Log(ClientError::TimedOut { .. }) => {
                "nothing was changed; see which nodes run with stat --cluster: it takes a majority".to_owned()
            }
            Error::NoNode(_) => "see which nodes run with stat --cluster".to_owned(),
            Error::Changed { .. } => "get it again; list shows what there is".to_owned(),
            Error::Mismatch { .. } => "try again; if it stays, tell the author".to_owned(),
            Error::Replica(ReplicaError::Blank { .. }) => {
                "make the cluster with create, or have the node join one with --join".to_owned()
            }
            Error::File { source, .. } => advice_on(source.kind())?.to_owned(),
            _ => return None,
        })
    }

    /// The program's exit status.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Error::Refused(_) | Error::Changed { .. } => 1,
            Error::Unknown { .. } => 2,
            Error::Name(_) | Error::Usage(_) => 64,
            Error::Stopped => 130,
            _ => 3,
        }
    }
}

const PORT_TAKEN: &str = "another process has the port, or this node is only just ending: end it, or try again; or name \
                          another port in cluster.json, and start all nodes once more";

/// What helps when something of this machine is in the way.
fn advice_on(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::AddrInUse => PORT_TAKEN,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make some room there, or name another place; then give the command once more"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a place that you may use; for the demo --home does that, or TMPDIR"
        }
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Name(error) => error.fmt(f),
            Error::Usage(reason) | Error::Demo(reason) => f.write_str(reason),
            Error::File { doing, path, source } => {
                write!(f, "cannot {doing} {}: {source}", path.display())
            }
            Error::Stopped => f.write_str("stopped: all nodes have ended, and everything is removed"),
            Error::Refused(outcome) => outcome.fmt(f),
            Error::Unknown { id, reason } => match &**reason {
                Error::Log(ClientError::Unknown) => write!(f, "nobody knows whether operation {id} was done"),
                reason => write!(f, "nobody knows yet whether operation {id} was done: {reason}"),
            },
            Error::Log(error) => error.fmt(f),
            Error::Replica(error) => error.fmt(f),
            Error::Certificates(error) => error.fmt(f),
            Error::NoNode(said) => {
                f.write_str("no node could answer")?;
                said.iter().try_for_each(|(node, why)| write!(f, "; node {node}: {why}"))
            }
            Error::Changed { name } => {
                write!(
                    f,
                    "{name} was replaced, renamed or deleted while it was read; what has come is not whole"
                )
            }
            Error::Mismatch { name } => {
                write!(f, "what was received of {name} does not match its digest; nothing of it was kept")
            }
        }
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
wraps!(Name(BadName), Log(ClientError), Replica(ReplicaError), Certificates(TransportError));
