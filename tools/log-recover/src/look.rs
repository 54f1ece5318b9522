//! `inspect` and `verify`.

use std::fmt::Write as _;
use std::time::Duration;

use annals::repair::{self, Report};
use serde_json::json;

use crate::cli::{InspectArgs, VerifyArgs};
use crate::error::{Error, Result};
use crate::place::Place;
use crate::progress::Progress;
use crate::report::verdict::Verdict;
use crate::report::{self, inspect, stretches};
use crate::session::Session;
use crate::status::Status;

/// Shows what headers and footers tell.
pub(crate) fn inspect(args: &InspectArgs, session: &Session) -> Result<Status> {
    let place = Place::open(&args.dir)?;
    let found = headers(&place)?;
    let verdict = Verdict::of(&found, &place);
    let mut text = inspect::text(&found, &place, args.all);
    let map = report::map::map(&found, session.paint);
    let _ = write!(text, "\n{map}\n");
    if !found.is_whole() {
        text.push_str(&stretches::text(&found, session.paint));
    }
    text.push_str(&verdict.text(session.paint));
    session.show(&place, verdict.status, &text, |object| report::json::report(object, &found, &place))
}

/// Reads every byte.
pub(crate) fn verify(args: &VerifyArgs, session: &Session) -> Result<Status> {
    let place = Place::open(&args.dir)?;
    let reading = read_all(&place, args.threads.number())?;
    let verdict = Verdict::of(&reading.report, &place);
    let mut text = inspect::head(&reading.report, &place);
    text.push('\n');
    if !reading.report.is_whole() {
        text.push_str(&report::map::map(&reading.report, session.paint));
        text.push('\n');
    }
    let listed = stretches::text(&reading.report, session.paint);
    if !listed.is_empty() {
        let _ = writeln!(text, "{listed}");
    }
    let _ = writeln!(text, "{}\n", reading.speed());
    text.push_str(&verdict.text(session.paint));
    session.show(&place, verdict.status, &text, |object| {
        report::json::report(object, &reading.report, &place);
        reading.fill(object);
    })
}

/// The report by headers and footers alone.
pub(crate) fn headers(place: &Place) -> Result<Report> {
    repair::inspect(&*place.disk).map_err(Error::log(&place.dir))
}

/// A log that was read, and how fast.
#[derive(Debug)]
pub(crate) struct Reading {
    /// What was found.
    pub(crate) report: Report,
    bytes: u64,
    took: Duration,
    threads: usize,
}

/// Reads every byte as fast as it can, with the progress shown.
pub(crate) fn read_all(place: &Place, threads: usize) -> Result<Reading> {
    let progress = Progress::new("reading");
    let report = repair::verify(&place.disk, threads, &progress).map_err(Error::log(&place.dir))?;
    progress.end();
    let (bytes, took) = progress.so_far();
    Ok(Reading { report, bytes, took, threads })
}

impl Reading {
    /// `read 4.00 GiB in 1.9 s: 2.2 GB/s with 2 threads`.
    pub(crate) fn speed(&self) -> String {
        let (bytes, secs) = (report::words::bytes(self.bytes), self.took.as_secs_f64());
        let rate = match self.bytes_per_s() {
            rate if rate >= 1e9 => format!("{:.2} GB/s", rate / 1e9),
            rate => format!("{:.1} MB/s", rate / 1e6),
        };
        let threads = report::words::plural(self.threads as u64, "thread");
        format!("read {bytes} in {secs:.2} s: {rate} with {threads}")
    }

    /// Adds the speed to an object.
    pub(crate) fn fill(&self, object: &mut report::json::Object) {
        object.insert("bytes_read".to_owned(), self.bytes.into());
        object.insert("seconds".to_owned(), json!(self.took.as_secs_f64()));
        object.insert("bytes_per_s".to_owned(), json!(self.bytes_per_s().round()));
        object.insert("threads".to_owned(), self.threads.into());
    }

    fn bytes_per_s(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64().max(1e-9)
    }
}
