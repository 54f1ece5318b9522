//! Which epoch each record of a log was written in: enough to find where two logs part (S5).

use crate::types::{Epoch, Lsn, LsnRange};

/// A record's LSN and the epoch it was written in. Two logs that agree on one agree on all before it.
///
/// Ordered by epoch first: the greater position is the log that knows more (S2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Position {
    /// The epoch that the record was written in; 0 before the first record.
    pub epoch: Epoch,
    /// The record.
    pub lsn: Lsn,
}

/// Where an epoch begins in a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// LSN of its first record in this log.
    pub first: Lsn,
}

/// The epochs of a log's records, or of the newest of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct EpochHistory {
    /// The record right before the first that this history knows of.
    base: Position,
    /// In order of LSN and of epoch; the first one begins right after the base, if there is any record.
    starts: Vec<EpochStart>,
    last: Lsn,
}

/// Where two logs part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Common {
    /// They agree up to this record and no further.
    At(Position),
    /// They agree nowhere that both histories reach: whatever is common has this LSN or a lower one.
    Below(Lsn),
}

impl EpochHistory {
    /// A log without records, right after `base`.
    #[must_use]
    pub const fn new(base: Position) -> EpochHistory {
        EpochHistory { base, starts: Vec::new(), last: base.lsn }
    }

    /// The history with these parts; `None` if they contradict each other.
    #[must_use]
    pub fn from_parts(base: Position, starts: Vec<EpochStart>, last: Lsn) -> Option<EpochHistory> {
        let mut before = base;
        for (index, start) in starts.iter().enumerate() {
            let is_next = if index == 0 {
                start.first.get() == base.lsn.get().checked_add(1)? && start.epoch >= base.epoch
            } else {
                start.first > before.lsn && start.epoch > before.epoch
            };
            if !is_next {
                return None;
            }
            before = Position { epoch: start.epoch, lsn: start.first };
        }
        let ends = if starts.is_empty() { last == base.lsn } else { last >= before.lsn && last <= Lsn::LAST };
        ends.then_some(EpochHistory { base, starts, last })
    }

    /// The record right before the first one.
    #[must_use]
    pub const fn base(&self) -> Position {
        self.base
    }

    /// Where the epochs begin, in order.
    #[must_use]
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// The newest record; the base if there is none.
    #[must_use]
    pub fn last(&self) -> Position {
        let epoch = self.starts.last().map_or(self.base.epoch, |start| start.epoch);
        Position { epoch, lsn: self.last }
    }

    /// The epoch of a record; `None` if it is before the base or after the last.
    #[must_use]
    pub fn epoch_at(&self, lsn: Lsn) -> Option<Epoch> {
        if lsn < self.base.lsn || lsn > self.last {
            return None;
        }
        let index = self.starts.partition_point(|start| start.first <= lsn);
        Some(index.checked_sub(1).map_or(self.base.epoch, |index| self.starts[index].epoch))
    }

    /// The position of a record, if this history has it.
    #[must_use]
    pub fn position(&self, lsn: Lsn) -> Option<Position> {
        self.epoch_at(lsn).map(|epoch| Position { epoch, lsn })
    }

    /// Whether this log has that very record.
    #[must_use]
    pub fn has(&self, position: Position) -> bool {
        self.epoch_at(position.lsn) == Some(position.epoch)
    }

    /// Takes note of records that follow on the last.
    ///
    /// # Panics
    /// If they do not follow on it, or are of an older epoch: the caller has checked.
    pub fn append(&mut self, epoch: Epoch, range: LsnRange) {
        let last = self.last();
        assert!(range.first == last.lsn.next(), "records are dense");
        assert!(epoch >= last.epoch, "epochs never go back");
        if self.starts.is_empty() || epoch > last.epoch {
            self.starts.push(EpochStart { epoch, first: range.first });
        }
        self.last = range.last;
    }

    /// Forgets the records after `after`.
    ///
    /// # Panics
    /// If that is before the base.
    pub fn truncate(&mut self, after: Lsn) {
        assert!(after >= self.base.lsn && after <= self.last, "a truncation stays inside of the history");
        self.starts.truncate(self.starts.partition_point(|start| start.first <= after));
        self.last = after;
    }

