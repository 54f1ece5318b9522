//! Looking at a log says what is wrong with it, and what an open of it would say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use annals::disk::Disk;
use annals::disk::sim::{Fail, Fault, Operation, SimDisk};
use annals::format::{SegmentHeader, choose_slot, crc32};
use annals::repair::{self, Cause, Correction, Dump, Dumped, FileRole, Opening, Report, StretchKind, Watch};
use annals::{Error, Lsn, LsnRange, SegmentId};

use crate::logs::{
    BLOCK, SLOT_BYTES, SUPERBLOCK, append, copy, large, log, looked, options, payload, segments, small,
    trimmed, verified,
};

#[test]
fn a_whole_log_is_told_as_whole() {
    for is_closed in [false, true] {
        for (disk, first, last) in
            [(small(is_closed), 1, 5), (large(is_closed), 1, 80), (trimmed(is_closed), 30, 80)]
        {
            let report = looked("whole", &disk);
            assert!(report.is_whole(), "{report:#?}");
            assert_eq!((report.first_lsn.get(), report.last_lsn.get()), (first, last));
            assert_eq!(report.records, last - first + 1);
            assert_eq!(report.log_id, report.superblock.chosen.as_ref().map(|chosen| chosen.log_id));
        }
        let report = looked("empty", &log(is_closed, |_| ()));
        assert!(report.is_whole() && report.records == 0, "{report:#?}");
    }
}

#[test]
fn a_directory_without_a_log_is_none() {
    let disk = SimDisk::new(1);
    assert!(matches!(repair::inspect(&disk), Err(Error::NotALog)));
    disk.create("notes").unwrap();
    assert!(matches!(repair::inspect(&disk), Err(Error::NotALog)));
}

#[test]
fn a_segment_that_is_gone_is_a_hole_with_its_records() {
    for disk in [large(true), large(false), trimmed(true)] {
        let whole = verified(&disk);
        let names: Vec<String> = whole.segments.iter().map(|segment| segment.file.to_string()).collect();
        for name in &names {
            let gone = whole.segments.iter().find(|segment| *segment.file == **name).unwrap();
            let damaged = copy(&disk);
            damaged.delete(name);
            let report = looked(name, &damaged);
            let first = gone.header.first_lsn.max(whole.first_lsn);
            let (is_last, last) = (name == names.last().unwrap(), gone.last_lsn);
            // Nothing may vouch for the newest records of a log that was killed.
            let last = if is_last { report.durable } else { last };
            let expected: Vec<_> = LsnRange::new(first, last).into_iter().collect();
            assert_eq!(report.lost, expected, "{name}: {report:#?}");
            let is_hole = |stretch: &repair::Stretch| {
                stretch.cause == Cause::Missing && stretch.lsns == expected.first().copied()
            };
            assert!(expected.is_empty() || report.stretches.iter().any(is_hole), "{report:#?}");
        }
        let none = copy(&disk);
        names.iter().for_each(|name| none.delete(name));
        let report = looked("none", &none);
        // Nothing may vouch for any record of a log that was killed.
        let all: Vec<_> = LsnRange::new(report.first_lsn, report.durable).into_iter().collect();
        assert_eq!(report.lost, all);
    }
}

#[test]
fn the_superblock_is_told_slot_by_slot_and_its_loss_loses_no_record() {
    for disk in [large(true), large(false), small(true), trimmed(true)] {
        let whole = verified(&disk);
        let zeros = vec![0; SLOT_BYTES as usize];
        for slot in [0, SLOT_BYTES] {
            let damaged = copy(&disk);
            damaged.overwrite(SUPERBLOCK, slot, &zeros);
            let report = looked("one slot", &damaged);
            let bad: Vec<_> = report.stretches.iter().filter(|bad| *bad.file == *SUPERBLOCK).collect();
            assert_eq!(bad.len(), 1, "{report:#?}");
            assert_eq!((bad[0].bytes.start, bad[0].lsns), (slot, None));
            assert_eq!(report.lost, []);
        }
        let both = copy(&disk);
        both.overwrite(SUPERBLOCK, 0, &zeros);
        both.overwrite(SUPERBLOCK, SLOT_BYTES, &zeros);
        let gone = copy(&disk);
        gone.delete(SUPERBLOCK);
        for damaged in [both, gone] {
            let report = looked("no superblock", &damaged);
            assert_eq!(report.log_id, whole.log_id);
            assert_eq!((report.lost_records(), report.last_lsn), (0, whole.last_lsn));
            // Where the log was trimmed inside a segment nobody knows.
            assert!(report.first_lsn <= whole.first_lsn);
            assert!(matches!(report.opening, Opening::Refuses(Error::SuperblockDamaged)));
        }
    }
}

