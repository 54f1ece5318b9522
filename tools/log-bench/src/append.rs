//! `append`: durable appends, beside the raw limit measured in the same run.

use std::time::Duration;

use annals::{Log, WriteMethod};
use serde_json::Value;

use crate::cli::AppendArgs;
use crate::device;
use crate::drive::{self, Measured, Placed};
use crate::engine::{Annals, Counts, RECORD_BYTES_MAX, Settings};
use crate::error::{Error, Result};
use crate::machine::{self, Machine};
use crate::place::Place;
use crate::progress::{self, Phase};
use crate::raw::RawFile;
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::json::{rounded, value};
use crate::report::table::Table;
use crate::units;
use crate::workload::{Lines, Plan, Records};
use crate::yardstick::{self, Basis, Yardstick};

/// Runs the workload that was asked for.
pub(crate) fn run(args: &AppendArgs, place: &Place) -> Result<Report> {
    let machine = Machine::under(place.dir());
    let records = match &args.input {
        Some(path) => Records::Lines(Lines::read(path)?),
        None => {
            // Before anything is made or measured for it.
            let (bytes, max) = (args.size.saturating_mul(args.batch.into()), RECORD_BYTES_MAX);
            if bytes > max {
                return Err(Error::log("append to")(annals::Error::RecordTooLarge { bytes, max }));
            }
            Records::synthetic(args.size as usize)
        }
    };
    let length = match (&records, args.secs) {
        (Records::Lines(_), None) => None,
        (_, secs) => Some(Duration::from_secs_f64(secs.unwrap_or(5.0))),
    };
    let plan = Plan {
        threads: args.threads as usize,
        batch: args.batch as usize,
        in_flight: args.in_flight.unwrap_or(if args.rate.is_some() { 4096 } else { 1 }) as usize,
        rate: args.rate,
        length,
    };
    let raw_bytes = match (&records, length) {
        // Appended once: some times what they are is enough.
        (Records::Lines(lines), None) => raw_bytes(None).min(lines.bytes().saturating_mul(4).max(64 << 20)),
        _ => raw_bytes(length),
    };
    let raw = RawFile::create(&place.data("raw"), raw_bytes)?;
    let outcome = measure(&plan, &records, &Settings::from(&args.log), place, &raw)?;

    let mut report = Report::new(format!("Append: {}", plan.name(&records)), &machine);
    report.facts.push(("write method", outcome.method.to_string()));
    let columns =
        ["records/s", "MB/s", "p50", "p99", "p99.9", "max", "syncs/s", "records/sync", "of the raw limit"];
    let mut table = Table::new("Durable appends", &columns);
    table.row(outcome.row());
    report.tables.push(table);
    report.charts.extend(outcome.charts());
    report.notes.extend(outcome.notes());
    report
        .json
        .extend(outcome.figures(&plan, &records).into_iter().map(|(key, value)| (key.to_string(), value)));
    report.set("timeline", &outcome.measured.timeline);
    Ok(report)
}

/// How large a file the raw limit is measured on.
pub(crate) fn raw_bytes(length: Option<Duration>) -> u64 {
    match length {
        Some(length) if length < Duration::from_secs(1) => 64 << 20,
        _ => 512 << 20,
    }
}

/// What a workload came to, beside the raw limit.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The workload in words.
    pub(crate) name: String,
    /// The write method that the log used.
    pub(crate) method: WriteMethod,
    /// What was measured.
    pub(crate) measured: Measured,
    /// What the log counted meanwhile.
    pub(crate) counts: Counts,
    /// What it is held against.
    pub(crate) yardstick: Yardstick,
    /// How many records were read back and compared, if they came from a file.
    pub(crate) compared: Option<u64>,
}

/// Appends to a fresh log in `place` as `plan` says, measures the raw limit on both sides, and compares what
/// was read back if the records came from a file.
pub(crate) fn measure(
    plan: &Plan,
    records: &Records,
    settings: &Settings,
    place: &Place,
    raw: &RawFile,
) -> Result<Outcome> {
    let settings = bounded(settings, records, place)?;
    place.discard("log")?;
    let dir = place.data("log");
    let log = settings.open(&dir)?;
    let method = log.write_method();
    let name = plan.name(records);
    let mut yardstick = Yardstick::find(plan, records, &settings, method, place, raw)?;
    let rounds = yardstick::rounds(plan, records);
    let round_plan = Plan { length: plan.length.map(|length| length / rounds), ..plan.clone() };
    let (mut measured, mut counts) = (Measured::nothing(), Counts::default());
    for _ in 0..rounds {
        let earlier = Counts::of(&log);
        let round = drive::drive(&Annals(&log), &round_plan, records, &name)?;
        let counted = Counts::of(&log).since(earlier);
        yardstick.add(&round, counted, plan, raw)?;
        measured.extend(round);
        counts = counts.plus(counted);
    }
    log.close().map_err(Error::log("close"))?;
    let compared = match records {
        Records::Lines(lines) => Some(compare(lines, &measured.placed, &settings.open(&dir)?)?),
        Records::Synthetic(_) => None,
    };
    Ok(Outcome { name, method, measured, counts, yardstick, compared })
}

