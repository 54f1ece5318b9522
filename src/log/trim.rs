//! Forgetting the oldest records, by call or by retention, and the program's mark.

use super::engine::Engine;
use super::superblock_file::Copies;
use crate::error::{Error, Result};
use crate::format::{MARK_BYTES_MAX, Mark};
use crate::types::Lsn;

impl Engine {
    /// Forgets the segments whose records are all before `before`; returns the new first LSN.
    ///
    /// The superblock says so first, in both slots: what a crash then leaves of the files is known to be
    /// trimmed, and is cleared away when the log is opened.
    pub(crate) fn trim(&self, before: Lsn) -> Result<Lsn> {
        self.check()?;
        let durable = self.durable();
        if before > durable.next() {
            return Err(Error::BeyondEnd { asked: before, last: durable });
        }
        let mut superblock = self.store.superblock.lock();
        let first = self.store.segments.first_at_or_before(before);
        if first > superblock.current().first_lsn {
            self.update_superblock(&mut superblock, Copies::Both, |superblock| {
                superblock.first_lsn = first;
                superblock.durable = superblock.durable.max(durable);
            })?;
        }
        let gone = self.store.segments.trim(first);
        drop(superblock);
        for segment in &gone {
            self.clear_away(segment)?;
        }
        if !gone.is_empty() {
            self.store.sync_dir()?;
        }
        Ok(first)
    }

    /// Recycles the file of a trimmed segment, or removes it where readers still have it or enough wait.
    fn clear_away(&self, segment: &super::segments::Gone) -> Result<()> {
        let options = &self.store.options;
        let usable = options.recycle && segment.bytes == options.segment_bytes && !segment.is_pinned();
        if usable && self.store.retired() < RETIRED_MAX {
            self.store.retire(segment.name.to_string(), segment.bytes);
            return Ok(());
        }
        self.store.remove(&segment.name)
    }

    /// Trims what the options for retention no longer want.
    pub(crate) fn retain(&self) -> Result<()> {
        let options = &self.store.options;
        let mut before = Lsn::ZERO;
        if let Some(bytes) = options.retain_bytes {
            before = before.max(self.store.segments.first_of_newest(bytes));
        }
        if let Some(age) = options.retain_age {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let oldest_ms = self.store.disk.wall_ms().saturating_sub(age_ms);
            before = before.max(self.store.segments.first_sealed_since(oldest_ms));
        }
        if before > self.store.segments.first_lsn() {
            self.trim(before)?;
        }
        Ok(())
    }

    /// Stores the program's mark, in both slots.
    pub(crate) fn set_mark(&self, lsn: Lsn, bytes: &[u8]) -> Result<()> {
        self.check()?;
        if bytes.len() > MARK_BYTES_MAX {
            return Err(Error::RecordTooLarge { bytes: bytes.len() as u64, max: MARK_BYTES_MAX as u64 });
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
