//! Examining a segment: in memory, against the CRC alone; and from the disk, against reading alone.

use std::sync::Arc;

use annals::disk::{Access, BLOCK_BYTES, Disk, RealDisk};
use annals::examination::{Memory, count};
use annals::format::{
    Digest, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, Incarnation, SegmentHeader, Stamp, crc32,
    footer_bytes_for, frame_bytes, write_record,
};
use annals::{Epoch, LogId, Lsn, SegmentId};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 4] = [64, 256, 4096, 256 << 10];
const SEGMENT_BYTES: u64 = 64 << 20;

/// A segment full of groups of 64 KiB or of one frame, and its header.
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
    while at + (512 << 10) < header.data_end() as usize {
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

fn examine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("examine");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(SEGMENT_BYTES));
    for size in SIZES {
        let (bytes, header) = segment(size);
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
