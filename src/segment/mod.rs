//! One segment: the spare it begins as, the tail that grows, the sealed file that is read.
//!
//! Imports `types`, `error`, `sync`, `format` and `disk`. Knows nothing of group commit: what is written
//! where is decided in `log`.

mod examine;
mod extent;
mod life;
mod name;
mod recast;
mod scrub;
mod sealed;
mod spare;
mod tail;
mod view;

#[cfg(feature = "sim")]
pub use examine::memory as examination;
pub use examine::{Cause, Correction, Run, Stretch, StretchKind};
pub(crate) use examine::{Examined, Question, examine};
pub(crate) use extent::{Extent, Noted};
pub(crate) use life::{Life, find_life, is_of_one_life};
#[cfg(any(feature = "quic", feature = "sim"))]
pub(crate) use name::{BASE, DAMAGED, INSTALLING, PEERS, STAGE, extract_name, kept_name};
pub(crate) use name::{
    FileName, INCOMPLETE, LOCK, OF_A_REPLICA, PENDING, QUARANTINE, SUPERBLOCK, UNFINISHED, is_stamp,
    segment_name, spare_name,
};
pub(crate) use recast::{Original, recast};
pub(crate) use scrub::{Pace, Suspect, Trailer};
pub(crate) use sealed::{MapCache, Pinned, Sealed, park, park_extent, read_footer, seal, seal_extent};
pub(crate) use spare::Spare;
pub(crate) use tail::Tail;
pub(crate) use view::{Segment, Spot, Step, View};
