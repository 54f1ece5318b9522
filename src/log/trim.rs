//! Forgetting the oldest records, by call or by retention, and the program's mark.

use std::io;

use super::engine::Engine;
use super::superblock_file::Copies;
use crate::error::{Error, Result};
use crate::format::{MARK_BYTES_MAX, Mark};
use crate::segment::{Sealed, Segment};
use crate::types::Lsn;

impl Engine {
    /// Forgets the records before `before`, and the segments that hold nothing else.
    ///
    /// The superblock says so first, in both slots: what a crash then leaves of the files is known to be
    /// trimmed, and is cleared away when the log is opened.
    pub(crate) fn trim(&self, before: Lsn) -> Result<()> {
        let _alone = self.keeping.lock();
        self.trim_alone(before)
    }

    fn trim_alone(&self, before: Lsn) -> Result<()> {
        self.check()?;
        let durable = self.durable();
        if before > durable.next() {
            return Err(Error::BeyondEnd { asked: before, last: durable });
        }
        let mut superblock = self.store.superblock.lock();
        if before > superblock.current().first_lsn {
            self.update_superblock(&mut superblock, Copies::Both, |superblock| {
                superblock.first_lsn = before;
                superblock.durable = superblock.durable.max(durable);
            })?;
        }
        self.store.segments.begin_at(before);
        drop(superblock);
        self.clear_trimmed()
    }

    /// Recycles or removes the sealed segments that hold trimmed records only. The caller holds `keeping`.
    pub(crate) fn clear_trimmed(&self) -> Result<()> {
        let gone = self.store.segments.take_trimmed();
        for segment in &gone {
            self.clear_away(segment)?;
        }
        if gone.is_empty() { Ok(()) } else { self.store.files.sync_dir() }
    }

    /// Recycles the file of a trimmed segment, or removes it where readers still have it or enough wait.
    fn clear_away(&self, segment: &Sealed) -> Result<()> {
        let options = &self.store.options;
        let (name, bytes) = (segment.name(), segment.header().segment_bytes);
        let usable = options.recycle && bytes == options.segment_bytes && !segment.is_pinned();
        if usable && self.store.retired() < RETIRED_MAX {
            self.store.retire(name, bytes);
            return Ok(());
        }
        match self.store.files.disk.remove(&name) {
            // Lost to somebody else before, and wanted no more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => self.store.files.io("remove", &name, removed),
        }
    }

    /// Trims what the options for retention no longer want.
    pub(crate) fn retain(&self) -> Result<()> {
        let options = &self.store.options;
        if options.retain_bytes.is_none() && options.retain_age.is_none() {
            return Ok(());
        }
        let oldest_ms = options.retain_age.map(|age| {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.store.files.disk.wall_ms().saturating_sub(age_ms)
        });
        let _alone = self.keeping.lock();
        let mut left = self.store.segments.bytes();
        let mut before = Lsn::ZERO;
        for segment in self.store.segments.all() {
            // Only sealed segments go: the tail stays, however large or old.
            let Segment::Sealed(sealed) = segment else { break };
            let too_many = options.retain_bytes.is_some_and(|bytes| left > bytes);
            let too_old = oldest_ms.is_some_and(|oldest_ms| sealed.sealed_at_ms() < oldest_ms);
            if !too_many && !too_old {
                break;
            }
            left = left.saturating_sub(sealed.header().segment_bytes);
            before = sealed.last_lsn().next();
        }
        if before > self.store.segments.first_lsn() { self.trim_alone(before) } else { Ok(()) }
    }

    /// Stores the program's mark, in both slots.
    pub(crate) fn set_mark(&self, lsn: Lsn, bytes: &[u8]) -> Result<()> {
        let _alone = self.keeping.lock();
        self.check()?;
        if bytes.len() > MARK_BYTES_MAX {
            return Err(Error::MarkTooLarge { bytes: bytes.len() as u64, max: MARK_BYTES_MAX as u64 });
        }
        let durable = self.durable();
        if lsn > durable {
            return Err(Error::BeyondEnd { asked: lsn, last: durable });
        }
        let mut superblock = self.store.superblock.lock();
        self.update_superblock(&mut superblock, Copies::Both, |superblock| {
            superblock.mark = Some(Mark { lsn, bytes: bytes.to_vec() });
            superblock.durable = superblock.durable.max(durable);
        })
    }
}

/// Files that wait for recycling at most; more would only be disk space held back.
const RETIRED_MAX: usize = 2;
