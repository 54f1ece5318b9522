//! Putting back what was lost (S11): a segment is written anew, and takes the place of the old one.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::ReplicaStore;
use super::open::{WINDOW_BYTES, load};
use super::part::{Part, segment_bytes_for};
use crate::disk::File;
use crate::error::Result;
use crate::format::{
    Digest, EPOCH_STARTS_MAX, FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, GROUP_HEADER_BYTES,
    GroupHeader, GroupPlace, HEADER_BLOCK_BYTES, Incarnation, SegmentHeader, Stamp, footer_bytes_for,
    write_gap,
};
use crate::log::store::Files;
use crate::node::frames::{check_group, digest};
use crate::protocol::Group;
use crate::segment::{Extent, Noted, UNFINISHED, seal_extent};
use crate::types::{Epoch, Lsn, LsnRange};

/// How a segment that is written anew ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// It is the tail.
    Open,
    /// It is complete, and ends with the digest that the next one states.
    Sealed {
        /// That digest, unless nothing follows yet.
        stated: Option<Digest>,
    },
}

/// What is in a segment: frames, and what is lost.
#[derive(Debug)]
pub(super) struct Pieces(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Frame { header: FrameHeader, stored: Vec<u8> },
    Gap(LsnRange),
}

impl ReplicaStore {
    /// Puts records where they were lost, durably; whether it did: not if the bytes do not give the digest, are not the
    /// group's frames, or do not fit what is there.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn mend(&mut self, group: &Group, frames: &[u8], stated: u64) -> Result<bool> {
        if digest(frames) != stated || check_group(group, frames).is_err() {
            return Ok(false);
        }
        self.sync()?;
        let range = group.range;
        let overlaps = |part: &Part| part.header.first_lsn <= range.last && range.first <= part.last();
        let concerned: Vec<usize> =
            (0..self.parts.len()).filter(|&index| overlaps(&self.parts[index])).collect();
        let mut made = Vec::new();
        let mut left = frames_of(frames);
        for index in concerned {
            let part = &self.parts[index];
            let mut pieces = part.pieces(&self.files)?;
            let here = left.iter().take_while(|frame| frame.last_lsn() <= part.last()).count();
            let own: Vec<Piece> = left.drain(..here).collect();
            if !pieces.fill(own) || !pieces.is_sound() {
                return Ok(false);
            }
            made.push((index, pieces));
        }
        if made.is_empty() || !left.is_empty() || !self.are_in_order(&made)? {
            return Ok(false);
        }
        self.shared.begin_change();
        for (index, pieces) in made {
            self.replace(index, &pieces)?;
        }
        self.history = load(&self.files, &self.parts, self.history.base(), self.options)?.history;
        self.show_change()?;
        Ok(true)
    }

    /// Whether epochs do not decrease from what stands before these segments to what follows on them: another primary's
    /// records may begin with a segment of their own.
    fn are_in_order(&self, made: &[(usize, Pieces)]) -> Result<bool> {
        let (Some((first, _)), Some((last, _))) = (made.first(), made.last()) else { return Ok(false) };
        let before = self.history.epoch_at(self.parts[*first].header.first_lsn.prev());
        let within = made.iter().flat_map(|(_, pieces)| pieces.epochs());
        let mut after = None;
        for part in self.parts[last + 1..].iter().filter(|part| !part.is_empty()) {
            let pieces = part.pieces(&self.files)?;
            after = pieces.epochs().next();
            if after.is_some() {
                break;
            }
        }
        Ok(before.into_iter().chain(within).chain(after).is_sorted())
    }

    /// Writes the segment at `index` anew, and puts it into the place of the old one.
    fn replace(&mut self, index: usize, pieces: &Pieces) -> Result<()> {
        let part = &self.parts[index];
        let ending = match part.is_sealed {
            true => Ending::Sealed { stated: Some(part.extent.digest) },
            false => Ending::Open,
        };
        let forged = self.forge(part, pieces, ending)?;
        self.switch(index, forged)?;
        if index + 1 == self.parts.len() {
            self.extract.give_up();
            let (tail, files) = (self.tail(), &*self.files);
            let writer = files.io("open", &tail.name, tail.file(files)?.writer(files.write_method))?;
            let (end, head) = (tail.extent.end, tail.last_block(files)?);
            self.writer = writer;
            self.front.go_to(end, &head);
        }
        Ok(())
    }

    /// Writes a segment anew as one group, durably but for its name.
    ///
    /// The next segment states how this one ends. With a gap in it that is only stated; without one its group has to
    /// give it, and there is exactly one incarnation with which it does.
    pub(super) fn forge(&self, part: &Part, pieces: &Pieces, ending: Ending) -> Result<Part> {
        let (frames, epoch) = pieces.framed(part.header.epoch);
        let position = HEADER_BLOCK_BYTES as u64;
        let mut header = SegmentHeader { epoch, ..part.header };
        header.incarnation = match ending {
            Ending::Sealed { stated: Some(stated) } if !pieces.has_gaps() => {
                let sum = Digest::new(header.previous_digest.sum_to(stated));
                Incarnation::new(sums_of(&frames).iter().rev().fold(sum, |sum, one| sum.before(*one)).get())
            }
            _ => Incarnation::new(self.files.disk.entropy()),
        };
        header.segment_bytes = segment_bytes_for(frames.len() as u64, header.segment_bytes);
        header.footer_bytes = footer_bytes_for(header.segment_bytes);
        let place = GroupPlace { incarnation: header.incarnation, position };
        let group = GroupHeader::over(&frames, place, header.first_lsn.prev());
        let mut bytes = vec![0; HEADER_BLOCK_BYTES + GROUP_HEADER_BYTES];
        header.encode_into(&mut bytes);
        group.encode_into(&mut bytes[HEADER_BLOCK_BYTES..]);
        bytes.extend_from_slice(&frames);
        let waiting: Arc<str> = format!("{}{UNFINISHED}", part.final_name()).into();
        let file = self.create_anew(&waiting, header.segment_bytes)?;
        self.files.io("write", &waiting, file.write_at(&bytes, 0))?;
        let mut extent = extent_of(&header, &group, &frames);
        match ending {
            Ending::Open => {
                self.files.io("sync", &waiting, file.sync())?;
                self.files.io("lock", &waiting, file.try_lock(false))?;
                Ok(Part::new(header, waiting, file, extent))
            }
            Ending::Sealed { stated } => {
                assert!(
                    pieces.has_gaps() || stated.is_none_or(|stated| stated == extent.digest),
                    "the incarnation was made for it"
                );
                extent.digest = stated.unwrap_or(extent.digest);
                seal_extent(&*file, &header, &extent, self.files.disk.wall_ms())?;
                Ok(Part::new(header, waiting, file, extent).sealed())
            }
        }
    }

    /// Creates a file of zeros, in the place of what an earlier attempt has left.
    pub(super) fn create_anew(&self, name: &str, bytes: u64) -> Result<Arc<dyn File>> {
        match self.files.disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return self.files.io("remove", name, Err(error));
            }
            _ => {}
        }
        let file = self.files.io("create", name, self.files.disk.create(name))?;
        self.files.io("reserve space for", name, file.allocate(bytes))?;
        Ok(file)
    }
}

