//! One run of the program: how it shows what it has found.

use annals::repair::Report;

use crate::cli::Common;
use crate::error::{Error, Result};
use crate::out::{self, Paint};
use crate::place::{Place, shown};
use crate::report::json::{self, Object};
use crate::status::Status;

/// What all commands go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// The command's name.
    pub(crate) command: &'static str,
    /// Whether standard output is for a program.
    pub(crate) json: bool,
    /// The colours on standard output.
    pub(crate) paint: Paint,
}

impl Session {
    /// A run of `command`.
    pub(crate) fn new(command: &'static str, common: &Common) -> Session {
        let paint = if common.json { Paint::NONE } else { Paint::of(common.color) };
        Session { command, json: common.json, paint }
    }

    /// Shows what came of it: `text` to people, or an object that `fill` completes to programs.
    pub(crate) fn show(
        &self,
        place: &Place,
        status: Status,
        text: &str,
        fill: impl FnOnce(&mut Object),
    ) -> Result<Status> {
        if self.json {
            let mut object = json::head(self.command, &place.dir.to_string_lossy(), status);
            fill(&mut object);
            out::print(&format!("{}\n", serde_json::Value::Object(object)))?;
        } else {
            out::print(text)?;
        }
        Ok(status)
    }

    /// Says why it could not be done, and what to do next.
    pub(crate) fn show_error(&self, dir: Option<&std::path::Path>, error: &Error) {
        eprintln!("error: {error}");
        if let Some(advice) = error.advice() {
            eprintln!("next:  {advice}");
        }
        if self.json {
            let dir = dir.map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
            let mut object = json::head(self.command, &dir, error.status());
            let what = serde_json::json!({ "kind": error.kind(), "message": error.to_string() });
            object.insert("error".to_owned(), what);
            object.insert("next".to_owned(), error.advice().into());
            // Whoever does not read standard output has read the error above.
            let _ = out::print(&format!("{}\n", serde_json::Value::Object(object)));
        }
    }
}

/// Says something in passing, on standard error.
pub(crate) fn note(text: &str) {
    eprintln!("note: {text}");
}

/// Refuses a log that somebody writes to, or whose repair is not finished, before long work is done on it.
pub(crate) fn check_idle(place: &Place, report: &Report) -> Result<()> {
    if let Some(owner) = report.writer {
        return Err(Error::log(&place.dir)(annals::Error::InUse { owner }));
    }
    match &report.unfinished_repair {
        Some(journal) => {
            let journal = shown(journal).into();
            Err(Error::log(&place.dir)(annals::Error::RepairUnfinished { journal }))
        }
        None => Ok(()),
    }
}