#[test]
fn swapped_doubled_and_foreign_segments_are_known_for_what_they_are() {
    let disk = large(true);
    let other = SimDisk::new(77);
    let log = options().open_with(Arc::new(other.clone())).unwrap();
    append(&log, 80, 3000);
    log.close().unwrap();
    let names = segments(&disk);
    let whole = verified(&disk);
    for one in &names {
        for two in names.iter().filter(|two| *two != one) {
            let swapped = copy(&disk);
            swapped.swap(one, two);
            let report = looked("swapped", &swapped);
            assert_eq!((report.lost_records(), report.records), (0, 80), "{report:#?}");
            let misnamed = report.stretches.iter().filter(|stretch| stretch.cause == Cause::Name).count();
            assert_eq!(misnamed, 2, "{report:#?}");

            let doubled = copy(&disk);
            doubled.copy_from(&disk, one, two);
            let report = looked("doubled", &doubled);
            let replaced = whole.segments.iter().find(|segment| *segment.file == **two).unwrap();
            let lost = LsnRange::new(replaced.header.first_lsn, replaced.last_lsn).unwrap();
            assert_eq!(report.lost, [lost], "{one} over {two}: {report:#?}");
            let stray = report.strays.iter().find(|stray| stray.role == FileRole::Duplicate);
            assert_eq!(*stray.unwrap().file, **two);
        }
        for name in ["00000000000000000002.seg", "00000000000000009999.seg", "spare-000900.seg"] {
            let copied = copy(&disk);
            copied.copy_from(&disk, one, name);
            let report = looked("a copy", &copied);
            assert_eq!((report.lost_records(), report.records), (0, 80), "{one} as {name}: {report:#?}");
        }
        let foreign = copy(&disk);
        foreign.copy_from(&other, one, one);
        let report = looked("foreign", &foreign);
        assert!(report.strays.iter().any(|stray| matches!(stray.role, FileRole::Foreign(_))));
        assert_eq!(report.lost.len(), 1);
    }
}

/// A segment of another log came into the place of one of ours, and then lost its header: it was taken for ours by its
/// name, and its records were shown.
#[test]
fn a_foreign_segment_without_its_header_is_known_by_its_footer() {
    let disk = large(true);
    let other = SimDisk::new(77);
    let log = options().open_with(Arc::new(other.clone())).unwrap();
    append(&log, 80, 3000);
    log.close().unwrap();
    let first = &segments(&disk)[0];
    for harm in ["header", "header and first group"] {
        let foreign = copy(&disk);
        foreign.copy_from(&other, first, first);
        let bytes = if harm == "header" { 40 } else { BLOCK as usize + 40 };
        foreign.overwrite(first, 8, &vec![0xA5; bytes]);
        let report = looked(harm, &foreign);
        assert!(matches!(report.opening, Opening::Refuses(Error::ForeignFile { .. })), "{report:#?}");
        let is_foreign = |stray: &repair::Stray| matches!(stray.role, FileRole::Foreign(_));
        assert!(report.strays.iter().any(is_foreign), "{report:#?}");
        let lost = LsnRange::new(Lsn::FIRST, report.segments[0].header.first_lsn.prev());
        assert_eq!(report.lost, Vec::from_iter(lost));
    }
}

