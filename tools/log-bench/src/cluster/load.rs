//! Clients that append without pause and keep account of what they are promised, while something is done to the
//! cluster.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annals::Lsn;
use annals::client::{self, Client, Receipt, Target, Ticket};
use annals::protocol::request::Copies;

use super::Cluster;
use super::account::{Account, Verdict, record};
use super::silence::Acknowledgements;
use crate::error::{Error, Result};
use crate::latency::Latency;
use crate::progress;

/// How long what is left may take to be read back.
const READ_HANG: Duration = Duration::from_secs(60);

/// Clients under way.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    over: AtomicBool,
    gate: Gate,
    failed: AtomicU64,
    last_failure: std::sync::Mutex<Option<String>>,
    account: Account,
    acknowledgements: Acknowledgements,
    latencies: std::sync::Mutex<Vec<(Duration, Duration)>>,
    bytes: usize,
    copies: Copies,
    /// From one append of a thread to its next, at least.
    pace: Option<Duration>,
}

/// An append that is under way, and its number in the account.
#[derive(Debug)]
pub(crate) struct Asked {
    number: u64,
    ticket: client::Result<Ticket>,
}

/// Where clients wait between two appends while they are held.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    is_closed: bool,
    waiting: usize,
}

impl Gate {
    fn with<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let changed = change(&mut self.state.lock().expect("no thread panics at the gate"));
        self.changed.notify_all();
        changed
    }

    /// Goes on at once, or when it is open again.
    fn pass(&self) {
        let mut state = self.state.lock().expect("no thread panics at the gate");
        if !state.is_closed {
            return;
        }
        state.waiting += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |held| held.is_closed).expect("no thread panics at the gate");
        state.waiting -= 1;
    }

    /// Whether so many wait, by the end of this time.
    fn is_full(&self, count: usize, patience: Duration) -> bool {
        let state = self.state.lock().expect("no thread panics at the gate");
        let waited = self.changed.wait_timeout_while(state, patience, |held| held.waiting < count);
        !waited.expect("no thread panics at the gate").1.timed_out()
    }
}

/// What became of a load.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) verdict: Verdict,
    /// Appends that were refused for good, or failed.
    pub(crate) failed: u64,
    /// The last such refusal, in words.
    pub(crate) last_failure: Option<String>,
}

impl Load {
    /// Starts so many clients, each a thread; together they append no more than `rate` records a second, if there is one.
    /// Each append is to be acknowledged with so many copies.
    pub(crate) fn start(
        cluster: &Cluster,
        (clients, copies): (u32, Copies),
        bytes: usize,
        rate: Option<f64>,
    ) -> Result<Load> {
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            gate: Gate::default(),
            failed: AtomicU64::new(0),
            last_failure: std::sync::Mutex::default(),
            // And one for those that are asked for apart.
            account: Account::new(clients as usize + 1),
            acknowledgements: Acknowledgements::new(clients as usize),
            latencies: std::sync::Mutex::default(),
            bytes,
            copies,
            pace: rate.map(|rate| Duration::from_secs_f64(f64::from(clients) / rate)),
        });
        let mut threads = Vec::new();
        for thread in 0..clients as usize {
            let client = cluster.connect()?;
            let shared = Arc::clone(&shared);
            let started = thread::Builder::new().name(format!("client-{thread}"));
            let started = started.spawn(move || shared.append(thread, &client));
            threads.push(started.map_err(Error::io("start a thread for", std::path::Path::new("a client")))?);
        }
        Ok(Load { shared, threads })
    }

    /// When the clients were acknowledged what.
    pub(crate) fn acknowledgements(&self) -> &Acknowledgements {
        &self.shared.acknowledgements
    }

    /// Now, as the acknowledgements count time.
    pub(crate) fn now(&self) -> Duration {
        self.shared.acknowledgements.began().elapsed()
    }

    /// Returns once something has been acknowledged after this moment, and after `least` has gone by since it.
    pub(crate) fn wait_for_commit_after(&self, moment: Duration, least: Duration) -> Result<()> {
        loop {
            progress::check_stopped()?;
            let waited = self.now().saturating_sub(moment);
            if waited >= least && self.shared.acknowledgements.has_any_after(moment + least) {
                return Ok(());
            }
            if waited > super::HANG {
                let left = format!("{:?} without a commit", super::HANG);
                return Err(Error::Child { doing: "serving clients", left });
            }
            thread::sleep(super::PAUSE);
        }
    }

    /// Latencies of the appends that were begun from one moment to another.
    pub(crate) fn latency(&self, from: Duration, to: Duration) -> Latency {
        let mut latency = Latency::fine();
        let latencies = self.shared.latencies.lock().expect("no thread panics while it notes");
        latencies
            .iter()
            .filter(|(begun, _)| *begun >= from && *begun < to)
            .for_each(|(_, l)| latency.record(*l));
        latency
    }

    /// Lets each client wait for the append that it has under way, and begin no other one.
    pub(crate) fn hold(&self) -> Result<()> {
        self.shared.gate.with(|held| held.is_closed = true);
        if self.shared.gate.is_full(self.threads.len(), super::HANG) {
            return Ok(());
        }
        let left = format!("an append has no outcome after {:?}", super::HANG);
        Err(Error::Child { doing: "serving clients", left })
    }

    /// Lets the clients go on that were held.
    pub(crate) fn go_on(&self) {
        self.shared.gate.with(|held| held.is_closed = false);
    }

    /// Begins so many appends through a client of its own, which are accounted for like all others.
    pub(crate) fn ask(&self, client: &Client, count: usize) -> Vec<Asked> {
        let Shared { account, bytes, copies, .. } = &*self.shared;
        let apart = self.threads.len();
        let begin = |_| {
            let number = account.begin(apart);
            let ticket = client.append_with(&record(apart as u32, number, *bytes), *copies);
            Asked { number, ticket }
        };
        (0..count).map(begin).collect()
    }

    /// Waits for them; how many were acknowledged.
    pub(crate) fn hear(&self, asked: Vec<Asked>) -> usize {
        let apart = self.threads.len();
        let outcomes = asked.into_iter().map(|Asked { number, ticket }| {
            self.shared.account_for(apart, number, &ticket.and_then(|ticket| ticket.wait()))
        });
        outcomes.filter(|is_acknowledged| *is_acknowledged).count()
    }

    /// What the account makes of a log. Only while the clients are held.
    pub(crate) fn judge<'a>(&self, log: impl IntoIterator<Item = (u64, &'a [u8])>) -> Verdict {
        self.shared.account.settle(log)
    }

    /// What the last append said that failed.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.shared.last_failure.lock().expect("no thread panics while it notes").clone()
    }

    /// Ends the clients, and tells how many of their appends have failed.
    pub(crate) fn end_without_reading(mut self) -> u64 {
        self.stop();
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Ends the clients, reads back everything that is committed from each replica, and compares it with what they were
    /// promised.
    pub(crate) fn end(mut self, cluster: &Cluster, reader: &Client) -> Result<Loaded> {
        self.stop();
        let last = reader.linearizable_read().wait().map_err(Error::cluster("read from"))?;
        let log = read_all(reader, Target::Primary, Lsn::FIRST, last)?;
        for id in cluster.ids() {
            if read_all(reader, Target::Replica(id), Lsn::FIRST, last)? != log {
                let left = format!("its records are not those of the primary, up to {last}");
                return Err(Error::Child { doing: "being a replica", left: format!("replica {id}: {left}") });
            }
        }
        Ok(Loaded {
            verdict: self.shared.account.settle(log),
            failed: self.shared.failed.load(Ordering::Relaxed),
            last_failure: self.shared.last_failure.lock().expect("no thread panics while it notes").clone(),
        })
    }

    fn stop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.go_on();
        for thread in self.threads.drain(..) {
            thread.join().expect("clients do not panic: they count their failures");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.go_on();
    }
}

