//! Why two processes cannot talk, each variant named for what the operator does next.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::protocol::wire::BadMessage;

/// Why the transport could not start, or why two processes cannot talk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TransportError {
    /// The socket could not be opened: choose another address, or end whoever has it.
    Bind {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A certificate or key file could not be read or written.
    File {
        /// What was tried.
        doing: &'static str,
        /// Which.
        file: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A file does not hold what it should: make it again.
    BadFile {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is somebody else's: give the one that was made for this replica, or this client.
    WrongIdentity {
        /// Whose it should be.
        expected: String,
        /// Whose it is.
        found: String,
    },
    /// An address that cannot be resolved: correct it.
    BadAddress {
        /// As it was given.
        address: String,
    },
    /// Nobody answers there in time: is it running, and is the address right?
    Unreachable {
        /// Where.
        address: String,
    },
    /// A certificate was refused.
    Certificate {
        /// Whose.
        whose: Whose,
        /// Why.
        fault: CertificateFault,
    },
    /// The other side speaks another version of the wire, or is no part of annals: upgrade the older one.
    WireVersion {
        /// What was offered here.
        offered: &'static str,
    },
    /// The other side has as many connections as it takes: try again later, or raise its limit.
    TooMany,
    /// The other side broke the rules of the wire.
    BadMessage(BadMessage),
    /// A message over the limit of its receiver.
    TooLarge {
        /// Size of the message.
        bytes: u64,
        /// What is allowed.
        max: u64,
    },
    /// Replies were not taken, and too many had gathered: read faster, or ask for less.
    SlowReader,
    /// The connection is lost: nothing was heard for too long, or the other side is another process by now.
    Lost,
    /// The connection was closed, here or there: connect again if there is more to do.
    Closed,
    /// What else the layers below say.
    Other {
        /// In their words.
        reason: String,
    },
}

/// Of two sides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Whose {
    /// This process's, refused by the other side.
    Ours,
    /// The other side's, refused here.
    Theirs,
}

/// Why a certificate was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Its time is over, or has not begun: make a new one, and look at both clocks.
    Expired,
    /// Another authority has signed it: it belongs to another cluster.
    Foreign,
    /// There is none.
    Missing,
    /// It is good, but in another name: of another replica, another cluster, or no name of annals.
    WrongName,
    /// It cannot be read, or its signature is wrong.
    Broken,
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CertificateFault::Expired => "is not valid at this time; make a new one, and compare the clocks",
            CertificateFault::Foreign => "is signed by another authority; use the one of this cluster",
            CertificateFault::Missing => "is missing; both sides must present one",
            CertificateFault::WrongName => {
                "bears another name; make one for this replica or client of this cluster"
            }
            CertificateFault::Broken => "cannot be read or does not check; make a new one",
        })
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportError::Bind { address, source } => {
                write!(f, "could not listen at {address}: {source}")?;
                match source.kind() {
                    io::ErrorKind::AddrInUse => {
                        f.write_str("; end the process that has it, or choose another address")
                    }
                    io::ErrorKind::AddrNotAvailable => {
                        f.write_str("; choose an address that this machine has")
                    }
                    _ => Ok(()),
                }
            }
            TransportError::File { doing, file, source } => {
                write!(f, "could not {doing} {}: {source}", file.display())
            }
            TransportError::BadFile { file, reason } => {
                write!(f, "{} is of no use: {reason}", file.display())
            }
            TransportError::WrongIdentity { expected, found } => {
                write!(f, "the certificate is for {found}, and should be for {expected}")
            }
            TransportError::BadAddress { address } => {
                write!(f, "no such address: {address}; write host:port")
            }
            TransportError::Unreachable { address } => write!(f, "nobody answers at {address}"),
            TransportError::Certificate { whose: Whose::Ours, fault } => {
                write!(f, "the other side refused our certificate, which {fault}")
            }
            TransportError::Certificate { whose: Whose::Theirs, fault } => {
                write!(f, "refused the other side's certificate, which {fault}")
            }
            TransportError::WireVersion { offered } => {
                write!(f, "the other side does not speak {offered}; upgrade the older of the two")
            }
            TransportError::TooMany => {
                f.write_str("the other side takes no more connections; try again later, or raise its limit")
            }
            TransportError::BadMessage(why) => write!(f, "bytes that are no message: {why}"),
            TransportError::TooLarge { bytes, max } => {
                write!(f, "a message of {bytes} bytes, over the limit of {max}; send less at once")
            }
            TransportError::SlowReader => {
                f.write_str("replies were not read, and too many had gathered; read faster, or ask for less")
            }
            TransportError::Lost => f.write_str("the connection is lost; connect again"),
            TransportError::Closed => f.write_str("the connection is closed"),
            TransportError::Other { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TransportError::Bind { source, .. } | TransportError::File { source, .. } => Some(&**source),
            TransportError::BadMessage(why) => Some(why),
            _ => None,
        }
    }
}
