//! A map of the log that fits on one screen, however many segments there are.
//!
//! One character is a part of a segment, a segment, or a number of segments; it shows the worst that is there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use annals::repair::{Cause, Report, SegmentReport, Stretch, StretchKind};
use annals::{Lsn, LsnRange};

use crate::out::{Paint, Tone};

/// Rows at most; with what stands around them they fit on a screen of 24 lines.
const ROWS_MAX: usize = 14;

/// What stands in a place of the log, from the best to the worst: the worst is what a cell shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Mark {
    Unwritten,
    Stale,
    Clean,
    GivenUp,
    Torn,
    Rot,
    Hole,
}

impl Mark {
    const ALL: [Mark; 7] =
        [Mark::Clean, Mark::Unwritten, Mark::Stale, Mark::GivenUp, Mark::Torn, Mark::Rot, Mark::Hole];

    fn of(stretch: &Stretch) -> Mark {
        match stretch.kind {
            StretchKind::Torn => Mark::Torn,
            StretchKind::Stale => Mark::Stale,
            StretchKind::Rot => Mark::Rot,
            StretchKind::Hole => Mark::Hole,
        }
    }

    fn sign(self) -> char {
        match self {
            Mark::Clean => '.',
            Mark::Unwritten => '_',
            Mark::Stale => 's',
            Mark::GivenUp => 'g',
            Mark::Torn => 'T',
            Mark::Rot => 'R',
            Mark::Hole => 'H',
        }
    }

    fn tone(self) -> Tone {
        match self {
            Mark::Clean => Tone::Good,
            Mark::Unwritten | Mark::Stale => Tone::Dim,
            Mark::GivenUp | Mark::Torn => Tone::Notice,
            Mark::Rot | Mark::Hole => Tone::Bad,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Mark::Clean => "clean",
            Mark::Unwritten => "not in use",
            Mark::Stale => "stale",
            Mark::GivenUp => "given up by a repair",
            Mark::Torn => "torn, never acknowledged",
            Mark::Rot => "ROT: does not check",
            Mark::Hole => "HOLE: not there",
        }
    }
}

/// One segment, there or missing.
struct Plot {
    first: Lsn,
    bytes: u64,
    /// The best that is here, up to where something was written.
    written: u64,
    marks: Vec<(Range<u64>, Mark)>,
}

impl Plot {
    fn of_segment(segment: &SegmentReport, stretches: &[&Stretch], given_up: &[LsnRange]) -> Plot {
        let mut marks: Vec<_> =
            stretches.iter().map(|stretch| (stretch.bytes.clone(), Mark::of(stretch))).collect();
        marks.extend(gaps(segment, given_up).map(|bytes| (bytes, Mark::GivenUp)));
        Plot {
            first: segment.header.first_lsn,
            bytes: segment.bytes.max(segment.header.segment_bytes).max(1),
            written: segment.end,
            marks,
        }
    }

    fn of_missing(stretch: &Stretch, before: Lsn) -> Plot {
        let first = stretch.lsns.map_or(before, |lsns| lsns.first);
        Plot { first, bytes: 1, written: 0, marks: vec![(0..1, Mark::Hole)] }
    }

    /// The worst in `part` of `parts`.
    fn worst(&self, part: usize, parts: usize) -> Mark {
        let border = |part: usize| (u128::from(self.bytes) * part as u128 / parts as u128) as u64;
        let (start, end) = (border(part), border(part + 1).max(border(part) + 1));
        let best = if start < self.written { Mark::Clean } else { Mark::Unwritten };
        let touches = |range: &Range<u64>| {
            // What lies past the end of a file that was cut is shown at its end.
            let first = range.start.min(self.bytes - 1);
            first < end && range.end.max(first + 1) > start
        };
        let marks = self.marks.iter().filter(|(range, _)| touches(range));
        marks.map(|&(_, mark)| mark).fold(best, Mark::max)
    }
}

