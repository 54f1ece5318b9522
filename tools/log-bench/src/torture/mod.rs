//! `torture`: kills a process that writes, over and over, and compares what is left with an account, kept outside
//! of it, of what it was promised.

mod round;

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use annals_ledger::{Account, Examination};
use serde::{Deserialize, Serialize};

use crate::cli::{ChildTortureArgs, TortureArgs};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::table::Table;
use crate::units;

use round::{Ending, Hunt};

/// Runs the rounds, until one fails.
pub(crate) fn run(args: &TortureArgs, place: &Place) -> Result<Report> {
    let seed = args.seed.unwrap_or_else(seed_of_now);
    let mut hunt = Hunt::begin(args, seed, place)?;
    let mut count = Count::default();
    let phase = Phase::steps("killing", u64::from(args.rounds));
    let mut wrong = None;
    for round in 0..args.rounds {
        progress::check_stopped()?;
        match hunt.round(round) {
            Ok(ended) => count.add(&ended),
            Err(Error::Trial(failure)) => {
                hunt.save(round)?;
                wrong = Some(Wrong { round, failure: failure.to_string() });
                break;
            }
            Err(error) => return Err(error),
        }
        phase.reach(u64::from(round) + 1);
    }
    drop(phase);
    Ok(report(args, (seed, place), (&hunt, &count), wrong))
}

/// Checks once more what a round has left that failed.
pub(crate) fn recheck(dir: &Path) -> Result<()> {
    let dir = dir.join("data");
    let path = dir.join(KEPT);
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let kept: Kept = serde_json::from_slice(&text)
        .map_err(|error| Error::io("read", &path)(std::io::Error::other(error)))?;
    let copy = dir.join("recheck");
    let examination = Examination {
        left: &dir.join("log"),
        copy: Some(&copy),
        seed: kept.account.seed(),
        round: kept.round,
    };
    let found = examination.against(&kept.account).map_err(Error::Trial)?;
    kept.account.check_copies(&dir.join("copies")).map_err(Error::Trial)?;
    println!("records {} to {} are as they have to be", found.first, found.last);
    Ok(())
}

/// The child's side: tells of all that it does on standard output.
pub(crate) fn child(args: &ChildTortureArgs) -> Result<()> {
    annals_ledger::run_as_child(&args.trial).map_err(Error::Trial)
}

/// The file, beside the log, that a failed round is checked again from.
const KEPT: &str = "account.json";

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    round: u32,
    account: Account,
}

/// The round that failed.
#[derive(Debug, Serialize)]
struct Wrong {
    round: u32,
    failure: String,
}

/// How the rounds ended.
#[derive(Debug, Default, Serialize)]
struct Count {
    /// Rounds that went well.
    rounds: u64,
    /// Processes that were killed while they wrote.
    killed_writing: u64,
    /// Processes that were killed while they opened the log, or before.
    killed_opening: u64,
    /// Processes that closed the log and ended by themselves.
    ended: u64,
    /// Records that were compared.
    compared: u64,
    /// Entries that were there although their writer was never told.
    unknown: u64,
}

impl Count {
    fn add(&mut self, ended: &Ending) {
        self.rounds += 1;
        self.killed_writing += u64::from(ended.killed_writing);
        self.killed_opening += u64::from(ended.killed_opening);
        self.ended += u64::from(ended.ended);
        self.compared += ended.compared;
        self.unknown += ended.unknown;
    }
}

/// A seed that no run had before; the report names it.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 >> 10
}

fn report(
    args: &TortureArgs,
    (seed, place): (u64, &Place),
    (hunt, count): (&Hunt, &Count),
    wrong: Option<Wrong>,
) -> Report {
    let machine = Machine::under(place.dir());
    let tally = hunt.tally();
    let title = format!(
        "Torture: {} of {} with kill -9",
        units::plural(args.rounds.into(), "round"),
        units::plural(args.writers.into(), "writer")
    );
    let mut report = Report::new(title, &machine);
    report.facts.push(("seed", seed.to_string()));
    let mut table = Table::new("What was done", &["what", "count"]);
    for (what, number) in [
        ("rounds that ended well", count.rounds),
        ("processes killed while writing", count.killed_writing),
        ("processes killed while opening", count.killed_opening),
        ("processes that closed the log", count.ended),
        ("appends announced", tally.announced),
        ("appends acknowledged", tally.acknowledged),
        ("found, although never acknowledged", count.unknown),
        ("records compared", count.compared),
        ("openings", tally.openings),
        ("trims", tally.trims),
        ("truncations", tally.truncations),
        ("copies of the log", tally.copies),
    ] {
        table.row([what.to_string(), number.to_string()]);
    }
    report.tables.push(table);
    report.is_failed = wrong.is_some();
    report.notes.push(match &wrong {
        None => "Every record that was acknowledged was there after each kill, and nothing else.".to_string(),
        Some(Wrong { round, failure }) => format!(
            "FAILED in round {round}: {failure}\nCheck again what it left:  log-bench torture --recheck {}\nRun it again:  log-bench \
             torture --seed {seed} --rounds {} --writers {} --secs-per-round {}",
            place.dir().display(),
            round + 1,
            args.writers,
            args.secs_per_round
        ),
    });
    report.set("workload", "torture");
    report.set("seed", seed);
    report.set("writers", args.writers);
    report.set("rounds", count.rounds);
    report.set("done", count);
    report.set("announced", tally.announced);
    report.set("acknowledged", tally.acknowledged);
    report.set("trims", tally.trims);
    report.set("truncations", tally.truncations);
    report.set("copies", tally.copies);
    report.set("openings", tally.openings);
    report.set("failed", wrong);
    report
}
