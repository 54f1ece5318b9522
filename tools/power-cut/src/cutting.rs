//! `cut`: records tapes, cuts them, and looks at what is left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use annals_ledger::{Account, Chance, Examination, Trial};
use serde::{Deserialize, Serialize};

use crate::cli::{Break, CutArgs};
use crate::cut::{Cutter, Device, Point, points};
use crate::error::{Error, Result};
use crate::host::{Outcome, check_stopped};
use crate::mount::{FileSystem, Mounted, Scratch, copy_sparsely};
use crate::recording::{COPIES, LOG, Recorder, told, trial};
use crate::tape::Op;

/// Processes that write on each tape, one after the other.
const ROUNDS: u32 = 3;
/// One cut in so many is recovered from on a device that records, which is cut again.
const AGAIN_ONE_IN: u64 = 8;
/// So many times.
const AGAIN: usize = 4;

/// Records and cuts all tapes, until a cut fails.
pub(crate) fn run(args: &CutArgs, seed: u64, scratch: &Scratch) -> Result<Outcome> {
    let kinds = file_systems(&args.fs)?;
    let mut campaign = Campaign { args, seed, scratch, counts: Counts::default() };
    let mut failed = None;
    'tapes: for tape in 0..args.tapes {
        for &kind in &kinds {
            // With and without the page cache between the loop device and the recorder.
            let direct = tape % 2 == 1;
            if let Some(wrong) = campaign.tape(tape, kind, direct)? {
                failed = Some(wrong);
                break 'tapes;
            }
        }
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let Counts { tapes, writes, flushes, promises, points, again, compared } = campaign.counts;
    let mut outcome = Outcome { lines: Vec::new(), failed };
    outcome.count("seed", seed);
    outcome.count("file systems", names.join(" "));
    outcome.count("tapes", tapes);
    outcome.count("writes recorded", writes);
    outcome.count("flushes recorded", flushes);
    outcome.count("promises recorded", promises);
    outcome.count("power cuts", points);
    outcome.count("power cuts while recovering from one", again);
    outcome.count("records compared", compared);
    Ok(outcome)
}

/// What is to be tried; without a word, all for which there is a mkfs.
pub(crate) fn file_systems(asked: &[FileSystem]) -> Result<Vec<FileSystem>> {
    match asked.iter().find(|kind| !kind.is_there()) {
        Some(missing) => Err(Error::Skipped(format!("there is no {}", missing.maker()))),
        None if asked.is_empty() => Ok(FileSystem::ALL.into_iter().filter(|kind| kind.is_there()).collect()),
        None => Ok(asked.to_vec()),
    }
}

#[derive(Debug, Default)]
struct Counts {
    tapes: u64,
    writes: u64,
    flushes: u64,
    promises: u64,
    points: u64,
    again: u64,
    compared: u64,
}

struct Campaign<'a> {
    args: &'a CutArgs,
    seed: u64,
    scratch: &'a Scratch,
    counts: Counts,
}

/// What lies beside the image of a cut that failed.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    kind: FileSystem,
    round: u32,
    account: Account,
}

