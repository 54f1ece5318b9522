use crate::disk::sim::{CrashPolicy, Fail, Fault, Operation, SimDisk};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Footer, HEADER_BLOCK_BYTES, SLOT_BYTES, SUPERBLOCK_BYTES, Superblock};
use crate::log::recover::{begin_first, behold, is_new, recover};
use crate::log::superblock_file::{Copies, SuperblockFile};
use crate::log::testing::{
    Flush, SEGMENT_BYTES, Scribe, Shelf, WANTED, behold_all, contents, first_group, header_of, make_spare,
    read_all, try_make_spare, write_tiny_segments,
};
use crate::segment::{self, segment_name, spare_name};
use crate::types::{LogId, Lsn, WriteMethod};

mod faults;
mod readers;
mod spares;
mod superblock;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Three segments: 1 to 4 and 5 to 7 sealed, then 8 and 9.
fn three_segments(seed: u64) -> Scribe {
    let mut scribe = Scribe::new(seed);
    scribe.append(&[b"one", b"two"]);
    scribe.append_packed(&[b"three"]);
    let batch = scribe.batch(&[b"4"]);
    scribe.flush(&batch);
    scribe.roll_and_seal(&[b"five", b""]);
    scribe.append(&[&[7; 5000]]);
    scribe.roll_and_seal(&[b"eight"]);
    scribe.append(&[b"nine"]);
    scribe
}

fn name(first: u64) -> String {
    segment_name(Lsn::new(first))
}

/// The disk is refused with the same error for writing and for reading, and not changed by either.
fn refused(disk: &SimDisk) -> Error {
    let before = contents(disk);
    let error = recover(disk, WANTED).unwrap_err();
    assert_eq!(contents(disk), before, "nothing is changed on {error}");
    let operations = disk.operations();
    let beheld = behold(disk).unwrap_err();
    assert_eq!(disk.operations(), operations, "nothing is even tried on {error}");
    assert_eq!(error.to_string(), beheld.to_string());
    error
}

/// The file, and the first and last LSN, of a hole.
fn hole(error: &Error) -> (&str, u64, u64) {
    match error {
        Error::Hole { file, first, last } => (file, first.get(), last.get()),
        other => panic!("{other} is no hole"),
    }
}

/// The file, and the first and last LSN, of rot.
fn rot(error: &Error) -> (&str, u64, u64) {
    match error {
        Error::Rot { file, first, last, bytes } => {
            assert!(!bytes.is_empty());
            (file, first.get(), last.get())
        }
        other => panic!("{other} is no rot"),
    }
}

#[test]
fn a_log_is_read_as_it_was_written() {
    let scribe = three_segments(1);
    assert_eq!(behold_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(8)));
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)), "reopening gives the same log");
}

#[test]
fn appends_go_on_where_a_log_was_left() {
    for close in [false, true] {
        let mut scribe = three_segments(2);
        if close {
            scribe.close();
        }
        let mut scribe = Scribe::reopen(&scribe.disk, scribe.written);
        scribe.append_packed(&[b"ten"]);
        scribe.roll_and_seal(&[b"eleven"]);
        assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(11)));
    }
}

#[test]
fn a_clean_close_is_opened_without_a_look_at_the_groups() {
    let mut scribe = three_segments(3);
    scribe.close();
    // Damage that only a look at the groups would see.
    scribe.disk.flip_bit(&name(8), BLOCK, 0);
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert_eq!(recovered.next_lsn, Lsn::new(10));
    assert_eq!(recovered.end, scribe.end);
    let last_block = recovered.last_block.unwrap();
    let start = (scribe.end / BLOCK * BLOCK) as usize;
    let stored = scribe.disk.contents(&name(8));
    assert_eq!(last_block[..], stored[start..start + BLOCK_BYTES]);
    assert_eq!(rot(&read_all(&scribe.disk).unwrap_err()), (&*name(8), 8, 8), "and not a second time");
}

#[test]
fn a_clean_end_counts_only_until_the_next_open() {
    let mut scribe = three_segments(4);
    scribe.close();
    let mut scribe = Scribe::reopen(&scribe.disk, scribe.written);
    scribe.append(&[b"ten"]);
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(10)));
}

#[test]
fn a_clean_end_is_not_believed_if_a_newer_superblock_may_be_lost() {
    let mut scribe = three_segments(5);
    scribe.close();
    let slot = scribe.superblock.current().slot();
    let clean = scribe.disk.contents("superblock")[slot * SLOT_BYTES..][..BLOCK_BYTES].to_vec();
    let mut scribe = Scribe::reopen(&scribe.disk, scribe.written);
    scribe.append(&[b"ten"]);
    // The slot of the clean close comes back, and the other one is damaged.
    scribe.disk.overwrite("superblock", (slot * SLOT_BYTES) as u64, &clean);
    scribe.disk.flip_bit("superblock", ((1 - slot) * SLOT_BYTES) as u64 + 40, 1);
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(10)));
}

