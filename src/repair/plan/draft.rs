//! Which segments have to be written anew, and which are to be there that are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Step;
use super::pieces::{corrected_footer, corrections, readable_pieces};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{
    Digest, FRAME_HEADER_BYTES, Footer, FooterKind, GROUP_HEADER_BYTES, HEADER_BLOCK_BYTES, Incarnation,
    SEGMENT_BYTES_MIN, SegmentHeader, all_zero, footer_bytes_for,
};
use crate::repair::rebuild::{
    Ending, GAP_FRAMES_MAX, GROUP_BYTES, GROUP_BYTES_MAX, Manner, Piece, Previous, Recipe, Stated,
    segment_bytes_for,
};
use crate::repair::report::{FileRole, Report, SegmentReport, Stray};
use crate::segment::{Cause, FileName, Stretch, StretchKind, segment_name};
use crate::types::{Epoch, LogId, Lsn, LsnRange, SegmentId};

/// Missing segments in a row that are made anew: more of them are rather a number that cannot be.
const MISSING_MAX: u64 = 1 << 16;

/// What is to be done to the segments of a log.
pub(super) struct Draft {
    pub(super) steps: Vec<Step>,
    pub(super) recipes: Vec<Recipe>,
    /// The files that new ones come in the place of.
    pub(super) aside: Vec<Arc<str>>,
}

/// A segment that the log is to have: each continues the one before.
struct Node<'a> {
    /// As it was found; `None` for one that is missing.
    found: Option<&'a SegmentReport>,
    header: SegmentHeader,
    pieces: Vec<Piece>,
    /// What is wrong with the file, but for its name.
    damage: Vec<&'a Stretch>,
    footer: KnownFooter,
    /// How the segment before it ends is not in its header, or that is lost.
    has_lost_header: bool,
    /// What it is to say of that.
    start: Previous,
    is_built: bool,
}

/// What is known of the footer of a segment.
struct KnownFooter {
    /// What it says, if it is one of a segment that is complete.
    sealed: Option<Footer>,
    /// There is something wrong with it.
    is_hurt: bool,
    /// There is nothing wrong with it once the flipped bits are put right.
    is_sound: bool,
}

/// Records of which all segments are missing.
struct Missing {
    log_id: LogId,
    lsns: LsnRange,
    /// The first of those segments.
    id: SegmentId,
    segments: u64,
    epoch: Epoch,
}

impl Draft {
    /// # Errors
    /// [`Error::NotRepairable`] if the numbers of segments do not fit what is missing.
    pub(super) fn of(disk: &dyn Disk, report: &Report) -> Result<Draft> {
        let mut nodes = nodes(disk, report)?;
        for index in 0..nodes.len() {
            let (left, node) = (index.checked_sub(1).map(|left| &nodes[left]), &nodes[index]);
            let right = nodes.get(index + 1);
            // One that others follow is sealed; by the engine, unless what follows needs its digest here.
            let is_unsealed = right.is_some_and(Node::asks_left) && node.footer_digest().is_none();
            let is_built = node.is_damaged() || is_unsealed;
            let (start, previous_digest) = node.start_after(left);
            nodes[index].is_built = is_built;
            nodes[index].start = start;
            nodes[index].header.previous_digest = previous_digest;
        }
        let mut draft = Draft { steps: vec![], recipes: vec![], aside: vec![] };
        for index in 0..nodes.len() {
            if nodes[index].is_built {
                draft.recipes.push(recipe(&nodes, index, disk.wall_ms())?);
                draft.aside.extend(nodes[index].found.map(|found| Arc::clone(&found.file)));
                draft.steps.extend(nodes[index].steps());
            }
        }
        Ok(draft)
    }
}

