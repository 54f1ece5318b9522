//! The transport's promises, over real sockets on this host.

#![cfg(feature = "quic")]
#![allow(clippy::unwrap_used)]

mod dialing;
mod half_open;
mod lanes;
mod limits;
mod moving;
mod place;
mod raw;
mod refusals;
mod relay;
mod reset;
