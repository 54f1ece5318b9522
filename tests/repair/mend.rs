//! A repaired log is whole, has every record that could be read, and can be taken back to what it was.

use annals::disk::Disk;
use annals::disk::RealDisk;
use annals::disk::sim::{CrashPolicy, Fail, Fault, Operation, SimDisk};
use annals::repair::{self, FileRole, Plan, Silent, Step};
use annals::{Error, LogOptions, WriteMethod};

use crate::seeds::{Cases, Chance};
use crate::support::{
    BLOCK, Known, SLOT_BYTES, SUPERBLOCK, carry_out, files, grow, harm, is_as, killed, mend, options,
    records_of, segments, shared, verify,
};

const NOISE: [u8; 40] = [0xA5; 40];

/// Damages a copy of a log, and repairs it.
#[track_caller]
fn mended(what: &str, known: &Known, damage: impl FnOnce(&SimDisk)) -> Plan {
    let disk = known.copy();
    damage(&disk);
    mend(what, known, &disk)
}

fn length(known: &Known, name: &str) -> u64 {
    known.disk.contents(name).len() as u64
}

fn both() -> [Known; 2] {
    [Known::large(true), Known::large(false)]
}

/// A log of its own, with the same records.
fn another() -> SimDisk {
    let disk = SimDisk::new(99);
    let log = options().open_with(shared(&disk)).unwrap();
    crate::support::grow(&log, 50).unwrap();
    log.close().unwrap();
    disk
}

#[test]
fn a_whole_log_needs_no_repair() {
    for known in both() {
        assert!(known.segments().len() >= 4, "{:?}", known.segments());
        let plan = mended("whole", &known, |_| {});
        assert!(plan.steps.is_empty());
    }
}

#[test]
fn rot_anywhere_in_any_segment_costs_the_records_that_it_hits() {
    for known in both() {
        for name in known.segments() {
            for at in (0..length(&known, &name)).step_by(3331) {
                let what = format!("noise at {at} of {name}");
                let plan = mended(&what, &known, |disk| disk.overwrite(&name, at, &NOISE));
                assert!(records_of(&plan.gives_up) <= 16, "{what}: {:?}", plan.gives_up);
            }
        }
    }
}

#[test]
fn a_single_flipped_bit_costs_nothing_wherever_it_is() {
    for known in both() {
        for name in known.segments() {
            for at in (0..length(&known, &name)).step_by(3301).chain((0..12).map(|at| at * 8 + 1)) {
                let what = format!("a bit of byte {at} of {name}");
                let disk = known.copy();
                disk.flip_bit(&name, at, (at % 8) as u8);
                let plan = mend(&what, &known, &disk);
                assert!(plan.gives_up.is_empty(), "{what}: {:?}", plan.gives_up);
                // It is the very file again, unless the bit did not matter, or is one of a footer that does not either.
                // One that was killed before it got its footer gets that too.
                let was = known.disk.contents(&name);
                let has_footer = was[was.len() - BLOCK as usize..].iter().any(|byte| *byte != 0);
                let is_corrected = plan.steps.iter().any(|step| matches!(step, Step::Correct { .. }));
                if is_corrected && has_footer {
                    assert!(disk.contents(&name) == was, "{what}");
                }
            }
        }
        for at in (0..2 * SLOT_BYTES).step_by(BLOCK as usize / 2).chain((0..20).map(|at| at * 8)) {
            mended(&format!("a bit of byte {at} of the superblock"), &known, |disk| {
                disk.flip_bit(SUPERBLOCK, at, 3)
            });
        }
    }
}

