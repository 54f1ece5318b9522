//! The segment that groups are written to.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::extent::{Extent, Noted};
use super::name::segment_name;
use super::spare::Spare;
use crate::disk::{DurableWriter, File, Map};
use crate::error::{Error, Result};
use crate::format::{Digest, SegmentHeader};
use crate::types::{Epoch, Lsn};

/// The tail, or a segment that was the tail and is not sealed yet.
///
/// Written by the flushes that group commit has placed, noted in order under its lock, read by anybody as
/// far as it is noted.
#[derive(Debug)]
pub(crate) struct Tail {
    header: SegmentHeader,
    /// Changes once, when housekeeping renames the spare.
    name: RwLock<Arc<str>>,
    file: Arc<dyn File>,
    writer: Box<dyn DurableWriter>,
    extent: RwLock<Extent>,
    /// Made by the first reader: a log that is only appended to maps nothing.
    map: Mutex<Option<Arc<Map>>>,
}

impl Tail {
    /// Begins a segment in a spare. Nothing is written: the header goes with the first group.
    pub(crate) fn begin(spare: Spare, header: SegmentHeader) -> Tail {
        let extent = Extent::empty(&header);
        Tail::resume(spare.name, (spare.file, spare.writer), header, extent)
    }

    /// Goes on with a segment as recovery found it.
    pub(crate) fn resume(
        name: Arc<str>,
        (file, writer): (Arc<dyn File>, Box<dyn DurableWriter>),
        header: SegmentHeader,
        extent: Extent,
    ) -> Tail {
        Tail {
            header,
            name: RwLock::new(name),
            file,
            writer,
            extent: RwLock::new(extent),
            map: Mutex::new(None),
        }
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The file's name now.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read())
    }

    /// The name that the file has for good, once housekeeping has come by.
    pub(crate) fn final_name(&self) -> String {
        segment_name(self.header.first_lsn)
    }

    /// Takes note that the file was renamed to its final name.
    pub(crate) fn renamed(&self) {
        *self.name.write() = self.final_name().into();
    }

    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Where the data region ends and the footer's begins.
    pub(crate) fn data_end(&self) -> u64 {
        self.header.segment_bytes - self.header.footer_bytes
    }

    /// Digest over all groups that were noted.
    pub(crate) fn digest(&self) -> Digest {
        self.extent.read().digest
    }

    /// The last record that was noted.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.extent.read().last
    }

    /// Looks at what was noted.
    pub(crate) fn with_extent<T>(&self, look: impl FnOnce(&Extent) -> T) -> T {
        look(&self.extent.read())
    }

    /// Whether the footer has room to say where another group of this epoch starts.
    pub(crate) fn takes_epoch(&self, epoch: Epoch) -> bool {
        let tables = &self.extent.read().tables;
        tables.epochs_left() > 0 || tables.epochs().last().is_some_and(|start| start.epoch == epoch)
    }

    /// Writes whole blocks at `offset` and returns when they are durable.
    ///
    /// # Errors
    /// Whatever the operating system says; what is on the disk is then unknown.
    pub(crate) fn write_durable(&self, blocks: &[u8], offset: u64) -> Result<()> {
        let failed = |source| Error::io("write", &self.name(), source);
        self.writer.write_durable(blocks, offset).map_err(failed)
    }

    /// Takes note of the next durable group, and lets readers at it.
    ///
    /// The caller holds the lock of group commit: one thread at a time, in the order of the groups.
    pub(crate) fn note(&self, group: &Noted<'_>) {
        self.extent.write().note(group);
        if let Some(map) = &*self.map.lock() {
            map.publish(group.end);
        }
    }

    /// The file's map, published as far as groups were noted when it is made, and further with each.
    ///
    /// # Errors
    /// Whatever the operating system says about mapping the file.
    pub(crate) fn map(&self) -> Result<Arc<Map>> {
        let mut map = self.map.lock();
        if let Some(map) = &*map {
            return Ok(Arc::clone(map));
        }
        let made = self.file.map().map_err(|source| Error::io("map", &self.name(), source))?;
        // Under the lock that `note` takes after it has moved the extent: no group is missed.
        made.publish(self.extent.read().end);
        Ok(Arc::clone(map.insert(made)))
    }
}