    /// Forgets the records up to and with `through`, which becomes the base.
    pub fn forget(&mut self, through: Lsn) {
        let Some(base) = self.position(through.min(self.last)) else { return };
        let gone = self.starts.partition_point(|start| start.first <= base.lsn);
        // The epoch that the base is in goes on right after it, unless the next begins there.
        let goes_on =
            base.lsn < self.last && self.starts.get(gone).is_none_or(|next| next.first > base.lsn.next());
        self.starts.drain(..gone);
        if goes_on {
            self.starts.insert(0, EpochStart { epoch: base.epoch, first: base.lsn.next() });
        }
        self.base = base;
    }

    /// The newest part of the history with at most `epochs_max` epochs, of the records up to `through`.
    #[must_use]
    pub fn tail(&self, through: Lsn, epochs_max: usize) -> EpochHistory {
        let mut tail = self.clone();
        tail.truncate(through.clamp(self.base.lsn, self.last));
        if let Some(first) = tail.starts.len().checked_sub(epochs_max).filter(|&surplus| surplus > 0) {
            tail.forget(tail.starts[first].first.prev());
        }
        tail
    }

    /// Where this log and another one part.
    pub(crate) fn common(&self, other: &EpochHistory) -> Common {
        let mut lsn = self.last.min(other.last);
        loop {
            let (Some(ours), Some(theirs)) = (self.epoch_at(lsn), other.epoch_at(lsn)) else {
                return Common::Below(lsn);
            };
            if ours == theirs {
                return Common::At(Position { epoch: ours, lsn });
            }
            // Whoever is in the newer epoch here has records of it that the other cannot have.
            let newer = if ours > theirs { self } else { other };
            let Some(start) = newer.starts.iter().rev().find(|start| start.first <= lsn) else {
                return Common::Below(lsn.prev());
            };
            lsn = start.first.prev();
        }
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn history(base: (u64, u64), starts: &[(u64, u64)], last: u64) -> EpochHistory {
        let position = Position { epoch: Epoch::new(base.0), lsn: Lsn::new(base.1) };
        let start =
            |&(epoch, first): &(u64, u64)| EpochStart { epoch: Epoch::new(epoch), first: Lsn::new(first) };
        EpochHistory::from_parts(position, starts.iter().map(start).collect(), Lsn::new(last)).unwrap()
    }

    fn at(epoch: u64, lsn: u64) -> Common {
        Common::At(Position { epoch: Epoch::new(epoch), lsn: Lsn::new(lsn) })
    }

    #[test]
    fn logs_part_where_the_newer_epoch_of_either_begins() {
        let ours = history((0, 0), &[(1, 1), (3, 5)], 9);
        assert_eq!(ours.common(&history((0, 0), &[(1, 1), (2, 4)], 8)), at(1, 3));
        assert_eq!(ours.common(&history((0, 0), &[(1, 1), (3, 5)], 7)), at(3, 7));
        assert_eq!(ours.common(&history((0, 0), &[(1, 1)], 12)), at(1, 4));
        assert_eq!(ours.common(&history((0, 0), &[(2, 1)], 3)), at(0, 0));
        assert_eq!(ours.common(&EpochHistory::default()), at(0, 0));
        assert_eq!(ours.common(&history((3, 6), &[], 6)), at(3, 6));
        assert_eq!(ours.common(&history((4, 6), &[], 6)), Common::Below(Lsn::new(5)));
        assert_eq!(
            history((1, 4), &[(3, 5)], 9).common(&history((0, 0), &[(1, 1)], 2)),
            Common::Below(Lsn::new(2))
        );
    }

    #[test]
    fn what_is_forgotten_at_either_end_leaves_the_rest_as_it_was() {
        let whole = history((0, 0), &[(1, 1), (3, 5), (4, 8)], 9);
        for through in 0..=9 {
            let mut rest = whole.clone();
            rest.forget(Lsn::new(through));
            for lsn in through..=9 {
                assert_eq!(rest.epoch_at(Lsn::new(lsn)), whole.epoch_at(Lsn::new(lsn)), "{through} {lsn}");
            }
            assert_eq!(
                EpochHistory::from_parts(rest.base, rest.starts.clone(), rest.last),
                Some(rest.clone())
            );
            let mut begun = whole.clone();
            begun.truncate(Lsn::new(through));
            assert_eq!(begun.last(), whole.position(Lsn::new(through)).unwrap());
            assert_eq!(
                EpochHistory::from_parts(begun.base, begun.starts.clone(), begun.last),
                Some(begun.clone())
            );
        }
        assert_eq!(whole.tail(Lsn::new(8), 2), history((1, 4), &[(3, 5), (4, 8)], 8));
        assert_eq!(whole.tail(Lsn::new(80), 9), whole);
    }
}
