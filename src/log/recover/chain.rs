//! Which files make up the log, in which order, and whether anything is missing.

use std::collections::VecDeque;

use super::scan::{Looking, Scan, Until};
use super::survey::{Content, Found, Named, Survey};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{Footer, FooterKind, HEADER_BLOCK_BYTES, SegmentHeader, Verdict, footer_bytes_for};
use crate::segment::{find_life, read_footer, segment_name};
use crate::types::Lsn;

/// The segments of a log in their order, and what is left over.
#[derive(Debug)]
pub(super) struct Chain {
    /// All but the last segment, each complete.
    pub(super) links: Vec<Link>,
    /// The newest segment, not judged yet.
    pub(super) last: Option<Found>,
    /// A file with the name that the next segment would have, and no header.
    pub(super) headless: Option<Found>,
    /// Files that hold nothing of the log.
    pub(super) spares: Vec<Found>,
    /// Files of segments below the trim point.
    pub(super) below: Vec<Found>,
}

/// A segment that another one follows.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) found: Found,
    pub(super) end: LinkEnd,
}

/// Where a segment that another one follows ends, and how that is known.
#[derive(Debug)]
pub(super) enum LinkEnd {
    /// By its footer.
    Sealed(Footer),
    /// By the segment that follows; its footer has to be written.
    Scanned(Box<Scan>),
}

/// What the chain is built with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) looking: Looking,
    /// The oldest record that the log retains.
    pub(super) first_lsn: Lsn,
    /// The newest record known to have been acknowledged.
    pub(super) durable: Lsn,
}

impl Chain {
    /// Puts the files in order. Spares take part if they hold the segment that comes next: a crash came
    /// before they got their names.
    ///
    /// # Errors
    /// [`Error::Rot`] and [`Error::Hole`], and whatever the operating system says.
    pub(super) fn build(known: Known<'_>, survey: Survey) -> Result<Chain> {
        survey.segments.iter().try_for_each(check_name)?;
        let mut segments: VecDeque<_> = survey.segments.into();
        // The segment that holds the first record is the last one to begin at or before it.
        let start = segments.partition_point(|found| found.first_lsn() <= known.first_lsn).saturating_sub(1);
        let below = segments.drain(..start).collect();
        let chain = Chain { links: vec![], last: None, headless: None, spares: survey.spares, below };
        let mut builder = Builder { known, segments, chain };
        let mut current = builder.first()?;
        while let Some(found) = current.take() {
            current = builder.next_after(&found)?;
            match &current {
                Some(next) => {
                    let end = known.complete(&found, segment_of(next))?;
                    builder.chain.links.push(Link { found, end });
                }
                None => builder.chain.last = Some(found),
            }
        }
        let mut chain = builder.chain;
        chain.doubt_newest_footer(known)?;
        chain.drop_below(known.first_lsn);
        Ok(chain)
    }

    /// A power cut may leave the end of a footer and not the index in it. Only the one that was written last can be
    /// so: those before it were synced before it was begun. It is written anew, if the records agree with its end.
    fn doubt_newest_footer(&mut self, known: Known<'_>) -> Result<()> {
        let sealed = self.links.iter_mut().rev().find_map(|link| match link.end {
            LinkEnd::Sealed(footer) => Some((link, footer)),
            LinkEnd::Scanned(_) => None,
        });
        let Some((link, footer)) = sealed else { return Ok(()) };
        let found = &link.found;
        let file = found.open(known.disk, Access::Read)?;
        if read_footer(&*file, &found.name, segment_of(found))?.is_some() {
            return Ok(());
        }
        let Some(mut scan) = known.rescan(found, footer.last_lsn)? else { return Ok(()) };
        if scan.has_gaps {
            // Of frames that are lost: it can only be stated.
            scan.extent.digest = footer.digest;
        }
        let ends = (scan.extent.last, scan.extent.digest) == (footer.last_lsn, footer.digest);
        if ends && loss(found, &scan.verdict).is_none() {
            link.end = LinkEnd::Scanned(Box::new(scan));
        }
        Ok(())
    }

    /// Takes away the first segments as long as they hold no record that is retained.
    fn drop_below(&mut self, first_lsn: Lsn) {
        let last_begins = self.last.as_ref().map(Found::first_lsn);
        let next_begins = self.links.iter().skip(1).map(|link| link.found.first_lsn()).chain(last_begins);
        let covered = next_begins.take(self.links.len()).take_while(|begin| *begin <= first_lsn);
        let below = covered.count();
        self.below.extend(self.links.drain(..below).map(|link| link.found));
    }
}

