//! The flight of one group: from closed in memory to durable on the disk.
//!
//! Runs on whatever thread took the flight, without any lock.

use super::commit::{Flight, Front, Landed};
use crate::disk::buffer::{Filled, LEAD_BYTES};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, FrameHeader, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, INDEX_STRIDE_BYTES,
};

const _: () = assert!(LEAD_BYTES == BLOCK_BYTES + GROUP_HEADER_BYTES);

/// Completes the group in memory, writes it, and returns when it is durable.
///
/// # Errors
/// [`Error::Poisoned`] if a claim was abandoned by a panicking thread, and whatever the disk says: either
/// way the log can take no more.
pub(crate) fn fly(flight: Flight) -> Result<(u64, Landed)> {
    let Flight { seq, closed, tail, position, durable_through, front } = flight;
    let place = GroupPlace { incarnation: tail.header().incarnation, position };
    let mut digest = place.digest_seed();
    let mut strides = Vec::new();
    let mut filled = closed
        .filled(|offset, checksum| {
            digest = digest.fold(u64::from(checksum));
            let stride = INDEX_STRIDE_BYTES as usize;
            if strides.last().is_none_or(|last| offset - last >= stride) {
                strides.push(offset);
            }
        })
        .map_err(|_abandoned| Error::Poisoned)?;
    let claimed = filled.claimed();
    let opening = filled.opening();
    let header = GroupHeader {
        place,
        first_lsn: opening.first_lsn,
        durable_through,
        frame_bytes: u32::try_from(claimed.bytes).expect("bounded by the claim's units"),
        frames: claimed.frames,
        records: claimed.records,
        digest,
    };
    let points = points(&mut filled, &header, &strides);
    let segment_header = matches!(front, Front::SegmentHeader).then(|| tail.header());
    let blocks = compose(filled.memory(), &header, front, |block| {
        segment_header.expect("asked for by the front only").encode_into(block);
    });
    let offset = position / BLOCK_BYTES as u64 * BLOCK_BYTES as u64
        - if segment_header.is_some() { BLOCK_BYTES as u64 } else { 0 };
    tail.write_durable(blocks, offset)?;
    let written_bytes = blocks.len() as u64;
    let mut last_block = Box::new([0; BLOCK_BYTES]);
    last_block.copy_from_slice(&blocks[blocks.len() - BLOCK_BYTES..]);
    let landed = Landed {
        vacant: filled.vacate(),
        digest,
        points,
        last_block,
        tail,
        frame_bytes: claimed.bytes as u64,
        written_bytes,
        position,
        first: opening.first_lsn,
    };
    Ok((seq, landed))
}

/// The headers of the frames that begin at `strides`, offsets from the first frame, with their positions.
fn points(filled: &mut Filled, header: &GroupHeader, strides: &[usize]) -> Vec<(u64, FrameHeader)> {
    let frames = &filled.memory()[LEAD_BYTES..];
    let point = |&offset: &usize| {
        let frame = FrameHeader::decode(&frames[offset..]).expect("a frame that its producer wrote");
        (header.frames_start() + offset as u64, frame)
    };
    strides.iter().map(point).collect()
}

/// Puts the group together in its memory and returns the whole blocks to write.
///
/// The frames lie behind [`LEAD_BYTES`]. A group that starts on a fresh block is written from where it is;
/// one that shares its first block is moved up behind the bytes that are there.
fn compose<'a>(
    memory: &'a mut [u8],
    header: &GroupHeader,
    front: Front,
    write_segment_header: impl FnOnce(&mut [u8]),
) -> &'a [u8] {
    let frame_bytes = header.frame_bytes as usize;
    let (start, header_at) = match front {
        Front::Nothing => (BLOCK_BYTES, BLOCK_BYTES),
        Front::SegmentHeader => {
            write_segment_header(&mut memory[..BLOCK_BYTES]);
            (0, BLOCK_BYTES)
        }
        Front::Block(block) => {
            let lead = header.place.position as usize % BLOCK_BYTES;
            memory.copy_within(LEAD_BYTES..LEAD_BYTES + frame_bytes, lead + GROUP_HEADER_BYTES);
            memory[..lead].copy_from_slice(&block[..lead]);
            (0, lead)
        }
    };
    header.encode_into(&mut memory[header_at..]);
    let end = header_at + GROUP_HEADER_BYTES + frame_bytes;
    let written = end.next_multiple_of(BLOCK_BYTES);
    memory[end..written].fill(0);
    &memory[start..written]
}
