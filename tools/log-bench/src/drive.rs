//! Runs a workload on an engine and measures it.
//!
//! Closed loop: a thread appends, and past its number of outstanding appends it waits for the oldest. Open
//! loop: appends are due at fixed times whatever the engine does, and a latency counts from when its append
//! was due ("coordinated omission": Tene, "How NOT to measure latency", 2013).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::latency::Latency;
use crate::machine::Memory;
use crate::progress::{self, Phase};
use crate::workload::{Plan, Records};

/// Something that appends durably.
pub(crate) trait Engine: Sync {
    /// An append under way.
    type Pending: Send;

    /// Begins to append `records` together, as thread number `thread`.
    fn submit(&self, thread: usize, records: &[&[u8]]) -> Result<Self::Pending>;
    /// Whether waiting would return at once.
    fn is_done(&self, pending: &Self::Pending) -> bool;
    /// Returns once the records are durable, with the number that the engine gave to the first.
    fn wait(&self, pending: Self::Pending) -> Result<u64>;
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Records that became durable.
    pub(crate) records: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// From the first append until the last was durable.
    pub(crate) elapsed: Duration,
    /// For each append, from its submission, or from when it was due, until it was durable.
    pub(crate) latency: Latency,
    /// How it went over time.
    pub(crate) timeline: Vec<Moment>,
    /// Where each line of a file went; empty for synthetic records.
    pub(crate) placed: Vec<Placed>,
    /// The most memory that was in use and not backed by a file.
    pub(crate) anonymous_bytes_max: u64,
    /// Appends that were due and not made, because the engine fell too far behind the schedule.
    pub(crate) missed: u64,
}

impl Measured {
    /// Before the first run.
    pub(crate) fn nothing() -> Measured {
        Measured {
            records: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            latency: Latency::fine(),
            timeline: Vec::new(),
            placed: Vec::new(),
            anonymous_bytes_max: 0,
            missed: 0,
        }
    }

    /// Adds a run that came later, as if there had been no time between.
    pub(crate) fn extend(&mut self, later: Measured) {
        let offset_s = self.elapsed.as_secs_f64();
        self.records += later.records;
        self.bytes += later.bytes;
        self.elapsed += later.elapsed;
        self.latency.add(&later.latency);
        self.timeline
            .extend(later.timeline.iter().map(|moment| Moment { at_s: offset_s + moment.at_s, ..*moment }));
        self.placed.extend(later.placed);
        self.anonymous_bytes_max = self.anonymous_bytes_max.max(later.anonymous_bytes_max);
        self.missed += later.missed;
    }

    /// Records that became durable in a second.
    pub(crate) fn records_per_s(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    /// Megabytes (10^6) of records that became durable in a second.
    pub(crate) fn mb_per_s(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }
}

/// A short stretch of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Moment {
    /// Its end, in seconds from the beginning.
    pub(crate) at_s: f64,
    /// Records that became durable in it, for each second.
    pub(crate) records_per_s: f64,
    /// Megabytes (10^6) that became durable in it, for each second.
    pub(crate) mb_per_s: f64,
    /// The longest latency of those, in microseconds.
    pub(crate) worst_us: f64,
}

/// A run of lines that went into the log together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The number that the log gave to the first.
    pub(crate) lsn: u64,
    /// The number of that line.
    pub(crate) line: u64,
    /// How many.
    pub(crate) count: u64,
}

/// Open-loop threads that have fallen this far behind stop appending.
const GRACE: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 256 << 10;

