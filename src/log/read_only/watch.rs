//! Following the newest segment of a log that somebody else writes.
//!
//! Bytes that may still change are read into memory of the reader's own, never through a map.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, FOOTER_BLOCK_BYTES, Footer, FooterKind, Frame, FrameHeader, GROUP_HEADER_BYTES, GroupHeader,
    GroupPlace, HEADER_BLOCK_BYTES, INDEX_STRIDE_BYTES, SegmentHeader, all_zero, block_up,
};
use crate::log::recover::Watched;
use crate::segment::{Extent, FileName, Noted, segment_name};
use crate::types::{Epoch, Lsn};

/// Bytes that are read ahead at first: there may be nothing new. Twice as many each time, up to the maximum.
const AHEAD_BYTES: u64 = 16 << 10;
const AHEAD_BYTES_MAX: u64 = 256 << 10;
/// How far past the end groups are looked for that came before the next one.
const BEYOND_BYTES: u64 = 64 << 10;

/// A whole group that was read, and is not known to be durable yet.
struct Seen {
    header: GroupHeader,
    points: Points,
}

impl Watched {
    /// Takes note of the groups that came to be known as durable; `false` if the segment is not what it was,
    /// or some of them are not there.
    ///
    /// `vouched` is the newest record known to be durable from elsewhere; each group vouches for those
    /// before it too. `through` is the last record, if the segment is known to have ended.
    pub(super) fn read_on(&mut self, disk: &dyn Disk, vouched: Lsn, through: Option<Lsn>) -> Result<bool> {
        let file = self.open(disk)?;
        self.footer = self.read_footer(&*file)?;
        let through = self.footer.map(|footer| footer.last_lsn).or(through);
        if let Some(through) = through.filter(|through| *through <= self.extent.last) {
            // Before it: truncated. What follows it then is stale, and looks like groups.
            return Ok(through == self.extent.last);
        }
        let bound = through.unwrap_or(Lsn::new(u64::MAX));
        let mut vouched = vouched.max(through.unwrap_or_default());
        let mut groups = Groups::after(&self.extent, &self.header, &*file);
        let mut seen = VecDeque::new();
        let read = |source| Error::io("read", &self.name, source);
        while let Some(group) = groups.next().map_err(read)? {
            vouched = vouched.max(group.header.durable_through);
            seen.push_back(group);
            note_all(&mut self.extent, &mut seen, vouched.min(bound));
        }
        // A later group may be there before one that is still in flight, or is lost.
        vouched = vouched.max(groups.vouched_beyond().map_err(read)?).min(bound);
        note_all(&mut self.extent, &mut seen, vouched);
        Ok(self.extent.last >= vouched)
    }

    /// The segment that follows, if there is one, with nothing in it yet.
    pub(super) fn successor(&self, disk: &dyn Disk) -> Result<Option<Watched>> {
        let names = disk.list().map_err(|source| Error::io("list files", "", source))?;
        for name in names {
            let may_be = match FileName::of(&name) {
                FileName::Segment(first) => first > self.header.first_lsn,
                FileName::Spare(_) => true,
                _ => false,
            };
            let header = if may_be { read_header(disk, &name)? } else { None };
            if let Some(header) = header.filter(|header| self.is_followed_by(header)) {
                let extent = Extent::empty(&header);
                return Ok(Some(Watched { header, name: name.into(), extent, footer: None }));
            }
        }
        Ok(None)
    }

    fn is_followed_by(&self, header: &SegmentHeader) -> bool {
        let own = &self.header;
        header.log_id == own.log_id
            && header.segment_id == own.segment_id.next()
            && header.first_lsn > own.first_lsn
    }

