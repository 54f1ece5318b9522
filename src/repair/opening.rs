//! What the engine would say of the log: its own judgement, made once more from what was found here.
//!
//! The engine looks at fewer bytes than this room does, and stops at the first thing that is wrong. This goes
//! the same way in the same order, so that a report and an attempt to open the log never disagree; that it is
//! written twice is a check of either on the other.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chain::is_as_parked;
use super::report::Opening;
use super::survey::{Found, Head, Named, Survey};
use crate::error::{Error, Result};
use crate::format::{
    CleanTail, Digest, Footer, FooterKind, HEADER_BLOCK_BYTES, SegmentHeader, footer_bytes_for,
};
use crate::segment::segment_name;
use crate::types::{Epoch, LogId, Lsn, SegmentId};

/// What a reading of a segment without a footer says, as far as an open goes.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// The first loss of acknowledged records.
    pub(super) loss: Option<Error>,
    /// The last record before that, or of all.
    pub(super) last_lsn: Lsn,
    /// The digest at the end, if it is known.
    pub(super) digest: Option<Digest>,
    /// The newest record that the groups vouch for.
    pub(super) vouched: Lsn,
}

/// Reads segments the way an open does.
pub(super) trait Scans {
    /// Reads up to `last`, or to the end of what counts if every record up to `durable` was acknowledged.
    fn scan(&self, found: &Found, header: &SegmentHeader, upto: Upto) -> Result<Scan>;

    /// Whether the tables of the footer check.
    fn has_tables(&self, found: &Found, header: &SegmentHeader) -> Result<bool>;
}

/// How far a segment is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Upto {
    Last(Lsn),
    Durable(Lsn),
}

/// Says what an open for writing would end with.
pub(super) fn opening(survey: &Survey, scans: &dyn Scans) -> Opening {
    match judge(survey, scans) {
        Ok(()) => Opening::Opens,
        Err(error) => Opening::Refuses(error),
    }
}

fn judge(survey: &Survey, scans: &dyn Scans) -> Result<()> {
    if let Some(journal) = &survey.unfinished_repair {
        return Err(Error::RepairUnfinished { journal: journal.as_str().into() });
    }
    if let Some(refusal) = &survey.slots.refusal {
        return Err(refusal.clone());
    }
    let superblock = survey.slots.chosen().ok_or(Error::SuperblockDamaged)?;
    for found in &survey.files {
        if let Some(error) = &found.unreadable {
            return Err(error.clone());
        }
        if let Some(other) = found.other_id(superblock.log_id) {
            let (file, expected) = (found.name.clone(), superblock.log_id);
            return Err(Error::ForeignFile { file, expected, found: other });
        }
    }
    let (first_lsn, durable) = (superblock.first_lsn, survey.slots.durable());
    let log_id = superblock.log_id;
    let mut judge = Judge {
        scans,
        log_id,
        first_lsn,
        durable,
        segments: VecDeque::new(),
        spares: vec![],
        headless: None,
    };
    judge.sort(&survey.files)?;
    judge.follow(survey.slots.clean_tail())
}

struct Judge<'a> {
    scans: &'a dyn Scans,
    log_id: LogId,
    first_lsn: Lsn,
    durable: Lsn,
    segments: VecDeque<&'a Found>,
    spares: Vec<&'a Found>,
    /// The last file named as a segment, if it has no header.
    headless: Option<&'a Found>,
}

impl<'a> Judge<'a> {
    /// Segments and spares in their order, without what lies below the trim point.
    fn sort(&mut self, files: &'a [Arc<Found>]) -> Result<()> {
        for found in files {
            match (found.named, found.header()) {
                (Named::Segment(first), Some(header)) if header.first_lsn != first => {
                    return Err(misplaced(&found.name, first, header.first_lsn));
                }
                (Named::Segment(_), _) => self.segments.push_back(found),
                (Named::Spare(_), _) => self.spares.push(found),
            }
        }
        self.spares.sort_by_key(|found| first_of(found));
        let start = self.segments.iter().filter(|found| first_of(found) <= self.first_lsn).count();
        drop(self.segments.drain(..start.saturating_sub(1)));
        Ok(())
    }

    /// Goes from segment to segment, and judges the newest one.
    fn follow(&mut self, clean_tail: Option<CleanTail>) -> Result<()> {
        let mut last = None;
        let mut current = self.begin()?;
        while let Some(found) = current {
            let (header, footer) = parts(found);
            current = self.after(header, footer, found)?;
            match current.and_then(Found::header) {
                Some(next) => self.complete(found, (header, footer), next)?,
                None => last = Some(found),
            }
        }
        self.before_spares(last);
        self.before_headless()?;
        let (end, is_clean) = self.newest(last, clean_tail)?;
        self.nothing_left(last, (end.next(), is_clean))
    }

