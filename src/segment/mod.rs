//! One segment: the spare it begins as, the tail that grows, the sealed file that is read.
//!
//! Imports `types`, `error`, `sync`, `format` and `disk`. Knows nothing of group commit: what is written
//! where is decided in `log`.

mod extent;
mod name;
mod spare;
mod tail;

pub(crate) use extent::{Extent, Noted};
pub(crate) use name::{FileName, segment_name, spare_name};
pub(crate) use spare::Spare;
pub(crate) use tail::Tail;
#[derive(Debug)] pub(crate) struct Sealed;
pub(crate) fn seal(_: &Tail, _: u64) -> crate::error::Result<Sealed> { Ok(Sealed) }
