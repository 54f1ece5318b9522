//! What a device may hold after its power was cut: all that was flushed, and any part of the rest.

use std::fs::File;
use std::path::Path;

use annals_ledger::{Account, Chance, Event};

use crate::error::{Error, Result};
use crate::mount::copy_sparsely;
use crate::tape::{Op, Patch};

/// Bytes of the first block of a file system.
const FIRST_BLOCK: u64 = 4096;
/// So many writes at most are lost by a device that ignores flushes: its cache is no larger.
const IGNORED_MAX: usize = 200;

/// What becomes of the writes that were not flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Survival {
    /// None reached the medium.
    None,
    /// All of them did.
    All,
    /// The first of them did.
    Prefix,
    /// Any of them did, in any order.
    Subset,
    /// Any of them did, and any parts of those.
    Torn,
}

const SURVIVALS: [Survival; 5] =
    [Survival::None, Survival::All, Survival::Prefix, Survival::Subset, Survival::Torn];

/// A tape that is gone through from its start to its end, and cut here and there.
pub(crate) struct Cutter<'a> {
    ops: &'a [Op],
    /// What is durable at the place where the tape is.
    durable: File,
    /// So many operations are in it.
    applied: usize,
    account: Account,
    /// So many operations are in that.
    heeded: usize,
    device: Device,
}

/// What the device is like whose power is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// Bytes that it writes as a whole.
    pub(crate) sector: u64,
    /// Whether it ignores flushes.
    pub(crate) ignores_flushes: bool,
}

/// The place on the tape where the power is cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Point(pub(crate) usize);

