//! The readable frames of a damaged segment, one after the other, read through a window of bounded size.

use std::sync::Arc;

use crate::disk::{Disk, File};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, FRAME_HEADER_BYTES, FrameHeader, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, Incarnation,
    SegmentHeader, Tables, all_zero, block_up,
};
use crate::segment::{Correction, Run, read_footer};
use crate::types::Lsn;

/// Bytes that are read at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// A segment's file as it would be if the flipped bits in it were put right.
pub(in crate::repair) struct Source {
    file: Arc<dyn File>,
    name: Arc<str>,
    /// The life of the file that the groups in it belong to.
    incarnation: Incarnation,
    corrections: Vec<Correction>,
    window: Vec<u8>,
    /// Where the window begins in the file.
    at: u64,
}

/// A frame as it was found: only its header was looked at.
#[derive(Clone, Copy, Debug)]
pub(in crate::repair) struct FoundFrame {
    pub(in crate::repair) header: FrameHeader,
    /// Where it begins in the file.
    pub(in crate::repair) position: u64,
    /// Where its group begins.
    pub(in crate::repair) group: u64,
    /// What its group knew to be durable, as far as that can be read.
    pub(in crate::repair) durable_through: Lsn,
}

impl Source {
    pub(in crate::repair) fn new(
        file: Arc<dyn File>,
        name: Arc<str>,
        incarnation: Incarnation,
        corrections: &[Correction],
    ) -> Source {
        Source { file, name, incarnation, corrections: corrections.to_vec(), window: Vec::new(), at: 0 }
    }

    /// The bytes from `at` up to the end of the window, or `end`: `wanted` at least.
    ///
    /// Nothing from `end` on is read: it may be unreadable.
    fn bytes(&mut self, at: u64, wanted: usize, end: u64) -> Result<&[u8]> {
        let held = self.at..self.at + self.window.len() as u64;
        if at < held.start || at + wanted as u64 > held.end {
            self.fill(at, end)?;
        }
        let start = (at - self.at) as usize;
        let stop = (end - self.at).min(self.window.len() as u64) as usize;
        match self.window.get(start..stop) {
            Some(bytes) if bytes.len() >= wanted => Ok(bytes),
            _ => Err(self.outdated()),
        }
    }

    fn fill(&mut self, at: u64, end: u64) -> Result<()> {
        let most = end.saturating_sub(at).min(WINDOW_BYTES as u64) as usize;
        self.window.resize(most, 0);
        let read = self.file.read_at(&mut self.window, at);
        let there = read.map_err(|source| Error::io("read", &self.name, source));
        // Of a failed attempt nothing is held.
        self.window.truncate(*there.as_ref().unwrap_or(&0));
        self.at = at;
        there?;
        for Correction { offset, bit } in &self.corrections {
            let place = offset.checked_sub(at).and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = place.and_then(|place| self.window.get_mut(place)) {
                *byte ^= 1 << bit;
            }
        }
        Ok(())
    }

    /// The group's header at `position`, if there is one of this life.
    fn group_at(&mut self, position: u64, end: u64) -> Result<Option<GroupHeader>> {
        if position + GROUP_HEADER_BYTES as u64 > end {
            return Ok(None);
        }
        let place = GroupPlace { incarnation: self.incarnation, position };
        let bytes = self.bytes(position, GROUP_HEADER_BYTES, end)?;
        Ok(GroupHeader::decode_at(bytes, place).ok())
    }

    /// What was readable when it was looked at is not what it was.
    pub(in crate::repair) fn outdated(&self) -> Error {
        Error::Outdated { file: Arc::clone(&self.name) }
    }

    /// The tables of the footer, if there is one for a segment with this header that checks.
    pub(in crate::repair) fn tables(&self, header: &SegmentHeader) -> Result<Option<Tables>> {
        Ok(read_footer(&*self.file, &self.name, header)?.map(|(_, tables)| tables))
    }

    /// Copies the whole file, with the flipped bits put right, into a new one called `name`, and makes that durable
    /// but for its name.
    ///
    /// # Errors
    /// Whatever `progress` says, and whatever the operating system says.
    pub(in crate::repair) fn copy_all(
        &mut self,
        (disk, name): (&dyn Disk, &str),
        progress: &dyn Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let io = |doing| move |source| Error::io(doing, name, source);
        let bytes = self.file.bytes().map_err(|source| Error::io("look at", &self.name, source))?;
        let file = disk.create(name).map_err(io("create"))?;
        file.allocate(bytes).map_err(io("reserve space for"))?;
        let mut at = 0;
        while at < bytes {
            let piece = self.bytes(at, 1, bytes)?;
            file.write_at(piece, at).map_err(io("write"))?;
            at += piece.len() as u64;
            progress(piece.len() as u64)?;
        }
        file.sync().map_err(io("sync"))
    }