/// Keeps a long run from filling the disk, unless the records are to be read back.
fn bounded(settings: &Settings, records: &Records, place: &Place) -> Result<Settings> {
    let mut settings = settings.clone();
    match records {
        Records::Lines(lines) => {
            settings.retain_bytes = None;
            place.require(lines.bytes() + 64 * lines.len())?;
        }
        Records::Synthetic(_) => {
            let quarter = machine::free_bytes(place.dir()).map_or(1 << 30, |free| free / 4);
            settings.retain_bytes = settings.retain_bytes.or(Some(quarter.min(16 << 30)));
        }
    }
    Ok(settings)
}

/// Reads all of `log` and holds it against the lines that went into it.
fn compare(lines: &Lines, placed: &[Placed], log: &Log) -> Result<u64> {
    let appended: u64 = placed.iter().map(|run| run.count).sum();
    let mut line_of = vec![u64::MAX; appended as usize];
    for run in placed {
        for i in 0..run.count {
            match line_of.get_mut((run.lsn + i).wrapping_sub(1) as usize) {
                Some(slot) if *slot == u64::MAX => *slot = run.line + i,
                Some(_) => return Err(Error::Mismatch { lsn: run.lsn + i, what: "two receipts name it" }),
                None => {
                    return Err(Error::Mismatch { lsn: run.lsn + i, what: "its number is past the last" });
                }
            }
        }
    }
    let phase = Phase::steps("reading back and comparing", appended);
    let mut cursor = log.cursor(..).map_err(Error::log("read"))?;
    let mut seen = 0;
    while let Some(record) = cursor.next().map_err(Error::log("read"))? {
        let lsn = record.lsn().get();
        let Some(&line) = line_of.get(seen as usize) else {
            return Err(Error::Mismatch { lsn, what: "nobody appended it" });
        };
        if lsn != seen + 1 {
            return Err(Error::Mismatch { lsn: seen + 1, what: "it is missing" });
        }
        if lines.line(line) != &record[..] {
            return Err(Error::Mismatch { lsn, what: "its bytes differ from the line's" });
        }
        seen += 1;
        if seen % 4096 == 0 {
            phase.reach(seen);
            progress::check_stopped()?;
        }
    }
    if seen == appended { Ok(seen) } else { Err(Error::Mismatch { lsn: seen + 1, what: "it is missing" }) }
}

/// Says that the lines of a file came back.
pub(crate) fn compared_note(compared: u64) -> String {
    format!("All {compared} records were read back after a reopen and are the lines that were appended.")
}

impl Outcome {
    /// Durable writes a second.
    pub(crate) fn syncs_per_s(&self) -> f64 {
        self.counts.syncs as f64 / self.measured.elapsed.as_secs_f64()
    }

    /// What a durable write took in the log, on average.
    fn mean_times(&self) -> Value {
        let syncs = self.counts.syncs.max(1) as f64;
        let mean = |time| rounded(units::us(time) / syncs);
        serde_json::json!({
            "queue": mean(self.counts.queue_time),
            "flush": mean(self.counts.flush_time),
            "wake": mean(self.counts.wake_time),
        })
    }

    fn row(&self) -> [String; 9] {
        let latency = self.measured.latency.summary();
        [
            units::count(self.measured.records_per_s()),
            units::mb_per_s(self.measured.mb_per_s()),
            units::time_us(latency.p50),
            units::time_us(latency.p99),
            units::time_us(latency.p999),
            units::time_us(latency.max),
            units::count(self.syncs_per_s()),
            format!("{:.1}", self.measured.records as f64 / self.counts.syncs.max(1) as f64),
            self.share(),
        ]
    }

    /// The cells of a row of [`Table::figures`].
    pub(crate) fn short_row(&self) -> [String; 7] {
        let latency = self.measured.latency.summary();
        [
            self.name.clone(),
            units::count(self.measured.records_per_s()),
            units::mb_per_s(self.measured.mb_per_s()),
            units::time_us(latency.p50),
            units::time_us(latency.p99),
            units::time_us(latency.max),
            self.share(),
        ]
    }

