//! Which files make up the log, in which order, and what is missing between them: as much as can be known.
//!
//! The engine refuses a log at the first thing that is wrong. Here the order is made of all that is still there:
//! names, headers, footers, and what neighbours say of each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::identity::{self, Around};
use super::report::{FileRole, Stray};
use super::survey::{Found, Head, Named, Survey, Trailer};
use crate::format::{CleanTail, Digest, Footer, FooterKind, HEADER_BLOCK_BYTES, SegmentHeader};
use crate::segment::{Cause, Correction, Stretch, StretchKind, segment_name};
use crate::types::{LogId, Lsn, LsnRange, SegmentId};

/// The segments of a log in their order, and what is left over.
#[derive(Debug)]
pub(super) struct Chain {
    log_id: LogId,
    pub(super) links: Vec<Link>,
    pub(super) strays: Vec<Stray>,
    /// What is wrong with headers, names and footers, and what is missing between the segments.
    pub(super) stretches: Vec<Stretch>,
    /// The oldest record that the log retains.
    pub(super) first_lsn: Lsn,
    /// The newest record that the superblock and the files as such vouch for.
    pub(super) durable: Lsn,
    /// Spares without a header that may hold the next segment.
    pub(super) spares: Vec<Arc<Found>>,
}

/// A segment of the log.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) found: Arc<Found>,
    /// As it is, or as it has to be.
    pub(super) header: SegmentHeader,
    /// Whether the header had to be made anew.
    pub(super) is_rebuilt: bool,
    /// Whether it is known how the segment before has to end.
    pub(super) knows_previous: bool,
    /// The footer that counts.
    pub(super) footer: Option<Footer>,
    /// The last record, where that is known.
    pub(super) last: Option<Lsn>,
    /// The newest record that is known from elsewhere to have been acknowledged, and may be in this segment.
    pub(super) durable: Lsn,
    /// What the next segment says of the end of this one.
    pub(super) next_digest: Option<Digest>,
}

/// Tells the newest record that the groups of a file vouch for, if the file has this header.
pub(super) type Vouched<'a> = &'a dyn Fn(&Found, &SegmentHeader) -> Lsn;

impl Chain {
    /// Puts the files in order.
    pub(super) fn build(survey: &Survey, vouched: Vouched<'_>) -> Chain {
        let mut builder = Builder::sort(survey);
        if let Some(first_lsn) = survey.slots.first_lsn() {
            builder.trim(first_lsn);
        }
        builder.choose();
        builder.take_spares();
        builder.place_headless((survey, vouched));
        builder.finish(survey)
    }

    /// Adds a spare without a header, which holds the segment after the last one after all.
    pub(super) fn extend(&mut self, found: Arc<Found>, first: Lsn) {
        self.strays.retain(|stray| stray.file != found.name);
        let before = self.links.last();
        let mut header =
            identity::rebuild(&found, Around { log_id: self.log_id, first, before, after: None });
        header.epoch = header.epoch.max(before.map_or(header.epoch, |before| before.header.epoch));
        if let Some(last) = self.links.last_mut() {
            last.last = Some(first.prev());
        }
        let mut link = Link::new(found, header, true);
        link.durable = self.durable;
        link.footer = link.sealed().copied();
        link.last = link.footer.map(|footer| footer.last_lsn);
        self.stretches.extend(link.bad_header());
        self.links.push(link);
    }
}

impl Link {
    fn new(found: Arc<Found>, header: SegmentHeader, is_rebuilt: bool) -> Link {
        let knows_previous = !is_rebuilt || header.segment_id == SegmentId::FIRST;
        let durable = Lsn::ZERO;
        Link {
            found,
            header,
            is_rebuilt,
            knows_previous,
            footer: None,
            last: None,
            durable,
            next_digest: None,
        }
    }

    /// Whether no segment is missing between this one and `next`.
    pub(super) fn is_followed_by(&self, next: &Link) -> bool {
        self.header.segment_id.next() == next.header.segment_id
    }

