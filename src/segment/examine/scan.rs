//! Taking group after group as long as each is valid as a whole, like `format::scan`, but from a window.

use std::ops::Range;

use super::findings::Findings;
use super::footer::Entries;
use super::stretch::Run;
use super::window::Window;
use super::{Prefix, Question};
use crate::error::Result;
use crate::format::{
    Damage, Digest, FRAME_HEADER_BYTES, Frame, FrameCheck, FrameHeader, FrameKind, GROUP_HEADER_BYTES,
    GroupHeader, GroupPlace, HEADER_BLOCK_BYTES, INDEX_STRIDE_BYTES, Incarnation, Tables,
};
use crate::types::{Epoch, Lsn, LsnRange};

/// How many bytes are read once more at least to understand damage.
const EFFORT_BYTES_MIN: u64 = 64 << 20;

/// No record has a higher LSN, whatever a block says that vouches for one.
pub(super) const LAST: Lsn = Lsn::new(u64::MAX - 1);

/// An examination on its way.
pub(super) struct Scan<'a> {
    pub(super) window: Window<'a>,
    pub(super) incarnation: Incarnation,
    /// The last record, if it is known.
    pub(super) until: Option<Lsn>,
    /// Where groups have to end.
    pub(super) data_end: u64,
    /// How far it has come.
    pub(super) reach: Prefix,
    pub(super) tables: Tables,
    pub(super) findings: Findings,
    pub(super) entries: Entries<'a>,
    /// The newest record that a group known to be durable.
    pub(super) vouched: Lsn,
    /// The digest over all groups so far, as long as none is missing whose digest is not known.
    pub(super) chain: Option<Digest>,
    /// Where the footer says that the last frame ends.
    pub(super) footer_end: Option<u64>,
    /// Frames under a header that is lost, with the stretch that says so.
    pub(super) unproven: Vec<(usize, Run)>,
    /// Whether some frame stands for records that were given up.
    pub(super) has_gaps: bool,
    /// How many bytes may be read once more to understand damage.
    pub(super) effort: u64,
}

/// Why a place is no valid group.
#[derive(Clone, Debug)]
pub(super) struct GroupFault {
    pub(super) damage: Damage,
    pub(super) bytes: Range<u64>,
    /// The records concerned, where the group's header tells.
    pub(super) at_stake: Option<LsnRange>,
}

/// A frame that checks, or what is wrong with it.
pub(super) type Checked = std::result::Result<FrameHeader, Damage>;

/// How far the check of a group has come.
#[derive(Clone, Copy)]
pub(super) struct Walked {
    pub(super) at: u64,
    pub(super) next: Lsn,
    pub(super) epoch: Epoch,
    pub(super) digest: Digest,
    pub(super) frames: u32,
}

