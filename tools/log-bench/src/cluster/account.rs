//! The outside account of what clients of a cluster were promised, and what the log has to hold by it.

use std::collections::HashMap;
use std::sync::Mutex;

use serde::Serialize;

/// Bytes at the beginning of a record that say whose it is, and which.
const HEAD_BYTES: usize = 20;
const MAGIC: u32 = 0x6C65_6467;

/// What one thread was promised.
#[derive(Clone, Debug, Default)]
struct Promised {
    /// How many it has begun to append: their numbers are dense from 0.
    begun: u64,
    /// LSNs of those that were acknowledged, by number; `None` if only that they are in the log.
    acknowledged: Vec<(u64, Option<u64>)>,
    /// Numbers of those that were refused: never to be seen.
    refused: Vec<u64>,
    /// Numbers of those of which nobody said what came of them.
    unknown: Vec<u64>,
}

/// What all threads were promised.
#[derive(Debug)]
pub(crate) struct Account {
    threads: Vec<Mutex<Promised>>,
}

/// What an account makes of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Records that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Records of the log that were compared.
    pub(crate) compared: u64,
    /// Acknowledged, and not in the log or not at their LSN.
    pub(crate) lost: u64,
    /// In the log more than once.
    pub(crate) duplicated: u64,
    /// In the log, and never appended by anybody, or with other bytes.
    pub(crate) invented: u64,
    /// Said not to have been appended, and in the log all the same.
    pub(crate) refused_there: u64,
    /// Appended, and nobody said what came of it.
    pub(crate) unknown: u64,
    /// Of these, those that are in the log.
    pub(crate) unknown_there: u64,
    /// The first few that are wrong, in words.
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    /// Whether a promise was broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.lost + self.duplicated + self.invented + self.refused_there > 0
    }

    fn wrong(&mut self, what: String) {
        if self.examples.len() < 5 {
            self.examples.push(what);
        }
    }
}

/// The record that a thread appends as its number so-and-so: its bytes follow from both.
pub(crate) fn record(thread: u32, number: u64, bytes: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(bytes.max(HEAD_BYTES));
    record.extend_from_slice(&MAGIC.to_le_bytes());
    record.extend_from_slice(&thread.to_le_bytes());
    record.extend_from_slice(&number.to_le_bytes());
    record.extend_from_slice(&(bytes as u32).to_le_bytes());
    let mut state = (u64::from(thread) << 40) ^ number ^ 0x9E37_79B9_7F4A_7C15;
    while record.len() < bytes {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        let room = (bytes - record.len()).min(word.len());
        record.extend_from_slice(&word[..room]);
    }
    record
}

/// Whose record this is, and which; `None` if it is nobody's.
fn origin(bytes: &[u8]) -> Option<(u32, u64)> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let thread = word(4)?;
    let number = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    let is_whole = word(0)? == MAGIC && record(thread, number, word(16)? as usize) == bytes;
    is_whole.then_some((thread, number))
}

impl Account {
    pub(crate) fn new(threads: usize) -> Account {
        Account { threads: (0..threads).map(|_| Mutex::default()).collect() }
    }

    fn with<T>(&self, thread: usize, change: impl FnOnce(&mut Promised) -> T) -> T {
        change(&mut self.threads[thread].lock().expect("no thread panics with its account"))
    }

    /// The number of the next record of a thread, which it is about to append.
    pub(crate) fn begin(&self, thread: usize) -> u64 {
        self.with(thread, |promised| {
            promised.begun += 1;
            promised.begun - 1
        })
    }

    /// It was acknowledged, at this LSN, or somewhere.
    pub(crate) fn acknowledged(&self, thread: usize, number: u64, lsn: Option<u64>) {
        self.with(thread, |promised| promised.acknowledged.push((number, lsn)));
    }

    /// It was not appended, and never will be.
    pub(crate) fn refused(&self, thread: usize, number: u64) {
        self.with(thread, |promised| promised.refused.push(number));
    }

    /// Nobody knows what came of it.
    pub(crate) fn unknown(&self, thread: usize, number: u64) {
        self.with(thread, |promised| promised.unknown.push(number));
    }

