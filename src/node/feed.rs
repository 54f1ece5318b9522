//! The feeding thread: reads what peers lack, so that neither the network nor the disk's own thread waits for it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::disk::DiskNote;
use super::driver::{Task, read};
use super::error::Result;
use super::mail::{Mail, Note, Witness};
use super::shown::Shown;
use crate::error::Error;

/// The feeding thread, from within.
struct Feeder {
    shown: Arc<Shown>,
    disk: Sender<DiskNote>,
    mail: Arc<Mail>,
}

/// Starts the thread: it carries out tasks that only read, and ends when nobody can ask it any more.
pub(crate) fn spawn(
    shown: Arc<Shown>,
    disk: Sender<DiskNote>,
    mail: Arc<Mail>,
) -> Result<(Sender<Task>, JoinHandle<()>)> {
    let (sender, receiver) = unbounded();
    let feeder = Feeder { shown, disk, mail };
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
    fn run(&self, tasks: &Receiver<Task>) {
        for task in tasks {
            self.feed(task);
        }
    }

    fn feed(&self, task: Task) {
        // While the store is opened again there is nobody to feed: the driver will be another one.
        let Some(reader) = self.shown.view().reader else { return };
        // Without a node, or a disk's thread, everything is about to end.
        let _ = match read(&reader, &task) {
            Ok(done) => self.mail.leave(Note::Done(vec![done])),
            // It is on its way to the disk: there it is read after it was written, or not at all.
            Err(Error::BeyondEnd { .. }) => {
                let _ = self.disk.send(DiskNote::Tasks(vec![task]));
                Ok(())
            }
            // As while it is opened again.
            Err(Error::Closed) => Ok(()),
            Err(error @ (Error::Rot { .. } | Error::Hole { .. } | Error::Lost { .. })) => {
                self.mail.leave(Note::Doubt(error))
            }
            // Else the driver would wait for it for good, and the peer with it.
            Err(error) => self.mail.leave(Note::DiskFailed(error)),
        };
    }
}
