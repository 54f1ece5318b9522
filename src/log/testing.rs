//! Logs written group by group, without an engine: for tests of reading and of recovery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::cursor::{Cursor, Source};
use super::recover::{self, Beheld, Recovered, Wanted};
use super::segments::{Listed, Segments};
use super::superblock_file::{Copies, SuperblockFile};
use crate::disk::sim::SimDisk;
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{
    self, BLOCK_BYTES, Digest, Footer, FooterKind, FrameHeader, GROUP_HEADER_BYTES, GroupHeader, GroupPlace,
    HEADER_BLOCK_BYTES, Incarnation, SEGMENT_BYTES_MIN, SegmentHeader, Stamp, Superblock,
};
use crate::segment::{self, Noted, Spare, Tail, segment_name, spare_name};
use crate::types::{Epoch, LogId, Lsn, SegmentId, WriteMethod};

/// Room for about ten blocks of groups.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;
pub(crate) const WANTED: Wanted = Wanted { segment_bytes: SEGMENT_BYTES, write_method: None, gently: false };

/// Writes a log the way group commit would, one flush at a time.
pub(crate) struct Scribe {
    pub(crate) disk: SimDisk,
    pub(crate) superblock: SuperblockFile,
    pub(crate) tail: Arc<Tail>,
    pub(crate) next: Lsn,
    pub(crate) end: u64,
    pub(crate) durable: Lsn,
    pub(crate) epoch: Epoch,
    spares: u64,
    /// All that was appended.
    pub(crate) written: BTreeMap<Lsn, Vec<u8>>,
}

