//! `repair`: damages a log, records how it is repaired, taken back and salvaged, and cuts that.
//!
//! Wherever the power was cut, nothing is changed, or the repair is to be finished, and can be, or can be taken back
//! exactly; or it is done. The salvaged log is whole, or there is none.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use annals::disk::{Disk, RealDisk};
use annals::repair;
use annals_ledger::{Account, Chance, Failure};

use crate::cli::RepairArgs;
use crate::cut::{Cutter, Device, Point};
use crate::cutting::{file_systems, open};
use crate::error::{Error, Result};
use crate::host::{Outcome, check_stopped};
use crate::mended::{Damaged, carry_out, look};
use crate::mount::{FileSystem, Mounted, Scratch, copy_sparsely};
use crate::recording::{LOG, Recorder};
use crate::tape::{Op, Step};

/// The salvaged log's name on the file system.
pub(crate) const SALVAGED: &str = "salvaged";
/// One repair in so many that is finished or taken back is recorded, too, and cut again.
const AGAIN_ONE_IN: u64 = 4;
/// So many times.
const AGAIN: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) unchanged: u64,
    pub(crate) finished: u64,
    pub(crate) taken_back: u64,
    pub(crate) done: u64,
    pub(crate) salvaged: u64,
    pub(crate) compared: u64,
    tapes: u64,
    operations: u64,
    gave_up: u64,
    points: u64,
    again: u64,
}

/// Records and cuts all tapes, until a cut fails.
pub(crate) fn run(args: &RepairArgs, seed: u64, scratch: &Scratch) -> Result<Outcome> {
    let kinds = file_systems(&args.fs)?;
    let mut campaign = Campaign { args, scratch, counts: Counts::default() };
    let mut failed = None;
    'tapes: for tape in 0..args.tapes {
        for &kind in &kinds {
            let own = Chance::new(&[seed, u64::from(tape), kind as u64]).next();
            // With and without the page cache between the loop device and the recorder.
            match campaign.tape(own, (kind, tape % 2 == 1)) {
                Err(error @ (Error::Log(_) | Error::FileSystem(_))) => {
                    let again = format!(
                        "power-cut repair --seed {seed} --tapes {} --points {} --fs {}",
                        tape + 1,
                        args.points,
                        kind.name()
                    );
                    failed = Some(format!("tape {tape} on {}, {error}\nrun it again:  {again}", kind.name()));
                    break 'tapes;
                }
                done => done?,
            }
        }
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    let Counts { unchanged, finished, taken_back, done, salvaged, compared, .. } = campaign.counts;
    let Counts { tapes, operations, gave_up, points, again, .. } = campaign.counts;
    let mut outcome = Outcome { lines: Vec::new(), failed };
    outcome.count("seed", seed);
    outcome.count("file systems", names.join(" "));
    outcome.count("tapes", tapes);
    outcome.count("writes and flushes recorded", operations);
    outcome.count("records given up", gave_up);
    outcome.count("power cuts", points);
    outcome.count("power cuts while a repair is finished or taken back", again);
    outcome.count("logs found as they were before the repair", unchanged);
    outcome.count("repairs found unfinished, and finished", finished);
    outcome.count("repairs found unfinished, and taken back", taken_back);
    outcome.count("repairs found done", done);
    outcome.count("salvaged logs found whole", salvaged);
    outcome.count("records compared", compared);
    Ok(outcome)
}

struct Campaign<'a> {
    args: &'a RepairArgs,
    scratch: &'a Scratch,
    counts: Counts,
}

