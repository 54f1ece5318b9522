//! Extracts of sealed segments: opening a log reads them and the tail, and not every frame.
//!
//! A segment gets one when it is sealed, or when it had to be read for want of one; not while something of it is lost. They
//! are not synced: what a crash leaves of one does not check, and the segment is read again.

use std::io::ErrorKind;

use super::open::Loaded;
use super::part::Part;
use crate::disk::Access;
use crate::error::Result;
use crate::format::{BLOCK_BYTES, Extract, ExtractEntries, ExtractHead, Said};
use crate::log::store::Files;
use crate::protocol::{Content, Position, Span, Spans, wire};
use crate::segment::extract_name;
use crate::types::{Epoch, Lsn, LsnRange};

/// An extract has at most this part of its segment.
const PART: u64 = 8;

/// Of a segment of which nothing is noted yet.
pub(super) fn begin(part: &Part) -> Extract {
    Extract::begin(part.header.first_lsn, bytes_max(part))
}

/// The extract of a segment that is sealed, to be written.
#[derive(Debug)]
pub(super) struct Waiting {
    first: Lsn,
    bytes: Vec<u8>,
}

impl Waiting {
    /// `None` if there is to be none.
    pub(super) fn new(part: &Part, extract: &Extract) -> Option<Waiting> {
        let bytes = extract.encode(&head_of(part))?;
        Some(Waiting { first: part.header.first_lsn, bytes })
    }

    /// The first record of the segment.
    pub(super) const fn first(&self) -> Lsn {
        self.first
    }

    /// Writes it, by whatever thread has time for it. That the disk is full is no reason to fail: it can do without. It may
    /// come too late, and be of a segment that is gone: then it is removed by the next opening.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn write(&self, files: &Files) -> Result<()> {
        let name = extract_name(self.first);
        forget(files, self.first)?;
        let written = files.disk.create(&name).and_then(|file| file.write_at(&self.bytes, 0));
        match written {
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                forget(files, self.first)
            }
            written => files.io("write", &name, written),
        }
    }
}

/// Removes the extract of the segment that begins with this record, if there is one.
///
/// # Errors
/// Whatever the operating system says.
pub(super) fn forget(files: &Files, first: Lsn) -> Result<()> {
    let name = extract_name(first);
    match files.disk.remove(&name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => files.io("remove", &name, removed),
    }
}

/// Takes what the extract of a segment says; whether there is one that is of its frames, and follows on what is known.
///
/// # Errors
/// Whatever the operating system says.
pub(super) fn take(files: &Files, part: &Part, loaded: &mut Loaded) -> Result<bool> {
    let Some(bytes) = read(files, part) else { return Ok(false) };
    // Also one that a newer version has written: what it says, the frames say.
    let Ok(Some(entries)) = ExtractEntries::parse(&bytes, &head_of(part)) else { return Ok(false) };
    let Some(found) = Found::of(entries) else { return Ok(false) };
    let before = loaded.history.last();
    let next = before.lsn.next();
    let Some(epochs) = found.epochs_of(part, before) else { return Ok(false) };
    for (epoch, range) in epochs {
        loaded.history.append(epoch, range);
    }
    let said = found.said.into_iter().filter(|(last, ..)| *last >= next);
    loaded.replay.extend(said.map(|(_, lsn, content)| (lsn, content)));
    Ok(true)
}

/// What an extract says, checked.
struct Found {
    epochs: Vec<(Lsn, Epoch)>,
    /// With the last record that it is about, and the first.
    said: Vec<(Lsn, Lsn, Content)>,
}

impl Found {
    /// `None` if it is damaged, or says what nobody understands.
    fn of(entries: ExtractEntries<'_>) -> Option<Found> {
        let mut found = Found { epochs: Vec::new(), said: Vec::new() };
        for entry in entries {
            match entry.ok()? {
                Said::Epoch(lsn, epoch) => found.epochs.push((lsn, epoch)),
                Said::Start(lsn) => found.said.push((lsn, lsn, Content::EpochStart)),
                Said::Control(lsn, payload) => {
                    found.said.push((lsn, lsn, wire::decode_control(payload).ok()?));
                }
                Said::Produced(lsn, records, origin) => {
                    let span = Span { producer: origin.producer, sequence: origin.sequence, lsn, records };
                    found.said.push((span.last_lsn(), lsn, Content::Records(Spans::One(span))));
                }
            }
        }
        Some(found)
    }

    /// The epochs of the segment's records after this one; `None` if they do not follow on it.
    fn epochs_of(&self, part: &Part, before: Position) -> Option<Vec<(Epoch, LsnRange)>> {
        let first = part.header.first_lsn;
        let begins = self.epochs.first().is_some_and(|(lsn, epoch)| *lsn == first && *epoch >= Epoch::FIRST);
        let rises = self.epochs.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1);
        let ends = self.epochs.iter().skip(1).map(|(lsn, _)| lsn.prev()).chain([part.last()]);
        let ranges = self.epochs.iter().zip(ends).filter_map(|((lsn, epoch), last)| {
            LsnRange::new((*lsn).max(before.lsn.next()), last).map(|range| (*epoch, range))
        });
        let ranges: Vec<_> = ranges.collect();
        let follows = ranges.first().is_some_and(|(epoch, _)| *epoch >= before.epoch);
        (begins && rises && follows && first <= before.lsn.next()).then_some(ranges)
    }
}

/// Which frames the segment has.
fn head_of(part: &Part) -> ExtractHead {
    let (header, extent) = (&part.header, &part.extent);
    ExtractHead {
        log_id: header.log_id,
        incarnation: header.incarnation,
        first_lsn: header.first_lsn,
        last_lsn: extent.last,
        digest: extent.digest,
    }
}

fn bytes_max(part: &Part) -> u64 {
    part.header.segment_bytes / PART
}

/// The bytes of the file; `None` if it is not there, cannot be read, or cannot be one: the frames say the same.
fn read(files: &Files, part: &Part) -> Option<Vec<u8>> {
    let file = files.disk.open(&extract_name(part.header.first_lsn), Access::Read).ok()?;
    let size = file.bytes().ok().filter(|size| *size <= BLOCK_BYTES as u64 + bytes_max(part))?;
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    let there = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(there);
    Some(bytes)
}
