//! Small logs with something of everything, made byte by byte from a seed: no thread has a part in it.

use std::collections::BTreeMap;

use annals::format::{
    CleanTail, Digest, FRAME_HEADER_BYTES, Footer, FooterKind, Frame, GROUP_HEADER_BYTES, Incarnation, Mark,
    SLOT_BYTES, SUPERBLOCK_BYTES, SegmentHeader, Stamp, Superblock, Tables, block_up, footer_bytes_for,
    frame_bytes, write_record,
};
use annals::{Epoch, LogId, Lsn, SegmentId, WriteMethod};

use crate::directory::{Directory, SUPERBLOCK};
use crate::seeds::Chance;
use annals_fixtures::segment::{Builder, Content, Start, index};

/// A directory, and what was written into it.
#[derive(Clone)]
pub(crate) struct Forged {
    pub(crate) files: Directory,
    /// By LSN; nothing for the start of an epoch.
    pub(crate) records: BTreeMap<u64, Option<Vec<u8>>>,
    /// How it was left.
    pub(crate) left: Left,
}

/// How a log was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// Closed: the superblock and a parked footer say where it ends.
    Closed,
    /// Killed, with the newest groups written as a whole.
    Killed,
    /// Killed while groups were in flight, of which parts were written.
    Torn,
    /// Killed right after the newest segment was sealed.
    Sealed,
    /// Killed right after a segment began in a spare, before it got its name.
    Unnamed,
    /// Killed, or closed, with a segment in which nothing was written yet.
    Empty,
}

const LEFT: [Left; 8] = [
    Left::Closed,
    Left::Closed,
    Left::Killed,
    Left::Killed,
    Left::Torn,
    Left::Sealed,
    Left::Unnamed,
    Left::Empty,
];

/// The former life of a file has fewer records.
const FORMER_RECORDS_MAX: u64 = 100;

/// A log that grows segment by segment.
struct Forge {
    chance: Chance,
    log_id: LogId,
    files: Directory,
    records: BTreeMap<u64, Option<Vec<u8>>>,
    /// The last record of each group.
    lasts: Vec<u64>,
    next: SegmentHeader,
    /// Groups that are in flight at once.
    lag: usize,
    segment_bytes: u64,
    /// The first record of the log.
    begin: u64,
    /// Whether segments may have another size.
    varied: bool,
}

/// The log of this seed.
pub(crate) fn log(seed: u64) -> Forged {
    let mut chance = Chance::new(seed);
    let left = chance.pick(&LEFT);
    let segments = chance.between(1, 4);
    forge(chance, left, segments)
}

/// The smallest log that has one of everything, for flipping each of its bits.
pub(crate) fn small(left: Left) -> Forged {
    let mut forge = Forge::new(Chance::new(7), 24 << 10, 1);
    (forge.lag, forge.varied) = (0, false);
    let mut first = forge.segment();
    forge.group(&mut first, Start::Fresh, &[Content::Record(b"one".to_vec()), Content::Record(vec![])]);
    forge.group(&mut first, Start::Packed, &[Content::Batch(vec![vec![0; 9], vec![], b"three".to_vec()])]);
    forge.group(&mut first, Start::Fresh, &[Content::EpochStart, Content::Record(vec![0; 40])]);
    forge.seal(first, FooterKind::Sealed);
    let mut tail = forge.segment();
    forge.group(&mut tail, Start::Fresh, &[Content::Record(b"next".to_vec())]);
    forge.group(&mut tail, Start::Packed, &[Content::Record(vec![1; 17]), Content::Record(vec![0; 8])]);
    forge.finish(tail, left)
}

fn forge(mut chance: Chance, left: Left, segments: u64) -> Forged {
    let segment_bytes = chance.pick(&[24 << 10, 32 << 10, 64 << 10]);
    // The segments before were trimmed away.
    let first = chance.pick(&[1, 3]);
    let mut forge = Forge::new(chance, segment_bytes, first);
    for number in 1..segments {
        let mut builder = forge.segment();
        forge.fill(&mut builder, 6);
        let is_newest = number + 1 == segments;
        match forge.chance.below(9) {
            // A truncation cut it, at the end of a group or inside.
            0 => forge.cut_after_group(&mut builder),
            1 => forge.cut_inside_group(&mut builder),
            // A crash came between the first group of the next one and the footer.
            2 if is_newest && !matches!(left, Left::Empty | Left::Closed) => {
                forge.put(&builder);
                forge.follow(&builder);
                continue;
            }
            _ => {}
        }
        forge.seal(builder, FooterKind::Sealed);
    }
    let mut tail = forge.segment();
    if left != Left::Empty {
        forge.fill(&mut tail, 5);
    }
    forge.finish(tail, left)
}