impl<'a> Cutter<'a> {
    /// Begins with the image that the device held at first, which is changed, and the account of what was told
    /// before.
    pub(crate) fn new(ops: &'a [Op], durable: File, account: Account, device: Device) -> Cutter<'a> {
        Cutter { ops, durable, applied: 0, account, heeded: 0, device }
    }

    /// What had been told at the last cut.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Writes what the device may hold after a cut at `point` into the file `to`, and says what that is; points
    /// only ever rise.
    pub(crate) fn cut(&mut self, point: Point, chance: &mut Chance, to: &Path) -> Result<String> {
        let Point(end) = point;
        for op in &self.ops[self.heeded..end] {
            if let Op::Told(event) = op {
                self.account.heed(*event).map_err(Error::broken)?;
            }
        }
        self.heeded = end;
        let barrier = match self.device.ignores_flushes {
            true => end.saturating_sub(IGNORED_MAX).max(self.applied),
            false => self.barrier(end),
        };
        for patch in patches(&self.ops[self.applied..barrier]) {
            patch.apply(&self.durable).map_err(Error::io("write", to))?;
        }
        self.applied = barrier;
        let rest: Vec<&Patch> = patches(&self.ops[barrier..end]).collect();
        // Out of order, a file system need not survive the lie either, and that would prove nothing.
        let survival = if self.device.ignores_flushes { Survival::Prefix } else { chance.pick(&SURVIVALS) };
        let image = copy_sparsely(&self.durable, to)?;
        for (patch, from, to_byte) in survivors(&rest, survival, (self.device.sector, chance)) {
            patch.apply_part(&image, from, to_byte).map_err(Error::io("write", to))?;
        }
        Ok(format!("{survival:?} of {} writes that were not flushed", rest.len()))
    }

    /// Behind the last flush before `end`.
    fn barrier(&self, end: usize) -> usize {
        let flush = self.ops[self.applied..end].iter().rposition(|op| matches!(op, Op::Flush));
        flush.map_or(self.applied, |flush| self.applied + flush + 1)
    }
}

fn patches(ops: &[Op]) -> impl Iterator<Item = &Patch> {
    ops.iter().filter_map(|op| match op {
        Op::Write(patch) => Some(patch),
        _ => None,
    })
}

/// The parts of writes that reach the medium, in the order in which they do.
fn survivors<'a>(
    rest: &[&'a Patch],
    survival: Survival,
    (sector, chance): (u64, &mut Chance),
) -> Vec<(&'a Patch, u64, u64)> {
    let whole = |patch: &&'a Patch| (*patch, 0, patch.len());
    match survival {
        Survival::None => Vec::new(),
        Survival::All => rest.iter().map(whole).collect(),
        Survival::Prefix => {
            let kept = chance.below(rest.len() as u64 + 1) as usize;
            let mut parts: Vec<_> = rest[..kept].iter().map(whole).collect();
            if let Some(torn) = rest.get(kept) {
                let sector = sector_at(torn, sector);
                let sectors = chance.below(torn.len() / sector + 1);
                parts.push((torn, 0, sectors * sector));
            }
            parts
        }
        Survival::Subset => {
            let percent = chance.pick(&[10, 50, 90]);
            let mut parts: Vec<_> = rest.iter().filter(|_| chance.percent(percent)).map(whole).collect();
            shuffle(&mut parts, chance);
            parts
        }
        Survival::Torn => {
            let mut parts = Vec::new();
            for patch in rest {
                let sector = sector_at(patch, sector);
                let (mut at, percent) = (0, chance.pick(&[0, 50, 90, 100, 100]));
                while at < patch.len() {
                    let end = (at + sector).min(patch.len());
                    if chance.percent(percent) {
                        parts.push((*patch, at, end));
                    }
                    at = end;
                }
            }
            parts
        }
    }
}

/// The first block holds a superblock, which ext4 also writes past its journal: no file system comes back from
/// half of that.
fn sector_at(patch: &Patch, sector: u64) -> u64 {
    if patch.offset < FIRST_BLOCK { FIRST_BLOCK } else { sector }
}

fn shuffle<T>(items: &mut [T], chance: &mut Chance) {
    for index in (1..items.len()).rev() {
        items.swap(index, chance.below(index as u64 + 1) as usize);
    }
}

/// Places to cut a tape at, rising: anywhere, right behind acknowledgements, and right before flushes.
pub(crate) fn points(ops: &[Op], count: usize, chance: &mut Chance) -> Vec<Point> {
    let behind = |is_it: fn(&Op) -> bool, by: usize| -> Vec<usize> {
        let places = ops.iter().enumerate().filter(|(_, op)| is_it(op));
        places.map(|(index, _)| index + by).collect()
    };
    let is_told =
        |op: &Op| matches!(op, Op::Reached(_)) || matches!(op, Op::Told(event) if is_promise(event));
    let told = behind(is_told, 1);
    let flushes = behind(|op| matches!(op, Op::Flush), 0);
    let mut points: Vec<Point> = (0..count)
        .map(|_| match chance.below(4) {
            0 | 1 if !told.is_empty() => Point(chance.pick(&told)),
            2 if !flushes.is_empty() => Point(chance.pick(&flushes)),
            _ => Point(chance.below(ops.len() as u64 + 1) as usize),
        })
        .collect();
    points.sort_unstable();
    points.dedup();
    points
}

/// Whether the log has just promised something.
fn is_promise(event: &Event) -> bool {
    matches!(
        event,
        Event::Acknowledged(..)
            | Event::Opened { .. }
            | Event::Trimmed(_)
            | Event::Truncated(_)
            | Event::Marked
            | Event::BackedUp { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::tape::Content;

    /// In the second block.
    fn write(offset: u64, byte: u8) -> Op {
        let offset = FIRST_BLOCK + offset;
        Op::Write(Patch { offset, bytes: Content::Bytes(vec![byte; 1024].into()) })
    }

    /// What the second block of a device may hold after a cut at the end of `ops`, for many seeds.
    fn outcomes(ops: &[Op], ignores_flushes: bool) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut");
        let outcome = |seed| {
            let durable = tempfile::tempfile().unwrap();
            durable.set_len(8192).unwrap();
            let device = Device { sector: 512, ignores_flushes };
            let mut cutter = Cutter::new(ops, durable, Account::new(0), device);
            cutter.cut(Point(ops.len()), &mut Chance::new(&[seed]), &path).unwrap();
            let mut bytes = vec![0; 4096];
            File::open(&path).unwrap().read_exact_at(&mut bytes, FIRST_BLOCK).unwrap();
            bytes
        };
        (0..300).map(outcome).collect()
    }

    #[test]
    fn what_was_flushed_is_always_there_and_the_rest_sometimes() {
        let outcomes = outcomes(&[write(0, 1), Op::Flush, write(1024, 2), write(2048, 3)], false);
        assert!(outcomes.iter().all(|bytes| bytes[..1024] == [1; 1024]));
        let has = |at: usize, byte| outcomes.iter().filter(|bytes| bytes[at] == byte).count();
        for at in [1024, 1536, 2048, 2560] {
            let there = has(at, if at < 2048 { 2 } else { 3 });
            assert!((50..250).contains(&there), "{there} of 300 at {at}");
        }
        // A later write without an earlier one, and half of one.
        assert!(outcomes.iter().any(|bytes| bytes[1024] == 0 && bytes[2048] == 3));
        assert!(outcomes.iter().any(|bytes| bytes[1024] != bytes[1536]));
    }

    #[test]
    fn a_device_that_ignores_flushes_loses_what_was_flushed() {
        let outcomes = outcomes(&[write(0, 1), Op::Flush], true);
        assert!(outcomes.iter().any(|bytes| bytes[0] == 0));
        assert!(outcomes.iter().any(|bytes| bytes[0] == 1));
    }

    #[test]
    fn points_lie_on_the_tape_and_rise() {
        let ops = [write(0, 1), Op::Flush, Op::Told(Event::Marked), write(0, 2), Op::Flush];
        let points = points(&ops, 100, &mut Chance::new(&[1]));
        assert!(points.is_sorted() && points.iter().all(|point| point.0 <= ops.len()));
        assert!(points.contains(&Point(3)) && points.contains(&Point(4)));
    }
}
