//! Segments that were begun in a spare, which a crash left without their names.

use super::*;

#[test]
fn a_segment_that_was_begun_in_a_spare_gets_its_name() {
    let mut scribe = three_segments(26);
    let before = scribe.roll(&[b"ten"]);
    assert_eq!(&*before.name(), &*name(8));
    let spare = scribe.tail.name();
    assert_eq!(behold_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(10)));
    let names = scribe.disk.list().unwrap();
    assert!(names.contains(&name(10)) && !names.iter().any(|name| **name == *spare));
}

#[test]
fn several_segments_that_were_begun_in_spares_get_their_names_and_footers() {
    let mut scribe = three_segments(27);
    scribe.roll(&[b"ten"]);
    scribe.roll(&[b"eleven"]);
    scribe.roll(&[b"twelve"]);
    assert_eq!(behold_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(11)));
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert_eq!(recovered.segments.sealed.len(), 5);
    assert_eq!(Shelf::of(&scribe.disk, recovered).records().unwrap(), scribe.up_to(Lsn::new(12)));
    scribe.disk.delete(&name(11));
    assert_eq!(hole(&refused(&scribe.disk)), (&*name(11), 11, 11), "the one before has a footer now");
}

/// A missing segment was not noticed if the one after it had not got its name yet: it was taken for a spare, and
/// wiped.
#[test]
fn a_segment_that_was_begun_in_a_spare_tells_of_a_missing_one_before_it() {
    let mut scribe = three_segments(51);
    scribe.roll(&[b"ten"]);
    let disk = scribe.disk.crash(CrashPolicy::LOSE_ALL);
    disk.delete(&name(8));
    assert_eq!(hole(&refused(&disk)), (&*name(8), 8, 9));
    [1, 5].into_iter().for_each(|first| disk.delete(&name(first)));
    assert_eq!(hole(&refused(&disk)), (&*name(1), 1, 9));
}

/// A blank file with the name of a segment that still lay in a spare was in its way, and so it was wiped.
#[test]
fn a_segment_that_was_begun_in_a_spare_is_not_wiped_because_something_else_has_its_name() {
    let mut scribe = three_segments(52);
    scribe.roll(&[b"ten"]);
    let disk = scribe.disk.crash(CrashPolicy::LOSE_ALL);
    make_spare(&disk, 900);
    disk.rename(&spare_name(900), &name(10)).unwrap();
    assert_eq!(hole(&refused(&disk)), (&*name(10), 10, 10));
}

#[test]
fn a_segment_whose_first_write_was_torn_was_never_begun() {
    for (named, intact) in [(false, 0), (true, 0), (true, 50), (false, HEADER_BLOCK_BYTES)] {
        let mut scribe = three_segments(28);
        let (_, flush) = scribe.begin(&[b"ten"]);
        let mut bytes = vec![0; HEADER_BLOCK_BYTES];
        scribe.tail.header().encode_into(&mut bytes);
        scribe.tail.file().write_at(&bytes[..intact], 0).unwrap();
        scribe.tail.file().write_at(&flush.bytes, BLOCK).unwrap();
        if named {
            scribe.name_for_good();
        }
        let last = if intact == HEADER_BLOCK_BYTES { 10 } else { 9 };
        // Without a trace of the next segment, nothing says that this one's last group is durable.
        let vouched = if named || intact > 0 { 9 } else { 8 };
        assert_eq!(behold_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(vouched)), "{named} {intact}");
        let recovered = recover(&scribe.disk, WANTED).unwrap();
        assert_eq!(recovered.next_lsn, Lsn::new(last + 1), "{named} {intact}");
        assert_eq!(recovered.spares.len(), usize::from(last == 9), "{named} {intact}");
        drop(recovered);
        let mut scribe = Scribe::reopen(&scribe.disk, scribe.written);
        scribe.roll_and_seal(&[b"ten at last"]);
        assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(last + 1)));
    }
}