    /// Compares the account with all records of a log: LSN and bytes of each, in order.
    pub(crate) fn settle<T: AsRef<[u8]>>(&self, log: impl IntoIterator<Item = (u64, T)>) -> Verdict {
        let mut verdict = Verdict::default();
        let begun: Vec<u64> = (0..self.threads.len()).map(|thread| self.with(thread, |p| p.begun)).collect();
        let mut places: HashMap<(u32, u64), u64> = HashMap::new();
        for (lsn, bytes) in log {
            verdict.compared += 1;
            let bytes = bytes.as_ref();
            let known = origin(bytes)
                .filter(|(thread, number)| begun.get(*thread as usize).is_some_and(|begun| number < begun));
            let Some(known) = known else {
                verdict.invented += 1;
                verdict.wrong(format!("record {lsn} was never appended ({} bytes)", bytes.len()));
                continue;
            };
            if let Some(before) = places.insert(known, lsn) {
                verdict.duplicated += 1;
                verdict
                    .wrong(format!("record {} of client {} is at {before} and at {lsn}", known.1, known.0));
                places.insert(known, before);
            }
        }
        for (thread, promised) in self.threads.iter().enumerate() {
            let promised = promised.lock().expect("no thread panics with its account");
            verdict.acknowledged += promised.acknowledged.len() as u64;
            for (number, lsn) in &promised.acknowledged {
                let found = places.get(&(thread as u32, *number));
                let is_there = found.is_some_and(|found| lsn.is_none_or(|lsn| lsn == *found));
                if !is_there {
                    verdict.lost += 1;
                    let there = found.map_or("nowhere".to_string(), |found| format!("at {found}"));
                    let at = lsn.map_or("somewhere".to_string(), |lsn| format!("at {lsn}"));
                    verdict
                        .wrong(format!("record {number} of client {thread}, acknowledged {at}, is {there}"));
                }
            }
            for number in
                promised.refused.iter().filter(|number| places.contains_key(&(thread as u32, **number)))
            {
                verdict.refused_there += 1;
                verdict.wrong(format!("record {number} of client {thread} was refused, and is in the log"));
            }
            verdict.unknown += promised.unknown.len() as u64;
            let there = |number: &&u64| places.contains_key(&(thread as u32, **number));
            verdict.unknown_there += promised.unknown.iter().filter(there).count() as u64;
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        let account = Account::new(2);
        for lsn in [1, 3] {
            let number = account.begin(0);
            account.acknowledged(0, number, Some(lsn));
        }
        let number = account.begin(1);
        account.unknown(1, number);
        account
    }

    #[test]
    fn a_log_that_holds_all_promises_is_fine_with_and_without_what_is_unknown() {
        let log = vec![(1, record(0, 0, 64)), (3, record(0, 1, 64))];
        let verdict = account().settle(log.clone());
        assert!(!verdict.is_broken() && (verdict.unknown, verdict.unknown_there) == (1, 0), "{verdict:?}");
        let verdict = account().settle(log.into_iter().chain([(4, record(1, 0, 64))]));
        assert!(!verdict.is_broken() && verdict.unknown_there == 1, "{verdict:?}");
    }

    #[test]
    fn each_way_to_break_a_promise_is_noticed() {
        let (first, second) = ((1, record(0, 0, 64)), (3, record(0, 1, 64)));
        assert_eq!(account().settle([first.clone()]).lost, 1);
        assert_eq!(account().settle([first.clone(), (4, second.1.clone())]).lost, 1);
        let twice = [first.clone(), second.clone(), (5, second.1.clone())];
        assert_eq!(account().settle(twice).duplicated, 1);
        let somewhere = account();
        let number = somewhere.begin(0);
        somewhere.acknowledged(0, number, None);
        assert_eq!(somewhere.settle([first.clone(), second.clone()]).lost, 1);
        assert!(!somewhere.settle([first.clone(), second.clone(), (9, record(0, 2, 64))]).is_broken());
        let refused = account();
        let number = refused.begin(0);
        refused.refused(0, number);
        let verdict = refused.settle([first.clone(), second.clone(), (4, record(0, 2, 64))]);
        assert!(verdict.is_broken() && verdict.refused_there == 1, "{verdict:?}");
        let mut changed = second.1.clone();
        changed[40] ^= 1;
        let verdict = account().settle([first.clone(), (3, changed)]);
        assert_eq!((verdict.invented, verdict.lost), (1, 1));
        assert_eq!(account().settle([first, second, (4, record(1, 1, 64))]).invented, 1);
    }
}
