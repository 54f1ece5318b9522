//! What has to be found, told from the whole log and from what became of its bytes.
//!
//! Knows nothing of the code under test but how single blocks are decoded. A record is *gone* if a byte of its
//! frame is not what it was. Whether it is *acknowledged* depends on what vouches for it: a segment that follows, a
//! footer, the superblock, a later header. Where the design leaves it open whether a record can be got at (behind
//! a frame whose length is lost, or a group's header) it is *doubtful*, and either answer is right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use annals::LogId;
use annals::format::{
    Chosen, FOOTER_BLOCK_BYTES, Footer, FooterKind, GroupHeader, SLOT_BYTES, SUPERBLOCK_BYTES, SegmentHeader,
    Superblock, all_zero, block_up, choose_slot, correct_slot,
};

use crate::anatomy::{Anatomy, Group, Segment};
use crate::directory::{Directory, SUPERBLOCK};
use annals_fixtures::segment::index;

/// What there is to be found.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Acknowledged records that cannot be read.
    pub(crate) lost: BTreeSet<u64>,
    /// Records of which either may be said.
    pub(crate) doubtful: BTreeSet<u64>,
    /// The oldest record that is retained, if something says so.
    pub(crate) first: Option<u64>,
    /// The newest record, where there is no doubt about it.
    pub(crate) last: Option<u64>,
    /// Damaged bytes that have to be inside of stretches.
    pub(crate) damaged: Vec<(String, Range<u64>)>,
    /// The units that were damaged: rot lies inside of them. For files of which nothing is said, anywhere.
    pub(crate) units: BTreeMap<String, Vec<Range<u64>>>,
    /// Files of the log that are gone, or under another name: the log is not whole.
    pub(crate) displaced: Vec<String>,
    /// Whether nothing tells which log this is, or what a file was: then there are several truths.
    pub(crate) is_ambiguous: bool,
    /// Whether records that a truncation took away may show again: the footer that said so is gone, and the
    /// segment that followed too.
    pub(crate) is_revived: bool,
    /// Whether a slot of the superblock counts once one bit of it is flipped back: an open does not do that.
    pub(crate) is_slot_corrected: bool,
    /// Anything else is different.
    pub(crate) is_touched: bool,
}

/// What can be said of one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Readable,
    Doubtful,
    Gone,
}

/// A judgement in the making.
struct Judge<'a> {
    anatomy: &'a Anatomy,
    before: &'a Directory,
    after: &'a Directory,
    chosen: Option<Chosen>,
    /// Where each segment is now.
    places: Vec<Option<String>>,
    truth: Truth,
}

/// How far the newest segment that is there goes.
struct Reach {
    /// The newest record that is vouched for.
    vouched: u64,
    /// The newest record that counts; nothing if that is open.
    last: Option<u64>,
    /// From where on in that segment bytes do not matter.
    counts_to: u64,
    /// Whether it is open which records there are behind its end.
    is_open: bool,
}

impl Truth {
    pub(crate) fn of(anatomy: &Anatomy, before: &Directory, after: &Directory) -> Truth {
        let stored = after.bytes(SUPERBLOCK).and_then(|bytes| choose_slot(bytes).ok());
        let corrected =
            after.bytes(SUPERBLOCK).map(|bytes| corrected(before.bytes(SUPERBLOCK).unwrap(), bytes));
        let chosen = corrected.and_then(|bytes| choose_slot(&bytes).ok());
        let is_slot_corrected = stored != chosen;
        let places = anatomy.segments.iter().map(|segment| place(segment, after)).collect();
        let truth = Truth { is_touched: before != after, is_slot_corrected, ..Truth::default() };
        let mut judge = Judge { anatomy, before, after, chosen, places, truth };
        judge.segments();
        judge.superblock();
        judge.truth.is_ambiguous = judge.is_ambiguous();
        judge.truth
    }
}

