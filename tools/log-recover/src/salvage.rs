//! `salvage`: a new log, or a file of records, of all that is readable.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annals::LsnRange;
use annals::disk::RealDisk;
use annals::repair::{self, Report};

use crate::cli::SalvageArgs;
use crate::dump::{self, Sink};
use crate::error::{Error, Result};
use crate::look;
use crate::place::{Place, command, shown};
use crate::progress::Progress;
use crate::records::Form;
use crate::report::{json, verdict::correctable, words};
use crate::session::{Session, check_idle};
use crate::status::Status;

/// Copies what is readable.
pub(crate) fn run(args: &SalvageArgs, session: &Session) -> Result<Status> {
    let place = Place::open(&args.dir)?;
    check_idle(&place, &look::headers(&place)?)?;
    let to = args.to.out.as_ref().or(args.to.records.as_ref());
    if let Some(to) = to {
        check_outside(&place, to)?;
    }
    let report = Arc::new(look::read_all(&place, args.threads.number())?.report);
    let salvaged = match (&args.to.out, &args.to.records) {
        (Some(out), _) => to_log(&place, &report, out)?,
        (None, Some(file)) => to_file(&place, &report, file)?,
        (None, None) => unreachable!("the command line asks for one of them"),
    };
    show(&place, session, &report, &salvaged)
}

/// What was salvaged.
struct Salvaged {
    records: u64,
    gaps: Vec<LsnRange>,
    to: PathBuf,
    is_log: bool,
}

fn to_log(place: &Place, report: &Report, out: &Path) -> Result<Salvaged> {
    let disk = RealDisk::create(out).map_err(Error::path("create", out))?;
    let progress = Progress::new("copying");
    let done =
        repair::salvage(&place.disk, report, &disk, &progress).map_err(Error::salvage(&place.dir, out))?;
    Ok(Salvaged { records: done.records, gaps: done.gaps, to: out.to_owned(), is_log: true })
}

fn to_file(place: &Place, report: &Arc<Report>, path: &Path) -> Result<Salvaged> {
    let file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(Error::path("create", path))?;
    let done = write_file(place, report, file, path);
    if done.is_err() {
        // Half a file would look like a whole one; the first error is the one to tell.
        let _ = fs::remove_file(path);
    }
    done
}

fn write_file(place: &Place, report: &Arc<Report>, file: File, path: &Path) -> Result<Salvaged> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut records = 0;
    if let Some(range) = LsnRange::new(report.first_lsn, report.last_lsn) {
        let mut sink = Sink { to: &mut out, file: Some(path) };
        records = dump::write_all(place, report, range, Form::Json, &mut sink)?.records;
    }
    let synced = out.flush().and_then(|()| out.get_ref().sync_all());
    synced.map_err(Error::path("write", path))?;
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    File::open(above).and_then(|above| above.sync_all()).map_err(Error::path("sync", above))?;
    let mut gaps = report.lost.clone();
    gaps.extend(&report.given_up);
    gaps.sort_unstable();
    Ok(Salvaged { records, gaps, to: path.to_owned(), is_log: false })
}

/// Refuses to add files to the log that is to be saved.
fn check_outside(place: &Place, to: &Path) -> Result<()> {
    let Ok(dir) = place.dir.canonicalize() else { return Ok(()) };
    let there = to.ancestors().find_map(|above| {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        above.canonicalize().ok()
    });
    if there.is_some_and(|there| there.starts_with(&dir)) {
        return Err(Error::InsideLog { path: to.to_owned(), dir: place.dir.clone() });
    }
    Ok(())
}

fn show(place: &Place, session: &Session, report: &Report, salvaged: &Salvaged) -> Result<Status> {
    let status = if report.lost.is_empty() { Status::Whole } else { Status::Lost };
    let to = shown(&salvaged.to.to_string_lossy());
    let mut text = format!("Salvaged {} to {to}.\n", words::plural(salvaged.records, "record"));
    text.push_str(&match words::total(&salvaged.gaps) {
        0 => "Nothing acknowledged is missing in it.\n".to_owned(),
        lost => {
            format!("Missing in it: {}, {}.\n", words::plural(lost, "record"), words::ranges(&salvaged.gaps))
        }
    });
    let by_correction = if salvaged.is_log { 0 } else { correctable(report) };
    if by_correction > 0 {
        let of_them = words::plural(by_correction, "record");
        text.push_str(&format!(
            "Only flipped bits keep {of_them} of these: a repair, or --out, gets that back.\n"
        ));
    }
    let next = salvaged.is_log.then(|| command("verify", &salvaged.to, ""));
    if let Some(next) = &next {
        text.push_str(&format!("Next: {next}\n"));
    }
    session.show(place, status, &text, |object| {
        object.insert("to".to_owned(), salvaged.to.to_string_lossy().into());
        object.insert("records".to_owned(), salvaged.records.into());
        object.insert("gaps".to_owned(), json::ranges(&salvaged.gaps));
        object.insert("lost".to_owned(), json::ranges(&report.lost));
        object.insert("lost_records".to_owned(), report.lost_records().into());
        object.insert("given_up".to_owned(), json::ranges(&report.given_up));
        object.insert("next".to_owned(), next.clone().into());
    })
}