#[test]
fn a_parked_footer_that_is_damaged_costs_a_scan_and_nothing_else() {
    for at in [SEGMENT_BYTES - BLOCK + 50, SEGMENT_BYTES - 2 * BLOCK + 3] {
        let mut scribe = three_segments(6);
        scribe.close();
        scribe.disk.flip_bit(&name(8), at, 3);
        assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)), "at {at}");
    }
}

#[test]
fn torn_tail_is_discarded_and_wiped_before_the_open_returns() {
    let mut scribe = three_segments(7);
    let end = scribe.end;
    let torn = scribe.group(&[&[1; 600], &[2; 600]], true);
    scribe.write(&half(&torn));
    let later = scribe.group(&[b"later"], false);
    scribe.write(&later);
    assert_eq!(behold_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
    let stored = scribe.disk.durable_contents(&name(8));
    let data_end = header_of(&scribe.disk, 8).data_end() as usize;
    assert!(stored[end as usize..data_end].iter().all(|byte| *byte == 0), "wiped and synced");
}

/// The first half of a flush.
fn half(flush: &Flush) -> Flush {
    Flush { position: flush.position, bytes: flush.bytes[..flush.bytes.len() / 2].to_vec() }
}

#[test]
fn a_torn_group_that_a_later_group_vouches_for_is_rot() {
    let mut scribe = three_segments(8);
    let ten = scribe.group(&[b"ten"], false);
    scribe.flush(&ten);
    scribe.append(&[b"eleven"]);
    scribe.disk.flip_bit(&name(8), ten.position + 100, 2);
    assert_eq!(rot(&refused(&scribe.disk)), (&*name(8), 10, 10));
}

#[test]
fn a_torn_group_that_the_superblock_vouches_for_is_rot() {
    let mut scribe = three_segments(9);
    let ten = scribe.group(&[b"ten"], false);
    scribe.flush(&ten);
    scribe.idle();
    scribe.disk.flip_bit(&name(8), ten.position + 100, 2);
    assert_eq!(rot(&refused(&scribe.disk)), (&*name(8), 10, 10));
}

#[test]
fn a_tail_cut_at_a_clean_boundary_is_a_hole_if_that_is_contradicted() {
    for contradicted in [false, true] {
        let mut scribe = three_segments(10);
        let ten = scribe.group(&[b"ten"], false);
        scribe.flush(&ten);
        if contradicted {
            scribe.idle();
        }
        scribe.disk.truncate_file(&name(8), ten.position);
        if contradicted {
            assert_eq!(hole(&refused(&scribe.disk)), (&*name(8), 10, 10));
        } else {
            // Which cannot be told from a torn one.
            assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
            assert_eq!(scribe.disk.contents(&name(8)).len() as u64, SEGMENT_BYTES, "its length is back");
        }
    }
}

#[test]
fn a_missing_tail_is_a_hole_if_anything_says_that_it_was_there() {
    let mut scribe = three_segments(11);
    scribe.idle();
    scribe.disk.delete(&name(8));
    assert_eq!(hole(&refused(&scribe.disk)), (&*name(8), 8, 9));
}

#[test]
fn a_missing_tail_that_nothing_speaks_of_is_begun_again() {
    let scribe = three_segments(12);
    scribe.disk.delete(&name(8));
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert!(recovered.segments.tail.is_none(), "the newest segment is sealed");
    assert_eq!((recovered.begin.segment_id.get(), recovered.begin.first_lsn), (3, Lsn::new(8)));
    let mut scribe = Scribe::reopen(&scribe.disk, scribe.written);
    scribe.append(&[b"eight again"]);
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(8)));
}

#[test]
fn a_missing_segment_is_a_hole_with_its_name() {
    for (missing, last) in [(1, 4), (5, 7)] {
        let scribe = three_segments(13);
        scribe.disk.delete(&name(missing));
        assert_eq!(hole(&refused(&scribe.disk)), (&*name(missing), missing, last));
    }
}

#[test]
fn a_log_without_any_segment_is_a_hole_once_it_had_records() {
    let mut scribe = three_segments(14);
    scribe.idle();
    for first in [1, 5, 8] {
        scribe.disk.delete(&name(first));
    }
    assert_eq!(hole(&refused(&scribe.disk)), (&*name(1), 1, 9));
}