/// The newest record was in memory only, after a sync of it that failed; then another segment was damaged. The superblock
/// of the repaired log said that all of it was durable, so that the log's next open did not write it again, and the power
/// cut after that lost what it had shown.
#[test]
fn a_repair_does_not_vouch_for_what_need_not_be_on_the_disk() {
    let disk = SimDisk::new(3);
    let options = || options().write_method(WriteMethod::Buffered);
    let log = options().open_with(shared(&disk)).unwrap();
    grow(&log, 40).unwrap();
    let disk = killed(&disk);
    drop(log);
    let log = options().open_with(shared(&disk)).unwrap();
    let tail = segments(&disk).pop().unwrap();
    disk.fail(Fail::nth(Operation::Sync, 1, Fault::LoseChanges).on(&tail));
    log.append_durable(b"lost").unwrap_err();
    drop(log);
    disk.flip_bit(&segments(&disk)[0], 5000, 3);
    let report = verify(&disk);
    let plan = repair::plan(&disk, &report).unwrap();
    carry_out(&disk, &plan).unwrap();
    // Neither a power cut right after it ...
    let cut = disk.crash(CrashPolicy::LOSE_ALL);
    assert_eq!(options().open_with(shared(&cut)).unwrap().last_lsn().next(), report.last_lsn);
    // ... nor one after somebody has seen the record.
    let shown = options().open_with(shared(&disk)).unwrap().last_lsn();
    assert_eq!(shown, report.last_lsn);
    let log = options().open_with(shared(&disk.crash(CrashPolicy::LOSE_ALL))).unwrap();
    assert_eq!(log.last_lsn(), shown);
}

#[test]
fn a_file_that_is_cut_anywhere_gets_its_length_back() {
    for known in both() {
        for name in known.segments() {
            for left in (0..length(&known, &name)).step_by(9000) {
                let what = format!("{name} cut to {left}");
                mended(&what, &known, |disk| disk.truncate_file(&name, left));
            }
        }
        mended("a cut superblock", &known, |disk| disk.truncate_file(SUPERBLOCK, 70_000));
    }
}

#[test]
fn any_segments_can_be_missing() {
    for known in both() {
        let names = known.segments();
        for missing in 1..1_u32 << names.len() {
            let gone: Vec<_> =
                (0..names.len()).filter(|at| missing & 1 << at != 0).map(|at| &names[at]).collect();
            let plan = mended(&format!("without {gone:?}"), &known, |disk| {
                gone.iter().for_each(|name| disk.delete(name))
            });
            assert!(
                plan.steps.iter().any(|step| matches!(step, Step::Bridge { .. }))
                    || gone == [&names[names.len() - 1]]
            );
        }
    }
}

#[test]
fn segments_that_change_places_get_their_names_back_and_lose_nothing() {
    for known in both() {
        let names = known.segments();
        for one in &names {
            let odd = "00000000000000000777.seg";
            let plan = mended(&format!("{one} as {odd}"), &known, |disk| {
                disk.copy_from(disk, one, odd);
                disk.delete(one);
            });
            assert!(plan.gives_up.is_empty(), "{one} as {odd}: {:?}", plan.gives_up);
            for other in names.iter().filter(|other| *other > one) {
                let plan = mended(&format!("{one} and {other}"), &known, |disk| disk.swap(one, other));
                assert!(plan.gives_up.is_empty(), "{one} and {other}: {:?}", plan.gives_up);
            }
        }
    }
}

#[test]
fn a_copy_of_a_segment_is_set_aside_and_one_over_another_costs_that() {
    for known in both() {
        let names = known.segments();
        for one in &names {
            for odd in ["00000000000000000002.seg", "00000000000000000777.seg", "spare-000900.seg"] {
                let plan =
                    mended(&format!("{one} also as {odd}"), &known, |disk| disk.copy_from(disk, one, odd));
                assert!(plan.gives_up.is_empty(), "{one} also as {odd}: {:?}", plan.gives_up);
            }
            for other in names.iter().filter(|other| *other != one) {
                mended(&format!("{one} over {other}"), &known, |disk| disk.copy_from(disk, one, other));
            }
        }
    }
}

