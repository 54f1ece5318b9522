//! A process's worth of writing.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use annals::{Durability, Error, Log, LogOptions, Lsn, Ticket, WriteMethod, ZeroFill};

use crate::account::mark_bytes;
use crate::chance::Chance;
use crate::entry::Entry;
use crate::event::{Event, Teller};
use crate::failure::{Failure, Result};

/// How long a close and an open that found the disk full wait for room.
const PATIENCE: Duration = Duration::from_secs(60);
const BREATH: Duration = Duration::from_millis(5);

/// What to do in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The log's directory.
    pub log: PathBuf,
    /// A directory for copies of the log.
    pub copies: PathBuf,
    /// The seed of all that is appended and chosen.
    pub seed: u64,
    /// The round; of each seed, each is used once.
    pub round: u32,
    /// Threads that append.
    pub writers: u16,
    /// After so many phases the log is closed; without it, the trial goes on until it is ended from outside.
    pub phases: Option<u32>,
    /// Whether to open the log and close it again, and nothing else.
    pub only_opens: bool,
    /// Above this many bytes of files the log is trimmed.
    pub log_bytes_max: u64,
    /// Where to tell; without it, on standard output.
    pub notes: Option<PathBuf>,
    /// Whether to break something on purpose: to call a record durable as soon as it is appended.
    pub skips_wait: bool,
}

/// How the log of this round is opened: write method, sizes and depths differ from round to round.
pub fn options(dir: &Path, seed: u64, round: u32) -> LogOptions {
    let mut chance = Chance::new(&[seed, u64::from(round), 0x4F50_5453]);
    LogOptions::new(dir)
        .segment_bytes(chance.pick(&[64 << 10, 128 << 10, 256 << 10, 1 << 20]))
        .write_method(chance.pick(&[WriteMethod::Direct, WriteMethod::Buffered, WriteMethod::Mapped]))
        .depth(chance.pick(&[1, 2, 4, 8]))
        .group_bytes(chance.pick(&[4 << 10, 32 << 10, 512 << 10]))
        .in_flight_bytes_max(chance.pick(&[64 << 10, 1 << 20, 64 << 20]))
        .recycle(chance.percent(80))
        .strict_blocks(chance.percent(25))
        .zero_fill(chance.pick(&[ZeroFill::Adaptive, ZeroFill::Always, ZeroFill::Never]))
}

impl Trial {
    /// Writes, and tells of it, until the phases are over or something goes wrong.
    ///
    /// # Errors
    /// Whatever the log says but for a full disk, which is waited out; and a broken promise.
    pub fn run(&self, teller: &Teller) -> Result<()> {
        let mut under_way = UnderWay {
            trial: self,
            teller,
            numbers: (0..self.writers).map(|_| AtomicU32::new(0)).collect(),
            places: Mutex::new(BTreeSet::new()),
            acknowledged: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            steps: 0,
            // Of one log, each number is used once.
            copies: u64::from(self.round) << 16,
            chance: Chance::new(&[self.seed, u64::from(self.round), 0x5452_4941]),
        };
        let mut log = under_way.open()?;
        let mut phase = 0;
        while !self.only_opens && self.phases.is_none_or(|phases| phase < phases) {
            under_way.phase(&log, phase)?;
            log = under_way.between(log)?;
            phase += 1;
        }
        under_way.tell(Event::Closing)?;
        log.close().map_err(Failure::log("close"))?;
        under_way.tell(Event::Finished)
    }
}

/// A trial that runs.
struct UnderWay<'a> {
    trial: &'a Trial,
    teller: &'a Teller,
    /// The next entry of each writer.
    numbers: Vec<AtomicU32>,
    /// Where acknowledged entries begin: places where the log can be cut.
    places: Mutex<BTreeSet<u64>>,
    /// The newest record that was acknowledged.
    acknowledged: AtomicU64,
    /// Whether the disk was full in this phase.
    is_full: AtomicBool,
    steps: u64,
    copies: u64,
    chance: Chance,
}

