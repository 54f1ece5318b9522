//! Segments ahead of time: created, reserved and filled with zeros, or recycled, by a thread of its own, so
//! that no append ever waits for a roll.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::engine::Engine;
use super::observe;
use super::options::ZeroFill;
use super::store::{Files, Store};
use crate::disk::{Access, Blocks, DurableWriter, File};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, GROUP_HEADER_BYTES, Incarnation, footer_bytes_for};
use crate::segment::{Spare, spare_name};

/// Spares that are kept ready.
const SPARES: usize = 1;
/// Groups of this size and more gain less from zeros than writing the zeros costs.
///
/// Measured with `log-bench append --threads 8 --batch 64 --size 1024` (groups of about 150 KiB), over many
/// segments: without zeros 1.3 GB/s and no append waits for a segment, with zeros 1.2 GB/s and eight wait at each
/// roll.
const ZEROS_UP_TO_GROUP_BYTES: u64 = 128 << 10;
/// Zeros written at a time while nobody waits for the segment: an append that comes meanwhile waits for them.
const CHUNK_BYTES: usize = 64 << 10;
/// The same while the log is created, when nobody appends.
pub(crate) const HASTY_CHUNK_BYTES: usize = 1 << 20;
/// Zeros that may be written ahead of the tail's own growth: few, so that no burst of them follows a roll.
const HEAD_START_BYTES: u64 = 256 << 10;
/// How long to wait before a full disk is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How often the zero filling looks how far the tail has come: less and less often while it stands still.
const LOOK_MIN: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How the zero filling goes on; it asks before each chunk with the bytes written so far.
pub(crate) type Pace<'a> = &'a dyn Fn(u64) -> Go;

/// What the zero filling does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Go {
    /// Writes this many bytes of zeros.
    On(usize),
    /// Leaves the rest of the segment reserved only.
    Enough,
    /// Gives up: the log ends.
    End,
}

/// The life of the preparing thread: ends with the log.
pub(crate) fn run(engine: &Engine) {
    while let Some(segment_bytes) = engine.wait_for_demand(SPARES) {
        let begun_at = engine.commit().end();
        let made = recycled(&engine.store, segment_bytes).and_then(|spare| match spare {
            Some(spare) => Ok(Some(spare)),
            None => make_spare(&engine.store.files, segment_bytes, &|done| pace(engine, begun_at, done)),
        });
        match made {
            Ok(Some(spare)) => supply(engine, spare),
            Ok(None) => return,
            Err(Error::NoSpace) => wait_for_space(engine),
            Err(error) if error.passes() => {
                observe::postponed("preparing a segment", &error);
                engine.wait_for_change(&mut engine.commit(), RETRY);
            }
            Err(error) => engine.poison(error),
        }
    }
}

fn supply(engine: &Engine, spare: Spare) {
    // Release: pairs with the Acquire in `Engine::hold`.
    if engine.out_of_space.swap(false, Ordering::AcqRel) {
        observe::space(true);
    }
    let mut commit = engine.commit();
    commit.add_spare(spare);
    engine.room_changed(&mut commit);
    drop(commit);
    engine.wheel.kick();
}

/// The disk is full: appends that need a segment are refused, until the next try succeeds.
fn wait_for_space(engine: &Engine) {
    if !engine.out_of_space.swap(true, Ordering::AcqRel) {
        observe::space(false);
    }
    let mut commit = engine.commit();
    commit.refuse_oversized();
    engine.room_changed(&mut commit);
    engine.wait_for_change(&mut commit, RETRY);
}

fn zeros(engine: &Engine) -> bool {
    match engine.store.options.zero_fill {
        ZeroFill::Always => true,
        ZeroFill::Never => false,
        ZeroFill::Adaptive => engine.counters.group_bytes_mean() < ZEROS_UP_TO_GROUP_BYTES,
    }
}

/// Holds the zero filling back to one and a half times the speed at which the tail fills, so that it is done in time
/// and otherwise leaves the disk to the appends. It ends early where groups have become large meanwhile, and where
/// appends wait for the segment.
fn pace(engine: &Engine, begun_at: u64, done: u64) -> Go {
    let mut commit = engine.commit();
    let mut look = LOOK_MIN;
    loop {
        if engine.is_stopped() {
            return Go::End;
        }
        if !zeros(engine) {
            return Go::Enough;
        }
        // Slower writes to what is not filled yet are better than none.
        if commit.is_short_of_segments() {
            return Go::Enough;
        }
        if done <= HEAD_START_BYTES + commit.end().saturating_sub(begun_at) * 3 / 2 {
            return Go::On(CHUNK_BYTES);
        }
        engine.wait_for_change(&mut commit, look);
        look = (look * 2).min(LOOK_MAX);
    }
}

/// Bytes of a segment whose data region holds a group with `frame_bytes` of frames.
pub(crate) fn segment_bytes_for(frame_bytes: u64) -> u64 {
    let data =
        BLOCK_BYTES as u64 + (GROUP_HEADER_BYTES as u64 + frame_bytes).next_multiple_of(BLOCK_BYTES as u64);
    // The footer grows with the segment, by far less than the segment.
    let mut segment_bytes = data + footer_bytes_for(data);
    while segment_bytes - footer_bytes_for(segment_bytes) < data {
        segment_bytes += BLOCK_BYTES as u64;
    }
    segment_bytes
}

