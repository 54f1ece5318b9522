//! The promises of the simulated disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::disk::DurableWriter;
use crate::disk::tests::blocks;

const BLOCK: usize = 4096;

/// A disk that holds the file "f" with `contents`, synced under a synced name.
fn disk_with(contents: &[u8]) -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(7);
    let file = disk.create("f").unwrap();
    file.write_at(contents, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    (disk, file)
}

fn direct(file: &dyn File) -> Box<dyn DurableWriter> {
    file.writer(WriteMethod::Direct).unwrap()
}

/// All that a crash may leave in "f"; `None` where the name is gone.
fn choices(disk: &SimDisk, policy: CrashPolicy) -> BTreeSet<Option<Vec<u8>>> {
    let contents_of =
        |disk: SimDisk| disk.list().unwrap().contains(&"f".to_owned()).then(|| disk.contents("f"));
    disk.crash_choices(policy).map(contents_of).collect()
}

fn names_of(disk: &SimDisk) -> Vec<String> {
    disk.list().unwrap()
}

#[test]
fn what_was_synced_survives_every_crash() {
    let (disk, file) = disk_with(&[1; 3 * BLOCK]);
    direct(&*file).write_durable(&blocks(1, 2), BLOCK as u64).unwrap();
    let expected = disk.contents("f");
    for seed in 0..100 {
        assert_eq!(disk.crash(CrashPolicy::seeded(seed)).contents("f"), expected);
    }
}

#[test]
fn what_was_not_synced_may_be_lost_kept_or_anything_between() {
    let (disk, file) = disk_with(&[1; 3 * BLOCK]);
    file.write_at(&[2; 3 * BLOCK], 0).unwrap();
    assert_eq!(disk.crash(CrashPolicy::LOSE_ALL).contents("f"), [1; 3 * BLOCK]);
    assert_eq!(disk.crash(CrashPolicy::KEEP_ALL).contents("f"), [2; 3 * BLOCK]);
    let by_block = CrashPolicy { tear: Tear::Block, ..CrashPolicy::LOSE_ALL };
    let found = choices(&disk, by_block);
    assert_eq!(found.len(), 8, "each of three blocks is old or new");
    assert!(found.contains(&Some([[1; BLOCK], [2; BLOCK], [1; BLOCK]].concat())));
}

#[test]
fn later_writes_may_reach_the_disk_without_earlier_ones() {
    let (disk, file) = disk_with(&[0; 2 * BLOCK]);
    file.write_at(&[1; BLOCK], 0).unwrap();
    file.write_at(&[2; BLOCK], BLOCK as u64).unwrap();
    let found = choices(&disk, CrashPolicy { tear: Tear::Block, ..CrashPolicy::LOSE_ALL });
    assert!(found.contains(&Some([[0; BLOCK], [2; BLOCK]].concat())));
}

#[test]
fn a_write_over_an_unsynced_one_never_uncovers_something_else() {
    let (disk, file) = disk_with(b"old");
    file.write_at(b"mid", 0).unwrap();
    file.write_at(b"new", 0).unwrap();
    let expected = [b"old", b"mid", b"new"].map(|bytes| Some(bytes.to_vec()));
    assert_eq!(choices(&disk, CrashPolicy::LOSE_ALL), BTreeSet::from(expected));
}

#[test]
fn writes_tear_between_sectors_or_at_any_byte() {
    let (disk, file) = disk_with(&[1; 1024]);
    file.write_at(&[2; 1024], 0).unwrap();
    assert_eq!(choices(&disk, CrashPolicy::LOSE_ALL).len(), 4);
    let (disk, file) = disk_with(&[1; 512]);
    file.write_at(&[2; 512], 0).unwrap();
    let anywhere = CrashPolicy { tear: Tear::AnyByte, ..CrashPolicy::LOSE_ALL };
    assert_eq!(choices(&disk, anywhere).len(), 513, "cut after each of 0 to 512 bytes");
}

