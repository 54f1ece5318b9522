//! Recovery on a disk that fails, fills up, or loses its power.

use super::*;

/// A state with something of everything to do: a torn tail in a spare, segments without footers, a stale
/// spare, an unfinished file, a trim that was not followed by recycling.
fn much_to_do(seed: u64) -> Scribe {
    let mut scribe = three_segments(seed);
    scribe.superblock.update(Copies::Both, |superblock| superblock.first_lsn = Lsn::new(6)).unwrap();
    scribe.roll(&[b"ten"]);
    let ten = scribe.tail.name();
    scribe.roll(&[b"eleven"]);
    scribe.append(&[b"twelve"]);
    let torn = scribe.group(&[&[1; 600]], true);
    scribe.write(&half(&torn));
    let later = scribe.group(&[b"later"], false);
    scribe.write(&later);
    scribe.disk.copy_from(&scribe.disk.clone(), &ten, &spare_name(70));
    scribe.disk.create(&format!("{}.tmp", spare_name(71))).unwrap();
    scribe
}

#[test]
fn recovery_survives_a_crash_at_every_operation() {
    let expected = much_to_do(40).up_to(Lsn::new(12)).split_off(5);
    for more in 0.. {
        let scribe = much_to_do(40);
        scribe.disk.crash_after(more);
        let done = recover(&scribe.disk, WANTED).is_ok();
        let policies = (0..6).map(|seed| CrashPolicy::seeded(seed + 10 * more));
        for policy in policies.chain([CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL]) {
            let left = scribe.disk.crash(policy);
            let story = || format!("{policy:?}\n{}", left.trace());
            let vouched = behold_all(&left).unwrap_or_else(|e| panic!("{e} {}", story()));
            assert!(expected.starts_with(&vouched) && vouched.len() + 1 >= expected.len(), "{}", story());
            assert_eq!(
                read_all(&left).unwrap_or_else(|e| panic!("{e} {}", story())),
                expected,
                "{}",
                story()
            );
            assert_eq!(read_all(&left).unwrap(), expected, "again {}", story());
        }
        if done {
            assert!(more > 10, "there was much to do");
            return;
        }
    }
}

#[test]
fn recovery_tells_every_error_of_the_disk_and_works_afterwards() {
    use Operation::*;
    let expected = much_to_do(41).up_to(Lsn::new(12)).split_off(5);
    for operation in [List, Open, Read, Write, Sync, SyncDir, Rename, Remove] {
        for nth in 1.. {
            let scribe = much_to_do(41);
            scribe.disk.fail(Fail::nth(operation, nth, Fault::Io));
            let failed = recover(&scribe.disk, WANTED);
            let is_ok = failed.is_ok();
            if let Err(error) = failed {
                assert!(matches!(error, Error::Io { .. }), "{operation:?} {nth}: {error}");
            }
            scribe.disk.heal();
            let left = scribe.disk.crash(CrashPolicy::seeded(nth));
            assert_eq!(read_all(&left).unwrap(), expected, "{operation:?} {nth}");
            assert_eq!(read_all(&scribe.disk).unwrap(), expected, "{operation:?} {nth}");
            if is_ok {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_is_told_as_such_and_recovery_goes_on_when_there_is_space() {
    let mut scribe = three_segments(42);
    scribe.append(&[b"ten"]);
    scribe.disk.truncate_file(&name(8), scribe.end);
    scribe.disk.fail(Fail::nth(Operation::Allocate, 1, Fault::NoSpace));
    assert!(matches!(recover(&scribe.disk, WANTED), Err(Error::NoSpace)));
    assert_eq!(read_all(&scribe.disk).unwrap(), scribe.up_to(Lsn::new(10)));
}
