//! `read`: sequential and random reads of a log that lies in the page cache.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use annals::disk::{Access, Disk, RealDisk};
use annals::{Log, Lsn};
use serde::Serialize;

use crate::cli::ReadArgs;
use crate::engine::{Settings, fill};
use crate::error::{Error, Result};
use crate::latency::{Latency, Summary};
use crate::machine::Machine;
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::json::rounded;
use crate::report::table::Table;
use crate::spread::Spread;
use crate::units;

/// Writes a log, then reads it.
pub(crate) fn run(args: &ReadArgs, place: &Place) -> Result<Report> {
    let machine = Machine::under(place.dir());
    let settings = Settings::by(args.method.map(Into::into));
    let secs = Duration::from_secs_f64(args.secs);
    let outcome = measure(args.size, args.log_bytes, args.runs, secs, &settings, place)?;

    let title = format!("Read: {} of records of {}", units::bytes(args.log_bytes), units::bytes(args.size));
    let mut report = Report::new(title, &machine);
    let mut table = Table::figures("Reads on one thread, from the page cache");
    outcome.rows(args.size).into_iter().for_each(|row| table.row(row));
    report.tables.push(table);
    report.charts.push(Chart::new(
        "Latency of reads at random by percentile",
        Axis::percentiles("share of reads that took no longer"),
        Axis::time("latency"),
        vec![Line::plain("latency", outcome.random.tail_curve())],
    ));
    report.charts.push(Chart::new(
        "Latency histogram of reads at random",
        Axis::time("latency"),
        Axis::linear("% of reads"),
        vec![Line::bars("share", outcome.random.buckets(20))],
    ));
    report.notes.push(
        "read(): the operating system copying the same files, or pieces of a record's size, out of its page cache."
            .to_string(),
    );
    report.set("workload", "read");
    report.set("size", args.size);
    report.set("log_bytes", args.log_bytes);
    report.set("records", outcome.records);
    report.set("sequential", outcome.checked);
    report.set("sequential_trusting_sealed", outcome.trusting);
    report.set("raw", outcome.raw);
    report.set("raw_fraction", outcome.raw_fraction());
    report.set("random_reads_per_s", rounded(outcome.random_per_s));
    report.set("random_latency_us", outcome.random.summary());
    Ok(report)
}

/// What reading came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    records: u64,
    /// With each checksum verified.
    pub(crate) checked: Sequential,
    /// With the checksums of sealed segments verified once.
    trusting: Sequential,
    /// By LSN, in no order.
    random: Latency,
    random_per_s: f64,
    raw: Raw,
}

/// Plain reads of the log's files.
#[derive(Clone, Copy, Debug, Serialize)]
struct Raw {
    /// In order, in large pieces: megabytes (10^6) a second, the median pass.
    mb_per_s: f64,
    /// At random, of the size of a record, each second.
    reads_per_s: f64,
}

/// Passes over the whole log, in order.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sequential {
    /// Megabytes (10^6) of records a second.
    mb_per_s: Spread,
    /// Records a second.
    records_per_s: Spread,
}

/// Writes a log of `log_bytes` into `place` and reads it in order, `runs` times, then at random for `length`.
pub(crate) fn measure(
    size: u64,
    log_bytes: u64,
    runs: u32,
    length: Duration,
    settings: &Settings,
    place: &Place,
) -> Result<Outcome> {
    place.require(log_bytes + log_bytes / 8 + (512 << 20))?;
    place.discard("log")?;
    let dir = place.data("log");
    let log = settings.open(&dir)?;
    fill(&log, size, log_bytes, "writing a log to read")?;
    log.close().map_err(Error::log("close"))?;

    let trusting = Settings { trusts_sealed: true, ..settings.clone() };
    let log = trusting.open(&dir)?;
    let (trusting, _) = passes(&log, runs, touch, "reading, sealed segments trusted")?;
    log.close().map_err(Error::log("close"))?;
    let log = settings.open(&dir)?;
    let (checked, records) = passes(&log, runs, <[u8]>::len, "reading in order")?;
    let (random, random_per_s) = at_random(&log, records, length)?;
    log.close().map_err(Error::log("close"))?;
    let raw = raw(&dir, size, runs, length / 4)?;
    Ok(Outcome { records, checked, trusting, random, random_per_s, raw })
}

