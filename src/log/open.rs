//! Opening a log, the threads that it has while it is open, and closing it.

use std::any::Any;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::commit::Start;
use super::cursor::Source;
use super::engine::Engine;
use super::options::{LogOptions, ZeroFill};
use super::panic::PoisonOnPanic;
use super::prepare::{Go, HASTY_CHUNK_BYTES};
use super::recover::{Recovered, Wanted, begin_first, is_new, recover};
use super::segments::Segments;
use super::store::{Files, Store};
use super::superblock_file::{Copies, SuperblockFile};
use super::{Log, keep, prepare, scrub};
use crate::disk::{Disk, Lock, RealDisk, probe};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Superblock};
use crate::segment::{LOCK, Spare, Tail, park};
use crate::types::{LogId, Lsn, WriteMethod};

/// How long each method is tried when a log is created.
const PROBE: Duration = Duration::from_millis(30);

impl LogOptions {
    /// Opens the log in the directory, or creates one there, for appending and reading.
    ///
    /// Recovers from a crash by itself: what was never acknowledged is discarded, everything that was is there.
    /// Takes a time that depends on the newest segment, not on the log; creating a log takes a moment more, to
    /// find out how the disk is best written to and to prepare the first segment.
    ///
    /// # Errors
    /// [`Error::InUse`] if somebody has it open for writing; [`Error::Rot`], [`Error::Hole`] and
    /// [`Error::SuperblockDamaged`] if acknowledged records are damaged or missing, [`Error::RepairUnfinished`],
    /// [`Error::ForeignFile`], [`Error::NewerVersion`], [`Error::NotEmpty`]: nothing was changed then;
    /// [`Error::BadOption`]; [`Error::NoSpace`] and [`Error::Io`].
    pub fn open(self) -> Result<Log> {
        let options = self.checked()?;
        let disk = RealDisk::create(&options.dir).map_err(|source| Error::io("open", "", source))?;
        options.open_on(Arc::new(disk))
    }

    /// Opens the log on a disk of the caller's; the directory that the options name is not looked at.
    ///
    /// With a [simulated disk](crate::disk::sim::SimDisk) a program's own recovery can be tried with every
    /// fault that a disk may have.
    ///
    /// # Errors
    /// As for [`open`](LogOptions::open).
    #[cfg(any(test, feature = "sim"))]
    pub fn open_with(self, disk: Arc<dyn Disk>) -> Result<Log> {
        self.checked()?.open_on(disk)
    }

    fn open_on(self, disk: Arc<dyn Disk>) -> Result<Log> {
        let lock = match disk.lock(LOCK).map_err(|source| Error::io("lock", LOCK, source))? {
            Lock::Held(lock) => lock,
            Lock::Taken(owner) => return Err(Error::InUse { owner }),
        };
        if is_new(&*disk)? {
            create(&*disk, self.write_method)?;
        }
        let wanted =
            Wanted { segment_bytes: self.segment_bytes, write_method: self.write_method, gently: false };
        let recovered = recover(&*disk, wanted)?;
        let engine = Arc::new(start(disk, self, recovered)?);
        let threads = Threads::spawn(&engine)?;
        Ok(Log::new(Arc::new(Shared { engine, threads, lock: Mutex::new(Some(Box::new(lock))) })))
    }
}

/// Writes the first superblock, once it is known how the disk is best written to.
fn create(disk: &dyn Disk, wanted: Option<WriteMethod>) -> Result<()> {
    let method = match wanted {
        Some(method) => method,
        None => probe(disk, PROBE).map_err(|source| Error::io("probe", "", source))?.winner,
    };
    let id = u128::from(disk.entropy()) << 64 | u128::from(disk.entropy());
    SuperblockFile::create(disk, Superblock::new(LogId::new(id), method)).map(drop)
}

/// Makes an engine of what recovery has found; without a tail, a segment is begun.
fn start(disk: Arc<dyn Disk>, options: LogOptions, recovered: Recovered) -> Result<Engine> {
    let Recovered { superblock, mut segments, mut begin, mut spares, .. } = recovered;
    let method = superblock.current().write_method;
    let files = Files::new(disk, method, recovered.next_spare_number);
    if let Some(tail) = segments.tail.take_if(|tail| {
        let empty = recovered.end == BLOCK_BYTES as u64;
        empty && tail.header().segment_bytes < options.segment_bytes
    }) {
        // It may be too small for a group, and no segment can follow one that holds nothing: another one takes
        // its name.
        begin.segment_id = tail.header().segment_id;
    }
    let tail = match &segments.tail {
        Some(tail) => Arc::clone(tail),
        None => {
            let spare = match spares.pop() {
                Some(spare) => spare,
                None => first_spare(&files, &options)?,
            };
            let tail = begin_first(&*files.disk, spare, &begin)?;
            segments.tail = Some(Arc::clone(&tail));
            tail
        }
    };
    let segments = Segments::new(Arc::clone(&files.disk), segments, options.verify_reads);
    let store = Store::new(files, options, superblock, segments);
    for (name, bytes) in recovered.to_recycle {
        store.retire(name, bytes);
    }
    let from = Start {
        log_id: begin.log_id,
        epoch: recovered.epoch,
        next_lsn: recovered.next_lsn,
        tail,
        end: recovered.end,
        last_block: recovered.last_block,
    };
    let engine = Engine::new(store, from);
    let mut commit = engine.commit();
    spares.into_iter().for_each(|spare| commit.add_spare(spare));
    // Without room yet, the first append waits for the preparing thread.
    let _ = engine.reopen(&mut commit);
    drop(commit);
    Ok(engine)
}

