//! Runs the program: its command line, and whole clusters of processes on this machine.
//!
//! No process outlives its test: each holds the reading end of a pipe that the test has, and ends with it.

// What serves the tests fails like tests.
#![allow(clippy::unwrap_used)]

mod certificates;
mod cluster;
mod dev;
#[cfg(target_os = "linux")]
mod disks;
mod durability;
mod failover;
mod members;
mod noise;
mod pages;
mod readme;
mod rescue;
mod scratch;
mod shell;
mod versions;