/// What a flush writes.
pub(crate) struct Flush {
    pub(crate) position: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Scribe {
    pub(crate) fn new(seed: u64) -> Scribe {
        Scribe::on(&SimDisk::new(seed), LogId::new(u128::from(seed) + 1))
    }

    pub(crate) fn on(disk: &SimDisk, log_id: LogId) -> Scribe {
        assert!(recover::is_new(disk).unwrap());
        SuperblockFile::create(disk, Superblock::new(log_id, WriteMethod::Buffered)).unwrap();
        Scribe::reopen(disk, BTreeMap::new())
    }

    /// Goes on with a log that was written before.
    pub(crate) fn reopen(disk: &SimDisk, written: BTreeMap<Lsn, Vec<u8>>) -> Scribe {
        let recovered = recover::recover(disk, WANTED).unwrap();
        let spares = recovered.next_spare_number;
        let tail = match recovered.segments.tail {
            Some(tail) => tail,
            None => recover::begin_first(disk, make_spare(disk, spares), &recovered.begin).unwrap(),
        };
        let next = recovered.next_lsn;
        Scribe {
            disk: disk.clone(),
            superblock: recovered.superblock,
            tail,
            next,
            end: recovered.end,
            durable: next.prev(),
            epoch: recovered.epoch,
            spares: spares + 1,
            written,
        }
    }

    /// A group of single records, at the next block or right after the last group.
    pub(crate) fn group(&mut self, records: &[&[u8]], packed: bool) -> Flush {
        let mut frames = Vec::new();
        for record in records {
            let start = frames.len();
            frames.resize(start + format::frame_bytes(record.len() as u64) as usize, 0);
            let stamp = Stamp { lsn: self.next, epoch: self.epoch };
            format::write_record(&mut frames[start..], stamp, record);
            self.took(&[record]);
        }
        self.place(&frames, packed)
    }

    /// A group of one batch.
    pub(crate) fn batch(&mut self, records: &[&[u8]]) -> Flush {
        let bytes = records.iter().map(|record| record.len() as u64).sum();
        let payload = format::batch_payload_bytes(records.len(), bytes);
        let mut frames = vec![0; format::frame_bytes(payload) as usize];
        let stamp = Stamp { lsn: self.next, epoch: self.epoch };
        format::write_batch(&mut frames, stamp, records);
        self.took(records);
        self.place(&frames, false)
    }

    /// A group of the start of an epoch.
    pub(crate) fn epoch_start(&mut self) -> Flush {
        self.epoch = Epoch::new(self.epoch.get() + 1);
        let mut frames = vec![0; format::frame_bytes(0) as usize];
        format::write_epoch_start(&mut frames, Stamp { lsn: self.next, epoch: self.epoch });
        self.next = self.next.next();
        self.place(&frames, false)
    }

    fn took(&mut self, records: &[&[u8]]) {
        for record in records {
            self.written.insert(self.next, record.to_vec());
            self.next = self.next.next();
        }
    }

    fn place(&mut self, frames: &[u8], packed: bool) -> Flush {
        let position = if packed { self.end } else { format::block_up(self.end) };
        let place = GroupPlace { incarnation: self.tail.header().incarnation, position };
        let header = GroupHeader::over(frames, place, self.durable);
        let mut bytes = vec![0; GROUP_HEADER_BYTES];
        header.encode_into(&mut bytes);
        bytes.extend_from_slice(frames);
        self.end = header.end();
        assert!(format::block_up(self.end) <= self.tail.data_end(), "the test fits a segment");
        Flush { position, bytes }
    }

    /// Writes a group without a sync.
    pub(crate) fn write(&self, flush: &Flush) {
        self.tail.file().write_at(&flush.bytes, flush.position).unwrap();
    }

    /// Makes a group durable, and acknowledges it.
    pub(crate) fn flush(&mut self, flush: &Flush) {
        self.write(flush);
        self.tail.file().sync().unwrap();
        self.note(flush);
    }

    fn note(&mut self, flush: &Flush) {
        let header = GroupHeader::decode(&flush.bytes).unwrap();
        let mut points = Vec::new();
        let mut at = GROUP_HEADER_BYTES;
        while at < flush.bytes.len() {
            let frame = FrameHeader::decode(&flush.bytes[at..]).unwrap();
            points.push((flush.position + at as u64, frame));
            at += frame.frame_bytes() as usize;
        }
        self.tail.note(&Noted {
            first: header.first_lsn,
            last: header.last_lsn(),
            position: flush.position,
            end: header.end(),
            digest: header.digest,
            points: &points,
        });
        self.durable = header.last_lsn();
    }

    pub(crate) fn append(&mut self, records: &[&[u8]]) {
        let flush = self.group(records, false);
        self.flush(&flush);
    }

    pub(crate) fn append_packed(&mut self, records: &[&[u8]]) {
        let flush = self.group(records, true);
        self.flush(&flush);
    }

    /// Begins the next segment in a spare, with its first group in the same write as its header. Returns the
    /// segment before, which is not sealed.
    pub(crate) fn roll(&mut self, records: &[&[u8]]) -> Arc<Tail> {
        let (before, flush) = self.begin(records);
        let mut bytes = vec![0; HEADER_BLOCK_BYTES];
        self.tail.header().encode_into(&mut bytes);
        bytes.extend_from_slice(&flush.bytes);
        self.tail.file().write_at(&bytes, 0).unwrap();
        self.tail.file().sync().unwrap();
        self.note(&flush);
        before
    }

    /// The next segment with its first group, of which nothing is written yet.
    pub(crate) fn begin(&mut self, records: &[&[u8]]) -> (Arc<Tail>, Flush) {
        let spare = make_spare(&self.disk, self.spares);
        self.spares += 1;
        let before = self.tail.header();
        let header = SegmentHeader {
            incarnation: spare.incarnation,
            segment_id: before.segment_id.next(),
            first_lsn: self.next,
            epoch: self.epoch,
            previous_digest: self.tail.digest(),
            ..*before
        };
        let tail = Arc::new(Tail::begin(spare, header));
        let before = std::mem::replace(&mut self.tail, tail);
        self.end = BLOCK_BYTES as u64;
        (before, self.group(records, false))
    }

    /// Gives the tail its final name.
    pub(crate) fn name_for_good(&self) {
        self.disk.rename(&self.tail.name(), &self.tail.final_name()).unwrap();
        self.disk.sync_dir().unwrap();
        self.tail.renamed();
    }

    /// Rolls, seals and renames.
    pub(crate) fn roll_and_seal(&mut self, records: &[&[u8]]) {
        let before = self.roll(records);
        segment::seal(&before, 1).unwrap();
        self.name_for_good();
    }

    /// Advances the superblock's watermark.
    pub(crate) fn idle(&mut self) {
        let durable = self.durable;
        self.superblock.update(Copies::One, |superblock| superblock.durable = durable).unwrap();
    }

    /// Closes the log in good order.
    pub(crate) fn close(&mut self) {
        let clean = segment::park(&self.tail, 1).unwrap();
        let durable = self.durable;
        self.superblock
            .update(Copies::One, |superblock| {
                superblock.durable = durable;
                superblock.clean_tail = Some(clean);
            })
            .unwrap();
    }

    /// What a log with all that was appended up to `last` holds.
    pub(crate) fn up_to(&self, last: Lsn) -> Vec<(Lsn, Vec<u8>)> {
        self.written.range(..=last).map(|(lsn, record)| (*lsn, record.clone())).collect()
    }
}

/// A blank spare of the usual size.
pub(crate) fn make_spare(disk: &dyn Disk, number: u64) -> Spare {
    try_make_spare(disk, number).unwrap()
}

pub(crate) fn try_make_spare(disk: &dyn Disk, number: u64) -> Result<Spare> {
    let name = spare_name(number);
    let unfinished = format!("{name}.tmp");
    let made = (|| {
        let file = disk.create(&unfinished)?;
        file.allocate(SEGMENT_BYTES)?;
        file.sync()?;
        disk.rename(&unfinished, &name)?;
        disk.sync_dir()?;
        Ok((file.writer(WriteMethod::Buffered)?, file))
    })();
    let (writer, file) = made.map_err(|source| Error::io("make", &name, source))?;
    let incarnation = Incarnation::new(disk.entropy());
    Ok(Spare { name: name.into(), file, writer, incarnation, segment_bytes: SEGMENT_BYTES })
}

/// The first group of a segment, with one record.
pub(crate) fn first_group(header: &SegmentHeader, record: &[u8]) -> (Vec<u8>, u64) {
    let mut bytes = vec![0; GROUP_HEADER_BYTES + format::frame_bytes(record.len() as u64) as usize];
    let stamp = Stamp { lsn: header.first_lsn, epoch: header.epoch };
    format::write_record(&mut bytes[GROUP_HEADER_BYTES..], stamp, record);
    let place = GroupPlace { incarnation: header.incarnation, position: HEADER_BLOCK_BYTES as u64 };
    let group = GroupHeader::over(&bytes[GROUP_HEADER_BYTES..], place, header.first_lsn.prev());
    group.encode_into(&mut bytes);
    (bytes, place.position)
}

/// An open log without an engine.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) segments: Segments,
    durable: Mutex<Lsn>,
    moved: Condvar,
}

