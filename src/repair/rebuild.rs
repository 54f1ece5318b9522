//! Writing one segment anew, from what can be read of the old one and from gaps for what cannot.
//!
//! Streamed: needs memory for two windows of 1 MiB and the segment's index, whatever the sizes in the file say.

mod frames;
mod new_segment;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

pub(super) use self::frames::{FoundFrame, RunFrames, Source};
pub(super) use self::new_segment::{
    Built, Ending, GAP_FRAMES_MAX, GROUP_BYTES, GROUP_BYTES_MAX, NewSegment, segment_bytes_for,
};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{Digest, FooterKind, HEADER_BLOCK_BYTES, Incarnation, SegmentHeader};
use crate::segment::{Correction, Question, Run, Stretch, StretchKind, examine, read_footer};
use crate::types::{Epoch, Lsn, LsnRange};

/// How one new segment comes about.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// The name that it will have.
    pub(super) to: Arc<str>,
    /// The header that it will have.
    pub(super) header: SegmentHeader,
    pub(super) previous: Previous,
    /// The file that the frames are read from; `None` if there is none.
    pub(super) from: Option<Arc<str>>,
    /// The life of that file.
    pub(super) incarnation: Incarnation,
    /// Bits to be put right in it.
    pub(super) corrections: Vec<Correction>,
    pub(super) pieces: Vec<Piece>,
    pub(super) manner: Manner,
    /// Bytes of groups, unless they stay what they are.
    pub(super) group_bytes: u64,
    pub(super) ending: Ending<Stated>,
}

/// How much of the old file a new one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// All of it, byte for byte, but for the bits that are put right.
    Verbatim,
    /// Every frame is there, and stays where it is: the file goes on with its life.
    SameLife {
        /// The footer is sound, and stays what it is.
        has_footer: bool,
    },
    /// Frames are missing: those that are there are put together anew.
    NewLife,
}

/// What a new segment says of the end of the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Previous {
    /// What its header in the recipe says.
    Header,
    /// What the segment that is built right before it in the list ends with.
    Left,
    /// Whatever makes it end as it has to.
    Free,
}

/// What a new segment has to end with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stated {
    Known(Digest),
    /// What the segment that is built right after it in the list says.
    Right,
    /// Whatever it comes to.
    Free,
}

/// What follows in a new segment.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Frames of the old one.
    Frames(Run),
    /// Records that are lost.
    Lost {
        lsns: LsnRange,
        /// The epoch to say they were of; `None` for that of the record before.
        epoch: Option<Epoch>,
    },
}

/// The order in which recipes are to be built: first those whose digests are what they are, then those that can say
/// what the others ask for.
pub(super) fn order(recipes: &[Recipe]) -> impl Iterator<Item = usize> {
    let (all, lossy): (Vec<usize>, Vec<usize>) =
        (0..recipes.len()).partition(|&index| !recipes[index].is_lossy());
    all.into_iter().chain(lossy)
}

/// What is known of the segments beside one that is built.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// The end digest of the one before, if that is built too.
    pub(super) left: Option<Digest>,
    /// What the one after says of the end of this one, if that is built too.
    pub(super) right: Option<Digest>,
}

impl Recipe {
    /// Writes the segment into the new file `name`, durably but for the name. Tells `progress` of bytes.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Outdated`], [`Error::NotRepairable`], whatever `progress` says, and whatever
    /// the operating system says. The file may be there then.
    pub(super) fn build(
        &self,
        disk: &dyn Disk,
        (name, beside): (String, Beside),
        progress: &dyn Fn(u64) -> Result<()>,
    ) -> Result<Built> {
        self.build_as(disk, (name, beside), progress).map_err(|error| match error {
            // By the name that means something to somebody.
            Error::NotRepairable { .. } => Error::NotRepairable { file: Arc::clone(&self.to) },
            error => error,
        })
    }

    fn build_as(
        &self,
        disk: &dyn Disk,
        (name, beside): (String, Beside),
        progress: &dyn Fn(u64) -> Result<()>,
    ) -> Result<Built> {
        let mut header = SegmentHeader { previous_digest: self.previous_digest(beside.left), ..self.header };
        let mut source = self.open(disk)?;
        if let (Manner::Verbatim, Some(source)) = (self.manner, &mut source) {
            source.copy_all((disk, &name), progress)?;
            // Nobody asks for its end: either it has a footer, or nothing follows it.
            return Ok(Built { previous_digest: header.previous_digest, digest: Digest::ZERO });
        }
        if self.manner == Manner::NewLife {
            header.incarnation = Incarnation::new(disk.entropy());
        }
        let mut segment = NewSegment::create(disk, name, header)?.with_groups_of(self.group_bytes);
        if self.previous == Previous::Free {
            segment = segment.with_free_start();
        }
        for piece in &self.pieces {
            match (piece, &mut source) {
                (Piece::Frames(run), Some(source)) => {
                    copy_run(&mut segment, (source, run), self.manner != Manner::NewLife, progress)?;
                }
                (Piece::Frames(_), None) => unreachable!("frames come from a file"),
                (Piece::Lost { lsns, epoch }, _) => {
                    segment.give_up(*lsns, epoch.unwrap_or(segment.epoch()).max(segment.epoch()))?;
                }
            }
        }
        if let (Manner::SameLife { has_footer: true }, Some(source)) = (self.manner, &source) {
            segment.keep_tables(source)?;
        }
        segment.finish(match self.ending {
            Ending::Open => Ending::Open,
            Ending::Sealed { stated, sealed_at_ms } => {
                let stated = match stated {
                    Stated::Known(digest) => Some(digest),
                    Stated::Right => beside.right,
                    Stated::Free => None,
                };
                Ending::Sealed { stated, sealed_at_ms }
            }
        })
    }

