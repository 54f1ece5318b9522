//! Why connections are refused or cut off, and how often.

use std::sync::atomic::{AtomicU64, Ordering};

use quinn::ConnectionError;

use super::error::TransportError;
use super::observe;
use super::tls::{self, Speech};

/// Connections that were refused or cut off for what they did, by reason. What is no packet of QUIC is dropped before it is a
/// connection, and not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Refusals {
    /// A certificate, or its absence, or an envelope in another name than the certificate's.
    pub certificate: u64,
    /// Another version of the wire, or nothing of annals.
    pub version: u64,
    /// One more than a limit allows, or larger.
    pub limit: u64,
    /// From an address that has more handshakes under way than there are places left.
    pub address: u64,
    /// What came makes no sense.
    pub garbage: u64,
    /// Replies that were not read.
    pub slow: u64,
    /// Begun, and then given up or led no further.
    pub unfinished: u64,
}

impl Refusals {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Refusals { certificate, version, limit, address, garbage, slow, unfinished } = *self;
        certificate + version + limit + address + garbage + slow + unfinished
    }
}

/// Why a connection is refused or cut off: a field of [`Refusals`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    Certificate,
    Version,
    Limit,
    Address,
    Garbage,
    Slow,
    Unfinished,
}

impl Reason {
    const COUNT: usize = Reason::Unfinished as usize + 1;

    /// As the metric's label has it.
    #[cfg(feature = "metrics")]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Reason::Certificate => "certificate",
            Reason::Version => "version",
            Reason::Limit => "limit",
            Reason::Address => "address",
            Reason::Garbage => "garbage",
            Reason::Slow => "slow",
            Reason::Unfinished => "unfinished",
        }
    }

    /// Of a connection that was cut off because of this error.
    pub(crate) const fn of(error: &TransportError) -> Reason {
        match error {
            TransportError::Certificate { .. } => Reason::Certificate,
            TransportError::WireVersion { .. } => Reason::Version,
            TransportError::TooMany | TransportError::TooLarge { .. } => Reason::Limit,
            TransportError::SlowReader => Reason::Slow,
            _ => Reason::Garbage,
        }
    }

    /// Of a handshake that has come to this. The other side may end one for reasons of its own, such as a second attempt that
    /// was quicker.
    pub(crate) fn of_handshake(why: &ConnectionError) -> Reason {
        match (tls::explain(why, "", Speech::Client), why) {
            (TransportError::Certificate { .. }, _) => Reason::Certificate,
            (TransportError::WireVersion { .. }, _) => Reason::Version,
            (_, ConnectionError::TransportError(_)) => Reason::Garbage,
            _ => Reason::Unfinished,
        }
    }
}

/// What is counted while the transport runs.
#[derive(Default)]
pub(crate) struct Counts([AtomicU64; Reason::COUNT]);

impl Counts {
    // Relaxed, both: counts for people.

    pub(crate) fn add(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
        observe::refused(reason);
    }

    pub(crate) fn read(&self) -> Refusals {
        let count = |reason: Reason| self.0[reason as usize].load(Ordering::Relaxed);
        Refusals {
            certificate: count(Reason::Certificate),
            version: count(Reason::Version),
            limit: count(Reason::Limit),
            address: count(Reason::Address),
            garbage: count(Reason::Garbage),
            slow: count(Reason::Slow),
            unfinished: count(Reason::Unfinished),
        }
    }
}
