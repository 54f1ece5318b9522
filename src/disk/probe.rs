//! Which write method is the fastest in a directory.

use std::io;
use std::time::{Duration, Instant};

use memmap2::MmapMut;

use super::{BLOCK_BYTES, Disk, DurableWriter, File};
use crate::types::WriteMethod;

/// The name of the file that a probe writes to; removed at the end, and like every `*.tmp` by the next open.
const NAME: &str = "probe.tmp";
/// How large it is: writes go round in it.
const FILE_BYTES: u64 = 1 << 20;
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

/// How long durable writes by one method took, on average, one at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Measured {
    /// The method.
    pub method: WriteMethod,
    /// Time of a write of 4 KiB.
    pub small: Duration,
    /// Time of a write of 64 KiB.
    pub large: Duration,
}

/// Writes to a temporary file by each method, small and large, each for about `moment`, and gives the winner.
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
    file.allocate(FILE_BYTES)?;
    for offset in (0..FILE_BYTES).step_by(LARGE_BYTES) {
        file.write_at(&blocks, offset)?;
    }
    file.sync()?;
    blocks.fill(0xA5);
    let mut measured = Vec::new();
    for method in WriteMethod::ALL {
        match measure(file, method, &blocks, moment) {
            Ok(found) => measured.push(found),
            // The file system may say so at the opening, or no sooner than at the first write.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(measured)
}

fn measure(file: &dyn File, method: WriteMethod, blocks: &[u8], moment: Duration) -> io::Result<Measured> {
    let writer = file.writer(method)?;
    let small = time_of(&*writer, &blocks[..SMALL_BYTES], moment)?;
    let large = time_of(&*writer, &blocks[..LARGE_BYTES], moment)?;
    Ok(Measured { method, small, large })
}

/// The average time of a write, over as many as fit into `moment`.
fn time_of(writer: &dyn DurableWriter, blocks: &[u8], moment: Duration) -> io::Result<Duration> {
    // The first write pays for what later ones find ready.
    writer.write_durable(blocks, 0)?;
    let begun = Instant::now();
    let mut writes = 0;
    let mut offset = 0;
    loop {
        writer.write_durable(blocks, offset)?;
        writes += 1;
        offset = (offset + blocks.len() as u64) % FILE_BYTES;
        let passed = begun.elapsed();
        if passed >= moment {
            return Ok(passed / writes);
        }
    }
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
}