impl Judge<'_> {
    fn segments(&mut self) {
        let first = self.first();
        // An old superblock knows of records that were trimmed since.
        self.truth.doubtful.extend(first..self.anatomy.superblock.first_lsn.get());
        // And of some that were truncated.
        self.truth.doubtful.extend(self.anatomy.last().get() + 1..=self.known(first));
        self.truth.first = self.superblock_known().is_some().then_some(first);
        let retained = self.anatomy.segments.iter().skip(1);
        let below = retained.take_while(|next| next.header.first_lsn.get() <= first).count();
        let Some(top) = self.places.iter().rposition(Option::is_some).filter(|top| *top >= below) else {
            self.nothing_left(first, below);
            return;
        };
        let mut reach = self.reach(top);
        if copies(&self.anatomy.segments[top], self.after).len() > 1 {
            // Which of them counts is open.
            (reach.is_open, reach.last) = (true, None);
        }
        if let Some(last) = reach.last.filter(|last| self.is_begun_in_spare(top + 1, last + 1)) {
            self.truth.displaced.push(self.anatomy.segments[top + 1].name.clone());
            (reach.last, reach.vouched) = (None, reach.vouched.max(last));
        }
        self.truth.last = reach.last;
        self.truth.is_revived = reach.is_open;
        for number in below..self.anatomy.segments.len() {
            let segment = &self.anatomy.segments[number];
            for (lsn, state) in self.states(number) {
                let is_acknowledged = number < top || lsn <= reach.vouched;
                let is_open = number == top && (reach.is_open || lsn > reach.vouched);
                match state {
                    _ if lsn < first => continue,
                    State::Gone if is_acknowledged && !(number == top && reach.is_open) => {
                        self.truth.lost.insert(lsn);
                    }
                    State::Readable if !is_open => continue,
                    _ => drop(self.truth.doubtful.insert(lsn)),
                }
            }
            let place = self.places[number].as_ref();
            if place != Some(&segment.name) {
                // An open gives a name to what was begun in a spare.
                let is_spare = place.is_some_and(|name| name.starts_with("spare"));
                let mattered = number < top || segment.header.first_lsn.get() <= reach.vouched;
                if mattered && !is_spare {
                    self.truth.displaced.push(segment.name.clone());
                }
                continue;
            }
            self.units(number, (number == top).then_some(reach.counts_to));
        }
    }

    fn is_ambiguous(&self) -> bool {
        let log_id = self.anatomy.superblock.log_id;
        let is_known = |name: &String| self.anatomy.segments.iter().any(|segment| segment.name == *name);
        let is_odd = |name: String| match SegmentHeader::decode(self.after.bytes(&name).unwrap()) {
            // One of them is foreign: without a superblock, which?
            Ok(header) => header.log_id != log_id && self.chosen.is_none(),
            Err(_) if is_foreign(self.after.bytes(&name).unwrap(), log_id) => self.chosen.is_none(),
            // By its name, a segment was begun there.
            Err(_) => !name.starts_with("spare") && !is_known(&name),
        };
        // What a truncation took away is there again, and the segment that followed is not.
        let is_revived = self.anatomy.segments.iter().enumerate().any(|(number, segment)| {
            let is_cut = !segment.later.is_empty() || self.ends_inside(segment);
            is_cut
                && self.footer(number).is_none()
                && self.places.get(number + 1).is_some_and(Option::is_none)
        });
        is_revived || self.after.segments().into_iter().any(is_odd)
    }

    /// No segment is there: what the superblock vouches for is lost.
    fn nothing_left(&mut self, first: u64, below: usize) {
        let known = self.known(first);
        for (number, segment) in self.anatomy.segments.iter().enumerate().skip(below) {
            let known = if self.is_hidden(number) { 0 } else { known };
            let lsns = segment.groups.iter().flat_map(|group| group.first()..=group.last());
            let lsns: Vec<u64> = lsns.filter(|lsn| *lsn >= first).collect();
            let (lost, rest): (Vec<u64>, Vec<u64>) = lsns.into_iter().partition(|lsn| *lsn <= known);
            self.truth.lost.extend(lost);
            self.truth.doubtful.extend(rest);
        }
        let names = self.anatomy.segments[below..].iter();
        let mattered = names.filter(|segment| segment.header.first_lsn.get() <= known);
        self.truth.displaced.extend(mattered.map(|segment| segment.name.clone()));
    }

    /// The oldest record that is retained.
    fn first(&self) -> u64 {
        if let Some(superblock) = self.superblock_known() {
            return superblock.first_lsn.get();
        }
        let there = self.anatomy.segments.iter().zip(&self.places).find(|(_, place)| place.is_some());
        there.map_or(1, |(segment, _)| segment.header.first_lsn.get())
    }

    /// What the slot that counts says; if none does, the newer one of those that are sound but for one bit.
    fn superblock_known(&self) -> Option<Superblock> {
        if let Some(chosen) = &self.chosen {
            return Some(chosen.superblock.clone());
        }
        let after = self.after.bytes(SUPERBLOCK)?;
        let corrected = (0..2).filter_map(|number| {
            let mut slot = after.get(number * SLOT_BYTES..)?.to_vec();
            slot.truncate(SLOT_BYTES);
            correct_slot(&slot, number)?.apply(&mut slot);
            Superblock::decode(&slot, number).ok()
        });
        corrected.max_by_key(|superblock| superblock.sequence)
    }

    /// What the superblock vouches for.
    fn known(&self, first: u64) -> u64 {
        let Some(Chosen { superblock, other_is_sound }) = &self.chosen else {
            let Some(superblock) = self.superblock_known() else { return 0 };
            let clean = superblock.clean_tail.map_or(0, |tail| tail.last_lsn.get());
            return superblock.durable.get().max(clean).max(first - 1);
        };
        let clean = superblock.clean_tail.filter(|_| *other_is_sound).map_or(0, |tail| tail.last_lsn.get());
        superblock.durable.get().max(clean).max(first - 1)
    }

    fn reach(&self, top: usize) -> Reach {
        let segment = &self.anatomy.segments[top];
        let name = self.places[top].as_ref().unwrap();
        let known = self.known(self.first());
        let begin = segment.header.first_lsn.get();
        if self.is_changed(name, top, segment.head()) {
            return self.reach_headless(top, known.max(begin - 1));
        }
        if let Some(footer) = self.footer(top) {
            let last = footer.last_lsn.get();
            let is_last = known <= last;
            return Reach {
                vouched: known.max(last),
                last: is_last.then_some(last),
                counts_to: u64::MAX,
                is_open: false,
            };
        }
        // What a truncation took away may be taken for records again.
        let is_cut = segment.footer.is_some_and(|footer| footer.kind == FooterKind::Sealed)
            && (!segment.later.is_empty() || self.ends_inside(segment));
        let whole = |number: &usize| self.is_whole(name, top, *number);
        let groups = (0..segment.groups.len()).take_while(whole).count();
        let next = groups.checked_sub(1).map_or(begin, |last| segment.groups[last].last() + 1);
        let end = segment.before(groups);
        let headers = segment.groups[groups..].iter().map(|group| &group.header).chain(&segment.later);
        let vouching = headers
            .filter(|header| header.place.position >= end && header.first_lsn.get() > next)
            .filter(|header| !self.is_changed(name, top, head_of(header)));
        let later = vouching.map(|header| header.durable_through.get()).max().unwrap_or(0);
        let vouched = known.max(later);
        let is_lost = vouched >= next;
        Reach {
            vouched: if is_lost { vouched } else { next - 1 },
            last: (!is_lost && !is_cut).then_some(next - 1),
            counts_to: if is_lost { u64::MAX } else { end },
            is_open: is_cut,
        }
    }

    /// The newest segment, if its header is damaged: its groups tell whether anything in it was acknowledged.
    fn reach_headless(&self, top: usize, known: u64) -> Reach {
        let segment = &self.anatomy.segments[top];
        let name = self.places[top].as_ref().unwrap();
        let stands = |group: &&Group| !self.is_changed(name, top, group.head());
        let first_stands = segment.groups.first().filter(stands).is_some();
        let headers = segment.groups.iter().filter(stands).map(|group| &group.header).chain(&segment.later);
        let vouched = headers.map(|header| header.durable_through.get()).max().filter(|_| first_stands);
        let footer = segment.footer.filter(|_| !self.is_changed(name, top, segment.trailer()));
        let sealed = footer.map_or(0, |footer| footer.last_lsn.get());
        let vouched = known.max(vouched.unwrap_or(0)).max(sealed);
        let begin = segment.header.first_lsn.get();
        let is_lost = vouched >= begin;
        // A spare has no name that would tell what it was.
        let is_open = is_lost && self.is_cut(name, top);
        Reach {
            vouched,
            // One flipped bit in a header can be put right, and then its records are there again.
            last: None,
            counts_to: if is_lost { u64::MAX } else { 0 },
            is_open,
        }
    }

    /// Whether segment `number` was begun in a spare whose header is gone, and its groups tell that records from
    /// `next` on were acknowledged.
    fn is_begun_in_spare(&self, number: usize, next: u64) -> bool {
        let Some(segment) = self.anatomy.segments.get(number) else { return false };
        let name = &segment.name;
        if !name.starts_with("spare") || !self.after.0.contains_key(name) {
            return false;
        }
        let stands = |group: &&Group| !self.is_changed(name, number, group.head());
        let begins = segment.groups.first().filter(stands).is_some_and(|first| first.first() == next);
        let standing = segment.groups.iter().filter(stands);
        begins && standing.map(|group| group.header.durable_through.get()).max() >= Some(next)
    }

    /// The footer of a segment, if it is believed still.
    fn footer(&self, number: usize) -> Option<Footer> {
        let segment = &self.anatomy.segments[number];
        let name = self.places[number].as_ref()?;
        let footer = segment.footer.filter(|_| !self.is_changed(name, number, segment.trailer()))?;
        let clean = self.chosen.as_ref().filter(|chosen| chosen.other_is_sound);
        let parked = clean.and_then(|chosen| chosen.superblock.clean_tail);
        let is_believed = footer.kind == FooterKind::Sealed
            || (parked.is_some_and(|tail| tail.end == footer.end)
                && !self.is_changed(name, number, segment.tables()));
        is_believed.then_some(footer)
    }

    fn ends_inside(&self, segment: &Segment) -> bool {
        segment.groups.last().is_some_and(|group| group.frames_end() < group.header.end())
    }

    /// Whether a group is there with all before it in its block.
    fn is_whole(&self, name: &str, number: usize, group: usize) -> bool {
        let segment = &self.anatomy.segments[number];
        let start = segment.before(group);
        let end = segment.groups[group].header.end();
        !self.is_changed(name, number, start..end)
    }

    /// What can be said of the records of a segment.
    fn states(&self, number: usize) -> Vec<(u64, State)> {
        let segment = &self.anatomy.segments[number];
        let mut states = vec![];
        for (place, group) in segment.groups.iter().enumerate() {
            let Some(name) = &self.places[number] else {
                let state = if self.is_hidden(number) { State::Doubtful } else { State::Gone };
                states.extend((group.first()..=group.last()).map(|lsn| (lsn, state)));
                continue;
            };
            let is_double = copies(segment, self.after).len() > 1 && *name != segment.name;
            let mut doubt = is_double
                || self.is_changed(name, number, group.head())
                || self.is_hard_to_find(name, number)
                || self.is_between_lost(name, number, place);
            for (index, frame) in group.frames.iter().enumerate() {
                let is_gone = self.is_changed(name, number, frame.bytes.clone());
                let state = match (is_gone, doubt) {
                    (true, _) => State::Gone,
                    (false, true) => State::Doubtful,
                    (false, false) => State::Readable,
                };
                states.extend(frame.lsns().map(|lsn| (lsn, state)));
                if is_gone {
                    // Its length can be told if all of its header but the checksum is as it was, and what follows
                    // says the same.
                    let header = frame.bytes.start + 4..frame.bytes.start + 32;
                    let follower = match group.frames.get(index + 1) {
                        Some(next) => next.bytes.clone(),
                        None => frame.bytes.end..frame.bytes.end,
                    };
                    doubt |= self.is_changed(name, number, header) || self.is_changed(name, number, follower);
                }
            }
        }
        states
    }

    /// Whether some file without a header has groups of a segment that is nowhere else.
    fn is_hidden(&self, number: usize) -> bool {
        let segment = &self.anatomy.segments[number];
        let holds =
            |name: &String| segment.groups.iter().any(|group| !self.is_changed(name, number, group.head()));
        let bare = self.after.segments().into_iter();
        let mut bare = bare.filter(|name| SegmentHeader::decode(self.after.bytes(name).unwrap()).is_err());
        bare.any(|name| holds(&name))
    }

    /// Whether the headers of the groups on both sides of this one are gone: then nothing says that it is not in the
    /// payload of the one before.
    fn is_between_lost(&self, name: &str, number: usize, place: usize) -> bool {
        let groups = &self.anatomy.segments[number].groups;
        let is_lost = |group: &Group| self.is_changed(name, number, group.head());
        let before = place.checked_sub(1).and_then(|before| groups.get(before));
        before.is_some_and(is_lost) && groups.get(place + 1).is_some_and(is_lost)
    }

    /// A segment whose header is gone, and with it something that the header could be made again from.
    fn is_hard_to_find(&self, name: &str, number: usize) -> bool {
        let segment = &self.anatomy.segments[number];
        if !self.is_changed(name, number, segment.head()) {
            return false;
        }
        let stands = |group: &Group| !self.is_changed(name, number, group.head());
        self.is_cut(name, number) || !segment.groups.iter().any(stands)
    }

    fn is_cut(&self, name: &str, number: usize) -> bool {
        let bytes = self.after.bytes(name).map_or(0, <[u8]>::len);
        (bytes as u64) < self.anatomy.segments[number].header.segment_bytes
    }

    /// Whether the bytes in this range of segment `number`, which is in the file `name` now, are not what they
    /// were.
    fn is_changed(&self, name: &str, number: usize, range: Range<u64>) -> bool {
        let range = index(range.start)..index(range.end);
        let before = self.before.bytes(&self.anatomy.segments[number].name).unwrap();
        let after = self.after.bytes(name).unwrap();
        after.get(range.clone()) != before.get(range)
    }

    /// Takes note of what is damaged in a segment: of all, or up to where it counts.
    fn units(&mut self, number: usize, counts_to: Option<u64>) {
        let segment = &self.anatomy.segments[number];
        let name = &segment.name;
        let counts_to = counts_to.unwrap_or(u64::MAX);
        let mut units: Vec<(Range<u64>, Range<u64>)> = vec![(segment.head(), segment.head())];
        // A file of which nothing is left but the name is not this segment.
        let is_empty = segment.groups.is_empty();
        let stands = |group: &Group| !self.is_changed(name, number, group.head());
        let is_other = self.is_changed(name, number, segment.head())
            && self.is_changed(name, number, segment.trailer())
            && !is_empty
            && !segment.groups.iter().any(stands);
        // Without a header nobody knows of a footer; and of several copies another one may be taken.
        let is_headless = self.is_changed(name, number, segment.head());
        let is_double = copies(segment, self.after).len() > 1;
        if is_other && counts_to > 0 {
            self.truth.displaced.push(name.clone());
        }
        let counts_to = if is_double || is_other { 0 } else { counts_to };
        for (place, group) in segment.groups.iter().enumerate() {
            let start = segment.before(place);
            // A group, with the zeros before and behind it; without its header nobody knows where it ends.
            let is_known = !self.is_changed(name, number, group.head());
            let end = if is_known { block_up(group.frames_end()) } else { self.next_standing(number, place) };
            units.push((start..group.head().start, start..end));
            units.push((group.head(), start..end));
            units.extend(group.frames.iter().map(|frame| (frame.bytes.clone(), start..end)));
        }
        let footer = segment.header.data_end()..segment.header.segment_bytes;
        units.push((segment.tables(), footer.clone()));
        units.push((segment.trailer(), footer.clone()));
        let after = self.after.bytes(name).unwrap();
        let is_told = !is_other && !is_headless && !is_double;
        let is_footer_expected = is_told && self.is_footer_expected(number);
        let mut allowed = vec![];
        for (unit, around) in units {
            let is_expected =
                if unit.start >= footer.start { is_footer_expected } else { unit.start < counts_to };
            for range in changes(self.before.bytes(name).unwrap(), after, unit) {
                let whole = 0..segment.header.segment_bytes;
                allowed.push(if is_other { whole } else { around.clone() });
                // Of what was cut off it is enough to say where that begins.
                let range = range.start..range.end.min(after.len() as u64);
                if is_expected && !range.is_empty() {
                    self.truth.damaged.push((name.clone(), range));
                }
            }
        }
        if self.is_cut(name, number) {
            let from = after.len() as u64;
            let group = segment.groups.iter().rfind(|group| group.head().start < from.max(1));
            let start = group.map_or(0, |group| group.head().start).min(from);
            allowed.push(start..segment.header.segment_bytes);
        }
        self.truth.units.entry(name.clone()).or_default().extend(allowed);
    }

    /// Where the next group begins whose header is as it was, also one that does not count; or the data ends.
    fn next_standing(&self, number: usize, place: usize) -> u64 {
        let segment = &self.anatomy.segments[number];
        let later = segment.groups.iter().enumerate().skip(place + 1);
        let later = later.filter(|(at, _)| !self.is_between_lost(&segment.name, number, *at));
        let later = later.map(|(_, group)| &group.header).chain(&segment.later);
        let standing = later.filter(|header| !self.is_changed(&segment.name, number, head_of(header)));
        let next = standing.map(|header| header.place.position).min();
        next.unwrap_or(segment.header.data_end())
    }

    /// Whether there has to be a footer: a trailer that is zeros, or not there at all, or of a former life of the
    /// file, was never written.
    fn is_footer_expected(&self, number: usize) -> bool {
        let segment = &self.anatomy.segments[number];
        let newest = self.chosen.as_ref().filter(|chosen| chosen.other_is_sound);
        let clean = newest.is_some_and(|chosen| chosen.superblock.clean_tail.is_some());
        let trailer = index(segment.trailer().start)..index(segment.trailer().end);
        let bytes = self.after.bytes(&segment.name).and_then(|bytes| bytes.get(trailer));
        let is_former = |bytes| Footer::decode(bytes).is_ok_and(|footer| !footer.is_of(&segment.header));
        bytes.is_some_and(|bytes| !all_zero(bytes) && !is_former(bytes))
            && segment.footer.is_some_and(|footer| footer.kind == FooterKind::Sealed || clean)
    }

    fn superblock(&mut self) {
        let Some(after) = self.after.bytes(SUPERBLOCK) else {
            self.truth.displaced.push(SUPERBLOCK.to_owned());
            return;
        };
        let mut allowed = vec![];
        for number in [0, 1] {
            let start = number * SLOT_BYTES;
            let slot = after.get(start..).unwrap_or_default();
            if Superblock::decode(&slot[..slot.len().min(SLOT_BYTES)], number).is_err() {
                let start = start as u64;
                allowed.push(start..start + SLOT_BYTES as u64);
                let end = (start + 16).min(after.len() as u64);
                self.truth.damaged.push((SUPERBLOCK.to_owned(), start.min(end)..end));
            }
        }
        if after.len() < SUPERBLOCK_BYTES {
            allowed.push(0..SUPERBLOCK_BYTES as u64);
        }
        self.truth.units.insert(SUPERBLOCK.to_owned(), allowed);
    }
}

