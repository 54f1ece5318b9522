//! Replicas of one process, whole nodes with all of their threads: over a network of memory, and over QUIC.

#![cfg(feature = "sim")]

/// Makes tests of functions that take a fleet of three: over a network of memory, and over sockets.
macro_rules! over_both {
    ($($name:ident;)*) => {
        mod memory {
            $(#[test]
            fn $name() {
                super::$name(crate::fleet::Fleet::new(3));
            })*
        }
        #[cfg(feature = "quic")]
        mod quic {
            $(#[test]
            fn $name() {
                super::$name(crate::fleet::Fleet::over_quic(3));
            })*
        }
    };
}
pub(crate) use over_both;

#[cfg(feature = "quic")]
#[path = "../support/alone.rs"]
mod alone;
mod append;
mod clients;
mod disks;
#[cfg(feature = "quic")]
mod docs;
mod failover;
mod fleet;
mod net;
#[cfg(feature = "quic")]
mod papers;
mod policies;
mod snapshots;
mod start;
