//! Looking at a damaged log, and getting out of it what can be had: the library half of `log-recover`.
//!
//! Imports `types`, `error`, `sync`, `format`, `disk` and `segment`; never `log`. Nothing here opens a log for
//! writing while it looks. Files are read with `pread`, never through a map, because a bad sector under a map
//! is a signal that kills the process; and what is read is bounded, whatever the lengths in a file say.
//!
//! [`inspect`] reads headers, [`verify`] every byte, [`scrub`] every byte of sealed segments, slowly. [`plan`] says what a [`repair`] would do, which never writes
//! into a file that it found: it writes whole new files, moves the old ones into a dated quarantine, and keeps a
//! journal of that, so that [`undo`] puts back exactly what was there. [`salvage`] makes a new log of all that
//! is readable, and [`Dump`] shows records, also around damage.

mod chain;
mod dump;
mod identity;
mod mend;
mod opening;
mod plan;
mod rebuild;
mod report;
mod salvage;
mod scrub;
mod sight;
mod slots;
mod survey;
mod tally;
mod verify;
mod watch;

pub use crate::segment::{Cause, Correction, Run, Stretch, StretchKind};
pub use dump::{Dump, Dumped};
#[cfg(feature = "sim")]
#[doc(hidden)]
pub use mend::check_journal;
pub use mend::{Repaired, Undone, Unread, repair, undo};
pub use plan::{Plan, Step, plan};
pub use report::{FileRole, Opening, Report, SegmentReport, SlotReport, Stray, SuperblockReport};
pub use salvage::{Salvaged, salvage};
pub use scrub::{Scrubbed, scrub};
pub use verify::{inspect, verify};
pub use watch::{Silent, Watch};
