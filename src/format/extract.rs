//! What the frames of a sealed segment say beside their records, in a file of its own: whoever opens a replica's log has
//! to know that of every frame, and need not read them for it.
//!
//! It says nothing that the segment does not say. One that is missing, damaged or of another life of the segment is made
//! again from the frames.

use super::checksum::Digest;
use super::frame::{Frame, FrameKind, Origin};
use super::layout::{EXTRACT_MAGIC, extract};
use super::segment::{Incarnation, check_block, seal_block};
use super::verdict::BadBlock;
use crate::types::{Epoch, LogId, Lsn, ProducerId};

/// The frames from here on have another epoch.
const EPOCH: u8 = 1;
/// The start of an epoch.
const START: u8 = 3;
/// A control record.
const CONTROL: u8 = 5;
/// Records of a producer.
const PRODUCED: u8 = 6;
/// Bits of a number in each byte of it; the highest bit says that more follow.
const BITS: u32 = 7;

/// Which frames an extract is of: all of these have to be those of the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtractHead {
    /// The log that the segment belongs to.
    pub log_id: LogId,
    /// The life of the segment's file.
    pub incarnation: Incarnation,
    /// LSN of the segment's first record.
    pub first_lsn: Lsn,
    /// LSN of its last record.
    pub last_lsn: Lsn,
    /// The segment's end digest: it is over the checksums of all frames.
    pub digest: Digest,
}

/// Something that a frame says beside its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said<'a> {
    /// The records from this one on are of this epoch, which is not that of the record before.
    Epoch(Lsn, Epoch),
    /// This record is the start of its epoch.
    Start(Lsn),
    /// This record is a control record with this payload.
    Control(Lsn, &'a [u8]),
    /// So many records from this one on are a producer's.
    Produced(Lsn, u32, Origin),
}

/// An extract that is being made, frame by frame.
#[derive(Clone, Debug)]
pub struct Extract {
    next: Lsn,
    epoch: Option<Epoch>,
    bytes: Vec<u8>,
    bytes_max: usize,
    is_usable: bool,
}

impl Extract {
    /// Of a segment that begins with this record, and nothing of it yet. Over `bytes_max` it is given up: then reading the
    /// segment is not much slower.
    #[must_use]
    pub fn begin(first: Lsn, bytes_max: u64) -> Extract {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Extract { next: first, epoch: None, bytes: Vec::new(), bytes_max, is_usable: true }
    }

    /// Takes note of the next frame.
    #[inline]
    pub fn note(&mut self, frame: &Frame<'_>) {
        let header = frame.header();
        if self.epoch != Some(header.epoch) {
            self.epoch = Some(header.epoch);
            self.entry(EPOCH, header.lsn, header.lsn);
            self.put(header.epoch.get());
        }
        let after = header.last_lsn().next();
        match (header.kind, frame.origin()) {
            (FrameKind::Record | FrameKind::Batch, _) => {}
            (FrameKind::EpochStart, _) => self.entry(START, header.lsn, after),
            (FrameKind::Control, _) => {
                self.entry(CONTROL, header.lsn, after);
                self.put(frame.payload().len() as u64);
                self.bytes.extend_from_slice(frame.payload());
            }
            (FrameKind::Produced, Some(origin)) => {
                self.entry(PRODUCED, header.lsn, after);
                self.put(u64::from(header.count));
                self.put(origin.producer.get());
                self.put(origin.sequence);
            }
            // What is lost may come back, and then says something.
            (FrameKind::Produced | FrameKind::Gap, _) => self.is_usable = false,
        }
        if self.bytes.len() > self.bytes_max {
            self.give_up();
        }
    }

    /// Of something that is not known.
    pub fn give_up(&mut self) {
        self.is_usable = false;
        self.bytes = Vec::new();
    }

