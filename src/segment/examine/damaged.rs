//! Walking a group that is damaged, but for its header.
//!
//! The header says where the group ends, with which record, and what the checksums of its frames come to. A frame
//! that does not check costs its own records if what it says of its length is confirmed by what follows; that the
//! others are the frames that were written is confirmed by the group's digest wherever it can be.

use std::ops::Range;

use super::findings::Loss;
use super::scan::{Scan, Walked};
use super::stretch::{Cause, Correction, Run, StretchKind};
use super::window::Window;
use crate::error::Result;
use crate::format::{
    Digest, FRAME_HEADER_BYTES, FrameCheck, FrameHeader, GroupHeader, correct_frame, frame_bytes, frame_flip,
    lengths_near, stated_checksum, stated_length,
};
use crate::types::{Lsn, LsnRange};

const HEADER: usize = FRAME_HEADER_BYTES;
/// Frames that are larger are not corrected: of noise in so many bytes, one flipped bit in some hundred cases
/// seems to explain what is something else.
const CORRECTED_BYTES_MAX: u64 = 1 << 20;
/// Checksums that are remembered after a damaged frame.
const SUMS_MAX: usize = 1 << 14;

/// A frame that does not check, and of which it is known where it ends.
struct Hurt {
    end: u64,
    last: Lsn,
    /// Its checksum as it was written, as far as that can be told.
    sum: u32,
    flip: Option<Correction>,
}

/// What the checksums of the frames say.
struct Tally {
    /// Before the first frame that is damaged.
    before: Digest,
    /// The checksum of that one, and those after it.
    sums: Vec<u32>,
    damaged: u32,
    /// Whether some frame is missing, or there are too many.
    is_unknown: bool,
}

