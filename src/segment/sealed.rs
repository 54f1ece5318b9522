//! A segment that is complete: small facts in memory, its bytes mapped while somebody reads them.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::extent::Extent;
use super::name::segment_name;
use super::tail::Tail;
use crate::disk::{Access, Disk, File, Map};
use crate::error::{Error, Result};
use crate::format::{
    self, BLOCK_BYTES, BadBlock, CleanTail, Digest, Footer, FooterKind, FooterView, Frames,
    HEADER_BLOCK_BYTES, SegmentHeader, Tables, Verdict, Walk,
};
use crate::types::Lsn;

/// A segment that nothing is appended to any more.
///
/// Keeps no file open and no map: a log may have a hundred thousand of these.
pub(crate) struct Sealed {
    header: SegmentHeader,
    end: u64,
    last: Lsn,
    digest: Digest,
    sealed_at_ms: u64,
    /// What has to be remembered of a segment that is read without its footer, or under another name.
    unsealed: Option<Box<Unsealed>>,
    /// What the last reader opened, while it lives.
    opened: Mutex<Weak<Pinned>>,
    /// Whether every frame was checked once.
    verified: AtomicBool,
    /// Whether the log has it no more, or has another one in its place.
    gone: AtomicBool,
}

/// A segment whose index is not read from its footer, and which may have another name than its final one.
#[derive(Debug)]
struct Unsealed {
    name: Arc<str>,
    tables: Tables,
}

/// The bytes of a segment, mapped, and whatever keeps them from being written over.
///
/// For a sealed segment that is the lock of readers on the file: the recycler, of this process or of another,
/// takes a file only if nobody has it. A tail holds that lock by itself.
pub(crate) struct Pinned {
    pub(super) map: Arc<Map>,
    pub(super) index: Index,
    /// When it was last used, by the clock of the cache.
    used: AtomicU64,
}

/// Where the index of a segment is.
#[derive(Debug)]
pub(super) enum Index {
    Tail(Arc<Tail>),
    Sealed { tables: Tables, first: Lsn, last: Lsn, _lock: Arc<dyn File> },
}