/// What the operating system gives of the same files, copied out of its page cache by plain reads.
fn raw(dir: &Path, size: u64, runs: u32, length: Duration) -> Result<Raw> {
    let refused = || Error::io("read", dir);
    let disk = RealDisk::open(dir).map_err(refused())?;
    let mut files = Vec::new();
    for name in disk.list().map_err(refused())?.iter().filter(|name| name.ends_with(".seg")) {
        let file = disk.open(name, Access::Read).map_err(refused())?;
        let bytes = file.bytes().map_err(refused())?;
        files.push((file, bytes));
    }
    let all: u64 = files.iter().map(|file| file.1).sum();
    let mut buffer = vec![0; RAW_CHUNK_BYTES as usize];
    let mut rates = Vec::new();
    for _ in 0..=runs {
        let began = Instant::now();
        for (file, bytes) in &files {
            for offset in (0..*bytes).step_by(RAW_CHUNK_BYTES as usize) {
                black_box(file.read_at(&mut buffer, offset).map_err(refused())?);
            }
        }
        rates.push(all as f64 / 1e6 / began.elapsed().as_secs_f64());
    }
    // The first pass warms up.
    let mb_per_s = Spread::of(rates.into_iter().skip(1)).median;

    let mut scatter = Scatter::default();
    let record = &mut vec![0; size.max(1) as usize];
    let (began, mut reads) = (Instant::now(), 0_u64);
    while began.elapsed() < length {
        let (file, bytes) = &files[scatter.below(files.len() as u64) as usize];
        let offset = scatter.below(bytes.saturating_sub(size).max(1));
        black_box(file.read_at(record, offset).map_err(refused())?);
        reads += 1;
    }
    let reads_per_s = rounded(reads as f64 / began.elapsed().as_secs_f64());
    Ok(Raw { mb_per_s, reads_per_s })
}

/// Large enough that the calls do not count, small enough to stay in a cache.
const RAW_CHUNK_BYTES: u64 = 256 << 10;

/// Numbers that visit a range evenly, in no order that a cache would know (a Weyl sequence).
#[derive(Default)]
struct Scatter(u64);

impl Scatter {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((u128::from(self.0) * u128::from(end)) >> 64) as u64
    }
}

/// Reads all of `log` once to warm up, then `runs` times against the clock.
fn passes(log: &Log, runs: u32, look: fn(&[u8]) -> usize, name: &str) -> Result<(Sequential, u64)> {
    let phase = Phase::steps(name, u64::from(runs) + 1);
    let (records, _) = pass(log, look)?;
    let mut rates = Vec::new();
    for done in 1..=u64::from(runs) {
        phase.reach(done);
        let began = Instant::now();
        let (records, bytes) = pass(log, look)?;
        let secs = began.elapsed().as_secs_f64();
        rates.push((bytes as f64 / 1e6 / secs, records as f64 / secs));
    }
    let sequential = Sequential {
        mb_per_s: Spread::of(rates.iter().map(|rate| rate.0)),
        records_per_s: Spread::of(rates.iter().map(|rate| rate.1)),
    };
    Ok((sequential, records))
}

/// Looks at a byte of each cache line, as verifying does; without it nothing of a record would be read.
fn touch(record: &[u8]) -> usize {
    black_box(record.iter().step_by(64).fold(0, |seen, byte| seen ^ byte));
    record.len()
}

/// Records and their bytes.
fn pass(log: &Log, look: fn(&[u8]) -> usize) -> Result<(u64, u64)> {
    let mut cursor = log.cursor(..).map_err(Error::log("read"))?;
    let (mut records, mut bytes) = (0, 0);
    while let Some(record) = cursor.next().map_err(Error::log("read"))? {
        records += 1;
        bytes += black_box(look(&record[..])) as u64;
        if records % 65_536 == 0 {
            progress::check_stopped()?;
        }
    }
    Ok((records, bytes))
}

fn at_random(log: &Log, records: u64, length: Duration) -> Result<(Latency, f64)> {
    let phase = Phase::timed("reading at random", length);
    let mut latency = Latency::fine();
    let mut scatter = Scatter::default();
    let began = Instant::now();
    let mut now = began;
    while latency.len() == 0 || now - began < length {
        let lsn = Lsn::new(1 + scatter.below(records));
        let record = log.read(lsn).map_err(Error::log("read"))?;
        black_box(&record[..]);
        let then = Instant::now();
        latency.record(then - now);
        now = then;
        if latency.len().is_multiple_of(65_536) {
            phase.tick();
            progress::check_stopped()?;
        }
    }
    let per_s = latency.len() as f64 / began.elapsed().as_secs_f64();
    Ok((latency, per_s))
}

impl Outcome {
    /// Sequential reads as a share of plain reads of the same files.
    fn raw_fraction(&self) -> f64 {
        rounded(self.checked.mb_per_s.median / self.raw.mb_per_s)
    }

    /// The cells of the rows of [`Table::figures`].
    pub(crate) fn rows(&self, size: u64) -> [[String; 7]; 3] {
        let nothing = || "-".to_string();
        let sequential = |name: &str, passes: &Sequential| {
            [
                format!("read in order, {} each, {name}", units::bytes(size)),
                units::count(passes.records_per_s.median),
                units::mb_per_s(passes.mb_per_s.median),
                nothing(),
                nothing(),
                nothing(),
                format!("{:.2} of read()", passes.mb_per_s.median / self.raw.mb_per_s),
            ]
        };
        let Summary { p50, p99, max, .. } = self.random.summary();
        let random = [
            format!("read at random, {} each, verified", units::bytes(size)),
            units::count(self.random_per_s),
            units::mb_per_s(self.random_per_s * size as f64 / 1e6),
            units::time_us(p50),
            units::time_us(p99),
            units::time_us(max),
            format!("{:.2} of read()", self.random_per_s / self.raw.reads_per_s),
        ];
        [
            sequential("verified", &self.checked),
            sequential("sealed ones verified once", &self.trusting),
            random,
        ]
    }
}
