//! Which write method is the fastest in a directory.

use std::io;
use std::time::{Duration, Instant};

use memmap2::MmapMut;

use super::{BLOCK_BYTES, Disk, DurableWriter, File};
use crate::types::WriteMethod;

/// The name of the file that a probe writes to; removed at the end, and like every `*.tmp` by the next open.
const NAME: &str = "probe.tmp";
/// How much of it each method has: writes go round in that. Little, so that a log opens on a disk that is almost full.
const REGION_BYTES: u64 = 256 << 10;
/// How often each method has its turn: what slows the disk down for a while then meets all of them.
const ROUNDS: u32 = 5;
const SMALL_BYTES: usize = BLOCK_BYTES;
const LARGE_BYTES: usize = 16 * BLOCK_BYTES;

/// What a probe of a directory found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeResult {
    /// The method to use.
    pub winner: WriteMethod,
    /// What was measured of the methods that work here; empty on a simulated disk.
    pub measured: Vec<Measured>,
}

/// How long durable writes by one method took, one at a time: the median of the averages of several turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Measured {
    /// The method.
    pub method: WriteMethod,
    /// Time of a write of 4 KiB.
    pub small: Duration,
    /// Time of a write of 64 KiB.
    pub large: Duration,
}

/// Writes to a temporary file by each method, small and large, each for about `moment`, and gives the winner. The methods take
/// turns, so that a machine that is busy now and then does not choose.
///
/// Methods that do not work here are left out. A later method of [`WriteMethod::ALL`] must be faster by a
/// tenth to win over an earlier one, so that noise does not choose. On a simulated disk the winner is always
/// [`WriteMethod::Direct`], and nothing is written.
///
/// # Errors
/// Whatever the operating system says about creating, filling and removing the file, and `Unsupported` if no
/// method works.
pub fn probe(disk: &dyn Disk, moment: Duration) -> io::Result<ProbeResult> {
    if disk.simulated() {
        return Ok(ProbeResult { winner: WriteMethod::Direct, measured: Vec::new() });
    }
    match disk.remove(NAME) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(NAME)?;
    let measured = measure_all(&*file, moment);
    // The name need not be gone durably: the next open would remove it.
    disk.remove(NAME)?;
    let measured = measured?;
    match fastest(&measured) {
        Some(winner) => Ok(ProbeResult { winner, measured }),
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn fastest(measured: &[Measured]) -> Option<WriteMethod> {
    let (mut best, rest) = measured.split_first()?;
    for other in rest {
        if other.score() < best.score() * 0.9 {
            best = other;
        }
    }
    Some(best.method)
}

impl Measured {
    /// Small and large count alike: the geometric mean of both times, in seconds.
    fn score(&self) -> f64 {
        (self.small.as_secs_f64() * self.large.as_secs_f64()).sqrt()
    }
}

fn measure_all(file: &dyn File, moment: Duration) -> io::Result<Vec<Measured>> {
    // Anonymous memory begins at a page's address, as direct writes need it.
    let mut blocks = MmapMut::map_anon(LARGE_BYTES)?;
    let bytes = REGION_BYTES * WriteMethod::ALL.len() as u64;
    file.allocate(bytes)?;
    for offset in (0..bytes).step_by(LARGE_BYTES) {
        file.write_at(&blocks, offset)?;
    }
    file.sync()?;
    blocks.fill(0xA5);
    let mut contenders = Vec::new();
    for (method, region) in WriteMethod::ALL.into_iter().zip(0..) {
        match Contender::enter(file, method, region * REGION_BYTES, &blocks) {
            Ok(contender) => contenders.push(contender),
            // The file system may say so at the opening, or no sooner than at the first write.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {}
            Err(error) => return Err(error),
        }
    }
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            contender.run(&blocks, moment / ROUNDS)?;
        }
    }
    Ok(contenders.into_iter().map(Contender::measured).collect())
}

/// A method while it is measured. Each has a region of its own, so that none evicts what another has cached.
struct Contender {
    method: WriteMethod,
    writer: Box<dyn DurableWriter>,
    region: u64,
    small: Vec<Duration>,
    large: Vec<Duration>,
}

impl Contender {
    fn enter(file: &dyn File, method: WriteMethod, region: u64, blocks: &[u8]) -> io::Result<Contender> {
        let writer = file.writer(method)?;
        // The first write pays for what later ones find ready.
        writer.write_durable(blocks, region)?;
        Ok(Contender { method, writer, region, small: Vec::new(), large: Vec::new() })
    }

    fn run(&mut self, blocks: &[u8], moment: Duration) -> io::Result<()> {
        self.small.push(self.time_of(&blocks[..SMALL_BYTES], moment)?);
        self.large.push(self.time_of(&blocks[..LARGE_BYTES], moment)?);
        Ok(())
    }

    /// The average time of a write, over as many as fit into `moment`.
    fn time_of(&self, blocks: &[u8], moment: Duration) -> io::Result<Duration> {
        let begun = Instant::now();
        let mut writes = 0;
        let mut offset = 0;
        loop {
            self.writer.write_durable(blocks, self.region + offset)?;
            writes += 1;
            offset = (offset + blocks.len() as u64) % REGION_BYTES;
            let passed = begun.elapsed();
            if passed >= moment {
                return Ok(passed / writes);
            }
        }
    }

    fn measured(self) -> Measured {
        Measured { method: self.method, small: median(self.small), large: median(self.large) }
    }
}

/// What half of the tries were faster than: so a moment in which somebody else had the machine does not count.
fn median(mut tries: Vec<Duration>) -> Duration {
    tries.sort_unstable();
    tries.get(tries.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(method: WriteMethod, small_us: u64, large_us: u64) -> Measured {
        let (small, large) = (Duration::from_micros(small_us), Duration::from_micros(large_us));
        Measured { method, small, large }
    }

    #[test]
    fn the_fastest_method_wins_and_noise_does_not() {
        let direct = measured(WriteMethod::Direct, 100, 200);
        let a_little_faster = measured(WriteMethod::Buffered, 95, 190);
        let much_faster = measured(WriteMethod::Mapped, 50, 100);
        assert_eq!(fastest(&[direct, a_little_faster]), Some(WriteMethod::Direct));
        assert_eq!(fastest(&[direct, a_little_faster, much_faster]), Some(WriteMethod::Mapped));
        assert_eq!(fastest(&[a_little_faster, direct]), Some(WriteMethod::Buffered));
        assert_eq!(fastest(&[]), None);
    }

    #[test]
    fn a_try_that_somebody_has_disturbed_does_not_count() {
        let tries = [90, 9000, 110, 100, 5000].map(Duration::from_micros);
        assert_eq!(median(tries.to_vec()), Duration::from_micros(110));
    }
}