impl Shelf {
    pub(crate) fn new(disk: &dyn AsDisk, listed: Listed, durable: Lsn) -> Arc<Shelf> {
        Shelf::with(disk, listed, durable, true)
    }

    pub(crate) fn with(disk: &dyn AsDisk, listed: Listed, durable: Lsn, verify_reads: bool) -> Arc<Shelf> {
        let segments = Segments::new(disk.shared(), listed, verify_reads);
        Arc::new(Shelf { segments, durable: Mutex::new(durable), moved: Condvar::new() })
    }

    pub(crate) fn of(disk: &SimDisk, recovered: Recovered) -> Arc<Shelf> {
        let durable = recovered.next_lsn.prev();
        Shelf::new(disk, recovered.segments, durable)
    }

    pub(crate) fn beheld(disk: &SimDisk, beheld: Beheld) -> Arc<Shelf> {
        Shelf::new(disk, beheld.segments, beheld.durable)
    }

    pub(crate) fn set_durable(&self, durable: Lsn) {
        *self.durable.lock() = durable;
        self.moved.notify_all();
    }

    /// All records.
    pub(crate) fn records(self: &Arc<Shelf>) -> Result<Vec<(Lsn, Vec<u8>)>> {
        let cursor = Cursor::new(Arc::clone(self) as Arc<dyn Source>, &..)?;
        cursor.records().map(|read| read.map(|record| (record.lsn(), record.to_vec()))).collect()
    }
}