#[test]
fn a_file_of_another_log_is_set_aside() {
    let other = another();
    for known in both() {
        for name in known.segments() {
            let plan = mended(&format!("foreign {name}"), &known, |disk| {
                disk.copy_from(&other, "00000000000000000001.seg", &name)
            });
            let is_foreign = |step: &Step| matches!(step, Step::SetAside { role: FileRole::Foreign(_), .. });
            assert!(plan.steps.iter().any(is_foreign), "{:?}", plan.steps);
        }
        let odd = "00000000000000000777.seg";
        let plan = mended("one more", &known, |disk| disk.copy_from(&other, "00000000000000000001.seg", odd));
        assert!(plan.gives_up.is_empty());
    }
}

#[test]
fn a_lost_header_or_footer_is_made_again_and_costs_nothing_of_a_sealed_segment() {
    for known in both() {
        let names = known.segments();
        for (index, name) in names.iter().enumerate() {
            let end = length(&known, name);
            for (what, at, bytes) in [
                ("header", 0, vec![0; BLOCK as usize]),
                ("header", 8, NOISE.to_vec()),
                ("trailer", end - BLOCK, vec![0; BLOCK as usize]),
                ("trailer", end - BLOCK + 8, NOISE.to_vec()),
                ("tables", end - 2 * BLOCK, NOISE.to_vec()),
            ] {
                let what = format!("{what} of {name} at {at}");
                let plan = mended(&what, &known, |disk| disk.overwrite(name, at, &bytes));
                assert!(plan.gives_up.is_empty() || index + 1 == names.len(), "{what}: {:?}", plan.gives_up);
            }
        }
    }
}

#[test]
fn a_superblock_is_made_again_from_its_other_slot_or_from_the_segments() {
    for known in both() {
        let zeros = vec![0; SLOT_BYTES as usize];
        for slot in [0, SLOT_BYTES] {
            let what = format!("slot at {slot}");
            let plan = mended(&what, &known, |disk| disk.overwrite(SUPERBLOCK, slot + 20, &NOISE));
            let is_known = |step: &Step| matches!(step, Step::Superblock { is_from_segments: false });
            assert!(plan.steps.iter().any(is_known) && plan.gives_up.is_empty(), "{what}: {:?}", plan.steps);
        }
        let gone = mended("no superblock", &known, |disk| disk.delete(SUPERBLOCK));
        let both = mended("both slots", &known, |disk| {
            disk.overwrite(SUPERBLOCK, 0, &zeros);
            disk.overwrite(SUPERBLOCK, SLOT_BYTES, &zeros);
        });
        for plan in [gone, both] {
            let is_new = |step: &Step| matches!(step, Step::Superblock { is_from_segments: true });
            assert!(plan.steps.iter().any(is_new) && plan.gives_up.is_empty(), "{:?}", plan.steps);
        }
    }
}

#[test]
fn a_mark_survives_a_repair_that_finds_a_slot_of_the_superblock() {
    let known = Known::large(true);
    let disk = known.copy();
    disk.overwrite(SUPERBLOCK, 20, &NOISE);
    disk.overwrite(&known.segments()[1], 9000, &NOISE);
    carry_out(&disk, &repair::plan(&disk, &verify(&disk)).unwrap()).unwrap();
    let log = options().open_with(shared(&disk)).unwrap();
    assert_eq!(log.mark().map(|mark| (mark.lsn.get(), mark.bytes)), known.mark);
}

/// All kinds of damage at once. What is read was acknowledged, and what is not there is told to be lost.
#[test]
fn any_damage_at_once_is_repaired_or_refused_unchanged() {
    let test = "any_damage_at_once_is_repaired_or_refused_unchanged";
    let logs = both();
    let other = another();
    Cases { file: "mend", test, usual: 150 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let known = &logs[chance.below(2) as usize];
        let disk = known.copy();
        let mut done = Vec::new();
        for _ in 0..chance.between(2, 5) {
            done.push(harm(&disk, &other, &mut chance));
        }
        let before = files(&disk);
        let report = verify(&disk);
        match repair::plan(&disk, &report).and_then(|plan| {
            let probe = crate::support::copy(&disk);
            carry_out(&probe, &plan).map(|_| plan)
        }) {
            Ok(_) => drop(mend(&format!("{done:?}"), known, &disk)),
            Err(Error::NotRepairable { .. }) => is_as(&format!("{done:?}"), &disk, &before),
            Err(error) => panic!("{done:?}: {error}\n{report:#?}"),
        }
    });
}