/// The first segment of a log, whose groups are not known yet: taken to be small.
fn first_spare(files: &Files, options: &LogOptions) -> Result<Spare> {
    let go = if options.zero_fill == ZeroFill::Never { Go::Enough } else { Go::On(HASTY_CHUNK_BYTES) };
    let spare = prepare::make_spare(files, options.segment_bytes, &|_| go)?;
    Ok(spare.expect("nothing ends the filling"))
}

/// What all clones of an open log share. The last one to go closes the log as well as it can.
#[derive(Debug)]
pub(crate) struct Shared {
    engine: Arc<Engine>,
    threads: Threads,
    /// The lock on the directory; given back when the log is closed.
    lock: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Flushes, ends the threads, and writes down where the log ends.
    pub(crate) fn close(&self) -> Result<()> {
        let Some(lock) = self.lock.lock().take() else { return self.engine.check() };
        let drained = self.engine.drain();
        self.engine.close();
        self.threads.join();
        // A caller may be flushing too, in a log that is poisoned: its write must not come after the next open.
        self.engine.wait_for_flights();
        // Whoever still changes the log comes to an end first; whoever comes later finds it closed.
        let _alone = self.engine.keeping.lock();
        let parked = drained.and_then(|()| self.park());
        drop(lock);
        parked
    }

    /// Has another thread close the log.
    fn close_elsewhere(&self) {
        let Some(lock) = self.lock.lock().take() else { return };
        let theirs = Arc::new(Shared {
            engine: Arc::clone(&self.engine),
            threads: Threads(Mutex::new(std::mem::take(&mut *self.threads.0.lock()))),
            lock: Mutex::new(Some(lock)),
        });
        let ours = Arc::clone(&theirs);
        match thread::Builder::new().name("annals-close".to_string()).spawn(move || theirs.close()) {
            Ok(_) => {}
            // Without a thread it stays open until the process ends, like after a crash.
            Err(_) => std::mem::forget(ours),
        }
    }

    /// Leaves the log so that the next open needs no scan.
    fn park(&self) -> Result<()> {
        keep::tidy_up(&self.engine)?;
        let tail: Arc<Tail> = Arc::clone(self.engine.commit().tail());
        keep::name_for_good(&self.engine, &tail)?;
        let store = &self.engine.store;
        let clean = park(&tail, store.files.disk.wall_ms())?;
        let durable = self.engine.durable();
        store.superblock.lock().update(Copies::One, |superblock| {
            superblock.durable = superblock.durable.max(durable);
            superblock.clean_tail = Some(clean);
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.threads.has_this() {
            // The last handle went with a waker, in the thread that woke it: a thread cannot wait for itself.
            return self.close_elsewhere();
        }
        // Nobody is left to be told; what fails here is found when the log is opened.
        let _ = self.close();
    }
}

impl Source for Shared {
    fn segments(&self) -> &Segments {
        &self.engine.store.segments
    }

    fn durable(&self) -> Lsn {
        self.engine.durable()
    }

    fn wait_beyond(&self, lsn: Lsn, deadline: Option<std::time::Instant>) -> Result<Lsn> {
        self.engine.wait_beyond(lsn, deadline)
    }
}

/// The threads of an open log.
#[derive(Debug)]
struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    fn spawn(engine: &Arc<Engine>) -> Result<Threads> {
        let threads = Threads(Mutex::new(Vec::new()));
        let depth = engine.store.options.depth;
        let flushers =
            (0..depth).map(|index| (format!("annals-flush-{index}"), Engine::run_flusher as fn(&Engine)));
        let others = [
            ("annals-prepare".to_string(), prepare::run as fn(&Engine)),
            ("annals-keep".to_string(), keep::run),
        ];
        let wants_scrub = engine.store.options.scrub_bytes_per_s.is_some();
        let scrub = wants_scrub.then_some(("annals-scrub".to_string(), scrub::run as fn(&Engine)));
        for (name, run) in flushers.chain(others).chain(scrub) {
            let theirs = Arc::clone(engine);
            let spawned = thread::Builder::new().name(name).spawn(move || {
                let _guard = PoisonOnPanic::new(&theirs);
                run(&theirs);
            });
            match spawned {
                Ok(handle) => threads.0.lock().push(handle),
                Err(source) => {
                    engine.close();
                    threads.join();
                    return Err(Error::io("start a thread", "", source));
                }
            }
        }
        Ok(threads)
    }

    /// Whether the calling thread is one of them.
    fn has_this(&self) -> bool {
        let this = thread::current().id();
        self.0.lock().iter().any(|handle| handle.thread().id() == this)
    }

    /// Waits for them to end; the engine was stopped before.
    fn join(&self) {
        for handle in std::mem::take(&mut *self.0.lock()) {
            // One that panicked has poisoned the log.
            let _ = handle.join();
        }
    }
}
