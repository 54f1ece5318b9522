//! `open`: time and memory to open a log, after a clean close and after kill -9, by its size.
//!
//! Each opening happens in a fresh child process, so that its memory is that of the opening alone.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cli::{ChildArgs, OpenArgs};
use crate::drive::Engine;
use crate::engine::{Annals, Settings, fill};
use crate::error::{Error, Result};
use crate::machine::{Machine, Memory};
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::table::Table;
use crate::spread::Spread;
use crate::units;
use crate::workload::Records;

/// Opens logs of all sizes that were asked for.
pub(crate) fn run(args: &OpenArgs, place: &Place) -> Result<Report> {
    let machine = Machine::under(place.dir());
    let mut outcomes = Vec::new();
    for &log_bytes in &args.log_bytes {
        outcomes.push(measure(log_bytes, args, place)?);
    }
    let mut report = Report::new("Open: time and memory by size of the log", &machine);
    let columns = ["log", "records", "median", "slowest", "resident", "of it anonymous"];
    let mut table = Table::new("Openings in a fresh process", &columns);
    outcomes.iter().flat_map(Outcome::rows).for_each(|row| table.row(row));
    report.tables.push(table);
    report.charts.extend(charts(&outcomes));
    let cache = if args.cold { "dropped from" } else { "in" };
    report.notes.push(format!("Medians of {} openings each; the log was {cache} the page cache.", args.runs));
    report.set("workload", "open");
    report.set("size", args.size);
    report.set("runs", args.runs);
    report.set("cold", args.cold);
    report.set("logs", &outcomes);
    Ok(report)
}

/// What opening a log of one size came to.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Bytes of records in it.
    pub(crate) log_bytes: u64,
    /// After a clean close.
    pub(crate) closed: Openings,
    /// After kill -9 of a process that was appending.
    pub(crate) killed: Openings,
}

/// Several openings of the same log.
#[derive(Debug, Serialize)]
pub(crate) struct Openings {
    /// Time, in microseconds.
    pub(crate) open_us: Spread,
    /// Resident memory of the process afterwards, mapped files included: the largest.
    pub(crate) resident_bytes: u64,
    /// The part of it that is not backed by a file: the largest.
    pub(crate) anonymous_bytes: u64,
    /// Records found by the last one.
    pub(crate) records: u64,
}

/// What a child process says of its opening.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Opening {
    open_us: f64,
    resident_bytes: u64,
    anonymous_bytes: u64,
    records: u64,
}

/// Writes a log of `log_bytes` into `place`, and has it opened after clean closes and after kills.
pub(crate) fn measure(log_bytes: u64, args: &OpenArgs, place: &Place) -> Result<Outcome> {
    place.require(log_bytes + log_bytes / 8 + (512 << 20))?;
    place.discard("log")?;
    let dir = place.data("log");
    let settings = Settings::by(args.method.map(Into::into));
    let log = settings.open(&dir)?;
    fill(&log, args.size, log_bytes, &format!("writing a log of {}", units::bytes(log_bytes)))?;
    log.close().map_err(Error::log("close"))?;

    let phase = Phase::steps("opening", u64::from(args.runs) * 2);
    let (mut closed, mut killed) = (Vec::new(), Vec::new());
    for run in 0..u64::from(args.runs) {
        progress::check_stopped()?;
        closed.push(open_in_child(&dir, args)?);
        phase.reach(2 * run + 1);
        append_in_child_and_kill(&dir, args)?;
        killed.push(open_in_child(&dir, args)?);
        phase.reach(2 * run + 2);
    }
    Ok(Outcome { log_bytes, closed: Openings::of(&closed), killed: Openings::of(&killed) })
}

impl Openings {
    fn of(openings: &[Opening]) -> Openings {
        Openings {
            open_us: Spread::of(openings.iter().map(|opening| opening.open_us)),
            resident_bytes: openings.iter().map(|opening| opening.resident_bytes).max().unwrap_or(0),
            anonymous_bytes: openings.iter().map(|opening| opening.anonymous_bytes).max().unwrap_or(0),
            records: openings.last().map_or(0, |opening| opening.records),
        }
    }
}

fn open_in_child(dir: &Path, args: &OpenArgs) -> Result<Opening> {
    if args.cold {
        drop_from_cache(dir)?;
    }
    let output = child("child-open", dir, args)?.stderr(Stdio::piped()).output();
    let output = output.map_err(Error::io("start a child process for", dir))?;
    let left = || String::from_utf8_lossy(&output.stderr).trim().to_string();
    if !output.status.success() {
        return Err(Error::Child { doing: "opening the log", left: left() });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Child { doing: "opening the log", left: error.to_string() })
}

/// The child's side of an opening: says what it took on standard output.
pub(crate) fn child_open(args: &ChildArgs) -> Result<()> {
    let began = Instant::now();
    let log = Settings::by(args.method.map(Into::into)).open(&args.log)?;
    let open_us = units::us(began.elapsed());
    let memory = Memory::now();
    let records = log.last_lsn().get() + 1 - log.first_lsn().get();
    let opening = Opening {
        open_us,
        resident_bytes: memory.resident_bytes,
        anonymous_bytes: memory.anonymous_bytes,
        records,
    };
    println!("{}", crate::report::json::value(opening));
    log.close().map_err(Error::log("close"))
}

