//! The scrubbing thread: reads every frame of the sealed segments now and then, no faster than allowed, because opening the
//! log does not read them. What it finds damaged is doubted like what somebody could not read (S11).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::error::Result;
use super::mail::{Mail, Witness};
use super::observe;
use super::shown::Shown;
use super::store::StoreReader;
use crate::error::Error;
use crate::segment::Pace;
use crate::types::Lsn;

/// Whoever has just been started has better things to do, and so have those who bring it up to date.
const BEGIN_AFTER: Duration = Duration::from_secs(10);
/// Passes begin at least this far apart: a small log is not read all the time.
const PASSES_APART: Duration = Duration::from_secs(3600);
/// While the store is opened again, it is looked for so often.
const LOOK: Duration = Duration::from_secs(1);

/// The scrubbing thread, from within.
struct Scrubber {
    shown: Arc<Shown>,
    mail: Arc<Mail>,
    pace: Pace,
    /// Ends when the other end is dropped.
    ends: Receiver<()>,
    /// Where damage was found last in this pass: what a repair leaves as it is, is told once in each.
    told: Option<(Arc<str>, Lsn)>,
}

/// Starts the thread, which ends when what is returned is dropped.
pub(crate) fn spawn(
    shown: Arc<Shown>,
    mail: Arc<Mail>,
    (bytes_per_s, is_simulated): (u64, bool),
) -> Result<(Sender<()>, JoinHandle<()>)> {
    let (goes_on, ends) = bounded(0);
    let begin_after = if is_simulated { Duration::ZERO } else { BEGIN_AFTER };
    let mut scrubber = Scrubber { shown, mail, pace: Pace::new(bytes_per_s), ends, told: None };
    let thread = thread::Builder::new()
        .name("annals-scrub".to_owned())
        .spawn(move || {
            let _witness = Witness { thread: "scrub", mail: Arc::clone(&scrubber.mail) };
            let _ = scrubber.run(begin_after);
        })
        .map_err(|source| Error::io("start a thread for", "", source))?;
    Ok((goes_on, thread))
}

impl Scrubber {
    /// Breaks when it is to end.
    fn run(&mut self, begin_after: Duration) -> ControlFlow<()> {
        sleep_until(&self.ends, Instant::now() + begin_after)?;
        loop {
            let begun = Instant::now();
            self.pass()?;
            sleep_until(&self.ends, begun + PASSES_APART)?;
        }
    }

    /// Reads all sealed segments, oldest first.
    fn pass(&mut self) -> ControlFlow<()> {
        let mut after = Lsn::ZERO;
        self.told = None;
        // A log may grow as fast as it is read.
        let mut end = None;
        loop {
            let Some(reader) = self.shown.view().reader else {
                sleep_until(&self.ends, Instant::now() + LOOK)?;
                continue;
            };
            if after >= *end.get_or_insert_with(|| reader.last()) {
                return ControlFlow::Continue(());
            }
            let looked = self.look_through(&reader, after).or_else(|error| self.go_on(&reader, after, error));
            match looked {
                Ok(Some(last)) => after = last,
                Ok(None) => return ControlFlow::Continue(()),
                Err(Error::Closed) => sleep_until(&self.ends, Instant::now() + LOOK)?,
                Err(_) => return ControlFlow::Break(()),
            }
        }
    }

    /// Tells the node of what is damaged. Whatever else is the matter with one segment is told, too, and may have passed by
    /// the next pass; this one goes on behind it.
    ///
    /// # Errors
    /// If there is no going on.
    fn go_on(&mut self, reader: &StoreReader, after: Lsn, error: Error) -> Result<Option<Lsn>, Error> {
        match error {
            Error::TimedOut | Error::Closed => Err(error),
            Error::Rot { ref file, first, last, .. } | Error::Hole { ref file, first, last } => {
                let place = Some((Arc::clone(file), first));
                if self.told != place {
                    self.mail.doubt(&error);
                }
                self.told = place;
                Ok(Some(last))
            }
            error => {
                observe::scrub_postponed(&error);
                reader.sealed_end(after)
            }
        }
    }

