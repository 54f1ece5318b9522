//! A segment as a log writes it, and where each of its frames went.

use super::*;

/// Four blocks of data.
pub(super) const SMALL: u64 = 8 * BLOCK;

/// What goes into a frame.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Record(Vec<u8>),
    Batch(Vec<Vec<u8>>),
    EpochStart,
    Gap(u32),
}

/// A frame that was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) group: Range<u64>,
    pub(super) bytes: Range<u64>,
    pub(super) lsns: LsnRange,
}

/// The bytes of a segment, and what the writer of them knows.
#[derive(Clone)]
pub(super) struct Builder {
    pub(super) bytes: Vec<u8>,
    pub(super) header: SegmentHeader,
    pub(super) tables: Tables,
    pub(super) reach: Prefix,
    pub(super) frames: Vec<Written>,
}

impl Builder {
    pub(super) fn new(segment_bytes: u64) -> Builder {
        let header = SegmentHeader {
            log_id: LogId::new(7),
            incarnation: Incarnation::new(0x1234_5678_9ABC_DEF1),
            segment_id: SegmentId::FIRST,
            first_lsn: Lsn::FIRST,
            epoch: Epoch::FIRST,
            previous_digest: Digest::new(99),
            segment_bytes,
            footer_bytes: footer_bytes_for(segment_bytes),
        };
        let mut bytes = vec![0; segment_bytes as usize];
        header.encode_into(&mut bytes);
        let reach = Prefix {
            end: BLOCK,
            last_lsn: Lsn::ZERO,
            epoch: Epoch::FIRST,
            digest: header.previous_digest,
            groups: 0,
        };
        Builder { bytes, header, tables: Tables::new(), reach, frames: vec![] }
    }

    /// Writes a group that knows everything before it to be durable, packed or at the next block; false if it does
    /// not fit.
    pub(super) fn group(&mut self, is_packed: bool, contents: &[Content]) -> bool {
        self.group_knowing(is_packed, self.reach.last_lsn, contents)
    }

    pub(super) fn group_knowing(&mut self, is_packed: bool, durable: Lsn, contents: &[Content]) -> bool {
        let size: u64 = contents.iter().map(frame_size).sum();
        let position = if is_packed { self.reach.end } else { block_up(self.reach.end) };
        let start = position + GROUP_HEADER_BYTES as u64;
        if start + size > self.header.data_end() || contents.is_empty() {
            return false;
        }
        let mut at = start;
        for content in contents {
            let bytes = at..at + frame_size(content);
            let header = self.frame(bytes.clone(), content);
            self.tables.note(&header, position, at);
            let lsns = LsnRange { first: header.lsn, last: header.last_lsn() };
            self.frames.push(Written { group: position..start + size, bytes: bytes.clone(), lsns });
            self.reach.last_lsn = lsns.last;
            at = bytes.end;
        }
        let place = GroupPlace { incarnation: self.header.incarnation, position };
        let (before, frames) = self.bytes[..at as usize].split_at_mut(start as usize);
        let header = GroupHeader::over(frames, place, durable);
        header.encode_into(&mut before[position as usize..]);
        self.bytes[at as usize..block_up(at) as usize].fill(0);
        self.reach.digest = self.reach.digest.fold(header.digest.get());
        self.reach.end = at;
        self.reach.groups += 1;
        true
    }

    fn frame(&mut self, bytes: Range<u64>, content: &Content) -> FrameHeader {
        if matches!(content, Content::EpochStart) {
            self.reach.epoch = Epoch::new(self.reach.epoch.get() + 1);
        }
        let stamp = Stamp { lsn: self.reach.last_lsn.next(), epoch: self.reach.epoch };
        let frame = &mut self.bytes[bytes.start as usize..bytes.end as usize];
        match content {
            Content::Record(payload) => write_record(frame, stamp, payload),
            Content::Batch(records) => write_batch(frame, stamp, records),
            Content::EpochStart => write_epoch_start(frame, stamp),
            Content::Gap(count) => write_gap(frame, stamp, *count),
        };
        FrameHeader::decode(frame).unwrap()
    }