/// Where nobody knows how the segment before ended, the tables of the footer were not looked at.
#[test]
fn tables_are_checked_also_where_the_header_is_lost_and_the_segment_before() {
    let disk = large(true);
    let names = segments(&disk);
    let bytes = disk.contents(&names[1]).len() as u64;
    disk.delete(&names[0]);
    disk.overwrite(&names[1], 8, &[0xA5; 40]);
    let report = looked("header", &disk);
    let is_of_footer = |stretch: &&repair::Stretch| stretch.cause == Cause::Footer;
    assert_eq!(report.stretches.iter().filter(is_of_footer).count(), 0, "{report:#?}");
    disk.overwrite(&names[1], bytes - 2 * BLOCK, &[0xA5; 40]);
    let report = looked("header and tables", &disk);
    let of_footer = report.stretches.iter().find(is_of_footer).unwrap();
    assert_eq!((&*of_footer.file, of_footer.lsns), (&*names[1], None));
    let lost = LsnRange::new(Lsn::FIRST, report.segments[0].header.first_lsn.prev());
    assert_eq!(report.lost, Vec::from_iter(lost));
}

/// The only segment was cut, and has lost its header: it was taken for the smallest that there can be, and what lay
/// behind the end of that was not read.
#[test]
fn what_is_left_of_a_cut_segment_without_its_header_is_read() {
    let disk = log(true, |log| append(log, 30, 1000));
    let [name] = &segments(&disk)[..] else { panic!("one segment") };
    disk.overwrite(name, 8, &[0xA5; 40]);
    disk.truncate_file(name, 20_000);
    let report = looked("cut", &disk);
    assert!(report.records > 10, "{report:#?}");
}

#[test]
fn a_file_that_is_cut_or_blanked_anywhere_is_told_as_an_open_tells_it() {
    for disk in [large(true), large(false), small(true), small(false), trimmed(false)] {
        for name in segments(&disk) {
            let bytes = disk.contents(&name).len() as u64;
            for at in (0..bytes).step_by(4 * BLOCK as usize).chain([1, BLOCK, 2 * BLOCK, bytes - 1]) {
                let cut = copy(&disk);
                cut.truncate_file(&name, at);
                looked(&format!("{name} cut to {at}"), &cut);
                let blanked = copy(&disk);
                blanked.overwrite(&name, at, &vec![0; BLOCK.min(bytes - at) as usize]);
                looked(&format!("{name} blanked at {at}"), &blanked);
                let noise: Vec<u8> = (0..BLOCK.min(bytes - at)).map(|at| (at * 37 + 11) as u8).collect();
                blanked.overwrite(&name, at, &noise);
                looked(&format!("{name} overwritten at {at}"), &blanked);
            }
        }
    }
}

/// What a dump gives: records with their bytes, and gaps.
fn dumped(disk: &SimDisk, report: Report) -> (Vec<(u64, Vec<u8>)>, Vec<LsnRange>) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut records, mut gaps) = (vec![], vec![]);
    let Some(all) = LsnRange::new(Lsn::FIRST, report.last_lsn) else { return (records, gaps) };
    let mut dump = Dump::new(disk, Arc::new(report), all);
    while let Some(next) = dump.next().unwrap() {
        match next {
            Dumped::Record { lsn, bytes, .. } => records.push((lsn.get(), bytes.to_vec())),
            Dumped::EpochStart { .. } | Dumped::Control { .. } => panic!("no epoch begins"),
            Dumped::Gap { lsns, is_given_up } => {
                assert!(!is_given_up);
                gaps.push(lsns);
            }
        }
    }
    (records, gaps)
}

#[test]
fn a_dump_gives_every_readable_record_and_the_gaps_between() {
    let disk = log(true, |log| {
        append(log, 30, 3000);
        log.append_batch(&[&payload(31, 5)[..], &payload(32, 0), &payload(33, 9000)])
            .unwrap()
            .wait()
            .unwrap();
        append(log, 20, 700);
    });
    let sizes = |lsn| match lsn {
        ..=30 => 3000,
        31 => 5,
        32 => 0,
        33 => 9000,
        _ => 700,
    };
    for name in segments(&disk) {
        for at in (0..64 << 10).step_by(3000) {
            let damaged = copy(&disk);
            damaged.overwrite(&name, at, b"damage");
            let report = looked("damaged", &damaged);
            let lost = report.lost.clone();
            let (records, gaps) = dumped(&damaged, report);
            let again = dumped(&damaged, repair::inspect(&damaged).unwrap());
            assert!(again == (records.clone(), gaps.clone()), "{name} at {at}");
            assert_eq!(gaps, lost, "{name} at {at}");
            for (lsn, bytes) in &records {
                assert!(*bytes == payload(*lsn, sizes(*lsn)), "record {lsn}");
            }
            let given = records.len() as u64 + gaps.iter().map(LsnRange::records).sum::<u64>();
            assert_eq!(given, 53);
        }
    }
}

