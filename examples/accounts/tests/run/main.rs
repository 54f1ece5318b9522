//! Runs the program: the whole story, what ends it, and what a careful service refuses.
//!
//! No process outlives its test: each holds the reading end of a pipe that the test has, and ends with it.

// What serves the tests fails like tests.
#![allow(clippy::unwrap_used)]

mod costs;
#[cfg(target_os = "linux")]
mod crowd;
mod demo;
mod program;
mod refusals;
mod start;
