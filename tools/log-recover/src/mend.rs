//! `plan`, `repair` and `undo`.

use std::fmt::Write as _;

use annals::repair::{self, Plan, Repaired, Report};
use serde_json::json;

use crate::cli::{RepairArgs, UndoArgs, VerifyArgs};
use crate::error::{Error, Result};
use crate::look;
use crate::peer;
use crate::place::{Place, shown};
use crate::progress::Progress;
use crate::report::{json, steps, verdict::Verdict, words};
use crate::session::{Session, check_idle, note};
use crate::status::Status;

/// Shows what a repair would do.
pub(crate) fn plan(args: &VerifyArgs, session: &Session) -> Result<Status> {
    let place = Place::open(&args.dir)?;
    let before = look::headers(&place)?;
    if before.unfinished_repair.is_some() {
        let verdict = Verdict::of(&before, &place);
        return session.show(&place, verdict.status, &verdict.text(session.paint), |object| {
            json::report(object, &before, &place);
        });
    }
    check_idle(&place, &before)?;
    let report = look::read_all(&place, args.threads.number())?.report;
    let status = Status::of(&report);
    let plan = make_plan(&place, &report)?;
    let verdict = Verdict::of(&report, &place);
    let next = next(&place, &plan);
    let mut text = verdict.sentence.clone() + "\n\n";
    text.push_str(&plan_text(&place, &plan));
    session.show(&place, status, &text, |object| {
        json::report(object, &report, &place);
        json::plan(object, &plan);
        object.insert("free_bytes".to_owned(), place.free_bytes().into());
        object.insert("next".to_owned(), next.into());
    })
}

/// Carries the plan out, or finishes a repair that was interrupted.
pub(crate) fn repair(args: &RepairArgs, session: &Session) -> Result<Status> {
    if let Some(address) = &args.from_peer {
        return peer::repair(args, address, session);
    }
    let place = Place::open(&args.dir)?;
    let before = look::headers(&place)?;
    let plan = match &before.unfinished_repair {
        // The journal says what is left to do, so nothing needs to be read.
        Some(_) => make_plan(&place, &before)?,
        None => {
            check_idle(&place, &before)?;
            let report = look::read_all(&place, args.threads.number())?.report;
            let plan = make_plan(&place, &report)?;
            check_loss(&place, &plan, args.accept_loss)?;
            plan
        }
    };
    let accepted = args.accept_loss.filter(|_| !plan.gives_up.is_empty());
    let progress = Progress::new("writing");
    let done = repair::repair(&place.disk, &plan, accepted, &progress);
    progress.end();
    let done = done.map_err(|source| match source {
        annals::Error::LossNotAccepted { .. } => unrepaired(&place, source, Status::Lost),
        source => Error::log(&place.dir)(source),
    })?;
    show_repaired(&place, session, &plan, &done)
}

/// Takes the last repair back.
pub(crate) fn undo(args: &UndoArgs, session: &Session) -> Result<Status> {
    let place = Place::open(&args.dir)?;
    // Whatever state a repair has left is taken back, but nothing is done where there never was a log.
    if let Err(error @ Error::Log { source: annals::Error::NotALog, .. }) = look::headers(&place) {
        return Err(error);
    }
    let undone = repair::undo(&place.disk).map_err(Error::log(&place.dir))?;
    let mut text = format!("Taken back: the repair of {}.\n", shown(&undone.journal));
    for file in &undone.files {
        let _ = writeln!(text, "  {} is again what it was", shown(file));
    }
    let next = place.command("verify", "");
    let _ = writeln!(text, "Next: {next}");
    session.show(&place, Status::Whole, &text, |object| {
        object.insert("journal".to_owned(), undone.journal.clone().into());
        object.insert("files".to_owned(), undone.files.clone().into());
        object.insert("next".to_owned(), next.clone().into());
    })
}

/// The plan; a log that cannot be repaired in its place keeps the status that it has.
fn make_plan(place: &Place, report: &Report) -> Result<Plan> {
    repair::plan(&*place.disk, report).map_err(|source| match source {
        annals::Error::NotRepairable { .. } => unrepaired(place, source, Status::of(report)),
        source => Error::log(&place.dir)(source),
    })
}

fn unrepaired(place: &Place, source: annals::Error, status: Status) -> Error {
    Error::Unrepaired { dir: place.dir.clone(), source, status }
}

