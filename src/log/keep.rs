//! Housekeeping, on a thread of its own: sealing and renaming after a roll, flushing what nobody waits for,
//! advancing the superblock when the log is idle, and retention.

use std::time::{Duration, Instant};

use super::engine::Engine;
use super::observe;
use super::superblock_file::Copies;
use crate::error::{Error, Result};
use crate::segment::{Tail, seal};
use crate::types::Lsn;

/// How often housekeeping comes by when nothing calls it.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// How often retention is looked at when no segment began.
const RETENTION: Duration = Duration::from_secs(1);

/// The life of the housekeeping thread: ends with the log.
pub(crate) fn run(engine: &Engine) {
    let mut seen = Lsn::ZERO;
    let mut retained = Instant::now();
    while !engine.is_stopped() {
        let rolled = engine.wait_for_housekeeping(TICK);
        if engine.is_stopped() {
            return;
        }
        // Appends that nobody waits for are flushed within a tick.
        engine.flush_leftovers();
        let retain = rolled || retained.elapsed() >= RETENTION;
        if retain {
            retained = Instant::now();
        }
        seen = come_by(engine, seen, retain);
    }
}

/// One round. `seen` is what was durable in the round before; returns what is now.
pub(crate) fn come_by(engine: &Engine, seen: Lsn, retain: bool) -> Lsn {
    let (durable, kept) = keep(engine, seen);
    let done = kept.and_then(|()| if retain { engine.retain() } else { Ok(()) });
    if let Err(error) = done {
        fail(engine, error);
    }
    durable
}

/// Seals, renames and writes down, unless a trim or a truncation is on: the next round will do.
fn keep(engine: &Engine, seen: Lsn) -> (Lsn, Result<()>) {
    let Some(_alone) = engine.keeping.try_lock() else { return (seen, Ok(())) };
    // Under the lock: a truncation takes the watermark back.
    let durable = engine.durable();
    // Idle since the last round: what is durable is written down, so that a damaged end is told from a torn one.
    let idle = durable == seen;
    let kept = tidy_up(engine).and_then(|()| if idle { write_down(engine, durable) } else { Ok(()) });
    (durable, kept)
}

/// A full disk or a passing refusal is tried again at the next tick; a failed write or sync is not.
fn fail(engine: &Engine, error: Error) {
    match error {
        Error::NoSpace => observe::postponed("housekeeping", &error),
        // The log is being closed: nothing is wrong with it.
        Error::Closed => {}
        error => engine.poison(error),
    }
}

/// Seals the segments that are full, oldest first, and gives the files of new ones their final names.
///
/// In this order a crash leaves at worst unsealed segments and a tail under a spare's name, which `open`
/// finds and completes. The caller holds `keeping`.
pub(crate) fn tidy_up(engine: &Engine) -> Result<()> {
    for (full, next) in engine.store.segments.unsealed() {
        let sealed = seal(&full, engine.store.files.disk.wall_ms())?;
        name_for_good(engine, &next)?;
        // Last, so that all of it is tried again if it failed.
        engine.store.segments.sealed(sealed);
    }
    // A trim leaves what was not sealed yet.
    engine.clear_trimmed()
}

/// Renames a segment's file to its final name, if it still has its spare's.
pub(crate) fn name_for_good(engine: &Engine, tail: &Tail) -> Result<()> {
    let (name, good) = (tail.name(), tail.final_name());
    if *name != *good {
        engine.store.files.rename(&name, &good)?;
        // Before the sync: if that fails on a full disk, the next round does not look for the old name.
        tail.renamed();
        engine.store.files.sync_dir()?;
    }
    Ok(())
}

/// Advances the superblock's durable watermark.
fn write_down(engine: &Engine, durable: Lsn) -> Result<()> {
    let mut superblock = engine.store.superblock.lock();
    if superblock.current().durable >= durable {
        return Ok(());
    }
    engine.update_superblock(&mut superblock, Copies::One, |superblock| superblock.durable = durable)
}
