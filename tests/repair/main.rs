//! Looking at damaged logs, and getting out of them what can be had: over the simulated disk, and over real
//! files where nothing else will do.

#![allow(clippy::unwrap_used)]

mod afloat;
mod agree;
mod beside;
mod crash;
mod hostile;
mod logs;
mod look;
mod mend;
#[path = "../support/payload.rs"]
mod payload;
mod salvage;
mod scrub;
mod sectors;
#[path = "../support/seeds.rs"]
mod seeds;
mod sick;
#[path = "../support/small.rs"]
mod small;
mod support;
