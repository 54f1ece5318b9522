//! Logs of which it is known what is in them, and what has to hold for a log that was repaired.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::seeds::Chance;
pub(crate) use crate::small::options;
use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::repair::{self, Opening, Plan, Repaired, Report, Silent, Step};
use annals::{Error, Log, Lsn, LsnRange, Result};

pub(crate) const SUPERBLOCK: &str = "superblock";
pub(crate) const SLOT_BYTES: u64 = 64 << 10;
pub(crate) const BLOCK: u64 = 4096;
const NOISE: [u8; 40] = [0xA5; 40];

/// A log, and the records that were acknowledged in it.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) disk: SimDisk,
    pub(crate) records: BTreeMap<u64, Vec<u8>>,
    pub(crate) mark: Option<(u64, Vec<u8>)>,
    /// How many of the newest records nothing may vouch for.
    pub(crate) in_doubt: u64,
}

/// All files of a directory but the lock.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

impl Known {
    /// A log that was written, and closed or killed.
    pub(crate) fn write(is_closed: bool, write: impl FnOnce(&Log) -> Result<()>) -> Known {
        let disk = SimDisk::new(1);
        let log = options().open_with(Arc::new(disk.clone())).unwrap();
        write(&log).unwrap();
        let records = all(&log);
        let mark = log.mark().map(|mark| (mark.lsn.get(), mark.bytes));
        let disk = match is_closed {
            true => {
                log.close().unwrap();
                disk
            }
            false => killed(&disk),
        };
        Known { disk: copy(&disk), records, mark, in_doubt: if is_closed { 0 } else { 3 } }
    }

    /// Several segments with records and batches, a mark, and a trim.
    pub(crate) fn large(is_closed: bool) -> Known {
        Known::write(is_closed, |log| {
            grow(log, 20)?;
            log.set_mark(Lsn::new(7), b"seven")?;
            grow(log, 30)?;
            log.trim(Lsn::new(6))
        })
    }

    /// The same log once more, to be damaged.
    pub(crate) fn copy(&self) -> SimDisk {
        copy(&self.disk)
    }

    pub(crate) fn segments(&self) -> Vec<String> {
        segments(&self.disk)
    }

    pub(crate) fn first(&self) -> u64 {
        self.records.keys().next().copied().unwrap_or(1)
    }

    pub(crate) fn last(&self) -> u64 {
        self.records.keys().next_back().copied().unwrap_or(0)
    }

    /// Opens a log that ends with `last` and has lost these records, and compares all of the others.
    #[track_caller]
    pub(crate) fn check(&self, what: &str, disk: &SimDisk, (last, lost): (u64, &[LsnRange])) {
        assert!(last <= self.last() && last + self.in_doubt >= self.last(), "{what}: ends with {last}");
        let log = options().open_with(Arc::new(copy(disk)));
        let log = log.unwrap_or_else(|error| panic!("{what}: {error}\n{:#?}", verify(disk)));
        assert_eq!(log.last_lsn().get(), last, "{what}");
        // Without a superblock nobody knows what was trimmed.
        let first = log.first_lsn().get();
        assert!(first == self.first() || self.in_doubt >= self.last(), "{what}: begins with {first}");
        for (lsn, record) in self.records.range(first..=last) {
            let read = log.read(Lsn::new(*lsn));
            match covers(lost, *lsn) {
                true => assert!(matches!(read, Err(Error::Lost { .. })), "{what}: record {lsn}: {read:?}"),
                false => match read {
                    Ok(read) => assert!(*read == **record, "{what}: record {lsn} has other bytes"),
                    Err(error) => panic!("{what}: record {lsn}: {error}"),
                },
            }
        }
        let receipt = log.append_durable(b"one more").unwrap();
        assert_eq!(receipt.lsn().get(), last + 1, "{what}");
        log.close().unwrap();
    }
}

/// What a crash leaves of the log on `disk`, once housekeeping has given each segment its name: so it is the same
/// each time, however slow the machine.
pub(crate) fn killed(disk: &SimDisk) -> SimDisk {
    loop {
        let left = disk.crash(CrashPolicy::LOSE_ALL);
        let report = repair::inspect(&left).unwrap();
        if report.segments.iter().all(|segment| !segment.file.starts_with("spare-")) {
            return left;
        }
        std::thread::yield_now();
    }
}

/// Appends records and batches of many sizes.
pub(crate) fn grow(log: &Log, count: u64) -> Result<()> {
    for number in 0..count {
        let next = log.last_lsn().get() + 1;
        match number % 5 {
            3 => log
                .append_batch(&[payload(next, 400), payload(next + 1, 0), payload(next + 2, 1100)])?
                .wait()?,
            _ => log.append_durable(&payload(next, (next * 3793 % 11000) as usize))?,
        };
    }
    Ok(())
}

/// A record, whose bytes its LSN tells.
pub(crate) fn payload(lsn: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (lsn as usize * 31 + at * 7) as u8).collect()
}

pub(crate) fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash(CrashPolicy::KEEP_ALL)
}

pub(crate) fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub(crate) fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".seg") && name.starts_with('0'));
    names.sort();
    names
}

pub(crate) fn files(disk: &SimDisk) -> Files {
    let names = disk.list().unwrap().into_iter().filter(|name| name != "LOCK");
    names.map(|name| (name.clone(), disk.contents(&name))).collect()
}

pub(crate) fn verify(disk: &SimDisk) -> Report {
    repair::verify(&shared(disk), 1, &Silent).unwrap()
}