/// Refuses a loss that was not accepted before anything is written.
fn check_loss(place: &Place, plan: &Plan, accepted: Option<u64>) -> Result<()> {
    let lost = words::total(&plan.gives_up);
    if lost == accepted.unwrap_or(0) {
        return Ok(());
    }
    if lost == 0 {
        note("--accept-loss is not needed: nothing will be given up");
        return Ok(());
    }
    Err(unrepaired(place, annals::Error::LossNotAccepted { lost, accepted }, Status::Lost))
}

fn plan_text(place: &Place, plan: &Plan) -> String {
    if plan.steps.is_empty() {
        return "There is nothing to repair.\n".to_owned();
    }
    let mut text = format!("The repair, in {}:\n", words::plural(plan.steps.len() as u64, "step"));
    text.push_str(&steps::text(plan));
    let needed = words::bytes(plan.new_bytes);
    let _ = write!(text, "\nNew files take {needed}");
    if let Some(free) = place.free_bytes() {
        let enough = if free < plan.new_bytes { ": NOT ENOUGH" } else { "" };
        let _ = write!(text, ", {} are free{enough}", words::bytes(free));
    }
    text.push_str(
        ".\nThe old files go into a quarantine beside the log, from which `undo` puts them back.\n",
    );
    text.push_str(&match words::total(&plan.gives_up) {
        0 => "Nothing acknowledged is given up.\n".to_owned(),
        lost => format!(
            "GIVES UP {}: {}.\n",
            words::plural(lost, "acknowledged record"),
            words::ranges(&plan.gives_up)
        ),
    });
    let _ = writeln!(text, "Next: {}", next(place, plan).unwrap_or_default());
    text
}

/// The command that carries the plan out.
fn next(place: &Place, plan: &Plan) -> Option<String> {
    let arguments = match words::total(&plan.gives_up) {
        0 => String::new(),
        lost => format!("--accept-loss {lost}"),
    };
    (!plan.steps.is_empty()).then(|| place.command("repair", &arguments))
}

/// Says what was done and how to go back, after a look at whether the log can be opened now.
fn show_repaired(place: &Place, session: &Session, plan: &Plan, done: &Repaired) -> Result<Status> {
    let after = look::headers(place)?;
    let verdict = Verdict::of(&after, place);
    let text = match &done.journal {
        None => "Nothing was to be repaired, and nothing was changed.\n".to_owned(),
        Some(journal) => repaired_text(place, plan, done, journal),
    };
    session.show(place, verdict.status, &(text + &verdict.text(session.paint)), |object| {
        json::report(object, &after, place);
        json::plan(object, plan);
        object.insert("journal".to_owned(), done.journal.clone().into());
        object.insert("resumed".to_owned(), done.is_resumed.into());
        object.insert("gave_up".to_owned(), json::ranges(&done.gave_up));
        let unread = done.unread.iter().map(
            |unread| json!({ "file": unread.file, "start": unread.bytes.start, "end": unread.bytes.end }),
        );
        object.insert("unread".to_owned(), unread.collect());
        let undo = done.journal.as_ref().map(|_| place.command("undo", ""));
        object.insert("undo".to_owned(), json!(undo));
    })
}

fn repaired_text(place: &Place, plan: &Plan, done: &Repaired, journal: &str) -> String {
    let mut text = match done.is_resumed {
        true => "Repaired: the repair that was interrupted is finished.\n".to_owned(),
        false => format!("Repaired, in {}:\n", words::plural(plan.steps.len() as u64, "step")),
    };
    text.push_str(&steps::text(plan));
    if !done.gave_up.is_empty() {
        let lost = words::plural(words::total(&done.gave_up), "acknowledged record");
        let _ = writeln!(text, "Given up: {lost}, {}.", words::ranges(&done.gave_up));
    }
    let stem = journal.strip_suffix(".journal").unwrap_or(journal);
    let _ = writeln!(
        text,
        "Quarantine: the old files are {}, their journal {}.",
        place.file(&format!("{stem}.*")),
        place.file(journal)
    );
    for repair::Unread { file, bytes } in &done.unread {
        let range = format!("bytes {} to {}", bytes.start, bytes.end);
        let _ = writeln!(
            text,
            "  {range} of {} could not be read, and are not to be relied on.",
            place.file(file)
        );
    }
    let _ = writeln!(text, "To go back, before the log is written to again: {}", place.command("undo", ""));
    text.push_str(
        "Once the log is in use again there is no way back: then remove the quarantine when you like.\n\n",
    );
    text
}