/// Everything that the log is to consist of.
fn nodes<'a>(disk: &dyn Disk, report: &'a Report) -> Result<Vec<Node<'a>>> {
    let mut nodes = Vec::new();
    let mut damage = damage_by_file(report);
    let log_id = report.log_id.unwrap_or_default();
    match report.segments.first().map(|first| &first.header) {
        Some(first) => {
            if let Some(lsns) = LsnRange::new(report.first_lsn, first.first_lsn.prev()) {
                // How many there were of them that were not trimmed, nobody knows: one takes their place.
                let id = SegmentId::new(first.segment_id.get() - 1);
                let segments = u64::from(id >= SegmentId::FIRST);
                bridge(&mut nodes, &Missing { log_id, lsns, id, segments, epoch: first.epoch })?;
            }
        }
        None => {
            if let Some(lsns) = LsnRange::new(report.first_lsn, report.last_lsn) {
                let id = SegmentId::FIRST;
                bridge(&mut nodes, &Missing { log_id, lsns, id, segments: 1, epoch: report.epoch })?;
            }
        }
    }
    for (index, segment) in report.segments.iter().enumerate() {
        let next = report.segments.get(index + 1).map(|next| &next.header);
        let id = after(segment.header.segment_id);
        let last = last_of(segment, next);
        let damage = damage.remove(&*segment.file).unwrap_or_default();
        let mut node = Node::existing(disk, (segment, damage), last)?;
        node.header.log_id = log_id;
        node.header.epoch = begun_in(report, index);
        nodes.push(node);
        let end = next.map_or(report.last_lsn, |next| next.first_lsn.prev());
        let segments = next.map_or(1, |next| next.segment_id.get().saturating_sub(id.get()));
        match LsnRange::new(last.next(), end) {
            Some(lsns) => {
                let epoch = next.map_or(report.epoch, |next| next.epoch);
                bridge(&mut nodes, &Missing { log_id, lsns, id, segments, epoch })?;
            }
            None if next.is_some() && segments > 0 => {
                return Err(Error::NotRepairable { file: Arc::clone(&segment.file) });
            }
            None => {}
        }
    }
    Ok(nodes)
}

/// What is wrong with each file, but for its name.
pub(in crate::repair) fn damage_by_file(report: &Report) -> BTreeMap<&str, Vec<&Stretch>> {
    let mut damage: BTreeMap<&str, Vec<&Stretch>> = BTreeMap::new();
    for stretch in &report.stretches {
        let is_damage = matches!(stretch.kind, StretchKind::Rot | StretchKind::Hole);
        if is_damage && !matches!(stretch.cause, Cause::Missing | Cause::Name) {
            damage.entry(&stretch.file).or_default().push(stretch);
        }
    }
    damage
}

/// The epoch that a segment was begun in: as its header says, but no later than any that was begun after it. Of a
/// header that is lost it may be told by a frame that does not check.
pub(in crate::repair) fn begun_in(report: &Report, index: usize) -> Epoch {
    let own = report.segments.get(index).map_or(report.epoch, |segment| segment.header.epoch);
    // The next header that is not lost says enough.
    let next = report.segments.iter().skip(index + 1).map(|next| next.header.epoch).take(2).min();
    next.map_or(own, |next| own.min(next))
}

/// The last record that is to be in a segment.
fn last_of(segment: &SegmentReport, next: Option<&SegmentHeader>) -> Lsn {
    let (first, id) = (segment.header.first_lsn, segment.header.segment_id);
    match next {
        Some(next) if next.segment_id == after(id) => next.first_lsn.prev(),
        // One that others followed has a name, and so a record, of its own.
        Some(next) => segment.last_lsn.clamp(first, next.first_lsn.prev().max(first)),
        None => segment.last_lsn,
    }
}

/// Adds segments that say that their records are lost: one record each, and the last one has the rest.
fn bridge(nodes: &mut Vec<Node<'_>>, missing: &Missing) -> Result<()> {
    let &Missing { log_id, lsns, segments, epoch, .. } = missing;
    let not_repairable = || Error::NotRepairable { file: segment_name(lsns.first).into() };
    let is_possible = (1..=lsns.records().min(MISSING_MAX)).contains(&segments);
    if !is_possible || gap_frames(lsns) > GAP_FRAMES_MAX {
        return Err(not_repairable());
    }
    for number in 0..segments {
        let first = lsns.first.plus(number);
        let last = if number + 1 == segments { lsns.last } else { first };
        let lsns = LsnRange { first, last };
        let frames = gap_frames(lsns);
        let segment_bytes = frames
            .checked_mul(FRAME_HEADER_BYTES as u64)
            .and_then(|bytes| segment_bytes_for(bytes, frames, SEGMENT_BYTES_MIN))
            .ok_or_else(not_repairable)?;
        let previous_digest = nodes.last().and_then(Node::footer_digest).unwrap_or(Digest::ZERO);
        let header = SegmentHeader {
            log_id,
            incarnation: Incarnation::default(),
            segment_id: SegmentId::new(missing.id.get() + number),
            first_lsn: first,
            epoch,
            previous_digest,
            segment_bytes,
            footer_bytes: footer_bytes_for(segment_bytes),
        };
        let pieces = vec![Piece::Lost { lsns, epoch: Some(epoch) }];
        nodes.push(Node {
            found: None,
            header,
            pieces,
            damage: vec![],
            footer: KnownFooter::NONE,
            has_lost_header: true,
            start: Previous::Header,
            is_built: true,
        });
    }
    Ok(())
}