pub(crate) fn covers(ranges: &[LsnRange], lsn: u64) -> bool {
    ranges.iter().any(|range| (range.first.get()..=range.last.get()).contains(&lsn))
}

pub(crate) fn records_of(ranges: &[LsnRange]) -> u64 {
    ranges.iter().map(LsnRange::records).sum()
}

pub(crate) fn carry_out(disk: &SimDisk, plan: &Plan) -> Result<Repaired> {
    repair::repair(&shared(disk), plan, Some(records_of(&plan.gives_up)), &Silent)
}

pub(crate) fn all(log: &Log) -> BTreeMap<u64, Vec<u8>> {
    let records = log.cursor(..).unwrap().records().map(Result::unwrap);
    records.map(|record| (record.lsn().get(), record.to_vec())).collect()
}

/// Looks at a damaged log, repairs it, looks at it again, and takes the repair back: each as it has to be.
#[track_caller]
pub(crate) fn mend(what: &str, known: &Known, disk: &SimDisk) -> Plan {
    let before = files(disk);
    let report = verify(disk);
    let plan = repair::plan(disk, &report).unwrap_or_else(|error| panic!("{what}: {error}\n{report:#?}"));
    assert!(files(disk) == before, "{what}: planning changed something");
    let outcome =
        carry_out(disk, &plan).unwrap_or_else(|error| panic!("{what}: {error}\n{plan:#?}\n{report:#?}"));
    assert_eq!(outcome.gave_up, plan.gives_up, "{what}");
    let after = verify(disk);
    assert!(after.is_whole(), "{what}: {after:#?}\n{plan:#?}\n{report:#?}");
    assert!(matches!(after.opening, Opening::Opens), "{what}");
    assert_eq!(after.last_lsn, report.last_lsn, "{what}");
    for lsn in report.first_lsn.get()..=report.last_lsn.get() {
        let was = covers(&report.given_up, lsn) || covers(&plan.gives_up, lsn);
        assert_eq!(covers(&after.given_up, lsn), was, "{what}: {lsn}\n{after:#?}\n{plan:#?}");
    }
    // Without a superblock nothing vouches for what is gone at the end.
    let is_headless =
        plan.steps.iter().any(|step| matches!(step, Step::Superblock { is_from_segments: true }));
    let in_doubt = if is_headless { u64::MAX >> 1 } else { known.in_doubt };
    let known = &Known { in_doubt, ..known.clone() };
    known.check(what, disk, (after.last_lsn.get(), &after.given_up));
    let Some(journal) = outcome.journal else {
        assert!(plan.steps.is_empty() && files(disk) == before, "{what}: nothing to do");
        return plan;
    };
    is_quarantined(what, &journal, &before, &files(disk));
    repair::undo(&shared(disk)).unwrap_or_else(|error| panic!("{what}: {error}"));
    is_as(what, disk, &before);
    let nothing = repair::undo(&shared(disk));
    assert!(matches!(nothing, Err(Error::NothingToUndo)), "{what}: {nothing:?}");
    // And once more, because it can.
    carry_out(disk, &plan).unwrap();
    plan
}

#[track_caller]
pub(crate) fn is_as(what: &str, disk: &SimDisk, before: &Files) {
    let now = files(disk);
    let names =
        |files: &Files| files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect::<Vec<_>>();
    assert_eq!(names(&now), names(before), "{what}");
    for (name, bytes) in before {
        assert!(now[name] == *bytes, "{what}: {name} has other bytes");
    }
}

/// Every file is what it was, where it was or in the quarantine.
#[track_caller]
pub(crate) fn is_quarantined(what: &str, journal: &str, before: &Files, now: &Files) {
    let stem = journal.trim_end_matches("journal");
    for (name, bytes) in before {
        let held = now.get(&format!("{stem}{name}")).or(now.get(name));
        assert!(held == Some(bytes), "{what}: {name} is not what it was");
    }
}

/// Damages a log, and says how.
pub(crate) fn harm(disk: &SimDisk, other: &SimDisk, chance: &mut Chance) -> String {
    let names = segments(disk);
    let Some(name) = names.get(chance.below(names.len().max(1) as u64) as usize) else {
        return String::new();
    };
    let bytes = disk.contents(name).len() as u64;
    let at = chance.below(bytes.saturating_sub(100).max(1));
    match chance.below(9) {
        _ if bytes < 200 => "nothing".to_owned(),
        0 => {
            disk.delete(name);
            format!("deleted {name}")
        }
        1 => {
            disk.flip_bit(name, at, 1);
            format!("bit of {at} of {name}")
        }
        2 => {
            disk.truncate_file(name, at);
            format!("cut {name} to {at}")
        }
        3 => {
            disk.overwrite(name, 8, &NOISE);
            format!("header of {name}")
        }
        4 => {
            disk.overwrite(name, bytes - BLOCK.min(bytes / 2), &NOISE);
            format!("trailer of {name}")
        }
        5 => {
            let with = chance.pick(&names.iter().collect::<Vec<_>>());
            if with != name {
                disk.swap(name, with);
            }
            format!("swapped {name} and {with}")
        }
        6 => {
            disk.copy_from(other, "00000000000000000001.seg", name);
            format!("foreign {name}")
        }
        7 => {
            let slot = chance.below(2) * SLOT_BYTES;
            disk.overwrite(SUPERBLOCK, slot + 30, &NOISE);
            format!("slot at {slot}")
        }
        _ => {
            disk.overwrite(name, at, &NOISE);
            format!("noise at {at} of {name}")
        }
    }
}