    fn is_in_spare(&self) -> bool {
        matches!(self.found.named, Named::Spare(_))
    }

    fn is_named_right(&self) -> bool {
        self.found.is_named_for(self.header.first_lsn)
    }

    /// The sealed footer that is of this life of the file.
    fn sealed(&self) -> Option<&Footer> {
        self.found.footer_of(&self.header).filter(|footer| footer.kind == FooterKind::Sealed)
    }

    fn ends_before(&self, next: &SegmentHeader) -> bool {
        self.sealed().is_some_and(|footer| {
            footer.last_lsn.next() == next.first_lsn && footer.digest == next.previous_digest
        })
    }

    fn stretch(&self, kind: StretchKind, bytes: std::ops::Range<u64>, cause: Cause) -> Stretch {
        let file = Arc::clone(&self.found.name);
        Stretch { kind, file, bytes, lsns: None, is_acknowledged: false, cause, correction: None }
    }

    fn bad_header(&self) -> Option<Stretch> {
        let Head::Bad(bad) = &self.found.head else { return None };
        let stretch = self.stretch(StretchKind::Rot, 0..HEADER_BLOCK_BYTES as u64, bad.cause);
        Some(Stretch { correction: self.correction(), ..stretch })
    }

    fn correction(&self) -> Option<Correction> {
        match &self.found.head {
            Head::Bad(bad) => bad.corrected.as_ref().map(|(correction, _)| *correction),
            Head::Sound(_) => None,
        }
    }
}

struct Builder {
    log_id: LogId,
    /// Files whose headers tell which segment they are.
    candidates: Vec<Link>,
    /// Files named as segments of which only neighbours can tell.
    headless: Vec<(Lsn, Arc<Found>)>,
    /// Spares with the header of a segment.
    begun: Vec<Link>,
    spares: Vec<Arc<Found>>,
    links: Vec<Link>,
    strays: Vec<Stray>,
    /// What cannot be read of those.
    stretches: Vec<Stretch>,
    /// A file was begun, after all before this record was durable.
    begun_at: Lsn,
}

impl Builder {
    /// Tells the files apart, each for itself.
    fn sort(survey: &Survey) -> Builder {
        let mut builder = Builder {
            log_id: survey.log_id.unwrap_or_default(),
            candidates: vec![],
            headless: vec![],
            begun: vec![],
            spares: vec![],
            links: vec![],
            strays: survey.strays.clone(),
            stretches: vec![],
            begun_at: Lsn::ZERO,
        };
        for found in &survey.files {
            builder.note(Arc::clone(found));
        }
        builder
    }

    fn note(&mut self, found: Arc<Found>) {
        if let Some(other) = found.other_id(self.log_id) {
            return self.set_aside(&found, FileRole::Foreign(other));
        }
        let (header, is_rebuilt) = match (&found.head, found.named) {
            (Head::Sound(header), _) => (*header, false),
            (Head::Bad(bad), Named::Segment(first)) => match &bad.corrected {
                Some((_, header)) => (*header, true),
                None => match identity::by_footer(&found, first) {
                    Some(header) if header.log_id == self.log_id => (header, true),
                    _ => return self.headless.push((first, found)),
                },
            },
            (Head::Bad(_), Named::Spare(_)) => return self.spares.push(found),
        };
        if header.log_id != self.log_id {
            return self.set_aside(&found, FileRole::Foreign(header.log_id));
        }
        let mut link = Link::new(found, header, is_rebuilt);
        link.knows_previous |= link.correction().is_some();
        match link.is_in_spare() {
            true => self.begun.push(link),
            false => self.candidates.push(link),
        }
    }

