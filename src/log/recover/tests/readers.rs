//! What a log that is only read shows, and that nothing is changed by it.

use super::*;

#[test]
fn reading_only_changes_nothing_in_any_of_these_states() {
    let mut scribe = three_segments(36);
    scribe.roll(&[b"ten"]);
    let torn = scribe.group(&[&[1; 600]], true);
    scribe.write(&half(&torn));
    scribe.disk.create(&format!("{}.tmp", spare_name(52))).unwrap();
    let before = contents(&scribe.disk);
    let beheld = behold(&scribe.disk).unwrap();
    assert_eq!(beheld.durable, Lsn::new(9));
    assert_eq!(Shelf::beheld(&scribe.disk, beheld).records().unwrap(), scribe.up_to(Lsn::new(9)));
    assert_eq!(contents(&scribe.disk), before);
}

#[test]
fn a_reader_sees_what_the_log_vouches_for_and_no_more() {
    let mut scribe = three_segments(37);
    let beheld = behold(&scribe.disk).unwrap();
    assert_eq!(beheld.durable, Lsn::new(8), "the last group may be in memory only");
    assert_eq!(beheld.newest.as_ref().unwrap().extent.last, Lsn::new(8));
    assert_eq!(Shelf::beheld(&scribe.disk, beheld).records().unwrap(), scribe.up_to(Lsn::new(8)));
    scribe.idle();
    assert_eq!(behold_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
}

#[test]
fn what_only_the_page_cache_has_is_durable_before_it_is_shown() {
    let mut scribe = three_segments(38);
    let ten = scribe.group(&[b"ten"], true);
    scribe.write(&ten);
    let eleven = scribe.group(&[b"eleven"], false);
    scribe.write(&eleven);
    // The program crashed, the machine did not.
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(11)));
    let left = scribe.disk.crash(CrashPolicy::LOSE_ALL);
    assert_eq!(read_all(&left).unwrap(), scribe.up_to(Lsn::new(11)));
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_durable_before_it_is_shown() {
    let mut scribe = three_segments(39);
    let (_, ten) = scribe.begin(&[b"ten"]);
    let mut bytes = vec![0; HEADER_BLOCK_BYTES];
    scribe.tail.header().encode_into(&mut bytes);
    bytes.extend_from_slice(&ten.bytes);
    scribe.tail.file().write_at(&bytes, 0).unwrap();
    scribe.disk.fail(Fail::nth(Operation::Sync, 1, Fault::LoseChanges));
    scribe.tail.file().sync().unwrap_err();
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(10)));
    let left = scribe.disk.crash(CrashPolicy::LOSE_ALL);
    assert_eq!(read_all(&left).unwrap(), scribe.up_to(Lsn::new(10)));
}
