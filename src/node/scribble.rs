//! Snapshots are written on a thread of their own, at a bounded rate, so that neither appends nor applying wait for them.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::disk::DiskNote;
use super::error::Result;
use super::machine::Frozen;
use super::mail::{Mail, Note};
use super::store::SnapshotWriter;
use crate::error::Error;
use crate::protocol::Base;

/// Writes snapshots, one at a time: the node asks for no other before one is done.
pub(crate) struct Scribbler {
    disk: Sender<DiskNote>,
    mail: Arc<Mail>,
    bytes_per_s: Option<u64>,
    /// What is written ends when this is dropped.
    goes_on: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scribbler {
    pub(crate) fn new(disk: Sender<DiskNote>, mail: Arc<Mail>, bytes_per_s: Option<u64>) -> Scribbler {
        Scribbler { disk, mail, bytes_per_s, goes_on: None, thread: None }
    }

    /// Writes the state as of `base`, and tells the node what came of it.
    pub(crate) fn write(&mut self, base: Arc<Base>, frozen: Frozen) {
        if let Some(before) = self.thread.take() {
            let _ = before.join();
        }
        let (goes_on, ends) = bounded(0);
        self.goes_on = Some(goes_on);
        let (disk, mail) = (self.disk.clone(), Arc::clone(&self.mail));
        let pace = Pace { bytes_per_s: self.bytes_per_s, ends };
        let theirs = Arc::clone(&base);
        let spawned = thread::Builder::new().name("annals-snapshot".to_owned()).spawn(move || {
            let outcome = write(&disk, &theirs, frozen, &pace);
            if let Err(error) = outcome {
                let _ =
                    mail.leave(Note::Snapshot { base: Box::new(Base::clone(&theirs)), outcome: Err(error) });
            }
        });
        match spawned {
            Ok(thread) => self.thread = Some(thread),
            Err(source) => {
                let outcome = Err(Error::io("start a thread for", "", source).into());
                let _ = self.mail.leave(Note::Snapshot { base: Box::new(Base::clone(&base)), outcome });
            }
        }
    }

    /// Ends what is being written, and waits until it has ended.
    pub(crate) fn end(&mut self) {
        self.goes_on = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Pace {
    bytes_per_s: Option<u64>,
    /// Disconnected once it is to end.
    ends: Receiver<()>,
}

/// Has the disk's thread begin the snapshot, writes it here, and gives it back to be made the newest one.
fn write(disk: &Sender<DiskNote>, base: &Arc<Base>, frozen: Frozen, pace: &Pace) -> Result<()> {
    let (to, begun) = bounded(1);
    let ended = |_| Error::Closed;
    disk.send(DiskNote::BeginSnapshot { base: Arc::clone(base), to }).map_err(|_| Error::Closed)?;
    let (writer, life) = begun.recv().map_err(ended)??;
    let mut paced = Paced { writer, pace, started: Instant::now(), bytes: 0 };
    frozen(&mut paced).map_err(|source| Error::io("write", "snapshot", source))?;
    let taken = Box::new(paced.writer.finish()?);
    let base = Arc::clone(base);
    disk.send(DiskNote::KeepSnapshot { base, taken, life }).map_err(|_| Error::Closed)?;
    Ok(())
}

/// Counts and slows down.
struct Paced<'a> {
    writer: SnapshotWriter,
    pace: &'a Pace,
    started: Instant,
    bytes: u64,
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait()?;
        let written = self.writer.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Paced<'_> {
    /// Until it is time for more.
    fn wait(&self) -> io::Result<()> {
        let ended = || io::Error::new(io::ErrorKind::ConnectionAborted, "the replica is ending");
        if self.pace.ends.try_recv() == Err(TryRecvError::Disconnected) {
            return Err(ended());
        }
        let Some(rate) = self.pace.bytes_per_s else { return Ok(()) };
        let due = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
        let early = due.saturating_sub(self.started.elapsed());
        match self.pace.ends.recv_timeout(early) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(ended()),
        }
    }
}