/// Runs `plan` with `records` on `engine`; `name` is for the progress bar.
///
/// # Errors
/// The first error of the engine, or [`Error::Interrupted`].
pub(crate) fn drive<E: Engine>(engine: &E, plan: &Plan, records: &Records, name: &str) -> Result<Measured> {
    let shared = Shared::new(plan);
    let phase = match plan.length {
        Some(length) => Phase::timed(name, length),
        None => Phase::steps(name, expected_records(records)),
    };
    let mut run = Run { timeline: Vec::new(), anonymous_bytes_max: 0, interrupted: false };
    let outcomes = thread::scope(|scope| {
        let mut threads = Vec::with_capacity(plan.threads);
        for number in 0..plan.threads {
            let shared = &shared;
            let worker = Worker { engine, plan, records, shared, number };
            let started = thread::Builder::new()
                .name(format!("append-{number}"))
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || shared.guard(|| worker.run()));
            match started {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    shared.abort();
                    shared.fail(Error::io("start a thread for", Path::new("appending"))(source));
                    break;
                }
            }
        }
        run.watch(&shared, threads.iter().map(|thread| thread.thread()), plan, &phase);
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
    });
    if run.interrupted {
        return Err(Error::Interrupted);
    }
    if let Some(error) = shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    Ok(sum_up(outcomes, run, shared.elapsed.into_inner()))
}

fn expected_records(records: &Records) -> u64 {
    match records {
        Records::Synthetic(_) => 0,
        Records::Lines(lines) => lines.len(),
    }
}

fn sum_up(outcomes: Vec<Tally>, run: Run, elapsed_ns: u64) -> Measured {
    let mut measured = Measured {
        elapsed: Duration::from_nanos(elapsed_ns.max(1)),
        timeline: run.timeline,
        anonymous_bytes_max: run.anonymous_bytes_max,
        ..Measured::nothing()
    };
    for tally in outcomes {
        measured.records += tally.records;
        measured.bytes += tally.bytes;
        measured.missed += tally.missed;
        measured.latency.add(&tally.latency);
        measured.placed.extend(tally.placed);
    }
    measured
}

/// What the threads of a run share.
struct Shared {
    began: OnceLock<Instant>,
    go: AtomicBool,
    over: AtomicBool,
    aborted: AtomicBool,
    running: AtomicUsize,
    elapsed: AtomicU64,
    meters: Vec<Meter>,
    failure: Mutex<Option<Error>>,
    watcher: Thread,
}

/// What one thread has done so far; on cache lines of its own, since it is written for each append.
#[repr(align(128))]
#[derive(Default)]
struct Meter {
    records: AtomicU64,
    bytes: AtomicU64,
    worst_ns: AtomicU64,
}

impl Shared {
    fn new(plan: &Plan) -> Shared {
        Shared {
            began: OnceLock::new(),
            go: AtomicBool::new(false),
            over: AtomicBool::new(plan.length.is_none()),
            aborted: AtomicBool::new(false),
            running: AtomicUsize::new(plan.threads),
            elapsed: AtomicU64::new(0),
            meters: (0..plan.threads).map(|_| Meter::default()).collect(),
            failure: Mutex::new(None),
            watcher: thread::current(),
        }
    }

    /// Runs one thread's work from the starting gun on, and notes how it ended.
    fn guard(&self, work: impl FnOnce() -> (Tally, Result<()>)) -> Tally {
        // Acquire: pairs with the Release in `Run::watch`, so that `began` is seen.
        while !self.go.load(Ordering::Acquire) {
            thread::park();
        }
        let (tally, outcome) = work();
        if let Err(error) = outcome {
            self.fail(error);
            self.abort();
        }
        if let Some(began) = self.began.get() {
            self.elapsed.fetch_max(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        self.running.fetch_sub(1, Ordering::AcqRel);
        self.watcher.unpark();
        tally
    }

    fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
    }

    fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }
}

/// What the watching thread sees.
struct Run {
    timeline: Vec<Moment>,
    anonymous_bytes_max: u64,
    interrupted: bool,
}

