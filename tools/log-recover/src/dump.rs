//! `dump`: records to standard output.

use std::io::ErrorKind::NotFound;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use annals::repair::{Dump, Dumped, Report};
use annals::{Lsn, LsnRange};

use crate::cli::DumpArgs;
use crate::error::{Error, Result};
use crate::look;
use crate::out::has_reader;
use crate::place::Place;
use crate::progress::is_stopped;
use crate::records::Form;
use crate::session::{Session, note};
use crate::status::Status;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes the records of the range that was asked for.
pub(crate) fn run(args: &DumpArgs, session: &Session) -> Result<Status> {
    let place = Place::open(&args.dir)?;
    let report = Arc::new(look::read_all(&place, args.threads.number())?.report);
    let form = match () {
        () if args.raw => Form::Raw,
        () if args.hex => Form::Hex,
        () if session.json => Form::Json,
        () => Form::Line,
    };
    let Some(range) = range(args, &report) else { return Ok(Status::Whole) };
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    let written = write_all(&place, &report, range, form, &mut Sink { to: &mut out, file: None })?;
    // What is left in the buffer has no reader either.
    if !written.has_reader || !has_reader(out.flush())? {
        let _ = out.into_parts();
    }
    Ok(if written.lost > 0 { Status::Lost } else { Status::Whole })
}

/// Where records are written to.
pub(crate) struct Sink<'a> {
    /// What takes them.
    pub(crate) to: &'a mut dyn Write,
    /// The file that this is; `None` for standard output.
    pub(crate) file: Option<&'a Path>,
}

impl Sink<'_> {
    fn has_reader(&self, written: io::Result<()>) -> Result<bool> {
        match self.file {
            Some(path) => written.map(|()| true).map_err(Error::path("write", path)),
            None => has_reader(written),
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Records.
    pub(crate) records: u64,
    /// Records that cannot be read, and that no earlier repair has given up.
    pub(crate) lost: u64,
    /// Whether there still is somebody who reads.
    pub(crate) has_reader: bool,
}

/// Writes all records of `range`, and the gaps among them, until a signal comes or the reader goes away.
pub(crate) fn write_all(
    place: &Place,
    report: &Arc<Report>,
    range: LsnRange,
    form: Form,
    out: &mut Sink<'_>,
) -> Result<Written> {
    let mut dump = Dump::new(Arc::clone(&place.disk), Arc::clone(report), range);
    let mut written = Written { records: 0, lost: 0, has_reader: true };
    while let Some(next) = dump.next().map_err(|source| gone_or(source, place, report))? {
        match &next {
            Dumped::Record { .. } => written.records += 1,
            Dumped::Gap { lsns, is_given_up: false } => written.lost += lsns.records(),
            Dumped::Gap { .. } | Dumped::EpochStart { .. } | Dumped::Control { .. } => {}
        }
        let done = form.write(out.to, &next);
        written.has_reader = out.has_reader(done)?;
        if !written.has_reader {
            break;
        }
        if is_stopped() {
            return Err(Error::Stopped);
        }
    }
    Ok(written)
}

/// What a segment that is not there any more means.
fn gone_or(source: annals::Error, place: &Place, report: &Report) -> Error {
    match &source {
        annals::Error::Io { source, .. } if source.kind() == NotFound && report.writer.is_some() => {
            Error::Trimmed { dir: place.dir.clone() }
        }
        _ => Error::log(&place.dir)(source),
    }
}

/// The records that were asked for and that the log may have; says so if those are not all.
fn range(args: &DumpArgs, report: &Report) -> Option<LsnRange> {
    let there = LsnRange::new(report.first_lsn, report.last_lsn);
    let Some(there) = there else {
        note("the log has no records");
        return None;
    };
    let from = args.from.map_or(there.first, |from| Lsn::new(from.get()));
    let to = args.to.map_or(there.last, |to| Lsn::new(to.get()));
    if from < there.first || to > there.last || from > there.last {
        note(&format!("the log has records {there}"));
    }
    LsnRange::new(from.max(there.first), to.min(there.last))
}
