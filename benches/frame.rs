//! Frames alone: how fast one is written, and how fast a segment of them is walked with its checksums.

use std::hint::black_box;

use annals::format::{
    BLOCK_BYTES, Digest, Frames, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, Incarnation, SegmentHeader,
    Stamp, Walk, footer_bytes_for, frame_bytes, scan_tail, write_batch, write_record,
};
use annals::{Epoch, LogId, Lsn, SegmentId};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

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

/// A segment full of groups of about 64 KiB, and its header.
fn segment(size: usize) -> (Vec<u8>, SegmentHeader) {
    let header = SegmentHeader {
        log_id: LogId::new(1),
        incarnation: Incarnation::new(2),
        segment_id: SegmentId::FIRST,
        first_lsn: Lsn::FIRST,
        epoch: Epoch::FIRST,
        previous_digest: Digest::ZERO,
        segment_bytes: SEGMENT_BYTES,
        footer_bytes: footer_bytes_for(SEGMENT_BYTES),
    };
    let mut bytes = vec![0; SEGMENT_BYTES as usize];
    header.encode_into(&mut bytes);
    let (mut at, mut next) = (BLOCK_BYTES, Lsn::FIRST);
    let payload = vec![0x5A; size];
    while at + (128 << 10) < header.data_end() as usize {
        let mut frames = Vec::new();
        while frames.len() < 64 << 10 {
            let mut frame = vec![0; frame_bytes(size as u64) as usize];
            write_record(&mut frame, Stamp { lsn: next, epoch: Epoch::FIRST }, &payload);
            frames.extend(frame);
            next = next.next();
        }
        let place = GroupPlace { incarnation: header.incarnation, position: at as u64 };
        GroupHeader::over(&frames, place, Lsn::ZERO).encode_into(&mut bytes[at..]);
        bytes[at + GROUP_HEADER_BYTES..][..frames.len()].copy_from_slice(&frames);
        at = (at + GROUP_HEADER_BYTES + frames.len()).next_multiple_of(BLOCK_BYTES);
    }
    (bytes, header)
}

fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/walk");
    for size in SIZES {
        let (bytes, header) = segment(size);
        let end = scan_tail(&bytes, &header, Lsn::ZERO).end as usize;
        group.throughput(Throughput::Bytes(end as u64));
        group.bench_function(BenchmarkId::new("verified", size), |bench| {
            bench.iter(|| {
                Frames::new(&bytes[..end], Walk::from_start(header.incarnation)).filter(Result::is_ok).count()
            });
        });
    }
    let (bytes, header) = segment(256);
    group.throughput(Throughput::Bytes(SEGMENT_BYTES));
    group.bench_function("scan_tail/256", |bench| {
        bench.iter(|| scan_tail(&bytes, &header, Lsn::ZERO).last_lsn)
    });
    group.finish();
}

criterion_group!(benches, encode, walk);
criterion_main!(benches);