#[test]
fn every_flipped_bit_is_told_as_an_open_tells_it_and_named_where_it_is_the_only_one() {
    for disk in [small(true), small(false)] {
        let names = [SUPERBLOCK.to_owned(), segments(&disk).remove(0)];
        for name in &names {
            let bytes = disk.contents(name);
            let near = |at: usize| {
                bytes[at.saturating_sub(4)..(at + 4).min(bytes.len())].iter().any(|byte| *byte != 0)
            };
            let segment = &verified(&disk).segments[0];
            // What is behind the last record is nothing yet; of a slot, only the blocks that are used count.
            let unused = segment.end..segment.header.data_end();
            let counts = |at: &usize| match &**name {
                SUPERBLOCK => at % (64 << 10) < BLOCK as usize,
                _ => !unused.contains(&(*at as u64)),
            };
            for at in (0..bytes.len()).filter(|at| near(*at)).filter(counts) {
                let bit = (at % 8) as u8;
                let damaged = copy(&disk);
                damaged.flip_bit(name, at as u64, bit);
                let report = looked(&format!("bit {bit} of byte {at} of {name}"), &damaged);
                let is_told = report
                    .stretches
                    .iter()
                    .any(|stretch| *stretch.file == **name && stretch.bytes.contains(&(at as u64)));
                assert!(is_told, "bit {bit} of byte {at} of {name}: {report:#?}");
                // The newest group of a log that was killed is taken for torn.
                let is_torn = report.stretches.iter().any(|stretch| stretch.kind == StretchKind::Torn);
                let is_named = is_torn
                    || report
                        .stretches
                        .iter()
                        .any(|stretch| stretch.correction == Some(Correction { offset: at as u64, bit }));
                assert!(is_named, "bit {bit} of byte {at} of {name}: {report:#?}");
            }
        }
    }
}

#[test]
fn what_the_disk_cannot_read_is_damage_and_what_cannot_be_opened_is_an_error_with_its_name() {
    let disk = large(true);
    let name = segments(&disk).remove(1);
    for file in [&*name, SUPERBLOCK] {
        let unreadable = copy(&disk);
        unreadable.fail(Fail::nth(Operation::Read, 1, Fault::Io).on(file).and_later());
        let report = verified(&unreadable);
        assert!(report.stretches.iter().any(|stretch| stretch.cause == Cause::Unreadable), "{report:#?}");
        assert!(matches!(report.opening, Opening::Refuses(Error::Io { .. })), "{report:#?}");
        let closed = copy(&disk);
        closed.fail(Fail::nth(Operation::Open, 1, Fault::Io).on(file).and_later());
        let error = repair::inspect(&closed).unwrap_err();
        assert!(matches!(&error, Error::Io { file: named, .. } if **named == *file), "{error}");
    }
    let nowhere = copy(&disk);
    nowhere.fail(Fail::nth(Operation::List, 1, Fault::Io));
    assert!(matches!(repair::inspect(&nowhere), Err(Error::Io { .. })));
}

#[test]
fn a_newer_version_is_an_error_and_nothing_is_judged() {
    let disk = small(true);
    let newer = |bytes: &[u8]| {
        let mut block = bytes[..BLOCK as usize].to_vec();
        block[8..12].copy_from_slice(&9_u32.to_le_bytes());
        let sum = crc32(&[&block[..12], &block[16..]].concat());
        block[12..16].copy_from_slice(&sum.to_le_bytes());
        block
    };
    let name = segments(&disk).remove(0);
    for file in [&*name, SUPERBLOCK] {
        let start = disk.contents(file).chunks(BLOCK as usize).position(|block| block[0] != 0).unwrap()
            as u64
            * BLOCK;
        let found = copy(&disk);
        found.overwrite(file, start, &newer(&disk.contents(file)[start as usize..]));
        assert!(matches!(repair::inspect(&found), Err(Error::NewerVersion { found: 9, .. })));
    }
}