impl Part {
    /// What is in the segment.
    pub(super) fn pieces(&self, files: &Files) -> Result<Pieces> {
        let mut pieces = Pieces(Vec::new());
        if !self.is_empty() {
            let _ = self.source(files)?.visit((self.header.first_lsn, None), WINDOW_BYTES, &mut |frame| {
                pieces.push(frame);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(pieces)
    }
}

impl Piece {
    fn last_lsn(&self) -> Lsn {
        match self {
            Piece::Frame { header, .. } => header.last_lsn(),
            Piece::Gap(lsns) => lsns.last,
        }
    }

    fn first_lsn(&self) -> Lsn {
        match self {
            Piece::Frame { header, .. } => header.lsn,
            Piece::Gap(lsns) => lsns.first,
        }
    }
}

impl Pieces {
    fn push(&mut self, frame: &Frame<'_>) {
        let header = *frame.header();
        match self.0.last_mut() {
            Some(Piece::Gap(lsns)) if header.kind == FrameKind::Gap => lsns.last = header.last_lsn(),
            _ if header.kind == FrameKind::Gap => {
                self.0.push(Piece::Gap(LsnRange { first: header.lsn, last: header.last_lsn() }));
            }
            _ => self.0.push(Piece::Frame { header, stored: frame.stored().to_vec() }),
        }
    }

    fn has_gaps(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Gap(_)))
    }

    /// Forgets what comes after `after`, which is in a gap.
    pub(super) fn cut(&mut self, after: Lsn) {
        self.0.retain(|piece| piece.first_lsn() <= after);
        if let Some(Piece::Gap(lsns)) = self.0.last_mut() {
            lsns.last = after;
        }
    }

    /// Puts frames into the gap that they fit; whether there is one.
    fn fill(&mut self, frames: Vec<Piece>) -> bool {
        let (Some(first), Some(last)) =
            (frames.first().map(Piece::first_lsn), frames.last().map(Piece::last_lsn))
        else {
            return false;
        };
        let is_it =
            |piece: &Piece| matches!(piece, Piece::Gap(lsns) if lsns.first <= first && last <= lsns.last);
        let Some(index) = self.0.iter().position(is_it) else { return false };
        let (before, after) = (self.0[index].first_lsn(), self.0[index].last_lsn());
        let left = LsnRange::new(before, first.prev()).map(Piece::Gap);
        let right = LsnRange::new(last.next(), after).map(Piece::Gap);
        self.0.splice(index..=index, left.into_iter().chain(frames).chain(right));
        true
    }

    /// Whether epochs do not decrease, and are not too many.
    fn is_sound(&self) -> bool {
        let epochs: Vec<Epoch> = self.epochs().collect();
        epochs.is_sorted() && epochs.chunk_by(|one, next| one == next).count() < EPOCH_STARTS_MAX
    }

    /// The epochs of the frames, in order.
    fn epochs(&self) -> impl Iterator<Item = Epoch> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Frame { header, .. } => Some(header.epoch),
            Piece::Gap(_) => None,
        })
    }

    /// The frames, and the epoch that they begin with: what is lost is said to be of the epoch before it, which is at
    /// most `epoch` at the start.
    fn framed(&self, epoch: Epoch) -> (Vec<u8>, Epoch) {
        let begins = self.epochs().next().map_or(epoch, |first| first.min(epoch));
        let mut frames = Vec::new();
        let mut epoch = begins;
        for piece in &self.0 {
            match piece {
                Piece::Frame { header, stored } => {
                    frames.extend_from_slice(stored);
                    epoch = header.epoch;
                }
                Piece::Gap(lsns) => put_gap(&mut frames, *lsns, epoch),
            }
        }
        (frames, begins)
    }
}