impl Run {
    /// Fires the starting gun, samples the meters, and calls time.
    fn watch<'t>(
        &mut self,
        shared: &Shared,
        threads: impl ExactSizeIterator<Item = &'t Thread>,
        plan: &Plan,
        phase: &Phase,
    ) {
        let began = *shared.began.get_or_init(Instant::now);
        // Threads that could not be started do not run.
        shared.running.fetch_sub(plan.threads - threads.len(), Ordering::AcqRel);
        shared.go.store(true, Ordering::Release);
        threads.for_each(Thread::unpark);
        let tick = plan.length.map_or(Duration::from_millis(50), |length| length / 100);
        let tick = tick.clamp(Duration::from_millis(10), Duration::from_millis(500));
        let (mut last, mut seen) = (began, (0, 0));
        while shared.running.load(Ordering::Acquire) > 0 {
            thread::park_timeout(tick.saturating_sub(last.elapsed()));
            let now = Instant::now();
            if plan.length.is_some_and(|length| now - began >= length) {
                shared.over.store(true, Ordering::Relaxed);
            }
            if progress::check_stopped().is_err() {
                self.interrupted = true;
                shared.abort();
            }
            if now - last >= tick {
                seen = self.sample(shared, began, now, now - last, seen);
                last = now;
                match plan.length {
                    Some(_) => phase.tick(),
                    None => phase.reach(seen.0),
                }
            }
        }
    }

    fn sample(
        &mut self,
        shared: &Shared,
        began: Instant,
        now: Instant,
        since: Duration,
        seen: (u64, u64),
    ) -> (u64, u64) {
        let sum = |count: fn(&Meter) -> &AtomicU64| -> u64 {
            shared.meters.iter().map(|meter| count(meter).load(Ordering::Relaxed)).sum()
        };
        let (records, bytes) = (sum(|meter| &meter.records), sum(|meter| &meter.bytes));
        let worst = shared.meters.iter().map(|meter| meter.worst_ns.swap(0, Ordering::Relaxed)).max();
        self.timeline.push(Moment {
            at_s: (now - began).as_secs_f64(),
            records_per_s: (records - seen.0) as f64 / since.as_secs_f64(),
            mb_per_s: (bytes - seen.1) as f64 / 1e6 / since.as_secs_f64(),
            worst_us: worst.unwrap_or(0) as f64 / 1e3,
        });
        self.anonymous_bytes_max = self.anonymous_bytes_max.max(Memory::now().anonymous_bytes);
        (records, bytes)
    }
}

/// What one thread has done.
struct Tally {
    records: u64,
    bytes: u64,
    missed: u64,
    latency: Latency,
    placed: Vec<Placed>,
    keeps_places: bool,
}

impl Tally {
    fn new(threads: usize, records: &Records) -> Tally {
        Tally {
            records: 0,
            bytes: 0,
            missed: 0,
            latency: Latency::for_one_of(threads),
            placed: Vec::new(),
            keeps_places: matches!(records, Records::Lines(_)),
        }
    }

    /// Counts an append that is durable `now`, and gives its latency.
    fn settle(&mut self, append: Settled, now: Instant) -> Duration {
        let latency = now.saturating_duration_since(append.since);
        self.latency.record(latency);
        self.records += append.count;
        self.bytes += append.bytes;
        if self.keeps_places {
            self.placed.push(Placed { lsn: append.lsn, line: append.first, count: append.count });
        }
        latency
    }

