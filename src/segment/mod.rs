//! One segment: the spare it begins as, the tail that grows, the sealed file that is read.
//!
//! Imports `types`, `error`, `sync`, `format` and `disk`. Knows nothing of group commit: what is written
//! where is decided in `log`.

mod extent;
mod name;
mod sealed;
mod spare;
mod tail;
mod view;

pub(crate) use extent::{Extent, Noted};
pub(crate) use name::{FileName, LOCK, SUPERBLOCK, segment_name, spare_name};
pub(crate) use sealed::{MapCache, Pinned, Sealed, park, park_extent, read_footer, seal, seal_extent};
pub(crate) use spare::Spare;
pub(crate) use tail::Tail;
pub(crate) use view::{Segment, Spot, Step, View};