impl UnderWay<'_> {
    fn tell(&self, event: Event) -> Result<()> {
        self.teller.tell(event).map_err(Failure::io("tell the listener"))
    }

    fn places(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<Log> {
        let Trial { log, seed, round, .. } = self.trial;
        let began = Instant::now();
        let log = loop {
            match options(log, *seed, *round).open() {
                Err(Error::NoSpace) if began.elapsed() < PATIENCE => thread::sleep(BREATH),
                opened => break opened.map_err(Failure::log("open"))?,
            }
        };
        let (first, last) = (log.first_lsn().get(), log.last_lsn().get());
        self.tell(Event::Opened { first, last })?;
        Ok(log)
    }

    /// Lets all writers append for a while, beside one that trims, copies and reads.
    fn phase(&mut self, log: &Log, phase: u32) -> Result<()> {
        let entries = self.chance.between(1, 60) as u32;
        let mut janitor = Chance::new(&[self.chance.next()]);
        let (mut steps, mut copies) = (self.steps, self.copies);
        self.is_full.store(false, Ordering::Relaxed);
        let this = &*self;
        let done = thread::scope(|scope| {
            let writers = (0..this.trial.writers).map(|writer| {
                let log = log.clone();
                scope.spawn(move || {
                    let chance = Chance::new(&[this.trial.seed, u64::from(phase), u64::from(writer)]);
                    Writer { this, log, writer, chance, waiting: VecDeque::new(), buffered: Vec::new() }
                        .run(entries)
                })
            });
            let writers: Vec<_> = writers.collect();
            let mut done = this.tidy(log, &mut janitor, (&mut steps, &mut copies));
            for writer in writers {
                done = done.and(writer.join().expect("a writer does not panic"));
            }
            done
        });
        (self.steps, self.copies) = (steps, copies);
        done
    }

    /// What goes on beside the writers.
    fn tidy(&self, log: &Log, chance: &mut Chance, count: (&mut u64, &mut u64)) -> Result<()> {
        let (steps, copies) = count;
        let is_large = segment_bytes(&self.trial.log) > self.trial.log_bytes_max;
        if is_large || chance.percent(10) {
            let upper = if is_large { 80 } else { 40 };
            let place = {
                let places = self.places();
                let nth = places.len() as u64 * chance.below(upper) / 100;
                places.iter().nth(nth as usize).copied()
            };
            place.map_or(Ok(()), |place| self.trim(log, place))?;
        }
        if chance.percent(10) {
            *steps += 1;
            let lsn = chance.between(log.first_lsn().prev().get(), log.last_lsn().get());
            let number = u64::from(self.trial.round) << 32 | *steps;
            self.tell(Event::MarkBegun { lsn, number })?;
            match log.set_mark(Lsn::new(lsn), &mark_bytes(self.trial.seed, number)) {
                Ok(()) => self.tell(Event::Marked)?,
                Err(Error::NoSpace) => self.is_full.store(true, Ordering::Relaxed),
                Err(source) => return Err(Failure::Log { doing: "set a mark in", source }),
            }
        }
        if chance.percent(4) {
            *copies += 1;
            self.copy(log, *copies)?;
        }
        self.read_some(log, chance)
    }

    fn trim(&self, log: &Log, before: u64) -> Result<()> {
        self.tell(Event::TrimBegun(before))?;
        match log.trim(Lsn::new(before)) {
            Ok(()) => {}
            Err(Error::NoSpace) => {
                self.is_full.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Err(source) => return Err(Failure::Log { doing: "trim", source }),
        }
        self.tell(Event::Trimmed(before))?;
        let mut places = self.places();
        *places = places.split_off(&before);
        Ok(())
    }

    fn copy(&self, log: &Log, number: u64) -> Result<()> {
        let durable = self.acknowledged.load(Ordering::Relaxed);
        self.tell(Event::BackupBegun { number, durable })?;
        match log.backup(self.trial.copies.join(number.to_string())) {
            Ok(newest) => self.tell(Event::BackedUp { number, newest: newest.get() }),
            Err(Error::NoSpace) => {
                self.is_full.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(source) => Err(Failure::Log { doing: "copy", source }),
        }
    }

    /// Reads a few of the newest records while they are written: whoever begins an entry has its bytes.
    fn read_some(&self, log: &Log, chance: &mut Chance) -> Result<()> {
        let Some(from) = self.places().iter().nth_back(chance.below(20) as usize).copied() else {
            return Ok(());
        };
        let mut cursor = log.cursor(Lsn::new(from)..).map_err(Failure::log("read"))?;
        for _ in 0..64 {
            let Some(record) = cursor.next().map_err(Failure::log("read"))? else { break };
            let Some(entry) = Entry::of(&record) else { continue };
            let (lsn, is_first) = (record.lsn(), self.places().contains(&record.lsn().get()));
            if is_first && entry.records(self.trial.seed)[0] != *record {
                return Err(Failure::Broken(format!("record {lsn}, of {entry:?}, is read with other bytes")));
            }
        }
        Ok(())
    }

    /// What is done when nobody appends.
    fn between(&mut self, log: Log) -> Result<Log> {
        if self.chance.percent(12) {
            let place = self.places().iter().nth_back(self.chance.clone().below(30) as usize).copied();
            place.map_or(Ok(()), |place| self.truncate(&log, place - 1))?;
        }
        if self.chance.percent(12) {
            self.tell(Event::Closing)?;
            match self.chance.percent(50).then(|| log.close()) {
                None | Some(Ok(()) | Err(Error::NoSpace)) => {}
                Some(Err(source)) => return Err(Failure::Log { doing: "close", source }),
            }
            return self.open();
        }
        Ok(log)
    }

    fn truncate(&self, log: &Log, after: u64) -> Result<()> {
        if after < log.first_lsn().get() {
            return Ok(());
        }
        self.tell(Event::TruncationBegun(after))?;
        match log.truncate(Lsn::new(after)) {
            Ok(()) => {}
            Err(Error::NoSpace) => return Ok(()),
            Err(source) => return Err(Failure::Log { doing: "truncate", source }),
        }
        self.tell(Event::Truncated(after))?;
        self.places().split_off(&(after + 1));
        self.acknowledged.store(after, Ordering::Relaxed);
        Ok(())
    }
}

/// One thread that appends.
struct Writer<'a> {
    this: &'a UnderWay<'a>,
    log: Log,
    writer: u16,
    chance: Chance,
    /// Appended, to be waited for later.
    waiting: VecDeque<(Entry, Ticket)>,
    /// Appended, to be synced later: the entry and its place.
    buffered: Vec<(Entry, u64)>,
}

impl Writer<'_> {
    fn run(mut self, entries: u32) -> Result<()> {
        let window = self.chance.pick(&[0, 0, 1, 4, 30]);
        let buffers = self.chance.percent(20);
        for _ in 0..entries {
            self.append(buffers)?;
            while self.waiting.len() > window {
                self.acknowledge_oldest()?;
            }
            if self.chance.percent(15) {
                self.sync()?;
            }
            if self.this.is_full.load(Ordering::Relaxed) {
                break;
            }
        }
        while !self.waiting.is_empty() {
            self.acknowledge_oldest()?;
        }
        self.sync()
    }

    fn append(&mut self, buffers: bool) -> Result<()> {
        let UnderWay { trial, numbers, .. } = self.this;
        let number = numbers[usize::from(self.writer)].fetch_add(1, Ordering::Relaxed);
        let entry = Entry { round: trial.round, writer: self.writer, number };
        let records = entry.records(trial.seed);
        self.this.tell(Event::Announced(entry))?;
        let appended = match &records[..] {
            [record] if buffers => self.log.append_with(record, Durability::Buffered),
            [record] if self.chance.percent(10) => self.log.try_append(record),
            [record] => self.log.append(record),
            // A batch of one is one, too.
            batch => self.log.append_batch(batch),
        };
        match appended {
            Ok(ticket) if trial.skips_wait => self.acknowledge(entry, ticket.lsn().get())?,
            Ok(ticket) if buffers && records.len() == 1 => self.buffered.push((entry, ticket.lsn().get())),
            Ok(ticket) => self.waiting.push_back((entry, ticket)),
            Err(Error::WouldBlock) => self.this.tell(Event::Refused(entry))?,
            Err(Error::NoSpace) => {
                self.this.tell(Event::Refused(entry))?;
                self.this.is_full.store(true, Ordering::Relaxed);
            }
            Err(source) => return Err(Failure::Log { doing: "append to", source }),
        }
        Ok(())
    }

    fn acknowledge_oldest(&mut self) -> Result<()> {
        let Some((entry, ticket)) = self.waiting.pop_front() else { return Ok(()) };
        let lsn = ticket.lsn();
        let receipt = ticket.wait().map_err(Failure::log("wait for"))?;
        if receipt.lsn() != lsn {
            return Err(Failure::Broken(format!("{entry:?} was at {lsn}, and then at {}", receipt.lsn())));
        }
        self.acknowledge(entry, lsn.get())
    }

    fn sync(&mut self) -> Result<()> {
        if self.buffered.is_empty() {
            return Ok(());
        }
        let durable = self.log.sync().map_err(Failure::log("sync"))?;
        for (entry, lsn) in std::mem::take(&mut self.buffered) {
            if durable.get() < lsn {
                return Err(Failure::Broken(format!("a sync up to {durable} left out {entry:?} at {lsn}")));
            }
            self.acknowledge(entry, lsn)?;
        }
        Ok(())
    }

    fn acknowledge(&self, entry: Entry, lsn: u64) -> Result<()> {
        let last = lsn + entry.count(self.this.trial.seed) - 1;
        self.this.tell(Event::Acknowledged(entry, lsn))?;
        if self.this.trial.skips_wait {
            // Only the account is lied to: the log itself refuses to trim or cut where nothing is durable yet.
            return Ok(());
        }
        self.this.places().insert(lsn);
        self.this.acknowledged.fetch_max(last, Ordering::Relaxed);
        Ok(())
    }
}

/// Bytes of the files in a log's directory.
fn segment_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|meta| meta.len()).sum()
}
