//! Going on past damage.
//!
//! A group whose header checks says where it ends and with which record, so damage inside it costs what lies in it
//! at most: see `frame`. Where the header itself is damaged, it is corrected if one flipped bit explains that; else
//! the examination goes on with the next thing that cannot be mistaken: an entry of an index that checks, or the
//! header of a later group in its own place. Nothing that merely looks like a frame is taken for one.

use std::ops::Range;

use super::findings::Loss;
use super::remains::headers_in;
use super::scan::{Scan, Walked};
use super::stretch::{Cause, Correction, Run, StretchKind};
use crate::error::Result;
use crate::format::{
    BLOCK_BYTES, Damage, Digest, FrameHeader, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, IndexEntry,
    block_up, correct_group, flip_among_zeros,
};
use crate::types::{Lsn, LsnRange};

const HEADER: u64 = GROUP_HEADER_BYTES as u64;

/// Where an examination can go on.
enum Landmark {
    Group(GroupHeader),
    Frame(IndexEntry),
}

impl Scan<'_> {
    /// Goes on up to the last record; where that is not known, up to the first damage after `limit`: records
    /// up to there were acknowledged.
    pub(super) fn go_on(&mut self, limit: Lsn) -> Result<()> {
        while !self.is_done() {
            let next = self.reach.last_lsn.next();
            match self.window.next_group_at(self.reach.end)? {
                Some(position) => match self.group(position)? {
                    Ok(()) => {}
                    Err(_) if next > limit => return Ok(()),
                    Err(fault) => self.pass(position, fault.damage, limit)?,
                },
                None if next > limit => return Ok(()),
                None => self.lose_rest(self.reach.end, limit, Cause::Blank)?,
            }
        }
        Ok(())
    }

    /// Gets past the place of a group that is no valid one.
    fn pass(&mut self, position: u64, damage: Damage, limit: Lsn) -> Result<()> {
        let next = self.reach.last_lsn.next();
        let data_end = self.data_end;
        let follows = |header: &GroupHeader| header.first_lsn == next && header.end() <= data_end;
        match self.header_at(position)? {
            Ok(header) if follows(&header) => return self.walk_damaged(&header, false),
            _ => {}
        }
        if self.pass_padding(position, next)? || self.pass_flip(position, next)? {
            return Ok(());
        }
        let cause = match damage {
            Damage::Blank => Cause::Blank,
            Damage::Cut => Cause::Cut,
            _ => Cause::GroupHeader,
        };
        if self.pass_header(position, next, limit)? {
            return Ok(());
        }
        match self.landmark(position, next, limit)? {
            // Nothing between here and there was ever acknowledged.
            Some(found) if found.first() > next && found.first().prev() > limit => {
                let bytes = self.reach.end..found.position();
                self.lose(bytes, LsnRange::new(next, limit), cause)?;
                self.reach.last_lsn = limit;
                self.reach.end = found.position();
                self.chain = None;
                Ok(())
            }
            Some(found) => {
                // Zeros before it may be padding, or what was written over frames: nobody knows any more.
                let start = self.reach.end;
                self.lose(start..found.position(), LsnRange::new(next, found.first().prev()), cause)?;
                self.reach.last_lsn = found.first().prev();
                self.reach.end = found.position();
                self.chain = None;
                self.entries.skip_to(found.position());
                match found {
                    Landmark::Group(_) => Ok(()),
                    Landmark::Frame(entry) => self.walk_headless(entry),
                }
            }
            None => self.lose_rest(position, limit, cause),
        }
    }

    /// Whether only the zeros before a block were damaged, and the group that follows begins the block.
    fn pass_padding(&mut self, position: u64, next: Lsn) -> Result<bool> {
        let boundary = block_up(position);
        if boundary == position {
            return Ok(false);
        }
        match self.header_at(boundary)? {
            Ok(header) if header.first_lsn == next => {}
            _ => return Ok(false),
        }
        let padding = (boundary - position) as usize;
        let bytes = self.window.fetch(position, padding)?;
        let flip = flip_among_zeros(&bytes[..bytes.len().min(padding)]);
        let correction = flip.map(|flip| Correction { offset: position + flip.at, bit: flip.bit });
        self.note(position..boundary, None, Cause::GroupHeader, correction);
        self.reach.end = boundary;
        Ok(true)
    }

    /// Whether one flipped bit explains what is wrong with the header at `position`.
    fn pass_flip(&mut self, position: u64, next: Lsn) -> Result<bool> {
        let place = GroupPlace { incarnation: self.incarnation, position };
        let bytes = self.window.fetch(position, GROUP_HEADER_BYTES)?;
        let Some((flip, header)) = correct_group(bytes, place) else { return Ok(false) };
        if header.first_lsn != next || header.end() > self.data_end {
            return Ok(false);
        }
        let correction = Correction { offset: position + flip.at, bit: flip.bit };
        self.note(position..position + HEADER, None, Cause::GroupHeader, Some(correction));
        self.walk_damaged(&header, true)?;
        Ok(true)
    }

    /// Whether frames that check lie behind the header at `position`, up to the next group's: then only the
    /// header is damaged. Its digest is gone, so the frames count only if that of the whole segment vouches for them.
    fn pass_header(&mut self, position: u64, next: Lsn, limit: Lsn) -> Result<bool> {
        let stop = self.data_end.min(self.window.length());
        if self.findings.is_full() || !self.spend(0) {
            return Ok(false);
        }
        let tables = self.tables.moment();
        let entries = self.entries.moment();
        let moment = self.findings.moment();
        let mut walked = Walked {
            at: position + HEADER,
            next,
            epoch: self.reach.epoch,
            digest: GroupPlace { incarnation: self.incarnation, position }.digest_seed(),
            frames: 0,
        };
        while walked.at < stop && self.until.is_none_or(|last| walked.next <= last) {
            let Ok(found) = self.frame(walked.at, stop)? else { break };
            if self.accept(position, &mut walked, &found).is_err() {
                break;
            }
        }
        self.spend(walked.at - position);
        let last = walked.next.prev();
        let is_end = match self.until {
            Some(until) => last == until && self.footer_end.is_none_or(|end| end == walked.at),
            None => last == limit,
        };
        let is_followed = walked.frames > 0
            && match self.window.next_group_at(walked.at)? {
                Some(place) => self.header_at(place)?.is_ok_and(|header| header.first_lsn == walked.next),
                None => false,
            };
        if walked.frames == 0 || !(is_end || is_followed) {
            self.tables.back_to(tables);
            self.entries.back_to(entries);
            self.findings.back_to(moment);
            return Ok(false);
        }
        let lsns = LsnRange::new(next, last);
        self.findings.back_to(moment);
        self.note(position..position + HEADER, lsns, Cause::GroupHeader, None);
        if let Some(lsns) = lsns {
            let bytes = position + HEADER..walked.at;
            let run = Run { bytes, group: position, lsns };
            self.unproven.push((self.findings.stretches.len() - 1, run));
        }
        let digest = walked.digest;
        self.arrive(&walked, Some(digest));
        Ok(true)
    }

    /// Walks frames from one that the index points to, in a group whose header is lost.
    fn walk_headless(&mut self, entry: IndexEntry) -> Result<()> {
        let stop = self.data_end.min(self.window.length());
        let mut walked = Walked {
            at: entry.frame,
            next: entry.lsn,
            epoch: self.reach.epoch,
            digest: Digest::ZERO,
            frames: 0,
        };
        while walked.at < stop && self.until.is_none_or(|last| walked.next <= last) {
            let Ok(found) = self.frame(walked.at, stop)? else { break };
            if self.accept(entry.group, &mut walked, &found).is_err() {
                break;
            }
        }
        if let Some(lsns) = LsnRange::new(entry.lsn, walked.next.prev()) {
            self.findings.run(Run { bytes: entry.frame..walked.at, group: entry.group, lsns });
            self.findings.end_run();
            self.arrive(&walked, None);
        } else {
            // The very frame that the index points to is damaged: the next entry, or group, is looked for.
            self.reach.end = entry.frame;
        }
        Ok(())
    }

    /// The next place where the examination can go on with a record after those before `next`.
    fn landmark(&mut self, position: u64, next: Lsn, limit: Lsn) -> Result<Option<Landmark>> {
        let mut entry = self.entries.after(position, next)?.filter(|entry| self.is_wanted(entry.lsn));
        // What it points to may be damaged as well.
        while let Some(damaged) = entry
            && !self.is_there(&damaged)?
        {
            let later = self.entries.after(damaged.frame, next)?;
            entry = later.filter(|entry| self.is_wanted(entry.lsn));
        }
        let bound = entry.map_or(self.window.length(), |entry| entry.group + 1);
        let group = self.search(position..bound.max(position), next, limit)?;
        Ok(group.map(Landmark::Group).or(entry.map(Landmark::Frame)))
    }

    /// Whether the frame is there that the index points to.
    fn is_there(&mut self, entry: &IndexEntry) -> Result<bool> {
        let stop = self.data_end.min(self.window.length());
        let found = self.frame(entry.frame, stop)?;
        let is_next = |found: FrameHeader| found.lsn == entry.lsn && found.epoch >= self.reach.epoch;
        Ok(found.is_ok_and(is_next))
    }

    /// The first header of a group after `next` that begins in the range.
    fn search(&mut self, range: Range<u64>, next: Lsn, limit: Lsn) -> Result<Option<GroupHeader>> {
        let mut at = range.start;
        while let Some(set) = self.window.first_set(at..range.end)? {
            let mut found = vec![];
            headers_in(&mut self.window, self.incarnation, set.clone(), |header, _| {
                found.push(header);
                true
            })?;
            for header in found {
                let is_later = header.first_lsn > next && self.is_wanted(header.first_lsn);
                if is_later && header.end() <= self.data_end && self.is_anchored(&header, limit)? {
                    return Ok(Some(header));
                }
            }
            at = set.end;
        }
        Ok(None)
    }

    /// Whether something else says that a group is what its header says: one in the payload of a group whose header
    /// is lost is none, even if somebody has put it there who knows this life of the file.
    fn is_anchored(&mut self, header: &GroupHeader, limit: Lsn) -> Result<bool> {
        let position = header.place.position;
        if let Some(entry) = self.entries.before(header.first_lsn)? {
            if entry.group == position {
                return Ok(true);
            }
            if entry.lsn == header.first_lsn || entry.frame > position {
                return Ok(false);
            }
        }
        let (last, end) = (header.last_lsn(), header.end());
        if last >= self.until.unwrap_or(limit) {
            return Ok(true);
        }
        let place = match self.spend(BLOCK_BYTES as u64) {
            true => self.window.next_group_at(end)?,
            false => return Ok(false),
        };
        let Some(position) = place else { return Ok(true) };
        match self.header_at(position)? {
            Ok(follows) => Ok(follows.first_lsn == last.next()),
            // Where nothing follows at all, the rest was never written, or is gone as if it had not been.
            Err(Damage::Blank) => self.is_blank_from(position),
            Err(_) => {
                let place = GroupPlace { incarnation: self.incarnation, position };
                let bytes = self.window.fetch(position, GROUP_HEADER_BYTES)?;
                Ok(correct_group(bytes, place).is_some_and(|(_, found)| found.first_lsn == last.next()))
            }
        }
    }

    fn is_blank_from(&mut self, position: u64) -> Result<bool> {
        let length = self.window.length();
        Ok(self.spend(length - position) && self.window.all_zero(position..length)?)
    }

    fn is_wanted(&self, lsn: Lsn) -> bool {
        self.until.is_none_or(|last| lsn <= last)
    }

    /// Gives up the records up to `limit`: nothing is left to go on with.
    fn lose_rest(&mut self, position: u64, limit: Lsn, cause: Cause) -> Result<()> {
        let next = self.reach.last_lsn.next();
        let data_end = self.footer_end.unwrap_or(self.data_end);
        let length = self.window.length();
        let is_cut = length < data_end && (cause == Cause::Cut || self.window.all_zero(position..length)?);
        let is_known = is_cut || self.footer_end.is_some();
        let end = if is_known { data_end } else { self.dirty_end(position)?.unwrap_or(data_end) };
        let cause = if is_cut { Cause::Cut } else { cause };
        let start = self.reach.end;
        let end = end.max(start);
        self.lose(start..end, LsnRange::new(next, limit), cause)?;
        self.reach.last_lsn = limit;
        self.reach.end = end;
        self.chain = None;
        self.entries.skip_to(end);
        Ok(())
    }

    /// Where the last bytes end that are not zeros.
    fn dirty_end(&mut self, from: u64) -> Result<Option<u64>> {
        let (mut at, mut end) = (from, None);
        while let Some(set) = self.window.first_set(at..self.window.length())? {
            end = Some(set.end);
            at = set.end;
        }
        Ok(end)
    }

    /// Takes note of records whose place is known, or of bytes without records; says of the bytes what they are.
    pub(super) fn lose(&mut self, bytes: Range<u64>, lsns: Option<LsnRange>, cause: Cause) -> Result<()> {
        let mut kind = StretchKind::Rot;
        let mut cause = cause;
        if cause == Cause::Cut {
            kind = StretchKind::Hole;
        } else if self.window.all_zero(bytes.clone())? {
            (kind, cause) = (StretchKind::Hole, Cause::Blank);
        } else if self.window.is_unreadable(&bytes) {
            cause = Cause::Unreadable;
        } else if cause == Cause::Blank {
            cause = Cause::GroupHeader;
        }
        let is_acknowledged = lsns.is_some();
        let kind = if lsns.is_none() { StretchKind::Rot } else { kind };
        self.findings.stretch(Loss { kind, bytes, lsns, is_acknowledged, cause, correction: None });
        Ok(())
    }

    /// Takes note of damage that is understood.
    pub(super) fn note(
        &mut self,
        bytes: Range<u64>,
        lsns: Option<LsnRange>,
        cause: Cause,
        correction: Option<Correction>,
    ) {
        let cause = if self.window.is_unreadable(&bytes) { Cause::Unreadable } else { cause };
        let is_acknowledged = lsns.is_some();
        let loss = Loss { kind: StretchKind::Rot, bytes, lsns, is_acknowledged, cause, correction };
        self.findings.stretch(loss);
    }
}

impl Landmark {
    fn first(&self) -> Lsn {
        match self {
            Landmark::Group(header) => header.first_lsn,
            Landmark::Frame(entry) => entry.lsn,
        }
    }

    fn position(&self) -> u64 {
        match self {
            Landmark::Group(header) => header.place.position,
            Landmark::Frame(entry) => entry.frame,
        }
    }
}
