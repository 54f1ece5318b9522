//! Bytes that check and say what cannot be: lengths, counts and numbers that somebody has put there.

use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::format::{CleanTail, Digest, SLOT_BYTES as SLOT, SegmentHeader, Superblock, choose_slot};
use annals::repair::{self, Silent};
use annals::{Error, Lsn, SegmentId};

use crate::support::{Known, SUPERBLOCK, carry_out, copy, files, is_as, options, shared, verify};

/// The superblock that counts, and what is made of it put into both slots.
fn forge(disk: &SimDisk, change: impl Fn(&mut Superblock)) {
    let mut superblock = choose_slot(&disk.contents(SUPERBLOCK)).unwrap().superblock;
    change(&mut superblock);
    for _ in 0..2 {
        superblock.sequence += 1;
        let mut bytes = vec![0; superblock.used_bytes()];
        superblock.encode_into(&mut bytes);
        disk.overwrite(SUPERBLOCK, (superblock.slot() * SLOT) as u64, &bytes);
    }
}

/// Everything that can be done to a log, none of which may panic, or take for ever.
fn all_of_it(what: &str, disk: &SimDisk) {
    let _ = options().open_read_only_with(shared(disk));
    if let Ok(report) = repair::verify(&shared(disk), 1, &Silent) {
        let before = files(disk);
        let planned = repair::plan(disk, &report);
        match planned {
            Ok(plan) => {
                assert!(plan.new_bytes <= 1 << 30, "{what}: {} bytes are planned", plan.new_bytes);
                let repaired = copy(disk);
                match carry_out(&repaired, &plan) {
                    Ok(_) => assert!(verify(&repaired).is_whole(), "{what}"),
                    Err(Error::NotRepairable { .. } | Error::NoSpace) => {
                        assert!(files(&repaired) == before, "{what}");
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
                let log = options().open_with(shared(&repaired));
                if let Ok(log) = log {
                    let _ = log.append_durable(b"x");
                }
            }
            Err(Error::NotRepairable { .. } | Error::NotALog) => {}
            Err(error) => panic!("{what}: {error}"),
        }
        let to = SimDisk::new(5);
        to.set_capacity(Some(256 << 20));
        let _ = repair::salvage(&shared(disk), &report, &to, &Silent);
    }
    let _ = options().open_with(shared(&copy(disk)));
}

#[test]
fn a_superblock_that_vouches_for_absurdly_many_records_is_refused_in_no_time() {
    for durable in [1_u64 << 40, 1 << 52, 1 << 60, u64::MAX - 1, u64::MAX] {
        let known = Known::large(false);
        known.disk.set_capacity(Some(256 << 20));
        forge(&known.disk, |superblock| superblock.durable = Lsn::new(durable));
        all_of_it(&format!("durable {durable}"), &known.disk);
    }
}

#[test]
fn a_trim_point_that_cannot_be_is_refused() {
    for first in [1_u64 << 40, 1 << 60, u64::MAX - 1, u64::MAX] {
        let known = Known::large(false);
        known.disk.set_capacity(Some(256 << 20));
        forge(&known.disk, |superblock| superblock.first_lsn = Lsn::new(first));
        all_of_it(&format!("first {first}"), &known.disk);
    }
}

#[test]
fn a_clean_end_that_cannot_be_is_refused() {
    for last in [0, 1_u64 << 60, u64::MAX - 1, u64::MAX] {
        for id in [0, 1, u64::MAX] {
            let known = Known::large(true);
            known.disk.set_capacity(Some(256 << 20));
            forge(&known.disk, |superblock| {
                superblock.clean_tail = Some(CleanTail {
                    segment_id: SegmentId::new(id),
                    end: last,
                    last_lsn: Lsn::new(last),
                    digest: Digest::new(7),
                });
            });
            all_of_it(&format!("clean {last} {id}"), &known.disk);
        }
    }
}

/// A segment far beyond the log: as many are missing between as its number says.
#[test]
fn a_segment_with_an_absurd_number_is_refused_in_no_time() {
    for (id, first) in
        [(1_u64 << 40, 1_u64 << 41), (u64::MAX - 1, u64::MAX - 1), (u64::MAX - 1, 1 << 20), (60, 1 << 20)]
    {
        let known = Known::large(false);
        known.disk.set_capacity(Some(256 << 20));
        let last = known.segments().pop().unwrap();
        let bytes = known.disk.contents(&last);
        let header = SegmentHeader::decode(&bytes[..4096]).unwrap();
        let header = SegmentHeader { segment_id: SegmentId::new(id), first_lsn: Lsn::new(first), ..header };
        let mut block = vec![0; 4096];
        header.encode_into(&mut block);
        for name in [format!("{first:020}.seg"), "spare-000900.seg".to_owned()] {
            let disk = known.copy();
            disk.set_capacity(Some(256 << 20));
            disk.create(&name).unwrap().allocate(header.segment_bytes).unwrap();
            disk.overwrite(&name, 0, &block);
            all_of_it(&format!("{name} {id} {first}"), &disk);
        }
    }
}

/// The only segment of a log has a number after which there is none.
#[test]
fn a_log_at_the_end_of_all_numbers_is_no_reason_to_panic() {
    for (id, first) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX - 1, 1), (1, u64::MAX - 1)] {
        let known = Known::large(true);
        let disk = known.copy();
        disk.set_capacity(Some(256 << 20));
        let names = known.segments();
        names.iter().for_each(|name| disk.delete(name));
        let bytes = known.disk.contents(&names[0]);
        let header = SegmentHeader::decode(&bytes[..4096]).unwrap();
        let header = SegmentHeader { segment_id: SegmentId::new(1), first_lsn: Lsn::new(1 << 62), ..header };
        let mut block = vec![0; 4096];
        header.encode_into(&mut block);
        renumber(&mut block, (1 << 62, first), (1, id));
        let name = format!("{first:020}.seg");
        disk.create(&name).unwrap().allocate(header.segment_bytes).unwrap();
        disk.overwrite(&name, 0, &block);
        forge(&disk, |superblock| {
            superblock.first_lsn = Lsn::new(first);
            superblock.durable = Lsn::new(first - 1);
            superblock.clean_tail = None;
        });
        all_of_it(&format!("segment {id} from {first}"), &disk);
        disk.overwrite(&name, 0, &[0; 4096]);
        all_of_it(&format!("blank segment {id} from {first}"), &disk);
    }
}

