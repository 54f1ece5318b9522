//! Logs that are damaged in known ways, with the truth beside each: what is found, what is said of it, what can
//! be had of it, and that the engine and `repair` never disagree.
//!
//! `forge` makes a directory, byte by byte; `anatomy` says what lies where in it; `harm` damages it; `truth` tells
//! from the two directories what has to be found. Then `trial` asks.

#![allow(clippy::unwrap_used)]

mod anatomy;
mod bits;
mod directory;
mod engine_logs;
mod forge;
mod harm;
mod media;
#[path = "../support/payload.rs"]
mod payload;
#[path = "../support/seeds.rs"]
mod seeds;
#[path = "../support/small.rs"]
mod small;
mod trial;
mod truth;
mod verdicts;
