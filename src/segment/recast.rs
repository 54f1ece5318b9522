//! What a cut keeps of a segment, as another life of it in a file of its own.
//!
//! A segment that was cut before still has whole groups of its own behind its end. If its footer were written over in
//! its place and the power failed in that, nothing would say any more where it ended, and those groups would be
//! taken for records, under LSNs that others had since. Another life knows nothing of them.

use crate::disk::File;
use crate::error::{Error, Result};
use crate::format::{
    Frames, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, HEADER_BLOCK_BYTES, SegmentHeader, Walk,
};

use super::extent::Extent;
use super::name::segment_name;

/// Bytes that are copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The segment that is copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original<'a> {
    pub(crate) header: &'a SegmentHeader,
    /// From the start of its file to the end of what is kept, which was scanned.
    pub(crate) bytes: &'a [u8],
    pub(crate) extent: &'a Extent,
}

/// Writes what is kept into `file`, which is all zeros, as the segment with `header`: the same frames in the same places,
/// in groups of that incarnation. Not durable before a sync.
///
/// # Errors
/// [`Error::Rot`] if the frames are not what they were when they were scanned; whatever the operating system says.
pub(crate) fn recast(file: &dyn File, original: Original<'_>, header: &SegmentHeader) -> Result<Extent> {
    let name = segment_name(header.first_lsn);
    let write =
        |bytes: &[u8], at: u64| file.write_at(bytes, at).map_err(|source| Error::io("write", &name, source));
    let mut block = vec![0; HEADER_BLOCK_BYTES];
    header.encode_into(&mut block);
    write(&block, 0)?;
    let Original { header: old, bytes, extent } = original;
    for (index, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
        let at = index * CHUNK_BYTES;
        let skipped = HEADER_BLOCK_BYTES.saturating_sub(at).min(chunk.len());
        write(&chunk[skipped..], (at + skipped) as u64)?;
    }
    let mut digest = header.previous_digest;
    let (mut groups, mut newest) = (0, 0);
    for step in Frames::new(bytes, Walk::from_start(old.incarnation).verified(false)) {
        let rot =
            |bytes| Error::Rot { file: name.as_str().into(), bytes, first: old.first_lsn, last: extent.last };
        let (place, _) = step.map_err(|fault| rot(fault.bytes))?;
        if place.group == newest {
            continue;
        }
        newest = place.group;
        let group = again(bytes, old, GroupPlace { incarnation: header.incarnation, position: newest });
        let group = group.ok_or_else(|| rot(place.group..place.frame))?;
        let mut encoded = [0; GROUP_HEADER_BYTES];
        group.encode_into(&mut encoded);
        write(&encoded, newest)?;
        digest = digest.fold(group.digest.get());
        groups += 1;
    }
    assert!(groups == extent.groups, "the groups that were scanned");
    Ok(Extent { digest, ..extent.clone() })
}

/// The header in this place for what is kept of the group that stands there.
fn again(bytes: &[u8], old: &SegmentHeader, place: GroupPlace) -> Option<GroupHeader> {
    let group = bytes.get(usize::try_from(place.position).ok()?..)?;
    let found = GroupHeader::decode_at(group, GroupPlace { incarnation: old.incarnation, ..place }).ok()?;
    let frames = &group[GROUP_HEADER_BYTES..];
    let kept = frames.len().min(found.frame_bytes as usize);
    Some(GroupHeader::over(&frames[..kept], place, found.durable_through))
}
