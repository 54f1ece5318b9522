//! What was found so far: bounded, and taken back as long as it is not certain.

use std::ops::Range;
use std::sync::Arc;

use super::stretch::{Cause, Correction, Run, Stretch, StretchKind};
use crate::types::LsnRange;

/// Stretches that are told apart; what is found beyond that is merged with the last one.
pub(super) const STRETCHES_MAX: usize = 1 << 16;
/// Gaps that are told apart: as many as a repair writes into one segment.
const GAPS_MAX: usize = 1 << 20;

/// What was found so far.
#[derive(Debug)]
pub(super) struct Findings {
    file: Arc<str>,
    pub(super) runs: Vec<Run>,
    pub(super) stretches: Vec<Stretch>,
    pub(super) gaps: Vec<LsnRange>,
    /// The last run cannot be continued.
    is_broken: bool,
}

/// The findings at one moment.
pub(super) struct Moment {
    runs: (usize, Option<Run>),
    stretches: (usize, Option<Stretch>),
    gaps: (usize, Option<LsnRange>),
    is_broken: bool,
}

/// Damage.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub(super) kind: StretchKind,
    pub(super) bytes: Range<u64>,
    pub(super) lsns: Option<LsnRange>,
    pub(super) is_acknowledged: bool,
    pub(super) cause: Cause,
    pub(super) correction: Option<Correction>,
}

impl Findings {
    pub(super) fn new(file: &Arc<str>) -> Findings {
        Findings { file: Arc::clone(file), runs: vec![], stretches: vec![], gaps: vec![], is_broken: true }
    }

    /// Whether stretches are merged by now, so that details of them are not worth the effort.
    pub(super) fn is_full(&self) -> bool {
        self.stretches.len() >= STRETCHES_MAX
    }

    /// Takes note of frames that check and follow one another.
    #[inline]
    pub(super) fn run(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if !self.is_broken && last.lsns.last.next() == run.lsns.first => {
                last.bytes.end = run.bytes.end;
                last.lsns.last = run.lsns.last;
            }
            _ => self.runs.push(run),
        }
        self.is_broken = false;
    }

    /// Lets the next run be one of its own.
    pub(super) fn end_run(&mut self) {
        self.is_broken = true;
    }

    /// Takes note of records that were given up.
    pub(super) fn gap(&mut self, lsns: LsnRange) {
        let is_full = self.gaps.len() >= GAPS_MAX;
        match self.gaps.last_mut() {
            // Too many: rather is a record counted as given up that is there.
            Some(last) if last.last.next() == lsns.first || is_full => {
                last.last = lsns.last;
            }
            _ => self.gaps.push(lsns),
        }
    }

    /// Takes note of a stretch that is not clean. Those that are damaged come in the order of their places.
    pub(super) fn stretch(&mut self, loss: Loss) {
        self.is_broken = true;
        let is_damage = matches!(loss.kind, StretchKind::Rot | StretchKind::Hole);
        if is_damage && self.is_full() {
            return self.merge(&loss);
        }
        let stretch = self.told(loss);
        self.stretches.push(stretch);
    }

    /// Takes note of a stretch that is all of the segment.
    pub(super) fn overall(&mut self, loss: Loss) {
        let stretch = self.told(loss);
        self.stretches.insert(0, stretch);
    }

    fn told(&self, loss: Loss) -> Stretch {
        let Loss { kind, bytes, lsns, is_acknowledged, cause, correction } = loss;
        Stretch { kind, file: Arc::clone(&self.file), bytes, lsns, is_acknowledged, cause, correction }
    }

    /// Makes one stretch of the last one, of this and of whatever was found between: a record that is lost is
    /// never said to be readable.
    fn merge(&mut self, loss: &Loss) {
        let last = self.stretches.last_mut().expect("there are as many as there may be");
        let mut lsns: Option<LsnRange> = last.lsns;
        let mut cover = |more: LsnRange| {
            let (first, last) = lsns.map_or((more.first, more.last), |lsns| (lsns.first, lsns.last));
            lsns = LsnRange::new(first.min(more.first), last.max(more.last));
        };
        while let Some(run) = self.runs.pop_if(|run| run.bytes.start >= last.bytes.start) {
            cover(run.lsns);
        }
        loss.lsns.into_iter().for_each(&mut cover);
        last.kind = StretchKind::Rot;
        last.bytes.end = last.bytes.end.max(loss.bytes.end);
        last.is_acknowledged |= loss.is_acknowledged;
        last.lsns = lsns;
        last.correction = None;
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            runs: (self.runs.len(), self.runs.last().cloned()),
            stretches: (self.stretches.len(), self.stretches.last().cloned()),
            gaps: (self.gaps.len(), self.gaps.last().copied()),
            is_broken: self.is_broken,
        }
    }

    /// Takes back what was found since that moment.
    pub(super) fn back_to(&mut self, moment: Moment) {
        restore(&mut self.runs, moment.runs);
        restore(&mut self.stretches, moment.stretches);
        restore(&mut self.gaps, moment.gaps);
        self.is_broken = moment.is_broken;
    }

    /// How many records can be read.
    pub(super) fn records(&self) -> u64 {
        let mut gaps = self.gaps.iter().peekable();
        let mut records = 0;
        for run in &self.runs {
            records += run.lsns.records();
            while let Some(gap) = gaps.peek().filter(|gap| gap.first <= run.lsns.last) {
                let inside = LsnRange::new(gap.first.max(run.lsns.first), gap.last.min(run.lsns.last));
                records -= inside.map_or(0, |inside| inside.records());
                // It may go on in the next run.
                if gap.last > run.lsns.last {
                    break;
                }
                gaps.next();
            }
        }
        records
    }
}

fn restore<T>(list: &mut Vec<T>, (length, last): (usize, Option<T>)) {
    list.truncate(length.saturating_sub(1));
    list.extend(last);
}
