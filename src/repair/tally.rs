//! The report, made of what was seen.

use std::sync::Arc;

use super::chain::{Chain, Link, missing};
use super::report::{FileRole, Opening, Report, SegmentReport};
use super::sight::Seen;
use super::survey::Survey;
use crate::format::FooterKind;
use crate::segment::{Cause, Stretch, StretchKind};
use crate::types::{Epoch, Lsn, LsnRange};

/// What was seen of each segment of a chain.
pub(super) struct Sights {
    /// `None` for those of which only header and footer were read.
    pub(super) seen: Vec<Option<Arc<Seen>>>,
    /// Whether there are none of those.
    pub(super) is_verified: bool,
}

/// Makes the report.
pub(super) fn tally(survey: &Survey, chain: Chain, sights: &Sights, opening: Opening) -> Report {
    let Chain { links, strays, mut stretches, first_lsn, durable, .. } = chain;
    stretches.extend(survey.slots.stretches());
    let mut tally = Tally {
        durable,
        newest: first_lsn.prev(),
        epoch: survey.slots.known().map_or(Epoch::default(), |superblock| superblock.epoch),
        readable: vec![],
        given_up: vec![],
        stretches,
        segments: Vec::with_capacity(links.len()),
    };
    let count = links.len();
    for (index, (link, seen)) in links.iter().zip(&sights.seen).enumerate() {
        tally.add(link, seen.as_deref(), index + 1 == count);
    }
    if count == 0 {
        tally.stretches.extend(missing(first_lsn, durable));
    }
    let Tally { durable, newest, epoch, readable, given_up, mut stretches, segments } = tally;
    let last_lsn = newest.max(durable);
    let retained = LsnRange::new(first_lsn, last_lsn);
    let clip = |ranges: Vec<LsnRange>| retained.map_or(vec![], |within| clip(merge(ranges), within));
    let (readable, given_up) = (clip(readable), clip(given_up));
    let here = merge(readable.iter().chain(&given_up).copied().collect());
    forget_trimmed(&mut stretches, first_lsn);
    stretches.sort_by(|a, b| place(a).cmp(&place(b)));
    Report {
        log_id: survey.log_id,
        superblock: survey.slots.report.clone(),
        bytes: bytes(survey),
        segments,
        strays,
        stretches,
        lost: LsnRange::new(first_lsn, durable).map_or(vec![], |all| without(all, &here)),
        first_lsn,
        last_lsn,
        durable,
        epoch,
        records: count_of(&readable) - count_of(&clip_to(&given_up, &readable)),
        given_up,
        is_verified: sights.is_verified,
        opening,
        writer: None,
        unfinished_repair: survey.unfinished_repair.clone(),
    }
}

/// What comes together from segment to segment.
struct Tally {
    durable: Lsn,
    /// The last record that belongs to a segment.
    newest: Lsn,
    epoch: Epoch,
    readable: Vec<LsnRange>,
    given_up: Vec<LsnRange>,
    stretches: Vec<Stretch>,
    segments: Vec<SegmentReport>,
}

impl Tally {
    fn add(&mut self, link: &Link, seen: Option<&Seen>, is_last: bool) {
        let mut report = report_of(link, seen, is_last);
        self.durable = self.durable.max(link.footer.map_or(Lsn::ZERO, |footer| footer.last_lsn));
        self.epoch = self.epoch.max(link.header.epoch);
        if let Some(seen) = seen {
            self.durable = self.durable.max(seen.vouched);
            self.epoch = self.epoch.max(seen.epoch);
            self.readable.extend(seen.runs.iter().map(|run| run.lsns));
            self.given_up.extend(&seen.gaps);
            let told = self.stretches.len();
            self.stretches.extend(seen.stretches.iter().cloned());
            if !is_last && link.last.is_none() {
                let last_lsn = name_missing(&mut self.stretches[told..], link.durable);
                report.last_lsn = last_lsn.unwrap_or(report.last_lsn);
            }
        } else {
            self.readable.extend(LsnRange::new(link.header.first_lsn, report.last_lsn));
        }
        self.newest = self.newest.max(report.last_lsn);
        if is_last && (link.footer.is_some() || seen.is_none()) {
            self.stretches.extend(missing(report.last_lsn.next(), self.durable));
        }
        self.segments.push(report);
    }
}

fn report_of(link: &Link, seen: Option<&Seen>, is_last: bool) -> SegmentReport {
    let sealed = link.footer.is_some_and(|footer| footer.kind == FooterKind::Sealed);
    let header = link.header;
    let (end, last_lsn, runs) = match seen {
        Some(seen) => (seen.end, link.last.unwrap_or(seen.last_lsn), seen.runs.clone()),
        None => {
            let end = link.footer.map_or(header.data_end(), |footer| footer.end);
            (end, link.last.unwrap_or(header.first_lsn.prev()), vec![])
        }
    };
    SegmentReport {
        file: Arc::clone(&link.found.name),
        bytes: link.found.bytes,
        header,
        footer: link.footer,
        is_tail: is_last && !sealed,
        end,
        last_lsn,
        runs,
    }
}