    /// The share of the raw limit, and in what it is counted.
    fn share(&self) -> String {
        let basis = match self.yardstick.basis {
            Basis::Syncs => "syncs",
            Basis::Bytes => "MB/s",
        };
        format!("{:.2} of {basis}", self.yardstick.share().median)
    }

    /// Throughput and latency over time, and how latencies are spread.
    pub(crate) fn charts(&self) -> Vec<Chart> {
        let over_time = |figure: fn(&drive::Moment) -> f64| -> Vec<(f64, f64)> {
            self.measured.timeline.iter().map(|moment| (moment.at_s, figure(moment))).collect()
        };
        let seconds = || Axis::linear("seconds");
        vec![
            Chart::new(
                "Throughput over time",
                seconds(),
                Axis::linear("records/s"),
                vec![Line::plain("records/s", over_time(|moment| moment.records_per_s))],
            ),
            Chart::new(
                "Longest latency over time",
                seconds(),
                Axis::time("latency"),
                vec![Line::plain("longest", over_time(|moment| moment.worst_us))],
            ),
            Chart::new(
                "Latency by percentile",
                Axis::percentiles("share of appends that took no longer"),
                Axis::time("latency"),
                vec![Line::plain("latency", self.measured.latency.tail_curve())],
            ),
            Chart::new(
                "Latency histogram",
                Axis::time("latency"),
                Axis::linear("% of appends"),
                vec![Line::bars("share", self.measured.latency.buckets(20))],
            ),
        ]
    }

    fn notes(&self) -> Vec<String> {
        let raw = self.yardstick.raw();
        let mut notes = vec![match self.yardstick.basis {
            Basis::Syncs => format!(
                "The raw limit is {} syncs a second ({}), the mean of just before and just after; the log made {} \
                 syncs in {:.2} s.",
                units::count(raw.syncs_per_s),
                device::in_words(&raw.way),
                self.counts.syncs,
                self.measured.elapsed.as_secs_f64(),
            ),
            Basis::Bytes => format!(
                "The raw limit is {} MB/s ({}, the best of those tried), the mean of just before and just after; \
                 bytes of records count, not their headers.",
                units::mb_per_s(raw.mb_per_s),
                device::in_words(&raw.way),
            ),
        }];
        let share = self.yardstick.share();
        if self.yardstick.rounds() > 1 {
            notes.push(format!(
                "It was measured in {} rounds with the raw limit between them: the share is the median of {:.2} to \
                 {:.2}.",
                self.yardstick.rounds(),
                share.min,
                share.max,
            ));
        }
        if self.measured.missed > 0 {
            notes.push(format!(
                "{} appends were due and never made, because the log fell more than 10 s behind the schedule; \
                 they count in the latencies as if they had been made at the end.",
                self.measured.missed
            ));
        }
        if let Some(compared) = self.compared {
            notes.push(compared_note(compared));
        }
        notes
    }

    /// The figures for programs.
    pub(crate) fn figures(&self, plan: &Plan, records: &Records) -> Vec<(&'static str, Value)> {
        let measured = &self.measured;
        let syncs = self.counts.syncs.max(1) as f64;
        vec![
            ("workload", value(&self.name)),
            ("threads", value(plan.threads)),
            ("size", value(records.mean_bytes().round())),
            ("batch", value(plan.batch)),
            ("in_flight", value(plan.in_flight)),
            ("rate", value(plan.rate)),
            ("write_method", value(self.method.to_string())),
            ("secs", value(rounded(measured.elapsed.as_secs_f64()))),
            ("records", value(measured.records)),
            ("records_per_s", value(rounded(measured.records_per_s()))),
            ("mb_per_s", value(rounded(measured.mb_per_s()))),
            ("latency_us", value(measured.latency.summary())),
            ("missed", value(measured.missed)),
            ("syncs", value(self.counts.syncs)),
            ("syncs_per_s", value(rounded(self.syncs_per_s()))),
            ("records_per_sync", value(rounded(measured.records as f64 / syncs))),
            ("bytes_per_sync", value(rounded(self.counts.bytes_written as f64 / syncs))),
            ("bytes_written", value(self.counts.bytes_written)),
            ("rolls", value(self.counts.rolls)),
            ("backpressure_waits", value(self.counts.backpressure_waits)),
            ("mean_us", self.mean_times()),
            ("raw_fraction", value(self.yardstick.share().median)),
            ("raw_fraction_spread", value(self.yardstick.share())),
            ("raw_basis", value(self.yardstick.basis)),
            ("raw", value(&self.yardstick.limits)),
            ("anonymous_bytes_max", value(measured.anonymous_bytes_max)),
            ("compared", value(self.compared)),
        ]
    }
}