impl Campaign<'_> {
    /// Records a tape and cuts it; gives what is wrong with the first cut that fails.
    fn tape(&mut self, tape: u32, kind: FileSystem, direct: bool) -> Result<Option<String>> {
        let seed = Chance::new(&[self.seed, u64::from(tape), kind as u64]).next();
        let base_path = self.scratch.dir().join("base");
        kind.make(&base_path, kind.image_bytes())?;
        let base = open(&base_path)?;
        let ops = self.record(&base, kind, direct, seed)?;
        let mut chance = Chance::new(&[seed, 0x4355_5453]);
        let points = points(&ops, self.args.points, &mut chance);
        let mut cutter = Cutter::new(&ops, base, Account::new(seed), self.device(kind));
        for point in points {
            check_stopped()?;
            if let Some(failed) = self.cut(&mut cutter, point, (kind, direct), &mut chance)? {
                return self.keep(&failed, tape, kind).map(Some);
            }
        }
        Ok(None)
    }

    /// Lets processes write, one after the other, and keeps the tape of it.
    fn record(&mut self, base: &File, kind: FileSystem, direct: bool, seed: u64) -> Result<Vec<Op>> {
        let recorder = Recorder::begin(self.scratch, base, kind, direct)?;
        let mounted = recorder.mount()?;
        let mut chance = Chance::new(&[seed, 0x5245_4344]);
        for round in 0..ROUNDS {
            check_stopped()?;
            let phases = self.args.phases.div_ceil(ROUNDS);
            let trial = Trial {
                phases: Some(phases),
                skips_wait: self.args.breaks == Some(Break::SkipWait),
                ..trial(mounted.dir(), seed, round, self.args.common.writers)?
            };
            // What the next process shows of a log that this one has not closed is durable then, too.
            let words = match chance.percent(40) {
                true => {
                    let after = Duration::from_millis(chance.below(100 * u64::from(phases)));
                    recorder.run_and_kill(&trial, after)?
                }
                false => recorder.run(&trial)?,
            };
            if let Some(words) = words {
                return Err(Error::broken(format!("on a disk without faults: {words}")));
            }
        }
        drop(mounted);
        let ops = recorder.take();
        let count = |is_it: fn(&Op) -> bool| ops.iter().filter(|op| is_it(op)).count() as u64;
        let flushes = count(|op| matches!(op, Op::Flush));
        if flushes == 0 {
            return Err(Error::broken("no flush has reached the device: the harness would prove nothing"));
        }
        self.counts.tapes += 1;
        self.counts.flushes += flushes;
        self.counts.writes += count(|op| matches!(op, Op::Write(_)));
        self.counts.promises += told(&ops).count() as u64;
        Ok(ops)
    }

    fn device(&self, kind: FileSystem) -> Device {
        let ignores_flushes = self.args.breaks == Some(Break::DropFlush);
        Device { sector: kind.sector_bytes(), ignores_flushes }
    }

    /// Cuts, and looks at what is left; sometimes the power fails again while the log recovers.
    fn cut(
        &mut self,
        cutter: &mut Cutter<'_>,
        point: Point,
        (kind, direct): (FileSystem, bool),
        chance: &mut Chance,
    ) -> Result<Option<Failed>> {
        let path = self.scratch.dir().join("cut");
        let cut = cutter.cut(point, chance, &path)?;
        self.counts.points += 1;
        let told = format!("{point:?} of the tape, {cut}");
        let failed = self.examine(&path, kind, (cutter.account(), ROUNDS), told)?;
        let again = self.args.breaks.is_none() && chance.below(AGAIN_ONE_IN) == 0;
        if failed.is_some() || !again {
            return Ok(failed);
        }
        self.cut_again(&path, cutter.account(), (kind, direct), chance)
    }

    /// Lets the log recover on a device that records, and cuts that tape, too.
    fn cut_again(
        &mut self,
        path: &Path,
        account: &Account,
        (kind, direct): (FileSystem, bool),
        chance: &mut Chance,
    ) -> Result<Option<Failed>> {
        let base = copy_sparsely(&open(path)?, &self.scratch.dir().join("base-again"))?;
        let recorder = Recorder::begin(self.scratch, &base, kind, direct)?;
        let mounted = recorder.mount()?;
        let only_opens = trial(mounted.dir(), account.seed(), ROUNDS, 1)?;
        let words = recorder.run(&Trial { only_opens: true, ..only_opens })?;
        if let Some(words) = words {
            return Err(Error::broken(format!("recovering on a disk without faults: {words}")));
        }
        drop(mounted);
        let ops = recorder.take();
        drop(recorder);
        let mut cutter = Cutter::new(&ops, base, account.clone(), self.device(kind));
        for point in points(&ops, AGAIN, chance) {
            let path = self.scratch.dir().join("cut-again");
            let cut = cutter.cut(point, chance, &path)?;
            self.counts.again += 1;
            let told = format!("{point:?} of the recovery, {cut}");
            let failed = self.examine(&path, kind, (cutter.account(), ROUNDS + 1), told)?;
            if failed.is_some() {
                return Ok(failed);
            }
        }
        Ok(None)
    }

    /// Compares a copy of the image at `path` with the account.
    fn examine(
        &mut self,
        path: &Path,
        kind: FileSystem,
        (account, round): (&Account, u32),
        told: String,
    ) -> Result<Option<Failed>> {
        copy_sparsely(&open(path)?, &self.scratch.dir().join("opened"))?;
        match examine(self.scratch, kind, account, round) {
            Ok(compared) => {
                self.counts.compared += compared;
                Ok(None)
            }
            Err(error @ (Error::Log(_) | Error::FileSystem(_))) => {
                let kept = Kept { kind, round, account: account.clone() };
                Ok(Some(Failed { told: format!("{told}: {error}"), image: path.to_path_buf(), kept }))
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps what a cut has left, and says what is wrong with it.
    fn keep(&self, failed: &Failed, tape: u32, kind: FileSystem) -> Result<String> {
        let dir = &self.args.keep;
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        copy_sparsely(&open(&failed.image)?, &dir.join("image"))?;
        let json = serde_json::to_vec(&failed.kept).map_err(|error| Error::broken(error.to_string()))?;
        fs::write(dir.join("account.json"), json).map_err(Error::io("write", dir))?;
        let CutArgs { points, phases, common, .. } = self.args;
        Ok(format!(
            "tape {tape} on {}, {}\nlook at it again:  power-cut recheck {}\nrun it again:  power-cut cut --seed {} \
             --tapes {} --points {points} --phases {phases} --writers {} --fs {}",
            kind.name(),
            failed.told,
            dir.display(),
            self.seed,
            tape + 1,
            common.writers,
            kind.name()
        ))
    }
}

/// A cut that has broken something.
#[derive(Debug)]
struct Failed {
    told: String,
    image: PathBuf,
    kept: Kept,
}

/// Mounts the image that is to be opened, and compares the log in it with the account; gives the records of it.
fn examine(scratch: &Scratch, kind: FileSystem, account: &Account, round: u32) -> Result<u64> {
    let image = scratch.dir().join("opened");
    let mounted = Mounted::image(&image, kind, false, &scratch.make_dir("mounted")?)?;
    let log = mounted.dir().join(LOG);
    if !log.exists() {
        return match account.tally().openings {
            0 => Ok(0),
            _ => Err(Error::broken("the log's directory is gone")),
        };
    }
    let examination = Examination { left: &log, copy: None, seed: account.seed(), round };
    let found = examination.against(account)?;
    account.check_copies(&mounted.dir().join(COPIES))?;
    Ok(found.records.len() as u64)
}

/// Looks once more at what a cut has left that failed.
pub(crate) fn recheck(dir: &Path, scratch: &Scratch) -> Result<Outcome> {
    let path = dir.join("account.json");
    let json = fs::read(&path).map_err(Error::io("read", &path))?;
    let kept: Kept = serde_json::from_slice(&json).map_err(|error| Error::broken(error.to_string()))?;
    copy_sparsely(&open(&dir.join("image"))?, &scratch.dir().join("opened"))?;
    let mut outcome = Outcome::default();
    match examine(scratch, kept.kind, &kept.account, kept.round) {
        Ok(compared) => outcome.count("records compared", compared),
        Err(error) => outcome.failed = Some(error.to_string()),
    }
    Ok(outcome)
}

/// An image, to be read and written.
pub(crate) fn open(path: &Path) -> Result<File> {
    File::options().read(true).write(true).open(path).map_err(Error::io("open", path))
}