/// Makes a spare out of a trimmed segment's file, if one of the size waits that nobody reads.
///
/// The header of its former life is overwritten before it gets its new name, so that whatever a crash
/// leaves is either a segment below the trim point or a blank spare.
pub(crate) fn recycled(store: &Store, segment_bytes: u64) -> Result<Option<Spare>> {
    let files = &store.files;
    while let Some(name) = store.take_retired(segment_bytes) {
        let renamed = match blanked(files, &name, segment_bytes) {
            Ok(Some(file)) => {
                let spare = spare_name(files.next_spare_number());
                files.rename(&name, &spare).map(|()| (file, spare))
            }
            Ok(None) => {
                files.remove(&name)?;
                continue;
            }
            Err(error) => Err(error),
        };
        match renamed {
            Ok((file, spare)) => return finish(files, file, spare, segment_bytes).map(Some),
            Err(error) => {
                // Whatever was in the way may be gone when it is tried again.
                store.retire(name, segment_bytes);
                return Err(error);
            }
        }
    }
    Ok(None)
}

/// Makes a spare out of one trimmed segment's file, as [`recycled`] does; `None`, and the file is gone, if somebody reads
/// it or it has another size.
#[cfg(any(feature = "quic", feature = "sim"))]
pub(crate) fn recycle(files: &Files, name: &str, segment_bytes: u64) -> Result<Option<Spare>> {
    let Some(file) = blanked(files, name, segment_bytes)? else {
        files.remove(name)?;
        return Ok(None);
    };
    let spare = spare_name(files.next_spare_number());
    files.rename(name, &spare)?;
    finish(files, file, spare, segment_bytes).map(Some)
}

/// The file of a trimmed segment without its header; `None` if it cannot be used.
fn blanked(files: &Files, name: &str, segment_bytes: u64) -> Result<Option<Arc<dyn File>>> {
    let file = files.open(name, Access::ReadWrite)?;
    let fits = files.io("look at", name, file.bytes())? == segment_bytes;
    if !fits || !files.io("lock", name, file.try_lock(true))? {
        return Ok(None);
    }
    files.io("write", name, file.write_at(&[0; BLOCK_BYTES], 0))?;
    files.io("sync", name, file.sync())?;
    // Other processes may read the segment that this becomes.
    files.io("lock", name, file.try_lock(false))?;
    Ok(Some(file))
}

/// Creates a spare of `segment_bytes`; `None` if `pace` says that the log ends.
///
/// # Errors
/// [`Error::NoSpace`] when the disk is full; nothing is left behind then.
pub(crate) fn make_spare(files: &Files, segment_bytes: u64, pace: Pace<'_>) -> Result<Option<Spare>> {
    let spare = spare_name(files.next_spare_number());
    let unfinished = format!("{spare}.tmp");
    let file = files.io("create", &unfinished, files.disk.create(&unfinished))?;
    let filled = fill(files, &*file, &unfinished, segment_bytes, pace);
    if !matches!(filled, Ok(true)) {
        drop(file);
        // The first error is the one to tell; what is left behind is removed when the log is opened.
        let _ = files.remove(&unfinished);
        return filled.map(|_| None);
    }
    let named = files.io("lock", &unfinished, file.try_lock(false));
    if let Err(error) = named.and_then(|_| files.rename(&unfinished, &spare)) {
        drop(file);
        let _ = files.remove(&unfinished);
        return Err(error);
    }
    finish(files, file, spare, segment_bytes).map(Some)
}

/// Makes the spare's name durable and opens it for writing. If that fails there is no such spare: each attempt would
/// leave one behind.
fn finish(files: &Files, file: Arc<dyn File>, name: String, segment_bytes: u64) -> Result<Spare> {
    let opened = files.sync_dir().and_then(|()| files.io("open", &name, file.writer(files.write_method)));
    let writer = opened.inspect_err(|_| {
        // The first error is the one to tell; a name that comes back with a crash is a blank spare.
        let _ = files.remove(&name);
    })?;
    let incarnation = Incarnation::new(files.disk.entropy());
    Ok(Spare { name: name.into(), file, writer, incarnation, segment_bytes })
}

/// Reserves the file's blocks and makes them durable; `false` if `pace` ended it.
fn fill(files: &Files, file: &dyn File, name: &str, segment_bytes: u64, pace: Pace<'_>) -> Result<bool> {
    files.io("reserve space for", name, file.allocate(segment_bytes))?;
    files.io("sync", name, file.sync())?;
    let wanted = pace(0) != Go::Enough;
    if wanted && !files.io("write", name, file.write_zeroes(segment_bytes))? {
        let writer = files.io("open", name, file.writer(files.write_method))?;
        if !write_zeros(files, &*writer, name, segment_bytes, pace)? {
            return Ok(false);
        }
    }
    files.io("sync", name, file.sync())?;
    Ok(true)
}

fn write_zeros(
    files: &Files,
    writer: &dyn DurableWriter,
    name: &str,
    segment_bytes: u64,
    pace: Pace<'_>,
) -> Result<bool> {
    let zeros = Blocks::zeroed(HASTY_CHUNK_BYTES / BLOCK_BYTES);
    let mut done = 0;
    while done < segment_bytes {
        let bytes = match pace(done) {
            Go::On(bytes) => (segment_bytes - done).min(bytes as u64),
            Go::Enough => return Ok(true),
            Go::End => return Ok(false),
        };
        files.io("write", name, writer.write_durable(&zeros[..bytes as usize], done))?;
        done += bytes;
    }
    Ok(true)
}
