//! The codes with which one side tells the other why it closes a connection.

use super::error::{CertificateFault, TransportError, Whose};
use crate::protocol::wire::BadMessage;

/// Why a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum CloseCode {
    /// Nothing more to say.
    Done = 0,
    /// A newer connection between the two takes its place.
    Replaced = 1,
    /// The certificate is good, but in the name of somebody else.
    WrongName = 2,
    /// No more connections are taken.
    TooMany = 3,
    /// What came is no message.
    BadMessage = 4,
    /// What came is over a limit.
    TooLarge = 5,
    /// What was sent was not read.
    SlowReader = 6,
}

impl CloseCode {
    pub(crate) fn number(self) -> quinn::VarInt {
        quinn::VarInt::from_u32(self as u32)
    }

    /// What the other side is told that has broken a rule.
    pub(crate) const fn of(error: &TransportError) -> Option<CloseCode> {
        match error {
            TransportError::Certificate { .. } => Some(CloseCode::WrongName),
            TransportError::BadMessage(_) => Some(CloseCode::BadMessage),
            TransportError::TooLarge { .. } => Some(CloseCode::TooLarge),
            TransportError::TooMany => Some(CloseCode::TooMany),
            TransportError::SlowReader => Some(CloseCode::SlowReader),
            _ => None,
        }
    }

    /// What it means to whoever is told.
    pub(crate) fn explain(code: u64) -> TransportError {
        match code {
            2 => TransportError::Certificate { whose: Whose::Ours, fault: CertificateFault::WrongName },
            3 => TransportError::TooMany,
            4 => TransportError::BadMessage(BadMessage::Malformed),
            5 => TransportError::BadMessage(BadMessage::TooLarge),
            6 => TransportError::SlowReader,
            _ => TransportError::Closed,
        }
    }
}
