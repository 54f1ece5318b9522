//! Examining bytes that lie in memory, and what has to hold of the outcome whatever they are: for tests, fuzzing
//! and benches.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::scan::LAST;
use super::{Examined, Question, StretchKind, examine};
use crate::disk::{BLOCK_BYTES, DurableWriter, File, Map};
use crate::error::Result;
use crate::format::{
    Digest, Footer, FooterKind, FooterView, Frame, FrameKind, GROUP_HEADER_BYTES, GroupHeader, GroupPlace,
    SegmentHeader, TailScan, Verdict, block_up, rescan_sealed, scan_tail,
};
use crate::types::{Lsn, LsnRange, WriteMethod};

/// A file that is read only, some blocks of which may be unreadable.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What can be read.
    pub bytes: Vec<u8>,
    /// The numbers of the blocks that cannot be read.
    pub bad: BTreeSet<u64>,
}

impl File for Memory {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or(&[]);
        let there = rest.len().min(buf.len());
        let blocks = offset / BLOCK_BYTES as u64..(offset + there as u64).div_ceil(BLOCK_BYTES as u64);
        if self.bad.range(blocks).next().is_some() {
            return Err(io::Error::other("a bad block"));
        }
        buf[..there].copy_from_slice(&rest[..there]);
        Ok(there)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_zeroes(&self, _: u64) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn map(&self) -> io::Result<Arc<Map>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn writer(&self, _: WriteMethod) -> io::Result<Box<dyn DurableWriter>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_lock(&self, _: bool) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What is known of bytes in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known<'a> {
    pub(crate) footer: Option<&'a Footer>,
    pub(crate) last: Option<Lsn>,
    pub(crate) durable: Lsn,
    pub(crate) next_digest: Option<Digest>,
}

/// Examines bytes in memory.
pub(crate) fn examine_memory(file: &Memory, header: &SegmentHeader, known: Known<'_>) -> Examined {
    let name = "00000000000000000001.seg".into();
    let Known { footer, last, durable, next_digest } = known;
    let question =
        Question { file, name: &name, header, footer, last, durable, next_digest, knows_start: true };
    examine(&question, &|_| ControlFlow::Continue(())).expect("memory has no errors but bad blocks")
}

/// How many records of a segment can be read, and how many stretches are not clean: for benches.
///
/// # Errors
/// Whatever the operating system says of the file.
pub fn count(file: &dyn File, header: &SegmentHeader) -> Result<(u64, usize)> {
    let name = "segment".into();
    let (footer, last, durable, next_digest) = (None, None, Lsn::ZERO, None);
    let question =
        Question { file, name: &name, header, footer, last, durable, next_digest, knows_start: true };
    let found = examine(&question, &|_| ControlFlow::Continue(()))?;
    Ok((found.records, found.stretches.len()))
}

/// Examines the bytes of a segment in every way there is, and panics if something does not hold.
///
/// # Panics
/// If the examination and the scans of [`crate::format`] do not say the same, or the examination says what cannot be.
pub fn check(bytes: &[u8], durable: Lsn) {
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let file = Memory { bytes: bytes.to_vec(), ..Memory::default() };
    let scan = scan_tail(bytes, &header, durable);
    let found = examine_memory(&file, &header, Known { durable, ..Known::default() });
    same(&found, &scan);
    sound(bytes, &header, &found);
    let later = scan.later.map_or(Lsn::ZERO, |later| later.durable_through);
    assert_eq!(found.vouched.max(later), found.vouched, "no header vouches for more");

    let beyond = Lsn::new(scan.last_lsn.get().saturating_add(2));
    let lasts = [scan.last_lsn, scan.last_lsn.prev(), beyond.min(LAST), durable];
    for last in lasts.into_iter().filter(|last| *last >= header.first_lsn.prev()) {
        let scan = rescan_sealed(bytes, &header, last);
        let found = examine_memory(&file, &header, Known { last: Some(last), ..Known::default() });
        same(&found, &scan);
        sound(bytes, &header, &found);
        assert_eq!(found.last_lsn.max(last), found.last_lsn, "everything up to the last record is judged");
        let is_loss = scan.verdict.is_loss();
        assert_eq!(is_loss, found.stretches.iter().any(|stretch| stretch.kind != StretchKind::Stale));
        let (last, next_digest) = (Some(last), Some(scan.digest));
        let again = examine_memory(&file, &header, Known { last, next_digest, ..Known::default() });
        assert_eq!(is_loss, !again.stretches.is_empty(), "a digest that is right accuses nobody");
    }
    check_footer(&file, &header);
}

