//! What the whole amounts to, once every group was looked at.

use std::mem;

use super::Question;
use super::findings::Loss;
use super::remains::Remains;
use super::scan::Scan;
use super::stretch::{Cause, Run, StretchKind};
use crate::error::Result;
use crate::format::{FOOTER_BLOCK_BYTES, HEADER_BLOCK_BYTES};
use crate::types::LsnRange;

impl Scan<'_> {
    /// Compares the digest of a segment whose end is known with what others say of it, and the tables of its footer
    /// with what was found.
    pub(super) fn conclude_known(&mut self, question: &Question<'_>) {
        let stated = question.footer.map(|footer| footer.digest);
        let contradicts = |cause, other| match (self.chain, other) {
            (Some(own), Some(other)) if own != other => Some(cause),
            _ => None,
        };
        let of_footer = contradicts(Cause::Digest, stated);
        let of_next = stated.zip(question.next_digest).is_some_and(|(own, next)| own != next);
        let cause = match of_next {
            true => Some(Cause::Chain),
            false => of_footer.or(contradicts(Cause::Chain, question.next_digest)),
        };
        let is_known = self.chain.is_some() && stated.or(question.next_digest).is_some();
        let unproven = mem::take(&mut self.unproven);
        // Of a segment that was repaired the digest is stated only: it is that of frames which are lost.
        let is_repaired = self.has_gaps;
        match cause {
            None if is_known && !is_repaired => self.prove(unproven),
            Some(cause) if unproven.is_empty() && !is_repaired => self.distrust(question, cause),
            _ => {}
        }
        let Some(footer) = question.footer else { return };
        let is_whole = self.findings.stretches.is_empty();
        let header = question.header;
        let space = header.data_end()..header.segment_bytes - FOOTER_BLOCK_BYTES as u64;
        let loss = self.entries.conclude((&self.tables, &self.reach, is_whole), (space, footer));
        loss.into_iter().for_each(|loss| self.findings.stretch(loss));
    }

    /// The segment's digest is right, and so are the frames that nothing else vouches for.
    fn prove(&mut self, unproven: Vec<(usize, Run)>) {
        if self.findings.is_full() {
            return;
        }
        for (index, run) in unproven {
            let stretch = &mut self.findings.stretches[index];
            (stretch.lsns, stretch.is_acknowledged) = (None, false);
            self.findings.runs.push(run);
        }
        self.findings.runs.sort_unstable_by_key(|run| run.lsns.first);
    }

    /// Every group may check, but they are not those that belong together: no one knows which of them are wrong.
    fn distrust(&mut self, question: &Question<'_>, cause: Cause) {
        let lsns = LsnRange::new(question.header.first_lsn, self.reach.last_lsn);
        self.findings.runs.clear();
        // All records are at stake: those of the damaged frames too.
        for stretch in &mut self.findings.stretches {
            (stretch.lsns, stretch.is_acknowledged) = (None, false);
        }
        let bytes = HEADER_BLOCK_BYTES as u64..self.reach.end;
        let is_acknowledged = lsns.is_some();
        let kind = StretchKind::Rot;
        self.findings.overall(Loss { kind, bytes, lsns, is_acknowledged, cause, correction: None });
    }

    /// Says what follows the end of a tail, and is none of it.
    pub(super) fn conclude_tail(&mut self, remains: Remains, is_moved: bool) -> Result<()> {
        let remains = match is_moved {
            true => Remains::find(&mut self.window, self.incarnation, &self.reach)?,
            false => remains,
        };
        let end = self.reach.end;
        let mut follows = |kind, bytes, lsns, cause| {
            let loss = Loss { kind, bytes, lsns, is_acknowledged: false, cause, correction: None };
            self.findings.stretch(loss);
        };
        let mut stale_from = end;
        if remains.discard_end > remains.discard_start {
            let lsns = LsnRange::new(self.reach.last_lsn.next(), remains.claimed);
            follows(StretchKind::Torn, end..remains.discard_end, lsns, Cause::NeverAcknowledged);
            stale_from = remains.discard_end;
        }
        if remains.dirty_end > stale_from {
            follows(StretchKind::Stale, stale_from..remains.dirty_end, None, Cause::Former);
        }
        Ok(())
    }

    /// Says which blocks cannot be read beside those that cost records.
    pub(super) fn add_unreadable(&mut self) {
        for bad in self.window.unreadable().to_vec() {
            let is_told = self.findings.stretches.iter().any(|stretch| {
                let is_damage = matches!(stretch.kind, StretchKind::Rot | StretchKind::Hole);
                is_damage && stretch.bytes.start < bad.end && bad.start < stretch.bytes.end
            });
            if !is_told {
                self.findings.stretch(Loss {
                    kind: StretchKind::Rot,
                    bytes: bad,
                    lsns: None,
                    is_acknowledged: false,
                    cause: Cause::Unreadable,
                    correction: None,
                });
            }
        }
    }
}