    fn look_through(&mut self, reader: &StoreReader, after: Lsn) -> Result<Option<Lsn>, Error> {
        let Scrubber { pace, ends, .. } = self;
        reader.scrub(after, &mut |bytes| sleep_until(ends, pace.spend(bytes, Instant::now())))
    }
}

/// Sleeps until then; breaks if it is to end.
fn sleep_until(ends: &Receiver<()>, until: Instant) -> ControlFlow<()> {
    match ends.recv_deadline(until) {
        Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use bytes::Bytes;
    use crossbeam::channel::Receiver;

    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::{Fail, Fault, Operation, SimDisk};
    use crate::node::frames::frame_group;
    use crate::node::mail::Note;
    use crate::node::place::Bell;
    use crate::node::store::{ReplicaStore, StoreOptions};
    use crate::protocol::{Base, Content, Group, Member};
    use crate::types::{DiskId, Epoch, LsnRange, ReplicaId};

    /// A log of several small segments.
    fn filled(disk: &SimDisk) -> ReplicaStore {
        let member = Member { id: ReplicaId::new(1), disk: DiskId::new(1) };
        ReplicaStore::create(disk, member, &Base::default()).unwrap();
        let options = StoreOptions { segment_bytes: 32 << 10, cache_bytes: 0, ..StoreOptions::default() };
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut store = ReplicaStore::open(&disk, options).unwrap().0.unwrap();
        for lsn in (1..100).map(Lsn::new) {
            let range = LsnRange { first: lsn, last: lsn };
            let mut group = Group { epoch: Epoch::new(1), range, bytes: 0, content: Content::PLAIN };
            let frames = Bytes::from(frame_group(&group, &[[7; 1000]]));
            group.bytes = frames.len() as u64;
            store.write_all([(group, frames)]).unwrap();
        }
        store
    }

    fn scrubber(store: &ReplicaStore) -> (Scrubber, Receiver<Note>, Sender<()>) {
        let (shown, (mail, notes), (goes_on, ends)) = (Shown::new(), Mail::new(Bell::new(|| {})), bounded(0));
        shown.reopened(Some(store.reader()));
        (Scrubber { shown, mail, pace: Pace::new(u64::MAX), ends, told: None }, notes, goes_on)
    }

    fn segments(disk: &SimDisk) -> Vec<String> {
        disk.list()
            .unwrap()
            .into_iter()
            .filter(|name| name.ends_with(".seg") && name.starts_with('0'))
            .collect()
    }

    /// A pass ended there, without a word, and nobody looked at what comes after.
    #[test]
    fn a_segment_that_cannot_be_opened_keeps_nobody_from_looking_at_the_others() {
        let disk = SimDisk::new(1);
        let store = filled(&disk);
        let names = segments(&disk);
        assert!(names.len() > 3, "{names:?}");
        disk.fail(Fail::nth(Operation::Open, 1, Fault::Io).on(&names[0]).and_later());
        disk.flip_bit(&names[1], 9000, 3);
        disk.flip_bit(&names[2], 9000, 3);
        let (mut scrubber, notes, _goes_on) = scrubber(&store);
        assert_eq!(scrubber.pass(), ControlFlow::Continue(()));
        let doubts: Vec<Note> = notes.try_iter().collect();
        let named = |doubt: &Note| match doubt {
            Note::Doubt(Error::Rot { file, .. }) => file.to_string(),
            _ => panic!("it is damage"),
        };
        let files: Vec<String> = doubts.iter().map(named).collect();
        assert_eq!(files, names[1..3], "and damage keeps nobody from it either");
    }

    /// Segments of less than a window cost nothing: a log of them was read as fast as the disk goes.
    #[test]
    fn every_byte_is_paid_for_however_small_the_segments_are() {
        let disk = SimDisk::new(2);
        let store = filled(&disk);
        let sealed = segments(&disk).len() as u64 - 1;
        let (mut after, mut paid) = (Lsn::ZERO, 0);
        let mut pay = |bytes| {
            paid += bytes;
            ControlFlow::Continue(())
        };
        while let Some(last) = store.reader().scrub(after, &mut pay).unwrap() {
            after = last;
        }
        assert!(paid >= after.get() * 1000 && paid < sealed * (32 << 10), "{paid} for {after}");
    }
}
