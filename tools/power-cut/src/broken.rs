//! `broken`: lets a read, a write or a flush of the disk fail while a log is written or opened.
//!
//! The log may go on, if the file system has hidden the failure, or say that it is poisoned; it must not say that
//! anything is durable that is not there once the disk works again and the log is opened anew.

use std::path::Path;

use annals_ledger::{Account, Chance, Event, Examination, Trial};

use crate::cli::BrokenArgs;
use crate::error::{Error, Result};
use crate::host::{Outcome, check_stopped};
use crate::mount::Scratch;
use crate::recording::{COPIES, LOG, Recorder, told, trial};
use crate::tape::{Fault, Kind};

/// Phases of writing, without a fault and then with one.
const PHASES: u32 = 6;

#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    met: u64,
    ended: u64,
    under_map: u64,
    unmountable: u64,
    compared: u64,
}

/// Runs the rounds, until one fails.
pub(crate) fn run(args: &BrokenArgs, seed: u64, scratch: &Scratch) -> Result<Outcome> {
    if !args.fs.is_there() {
        return Err(Error::Skipped(format!("there is no {}", args.fs.maker())));
    }
    let mut counts = Counts::default();
    let mut failed = None;
    for round in 0..args.rounds {
        check_stopped()?;
        let seed = Chance::new(&[seed, u64::from(round)]).next();
        match self::round(args, seed, scratch, &mut counts) {
            Ok(()) => counts.rounds += 1,
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => {
                failed = Some(format!("in round {round}: {error}"));
                break;
            }
        }
    }
    let again = format!("power-cut broken --seed {seed} --rounds {} --fs {}", args.rounds, args.fs.name());
    let failed = failed.map(|failed| format!("{failed}\nrun it again:  {again}"));
    let mut outcome = Outcome { lines: Vec::new(), failed };
    outcome.count("seed", seed);
    outcome.count("file system", args.fs.name());
    outcome.count("rounds", counts.rounds);
    outcome.count("rounds in which a request failed", counts.met);
    outcome.count("rounds that ended the writing", counts.ended);
    outcome.count("of them by a read under a map", counts.under_map);
    outcome.count("rounds that the file system did not survive", counts.unmountable);
    outcome.count("records compared", counts.compared);
    Ok(outcome)
}

/// Writes without a fault, then with one, and compares what is there when the disk works again.
fn round(args: &BrokenArgs, seed: u64, scratch: &Scratch, counts: &mut Counts) -> Result<()> {
    let mut chance = Chance::new(&[seed, 0x4252_4F4B]);
    let base = scratch.dir().join("base");
    args.fs.make(&base, args.fs.image_bytes())?;
    let image = std::fs::File::open(&base).map_err(Error::io("open", &base))?;
    let recorder = Recorder::begin(scratch, &image, args.fs, chance.percent(50))?;
    let mut account = Account::new(seed);
    let mounted = recorder.mount()?;
    let whole = Trial { phases: Some(PHASES), ..trial(mounted.dir(), seed, 0, args.common.writers)? };
    if let Some(words) = recorder.run(&whole)? {
        return Err(Error::broken(format!("on a disk without faults: {words}")));
    }
    if chance.percent(30) {
        // What is read has to come from the disk.
        drop(mounted);
        let mounted = recorder.mount()?;
        meet(args, &recorder, (seed, &mut chance), mounted.dir(), counts)?;
    } else {
        meet(args, &recorder, (seed, &mut chance), mounted.dir(), counts)?;
        drop(mounted);
    }
    recorder.tape.set_fault(None);
    heed(&recorder, &mut account)?;
    let mounted = match recorder.mount() {
        Ok(mounted) => mounted,
        // It has lost its own journal: then there is nothing to say of the log.
        Err(Error::FileSystem(_)) => {
            counts.unmountable += 1;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let log = mounted.dir().join(LOG);
    let found = Examination { left: &log, copy: None, seed, round: 2 }.against(&account)?;
    account.check_copies(&mounted.dir().join(COPIES))?;
    counts.compared += found.records.len() as u64;
    Ok(())
}

/// Lets a process write while a request fails.
fn meet(
    args: &BrokenArgs,
    recorder: &Recorder,
    (seed, chance): (u64, &mut Chance),
    root: &Path,
    counts: &mut Counts,
) -> Result<()> {
    let (kind, most) = chance.pick(&[(Kind::Read, 40), (Kind::Write, 300), (Kind::Flush, 150)]);
    let fault = Fault { kind, after: chance.below(most), count: chance.pick(&[1, 1, 3, 1000]) };
    let trial = Trial { phases: Some(PHASES), ..trial(root, seed, 1, args.common.writers)? };
    recorder.tape.set_fault(Some(fault));
    let words = recorder.run(&trial)?;
    counts.met += u64::from(recorder.tape.has_failed(fault));
    let Some(words) = words else { return Ok(()) };
    counts.ended += 1;
    if !recorder.tape.has_failed(fault) {
        return Err(Error::broken(format!("it ended, but no request had failed: {words}")));
    }
    // What cannot be read under a map is a signal, be it a bad sector or a file system that has shut down: the
    // price of reading without a copy.
    if words.contains("SIGBUS") {
        counts.under_map += 1;
        return Ok(());
    }
    // A disk that fails may say so in many ways, but a panic is none.
    if words.contains("panicked") || words.contains("signal") {
        return Err(Error::broken(format!("{fault:?}: {words}")));
    }
    Ok(())
}

fn heed(recorder: &Recorder, account: &mut Account) -> Result<()> {
    let ops = recorder.take();
    let events: Vec<Event> = told(&ops).collect();
    events.into_iter().try_for_each(|event| account.heed(event)).map_err(Error::broken)
}
