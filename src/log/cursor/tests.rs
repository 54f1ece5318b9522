use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Cursor, Source, TailCursor};
use crate::disk::sim::SimDisk;
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{self, BLOCK_BYTES};
use crate::log::recover::{self, begin_first};
use crate::log::segments::Listed;
use crate::log::testing::{SEGMENT_BYTES, Scribe, Shelf, WANTED, make_spare};
use crate::segment::{self, Extent, MapCache, Segment, segment_name};
use crate::types::Lsn;

/// The records 1 to 4 and 5 to 7 in sealed segments, 8 and 9 in the tail that is still written to; 6 and 7
/// are a batch.
fn shelf(seed: u64) -> (Scribe, Arc<Shelf>) {
    let mut scribe = Scribe::new(seed);
    scribe.append(&[b"one", b"two", b"three"]);
    scribe.append_packed(&[b"four"]);
    scribe.roll_and_seal(&[b"five"]);
    let batch = scribe.batch(&[b"", b"seven"]);
    scribe.flush(&batch);
    scribe.roll_and_seal(&[b"eight"]);
    scribe.append(&[b"nine"]);
    scribe.idle();
    let listed = recover::behold(&scribe.disk).unwrap().segments;
    let mut sealed = listed.sealed;
    sealed.pop();
    let listed = Listed { sealed, tail: Some(Arc::clone(&scribe.tail)), first_lsn: Lsn::FIRST };
    let shelf = Shelf::new(&scribe.disk, listed, scribe.durable);
    (scribe, shelf)
}

fn lsn(number: u64) -> Lsn {
    Lsn::new(number)
}

fn cursor(shelf: &Arc<Shelf>, range: impl std::ops::RangeBounds<Lsn>) -> Result<Cursor> {
    Cursor::new(Arc::clone(shelf) as Arc<dyn Source>, &range)
}

/// The LSNs that a cursor has left.
fn rest(cursor: &mut Cursor) -> Vec<u64> {
    let mut lsns = Vec::new();
    while let Some(record) = cursor.next().unwrap() {
        lsns.push(record.lsn().get());
    }
    lsns
}

#[test]
fn a_cursor_reads_what_was_written_and_a_random_read_finds_the_same() {
    let (scribe, shelf) = shelf(1);
    assert_eq!(shelf.records().unwrap(), scribe.up_to(lsn(9)));
    for (lsn, record) in &scribe.written {
        let read = shelf.segments.read(*lsn, lsn.next()).unwrap().unwrap();
        assert_eq!((read.lsn(), read.epoch(), &*read), (*lsn, scribe.epoch, &**record));
    }
}

#[test]
fn every_kind_of_range_is_read_as_it_says() {
    let (_, shelf) = shelf(2);
    let all = |range: (std::ops::Bound<Lsn>, std::ops::Bound<Lsn>)| rest(&mut cursor(&shelf, range).unwrap());
    use std::ops::Bound::*;
    assert_eq!(all((Unbounded, Excluded(lsn(3)))), [1, 2]);
    assert_eq!(all((Included(lsn(6)), Included(lsn(8)))), [6, 7, 8]);
    assert_eq!(all((Included(lsn(7)), Included(lsn(7)))), [7], "from inside a batch");
    assert_eq!(all((Excluded(lsn(7)), Unbounded)), [8, 9]);
    assert_eq!(all((Included(lsn(8)), Included(lsn(100)))), [8, 9], "a bound past the end just ends");
    assert_eq!(all((Included(lsn(50)), Unbounded)), [0; 0]);
    assert_eq!(all((Included(Lsn::ZERO), Included(lsn(1)))), [1]);
    assert_eq!(all((Unbounded, Excluded(Lsn::FIRST))), [0; 0]);
}