/// The number of the segment begun next; whatever a header says, it is one.
fn after(id: SegmentId) -> SegmentId {
    SegmentId::new(id.get().saturating_add(1))
}

/// How many frames say that these records are lost.
fn gap_frames(lsns: LsnRange) -> u64 {
    lsns.records().div_ceil(u64::from(u32::MAX))
}

impl KnownFooter {
    const NONE: KnownFooter = KnownFooter { sealed: None, is_hurt: false, is_sound: true };

    /// Of a segment of which this is damaged, and that ends with `last`.
    fn of(
        disk: &dyn Disk,
        (segment, damage): (&SegmentReport, &[&Stretch]),
        last: Lsn,
    ) -> Result<KnownFooter> {
        let is_sealed = |footer: &Footer| footer.kind == FooterKind::Sealed;
        let sealed = segment.footer.filter(is_sealed);
        let is_hurt = damage.iter().any(|stretch| stretch.bytes.end > segment.header.data_end());
        if !is_hurt {
            return Ok(KnownFooter { sealed, is_hurt, is_sound: true });
        }
        let corrected = corrected_footer(disk, segment, damage)?;
        Ok(match corrected.filter(|footer| !is_sealed(footer) || footer.last_lsn == last) {
            Some(footer) => KnownFooter { sealed: Some(footer).filter(is_sealed), is_hurt, is_sound: true },
            None => KnownFooter { sealed, is_hurt, is_sound: false },
        })
    }
}

