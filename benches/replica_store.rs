//! What a replica's store takes and gives on the disk of the build directory, beside the log of one node there.
//!
//! The frames of a group are made outside of the time that is measured, as they come from somewhere else in a replica; the
//! log makes them within.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annals::disk::{Disk, RealDisk};
use annals::node::{Prepared, ReplicaStore, StoreOptions, frame_group};
use annals::protocol::{Base, Content, Group, Member, Membership, Quorums, Voter};
use annals::{DiskId, Epoch, Log, LogOptions, Lsn, LsnRange, ReplicaId};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const RECORD_BYTES: usize = 1024;

struct Bench {
    store: ReplicaStore,
    preparing: Option<JoinHandle<Prepared>>,
    last: u64,
    _dir: tempfile::TempDir,
}

fn directory() -> tempfile::TempDir {
    let builder = tempfile::Builder::new().prefix("replica-store").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    builder.expect("a disk to measure on")
}

impl Bench {
    fn new() -> Bench {
        let dir = directory();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::create(dir.path()).expect("a disk to measure on"));
        let me = Member { id: ReplicaId::new(1), disk: DiskId::new(77) };
        let voter = Voter { member: me, priority: 0 };
        let membership = Some(Arc::new(Membership::first(vec![voter], Quorums::Majority)));
        let base = Base { membership, ..Base::default() };
        ReplicaStore::create(&*disk, me, &base).expect("a disk to measure on");
        let (store, _) = ReplicaStore::open(&disk, StoreOptions::default()).expect("a disk to measure on");
        Bench { store: store.expect("it was made"), preparing: None, last: 0, _dir: dir }
    }

    fn group(&mut self, bytes: usize) -> (Group, Bytes) {
        let records = vec![[0x5A; RECORD_BYTES]; bytes.div_ceil(RECORD_BYTES)];
        let last = self.last + records.len() as u64;
        let range = LsnRange { first: Lsn::new(self.last + 1), last: Lsn::new(last) };
        let group = Group { epoch: Epoch::FIRST, range, bytes: 0, content: Content::PLAIN };
        let frames = Bytes::from(frame_group(&group, &records));
        self.last = last;
        (Group { bytes: frames.len() as u64, ..group }, frames)
    }

    fn write(&mut self, bytes: usize, iterations: u64) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            let group = self.group(bytes);
            let begun = Instant::now();
            self.store.write_all([group]).expect("a disk to measure on");
            total += begun.elapsed();
            self.prepare();
        }
        total
    }

    /// On a thread of its own, as in a node.
    fn prepare(&mut self) {
        if let Some(preparing) = self.preparing.take_if(|preparing| preparing.is_finished()) {
            let prepared = preparing.join().expect("it does not panic");
            self.store.prepared(prepared).expect("a disk to measure on");
        }
        if let Some(preparation) = self.store.prepare() {
            self.preparing = Some(std::thread::spawn(move || preparation.run()));
        }
    }
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replica_store/write");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for bytes in [1 << 10, 64 << 10, 256 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut bench = Bench::new();
        group.bench_function(BenchmarkId::new("store", bytes), |bencher| {
            bencher.iter_custom(|iterations| bench.write(bytes, iterations));
        });
        drop(bench);
        let dir = directory();
        let log: Log =
            LogOptions::new(dir.path().join("log")).segment_bytes(64 << 20).open().expect("a disk");
        let records = vec![[0x5A; RECORD_BYTES]; bytes / RECORD_BYTES];
        group.bench_function(BenchmarkId::new("log", bytes), |bencher| {
            bencher.iter(|| log.append_batch(&records).and_then(annals::Ticket::wait).expect("a disk"));
        });
        log.close().expect("a disk to measure on");
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replica_store/read_log");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let mut bench = Bench::new();
    for _ in 0..256 {
        let group = bench.group(512 << 10);
        bench.store.write_all([group]).expect("a disk to measure on");
    }
    let reader = bench.store.reader();
    let last = reader.last().get();
    for (name, first) in [("cached", last - (16 << 10)), ("pages", 1)] {
        let through = first + (16 << 10);
        group.throughput(Throughput::Bytes(16 << 20));
        group.bench_function(BenchmarkId::new("1MiB", name), |bencher| {
            bencher.iter(|| {
                let mut next = Lsn::new(first);
                while next.get() < through {
                    let (read, _) = reader.read_log(next, 1 << 20).expect("a disk").expect("it is there");
                    next = read.range.last.next();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, write, read);
criterion_main!(benches);