    /// Lets the watcher see how far this thread is.
    fn show(&self, meter: &Meter, worst: Duration) {
        // Relaxed: only this thread writes them, and the watcher needs no order among them.
        meter.records.store(self.records, Ordering::Relaxed);
        meter.bytes.store(self.bytes, Ordering::Relaxed);
        meter.worst_ns.fetch_max(worst.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// A clock that a few appends in a row share a reading of.
///
/// A reading costs as much as a good part of an append. With many outstanding, whose latencies are those of
/// whole groups, sharing makes some of them longer by the time of a few appends, and none shorter.
#[derive(Default)]
struct SharedReading {
    last: Option<Instant>,
    uses: u32,
}

impl SharedReading {
    const USES: u32 = 4;

    fn now(&mut self) -> Instant {
        match self.last {
            Some(last) if self.uses < Self::USES => {
                self.uses += 1;
                last
            }
            _ => {
                self.uses = 1;
                *self.last.insert(Instant::now())
            }
        }
    }
}

/// An append that was submitted, or was due, at `since`.
struct Outstanding<P> {
    since: Instant,
    pending: P,
    first: u64,
    count: u64,
    bytes: u64,
}

struct Settled {
    since: Instant,
    lsn: u64,
    first: u64,
    count: u64,
    bytes: u64,
}

impl<P> Outstanding<P> {
    fn wait<E: Engine<Pending = P>>(self, engine: &E) -> Result<Settled> {
        let Outstanding { since, pending, first, count, bytes } = self;
        let lsn = engine.wait(pending)?;
        Ok(Settled { since, lsn, first, count, bytes })
    }
}

/// One appending thread.
struct Worker<'a, E: Engine> {
    engine: &'a E,
    plan: &'a Plan,
    records: &'a Records,
    shared: &'a Shared,
    number: usize,
}

impl<E: Engine> Worker<'_, E> {
    fn run(&self) -> (Tally, Result<()>) {
        let mut tally = Tally::new(self.plan.threads, self.records);
        let outcome = match self.plan.rate {
            Some(rate) => self.open_loop(rate, &mut tally),
            None => self.closed_loop(&mut tally),
        };
        (tally, outcome)
    }

    fn closed_loop(&self, tally: &mut Tally) -> Result<()> {
        let mut feed = self.records.feed(self.number, self.plan.batch);
        let mut batch = Vec::with_capacity(self.plan.batch);
        let mut window = VecDeque::with_capacity(self.plan.in_flight);
        let mut clock = SharedReading::default();
        // One append at least, also where the thread comes to run when it is over.
        let mut has_begun = false;
        while !self.shared.is_aborted() {
            let is_over = has_begun && self.shared.is_over();
            let Some(first) = feed.next(&mut batch, is_over) else { break };
            has_begun = true;
            window.push_back(self.submit(clock.now(), first, &batch)?);
            if window.len() == self.plan.in_flight {
                self.settle_oldest(&mut window, tally)?;
                clock = SharedReading::default();
            }
        }
        while !window.is_empty() {
            self.settle_oldest(&mut window, tally)?;
        }
        Ok(())
    }

    fn submit(&self, since: Instant, first: u64, batch: &[&[u8]]) -> Result<Outstanding<E::Pending>> {
        let pending = self.engine.submit(self.number, batch)?;
        let bytes = batch.iter().map(|record| record.len() as u64).sum();
        Ok(Outstanding { since, pending, first, count: batch.len() as u64, bytes })
    }

    /// Waits for the oldest, and takes what has become durable along with it.
    fn settle_oldest(&self, window: &mut VecDeque<Outstanding<E::Pending>>, tally: &mut Tally) -> Result<()> {
        let Some(oldest) = window.pop_front() else { return Ok(()) };
        let settled = oldest.wait(self.engine)?;
        let now = Instant::now();
        let mut worst = tally.settle(settled, now);
        while window.front().is_some_and(|next| self.engine.is_done(&next.pending)) {
            let Some(next) = window.pop_front() else { break };
            worst = worst.max(tally.settle(next.wait(self.engine)?, now));
        }
        tally.show(&self.shared.meters[self.number], worst);
        Ok(())
    }

    /// Submits on schedule; a second thread waits, so that waiting never delays what is due next.
    fn open_loop(&self, rate: f64, tally: &mut Tally) -> Result<()> {
        let meter = &self.shared.meters[self.number];
        let (sender, receiver) = mpsc::sync_channel::<Outstanding<E::Pending>>(self.plan.in_flight);
        let missed = thread::scope(|scope| {
            let waiting = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || {
                for append in receiver {
                    let settled = append.wait(self.engine)?;
                    let latency = tally.settle(settled, Instant::now());
                    tally.show(meter, latency);
                }
                Ok(())
            });
            let waiting = waiting.map_err(Error::io("start a thread for", Path::new("waiting")))?;
            let missed = self.submit_on_schedule(rate, &sender);
            drop(sender);
            waiting.join().expect("waiting does not panic: it returns its error").and(missed)
        })?;
        let now = Instant::now();
        tally.missed = missed.len() as u64;
        // A lower bound of what they would have taken: leaving them out would flatter the engine.
        missed.into_iter().for_each(|due| tally.latency.record(now.saturating_duration_since(due)));
        Ok(())
    }