#[test]
fn a_repaired_log_can_be_damaged_and_repaired_again() {
    let test = "a_repaired_log_can_be_damaged_and_repaired_again";
    let logs = both();
    Cases { file: "mend", test, usual: 40 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let known = &logs[chance.below(2) as usize];
        let disk = known.copy();
        for round in 0..3 {
            let names = crate::support::segments(&disk);
            let name = &names[chance.below(names.len() as u64) as usize];
            let at = chance.below(disk.contents(name).len() as u64 - 40);
            disk.overwrite(name, at, &NOISE);
            let what = format!("round {round}: noise at {at} of {name}");
            let report = verify(&disk);
            let plan =
                repair::plan(&disk, &report).unwrap_or_else(|error| panic!("{what}: {error}\n{report:#?}"));
            carry_out(&disk, &plan).unwrap_or_else(|error| panic!("{what}: {error}\n{plan:#?}\n{report:#?}"));
            let after = verify(&disk);
            assert!(after.is_whole(), "{what}: {after:#?}");
            known.check(&what, &disk, (after.last_lsn.get(), &after.given_up));
        }
        let ended = loop {
            if let Err(error) = repair::undo(&shared(&disk)) {
                break error;
            }
        };
        // What the second repair has replaced may be what the first one made, damaged since.
        let is_left = disk.list().unwrap().iter().any(|name| name.starts_with("quarantine"));
        assert_eq!(matches!(ended, Error::NothingToUndo), !is_left, "{ended}");
        assert!(!is_left || matches!(ended, Error::ChangedSince { .. }), "{ended}");
    });
}

#[test]
fn a_file_that_cannot_be_read_at_all_is_lost_and_nothing_else() {
    let known = Known::large(true);
    let names = known.segments();
    for name in &names[1..names.len() - 1] {
        let disk = known.copy();
        let before = files(&disk);
        disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).on(name).and_later());
        let report = verify(&disk);
        let plan = repair::plan(&disk, &report).unwrap_or_else(|error| panic!("{error}\n{report:#?}"));
        let done = carry_out(&disk, &plan).unwrap_or_else(|error| panic!("{error}\n{plan:#?}\n{report:#?}"));
        assert_eq!(done.gave_up, report.lost);
        disk.heal();
        let after = verify(&disk);
        known.check(name, &disk, (after.last_lsn.get(), &after.given_up));
        repair::undo(&shared(&disk)).unwrap();
        is_as(name, &disk, &before);
    }
}

/// Frames that are larger than what is read or written at a time.
#[test]
fn large_records_are_copied_a_piece_at_a_time() {
    let disk = SimDisk::new(1);
    let options = LogOptions::new("simulated").segment_bytes(16 << 20).group_bytes(1 << 20);
    let log = options.clone().open_with(shared(&disk)).unwrap();
    for lsn in 1..=6 {
        log.append_durable(&crate::support::payload(lsn, 2_500_000 + lsn as usize)).unwrap();
    }
    let records = crate::support::all(&log);
    log.close().unwrap();
    let known = Known { disk, records, mark: None, in_doubt: 0 };
    for at in [4_000_000, 12_000_000, 40, 5000] {
        let plan = mended(&format!("noise at {at}"), &known, |disk| {
            disk.overwrite("00000000000000000001.seg", at, &NOISE);
        });
        assert!(records_of(&plan.gives_up) <= 1, "{:?}", plan.gives_up);
    }
}

