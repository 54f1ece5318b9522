//! Claim and fill without a disk: the only step that producers share, and the copy and checksum that they do
//! not. The time is for each append over all threads: with two it should be no more than with one.

use std::time::{Duration, Instant};

use annals::bench::Claims;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn run(threads: u64, iterations: u64, size: usize) -> Duration {
    let claims = Claims::new(1 << 20);
    let each = iterations.div_ceil(threads);
    let start = std::sync::Barrier::new(threads as usize + 1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let record = vec![0x5A; size];
                    start.wait();
                    (0..each).for_each(|_| claims.append(std::hint::black_box(&record)));
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        workers.into_iter().for_each(|worker| worker.join().expect("a bench thread"));
        begun.elapsed()
    })
}

fn claim(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claim_and_fill");
    for size in [64, 256, 1024] {
        for threads in [1, 2] {
            let id = BenchmarkId::new(format!("{size}B"), format!("{threads}_threads"));
            group.bench_function(id, |bench| bench.iter_custom(|iterations| run(threads, iterations, size)));
        }
    }
    group.finish();
}

criterion_group!(benches, claim);
criterion_main!(benches);