#[test]
fn a_cursor_stops_at_what_is_durable_and_goes_on_when_more_is() {
    let (mut scribe, shelf) = shelf(3);
    shelf.set_durable(lsn(7));
    let mut cursor = cursor(&shelf, ..).unwrap();
    assert_eq!(rest(&mut cursor), [1, 2, 3, 4, 5, 6, 7], "8 and 9 are there, and not durable");
    shelf.set_durable(lsn(9));
    assert_eq!(rest(&mut cursor), [8, 9]);
    scribe.append(&[b"ten"]);
    assert_eq!(rest(&mut cursor), [0; 0]);
    shelf.set_durable(lsn(10));
    assert_eq!(rest(&mut cursor), [10]);
    assert_eq!(cursor.next_lsn(), lsn(11));
}

#[test]
fn a_cursor_follows_the_log_into_new_segments() {
    let (mut scribe, shelf) = shelf(4);
    let mut cursor = cursor(&shelf, lsn(9)..).unwrap();
    assert_eq!(rest(&mut cursor), [9]);
    let before = scribe.roll(&[b"ten"]);
    shelf.segments.add_tails(vec![Arc::clone(&scribe.tail)]);
    assert_eq!(rest(&mut cursor), [0; 0], "begun, and not durable");
    shelf.set_durable(lsn(10));
    assert_eq!(rest(&mut cursor), [10]);
    let unsealed = shelf.segments.unsealed();
    assert_eq!(unsealed.len(), 1);
    assert!(Arc::ptr_eq(&unsealed[0].0, &before) && Arc::ptr_eq(&unsealed[0].1, &scribe.tail));
    shelf.segments.sealed(segment::seal(&before, 1).unwrap());
    assert!(shelf.segments.unsealed().is_empty());
    scribe.name_for_good();
    scribe.roll_and_seal(&[b"eleven"]);
    shelf.segments.add_tails(vec![Arc::clone(&scribe.tail)]);
    shelf.set_durable(lsn(11));
    assert_eq!(rest(&mut cursor), [11]);
    assert_eq!(shelf.records().unwrap(), scribe.up_to(lsn(11)));
}