    pub(super) fn seal(&mut self) -> Footer {
        let footer = Footer {
            last_lsn: self.reach.last_lsn,
            end: self.reach.end,
            groups: self.reach.groups,
            digest: self.reach.digest,
            ..Footer::of(&self.header, FooterKind::Sealed)
        };
        let start = self.header.data_end() as usize;
        footer.encode_into(&self.tables, &mut self.bytes[start..]);
        footer
    }

    /// Whatever is said to be readable of the damaged bytes is what was written.
    pub(super) fn check_runs(&self, bytes: &[u8], durable: Lsn) {
        let file = Memory { bytes: bytes.to_vec(), ..Memory::default() };
        let last = Some(self.reach.last_lsn);
        for known in [Known { durable, ..Known::default() }, Known { last, ..Known::default() }] {
            for run in examine_memory(&file, &self.header, known).runs {
                self.check_run(bytes, &run);
            }
        }
    }

    pub(super) fn check_run(&self, bytes: &[u8], run: &Run) {
        let of_run =
            |frame: &&Written| run.lsns.first <= frame.lsns.last && frame.lsns.first <= run.lsns.last;
        for frame in self.frames.iter().filter(of_run) {
            let range = frame.bytes.start as usize..frame.bytes.end as usize;
            assert!(run.bytes.start <= frame.bytes.start && frame.bytes.end <= run.bytes.end);
            assert_eq!(bytes[range.clone()], self.bytes[range], "{:?}", frame.lsns);
        }
    }

    /// The frames whose records are in no run.
    pub(super) fn unread(&self, found: &Examined) -> Vec<u64> {
        found.runs.iter().for_each(|run| self.check_run(&self.bytes, run));
        let is_read = |lsn| found.runs.iter().any(|run| (run.lsns.first..=run.lsns.last).contains(&lsn));
        let all = self.header.first_lsn.get()..=self.reach.last_lsn.get();
        all.filter(|number| !is_read(Lsn::new(*number))).collect()
    }

    /// The segment with the footer, and as a tail of which everything was acknowledged.
    pub(super) fn both(&self, footer: &Footer) -> [Examined; 2] {
        let known = Known { durable: self.reach.last_lsn, ..Known::default() };
        [self.sealed(footer), examine_memory(&self.memory(), &self.header, known)]
    }

    pub(super) fn flip(&mut self, at: u64, bit: u8) {
        self.bytes[at as usize] ^= 1 << bit;
    }

    pub(super) fn memory(&self) -> Memory {
        Memory { bytes: self.bytes.clone(), ..Memory::default() }
    }

    pub(super) fn sealed(&self, footer: &Footer) -> Examined {
        let (footer, next_digest) = (Some(footer), Some(footer.digest));
        examine_memory(&self.memory(), &self.header, Known { footer, next_digest, ..Known::default() })
    }
}

pub(super) fn frame_size(content: &Content) -> u64 {
    frame_bytes(match content {
        Content::Record(payload) => payload.len() as u64,
        Content::Batch(records) => {
            batch_payload_bytes(records.len(), records.iter().map(|record| record.len() as u64).sum())
        }
        Content::EpochStart | Content::Gap(_) => 0,
    })
}

pub(super) fn record(bytes: usize) -> Content {
    Content::Record((0..bytes).map(|number| (number * 31 + 7) as u8).collect())
}

pub(super) fn lsn(number: u64) -> Lsn {
    Lsn::new(number)
}

/// A segment with frames of all kinds, packed and not.
pub(super) fn mixed() -> Builder {
    let mut log = Builder::new(SMALL);
    assert!(log.group(true, &[record(29), Content::Batch(vec![vec![1; 9], vec![], vec![2; 30]]), record(0)]));
    assert!(log.group(true, &[Content::EpochStart, record(100)]));
    assert!(log.group(false, &[record(300), record(41), record(500)]));
    assert!(log.group(true, &[record(64)]));
    log
}
