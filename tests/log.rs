//! The log over real files: what is appended is read back, also after a reopen.

use std::io::Write;
use std::sync::Arc;

use annals::disk::{Access, Disk, RealDisk};
use annals::repair::{Silent, verify};
use annals::{Durability, Error, Log, LogOptions, Lsn, WriteMethod};
use annals_fixtures::records::fill;

fn options(dir: &tempfile::TempDir) -> LogOptions {
    LogOptions::new(dir.path().join("log")).segment_bytes(256 << 10)
}

fn all(log: &Log) -> Vec<(u64, Vec<u8>)> {
    let mut cursor = log.cursor(..).expect("a log that works");
    let mut records = Vec::new();
    while let Some(record) = cursor.next().expect("a log that works") {
        records.push((record.lsn().get(), record.to_vec()));
    }
    records
}

#[test]
fn every_write_method_gives_back_what_was_appended_across_segments_and_reopens() {
    for method in WriteMethod::ALL {
        let dir = tempfile::tempdir().unwrap();
        let log = options(&dir).write_method(method).open().unwrap();
        let mut expected = fill(&log, 2000);
        assert_eq!(all(&log), expected, "{method}");
        log.close().unwrap();
        for _ in 0..2 {
            let log = options(&dir).open().unwrap();
            assert_eq!(log.write_method(), method);
            assert_eq!(all(&log), expected, "{method}");
            expected.extend(fill(&log, 500));
            assert_eq!(all(&log), expected, "{method}");
            drop(log);
        }
    }
}

#[test]
fn a_batch_has_consecutive_lsns_and_each_of_its_records_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    log.append_durable(b"before").unwrap();
    let receipt = log.append_batch(&["one", "", "three"]).unwrap().wait().unwrap();
    assert_eq!((receipt.lsn(), receipt.last_lsn()), (Lsn::new(2), Lsn::new(4)));
    assert_eq!(&*log.read(Lsn::new(3)).unwrap(), b"");
    assert_eq!(&*log.read(Lsn::new(4)).unwrap(), b"three");
    assert!(matches!(log.read(Lsn::new(5)), Err(Error::BeyondEnd { .. })));
    assert!(matches!(log.append_batch::<&[u8]>(&[]), Err(Error::EmptyBatch)));
}

/// Both were told as a number of bytes over `record_bytes_max`, which raising that would not have helped.
#[test]
fn what_is_too_large_is_told_by_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    let lsn = log.append_durable(b"one").unwrap().lsn();
    let many = vec![b""; (1 << 21) + 1];
    let refused = log.append_batch(&many).unwrap_err();
    assert!(matches!(refused, Error::TooManyRecords { records: 2_097_153, max: 2_097_152 }), "{refused}");
    assert!(refused.to_string().contains("2097153 records"), "{refused}");
    log.set_mark(lsn, &[7; 60 << 10]).unwrap();
    let refused = log.set_mark(lsn, &[7; (60 << 10) + 1]).unwrap_err();
    assert!(matches!(refused, Error::MarkTooLarge { bytes: 61_441, max: 61_440 }), "{refused}");
    assert!(log.mark().is_some_and(|mark| mark.bytes.len() == 60 << 10));
    assert_eq!(log.append_durable(b"two").unwrap().lsn(), lsn.next());
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).record_bytes_max(3 << 20).open().unwrap();
    let mut expected = fill(&log, 10);
    let large = vec![0xA5; 3 << 20];
    assert_eq!(log.append_durable(&large).unwrap().lsn(), Lsn::new(11));
    expected.push((11, large.clone()));
    expected.extend(fill(&log, 10));
    assert!(matches!(log.append(&vec![0; (3 << 20) + 1]), Err(Error::RecordTooLarge { .. })));
    assert_eq!(all(&log), expected);
    log.close().unwrap();
    let log = options(&dir).open().unwrap();
    assert_eq!(all(&log), expected);
}

