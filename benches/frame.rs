//! Frames alone: how fast one is written, and how fast a segment of them is walked with its checksums.

use std::hint::black_box;

use annals::format::{Frames, Stamp, Walk, frame_bytes, scan_tail, write_batch, write_record};
use annals::{Epoch, Lsn};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use segment::filled;

#[path = "support/segment.rs"]
mod segment;

const SIZES: [usize; 4] = [64, 256, 1024, 4096];
const SEGMENT_BYTES: u64 = 8 << 20;

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/encode");
    for size in SIZES {
        let payload = vec![0x5A; size];
        let mut frame = vec![0; frame_bytes(size as u64) as usize];
        let stamp = Stamp { lsn: Lsn::FIRST, epoch: Epoch::FIRST };
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("record", size), |bench| {
            bench.iter(|| write_record(black_box(&mut frame), stamp, black_box(&payload)));
        });
    }
    let records = vec![vec![0x5A; 1024]; 64];
    let payload = annals::format::batch_payload_bytes(64, 64 * 1024);
    let mut frame = vec![0; frame_bytes(payload) as usize];
    group.throughput(Throughput::Bytes(64 * 1024));
    group.bench_function("batch/64x1024", |bench| {
        let stamp = Stamp { lsn: Lsn::FIRST, epoch: Epoch::FIRST };
        bench.iter(|| write_batch(black_box(&mut frame), stamp, black_box(&records)));
    });
    group.finish();
}

fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/walk");
    for size in SIZES {
        let (bytes, header) = filled(SEGMENT_BYTES, size);
        let end = scan_tail(&bytes, &header, Lsn::ZERO).end as usize;
        group.throughput(Throughput::Bytes(end as u64));
        group.bench_function(BenchmarkId::new("verified", size), |bench| {
            bench.iter(|| {
                Frames::new(&bytes[..end], Walk::from_start(header.incarnation)).filter(Result::is_ok).count()
            });
        });
    }
    let (bytes, header) = filled(SEGMENT_BYTES, 256);
    group.throughput(Throughput::Bytes(SEGMENT_BYTES));
    group.bench_function("scan_tail/256", |bench| {
        bench.iter(|| scan_tail(&bytes, &header, Lsn::ZERO).last_lsn)
    });
    group.finish();
}

criterion_group!(benches, encode, walk);
criterion_main!(benches);
