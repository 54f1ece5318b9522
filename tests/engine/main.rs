//! The engine against disks that fail, programs that die, and readers that race: over the simulated disk, and
//! over real files where nothing else will do.

#![allow(clippy::unwrap_used)]

mod crash;
mod damage;
mod faults;
mod gaps;
mod model;
mod races;
mod support;
