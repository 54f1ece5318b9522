//! Why a command could not do what it was asked to, and what to do next.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use annals::ReplicaId;
use annals::client::ClientError;
use annals::protocol::request::Refused;
use annals::transport::TransportError;

use crate::fates::Fates;
use crate::status::Status;

/// The result of a command.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Error {
    /// The operating system refused something about a file.
    Path {
        /// What was tried: "open", "write".
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A configuration cannot be read.
    Settings {
        /// Which.
        file: PathBuf,
        /// What is wrong with it, and where.
        source: Box<toml::de::Error>,
    },
    /// A setting that is needed was not given.
    MissingSetting {
        /// Its name as a key.
        name: &'static str,
    },
    /// Settings that contradict each other, or the filter of what is logged.
    BadSetting {
        /// In words, with what to do instead.
        reason: String,
    },
    /// An address cannot be listened on.
    Listen {
        /// Which.
        address: SocketAddr,
        /// For what: "the status page".
        purpose: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file that would be overwritten.
    Exists {
        /// Which.
        path: PathBuf,
        /// What to do instead.
        advice: &'static str,
    },
    /// A command that asks the cluster was told nothing about it.
    NoCluster,
    /// The network, or a certificate.
    Transport {
        /// Who was asked, if anybody.
        address: Option<String>,
        /// What came of it.
        source: TransportError,
    },
    /// A replica has refused what it was asked.
    Refused {
        /// Where it was asked.
        address: String,
        /// Why.
        refused: Refused,
    },
    /// The client of the cluster has given up.
    Client(ClientError),
    /// The same, for an append.
    Append {
        /// The first line that was not appended, or of which nobody knows.
        line: u64,
        /// Why.
        source: ClientError,
        /// What became of all that were handed over.
        fates: Fates,
    },
    /// A line that no `log-recover dump --json` has written; those before it were appended.
    BadDump {
        /// Which.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A replica's answer makes no sense.
    BadReply,
    /// The cluster has no such replica, or it does not answer.
    NoReplica {
        /// Which.
        id: ReplicaId,
        /// Why it cannot be asked.
        reason: String,
    },
    /// No replica is primary.
    NoPrimary {
        /// What is known instead.
        reason: String,
    },
    /// It makes no sense now.
    NotNeeded {
        /// In words, with what to do instead.
        reason: String,
    },
    /// The replica could not be made or started, or has failed.
    Replica {
        /// Its own words.
        reason: String,
        /// What to do next.
        advice: Option<&'static str>,
    },
    /// A process could not be started, or ended when it should not.
    Child {
        /// Which replica's.
        replica: u64,
        /// What came of it.
        reason: String,
        /// What to do next.
        advice: String,
    },
    /// Nothing came of it within the time that was given.
    TimedOut {
        /// What was waited for.
        waiting_for: String,
    },
    /// A signal ended it.
    Stopped,
}

impl Error {
    /// Wraps what the operating system said about `path`, for `map_err`.
    pub(crate) fn path(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Path { doing, path: path.to_path_buf(), source }
    }

    /// Wraps what the network said about `address`, for `map_err`.
    pub(crate) fn at(address: &str) -> impl FnOnce(TransportError) -> Error {
        move |source| Error::Transport { address: Some(address.to_owned()), source }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> Status {
        match self {
            Error::Settings { .. }
            | Error::MissingSetting { .. }
            | Error::BadSetting { .. }
            | Error::NoCluster => Status::Usage,
            Error::Refused { refused: Refused::Unknown, .. }
            | Error::Client(ClientError::Unknown)
            | Error::Append { source: ClientError::Unknown, .. } => Status::Unknown,
            Error::Append { fates, .. } if fates.has_unknown() => Status::Unknown,
            Error::Stopped => Status::Stopped,
            _ => Status::Refused,
        }
    }

    /// What to do next.
    pub(crate) fn advice(&self) -> Option<String> {
        let advice = match self {
            Error::Path { source, .. } => return io_advice(source).map(str::to_owned),
            Error::Settings { .. } => {
                "correct the file; `log-node run --help` explains each setting".to_owned()
            }
            Error::MissingSetting { name } => {
                format!("give --{}, or `{name} = ...` in the file of --config", name.replace('_', "-"))
            }
            Error::Listen { source, .. } => listen_advice(source)?.to_owned(),
            Error::Exists { advice, .. } => (*advice).to_owned(),
            Error::Child { advice, .. } => advice.clone(),
            Error::TimedOut { .. } => "look with `log-node status`, then try again".to_owned(),
            Error::NoCluster => {
                "give --config FILE; `log-node dev --dir D` leaves one in D/client.toml".to_owned()
            }
            Error::Transport { source, .. } => return transport_advice(source).map(str::to_owned),
            Error::Refused { refused, .. } => return refused_advice(refused),
            Error::Client(source) => return client_advice(source),
            Error::Append { source: ClientError::Unknown, fates, .. } => fates.advice(),
            Error::Append { source, fates, .. } => {
                let advice =
                    client_advice(source).map(|advice| format!("{advice}; then ")).unwrap_or_default();
                format!("{advice}{}", fates.advice())
            }
            Error::BadDump { .. } => "leave --dump out for a file of plain lines".to_owned(),
            Error::BadReply => "use a log-node of the same version as the replicas".to_owned(),
            Error::NoReplica { .. } | Error::NoPrimary { .. } => {
                "look with `log-node status`; an election takes a majority of the voters, or as many as \
                 `election_quorum` says"
                    .to_owned()
            }
            Error::Replica { advice, .. } => return advice.map(str::to_owned),
            Error::BadSetting { .. } | Error::NotNeeded { .. } | Error::Stopped => return None,
        };
        Some(advice)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Path { doing, path, source } => {
                write!(f, "could not {doing} {}: {source}", path.display())
            }
            Error::Settings { file, source } => {
                write!(f, "{} makes no sense: {}", file.display(), source.to_string().trim_end())
            }
            Error::MissingSetting { name } => write!(f, "the setting {name} is missing"),
            Error::BadSetting { reason } | Error::NotNeeded { reason } => f.write_str(reason),
            Error::Listen { address, purpose, source } => {
                write!(f, "could not listen on {address} for {purpose}: {source}")
            }
            Error::Exists { path, .. } => write!(f, "{} is there already", path.display()),
            Error::NoCluster => f.write_str("nothing says where the cluster is"),
            // What is not about an address begins with what it is about.
            Error::Transport { address: Some(address), source }
                if !matches!(
                    source,
                    TransportError::Unreachable { .. } | TransportError::BadAddress { .. }
                ) =>
            {
                write!(f, "{address}: {source}")
            }
            Error::Transport { source, .. } => source.fmt(f),
            Error::Refused { address, refused } => {
                write!(f, "{address}: ")?;
                fmt_refused(refused, f)
            }
            Error::Client(source) => source.fmt(f),
            Error::Append { line, source, .. } => write!(f, "line {line}: {source}"),
            Error::BadDump { line, what } => {
                write!(f, "line {line} is none of `log-recover dump --json`: {what}")
            }
            Error::BadReply => f.write_str("the answer of a replica makes no sense"),
            Error::NoReplica { id, reason } => write!(f, "replica {id} cannot be asked: {reason}"),
            Error::NoPrimary { reason } => write!(f, "there is no primary: {reason}"),
            Error::Replica { reason, .. } => f.write_str(reason),
            Error::Child { replica, reason, .. } => write!(f, "replica {replica} {reason}"),
            Error::TimedOut { waiting_for } => write!(f, "waited too long for {waiting_for}"),
            Error::Stopped => f.write_str("stopped by a signal before it was done"),
        }
    }
}

fn fmt_refused(refused: &Refused, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match refused {
        Refused::NotPrimary { primary: Some(primary) } => {
            write!(f, "it is not the primary, replica {primary} is")
        }
        Refused::NotPrimary { primary: None } => f.write_str("it is not the primary, and knows of none"),
        Refused::Unknown => f.write_str("nobody knows whether it was done"),
        Refused::Busy => f.write_str("too much waits already; nothing was done"),
        Refused::BadSize { bytes_max } => {
            write!(f, "larger than the {bytes_max} bytes that are allowed, or empty")
        }
        Refused::Denied { needs } => {
            write!(f, "the certificate does not allow it: it takes the role {needs}")
        }
        Refused::Trimmed { first } => write!(f, "that was trimmed; the log begins at {first}"),
        Refused::NotPossible { reason } => f.write_str(reason),
        other => write!(f, "it was refused: {other:?}"),
    }
}

fn refused_advice(refused: &Refused) -> Option<String> {
    Some(match refused {
        Refused::Denied { needs } => {
            format!("use a certificate with that role: log-node certs --dir DIR --client {needs}:NAME")
        }
        Refused::NotPrimary { .. } | Refused::Busy => "try again in a moment".to_owned(),
        Refused::Unknown => "look with `log-node status` before you do it again".to_owned(),
        Refused::Trimmed { first } => format!("begin at record {first}: --from {first}"),
        _ => return None,
    })
}

fn client_advice(source: &ClientError) -> Option<String> {
    Some(match source {
        ClientError::TimedOut { .. } => "look with `log-node status`".to_owned(),
        ClientError::Denied { needs } => return refused_advice(&Refused::Denied { needs: *needs }),
        ClientError::Trimmed { first, .. } => return refused_advice(&Refused::Trimmed { first: *first }),
        ClientError::Unknown => "look with `log-node tail` before you do it again".to_owned(),
        _ => return None,
    })
}

fn transport_advice(source: &TransportError) -> Option<&'static str> {
    Some(match source {
        TransportError::Unreachable { .. } => "is the replica running, and is the address right?",
        TransportError::BadAddress { .. } => "correct the address: HOST:PORT",
        TransportError::Bind { source, .. } => return listen_advice(source),
        TransportError::File { source, .. } => return io_advice(source),
        TransportError::BadFile { .. } => "make it again with `log-node certs`",
        TransportError::TooMany => "try again later, or give the replica a greater `sessions_max`",
        TransportError::WrongIdentity { .. } => "give the certificate that was made for it",
        _ => return None,
    })
}

impl From<ClientError> for Error {
    fn from(source: ClientError) -> Error {
        Error::Client(source)
    }
}

impl From<TransportError> for Error {
    fn from(source: TransportError) -> Error {
        Error::Transport { address: None, source }
    }
}

pub(crate) fn io_advice(source: &io::Error) -> Option<&'static str> {
    Some(match source.kind() {
        io::ErrorKind::PermissionDenied => "run it as a user who may, or name another place",
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::AlreadyExists => "name a place that is not there yet",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or use another disk",
        io::ErrorKind::ReadOnlyFilesystem => "name a place on a disk that can be written to",
        io::ErrorKind::NotADirectory => "a part of the path is a file: check it",
        _ => return None,
    })
}

fn listen_advice(source: &io::Error) -> Option<&'static str> {
    Some(match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has the port (perhaps this replica already runs): stop it, or choose another \
             (for dev with --port)"
        }
        io::ErrorKind::AddrNotAvailable => {
            "it is no address of this machine: choose one of its own, or 0.0.0.0"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 are reserved: choose a greater one",
        _ => return None,
    })
}