    fn set_aside(&mut self, found: &Found, role: FileRole) {
        if found.unreadable.is_some() {
            let (file, bytes) = (Arc::clone(&found.name), 0..found.bytes);
            let (kind, cause) = (StretchKind::Rot, Cause::Unreadable);
            let (lsns, is_acknowledged, correction) = (None, false, None);
            self.stretches.push(Stretch { kind, file, bytes, lsns, is_acknowledged, cause, correction });
        }
        self.strays.push(Stray { file: Arc::clone(&found.name), bytes: found.bytes, role });
    }

    /// Puts aside what is trimmed: after a truncation of everything, numbers begin anew, and what was there before
    /// must not be in the way.
    fn trim(&mut self, first_lsn: Lsn) {
        let named = self.candidates.iter().filter(|link| link.is_named_right());
        let begins = named.map(|link| link.header.first_lsn).filter(|first| *first <= first_lsn).max();
        let is_trimmed = |link: &Link| begins.is_some_and(|begins| link.header.first_lsn < begins);
        let (trimmed, kept) = std::mem::take(&mut self.candidates).into_iter().partition(is_trimmed);
        self.candidates = kept;
        let trimmed: Vec<Link> = trimmed;
        trimmed.iter().for_each(|link| self.set_aside(&link.found, FileRole::Trimmed));
    }

    /// Takes one file for each segment, so that both numbers and first records rise.
    fn choose(&mut self) {
        let mut by_number: BTreeMap<SegmentId, Vec<Link>> = BTreeMap::new();
        for link in std::mem::take(&mut self.candidates) {
            by_number.entry(link.header.segment_id).or_default().push(link);
        }
        for mut alike in by_number.into_values() {
            let follows = |link: &Link| self.links.last().is_some_and(|last| last.ends_before(&link.header));
            alike.sort_by_key(|link| {
                let (is_sealed, first) = (link.sealed().is_some(), link.header.first_lsn);
                (link.is_named_right(), follows(link), !link.is_rebuilt, is_sealed, first)
            });
            let chosen = alike.pop();
            alike.iter().for_each(|other| self.set_aside(&other.found, FileRole::Duplicate));
            self.push_rising(chosen);
        }
    }

    /// Goes on with a segment of a higher number: of two that claim the same records, with the one of later ones.
    fn push_rising(&mut self, link: Option<Link>) {
        let Some(link) = link else { return };
        let first = link.header.first_lsn;
        while let Some(last) = self.links.pop_if(|last| last.header.first_lsn >= first) {
            if last.is_named_right() || !link.is_named_right() {
                self.links.push(last);
                return self.set_aside(&link.found, FileRole::Duplicate);
            }
            self.set_aside(&last.found, FileRole::Duplicate);
        }
        self.links.push(link);
    }

    /// Lets spares take part that hold a segment: a crash came before they got their names. A segment begins
    /// when all before it is durable, so they count also where one before them is missing.
    fn take_spares(&mut self) {
        self.begun.sort_by_key(|link| (link.header.segment_id, link.header.first_lsn));
        for spare in std::mem::take(&mut self.begun) {
            let SegmentHeader { segment_id: id, first_lsn: first, .. } = spare.header;
            let place = self.links.partition_point(|link| link.header.segment_id < id);
            let is_twin = |link: &Link| link.is_in_spare() && link.header.segment_id == id;
            if place == 0 && self.links.first().is_some_and(is_twin) {
                // Of copies of the first segment, an open takes the last one, and of another the first one.
                let twin = std::mem::replace(&mut self.links[0], spare);
                self.set_aside(&twin.found, FileRole::Spare);
                continue;
            }
            let fits_before = place.checked_sub(1).map(|before| &self.links[before]).is_none_or(|before| {
                let is_next = before.header.segment_id.next() == id;
                let sealed = before.sealed().filter(|_| is_next);
                let ends = sealed.is_none_or(|footer| footer.last_lsn.next() == first);
                first > before.header.first_lsn && ends
            });
            let fits_after = self
                .links
                .get(place)
                .is_none_or(|after| after.header.segment_id > id && after.header.first_lsn > first);
            match fits_before && fits_after {
                true => self.links.insert(place, spare),
                false => self.set_aside(&spare.found, FileRole::Spare),
            }
        }
    }

