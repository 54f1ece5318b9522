//! Which segment a file is whose header is damaged.

use super::chain::Link;
use super::survey::Found;
use crate::disk::File;
use crate::format::{
    BLOCK_BYTES, Digest, Footer, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, HEADER_BLOCK_BYTES,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SegmentHeader, block_up, footer_bytes_for,
};
use crate::types::{Epoch, LogId, Lsn, SegmentId};

/// Groups of which the digests are held in memory: 32 MiB of them.
const GROUPS_MAX: usize = 4 << 20;

/// What is known of a file from where it has to be in the log.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) log_id: LogId,
    /// The first record, by the file's name or by its first group.
    pub(super) first: Lsn,
    pub(super) before: Option<&'a Link>,
    pub(super) after: Option<&'a Link>,
}

/// The header of a file whose footer names the segment that the file is named for.
///
/// A footer of a former life of the file names another one.
pub(super) fn by_footer(found: &Found, first: Lsn) -> Option<SegmentHeader> {
    let super::survey::Trailer::Sound(footer) = &found.trailer else { return None };
    let header = SegmentHeader {
        log_id: footer.log_id,
        incarnation: footer.incarnation,
        segment_id: footer.segment_id,
        first_lsn: footer.first_lsn,
        epoch: first_epoch(found),
        previous_digest: Digest::ZERO,
        segment_bytes: found.bytes,
        footer_bytes: footer_bytes_for(found.bytes),
    };
    (footer.first_lsn == first && is_possible(found.bytes) && footer.is_of(&header)).then_some(header)
}

/// The header that a file has to have in its place.
pub(super) fn rebuild(found: &Found, around: Around<'_>) -> SegmentHeader {
    let Around { log_id, first, before, after } = around;
    let segment_id = match (before, after) {
        (Some(before), _) => before.header.segment_id.next(),
        (None, Some(after)) => SegmentId::new(after.header.segment_id.get().saturating_sub(1).max(1)),
        (None, None) => SegmentId::FIRST,
    };
    let sealed = before.and_then(|before| before.found.footer_of(&before.header));
    let previous = sealed.filter(|footer: &&Footer| footer.last_lsn.next() == first);
    let previous_digest = previous.map_or(Digest::ZERO, |footer| footer.digest);
    if let Some(header) = by_footer(found, first).filter(|header| header.log_id == log_id) {
        return SegmentHeader { previous_digest, ..header };
    }
    let own = found.first.filter(|group| group.header.first_lsn == first);
    let epoch = own.and_then(|group| group.epoch);
    let life = found.life.map(|life| life.incarnation);
    let neighbour = before.or(after).map_or(SEGMENT_BYTES_MIN, |link| link.header.segment_bytes);
    let segment_bytes =
        if is_possible(found.bytes) { found.bytes } else { neighbour.max(cut_from(found.bytes)) };
    SegmentHeader {
        log_id,
        incarnation: own.map(|group| group.header.place.incarnation).or(life).unwrap_or_default(),
        segment_id,
        first_lsn: first,
        epoch: epoch.or(before.map(|before| before.header.epoch)).unwrap_or_default(),
        previous_digest,
        segment_bytes,
        footer_bytes: footer_bytes_for(segment_bytes),
    }
}

/// How the segment before has to have ended, if all groups of this one check: its own end is undone, group by group.
pub(super) fn previous_digest(
    file: &dyn File,
    header: &SegmentHeader,
    (end, digest): (u64, Digest),
) -> Option<Digest> {
    let mut sums = Vec::new();
    let mut at = HEADER_BLOCK_BYTES as u64;
    while at < end && sums.len() < GROUPS_MAX {
        let group = group_at(file, header, at).or_else(|| group_at(file, header, block_up(at)))?;
        sums.push(group.digest.get());
        at = group.end();
    }
    // A group that a truncation has cut is not folded in as a whole.
    (at == end).then(|| sums.iter().rev().fold(digest, |digest, sum| digest.before(*sum)))
}

fn group_at(file: &dyn File, header: &SegmentHeader, position: u64) -> Option<GroupHeader> {
    let mut bytes = [0; GROUP_HEADER_BYTES];
    let there = file.read_at(&mut bytes, position).ok()?;
    let place = GroupPlace { incarnation: header.incarnation, position };
    GroupHeader::decode_at(&bytes[..there], place).ok()
}

fn first_epoch(found: &Found) -> Epoch {
    found.first.and_then(|first| first.epoch).unwrap_or_default()
}

/// The least that a segment can have been long whose file was cut to `bytes`: all that is left may be data.
fn cut_from(bytes: u64) -> u64 {
    let data = bytes.min(SEGMENT_BYTES_MAX / 2).next_multiple_of(BLOCK_BYTES as u64);
    let with_footer = data + footer_bytes_for(data);
    data + footer_bytes_for(with_footer)
}

/// Whether a segment can have this length.
fn is_possible(bytes: u64) -> bool {
    bytes.is_multiple_of(BLOCK_BYTES as u64) && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes)
}