impl<'a> Node<'a> {
    fn existing(
        disk: &dyn Disk,
        (segment, damage): (&'a SegmentReport, Vec<&'a Stretch>),
        last: Lsn,
    ) -> Result<Node<'a>> {
        let header = segment.header;
        let pieces = readable_pieces(disk, segment, (&damage, last))?;
        // Whether it does not check, is blank, or cannot be read.
        let is_lost_header = |stretch: &&Stretch| {
            stretch.bytes.start < HEADER_BLOCK_BYTES as u64 && stretch.correction.is_none()
        };
        let has_lost_header = damage.iter().any(is_lost_header);
        let start = Previous::Header;
        let footer = KnownFooter::of(disk, (segment, &damage), last)?;
        Ok(Node {
            found: Some(segment),
            header,
            pieces,
            damage,
            footer,
            has_lost_header,
            start,
            is_built: false,
        })
    }

    fn is_bridge(&self) -> bool {
        self.found.is_none()
    }

    /// Whether the segment before it has to say what it ends with.
    fn asks_left(&self) -> bool {
        self.has_lost_header
    }

    /// What it is to say of the end of the segment before it, and, if that is known, the digest.
    fn start_after(&self, left: Option<&Node<'_>>) -> (Previous, Digest) {
        let own = self.header.previous_digest;
        if !self.has_lost_header {
            return (Previous::Header, own);
        }
        match left {
            Some(left) if !left.is_lossy() => match left.footer_digest() {
                Some(digest) => (Previous::Header, digest),
                None => (Previous::Left, own),
            },
            // With gaps on either side, or nothing, it may say what it likes.
            _ if self.is_lossy() => (Previous::Header, own),
            _ => (Previous::Free, own),
        }
    }

    fn is_lossy(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Lost { .. }))
    }

    fn is_misnamed(&self) -> bool {
        let named = self.found.map(|found| FileName::of(&found.file));
        matches!(named, Some(FileName::Segment(first)) if first != self.header.first_lsn)
    }

    fn is_damaged(&self) -> bool {
        self.is_bridge() || self.is_lossy() || self.is_misnamed() || !self.damage.is_empty()
    }

    /// What the sealed footer says of the end.
    fn footer_digest(&self) -> Option<Digest> {
        self.footer.sealed.map(|footer| footer.digest)
    }

    fn to(&self) -> Arc<str> {
        segment_name(self.header.first_lsn).into()
    }

    fn lost(&self) -> Vec<LsnRange> {
        let lost = |piece: &Piece| match piece {
            Piece::Frames(_) => None,
            Piece::Lost { lsns, .. } => Some(*lsns),
        };
        self.pieces.iter().filter_map(lost).collect()
    }

    fn lsns(&self) -> Option<LsnRange> {
        let last = self.pieces.last().map(|piece| match piece {
            Piece::Frames(run) => run.lsns.last,
            Piece::Lost { lsns, .. } => lsns.last,
        });
        LsnRange::new(self.header.first_lsn, last?)
    }

    /// What to say of it.
    fn steps(&self) -> Vec<Step> {
        let (header, to) = (self.header, self.to());
        let Some(found) = self.found else {
            return self.lsns().map(|lsns| Step::Bridge { file: to, header, lsns }).into_iter().collect();
        };
        let file = || Arc::clone(&found.file);
        let mut steps = Vec::new();
        if self.is_misnamed() {
            steps.push(Step::Rename { from: file(), to });
        }
        let is_correctable = self.damage.iter().all(|stretch| stretch.correction.is_some());
        match self.lsns().filter(|_| self.is_lossy()) {
            Some(lsns) => steps.push(Step::Rebuild { file: file(), header, lsns, gives_up: self.lost() }),
            None if !self.damage.is_empty() && is_correctable => {
                let corrections = corrections(self.damage.iter().copied());
                steps.push(Step::Correct { file: file(), corrections });
            }
            None if !self.damage.is_empty() || steps.is_empty() => {
                steps.push(Step::Reseal { file: file(), header });
            }
            None => {}
        }
        steps
    }
}