#[test]
fn a_log_in_a_real_directory_is_repaired_and_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let contents = || -> std::collections::BTreeMap<_, _> {
        let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| !path.ends_with("LOCK"));
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let known = Known::large(true);
    for name in known.disk.list().unwrap() {
        std::fs::write(dir.path().join(&name), known.disk.contents(&name)).unwrap();
    }
    let names = known.segments();
    std::fs::remove_file(dir.path().join(&names[1])).unwrap();
    let before = contents();
    let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(RealDisk::open(dir.path()).unwrap());
    let plan = repair::plan(&*disk, &repair::verify(&disk, 2, &Silent).unwrap()).unwrap();
    let lost = records_of(&plan.gives_up);
    repair::repair(&disk, &plan, Some(lost), &Silent).unwrap();
    assert!(repair::verify(&disk, 2, &Silent).unwrap().is_whole());
    let log = options().open_with(std::sync::Arc::new(RealDisk::open(dir.path()).unwrap())).unwrap();
    assert!(matches!(log.read(plan.gives_up[0].first), Err(Error::Lost { .. })));
    assert_eq!(&*log.read(annals::Lsn::new(known.last())).unwrap(), &*known.records[&known.last()]);
    log.close().unwrap();
    assert!(matches!(repair::undo(&disk), Err(Error::ChangedSince { .. })));
    // Once more, and back.
    for (path, _) in contents() {
        std::fs::remove_file(path).unwrap();
    }
    before.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let plan = repair::plan(&*disk, &repair::verify(&disk, 2, &Silent).unwrap()).unwrap();
    repair::repair(&disk, &plan, Some(lost), &Silent).unwrap();
    repair::undo(&disk).unwrap();
    assert!(contents() == before);
}

/// Somebody who gives up after a while.
struct Impatient(std::sync::atomic::AtomicU64);