impl Sealed {
    /// The segment with this header and this footer.
    pub(crate) fn new(header: SegmentHeader, footer: &Footer) -> Sealed {
        assert!(footer.is_of(&header), "a footer of this segment");
        Sealed {
            header,
            end: footer.end,
            last: footer.last_lsn,
            digest: footer.digest,
            sealed_at_ms: footer.sealed_at_ms,
            unsealed: None,
            opened: Mutex::new(Weak::new()),
            verified: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// A segment without a footer as a log that changes nothing found it, in a file that has `name` now.
    pub(crate) fn unsealed(header: SegmentHeader, name: Arc<str>, extent: Extent) -> Sealed {
        Sealed {
            header,
            end: extent.end,
            last: extent.last,
            digest: extent.digest,
            sealed_at_ms: 0,
            unsealed: Some(Box::new(Unsealed { name, tables: extent.tables })),
            opened: Mutex::new(Weak::new()),
            verified: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// This segment while its file still has another name, which it loses at some moment.
    pub(crate) fn found_as(self, name: Arc<str>, tables: Tables) -> Sealed {
        Sealed { unsealed: Some(Box::new(Unsealed { name, tables })), ..self }
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn first_lsn(&self) -> Lsn {
        self.header.first_lsn
    }

    /// The last record; the one before the first for a segment that was cut to nothing.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.last
    }

    /// Where the last frame that counts ends.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// When it was sealed, in milliseconds since 1970.
    pub(crate) fn sealed_at_ms(&self) -> u64 {
        self.sealed_at_ms
    }

    /// The file's final name.
    pub(crate) fn name(&self) -> String {
        segment_name(self.header.first_lsn)
    }

    /// Whether the other is the same segment, ends in the same place, and has its index where this one has.
    pub(crate) fn is_same(&self, other: &Sealed) -> bool {
        self.header == other.header
            && (self.end, self.last, self.digest) == (other.end, other.last, other.digest)
            && self.unsealed.is_some() == other.unsealed.is_some()
    }

    /// Whether somebody reads it: a cursor, a record, or the cache of maps.
    pub(crate) fn is_pinned(&self) -> bool {
        self.opened.lock().strong_count() > 0
    }

    /// The segment's bytes, readable up to its end: as somebody else has them mapped, or mapped now.
    ///
    /// # Errors
    /// [`Error::Hole`] if the file is gone, [`Error::Rot`] if it is not this segment any more, or if neither
    /// its index nor its frames check, and whatever the operating system says.
    pub(crate) fn pin(&self, cache: &MapCache) -> Result<Arc<Pinned>> {
        let mut opened = self.opened.lock();
        if let Some(pinned) = opened.upgrade() {
            cache.touch(&pinned);
            return Ok(pinned);
        }
        let pinned = Arc::new(self.open(&*cache.disk)?);
        *opened = Arc::downgrade(&pinned);
        drop(opened);
        cache.keep(Arc::clone(&pinned));
        // After it was kept: either this sees that it is gone, or whoever lets it go finds it in the cache. The
        // cache's lock orders the two.
        if self.is_gone() {
            cache.forget(self.first_lsn());
        }
        Ok(pinned)
    }

    /// Lets the cache go of a segment that the log has no more: whoever reads it keeps it.
    pub(crate) fn let_go(&self, cache: &MapCache) {
        // Release: pairs with the Acquire in `is_gone`; before the cache's lock is taken, see `pin`.
        self.gone.store(true, Ordering::Release);
        cache.forget(self.first_lsn());
    }

    /// Whether the log has this segment no more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn open(&self, disk: &dyn Disk) -> Result<Pinned> {
        let file = self.open_locked(disk)?;
        let map = file.map().map_err(|source| Error::io("map", &self.name(), source))?;
        if map.mapped() < self.end {
            return Err(self.rot(0..HEADER_BLOCK_BYTES as u64));
        }
        // Nobody appends to it, and a truncation only ever moves the end towards the front.
        map.publish(self.end);
        let tables = match &self.unsealed {
            Some(unsealed) => unsealed.tables.clone(),
            None => self.tables(&*file, &map)?,
        };
        let index = Index::Sealed { tables, first: self.header.first_lsn, last: self.last, _lock: file };
        Ok(Pinned { map, index, used: AtomicU64::new(0) })
    }

    /// The segment's file, with the lock of readers: while it is open nobody uses it again.
    ///
    /// # Errors
    /// [`Error::Hole`] if the file is gone, [`Error::Rot`] if it is not this segment any more, and whatever
    /// the operating system says.
    pub(crate) fn open_locked(&self, disk: &dyn Disk) -> Result<Arc<dyn File>> {
        let name = self.name();
        let mut found_other = false;
        // It may have got its own name since it was noted under another one; and that one may already be given to what
        // a later truncation keeps of it.
        for name in self.unsealed.iter().map(|unsealed| &*unsealed.name).chain([&*name]) {
            let file = match disk.open(name, Access::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|source| Error::io("open", name, source))?,
            };
            if self.is_locked(&*file).map_err(|(doing, source)| Error::io(doing, name, source))? {
                return Ok(file);
            }
            found_other = true;
        }
        Err(if found_other { self.rot(0..HEADER_BLOCK_BYTES as u64) } else { self.hole() })
    }

    /// Takes the lock of readers; whether the file is this segment, which it stays from then on.
    fn is_locked(&self, file: &dyn File) -> std::result::Result<bool, (&'static str, io::Error)> {
        if !file.try_lock(false).map_err(|source| ("lock", source))? {
            return Ok(false);
        }
        let mut block = vec![0; HEADER_BLOCK_BYTES];
        file.read_at(&mut block, 0).map_err(|source| ("read", source))?;
        Ok(SegmentHeader::decode(&block).ok() == Some(self.header))
    }

    /// The tables as the footer has them; made again from the frames where those do not check.
    fn tables(&self, file: &dyn File, map: &Map) -> Result<Tables> {
        let footer = read_footer(file, &self.name(), &self.header)?;
        let is_own = |footer: &Footer| footer.end == self.end && footer.last_lsn == self.last;
        if let Some((_, tables)) = footer.filter(|(footer, _)| is_own(footer)) {
            return Ok(tables);
        }
        let scan = format::rescan_sealed(map.bytes(0..self.end), &self.header, self.last);
        match scan.verdict {
            Verdict::Rot { bytes, first, last } | Verdict::Hole { bytes, first, last } => {
                Err(Error::Rot { file: self.name().into(), bytes, first, last })
            }
            _ => Ok(scan.tables),
        }
    }

    /// Checks every frame, the first time that it is called.
    ///
    /// # Errors
    /// [`Error::Rot`], every time, for the first frame that does not check.
    pub(crate) fn verify_once(&self, pinned: &Pinned) -> Result<()> {
        // Relaxed: whoever does not see it yet checks once more.
        if self.verified.load(Ordering::Relaxed) {
            return Ok(());
        }
        let bytes = pinned.map.bytes(0..self.end);
        let mut next = self.header.first_lsn;
        for step in Frames::new(bytes, Walk::from_start(self.header.incarnation)) {
            let rot = |bytes| Error::Rot { file: self.name().into(), bytes, first: next, last: self.last };
            let (place, frame) = step.map_err(|fault| rot(fault.bytes))?;
            if frame.header().lsn != next {
                return Err(rot(place.frame..place.frame + frame.stored().len() as u64));
            }
            next = frame.header().last_lsn().next();
        }
        if next != self.last.next() {
            return Err(Error::Hole { file: self.name().into(), first: next, last: self.last });
        }
        self.verified.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn rot(&self, bytes: std::ops::Range<u64>) -> Error {
        Error::Rot { file: self.name().into(), bytes, first: self.first_lsn(), last: self.last }
    }

    fn hole(&self) -> Error {
        Error::Hole { file: self.name().into(), first: self.first_lsn(), last: self.last }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("name", &self.name()).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Pinned {
    /// The tail's bytes, as far as it is noted; they grow with it.
    pub(super) fn of_tail(tail: &Arc<Tail>) -> Result<Pinned> {
        Ok(Pinned { map: tail.map()?, index: Index::Tail(Arc::clone(tail)), used: AtomicU64::new(0) })
    }

    /// Published bytes of the segment.
    #[inline]
    pub(crate) fn bytes(&self, range: std::ops::Range<u64>) -> &[u8] {
        self.map.bytes(range)
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("map", &self.map).finish_non_exhaustive()
    }
}

/// The maps of sealed segments that were used last: as many as there may be, or as cursors and records hold.
#[derive(Debug)]
pub(crate) struct MapCache {
    disk: Arc<dyn Disk>,
    maps_max: usize,
    kept: Mutex<Vec<Arc<Pinned>>>,
    /// Counts uses.
    clock: AtomicU64,
}

impl MapCache {
    /// Maps that are kept by default.
    pub(crate) const MAPS_MAX: usize = 128;

    pub(crate) fn new(disk: Arc<dyn Disk>, maps_max: usize) -> MapCache {
        MapCache { disk, maps_max, kept: Mutex::new(Vec::new()), clock: AtomicU64::new(0) }
    }

    /// Lets go of the segment that begins with `first`.
    fn forget(&self, first: Lsn) {
        let is_it =
            |pinned: &Arc<Pinned>| matches!(&pinned.index, Index::Sealed { first: own, .. } if *own == first);
        let mut kept = self.kept.lock();
        let gone = kept.iter().position(is_it).map(|index| kept.swap_remove(index));
        // Unmapping takes its time: not under the lock.
        drop(kept);
        drop(gone);
    }

    fn touch(&self, pinned: &Pinned) {
        // Relaxed: a use counted a little late only makes the choice of whom to forget a little worse.
        pinned.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn keep(&self, pinned: Arc<Pinned>) {
        self.touch(&pinned);
        let mut kept = self.kept.lock();
        kept.push(pinned);
        let mut gone = None;
        if kept.len() > self.maps_max {
            let oldest = (0..kept.len()).min_by_key(|&index| kept[index].used.load(Ordering::Relaxed));
            gone = oldest.map(|index| kept.swap_remove(index));
        }
        drop(kept);
        drop(gone);
    }
}

/// Seals a segment that was the tail: writes its footer and syncs.
///
/// All its groups are durable, no write to it is in flight, and its file has its final name.
///
/// # Errors
/// Whatever the operating system says; the footer is then in an unknown state, and the groups are not.
pub(crate) fn seal(tail: &Tail, sealed_at_ms: u64) -> Result<Sealed> {
    tail.with_extent(|extent| seal_extent(&**tail.file(), tail.header(), extent, sealed_at_ms))
}

/// Seals a segment at the end of `extent`, which may be before the end of its last group.
///
/// # Errors
/// As for [`seal`].
pub(crate) fn seal_extent(
    file: &dyn File,
    header: &SegmentHeader,
    extent: &Extent,
    sealed_at_ms: u64,
) -> Result<Sealed> {
    let footer = footer_of(header, extent, (FooterKind::Sealed, sealed_at_ms));
    write_footer(file, header, &footer, &extent.tables)?;
    Ok(Sealed::new(*header, &footer))
}

/// Writes down where the tail ends at a clean close, in a footer that counts only together with a superblock
/// that has what this returns.
///
/// # Errors
/// As for [`seal`].
pub(crate) fn park(tail: &Tail, wall_ms: u64) -> Result<CleanTail> {
    tail.with_extent(|extent| park_extent(&**tail.file(), tail.header(), extent, wall_ms))
}

/// Parks a tail at the end of `extent`.
///
/// # Errors
/// As for [`seal`].
pub(crate) fn park_extent(
    file: &dyn File,
    header: &SegmentHeader,
    extent: &Extent,
    wall_ms: u64,
) -> Result<CleanTail> {
    let footer = footer_of(header, extent, (FooterKind::Parked, wall_ms));
    write_footer(file, header, &footer, &extent.tables)?;
    Ok(CleanTail {
        segment_id: header.segment_id,
        end: extent.end,
        last_lsn: extent.last,
        digest: extent.digest,
    })
}

fn footer_of(header: &SegmentHeader, extent: &Extent, (kind, sealed_at_ms): (FooterKind, u64)) -> Footer {
    Footer {
        last_lsn: extent.last,
        end: extent.end,
        groups: extent.groups,
        digest: extent.digest,
        sealed_at_ms,
        ..Footer::of(header, kind)
    }
}

fn write_footer(file: &dyn File, header: &SegmentHeader, footer: &Footer, tables: &Tables) -> Result<()> {
    let mut region = vec![0; header.footer_bytes as usize];
    footer.encode_into(tables, &mut region);
    let name = segment_name(header.first_lsn);
    file.write_at(&region, header.data_end()).map_err(|source| Error::io("write", &name, source))?;
    file.sync().map_err(|source| Error::io("sync", &name, source))
}

/// Reads the whole footer of a segment; `None` if there is none of this life of the file that checks.
///
/// # Errors
/// [`Error::NewerVersion`], and whatever the operating system says.
pub(crate) fn read_footer(
    file: &dyn File,
    name: &str,
    header: &SegmentHeader,
) -> Result<Option<(Footer, Tables)>> {
    let mut region = vec![0; header.footer_bytes as usize];
    let bytes = file.read_at(&mut region, header.data_end());
    let bytes = bytes.map_err(|source| Error::io("read", name, source))?;
    match FooterView::parse(&region[..bytes - bytes % BLOCK_BYTES]) {
        Ok(view) if view.footer().is_of(header) => Ok(Some((*view.footer(), view.to_tables()))),
        Err(BadBlock::Newer { found }) => Err(Error::NewerVersion { found, supported: format::VERSION }),
        _ => Ok(None),
    }
}