/// The superblock's file with those slots put right of which just one bit is wrong.
fn corrected(before: &[u8], after: &[u8]) -> Vec<u8> {
    let mut corrected = after.to_vec();
    for start in [0, SLOT_BYTES] {
        let Some(slot) = after.get(start..start + SLOT_BYTES) else { continue };
        if before.get(start..start + SLOT_BYTES) == Some(slot) {
            continue;
        }
        let bits = slot.iter().zip(&before[start..]).map(|(now, then)| (now ^ then).count_ones());
        if bits.sum::<u32>() == 1 {
            corrected[start..start + SLOT_BYTES].copy_from_slice(&before[start..start + SLOT_BYTES]);
        }
    }
    corrected
}

/// Where a segment is: under its own name, unless another segment is there, or else wherever its header says so.
fn place(segment: &Segment, files: &Directory) -> Option<String> {
    let header = |name: &str| files.bytes(name).and_then(|bytes| SegmentHeader::decode(bytes).ok());
    // Without a header, a name has to do, unless the footer says otherwise; but a spare's says nothing.
    let own = files.bytes(&segment.name).filter(|bytes| !is_foreign(bytes, segment.header.log_id));
    let is_named = !segment.name.starts_with("spare") && own.is_some();
    let copies = copies(segment, files);
    if copies.contains(&segment.name) || is_named && copies.is_empty() && header(&segment.name).is_none() {
        return Some(segment.name.clone());
    }
    copies.into_iter().next()
}

