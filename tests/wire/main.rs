//! The wire form's promises: round trips, one sequence of bytes for each value, bounds, a golden file.

#![allow(clippy::unwrap_used)]

mod any;
mod golden;
mod hostile;
mod requests;
mod roundtrip;
