//! Runs the program on a small scale: what it promises about its directory, its output and its errors, and clusters of
//! real processes that it takes through trouble.

// The helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod cluster;
mod ordeal;
mod pages;
mod scratch;
mod workloads;
