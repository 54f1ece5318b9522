//! A whole cluster in one thread: the real core over simulated disks, network and clocks, in virtual time, from
//! one seed; and clients with an oracle that knows what must be true.
//!
//! A seed that fails prints the command that plays it again and the newest events. `ANNALS_TRACE=1` prints all.

#![allow(clippy::unwrap_used)]

mod alone;
mod client;
mod clock;
mod copies;
mod driver;
mod ending;
mod faults;
mod invariants;
mod kept;
mod ledger;
mod mix;
mod mixtures;
mod mutants;
mod mutate;
mod network;
mod node;
mod operator;
mod oracle;
mod process;
mod record;
mod runs;
mod scrubs;
#[path = "../support/seeds.rs"]
mod seeds;
mod storage;
mod trace;
mod trouble;
mod world;