impl Source for Shelf {
    fn segments(&self) -> &Segments {
        &self.segments
    }

    fn durable(&self) -> Lsn {
        *self.durable.lock()
    }

    fn wait_beyond(&self, lsn: Lsn, deadline: Option<Instant>) -> Result<Lsn> {
        let mut durable = self.durable.lock();
        while *durable <= lsn {
            match deadline {
                Some(deadline) if self.moved.wait_until(&mut durable, deadline).timed_out() => {
                    return Err(Error::TimedOut);
                }
                Some(_) => {}
                None => self.moved.wait(&mut durable),
            }
        }
        Ok(*durable)
    }
}

/// Disks that a test can share.
pub(crate) trait AsDisk {
    fn shared(&self) -> Arc<dyn Disk>;
}

impl AsDisk for SimDisk {
    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

/// Opens a log for writing and reads all of it.
pub(crate) fn read_all(disk: &SimDisk) -> Result<Vec<(Lsn, Vec<u8>)>> {
    let recovered = recover::recover(disk, WANTED)?;
    Shelf::of(disk, recovered).records()
}

/// Opens a log for reading and reads all of it.
pub(crate) fn behold_all(disk: &SimDisk) -> Result<Vec<(Lsn, Vec<u8>)>> {
    Shelf::beheld(disk, recover::behold(disk)?).records()
}

/// The names and contents of all files.
pub(crate) fn contents(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list().unwrap();
    names.into_iter().map(|name| (name.clone(), disk.contents(&name))).collect()
}

/// A header as it is on the disk.
pub(crate) fn header_of(disk: &SimDisk, first: u64) -> SegmentHeader {
    let file = disk.open(&segment_name(Lsn::new(first)), Access::Read).unwrap();
    let mut block = vec![0; HEADER_BLOCK_BYTES];
    file.read_at(&mut block, 0).unwrap();
    SegmentHeader::decode(&block).unwrap()
}

/// A log of `count` segments with a record each; the last one has no footer.
pub(crate) fn write_tiny_segments(disk: &dyn Disk, count: u64) {
    let log_id = LogId::new(1);
    let superblock = Superblock::new(log_id, WriteMethod::Buffered);
    SuperblockFile::create(disk, Superblock { durable: Lsn::new(count), ..superblock }).unwrap();
    let mut digest = Digest::ZERO;
    for number in 1..=count {
        let header = SegmentHeader {
            log_id,
            incarnation: Incarnation::new(number),
            segment_id: SegmentId::new(number),
            first_lsn: Lsn::new(number),
            epoch: Epoch::FIRST,
            previous_digest: digest,
            segment_bytes: SEGMENT_BYTES_MIN,
            footer_bytes: format::footer_bytes_for(SEGMENT_BYTES_MIN),
        };
        let mut bytes = vec![0; SEGMENT_BYTES_MIN as usize];
        header.encode_into(&mut bytes);
        let (group, position) = first_group(&header, &number.to_le_bytes());
        bytes[position as usize..][..group.len()].copy_from_slice(&group);
        let scan = format::scan_tail(&bytes, &header, Lsn::ZERO);
        digest = scan.digest;
        if number < count {
            let (last_lsn, end) = (scan.last_lsn, scan.end);
            let footer =
                Footer { last_lsn, end, groups: 1, digest, ..Footer::of(&header, FooterKind::Sealed) };
            footer.encode_into(&scan.tables, &mut bytes[header.data_end() as usize..]);
        }
        let file = disk.create(&segment_name(header.first_lsn)).unwrap();
        file.write_at(&bytes, 0).unwrap();
    }
}
