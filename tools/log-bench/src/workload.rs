//! What is appended, by how many threads and in which rhythm.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::units;

/// The rhythm of a workload.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Threads that append.
    pub(crate) threads: usize,
    /// Records in a batch.
    pub(crate) batch: usize,
    /// Appends outstanding for each thread.
    pub(crate) in_flight: usize,
    /// Records a second of all threads together, or as fast as they come.
    pub(crate) rate: Option<f64>,
    /// How long to go on; lines of a file are appended once at least. `None` for exactly once.
    pub(crate) length: Option<Duration>,
}

impl Plan {
    /// Whether one append waits for the disk at a time.
    pub(crate) fn waits_for_each(&self) -> bool {
        self.in_flight == 1 && self.rate.is_none()
    }

    /// The workload in words, for tables: `64 threads, 256 B, wait for each`.
    pub(crate) fn name(&self, records: &Records) -> String {
        let threads = units::plural(self.threads as u64, "thread");
        let one = match records {
            Records::Synthetic(synthetic) => units::bytes(synthetic.size as u64),
            Records::Lines(lines) => format!("lines of {}", lines.name),
        };
        let unit = if self.batch == 1 { one } else { format!("batches of {} x {one}", self.batch) };
        let rhythm = match (self.rate, self.in_flight) {
            (Some(rate), _) => format!("{} records/s on schedule", units::count(rate)),
            (None, 1) => "wait for each".to_string(),
            (None, many) => format!("{many} outstanding"),
        };
        format!("{threads}, {unit}, {rhythm}")
    }
}

/// Where records come from.
#[derive(Debug)]
pub(crate) enum Records {
    /// Random bytes of one size.
    Synthetic(Synthetic),
    /// The lines of a file.
    Lines(Lines),
}

impl Records {
    /// Random records of `size` bytes.
    pub(crate) fn synthetic(size: usize) -> Records {
        Records::Synthetic(Synthetic::new(size))
    }

    /// Mean size of a record in bytes.
    pub(crate) fn mean_bytes(&self) -> f64 {
        match self {
            Records::Synthetic(synthetic) => synthetic.size as f64,
            Records::Lines(lines) => lines.bytes as f64 / lines.ranges.len() as f64,
        }
    }

    /// One thread's share.
    pub(crate) fn feed(&self, thread: usize, batch: usize) -> Feed<'_> {
        Feed { records: self, batch, next: (thread as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }
}

/// Random bytes, which no layer below can compress, cut into records of one size.
#[derive(Debug)]
pub(crate) struct Synthetic {
    size: usize,
    pool: Vec<u8>,
}

/// Records begin at any multiple of 64 in so many bytes; few enough to stay in a cache.
const POOL_BYTES: usize = 256 << 10;

impl Synthetic {
    fn new(size: usize) -> Synthetic {
        Synthetic { size, pool: random_bytes(POOL_BYTES + size) }
    }

    fn record(&self, number: u64) -> &[u8] {
        let start = (number as usize).wrapping_mul(64) % POOL_BYTES;
        &self.pool[start..start + self.size]
    }
}

/// Bytes without a pattern, the same in each run (xorshift64*; Vigna, "An experimental exploration of
/// Marsaglia's xorshift generators, scrambled", 2016).
pub(crate) fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(count.div_ceil(8)).flatten().collect();
    bytes.truncate(count);
    bytes
}

/// The lines of a file, without their ends, dealt out to the threads in order.
#[derive(Debug)]
pub(crate) struct Lines {
    name: String,
    text: Vec<u8>,
    ranges: Vec<std::ops::Range<usize>>,
    bytes: u64,
    dealt: AtomicU64,
}

impl Lines {
    /// Reads all of `path`.
    ///
    /// # Errors
    /// [`Error::EmptyInput`] for a file without a line.
    pub(crate) fn read(path: &Path) -> Result<Lines> {
        let text = fs::read(path).map_err(Error::io("read", path))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let lines = Lines::of(name, text);
        if lines.ranges.is_empty() { Err(Error::EmptyInput { path: path.to_path_buf() }) } else { Ok(lines) }
    }

    /// The lines of `text`.
    pub(crate) fn of(name: String, text: Vec<u8>) -> Lines {
        let mut ranges = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let end = start + line.len();
            ranges.push(start..end - usize::from(line.ends_with(b"\n")));
            start = end;
        }
        let bytes = ranges.iter().map(|range| range.len() as u64).sum();
        Lines { name, text, ranges, bytes, dealt: AtomicU64::new(0) }
    }

    /// The line with this number, counted from 0 and on from the first again after the last.
    pub(crate) fn line(&self, number: u64) -> &[u8] {
        &self.text[self.ranges[(number % self.len()) as usize].clone()]
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.len() as u64
    }

    /// How many bytes the lines have.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next `count` lines: the first of them and how many, none once `over` and all were dealt.
    fn deal(&self, count: u64, over: bool) -> Option<(u64, u64)> {
        // Relaxed: only the number matters, the text was there before the threads were.
        let first = self.dealt.fetch_add(count, Ordering::Relaxed);
        match self.len().saturating_sub(first) {
            0 if over => None,
            left if over => Some((first, count.min(left))),
            _ => Some((first, count)),
        }
    }
}

/// Gives one thread its batches.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    records: &'a Records,
    batch: usize,
    next: u64,
}

impl<'a> Feed<'a> {
    /// Fills `batch` with the next records and gives the number of the first, or `None` when it is enough:
    /// once time is `over`, and each line of a file was dealt.
    pub(crate) fn next(&mut self, batch: &mut Vec<&'a [u8]>, over: bool) -> Option<u64> {
        batch.clear();
        match self.records {
            Records::Synthetic(_) if over => None,
            Records::Synthetic(synthetic) => {
                let first = self.next;
                self.next = first.wrapping_add(self.batch as u64);
                batch.extend((0..self.batch as u64).map(|i| synthetic.record(first.wrapping_add(i))));
                Some(first)
            }
            Records::Lines(lines) => {
                let (first, count) = lines.deal(self.batch as u64, over)?;
                batch.extend((first..first + count).map(|number| lines.line(number)));
                Some(first)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_dealt_exactly_once_when_time_is_over() {
        let records = Records::Lines(Lines::of("t".into(), b"a\n\nlast without an end".to_vec()));
        let (mut one, mut two) = (records.feed(0, 2), records.feed(1, 2));
        let mut batch = Vec::new();
        assert_eq!(one.next(&mut batch, true), Some(0));
        assert_eq!(batch, [b"a".as_slice(), b""]);
        assert_eq!(two.next(&mut batch, true), Some(2));
        assert_eq!(batch, [b"last without an end".as_slice()]);
        assert_eq!(one.next(&mut batch, true), None);
    }

    #[test]
    fn lines_begin_again_while_there_is_time() {
        let records = Records::Lines(Lines::of("t".into(), b"a\nb".to_vec()));
        let mut feed = records.feed(0, 3);
        let mut batch = Vec::new();
        assert_eq!(feed.next(&mut batch, false), Some(0));
        assert_eq!(batch, [b"a".as_slice(), b"b", b"a"]);
    }

    #[test]
    fn names_say_what_is_done() {
        let plan = Plan { threads: 8, batch: 64, in_flight: 1, rate: None, length: None };
        assert_eq!(plan.name(&Records::synthetic(1024)), "8 threads, batches of 64 x 1 KiB, wait for each");
    }
}