impl Campaign<'_> {
    /// Damages a log, records what is done to it, and cuts that.
    fn tape(&mut self, seed: u64, (kind, direct): (FileSystem, bool)) -> Result<()> {
        let mut chance = Chance::new(&[seed, 0x4441_4D47]);
        let base_path = self.scratch.dir().join("base");
        kind.make(&base_path, kind.image_bytes())?;
        let damaged = {
            let mounted = Mounted::image(&base_path, kind, false, &self.scratch.make_dir("mounted")?)?;
            Damaged::make(&mounted.dir().join(LOG), &mut chance)?
        };
        let base = open(&base_path)?;
        let ops = self.record(&base, (kind, direct), &damaged)?;
        self.counts.tapes += 1;
        self.counts.operations += ops.iter().filter(|op| !matches!(op, Op::Reached(_))).count() as u64;
        self.counts.gave_up += damaged.gives_up();
        let ignores_flushes = self.args.drop_flush;
        let device = Device { sector: kind.sector_bytes(), ignores_flushes };
        let mut cutter = Cutter::new(&ops, base, Account::new(seed), device);
        for point in places(&ops, self.args.points, &mut chance) {
            check_stopped()?;
            let path = self.scratch.dir().join("cut");
            let cut = cutter.cut(point, &mut chance, &path)?;
            self.counts.points += 1;
            let step = reached(&ops[..point.0], Step::Damaged);
            let told = format!("{point:?} of the tape, {step:?}, {cut}");
            self.examine(&path, kind, (&damaged, step), &mut chance).map_err(telling(&told))?;
            if !ignores_flushes && chance.below(AGAIN_ONE_IN) == 0 {
                self.cut_again(&path, (kind, direct), &damaged, &mut chance).map_err(telling(&told))?;
            }
        }
        Ok(())
    }

    /// Repairs the log on a device that records, takes that back, and salvages what can be read.
    fn record(&self, base: &File, (kind, direct): (FileSystem, bool), damaged: &Damaged) -> Result<Vec<Op>> {
        let recorder = Recorder::begin(self.scratch, base, kind, direct)?;
        let mounted = recorder.mount()?;
        {
            let disk = disk(&mounted.dir().join(LOG))?;
            carry_out(&disk, damaged)?;
            recorder.tape.reach(Step::Repaired);
            recorder.tape.reach(Step::UndoBegun);
            repair::undo(&disk).map_err(Failure::log("take back the repair of"))?;
            recorder.tape.reach(Step::Undone);
            recorder.tape.reach(Step::SalvageBegun);
            let to = mounted.dir().join(SALVAGED);
            let to = RealDisk::create(&to).map_err(Error::io("create", &to))?;
            let report = repair::verify(&disk, 1, &repair::Silent).map_err(Failure::log("verify"))?;
            repair::salvage(&disk, &report, &to, &repair::Silent).map_err(Failure::log("salvage"))?;
            recorder.tape.reach(Step::Salvaged);
        }
        drop(mounted);
        Ok(recorder.take())
    }

    /// Finishes what a cut has left, or takes it back, on a device that records, and cuts that tape, too.
    fn cut_again(
        &mut self,
        path: &Path,
        (kind, direct): (FileSystem, bool),
        damaged: &Damaged,
        chance: &mut Chance,
    ) -> Result<()> {
        let base = copy_sparsely(&open(path)?, &self.scratch.dir().join("base-again"))?;
        let recorder = Recorder::begin(self.scratch, &base, kind, direct)?;
        let mounted = recorder.mount()?;
        let is_unfinished = {
            let disk = disk(&mounted.dir().join(LOG))?;
            let report = repair::verify(&disk, 1, &repair::Silent).map_err(Failure::log("verify"))?;
            let is_unfinished = report.unfinished_repair.is_some();
            if is_unfinished && chance.percent(50) {
                repair::undo(&disk).map_err(Failure::log("take back the repair of"))?;
                recorder.tape.reach(Step::Undone);
            } else if is_unfinished {
                carry_out(&disk, damaged)?;
                recorder.tape.reach(Step::Repaired);
            }
            is_unfinished
        };
        drop(mounted);
        let ops = recorder.take();
        drop(recorder);
        if !is_unfinished {
            return Ok(());
        }
        let device = Device { sector: kind.sector_bytes(), ignores_flushes: false };
        let mut cutter = Cutter::new(&ops, base, Account::new(0), device);
        for Point(end) in places(&ops, AGAIN, chance) {
            let path = self.scratch.dir().join("cut-again");
            let cut = cutter.cut(Point(end), chance, &path)?;
            self.counts.again += 1;
            // Until that is durable, the repair is unfinished, whichever way it goes on.
            let step = reached(&ops[..end], Step::UndoBegun);
            let told = format!("operation {end} of what came after, {step:?}, {cut}");
            self.examine(&path, kind, (damaged, step), chance).map_err(telling(&told))?;
        }
        Ok(())
    }

    /// Mounts a copy of the image at `path`, and looks at the logs in it.
    fn examine(
        &mut self,
        path: &Path,
        kind: FileSystem,
        known: (&Damaged, Step),
        chance: &mut Chance,
    ) -> Result<()> {
        let image = self.scratch.dir().join("opened");
        copy_sparsely(&open(path)?, &image)?;
        let mounted = Mounted::image(&image, kind, false, &self.scratch.make_dir("mounted")?)?;
        look(mounted.dir(), known, (chance, &mut self.counts))
    }
}

/// Places to cut a tape at, rising: most of them while the repair is made, finished or taken back, which is soon done;
/// right behind steps, and beside flushes.
fn places(ops: &[Op], count: usize, chance: &mut Chance) -> Vec<Point> {
    let among = |is_it: fn(&Op) -> bool| -> Vec<usize> {
        (0..ops.len()).filter(|&index| is_it(&ops[index])).map(|index| index + 1).collect()
    };
    let (steps, flushes) = (among(|op| matches!(op, Op::Reached(_))), among(|op| matches!(op, Op::Flush)));
    let undone = ops.iter().position(|op| matches!(op, Op::Reached(Step::Undone))).unwrap_or(ops.len());
    let mut places: Vec<Point> = (0..count)
        .map(|_| match chance.below(8) {
            0 if !steps.is_empty() => Point(chance.pick(&steps)),
            1..4 if !flushes.is_empty() => Point(chance.pick(&flushes) - chance.below(2) as usize),
            4 => Point(chance.below(ops.len() as u64 + 1) as usize),
            _ => Point(chance.below(undone as u64 + 1) as usize),
        })
        .collect();
    places.sort_unstable();
    places
}

/// The last step that the tape tells of.
fn reached(ops: &[Op], first: Step) -> Step {
    let mut steps = ops.iter().rev().filter_map(|op| match op {
        Op::Reached(step) => Some(*step),
        _ => None,
    });
    steps.next().unwrap_or(first)
}

/// The directory of a log.
pub(crate) fn disk(dir: &Path) -> Result<Arc<dyn Disk>> {
    let disk = RealDisk::open(dir).map_err(Error::io("open", dir))?;
    Ok(Arc::new(disk))
}

/// Says where it was that something is wrong.
fn telling(told: &str) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::Log(failure) => Error::broken(format!("{told}: {failure}")),
        Error::FileSystem(what) => Error::FileSystem(format!("{told}: {what}")),
        error => error,
    }
}