    /// Gives all of a frame's bytes to `sink`, a piece at a time, and checks them on the way.
    ///
    /// # Errors
    /// [`Error::Outdated`] if they do not check any more; what `sink` was given is then worth nothing.
    pub(in crate::repair) fn copy(
        &mut self,
        frame: &FoundFrame,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let end = frame.position + frame.header.frame_bytes();
        let used = frame.position + FRAME_HEADER_BYTES as u64 + u64::from(frame.header.length);
        // The checksum covers everything but itself.
        let mut covered = frame.position + size_of::<u32>() as u64;
        let mut sum = crc32fast::Hasher::new();
        let mut at = frame.position;
        while at < end {
            let piece = self.bytes(at, 1, end)?;
            let piece_end = at + piece.len() as u64;
            if covered < used.min(piece_end) {
                sum.update(&piece[(covered - at) as usize..(used.min(piece_end) - at) as usize]);
                covered = used.min(piece_end);
            }
            sink(piece)?;
            at = piece_end;
        }
        if sum.finalize() == frame.header.checksum { Ok(()) } else { Err(self.outdated()) }
    }
}

/// The frames of one run.
pub(in crate::repair) struct RunFrames {
    run: Run,
    at: u64,
    next: Lsn,
    group: u64,
    /// Where the group ends; `None` if its header is lost.
    group_end: Option<u64>,
    durable_through: Lsn,
}

impl RunFrames {
    /// The frames of `run`.
    pub(in crate::repair) fn new(source: &mut Source, run: &Run) -> RunFrames {
        let header = match run.bytes.start == run.group {
            true => None,
            // Its header may be lost, and even unreadable: it is not part of the run.
            false => {
                let end = run.group + GROUP_HEADER_BYTES as u64;
                source.group_at(run.group, end.min(run.bytes.start)).ok().flatten()
            }
        };
        RunFrames {
            run: run.clone(),
            at: run.bytes.start,
            next: run.lsns.first,
            group: run.group,
            group_end: header.map(|header| header.end()),
            durable_through: header.map_or(Lsn::ZERO, |header| header.durable_through),
        }
    }

    /// The next frame; `None` at the end of the run.
    ///
    /// # Errors
    /// [`Error::Outdated`] if the run is not what it was.
    pub(in crate::repair) fn next(&mut self, source: &mut Source) -> Result<Option<FoundFrame>> {
        let (end, last) = (self.run.bytes.end, self.run.lsns.last);
        if self.next > last {
            return Ok(None);
        }
        if self.group_end.is_none_or(|end| end == self.at) {
            self.enter_group(source)?;
        }
        let left = end.saturating_sub(self.at);
        if left < FRAME_HEADER_BYTES as u64 {
            return Err(source.outdated());
        }
        let fits = |header: &FrameHeader| {
            header.lsn == self.next && header.frame_bytes() <= left && header.last_lsn() <= last
        };
        let bytes = source.bytes(self.at, FRAME_HEADER_BYTES, end)?;
        let Some(header) = FrameHeader::decode(bytes).ok().filter(fits) else {
            return Err(source.outdated());
        };
        let (group, durable_through) = (self.group, self.durable_through);
        let found = FoundFrame { header, position: self.at, group, durable_through };
        self.at += header.frame_bytes();
        self.next = header.last_lsn().next();
        Ok(Some(found))
    }

    /// Goes into the group that begins here, or after the zeros up to the next block.
    ///
    /// If the header of the group before is lost, nothing says where that one ends: then this may be a place
    /// inside of it, where no header stands.
    fn enter_group(&mut self, source: &mut Source) -> Result<()> {
        let end = self.run.bytes.end;
        let boundary = block_up(self.at).min(end);
        let padding = (boundary - self.at) as usize;
        let is_padded = padding > 0 && all_zero(&source.bytes(self.at, padding, end)?[..padding]);
        let candidates = [Some(self.at), is_padded.then_some(boundary)];
        for position in candidates.into_iter().flatten() {
            let Some(header) = source.group_at(position, end)? else { continue };
            self.at = header.frames_start();
            self.group = position;
            self.group_end = Some(header.end());
            self.durable_through = header.durable_through;
            return Ok(());
        }
        match self.group_end {
            Some(_) => Err(source.outdated()),
            None => Ok(()),
        }
    }
}

const _: () = assert!(WINDOW_BYTES >= BLOCK_BYTES);