impl Forge {
    fn new(mut chance: Chance, segment_bytes: u64, first_segment: u64) -> Forge {
        let log_id = LogId::new(u128::from(chance.next()) << 64 | u128::from(chance.next()));
        let is_first = first_segment == 1;
        let next = SegmentHeader {
            log_id,
            incarnation: Incarnation::new(0),
            segment_id: SegmentId::new(first_segment),
            first_lsn: Lsn::new(if is_first { 1 } else { chance.between(FORMER_RECORDS_MAX + 1, 100_000) }),
            epoch: Epoch::FIRST,
            previous_digest: if is_first { Digest::ZERO } else { Digest::new(chance.next()) },
            segment_bytes,
            footer_bytes: footer_bytes_for(segment_bytes),
        };
        let lag = chance.pick(&[0, 0, 1, 3]);
        let begin = next.first_lsn.get();
        let (files, records) = (Directory::default(), BTreeMap::new());
        Forge { chance, log_id, files, records, lasts: vec![], next, lag, segment_bytes, begin, varied: true }
    }

    /// Begins the next segment, in a new file or in one that had another life.
    fn segment(&mut self) -> Builder {
        let oversized = self.varied && self.chance.below(10) == 0;
        let segment_bytes = if oversized { self.segment_bytes * 4 } else { self.segment_bytes };
        let footer_bytes = footer_bytes_for(segment_bytes);
        let incarnation = Incarnation::new(self.chance.next());
        let header = SegmentHeader { incarnation, segment_bytes, footer_bytes, ..self.next };
        let mut builder = Builder::with(header);
        if self.begin > FORMER_RECORDS_MAX && self.chance.below(3) == 0 {
            builder.bytes = self.former_life(header);
        }
        builder
    }

    /// The bytes of a file that was a segment of this log before, under the header that it has now.
    fn former_life(&mut self, header: SegmentHeader) -> Vec<u8> {
        let incarnation = Incarnation::new(self.chance.next());
        // Only what was trimmed away is recycled.
        let first_lsn = Lsn::new(self.begin - FORMER_RECORDS_MAX);
        let mut former = Builder::with(SegmentHeader { incarnation, first_lsn, ..header });
        for _ in 0..4 {
            let contents = self.contents(&former, 2000);
            if fits(&former, Start::Fresh, &contents) {
                former.group(Start::Fresh, &contents);
            }
        }
        former.seal(FooterKind::Sealed);
        header.encode_into(&mut former.bytes);
        former.bytes
    }

    fn fill(&mut self, builder: &mut Builder, groups_max: u64) {
        for _ in 0..self.chance.between(1, groups_max) {
            let start = if self.lag == 0 && self.chance.below(3) > 0 { Start::Packed } else { Start::Fresh };
            let contents = self.contents(builder, 6000);
            if fits(builder, start, &contents) {
                self.group(builder, start, &contents);
            }
        }
        if builder.groups == 0 {
            self.group(builder, Start::Fresh, &[Content::Record(b"at least one".to_vec())]);
        }
    }

    fn group(&mut self, builder: &mut Builder, start: Start, contents: &[Content]) {
        self.note(builder.last.get(), contents);
        let known = self.lasts.len().checked_sub(self.lag + 1).map_or(0, |index| self.lasts[index]);
        let written = builder.group_knowing(start, Lsn::new(known), contents);
        self.lasts.push(written.last.get());
    }

    fn note(&mut self, mut last: u64, contents: &[Content]) {
        for content in contents {
            let records = match content {
                Content::Record(record) => vec![Some(record.clone())],
                Content::Batch(records) => records.iter().cloned().map(Some).collect(),
                _ => vec![None],
            };
            for record in records {
                last += 1;
                self.records.insert(last, record);
            }
        }
    }

    fn contents(&mut self, builder: &Builder, bytes_max: u64) -> Vec<Content> {
        let frames = self.chance.between(1, 4);
        let mut lsn = builder.last.get();
        let mut contents = vec![];
        for _ in 0..frames {
            let content = match self.chance.below(9) {
                0 => Content::EpochStart,
                1 | 2 => {
                    let records = self.chance.between(1, 5);
                    Content::Batch((0..records).map(|_| self.payload(builder, bytes_max / 8, lsn)).collect())
                }
                _ => Content::Record(self.payload(builder, bytes_max, lsn)),
            };
            lsn += match &content {
                Content::Batch(records) => records.len() as u64,
                _ => 1,
            };
            contents.push(content);
        }
        contents
    }