    fn begin(&mut self) -> Result<Option<&'a Found>> {
        let first_lsn = self.first_lsn;
        if self.segments.front().is_some_and(|found| first_of(found) <= first_lsn) {
            return self.pop();
        }
        let begun = |found: &&Found| found.header().is_some_and(|header| header.first_lsn <= first_lsn);
        if let Some(index) = self.spares.iter().rposition(begun) {
            return Ok(Some(self.spares.remove(index)));
        }
        match self.segments.front() {
            None => Ok(None),
            Some(later) => Err(hole(first_lsn, first_lsn, first_of(later).prev())),
        }
    }

    fn pop(&mut self) -> Result<Option<&'a Found>> {
        let Some(found) = self.segments.pop_front() else { return Ok(None) };
        match (found.header(), self.segments.front()) {
            (Some(_), _) => Ok(Some(found)),
            (None, None) => {
                self.headless = Some(found);
                Ok(None)
            }
            (None, Some(next)) => Err(lost_header(found, first_of(found), first_of(next).prev())),
        }
    }

    fn after(
        &mut self,
        header: &SegmentHeader,
        footer: Option<&Footer>,
        current: &Found,
    ) -> Result<Option<&'a Found>> {
        let id = header.segment_id.next();
        let has_id = |found: &Found| found.header().is_some_and(|header| header.segment_id == id);
        if self.segments.front().is_some_and(|found| has_id(found)) {
            return self.pop();
        }
        let before = self.segments.front().map(|found| first_of(found));
        let follows = |found: &&Found| {
            let first = first_of(found);
            has_id(found)
                && first > header.first_lsn
                && before.is_none_or(|before| first < before)
                && footer.is_none_or(|footer| first == footer.last_lsn.next())
        };
        if let Some(index) = self.spares.iter().position(follows) {
            return Ok(Some(self.spares.remove(index)));
        }
        match self.segments.front().copied() {
            Some(later) if later.header().is_some() => self.gap((current, header, footer), later),
            _ => self.pop(),
        }
    }

    /// The refusal of a segment that is followed by one that is not the next.
    fn gap(
        &self,
        (current, header, footer): (&Found, &SegmentHeader, Option<&Footer>),
        later: &Found,
    ) -> Result<Option<&'a Found>> {
        let begins = first_of(later);
        let absent = match footer {
            Some(footer) => footer.last_lsn.next(),
            None if begins.prev() < header.first_lsn.prev() => header.first_lsn,
            None => {
                let scan = self.scans.scan(current, header, Upto::Last(begins.prev()))?;
                match scan.loss {
                    Some(loss) if !matches!(loss, Error::Hole { .. }) => return Err(loss),
                    _ => scan.last_lsn.next(),
                }
            }
        };
        if begins <= absent {
            return Err(misplaced(&later.name, begins, absent));
        }
        Err(hole(absent, absent.max(self.first_lsn), begins.prev()))
    }

    /// Whether the segment ends where `next` begins, as its footer says, or its groups do.
    fn complete(
        &self,
        found: &Found,
        (header, footer): (&SegmentHeader, Option<&Footer>),
        next: &SegmentHeader,
    ) -> Result<()> {
        let last = next.first_lsn.prev();
        let fits = |footer: &Footer| footer.last_lsn == last && footer.digest == next.previous_digest;
        if footer.is_some_and(fits) {
            return Ok(());
        }
        if last < header.first_lsn.prev() {
            return Err(misplaced(&segment_name(next.first_lsn), next.first_lsn, header.first_lsn));
        }
        let scan = self.scans.scan(found, header, Upto::Last(last))?;
        if let Some(loss) = scan.loss {
            return Err(loss);
        }
        let continues = scan.digest.is_none_or(|digest| digest == next.previous_digest);
        if scan.last_lsn != last || !continues {
            let bytes = HEADER_BLOCK_BYTES as u64..header.data_end();
            return Err(Error::Rot { file: found.name.clone(), bytes, first: header.first_lsn, last });
        }
        Ok(())
    }

    /// A segment that was begun in a spare, and is not the next one, vouches for those between.
    fn before_spares(&mut self, last: Option<&Found>) {
        let vouched = self.later_in_spares(last).map(|header| header.first_lsn.prev()).max();
        self.durable = self.durable.max(vouched.unwrap_or(Lsn::ZERO));
    }

    fn later_in_spares(&self, last: Option<&Found>) -> impl Iterator<Item = &'a SegmentHeader> {
        let newest = last.and_then(Found::header).map(|header| header.segment_id);
        let begun = self.spares.iter().filter_map(|spare| spare.header());
        begun.filter(move |header| newest.is_none_or(|newest| header.segment_id > newest))
    }

    fn before_headless(&mut self) -> Result<()> {
        let Some(headless) = self.headless else { return Ok(()) };
        let first = first_of(headless);
        let vouched = self.vouched_by(headless, first)?.max(self.durable);
        if vouched >= first {
            return Err(lost_header(headless, first, vouched));
        }
        self.durable = self.durable.max(first.prev());
        Ok(())
    }

    /// Where the newest segment ends, and whether a clean close left it like this.
    fn newest(&self, last: Option<&Found>, clean_tail: Option<CleanTail>) -> Result<(Lsn, bool)> {
        let Some(last) = last else {
            return self.nothing_after(self.first_lsn.prev()).map(|end| (end, false));
        };
        let header = parts(last).0;
        let footer = last.footer_of(header);
        match footer {
            Some(footer) if footer.kind == FooterKind::Sealed => {
                self.nothing_after(footer.last_lsn)?;
                let loss = match self.scans.has_tables(last, header)? {
                    true => None,
                    false => self.scans.scan(last, header, Upto::Last(footer.last_lsn))?.loss,
                };
                loss.map_or(Ok((footer.last_lsn, false)), Err)
            }
            Some(footer)
                if clean_tail.is_some_and(|tail| is_as_parked(footer, &tail))
                    && self.scans.has_tables(last, header)? =>
            {
                self.nothing_after(footer.last_lsn).map(|end| (end, true))
            }
            _ => {
                let scan = self.scans.scan(last, header, Upto::Durable(self.durable))?;
                scan.loss.map_or(Ok((scan.last_lsn, false)), Err)
            }
        }
    }

    /// Files without a header hold nothing that was acknowledged.
    fn nothing_left(&self, last: Option<&Found>, (next, is_clean): (Lsn, bool)) -> Result<()> {
        if let Some(headless) = self.headless {
            let first = first_of(headless);
            if first != next {
                let (first, last) = (first.min(next), first.max(next));
                return Err(Error::Hole { file: headless.name.clone(), first, last });
            }
        }
        if let Some(header) = self.later_in_spares(last).next() {
            return Err(misplaced(&segment_name(header.first_lsn), header.first_lsn, next));
        }
        if is_clean {
            return Ok(());
        }
        for spare in &self.spares {
            let vouched = self.vouched_by(spare, next)?;
            if vouched >= next {
                return Err(lost_header(spare, next, vouched));
            }
        }
        Ok(())
    }

    fn nothing_after(&self, last: Lsn) -> Result<Lsn> {
        let next = last.next();
        if self.durable < next { Ok(last) } else { Err(hole(next, next, self.durable)) }
    }

    /// Up to where a file without a header says that records were acknowledged, if it begins with `first`.
    fn vouched_by(&self, found: &Found, first: Lsn) -> Result<Lsn> {
        let by_footer = found.vouched_without_start(self.log_id, first);
        match made_up(found, first) {
            Some(header) => {
                let scan = self.scans.scan(found, &header, Upto::Durable(Lsn::ZERO))?;
                Ok(scan.vouched.max(by_footer))
            }
            None => Ok(by_footer),
        }
    }
}