struct Builder<'a> {
    known: Known<'a>,
    /// Named as segments, and not looked at yet.
    segments: VecDeque<Found>,
    chain: Chain,
}

impl Builder<'_> {
    /// The segment that the log begins with.
    fn first(&mut self) -> Result<Option<Found>> {
        let first_lsn = self.known.first_lsn;
        let covers = |found: &Found| found.first_lsn() <= first_lsn;
        if self.segments.front().is_some_and(covers) {
            return self.pop();
        }
        let begun = |found: &Found| found.header().is_some() && covers(found);
        if let Some(index) = self.chain.spares.iter().rposition(begun) {
            return Ok(Some(self.chain.spares.remove(index)));
        }
        match self.segments.front() {
            None => Ok(None),
            Some(later) => Err(Error::Hole {
                file: segment_name(first_lsn).into(),
                first: first_lsn,
                last: later.first_lsn().prev(),
            }),
        }
    }

    /// The next file named as a segment; if that has no header and is the last one, it is put aside.
    fn pop(&mut self) -> Result<Option<Found>> {
        let Some(found) = self.segments.pop_front() else { return Ok(None) };
        if found.header().is_some() {
            return Ok(Some(found));
        }
        match self.segments.front() {
            None => {
                self.chain.headless = Some(found);
                Ok(None)
            }
            Some(next) => {
                let last = next.first_lsn().prev();
                let bytes = 0..HEADER_BLOCK_BYTES as u64;
                Err(Error::Rot { file: found.name.clone(), bytes, first: found.first_lsn(), last })
            }
        }
    }

    /// The segment that was begun after `current`.
    fn next_after(&mut self, current: &Found) -> Result<Option<Found>> {
        let (header, footer) = parts_of(current);
        let id = header.segment_id.next();
        let has_id = |found: &Found| found.header().is_some_and(|header| header.segment_id == id);
        if self.segments.front().is_some_and(has_id) {
            return self.pop();
        }
        let before = self.segments.front().map(Found::first_lsn);
        let follows = |found: &Found| {
            let first = found.first_lsn();
            has_id(found)
                && first > header.first_lsn
                && before.is_none_or(|before| first < before)
                && footer.is_none_or(|footer| first == footer.last_lsn.next())
        };
        if let Some(index) = self.chain.spares.iter().position(follows) {
            return Ok(Some(self.chain.spares.remove(index)));
        }
        match self.segments.front() {
            Some(later) if later.header().is_some() => Err(self.known.gap(current, later)),
            _ => self.pop(),
        }
    }
}