    /// The file; `None` if there is to be none.
    #[must_use]
    pub fn encode(&self, head: &ExtractHead) -> Option<Vec<u8>> {
        if !self.is_usable {
            return None;
        }
        let mut bytes = vec![0; extract::BYTES];
        extract::LOG_ID.put(&mut bytes, head.log_id.get());
        extract::INCARNATION.put(&mut bytes, head.incarnation.get());
        extract::FIRST_LSN.put(&mut bytes, head.first_lsn.get());
        extract::LAST_LSN.put(&mut bytes, head.last_lsn.get());
        extract::DIGEST.put(&mut bytes, head.digest.get());
        bytes.extend_from_slice(&self.bytes);
        seal_block(&mut bytes, EXTRACT_MAGIC);
        Some(bytes)
    }

    fn entry(&mut self, kind: u8, lsn: Lsn, next: Lsn) {
        if !self.is_usable {
            return;
        }
        self.bytes.push(kind);
        self.put(lsn.get() - self.next.get());
        self.next = next;
    }

    fn put(&mut self, mut number: u64) {
        if !self.is_usable {
            return;
        }
        while number >> BITS > 0 {
            self.bytes.push(number as u8 | 1 << BITS);
            number >>= BITS;
        }
        self.bytes.push(number as u8);
    }
}

/// What an extract says, in the order of the log.
#[derive(Clone, Debug)]
pub struct ExtractEntries<'a> {
    rest: &'a [u8],
    next: Lsn,
    last: Lsn,
}

impl<'a> ExtractEntries<'a> {
    /// Reads the file of an extract: `None` if it is of other frames than `head` says.
    ///
    /// # Errors
    /// [`BadBlock`].
    pub fn parse(bytes: &'a [u8], head: &ExtractHead) -> Result<Option<ExtractEntries<'a>>, BadBlock> {
        if bytes.len() < extract::BYTES {
            return Err(BadBlock::Damaged);
        }
        check_block(bytes, EXTRACT_MAGIC)?;
        let found = ExtractHead {
            log_id: LogId::new(extract::LOG_ID.get(bytes)),
            incarnation: Incarnation::new(extract::INCARNATION.get(bytes)),
            first_lsn: Lsn::new(extract::FIRST_LSN.get(bytes)),
            last_lsn: Lsn::new(extract::LAST_LSN.get(bytes)),
            digest: Digest::new(extract::DIGEST.get(bytes)),
        };
        let rest = &bytes[extract::BYTES..];
        let entries = ExtractEntries { rest, next: head.first_lsn, last: head.last_lsn };
        Ok((found == *head).then_some(entries))
    }

    fn entry(&mut self) -> Option<Said<'a>> {
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        let skipped = self.number()?;
        let lsn = Lsn::new(self.next.get().checked_add(skipped)?);
        let (said, records) = match kind {
            EPOCH => (Said::Epoch(lsn, Epoch::new(self.number()?)), 0),
            START => (Said::Start(lsn), 1),
            CONTROL => {
                let length = usize::try_from(self.number()?).ok()?;
                let (payload, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                (Said::Control(lsn, payload), 1)
            }
            PRODUCED => {
                let count = u32::try_from(self.number()?).ok().filter(|count| *count > 0)?;
                let (producer, sequence) = (ProducerId::new(self.number()?), self.number()?);
                (Said::Produced(lsn, count, Origin { producer, sequence }), u64::from(count))
            }
            _ => return None,
        };
        self.next = Lsn::new(lsn.get().checked_add(records)?);
        let is_within = lsn <= self.last && self.next.get() <= self.last.get().checked_add(1)?;
        is_within.then_some(said)
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let part = u64::from(byte & !(1 << BITS));
            number |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
            if byte >> BITS == 0 {
                return Some(number);
            }
            shift += BITS;
        }
    }
}