/// The first record of a log was larger than the segment that had been prepared for it: the log began a second
/// segment with the name of the first, a flusher panicked over it, and everybody waited for ever.
#[test]
fn a_record_larger_than_a_segment_can_be_the_first_of_an_empty_tail() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    let large = vec![0xA5; 600 << 10];
    assert_eq!(log.append_durable(&large).unwrap().lsn(), Lsn::FIRST);
    let mut expected = vec![(1, large.clone())];
    expected.extend(fill(&log, 3));
    log.truncate(Lsn::new(2)).unwrap();
    expected.truncate(2);
    assert_eq!(log.append_durable(&large).unwrap().lsn(), Lsn::new(3));
    expected.push((3, large));
    assert_eq!(all(&log), expected);
    log.close().unwrap();
    assert_eq!(all(&options(&dir).open().unwrap()), expected);
}

/// Nothing was left but a trimmed segment and an empty tail: on its way to a larger tail the log cleared the
/// segment away, looked for it a moment later, and poisoned itself.
#[test]
fn a_record_larger_than_a_segment_can_follow_when_all_is_trimmed_and_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    fill(&log, 10);
    log.trim(Lsn::new(8)).unwrap();
    log.truncate(Lsn::new(7)).unwrap();
    let large = vec![0xA5; 600 << 10];
    assert_eq!(log.append_durable(&large).unwrap().lsn(), Lsn::new(8));
    assert_eq!(all(&log), [(8, large.clone())]);
    log.close().unwrap();
    assert_eq!(all(&options(&dir).open().unwrap()), [(8, large)]);
}

#[test]
fn buffered_appends_are_durable_after_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    let ticket = log.append_with(b"soon", Durability::Buffered).unwrap();
    assert_eq!(ticket.wait().unwrap().durability(), Durability::Buffered);
    assert_eq!(log.sync().unwrap(), Lsn::FIRST);
    assert_eq!(&*log.read(Lsn::FIRST).unwrap(), b"soon");
}

#[test]
fn a_trim_takes_whole_segments_and_survives_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    let expected = fill(&log, 3000);
    log.trim(Lsn::new(2001)).unwrap();
    assert_eq!(log.first_lsn(), Lsn::new(2001));
    assert!(matches!(log.read(Lsn::new(2000)), Err(Error::Trimmed { .. })));
    assert_eq!(all(&log), expected[2000..]);
    log.close().unwrap();
    let log = options(&dir).open().unwrap();
    assert_eq!(all(&log), expected[2000..]);
    let files = std::fs::read_dir(dir.path().join("log")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let begin = |name: String| name.strip_suffix(".seg")?.parse::<u64>().ok();
    let begin_early = names.filter_map(begin).filter(|first| *first <= 2001).count();
    // The one with record 2001, and two that wait to be used again.
    assert!((1..=3).contains(&begin_early), "{begin_early} segments begin before record 2001");
}

#[test]
fn a_truncation_forgets_the_newest_and_the_log_goes_on_there() {
    for keep in [0, 1, 700, 1999, 2000] {
        let dir = tempfile::tempdir().unwrap();
        let log = options(&dir).open().unwrap();
        let mut expected = fill(&log, 2000);
        log.truncate(Lsn::new(keep)).unwrap();
        expected.truncate(keep as usize);
        assert_eq!(log.last_lsn(), Lsn::new(keep));
        assert_eq!(all(&log), expected);
        expected.extend(fill(&log, 100));
        assert_eq!(all(&log), expected);
        log.close().unwrap();
        let log = options(&dir).open().unwrap();
        assert_eq!(all(&log), expected, "after a reopen, cut at {keep}");
    }
}

/// Three records in one group were cut to two, and then to one: the group that the first cut went through was
/// taken for a damaged one, because only a part of it was looked at.
#[test]
fn a_segment_that_was_cut_inside_a_group_can_be_cut_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    let expected = fill(&log, 3);
    for keep in [2, 1, 0] {
        log.truncate(Lsn::new(keep)).unwrap();
        assert_eq!(all(&log), expected[..keep as usize]);
    }
}

