//! What is found where a superblock or all of the log is missing, old or newer than the rest.

use super::*;

#[test]
fn a_directory_with_an_old_superblock_keeps_what_the_groups_show() {
    let mut scribe = three_segments(21);
    let old = scribe.disk.contents("superblock");
    scribe.append(&[b"ten"]);
    scribe.idle();
    scribe.disk.overwrite("superblock", 0, &old);
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(10)));
}

#[test]
fn either_slot_of_the_superblock_can_be_lost_and_not_both() {
    for slot in [0, 1] {
        let mut scribe = three_segments(22);
        scribe.idle();
        scribe.disk.flip_bit("superblock", (slot * SLOT_BYTES) as u64 + 20, 1);
        assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
        // The open has written both.
        scribe.disk.flip_bit("superblock", ((1 - slot) * SLOT_BYTES) as u64 + 20, 1);
        assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(9)));
    }
    let scribe = three_segments(22);
    for at in [0, SLOT_BYTES] {
        scribe.disk.flip_bit("superblock", at as u64 + 20, 1);
    }
    assert!(matches!(refused(&scribe.disk), Error::SuperblockDamaged));
    scribe.disk.overwrite("superblock", 0, &[0; SUPERBLOCK_BYTES]);
    assert!(matches!(refused(&scribe.disk), Error::SuperblockDamaged));
}

#[test]
fn a_log_without_its_superblock_is_neither_new_nor_opened() {
    let scribe = three_segments(23);
    scribe.disk.delete("superblock");
    assert!(matches!(is_new(&scribe.disk), Err(Error::SuperblockDamaged)));
    assert!(matches!(refused(&scribe.disk), Error::NotALog));
}

#[test]
fn only_a_directory_without_files_is_new() {
    let disk = SimDisk::new(24);
    assert!(is_new(&disk).unwrap());
    disk.create("LOCK").unwrap();
    disk.create("superblock.tmp").unwrap();
    assert!(is_new(&disk).unwrap(), "what a crash in creating a log leaves");
    disk.create("notes.tmp").unwrap();
    assert!(matches!(is_new(&disk), Err(Error::NotEmpty)));
    assert!(matches!(behold(&disk), Err(Error::NotALog)));
}

#[test]
fn a_superblock_is_written_in_turn_and_a_torn_one_costs_only_the_change() {
    let mut scribe = three_segments(46);
    let before = scribe.superblock.current().clone();
    scribe.disk.crash_after(0);
    let update = scribe.superblock.update(Copies::One, |superblock| superblock.durable = Lsn::new(9));
    assert!(update.is_err());
    assert_eq!(*scribe.superblock.current(), before, "what is known is what is durable");
    for seed in 0..50 {
        let left = scribe.disk.crash(CrashPolicy::seeded(seed));
        let found = SuperblockFile::read(&left).unwrap().unwrap().superblock;
        assert!(found == before || found.durable == Lsn::new(9));
    }
}
