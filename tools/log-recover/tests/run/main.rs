//! Runs the program on small logs, whole and damaged: what it promises about its output, its exit status and the
//! log's files.

// The helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod damaged;
mod pages;
mod peer;
mod scratch;
mod shell;
mod whole;
