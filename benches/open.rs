//! Opening a log of 64 MiB after a clean close, and after none.

use std::time::{Duration, Instant};

use annals::{Log, LogOptions};
use criterion::{Criterion, criterion_group, criterion_main};

fn options(dir: &tempfile::TempDir) -> LogOptions {
    LogOptions::new(dir.path().join("log")).segment_bytes(16 << 20)
}

fn filled() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("open")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("a disk to measure on");
    let log = options(&dir).open().expect("a disk to measure on");
    let record = vec![0x5A; 4000];
    for _ in 0..(60 << 20) / 4096 {
        drop(log.append(&record).expect("a disk to measure on"));
    }
    log.sync().expect("a disk to measure on");
    log.close().expect("a disk to measure on");
    dir
}

fn timed(dir: &tempfile::TempDir, iterations: u64, before: impl Fn()) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        before();
        let begun = Instant::now();
        let log: Log = options(dir).open().expect("a disk to measure on");
        total += begun.elapsed();
        log.close().expect("a disk to measure on");
    }
    total
}

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    let dir = filled();
    group.bench_function("clean", |bench| bench.iter_custom(|iterations| timed(&dir, iterations, || {})));
    let superblock = dir.path().join("log/superblock");
    group.bench_function("scanned", |bench| {
        bench.iter_custom(|iterations| {
            // Without its newer slot, a superblock is not believed about where the log ends.
            timed(&dir, iterations, || {
                let mut bytes = std::fs::read(&superblock).expect("a disk to measure on");
                let newer = newer_slot(&bytes);
                bytes[newer..newer + 4096].fill(0xFF);
                std::fs::write(&superblock, bytes).expect("a disk to measure on");
            })
        });
    });
    group.finish();
}

/// Where the slot with the higher sequence number begins.
fn newer_slot(bytes: &[u8]) -> usize {
    let chosen = annals::format::choose_slot(bytes).expect("a superblock of ours");
    chosen.superblock.position() as usize
}

criterion_group!(benches, open);
criterion_main!(benches);