impl Scan<'_> {
    /// Walks the group with this header, the next one, whose frames are not all as they were written, or whose header
    /// is not.
    pub(super) fn walk_damaged(&mut self, header: &GroupHeader, is_corrected: bool) -> Result<()> {
        let tables = self.tables.moment();
        let entries = self.entries.moment();
        let moment = self.findings.moment();
        let mut walked = self.enter(header);
        let mut tally = Tally { before: walked.digest, sums: vec![], damaged: 0, is_unknown: false };
        let start = if is_corrected { walked.at } else { header.place.position };
        let mut run = (start, header.first_lsn);
        let last = self.until.map_or(header.last_lsn(), |until| until.min(header.last_lsn()));
        let is_cut_off = last < header.last_lsn();
        while walked.at < header.end() && (walked.next <= last || !is_cut_off) {
            let found = self.frame(walked.at, header.end())?;
            if let Ok(found) = found
                && found.last_lsn() <= header.last_lsn()
                && self.accept(header.place.position, &mut walked, &found).is_ok()
            {
                tally.take(found.checksum, walked.digest);
                continue;
            }
            self.end_run(header, run, &walked);
            self.pass_frame(header, &mut walked, &mut tally)?;
            run = (walked.at, walked.next);
        }
        self.end_run(header, run, &walked);
        if is_corrected {
            self.findings.end_run();
        }
        let is_whole = !is_cut_off || (walked.at == header.end() && !tally.is_unknown);
        if is_whole && !tally.confirms(header, &walked) {
            self.tables.back_to(tables);
            self.entries.back_to(entries);
            self.findings.back_to(moment);
            let lsns = LsnRange::new(header.first_lsn, last);
            self.note(header.place.position..header.end(), lsns, Cause::Digest, None);
            (walked.at, walked.next) = (header.end(), last.next());
            self.entries.skip_to(header.end());
        }
        let digest = if is_whole { Some(header.digest) } else { tally.digest() };
        self.arrive(&walked, digest);
        self.vouched = self.vouched.max(header.durable_through);
        Ok(())
    }

    fn end_run(&mut self, header: &GroupHeader, (start, first): (u64, Lsn), walked: &Walked) {
        if let Some(lsns) = LsnRange::new(first, walked.next.prev()) {
            self.findings.run(Run { bytes: start..walked.at, group: header.place.position, lsns });
        }
    }

    /// Gets past a frame that does not check, or past as much of the group as it takes.
    fn pass_frame(&mut self, header: &GroupHeader, walked: &mut Walked, tally: &mut Tally) -> Result<()> {
        let (at, next) = (walked.at, walked.next);
        if let Some(hurt) = self.resolve(header, walked)? {
            let bytes = at..hurt.end;
            let cause = if self.window.is_unreadable(&bytes) { Cause::Unreadable } else { Cause::Frame };
            self.give_up(bytes, (next, hurt.last), cause, hurt.flip);
            (walked.at, walked.next) = (hurt.end, hurt.last.next());
            walked.frames += 1;
            walked.digest = walked.digest.fold(u64::from(hurt.sum));
            tally.miss(hurt.sum);
        } else {
            let group = header.place.position;
            let inside =
                |entry: &crate::format::IndexEntry| entry.group == group && entry.frame < header.end();
            let entry = self.entries.after(at, next)?.filter(inside);
            let entry = entry.filter(|entry| self.until.is_none_or(|until| entry.lsn <= until));
            let (end, last) = match entry {
                Some(entry) => (entry.frame, entry.lsn.prev()),
                None => self.end_of(header, at),
            };
            let is_cut = end > self.window.length();
            let is_bad = self.window.is_unreadable(&(at..end));
            let cause = match (is_cut, is_bad) {
                (true, _) => Cause::Cut,
                (_, true) => Cause::Unreadable,
                _ if self.window.all_zero(at..end)? => Cause::Blank,
                _ => Cause::Frame,
            };
            self.give_up(at..end, (next, last), cause, None);
            (walked.at, walked.next) = (end, last.next());
            tally.is_unknown = true;
        }
        self.entries.skip_to(walked.at);
        Ok(())
    }

    /// Where a group ends, or the part of it that counts, and with which record.
    fn end_of(&self, header: &GroupHeader, at: u64) -> (u64, Lsn) {
        match (self.until, self.footer_end) {
            (Some(until), Some(end)) if header.last_lsn() > until && end > at => {
                (end.min(header.end()), until)
            }
            (Some(until), _) => (header.end(), header.last_lsn().min(until)),
            (None, _) => (header.end(), header.last_lsn()),
        }
    }

    fn give_up(
        &mut self,
        bytes: Range<u64>,
        (first, last): (Lsn, Lsn),
        cause: Cause,
        correction: Option<Correction>,
    ) {
        let kind = if cause == Cause::Cut { StretchKind::Hole } else { StretchKind::Rot };
        let lsns = LsnRange::new(first, last);
        let is_acknowledged = lsns.is_some();
        self.findings.stretch(Loss { kind, bytes, lsns, is_acknowledged, cause, correction });
    }

    /// Where the damaged frame at `walked` ends, if that can be told.
    fn resolve(&mut self, header: &GroupHeader, walked: &Walked) -> Result<Option<Hurt>> {
        let at = walked.at;
        let bytes = self.window.fetch(at, HEADER)?;
        let Some(raw) = bytes.first_chunk::<HEADER>().copied() else { return Ok(None) };
        let (Some(length), Some(sum)) = (stated_length(&raw), stated_checksum(&raw)) else { return Ok(None) };
        let is_next = |found: &FrameHeader| {
            found.lsn == walked.next && found.epoch >= walked.epoch && found.last_lsn() <= header.last_lsn()
        };
        let own = FrameHeader::decode(&raw).ok().filter(is_next);
        let end = at + frame_bytes(u64::from(length));
        if end <= header.end() && end <= self.window.length() {
            let flip = self.correct(at..end, length)?;
            let fixed = flip.and_then(|flip| {
                let mut fixed = raw;
                if let Some(byte) = fixed.get_mut((flip.offset - at) as usize) {
                    *byte ^= 1 << flip.bit;
                }
                FrameHeader::decode(&fixed).ok().filter(is_next)
            });
            if let Some(fixed) = fixed
                && let Some(last) = self.follow(header, end, (walked, Some(&fixed)))?
            {
                return Ok(Some(Hurt { end, last, sum: fixed.checksum, flip }));
            }
        }
        if let Some(hurt) = self.resolve_length(header, walked, &raw)? {
            return Ok(Some(hurt));
        }
        if end <= header.end()
            && end <= self.window.length()
            && let Some(last) = self.follow(header, end, (walked, own.as_ref()))?
        {
            return Ok(Some(Hurt { end, last, sum, flip: None }));
        }
        // The header says one thing of its records, and the frame that follows another: that one checks.
        if own.is_some() && end < header.end() && end < self.window.length() {
            let follows = self.follow(header, end, (walked, None))?;
            return Ok(follows.map(|last| Hurt { end, last, sum, flip: None }));
        }
        Ok(None)
    }

    /// The same, if one bit of its length was flipped.
    fn resolve_length(
        &mut self,
        header: &GroupHeader,
        walked: &Walked,
        raw: &[u8; HEADER],
    ) -> Result<Option<Hurt>> {
        let Some(length) = stated_length(raw) else { return Ok(None) };
        let mut found = None;
        for (near, flip) in lengths_near(length) {
            let end = walked.at + frame_bytes(u64::from(near));
            let mut fixed = *raw;
            flip.apply(&mut fixed);
            let is_next = |found: &FrameHeader| found.lsn == walked.next && found.epoch >= walked.epoch;
            let Some(own) = FrameHeader::decode(&fixed).ok().filter(is_next) else { continue };
            let fits = end <= header.end() && end <= self.window.length();
            if !fits || self.findings.is_full() {
                continue;
            }
            let Some(last) = self.follow(header, end, (walked, Some(&own)))? else { continue };
            if !self.spend(end - walked.at) {
                continue;
            }
            let mut check = FrameCheck::new(&own);
            check.update(&fixed);
            let check = self.stream(check, walked.at + HEADER as u64..end)?;
            if check.is_none_or(|check| check.finish().is_err()) {
                continue;
            }
            let flip = Some(Correction { offset: walked.at + flip.at, bit: flip.bit });
            if found.replace(Hurt { end, last, sum: own.checksum, flip }).is_some() {
                return Ok(None);
            }
        }
        Ok(found)
    }

    /// With which record a damaged frame ends that would end at `end`, if what stands there says so: the end of the
    /// group, or the next frame. `own` is its header, if that can be believed.
    fn follow(
        &mut self,
        header: &GroupHeader,
        end: u64,
        (walked, own): (&Walked, Option<&FrameHeader>),
    ) -> Result<Option<Lsn>> {
        let fits = |last: Lsn| last >= walked.next && own.is_none_or(|own| own.last_lsn() == last);
        if let Some(until) = self.until
            && header.last_lsn() > until
            && (self.footer_end == Some(end) || own.is_some_and(|own| own.last_lsn() == until))
        {
            return Ok(Some(until).filter(|until| fits(*until)));
        }
        if end == header.end() {
            return Ok(Some(header.last_lsn()).filter(|last| fits(*last)));
        }
        let bytes = self.window.fetch(end, HEADER)?;
        let Ok(next) = FrameHeader::decode(bytes) else { return Ok(None) };
        let is_later = next.lsn > walked.next && next.epoch >= walked.epoch;
        if !is_later || next.last_lsn() > header.last_lsn() || !fits(next.lsn.prev()) {
            return Ok(None);
        }
        // Two headers that agree say enough; one has to check.
        let agrees = own.is_some() || self.frame(end, header.end())?.is_ok();
        Ok(agrees.then(|| next.lsn.prev()))
    }

    /// The flipped bit that explains why the frame does not check, if its length is right.
    fn correct(&mut self, bytes: Range<u64>, length: u32) -> Result<Option<Correction>> {
        let size = bytes.end - bytes.start;
        if size > CORRECTED_BYTES_MAX || self.findings.is_full() || !self.spend(size) {
            return Ok(None);
        }
        let flip = if Window::holds(size) {
            let stored = self.window.fetch(bytes.start, size as usize)?;
            stored.get(..size as usize).and_then(correct_frame)
        } else {
            let raw = self.window.fetch(bytes.start, HEADER)?;
            let Some(sum) = stated_checksum(raw) else { return Ok(None) };
            let check = self.stream(FrameCheck::of_bytes(sum, length), bytes.clone())?;
            let syndrome = check.filter(FrameCheck::is_padded).map_or(0, |check| check.syndrome());
            frame_flip(syndrome, HEADER as u64 + u64::from(length))
        };
        let in_length = |at: u64| (4..8).contains(&at);
        let flip = flip.filter(|flip| !in_length(flip.at));
        Ok(flip.map(|flip| Correction { offset: bytes.start + flip.at, bit: flip.bit }))
    }

    /// Counts bytes that are read once more; whether that is still worth it. Damage that was made to be expensive is
    /// only told with less detail.
    pub(super) fn spend(&mut self, bytes: u64) -> bool {
        self.effort = self.effort.saturating_sub(bytes);
        self.effort > 0
    }
}

