//! Examining a segment: in memory, against the CRC alone; and from the disk, against reading alone.

use std::sync::Arc;

use annals::disk::{Access, Disk, RealDisk};
use annals::examination::{Memory, count};
use annals::format::{crc32, frame_bytes};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use segment::filled;

#[path = "support/segment.rs"]
mod segment;

const SIZES: [usize; 4] = [64, 256, 4096, 256 << 10];
const SEGMENT_BYTES: u64 = 64 << 20;

fn examine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("examine");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(SEGMENT_BYTES));
    for size in SIZES {
        let (bytes, header) = filled(SEGMENT_BYTES, size);
        group.bench_function(BenchmarkId::new("crc_alone", size), |bench| {
            bench.iter(|| {
                bytes.chunks(frame_bytes(size as u64) as usize).fold(0, |sum, frame| sum ^ crc32(frame))
            });
        });
        let memory = Memory { bytes: bytes.clone(), ..Memory::default() };
        group.bench_function(BenchmarkId::new("memory", size), |bench| {
            bench.iter(|| count(&memory, &header).expect("memory has no errors"));
        });
        let dir = tempfile::Builder::new().prefix("examine").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.expect("a disk to measure on");
        std::fs::write(dir.path().join("segment"), &bytes).expect("a disk to measure on");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).expect("a disk to measure on"));
        let file = disk.open("segment", Access::Read).expect("a disk to measure on");
        let mut window = vec![0; 1 << 20];
        group.bench_function(BenchmarkId::new("cached_read_alone", size), |bench| {
            bench.iter(|| {
                for at in (0..SEGMENT_BYTES).step_by(window.len()) {
                    file.read_at(&mut window, at).expect("a disk to measure on");
                }
            });
        });
        group.bench_function(BenchmarkId::new("cached", size), |bench| {
            bench.iter(|| count(&*file, &header).expect("a disk to measure on"));
        });
    }
    group.finish();
}

criterion_group!(benches, examine);
criterion_main!(benches);
