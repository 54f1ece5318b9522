//! Durable appends on the disk of the build directory: the whole sync path. `log-bench` measures the same
//! against the raw disk, which is what a figure of it means.

use std::time::{Duration, Instant};

use annals::{Log, LogOptions};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn open(name: &str) -> (Log, tempfile::TempDir) {
    let dir = tempfile::Builder::new()
        .prefix(name)
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("a disk to measure on");
    let log =
        LogOptions::new(dir.path().join("log")).segment_bytes(64 << 20).open().expect("a disk to measure on");
    (log, dir)
}

fn appends(log: &Log, threads: u64, iterations: u64) -> Duration {
    let each = iterations.div_ceil(threads);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let log = log.clone();
            scope.spawn(move || {
                let record = [0x5A; 256];
                for _ in 0..each {
                    log.append_durable(&record).expect("a disk to measure on");
                }
            });
        }
    });
    begun.elapsed()
}

fn group_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group_commit");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for threads in [1, 8, 64] {
        let (log, _dir) = open("group-commit");
        group.bench_function(BenchmarkId::new("wait_for_each_256B", threads), |bench| {
            bench.iter_custom(|iterations| appends(&log, threads, iterations));
        });
        // A closed log and a removed directory: the next one finds the disk as this one did.
        log.close().expect("a disk to measure on");
    }
    group.finish();
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