    /// Nothing, zeros, noise, or what could be taken for a part of this very log.
    fn payload(&mut self, builder: &Builder, bytes_max: u64, last: u64) -> Vec<u8> {
        let bytes = match self.chance.below(4) {
            0 => self.chance.below(20),
            1 => self.chance.below(300),
            2 => self.chance.below(bytes_max.min(1500)),
            _ => self.chance.below(bytes_max),
        };
        match self.chance.below(6) {
            0 => vec![0; index(bytes)],
            1 => decoy(builder, last, index(bytes)),
            2 => {
                let from = self.chance.pick(&[0, 4096, 4096 + GROUP_HEADER_BYTES as u64]);
                let stored = &builder.bytes[index(from)..];
                stored[..index(bytes).min(stored.len())].to_vec()
            }
            _ => self.chance.payload(index(bytes)),
        }
    }

    /// Ends the segment at its last group, and leaves groups behind that a truncation took away.
    fn cut_after_group(&mut self, builder: &mut Builder) {
        let kept = builder.clone();
        for _ in 0..2 {
            let contents = self.contents(builder, 1500);
            if fits(builder, Start::Fresh, &contents) {
                builder.group(Start::Fresh, &contents);
            }
        }
        let bytes = std::mem::take(&mut builder.bytes);
        *builder = Builder { bytes, ..kept };
    }

    /// Ends the segment inside a group.
    fn cut_inside_group(&mut self, builder: &mut Builder) {
        let contents = [
            Content::Record(self.chance.payload(30)),
            Content::Batch(vec![vec![], self.chance.payload(5)]),
            Content::Record(self.chance.payload(70)),
        ];
        if !fits(builder, Start::Fresh, &contents) {
            return;
        }
        let before = builder.clone();
        let keep = 1 + index(self.chance.below(2));
        let first = before.last.get();
        builder.group(Start::Fresh, &contents);
        self.note(first, &contents[..keep]);
        let mut cut = Builder { bytes: std::mem::take(&mut builder.bytes), ..before };
        let group = block_up(cut.end);
        let mut at = group + GROUP_HEADER_BYTES as u64;
        let mut digest = Digest::new(cut.header.incarnation.get());
        for _ in 0..keep {
            let header = *Frame::parse(&cut.bytes[index(at)..]).unwrap().header();
            digest = digest.fold(header.checksum.into());
            cut.tables.note(&header, group, at);
            at += header.frame_bytes();
            cut.last = header.last_lsn();
        }
        (cut.end, cut.groups, cut.digest) = (at, cut.groups + 1, cut.digest.fold(digest.get()));
        self.lasts.push(cut.last.get());
        *builder = cut;
    }

    fn seal(&mut self, mut builder: Builder, kind: FooterKind) -> Footer {
        let footer = builder.seal(kind);
        self.put(&builder);
        self.follow(&builder);
        footer
    }

    fn put(&mut self, builder: &Builder) {
        let name = format!("{:020}.seg", builder.header.first_lsn.get());
        self.files.0.insert(name, builder.bytes.clone());
    }

    /// The segment after this one.
    fn follow(&mut self, builder: &Builder) {
        self.next = SegmentHeader {
            segment_id: builder.header.segment_id.next(),
            first_lsn: builder.last.next(),
            epoch: builder.epoch,
            previous_digest: builder.digest,
            ..self.next
        };
    }

    fn finish(mut self, mut tail: Builder, left: Left) -> Forged {
        let mut clean = None;
        let mut durable = self.lasts.iter().rev().nth(self.lag).copied().unwrap_or(0);
        match left {
            Left::Closed => {
                let footer = self.seal(tail, FooterKind::Parked);
                let Footer { segment_id, end, last_lsn, digest, .. } = footer;
                clean = Some(CleanTail { segment_id, end, last_lsn, digest });
                durable = last_lsn.get();
            }
            Left::Sealed => drop(self.seal(tail, FooterKind::Sealed)),
            Left::Killed | Left::Empty => self.put(&tail),
            Left::Torn => {
                self.tear(&mut tail);
                self.put(&tail);
            }
            Left::Unnamed => {
                self.files.0.insert("spare-000007.seg".to_owned(), tail.bytes.clone());
            }
        }
        if clean.is_none() && self.chance.below(3) == 0 {
            // It is advanced lazily.
            durable = self.lasts.first().copied().unwrap_or(0);
        }
        self.superblock(durable, clean);
        for number in 0..self.chance.below(3) {
            self.spare(number + 1);
        }
        Forged { files: self.files, records: self.records, left }
    }

