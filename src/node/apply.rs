//! The applying thread: gives committed records to the state machine in order, freezes it for snapshots, and restores it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::error::{ReplicaError, Result};
use super::machine::{Frozen, StateMachine};
use super::mail::{Mail, Note, Witness};
use super::observe;
use super::reading::{READ_BYTES, read_records};
use super::scribble::Scribbler;
use super::shown::Shown;
use super::subscription::Record;
use super::ticket::Promise;
use crate::error::Error;
use crate::protocol::Base;
use crate::protocol::request::Reply;
use crate::types::Lsn;

/// What the applying thread is called when it has panicked.
pub(crate) const APPLY: &str = "apply";

/// What the applying thread is told.
pub(crate) enum ApplyNote {
    /// More may be shown: look.
    More,
    /// The store was opened again: what it begins with may be newer than what was applied.
    Reopened,
    /// To take a snapshot as of exactly this base, which nothing that was told before goes past.
    Freeze(Arc<Base>),
    /// The log begins with another snapshot, which is newer than all that was applied.
    Installed,
    /// Somebody wants to know when everything up to this record was applied.
    Await(Lsn, Promise),
}

/// The newest record that was applied, and how many wait for more; written by the applying thread alone.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    lsn: AtomicU64,
    waiting: AtomicUsize,
}

impl Applied {
    pub(crate) fn lsn(&self) -> Lsn {
        // Acquire: pairs with the Release in `reach`, so that what was applied is seen with it.
        Lsn::new(self.lsn.load(Ordering::Acquire))
    }

    /// Whether somebody waits for more to be applied, also where there is no state machine.
    pub(crate) fn is_awaited(&self) -> bool {
        // Relaxed: whoever waits is counted before it is looked at what is shown, and what is shown moves before this is
        // asked; the lock of what is shown puts the two in an order, and either way it is seen.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn reach(&self, lsn: Lsn) {
        observe::applied(lsn);
        self.lsn.store(lsn.get(), Ordering::Release);
    }
}

/// The applying thread, from within.
pub(crate) struct Applier {
    machine: Option<Box<dyn StateMachine>>,
    shown: Arc<Shown>,
    applied: Arc<Applied>,
    mail: Arc<Mail>,
    scribbler: Scribbler,
    /// The next record to apply.
    next: Lsn,
    /// What has to be frozen, in the order of the log.
    freezes: VecDeque<Arc<Base>>,
    /// Who waits until so much is applied.
    waiting: Vec<(Lsn, Promise)>,
    /// The state machine could not be restored, or a record could not be read: nothing more is applied until another
    /// snapshot comes.
    is_stuck: bool,
    /// The state machine has refused the next record, or it could not be read: it is given it again at this time.
    retry_at: Option<Instant>,
}

/// How soon a record that the state machine has refused, or that could not be read, is given to it again.
const RETRY: Duration = Duration::from_secs(1);

impl Applier {
    pub(crate) fn new(
        machine: Option<Box<dyn StateMachine>>,
        (shown, applied): (Arc<Shown>, Arc<Applied>),
        mail: Arc<Mail>,
        scribbler: Scribbler,
    ) -> Applier {
        Applier {
            machine,
            shown,
            applied,
            mail,
            scribbler,
            next: Lsn::FIRST,
            freezes: VecDeque::new(),
            waiting: Vec::new(),
            is_stuck: false,
            retry_at: None,
        }
    }

    /// Starts the thread. It ends when nobody can tell it anything any more.
    pub(crate) fn spawn(mut self) -> Result<(Sender<ApplyNote>, JoinHandle<()>)> {
        let (sender, receiver) = unbounded();
        let thread = thread::Builder::new()
            .name("annals-apply".to_owned())
            .spawn(move || {
                let _witness = Witness { thread: APPLY, mail: Arc::clone(&self.mail) };
                self.run(&receiver);
            })
            .map_err(|source| Error::io("start a thread for", "", source))?;
        Ok((sender, thread))
    }

    fn run(&mut self, notes: &Receiver<ApplyNote>) {
        self.restore();
        while let Some(note) = self.wait(notes) {
            self.take(note);
            // What came meanwhile is looked at once.
            for note in notes.try_iter() {
                self.take(note);
            }
            let is_time = self.retry_at.is_none_or(|at| at <= Instant::now());
            if !self.is_stuck && is_time {
                self.apply();
            }
            self.tell();
        }
        self.scribbler.end();
    }

    /// The next note; `None` at the end. While a record is to be given again, it is tried now and then.
    fn wait(&self, notes: &Receiver<ApplyNote>) -> Option<ApplyNote> {
        let Some(at) = self.retry_at else { return notes.recv().ok() };
        match notes.recv_deadline(at) {
            Err(RecvTimeoutError::Timeout) => Some(ApplyNote::More),
            note => note.ok(),
        }
    }

    fn take(&mut self, note: ApplyNote) {
        match note {
            ApplyNote::More => {}
            ApplyNote::Freeze(base) => self.freezes.push_back(base),
            ApplyNote::Installed | ApplyNote::Reopened if self.is_behind_snapshot() => self.restore(),
            ApplyNote::Installed | ApplyNote::Reopened => {}
            ApplyNote::Await(through, promise) => {
                self.waiting.push((through, promise));
                // Before it is looked at what is shown: see `Applied::is_awaited`.
                self.count_waiting();
            }
        }
    }

