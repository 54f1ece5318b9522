//! Records that a repair has given up: told to whoever asks for them, never skipped, never used again.

use std::collections::BTreeMap;
use std::sync::Arc;

use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::format::{Footer, SegmentHeader};
use annals::{Cursor, Error, Log, Lsn, ReadOnlyLog, Result};

use crate::support::mender::give_up;
use crate::support::seeds::{Cases, Chance};
use crate::support::small::options;

fn open(disk: &SimDisk) -> Log {
    options().open_with(Arc::new(disk.clone())).unwrap()
}

fn behold(disk: &SimDisk) -> ReadOnlyLog {
    options().open_read_only_with(Arc::new(disk.clone())).unwrap()
}

fn lsn(number: u64) -> Lsn {
    Lsn::new(number)
}

/// The records 1 to `count` of 3000 bytes each: about sixteen to a segment.
fn written(count: u64) -> SimDisk {
    let disk = SimDisk::new(1);
    let log = open(&disk);
    for number in 1..=count {
        assert_eq!(log.append_durable(&[number as u8; 3000]).unwrap().lsn(), lsn(number));
    }
    log.close().unwrap();
    disk
}

/// What a cursor shows: a record's LSN, or the records of a gap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Item {
    Record(u64),
    Lost(u64, u64),
}
use Item::{Lost, Record};

fn item(read: Result<Option<(Lsn, Vec<u8>)>>) -> Option<Item> {
    match read {
        Ok(Some((lsn, bytes))) => {
            assert!(bytes.len() == 3000 && bytes.iter().all(|byte| *byte == lsn.get() as u8), "{lsn}");
            Some(Record(lsn.get()))
        }
        Ok(None) => None,
        Err(Error::Lost { first, last }) => Some(Lost(first.get(), last.get())),
        Err(error) => panic!("{error}"),
    }
}

fn items(cursor: &mut Cursor) -> Vec<Item> {
    let mut next = || {
        let read = cursor.next();
        item(read.map(|record| record.map(|record| (record.lsn(), record.to_vec()))))
    };
    std::iter::from_fn(&mut next).collect()
}

/// What a log with the records 1 to `last` shows, of which those of some ranges are lost.
fn expected(last: u64, gaps: &[(u64, u64)]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut next = 1;
    for &(first, until) in gaps {
        items.extend((next..first).map(Record));
        items.push(Lost(first, until));
        next = until + 1;
    }
    items.extend((next..=last).map(Record));
    items
}

fn lost_range(error: Error) -> (u64, u64) {
    match error {
        Error::Lost { first, last } => (first.get(), last.get()),
        error => panic!("{error}"),
    }
}

#[test]
fn a_lost_record_is_told_with_all_of_its_gap_wherever_one_asks() {
    let disk = written(60);
    // Within a segment in several frames, over three segments, and at the end.
    let gaps = [(2, 9), (14, 40), (58, 60)];
    give_up(&disk, |lsn| gaps.iter().any(|(first, last)| (*first..=*last).contains(&lsn)));
    let log = open(&disk);
    let reader = behold(&disk);
    for number in 1..=60 {
        let gap = gaps.into_iter().find(|(first, last)| (*first..=*last).contains(&number));
        for read in [log.read(lsn(number)), reader.read(lsn(number))] {
            match gap {
                Some(gap) => assert_eq!(lost_range(read.unwrap_err()), gap, "{number}"),
                None => assert_eq!(&*read.unwrap(), &[number as u8; 3000]),
            }
        }
    }
    assert_eq!(log.last_lsn(), lsn(60));
}

