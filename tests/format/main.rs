//! The format's promises: round trips, every single bit, torn and rotten tails, golden files.

#![allow(clippy::unwrap_used)]

mod crash;
mod flips;
mod golden;
mod hostile;
mod roundtrip;
mod small;
mod tail;
mod walk;
