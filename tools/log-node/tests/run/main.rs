//! Runs the program: its command line, and whole clusters of processes on this machine.
//!
//! No process outlives its test: each holds the reading end of a pipe that the test has, and ends with it.

// What serves the tests fails like tests.
#![allow(clippy::unwrap_used)]

mod cluster;
mod dev;
mod failover;
mod members;
mod readme;
mod scratch;
mod shell;