#[test]
fn swapped_segments_are_refused() {
    let scribe = three_segments(15);
    scribe.disk.swap(&name(1), &name(5));
    assert_eq!(hole(&refused(&scribe.disk)), (&*name(1), 1, 5));
}

#[test]
fn a_duplicate_under_another_name_is_refused() {
    let scribe = three_segments(16);
    scribe.disk.copy_from(&scribe.disk.clone(), &name(5), &name(6));
    assert_eq!(hole(&refused(&scribe.disk)), (&*name(6), 5, 6));
}

#[test]
fn a_duplicate_among_the_spares_is_wiped() {
    let scribe = three_segments(17);
    scribe.disk.copy_from(&scribe.disk.clone(), &name(5), &spare_name(77));
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert_eq!(recovered.next_spare_number, 78);
    assert!(recovered.spares.iter().any(|spare| *spare.name == *spare_name(77)));
    assert!(scribe.disk.contents(&spare_name(77))[..HEADER_BLOCK_BYTES].iter().all(|byte| *byte == 0));
    drop(recovered);
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
}

#[test]
fn a_segment_of_another_log_is_refused_by_the_names_of_both() {
    let scribe = three_segments(18);
    let other = three_segments(19);
    scribe.disk.copy_from(&other.disk, &name(5), &name(5));
    match refused(&scribe.disk) {
        Error::ForeignFile { file, expected, found } => {
            assert_eq!((&*file, expected, found), (&*name(5), LogId::new(19), LogId::new(20)));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_segment_from_an_old_copy_of_the_log_is_refused() {
    let mut scribe = Scribe::new(20);
    scribe.append(&[b"one"]);
    let old = scribe.disk.crash(CrashPolicy::KEEP_ALL);
    scribe.append(&[b"two"]);
    scribe.roll_and_seal(&[b"three"]);
    scribe.disk.copy_from(&old, &name(1), &name(1));
    assert_eq!(hole(&refused(&scribe.disk)), (&*name(1), 2, 2));
}

#[test]
fn creating_a_log_survives_a_crash_at_every_operation() {
    let create = |disk: &SimDisk| -> Result<()> {
        SuperblockFile::create(disk, Superblock::new(LogId::new(1), WriteMethod::Buffered))?;
        let recovered = recover(disk, WANTED)?;
        let spare = try_make_spare(disk, recovered.next_spare_number)?;
        let tail = begin_first(disk, spare, &recovered.begin)?;
        let (bytes, position) = first_group(tail.header(), b"one");
        tail.file()
            .write_at(&bytes, position)
            .and_then(|()| tail.file().sync())
            .map_err(|source| Error::io("write", "", source))
    };
    for more in 0.. {
        let disk = SimDisk::new(25);
        disk.crash_after(more);
        let made = create(&disk);
        for policy in [CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL, CrashPolicy::seeded(more)] {
            let left = disk.crash(policy);
            let records = match is_new(&left).unwrap() {
                true => Vec::new(),
                false => read_all(&left).unwrap(),
            };
            assert!(records.len() <= 1 && (made.is_err() || records.len() == 1), "after {more}");
        }
        if made.is_ok() {
            return;
        }
    }
}

#[test]
fn a_header_that_was_lost_over_acknowledged_groups_is_rot() {
    for named in [false, true] {
        let mut scribe = three_segments(29);
        scribe.roll(&[b"ten"]);
        scribe.append(&[b"eleven"]);
        if named {
            scribe.name_for_good();
        }
        let file = scribe.tail.name();
        scribe.disk.overwrite(&file, 0, &[0; HEADER_BLOCK_BYTES]);
        assert_eq!(rot(&refused(&scribe.disk)), (&*file, 10, 10));
    }
    let scribe = three_segments(29);
    scribe.disk.flip_bit(&name(5), 60, 0);
    assert_eq!(rot(&refused(&scribe.disk)), (&*name(5), 5, 7));
}

/// A newest segment that had lost its header and its first group was taken for one that was never written.
#[test]
fn a_segment_that_lost_its_start_is_rot_if_any_group_in_it_vouches() {
    let scribe = three_segments(53);
    let disk = scribe.disk.crash(CrashPolicy::LOSE_ALL);
    disk.overwrite(&name(8), 0, &[0xA5; 2 * BLOCK_BYTES]);
    assert_eq!(rot(&refused(&disk)), (&*name(8), 8, 8));
}

#[test]
fn a_lost_footer_is_written_again_and_rot_under_it_is_found() {
    let scribe = three_segments(30);
    let whole = scribe.disk.snapshot();
    scribe.disk.overwrite(&name(1), SEGMENT_BYTES - BLOCK, &[0; BLOCK_BYTES]);
    assert_eq!(behold_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(8)));
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
    let footer = Footer::decode(&scribe.disk.durable_contents(&name(1))[(SEGMENT_BYTES - BLOCK) as usize..]);
    assert_eq!(footer.unwrap().last_lsn, Lsn::new(4), "it is sealed");
    scribe.disk.restore(&whole);
    scribe.disk.truncate_file(&name(1), SEGMENT_BYTES - 3 * BLOCK);
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)), "a cut through the footer only");
    scribe.disk.restore(&whole);
    scribe.disk.truncate_file(&name(1), 2 * BLOCK);
    assert_eq!(hole(&refused(&scribe.disk)), (&*name(1), 4, 4));
}

