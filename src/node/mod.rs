//! A replica's node: drives `protocol` over `log` and, one day, `transport`.
//!
//! Imports every room above it. So far it holds what a replica keeps on its disk, behind the feature `sim`: without
//! threads, clock or randomness of its own, so that a simulation decides what happens when.

mod frames;
mod store;

pub use frames::{BadGroup, Entry, check_group, digest, frame_group, frames_bytes, group_of};
pub use store::{ReplicaStore, StoreOptions};
