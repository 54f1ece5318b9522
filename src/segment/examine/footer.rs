//! The tables of a footer: whether they check, and whether what they point to is there.

use std::ops::{ControlFlow, Range};

use super::findings::Loss;
use super::stretch::{Cause, Correction, StretchKind};
use super::window::Window;
use super::{Prefix, Question};
use crate::error::Result;
use crate::format::{
    BadBlock, EpochStart, EpochView, FOOTER_BLOCK_BYTES, Footer, IndexEntry, IndexView, RunningCrc,
    TableSizes, Tables, flip_in_message,
};
use crate::types::Lsn;

const ENTRY_BYTES: u64 = 16;
/// Entries that are held at a time.
const HELD: u64 = 256;

/// The entries of an index that checks, in step with the frames that they have to point to.
pub(super) struct Entries<'a> {
    window: Option<Window<'a>>,
    region: u64,
    count: u64,
    /// The number of the entry that is due next.
    next: u64,
    /// Where its frame lies; the end of all if there is none.
    due: u64,
    held: Vec<IndexEntry>,
    held_from: u64,
    /// Whether some entry pointed to no frame, or to another one.
    is_wrong: bool,
    epochs: Vec<EpochStart>,
}

impl<'a> Entries<'a> {
    /// None.
    pub(super) fn none() -> Entries<'a> {
        Entries {
            window: None,
            region: 0,
            count: 0,
            next: 0,
            due: u64::MAX,
            held: vec![],
            held_from: 0,
            is_wrong: false,
            epochs: vec![],
        }
    }

    /// Reads the tables of the footer, if it has one: those that do not check are a loss, and not used.
    pub(super) fn read(
        question: &Question<'a>,
        progress: &'a dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(Entries<'a>, Option<Loss>)> {
        let Some(footer) = question.footer else { return Ok((Entries::none(), None)) };
        let header = question.header;
        let space = header.data_end()..header.segment_bytes - FOOTER_BLOCK_BYTES as u64;
        let mut window = Window::new(question.file, question.name, header.segment_bytes, progress)?;
        let block = window.fetch(space.end, FOOTER_BLOCK_BYTES)?;
        let sizes = match TableSizes::decode(block) {
            Ok((found, sizes)) if found == *footer => sizes,
            // Not the footer that was asked about: somebody changes it meanwhile.
            Ok(_) | Err(BadBlock::Newer { .. } | BadBlock::Blank | BadBlock::Damaged) => {
                let block = space.end..header.segment_bytes;
                return Ok((Entries::none(), Some(damaged(&window, block, None))));
            }
        };
        let mut entries = Entries { region: space.start, count: sizes.index.into(), ..Entries::none() };
        let used = u64::from(sizes.index) * ENTRY_BYTES + u64::from(sizes.epochs) * ENTRY_BYTES;
        let sum = sum_of(&mut window, &space)?;
        if sum != Some(sizes.checksum) || used > space.end - space.start {
            let flip = sum.and_then(|sum| flip_in_message(sum ^ sizes.checksum, space.end - space.start));
            let correction = flip.map(|flip| Correction { offset: space.start + flip.at, bit: flip.bit });
            return Ok((Entries::none(), Some(damaged(&window, space, correction))));
        }
        let epochs = space.start + u64::from(sizes.index) * ENTRY_BYTES;
        let wanted = sizes.epochs as usize * ENTRY_BYTES as usize;
        let Some(bytes) = window.fetch(epochs, wanted)?.get(..wanted) else {
            // It could be read a moment ago.
            return Ok((Entries::none(), Some(damaged(&window, space, None))));
        };
        entries.epochs = EpochView::new(bytes).iter().collect();
        entries.window = Some(window);
        entries.check_order(footer)?;
        entries.go_to(0)?;
        let loss = entries.is_wrong.then(|| entries.as_loss(space));
        Ok((if loss.is_some() { Entries::none() } else { entries }, loss))
    }

    /// Where the frame of the next entry begins; the end of all if there is none.
    #[inline]
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Whether the frame of the next entry has to begin here, or should have before.
    #[inline]
    pub(super) fn is_due(&self, at: u64) -> bool {
        at >= self.due
    }

    /// Looks at the frame at `at`, which checks.
    #[cold]
    pub(super) fn visit(&mut self, group: u64, at: u64, lsn: Lsn) {
        while self.due < at {
            self.is_wrong = true;
            self.advance();
        }
        if self.due == at {
            // A search may have been elsewhere in the index since. What was read before and cannot be read again is
            // not looked at any more.
            let entry = self.entry(self.next).ok().flatten();
            let here = IndexEntry { lsn, group, frame: at };
            self.is_wrong |= entry.is_some_and(|entry| entry != here);
            self.advance();
        }
    }

    /// Passes over the entries before `at`: what they point to is damaged.
    pub(super) fn skip_to(&mut self, at: u64) {
        while self.due < at {
            self.advance();
        }
    }

    /// Which entry is due.
    pub(super) fn moment(&self) -> (u64, bool) {
        (self.next, self.is_wrong)
    }

    pub(super) fn back_to(&mut self, (next, is_wrong): (u64, bool)) {
        self.is_wrong = is_wrong;
        if self.next != next {
            self.set(next);
        }
    }

    /// The first entry of a frame that begins after `at` and has `lsn` or a later one.
    pub(super) fn after(&mut self, at: u64, lsn: Lsn) -> Result<Option<IndexEntry>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(entry) = self.entry(middle)? else { return Ok(None) };
            if entry.frame > at && entry.lsn >= lsn { high = middle } else { low = middle + 1 }
        }
        if low < self.count { self.entry(low) } else { Ok(None) }
    }

    /// The last entry that is not past `lsn`.
    pub(super) fn before(&mut self, lsn: Lsn) -> Result<Option<IndexEntry>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(entry) = self.entry(middle)? else { return Ok(None) };
            if entry.lsn > lsn { high = middle } else { low = middle + 1 }
        }
        if low > 0 { self.entry(low - 1) } else { Ok(None) }
    }

    /// What is wrong with tables that check, once everything they are over was looked at.
    pub(super) fn conclude(
        &mut self,
        (tables, reach, is_whole): (&Tables, &Prefix, bool),
        (space, footer): (Range<u64>, &Footer),
    ) -> Option<Loss> {
        self.window.as_ref()?;
        // Entries past the last frame were not in the order that was checked.
        let of_epochs = !is_whole || self.epochs == tables.epochs();
        let of_end = !is_whole || (footer.end, footer.last_lsn) == (reach.end, reach.last_lsn);
        let is_wrong = self.is_wrong || (is_whole && self.due < reach.end) || !of_epochs || !of_end;
        is_wrong.then(|| self.as_loss(space))
    }

    fn as_loss(&self, space: Range<u64>) -> Loss {
        Loss {
            kind: StretchKind::Rot,
            bytes: space,
            lsns: None,
            is_acknowledged: false,
            cause: Cause::Footer,
            correction: None,
        }
    }

    /// Checks that the entries rise and lie before the footer's end, as `format` does where it reads them.
    fn check_order(&mut self, footer: &Footer) -> Result<()> {
        let mut last: Option<IndexEntry> = None;
        let mut number = 0;
        while let Some(entry) = if number < self.count { self.entry(number)? } else { None } {
            let follows = match last {
                None => entry.lsn == footer.first_lsn,
                Some(last) => last.lsn < entry.lsn && last.frame < entry.frame && last.group <= entry.group,
            };
            let inside =
                entry.lsn <= footer.last_lsn && entry.group < entry.frame && entry.frame < footer.end;
            self.is_wrong |= !follows || !inside;
            last = Some(entry);
            number += 1;
        }
        self.is_wrong |= number < self.count || (self.count == 0) != (footer.last_lsn < footer.first_lsn);
        Ok(())
    }

    fn advance(&mut self) {
        self.set(self.next + 1);
    }

    fn set(&mut self, next: u64) {
        // What was read and checked before can be read again, or is not looked at any more.
        if self.go_to(next).is_err() {
            (self.next, self.due) = (self.count, u64::MAX);
        }
    }

    fn go_to(&mut self, next: u64) -> Result<()> {
        self.next = next;
        self.due = if next < self.count {
            self.entry(next)?.map_or(u64::MAX, |entry| entry.frame)
        } else {
            u64::MAX
        };
        Ok(())
    }

    fn entry(&mut self, number: u64) -> Result<Option<IndexEntry>> {
        let held = self.held_from..self.held_from + self.held.len() as u64;
        if !held.contains(&number) {
            let Some(window) = &mut self.window else { return Ok(None) };
            let wanted = ((self.count - number).min(HELD) * ENTRY_BYTES) as usize;
            let bytes = window.fetch(self.region + number * ENTRY_BYTES, wanted)?;
            self.held = IndexView::new(&bytes[..bytes.len().min(wanted)]).iter().collect();
            self.held_from = number;
        }
        Ok(self.held.get((number - self.held_from) as usize).copied())
    }
}

/// The CRC of a range; `None` if not all of it is there and can be read.
fn sum_of(window: &mut Window<'_>, range: &Range<u64>) -> Result<Option<u32>> {
    let mut sum = RunningCrc::new();
    let mut at = range.start;
    while at < range.end {
        let bytes = super::scan::clip(window.fetch(at, 1)?, range.end - at);
        if bytes.is_empty() {
            return Ok(None);
        }
        sum.update(bytes);
        at += bytes.len() as u64;
    }
    Ok(Some(sum.finish()))
}

fn damaged(window: &Window<'_>, bytes: Range<u64>, correction: Option<Correction>) -> Loss {
    let cause = if window.is_unreadable(&bytes) { Cause::Unreadable } else { Cause::Footer };
    Loss { kind: StretchKind::Rot, bytes, lsns: None, is_acknowledged: false, cause, correction }
}
