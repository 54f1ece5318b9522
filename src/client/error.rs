//! Why a client's request did not succeed, each variant named for what the caller does next.

use std::fmt;
use std::sync::Arc;

use crate::protocol::request::{ClientRole, Refused};
use crate::types::Lsn;

/// The result of a request to a cluster.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Why a request to a cluster did not succeed. Cheap to clone: one request reaches many waiters.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody knows whether it was done, and the client tries no more: read the log to find out, or do it again if
    /// twice does no harm.
    Unknown,
    /// It was not done before its deadline, and never will be: is the cluster up, and has it a quorum?
    TimedOut {
        /// What stood in the way last.
        reason: Arc<str>,
    },
    /// As many bytes as allowed are in flight; nothing was done: wait for a ticket, or use the blocking `append`.
    Full,
    /// The client was closed; nothing was done.
    Closed,
    /// Larger than what is taken; nothing was done: split it, or raise the limit.
    TooLarge {
        /// Size, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// The batch has more records than one request holds; nothing was done: append it in parts.
    TooManyRecords {
        /// How many records it has.
        records: u64,
        /// The limit.
        max: u64,
    },
    /// A batch without records has no LSN: do not append it.
    EmptyBatch,
    /// The certificate does not allow it; nothing was done: use one with the role that it needs.
    Denied {
        /// What it takes.
        needs: ClientRole,
    },
    /// The records were trimmed: take the state from a snapshot, or read from `first` on.
    Trimmed {
        /// The LSN that was asked for.
        asked: Lsn,
        /// The oldest record that is there.
        first: Lsn,
    },
    /// Not possible now, or not at all; nothing was done.
    NotPossible {
        /// In words, with what to do next.
        reason: Arc<str>,
    },
    /// No endpoint was given, or an address has no port: correct the options.
    BadEndpoint {
        /// As it was given; empty if there was none.
        address: Arc<str>,
    },
    /// An option has a value that cannot work.
    BadOption {
        /// Its name.
        option: &'static str,
    },
    /// The certificates could not be used, or the network not be reached at all.
    Network {
        /// What was tried, and what came of it.
        reason: Arc<str>,
    },
    /// A replica said what makes no sense: are both sides of one version?
    BadReply,
}

impl ClientError {
    /// Whether it may have been done in spite of the error.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, ClientError::Unknown)
    }

    /// What a refusal that is for good means to the caller. `asked` is the LSN that was asked for, if any; `bytes` the
    /// size of the request's records.
    pub(super) fn refused(refused: Refused, asked: Lsn, bytes: u64) -> ClientError {
        match refused {
            Refused::BadSize { bytes_max } => ClientError::TooLarge { bytes, max: bytes_max },
            Refused::Denied { needs } => ClientError::Denied { needs },
            Refused::Trimmed { first } => ClientError::Trimmed { asked, first },
            Refused::NotPossible { reason } => ClientError::NotPossible { reason: reason.into() },
            Refused::Unknown => ClientError::Unknown,
            Refused::NotPrimary { .. }
            | Refused::Busy
            | Refused::OutOfSequence { .. }
            | Refused::UnknownProducer => ClientError::BadReply,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unknown => f.write_str(
                "nobody knows whether it was done; before doing it again find out: the log has what was appended, the \
                 status says what else has changed",
            ),
            ClientError::TimedOut { reason } => {
                write!(f, "not done before the deadline: {reason}; is the cluster up, and has it a quorum?")
            }
            ClientError::Full => {
                f.write_str("the limit of bytes in flight is reached; wait for an earlier append")
            }
            ClientError::Closed => f.write_str("the client is closed; connect again"),
            ClientError::TooLarge { bytes, max } => {
                write!(f, "{bytes} bytes are over the limit of {max}; split them")
            }
            ClientError::TooManyRecords { records, max } => {
                write!(f, "{records} records are over the {max} that a batch may have; append it in parts")
            }
            ClientError::EmptyBatch => f.write_str("a batch needs at least one record"),
            ClientError::Denied { needs } => {
                write!(f, "the certificate does not allow it; use one with the role {needs}")
            }
            ClientError::Trimmed { asked, first } => {
                write!(f, "record {asked} was trimmed; the log begins at {first}: go on there")
            }
            ClientError::NotPossible { reason } => f.write_str(reason),
            ClientError::BadEndpoint { address } if address.is_empty() => {
                f.write_str("no endpoint was given; name at least one replica's address")
            }
            ClientError::BadEndpoint { address } => {
                write!(f, "{address} is no address; write host:port")
            }
            ClientError::BadOption { option } => write!(f, "the option {option} must not be 0"),
            ClientError::Network { reason } => f.write_str(reason),
            ClientError::BadReply => {
                f.write_str("a replica said what makes no sense; are both sides of one version?")
            }
        }
    }
}

impl std::error::Error for ClientError {}
