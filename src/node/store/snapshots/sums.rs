//! Checksums over the parts of a snapshot, so that a part of it can be read and checked alone.

use crate::format::{RunningCrc, crc32};

/// Bytes that one checksum is over.
const PART_BYTES: u64 = 64 << 10;

/// The checksums of bytes that come one after the other.
#[derive(Clone, Default)]
pub(super) struct Summing {
    whole: RunningCrc,
    parts: Vec<u32>,
    /// Over the part that is not complete, and its bytes.
    open: (RunningCrc, u64),
}

/// The checksums of the parts of a snapshot, in order; kept in memory alone.
#[derive(Clone, Debug)]
pub(super) struct Sums(Box<[u32]>);

impl Summing {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let room = usize::try_from(PART_BYTES - self.open.1).expect("a part fits in memory");
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            self.open.0.update(now);
            self.open.1 += now.len() as u64;
            if self.open.1 == PART_BYTES {
                self.end_part();
            }
            bytes = rest;
        }
    }

    /// The checksum over all, and those of the parts.
    pub(super) fn finish(mut self) -> (u32, Sums) {
        if self.open.1 > 0 {
            self.end_part();
        }
        (self.whole.finish(), Sums(self.parts.into()))
    }

    fn end_part(&mut self) {
        let (sum, _) = std::mem::take(&mut self.open);
        self.parts.push(sum.finish());
    }
}

impl Sums {
    /// Those of nothing.
    pub(super) fn none() -> Sums {
        Sums(Box::default())
    }

    /// Where the parts begin and end that these bytes lie in; of `total` bytes in all.
    pub(super) fn around(offset: u64, bytes: u64, total: u64) -> (u64, u64) {
        let end = (offset + bytes).next_multiple_of(PART_BYTES).min(total);
        (offset - offset % PART_BYTES, end)
    }

    /// Whether these are the bytes from `offset` on, where a part begins; they end where one ends.
    pub(super) fn check(&self, offset: u64, bytes: &[u8]) -> bool {
        let first = usize::try_from(offset / PART_BYTES).unwrap_or(usize::MAX);
        let parts = bytes.chunks(usize::try_from(PART_BYTES).expect("a part fits in memory"));
        parts.zip(first..).all(|(part, index)| self.0.get(index) == Some(&crc32(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_checked_by_themselves_however_the_bytes_came() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let mut summing = Summing::default();
        bytes.chunks(7001).for_each(|chunk| summing.update(chunk));
        let (whole, sums) = summing.finish();
        assert_eq!(whole, crc32(&bytes));
        for (offset, count) in [(0, 1), (0, 200_000), (65_536, 1), (70_000, 130_000), (199_999, 1)] {
            let (first, end) = Sums::around(offset, count, 200_000);
            assert!(first <= offset && end >= offset + count);
            let mut part = bytes[first as usize..end as usize].to_vec();
            assert!(sums.check(first, &part));
            *part.last_mut().unwrap() ^= 1;
            assert!(!sums.check(first, &part), "{offset} {count}");
        }
        assert!(!sums.check(65_536 * 4, b"more"));
    }
}