    /// Opens the file, under its final name if the writer has renamed it, and sees that it is the segment.
    fn open(&mut self, disk: &dyn Disk) -> Result<Arc<dyn File>> {
        let own: Arc<str> = segment_name(self.header.first_lsn).into();
        for name in [Arc::clone(&self.name), own] {
            let file = match disk.open(&name, Access::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(|source| Error::io("open", &name, source))?,
            };
            if header_of(&*file, &name)? == Some(self.header) {
                self.name = name;
                return Ok(file);
            }
        }
        let (first, last) = (self.header.first_lsn, self.extent.last);
        Err(Error::Hole { file: Arc::clone(&self.name), first, last })
    }

    /// The end of the footer, if the segment is sealed.
    fn read_footer(&self, file: &dyn File) -> Result<Option<Footer>> {
        let mut block = vec![0; FOOTER_BLOCK_BYTES];
        let position = self.header.segment_bytes - FOOTER_BLOCK_BYTES as u64;
        let there = file.read_at(&mut block, position);
        let there = there.map_err(|source| Error::io("read", &self.name, source))?;
        let footer = Footer::decode(&block[..there]).ok();
        Ok(footer.filter(|footer| footer.kind == FooterKind::Sealed && footer.is_of(&self.header)))
    }
}

/// The header of a file that may be a segment; `None` if it is none, or the file is gone.
fn read_header(disk: &dyn Disk, name: &str) -> Result<Option<SegmentHeader>> {
    match disk.open(name, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => header_of(&*file.map_err(|source| Error::io("open", name, source))?, name),
    }
}

fn header_of(file: &dyn File, name: &str) -> Result<Option<SegmentHeader>> {
    let mut block = vec![0; HEADER_BLOCK_BYTES];
    let there = file.read_at(&mut block, 0).map_err(|source| Error::io("read", name, source))?;
    Ok(SegmentHeader::decode(&block[..there]).ok())
}

/// Takes note of the groups up to the record `vouched`.
fn note_all(extent: &mut Extent, seen: &mut VecDeque<Seen>, vouched: Lsn) {
    while let Some(Seen { header, points }) = seen.pop_front_if(|group| group.header.last_lsn() <= vouched) {
        extent.note(&Noted::new(&header, &points));
    }
}

/// The groups of a segment from some place on, as long as each is whole and follows the one before.
struct Groups<'a> {
    segment: &'a SegmentHeader,
    window: Window<'a>,
    end: u64,
    last: Lsn,
    epochs: Epochs,
}

/// The epochs of a segment so far.
#[derive(Clone, Copy)]
struct Epochs {
    /// The newest; `None` before the first frame.
    newest: Option<Epoch>,
    /// None may begin that is older.
    oldest: Epoch,
    /// How many more the footer has room for.
    left: usize,
}

impl<'a> Groups<'a> {
    fn after(extent: &Extent, segment: &'a SegmentHeader, file: &'a dyn File) -> Groups<'a> {
        let newest = extent.tables.epochs().last().map(|start| start.epoch);
        let left = extent.tables.epochs_left();
        Groups {
            segment,
            window: Window {
                file,
                bytes: Vec::new(),
                start: 0,
                ahead: AHEAD_BYTES,
                limit: segment.data_end(),
            },
            end: extent.end,
            last: extent.last,
            epochs: Epochs { newest, oldest: newest.unwrap_or(segment.epoch), left },
        }
    }

    /// The next group, if it is there already.
    fn next(&mut self) -> io::Result<Option<Seen>> {
        let Some(header) = self.next_header()? else { return Ok(None) };
        let frames = self.window.bytes(header.frames_start(), u64::from(header.frame_bytes))?;
        let Some((points, epochs)) = check(&header, frames, self.epochs) else { return Ok(None) };
        self.end = header.end();
        self.last = header.last_lsn();
        self.epochs = epochs;
        Ok(Some(Seen { header, points }))
    }

    /// The newest record that is vouched for by groups soon after the place where the next one is missing.
    fn vouched_beyond(&mut self) -> io::Result<Lsn> {
        let mut vouched = Lsn::ZERO;
        let start = block_up(self.end);
        let stop = (start + BEYOND_BYTES).min(self.segment.data_end());
        for position in (start..stop).step_by(BLOCK_BYTES) {
            let place = GroupPlace { incarnation: self.segment.incarnation, position };
            let bytes = self.window.bytes(position, GROUP_HEADER_BYTES as u64)?;
            if let Ok(header) = GroupHeader::decode_at(bytes, place) {
                vouched = vouched.max(header.durable_through);
            }
        }
        Ok(vouched)
    }

    fn next_header(&mut self) -> io::Result<Option<GroupHeader>> {
        let boundary = block_up(self.end);
        let packed = !all_zero(self.window.bytes(self.end, boundary - self.end)?);
        let position = if packed { self.end } else { boundary };
        let place = GroupPlace { incarnation: self.segment.incarnation, position };
        let bytes = self.window.bytes(position, GROUP_HEADER_BYTES as u64)?;
        let fits = |header: &GroupHeader| {
            header.first_lsn == self.last.next() && header.end() <= self.segment.data_end()
        };
        Ok(GroupHeader::decode_at(bytes, place).ok().filter(fits))
    }
}