#[test]
fn a_damaged_index_is_made_again() {
    let scribe = three_segments(31);
    scribe.disk.flip_bit(&name(1), SEGMENT_BYTES - 2 * BLOCK + 1, 1);
    scribe.disk.flip_bit(&name(5), SEGMENT_BYTES - 2 * BLOCK + 1, 1);
    assert_eq!(behold_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(8)));
    scribe.disk.delete(&name(8));
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert_eq!(recovered.next_lsn, Lsn::new(8), "also of the newest segment");
    assert_eq!(Shelf::of(&scribe.disk, recovered).records().unwrap(), scribe.up_to(Lsn::new(7)));
}

#[test]
fn rot_in_a_sealed_segment_is_found_when_it_is_read() {
    let scribe = three_segments(32);
    scribe.disk.flip_bit(&name(5), BLOCK + 100, 1);
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    let error = Shelf::of(&scribe.disk, recovered).records().unwrap_err();
    assert_eq!(rot(&error), (&*name(5), 5, 5));
}

#[test]
fn what_lies_below_the_trim_point_is_recycled_and_missed_by_nobody() {
    let mut scribe = three_segments(33);
    scribe.superblock.update(Copies::Both, |superblock| superblock.first_lsn = Lsn::new(6)).unwrap();
    // The recycler was at it when the power failed.
    scribe.disk.overwrite(&name(1), 0, &[0; HEADER_BLOCK_BYTES]);
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert_eq!(recovered.to_recycle, [(name(1), SEGMENT_BYTES)]);
    let kept = scribe.up_to(Lsn::new(9)).split_off(5);
    assert_eq!(Shelf::of(&scribe.disk, recovered).records().unwrap(), kept);
    scribe.disk.delete(&name(1));
    assert_eq!(read_all(&scribe.disk).unwrap(), kept);
    scribe.disk.delete(&name(5));
    assert_eq!(hole(&refused(&scribe.disk)), (&*name(6), 6, 7));
}

#[test]
fn a_log_that_was_trimmed_to_its_end_goes_on() {
    let mut scribe = three_segments(34);
    scribe.superblock.update(Copies::Both, |superblock| superblock.first_lsn = Lsn::new(10)).unwrap();
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert_eq!((recovered.to_recycle.len(), recovered.next_lsn), (2, Lsn::new(10)));
    drop(recovered);
    let mut scribe = Scribe::reopen(&scribe.disk, Default::default());
    scribe.append(&[b"ten"]);
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(10)));
}

#[test]
fn what_was_being_prepared_is_removed_and_spares_of_another_size_too() {
    let scribe = three_segments(35);
    drop(make_spare(&scribe.disk, 50));
    drop(make_spare(&scribe.disk, 51));
    scribe.disk.truncate_file(&spare_name(51), SEGMENT_BYTES / 2);
    scribe.disk.create(&format!("{}.tmp", spare_name(52))).unwrap();
    scribe.disk.create("mine.tmp").unwrap();
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert_eq!(
        recovered.spares.iter().map(|spare| spare.name.to_string()).collect::<Vec<_>>(),
        [spare_name(50)]
    );
    let names = scribe.disk.list().unwrap();
    assert!(!names.iter().any(|name| name.ends_with("51.seg") || name.ends_with(".seg.tmp")));
    assert!(names.contains(&"mine.tmp".to_owned()), "what is not the log's is left alone");
}

