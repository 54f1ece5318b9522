//! Looking at a damaged log, and getting out of it what can be had: the library half of `log-recover`.
//!
//! Imports `types`, `error`, `sync`, `format`, `disk` and `segment`; never `log`. Nothing here opens a log for
//! writing while it looks. Files are read with `pread`, never through a map, because a bad sector under a map
//! is a signal that kills the process; and what is read is bounded, whatever the lengths in a file say.
//!
//! [`inspect`] reads headers, [`verify`] every byte, [`scrub`] every byte of sealed segments, slowly. [`plan`] says what
//! a [`repair`] would do, which never writes into a file that it found: it writes whole new files, moves the old ones into
//! a dated quarantine, and keeps a journal of that, so that [`undo`] puts back exactly what was there. [`salvage`] makes a
//! new log of all that is readable, and [`Dump`] shows records, also around damage.
//!
//! ```
//! # #[cfg(unix)]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use annals::disk::{Disk, RealDisk};
//! use annals::repair::{self, Silent};
//! use annals::{LogOptions, Lsn};
//!
//! # let temporary = tempfile::tempdir()?;
//! # let dir = temporary.path().join("orders");
//! let log = LogOptions::new(&dir).segment_bytes(1 << 20).open()?;
//! log.append_durable(b"two lamps")?;
//! log.close()?;
//!
//! // One bit rots, in the record's second byte: a record begins behind a header block, a group's and its own.
//! let segment = dir.join("00000000000000000001.seg");
//! let mut bytes = std::fs::read(&segment)?;
//! bytes[4096 + 64 + 32 + 1] ^= 4;
//! std::fs::write(&segment, bytes)?;
//!
//! let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir)?);
//! let report = repair::verify(&disk, 2, &Silent)?; // changes nothing
//! assert_eq!(report.lost[0].first, Lsn::FIRST);
//! let plan = repair::plan(&*disk, &report)?; // nor does this
//! assert!(plan.gives_up.is_empty(), "a single flipped bit is put right");
//! repair::repair(&disk, &plan, None, &Silent)?;
//!
//! let log = LogOptions::new(&dir).open()?;
//! assert_eq!(&*log.read(Lsn::FIRST)?, b"two lamps");
//! # Ok(log.close()?)
//! # }
//! # #[cfg(not(unix))] fn main() {}
//! ```

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