    /// What it says of the end of the segment before, unless that follows from its own end.
    pub(super) fn previous_digest(&self, left: Option<Digest>) -> Digest {
        match self.previous {
            Previous::Left => left.unwrap_or(self.header.previous_digest),
            Previous::Header | Previous::Free => self.header.previous_digest,
        }
    }

    /// Whether records are given up in it.
    pub(super) fn is_lossy(&self) -> bool {
        self.gives_up().next().is_some()
    }

    /// Looks at every byte of the segment that was built into the file `name`. Tells `progress` of bytes.
    ///
    /// # Errors
    /// [`Error::NotRepairable`] if there is anything wrong with it; whatever `progress` says, and whatever the
    /// operating system says.
    pub(super) fn check(
        &self,
        disk: &dyn Disk,
        name: &str,
        progress: &dyn Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let io = |doing| move |source| Error::io(doing, name, source);
        let not_repairable = || Error::NotRepairable { file: Arc::clone(&self.to) };
        let file = disk.open(name, Access::Read).map_err(io("open"))?;
        let mut block = vec![0; HEADER_BLOCK_BYTES];
        file.read_at(&mut block, 0).map_err(io("read"))?;
        let header = SegmentHeader::decode(&block).map_err(|_| not_repairable())?;
        let footer = read_footer(&*file, name, &header)?.map(|(footer, _)| footer);
        let footer = footer.filter(|footer| footer.kind == FooterKind::Sealed);
        let last = self.last_lsn();
        let question = Question {
            file: &*file,
            name: &self.to,
            header: &header,
            footer: footer.as_ref(),
            last: footer.as_ref().map(|footer| footer.last_lsn),
            durable: last,
            next_digest: None,
            knows_start: true,
        };
        let failed = RefCell::new(None);
        let examined = examine(&question, &|bytes| match progress(bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed.replace(Some(error));
                ControlFlow::Break(())
            }
        });
        if let Some(error) = failed.take() {
            return Err(error);
        }
        let examined = examined?;
        let is_damage = |stretch: &Stretch| matches!(stretch.kind, StretchKind::Rot | StretchKind::Hole);
        if !self.gives_up().all(|lost| is_covered(&examined.gaps, lost)) {
            return Err(not_repairable());
        }
        let is_as_planned = self.manner == Manner::Verbatim
            || footer.is_some() == matches!(self.ending, Ending::Sealed { .. });
        match is_as_planned && examined.last_lsn == last && !examined.stretches.iter().any(is_damage) {
            true => Ok(()),
            false => Err(not_repairable()),
        }
    }

    /// The last record in it; the one before the first if there are none.
    fn last_lsn(&self) -> Lsn {
        match self.pieces.last() {
            Some(Piece::Frames(run)) => run.lsns.last,
            Some(Piece::Lost { lsns, .. }) => lsns.last,
            None => self.header.first_lsn.prev(),
        }
    }

    fn open(&self, disk: &dyn Disk) -> Result<Option<Source>> {
        let Some(from) = &self.from else { return Ok(None) };
        let file = disk.open(from, Access::Read).map_err(|source| Error::io("open", from, source))?;
        Ok(Some(Source::new(file, Arc::clone(from), self.incarnation, &self.corrections)))
    }

    /// Bytes of the new file.
    pub(super) fn new_bytes(&self) -> u64 {
        self.header.segment_bytes
    }

    /// The records that are given up.
    pub(super) fn gives_up(&self) -> impl Iterator<Item = LsnRange> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Frames(_) => None,
            Piece::Lost { lsns, .. } => Some(*lsns),
        })
    }
}

/// Whether these gaps, rising, say of all records of a range that they are lost.
fn is_covered(gaps: &[LsnRange], lost: LsnRange) -> bool {
    let from = gaps.partition_point(|gap| gap.last < lost.first);
    let mut next = lost.first;
    for gap in gaps[from..].iter().take_while(|gap| gap.first <= lost.last) {
        if gap.first > next {
            return false;
        }
        next = gap.last.next();
    }
    next > lost.last
}

/// Copies the frames of a run.
fn copy_run(
    segment: &mut NewSegment,
    (source, run): (&mut Source, &Run),
    is_same_place: bool,
    progress: &dyn Fn(u64) -> Result<()>,
) -> Result<()> {
    let mut frames = RunFrames::new(source, run);
    let mut told = run.bytes.start;
    while let Some(frame) = frames.next(source)? {
        segment.copy(source, &frame, is_same_place)?;
        let end = frame.position + frame.header.frame_bytes();
        if end - told >= PROGRESS_BYTES {
            progress(end - told)?;
            told = end;
        }
    }
    progress(run.bytes.end.saturating_sub(told))
}

/// How often whoever watches is told.
const PROGRESS_BYTES: u64 = 1 << 20;