impl<'a> Iterator for ExtractEntries<'a> {
    type Item = Result<Said<'a>, BadBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.entry().ok_or(BadBlock::Damaged);
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        Stamp, frame_bytes, write_control, write_epoch_start, write_gap, write_produced, write_record,
    };

    const HEAD: ExtractHead = ExtractHead {
        log_id: LogId::new(7),
        incarnation: Incarnation::new(8),
        first_lsn: Lsn::new(100),
        last_lsn: Lsn::new(1000),
        digest: Digest::new(9),
    };

    fn note(extract: &mut Extract, payload: usize, write: impl FnOnce(&mut [u8])) {
        let mut bytes = vec![0; usize::try_from(frame_bytes(payload as u64)).unwrap()];
        write(&mut bytes);
        extract.note(&Frame::parse(&bytes).unwrap());
    }

    fn stamp(lsn: u64, epoch: u64) -> Stamp {
        Stamp { lsn: Lsn::new(lsn), epoch: Epoch::new(epoch) }
    }

    fn made() -> Extract {
        let mut extract = Extract::begin(HEAD.first_lsn, 1000);
        note(&mut extract, 3, |frame| _ = write_record(frame, stamp(100, 4), b"abc"));
        note(&mut extract, 0, |frame| _ = write_epoch_start(frame, stamp(101, u64::MAX)));
        let origin = Origin { producer: ProducerId::new(300), sequence: u64::MAX - 5 };
        let records = [b"a", b"b"];
        note(&mut extract, 26, |frame| {
            _ = write_produced(frame, stamp(110, u64::MAX), origin, records.iter())
        });
        note(&mut extract, 4, |frame| _ = write_control(frame, stamp(1000, u64::MAX), b"ctrl"));
        extract
    }

    #[test]
    fn what_the_frames_say_comes_back() {
        let bytes = made().encode(&HEAD).unwrap();
        let entries: Vec<_> =
            ExtractEntries::parse(&bytes, &HEAD).unwrap().unwrap().map(Result::unwrap).collect();
        let origin = Origin { producer: ProducerId::new(300), sequence: u64::MAX - 5 };
        let expected = [
            Said::Epoch(Lsn::new(100), Epoch::new(4)),
            Said::Epoch(Lsn::new(101), Epoch::new(u64::MAX)),
            Said::Start(Lsn::new(101)),
            Said::Produced(Lsn::new(110), 2, origin),
            Said::Control(Lsn::new(1000), b"ctrl"),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn an_extract_of_other_frames_or_with_a_damaged_bit_is_none() {
        let bytes = made().encode(&HEAD).unwrap();
        for other in [
            ExtractHead { log_id: LogId::new(1), ..HEAD },
            ExtractHead { incarnation: Incarnation::new(1), ..HEAD },
            ExtractHead { last_lsn: Lsn::new(999), ..HEAD },
            ExtractHead { digest: Digest::new(1), ..HEAD },
        ] {
            assert!(ExtractEntries::parse(&bytes, &other).unwrap().is_none());
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(ExtractEntries::parse(&damaged, &HEAD).is_err(), "byte {at}");
            assert!(ExtractEntries::parse(&bytes[..at], &HEAD).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_a_liar_has_written_ends_the_entries_and_no_process() {
        let sealed = |entries: &[u8]| {
            let mut bytes = Extract::begin(HEAD.first_lsn, 0).encode(&HEAD).unwrap();
            bytes.extend_from_slice(entries);
            seal_block(&mut bytes, EXTRACT_MAGIC);
            bytes
        };
        let endless = [0xff; 30];
        let far = [EPOCH, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1];
        let (after, none) = ([START, 0x86, 0x07], [PRODUCED, 0, 0, 1, 1]);
        let long = [CONTROL, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1];
        for lie in [&endless[..], &far, &after, &none, &long, &[9, 0], &[START], &[PRODUCED, 0, 3]] {
            let bytes = sealed(lie);
            let found = ExtractEntries::parse(&bytes, &HEAD).unwrap().unwrap().last().unwrap();
            assert_eq!(found, Err(BadBlock::Damaged), "{lie:?}");
        }
    }

    #[test]
    fn what_is_lost_or_too_much_gets_no_extract() {
        let mut extract = made();
        note(&mut extract, 0, |frame| _ = write_gap(frame, stamp(1001, u64::MAX), 3));
        assert!(extract.encode(&HEAD).is_none());
        let mut extract = Extract::begin(Lsn::FIRST, 40);
        for lsn in 1..100 {
            note(&mut extract, 0, |frame| _ = write_epoch_start(frame, stamp(lsn, lsn)));
        }
        assert!(extract.encode(&HEAD).is_none());
    }
}
