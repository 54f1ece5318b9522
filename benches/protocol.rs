//! The protocol's core alone: no disk, no network, no threads.
//!
//! A group step is the whole life of a group on the primary: proposed, written, sent to each backup, synced here,
//! acknowledged by each backup, committed and answered, with every effect polled.

#![allow(clippy::unwrap_used)]

#[path = "../tests/support/quorum.rs"]
mod quorum;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorum::{Backup, Primary};

const IN_FLIGHT: u64 = 16;
/// Producers that each have a record in a group.
const PRODUCERS: u64 = 64;

fn primary(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol/primary");
    for replicas in [3, 5] {
        group.throughput(Throughput::Elements(1));
        for (name, has_producer) in [("group", false), ("group_of_a_producer", true)] {
            let mut primary = Primary::of(replicas, has_producer);
            group.bench_function(BenchmarkId::new(name, replicas), |bench| bench.iter(|| primary.live(1)));
            assert!(primary.has_committed_all());
        }
        let mut primary = Primary::of(replicas, false);
        group.throughput(Throughput::Elements(IN_FLIGHT));
        group.bench_function(BenchmarkId::new("groups_16_in_flight", replicas), |bench| {
            bench.iter(|| primary.live(IN_FLIGHT));
        });
        assert!(primary.has_committed_all());
        let mut primary = Primary::of_many(replicas, PRODUCERS);
        group.throughput(Throughput::Elements(PRODUCERS));
        group.bench_function(BenchmarkId::new("records_of_64_producers", replicas), |bench| {
            bench.iter(|| primary.live_together());
        });
        assert!(primary.has_committed_all());
    }
    group.finish();
}

fn backup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol/backup");
    group.throughput(Throughput::Elements(1));
    let mut backup = Backup::of(3);
    group.bench_function("group", |bench| bench.iter(|| backup.take_group()));
    group.bench_function("heartbeat", |bench| bench.iter(|| backup.take_heartbeat()));
    assert_eq!(backup.refused(), 0);
    group.finish();
}

criterion_group!(benches, primary, backup);
criterion_main!(benches);