#[test]
fn unwritten_parts_may_hold_zeros_or_noise_but_agreed_bytes_stay() {
    let (disk, file) = disk_with(&[1; 512]);
    let mut again = [1; 512];
    again[100..].fill(2);
    file.write_at(&again, 0).unwrap();
    for unwritten in [Unwritten::Zeros, Unwritten::Noise] {
        let policy = CrashPolicy { unwritten, ..CrashPolicy::LOSE_ALL };
        let found = choices(&disk, policy);
        assert_eq!(found.len(), 3, "old, new, and neither");
        for contents in found.into_iter().flatten() {
            assert_eq!(contents[..100], [1; 100], "a powersafe device does not touch these");
            let odd = ![1, 2].contains(&contents[100]);
            assert!(!odd || unwritten == Unwritten::Noise || contents[100..] == [0; 412]);
        }
    }
}

#[test]
fn length_and_allocation_are_volatile_until_a_sync() {
    let (disk, file) = disk_with(b"abc");
    file.allocate(1000).unwrap();
    assert_eq!(disk.crash(CrashPolicy::LOSE_ALL).contents("f"), b"abc");
    file.sync().unwrap();
    assert_eq!(disk.crash(CrashPolicy::LOSE_ALL).contents("f").len(), 1000);
}

#[test]
fn a_durable_write_keeps_itself_and_the_length_it_needs_but_nothing_else() {
    let (disk, file) = disk_with(&[0; BLOCK]);
    file.allocate(8 * BLOCK as u64).unwrap();
    file.write_at(&[1; 10], 0).unwrap();
    direct(&*file).write_durable(&blocks(1, 2), 2 * BLOCK as u64).unwrap();
    let found = disk.crash(CrashPolicy::LOSE_ALL).contents("f");
    assert_eq!(found, [[0; BLOCK], [0; BLOCK], [2; BLOCK]].concat());
}

#[test]
fn a_durable_write_over_unsynced_bytes_is_the_newest() {
    let (disk, file) = disk_with(&[0; 2 * BLOCK]);
    file.write_at(&[1; 2 * BLOCK], 0).unwrap();
    direct(&*file).write_durable(&blocks(1, 2), 0).unwrap();
    for seed in 0..50 {
        let found = disk.crash(CrashPolicy::seeded(seed)).contents("f");
        assert_eq!(found[..BLOCK], [2; BLOCK]);
    }
}

#[test]
fn names_need_a_sync_of_the_directory() {
    let disk = SimDisk::new(7);
    let file = disk.create("a").unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync().unwrap();
    assert!(names_of(&disk.crash(CrashPolicy::LOSE_ALL)).is_empty());
    disk.sync_dir().unwrap();
    disk.rename("a", "b").unwrap();
    assert_eq!(names_of(&disk.crash(CrashPolicy::LOSE_ALL)), ["a"]);
    assert_eq!(names_of(&disk.crash(CrashPolicy::KEEP_ALL)), ["b"]);
    disk.sync_dir().unwrap();
    disk.remove("b").unwrap();
    let back = disk.crash(CrashPolicy::LOSE_ALL);
    assert_eq!((names_of(&back), back.contents("b")), (vec!["b".to_owned()], b"x".to_vec()));
}

#[test]
fn a_name_without_synced_contents_survives_as_an_empty_file() {
    let disk = SimDisk::new(7);
    disk.create("f").unwrap().write_at(b"x", 0).unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(disk.crash(CrashPolicy::LOSE_ALL).contents("f"), b"");
}

#[test]
fn names_survive_in_order_or_any_of_them() {
    let (disk, _file) = disk_with(b"x");
    disk.create("g").unwrap();
    disk.rename("f", "h").unwrap();
    let found = |names| {
        let policy = CrashPolicy { names, ..CrashPolicy::LOSE_ALL };
        disk.crash_choices(policy).map(|disk| names_of(&disk).concat()).collect::<BTreeSet<String>>()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found(Names::InOrder), set(&["f", "fg", "gh"]));
    assert_eq!(found(Names::Any), set(&["f", "fg", "h", "gh"]));
}

#[test]
fn a_replaced_file_is_found_whole_or_the_new_one_is() {
    let (disk, _) = disk_with(b"old");
    let new = disk.create("new").unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync().unwrap();
    disk.rename("new", "f").unwrap();
    let expected = [b"old", b"new"].map(|bytes| Some(bytes.to_vec()));
    assert_eq!(
        choices(&disk, CrashPolicy { names: Names::Any, ..CrashPolicy::LOSE_ALL }),
        BTreeSet::from(expected)
    );
}