#[test]
fn a_second_writer_is_told_who_has_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    let refused = options(&dir).open().unwrap_err();
    assert!(matches!(refused, Error::InUse { owner: Some(owner) } if owner == std::process::id()));
    log.close().unwrap();
    options(&dir).open().unwrap();
}

#[test]
fn a_mark_is_given_back_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    assert!(log.mark().is_none());
    fill(&log, 5);
    log.set_mark(Lsn::new(4), b"snapshot-4").unwrap();
    assert!(matches!(log.set_mark(Lsn::new(6), b""), Err(Error::BeyondEnd { .. })));
    drop(log);
    let log = options(&dir).open().unwrap();
    let mark = log.mark().unwrap();
    assert_eq!((mark.lsn, &*mark.bytes), (Lsn::new(4), &b"snapshot-4"[..]));
}

#[test]
fn a_log_in_memory_works_by_what_its_file_system_can_do() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        // Not by a macro: what those say is kept from whoever runs tests that pass.
        let _ = writeln!(std::io::stderr(), "skipped: no /dev/shm here");
        return;
    };
    let log = options(&dir).open().unwrap();
    let expected = fill(&log, 500);
    log.close().unwrap();
    let log = options(&dir).open().unwrap();
    assert_eq!(all(&log), expected);
}

#[test]
fn retention_by_bytes_forgets_the_oldest_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).retain_bytes(1 << 20).open().unwrap();
    let mut expected = Vec::new();
    // Housekeeping trims when it comes by after a roll: append until it has.
    while log.first_lsn() == Lsn::FIRST {
        expected.extend(fill(&log, 500));
    }
    log.close().unwrap();
    let log = options(&dir).open().unwrap();
    let first = log.first_lsn().get();
    assert!(first > 1);
    assert_eq!(all(&log), expected[first as usize - 1..]);
}

/// Found by cutting the power under ext4: of a footer's two blocks only the second had reached the disk, the one
/// that tells where the segment ends. The log opened, and read, and its index stayed broken for good.
#[test]
fn a_footer_whose_index_was_torn_by_a_power_cut_is_written_anew_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    let expected = fill(&log, 2000);
    log.close().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path().join("log")).unwrap());
    let report = verify(&disk, 1, &Silent).unwrap();
    let sealed = report.segments.iter().rev().find(|segment| !segment.is_tail).unwrap();
    let file = disk.open(&sealed.file, Access::ReadWrite).unwrap();
    file.write_at(&[0; 100], sealed.bytes - sealed.header.footer_bytes).unwrap();
    assert!(!verify(&disk, 1, &Silent).unwrap().is_whole());

    let log = options(&dir).open().unwrap();
    assert_eq!(all(&log), expected);
    log.close().unwrap();
    let report = verify(&disk, 1, &Silent).unwrap();
    assert!(report.is_whole(), "{:?}", report.stretches);
}

/// What a truncation keeps of a sealed segment waits in a file beside it for its name. The next truncation of the same
/// segment makes that file again, and a reader that came in between took it for the one that it was looking for, and
/// said that the segment had rotted.
#[test]
fn a_segment_that_was_cut_is_read_while_the_next_cut_of_it_is_made_ready() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(&dir).open().unwrap();
    let mut expected = fill(&log, 1500);
    log.truncate(Lsn::new(100)).unwrap();
    expected.truncate(100);
    let first = dir.path().join("log").join(format!("{:020}.seg", 1));
    std::fs::write(first.with_extension("seg.tmp"), b"the next one, half made").unwrap();
    assert_eq!(all(&log), expected);
    log.truncate(Lsn::new(50)).unwrap();
    expected.truncate(50);
    assert_eq!(all(&log), expected);
}
