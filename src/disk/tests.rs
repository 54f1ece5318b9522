//! The promises of the seam, kept by whichever disk is behind it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use memmap2::MmapMut;

use super::sim::SimDisk;
use super::*;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Runs `promise` on a simulated disk, on one of the temporary directory, and on one in memory.
fn on_every_disk(promise: impl Fn(&dyn Disk)) {
    promise(&SimDisk::new(1));
    let dir = tempfile::tempdir().unwrap();
    promise(&RealDisk::open(dir.path()).unwrap());
    match tempfile::tempdir_in("/dev/shm") {
        Ok(dir) => promise(&RealDisk::open(dir.path()).unwrap()),
        Err(error) => eprintln!("skipped in memory: {error}"),
    }
}

/// All that a file holds.
fn content(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; file.bytes().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// `count` aligned blocks, all bytes of which are `byte`.
pub(super) fn blocks(count: usize, byte: u8) -> MmapMut {
    let mut memory = MmapMut::map_anon(count * BLOCK_BYTES).unwrap();
    memory.fill(byte);
    memory
}

/// A new file of so many blocks of real zeros, synced.
fn zeroed(disk: &dyn Disk, name: &str, count: usize) -> Arc<dyn File> {
    let file = disk.create(name).unwrap();
    file.allocate((count * BLOCK_BYTES) as u64).unwrap();
    file.write_at(&blocks(count, 0), 0).unwrap();
    file.sync().unwrap();
    file
}

fn writers(file: &dyn File) -> Vec<(WriteMethod, Box<dyn DurableWriter>)> {
    let open = |method| match file.writer(method) {
        Ok(writer) => Some((method, writer)),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            eprintln!("{method} does not work here");
            None
        }
    };
    WriteMethod::ALL.into_iter().filter_map(open).collect()
}

fn panics(promise: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(promise)).is_err()
}

#[test]
fn what_was_written_is_read_back_and_reads_end_at_the_end() {
    on_every_disk(|disk| {
        let file = disk.create("a").unwrap();
        file.write_at(b"hello", 10).unwrap();
        assert_eq!(file.bytes().unwrap(), 15);
        let mut buf = [9; 8];
        assert_eq!(file.read_at(&mut buf, 8).unwrap(), 7);
        assert_eq!(&buf, b"\0\0hello\x09");
        assert_eq!(file.read_at(&mut buf, 15).unwrap(), 0);
        assert_eq!(file.read_at(&mut buf, 1000).unwrap(), 0);
        file.sync().unwrap();
        disk.sync_dir().unwrap();
    });
}

#[test]
fn a_file_can_reach_past_four_gigabytes() {
    on_every_disk(|disk| {
        let file = disk.create("a").unwrap();
        file.write_at(b"far", 5 << 30).unwrap();
        let mut buf = [0; 3];
        file.read_at(&mut buf, 5 << 30).unwrap();
        assert_eq!(&buf, b"far");
        let map = file.map().unwrap();
        map.publish((5 << 30) + 3);
        assert_eq!(map.bytes(5 << 30..(5 << 30) + 3), b"far");
    });
}

