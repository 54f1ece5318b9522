//! The raw limit of a disk: durable writes to a file that was filled with zeros, by the same calls that a log
//! uses, with nothing around them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annals::WriteMethod;
use annals::disk::{BLOCK_BYTES, Disk, DurableWriter, File, RealDisk};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::latency::{Latency, Summary};
use crate::progress::{self, Phase};
use crate::workload::random_bytes;

/// One way of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Way {
    /// The write method.
    #[serde(serialize_with = "by_name")]
    pub(crate) method: WriteMethod,
    /// Bytes of one write.
    pub(crate) block_bytes: u64,
    /// Writes in flight at once.
    pub(crate) in_flight: u32,
}

/// What one way of writing came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Limit {
    /// The way.
    #[serde(flatten)]
    pub(crate) way: Way,
    /// Durable writes in a second.
    pub(crate) syncs_per_s: f64,
    /// Megabytes (10^6) in a second.
    pub(crate) mb_per_s: f64,
    /// How long one took.
    pub(crate) latency_us: Summary,
}

impl Limit {
    /// The mean of several measurements of the same way; the longest latency of all.
    pub(crate) fn mean(limits: &[Limit]) -> Limit {
        let way = limits[0].way;
        assert!(limits.iter().all(|limit| limit.way == way), "only the same way can be averaged");
        let mean = |figure: fn(&Limit) -> f64| limits.iter().map(figure).sum::<f64>() / limits.len() as f64;
        Limit {
            way,
            syncs_per_s: mean(|limit| limit.syncs_per_s),
            mb_per_s: mean(|limit| limit.mb_per_s),
            latency_us: Summary {
                p50: mean(|limit| limit.latency_us.p50),
                p99: mean(|limit| limit.latency_us.p99),
                p999: mean(|limit| limit.latency_us.p999),
                max: limits.iter().map(|limit| limit.latency_us.max).fold(0.0, f64::max),
            },
        }
    }
}

/// A file to write to over and over.
#[derive(Debug)]
pub(crate) struct RawFile {
    file: Arc<dyn File>,
    bytes: u64,
    dir: std::path::PathBuf,
}

const NAME: &str = "raw";
const CHUNK_BYTES: usize = 1 << 20;

impl RawFile {
    /// Creates the file in `dir`, which is created too, and fills it durably with zeros.
    pub(crate) fn create(dir: &Path, bytes: u64) -> Result<RawFile> {
        let disk = RealDisk::create(dir).map_err(Error::io("create", dir))?;
        let file = disk.create(NAME).map_err(Error::io("create", dir))?;
        let phase = Phase::bytes("filling a file with zeros", bytes);
        let zeros = vec![0_u8; CHUNK_BYTES];
        let fill = Error::io("fill a file with zeros in", dir);
        let filled = (|| {
            file.allocate(bytes)?;
            for offset in (0..bytes).step_by(CHUNK_BYTES) {
                let count = (bytes - offset).min(CHUNK_BYTES as u64) as usize;
                file.write_at(&zeros[..count], offset)?;
                phase.reach(offset);
                if progress::check_stopped().is_err() {
                    break;
                }
            }
            file.sync()?;
            disk.sync_dir()
        })();
        filled.map_err(fill)?;
        progress::check_stopped()?;
        Ok(RawFile { file, bytes, dir: dir.to_path_buf() })
    }

    /// Writes for `length` and tells how fast that went.
    ///
    /// # Errors
    /// [`Error::MethodUnsupported`] where the file system cannot do it.
    pub(crate) fn measure(&self, way: Way, length: Duration) -> Result<Limit> {
        let writer = self.file.writer(way.method).map_err(|source| match source.kind() {
            std::io::ErrorKind::Unsupported => {
                Error::MethodUnsupported { method: way.method, dir: self.dir.clone() }
            }
            _ => Error::io("open a file for writing in", &self.dir)(source),
        })?;
        let round = Round {
            writer: &*writer,
            way,
            slots: (self.bytes / way.block_bytes).max(u64::from(way.in_flight)),
            next: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        let began = Instant::now();
        let tallies = thread::scope(|scope| {
            let writers: Vec<_> = (0..way.in_flight).map(|_| scope.spawn(|| round.write())).collect();
            while began.elapsed() < length && progress::check_stopped().is_ok() {
                thread::sleep((length.saturating_sub(began.elapsed())).min(Duration::from_millis(50)));
            }
            round.over.store(true, Ordering::Relaxed);
            writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer does not panic: it returns its error"))
                .collect::<std::io::Result<Vec<Latency>>>()
        });
        let elapsed = began.elapsed();
        progress::check_stopped()?;
        let mut latency = Latency::fine();
        for tally in tallies.map_err(Error::io("write in", &self.dir))? {
            latency.add(&tally);
        }
        let syncs_per_s = latency.len() as f64 / elapsed.as_secs_f64();
        Ok(Limit {
            way,
            syncs_per_s,
            mb_per_s: syncs_per_s * way.block_bytes as f64 / 1e6,
            latency_us: latency.summary(),
        })
    }
}

/// One measurement: writers take the slots of the file in turn.
struct Round<'a> {
    writer: &'a dyn DurableWriter,
    way: Way,
    slots: u64,
    next: AtomicU64,
    over: AtomicBool,
}

impl Round<'_> {
    fn write(&self) -> std::io::Result<Latency> {
        let mut latency = Latency::fine();
        let blocks = Blocks::random(self.way.block_bytes as usize);
        // One write at least, also where the thread comes to run when it is over.
        loop {
            let slot = self.next.fetch_add(1, Ordering::Relaxed) % self.slots;
            let began = Instant::now();
            self.writer.write_durable(blocks.bytes(), slot * self.way.block_bytes)?;
            latency.record(began.elapsed());
            if self.over.load(Ordering::Relaxed) {
                return Ok(latency);
            }
        }
    }
}

/// Bytes at an address that direct writes accept.
struct Blocks {
    memory: Vec<u8>,
    start: usize,
    count: usize,
}

impl Blocks {
    fn random(count: usize) -> Blocks {
        let memory = random_bytes(count + BLOCK_BYTES);
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "an aligned address is at most one block away");
        Blocks { memory, start, count }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.count]
    }
}

/// For serde: a method by its name.
pub(crate) fn by_name<S: serde::Serializer>(method: &WriteMethod, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(method)
}