/// Puts other numbers into a header than it would be written with, and a checksum that fits.
fn renumber(block: &mut [u8], (old_first, first): (u64, u64), (_, id): (u64, u64)) {
    let at = block.windows(8).position(|bytes| bytes == old_first.to_le_bytes()).unwrap();
    block[at..at + 8].copy_from_slice(&first.to_le_bytes());
    // The segment's number comes right before its first LSN.
    block[at - 8..at].copy_from_slice(&id.to_le_bytes());
    let checksum = annals::format::crc32(&[&block[..12], &block[16..]].concat());
    block[12..16].copy_from_slice(&checksum.to_le_bytes());
}

/// The slot that is newer has one flipped bit, and the tail is gone: what the slot vouches for was acknowledged.
#[test]
fn what_a_slot_with_a_flipped_bit_vouches_for_is_never_used_again_for_other_records() {
    let known = Known::large(false);
    let disk = known.copy();
    forge(&disk, |superblock| superblock.durable = Lsn::new(known.first()));
    let mut newest = choose_slot(&disk.contents(SUPERBLOCK)).unwrap().superblock;
    newest.sequence += 1;
    newest.durable = Lsn::new(known.last());
    let mut bytes = vec![0; newest.used_bytes()];
    newest.encode_into(&mut bytes);
    let at = (newest.slot() * SLOT) as u64;
    disk.overwrite(SUPERBLOCK, at, &bytes);
    disk.flip_bit(SUPERBLOCK, at + 100, 1);
    disk.delete(&known.segments().pop().unwrap());
    let report = verify(&disk);
    let plan = repair::plan(&disk, &report).unwrap();
    carry_out(&disk, &plan).unwrap();
    let log = options().open_with(shared(&disk)).unwrap();
    let lsn = log.append_durable(b"one more").unwrap().lsn();
    assert!(lsn.get() > known.last(), "{lsn} was acknowledged before: {} {:?}", known.last(), plan.gives_up);
}

/// Somebody has swept up the files whose names end with `.tmp` while a repair was interrupted.
#[test]
fn a_repair_is_not_finished_without_its_new_files_and_can_be_undone() {
    let known = Known::large(true);
    let disk = known.copy();
    disk.overwrite(&known.segments()[1], 9000, &[0xA5; 40]);
    let plan = repair::plan(&disk, &verify(&disk)).unwrap();
    let total = {
        let probe = copy(&disk);
        let before = probe.operations();
        carry_out(&probe, &plan).unwrap();
        probe.operations() - before
    };
    let before = files(&disk);
    let mut tried = 0;
    for n in 0..total {
        let probe = copy(&disk);
        probe.crash_after(n);
        let _ = carry_out(&probe, &plan);
        let probe = copy(&probe);
        let names = probe.list().unwrap();
        let waiting: Vec<_> = names.iter().filter(|name| name.ends_with(".tmp")).collect();
        if !names.iter().any(|name| name.ends_with(".pending")) || waiting.is_empty() {
            continue;
        }
        tried += 1;
        waiting.iter().for_each(|name| probe.delete(name));
        let done = carry_out(&probe, &plan);
        assert!(matches!(done, Err(Error::ChangedSince { .. })), "finished without {waiting:?}: {done:?}");
        repair::undo(&shared(&probe)).unwrap_or_else(|error| panic!("without {waiting:?}: {error}"));
        is_as(&format!("without {waiting:?}"), &probe, &before);
    }
    assert!(tried > 0);
}

/// Somebody has written into the files that wait, or cut them, while a repair was interrupted: they were put in place
/// by their names alone.
#[test]
fn a_repair_is_not_finished_with_other_files_than_its_own_and_can_be_undone() {
    let known = Known::large(true);
    let disk = known.copy();
    disk.overwrite(&known.segments()[1], 9000, &[0xA5; 40]);
    let plan = repair::plan(&disk, &verify(&disk)).unwrap();
    let before = files(&disk);
    let mut tried = 0;
    for n in 0.. {
        let probe = copy(&disk);
        probe.crash_after(n);
        if carry_out(&probe, &plan).is_ok() {
            break;
        }
        let probe = copy(&probe);
        let names = probe.list().unwrap();
        if !names.iter().any(|name| name.ends_with(".pending")) {
            continue;
        }
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            for is_cut in [false, true] {
                tried += 1;
                let probe = copy(&probe);
                match is_cut {
                    true => probe.truncate_file(name, probe.contents(name).len() as u64 - 1),
                    false => probe.flip_bit(name, 5000, 2),
                }
                let (changed, done) = (files(&probe), carry_out(&probe, &plan));
                let is_told = matches!(&done, Err(Error::ChangedSince { file }) if **file == **name);
                assert!(is_told, "finished with another {name}: {done:?}");
                is_as(name, &probe, &changed);
                repair::undo(&shared(&probe)).unwrap_or_else(|error| panic!("with another {name}: {error}"));
                is_as(name, &probe, &before);
            }
        }
    }
    assert!(tried > 0);
}