impl<'a> Scan<'a> {
    pub(super) fn new(question: &Question<'a>, window: Window<'a>, entries: Entries<'a>) -> Scan<'a> {
        let header = question.header;
        let start = Prefix {
            end: HEADER_BLOCK_BYTES as u64,
            last_lsn: header.first_lsn.prev(),
            epoch: header.epoch,
            digest: header.previous_digest,
            groups: 0,
        };
        // Damage that was made to be expensive is told with less detail.
        let effort = window.length().saturating_mul(4).saturating_add(EFFORT_BYTES_MIN);
        Scan {
            window,
            incarnation: header.incarnation,
            until: question.last.or(question.footer.map(|footer| footer.last_lsn)).map(|last| last.min(LAST)),
            data_end: header.data_end(),
            reach: start,
            tables: Tables::new(),
            findings: Findings::new(question.name),
            entries,
            vouched: Lsn::ZERO,
            chain: question.knows_start.then_some(header.previous_digest),
            footer_end: question.footer.map(|footer| footer.end),
            unproven: vec![],
            has_gaps: false,
            effort,
        }
    }

    /// Whether the last record was reached.
    pub(super) fn is_done(&self) -> bool {
        self.until.is_some_and(|last| self.reach.last_lsn >= last)
    }

    /// Takes groups up to the first place that is none; says why, unless nothing was written there.
    pub(super) fn run(&mut self) -> Result<Option<GroupFault>> {
        while !self.is_done() {
            let Some(position) = self.window.next_group_at(self.reach.end)? else { return Ok(None) };
            match self.group(position)? {
                Ok(()) => {}
                // Zeros in the place of a header; zeros in the place of a frame are damage to its group.
                Err(GroupFault { damage: Damage::Blank, at_stake: None, .. }) => return Ok(None),
                Err(fault) => return Ok(Some(fault)),
            }
        }
        Ok(None)
    }

    /// Takes the group at `position`, if it is valid as a whole and follows the last one.
    pub(super) fn group(&mut self, position: u64) -> Result<std::result::Result<(), GroupFault>> {
        let length = self.window.length();
        let header = match self.header_at(position)? {
            Ok(header) if header.first_lsn == self.reach.last_lsn.next() => header,
            header => {
                let damage = header.err().unwrap_or(Damage::Sequence);
                let bytes = position..(position + GROUP_HEADER_BYTES as u64).min(length);
                return Ok(Err(GroupFault { damage, bytes, at_stake: None }));
            }
        };
        let in_group = |damage, bytes, first: Lsn| {
            let at_stake = LsnRange::new(first.clamp(header.first_lsn, header.last_lsn()), header.last_lsn());
            Ok(Err(GroupFault { damage, bytes, at_stake }))
        };
        // A group that the scan ends in need not be there as a whole.
        let is_last = self.until.is_some_and(|last| header.last_lsn() > last);
        if header.end() > length && !is_last {
            return in_group(Damage::Cut, position..length, header.first_lsn);
        }
        let tables = self.tables.moment();
        let entries = self.entries.moment();
        let moment = self.findings.moment();
        let mut walked = self.enter(&header);
        let mut outcome = self.walk(&header, &mut walked)?;
        let is_whole = walked.at == header.end();
        if outcome.is_ok() && is_whole {
            if walked.frames != header.frames || walked.next != header.last_lsn().next() {
                outcome = Err(Damage::Malformed);
            } else if walked.digest != header.digest {
                outcome = Err(Damage::Digest);
            }
        }
        match outcome {
            Ok(()) => self.take(&header, &walked),
            Err(damage) => {
                self.tables.back_to(tables);
                self.entries.back_to(entries);
                self.findings.back_to(moment);
                return match damage {
                    Damage::Digest => in_group(damage, position..header.end().min(length), header.first_lsn),
                    Damage::Malformed if is_whole => {
                        in_group(damage, position..header.end(), header.first_lsn)
                    }
                    _ => in_group(damage, walked.at..header.end(), walked.next),
                };
            }
        }
        Ok(Ok(()))
    }

    /// The header of a group at `position`.
    pub(super) fn header_at(&mut self, position: u64) -> Result<std::result::Result<GroupHeader, Damage>> {
        let place = GroupPlace { incarnation: self.incarnation, position };
        let bytes = self.window.fetch(position, GROUP_HEADER_BYTES)?;
        let found = bytes.len() as u64;
        let header = GroupHeader::decode_at(bytes, place);
        // Cut by a block that cannot be read, and not by the end.
        let is_bad = found < GROUP_HEADER_BYTES as u64 && position + found < self.window.length();
        Ok(if is_bad { Err(Damage::Checksum) } else { header })
    }

    /// Before the first frame of a group.
    pub(super) fn enter(&self, header: &GroupHeader) -> Walked {
        Walked {
            at: header.frames_start(),
            next: header.first_lsn,
            epoch: self.reach.epoch,
            digest: header.place.digest_seed(),
            frames: 0,
        }
    }

    /// Checks frames up to the group's end, or up to the last record; on damage, `walked` stays in its place.
    fn walk(&mut self, header: &GroupHeader, walked: &mut Walked) -> Result<std::result::Result<(), Damage>> {
        let stop = header.end();
        while walked.at < stop && self.until.is_none_or(|last| walked.next <= last) {
            let found = match self.frame(walked.at, stop)? {
                Ok(found) => found,
                Err(damage) => return Ok(Err(damage)),
            };
            if let Err(damage) = self.accept(header.place.position, walked, &found) {
                return Ok(Err(damage));
            }
            self.hurry(walked, stop)?;
        }
        Ok(Ok(()))
    }

    /// Walks on over frames of which nothing is to be noted, as far as they are held: most frames are such.
    #[inline]
    fn hurry(&mut self, walked: &mut Walked, stop: u64) -> Result<()> {
        let noted = self.tables.index().last().map_or(walked.at, |entry| entry.frame + INDEX_STRIDE_BYTES);
        let until = noted.min(self.entries.due()).min(stop);
        let last = self.until.unwrap_or(LAST);
        let room = stop.min(self.window.length()).saturating_sub(walked.at);
        let mut rest = clip(self.window.fetch(walked.at, 0)?, room);
        let Walked { mut at, mut next, epoch, mut digest, mut frames } = *walked;
        while at < until && next <= last {
            let Ok(frame) = Frame::parse(rest) else { break };
            let header = frame.header();
            let is_plain = header.lsn == next && header.epoch == epoch && header.kind != FrameKind::Gap;
            if !is_plain || frame.check().is_err() {
                break;
            }
            digest = digest.fold(u64::from(header.checksum));
            next = header.last_lsn().next();
            at += header.frame_bytes();
            frames += 1;
            rest = &rest[frame.stored().len()..];
        }
        *walked = Walked { at, next, epoch, digest, frames };
        Ok(())
    }

    /// Takes note of a frame that checks, if it is the one that has to follow.
    #[inline]
    pub(super) fn accept(
        &mut self,
        group: u64,
        walked: &mut Walked,
        found: &FrameHeader,
    ) -> std::result::Result<(), Damage> {
        if found.lsn != walked.next || found.epoch < walked.epoch {
            return Err(Damage::Sequence);
        }
        let begins = self.tables.epochs().last().is_none_or(|start| start.epoch != found.epoch);
        if begins && self.tables.epochs_left() == 0 {
            return Err(Damage::Malformed);
        }
        self.tables.note(found, group, walked.at);
        if self.entries.is_due(walked.at) {
            self.entries.visit(group, walked.at, found.lsn);
        }
        if found.kind == FrameKind::Gap {
            self.has_gaps = true;
            self.findings.gap(LsnRange { first: found.lsn, last: found.last_lsn() });
        }
        walked.epoch = found.epoch;
        walked.digest = walked.digest.fold(u64::from(found.checksum));
        walked.next = found.last_lsn().next();
        walked.at += found.frame_bytes();
        walked.frames += 1;
        Ok(())
    }

    /// Checks the frame at `at`, of which nothing lies past `stop`.
    #[inline]
    pub(super) fn frame(&mut self, at: u64, stop: u64) -> Result<Checked> {
        let length = self.window.length();
        let room = stop.min(length).saturating_sub(at);
        let need = room.min(FRAME_HEADER_BYTES as u64) as usize;
        let bytes = clip(self.window.fetch(at, need)?, room);
        match Frame::parse(bytes) {
            Ok(frame) => Ok(frame.check().map(|()| *frame.header())),
            Err(Damage::Cut) if (bytes.len() as u64) < room => self.frame_apart(at, room),
            Err(damage) => Ok(Err(damage)),
        }
    }

    /// Checks a frame that is not held as a whole.
    #[cold]
    fn frame_apart(&mut self, at: u64, room: u64) -> Result<Checked> {
        let bytes = clip(self.window.fetch(at, FRAME_HEADER_BYTES)?, room);
        let header = match FrameHeader::decode(bytes) {
            Ok(header) if header.frame_bytes() > room => return Ok(Err(Damage::Cut)),
            Ok(header) => header,
            // A block that cannot be read.
            Err(Damage::Cut) => return Ok(Err(Damage::Checksum)),
            Err(damage) => return Ok(Err(damage)),
        };
        if Window::holds(header.frame_bytes()) {
            let bytes = clip(self.window.fetch(at, header.frame_bytes() as usize)?, header.frame_bytes());
            return Ok(match Frame::parse(bytes) {
                Ok(frame) => frame.check().map(|()| header),
                Err(_) => Err(Damage::Checksum),
            });
        }
        let check = self.stream(FrameCheck::new(&header), at..at + header.frame_bytes())?;
        Ok(check.map_or(Err(Damage::Checksum), |check| check.finish().map(|()| header)))
    }

    /// Lets `check` take these bytes; `None` if some cannot be read.
    pub(super) fn stream(&mut self, mut check: FrameCheck, bytes: Range<u64>) -> Result<Option<FrameCheck>> {
        let mut at = bytes.start;
        while at < bytes.end {
            let piece = clip(self.window.fetch(at, 1)?, bytes.end - at);
            if piece.is_empty() {
                return Ok(None);
            }
            check.update(piece);
            at += piece.len() as u64;
        }
        Ok(Some(check))
    }

    fn take(&mut self, header: &GroupHeader, walked: &Walked) {
        if let Some(lsns) = LsnRange::new(header.first_lsn, walked.next.prev()) {
            let group = header.place.position;
            self.findings.run(Run { bytes: group..walked.at, group, lsns });
        }
        self.arrive(walked, Some(walked.digest));
        self.vouched = self.vouched.max(header.durable_through);
    }

    /// Moves on behind a group.
    pub(super) fn arrive(&mut self, walked: &Walked, digest: Option<Digest>) {
        let reach = &mut self.reach;
        reach.end = walked.at;
        reach.last_lsn = walked.next.prev();
        reach.epoch = walked.epoch;
        reach.groups += 1;
        self.chain = self.chain.zip(digest).map(|(chain, digest)| chain.fold(digest.get()));
        reach.digest = self.chain.unwrap_or(reach.digest);
    }
}

/// No more of `bytes` than `room`.
#[inline]
pub(super) fn clip(bytes: &[u8], room: u64) -> &[u8] {
    &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))]
}