#[test]
fn a_cursor_tells_a_gap_once_and_goes_on_after_it() {
    let disk = written(60);
    let gaps = [(1, 3), (14, 40), (45, 45), (60, 60)];
    give_up(&disk, |lsn| gaps.iter().any(|(first, last)| (*first..=*last).contains(&lsn)));
    let all = expected(60, &gaps);
    assert_eq!(items(&mut behold(&disk).cursor(..).unwrap()), all);
    let log = open(&disk);
    assert_eq!(items(&mut log.cursor(..).unwrap()), all);
    let mut iterated = log.cursor(..).unwrap().records();
    let from_iterator = std::iter::from_fn(|| {
        let read = iterated.next()?;
        item(read.map(|record| Some((record.lsn(), record.to_vec()))))
    });
    assert_eq!(from_iterator.collect::<Vec<_>>(), all, "an iterator goes on too");
    let collected: Result<Vec<_>> = log.cursor(..).unwrap().records().collect();
    assert_eq!(lost_range(collected.unwrap_err()), (1, 3), "whoever collects is told");
    let mut inside = log.cursor(lsn(20)..lsn(42)).unwrap();
    assert_eq!(items(&mut inside), [Lost(14, 40), Record(41)], "from inside a gap: all of it");
    let mut within = log.cursor(lsn(20)..lsn(30)).unwrap();
    assert_eq!(items(&mut within), [Lost(14, 40)]);
    assert_eq!(within.next_lsn(), lsn(41));
    let mut tail = log.tail(lsn(59)).unwrap();
    assert_eq!(tail.next().unwrap().lsn(), lsn(59));
    assert_eq!(lost_range(tail.next().unwrap_err()), (60, 60));
    assert!(tail.try_next().unwrap().is_none());
    log.append_durable(&[61; 3000]).unwrap();
    assert_eq!(tail.next().unwrap().lsn(), lsn(61));
}

#[test]
fn a_log_with_gaps_goes_on_seals_and_opens_again_with_each_kind_of_end() {
    let mut disk = written(40);
    give_up(&disk, |lsn| (30..=40).contains(&lsn));
    for killed in [false, true, false] {
        let log = open(&disk);
        let before = log.last_lsn().get();
        for number in before + 1..before + 30 {
            assert_eq!(log.append_durable(&[number as u8; 3000]).unwrap().lsn(), lsn(number));
        }
        let reader = behold(&disk);
        let shown = items(&mut reader.cursor(..).unwrap());
        assert_eq!(shown, expected(reader.last_lsn().get(), &[(30, 40)]));
        assert_eq!(items(&mut log.cursor(..).unwrap()), expected(before + 29, &[(30, 40)]));
        if killed {
            disk = disk.crash(CrashPolicy::LOSE_ALL);
        } else {
            log.close().unwrap();
        }
    }
}

#[test]
fn a_reader_beside_a_writer_follows_a_log_with_gaps_into_new_segments() {
    let disk = written(40);
    give_up(&disk, |lsn| (30..=40).contains(&lsn));
    let log = open(&disk);
    let reader = behold(&disk);
    let mut cursor = reader.cursor(..).unwrap();
    assert_eq!(items(&mut cursor), expected(40, &[(30, 40)]));
    for number in 41..=80 {
        log.append_durable(&[number as u8; 3000]).unwrap();
    }
    while reader.refresh().unwrap() < lsn(80) {
        std::thread::yield_now();
    }
    assert_eq!(items(&mut cursor), (41..=80).map(Record).collect::<Vec<_>>());
    assert_eq!(items(&mut reader.cursor(..).unwrap()), expected(80, &[(30, 40)]));
}

#[test]
fn a_lost_footer_of_a_segment_with_gaps_is_rebuilt_with_the_digest_that_is_stated() {
    let disk = written(40);
    give_up(&disk, |lsn| (3..=20).contains(&lsn));
    let first = "00000000000000000001.seg";
    let stored = disk.contents(first);
    let header = SegmentHeader::decode(&stored).unwrap();
    let footer = Footer::decode(&stored[stored.len() - 4096..]).unwrap();
    let space = vec![0; (header.segment_bytes - header.data_end()) as usize];
    disk.overwrite(first, header.data_end(), &space);
    let shown = items(&mut behold(&disk).cursor(..).unwrap());
    assert_eq!(shown, expected(40, &[(3, 20)]));
    open(&disk).close().unwrap();
    let stored = disk.contents(first);
    let again = Footer::decode(&stored[stored.len() - 4096..]).unwrap();
    assert_eq!((again.digest, again.last_lsn, again.end), (footer.digest, footer.last_lsn, footer.end));
    assert_eq!(items(&mut open(&disk).cursor(..).unwrap()), shown);
}

