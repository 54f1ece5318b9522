//! Frames: a header and one record, a batch of records, a record of the replication, or a gap.
//!
//! A frame holds what is true on every replica, so a backup stores the primary's frames byte for byte.

use super::checksum::crc32;
use super::layout::{FRAME_ALIGN, PAYLOAD_BYTES_MAX, all_zero, frame, produced};
use super::verdict::Damage;
use crate::types::{Epoch, Lsn, ProducerId};

/// Size of one end offset in the table of a batch, in bytes.
const END_BYTES: usize = size_of::<u32>();

/// What the payload of a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    /// One record.
    Record,
    /// Records that live or die together.
    Batch,
    /// Nothing: the frame takes one LSN and says that its epoch begins.
    EpochStart,
    /// Nothing: the frame takes the LSNs of records that were lost and that a repair has given up.
    Gap,
    /// What the replication has to remember of itself: the frame takes one LSN, and holds no record of a caller.
    Control,
    /// A batch of records of one producer, with its id and its number of the first of them.
    Produced,
}

/// Who appended the records of a frame, and in which place of its own order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The producer.
    pub producer: ProducerId,
    /// The producer's number of the frame's first record; the others have the numbers after it.
    pub sequence: u64,
}

impl FrameKind {
    const fn code(self) -> u8 {
        match self {
            FrameKind::Record => 1,
            FrameKind::Batch => 2,
            FrameKind::EpochStart => 3,
            FrameKind::Gap => 4,
            FrameKind::Control => 5,
            FrameKind::Produced => 6,
        }
    }

    const fn from_code(code: u8) -> Option<FrameKind> {
        match code {
            1 => Some(FrameKind::Record),
            2 => Some(FrameKind::Batch),
            3 => Some(FrameKind::EpochStart),
            4 => Some(FrameKind::Gap),
            5 => Some(FrameKind::Control),
            6 => Some(FrameKind::Produced),
            _ => None,
        }
    }
}

/// The order of a frame in the log: its first LSN, and the epoch it is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// LSN of the frame's first record.
    pub lsn: Lsn,
    /// The epoch that the frame is written in.
    pub epoch: Epoch,
}

/// The fixed part of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// CRC over the rest of the header and the payload.
    pub checksum: u32,
    /// Size of the payload, in bytes.
    pub length: u32,
    /// LSN of the first record.
    pub lsn: Lsn,
    /// The epoch that the frame was written in.
    pub epoch: Epoch,
    /// What the payload is.
    pub kind: FrameKind,
    /// How many LSNs the frame takes, at least one.
    pub count: u32,
}

impl FrameHeader {
    /// Reads a header and checks that its fields can be; the checksum is [`Frame::check`]'s to judge.
    ///
    /// # Errors
    /// [`Damage::Cut`] under 32 bytes; [`Damage::Blank`], [`Damage::Malformed`] or [`Damage::Padding`].
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<FrameHeader, Damage> {
        let Some(bytes) = bytes.first_chunk::<{ frame::BYTES }>() else { return Err(Damage::Cut) };
        let Some(kind) = FrameKind::from_code(frame::KIND.get(bytes)) else {
            return Err(if all_zero(bytes) { Damage::Blank } else { Damage::Malformed });
        };
        if frame::ZERO_A.get(bytes) != 0 || frame::ZERO_B.get(bytes) != 0 {
            return Err(Damage::Padding);
        }
        let header = FrameHeader {
            checksum: frame::CHECKSUM.get(bytes),
            length: frame::LENGTH.get(bytes),
            lsn: Lsn::new(frame::LSN.get(bytes)),
            epoch: Epoch::new(frame::EPOCH.get(bytes)),
            kind,
            count: frame::COUNT.get(bytes),
        };
        if header.is_possible() { Ok(header) } else { Err(Damage::Malformed) }
    }