/// The header of a file without one, if its first group begins with `first`: enough to read the groups with.
pub(super) fn made_up(found: &Found, first: Lsn) -> Option<SegmentHeader> {
    let Head::Bad(_) = found.head else { return None };
    let group = found.first.filter(|group| group.header.first_lsn == first)?;
    // Where the data ends nobody knows, and the file may have been cut.
    let footer_bytes = footer_bytes_for(found.bytes);
    Some(SegmentHeader {
        log_id: LogId::default(),
        incarnation: group.header.place.incarnation,
        segment_id: SegmentId::default(),
        first_lsn: first,
        epoch: Epoch::default(),
        previous_digest: Digest::ZERO,
        segment_bytes: found.bytes + footer_bytes,
        footer_bytes,
    })
}

fn first_of(found: &Found) -> Lsn {
    match (found.named, found.header()) {
        (Named::Segment(first), _) => first,
        (Named::Spare(_), Some(header)) => header.first_lsn,
        (Named::Spare(_), None) => Lsn::ZERO,
    }
}

/// The header of a file that has one, and its footer if it is sealed.
fn parts(found: &Found) -> (&SegmentHeader, Option<&Footer>) {
    let header = found.header().expect("files without a header are not followed");
    (header, found.footer_of(header).filter(|footer| footer.kind == FooterKind::Sealed))
}

fn hole(missing: Lsn, first: Lsn, last: Lsn) -> Error {
    Error::Hole { file: segment_name(missing).into(), first, last }
}

fn lost_header(found: &Found, first: Lsn, last: Lsn) -> Error {
    Error::Rot { file: found.name.clone(), bytes: 0..HEADER_BLOCK_BYTES as u64, first, last }
}

/// The refusal of a file that claims records which lie elsewhere.
fn misplaced(file: &str, claimed: Lsn, other: Lsn) -> Error {
    Error::Hole { file: file.into(), first: claimed.min(other), last: claimed.max(other) }
}