#[test]
fn power_can_fail_at_each_operation_and_never_comes_back() {
    let run = |disk: &SimDisk| -> io::Result<()> {
        let _lock = disk.lock("LOCK")?;
        let file = disk.create("a")?;
        file.allocate(2 * BLOCK as u64)?;
        file.write_at(&[1; 10], 0)?;
        file.sync()?;
        disk.sync_dir()?;
        direct(&*file).write_durable(&blocks(1, 2), BLOCK as u64)?;
        disk.rename("a", "b")?;
        disk.remove("LOCK")
    };
    let disk = SimDisk::new(7);
    run(&disk).unwrap();
    let operations = disk.operations();
    assert_eq!(operations, 9);
    for more in 0..operations {
        let disk = SimDisk::new(7);
        disk.crash_after(more);
        assert!(run(&disk).is_err());
        assert!(disk.is_off() && disk.list().is_err() && disk.open("a", Access::Read).is_err());
        assert_eq!(disk.operations(), more + 1);
        let found = disk.crash(CrashPolicy::LOSE_ALL);
        assert_eq!(names_of(&found).contains(&"a".to_owned()), more >= 6);
        assert!(matches!(found.lock("LOCK").unwrap(), Lock::Held(_)));
    }
    let disk = SimDisk::new(7);
    disk.crash_after(operations);
    run(&disk).unwrap();
}

#[test]
fn the_operation_during_which_power_fails_may_be_half_done() {
    let (disk, file) = disk_with(&[1; 2 * BLOCK]);
    disk.crash_after(0);
    direct(&*file).write_durable(&blocks(2, 2), 0).unwrap_err();
    let found = choices(&disk, CrashPolicy { tear: Tear::Block, ..CrashPolicy::LOSE_ALL });
    assert_eq!(found.len(), 4);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let (disk, file) = disk_with(&[1; 64 * BLOCK]);
        file.write_at(&[2; 64 * BLOCK], 100).unwrap();
        disk.create("g").unwrap();
        let found = disk.crash(CrashPolicy::seeded(seed));
        (found.contents("f"), names_of(&found), found.entropy(), found.trace())
    };
    assert_eq!(run(5), run(5));
    let different: BTreeSet<_> = (0..20).map(run).collect();
    assert!(different.len() > 10);
    assert_ne!(SimDisk::new(1).entropy(), SimDisk::new(2).entropy());
}

#[test]
fn the_nth_operation_fails_once_or_from_then_on() {
    let (disk, file) = disk_with(b"x");
    disk.fail(Fail::nth(Operation::Sync, 2, Fault::Io));
    let outcomes: Vec<bool> = (0..4).map(|_| file.sync().is_ok()).collect();
    assert_eq!(outcomes, [true, false, true, true]);
    disk.fail(Fail::nth(Operation::Sync, 2, Fault::Io).and_later());
    let outcomes: Vec<bool> = (0..4).map(|_| file.sync().is_ok()).collect();
    assert_eq!(outcomes, [true, false, false, false]);
    disk.heal();
    file.sync().unwrap();
}