fn put_gap(frames: &mut Vec<u8>, lsns: LsnRange, epoch: Epoch) {
    let mut next = lsns.first;
    while next <= lsns.last {
        let count = u32::try_from(lsns.last.get() - next.get() + 1).unwrap_or(u32::MAX);
        let start = frames.len();
        frames.resize(start + FRAME_HEADER_BYTES, 0);
        write_gap(&mut frames[start..], Stamp { lsn: next, epoch }, count);
        next = next.plus(u64::from(count));
    }
}

/// The frames one by one; they were checked.
fn frames_of(bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while let Ok(frame) = Frame::parse(rest) {
        pieces.push(Piece::Frame { header: *frame.header(), stored: frame.stored().to_vec() });
        rest = &rest[frame.stored().len()..];
    }
    pieces
}

fn headers_of(frames: &[u8]) -> Vec<(u64, FrameHeader)> {
    let mut headers = Vec::new();
    let mut at = 0;
    while let Ok(frame) = Frame::parse(&frames[at..]) {
        headers.push((at as u64, *frame.header()));
        at += frame.stored().len();
    }
    headers
}

fn sums_of(frames: &[u8]) -> Vec<u64> {
    headers_of(frames).iter().map(|(_, header)| u64::from(header.checksum)).collect()
}

/// How far a segment reaches that is this one group.
fn extent_of(header: &SegmentHeader, group: &GroupHeader, frames: &[u8]) -> Extent {
    let points: Vec<_> =
        headers_of(frames).into_iter().map(|(at, frame)| (group.frames_start() + at, frame)).collect();
    let mut extent = Extent::empty(header);
    extent.note(&Noted::new(group, &points));
    extent
}