#[test]
fn a_truncation_cuts_beside_a_gap_and_not_inside_one_of_its_frames() {
    for after in 1..=40 {
        let disk = written(40);
        give_up(&disk, |lsn| (5..=30).contains(&lsn));
        let log = open(&disk);
        let gap = match log.truncate(lsn(after)) {
            Ok(()) => vec![(5, 30.min(after))],
            Err(error) => {
                let (first, last) = lost_range(error);
                assert!((5..=30).contains(&after) && first <= after && after < last, "{after}");
                assert!((5..=30).contains(&first) && (5..=30).contains(&last));
                log.truncate(lsn(first - 1)).unwrap();
                vec![(5, first - 1)]
            }
        };
        let gap: Vec<_> = gap.into_iter().filter(|(first, last)| first <= last).collect();
        let last = log.last_lsn().get();
        assert_eq!(items(&mut log.cursor(..).unwrap()), expected(last, &gap), "after {after}");
        log.append_durable(&[last as u8 + 1; 3000]).unwrap();
        log.close().unwrap();
        assert_eq!(items(&mut open(&disk).cursor(..).unwrap()), expected(last + 1, &gap), "after {after}");
    }
}

#[test]
fn a_trim_may_begin_the_log_inside_a_gap_and_what_is_trimmed_is_not_called_lost() {
    let disk = written(60);
    give_up(&disk, |lsn| (10..=45).contains(&lsn));
    let log = open(&disk);
    log.trim(lsn(30)).unwrap();
    assert!(matches!(log.read(lsn(29)), Err(Error::Trimmed { .. })));
    assert_eq!(lost_range(log.read(lsn(44)).unwrap_err()), (30, 45));
    let mut shown = vec![Lost(30, 45)];
    shown.extend((46..=60).map(Record));
    assert_eq!(items(&mut log.cursor(..).unwrap()), shown);
    log.close().unwrap();
    let log = open(&disk);
    assert_eq!(items(&mut log.cursor(..).unwrap()), shown);
    log.trim(lsn(46)).unwrap();
    assert_eq!(items(&mut log.cursor(..).unwrap()), shown[1..]);
}

#[test]
fn retention_takes_segments_of_gaps_like_any_other() {
    let disk = written(60);
    give_up(&disk, |lsn| (2..=45).contains(&lsn));
    let retaining = options().retain_bytes(128 << 10);
    let log = retaining.open_with(Arc::new(disk.clone())).unwrap();
    // A roll has retention looked at; housekeeping also does it by itself.
    for number in 61..=100 {
        log.append_durable(&[number as u8; 3000]).unwrap();
    }
    while log.first_lsn() <= lsn(45) {
        std::thread::yield_now();
    }
    let first = log.first_lsn().get();
    assert!(
        items(&mut log.cursor(..).unwrap()).iter().all(|item| matches!(item, Record(lsn) if *lsn >= first))
    );
}

#[test]
fn a_backup_has_the_same_gaps_and_can_be_gone_on_with() {
    let disk = written(60);
    let gaps = [(2, 9), (14, 40), (58, 60)];
    give_up(&disk, |lsn| gaps.iter().any(|(first, last)| (*first..=*last).contains(&lsn)));
    let log = open(&disk);
    let copy = SimDisk::new(2);
    assert_eq!(log.backup_with(&copy).unwrap(), lsn(60));
    let all = expected(60, &gaps);
    assert_eq!(items(&mut behold(&copy).cursor(..).unwrap()), all);
    let copied = open(&copy);
    assert_eq!(items(&mut copied.cursor(..).unwrap()), all);
    copied.append_durable(&[61; 3000]).unwrap();
    copied.close().unwrap();
    assert_eq!(items(&mut open(&copy).cursor(..).unwrap()), expected(61, &gaps));
}