impl Tally {
    /// Takes note of a frame that checks.
    fn take(&mut self, sum: u32, digest: Digest) {
        match self.damaged {
            0 => self.before = digest,
            _ => self.push(sum),
        }
    }

    /// Takes note of one that does not.
    fn miss(&mut self, sum: u32) {
        self.damaged += 1;
        self.push(sum);
    }

    fn push(&mut self, sum: u32) {
        if self.sums.len() < SUMS_MAX { self.sums.push(sum) } else { self.is_unknown = true }
    }

    /// The digest over all frames as they were written, as far as that is known.
    fn digest(&self) -> Option<Digest> {
        let all = self.sums.iter().fold(self.before, |digest, sum| digest.fold(u64::from(*sum)));
        (!self.is_unknown).then_some(all)
    }

    /// Whether nothing says that the frames are others than those of the group.
    fn confirms(&self, header: &GroupHeader, walked: &Walked) -> bool {
        if walked.next != header.last_lsn().next() {
            return false;
        }
        if self.is_unknown {
            return true;
        }
        if walked.frames != header.frames {
            return false;
        }
        let later = || self.sums[1..].iter().rev();
        match self.damaged {
            0 => self.before == header.digest,
            // Whatever its checksum was, it has 32 bits.
            1 => {
                let after = later().fold(header.digest, |digest, sum| digest.before(u64::from(*sum)));
                u32::try_from(self.before.sum_to(after)).is_ok()
            }
            _ => true,
        }
    }
}