/// About where in the segment the records are that were given up: gaps say nothing of bytes.
fn gaps(segment: &SegmentReport, given_up: &[LsnRange]) -> impl Iterator<Item = Range<u64>> {
    let (first, last, end) = (segment.header.first_lsn, segment.last_lsn, segment.end);
    let records = u128::from(last.get().saturating_sub(first.get())) + 1;
    let at = move |lsn: Lsn| (u128::from(lsn.get() - first.get()) * u128::from(end) / records) as u64;
    let inside =
        given_up.iter().filter_map(move |gap| LsnRange::new(gap.first.max(first), gap.last.min(last)));
    inside.map(move |gap| at(gap.first)..at(gap.last.next())).collect::<Vec<_>>().into_iter()
}

/// How cells and segments go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scale {
    /// So many cells for each segment.
    CellsPerSegment(usize),
    /// So many segments for each cell.
    SegmentsPerCell(usize),
}

impl Scale {
    fn of(segments: usize, columns: usize) -> Scale {
        let cells = columns * ROWS_MAX;
        if segments > cells {
            return Scale::SegmentsPerCell(segments.div_ceil(cells));
        }
        // A segment never goes over the end of a row.
        let parts = (1..=columns).rev().filter(|parts| columns.is_multiple_of(*parts));
        let fitting = parts.into_iter().find(|parts| segments * parts <= cells);
        Scale::CellsPerSegment(fitting.unwrap_or(1))
    }

    fn text(self) -> String {
        match self {
            Scale::CellsPerSegment(1) => "one character is a segment, the worst in it".to_owned(),
            Scale::CellsPerSegment(cells) => {
                format!("a segment is {cells} characters, each the worst in its part")
            }
            Scale::SegmentsPerCell(segments) => {
                format!("one character is {segments} segments, the worst in them")
            }
        }
    }
}

/// The map, or nothing of a log without segments.
pub(crate) fn map(report: &Report, paint: Paint) -> String {
    let plots = plots(report);
    let Some(last) = plots.last() else { return String::new() };
    let label = last.first.to_string().len().max("from LSN".len());
    let columns = if label <= 12 { 64 } else { 48 };
    let scale = Scale::of(plots.len(), columns);
    let cells = cells(&plots, scale);
    let mut text = format!("map: {}\n", scale.text());
    for row in cells.chunks(columns) {
        let _ = writeln!(text, "  {:>label$}  {}", row[0].0.get(), painted(row, paint));
    }
    text + &legend(&cells, paint)
}

fn plots(report: &Report) -> Vec<Plot> {
    let mut by_file: BTreeMap<&str, Vec<&Stretch>> = BTreeMap::new();
    for stretch in &report.stretches {
        by_file.entry(&stretch.file).or_default().push(stretch);
    }
    let known = report.segments.iter().map(|segment| {
        let stretches = by_file.get(&*segment.file).map_or(&[][..], Vec::as_slice);
        Plot::of_segment(segment, stretches, &report.given_up)
    });
    let missing = report.stretches.iter().filter(|stretch| stretch.cause == Cause::Missing);
    let missing = missing.filter(|stretch| stretch.file.ends_with(".seg"));
    let mut plots: Vec<Plot> =
        known.chain(missing.map(|stretch| Plot::of_missing(stretch, report.last_lsn))).collect();
    plots.sort_by_key(|plot| plot.first);
    plots
}

fn cells(plots: &[Plot], scale: Scale) -> Vec<(Lsn, Mark)> {
    match scale {
        Scale::CellsPerSegment(parts) => {
            let parts_of = |plot: &Plot| {
                (0..parts).map(|part| (plot.first, plot.worst(part, parts))).collect::<Vec<_>>()
            };
            plots.iter().flat_map(parts_of).collect()
        }
        Scale::SegmentsPerCell(segments) => {
            let worst = |chunk: &[Plot]| chunk.iter().map(|plot| plot.worst(0, 1)).max();
            let cell = |chunk: &[Plot]| (chunk[0].first, worst(chunk).unwrap_or(Mark::Unwritten));
            plots.chunks(segments).map(cell).collect()
        }
    }
}

/// One row, with as few changes of colour as it takes.
fn painted(row: &[(Lsn, Mark)], paint: Paint) -> String {
    let runs = row.chunk_by(|(_, one), (_, other)| one == other);
    runs.map(|run| paint.paint(run[0].1.tone(), &run[0].1.sign().to_string().repeat(run.len()))).collect()
}