#[test]
fn before_the_first_record_a_log_is_trimmed_and_past_the_last_it_ends() {
    let (_, shelf) = shelf(5);
    shelf.segments.trim(lsn(6));
    let trimmed = |error| match error {
        Error::Trimmed { asked, first } => (asked.get(), first.get()),
        other => panic!("{other}"),
    };
    assert_eq!(trimmed(cursor(&shelf, lsn(5)..).unwrap_err()), (5, 6));
    assert_eq!(trimmed(shelf.segments.read(lsn(5), lsn(9)).unwrap_err()), (5, 6));
    assert_eq!(rest(&mut cursor(&shelf, ..).unwrap()), [6, 7, 8, 9]);
    match shelf.segments.read(lsn(10), lsn(9)) {
        Err(Error::BeyondEnd { asked, last }) => assert_eq!((asked.get(), last.get()), (10, 9)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cursor_keeps_its_segment_while_it_is_trimmed_and_recycled() {
    let (scribe, shelf) = shelf(6);
    let mut slow = cursor(&shelf, ..).unwrap();
    assert_eq!(&*slow.next().unwrap().unwrap(), b"one");
    let record = shelf.segments.read(lsn(7), lsn(9)).unwrap().unwrap();
    let gone = shelf.segments.trim(lsn(8));
    assert_eq!(gone.iter().map(|sealed| sealed.first_lsn().get()).collect::<Vec<_>>(), [1, 5]);
    for sealed in &gone {
        // The recycler leaves what somebody reads alone.
        assert!(sealed.is_pinned());
        let file = scribe.disk.open(&sealed.name(), Access::ReadWrite).unwrap();
        assert!(!file.try_lock(true).unwrap());
        scribe.disk.remove(&sealed.name()).unwrap();
    }
    assert_eq!(&*record, b"seven");
    assert_eq!(&*slow.next().unwrap().unwrap(), b"two");
    assert_eq!(&*slow.next().unwrap().unwrap(), b"three");
    assert_eq!(&*slow.next().unwrap().unwrap(), b"four");
    match slow.next() {
        Err(Error::Trimmed { asked, first }) => assert_eq!((asked, first), (lsn(5), lsn(8))),
        other => panic!("{other:?}"),
    }
    drop((slow, record));
    assert!(!gone.iter().any(|sealed| sealed.is_pinned()), "nothing is kept beyond need");
}

#[test]
fn a_recycled_file_is_never_taken_for_the_segment_that_it_was() {
    let (scribe, shelf) = shelf(7);
    let Some(Segment::Sealed(sealed)) = shelf.segments.find(lsn(1)) else { panic!("it is sealed") };
    scribe.disk.overwrite(&sealed.name(), 0, &[0; BLOCK_BYTES]);
    assert!(matches!(shelf.segments.read(lsn(1), lsn(9)), Err(Error::Rot { .. })), "not trimmed: rot");
    shelf.segments.trim(lsn(5));
    assert!(matches!(shelf.segments.read(lsn(1), lsn(9)), Err(Error::Trimmed { .. })));
}

#[test]
fn a_damaged_record_is_an_error_with_its_place_and_the_others_can_be_read() {
    for (flip, records) in [(BLOCK_BYTES + 64 + 40 + 33, 2..=2), (BLOCK_BYTES + 64 + 12, 1..=4)] {
        let (scribe, _) = shelf(8);
        scribe.disk.flip_bit(&segment_name(lsn(1)), flip as u64, 1);
        let shelf = Shelf::beheld(&scribe.disk, recover::behold(&scribe.disk).unwrap());
        let damaged = *records.start();
        match shelf.segments.read(lsn(damaged), lsn(9)) {
            Err(Error::Rot { file, bytes, first, last }) => {
                assert_eq!(*file, *segment_name(lsn(1)));
                assert!(bytes.contains(&(flip as u64)));
                assert_eq!(first.get()..=last.get(), records);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(rest(&mut cursor(&shelf, lsn(5)..).unwrap()), [5, 6, 7, 8, 9]);
    }
}

#[test]
fn without_verify_reads_a_sealed_segment_is_verified_once_as_a_whole() {
    let (scribe, _) = shelf(9);
    let unverified = |disk: &SimDisk| {
        let beheld = recover::behold(disk).unwrap();
        Shelf::with(disk, beheld.segments, beheld.durable, false)
    };
    assert_eq!(unverified(&scribe.disk).records().unwrap(), scribe.up_to(lsn(9)));
    scribe.disk.flip_bit(&segment_name(lsn(5)), (BLOCK_BYTES + 64 + 33) as u64, 1);
    let shelf = unverified(&scribe.disk);
    for _ in 0..2 {
        assert!(matches!(shelf.segments.read(lsn(7), lsn(9)), Err(Error::Rot { .. })), "5 is damaged, not 7");
    }
    assert_eq!(&*shelf.segments.read(lsn(4), lsn(9)).unwrap().unwrap(), b"four");
}

#[test]
fn the_start_of_an_epoch_takes_an_lsn_and_is_no_record() {
    let mut scribe = Scribe::new(10);
    scribe.append(&[b"one"]);
    let start = scribe.epoch_start();
    scribe.flush(&start);
    scribe.append(&[b"three"]);
    scribe.idle();
    let shelf = Shelf::beheld(&scribe.disk, recover::behold(&scribe.disk).unwrap());
    assert_eq!(rest(&mut cursor(&shelf, ..).unwrap()), [1, 3]);
    assert!(shelf.segments.read(lsn(2), lsn(3)).unwrap().is_none());
    assert_eq!(shelf.segments.read(lsn(3), lsn(3)).unwrap().unwrap().epoch(), scribe.epoch);
}

#[test]
fn random_reads_go_through_the_index() {
    let mut scribe = Scribe::new(11);
    let records: Vec<Vec<u8>> = (0..11_u8).map(|number| vec![number; 3500]).collect();
    records.iter().for_each(|record| scribe.append(&[record]));
    scribe.roll_and_seal(&[b"next"]);
    scribe.tail.with_extent(|extent| assert_eq!(extent.tables.index().len(), 1));
    let shelf = Shelf::beheld(&scribe.disk, recover::behold(&scribe.disk).unwrap());
    // Behind the second entry of the index, damage before it is not even seen.
    scribe.disk.flip_bit(&segment_name(lsn(1)), BLOCK_BYTES as u64 + 80, 1);
    assert!(matches!(shelf.segments.read(lsn(1), lsn(12)), Err(Error::Rot { .. })));
    assert_eq!(*shelf.segments.read(lsn(11), lsn(12)).unwrap().unwrap(), *records[10]);
}

#[test]
fn a_truncation_takes_cursors_to_what_was_appended_instead() {
    let (scribe, shelf) = shelf(12);
    let mut cursor = cursor(&shelf, ..).unwrap();
    assert_eq!(&*cursor.next().unwrap().unwrap(), b"one");
    // Cut after 2, inside the first group of the first segment.
    let Some(Segment::Sealed(sealed)) = shelf.segments.find(lsn(1)) else { panic!("it is sealed") };
    let bytes = scribe.disk.contents(&sealed.name());
    let cut = Extent::of_scan(&format::rescan_sealed(&bytes, sealed.header(), lsn(2)));
    let file = scribe.disk.open(&sealed.name(), Access::ReadWrite).unwrap();
    let cut = segment::seal_extent(&*file, sealed.header(), &cut, 1).unwrap();
    shelf.set_durable(lsn(2));
    for first in [8, 5] {
        scribe.disk.remove(&segment_name(lsn(first))).unwrap();
    }
    let mut superblock = scribe.superblock;
    superblock.update(crate::log::superblock_file::Copies::Both, |own| own.durable = lsn(2)).unwrap();
    let recovered = recover::recover(&scribe.disk, WANTED).unwrap();
    let tail = begin_first(&scribe.disk, make_spare(&scribe.disk, 30), &recovered.begin).unwrap();
    let gone = shelf.segments.cut(lsn(2), Some(cut), tail);
    assert_eq!(gone.iter().map(|segment| segment.first_lsn().get()).collect::<Vec<_>>(), [8, 5]);
    assert_eq!(rest(&mut cursor), [2]);
    let mut again = Scribe::reopen(&scribe.disk, scribe.written);
    again.append(&[b"three again"]);
    again.idle();
    let shelf = Shelf::beheld(&again.disk, recover::behold(&again.disk).unwrap());
    assert_eq!(shelf.records().unwrap(), again.up_to(lsn(3)));
}

#[test]
fn a_tail_cursor_waits_for_the_next_durable_record() {
    let (mut scribe, shelf) = shelf(13);
    let mut tail = TailCursor::new(Arc::clone(&shelf) as Arc<dyn Source>, lsn(9)).unwrap();
    assert_eq!(&*tail.next().unwrap(), b"nine");
    assert!(tail.try_next().unwrap().is_none());
    assert!(tail.next_until(Instant::now() + Duration::from_millis(1)).unwrap().is_none());
    let reader = std::thread::spawn(move || {
        let ten = tail.next().unwrap().to_vec();
        let later = Instant::now() + Duration::from_secs(300);
        (ten, tail.next_until(later).unwrap().unwrap().to_vec())
    });
    scribe.append(&[b"ten"]);
    shelf.set_durable(lsn(10));
    scribe.roll(&[b"eleven"]);
    shelf.segments.add_tails(vec![Arc::clone(&scribe.tail)]);
    shelf.set_durable(lsn(11));
    assert_eq!(reader.join().unwrap(), (b"ten".to_vec(), b"eleven".to_vec()));
}

#[test]
fn maps_are_bounded_and_come_back_when_they_are_needed() {
    let disk = SimDisk::new(14);
    crate::log::testing::write_tiny_segments(&disk, 300);
    let shelf = Shelf::beheld(&disk, recover::behold(&disk).unwrap());
    let pinned = || {
        let all = shelf.segments.all();
        let is_pinned = |segment: &&Segment| matches!(segment, Segment::Sealed(one) if one.is_pinned());
        all.iter().filter(is_pinned).count()
    };
    assert_eq!(pinned(), 0, "nothing is mapped before it is read");
    for _ in 0..2 {
        assert_eq!(shelf.records().unwrap().len(), 300);
        assert_eq!(pinned(), 128);
    }
    let record = shelf.segments.read(lsn(1), lsn(300)).unwrap().unwrap();
    assert_eq!(*record, 1_u64.to_le_bytes());
}

#[test]
fn a_segment_that_vanishes_is_a_hole() {
    let (scribe, shelf) = shelf(15);
    scribe.disk.delete(&segment_name(lsn(5)));
    match shelf.segments.read(lsn(6), lsn(9)) {
        Err(Error::Hole { file, first, last }) => {
            assert_eq!((&*file, first, last), (&*segment_name(lsn(5)), lsn(5), lsn(7)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scribe.disk.contents(&segment_name(lsn(1))).len() as u64, SEGMENT_BYTES);
}

#[test]
fn readers_race_with_a_log_that_rolls_and_is_trimmed() {
    let (mut scribe, shelf) = shelf(16);
    let begin = || TailCursor::new(Arc::clone(&shelf) as Arc<dyn Source>, Lsn::FIRST).unwrap();
    let read = |shelf: Arc<Shelf>, mut tail: TailCursor| {
        let mut expected = 1;
        while expected <= 200 {
            match tail.next() {
                Ok(record) => {
                    assert_eq!(record.lsn(), lsn(expected));
                    if expected > 9 {
                        assert_eq!(*record, expected.to_le_bytes());
                    }
                    expected += 1;
                }
                Err(Error::Trimmed { mut first, .. }) => loop {
                    match TailCursor::new(Arc::clone(&shelf) as Arc<dyn Source>, first) {
                        Ok(begun) => {
                            (expected, tail) = (first.get(), begun);
                            break;
                        }
                        Err(Error::Trimmed { first: later, .. }) => first = later,
                        Err(error) => panic!("{error}"),
                    }
                },
                Err(error) => panic!("{error}"),
            }
        }
    };
    let readers = [begin(), begin()];
    std::thread::scope(|scope| {
        for tail in readers {
            let shelf = Arc::clone(&shelf);
            scope.spawn(move || read(shelf, tail));
        }
        for number in 10..=200_u64 {
            if number % 7 == 0 {
                let before = scribe.roll(&[&number.to_le_bytes()]);
                shelf.segments.add_tails(vec![Arc::clone(&scribe.tail)]);
                shelf.set_durable(lsn(number));
                shelf.segments.sealed(segment::seal(&before, 1).unwrap());
                scribe.name_for_good();
                for sealed in shelf.segments.trim(lsn(number - 5)) {
                    scribe.disk.remove(&sealed.name()).unwrap();
                }
            } else {
                scribe.append(&[&number.to_le_bytes()]);
                shelf.set_durable(lsn(number));
            }
        }
    });
}

/// A reader opened the segment while it was trimmed, and the cache kept its map, and with it the file's space.
#[test]
fn a_segment_that_is_trimmed_while_it_is_opened_is_not_kept_mapped() {
    let (scribe, shelf) = shelf(31);
    let Some(segment) = shelf.segments.find(lsn(1)) else { panic!("the first segment") };
    let Segment::Sealed(sealed) = &segment else { panic!("it is sealed") };
    let cache = MapCache::new(Arc::new(scribe.disk.clone()), 4);
    let view = segment.view(&cache, true).unwrap();
    drop(view);
    assert!(sealed.is_pinned(), "kept for the next reader");
    sealed.let_go(&cache);
    assert!(!sealed.is_pinned());
    let view = segment.view(&cache, true).unwrap();
    assert!(sealed.is_pinned(), "who reads it keeps it");
    drop(view);
    assert!(!sealed.is_pinned());
}
