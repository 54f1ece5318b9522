//! `scrub`: the sealed segments, slowly, also beside the program that writes.

use std::fmt::Write as _;
use std::time::Duration;

use annals::repair::{self, Scrubbed, Stretch};

use crate::cli::ScrubArgs;
use crate::error::{Error, Result};
use crate::place::Place;
use crate::progress::{Progress, is_stopped, pause};
use crate::report::{json, stretches, words};
use crate::session::Session;
use crate::status::Status;

/// Damaged stretches that are listed; what is over that is counted.
const LISTED_MAX: usize = 10_000;

/// Reads the sealed segments at a bounded rate, once, or until there is something to tell.
pub(crate) fn run(args: &ScrubArgs, session: &Session) -> Result<Status> {
    let place = Place::open(&args.dir)?;
    let bytes_per_s = (args.rate * 1024.0 * 1024.0) as u64;
    let mut passes = 0_u64;
    loop {
        let pass = Pass::run(&place, bytes_per_s)?;
        passes += 1;
        let pause_secs = args.repeat.filter(|_| pass.status() == Status::Whole);
        let Some(secs) = pause_secs else { return pass.show(&place, session, passes) };
        eprintln!("pass {passes}: {}", pass.sentence());
        // At least a moment, so that an empty log does not keep a processor busy.
        pause(Duration::from_secs_f64(secs.max(1.0)));
        if is_stopped() {
            return Err(Error::Stopped);
        }
    }
}

/// One time through the log.
struct Pass {
    scrubbed: Scrubbed,
    damaged: Vec<Stretch>,
}

impl Pass {
    fn run(place: &Place, bytes_per_s: u64) -> Result<Pass> {
        let progress = Progress::new("scrubbing");
        let mut damaged = Vec::new();
        let mut found = |stretch: &Stretch| {
            if damaged.len() < LISTED_MAX {
                damaged.push(stretch.clone());
            }
        };
        let scrubbed = repair::scrub(&place.disk, Some(bytes_per_s.max(1)), &mut found, &progress);
        let scrubbed = scrubbed.map_err(Error::log(&place.dir))?;
        progress.end();
        Ok(Pass { scrubbed, damaged })
    }

    fn status(&self) -> Status {
        match () {
            () if self.damaged.iter().any(|stretch| stretch.is_acknowledged) => Status::Lost,
            () if self.scrubbed.damaged > 0 => Status::Damaged,
            () => Status::Whole,
        }
    }

    /// What it comes to.
    fn sentence(&self) -> String {
        let Scrubbed { segments, bytes, damaged } = self.scrubbed;
        let read = format!("read {} in {}", words::bytes(bytes), words::plural(segments, "complete segment"));
        match damaged {
            0 => format!("{read}: nothing is damaged"),
            1 => format!("{read}: one stretch is damaged"),
            damaged => format!("{read}: {damaged} stretches are damaged"),
        }
    }

    fn show(&self, place: &Place, session: &Session, passes: u64) -> Result<Status> {
        let mut text: String =
            self.damaged.iter().map(|stretch| stretches::one(stretch, session.paint)).collect();
        let _ = writeln!(text, "{}", self.sentence());
        let next = (self.status() != Status::Whole).then(|| place.command("verify", ""));
        if let Some(next) = &next {
            let _ = writeln!(text, "Next: {next}");
        }
        session.show(place, self.status(), &text, |object| {
            let mut set = |key: &str, value: serde_json::Value| object.insert(key.to_owned(), value);
            set("passes", passes.into());
            set("segments", self.scrubbed.segments.into());
            set("bytes_read", self.scrubbed.bytes.into());
            set("damaged", self.scrubbed.damaged.into());
            set("stretches", self.damaged.iter().map(json::stretch).collect());
            set("next", next.into());
        })
    }
}