/// Appends in a child process, and kills it amid its appends.
fn append_in_child_and_kill(dir: &Path, args: &OpenArgs) -> Result<()> {
    let spawned = child("child-append", dir, args)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(Error::io("start a child process for", dir))?;
    let told = child.stdout.take().map(wait_for_word).unwrap_or(Ok(false));
    // Kills also a child that has failed: nothing is left behind.
    let killed = child.kill();
    let status = child.wait().map_err(Error::io("wait for a child process in", dir))?;
    match told {
        Ok(true) => killed.map_err(Error::io("kill a child process in", dir)),
        Ok(false) => Err(Error::Child { doing: "appending to the log", left: status.to_string() }),
        Err(source) => Err(Error::io("hear from a child process in", dir)(source)),
    }
}

const WORD: &str = "appending";

fn wait_for_word(stdout: ChildStdout) -> std::io::Result<bool> {
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(line.trim_end() == WORD)
}

/// The child's side of appending: goes on until it is killed, or its parent has gone.
pub(crate) fn child_append(args: &ChildArgs) -> Result<()> {
    // The parent holds the other end, and never writes: reading ends when the parent does.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let log = Settings::by(args.method.map(Into::into)).open(&args.log)?;
    let engine = Annals(&log);
    let records = Records::synthetic(args.size as usize);
    let mut feed = records.feed(0, 1);
    let mut batch = Vec::new();
    let mut window = std::collections::VecDeque::new();
    for done in 0_u64.. {
        if feed.next(&mut batch, false).is_none() || progress::check_stopped().is_err() {
            break;
        }
        window.push_back(engine.submit(0, &batch)?);
        if window.len() == 64 {
            window.pop_front().map_or(Ok(0), |oldest| engine.wait(oldest))?;
        }
        if done == 1000 {
            println!("{WORD}");
            std::io::stdout().flush().map_err(Error::io("tell the parent of", &args.log))?;
        }
    }
    Ok(())
}

fn child(command: &str, dir: &Path, args: &OpenArgs) -> Result<Command> {
    let program = std::env::current_exe().map_err(Error::io("find", Path::new("log-bench itself")))?;
    let mut child = Command::new(program);
    child.arg(command).arg("--log").arg(dir).arg("--size").arg(args.size.to_string()).stdin(Stdio::null());
    if let Some(method) = args.method {
        child.arg("--method").arg(annals::WriteMethod::from(method).to_string());
    }
    Ok(child)
}

/// Asks the kernel to forget what it has cached of the files in `dir`.
fn drop_from_cache(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let path = entry.map_err(Error::io("read", dir))?.path();
        let file = fs::File::open(&path).map_err(Error::io("open", &path))?;
        // Only clean pages can be dropped.
        file.sync_all().map_err(Error::io("sync", &path))?;
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
            .map_err(|errno| Error::io("drop from the cache", &path)(errno.into()))?;
    }
    Ok(())
}

impl Outcome {
    /// The cells of the rows of the table.
    fn rows(&self) -> [Vec<String>; 2] {
        [("after a clean close", &self.closed), ("after kill -9", &self.killed)].map(|(after, openings)| {
            vec![
                format!("{} {after}", units::bytes(self.log_bytes)),
                units::count(openings.records as f64),
                units::time_us(openings.open_us.median),
                units::time_us(openings.open_us.max),
                units::bytes(openings.resident_bytes),
                units::bytes(openings.anonymous_bytes),
            ]
        })
    }
}

impl Outcome {
    /// The cells of rows of [`Table::figures`].
    pub(crate) fn short_rows(&self) -> [[String; 7]; 2] {
        [("a clean close", &self.closed), ("kill -9", &self.killed)].map(|(after, openings)| {
            let nothing = || "-".to_string();
            let name = format!("reopen {} after {after}", units::bytes(self.log_bytes));
            let (median, slowest) =
                (units::time_us(openings.open_us.median), units::time_us(openings.open_us.max));
            [name, nothing(), nothing(), median, nothing(), slowest, nothing()]
        })
    }
}

fn charts(outcomes: &[Outcome]) -> Vec<Chart> {
    let lines = |figure: fn(&Openings) -> f64| {
        let of = |after: &str, openings: fn(&Outcome) -> &Openings| {
            let points = outcomes.iter().map(|outcome| (outcome.log_bytes as f64, figure(openings(outcome))));
            Line::marked(after, points.collect())
        };
        vec![
            of("after a clean close", |outcome| &outcome.closed),
            of("after kill -9", |outcome| &outcome.killed),
        ]
    };
    vec![
        Chart::new(
            "Time to open",
            Axis::bytes("bytes of records in the log"),
            Axis::time("median"),
            lines(|openings| openings.open_us.median),
        ),
        Chart::new(
            "Resident memory after opening",
            Axis::bytes("bytes of records in the log"),
            Axis::linear("MiB"),
            lines(|openings| openings.resident_bytes as f64 / f64::from(1 << 20)),
        ),
    ]
}
