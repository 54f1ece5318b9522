//! Reading what is in the page cache: in order with every checksum verified, and here and there.

use annals::{Log, LogOptions, Lsn};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BYTES: usize = 64 << 20;

fn filled(size: usize) -> (Log, tempfile::TempDir) {
    let dir = tempfile::Builder::new()
        .prefix("read")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("a disk to measure on");
    let log =
        LogOptions::new(dir.path().join("log")).segment_bytes(16 << 20).open().expect("a disk to measure on");
    let record = vec![0x5A; size];
    for _ in 0..BYTES / size {
        drop(log.append(&record).expect("a disk to measure on"));
    }
    log.sync().expect("a disk to measure on");
    (log, dir)
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group.sample_size(20);
    for size in [256, 1024, 16 << 10] {
        let (log, _dir) = filled(size);
        group.throughput(Throughput::Bytes((BYTES / size * size) as u64));
        group.bench_function(BenchmarkId::new("in_order", size), |bench| {
            bench.iter(|| {
                let mut cursor = log.cursor(..).expect("a disk to measure on");
                let mut bytes = 0;
                while let Some(record) = cursor.next().expect("a disk to measure on") {
                    bytes += record.len();
                }
                bytes
            });
        });
        let records = log.last_lsn().get();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("anywhere", size), |bench| {
            let mut lsn = 1;
            bench.iter(|| {
                // A step that is coprime to most counts visits records far from each other.
                lsn = (lsn + 7_919_993) % records;
                log.read(Lsn::new(lsn + 1)).expect("a disk to measure on").len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
