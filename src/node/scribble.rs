//! Snapshots are written on a thread of their own, at a bounded rate, so that neither appends nor applying wait for them.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::disk::DiskNote;
use super::error::Result;
use super::machine::Frozen;
use super::mail::{Mail, Note, Witness};
use crate::error::Error;
use crate::protocol::Base;

/// What the thread is called that writes a snapshot when it has panicked.
pub(crate) const SNAPSHOT: &str = "snapshot";

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
        let bytes_per_s = self.bytes_per_s;
        let theirs = Arc::clone(&base);
        let spawned = thread::Builder::new().name("annals-snapshot".to_owned()).spawn(move || {
            let _witness = Witness { thread: SNAPSHOT, mail: Arc::clone(&mail) };
            let outcome = write(&disk, &theirs, frozen, (bytes_per_s, ends));
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

/// Has the disk's thread begin the snapshot, writes it here, and gives it back to be made the newest one.
fn write(
    disk: &Sender<DiskNote>,
    base: &Arc<Base>,
    frozen: Frozen,
    (bytes_per_s, ends): (Option<u64>, Receiver<()>),
) -> Result<()> {
    let (to, begun) = bounded(1);
    let ended = |_| Error::Closed;
    disk.send(DiskNote::BeginSnapshot { base: Arc::clone(base), to }).map_err(|_| Error::Closed)?;
    let (writer, life) = begun.recv().map_err(ended)??;
    let watch = Wall { started: Instant::now(), ends };
    let mut paced = Paced { writer, watch, bytes_per_s, bytes: 0 };
    frozen(&mut paced).map_err(|source| Error::io("write", "snapshot", source))?;
    let taken = Box::new(paced.writer.finish()?);
    let base = Arc::clone(base);
    disk.send(DiskNote::KeepSnapshot { base, taken, life }).map_err(|_| Error::Closed)?;
    Ok(())
}

/// Counts and slows down.
struct Paced<W, T> {
    writer: W,
    watch: T,
    bytes_per_s: Option<u64>,
    bytes: u64,
}

impl<W: Write, T: Watch> Write for Paced<W, T> {
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

impl<W, T: Watch> Paced<W, T> {
    /// Until it is time for more.
    fn wait(&self) -> io::Result<()> {
        let due = self.bytes_per_s.map_or(0.0, |rate| self.bytes as f64 / rate as f64);
        let early = Duration::from_secs_f64(due).saturating_sub(self.watch.elapsed());
        match self.watch.pass(early) {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the replica is ending")),
        }
    }
}

/// The time that a snapshot may take.
trait Watch {
    /// Since it was begun.
    fn elapsed(&self) -> Duration;

    /// Lets so much time pass, none too; `false`, and at once, when what is written is to end.
    fn pass(&self, time: Duration) -> bool;
}

struct Wall {
    started: Instant,
    /// Disconnected once it is to end.
    ends: Receiver<()>,
}

impl Watch for Wall {
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn pass(&self, time: Duration) -> bool {
        self.ends.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Time passes only when it is let pass, and ends.
    struct Still {
        now: Cell<Duration>,
        end: Duration,
        passed: RefCell<Vec<Duration>>,
    }

    impl Still {
        fn until(end: Duration) -> Still {
            Still { now: Cell::default(), end, passed: RefCell::default() }
        }
    }

    impl Watch for &Still {
        fn elapsed(&self) -> Duration {
            self.now.get()
        }

        fn pass(&self, time: Duration) -> bool {
            self.passed.borrow_mut().push(time);
            let then = self.now.get() + time;
            self.now.set(then.min(self.end));
            then <= self.end
        }
    }

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_snapshot_with_a_rate_takes_as_long_as_its_bytes_do() {
        let still = Still::until(Duration::MAX);
        let mut paced = Paced { writer: vec![], watch: &still, bytes_per_s: Some(2000), bytes: 0 };
        paced.write_all(&[7; 3000]).unwrap();
        paced.write_all(&[7; 500]).unwrap();
        // The disk was busy for so long: that counts.
        still.now.set(still.now.get() + MS(150));
        paced.write_all(&[7; 1]).unwrap();
        // And for longer than the bytes are due.
        still.now.set(still.now.get() + MS(60_000));
        paced.write_all(&[7; 1]).unwrap();
        assert_eq!(*still.passed.borrow(), [MS(0), MS(1500), MS(100), MS(0)]);
        assert_eq!(paced.writer.len(), 3502);
    }

    #[test]
    fn a_snapshot_without_a_rate_waits_for_nothing() {
        let still = Still::until(Duration::MAX);
        let mut paced = Paced { writer: vec![], watch: &still, bytes_per_s: None, bytes: 0 };
        (0..3).for_each(|_| paced.write_all(&[7; 3000]).unwrap());
        assert_eq!(*still.passed.borrow(), [MS(0); 3]);
    }

    #[test]
    fn what_is_written_ends_in_the_midst_of_a_wait_and_writes_no_more() {
        let still = Still::until(MS(500));
        let mut paced = Paced { writer: vec![], watch: &still, bytes_per_s: Some(1000), bytes: 0 };
        paced.write_all(&[7; 1000]).unwrap();
        let ended = paced.write_all(&[7; 1]).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(paced.writer.len(), 1000);
    }

    #[test]
    fn a_wait_is_over_at_once_when_the_replica_ends() {
        // Nothing here takes so long, however busy the machine is.
        let (long, day) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
        let (goes_on, ends) = bounded::<()>(0);
        let (tell, told) = bounded(1);
        let wall = Wall { started: Instant::now(), ends };
        assert!(wall.pass(Duration::ZERO), "it goes on");
        let thread = thread::spawn(move || {
            tell.send(wall.pass(day)).unwrap();
            // With nothing to wait for it is told as well.
            tell.send(wall.pass(Duration::ZERO)).unwrap();
        });
        drop(goes_on);
        assert_eq!(told.recv_timeout(long), Ok(false));
        assert_eq!(told.recv_timeout(long), Ok(false));
        thread.join().unwrap();
    }
}
