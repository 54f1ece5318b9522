//! Carrying a plan out: every step may be cut short, and is then found again by the next plan.

use std::sync::Arc;

use super::chain::{Link, LinkEnd, segment_of};
use super::plan::{Newest, Plan, Scanned};
use super::survey::{Content, Found, Named};
use super::{Begin, Recovered, Wanted};
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Digest, HEADER_BLOCK_BYTES, Incarnation, SegmentHeader, footer_bytes_for};
use crate::log::segments::Listed;
use crate::log::superblock_file::{Copies, SuperblockFile};
use crate::segment::{Extent, Sealed, Spare, Tail, seal_extent, segment_name, spare_name};
use crate::types::{SegmentId, WriteMethod};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Bytes that are written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Makes the log that was planned out of what is there.
///
/// # Errors
/// [`Error::NoSpace`], and whatever the operating system says.
pub(super) fn carry_out(disk: &dyn Disk, mut plan: Plan, wanted: Wanted) -> Result<Recovered> {
    let method = wanted.write_method.unwrap_or(plan.superblock.write_method);
    let (last_lsn, epoch, is_clean) = (plan.last_lsn(), plan.epoch(), plan.is_clean());
    if let (Some(last), Newest::Scanned { extent, scanned }) = (&plan.chain.last, &plan.newest) {
        mend_tail(disk, last, extent, scanned)?;
    }
    let names = name_for_good(disk, &mut plan)? | clear_away(disk, &mut plan, wanted)?;
    if names || !is_clean {
        // Also for names of the writer before, which may not have come to this.
        disk.sync_dir().map_err(|source| Error::io("sync", "", source))?;
    }
    let Plan { superblock, chain, newest, next_spare_number, .. } = plan;
    let begin = Begin {
        log_id: superblock.log_id,
        segment_id: SegmentId::FIRST,
        first_lsn: last_lsn.next(),
        epoch,
        previous_digest: Digest::ZERO,
    };
    let mut ready = Ready { sealed: Vec::new(), tail: None, begin, end: BLOCK, last_block: None };
    for Link { found, end } in &chain.links {
        ready.sealed.push(seal(disk, found, end)?);
    }
    if let Some(last) = chain.last {
        ready.go_on(disk, last, newest, method)?;
    }
    let spares = open_spares(disk, &chain.spares, method)?;
    let Ready { sealed, tail, begin, end, last_block } = ready;
    let segments = Listed { sealed, tail, first_lsn: superblock.first_lsn };
    let mut superblock = SuperblockFile::open(disk, superblock)?;
    // Both, because what the one slot says of the end is about to become wrong; and if the writer before had
    // a failed sync, the newest slot may be in memory only.
    superblock.update(Copies::Both, |superblock| {
        assert!(superblock.durable <= last_lsn, "what was acknowledged is there: checked by the plan");
        superblock.clean_tail = None;
        superblock.durable = last_lsn;
        superblock.epoch = epoch;
        superblock.write_method = method;
    })?;
    Ok(Recovered {
        superblock,
        segments,
        begin,
        epoch,
        next_lsn: last_lsn.next(),
        end,
        last_block,
        spares,
        to_recycle: chain.below.iter().map(|found| (found.name.to_string(), found.bytes)).collect(),
        next_spare_number,
    })
}

/// The segments as they are put in order.
struct Ready {
    sealed: Vec<Sealed>,
    tail: Option<Arc<Tail>>,
    begin: Begin,
    end: u64,
    last_block: Option<Box<[u8; BLOCK_BYTES]>>,
}