/// Whether the footer of a file names another log.
fn is_foreign(bytes: &[u8], log_id: LogId) -> bool {
    let trailer = bytes.len().checked_sub(FOOTER_BLOCK_BYTES).and_then(|at| bytes.get(at..));
    trailer.and_then(|trailer| Footer::decode(trailer).ok()).is_some_and(|footer| footer.log_id != log_id)
}

/// The files whose header is that of a segment.
fn copies(segment: &Segment, files: &Directory) -> Vec<String> {
    let header = |name: &String| files.bytes(name).and_then(|bytes| SegmentHeader::decode(bytes).ok());
    files.segments().into_iter().filter(|name| header(name) == Some(segment.header)).collect()
}

fn head_of(header: &GroupHeader) -> Range<u64> {
    header.place.position..header.frames_start()
}

/// The parts of `unit` in which two files differ; what one of them does not have counts.
fn changes(before: &[u8], after: &[u8], unit: Range<u64>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = vec![];
    let part = index(unit.start)..index(unit.end);
    if let (Some(then), Some(now)) = (before.get(part.clone()), after.get(part))
        && then == now
    {
        return ranges;
    }
    for at in unit {
        if before.get(index(at)) == after.get(index(at)) {
            continue;
        }
        match ranges.last_mut().filter(|range| range.end == at) {
            Some(range) => range.end = at + 1,
            None => ranges.push(at..at + 1),
        }
    }
    ranges
}

/// The records of ranges, one by one; refuses to write out what no small log holds.
pub(crate) fn numbers(ranges: &[annals::LsnRange]) -> BTreeSet<u64> {
    let records: u64 = ranges.iter().map(annals::LsnRange::records).sum();
    assert!(records < 1_000_000, "{ranges:?} are more records than a small log holds");
    ranges.iter().flat_map(|range| range.first.get()..=range.last.get()).collect()
}