impl Known<'_> {
    /// Where `found` ends, which the segment `next` follows.
    fn complete(&self, found: &Found, next: &SegmentHeader) -> Result<LinkEnd> {
        let (header, footer) = parts_of(found);
        let last = next.first_lsn.prev();
        let fits = |footer: &&Footer| footer.last_lsn == last && footer.digest == next.previous_digest;
        if let Some(footer) = footer.filter(fits) {
            return Ok(LinkEnd::Sealed(*footer));
        }
        let Some(mut scan) = self.rescan(found, last)? else {
            return Err(misplaced(&segment_name(next.first_lsn), next.first_lsn, header.first_lsn));
        };
        if let Some(error) = loss(found, &scan.verdict) {
            return Err(error);
        }
        if scan.has_gaps {
            // Of frames that are lost: it can only be stated.
            scan.extent.digest = next.previous_digest;
        }
        if scan.extent.last != last || scan.extent.digest != next.previous_digest {
            let bytes = HEADER_BLOCK_BYTES as u64..scan.extent.end;
            return Err(Error::Rot { file: found.name.clone(), bytes, first: header.first_lsn, last });
        }
        Ok(LinkEnd::Scanned(Box::new(scan)))
    }

    /// Reads a segment whose last record is known; `None` if it begins after that.
    pub(super) fn rescan(&self, found: &Found, last: Lsn) -> Result<Option<Scan>> {
        let header = segment_of(found);
        if last < header.first_lsn.prev() {
            return Ok(None);
        }
        found.scan(self.disk, (header, self.looking), Until::Last(last)).map(Some)
    }

    /// Reads the newest segment.
    pub(super) fn scan(&self, found: &Found, durable: Lsn) -> Result<Scan> {
        found.scan(self.disk, (segment_of(found), self.looking), Until::Durable(durable))
    }

    /// The error for a segment that is followed by one that is not the next.
    fn gap(&self, current: &Found, later: &Found) -> Error {
        let (header, footer) = parts_of(current);
        let missing = match footer {
            Some(footer) => footer.last_lsn.next(),
            None => match self.rescan(current, later.first_lsn().prev()) {
                Ok(Some(scan)) if matches!(scan.verdict, Verdict::Rot { .. }) => {
                    return loss(current, &scan.verdict).expect("rot is a loss");
                }
                Ok(Some(scan)) => scan.extent.last.next(),
                Ok(None) => header.first_lsn,
                Err(error) => return error,
            },
        };
        if later.first_lsn() <= missing {
            return misplaced(&later.name, later.first_lsn(), missing);
        }
        let first = missing.max(self.first_lsn);
        Error::Hole { file: segment_name(missing).into(), first, last: later.first_lsn().prev() }
    }

    /// Up to where a file without a header says that records were acknowledged, if it begins with `first`: by
    /// its footer, or by its groups.
    pub(super) fn vouched_by(&self, found: &Found, first: Lsn) -> Result<Lsn> {
        let Content::Headless { stray, footer, .. } = &found.content else { return Ok(Lsn::ZERO) };
        let footer = footer.filter(|footer| footer.first_lsn == first);
        let by_footer = footer.map_or(Lsn::ZERO, |footer| footer.last_lsn);
        let Some(stray) = stray else { return Ok(self.vouched_later(found, first)?.max(by_footer)) };
        if stray.first_lsn != first {
            return Ok(by_footer);
        }
        // Where the data ends nobody knows, and the file may have been cut: no header of a group is in the footer.
        let footer_bytes = footer_bytes_for(found.bytes);
        let header = SegmentHeader {
            log_id: Default::default(),
            incarnation: stray.place.incarnation,
            segment_id: Default::default(),
            first_lsn: first,
            epoch: Default::default(),
            previous_digest: Default::default(),
            segment_bytes: found.bytes + footer_bytes,
            footer_bytes,
        };
        let scan = found.scan(self.disk, (&header, self.looking), Until::Durable(Lsn::ZERO))?;
        Ok(scan.vouched.max(by_footer))
    }

    /// The same, for a file named as the segment that has lost its first group too.
    fn vouched_later(&self, found: &Found, first: Lsn) -> Result<Lsn> {
        if found.named != Named::Segment(first) {
            return Ok(Lsn::ZERO);
        }
        let file = found.open(self.disk, Access::Read)?;
        Ok(find_life(&*file, first).map_or(Lsn::ZERO, |life| life.vouched))
    }
}

/// The error for a verdict that says that acknowledged records are lost.
pub(super) fn loss(found: &Found, verdict: &Verdict) -> Option<Error> {
    let file = found.name.clone();
    match verdict {
        Verdict::Rot { bytes, first, last } => {
            Some(Error::Rot { file, bytes: bytes.clone(), first: *first, last: *last })
        }
        Verdict::Hole { first, last, .. } => Some(Error::Hole { file, first: *first, last: *last }),
        Verdict::Clean | Verdict::Torn { .. } | Verdict::Stale { .. } => None,
    }
}

/// The error for a file that claims records which lie elsewhere.
fn misplaced(file: &str, claimed: Lsn, other: Lsn) -> Error {
    Error::Hole { file: file.into(), first: claimed.min(other), last: claimed.max(other) }
}

/// A file named as a segment holds that segment, if any.
fn check_name(found: &Found) -> Result<()> {
    match (found.named, found.header()) {
        (Named::Segment(named), Some(header)) if header.first_lsn != named => {
            Err(misplaced(&found.name, named, header.first_lsn))
        }
        _ => Ok(()),
    }
}

/// The header of a file that is part of the chain.
pub(super) fn segment_of(found: &Found) -> &SegmentHeader {
    parts_of(found).0
}

/// The header of a file that is part of the chain, and its footer if it is sealed.
fn parts_of(found: &Found) -> (&SegmentHeader, Option<&Footer>) {
    match &found.content {
        Content::Segment { header, footer } => {
            (header, footer.as_ref().filter(|footer| footer.kind == FooterKind::Sealed))
        }
        Content::Headless { .. } => unreachable!("only files with a header are part of the chain"),
    }
}