#[test]
fn segments_with_gaps_are_verified_as_a_whole_once_where_reads_are_not_verified() {
    let disk = written(60);
    give_up(&disk, |lsn| (14..=40).contains(&lsn));
    let log = options().verify_reads(false).open_with(Arc::new(disk)).unwrap();
    assert_eq!(items(&mut log.cursor(..).unwrap()), expected(60, &[(14, 40)]));
    assert_eq!(lost_range(log.read(lsn(20)).unwrap_err()), (14, 40));
}

/// All files, with their contents.
fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list().unwrap().into_iter().filter(|name| name != "LOCK");
    names.map(|name| (name.clone(), disk.contents(&name))).collect()
}

#[test]
fn a_log_whose_repair_was_interrupted_is_not_opened_and_not_changed() {
    let journal = "quarantine-20261122T013000Z.pending";
    let disk = written(20);
    disk.create(journal).unwrap();
    disk.create("quarantine-20261122T013000Z.new.superblock.tmp").unwrap();
    let without_superblock = SimDisk::new(2);
    without_superblock.restore(&disk.snapshot());
    without_superblock.delete("superblock");
    for disk in [disk, without_superblock] {
        let before = files(&disk);
        let opened = options().open_with(Arc::new(disk.clone())).unwrap_err();
        let beheld = options().open_read_only_with(Arc::new(disk.clone())).unwrap_err();
        for error in [opened, beheld] {
            assert!(matches!(error, Error::RepairUnfinished { journal: found } if &*found == journal));
        }
        assert!(files(&disk) == before);
    }
}

#[test]
fn what_a_repair_has_put_aside_is_left_alone_and_what_it_left_half_done_is_removed() {
    let disk = written(20);
    let kept =
        ["quarantine-20261122T013000Z.journal", "quarantine-20261122T013000Z.00000000000000000001.seg"];
    let removed = "quarantine-20261122T013000Z.new.00000000000000000001.seg.tmp";
    kept.iter().chain([&removed]).for_each(|name| drop(disk.create(name).unwrap()));
    open(&disk).close().unwrap();
    let names = disk.list().unwrap();
    assert!(kept.iter().all(|kept| names.iter().any(|name| name == kept)));
    assert!(!names.iter().any(|name| name == removed));
    for name in names.iter().filter(|name| !name.starts_with("quarantine-")) {
        disk.delete(name);
    }
    assert!(matches!(options().open_with(Arc::new(disk)), Err(Error::SuperblockDamaged)), "there was a log");
}

#[test]
fn gaps_anywhere_are_told_exactly_and_nothing_else_changes() {
    let cases =
        Cases { file: "gaps", test: "gaps_anywhere_are_told_exactly_and_nothing_else_changes", usual: 40 };
    cases.run(|seed| {
        let mut chance = Chance::new(seed);
        let count = chance.between(1, 80);
        let disk = written(count);
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        let mut next = chance.between(1, 20);
        while next <= count {
            let last = chance.between(next, next + 25).min(count);
            gaps.push((next, last));
            next = last + chance.between(2, 20);
        }
        give_up(&disk, |lsn| gaps.iter().any(|(first, last)| (*first..=*last).contains(&lsn)));
        let all = expected(count, &gaps);
        let log = open(&disk);
        assert_eq!(items(&mut log.cursor(..).unwrap()), all);
        for _ in 0..20 {
            let asked = chance.between(1, count);
            let from = items(&mut log.cursor(lsn(asked)..).unwrap());
            let skipped = all.iter().take_while(|item| match item {
                Record(lsn) => *lsn < asked,
                Lost(_, last) => *last < asked,
            });
            assert_eq!(from, all[skipped.count()..], "from {asked}");
        }
    });
}
