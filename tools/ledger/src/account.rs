//! What a log may hold, by all that it was asked to do and has answered.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::entry::Entry;
use crate::event::Event;
use crate::found::Found;

/// The account of one log, over all its rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    seed: u64,
    /// Entries whose place is known, by the LSN of their first record.
    placed: BTreeMap<u64, Entry>,
    /// Announced, with no outcome yet.
    pending: BTreeSet<Entry>,
    /// Refused, or truncated away: never to be seen again.
    gone: HashSet<Entry>,
    /// The newest record that was acknowledged, and not truncated since.
    acknowledged: u64,
    /// The newest record there is, while nobody has announced more.
    exact: Option<u64>,
    /// The trim point that the log confirmed, and one that it was asked for since.
    first: u64,
    trimming: Option<u64>,
    truncating: Option<u64>,
    mark: Option<(u64, u64)>,
    marking: Option<(u64, u64)>,
    copies: Vec<Copied>,
    tally: Tally,
}

/// A copy that was begun.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Copied {
    /// Its number.
    pub number: u64,
    /// The newest record that was acknowledged when it was begun.
    pub durable: u64,
    /// Its newest record, if it was finished.
    pub newest: Option<u64>,
    /// Whether the log was truncated since, so that LSNs may mean something else now.
    is_former: bool,
}

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// Entries that were announced.
    pub announced: u64,
    /// Entries that were acknowledged.
    pub acknowledged: u64,
    /// Entries that were refused.
    pub refused: u64,
    /// Trims that were begun.
    pub trims: u64,
    /// Truncations that were begun.
    pub truncations: u64,
    /// Copies that were begun.
    pub copies: u64,
    /// Openings that went well.
    pub openings: u64,
}

impl Account {
    /// The account of a log that does not exist yet, for records made from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Account {
        Account {
            seed,
            placed: BTreeMap::new(),
            pending: BTreeSet::new(),
            gone: HashSet::new(),
            acknowledged: 0,
            exact: Some(0),
            first: 1,
            trimming: None,
            truncating: None,
            mark: None,
            marking: None,
            copies: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// The seed of the records.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What was counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The newest record that was acknowledged, and not truncated since.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The copies that were begun since the account was [settled](Account::settle).
    #[must_use]
    pub fn copies(&self) -> &[Copied] {
        &self.copies
    }

    /// Takes note of an event.
    ///
    /// # Errors
    /// If the log has answered something that it must not.
    pub fn heed(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Opened { first, last } => self.opened(first, last)?,
            Event::Announced(entry) => {
                self.exact = None;
                self.tally.announced += 1;
                assert!(self.pending.insert(entry), "{entry:?} was announced twice");
            }
            Event::Acknowledged(entry, lsn) => self.acknowledge(entry, lsn)?,
            Event::Refused(entry) => {
                assert!(self.pending.remove(&entry), "{entry:?} was refused, but not announced");
                self.tally.refused += 1;
                self.gone.insert(entry);
            }
            Event::TrimBegun(before) => {
                self.tally.trims += 1;
                self.trimming = Some(before);
            }
            Event::Trimmed(before) => {
                self.trimming = None;
                self.first = self.first.max(before);
            }
            Event::TruncationBegun(after) => {
                self.tally.truncations += 1;
                self.exact = None;
                self.truncating = Some(after);
                self.copies.iter_mut().for_each(|copy| copy.is_former = true);
            }
            Event::Truncated(after) => {
                self.truncating = None;
                self.gone.extend(self.placed.split_off(&(after + 1)).values());
                self.acknowledged = after;
                self.exact = self.pending.is_empty().then_some(after);
            }
            Event::MarkBegun { lsn, number } => self.marking = Some((lsn, number)),
            Event::Marked => self.mark = self.marking.take(),
            Event::BackupBegun { number, durable } => {
                self.tally.copies += 1;
                self.copies.push(Copied { number, durable, newest: None, is_former: false });
            }
            Event::BackedUp { number, newest } => {
                let begun = self.copies.iter_mut().find(|copy| copy.number == number);
                begun.expect("a copy that ends was begun").newest = Some(newest);
            }
            Event::Closing => self.exact = self.pending.is_empty().then_some(self.acknowledged),
            Event::Finished => {}
        }
        Ok(())
    }

    fn opened(&mut self, first: u64, last: u64) -> Result<(), String> {
        self.tally.openings += 1;
        if !self.may_begin_at(first) {
            return Err(format!("opened at {first}, not at {} or {:?}", self.first, self.trimming));
        }
        if last < self.least() {
            return Err(format!("opened up to {last}, but {} was acknowledged", self.acknowledged));
        }
        if let Some(closed) = self.exact.filter(|exact| *exact != last) {
            return Err(format!("opened up to {last}, but nothing was appended after {closed}"));
        }
        if self.truncating.is_some() {
            self.gone.extend(self.placed.split_off(&(last + 1)).values());
            self.acknowledged = last;
        }
        // What a log shows is durable, also what nobody was told of before the crash.
        self.acknowledged = self.acknowledged.max(last);
        (self.first, self.trimming, self.truncating) = (first, None, None);
        Ok(())
    }

