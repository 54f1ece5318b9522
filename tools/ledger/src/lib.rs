//! Writers that try a log, and an account of what they were promised, kept outside of it.
//!
//! A [`Trial`] is a process's worth of writing, and [`Prey`] the process: several threads append, trim, truncate, copy, close and open, and
//! [tell](Teller) of each step before it begins and after it was acknowledged. Whoever listens keeps an
//! [`Account`]. However the trial ends, [`Found`] reads what the log then holds, and [`Account::check`] says
//! whether it may: what was acknowledged is there, nothing is there that was never appended or with other bytes,
//! all of it in order, and batches whole.
//!
//! The bytes of every record follow from a seed, the round, the writer and a count, so neither side sends them.

mod account;
mod chance;
mod entry;
mod event;
mod failure;
mod found;
mod prey;
mod trial;

pub use account::{Account, Copied, Tally};
pub use chance::Chance;
pub use entry::Entry;
pub use event::{EVENT_BYTES, Event, Teller, read_events};
pub use failure::{Failure, Result};
pub use found::{Examination, Found, copy_dir, verify_unopened};
pub use prey::{Prey, run_as_child};
pub use trial::{Trial, options};
