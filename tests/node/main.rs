//! Replicas of one process, whole nodes with all of their threads: over a network of memory, and over QUIC.

#![cfg(feature = "sim")]

/// Makes tests of functions that take a fleet of three: over a network of memory, and over sockets; with options changed
/// by what stands before the arrow, if anything does, and then over sockets whose connections last.
macro_rules! over_both {
    (@fleets $memory:expr, $quic:expr => $($name:ident;)*) => {
        mod memory {
            $(#[test]
            fn $name() {
                super::$name($memory);
            })*
        }
        #[cfg(feature = "quic")]
        mod quic {
            $(#[test]
            fn $name() {
                super::$name($quic);
            })*
        }
    };
    ($tune:expr => $($name:ident;)*) => {
        crate::over_both! {
            @fleets crate::fleet::Fleet::tuned(3, $tune), crate::fleet::Fleet::over_lasting_quic(3, $tune) =>
            $($name;)*
        }
    };
    ($($name:ident;)*) => {
        crate::over_both! {
            @fleets crate::fleet::Fleet::new(3), crate::fleet::Fleet::over_quic(3) => $($name;)*
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
#[cfg(feature = "quic")]
mod lasting;
mod net;
#[cfg(feature = "quic")]
mod papers;
mod policies;
mod snapshots;
mod start;
mod transfers;