/// The same with the footer, if there is one that counts.
fn check_footer(file: &Memory, header: &SegmentHeader) {
    let region = usize::try_from(header.data_end()).ok().and_then(|start| file.bytes.get(start..));
    let Some(region) = region.and_then(|region| region.get(..header.footer_bytes as usize)) else { return };
    let block = &region[region.len() - BLOCK_BYTES..];
    let Ok(footer) = Footer::decode(block) else { return };
    if !footer.is_of(header) || footer.kind != FooterKind::Sealed {
        return;
    }
    let found = examine_memory(file, header, Known { footer: Some(&footer), ..Known::default() });
    let scan = rescan_sealed(&file.bytes, header, footer.last_lsn);
    same(&found, &scan);
    sound(&file.bytes, header, &found);
    let is_whole = found.stretches.is_empty();
    assert!(!is_whole || (!scan.verdict.is_loss() && FooterView::parse(region).is_ok()));
    assert!(!is_whole || found.digest == footer.digest || !found.gaps.is_empty());
}

/// The examination says what the scan says.
fn same(found: &Examined, scan: &TailScan) {
    let prefix = found.prefix;
    assert_eq!((prefix.end, prefix.last_lsn, prefix.epoch), (scan.end, scan.last_lsn, scan.epoch));
    assert_eq!((prefix.digest, prefix.groups), (scan.digest, scan.groups));
    assert_eq!(found.verdict, scan.verdict);
    let is_loss = scan.verdict.is_loss();
    if !is_loss {
        assert_eq!((found.end, found.last_lsn, found.epoch), (scan.end, scan.last_lsn, scan.epoch));
        assert_eq!(found.tables, scan.tables);
        assert_eq!(found.groups, scan.groups);
        assert_eq!(!found.gaps.is_empty(), scan.has_gaps);
    }
    let has = |kind| found.stretches.iter().any(|stretch| stretch.kind == kind);
    match scan.verdict {
        Verdict::Torn { .. } => assert!(has(StretchKind::Torn)),
        Verdict::Stale { .. } => assert!(has(StretchKind::Stale)),
        Verdict::Clean | Verdict::Rot { .. } | Verdict::Hole { .. } => {}
    }
    let is_damaged = has(StretchKind::Rot) || has(StretchKind::Hole);
    assert!(is_damaged || !is_loss, "a loss is told: {found:?} {scan:?}");
}

/// Runs hold frames that check, with the records they say; no record is in two places, and none in no place.
fn sound(bytes: &[u8], header: &SegmentHeader, found: &Examined) {
    let mut covered: Vec<LsnRange> = vec![];
    let (mut at, mut records) = (0, 0);
    for run in &found.runs {
        assert!(run.bytes.start >= at && run.bytes.end <= bytes.len() as u64, "runs rise");
        assert!(run.group <= run.bytes.start);
        at = run.bytes.end;
        records += frames_of(bytes, header, run);
        covered.push(run.lsns);
    }
    assert_eq!(records, found.records);
    for stretch in &found.stretches {
        assert!(stretch.bytes.start <= stretch.bytes.end && stretch.bytes.end <= header.segment_bytes);
        assert!(!stretch.is_acknowledged || stretch.lsns.is_some());
        if matches!(stretch.kind, StretchKind::Rot | StretchKind::Hole) {
            covered.extend(stretch.lsns);
        }
    }
    covered.sort_unstable();
    let mut next = header.first_lsn;
    for lsns in covered {
        assert_eq!(lsns.first, next, "each record is in one place: {:?} {:?}", found.runs, found.stretches);
        next = lsns.last.next();
    }
    assert_eq!(next, found.last_lsn.next());
}

/// How many records a run holds, gaps not counted.
fn frames_of(bytes: &[u8], header: &SegmentHeader, run: &super::Run) -> u64 {
    let index = |at: u64| usize::try_from(at).expect("a place in memory");
    let (mut at, mut next, mut records) = (run.bytes.start, run.lsns.first, 0);
    let group = |position| {
        let place = GroupPlace { incarnation: header.incarnation, position };
        GroupHeader::decode_at(&bytes[index(position)..], place)
    };
    // The header may be lost: then there are frames only.
    let mut group_end = match group(run.group) {
        _ if run.group == run.bytes.start => at,
        Ok(header) => header.end(),
        Err(_) => u64::MAX,
    };
    while at < run.bytes.end {
        if at == group_end {
            let boundary = block_up(at);
            let (position, found) = match group(at) {
                Ok(found) => (at, found),
                Err(_) => (boundary, group(boundary).expect("a run goes on with a group")),
            };
            (at, group_end) = (position + GROUP_HEADER_BYTES as u64, found.end());
            continue;
        }
        let frame = Frame::parse(&bytes[index(at)..]).and_then(|frame| frame.check().map(|()| frame));
        let frame = frame.expect("a run is of frames that check");
        assert_eq!(frame.header().lsn, next, "the records of a run are dense");
        next = frame.header().last_lsn().next();
        if frame.header().kind != FrameKind::Gap {
            records += u64::from(frame.header().count);
        }
        at += frame.header().frame_bytes();
    }
    assert_eq!(next, run.lsns.last.next());
    records
}