/// Where nothing says how a segment ends, and those after it are missing, nothing but zeros up to its end is taken
/// to be their loss and not its own. Gives its last record then.
fn name_missing(stretches: &mut [Stretch], last: Lsn) -> Option<Lsn> {
    let is_rest = |stretch: &&mut Stretch| {
        stretch.cause == Cause::Blank && stretch.lsns.is_some_and(|lsns| lsns.last == last)
    };
    let rest = stretches.iter_mut().find(is_rest)?;
    let lsns = rest.lsns?;
    *rest = missing(lsns.first, lsns.last)?;
    Some(lsns.first.prev())
}

/// Records below the trim point are at no stake.
fn forget_trimmed(stretches: &mut [Stretch], first_lsn: Lsn) {
    for stretch in stretches {
        let Some(lsns) = stretch.lsns else { continue };
        stretch.lsns = LsnRange::new(lsns.first.max(first_lsn), lsns.last);
        stretch.is_acknowledged &= stretch.lsns.is_some();
    }
}

fn place(stretch: &Stretch) -> (Option<Lsn>, &str, u64, StretchKind) {
    (stretch.lsns.map(|lsns| lsns.first), &stretch.file, stretch.bytes.start, stretch.kind)
}

fn bytes(survey: &Survey) -> u64 {
    let strays = survey.strays.iter().filter(|stray| stray.role != FileRole::Other).map(|stray| stray.bytes);
    survey.slots.bytes + survey.files.iter().map(|found| found.bytes).chain(strays).sum::<u64>()
}

/// The same records in rising ranges that do not touch.
fn merge(mut ranges: Vec<LsnRange>) -> Vec<LsnRange> {
    ranges.sort_unstable();
    let mut merged: Vec<LsnRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.first <= last.last.next() => last.last = last.last.max(range.last),
            _ => merged.push(range),
        }
    }
    merged
}

fn clip(ranges: Vec<LsnRange>, within: LsnRange) -> Vec<LsnRange> {
    let inside = |range: LsnRange| LsnRange::new(range.first.max(within.first), range.last.min(within.last));
    ranges.into_iter().filter_map(inside).collect()
}

/// The parts of `ranges` that lie in `within`; both are merged.
fn clip_to(ranges: &[LsnRange], within: &[LsnRange]) -> Vec<LsnRange> {
    let mut parts = Vec::new();
    let mut ahead = within;
    for range in ranges {
        let passed = ahead.partition_point(|other| other.last < range.first);
        ahead = &ahead[passed..];
        let touching = ahead.iter().take_while(|other| other.first <= range.last);
        parts.extend(
            touching
                .filter_map(|other| LsnRange::new(range.first.max(other.first), range.last.min(other.last))),
        );
    }
    parts
}

/// What is left of `all` without `taken`, which is merged and lies inside.
fn without(all: LsnRange, taken: &[LsnRange]) -> Vec<LsnRange> {
    let mut left = Vec::new();
    let mut next = all.first;
    for range in taken {
        left.extend(LsnRange::new(next, range.first.prev().min(all.last)).filter(|_| range.first > next));
        next = next.max(range.last.next());
    }
    left.extend(LsnRange::new(next, all.last));
    left
}

fn count_of(ranges: &[LsnRange]) -> u64 {
    ranges.iter().map(LsnRange::records).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pairs: &[(u64, u64)]) -> Vec<LsnRange> {
        pairs.iter().map(|&(first, last)| LsnRange { first: Lsn::new(first), last: Lsn::new(last) }).collect()
    }

    #[test]
    fn ranges_are_merged_clipped_and_taken_away() {
        let merged = merge(ranges(&[(7, 9), (1, 3), (4, 5), (8, 12)]));
        assert_eq!(merged, ranges(&[(1, 5), (7, 12)]));
        let all = ranges(&[(3, 14)])[0];
        assert_eq!(clip(merged.clone(), all), ranges(&[(3, 5), (7, 12)]));
        assert_eq!(without(all, &clip(merged.clone(), all)), ranges(&[(6, 6), (13, 14)]));
        assert_eq!(without(all, &[]), ranges(&[(3, 14)]));
        assert_eq!(without(all, &ranges(&[(3, 14)])), []);
        assert_eq!(clip_to(&ranges(&[(1, 1), (5, 8)]), &merged), ranges(&[(1, 1), (5, 5), (7, 8)]));
        assert_eq!(count_of(&merged), 11);
    }
}