#[test]
fn names_are_created_renamed_and_removed() {
    on_every_disk(|disk| {
        disk.create("a").unwrap().write_at(b"1", 0).unwrap();
        disk.create("b").unwrap();
        assert_eq!(disk.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(disk.open("b", Access::Read).unwrap().bytes().unwrap(), 1);
        assert_eq!(disk.open("a", Access::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.rename("a", "c").unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.remove("b").unwrap();
        assert_eq!(disk.remove("b").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(disk.list().unwrap().is_empty());
    });
}

#[test]
fn a_file_has_each_name_that_it_was_given() {
    on_every_disk(|disk| {
        disk.create("one").unwrap().write_at(b"bytes", 0).unwrap();
        disk.link("one", "two").unwrap();
        assert_eq!(disk.link("one", "two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.link("none", "three").unwrap_err().kind(), io::ErrorKind::NotFound);
        // Nothing happens to two names of one file.
        disk.rename("one", "two").unwrap();
        // It is one file, and no copy.
        disk.open("two", Access::ReadWrite).unwrap().write_at(b"B", 0).unwrap();
        assert_eq!(&*content(disk, "one"), b"Bytes");
        disk.create("other").unwrap();
        disk.rename("other", "one").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!((&*content(disk, "one"), &*content(disk, "two")), (&b""[..], &b"Bytes"[..]));
        disk.remove("two").unwrap();
        assert_eq!(disk.list().unwrap(), ["one"]);
    });
}

#[test]
fn a_removed_file_stays_readable_through_what_is_open() {
    on_every_disk(|disk| {
        let file = disk.create("a").unwrap();
        file.write_at(b"kept", 0).unwrap();
        let map = file.map().unwrap();
        map.publish(4);
        disk.remove("a").unwrap();
        disk.sync_dir().unwrap();
        let mut buf = [0; 4];
        file.read_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"kept");
        drop(file);
        assert_eq!(map.bytes(0..4), b"kept");
    });
}

#[test]
fn a_file_opened_for_reading_cannot_be_written() {
    on_every_disk(|disk| {
        disk.create("a").unwrap().write_at(b"1", 0).unwrap();
        let file = disk.open("a", Access::Read).unwrap();
        assert!(file.write_at(b"2", 0).is_err());
        assert!(file.allocate(100).is_err());
        for method in WriteMethod::ALL {
            assert_eq!(file.writer(method).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        let map = file.map().unwrap();
        map.publish(1);
        assert_eq!(map.bytes(0..1), b"1");
    });
}

#[test]
fn allocation_grows_a_file_by_zeros_and_never_shrinks_it() {
    on_every_disk(|disk| {
        let file = disk.create("a").unwrap();
        file.allocate(0).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.allocate(10_000).unwrap();
        file.allocate(5_000).unwrap();
        assert_eq!(file.bytes().unwrap(), 10_000);
        let mut buf = vec![1; 10_000];
        file.read_at(&mut buf, 0).unwrap();
        assert!(buf[0] == b'x' && buf[1..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn zeros_by_the_device_are_zeros_where_there_are_any() {
    on_every_disk(|disk| {
        let file = zeroed(disk, "a", 4);
        file.write_at(&blocks(4, 7), 0).unwrap();
        if file.write_zeroes(4 * BLOCK).unwrap() {
            let mut buf = vec![1; 4 * BLOCK_BYTES];
            assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4 * BLOCK_BYTES);
            assert!(buf.iter().all(|byte| *byte == 0));
        }
    });
}

#[test]
fn every_writer_writes_where_it_is_told_and_the_map_shows_it() {
    on_every_disk(|disk| {
        let file = zeroed(disk, "a", 8);
        let map = file.map().unwrap();
        for (at, (_, writer)) in writers(&*file).iter().enumerate() {
            let (at, byte) = (2 * at as u64 * BLOCK, at as u8 + 1);
            writer.write_durable(&blocks(2, byte), at).unwrap();
            let mut buf = vec![0; 2 * BLOCK_BYTES];
            file.read_at(&mut buf, at).unwrap();
            assert!(buf.iter().all(|read| *read == byte));
            map.publish(at + 2 * BLOCK);
            assert!(map.bytes(at..at + 2 * BLOCK).iter().all(|read| *read == byte));
        }
        assert_eq!(file.bytes().unwrap(), 8 * BLOCK);
    });
}

#[test]
fn writes_by_one_writer_may_overlap_in_time() {
    on_every_disk(|disk| {
        let file = zeroed(disk, "a", 64);
        for (_, writer) in writers(&*file) {
            thread::scope(|scope| {
                for lane in 0..4 {
                    let writer = &*writer;
                    scope.spawn(move || {
                        for at in (lane..64).step_by(4) {
                            writer.write_durable(&blocks(1, at as u8), at * BLOCK).unwrap();
                        }
                    });
                }
            });
            for at in 0..64 {
                let mut byte = [0];
                file.read_at(&mut byte, at * BLOCK + 77).unwrap();
                assert_eq!(byte[0], at as u8);
            }
            file.write_at(&blocks(64, 0), 0).unwrap();
            file.sync().unwrap();
        }
    });
}

#[test]
fn what_is_not_whole_blocks_is_refused() {
    on_every_disk(|disk| {
        let file = zeroed(disk, "a", 2);
        let two = blocks(2, 1);
        for (_, writer) in writers(&*file) {
            assert!(panics(|| drop(writer.write_durable(&two[..100], 0))));
            assert!(panics(|| drop(writer.write_durable(&two[..BLOCK_BYTES], 512))));
            assert!(panics(|| drop(writer.write_durable(&two[8..8 + BLOCK_BYTES], 0))));
        }
    });
}

#[test]
fn published_bytes_may_be_repeated_and_never_changed() {
    on_every_disk(|disk| {
        let file = zeroed(disk, "a", 2);
        let map = file.map().unwrap();
        let mut block = blocks(1, 0);
        let writers = writers(&*file);
        let mut end = 0;
        for byte in 1..50 {
            // A packed group repeats what is published of its block.
            block[end..end + 8].fill(byte);
            end += 8;
            writers[usize::from(byte) % writers.len()].1.write_durable(&block, 0).unwrap();
            map.publish(end as u64);
            assert_eq!(map.bytes(0..end as u64), &block[..end]);
        }
        block[3] ^= 1;
        for (_, writer) in &writers {
            assert!(panics(|| drop(writer.write_durable(&block, 0))));
        }
        assert!(panics(|| drop(file.write_at(b"x", 7))));
        assert!(panics(|| assert!(file.write_zeroes(BLOCK).unwrap(), "not supported")));
        drop(map);
        file.write_at(b"x", 7).unwrap();
    });
}

#[test]
fn readers_of_the_map_see_each_write_as_soon_as_it_is_published() {
    on_every_disk(|disk| {
        let file = zeroed(disk, "a", 256);
        for (_, writer) in writers(&*file) {
            let map = file.map().unwrap();
            let written = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut done = false;
                    while !done {
                        done = written.load(Ordering::Acquire);
                        let end = map.published();
                        let read = map.bytes(0..end);
                        for (at, byte) in read.iter().enumerate().rev().step_by(64).take(2000) {
                            assert_eq!(*byte, (at / 64 % 251) as u8 + 1);
                        }
                    }
                });
                let mut block = blocks(1, 0);
                for step in 0..512 {
                    // Eight pieces to a block, so that readers fault in the block being written.
                    let at = step * 512;
                    for piece in (at..at + 512).step_by(64) {
                        block[piece % BLOCK_BYTES..][..64].fill((piece / 64 % 251) as u8 + 1);
                    }
                    writer.write_durable(&block, (at - at % BLOCK_BYTES) as u64).unwrap();
                    map.publish(at as u64 + 512);
                    if (at + 512) % BLOCK_BYTES == 0 {
                        block.fill(0);
                    }
                }
                written.store(true, Ordering::Release);
            });
            drop(map);
            file.write_at(&blocks(256, 0), 0).unwrap();
            file.sync().unwrap();
        }
    });
}

#[test]
fn a_file_is_mapped_once_for_each_length() {
    on_every_disk(|disk| {
        let file = zeroed(disk, "a", 1);
        let map = file.map().unwrap();
        assert!(Arc::ptr_eq(&map, &file.map().unwrap()));
        file.allocate(2 * BLOCK).unwrap();
        let longer = file.map().unwrap();
        assert_eq!((map.mapped(), longer.mapped()), (BLOCK, 2 * BLOCK));
        file.write_at(b"both", 0).unwrap();
        for map in [map, longer] {
            map.advise(Reading::Random);
            map.advise(Reading::Sequential);
            map.publish(4);
            assert_eq!(map.bytes(0..4), b"both");
        }
    });
}

#[test]
fn the_lock_of_a_directory_is_held_once_and_tells_the_owner() {
    on_every_disk(|disk| {
        let own = if disk.simulated() { SimDisk::PID } else { std::process::id() };
        let held = disk.lock("LOCK").unwrap();
        assert!(matches!(held, Lock::Held(_)));
        assert!(matches!(disk.lock("LOCK").unwrap(), Lock::Taken(Some(id)) if id == own));
        drop(held);
        assert!(matches!(disk.lock("LOCK").unwrap(), Lock::Held(_)));
        assert_eq!(disk.list().unwrap(), ["LOCK"]);
    });
}

#[test]
fn who_holds_the_lock_can_be_asked_without_a_trace() {
    on_every_disk(|disk| {
        let own = if disk.simulated() { SimDisk::PID } else { std::process::id() };
        assert_eq!(disk.holder("LOCK").unwrap(), Holder::Nobody);
        assert!(disk.list().unwrap().is_empty());
        let held = disk.lock("LOCK").unwrap();
        for _ in 0..3 {
            assert_eq!(disk.holder("LOCK").unwrap(), Holder::Process(Some(own)));
        }
        assert!(matches!(disk.lock("LOCK").unwrap(), Lock::Taken(_)), "it is still held");
        drop(held);
        assert_eq!(disk.holder("LOCK").unwrap(), Holder::Nobody);
        assert!(matches!(disk.lock("LOCK").unwrap(), Lock::Held(_)));
    });
}

#[test]
fn whoever_asks_for_the_holder_keeps_nobody_from_the_lock() {
    on_every_disk(|disk| {
        drop(disk.lock("LOCK").unwrap());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        disk.holder("LOCK").unwrap();
                    }
                });
            }
            let is_held = (0..2000).all(|_| matches!(disk.lock("LOCK").unwrap(), Lock::Held(_)));
            stop.store(true, Ordering::Relaxed);
            assert!(is_held);
        });
    });
}

#[test]
fn many_readers_lock_a_file_or_one_recycler() {
    on_every_disk(|disk| {
        disk.create("a").unwrap();
        let open = || disk.open("a", Access::Read).unwrap();
        let (one, other, recycler) = (open(), open(), open());
        assert!(one.try_lock(false).unwrap());
        assert!(other.try_lock(false).unwrap());
        assert!(!recycler.try_lock(true).unwrap());
        drop(one);
        assert!(!recycler.try_lock(true).unwrap());
        drop(other);
        assert!(recycler.try_lock(true).unwrap());
        assert!(!open().try_lock(false).unwrap());
    });
}

#[test]
fn a_probe_names_a_method_that_works_and_leaves_nothing() {
    on_every_disk(|disk| {
        let found = probe(disk, Duration::from_millis(1)).unwrap();
        assert!(disk.list().unwrap().is_empty());
        if disk.simulated() {
            assert_eq!(found, ProbeResult { winner: WriteMethod::Direct, measured: Vec::new() });
        } else {
            assert!(found.measured.iter().any(|measured| measured.method == found.winner));
            zeroed(disk, "a", 1).writer(found.winner).unwrap();
        }
    });
}

#[test]
fn entropy_does_not_repeat() {
    on_every_disk(|disk| {
        let mut drawn: Vec<u64> = (0..1000).map(|_| disk.entropy()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 1000);
        assert!(disk.wall_ms() > 1_600_000_000_000);
    });
}
