//! Why a replica did not do what it was asked, each variant named for what the caller does next.

use std::fmt;

use crate::error::Error;
use crate::protocol::request::Refused;
use crate::protocol::{ConfigError, Halt};
use crate::types::{ClusterId, ReplicaId};

/// The result of an operation on a replica.
pub(crate) type Result<T, E = ReplicaError> = std::result::Result<T, E>;

/// Why a replica did not do what it was asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReplicaError {
    /// It was refused, or nobody knows whether it was done: see [`Refused`].
    Refused(Refused),
    /// The deadline passed first; it may still be done.
    TimedOut,
    /// The replica was shut down before it was known whether it was done.
    Closed,
    /// The replica does nothing any more: two histories contradict each other (S5). Look at the logs of all replicas.
    Halted(Halt),
    /// The directory holds no replica. If it is new, make it first, with [`bootstrap`](crate::node::ReplicaOptions::bootstrap)
    /// or [`join`](crate::node::ReplicaOptions::join). If it has lost what it held, it must not come back as if nothing had
    /// happened (S11): remove the replica from the membership, [`join`](crate::node::ReplicaOptions::join) anew, and add
    /// it.
    Blank {
        /// The replica that should be there.
        id: ReplicaId,
    },
    /// The directory holds another replica's log: correct the id, or the directory.
    OtherReplica {
        /// The replica that the options name.
        asked: ReplicaId,
        /// The one whose directory it is.
        found: ReplicaId,
    },
    /// The directory holds a replica of another cluster: correct the cluster's id, or the directory.
    OtherCluster {
        /// The cluster that the options name.
        asked: ClusterId,
        /// The one whose replica it is.
        found: ClusterId,
    },
    /// An option is missing.
    Missing {
        /// Its name.
        option: &'static str,
    },
    /// The options contradict themselves.
    Config(ConfigError),
    /// The log on this replica's disk.
    Log(Error),
    /// The network, or what is needed for it.
    Network {
        /// What was tried, and what came of it.
        reason: String,
    },
}

impl ReplicaError {
    /// Whether it may have been done in spite of the error: ask again with the same producer and sequence number, or
    /// look.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(
            self,
            ReplicaError::Refused(Refused::Unknown) | ReplicaError::TimedOut | ReplicaError::Closed
        )
    }

    /// Whether it was not done because this replica does not lead: ask the [primary](ReplicaError::primary), or again
    /// once there is one.
    #[must_use]
    pub const fn is_not_primary(&self) -> bool {
        matches!(self, ReplicaError::Refused(Refused::NotPrimary { .. }))
    }

    /// Where to ask instead, if that is known.
    #[must_use]
    pub const fn primary(&self) -> Option<ReplicaId> {
        match self {
            ReplicaError::Refused(Refused::NotPrimary { primary }) => *primary,
            _ => None,
        }
    }
}

impl fmt::Display for ReplicaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplicaError::Refused(refused) => fmt_refused(refused, f),
            ReplicaError::TimedOut => {
                f.write_str("the deadline passed; it may still be done: the status tells")
            }
            ReplicaError::Closed => f.write_str("the replica was shut down; whether it was done is unknown"),
            ReplicaError::Halted(Halt::DiskFailed) => {
                f.write_str("the disk has failed; the log is being opened again")
            }
            ReplicaError::Halted(Halt::TruncationBelowCommit { commit, common }) => write!(
                f,
                "the replica has halted: record {commit} is committed here, and the primary has nothing in common \
                 with it after record {}; compare the logs of all replicas",
                common.lsn
            ),
            ReplicaError::Blank { id } => write!(
                f,
                "the directory holds no replica {id}, or its newest snapshot is damaged: then name its peers, and it gets \
                 another one from them; else make a new replica with bootstrap or join in an empty directory, and if its \
                 disk was lost, remove it from the membership first"
            ),
            ReplicaError::OtherReplica { asked, found } => {
                write!(
                    f,
                    "the directory is that of replica {found}, not of {asked}; name the one that was made for it"
                )
            }
            ReplicaError::OtherCluster { asked, found } => {
                write!(
                    f,
                    "the directory is that of a replica of cluster {found}, not of {asked}; name another, or that cluster"
                )
            }
            ReplicaError::Missing { option } => write!(f, "the option {option} is missing; set it first"),
            ReplicaError::Config(error) => error.fmt(f),
            ReplicaError::Log(error) => error.fmt(f),
            ReplicaError::Network { reason } => f.write_str(reason),
        }
    }
}

fn fmt_refused(refused: &Refused, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match refused {
        Refused::NotPrimary { primary: Some(primary) } => {
            write!(f, "this replica is not the primary; ask replica {primary}")
        }
        Refused::NotPrimary { primary: None } => f.write_str("this replica is not the primary; ask another"),
        Refused::Unknown => f.write_str("nobody knows whether it was done; ask again with the same number"),
        Refused::Busy => f.write_str("too much waits already; ask again later"),
        Refused::OutOfSequence { expected } => {
            write!(f, "the producer's next sequence number is {expected}; go on with that")
        }
        Refused::UnknownProducer => f.write_str("the producer is not registered, or was forgotten; register"),
        Refused::BadSize { bytes_max } => write!(f, "the records must have from 1 to {bytes_max} bytes"),
        Refused::Denied { needs } => {
            write!(f, "the certificate does not allow it; it takes one with the role {needs}")
        }
        Refused::Trimmed { first } => {
            write!(f, "the records were trimmed; the log begins at {first}: go on there")
        }
        Refused::NotPossible { reason } => f.write_str(reason),
    }
}

impl std::error::Error for ReplicaError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReplicaError::Log(error) => Some(error),
            ReplicaError::Config(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for ReplicaError {
    fn from(error: Error) -> ReplicaError {
        ReplicaError::Log(error)
    }
}

impl From<ConfigError> for ReplicaError {
    fn from(error: ConfigError) -> ReplicaError {
        ReplicaError::Config(error)
    }
}

impl From<Refused> for ReplicaError {
    fn from(refused: Refused) -> ReplicaError {
        ReplicaError::Refused(refused)
    }
}