    /// Returns when the appends were due that it did not get to make.
    fn submit_on_schedule(
        &self,
        rate: f64,
        sender: &mpsc::SyncSender<Outstanding<E::Pending>>,
    ) -> Result<Vec<Instant>> {
        let began = *self.shared.began.get().expect("set before the starting gun");
        let interval = Duration::from_secs_f64(self.plan.batch as f64 * self.plan.threads as f64 / rate);
        let end = self.plan.length.map(|length| began + length);
        let mut due = began + interval.mul_f64(self.number as f64 / self.plan.threads as f64);
        let mut feed = self.records.feed(self.number, self.plan.batch);
        let mut batch = Vec::with_capacity(self.plan.batch);
        let mut missed = Vec::new();
        wake_precisely();
        while !self.shared.is_aborted() {
            let over = end.is_none_or(|end| due >= end);
            let too_late = end.is_some_and(|end| Instant::now() > end + GRACE);
            if too_late && !over {
                missed.push(due);
            } else {
                let Some(first) = feed.next(&mut batch, over) else { break };
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let append = self.submit(due, first, &batch)?;
                if sender.send(append).is_err() {
                    break; // The waiting thread has failed, and says why.
                }
            }
            due += interval;
        }
        Ok(missed)
    }
}

/// Asks the kernel to wake this thread when it asked to be woken, and not up to 50 us later as is its habit.
fn wake_precisely() {
    #[cfg(target_os = "linux")]
    {
        // Without it the figures are a little worse, not wrong.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1_000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acknowledges at once, but for the first append, which it holds up.
    struct Stalling {
        stall: Duration,
        stalled: AtomicBool,
    }

    impl Engine for Stalling {
        type Pending = ();

        fn submit(&self, _: usize, _: &[&[u8]]) -> Result<()> {
            let began = Instant::now();
            while !self.stalled.load(Ordering::Relaxed) && began.elapsed() < self.stall {
                std::hint::spin_loop();
            }
            self.stalled.store(true, Ordering::Relaxed);
            Ok(())
        }

        fn is_done(&self, (): &()) -> bool {
            true
        }

        fn wait(&self, (): ()) -> Result<u64> {
            Ok(1)
        }
    }

    #[test]
    fn a_stall_counts_for_all_appends_that_were_due_during_it() {
        let engine = Stalling { stall: Duration::from_millis(100), stalled: AtomicBool::new(false) };
        let length = Some(Duration::from_millis(200));
        let plan = Plan { threads: 1, batch: 1, in_flight: 1024, rate: Some(1000.0), length };
        let measured = drive(&engine, &plan, &Records::synthetic(8), "stalling").unwrap();
        assert_eq!((measured.records, measured.missed), (200, 0));
        // A hundred appends were due during the stall; forty of them waited 60 ms and more.
        assert!(measured.latency.percentile_us(81.0) >= 60_000.0, "{:?}", measured.latency.summary());
        assert!(measured.latency.summary().max >= 100_000.0);
    }

    #[test]
    fn the_first_error_ends_all_threads() {
        struct Failing;
        impl Engine for Failing {
            type Pending = ();
            fn submit(&self, _: usize, _: &[&[u8]]) -> Result<()> {
                Err(Error::Log { doing: "append to", source: annals::Error::Poisoned })
            }
            fn is_done(&self, (): &()) -> bool {
                true
            }
            fn wait(&self, (): ()) -> Result<u64> {
                Ok(1)
            }
        }
        let plan =
            Plan { threads: 4, batch: 1, in_flight: 1, rate: None, length: Some(Duration::from_secs(3600)) };
        let error = drive(&Failing, &plan, &Records::synthetic(8), "failing").unwrap_err();
        assert!(error.to_string().contains("could not append to the log"), "{error}");
    }
}
