//! A background check of sealed segments: every byte is read now and then, so that damage is found while there may still
//! be another copy, and not when the record is needed.
//!
//! Reads with `pread`, never through a map, because a bad sector under a map is a signal that kills the process. Takes no
//! lock that an append needs, and changes nothing: what it finds is counted, told as an event, and shown by
//! [`Log::scrub_status`](super::Log::scrub_status).

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::engine::Engine;
use super::observe;
use crate::error::{Error, Result};
use crate::format::{Digest, HEADER_BLOCK_BYTES};
use crate::segment::{Cause, Pace, Sealed, Segment, Stretch, StretchKind, Suspect, Trailer};
use crate::types::LsnRange;

/// Passes begin at least this far apart: a small log is not read all the time.
const PASSES_APART: Duration = Duration::from_secs(60);
/// Ranges that are listed at most.
const DAMAGED_MAX: usize = 256;

/// What the background check has done, and what it has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ScrubStatus {
    /// How often all sealed segments were read.
    pub passes: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is known to be damaged, of segments that the log still has. Of many stretches the first 256 are listed.
    pub damaged: Vec<Stretch>,
    /// How many more there are, as far as the pass that is on has come.
    pub damaged_more: u64,
    /// When the last pass ended, in milliseconds since 1970.
    pub last_pass_at_ms: Option<u64>,
}

/// The state of the background check.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    bytes: AtomicU64,
    /// Everything but the bytes.
    status: Mutex<ScrubStatus>,
    /// Held for a moment by the one who ends the log, so that no call is missed.
    sleeping: Mutex<()>,
    call: Condvar,
}

/// The life of the scrubbing thread: ends with the log.
pub(crate) fn run(engine: &Engine) {
    let Some(bytes_per_s) = engine.store.options.scrub_bytes_per_s else { return };
    // Nobody waits for what this thread does: the log goes on without it.
    if catch_unwind(AssertUnwindSafe(|| run_at(engine, bytes_per_s))).is_err() {
        observe::scrub_ended();
    }
}

fn run_at(engine: &Engine, bytes_per_s: u64) {
    let pace = RefCell::new(Pace::new(bytes_per_s));
    let wait = |bytes| {
        let due = pace.borrow_mut().spend(bytes, Instant::now());
        engine.scrub.sleep_until(engine, due)
    };
    loop {
        let begun = Instant::now();
        let over = pass(engine, &wait).is_break();
        if over || engine.scrub.sleep_until(engine, begun + PASSES_APART).is_break() {
            return;
        }
    }
}

/// Reads all sealed segments, oldest first, those included that are sealed meanwhile. `wait` is told how many bytes more
/// were read, and may end it.
pub(crate) fn pass(engine: &Engine, wait: &dyn Fn(u64) -> ControlFlow<()>) -> ControlFlow<()> {
    let segments = &engine.store.segments;
    engine.scrub.status.lock().damaged_more = 0;
    let mut before = None;
    // By LSN, so that it finds its place again whatever was trimmed, truncated or sealed.
    while let Some((sealed, next_digest)) = segments.sealed_after(before) {
        before = Some(sealed.first_lsn());
        look_through(engine, (&sealed, next_digest), wait)?;
    }
    engine.scrub.end_pass(engine);
    ControlFlow::Continue(())
}

