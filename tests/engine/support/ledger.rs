//! What a log may hold: an account, kept outside of it, of all that it was asked to do and has answered.

use std::collections::BTreeMap;

use annals::{Log, Lsn, Result};

/// The account. Records that may be in the log are in it from before anybody can read them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ledger {
    /// By LSN.
    entries: BTreeMap<u64, Entry>,
    /// The newest record that was ever appended.
    last: u64,
    /// The newest record that was acknowledged, and not truncated since.
    acknowledged: u64,
    /// The trim point that the log confirmed, and one that it was asked for since.
    first: u64,
    trimming: Option<u64>,
    truncating: Option<u64>,
    mark: Option<(u64, Vec<u8>)>,
    marking: Option<(u64, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct Entry {
    bytes: Vec<u8>,
    /// The first and the last record that it lives and dies with.
    batch: (u64, u64),
}

/// All that a log shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) records: Vec<(u64, Vec<u8>)>,
    pub(crate) mark: Option<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shown { first, last, records, mark } = self;
        let mark = mark.as_ref().map(|(lsn, bytes)| (lsn, bytes.len()));
        write!(f, "records {first} to {last} ({} shown), mark {mark:?}", records.len())
    }
}

impl Shown {
    /// Reads a whole log.
    pub(crate) fn of(log: &Log) -> Result<Shown> {
        let watermarks = log.watermarks();
        assert!(watermarks.trimmed <= watermarks.applied, "{watermarks:?}");
        assert!(watermarks.applied <= watermarks.committed, "{watermarks:?}");
        assert!(watermarks.committed <= watermarks.appended, "{watermarks:?}");
        assert!(watermarks.durable <= watermarks.appended, "{watermarks:?}");
        let mut records = Vec::new();
        let mut cursor = log.cursor(..)?;
        while let Some(record) = cursor.next()? {
            records.push((record.lsn().get(), record.to_vec()));
        }
        let (first, last) = (log.first_lsn().get(), log.last_lsn().get());
        assert!(
            records.iter().map(|record| record.0).eq(first..=last),
            "records {first} to {last} without gaps"
        );
        let mark = log.mark().map(|mark| (mark.lsn.get(), mark.bytes));
        Ok(Shown { first, last, records, mark })
    }
}

impl Ledger {
    /// The account of a log that does not exist yet.
    pub(crate) fn new() -> Ledger {
        Ledger { first: 1, ..Ledger::default() }
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(crate) fn bytes(&self, lsn: u64) -> Option<&[u8]> {
        self.entries.get(&lsn).map(|entry| &*entry.bytes)
    }

    /// The first and the last record of the batch that `lsn` is in.
    pub(crate) fn batch(&self, lsn: u64) -> Option<(u64, u64)> {
        self.entries.get(&lsn).map(|entry| entry.batch)
    }

    /// A record, or a batch, has got its LSNs.
    pub(crate) fn appended(&mut self, first: Lsn, records: &[impl AsRef<[u8]>]) {
        let first = first.get();
        let batch = (first, first + records.len() as u64 - 1);
        for (lsn, record) in (first..).zip(records) {
            let entry = Entry { bytes: record.as_ref().to_vec(), batch };
            assert!(self.entries.insert(lsn, entry).is_none(), "LSN {lsn} was given twice");
        }
        self.last = self.last.max(batch.1);
    }

    pub(crate) fn acknowledge(&mut self, last: Lsn) {
        assert!(last.get() <= self.last, "{last} was acknowledged, but never appended");
        self.acknowledged = self.acknowledged.max(last.get());
    }

    /// Later acknowledgements relied on what was not so.
    pub(crate) fn doubt_after(&mut self, lsn: u64) {
        self.acknowledged = self.acknowledged.min(lsn);
    }

    pub(crate) fn begin_trim(&mut self, before: u64) {
        self.trimming = Some(before);
    }

    pub(crate) fn end_trim(&mut self) {
        self.first = self.first.max(self.trimming.take().expect("begun"));
    }

    pub(crate) fn begin_truncation(&mut self, after: u64) {
        self.truncating = Some(after);
    }

    pub(crate) fn end_truncation(&mut self) {
        let after = self.truncating.take().expect("begun");
        self.forget_after(after);
        self.acknowledged = after;
    }

    pub(crate) fn begin_mark(&mut self, lsn: u64, bytes: &[u8]) {
        self.marking = Some((lsn, bytes.to_vec()));
    }

    pub(crate) fn end_mark(&mut self) {
        self.mark = self.marking.take();
    }

    /// Takes back what was begun and refused for a reason that changes nothing.
    pub(crate) fn refused(&mut self) {
        (self.trimming, self.truncating, self.marking) = (None, None, None);
    }

    /// Whether the log, opened again after whatever ended it, may look like this.
    pub(crate) fn check(&self, shown: &Shown) -> Result<(), String> {
        let Shown { first, last, records, mark } = shown;
        let least = self.truncating.map_or(self.acknowledged, |after| after.min(self.acknowledged));
        let begins =
            *first == self.first || self.trimming.is_some_and(|before| *first == before.max(self.first));
        if !begins {
            return Err(format!("begins at {first}, not at {} or {:?}", self.first, self.trimming));
        }
        if *last < least {
            return Err(format!("ends at {last}, but {least} was acknowledged"));
        }
        if *last > self.last {
            return Err(format!("ends at {last}, but only {} were appended", self.last));
        }
        for (lsn, bytes) in records {
            match self.entries.get(lsn) {
                Some(entry) if entry.bytes == *bytes => {}
                Some(_) => return Err(format!("record {lsn} has other bytes")),
                None => return Err(format!("record {lsn} was never appended")),
            }
        }
        let torn = self.entries.get(last).is_some_and(|entry| entry.batch.1 != *last);
        if torn {
            return Err(format!("ends at {last}, inside a batch"));
        }
        if *mark != self.mark && (self.marking.is_none() || *mark != self.marking) {
            return Err("the mark is neither the old nor the new one".to_owned());
        }
        Ok(())
    }

    /// Takes what was found after a crash for the truth, once it was checked.
    pub(crate) fn settle(&mut self, shown: &Shown) {
        self.forget_after(shown.last);
        self.acknowledged = shown.last;
        self.first = shown.first;
        self.mark = shown.mark.clone();
        self.refused();
    }

    fn forget_after(&mut self, last: u64) {
        self.entries.split_off(&(last + 1));
        self.last = last;
    }
}
