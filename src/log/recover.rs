//! Opening a log: from what a directory holds to a list of segments and a tail to append to.
//!
//! Everything is judged before anything is changed, so that a damaged log is refused as it is. What is then
//! changed may be cut short at any point: the next attempt finds the same log.

mod behold;
mod chain;
mod plan;
mod repair;
mod scan;
mod survey;

use std::fmt;
use std::sync::Arc;

use self::plan::Plan;
use self::scan::Looking;
use super::segments::Listed;
use super::superblock_file::SuperblockFile;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Digest, Footer, SegmentHeader, Superblock};
use crate::segment::{Extent, Sealed, Spare, Tail, segment_name};
use crate::types::{Epoch, LogId, Lsn, SegmentId, WriteMethod};

/// What the caller wants of the log that is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Bytes of new segments: spares of another size are not kept.
    pub(crate) segment_bytes: u64,
    /// How to write from now on, if not as the superblock says.
    pub(crate) write_method: Option<WriteMethod>,
    /// Whether to read so that others who share the disk hardly notice.
    pub(crate) gently: bool,
}

/// A log that was opened for writing. Everything in it is durable, and the superblock says that it is open.
pub(crate) struct Recovered {
    pub(crate) superblock: SuperblockFile,
    /// The segments. There is no tail if the log is empty, or the newest segment is sealed: then one has to
    /// [begin](begin_first).
    pub(crate) segments: Listed,
    /// What the header of that segment says.
    pub(crate) begin: Begin,
    pub(crate) epoch: Epoch,
    pub(crate) next_lsn: Lsn,
    /// Where the last group ends in the tail; the start of the data if there is no tail.
    pub(crate) end: u64,
    /// The block that it ends in, unless it ends with a block.
    pub(crate) last_block: Option<Box<[u8; BLOCK_BYTES]>>,
    /// Prepared segments of the size that is wanted, blank.
    pub(crate) spares: Vec<Spare>,
    /// Files of segments below the trim point, with their sizes.
    pub(crate) to_recycle: Vec<(String, u64)>,
    pub(crate) next_spare_number: u64,
}

/// A log that was opened for reading only.
#[derive(Debug)]
pub(crate) struct Beheld {
    pub(crate) superblock: Superblock,
    /// The segments, all of them as sealed ones.
    pub(crate) segments: Listed,
    /// The newest segment, which may grow and be followed by others.
    pub(crate) newest: Option<Watched>,
    /// The newest record known to be durable.
    pub(crate) durable: Lsn,
}

/// A segment that may grow under the eyes of a reader.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) header: SegmentHeader,
    /// What the file was called when it was found.
    pub(crate) name: Arc<str>,
    /// What is known to be durable of it; without tables if it was found sealed.
    pub(crate) extent: Extent,
    /// Its footer, once it is sealed.
    pub(crate) footer: Option<Footer>,
}

impl Watched {
    /// What is durable now, to be read.
    pub(crate) fn as_sealed(&self) -> Sealed {
        match &self.footer {
            Some(footer) if footer.end == self.extent.end => Sealed::new(self.header, footer),
            _ => Sealed::unsealed(self.header, Arc::clone(&self.name), self.extent.clone()),
        }
    }
}

impl fmt::Debug for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovered").field("next_lsn", &self.next_lsn).finish_non_exhaustive()
    }
}

/// What is known of a segment that is about to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Begin {
    pub(crate) log_id: LogId,
    pub(crate) segment_id: SegmentId,
    pub(crate) first_lsn: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) previous_digest: Digest,
}

impl Begin {
    /// The header of the segment if it begins in `spare`.
    pub(crate) fn header(&self, spare: &Spare) -> SegmentHeader {
        SegmentHeader {
            log_id: self.log_id,
            incarnation: spare.incarnation,
            segment_id: self.segment_id,
            first_lsn: self.first_lsn,
            epoch: self.epoch,
            previous_digest: self.previous_digest,
            segment_bytes: spare.segment_bytes,
            footer_bytes: spare.footer_bytes(),
        }
    }
}

/// Whether the directory holds no log, and nothing else that a new one would be in the way of.
///
/// # Errors
/// [`Error::NotEmpty`] for other files, [`Error::SuperblockDamaged`] for a log without its superblock,
/// [`Error::RepairUnfinished`], [`Error::NewerVersion`], and whatever the operating system says.
pub(crate) fn is_new(disk: &dyn Disk) -> Result<bool> {
    survey::no_repair_is_unfinished(disk)?;
    match SuperblockFile::read(disk)? {
        Some(_) => Ok(false),
        None => survey::is_vacant(disk),
    }
}

/// Opens the log in the directory for writing. The caller has its lock.
///
/// # Errors
/// [`Error::NotALog`], [`Error::Rot`], [`Error::Hole`], [`Error::ForeignFile`], [`Error::NewerVersion`],
/// [`Error::SuperblockDamaged`] and [`Error::RepairUnfinished`], all of which leave the directory as it was; [`Error::NoSpace`] and whatever
/// the operating system says, after which another attempt finds the same log.
pub(crate) fn recover(disk: &dyn Disk, wanted: Wanted) -> Result<Recovered> {
    survey::no_repair_is_unfinished(disk)?;
    let found = SuperblockFile::read(disk)?.ok_or(Error::NotALog)?;
    let looking = if wanted.gently { Looking::Gently } else { Looking::Mapped };
    let plan = Plan::make(disk, found, looking)?;
    repair::carry_out(disk, plan, wanted)
}

/// Opens the log in the directory for reading, changes nothing, and takes nothing for granted that a writer
/// may be about to change.
///
/// # Errors
/// As for [`recover`].
pub(crate) fn behold(disk: &dyn Disk) -> Result<Beheld> {
    behold::behold(disk)
}

/// Begins a segment in a spare while nothing is appended: writes its header and gives it its name, durably.
///
/// # Errors
/// Whatever the operating system says.
pub(crate) fn begin_first(disk: &dyn Disk, spare: Spare, begin: &Begin) -> Result<Arc<Tail>> {
    let header = begin.header(&spare);
    let mut block = vec![0; BLOCK_BYTES];
    header.encode_into(&mut block);
    let name = segment_name(header.first_lsn);
    let io = |doing| {
        let name = name.clone();
        move |source| Error::io(doing, &name, source)
    };
    spare.file.write_at(&block, 0).map_err(io("write"))?;
    spare.file.sync().map_err(io("sync"))?;
    disk.rename(&spare.name, &name).map_err(io("rename"))?;
    disk.sync_dir().map_err(io("sync"))?;
    let tail = Tail::begin(spare, header);
    tail.renamed();
    Ok(Arc::new(tail))
}

#[cfg(test)]
mod tests;