    fn acknowledge(&mut self, entry: Entry, lsn: u64) -> Result<(), String> {
        assert!(self.pending.remove(&entry), "{entry:?} was acknowledged, but not announced");
        self.tally.acknowledged += 1;
        let last = lsn + entry.count(self.seed) - 1;
        let before = self.placed.range(..=last).next_back();
        if let Some((&other, taken)) = before.filter(|(at, taken)| *at + taken.count(self.seed) > lsn) {
            return Err(format!("{entry:?} was acknowledged at {lsn}, where {taken:?} is, from {other} on"));
        }
        self.placed.insert(lsn, entry);
        self.acknowledged = self.acknowledged.max(last);
        Ok(())
    }

    fn may_begin_at(&self, first: u64) -> bool {
        first == self.first || self.trimming.is_some_and(|before| first == before.max(self.first))
    }

    fn least(&self) -> u64 {
        self.truncating.map_or(self.acknowledged, |after| after.min(self.acknowledged))
    }

    /// Whether the log, opened after whatever ended the trial, may hold this.
    ///
    /// # Errors
    /// What it must not look like.
    pub fn check(&self, found: &Found) -> Result<(), String> {
        let Found { first, last, mark, .. } = found;
        if !self.may_begin_at(*first) {
            return Err(format!("begins at {first}, not at {} or {:?}", self.first, self.trimming));
        }
        if *last < self.least() {
            return Err(format!("ends at {last}, but {} was acknowledged", self.acknowledged));
        }
        let is_marked = |known: Option<(u64, u64)>| {
            known.map(|(lsn, number)| (lsn, mark_bytes(self.seed, number))) == *mark
        };
        if !is_marked(self.mark) && (self.marking.is_none() || !is_marked(self.marking)) {
            return Err(format!("the mark is neither {:?} nor {:?}", self.mark, self.marking));
        }
        let entries = self.entries(found)?;
        for (lsn, entry) in &entries {
            match self.placed.get(lsn) {
                Some(placed) if placed == entry => {}
                Some(placed) => {
                    return Err(format!("record {lsn} is of {entry:?}, but {placed:?} was acknowledged"));
                }
                None if self.pending.contains(entry) => {}
                None => return Err(format!("record {lsn} is of {entry:?}, which is not to be there")),
            }
        }
        self.check_order(&entries)
    }

    /// Whether a copy may hold this.
    ///
    /// # Errors
    /// What it must not look like.
    pub fn check_copy(&self, copy: &Copied, found: &Found) -> Result<(), String> {
        let Found { last, .. } = found;
        if *last < copy.durable || copy.newest.is_some_and(|newest| newest != *last) {
            return Err(format!("ends at {last}, but {copy:?}"));
        }
        for (lsn, entry) in self.entries(found)? {
            let is_known = self.placed.get(&lsn).is_none_or(|placed| *placed == entry);
            if !copy.is_former && lsn >= self.first && !is_known {
                return Err(format!("record {lsn} is of {entry:?}, which is not to be there"));
            }
        }
        Ok(())
    }

    /// The entries that make up a log, by LSN; each is whole, and has the bytes that it should have.
    fn entries(&self, found: &Found) -> Result<Vec<(u64, Entry)>, String> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        let mut rest = &found.records[..];
        let mut lsn = found.first;
        while let Some(record) = rest.first() {
            let entry = Entry::of(record).ok_or_else(|| format!("record {lsn} was never appended"))?;
            if !seen.insert(entry) {
                return Err(format!("{entry:?} is there twice, the second time at {lsn}"));
            }
            let records = entry.records(self.seed);
            let there = rest.len().min(records.len());
            let (taken, left) = rest.split_at(there);
            for (at, (taken, expected)) in (lsn..).zip(taken.iter().zip(&records)) {
                if taken != expected {
                    return Err(format!("record {at}, of {entry:?}, has other bytes"));
                }
            }
            if there < records.len() {
                return Err(format!("ends at {}, inside {entry:?}", found.last));
            }
            entries.push((lsn, entry));
            lsn += there as u64;
            rest = left;
        }
        Ok(entries)
    }

    /// Each writer appends one entry after the other, so none may be missing between two that are there.
    fn check_order(&self, entries: &[(u64, Entry)]) -> Result<(), String> {
        let mut newest = BTreeMap::new();
        for (lsn, entry) in entries {
            let before = newest.insert((entry.round, entry.writer), entry.number);
            let Some(before) = before else { continue };
            if before > entry.number {
                return Err(format!("record {lsn}, of {entry:?}, comes after number {before}"));
            }
            let missing = (before + 1..entry.number).map(|number| Entry { number, ..*entry });
            if let Some(missing) = missing.into_iter().find(|missing| !self.gone.contains(missing)) {
                return Err(format!("{missing:?} is missing before record {lsn}, of {entry:?}"));
            }
        }
        Ok(())
    }

    /// Takes what was found, and checked, for the truth; gives the number of entries that are there although
    /// nobody knew.
    pub fn settle(&mut self, found: &Found) -> Result<u64, String> {
        let entries = self.entries(found)?;
        let unknown = entries.iter().filter(|(lsn, _)| !self.placed.contains_key(lsn)).count() as u64;
        self.placed = entries.into_iter().collect();
        self.acknowledged = found.last;
        self.exact = Some(found.last);
        self.first = found.first;
        if self.mark != found.mark_number(self.seed, [self.mark, self.marking]) {
            self.mark = self.marking;
        }
        (self.trimming, self.truncating, self.marking) = (None, None, None);
        self.pending.clear();
        self.copies.clear();
        let oldest = self.placed.values().map(|entry| entry.round).min();
        self.gone.retain(|entry| oldest.is_some_and(|oldest| entry.round >= oldest));
        Ok(unknown)
    }
}

