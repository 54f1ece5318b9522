//! The scrubbing thread: reads every frame of the sealed segments now and then, no faster than allowed, because opening the
//! log does not read them. What it finds damaged is doubted like what somebody could not read (S11).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::error::Result;
use super::mail::{Mail, Note, Witness};
use super::shown::Shown;
use super::store::StoreReader;
use crate::error::Error;
use crate::segment::Pace;
use crate::types::Lsn;

/// Whoever has just been started has better things to do, and so have those who bring it up to date.
const BEGIN_AFTER: Duration = Duration::from_secs(10);
/// Passes begin at least this far apart: a small log is not read all the time.
const PASSES_APART: Duration = Duration::from_secs(3600);
/// While the store is opened again, it is looked for so often.
const LOOK: Duration = Duration::from_secs(1);

/// The scrubbing thread, from within.
struct Scrubber {
    shown: Arc<Shown>,
    mail: Arc<Mail>,
    pace: Pace,
    /// Ends when the other end is dropped.
    ends: Receiver<()>,
    /// Where damage was found last in this pass: what a repair leaves as it is, is told once in each.
    told: Option<(Arc<str>, Lsn)>,
}

/// Starts the thread, which ends when what is returned is dropped.
pub(crate) fn spawn(
    shown: Arc<Shown>,
    mail: Arc<Mail>,
    (bytes_per_s, is_simulated): (u64, bool),
) -> Result<(Sender<()>, JoinHandle<()>)> {
    let (goes_on, ends) = bounded(0);
    let begin_after = if is_simulated { Duration::ZERO } else { BEGIN_AFTER };
    let mut scrubber = Scrubber { shown, mail, pace: Pace::new(bytes_per_s), ends, told: None };
    let thread = thread::Builder::new()
        .name("annals-scrub".to_owned())
        .spawn(move || {
            let _witness = Witness { thread: "scrub", mail: Arc::clone(&scrubber.mail) };
            let _ = scrubber.run(begin_after);
        })
        .map_err(|source| Error::io("start a thread for", "", source))?;
    Ok((goes_on, thread))
}

impl Scrubber {
    /// Breaks when it is to end.
    fn run(&mut self, begin_after: Duration) -> ControlFlow<()> {
        sleep_until(&self.ends, Instant::now() + begin_after)?;
        loop {
            let begun = Instant::now();
            self.pass()?;
            sleep_until(&self.ends, begun + PASSES_APART)?;
        }
    }

    /// Reads all sealed segments, oldest first.
    fn pass(&mut self) -> ControlFlow<()> {
        let mut after = Lsn::ZERO;
        self.told = None;
        // A log may grow as fast as it is read.
        let mut end = None;
        loop {
            let Some(reader) = self.shown.view().reader else {
                sleep_until(&self.ends, Instant::now() + LOOK)?;
                continue;
            };
            if after >= *end.get_or_insert_with(|| reader.last()) {
                return ControlFlow::Continue(());
            }
            match self.look_through(&reader, after) {
                Ok(Some(last)) => after = last,
                Ok(None) => return ControlFlow::Continue(()),
                Err(Error::TimedOut) => return ControlFlow::Break(()),
                Err(Error::Closed) => sleep_until(&self.ends, Instant::now() + LOOK)?,
                // Another error may pass: the next pass looks again.
                Err(error) => match self.doubt(error) {
                    Some(last) => after = last,
                    None => return ControlFlow::Continue(()),
                },
            }
        }
    }

    /// Tells the node of what is damaged, and goes on behind it; `None` if it is nothing of the kind.
    fn doubt(&mut self, error: Error) -> Option<Lsn> {
        let (Error::Rot { file, first, last, .. } | Error::Hole { file, first, last }) = &error else {
            return None;
        };
        let (place, last) = (Some((Arc::clone(file), *first)), *last);
        if self.told != place {
            // Without a node this is about to end too.
            let _ = self.mail.leave(Note::Doubt(error));
        }
        self.told = place;
        Some(last)
    }

    fn look_through(&mut self, reader: &StoreReader, after: Lsn) -> Result<Option<Lsn>, Error> {
        let Scrubber { pace, ends, .. } = self;
        reader.scrub(after, &mut |bytes| sleep_until(ends, pace.spend(bytes, Instant::now())))
    }
}

/// Sleeps until then; breaks if it is to end.
fn sleep_until(ends: &Receiver<()>, until: Instant) -> ControlFlow<()> {
    match ends.recv_deadline(until) {
        Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
    }
}