#[test]
fn every_bit_of_a_small_log_is_either_harmless_or_found() {
    let mut scribe = three_segments(43);
    scribe.idle();
    let expected = scribe.up_to(Lsn::new(9));
    let whole = scribe.disk.snapshot();
    let first = contents(&scribe.disk);
    for (file, bytes) in first.iter().filter(|(file, _)| *file != "LOCK") {
        // Zeros make up most of it; a byte here and there stands for all.
        let places = (0..bytes.len()).filter(|&at| bytes[at] != 0 || at % 509 == 0);
        for at in places {
            scribe.disk.restore(&whole);
            scribe.disk.flip_bit(file, at as u64, (at % 8) as u8);
            match read_all(&scribe.disk) {
                Ok(records) => assert_eq!(records, expected, "{file} {at}"),
                Err(Error::Rot { .. } | Error::Hole { .. } | Error::ForeignFile { .. }) => {}
                Err(error) => panic!("{file} {at}: {error}"),
            }
        }
    }
}

#[test]
fn a_newer_version_is_refused_as_such() {
    let scribe = three_segments(44);
    for (file, at) in [("superblock".to_owned(), 0), (name(5), 0), (name(5), SEGMENT_BYTES - BLOCK)] {
        let whole = scribe.disk.snapshot();
        let start = at as usize;
        let mut block = scribe.disk.contents(&file)[start..start + BLOCK_BYTES].to_vec();
        block[8..12].copy_from_slice(&2_u32.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&block[..12]);
        hasher.update(&block[16..]);
        block[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
        scribe.disk.overwrite(&file, at, &block);
        assert!(
            matches!(refused(&scribe.disk), Error::NewerVersion { found: 2, supported: 1 }),
            "{file} {at}"
        );
        scribe.disk.restore(&whole);
    }
}

#[test]
fn a_truncation_whose_footer_was_lost_is_known_by_the_segment_that_follows() {
    // Cut after 2: the segment is sealed again inside its first group, and the next one begins with 3.
    let mut scribe = Scribe::new(45);
    scribe.append(&[b"one", b"two", b"three"]);
    scribe.append(&[b"four"]);
    let before = std::sync::Arc::clone(&scribe.tail);
    segment::seal(&before, 1).unwrap();
    let old_footer = scribe.disk.contents(&name(1))[(SEGMENT_BYTES - BLOCK) as usize..].to_vec();
    let scan = crate::format::rescan_sealed(&scribe.disk.contents(&name(1)), before.header(), Lsn::new(2));
    let cut = crate::segment::Extent::of_scan(&scan);
    assert_eq!(cut.last, Lsn::new(2));
    let sealed = segment::seal_extent(&**before.file(), before.header(), &cut, 2).unwrap();
    let recovered = recover(&scribe.disk, WANTED).unwrap();
    assert_eq!((recovered.next_lsn, recovered.begin.previous_digest), (Lsn::new(3), sealed.digest()));
    begin_first(&scribe.disk, make_spare(&scribe.disk, 9), &recovered.begin).unwrap();
    drop(recovered);
    let expected = scribe.up_to(Lsn::new(2));
    assert_eq!(read_all(&scribe.disk).unwrap(), expected);
    // The footer of the time before comes back: its sync had failed.
    scribe.disk.overwrite(&name(1), SEGMENT_BYTES - BLOCK, &old_footer);
    assert_eq!(behold_all(&scribe.disk).unwrap(), expected);
    assert_eq!(read_all(&scribe.disk).unwrap(), expected);
}

#[test]
fn tiny_segments_by_the_thousand_keep_no_file_open() {
    // 3,000 stand for 100,000: three times the usual limit of open files, had each one kept its own.
    let dir = tempfile::tempdir().unwrap();
    let disk = crate::disk::RealDisk::open(dir.path()).unwrap();
    let count = 3_000;
    write_tiny_segments(&disk, count);
    let recovered = recover(&disk, WANTED).unwrap();
    assert_eq!(recovered.segments.sealed.len() as u64, count - 1);
    // Those of this directory alone: the tests beside this one have files open, too.
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let own = open
        .filter(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.starts_with(dir.path())))
        .count();
    assert!(own <= 10, "{own} files are open");
    let file = disk.open(&segment_name(Lsn::FIRST), Access::Read).unwrap();
    assert_eq!(file.bytes().unwrap(), crate::format::SEGMENT_BYTES_MIN);
}

/// The answer went by the order in which the directory happened to list them.
#[test]
fn a_log_without_its_superblock_is_one_whatever_else_is_in_the_directory() {
    for other in ["0-notes", "zzz-notes"] {
        for rest in [&*segment_name(Lsn::FIRST), &spare_name(1), "quarantine-20261122T013000Z.journal"] {
            let disk = SimDisk::new(1);
            drop(disk.create(other).unwrap());
            assert!(matches!(is_new(&disk), Err(Error::NotEmpty)));
            drop(disk.create(rest).unwrap());
            assert!(matches!(is_new(&disk), Err(Error::SuperblockDamaged)), "{other} and {rest}");
        }
    }
}