    fn count_waiting(&self) {
        self.applied.waiting.store(self.waiting.len(), Ordering::Relaxed);
    }

    /// Tells those who wait for no more than what is applied, and forgets those who wait no more.
    fn tell(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.waiting.retain(|(_, promise)| !promise.is_given_up());
        let applied = self.next.prev();
        for (_, promise) in self.waiting.extract_if(.., |(through, _)| *through <= applied) {
            promise.keep(Ok(Reply::Linearized(applied)));
        }
        self.count_waiting();
    }

    /// Whether the records that come next are gone, and a snapshot is in their place. Where the store is just being opened
    /// again, that is asked after it.
    fn is_behind_snapshot(&self) -> bool {
        let newest = self.shown.view().reader.and_then(|reader| reader.snapshot().ok().flatten());
        newest.is_some_and(|snapshot| self.is_stuck || snapshot.base().position.lsn >= self.next)
    }

    /// Becomes what the newest snapshot holds.
    fn restore(&mut self) {
        self.is_stuck = false;
        match self.try_restore() {
            Ok(lsn) => {
                self.next = lsn.next();
                self.retry_at = None;
                self.applied.reach(lsn);
            }
            Err(error) => {
                self.is_stuck = true;
                observe::not_applied(&error);
            }
        }
        // What could have been frozen before has been jumped over.
        while let Some(gone) = self.freezes.pop_front_if(|base| base.position.lsn < self.next.prev()) {
            self.refuse(&gone, Error::Trimmed { asked: gone.position.lsn, first: self.next }.into());
        }
    }

    fn try_restore(&mut self) -> Result<Lsn> {
        let Some(reader) = self.shown.view().reader else { return Ok(self.next.prev()) };
        let kept = self.machine.as_ref().map_or(Lsn::ZERO, |machine| machine.applied());
        let Some(mut snapshot) = reader.snapshot()? else { return Ok(kept) };
        let lsn = snapshot.base().position.lsn;
        if kept >= lsn {
            return Ok(kept);
        }
        if let Some(machine) = &mut self.machine {
            machine.restore(&mut snapshot, lsn).map_err(|source| {
                // If it is not the machine's fault, a peer has another one (S11).
                let _ = snapshot.verify().inspect_err(|error| self.mail.doubt(error));
                Error::io("restore from", "snapshot", source)
            })?;
        }
        Ok(lsn)
    }

    /// Applies all that may be, and freezes the state where that is asked for.
    fn apply(&mut self) {
        self.retry_at = None;
        loop {
            let view = self.shown.view();
            let through =
                self.freezes.front().map_or(view.through, |base| view.through.min(base.position.lsn));
            if self.freezes.front().is_some_and(|base| base.position.lsn < self.next) {
                self.freeze();
                continue;
            }
            if through < self.next {
                return;
            }
            if self.machine.is_none() {
                self.next = through.next();
                self.applied.reach(through);
                continue;
            }
            let Some(reader) = view.reader else { return };
            match read_records((&reader, &self.mail), self.next, through, READ_BYTES) {
                // What is committed is still on its way to where it can be read.
                Ok((_, next)) if next == self.next => return,
                Ok((records, next)) => {
                    if !self.give(&records, next) {
                        return;
                    }
                }
                Err(error) => return self.cannot_read(error),
            }
        }
    }

    /// Gives records to the machine, up to before `next`; whether it has taken all of them.
    fn give(&mut self, records: &[Record], next: Lsn) -> bool {
        let machine = self.machine.as_mut().expect("only a machine is given records");
        let taken = records.iter().try_for_each(|record| {
            machine.apply(record.lsn, record.epoch, &record.bytes).map_err(|source| (record.lsn, source))
        });
        self.retry_at = taken.is_err().then(|| Instant::now() + RETRY);
        self.next = taken.as_ref().map_or_else(|(refused, _)| *refused, |()| next);
        self.applied.reach(self.next.prev());
        if let Err((lsn, source)) = taken {
            observe::refused(lsn, &source);
            return false;
        }
        true
    }

    /// The state is that of the base: a view of it is frozen, and written on another thread.
    fn freeze(&mut self) {
        let Some(base) = self.freezes.pop_front() else { return };
        if base.position.lsn < self.next.prev() {
            let passed = Error::Trimmed { asked: base.position.lsn, first: self.next };
            return self.refuse(&base, passed.into());
        }
        let frozen: Frozen = match &mut self.machine {
            Some(machine) => machine.snapshot(),
            None => Box::new(|_| Ok(())),
        };
        self.scribbler.write(base, frozen);
    }

    /// A record that should be there cannot be read: if it is damaged, a peer has it, and the node knows (S11).
    fn cannot_read(&mut self, error: ReplicaError) {
        match error {
            // The store was opened again since, or a snapshot was installed, or it will be; a note says so.
            ReplicaError::Refused(_) | ReplicaError::Log(Error::Closed) => {}
            ReplicaError::Log(error) => {
                self.retry_at = Some(Instant::now() + RETRY);
                observe::not_read(&error);
            }
            other => {
                self.is_stuck = true;
                observe::not_applied(&other);
            }
        }
    }

    fn refuse(&self, base: &Base, error: ReplicaError) {
        // Without a node there is nobody who waits for it.
        let _ = self.mail.leave(Note::Snapshot { base: Box::new(base.clone()), outcome: Err(error) });
    }
}
