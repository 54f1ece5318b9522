//! Replicas of one process, whole nodes with all of their threads: over a network of memory, and over QUIC.

#![cfg(feature = "sim")]

/// Makes tests of functions that take a fleet of three: over a network of memory, and over sockets; with options changed
/// by what stands before the arrow, if anything does.
macro_rules! over_both {
    ($tune:expr => $($name:ident;)*) => {
        mod memory {
            $(#[test]
            fn $name() {
                super::$name(crate::fleet::Fleet::tuned(3, $tune));
            })*
        }
        #[cfg(feature = "quic")]
        mod quic {
            $(#[test]
            fn $name() {
                super::$name(crate::fleet::Fleet::over_quic(3, $tune));
            })*
        }
    };
    ($($name:ident;)*) => {
        crate::over_both! { |options| options => $($name;)* }
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
mod panics;
#[cfg(feature = "quic")]
mod papers;
mod policies;
mod snapshots;
mod start;
mod transfers;