#[test]
fn a_watcher_hears_of_every_byte_and_may_give_up() {
    #[derive(Default)]
    struct Watcher {
        promised: AtomicU64,
        done: AtomicU64,
        gives_up: bool,
    }
    impl Watch for Watcher {
        fn begin(&self, bytes: u64) {
            self.promised.fetch_add(bytes, Ordering::Relaxed);
        }
        fn advance(&self, bytes: u64) {
            self.done.fetch_add(bytes, Ordering::Relaxed);
        }
        fn is_given_up(&self) -> bool {
            self.gives_up
        }
    }
    let disk: Arc<dyn Disk> = Arc::new(large(true));
    let watcher = Watcher::default();
    repair::verify(&disk, 3, &watcher).unwrap();
    let (promised, done) = (watcher.promised.into_inner(), watcher.done.into_inner());
    assert!(promised > 80 * 3000 && promised == done, "{promised} and {done}");
    let watcher = Watcher { gives_up: true, ..Watcher::default() };
    assert!(matches!(repair::verify(&disk, 3, &watcher), Err(Error::TimedOut)));
}

#[test]
fn a_header_that_is_lost_is_made_again_and_costs_no_record() {
    for disk in [large(true), trimmed(true), small(true)] {
        let whole = verified(&disk);
        for segment in &whole.segments {
            for bytes in [BLOCK, BLOCK + 64] {
                let damaged = copy(&disk);
                let noise: Vec<u8> = (0..bytes).map(|at| (at * 37 + 11) as u8).collect();
                damaged.overwrite(&segment.file, 0, &noise);
                let report = looked(&format!("{} without its header", segment.file), &damaged);
                let made = report.segments.iter().find(|made| made.file == segment.file).unwrap();
                let is_alone = made.header.first_lsn == report.segments[0].header.first_lsn;
                if bytes > BLOCK && is_alone && made.header.segment_id != SegmentId::FIRST {
                    // A group without its header is proven by the whole segment and how the one before ended.
                    continue;
                }
                // Without its first group, of the epoch no more is known than that it is not before the last one.
                let epoch = if bytes > BLOCK { made.header.epoch } else { segment.header.epoch };
                assert!(made.header == SegmentHeader { epoch, ..segment.header }, "{made:#?}");
                assert_eq!((report.lost_records(), report.records), (0, whole.records), "{report:#?}");
            }
        }
    }
}

/// The numbers of segments begin anew when all records are truncated away, and a segment that was trimmed before
/// may have the same.
#[test]
fn what_was_trimmed_before_a_truncation_of_everything_is_in_nobodys_way() {
    for is_closed in [false, true] {
        let disk = log(is_closed, |log| {
            append(log, 40, 3000);
            let reader = log.read(Lsn::new(20)).unwrap();
            log.trim(Lsn::new(41)).unwrap();
            log.truncate(Lsn::new(40)).unwrap();
            append(log, 40, 3000);
            drop(reader);
        });
        let report = looked("truncated", &disk);
        assert!(report.is_whole(), "{report:#?}");
        assert_eq!((report.first_lsn.get(), report.last_lsn.get()), (41, 80));
    }
}

/// The newer slot has one flipped bit, so an open goes by the older one, which knows of fewer records.
#[test]
fn what_a_slot_vouches_for_counts_also_with_a_flipped_bit() {
    let disk = large(true);
    let damaged = copy(&disk);
    let chosen = choose_slot(&disk.contents(SUPERBLOCK)).unwrap().superblock;
    damaged.flip_bit(SUPERBLOCK, chosen.position() + 100, 1);
    damaged.delete(&segments(&disk).pop().unwrap());
    let report = verified(&damaged);
    assert_eq!((report.last_lsn, report.durable), (Lsn::new(80), Lsn::new(80)));
    assert!(report.lost_records() > 0 && report.lost[0].last == Lsn::new(80), "{report:#?}");
    let both = copy(&disk);
    both.flip_bit(SUPERBLOCK, 70, 1);
    both.flip_bit(SUPERBLOCK, SLOT_BYTES + 70, 1);
    segments(&disk).iter().for_each(|name| both.delete(name));
    let report = looked("no sound slot", &both);
    assert_eq!((report.log_id, report.lost_records()), (Some(chosen.log_id), 80), "{report:#?}");
}
