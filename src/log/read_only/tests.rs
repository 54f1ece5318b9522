use std::sync::Arc;

use super::*;
use crate::log::testing::{Scribe, read_all};
use crate::segment;

fn reader(scribe: &Scribe) -> ReadOnlyLog {
    LogOptions::new("").open_read_only_with(Arc::new(scribe.disk.clone())).unwrap()
}

fn records(reader: &ReadOnlyLog) -> Vec<(Lsn, Vec<u8>)> {
    let records = reader.cursor(..).unwrap().records().map(Result::unwrap);
    records.map(|record| (record.lsn(), record.to_vec())).collect()
}

/// Refreshes, and sees that the log is as one that is opened now, up to `last`.
fn assert_follows(reader: &ReadOnlyLog, scribe: &Scribe, last: u64) {
    let operations = scribe.disk.operations();
    assert_eq!(reader.refresh().unwrap(), Lsn::new(last));
    assert_eq!(records(reader), scribe.up_to(Lsn::new(last)));
    let fresh = self::reader(scribe);
    assert_eq!(fresh.last_lsn(), Lsn::new(last));
    assert_eq!(records(&fresh), records(reader));
    assert_eq!(scribe.disk.operations(), operations, "nothing is changed");
}

#[test]
fn a_group_is_shown_when_a_later_one_or_the_superblock_vouches_for_it() {
    let mut scribe = Scribe::new(1);
    let reader = reader(&scribe);
    assert_follows(&reader, &scribe, 0);
    scribe.append(&[b"one", b"two"]);
    assert_follows(&reader, &scribe, 0);
    scribe.append_packed(&[b"three"]);
    assert_follows(&reader, &scribe, 2);
    let batch = scribe.batch(&[b"four", b"five"]);
    scribe.write(&batch);
    assert_follows(&reader, &scribe, 3);
    scribe.flush(&batch);
    scribe.idle();
    assert_follows(&reader, &scribe, 5);
    let start = scribe.epoch_start();
    scribe.flush(&start);
    scribe.append(&[&[7; 5000]]);
    scribe.append_packed(&[b"eight"]);
    assert_follows(&reader, &scribe, 7);
    scribe.close();
    assert_follows(&reader, &scribe, 8);
}

#[test]
fn a_group_that_is_torn_or_comes_before_the_missing_one_is_not_shown() {
    let mut scribe = Scribe::new(2);
    let reader = reader(&scribe);
    scribe.append(&[b"one"]);
    let two = scribe.group(&[&[2; 6000]], false);
    let three = scribe.group(&[b"three"], false);
    scribe.write(&three);
    assert_follows(&reader, &scribe, 1);
    scribe.tail.file().write_at(&two.bytes[..5000], two.position).unwrap();
    assert_follows(&reader, &scribe, 1);
    scribe.flush(&two);
    assert_follows(&reader, &scribe, 1);
    scribe.flush(&three);
    scribe.append(&[b"four"]);
    assert_follows(&reader, &scribe, 3);
}

#[test]
fn a_roll_is_followed_into_a_spare_and_on_to_its_final_name_and_its_seal() {
    let mut scribe = Scribe::new(3);
    let reader = reader(&scribe);
    scribe.append(&[b"one"]);
    assert_follows(&reader, &scribe, 0);
    let first = scribe.roll(&[b"two"]);
    assert_follows(&reader, &scribe, 1);
    let second = scribe.roll(&[b"three"]);
    assert_follows(&reader, &scribe, 2);
    segment::seal(&first, 1).unwrap();
    scribe.disk.rename(&second.name(), &second.final_name()).unwrap();
    assert_follows(&reader, &scribe, 2);
    segment::seal(&second, 2).unwrap();
    scribe.name_for_good();
    assert_follows(&reader, &scribe, 2);
    scribe.append(&[b"four"]);
    assert_follows(&reader, &scribe, 3);
    scribe.roll_and_seal(&[b"five"]);
    scribe.roll_and_seal(&[b"six"]);
    scribe.idle();
    assert_follows(&reader, &scribe, 6);
}

#[test]
fn a_cursor_goes_on_after_a_refresh_across_segments() {
    let mut scribe = Scribe::new(4);
    let reader = reader(&scribe);
    let mut cursor = reader.cursor(..).unwrap();
    assert!(cursor.next().unwrap().is_none());
    for round in 0..30_u8 {
        scribe.append(&[&[round; 3000]]);
        if round % 4 == 3 {
            scribe.roll_and_seal(&[b"next"]);
        }
        let last = reader.refresh().unwrap();
        while let Some(record) = cursor.next().unwrap() {
            assert_eq!(scribe.written[&record.lsn()], *record);
        }
        assert_eq!(cursor.next_lsn(), last.next());
    }
}

#[test]
fn a_segment_that_was_sealed_at_a_cut_is_not_read_past_it() {
    let mut scribe = Scribe::new(5);
    scribe.append(&[b"one"]);
    scribe.append(&[b"two"]);
    scribe.append(&[b"three"]);
    scribe.append(&[b"four"]);
    let reader = reader(&scribe);
    assert_eq!(reader.last_lsn(), Lsn::new(3));
    let held = reader.read(Lsn::new(3)).unwrap();
    let mut cursor = reader.cursor(Lsn::new(2)..).unwrap();
    let bytes = scribe.disk.contents(&scribe.tail.name());
    let scan = crate::format::rescan_sealed(&bytes, scribe.tail.header(), Lsn::new(1));
    let cut = segment::Extent::of_scan(&scan);
    segment::seal_extent(&**scribe.tail.file(), scribe.tail.header(), &cut, 1).unwrap();
    assert_eq!(reader.refresh().unwrap(), Lsn::FIRST);
    assert!(matches!(reader.read(Lsn::new(2)), Err(Error::BeyondEnd { .. })));
    assert!(cursor.next().unwrap().is_none());
    assert_eq!(&*held, b"three", "what was read stays");
    assert_eq!(reader.refresh().unwrap(), Lsn::FIRST, "what follows is stale");
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::FIRST));
}

#[test]
fn damage_to_acknowledged_records_is_told_and_what_was_seen_can_still_be_read() {
    let mut scribe = Scribe::new(6);
    scribe.append(&[b"one"]);
    let position = crate::format::block_up(scribe.end);
    scribe.append(&[b"two"]);
    let reader = reader(&scribe);
    scribe.append(&[b"three"]);
    scribe.disk.flip_bit(&scribe.tail.name(), position + 70, 1);
    assert!(matches!(reader.refresh(), Err(Error::Rot { .. })));
    assert_eq!(reader.last_lsn(), Lsn::FIRST);
    assert_eq!(&*reader.read(Lsn::FIRST).unwrap(), b"one");
}

#[test]
fn a_segment_of_many_groups_and_epochs_is_read_on_at_once_and_in_steps() {
    let mut scribe = Scribe::new(7);
    let (eager, late) = (reader(&scribe), reader(&scribe));
    for round in 0..290_u64 {
        scribe.append_packed(&[b""]);
        if round == 7 || round == 8 {
            let start = scribe.epoch_start();
            scribe.flush(&start);
        }
        assert_eq!(eager.refresh().unwrap(), scribe.next.prev().prev());
    }
    assert_eq!(late.refresh().unwrap(), eager.last_lsn());
    assert_eq!(records(&late), records(&eager));
    assert_eq!(records(&late), scribe.up_to(late.last_lsn()));
    assert_eq!(late.read(late.last_lsn()).unwrap().epoch(), scribe.epoch);
}
