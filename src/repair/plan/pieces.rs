//! What of a segment can be read, and what is lost between.

use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{FRAME_HEADER_BYTES, Footer, FooterView, FrameHeader, GROUP_HEADER_BYTES};
use crate::repair::rebuild::Piece;
use crate::repair::report::SegmentReport;
use crate::segment::{Cause, Correction, Run, Stretch, StretchKind};
use crate::types::{Lsn, LsnRange};

/// What is to be in a segment up to the record `last`, of what can be read of it.
///
/// Frames with one flipped bit are readable: they are read as if it were put right.
///
/// # Errors
/// Whatever the operating system says of opening the file.
pub(in crate::repair) fn readable_pieces(
    disk: &dyn Disk,
    segment: &SegmentReport,
    (stretches, last): (&[&Stretch], Lsn),
) -> Result<Vec<Piece>> {
    let mut readable: Vec<Run> = segment.runs.clone();
    for stretch in stretches {
        readable.extend(corrected_frame(disk, segment, stretch)?);
    }
    readable.sort_by_key(|run| (run.lsns.first, run.bytes.start));
    let mut pieces: Vec<Piece> = Vec::new();
    let mut next = segment.header.first_lsn;
    for mut run in readable {
        run.lsns.last = run.lsns.last.min(last);
        // What was read before counts; of two that overlap only one can be from a sound log.
        if run.lsns.first < next || run.lsns.first > last {
            continue;
        }
        pieces.extend(lost(next, run.lsns.first.prev()));
        next = run.lsns.last.next();
        match pieces.last_mut() {
            // What lies between is inside of one group: it ended where this one goes on.
            Some(Piece::Frames(before))
                if before.bytes.end == run.bytes.start && run.group < run.bytes.start =>
            {
                before.bytes.end = run.bytes.end;
                before.lsns.last = run.lsns.last;
            }
            _ => pieces.push(Piece::Frames(run)),
        }
    }
    pieces.extend(lost(next, last));
    Ok(pieces)
}

/// The bits in a file that are to be put right.
pub(super) fn corrections<'a>(stretches: impl Iterator<Item = &'a Stretch>) -> Vec<Correction> {
    stretches.filter_map(|stretch| stretch.correction).collect()
}

fn lost(first: Lsn, last: Lsn) -> Option<Piece> {
    LsnRange::new(first, last).map(|lsns| Piece::Lost { lsns, epoch: None })
}

/// The frame that a stretch is once its flipped bit is put right.
fn corrected_frame(disk: &dyn Disk, segment: &SegmentReport, stretch: &Stretch) -> Result<Option<Run>> {
    let is_frame = stretch.kind == StretchKind::Rot && stretch.cause == Cause::Frame;
    let Some(Correction { offset, bit }) = stretch.correction.filter(|_| is_frame) else { return Ok(None) };
    let opened = disk.open(&segment.file, Access::Read);
    let file = opened.map_err(|source| Error::io("open", &segment.file, source))?;
    let start = stretch.bytes.start;
    let mut header = [0; FRAME_HEADER_BYTES];
    if file.read_at(&mut header, start).is_err() {
        return Ok(None);
    }
    let place = offset.checked_sub(start).and_then(|place| usize::try_from(place).ok());
    if let Some(byte) = place.and_then(|place| header.get_mut(place)) {
        *byte ^= 1 << bit;
    }
    // If it is not the first one of its group, no header stands there, and the frame before tells.
    let group = start.checked_sub(GROUP_HEADER_BYTES as u64);
    let of_frame = |header: FrameHeader| LsnRange::new(header.lsn, header.last_lsn());
    let lsns = FrameHeader::decode(&header).ok().and_then(of_frame);
    Ok(group.zip(lsns).map(|(group, lsns)| Run { bytes: stretch.bytes.clone(), group, lsns }))
}

/// The footer of a segment once the flipped bits in it are put right, tables included; `None` if that does not help.
///
/// # Errors
/// Whatever the operating system says of opening the file.
pub(super) fn corrected_footer(
    disk: &dyn Disk,
    segment: &SegmentReport,
    damage: &[&Stretch],
) -> Result<Option<Footer>> {
    let opened = disk.open(&segment.file, Access::Read);
    let file = opened.map_err(|source| Error::io("open", &segment.file, source))?;
    let header = &segment.header;
    let mut region =
        vec![0; usize::try_from(header.footer_bytes).expect("a footer is a small part of a segment")];
    match file.read_at(&mut region, header.data_end()) {
        Ok(there) if there == region.len() => {}
        _ => return Ok(None),
    }
    for Correction { offset, bit } in corrections(damage.iter().copied()) {
        let place = offset.checked_sub(header.data_end()).and_then(|place| usize::try_from(place).ok());
        if let Some(byte) = place.and_then(|place| region.get_mut(place)) {
            *byte ^= 1 << bit;
        }
    }
    let footer = FooterView::parse(&region).ok().map(|view| *view.footer());
    Ok(footer.filter(|footer| footer.is_of(header)))
}