impl repair::Watch for Impatient {
    fn begin(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn is_given_up(&self) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn a_repair_that_is_given_up_leaves_nothing() {
    let known = Known::large(true);
    let disk = known.copy();
    disk.delete(&known.segments()[1]);
    disk.overwrite(&known.segments()[2], 20_000, &NOISE);
    let plan = repair::plan(&disk, &verify(&disk)).unwrap();
    let (before, lost) = (files(&disk), records_of(&plan.gives_up));
    let attempt = |patience| {
        repair::repair(
            &shared(&disk),
            &plan,
            Some(lost),
            &Impatient(std::sync::atomic::AtomicU64::new(patience)),
        )
    };
    for patience in 0.. {
        match attempt(patience) {
            Ok(_) => {
                assert!(patience > 8, "{patience}");
                break;
            }
            Err(Error::TimedOut) => is_as("given up", &disk, &before),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn giving_up_records_has_to_be_accepted_by_their_number() {
    let known = Known::large(true);
    let disk = known.copy();
    disk.delete(&known.segments()[1]);
    let before = files(&disk);
    let plan = repair::plan(&disk, &verify(&disk)).unwrap();
    let lost = records_of(&plan.gives_up);
    assert!(lost > 0);
    for accepted in [None, Some(0), Some(lost - 1), Some(lost + 1)] {
        let refused = repair::repair(&shared(&disk), &plan, accepted, &Silent);
        assert!(
            matches!(refused, Err(Error::LossNotAccepted { lost: told, .. }) if told == lost),
            "{refused:?}"
        );
        is_as("refused", &disk, &before);
    }
    repair::repair(&shared(&disk), &plan, Some(lost), &Silent).unwrap();
}

#[test]
fn a_plan_of_a_log_that_was_changed_since_is_refused() {
    let known = Known::large(true);
    let names = known.segments();
    let damaged = || {
        let disk = known.copy();
        disk.overwrite(&names[1], 20_000, &NOISE);
        disk
    };
    let disk = damaged();
    let report = verify(&disk);
    let plan = repair::plan(&disk, &report).unwrap();
    let later: [&dyn Fn(&SimDisk); 4] = [
        &|disk| options().open_with(shared(disk)).map(|log| drop(log.close())).unwrap(),
        &|disk| disk.delete(&names[2]),
        &|disk| disk.truncate_file(&names[1], 60_000),
        &|disk| disk.copy_from(disk, &names[0], "00000000000000000777.seg"),
    ];
    for change in later {
        let disk = damaged();
        change(&disk);
        let before = files(&disk);
        let stale = repair::plan(&disk, &report);
        assert!(matches!(stale, Err(Error::Outdated { .. })), "{stale:?}");
        let refused = carry_out(&disk, &plan);
        assert!(matches!(refused, Err(Error::Outdated { .. })), "{refused:?}");
        is_as("refused", &disk, &before);
    }
    // What it would copy is not what it was.
    disk.overwrite(&names[1], 24_000, &NOISE);
    let before = files(&disk);
    let refused = carry_out(&disk, &plan);
    assert!(matches!(refused, Err(Error::Outdated { .. })), "{refused:?}");
    is_as("refused", &disk, &before);
}

#[test]
fn a_repair_is_not_undone_once_the_log_was_written_to() {
    let known = Known::large(true);
    let names = known.segments();
    let disk = known.copy();
    disk.overwrite(&names[1], 20_000, &NOISE);
    carry_out(&disk, &repair::plan(&disk, &verify(&disk)).unwrap()).unwrap();
    let repaired = files(&disk);
    // Reading changes nothing.
    verify(&disk);
    options().open_with(shared(&disk)).unwrap().close().unwrap();
    let opened = files(&disk);
    let refused = repair::undo(&shared(&disk));
    assert!(matches!(refused, Err(Error::ChangedSince { .. })), "{refused:?}");
    is_as("refused", &disk, &opened);
    for name in repaired.keys().filter(|name| !name.ends_with("journal")) {
        let disk = SimDisk::new(3);
        repaired.iter().for_each(|(name, bytes)| {
            disk.create(name).unwrap().write_at(bytes, 0).unwrap();
        });
        let is_noted = name.starts_with("quarantine") || repaired.contains_key(&aside(&repaired, name));
        disk.flip_bit(name, 5000, 1);
        let undone = repair::undo(&shared(&disk));
        match is_noted {
            true => assert!(matches!(undone, Err(Error::ChangedSince { .. })), "{name}: {undone:?}"),
            false => drop(undone.unwrap()),
        }
    }
}

/// The name that `name` has in the quarantine.
fn aside(files: &crate::support::Files, name: &str) -> String {
    let journal = files.keys().find(|name| name.ends_with(".journal")).unwrap();
    format!("{}{name}", journal.trim_end_matches("journal"))
}

#[test]
fn a_log_that_is_in_use_is_neither_repaired_nor_undone() {
    let known = Known::large(true);
    let disk = known.copy();
    disk.overwrite(&known.segments()[1], 20_000, &NOISE);
    let plan = repair::plan(&disk, &verify(&disk)).unwrap();
    let log = options().open_with(shared(&disk)).unwrap();
    assert!(matches!(carry_out(&disk, &plan), Err(Error::InUse { .. })));
    assert!(matches!(repair::undo(&shared(&disk)), Err(Error::InUse { .. })));
    log.close().unwrap();
}

#[test]
fn the_wall_clock_names_the_quarantine_and_a_second_repair_in_the_same_second_is_numbered() {
    let known = Known::large(true);
    let names = known.segments();
    let disk = known.copy();
    for journal in ["quarantine-20231114T221320Z.journal", "quarantine-20231114T221320Z-2.journal"] {
        disk.delete(&names[1]);
        let done = carry_out(&disk, &repair::plan(&disk, &verify(&disk)).unwrap());
        // The second time it is what was given up that is gone: nothing more is lost.
        assert_eq!(done.unwrap().journal.as_deref(), Some(journal));
    }
    let undone = repair::undo(&shared(&disk)).unwrap();
    assert_eq!(undone.journal, "quarantine-20231114T221320Z-2.journal");
    assert_eq!(undone.files, [SUPERBLOCK]);
}
