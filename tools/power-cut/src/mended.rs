//! A log that was damaged on purpose, and what may be left of it while it is repaired.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use annals::disk::Disk;
use annals::repair::{self, Opening, Plan, Report, Silent};
use annals::{LogOptions, Lsn, LsnRange};
use annals_ledger::{Chance, Failure};

use crate::error::{Error, Result};
use crate::mending::{Counts, SALVAGED, disk};
use crate::recording::LOG;
use crate::tape::Step;

/// The name of the superblock.
const SUPERBLOCK: &str = "superblock";
/// How often a log is damaged once more until there is something to repair.
const ATTEMPTS: u32 = 20;

type Files = BTreeMap<String, Vec<u8>>;

/// A log with damage that can be repaired.
#[derive(Debug)]
pub(crate) struct Damaged {
    /// Its files.
    files: Files,
    /// What was appended.
    records: BTreeMap<u64, Vec<u8>>,
    /// What verify says of it.
    report: Report,
    plan: Plan,
}

impl Damaged {
    /// Writes a log in the new directory `dir`, and damages it.
    pub(crate) fn make(dir: &Path, chance: &mut Chance) -> Result<Damaged> {
        let records = write(dir, chance)?;
        let whole = files(dir)?;
        for _ in 0..ATTEMPTS {
            put_back(dir, &whole)?;
            for _ in 0..chance.between(1, 3) {
                harm(dir, chance)?;
            }
            let disk = disk(dir)?;
            let Ok(report) = repair::verify(&disk, 1, &Silent) else { continue };
            let Ok(plan) = repair::plan(&*disk, &report) else { continue };
            if !plan.steps.is_empty() {
                return Ok(Damaged { files: files(dir)?, records, report, plan });
            }
        }
        Err(Error::broken("no damage could be repaired"))
    }

    /// How many records a repair gives up.
    pub(crate) fn gives_up(&self) -> u64 {
        self.plan.gives_up.iter().map(LsnRange::records).sum()
    }

    /// Fails unless the directory is what it was before the repair, but for what the next repair clears away.
    fn check_unchanged(&self, dir: &Path) -> Result<()> {
        let now: Files = files(dir)?.into_iter().filter(|(name, _)| !is_left(name)).collect();
        let names = now.keys().chain(self.files.keys());
        match names.into_iter().find(|name| now.get(*name) != self.files.get(*name)) {
            Some(name) => Err(Error::broken(format!("{name} is not what it was before the repair"))),
            None => Ok(()),
        }
    }

    /// Fails unless the log is whole and opens, with the same records at the same places; gives how many there are.
    fn check_records(&self, dir: &Path) -> Result<u64> {
        let report = verified(&disk(dir)?)?;
        if !report.is_whole() || !matches!(report.opening, Opening::Opens) {
            return Err(Error::broken(format!(
                "it is not whole: {:?} {:?}",
                report.opening, report.stretches
            )));
        }
        if (report.first_lsn, report.last_lsn) != (self.report.first_lsn, self.report.last_lsn) {
            let (first, last) = (report.first_lsn, report.last_lsn);
            return Err(Error::broken(format!("it has the records {first} to {last}")));
        }
        let log = small(dir).open().map_err(Failure::log("open"))?;
        for lsn in report.first_lsn.get()..=report.last_lsn.get() {
            let is_lost = contains(&self.plan.gives_up, lsn);
            let is_right = match log.read(Lsn::new(lsn)) {
                Ok(record) => !is_lost && self.records.get(&lsn).is_some_and(|known| *record == **known),
                Err(annals::Error::Lost { .. }) => is_lost,
                Err(source) => return Err(Failure::Log { doing: "read", source }.into()),
            };
            if !is_right {
                return Err(Error::broken(format!("record {lsn} is not what was appended")));
            }
        }
        log.close().map_err(Failure::log("close"))?;
        Ok(report.last_lsn.get() + 1 - report.first_lsn.get())
    }
}

/// Carries the plan out, or finishes what was begun of it.
pub(crate) fn carry_out(disk: &Arc<dyn Disk>, damaged: &Damaged) -> Result<()> {
    let done = repair::repair(disk, &damaged.plan, Some(damaged.gives_up()), &Silent);
    done.map(drop).map_err(|error| Failure::log("repair")(error).into())
}