/// What the signs on the map mean: only those that are on it, in lines of at most 80 characters.
fn legend(cells: &[(Lsn, Mark)], paint: Paint) -> String {
    let (mut text, mut used) = (String::new(), 0);
    for mark in Mark::ALL.into_iter().filter(|mark| cells.iter().any(|(_, there)| there == mark)) {
        let width = mark.meaning().len() + 4;
        if used + width > 78 {
            text.push('\n');
            used = 0;
        }
        let gap = if used == 0 { "  " } else { "   " };
        used += width + 1;
        let _ =
            write!(text, "{gap}{} {}", paint.paint(mark.tone(), &mark.sign().to_string()), mark.meaning());
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use annals::format::{Digest, Incarnation, SegmentHeader, footer_bytes_for};
    use annals::repair::{Opening, SlotReport, SuperblockReport};
    use annals::{Epoch, LogId, SegmentId};

    use super::*;

    const SEGMENT_BYTES: u64 = 64 << 10;
    /// Records in each segment.
    const RECORDS: u64 = 100;

    fn file(number: u64) -> Arc<str> {
        format!("{:020}.seg", number * RECORDS + 1).into()
    }

    fn segment(number: u64) -> SegmentReport {
        let header = SegmentHeader {
            log_id: LogId::new(1),
            incarnation: Incarnation::new(2),
            segment_id: SegmentId::new(number + 1),
            first_lsn: Lsn::new(number * RECORDS + 1),
            epoch: Epoch::FIRST,
            previous_digest: Digest::ZERO,
            segment_bytes: SEGMENT_BYTES,
            footer_bytes: footer_bytes_for(SEGMENT_BYTES),
        };
        SegmentReport {
            file: file(number),
            bytes: SEGMENT_BYTES,
            header,
            footer: None,
            is_tail: false,
            end: SEGMENT_BYTES,
            last_lsn: Lsn::new((number + 1) * RECORDS),
            runs: Vec::new(),
        }
    }

    fn report(segments: u64) -> Report {
        use annals::format::BadBlock::Blank;
        Report {
            log_id: Some(LogId::new(1)),
            superblock: SuperblockReport {
                exists: true,
                slots: [SlotReport::Bad(Blank, None), SlotReport::Bad(Blank, None)],
                chosen: None,
            },
            segments: (0..segments).map(segment).collect(),
            strays: Vec::new(),
            stretches: Vec::new(),
            lost: Vec::new(),
            given_up: Vec::new(),
            first_lsn: Lsn::FIRST,
            last_lsn: Lsn::new(segments * RECORDS),
            durable: Lsn::new(segments * RECORDS),
            epoch: Epoch::FIRST,
            records: segments * RECORDS,
            bytes: segments * SEGMENT_BYTES,
            is_verified: true,
            opening: Opening::Opens,
            writer: None,
            unfinished_repair: None,
        }
    }

    fn stretch(number: u64, kind: StretchKind, cause: Cause, bytes: Range<u64>) -> Stretch {
        let first = Lsn::new(number * RECORDS + 1);
        let lsns = LsnRange::new(first, Lsn::new((number + 1) * RECORDS));
        Stretch { kind, file: file(number), bytes, lsns, is_acknowledged: true, cause, correction: None }
    }

    fn rot(number: u64, bytes: Range<u64>) -> Stretch {
        stretch(number, StretchKind::Rot, Cause::Frame, bytes)
    }

    /// The rows without their labels.
    fn rows(map: &str) -> Vec<&str> {
        let rows =
            map.lines().filter(|line| line.trim_start().starts_with(|char: char| char.is_ascii_digit()));
        rows.map(|line| line.rsplit("  ").next().unwrap()).collect()
    }

    #[test]
    fn one_segment_takes_a_row_and_damage_stands_where_it_is() {
        let mut report = report(1);
        report.segments[0].end = SEGMENT_BYTES / 2;
        report.stretches = vec![rot(0, 10 << 10..11 << 10), rot(0, 20 << 10..20 << 10)];
        let map = map(&report, Paint::NONE);
        let expected = format!("{}R{}R{}{}", ".".repeat(10), ".".repeat(9), ".".repeat(11), "_".repeat(32));
        assert_eq!(rows(&map), [expected]);
        assert!(map.contains("R ROT") && map.contains("_ not in use") && !map.contains("HOLE"), "{map}");
    }

    #[test]
    fn a_missing_segment_has_its_place() {
        let mut report = report(64);
        report.segments.remove(40);
        report.stretches = vec![stretch(40, StretchKind::Hole, Cause::Missing, 0..0)];
        let map = map(&report, Paint::NONE);
        // Eight characters for each of 64 segments.
        assert_eq!(rows(&map).concat().find("HHHHHHHH"), Some(320), "{map}");
        assert_eq!(map.matches('H').count(), 8 + "H HOLE".matches('H').count());
    }

    #[test]
    fn a_hundred_thousand_segments_fit_on_a_screen_and_one_rotten_byte_is_seen() {
        let mut report = report(100_000);
        report.stretches = vec![rot(77_777, 5000..5001)];
        let map = map(&report, Paint::NONE);
        assert!(map.lines().count() <= 20 && map.lines().all(|line| line.len() <= 80), "{map}");
        let cells = rows(&map).concat();
        assert_eq!(cells.len(), 100_000_usize.div_ceil(112));
        assert_eq!(cells.find('R'), Some(77_777 / 112));
        assert_eq!(cells.matches('R').count(), 1);
    }

    #[test]
    fn any_number_of_segments_fits_in_eighty_columns() {
        for segments in [1, 2, 3, 13, 14, 15, 100, 447, 448, 449, 895, 896, 897, 5000] {
            let mut report = report(segments);
            report.segments[0].header.first_lsn = Lsn::new(1);
            report.segments.last_mut().unwrap().header.first_lsn = Lsn::new(u64::MAX - 7);
            let map = map(&report, Paint::NONE);
            assert!(map.lines().count() <= ROWS_MAX + 4, "{segments} segments:\n{map}");
            assert!(map.lines().all(|line| line.len() <= 80), "{segments} segments:\n{map}");
        }
    }

    #[test]
    fn the_worst_of_a_place_is_shown() {
        let mut report = report(1);
        let all = 0..SEGMENT_BYTES;
        for (kind, sign) in [
            (StretchKind::Stale, '.'),
            (StretchKind::Torn, 'T'),
            (StretchKind::Rot, 'R'),
            (StretchKind::Hole, 'H'),
        ] {
            report.stretches.push(stretch(0, kind, Cause::Blank, all.clone()));
            assert_eq!(rows(&map(&report, Paint::NONE)), [sign.to_string().repeat(64)]);
        }
    }

    #[test]
    fn what_was_given_up_is_shown_about_where_it_was() {
        let mut report = report(2);
        report.given_up = LsnRange::new(Lsn::new(51), Lsn::new(100)).into_iter().collect();
        let map = map(&report, Paint::NONE);
        assert_eq!(rows(&map), [".".repeat(32) + &"g".repeat(32), ".".repeat(64)]);
    }

    #[test]
    fn damage_past_the_end_of_a_file_is_shown_at_its_end() {
        let mut report = report(1);
        report.stretches =
            vec![stretch(0, StretchKind::Hole, Cause::Cut, SEGMENT_BYTES..SEGMENT_BYTES + 4096)];
        assert_eq!(rows(&map(&report, Paint::NONE)), [".".repeat(63) + "H"]);
    }

    #[test]
    fn colours_change_nothing_else() {
        let mut report = report(3);
        report.stretches = vec![rot(1, 5000..6000)];
        let painted = map(&report, Paint::ALL);
        assert!(painted.contains("\x1b[1;37;41mR\x1b[0m"));
        let mut plain = String::new();
        for part in painted.split("\x1b[") {
            plain.push_str(if plain.is_empty() { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(plain, map(&report, Paint::NONE));
    }

    #[test]
    fn a_log_without_segments_has_no_map() {
        assert_eq!(map(&report(0), Paint::NONE), "");
    }
}