/// The bytes of the mark with this number.
pub(crate) fn mark_bytes(seed: u64, number: u64) -> Vec<u8> {
    let mut chance = Chance::new(&[seed, number, 0x4D41_524B]);
    let mut bytes = vec![0; chance.below(3000) as usize];
    chance.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 11;

    fn entry(number: u32) -> Entry {
        Entry { round: 0, writer: 0, number }
    }

    /// An account of so many acknowledged entries and one announced more, and the log that holds the former.
    fn account(acknowledged: u32) -> (Account, Found) {
        let mut account = Account::new(SEED);
        let mut found = Found { first: 1, last: 0, records: Vec::new(), mark: None };
        for number in 0..acknowledged {
            account.heed(Event::Announced(entry(number))).unwrap();
            account.heed(Event::Acknowledged(entry(number), found.last + 1)).unwrap();
            add(&mut found, number);
        }
        account.heed(Event::Announced(entry(acknowledged))).unwrap();
        (account, found)
    }

    fn add(found: &mut Found, number: u32) {
        found.records.extend(entry(number).records(SEED));
        found.last = found.records.len() as u64;
    }

    #[test]
    fn what_was_promised_passes_with_and_without_what_was_not_answered() {
        let (account, mut found) = account(20);
        account.check(&found).unwrap();
        add(&mut found, 20);
        account.check(&found).unwrap();
    }

    #[test]
    fn each_broken_promise_is_found() {
        let (account, found) = account(20);
        let broken = |change: &dyn Fn(&mut Found)| {
            let mut found = found.clone();
            change(&mut found);
            account.check(&found).unwrap_err()
        };
        let lost = broken(&|found| {
            found.records.pop();
            found.last -= 1;
        });
        assert!(lost.contains("acknowledged"), "{lost}");
        let flipped = broken(&|found| *found.records[3].last_mut().unwrap() ^= 1);
        assert!(flipped.contains("bytes") || flipped.contains("never"), "{flipped}");
        let invented = broken(&|found| add(found, 21));
        assert!(invented.contains("not to be there"), "{invented}");
        let strange = broken(&|found| {
            found.records.push(b"strange".to_vec());
            found.last += 1;
        });
        assert!(strange.contains("never appended"), "{strange}");
        let trimmed = broken(&|found| found.first = 2);
        assert!(trimmed.contains("begins"), "{trimmed}");
        let marked = broken(&|found| found.mark = Some((1, vec![1])));
        assert!(marked.contains("mark"), "{marked}");
    }

    #[test]
    fn half_a_batch_and_a_missing_middle_are_found() {
        let (mut account, mut found) = account(3);
        let batch = (4..).find(|&number| entry(number).count(SEED) > 1).unwrap();
        (4..=batch).for_each(|number| account.heed(Event::Announced(entry(number))).unwrap());
        add(&mut found, batch);
        let missing = account.check(&found).unwrap_err();
        assert!(missing.contains("missing"), "{missing}");
        found.records.pop();
        found.last -= 1;
        let torn = account.check(&found).unwrap_err();
        assert!(torn.contains("inside"), "{torn}");
    }

    #[test]
    fn one_place_is_not_given_twice() {
        let (mut account, found) = account(20);
        let wrong = account.heed(Event::Acknowledged(entry(20), found.last)).unwrap_err();
        assert!(wrong.contains("acknowledged at"), "{wrong}");
    }

    #[test]
    fn what_was_truncated_must_stay_away() {
        let (mut account, mut found) = account(20);
        account.heed(Event::Refused(entry(20))).unwrap();
        let after = account.placed.keys().nth(10).unwrap() - 1;
        account.heed(Event::TruncationBegun(after)).unwrap();
        account.check(&found).unwrap();
        account.heed(Event::Truncated(after)).unwrap();
        let back = account.check(&found).unwrap_err();
        assert!(back.contains("not to be there"), "{back}");
        found.records.truncate(after as usize);
        found.last = after;
        account.check(&found).unwrap();
    }
}