    /// Finds the places of files without a header that are named as segments.
    fn place_headless(&mut self, (survey, vouched): (&Survey, Vouched<'_>)) {
        let log_id = self.log_id;
        let known = |found: &Found, header: &SegmentHeader| {
            let without_start = found.vouched_without_start(log_id, header.first_lsn);
            vouched(found, header).max(without_start).max(survey.slots.vouched())
        };
        for (first, found) in std::mem::take(&mut self.headless) {
            let place = self.links.partition_point(|link| link.header.first_lsn < first);
            let before = place.checked_sub(1).map(|before| &self.links[before]);
            let after = self.links.get(place);
            let has_room = match (before, after) {
                (_, Some(after)) if after.header.first_lsn == first => false,
                (Some(before), Some(after)) => before.header.segment_id.next() < after.header.segment_id,
                (None, Some(after)) => after.header.segment_id > SegmentId::FIRST,
                (_, None) => true,
            };
            let header = identity::rebuild(&found, Around { log_id: self.log_id, first, before, after });
            let is_last = after.is_none();
            if is_last {
                self.begun_at = self.begun_at.max(first.prev());
            }
            if !has_room {
                self.set_aside(&found, FileRole::Duplicate);
            } else if is_last && known(&found, &header) < first {
                self.set_aside(&found, FileRole::Blank);
            } else {
                let mut link = Link::new(found, header, true);
                let sealed = before.and_then(Link::sealed).filter(|footer| footer.last_lsn.next() == first);
                link.knows_previous |= sealed.is_some();
                self.links.insert(place, link);
            }
        }
    }

    /// Forgets what is trimmed, and looks at the segments side by side.
    fn finish(mut self, survey: &Survey) -> Chain {
        let begins = self.links.first().map_or(self.begun_at.next(), |link| link.header.first_lsn);
        let first_lsn = survey.slots.first_lsn().unwrap_or(begins);
        let covered = self.links.partition_point(|link| link.header.first_lsn <= first_lsn);
        let kept = self.links.split_off(covered.saturating_sub(1));
        for link in std::mem::replace(&mut self.links, kept) {
            self.set_aside(&link.found, FileRole::Trimmed);
        }
        let spares = std::mem::take(&mut self.spares);
        spares.iter().for_each(|spare| self.set_aside(spare, FileRole::Spare));
        self.strays.sort_by(|a, b| a.file.cmp(&b.file));
        let begun = self.links.last().map_or(Lsn::ZERO, |link| link.header.first_lsn.prev());
        let Builder { mut links, strays, mut stretches, begun_at, .. } = self;
        let of_footer = links
            .last()
            .map_or(Lsn::ZERO, |link| link.found.vouched_without_start(self.log_id, link.header.first_lsn));
        let durable = survey.slots.vouched().max(begun).max(begun_at).max(of_footer);
        if let Some(front) = links.first().filter(|link| link.header.first_lsn > first_lsn) {
            stretches.extend(missing(first_lsn, front.header.first_lsn.prev()));
        }
        for index in 1..links.len() {
            let (before, after) = links.split_at_mut(index);
            stretches.extend(connect(&mut before[index - 1], &mut after[0]));
        }
        if let Some(last) = links.last_mut() {
            last.durable = durable;
            end(last, survey.slots.clean_tail());
        }
        let is_closed = survey.slots.clean_tail().is_some();
        let newest = links.len().saturating_sub(1);
        for (index, link) in links.iter().enumerate() {
            stretches.extend(link.bad_header());
            stretches.extend(bad_name(link));
            stretches.extend(bad_trailer(link, (index == newest, is_closed)));
        }
        Chain { log_id: self.log_id, links, strays, stretches, first_lsn, durable, spares }
    }
}

/// Notes in both what each of two neighbours says of the other; tells what is missing between them.
fn connect(link: &mut Link, next: &mut Link) -> Option<Stretch> {
    let before = next.header.first_lsn.prev();
    link.durable = before;
    if next.is_rebuilt && next.correction().is_none() {
        next.header.epoch = next.header.epoch.max(link.header.epoch);
    }
    let sealed = link.sealed().copied();
    if !link.is_followed_by(next) {
        link.footer = sealed.filter(|footer| footer.last_lsn <= before);
        link.last = link.footer.map(|footer| footer.last_lsn);
        return match link.last {
            // Of two histories: no record is missing, and a segment is.
            Some(last) if last == before => {
                Some(next.stretch(StretchKind::Rot, 0..HEADER_BLOCK_BYTES as u64, Cause::Chain))
            }
            last => last.and_then(|last| missing(last.next(), before)),
        };
    }
    link.last = Some(before);
    if next.knows_previous {
        link.next_digest = Some(next.header.previous_digest);
    }
    let fits = |footer: &Footer| {
        footer.last_lsn == before && link.next_digest.is_none_or(|digest| footer.digest == digest)
    };
    link.footer = sealed.filter(fits);
    if let Some(footer) = link.footer.filter(|_| !next.knows_previous) {
        next.header.previous_digest = footer.digest;
        next.knows_previous = true;
        link.next_digest = Some(footer.digest);
    }
    None
}

/// Notes what the newest segment says of its own end.
fn end(link: &mut Link, clean_tail: Option<CleanTail>) {
    let is_parked = |footer: &Footer| clean_tail.is_some_and(|tail| is_as_parked(footer, &tail));
    let counts = |footer: &&Footer| footer.kind == FooterKind::Sealed || is_parked(footer);
    link.footer = link.found.footer_of(&link.header).filter(counts).copied();
    link.last = link.footer.map(|footer| footer.last_lsn);
}

/// Whether a parked footer says the same as the superblock.
pub(super) fn is_as_parked(footer: &Footer, tail: &CleanTail) -> bool {
    footer.kind == FooterKind::Parked
        && footer.segment_id == tail.segment_id
        && footer.end == tail.end
        && footer.last_lsn == tail.last_lsn
        && footer.digest == tail.digest
}

/// Records of which the whole segment is missing.
pub(super) fn missing(first: Lsn, last: Lsn) -> Option<Stretch> {
    Some(Stretch {
        kind: StretchKind::Hole,
        file: segment_name(first).into(),
        bytes: 0..0,
        lsns: Some(LsnRange::new(first, last)?),
        is_acknowledged: true,
        cause: Cause::Missing,
        correction: None,
    })
}

/// A segment under the name of another one.
fn bad_name(link: &Link) -> Option<Stretch> {
    (!link.is_in_spare() && !link.is_named_right()).then(|| link.stretch(StretchKind::Rot, 0..0, Cause::Name))
}

/// A footer that has to be there and is not, or does not check, or is wrong.
fn bad_trailer(link: &Link, (is_newest, is_closed): (bool, bool)) -> Option<Stretch> {
    let header = &link.header;
    let stretch = |cause| link.stretch(StretchKind::Rot, header.data_end()..header.segment_bytes, cause);
    if link.footer.is_some() {
        return None;
    }
    match &link.found.trailer {
        // Its file is too short, of which more is said when it is read.
        _ if link.found.bytes < header.segment_bytes => None,
        Trailer::Bad(cause, correction) => Some(Stretch { correction: *correction, ..stretch(*cause) }),
        Trailer::Sound(footer) if footer.is_of(header) && footer.kind == FooterKind::Sealed && !is_newest => {
            Some(stretch(Cause::Footer))
        }
        // A writer that did not come to it has left nothing there, or what was there before.
        Trailer::Blank | Trailer::Sound(_) => is_closed.then(|| stretch(Cause::Footer)),
    }
}
