//! What one call appends, and how it is known again.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// Begins the first record of every entry.
const MAGIC: u32 = 0x1ED6_E401;
/// Bytes that name the entry, at the start of its first record.
const TAG_BYTES: usize = 28;

/// What one call appends: a record, or a batch of them.
///
/// Its records follow from a seed and from these numbers. The first record names the entry; the others of a batch
/// may be of any kind, also empty, all zeros, or full of bytes that look like an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The process that appended it, counted from 0.
    pub round: u32,
    /// Its thread.
    pub writer: u16,
    /// The thread's count, from 0.
    pub number: u32,
}

impl Entry {
    fn chance(self, seed: u64) -> Chance {
        Chance::new(&[seed, u64::from(self.round), u64::from(self.writer), u64::from(self.number)])
    }

    /// How many records it has.
    #[must_use]
    pub fn count(self, seed: u64) -> u64 {
        count(&mut self.chance(seed))
    }

    /// Its records.
    #[must_use]
    pub fn records(self, seed: u64) -> Vec<Vec<u8>> {
        let mut chance = self.chance(seed);
        let count = count(&mut chance);
        let check = chance.next();
        let rest = match chance.below(400) {
            0..240 => chance.below(300),
            240..340 => chance.below(4 << 10),
            340..398 => chance.below(16 << 10),
            // More than a small segment holds.
            _ => chance.between(32 << 10, 300 << 10),
        };
        let mut first = self.tag(count as u16, check);
        first.resize(TAG_BYTES + rest as usize, 0);
        if !chance.percent(10) {
            chance.fill(&mut first[TAG_BYTES..]);
        }
        let others = (1..count).map(|_| {
            let mut record = vec![0; chance.pick(&[0, 1, 7, 8, 60, 200, 900])];
            match chance.below(4) {
                0 => {}
                1 => record.iter_mut().zip(first.iter().cycle()).for_each(|(to, from)| *to = *from),
                _ => chance.fill(&mut record),
            }
            record
        });
        let others: Vec<_> = others.collect();
        std::iter::once(first).chain(others).collect()
    }

    /// The entry that begins with this record, if it says so; whether it is that is for the caller to compare.
    #[must_use]
    pub fn of(record: &[u8]) -> Option<Entry> {
        let word = |at: usize| {
            let bytes = record.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
        };
        if word(0)? != MAGIC || record.len() < TAG_BYTES {
            return None;
        }
        Some(Entry { round: word(4)?, number: word(8)?, writer: u16::try_from(word(12)?).ok()? })
    }

    fn tag(self, count: u16, check: u64) -> Vec<u8> {
        let mut tag = Vec::with_capacity(TAG_BYTES);
        for word in [MAGIC, self.round, self.number, u32::from(self.writer), u32::from(count)] {
            tag.extend(word.to_le_bytes());
        }
        tag.extend(check.to_le_bytes());
        assert_eq!(tag.len(), TAG_BYTES);
        tag
    }
}

/// One in four is a batch.
fn count(chance: &mut Chance) -> u64 {
    if chance.percent(25) { chance.between(1, 16) } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_known_by_its_first_record() {
        for number in 0..500 {
            let entry = Entry { round: 3, writer: 2, number };
            let records = entry.records(7);
            assert_eq!(records.len() as u64, entry.count(7));
            assert_eq!(Entry::of(&records[0]), Some(entry));
            assert_eq!(entry.records(7), records);
            assert_ne!(entry.records(8), records);
        }
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        assert_eq!(Entry::of(b""), None);
        assert_eq!(Entry::of(&[0; 64]), None);
        assert_eq!(Entry::of(&MAGIC.to_le_bytes()), None);
    }
}
