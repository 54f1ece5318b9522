//! Reading frames one after the other from a stretch of a segment that is known to be good.

use std::ops::Range;

use super::frame::Frame;
use super::group::{GroupHeader, GroupPlace};
use super::layout::{GROUP_HEADER_BYTES, HEADER_BLOCK_BYTES, all_zero, block_up};
use super::segment::Incarnation;
use super::tables::IndexEntry;
use super::verdict::{Damage, Fault};
use crate::types::Lsn;

/// Where a frame lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Position of its group's header in the file, in bytes.
    pub group: u64,
    /// Position of its own header in the file, in bytes.
    pub frame: u64,
}

impl From<IndexEntry> for Place {
    fn from(entry: IndexEntry) -> Place {
        Place { group: entry.group, frame: entry.frame }
    }
}

/// A position among the frames of a segment, that borrows nothing.
///
/// Each step is handed the segment's bytes, from the start of the file, or of a [window](Walk::within) on it, to where
/// frames may be read: that bound may grow from step to step, and lies at the end of a frame. Allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    incarnation: Incarnation,
    verify: bool,
    /// Position in the file of the first byte that each step is handed: the start of a block.
    base: u64,
    group: u64,
    group_end: u64,
    at: u64,
}

impl Walk {
    /// Before the first frame of a segment.
    #[must_use]
    pub const fn from_start(incarnation: Incarnation) -> Walk {
        let start = HEADER_BLOCK_BYTES as u64;
        Walk { incarnation, verify: true, base: 0, group: start, group_end: start, at: start }
    }

    /// Before the frame at `place`, as an index has it.
    ///
    /// # Errors
    /// [`Fault`] if there is no group of this life at that place with room for the frame.
    pub fn at(bytes: &[u8], incarnation: Incarnation, place: Place) -> Result<Walk, Fault> {
        let mut walk = Walk { at: place.group, group_end: place.group, ..Walk::from_start(incarnation) };
        walk.enter(bytes, place.group)?;
        walk.to(place.frame)
    }

    /// Before the frame at position `frame` of the group with this header, which was read from the file.
    ///
    /// # Errors
    /// As for [`Walk::at`].
    pub fn inside(header: &GroupHeader, frame: u64) -> Result<Walk, Fault> {
        let (group, at) = (header.place.position, header.frames_start());
        let start = Walk::from_start(header.place.incarnation);
        Walk { group, group_end: header.end(), at, ..start }.to(frame)
    }

    fn to(self, frame: u64) -> Result<Walk, Fault> {
        if !(self.at..self.group_end).contains(&frame) {
            return Err(Fault { damage: Damage::Malformed, bytes: self.group..self.at });
        }
        Ok(Walk { at: frame, ..self })
    }

    /// Chooses whether each frame is checked as it is read; it is, unless this says otherwise.
    #[must_use]
    pub const fn verified(mut self, verify: bool) -> Walk {
        self.verify = verify;
        self
    }

    /// Goes on in bytes that begin at position `base` of the file.
    ///
    /// # Panics
    /// If that is not the start of a block, or lies after the next frame.
    #[must_use]
    pub fn within(mut self, base: u64) -> Walk {
        assert!(base == block_up(base) && base <= self.at, "a window that begins before the next frame");
        self.base = base;
        self
    }

    /// Position of the next frame in the file, or of the end of the last group.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// The next frame and its place; `None` at the end of `bytes`.
    ///
    /// # Errors
    /// [`Fault`] if what comes next is no frame; the walk stays where it is.
    #[inline]
    pub fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Place, Frame<'a>)>, Fault> {
        let Some((place, frame)) = self.peek(bytes)? else { return Ok(None) };
        if self.verify {
            frame.check().map_err(|damage| Fault { damage, bytes: self.span(place, frame) })?;
        }
        self.at = self.span(place, frame).end;
        Ok(Some((place, frame)))
    }

    /// The frame that holds `lsn`, checked as [`Walk::step`] would; those before it are passed over by their
    /// headers alone. `None` if it is not between here and the end of `bytes`.
    ///
    /// # Errors
    /// [`Fault`] as in [`Walk::step`].
    pub fn seek<'a>(&mut self, bytes: &'a [u8], lsn: Lsn) -> Result<Option<(Place, Frame<'a>)>, Fault> {
        while let Some((place, frame)) = self.peek(bytes)? {
            if frame.header().lsn > lsn {
                return Ok(None);
            }
            if frame.header().last_lsn() >= lsn {
                return self.step(bytes);
            }
            self.at = self.span(place, frame).end;
        }
        Ok(None)
    }

    /// Parses the next frame without going past it, but enters its group.
    #[inline]
    fn peek<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Place, Frame<'a>)>, Fault> {
        let end = self.base + bytes.len() as u64;
        if self.at == self.group_end {
            // A window begins with a block, so that blocks begin in it where they do in the file.
            match next_group_at(bytes, self.at - self.base) {
                Some(start) => self.enter(bytes, self.base + start)?,
                None => return Ok(None),
            }
        }
        if self.at >= end {
            return Ok(None);
        }
        let group_end = self.group_end.min(end);
        let frame = Frame::parse(&bytes[to_index(self.at - self.base)..to_index(group_end - self.base)])
            .map_err(|damage| Fault { damage, bytes: self.at..group_end })?;
        Ok(Some((Place { group: self.group, frame: self.at }, frame)))
    }

    fn enter(&mut self, bytes: &[u8], start: u64) -> Result<(), Fault> {
        let place = GroupPlace { incarnation: self.incarnation, position: start };
        let end = self.base + bytes.len() as u64;
        let header_end = start.saturating_add(GROUP_HEADER_BYTES as u64).min(end);
        let header = GroupHeader::decode_at(&bytes[to_index(start.min(end) - self.base)..], place)
            .map_err(|damage| Fault { damage, bytes: start..header_end })?;
        self.group = start;
        self.group_end = header.end();
        self.at = header.frames_start();
        Ok(())
    }

    #[inline]
    fn span(&self, place: Place, frame: Frame<'_>) -> Range<u64> {
        place.frame..place.frame + frame.stored().len() as u64
    }
}

/// The frames of a stretch, in order: [`Walk`] as an iterator over bytes that do not grow.
///
/// Ends after the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    walk: Option<Walk>,
}

impl<'a> Frames<'a> {
    /// The frames from `walk` on, in the bytes of a segment from the start of its file.
    #[must_use]
    pub const fn new(bytes: &'a [u8], walk: Walk) -> Frames<'a> {
        Frames { bytes, walk: Some(walk) }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<(Place, Frame<'a>), Fault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let step = self.walk.as_mut()?.step(self.bytes).transpose();
        if !matches!(step, Some(Ok(_))) {
            self.walk = None;
        }
        step
    }
}

/// Where the group after one that ended at `end` has to begin; `None` if `bytes` end before that.
///
/// Right there if any byte of the rest of the block is not zero, and else at the next block: the header of a
/// packed group is never zeros.
#[inline]
pub(super) fn next_group_at(bytes: &[u8], end: u64) -> Option<u64> {
    let length = bytes.len() as u64;
    if end >= length {
        return None;
    }
    let boundary = block_up(end);
    let gap = &bytes[to_index(end)..to_index(boundary.min(length))];
    let start = if all_zero(gap) { boundary } else { end };
    (start < length).then_some(start)
}

/// A position that was compared with the length of a slice, as an index into it.
#[inline]
pub(super) fn to_index(position: u64) -> usize {
    usize::try_from(position).expect("a position inside a slice")
}