#[test]
fn every_kind_of_operation_can_fail_on_the_file_that_is_meant() {
    let (disk, file) = disk_with(&[0; BLOCK]);
    let other = disk.create("other").unwrap();
    let attempt = |operation| match operation {
        Operation::List => disk.list().map(drop),
        Operation::Open => disk.open("f", Access::Read).map(drop),
        Operation::Create => disk.create("new").map(drop),
        Operation::Rename => disk.rename("f", "g"),
        Operation::Link => disk.link("f", "more"),
        Operation::Remove => disk.remove("f"),
        Operation::SyncDir => disk.sync_dir(),
        Operation::Lock => disk.lock("LOCK").map(drop),
        Operation::Read => file.read_at(&mut [0], 0).map(drop),
        Operation::Write => file.write_at(b"x", 0),
        Operation::WriteDurable => direct(&*file).write_durable(&blocks(1, 0), 0),
        Operation::Sync => file.sync(),
        Operation::Allocate => file.allocate(10),
        Operation::WriteZeroes => file.write_zeroes(10).map(drop),
    };
    use Operation::{Allocate, Create, Link, List, Lock, Open, Read, Remove, Rename, Sync, SyncDir, Write};
    for operation in [List, SyncDir, Lock, Read, Write, Operation::WriteDurable, Sync, Allocate]
        .into_iter()
        .chain([Operation::WriteZeroes, Open, Create, Rename, Link, Remove])
    {
        disk.fail(Fail::nth(operation, 1, Fault::Io));
        assert!(attempt(operation).is_err(), "{operation:?}");
        assert!(attempt(operation).is_ok(), "{operation:?}");
        if operation == Rename {
            disk.rename("g", "f").unwrap();
        }
    }
    disk.fail(Fail::nth(Operation::Write, 1, Fault::NoSpace).on("other"));
    file.write_at(b"x", 0).unwrap();
    assert_eq!(other.write_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn short_and_interrupted_attempts_go_on_until_all_is_done() {
    let (disk, file) = disk_with(&[0; 10]);
    disk.fail(Fail::nth(Operation::Write, 1, Fault::Short(3)));
    disk.fail(Fail::nth(Operation::Write, 2, Fault::Interrupted));
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Short(2)));
    disk.fail(Fail::nth(Operation::Read, 2, Fault::Interrupted));
    file.write_at(b"0123456789", 0).unwrap();
    let mut buf = [0; 10];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 10);
    assert_eq!(&buf, b"0123456789");
    disk.fail(Fail::nth(Operation::Write, 1, Fault::Short(0)));
    assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::WriteZero);
}

#[test]
fn a_failed_write_leaves_a_part_of_itself() {
    let (disk, file) = disk_with(&[0; 2 * BLOCK]);
    disk.fail(Fail::nth(Operation::Write, 1, Fault::Io));
    file.write_at(&[1; 10], 0).unwrap_err();
    assert_eq!(disk.contents("f")[..10], [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    disk.fail(Fail::nth(Operation::WriteDurable, 1, Fault::Io));
    direct(&*file).write_durable(&blocks(2, 2), 0).unwrap_err();
    assert!(disk.contents("f") == [[2; BLOCK], [0; BLOCK]].concat());
    let found = disk.crash(CrashPolicy::LOSE_ALL).contents("f");
    assert!(found == [0; 2 * BLOCK], "nothing of it is durable for sure");
}

#[test]
fn a_sync_may_fail_once_and_then_succeed_although_the_changes_are_gone() {
    let (disk, file) = disk_with(b"old");
    file.write_at(b"new", 0).unwrap();
    disk.fail(Fail::nth(Operation::Sync, 1, Fault::LoseChanges));
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert_eq!(disk.contents("f"), b"new", "the cache still shows them");
    assert_eq!(disk.crash(CrashPolicy::KEEP_ALL).contents("f"), b"old");
}

#[test]
fn a_disk_that_lies_loses_what_it_said_was_synced() {
    let (disk, file) = disk_with(&[1; BLOCK]);
    disk.lie_about_sync(true);
    file.write_at(&[2; BLOCK], 0).unwrap();
    file.sync().unwrap();
    direct(&*file).write_durable(&blocks(1, 3), 0).unwrap();
    disk.create("g").unwrap();
    disk.sync_dir().unwrap();
    let found = disk.crash(CrashPolicy::LOSE_ALL);
    assert!(found.contents("f") == [1; BLOCK] && names_of(&found) == ["f"]);
    disk.lie_about_sync(false);
    file.sync().unwrap();
    assert!(disk.crash(CrashPolicy::LOSE_ALL).contents("f") == [3; BLOCK]);
}

#[test]
fn writes_in_flight_wait_while_the_disk_is_stalled_and_a_crash_tears_them() {
    let (disk, file) = disk_with(&[0; 2 * BLOCK]);
    let writer = direct(&*file);
    disk.stall();
    thread::scope(|scope| {
        scope.spawn(|| writer.write_durable(&blocks(1, 1), 0).unwrap());
        let first = disk.wait_until_blocked(1)[0].0;
        scope.spawn(|| writer.write_durable(&blocks(1, 2), BLOCK as u64).unwrap());
        let second = disk.wait_until_blocked(2)[1].0;
        let policy = CrashPolicy { tear: Tear::Block, ..CrashPolicy::LOSE_ALL };
        assert_eq!(choices(&disk, policy).len(), 4, "each is there or not");
        assert!(disk.release_one(second));
        while disk.durable_contents("f")[BLOCK] == 0 {
            thread::yield_now();
        }
        assert_eq!(choices(&disk, policy).len(), 2, "the second has returned before the first");
        assert!(disk.blocked().iter().map(|blocked| blocked.0).eq([first]));
        assert!(!disk.release_one(second));
        disk.release();
    });
    assert_eq!(disk.crash(CrashPolicy::LOSE_ALL).contents("f"), [[1; BLOCK], [2; BLOCK]].concat());
}

#[test]
fn what_a_stall_holds_fails_when_the_power_does() {
    let (disk, file) = disk_with(b"x");
    disk.stall();
    thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync());
        assert_eq!(disk.wait_until_blocked(1)[0].1, "Sync f");
        assert_eq!(file.read_at(&mut [0], 0).unwrap(), 1, "reads go on");
        disk.power_off();
        sync.join().unwrap().unwrap_err();
    });
}

