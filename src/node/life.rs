//! What a running replica consists of, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{Sender, bounded};
use parking_lot::Mutex;

use super::disk::DiskNote;
use super::error::{ReplicaError, Result};
use super::mail::{Mail, Note};
use super::place::Running;
use super::shown::Shown;
use super::ticket::{Promise, promise};
use crate::error::Error;
use crate::protocol::Member;
use crate::protocol::request::{Refused, Request};

/// A running replica: its way to the node, and its threads. Ends it when it is dropped.
pub(crate) struct Life {
    pub(crate) me: Member,
    pub(crate) shown: Arc<Shown>,
    pub(crate) mail: Arc<Mail>,
    /// How long a hand-over may take at the end.
    pub(crate) transfer_max: Duration,
    /// The threads get so long to end; a disk that stands still has them stay.
    pub(crate) close_max: Duration,
    /// Whether it was told to shut down: from then on nothing is taken here that the node may not answer any more.
    pub(crate) is_ending: AtomicBool,
    /// `None` once it has ended.
    pub(crate) body: Mutex<Option<Body>>,
}

/// What has to end.
pub(crate) struct Body {
    /// The network thread, which owns the node. With the node, the channels to the readers and to the applying thread
    /// end, and so do they.
    pub(crate) running: Box<dyn Running>,
    pub(crate) others: Vec<JoinHandle<()>>,
    /// While it is here, the scrubbing thread goes on, if there is one.
    pub(crate) scrub: Option<Sender<()>>,
    /// The disk's thread, which has to be told.
    pub(crate) disk: (Sender<DiskNote>, JoinHandle<Result<(), Error>>),
}

impl Life {
    /// Leaves a request for the node.
    pub(crate) fn ask(&self, request: Request, payload: Bytes, promise: Promise) -> Result<()> {
        // Relaxed: it guards nothing else. Who has not seen it appends at the same time as this replica ends.
        if request.appends() && self.is_ending.load(Ordering::Relaxed) {
            return Err(Refused::NotPrimary { primary: None }.into());
        }
        self.mail.leave(Note::Ask { request, payload, promise })
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.body.lock().as_ref().and_then(|body| body.running.local_addr())
    }

    pub(crate) fn reload_certificates(&self) -> Result<()> {
        self.body.lock().as_ref().ok_or(ReplicaError::Closed)?.running.reload_certificates()
    }

    /// Hands over if this replica leads, and ends.
    pub(crate) fn shut_down(&self) -> Result<()> {
        let (ticket, promise) = promise(|_| Ok(()));
        self.is_ending.store(true, Ordering::Relaxed);
        if self.mail.leave(Note::ShutDown { promise }).is_ok() {
            // Whatever comes of it: the others notice soon that this replica is gone.
            let _ = ticket.wait_timeout(self.transfer_max);
        }
        self.end()
    }

    /// Ends, without a word to the others.
    fn end(&self) -> Result<()> {
        let Some(body) = self.body.lock().take() else { return Ok(()) };
        body.running.end();
        self.shown.close();
        drop(body.scrub);
        let (closed, wait) = bounded(1);
        let (others, (to_disk, disk)) = (body.others, body.disk);
        // On a thread of its own: whoever ends a replica need not wait for a disk that stands still.
        let reaping = thread::Builder::new().name("annals-end".to_owned()).spawn(move || {
            for other in others {
                // Its panic was said on standard error, and nothing of it is left.
                let _ = other.join();
            }
            // It has ended by itself only if it has panicked, which the join tells.
            let _ = to_disk.send(DiskNote::End);
            let _ = closed.send(disk.join().unwrap_or(Err(Error::Poisoned)));
        });
        reaping.map_err(|source| Error::io("start a thread for", "", source))?;
        Ok(wait.recv_timeout(self.close_max).map_err(|_| ReplicaError::TimedOut)??)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Errors at the end are told by `shut_down`.
        let _ = self.end();
    }
}
