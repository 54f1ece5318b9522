//! Power fails with groups in flight, then the disk rots: what a repair leaves is what was appended, or is told to
//! be lost.

use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::repair::{self, Opening};
use annals::{Error, LogOptions, Lsn, ZeroFill};

use crate::seeds::{Cases, Chance};
use crate::support::{SUPERBLOCK, carry_out, covers, files, harm, is_as, payload, shared, verify};

fn options() -> LogOptions {
    LogOptions::new("simulated")
        .segment_bytes(128 << 10)
        .group_bytes(8 << 10)
        .in_flight_bytes_max(128 << 10)
        .depth(4)
        .zero_fill(ZeroFill::Never)
}

fn bytes_of(lsn: u64) -> Vec<u8> {
    payload(lsn, (lsn * 2741 % 5000) as usize)
}

/// A log that was cut off while it was written, and the newest record that was acknowledged by then.
fn cut_off(chance: &mut Chance, trims: bool) -> (SimDisk, u64) {
    let disk = SimDisk::new(chance.next());
    let log = options().open_with(shared(&disk)).unwrap();
    let count = chance.between(5, 400);
    let mut next = 1;
    while next <= count {
        if chance.below(6) == 0 {
            let batch: Vec<_> = (next..next + 3).map(bytes_of).collect();
            drop(log.append_batch(&batch).unwrap());
            next += 3;
        } else {
            drop(log.append(&bytes_of(next)).unwrap());
            next += 1;
        }
        match chance.below(60) {
            0 => drop(log.sync().unwrap()),
            1 if trims => log.trim(Lsn::new(log.watermarks().durable.get() / 2)).unwrap(),
            _ => {}
        }
    }
    let durable = log.watermarks().durable.get();
    let cut = disk.crash(CrashPolicy::seeded(chance.next()));
    (cut, durable)
}

#[test]
fn whatever_is_read_after_a_crash_rot_and_a_repair_is_what_was_appended() {
    let test = "whatever_is_read_after_a_crash_rot_and_a_repair_is_what_was_appended";
    Cases { file: "afloat", test, usual: 60 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let (disk, durable) = cut_off(&mut chance, true);
        let (other, _) = cut_off(&mut chance, false);
        let superblock = annals::format::choose_slot(&disk.contents(SUPERBLOCK)).unwrap().superblock;
        let mut done = Vec::new();
        for _ in 0..chance.below(4) {
            done.push(harm(&disk, &other, &mut chance));
        }
        let before = files(&disk);
        let report = verify(&disk);
        let what = format!("{done:?}\n{report:#?}");
        let plan = match repair::plan(&disk, &report) {
            Ok(plan) => plan,
            Err(Error::NotRepairable { .. } | Error::NotALog) if !done.is_empty() => return,
            Err(error) => panic!("{error} {what}"),
        };
        match carry_out(&disk, &plan) {
            Ok(_) => {}
            Err(Error::NotRepairable { .. }) if !done.is_empty() => return is_as(&what, &disk, &before),
            Err(error) => panic!("{error} {what}\n{plan:#?}"),
        }
        let after = verify(&disk);
        assert!(after.is_whole() && matches!(after.opening, Opening::Opens), "{after:#?} {what}");
        let log = options().open_with(shared(&crate::support::copy(&disk))).unwrap();
        let (first, last) = (log.first_lsn().get(), log.last_lsn().get());
        if done.is_empty() {
            assert!(last >= durable && plan.steps.is_empty(), "{last} < {durable} {what}");
        }
        if done.iter().all(|done| !done.starts_with("slot")) {
            assert!(last >= superblock.durable.get(), "{last} {what}\n{plan:#?}");
        }
        for lsn in first..=last {
            match log.read(Lsn::new(lsn)) {
                Ok(record) => assert!(*record == *bytes_of(lsn), "{lsn} has other bytes {what}"),
                Err(Error::Lost { .. }) => assert!(covers(&after.given_up, lsn), "{lsn} {what}"),
                Err(error) => panic!("{lsn}: {error} {what}\n{plan:#?}"),
            }
        }
        log.close().unwrap();
        if !plan.steps.is_empty() {
            repair::undo(&shared(&disk)).unwrap();
            is_as(&what, &disk, &before);
        }
    });
}