impl Ready {
    /// Takes the newest segment for what it is.
    fn go_on(&mut self, disk: &dyn Disk, last: Found, newest: Newest, method: WriteMethod) -> Result<()> {
        let header = *segment_of(&last);
        self.begin.segment_id = header.segment_id.next();
        match newest {
            Newest::Nothing => unreachable!("the plan has judged the newest segment"),
            Newest::Sealed { end, .. } => {
                let newest = seal(disk, &last, &end)?;
                if let LinkEnd::Sealed(_) = end {
                    seal_again(disk, &last)?;
                }
                self.begin.previous_digest = newest.digest();
                self.sealed.push(newest);
            }
            Newest::Parked { extent } | Newest::Scanned { extent, .. } => {
                self.begin.previous_digest = extent.digest;
                self.end = extent.end;
                let file = last.open(disk, Access::ReadWrite)?;
                self.last_block = read_last_block(&last, &*file, extent.end)?;
                self.tail = Some(resume(last, file, (header, extent), method)?);
            }
        }
        Ok(())
    }
}

/// Overwrites what was never acknowledged, and makes durable what counts from now on.
///
/// A program that crashed may have left the newest groups in memory only, and one whose sync failed may have
/// left them there as if they were on the disk: a sync would then skip them. So they are written again.
fn mend_tail(disk: &dyn Disk, last: &Found, extent: &Extent, scanned: &Scanned) -> Result<()> {
    let file = last.open(disk, Access::ReadWrite)?;
    grow(last, &*file, segment_of(last))?;
    let zeros = vec![0; CHUNK_BYTES.min((scanned.torn.end - scanned.torn.start) as usize)];
    for (at, bytes) in chunks(scanned.torn.clone()) {
        file.write_at(&zeros[..bytes], at).map_err(|source| last.io("write", source))?;
    }
    write_again(last, &*file, scanned.unvouched.start..extent.end.max(scanned.unvouched.start))?;
    file.sync().map_err(|source| last.io("sync", source))
}

/// Makes the footer of the newest segment durable, for the same reason: a truncation seals a segment that holds more than
/// what it keeps, and without the footer the rest would be back.
fn seal_again(disk: &dyn Disk, last: &Found) -> Result<()> {
    let (header, file) = (segment_of(last), last.open(disk, Access::ReadWrite)?);
    write_again(last, &*file, header.data_end()..header.segment_bytes)?;
    file.sync().map_err(|source| last.io("sync", source))
}

/// Writes what is there to where it is.
fn write_again(found: &Found, file: &dyn File, range: std::ops::Range<u64>) -> Result<()> {
    let mut again = vec![0; CHUNK_BYTES.min((range.end - range.start) as usize)];
    for (at, bytes) in chunks(range) {
        let there = file.read_at(&mut again[..bytes], at).map_err(|source| found.io("read", source))?;
        file.write_at(&again[..there], at).map_err(|source| found.io("write", source))?;
    }
    Ok(())
}

fn chunks(range: std::ops::Range<u64>) -> impl Iterator<Item = (u64, usize)> {
    let end = range.end;
    range.step_by(CHUNK_BYTES).map(move |at| (at, (end - at).min(CHUNK_BYTES as u64) as usize))
}

/// Gives a file that was cut short its length back: what was in the rest is known not to matter, or is made
/// again.
fn grow(found: &Found, file: &dyn File, header: &SegmentHeader) -> Result<()> {
    if found.bytes < header.segment_bytes {
        file.allocate(header.segment_bytes).map_err(|source| found.io("reserve space for", source))?;
    }
    Ok(())
}

/// Renames the spares in which segments were begun; whether there were any.
fn name_for_good(disk: &dyn Disk, plan: &mut Plan) -> Result<bool> {
    let mut renamed = false;
    for found in plan.chain.links.iter_mut().map(|link| &mut link.found).chain(&mut plan.chain.last) {
        if let Named::Spare(_) = found.named {
            let first = found.first_lsn();
            rename(disk, found, (segment_name(first), Named::Segment(first)))?;
            renamed = true;
        }
    }
    Ok(renamed)
}

fn rename(disk: &dyn Disk, found: &mut Found, (name, named): (String, Named)) -> Result<()> {
    disk.rename(&found.name, &name).map_err(|source| found.io("rename", source))?;
    found.name = name.into();
    found.named = named;
    Ok(())
}