#[test]
fn a_full_disk_refuses_what_needs_space_until_some_comes_back() {
    let (disk, file) = disk_with(&[1; 2 * BLOCK]);
    disk.set_capacity(Some(4 * BLOCK as u64));
    let other = disk.create("other").unwrap();
    other.allocate(2 * BLOCK as u64).unwrap();
    assert_eq!(disk.used(), 4 * BLOCK as u64);
    let full = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    full(file.write_at(b"x", 2 * BLOCK as u64));
    full(direct(&*file).write_durable(&blocks(1, 1), 2 * BLOCK as u64));
    full(file.allocate(3 * BLOCK as u64));
    file.write_at(b"old blocks can be rewritten", 0).unwrap();
    other.write_at(&[1; 2 * BLOCK], 0).expect("reserved");
    disk.remove("other").unwrap();
    full(file.write_at(b"x", 2 * BLOCK as u64));
    drop(other);
    file.write_at(b"x", 2 * BLOCK as u64).expect("the last use of the removed file has ended");
    disk.set_capacity(None);
    file.allocate(1 << 40).unwrap();
}

#[test]
fn stored_bytes_can_be_damaged_and_files_mixed_up() {
    let (disk, _file) = disk_with(&[0; 10]);
    disk.flip_bit("f", 3, 7);
    disk.overwrite("f", 8, b"xyz");
    assert_eq!(disk.contents("f"), b"\0\0\0\x80\0\0\0\0xyz");
    disk.truncate_file("f", 4);
    disk.copy_from(&disk, "f", "g");
    disk.truncate_file("g", 0);
    disk.swap("f", "g");
    let found = disk.crash(CrashPolicy::LOSE_ALL);
    assert_eq!((found.contents("f"), found.contents("g")), (vec![], b"\0\0\0\x80".to_vec()));
    disk.delete("f");
    assert_eq!(names_of(&disk.crash(CrashPolicy::LOSE_ALL)), ["g"]);
}

#[test]
fn a_whole_directory_can_be_put_back() {
    let (disk, file) = disk_with(b"then");
    let then = disk.snapshot();
    file.write_at(b"now!", 0).unwrap();
    disk.rename("f", "g").unwrap();
    disk.restore(&then);
    let found = disk.crash(CrashPolicy::LOSE_ALL);
    assert_eq!((names_of(&found), found.contents("f")), (vec!["f".to_owned()], b"then".to_vec()));
    assert_eq!(disk.contents("f"), b"then");
}

#[test]
fn a_refused_method_is_unsupported() {
    let (disk, file) = disk_with(b"");
    disk.refuse_method(WriteMethod::Direct);
    assert_eq!(file.writer(WriteMethod::Direct).unwrap_err().kind(), io::ErrorKind::Unsupported);
    file.writer(WriteMethod::Buffered).unwrap();
}