fn look_through(
    engine: &Engine,
    (sealed, next_digest): (&Sealed, Option<Digest>),
    wait: &dyn Fn(u64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let scrub = &engine.scrub;
    let progress = |bytes| {
        scrub.read(bytes);
        wait(bytes)?;
        if sealed.is_gone() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let damage = match damage_in(engine, (sealed, next_digest), &progress) {
        Ok(damage) => damage,
        Err(Error::TimedOut) if engine.is_stopped() => return ControlFlow::Break(()),
        Err(Error::TimedOut) => vec![],
        Err(error) => {
            // The next pass looks again.
            observe::postponed("scrubbing a segment", &error);
            return ControlFlow::Continue(());
        }
    };
    if !damage.is_empty() {
        // Whoever takes the segment away, or seals it anew, says so under this lock before it is given back.
        drop(engine.keeping.lock());
    }
    // A log that is poisoned may have stopped halfway: what it knows of its files is not what they are.
    if !sealed.is_gone() && !engine.is_stopped() {
        scrub.note(&sealed.name(), damage);
    }
    ControlFlow::Continue(())
}

/// What is damaged in a segment, as far as it concerns records that are retained.
fn damage_in(
    engine: &Engine,
    (sealed, next_digest): (&Sealed, Option<Digest>),
    progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Vec<Stretch>> {
    let name: Arc<str> = sealed.name().into();
    let of_all = |kind, cause, end| Stretch {
        kind,
        file: Arc::clone(&name),
        bytes: 0..end,
        lsns: LsnRange::new(sealed.first_lsn(), sealed.last_lsn()),
        is_acknowledged: sealed.first_lsn() <= sealed.last_lsn(),
        cause,
        correction: None,
    };
    let header = HEADER_BLOCK_BYTES as u64;
    let file = match sealed.open_locked(&*engine.store.files.disk) {
        Ok(file) => file,
        Err(Error::Hole { .. }) => {
            return Ok(vec![of_all(StretchKind::Hole, Cause::Missing, sealed.header().segment_bytes)]);
        }
        Err(Error::Rot { .. }) => return Ok(vec![of_all(StretchKind::Rot, Cause::Header, header)]),
        Err(Error::Io { doing: "read", .. }) => {
            return Ok(vec![of_all(StretchKind::Rot, Cause::Unreadable, header)]);
        }
        Err(error) => return Err(error),
    };
    let suspect = Suspect {
        file: &*file,
        name: &name,
        header: sealed.header(),
        last: Some(sealed.last_lsn()),
        next_digest,
    };
    let trailer = match Trailer::read(&*file, sealed.header())? {
        // It was sealed, by this log.
        Trailer::Open => Trailer::Bad(Cause::Footer),
        Trailer::Sealed(footer) if footer.last_lsn != sealed.last_lsn() => Trailer::Bad(Cause::Footer),
        trailer => trailer,
    };
    let mut damage = suspect.look_through(&trailer, progress)?;
    let first = engine.store.segments.first_lsn();
    damage.retain(|stretch| stretch.lsns.is_none_or(|lsns| lsns.last >= first));
    Ok(damage)
}

impl Scrub {
    /// What was done and found.
    pub(crate) fn status(&self) -> ScrubStatus {
        // Relaxed: a count for people, which orders nothing.
        ScrubStatus { bytes: self.bytes.load(Ordering::Relaxed), ..self.status.lock().clone() }
    }

    /// Wakes the scrubbing thread, in a log that has stopped.
    pub(crate) fn wake(&self) {
        drop(self.sleeping.lock());
        self.call.notify_all();
    }

    /// Sleeps until then; breaks if the log ends meanwhile.
    fn sleep_until(&self, engine: &Engine, until: Instant) -> ControlFlow<()> {
        let mut sleeping = self.sleeping.lock();
        loop {
            if engine.is_stopped() {
                return ControlFlow::Break(());
            }
            if Instant::now() >= until {
                return ControlFlow::Continue(());
            }
            self.call.wait_until(&mut sleeping, until);
        }
    }

    fn read(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        observe::scrubbed(bytes);
    }

    /// Takes note of what is damaged in a file now. What was known is not told again.
    fn note(&self, name: &str, damage: Vec<Stretch>) {
        let mut status = self.status.lock();
        let (known, others): (Vec<_>, _) =
            std::mem::take(&mut status.damaged).into_iter().partition(|stretch| *stretch.file == *name);
        status.damaged = others;
        let room = DAMAGED_MAX - status.damaged.len();
        status.damaged_more += damage.len().saturating_sub(room) as u64;
        let listed = damage.into_iter().take(room);
        let new: Vec<_> = listed.clone().filter(|stretch| !known.contains(stretch)).collect();
        status.damaged.extend(listed);
        drop(status);
        new.iter().for_each(observe::damaged);
    }

    /// Forgets what was damaged in files that the log has no more.
    fn end_pass(&self, engine: &Engine) {
        let now_ms = engine.store.files.disk.wall_ms();
        let there: HashSet<_> = engine.store.segments.all().iter().map(Segment::name).collect();
        let mut status = self.status.lock();
        status.damaged.retain(|stretch| there.contains(&stretch.file));
        status.passes += 1;
        status.last_pass_at_ms = Some(now_ms);
    }
}

#[cfg(test)]
mod tests;