/// Makes spares of what looks like a segment and is none, and removes what is of no use; whether any name
/// was changed.
fn clear_away(disk: &dyn Disk, plan: &mut Plan, wanted: Wanted) -> Result<bool> {
    let mut changed = false;
    if let Some(mut headless) = plan.chain.headless.take() {
        // A segment that was begun and never written: the next one will have its name.
        blank(disk, &mut headless)?;
        let number = plan.next_spare_number;
        plan.next_spare_number += 1;
        rename(disk, &mut headless, (spare_name(number), Named::Spare(number)))?;
        plan.chain.spares.push(headless);
        changed = true;
    }
    for name in &plan.unfinished {
        disk.remove(name).map_err(|source| Error::io("remove", name, source))?;
        changed = true;
    }
    let fits = |spare: &Found| spare.bytes == wanted.segment_bytes;
    let (mut kept, useless): (Vec<_>, Vec<_>) = plan.chain.spares.drain(..).partition(fits);
    for spare in useless {
        disk.remove(&spare.name).map_err(|source| spare.io("remove", source))?;
        changed = true;
    }
    kept.iter_mut().try_for_each(|spare| blank(disk, spare))?;
    plan.chain.spares = kept;
    Ok(changed)
}

/// Wipes a header that means nothing, so that no later open has to wonder about it.
fn blank(disk: &dyn Disk, found: &mut Found) -> Result<()> {
    if let Content::Headless { blank: true, .. } = found.content {
        return Ok(());
    }
    let file = found.open(disk, Access::ReadWrite)?;
    file.write_at(&[0; HEADER_BLOCK_BYTES], 0).map_err(|source| found.io("write", source))?;
    file.sync().map_err(|source| found.io("sync", source))?;
    found.content = Content::Headless { blank: true, stray: None, footer: None };
    Ok(())
}

/// The segment, after its footer was written if it has none.
fn seal(disk: &dyn Disk, found: &Found, end: &LinkEnd) -> Result<Sealed> {
    let header = segment_of(found);
    match end {
        LinkEnd::Sealed(footer) => Ok(Sealed::new(*header, footer)),
        LinkEnd::Scanned(scan) => {
            let file = found.open(disk, Access::ReadWrite)?;
            grow(found, &*file, header)?;
            seal_extent(&*file, header, &scan.extent, disk.wall_ms())
        }
    }
}

fn resume(
    last: Found,
    file: Arc<dyn File>,
    (header, extent): (SegmentHeader, Extent),
    method: WriteMethod,
) -> Result<Arc<Tail>> {
    let writer = file.writer(method).map_err(|source| last.io("open", source))?;
    // Readers of other processes hold the same lock: nobody recycles the file meanwhile.
    file.try_lock(false).map_err(|source| last.io("lock", source))?;
    Ok(Arc::new(Tail::resume(last.name, (file, writer), header, extent)))
}

/// What stands before `end` in its block; zeros stand after it.
fn read_last_block(last: &Found, file: &dyn File, end: u64) -> Result<Option<Box<[u8; BLOCK_BYTES]>>> {
    let used = (end % BLOCK) as usize;
    if used == 0 {
        return Ok(None);
    }
    let mut block = Box::new([0; BLOCK_BYTES]);
    file.read_at(&mut block[..used], end - used as u64).map_err(|source| last.io("read", source))?;
    Ok(Some(block))
}

fn open_spares(disk: &dyn Disk, found: &[Found], method: WriteMethod) -> Result<Vec<Spare>> {
    let mut spares = Vec::with_capacity(found.len());
    for spare in found {
        let file = spare.open(disk, Access::ReadWrite)?;
        let writer = file.writer(method).map_err(|source| spare.io("open", source))?;
        file.try_lock(false).map_err(|source| spare.io("lock", source))?;
        let incarnation = Incarnation::new(disk.entropy());
        let (name, segment_bytes) = (spare.name.clone(), spare.bytes);
        assert!(segment_bytes > footer_bytes_for(segment_bytes), "a spare of the size that is wanted");
        spares.push(Spare { name, file, writer, incarnation, segment_bytes });
    }
    Ok(spares)
}
