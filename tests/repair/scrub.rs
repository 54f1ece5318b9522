//! Every sealed segment is looked through, and nothing that a writer does meanwhile is called damage.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::repair::{Cause, Scrubbed, Silent, Stretch, StretchKind, Watch, scrub};
use annals::{Error, Log, LogOptions, Lsn, LsnRange, Result, ZeroFill};

fn open(disk: &SimDisk) -> Log {
    let options = LogOptions::new("simulated").segment_bytes(64 << 10).zero_fill(ZeroFill::Never);
    options.open_with(Arc::new(disk.clone())).unwrap()
}

fn lsn(number: u64) -> Lsn {
    Lsn::new(number)
}

/// The records 1 to `count` of 3000 bytes each, about twenty to a segment, all segments but the newest sealed.
fn written(count: u64) -> (SimDisk, Log) {
    let disk = SimDisk::new(1);
    let log = open(&disk);
    for number in 1..=count {
        log.append_durable(&[number as u8; 3000]).unwrap();
    }
    // Closing gives every segment its seal and its name; housekeeping does so some time.
    log.close().unwrap();
    let log = open(&disk);
    (disk, log)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.as_bytes()[0].is_ascii_digit());
    names.sort();
    names
}

fn scrubbed(disk: &SimDisk, watch: &dyn Watch) -> Result<(Scrubbed, Vec<Stretch>)> {
    let mut found = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let scrubbed = scrub(&disk, None, &mut |stretch| found.push(stretch.clone()), watch)?;
    assert_eq!(scrubbed.damaged, found.len() as u64);
    Ok((scrubbed, found))
}

#[test]
fn a_flipped_bit_is_told_with_its_record_and_the_newest_segment_is_left_alone() {
    let (disk, log) = written(60);
    let (whole, found) = scrubbed(&disk, &Silent).unwrap();
    assert_eq!(found, []);
    let names = segments(&disk);
    assert_eq!((names.len(), whole.segments), (4, 3), "{names:?}");
    assert!(whole.bytes > whole.segments * 40_000);
    let payload = |record: u8| {
        let place = |name: &String| {
            disk.contents(name).windows(64).position(|window| window == [record; 64]).map(|at| at as u64)
        };
        names.iter().find_map(|name| place(name).map(|at| (name, at))).unwrap()
    };
    for record in [3, 60] {
        let (name, at) = payload(record);
        disk.flip_bit(name, at + 100, 5);
    }
    let (_, found) = scrubbed(&disk, &Silent).unwrap();
    let [stretch] = &found[..] else { panic!("{found:?}") };
    assert_eq!((stretch.kind, &*stretch.file), (StretchKind::Rot, &*names[0]));
    assert_eq!(stretch.lsns, LsnRange::new(lsn(3), lsn(3)));
    log.trim(lsn(60)).unwrap();
    assert_eq!(scrubbed(&disk, &Silent).unwrap().1, [], "trimmed");
}

#[test]
fn damaged_headers_and_footers_are_told() {
    let (disk, log) = written(100);
    log.close().unwrap();
    let names = segments(&disk);
    disk.flip_bit(&names[0], 44, 0);
    disk.flip_bit(&names[1], (64 << 10) - 4096 + 20, 0);
    let (_, found) = scrubbed(&disk, &Silent).unwrap();
    let seen: Vec<_> = found.iter().map(|stretch| (&*stretch.file, stretch.cause)).collect();
    assert_eq!(seen, [(&*names[0], Cause::Header), (&*names[1], Cause::Footer)]);
}

/// Changes the log when so many bytes were read.
struct Meddler<'a> {
    log: &'a Log,
    read: AtomicU64,
    at: u64,
}

impl Watch for Meddler<'_> {
    fn begin(&self, _bytes: u64) {}

    fn advance(&self, bytes: u64) {
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        if (before..before + bytes.max(1)).contains(&self.at) {
            self.log.trim(lsn(30)).unwrap();
            self.log.truncate(lsn(70)).unwrap();
            for _ in 0..80 {
                self.log.append_durable(&[8; 3000]).unwrap();
            }
        }
    }
}

#[test]
fn what_a_writer_does_meanwhile_is_no_damage() {
    for step in 0..40 {
        let (disk, log) = written(100);
        let meddler = Meddler { log: &log, read: AtomicU64::new(0), at: step * 7000 };
        assert_eq!(scrubbed(&disk, &meddler).unwrap().1, [], "changed at step {step}");
    }
}

#[test]
fn it_ends_when_it_is_given_up_and_where_there_is_no_log() {
    struct Over;
    impl Watch for Over {
        fn begin(&self, _bytes: u64) {}
        fn advance(&self, _bytes: u64) {}
        fn is_given_up(&self) -> bool {
            true
        }
    }
    let (disk, _log) = written(60);
    assert!(matches!(scrubbed(&disk, &Over), Err(Error::TimedOut)));
    assert!(matches!(scrubbed(&SimDisk::new(2), &Silent), Err(Error::NotALog)));
}