    /// Writes the header over the first 32 bytes of `bytes`.
    #[inline]
    pub fn encode_into(&self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..frame::BYTES];
        frame::CHECKSUM.put(bytes, self.checksum);
        frame::LENGTH.put(bytes, self.length);
        frame::LSN.put(bytes, self.lsn.get());
        frame::EPOCH.put(bytes, self.epoch.get());
        frame::KIND.put(bytes, self.kind.code());
        frame::ZERO_A.put(bytes, 0);
        frame::ZERO_B.put(bytes, 0);
        frame::COUNT.put(bytes, self.count);
    }

    /// Size of the whole frame with its padding, in bytes.
    #[inline]
    #[must_use]
    pub const fn frame_bytes(&self) -> u64 {
        frame_bytes(self.length as u64)
    }

    /// LSN of the last record.
    #[inline]
    #[must_use]
    pub const fn last_lsn(&self) -> Lsn {
        self.lsn.plus(self.count as u64 - 1)
    }

    /// Where in the payload the table of a batch begins, with whatever comes before it.
    pub(super) const fn table_start(&self) -> u64 {
        match self.kind {
            FrameKind::Produced => produced::BYTES as u64,
            _ => 0,
        }
    }

    /// Where in the payload the table of a batch ends.
    pub(super) const fn table_end(&self) -> u64 {
        self.table_start() + self.count as u64 * END_BYTES as u64
    }

    /// Whether the payload is a batch, or has one in it.
    pub(super) const fn has_table(&self) -> bool {
        matches!(self.kind, FrameKind::Batch | FrameKind::Produced)
    }

    fn is_possible(&self) -> bool {
        let shape = match self.kind {
            FrameKind::Record | FrameKind::Control => self.count == 1,
            FrameKind::Batch | FrameKind::Produced => self.table_end() <= u64::from(self.length),
            FrameKind::EpochStart => self.count == 1 && self.length == 0,
            FrameKind::Gap => self.length == 0,
        };
        let lsns = self.lsn > Lsn::ZERO && self.lsn.get().checked_add(u64::from(self.count)).is_some();
        shape && lsns && self.count > 0 && self.length <= PAYLOAD_BYTES_MAX
    }
}