impl Epochs {
    /// Goes on with a frame of this epoch; whether one begins there. `None` if that cannot be.
    fn go_on(&mut self, epoch: Epoch) -> Option<bool> {
        if self.newest == Some(epoch) {
            return Some(false);
        }
        if epoch < self.oldest {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        (self.newest, self.oldest) = (Some(epoch), epoch);
        Some(true)
    }
}

/// Frames that an index may point to, with their positions.
type Points = Vec<(u64, FrameHeader)>;

/// Checks the frames of a group as recovery does.
fn check(header: &GroupHeader, bytes: &[u8], mut epochs: Epochs) -> Option<(Points, Epochs)> {
    let (mut at, mut next, mut frames) = (0, header.first_lsn, 0);
    let mut digest = header.place.digest_seed();
    let mut points = Points::new();
    while at < bytes.len() {
        let frame = Frame::parse(&bytes[at..]).ok()?;
        frame.check().ok()?;
        let found = *frame.header();
        if found.lsn != next {
            return None;
        }
        let begins = epochs.go_on(found.epoch)?;
        let position = header.frames_start() + at as u64;
        if begins || points.last().is_none_or(|(last, _)| position - last >= INDEX_STRIDE_BYTES) {
            points.push((position, found));
        }
        digest = digest.fold(u64::from(found.checksum));
        next = found.last_lsn().next();
        at += frame.stored().len();
        frames += 1;
    }
    let is_whole = bytes.len() == header.frame_bytes as usize
        && (frames, next, digest) == (header.frames, header.last_lsn().next(), header.digest);
    is_whole.then_some((points, epochs))
}

/// A part of a file in memory.
struct Window<'a> {
    file: &'a dyn File,
    bytes: Vec<u8>,
    start: u64,
    ahead: u64,
    /// Nothing is read from here on.
    limit: u64,
}

impl Window<'_> {
    /// The bytes from `from` on, as many as asked for or as there are.
    fn bytes(&mut self, from: u64, bytes: u64) -> io::Result<&[u8]> {
        let end = (from + bytes).min(self.limit).max(from);
        let held = self.start..self.start + self.bytes.len() as u64;
        if from < held.start || end > held.end {
            self.start = from - from % BLOCK_BYTES as u64;
            let stop = (self.start + self.ahead).min(self.limit).max(end);
            self.ahead = (2 * self.ahead).min(AHEAD_BYTES_MAX);
            self.bytes.resize((stop - self.start) as usize, 0);
            let there = self.file.read_at(&mut self.bytes, self.start)?;
            self.bytes.truncate(there);
        }
        let held = self.bytes.len() as u64;
        let (from, end) = ((from - self.start).min(held), (end - self.start).min(held));
        Ok(&self.bytes[from as usize..end as usize])
    }
}