    /// Leaves parts of groups that were in flight: none of them was acknowledged.
    fn tear(&mut self, tail: &mut Builder) {
        let whole = tail.clone();
        let mut first = true;
        for _ in 0..self.chance.between(1, 3) {
            let contents = self.contents(tail, 3000);
            if !fits(tail, Start::Fresh, &contents) {
                break;
            }
            let written = tail.group_knowing(Start::Fresh, whole.last.prev(), &contents);
            let (start, end) = (index(written.start), index(written.end));
            // The first one has to be torn, or it would count.
            if first || self.chance.below(2) == 0 {
                let from = match self.chance.below(3) {
                    0 => start,
                    1 => start + GROUP_HEADER_BYTES + 3,
                    _ => start + index(self.chance.below((end - start) as u64)),
                };
                let noise = self.chance.below(2) == 0;
                for byte in &mut tail.bytes[from..end] {
                    *byte = if noise { self.chance.next() as u8 } else { 0 };
                }
                if from > start && tail.bytes[from..end].iter().all(|byte| *byte == 0) {
                    // What was to be zero there anyway is whole.
                    tail.bytes[from.max(start + 1) - 1] ^= 0x55;
                }
            }
            first = false;
        }
        let bytes = std::mem::take(&mut tail.bytes);
        *tail = Builder { bytes, ..whole };
    }

    fn superblock(&mut self, durable: u64, clean_tail: Option<CleanTail>) {
        let begin = self.files.0.keys().next().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
        let first = self.records.keys().next().copied().or(begin).unwrap_or(1);
        let last = self.records.keys().last().copied().unwrap_or(first - 1);
        // What was trimmed away was durable.
        let durable = durable.max(first - 1);
        let trimmed = self.chance.below(4) == 0 && last >= first;
        // Trimmed inside the first segments, whose files may still be there.
        let first_lsn = if trimmed { self.chance.between(first, durable.clamp(first, last)) } else { first };
        let sequence = self.chance.between(2, 50);
        let mark = (self.chance.below(3) == 0).then(|| Mark {
            lsn: Lsn::new(first_lsn),
            bytes: vec![7; index(self.chance.pick(&[0, 100, 9000]))],
        });
        let newer = Superblock {
            sequence,
            epoch: self.next.epoch,
            durable: Lsn::new(durable),
            first_lsn: Lsn::new(first_lsn),
            clean_tail,
            mark,
            ..Superblock::new(self.log_id, WriteMethod::Buffered)
        };
        let older = Superblock {
            sequence: sequence - 1,
            durable: Lsn::new(self.lasts.first().copied().unwrap_or(0).min(durable)),
            clean_tail: None,
            ..newer.clone()
        };
        let mut bytes = vec![0; SUPERBLOCK_BYTES];
        for slot in [newer, older] {
            slot.encode_into(&mut bytes[slot.slot() * SLOT_BYTES..]);
        }
        self.files.0.insert(SUPERBLOCK.to_owned(), bytes);
    }

    fn spare(&mut self, number: u64) {
        let mut bytes = vec![0; index(self.segment_bytes)];
        if self.begin > FORMER_RECORDS_MAX && self.chance.below(2) == 0 {
            let header = SegmentHeader { incarnation: Incarnation::new(self.chance.next()), ..self.next };
            bytes = self.former_life(header);
            bytes[..4096].fill(0);
        }
        self.files.0.insert(format!("spare-{number:06}.seg"), bytes);
    }
}

/// Bytes with a frame in them that checks and has the very LSN that is expected next.
fn decoy(builder: &Builder, last: u64, bytes: usize) -> Vec<u8> {
    let record = b"this was never appended";
    let frame_bytes = index(frame_bytes(record.len() as u64));
    let mut payload = vec![0; bytes.max(frame_bytes * 2 + 16)];
    for (at, ahead) in [(0, 1), (frame_bytes, 2)] {
        let stamp = Stamp { lsn: Lsn::new(last + ahead), epoch: builder.epoch };
        write_record(&mut payload[at..at + frame_bytes], stamp, record);
    }
    payload
}

/// Whether a group has room before the footer.
fn fits(builder: &Builder, start: Start, contents: &[Content]) -> bool {
    let frame = |content: &Content| match content {
        Content::Record(record) => frame_bytes(record.len() as u64),
        Content::Batch(records) => {
            frame_bytes(records.iter().map(|record| record.len() as u64 + 4).sum::<u64>())
        }
        _ => FRAME_HEADER_BYTES as u64,
    };
    let from = if start == Start::Packed { builder.end } else { block_up(builder.end) };
    let end = from + GROUP_HEADER_BYTES as u64 + contents.iter().map(frame).sum::<u64>();
    // The epochs' table has room for all.
    end <= builder.header.data_end() && builder.tables.epochs_left() > Tables::new().epochs_left() / 2
}