/// How the segment `nodes[index]` comes about.
fn recipe(nodes: &[Node<'_>], index: usize, wall_ms: u64) -> Result<Recipe> {
    let node = &nodes[index];
    let right = nodes.get(index + 1);
    let sealed = node.footer.sealed;
    let ending = match (right, sealed) {
        (None, None) if !node.is_bridge() => Ending::Open,
        (_, footer) => Ending::Sealed {
            stated: stated(node, right),
            sealed_at_ms: footer.map_or(wall_ms, |footer| footer.sealed_at_ms),
        },
    };
    // Of the two that contradict each other nobody knows which is right.
    let own = node.footer_digest().filter(|_| !node.is_lossy());
    match (own, ending) {
        (Some(own), Ending::Sealed { stated: Stated::Known(stated), .. }) if own != stated => {
            return Err(Error::NotRepairable { file: node.to() });
        }
        _ => {}
    }
    let (header, group_bytes) = sized(node)?;
    Ok(Recipe {
        to: node.to(),
        header,
        group_bytes,
        previous: node.start,
        from: node.found.map(|found| Arc::clone(&found.file)),
        incarnation: node.header.incarnation,
        corrections: corrections(node.damage.iter().copied()),
        pieces: node.pieces.clone(),
        manner: manner(node, right),
        ending,
    })
}

/// How much of the old file the new one is.
fn manner(node: &Node<'_>, right: Option<&Node<'_>>) -> Manner {
    let Some(found) = node.found.filter(|_| !node.is_lossy()) else { return Manner::NewLife };
    let is_correctable = node.damage.iter().all(|stretch| stretch.correction.is_some());
    let is_complete = node.footer.sealed.is_some() || right.is_none();
    let is_correctable = is_correctable && node.footer.is_sound;
    if is_correctable && is_complete && found.bytes == node.header.segment_bytes {
        return Manner::Verbatim;
    }
    Manner::SameLife { has_footer: node.footer.sealed.is_some() && !node.footer.is_hurt }
}

/// What the end digest of a segment has to be.
fn stated(node: &Node<'_>, right: Option<&Node<'_>>) -> Stated {
    let own = node.footer_digest().map_or(Stated::Free, Stated::Known);
    match right.map(|right| (right.start, right.header.previous_digest)) {
        // Whatever its start turns out to be follows from its end, and this one has gaps to say so.
        Some((Previous::Free, _)) => Stated::Right,
        Some((Previous::Header, digest)) => Stated::Known(digest),
        Some((Previous::Left, _)) | None => own,
    }
}

/// The header of the new segment, and how large its groups are: if there is no room for the gaps otherwise, few
/// groups, or a larger file.
fn sized(node: &Node<'_>) -> Result<(SegmentHeader, u64)> {
    let header = node.header;
    if !node.is_lossy() || node.is_bridge() {
        return Ok((header, GROUP_BYTES));
    }
    let (mut bytes, mut frames) = (0_u64, 0_u64);
    for piece in &node.pieces {
        match piece {
            Piece::Frames(run) => bytes = bytes.saturating_add(run.bytes.end.saturating_sub(run.bytes.start)),
            Piece::Lost { lsns, .. } => frames = frames.saturating_add(gap_frames(*lsns)),
        }
    }
    if frames > GAP_FRAMES_MAX {
        return Err(Error::NotRepairable { file: node.to() });
    }
    let bytes = bytes.saturating_add(frames.saturating_mul(FRAME_HEADER_BYTES as u64));
    for group_bytes in [GROUP_BYTES, GROUP_BYTES_MAX] {
        let groups = (bytes / group_bytes)
            .saturating_add(frames.saturating_sub(node.pieces.len() as u64))
            .saturating_add(2);
        let headers = groups.saturating_mul(GROUP_HEADER_BYTES as u64);
        if bytes.saturating_add(headers) <= header.data_end() - HEADER_BLOCK_BYTES as u64 {
            return Ok((header, group_bytes));
        }
    }
    let segment_bytes = segment_bytes_for(bytes, frames, header.segment_bytes)
        .ok_or_else(|| Error::NotRepairable { file: node.to() })?;
    let header = SegmentHeader { segment_bytes, footer_bytes: footer_bytes_for(segment_bytes), ..header };
    Ok((header, GROUP_BYTES))
}

/// Whether a file that is no part of the log keeps it from being opened.
///
/// # Errors
/// Whatever the operating system says of opening it.
pub(super) fn is_in_the_way(disk: &dyn Disk, stray: &Stray, report: &Report) -> Result<bool> {
    let named = FileName::of(&stray.file);
    // No open goes by it, be it a spare that never held a record.
    let is_of_stray = |stretch: &Stretch| stretch.file == stray.file && stretch.cause == Cause::Unreadable;
    if report.stretches.iter().any(is_of_stray) {
        return Ok(true);
    }
    match (&stray.role, named) {
        (FileRole::Foreign(_) | FileRole::Duplicate, _) => Ok(true),
        // One that is named as the next segment is used by the next open.
        (FileRole::Blank, FileName::Segment(first)) => Ok(first != report.last_lsn.next()),
        (FileRole::Spare, _) => Ok(start_of(disk, stray)?.is_none_or(|start| !all_zero(&start))),
        (FileRole::Trimmed, FileName::Segment(first)) => {
            let header = start_of(disk, stray)?.map(|start| SegmentHeader::decode(&start));
            Ok(header.is_none_or(|header| header.is_ok_and(|header| header.first_lsn != first)))
        }
        _ => Ok(false),
    }
}

/// The first blocks of a file; `None` if they cannot be read.
fn start_of(disk: &dyn Disk, stray: &Stray) -> Result<Option<Vec<u8>>> {
    let opened = disk.open(&stray.file, Access::Read);
    let file = opened.map_err(|source| Error::io("open", &stray.file, source))?;
    let mut start = vec![0; HEADER_BLOCK_BYTES + GROUP_HEADER_BYTES];
    let there = file.read_at(&mut start, 0).ok();
    Ok(there.map(|there| {
        start.truncate(there);
        start
    }))
}
