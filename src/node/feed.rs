//! The feeding thread: reads what peers lack, so that neither the network nor the disk's own thread waits for it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::disk::DiskNote;
use super::driver::{Done, Task, read};
use super::error::Result;
use super::mail::{Mail, Note, Witness};
use super::shown::Shown;
use super::store::StoreReader;
use crate::error::Error;
use crate::types::{Lsn, ReplicaId};

/// The feeding thread, from within.
struct Feeder {
    shown: Arc<Shown>,
    disk: Sender<DiskNote>,
    mail: Arc<Mail>,
    ahead: Option<Ahead>,
}

/// What a peer that catches up will ask for next: it was read while that was under way which it has asked for.
///
/// At most one chunk. It may be of a log that was truncated meanwhile: the core takes records for its own only if their
/// epoch is the one that its log has there.
struct Ahead {
    to: ReplicaId,
    from: Lsn,
    /// The opening of the store that it was read from.
    opening: u64,
    done: Done,
}

/// Starts the thread: it carries out tasks that only read, and ends when nobody can ask it any more.
pub(crate) fn spawn(
    shown: Arc<Shown>,
    disk: Sender<DiskNote>,
    mail: Arc<Mail>,
) -> Result<(Sender<Task>, JoinHandle<()>)> {
    let (sender, receiver) = unbounded();
    let mut feeder = Feeder { shown, disk, mail, ahead: None };
    let thread = thread::Builder::new()
        .name("annals-feed".to_owned())
        .spawn(move || {
            let _witness = Witness { thread: "feed", mail: Arc::clone(&feeder.mail) };
            feeder.run(&receiver);
        })
        .map_err(|source| Error::io("start a thread for", "", source))?;
    Ok((sender, thread))
}

impl Feeder {
    fn run(&mut self, tasks: &Receiver<Task>) {
        for task in tasks {
            self.feed(task, tasks);
        }
    }

    fn feed(&mut self, task: Task, tasks: &Receiver<Task>) {
        // While the store is opened again there is nobody to feed: the driver will be another one.
        let view = self.shown.view();
        let Some(reader) = view.reader else { return };
        let done = match self.taken_ahead(&task, view.openings) {
            Some(done) => Ok(done),
            None => read(&reader, &task),
        };
        let next = done.as_ref().ok().and_then(|done| next_of(&task, done));
        // Without a node, or a disk's thread, everything is about to end.
        let _ = match done {
            Ok(done) => self.mail.leave(Note::Done(vec![done])),
            // It is on its way to the disk: there it is read after it was written, or not at all.
            Err(Error::BeyondEnd { .. }) => {
                let _ = self.disk.send(DiskNote::Tasks(vec![task]));
                Ok(())
            }
            // As while it is opened again.
            Err(Error::Closed) => Ok(()),
            Err(error @ (Error::Rot { .. } | Error::Hole { .. } | Error::Lost { .. })) => {
                self.mail.doubt(&error);
                Ok(())
            }
            // Else the driver would wait for it for good, and the peer with it.
            Err(error) => self.mail.leave(Note::DiskFailed(error)),
        };
        if let Some(next) = next.filter(|_| tasks.is_empty()) {
            self.read_ahead(&reader, &next, view.openings);
        }
    }

    /// What was read ahead, if that is what is asked for now. It is let go of in any case.
    fn taken_ahead(&mut self, task: &Task, opening: u64) -> Option<Done> {
        let ahead = self.ahead.take()?;
        let Task::ReadLog { to, from, bytes_max } = *task else { return None };
        let Done::LogRead { group, .. } = &ahead.done else { return None };
        let is_it = (to, from, opening) == (ahead.to, ahead.from, ahead.opening) && group.bytes <= bytes_max;
        is_it.then_some(ahead.done)
    }

    fn read_ahead(&mut self, reader: &StoreReader, next: &Task, opening: u64) {
        let Task::ReadLog { to, from, .. } = *next else { return };
        // An error is met again by whoever really asks.
        self.ahead = read(reader, next).ok().map(|done| Ahead { to, from, opening, done });
    }
}

/// What a peer that catches up asks for after this.
fn next_of(task: &Task, done: &Done) -> Option<Task> {
    let (Task::ReadLog { to, bytes_max, .. }, Done::LogRead { group, .. }) = (task, done) else {
        return None;
    };
    Some(Task::ReadLog { to: *to, from: group.range.last.next(), bytes_max: *bytes_max })
}