#[test]
fn zeros_by_the_device_are_volatile_until_a_sync() {
    let (disk, file) = disk_with(&[1; BLOCK]);
    assert!(!file.write_zeroes(10).unwrap());
    disk.support_write_zeroes(true);
    assert!(file.write_zeroes(BLOCK as u64).unwrap());
    assert_eq!(disk.contents("f"), [0; BLOCK]);
    assert_eq!(disk.crash(CrashPolicy::LOSE_ALL).contents("f"), [1; BLOCK]);
    file.sync().unwrap();
    assert_eq!(disk.crash(CrashPolicy::LOSE_ALL).contents("f"), [0; BLOCK]);
}

#[test]
fn the_trace_tells_what_was_done_up_to_the_crash() {
    let (disk, file) = disk_with(b"x");
    disk.fail(Fail::nth(Operation::Read, 1, Fault::Io));
    file.read_at(&mut [0], 0).unwrap_err();
    disk.note("here");
    disk.crash_after(0);
    file.sync().unwrap_err();
    let trace = disk.crash(CrashPolicy::LOSE_ALL).trace();
    let lines: Vec<&str> = trace.lines().collect();
    assert_eq!(lines[..4], ["#1 Create f", "#2 Write f 0+1", "#3 Sync f", "#4 SyncDir"]);
    assert_eq!(lines[4..7], ["#4 Read f 0+1 -> Io", "here", "#5 Sync f -> power fails"]);
    assert!(lines[7].starts_with("crash CrashPolicy"));
}

#[test]
fn a_hundred_thousand_files_are_no_burden() {
    let disk = SimDisk::new(7);
    for number in 0..100_000 {
        disk.create(&format!("{number}")).unwrap().write_at(b"x", 0).unwrap();
        disk.sync_dir().unwrap();
    }
    assert_eq!(names_of(&disk.crash(CrashPolicy::LOSE_ALL)).len(), 100_000);
    for number in 0..100_000 {
        disk.remove(&format!("{number}")).unwrap();
        disk.sync_dir().unwrap();
    }
    assert_eq!(disk.shared.state.lock().inodes.len(), 0);
}

#[test]
fn a_disk_that_keeps_no_trace_is_otherwise_the_same() {
    let run = |is_traced: bool| {
        let disk = SimDisk::new(5);
        if !is_traced {
            disk.stop_trace();
        }
        let file = disk.create("a").unwrap();
        file.write_at(b"some bytes", 0).unwrap();
        disk.fail(Fail::nth(Operation::Sync, 1, Fault::Io).on("a"));
        assert!(file.sync().is_err());
        let found = disk.crash(CrashPolicy::KEEP_ALL);
        assert_eq!(found.trace().is_empty(), !is_traced);
        (disk.operations(), found.entropy(), found.list().unwrap())
    };
    assert_eq!(run(true), run(false));
}

/// What a crash leaves of two names for one file: any of them, and whichever is left has all of it.
#[test]
fn a_file_with_two_names_is_one_file_after_a_crash_too() {
    let (disk, file) = disk_with(b"old");
    disk.link("f", "kept").unwrap();
    disk.sync_dir().unwrap();
    file.write_at(b"new", 0).unwrap();
    for found in disk.crash_choices(CrashPolicy::LOSE_ALL) {
        assert_eq!(found.contents("f"), found.contents("kept"));
        assert_eq!(found.used(), disk.used(), "its bytes are there once");
    }
    file.sync().unwrap();
    let other = disk.create("other").unwrap();
    other.sync().unwrap();
    disk.rename("other", "f").unwrap();
    drop((file, other));
    disk.sync_dir().unwrap();
    assert_eq!((disk.contents("f"), disk.contents("kept")), (vec![], b"new".to_vec()));
    // Given and renamed since the last sync: the name that is durable stays, whichever of those came through.
    disk.link("kept", "more").unwrap();
    disk.rename("more", "most").unwrap();
    disk.rename("most", "last").unwrap();
    let any = CrashPolicy { names: Names::Any, ..CrashPolicy::LOSE_ALL };
    for found in disk.crash_choices(any) {
        assert_eq!(found.contents("kept"), b"new");
    }
}