/// Looks at what a cut has left on the file system at `root`, when what comes after `step` had begun at most, and
/// carries on from there.
pub(crate) fn look(
    root: &Path,
    (damaged, step): (&Damaged, Step),
    (chance, counts): (&mut Chance, &mut Counts),
) -> Result<()> {
    let dir = root.join(LOG);
    let found = disk(&dir)?;
    let report = verified(&found)?;
    let is_done = files(&dir)?.keys().any(|name| name.ends_with(".journal"));
    let may_be_unfinished = matches!(step, Step::Damaged | Step::UndoBegun);
    if report.unfinished_repair.is_some() && may_be_unfinished {
        let opened = small(&dir).open();
        if !matches!(opened, Err(annals::Error::RepairUnfinished { .. })) {
            return Err(Error::broken(format!("opened although a repair is unfinished: {opened:?}")));
        }
        if chance.percent(50) {
            repair::undo(&found).map_err(Failure::log("take back the repair of"))?;
            damaged.check_unchanged(&dir)?;
            counts.taken_back += 1;
        } else {
            carry_out(&found, damaged)?;
            counts.compared += damaged.check_records(&dir)?;
            counts.finished += 1;
        }
    } else if is_done && report.unfinished_repair.is_none() && step < Step::Undone {
        counts.done += 1;
        if chance.percent(50) {
            repair::undo(&found).map_err(Failure::log("take back the repair of"))?;
            damaged.check_unchanged(&dir)?;
        } else {
            counts.compared += damaged.check_records(&dir)?;
        }
    } else if step != Step::Repaired {
        damaged.check_unchanged(&dir)?;
        counts.unchanged += 1;
        carry_out(&found, damaged)?;
        counts.compared += damaged.check_records(&dir)?;
    } else {
        return Err(Error::broken(format!("the repair is not done: {:?}", files(&dir)?.keys())));
    }
    look_at_salvaged(&root.join(SALVAGED), (damaged, step), counts)
}

/// The salvaged log is whole, or there is none yet.
fn look_at_salvaged(dir: &Path, (damaged, step): (&Damaged, Step), counts: &mut Counts) -> Result<()> {
    let there = if dir.exists() { files(dir)? } else { Files::new() };
    if there.contains_key(SUPERBLOCK) {
        counts.compared += damaged.check_records(dir)?;
        counts.salvaged += 1;
        return Ok(());
    }
    if step == Step::Salvaged {
        return Err(Error::broken(format!("the salvaged log is gone: {:?}", there.keys())));
    }
    if !there.is_empty() && small(dir).open().is_ok() {
        return Err(Error::broken(format!("half a salvaged log was opened: {:?}", there.keys())));
    }
    Ok(())
}

fn verified(disk: &Arc<dyn Disk>) -> Result<Report> {
    repair::verify(disk, 1, &Silent).map_err(|error| Failure::log("verify")(error).into())
}

/// Writes a log of some segments, and closes it or lets it be; gives its records.
fn write(dir: &Path, chance: &mut Chance) -> Result<BTreeMap<u64, Vec<u8>>> {
    let log =
        small(dir).segment_bytes(chance.pick(&[64 << 10, 128 << 10])).open().map_err(Failure::log("open"))?;
    let mut records = BTreeMap::new();
    for _ in 0..chance.between(20, 120) {
        let mut record = vec![0; chance.below(9000) as usize];
        chance.fill(&mut record);
        let receipt = log.append_durable(&record).map_err(Failure::log("append to"))?;
        records.insert(receipt.lsn().get(), record);
    }
    if chance.percent(30) {
        let before = chance.below(records.len() as u64 / 2);
        log.trim(Lsn::new(before.max(1))).map_err(Failure::log("trim"))?;
    }
    log.close().map_err(Failure::log("close"))?;
    Ok(records)
}

/// With new segments for which there is room.
fn small(dir: &Path) -> LogOptions {
    LogOptions::new(dir).segment_bytes(64 << 10)
}

/// Damages one file.
fn harm(dir: &Path, chance: &mut Chance) -> Result<()> {
    let names: Vec<String> = files(dir)?.into_keys().collect();
    let name = &names[chance.below(names.len() as u64) as usize];
    let path = dir.join(name);
    let harmed = (|| {
        let file = fs::File::options().read(true).write(true).open(&path)?;
        let bytes = file.metadata()?.len();
        let at = chance.below(bytes.max(1));
        match chance.below(6) {
            0 if name != SUPERBLOCK => fs::remove_file(&path),
            1 if name != SUPERBLOCK => file.set_len(at),
            2 => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&[byte[0] ^ 1 << chance.below(8)], at)
            }
            3 => file.write_all_at(&[0xA5; 40], chance.pick(&[8, 4100, 65_536 + 8])),
            _ => {
                let mut noise = vec![0; chance.between(1, 6000) as usize];
                chance.fill(&mut noise);
                noise.truncate((bytes - at.min(bytes)) as usize);
                file.write_all_at(&noise, at)
            }
        }
    })();
    harmed.map_err(Error::io("damage", &path))
}

/// All files of a log but the lock.
fn files(dir: &Path) -> Result<Files> {
    let read = || {
        let mut files = Files::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "LOCK" {
                files.insert(name, fs::read(entry.path())?);
            }
        }
        Ok(files)
    };
    read().map_err(Error::io("read", dir))
}

fn put_back(dir: &Path, files: &Files) -> Result<()> {
    let put = |(name, bytes): (&String, &Vec<u8>)| fs::write(dir.join(name), bytes);
    files.iter().try_for_each(put).map_err(Error::io("write", dir))
}

/// Whether the next repair clears it away.
fn is_left(name: &str) -> bool {
    name.starts_with("quarantine-") && name.ends_with(".tmp")
}

fn contains(ranges: &[LsnRange], lsn: u64) -> bool {
    ranges.iter().any(|range| (range.first.get()..=range.last.get()).contains(&lsn))
}