impl Shared {
    /// One client: appends, waits, and takes note, until it is over.
    fn append(&self, thread: usize, client: &Client) {
        let mut due = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            if let Some(pace) = self.pace {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += pace;
            }
            self.gate.pass();
            let number = self.account.begin(thread);
            let bytes = record(thread as u32, number, self.bytes);
            let begun = self.acknowledgements.began().elapsed();
            let outcome = client.append_with(&bytes, self.copies).and_then(|ticket| ticket.wait());
            self.account_for(thread, number, &outcome);
            match outcome {
                Ok(_) => {
                    self.acknowledgements.note(thread);
                    let took = self.acknowledgements.began().elapsed() - begun;
                    self.latencies.lock().expect("no thread panics while it notes").push((begun, took));
                }
                Err(error) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    *self.last_failure.lock().expect("no thread panics while it notes") =
                        Some(error.to_string());
                }
            }
        }
    }

    /// Takes note of what a client was told of its append; whether it was acknowledged.
    fn account_for(&self, thread: usize, number: u64, outcome: &client::Result<Receipt>) -> bool {
        match outcome {
            Ok(receipt) => {
                let lsn = receipt.range().map(|range| range.first.get());
                self.account.acknowledged(thread, number, lsn);
            }
            Err(error) if error.is_unknown() => self.account.unknown(thread, number),
            Err(_) => self.account.refused(thread, number),
        }
        outcome.is_ok()
    }
}

/// Everything that a replica has from one record to another, in order; waits until all of that is known to be committed
/// there.
pub(crate) fn read_all(
    client: &Client,
    target: Target,
    first: Lsn,
    last: Lsn,
) -> Result<Vec<(u64, Vec<u8>)>> {
    let began = Instant::now();
    let mut records = Vec::new();
    let mut next = first;
    while next <= last {
        progress::check_stopped()?;
        if began.elapsed() > READ_HANG {
            let left = format!("{next} of {last} was not there after {READ_HANG:?}");
            return Err(Error::Child { doing: "reading back what was appended", left });
        }
        let read = client.read(target.clone(), next, 1 << 20).wait().map_err(Error::cluster("read from"))?;
        if read.next == next {
            thread::sleep(super::PAUSE);
        }
        let old = read.records.into_iter().filter(|record| record.lsn <= last);
        records.extend(old.map(|record| (record.lsn.get(), record.bytes.to_vec())));
        next = read.next;
    }
    Ok(records)
}
