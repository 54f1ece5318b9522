//! The feeding thread: reads what peers lack, so that neither the network nor the disk's own thread waits for it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::ahead::Ahead;
use super::disk::DiskNote;
use super::driver::{Done, Task, read};
use super::error::Result;
use super::mail::{Mail, Note, Witness};
use super::shown::Shown;
use crate::error::Error;

/// The feeding thread, from within.
struct Feeder {
    shown: Arc<Shown>,
    disk: Sender<DiskNote>,
    mail: Arc<Mail>,
    ahead: Ahead,
}

/// Starts the thread: it carries out tasks that only read, and ends when nobody can ask it any more.
pub(crate) fn spawn(
    shown: Arc<Shown>,
    disk: Sender<DiskNote>,
    mail: Arc<Mail>,
) -> Result<(Sender<Task>, JoinHandle<()>)> {
    let failed = |source| Error::io("start a thread for", "", source);
    let (sender, receiver) = unbounded();
    let ahead = Ahead::start(&mail).map_err(failed)?;
    let mut feeder = Feeder { shown, disk, mail, ahead };
    let thread = thread::Builder::new()
        .name("annals-feed".to_owned())
        .spawn(move || {
            let _witness = Witness { thread: "feed", mail: Arc::clone(&feeder.mail) };
            feeder.run(&receiver);
        })
        .map_err(failed)?;
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
        let done = match self.ahead.take(&task, view.openings) {
            Some(done) => Ok(done),
            None => read(&reader, &task),
        };
        let fed = match &done {
            Ok(Done::LogRead { group, .. }) => Some(group.range.last),
            _ => None,
        };
        // Without a node, or a disk's thread, everything is about to end.
        let _ = match done {
            Ok(done) => self.mail.leave(Note::Done(vec![done])),
            // It is on its way to the disk: there it is read after it was written, or not at all.
            Err(Error::BeyondEnd { .. }) => {
                let _ = self.disk.send(DiskNote::Tasks(vec![task.clone()]));
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
        // Not while somebody else waits, with whom nobody knows who comes next.
        if let Some(last) = fed.filter(|_| tasks.is_empty()) {
            self.ahead.go_on(&reader, (&task, last), view.openings);
        }
    }
}
