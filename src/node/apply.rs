//! The applying thread: gives committed records to the state machine in order, freezes it for snapshots, and restores it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::error::{ReplicaError, Result};
use super::machine::{Frozen, StateMachine};
use super::mail::{Mail, Note, Witness};
use super::observe;
use super::reading::{READ_BYTES, read_records};
use super::scribble::Scribbler;
use super::shown::Shown;
use crate::error::Error;
use crate::protocol::Base;
use crate::types::Lsn;

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
}

/// The newest record that was applied; written by the applying thread alone.
#[derive(Debug, Default)]
pub(crate) struct Applied(AtomicU64);

impl Applied {
    pub(crate) fn lsn(&self) -> Lsn {
        // Acquire: pairs with the Release in `reach`, so that what was applied is seen with it.
        Lsn::new(self.0.load(Ordering::Acquire))
    }

    fn reach(&self, lsn: Lsn) {
        observe::applied(lsn);
        self.0.store(lsn.get(), Ordering::Release);
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
    /// The state machine could not be restored, or a record could not be read: nothing more is applied until another
    /// snapshot comes.
    is_stuck: bool,
}

impl Applier {
    pub(crate) fn new(
        machine: Option<Box<dyn StateMachine>>,
        (shown, applied): (Arc<Shown>, Arc<Applied>),
        mail: Arc<Mail>,
        scribbler: Scribbler,
    ) -> Applier {
        let freezes = VecDeque::new();
        Applier { machine, shown, applied, mail, scribbler, next: Lsn::FIRST, freezes, is_stuck: false }
    }

    /// Starts the thread. It ends when nobody can tell it anything any more.
    pub(crate) fn spawn(mut self) -> Result<(Sender<ApplyNote>, JoinHandle<()>)> {
        let (sender, receiver) = unbounded();
        let thread = thread::Builder::new()
            .name("annals-apply".to_owned())
            .spawn(move || {
                let _witness = Witness { thread: "apply", mail: Arc::clone(&self.mail) };
                self.run(&receiver);
            })
            .map_err(|source| Error::io("start a thread for", "", source))?;
        Ok((sender, thread))
    }

    fn run(&mut self, notes: &Receiver<ApplyNote>) {
        self.restore();
        while let Ok(note) = notes.recv() {
            self.take(note);
            // What came meanwhile is looked at once.
            for note in notes.try_iter() {
                self.take(note);
            }
            if !self.is_stuck {
                self.apply();
            }
        }
        self.scribbler.end();
    }

    fn take(&mut self, note: ApplyNote) {
        match note {
            ApplyNote::More => {}
            ApplyNote::Freeze(base) => self.freezes.push_back(base),
            ApplyNote::Installed | ApplyNote::Reopened if self.is_behind_snapshot() => self.restore(),
            ApplyNote::Installed | ApplyNote::Reopened => {}
        }
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
        let Some(mut snapshot) = reader.snapshot()? else { return Ok(Lsn::ZERO) };
        let lsn = snapshot.base().position.lsn;
        if let Some(machine) = self.machine.as_mut().filter(|_| lsn > Lsn::ZERO) {
            machine
                .restore(&mut snapshot, lsn)
                .map_err(|source| Error::io("restore from", "snapshot", source))?;
        }
        Ok(lsn)
    }

    /// Applies all that may be, and freezes the state where that is asked for.
    fn apply(&mut self) {
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
            match read_records(&reader, self.next, through, READ_BYTES) {
                // What is committed is still on its way to where it can be read.
                Ok((_, next)) if next == self.next => return,
                Ok((records, next)) => {
                    let machine = self.machine.as_mut().expect("looked at above");
                    for record in &records {
                        machine.apply(record.lsn, record.epoch, &record.bytes);
                    }
                    self.next = next;
                    self.applied.reach(next.prev());
                }
                Err(error) => return self.cannot_read(error),
            }
        }
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

    /// A record that should be there cannot be read: if it is damaged, a peer has it (S11).
    fn cannot_read(&mut self, error: ReplicaError) {
        match error {
            // The store was opened again since, or a snapshot was installed; a note says so.
            ReplicaError::Refused(_) => {}
            ReplicaError::Log(error) => {
                let _ = self.mail.leave(Note::Doubt(error));
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
