//! The file store as real processes: what it promises, in the order of its story, and what it refuses.
//!
//! `FILES_MIB` makes the large file larger: `FILES_MIB=512 cargo test --release -p annals-example-files a_large`. From 512 on
//! the memory of all processes is looked at, too.

#![allow(clippy::unwrap_used)]

mod cluster;
mod damage;
mod demo;
mod refusals;
mod retries;
mod story;