/// A frame in the bytes that hold it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    header: FrameHeader,
    stored: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`: its bounds are checked, and its contents are not yet.
    ///
    /// # Errors
    /// What [`FrameHeader::decode`] finds; [`Damage::Cut`] if the frame goes on past `bytes`.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Damage> {
        let header = FrameHeader::decode(bytes)?;
        match usize::try_from(header.frame_bytes()).ok().and_then(|stored| bytes.get(..stored)) {
            Some(stored) => Ok(Frame { header, stored }),
            None => Err(Damage::Cut),
        }
    }

    /// Checks the contents: checksum, padding, and the table of a batch.
    ///
    /// # Errors
    /// [`Damage::Checksum`], [`Damage::Padding`], or [`Damage::Malformed`] for the table.
    #[inline]
    pub fn check(&self) -> Result<(), Damage> {
        let used = frame::BYTES + self.header.length as usize;
        let (summed, padding) = self.stored.split_at(used);
        if crc32(&summed[frame::CHECKSUM.end()..]) != self.header.checksum {
            return Err(Damage::Checksum);
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Damage::Padding);
        }
        if self.header.has_table() {
            BatchView::parse(self.batch(), self.header.count)?;
        }
        if self.origin().is_some_and(|origin| !origin.is_possible(self.header.count)) {
            return Err(Damage::Malformed);
        }
        Ok(())
    }

    /// The fixed part.
    #[inline]
    #[must_use]
    pub const fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The payload, without padding.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.stored[frame::BYTES..][..self.header.length as usize]
    }

    /// The whole frame as it is stored, with its padding: what is sent to a backup.
    #[inline]
    #[must_use]
    pub const fn stored(&self) -> &'a [u8] {
        self.stored
    }

    /// Who appended the records, if the frame says so.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        let stated = match self.header.kind {
            FrameKind::Produced => self.payload().get(..produced::BYTES)?,
            _ => return None,
        };
        Some(Origin {
            producer: ProducerId::new(produced::PRODUCER.get(stated)),
            sequence: produced::SEQUENCE.get(stated),
        })
    }

    /// The part of the payload that is a batch, if there is one in it.
    fn batch(&self) -> &'a [u8] {
        // Not longer than the payload: checked with the header.
        &self.payload()[self.header.table_start() as usize..]
    }

    /// The record with this LSN; `None` if it is not in the frame, and if that is one of the replication's own
    /// or a gap.
    #[inline]
    #[must_use]
    pub fn record(&self, lsn: Lsn) -> Option<&'a [u8]> {
        let index = u32::try_from(lsn.get().checked_sub(self.header.lsn.get())?).ok()?;
        match self.header.kind {
            FrameKind::Record => (index == 0).then(|| self.payload()),
            FrameKind::Batch | FrameKind::Produced => {
                BatchView::unchecked(self.batch(), self.header.count)?.record(index)
            }
            FrameKind::EpochStart | FrameKind::Control | FrameKind::Gap => None,
        }
    }
}

impl Origin {
    /// Whether so many records can have these numbers.
    const fn is_possible(&self, count: u32) -> bool {
        self.producer.get() > 0 && self.sequence > 0 && self.sequence.checked_add(count as u64).is_some()
    }
}

/// The records of a batch, each found in constant time.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    ends: &'a [[u8; END_BYTES]],
    records: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Reads the payload of a batch of `count` records and checks its whole table.
    ///
    /// # Errors
    /// [`Damage::Malformed`] for no records, and for ends that decrease or do not finish with the payload.
    pub fn parse(payload: &'a [u8], count: u32) -> Result<BatchView<'a>, Damage> {
        let batch = BatchView::unchecked(payload, count).ok_or(Damage::Malformed)?;
        let mut last = 0;
        for end in batch.ends.iter().map(|end| u32::from_le_bytes(*end)) {
            if end < last {
                return Err(Damage::Malformed);
            }
            last = end;
        }
        if last as usize == batch.records.len() { Ok(batch) } else { Err(Damage::Malformed) }
    }

    /// Reads a batch whose table was checked when it was written or scanned: only its size is checked.
    #[inline]
    fn unchecked(payload: &'a [u8], count: u32) -> Option<BatchView<'a>> {
        let table_bytes = (count as usize).checked_mul(END_BYTES)?;
        let (table, records) = payload.split_at_checked(table_bytes)?;
        let (ends, _) = table.as_chunks();
        (count > 0).then_some(BatchView { ends, records })
    }

    /// How many records there are, at least one.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("made from a 32-bit count")
    }

    /// The record at `index`, from 0; `None` past the last one.
    #[inline]
    #[must_use]
    pub fn record(&self, index: u32) -> Option<&'a [u8]> {
        let index = index as usize;
        let end = u32::from_le_bytes(*self.ends.get(index)?);
        let start = index.checked_sub(1).map_or(0, |before| u32::from_le_bytes(self.ends[before]));
        self.records.get(start as usize..end as usize)
    }

    /// The records in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let (mut start, records) = (0, self.records);
        self.ends.iter().map(move |end| {
            let end = u32::from_le_bytes(*end) as usize;
            let record = records.get(start..end).expect("checked in parse");
            start = end;
            record
        })
    }
}

/// Size of a frame with this payload, in bytes, header and padding included.
#[inline]
#[must_use]
pub const fn frame_bytes(payload_bytes: u64) -> u64 {
    (frame::BYTES as u64 + payload_bytes).next_multiple_of(FRAME_ALIGN as u64)
}

/// Size of the payload of a batch of `count` records with `record_bytes` bytes in all.
#[inline]
#[must_use]
pub const fn batch_payload_bytes(count: usize, record_bytes: u64) -> u64 {
    record_bytes.saturating_add((count as u64).saturating_mul(END_BYTES as u64))
}

/// Size of the payload of a frame with a producer and `count` records with `record_bytes` bytes in all.
#[inline]
#[must_use]
pub const fn produced_payload_bytes(count: usize, record_bytes: u64) -> u64 {
    batch_payload_bytes(count, record_bytes).saturating_add(produced::BYTES as u64)
}

/// Writes a record's frame over all of `frame` and returns its checksum.
///
/// # Panics
/// If `frame` is not [`frame_bytes`] of the payload long.
#[inline]
pub fn write_record(frame: &mut [u8], stamp: Stamp, payload: &[u8]) -> u32 {
    assert!(frame.len() as u64 == frame_bytes(payload.len() as u64), "claimed for this payload");
    frame[frame::BYTES..][..payload.len()].copy_from_slice(payload);
    finish(frame, stamp, Shape { kind: FrameKind::Record, length: payload.len(), count: 1 })
}

/// Writes the frame that begins an epoch over all of `frame` and returns its checksum.
///
/// # Panics
/// If `frame` is not [`frame_bytes`] of nothing long.
pub fn write_epoch_start(frame: &mut [u8], stamp: Stamp) -> u32 {
    assert!(frame.len() as u64 == frame_bytes(0), "claimed for an empty payload");
    finish(frame, stamp, Shape { kind: FrameKind::EpochStart, length: 0, count: 1 })
}

/// Writes a frame over all of `frame` that takes `count` LSNs, whose records are lost, and returns its checksum.
///
/// # Panics
/// If `count` is 0, or `frame` is not [`frame_bytes`] of nothing long.
pub fn write_gap(frame: &mut [u8], stamp: Stamp, count: u32) -> u32 {
    assert!(count > 0, "a gap takes LSNs");
    assert!(frame.len() as u64 == frame_bytes(0), "claimed for an empty payload");
    finish(frame, stamp, Shape { kind: FrameKind::Gap, length: 0, count })
}

/// Writes a batch's frame over all of `frame` and returns its checksum.
///
/// The records are taken once, in order, and copied straight into their place.
///
/// # Panics
/// If there are no records, or if `frame` is not [`frame_bytes`] of their [`batch_payload_bytes`] long.
pub fn write_batch<I>(frame: &mut [u8], stamp: Stamp, records: I) -> u32
where
    I: IntoIterator<Item: AsRef<[u8]>, IntoIter: ExactSizeIterator>,
{
    let (count, length) = put_batch(&mut frame[frame::BYTES..], records.into_iter());
    assert!(frame.len() as u64 == frame_bytes(length as u64), "claimed for these records");
    finish(frame, stamp, Shape { kind: FrameKind::Batch, length, count })
}

/// Writes the frame of a producer's records over all of `frame` and returns its checksum.
///
/// # Panics
/// If there are no records, if no records can have these numbers, or if `frame` is not [`frame_bytes`] of their
/// [`produced_payload_bytes`] long.
pub fn write_produced<I>(frame: &mut [u8], stamp: Stamp, origin: Origin, records: I) -> u32
where
    I: IntoIterator<Item: AsRef<[u8]>, IntoIter: ExactSizeIterator>,
{
    let (stated, batch) = frame[frame::BYTES..].split_at_mut(produced::BYTES);
    produced::PRODUCER.put(stated, origin.producer.get());
    produced::SEQUENCE.put(stated, origin.sequence);
    let (count, batch_bytes) = put_batch(batch, records.into_iter());
    assert!(origin.is_possible(count), "producers and their records are numbered from 1");
    let length = produced::BYTES + batch_bytes;
    assert!(frame.len() as u64 == frame_bytes(length as u64), "claimed for these records");
    finish(frame, stamp, Shape { kind: FrameKind::Produced, length, count })
}

/// Writes the frame of a record of the replication over all of `frame` and returns its checksum.
///
/// # Panics
/// If `frame` is not [`frame_bytes`] of the payload long.
pub fn write_control(frame: &mut [u8], stamp: Stamp, payload: &[u8]) -> u32 {
    assert!(frame.len() as u64 == frame_bytes(payload.len() as u64), "claimed for this payload");
    frame[frame::BYTES..][..payload.len()].copy_from_slice(payload);
    finish(frame, stamp, Shape { kind: FrameKind::Control, length: payload.len(), count: 1 })
}

/// Writes the table of a batch and its records; returns how many there are, and the bytes that they take.
fn put_batch<R: AsRef<[u8]>>(payload: &mut [u8], records: impl ExactSizeIterator<Item = R>) -> (u32, usize) {
    let count = records.len();
    assert!(count > 0, "a batch has records");
    let table_bytes = count * END_BYTES;
    let (table, space) = payload.split_at_mut(table_bytes);
    let mut entries = table.as_chunks_mut::<END_BYTES>().0.iter_mut();
    let mut end = 0;
    for record in records {
        let record = record.as_ref();
        space[end..][..record.len()].copy_from_slice(record);
        end += record.len();
        let offset = u32::try_from(end).expect("a payload has less than 4 GiB");
        *entries.next().expect("as many records as the iterator said") = offset.to_le_bytes();
    }
    assert!(entries.next().is_none(), "as many records as the iterator said");
    let count = u32::try_from(count).expect("a count of ends that fit the payload");
    (count, table_bytes + end)
}

struct Shape {
    kind: FrameKind,
    length: usize,
    count: u32,
}

/// Writes header and padding around a payload that is in its place, with one pass for the checksum.
#[inline]
fn finish(frame: &mut [u8], stamp: Stamp, shape: Shape) -> u32 {
    let length = u32::try_from(shape.length).expect("a payload has less than 4 GiB");
    assert!(length <= PAYLOAD_BYTES_MAX, "the payload fits a frame");
    let used = frame::BYTES + shape.length;
    let Stamp { lsn, epoch } = stamp;
    let header = FrameHeader { checksum: 0, length, lsn, epoch, kind: shape.kind, count: shape.count };
    debug_assert!(header.is_possible());
    header.encode_into(frame);
    frame[used..].fill(0);
    let checksum = crc32(&frame[frame::CHECKSUM.end()..used]);
    frame::CHECKSUM.put(frame, checksum);
    checksum
}
