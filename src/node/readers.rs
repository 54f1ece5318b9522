//! The readers' thread: serves clients that read and subscribe, off the network thread, and only what is committed.
//!
//! A subscription has at most one part on its way to the node, and a client at most one large answer. The next one is read
//! when the node says that it was handed to the network and that the client keeps up, so that neither credit nor a slow
//! client can fill the memory. Clients are served in turn: see `desks.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, unbounded};

use super::desks::{Desks, Job, Turn, Wanted};
use super::error::{ReplicaError, Result};
use super::mail::{Asker, Mail, Note, Witness};
use super::reading::{READ_BYTES, RECORDS_AT_ONCE, read_records};
use super::shown::{Shown, View};
use super::subscription::Record;
use crate::error::Error;
use crate::protocol::request::{RecordHead, Refused, Reply};
use crate::transport::SessionId;
use crate::types::{Lsn, LsnRange};

/// Bytes that one `Read` or `Frames` is answered with, at most, whatever it asks for.
const REPLY_BYTES_MAX: u32 = 4 << 20;
/// An answer is large from so many bytes on. As many smaller ones as a client may ask for at a time are let through.
const LARGE_BYTES: u64 = 64 << 10;

/// What the readers' thread is told.
pub(crate) enum ReadNote {
    /// More may be shown.
    More,
    /// Read once.
    Read(Job),
    /// A client subscribes.
    Subscribe {
        /// What it is called.
        key: Key,
        /// Which of those that are called so, one after the other.
        life: u64,
        /// The first record.
        from: Lsn,
        /// So many bytes may be sent.
        credit: u64,
    },
    /// So many bytes more may be sent.
    Credit {
        /// To whom.
        key: Key,
        /// How many.
        bytes: u64,
    },
    /// What was read last for this one, a subscription or a large answer, is on its way.
    Delivered(Key),
    /// No more of this one.
    Unsubscribe(Key),
    /// No more of this connection.
    Closed(SessionId),
}

/// What a client has asked for: the connection, and the number of the request.
pub(crate) type Key = (SessionId, u64);

struct Subscriber {
    life: u64,
    next: Lsn,
    credit: u64,
    /// What was sent beyond the credit: a frame is not cut. Credit to come pays for it first.
    debt: u64,
    /// A part is on its way to the node.
    is_waiting: bool,
    /// It waits for its turn.
    is_ready: bool,
}

impl Subscriber {
    /// Whether there is something for it now that there was not before: everything up to `through` is shown.
    const fn becomes_ready(&mut self, through: Lsn) -> bool {
        let is_idle = !self.is_waiting && !self.is_ready;
        let is_news = is_idle && self.credit > 0 && self.next.get() <= through.get();
        self.is_ready |= is_news;
        is_news
    }

    fn spend(&mut self, bytes: u64) {
        self.debt = self.debt.saturating_add(bytes.saturating_sub(self.credit));
        self.credit = self.credit.saturating_sub(bytes);
    }

    fn give(&mut self, bytes: u64) {
        let paid = bytes.min(self.debt);
        self.debt -= paid;
        self.credit = self.credit.saturating_add(bytes - paid);
    }
}

/// Whether anybody has subscribed.
#[derive(Debug, Default)]
pub(crate) struct Audience(AtomicUsize);

impl Audience {
    pub(crate) fn is_there(&self) -> bool {
        // Relaxed: whoever subscribes is counted before it looks at what is shown, and what is shown moves before this is
        // asked; the lock of what is shown puts the two in an order, and either way it is seen.
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// The readers' thread, from within.
pub(crate) struct Readers {
    audience: Arc<Audience>,
    shown: Arc<Shown>,
    mail: Arc<Mail>,
    subscribers: BTreeMap<Key, Subscriber>,
    desks: Desks,
    /// More is shown than when the subscriptions were last looked at.
    is_more: bool,
}

impl Readers {
    pub(crate) fn new(shown: Arc<Shown>, mail: Arc<Mail>) -> Readers {
        Readers {
            audience: Arc::default(),
            shown,
            mail,
            subscribers: BTreeMap::new(),
            desks: Desks::default(),
            is_more: false,
        }
    }

    pub(crate) fn audience(&self) -> Arc<Audience> {
        Arc::clone(&self.audience)
    }

    /// Starts the thread. It ends when nobody can tell it anything any more.
    pub(crate) fn spawn(mut self) -> Result<(Sender<ReadNote>, JoinHandle<()>)> {
        let (sender, receiver) = unbounded();
        let thread = thread::Builder::new()
            .name("annals-read".to_owned())
            .spawn(move || {
                let _witness = Witness { thread: "read", mail: Arc::clone(&self.mail) };
                self.run(&receiver);
            })
            .map_err(|source| Error::io("start a thread for", "", source))?;
        Ok((sender, thread))
    }

    fn run(&mut self, notes: &Receiver<ReadNote>) {
        while let Ok(note) = notes.recv() {
            self.take(note);
            loop {
                notes.try_iter().for_each(|note| self.take(note));
                // Once for all that was shown meanwhile: with many subscriptions a look takes its time.
                if std::mem::take(&mut self.is_more) {
                    self.look_at_all();
                }
                match self.desks.next() {
                    Some(Turn::Job(job)) => self.read(job),
                    Some(Turn::Feed(key)) => self.feed(key),
                    None => break,
                }
            }
        }
    }

    fn take(&mut self, note: ReadNote) {
        match note {
            ReadNote::More => self.is_more = true,
            ReadNote::Read(job) => self.desks.add(job),
            ReadNote::Subscribe { key, life, from, credit } => {
                let next = from.max(Lsn::FIRST);
                let new = Subscriber { life, next, credit, debt: 0, is_waiting: false, is_ready: false };
                self.subscribers.insert(key, new);
                // Before it is looked at what is shown: see `Audience`.
                self.count();
                self.look_at(key);
            }
            ReadNote::Credit { key, bytes } => {
                if let Some(subscriber) = self.subscribers.get_mut(&key) {
                    subscriber.give(bytes);
                    self.look_at(key);
                }
            }
            ReadNote::Delivered(key) => {
                self.desks.delivered(key);
                if let Some(subscriber) = self.subscribers.get_mut(&key) {
                    subscriber.is_waiting = false;
                    self.look_at(key);
                }
            }
            ReadNote::Unsubscribe(key) => drop(self.subscribers.remove(&key)),
            ReadNote::Closed(session) => {
                self.desks.close(session);
                self.subscribers.retain(|(of, _), _| *of != session);
            }
        }
        self.count();
    }

    fn count(&self) {
        self.audience.0.store(self.subscribers.len(), Ordering::Relaxed);
    }

    fn look_at_all(&mut self) {
        let through = self.shown.view().through;
        for (key, subscriber) in &mut self.subscribers {
            if subscriber.becomes_ready(through) {
                self.desks.feed(*key);
            }
        }
    }

    fn look_at(&mut self, key: Key) {
        let through = self.shown.view().through;
        if self.subscribers.get_mut(&key).is_some_and(|subscriber| subscriber.becomes_ready(through)) {
            self.desks.feed(key);
        }
    }

    /// Reads a part of a subscription.
    fn feed(&mut self, key: Key) {
        let view = self.shown.view();
        // It may have ended since, and another one begun under its number.
        let Some(subscriber) = self.subscribers.get_mut(&key).filter(|one| one.is_ready) else { return };
        subscriber.is_ready = false;
        let (life, bytes_max) = (subscriber.life, subscriber.credit.min(READ_BYTES));
        let read = match &view.reader {
            Some(reader) => read_records((reader, &self.mail), subscriber.next, view.through, bytes_max),
            // It is opened again: then there is a note.
            None => return,
        };
        match read {
            Ok((_, next)) if next == subscriber.next => {}
            Ok((records, next)) => {
                let (reply, pieces) = records_reply(records, next, view.through);
                let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
                subscriber.next = next;
                subscriber.spend(bytes);
                // What held only records of the protocol's own is told too, so that the client knows where it is.
                subscriber.is_waiting = true;
                self.leave(Note::Part { key, life, reply, pieces });
            }
            // It is about to be opened again; then there is a note.
            Err(ReplicaError::Log(Error::Closed)) => {}
            Err(error) => {
                self.subscribers.remove(&key);
                let reply = Reply::Refused(Readers::refused(error));
                self.leave(Note::Part { key, life, reply, pieces: vec![] });
            }
        }
    }

    /// Reads once.
    fn read(&mut self, job: Job) {
        let Job { asker, wanted, bytes_max } = job;
        let bytes_max = u64::from(bytes_max.clamp(1, REPLY_BYTES_MAX));
        let read = match wanted {
            Wanted::Records(from) => self.records(from, bytes_max),
            Wanted::Frames(range) => self.frames(range, bytes_max),
        };
        let (reply, pieces) = match read {
            Ok(read) => read,
            Err(error) => {
                let reply = Reply::Refused(Readers::refused(error));
                return self.leave(Note::Answer { asker, reply, pieces: vec![], is_large: false });
            }
        };
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let large = match asker {
            Asker::Client { session, number } if bytes >= LARGE_BYTES => Some((session, number)),
            _ => None,
        };
        if let Some(key) = large {
            self.desks.wait_for(key);
        }
        self.leave(Note::Answer { asker, reply, pieces, is_large: large.is_some() });
    }

    fn records(&self, from: Lsn, bytes_max: u64) -> Result<(Reply, Vec<Bytes>)> {
        let View { through, reader, .. } = self.shown.view();
        let reader = reader.ok_or(Refused::Busy)?;
        let (records, next) = read_records((&reader, &self.mail), from.max(Lsn::FIRST), through, bytes_max)?;
        Ok(records_reply(records, next, through))
    }

    fn frames(&self, range: LsnRange, bytes_max: u64) -> Result<(Reply, Vec<Bytes>)> {
        let View { through, reader, .. } = self.shown.view();
        let reader = reader.ok_or(Refused::Busy)?;
        let committed = LsnRange::new(range.first.max(Lsn::FIRST), range.last.min(through));
        let range = committed.ok_or_else(|| Refused::NotPossible {
            reason: format!("the records are not committed here; the newest that is, is {through}"),
        })?;
        let read = reader.read_range(range, bytes_max).inspect_err(|error| self.mail.doubt(error))?;
        let (group, frames) = read.ok_or_else(|| Refused::Trimmed { first: reader.first() })?;
        Ok((Reply::Frames { range: group.range }, vec![frames]))
    }

    /// What a client is told of an error.
    fn refused(error: ReplicaError) -> Refused {
        match error {
            ReplicaError::Refused(refused) => refused,
            ReplicaError::Log(Error::Closed) => Refused::Busy,
            ReplicaError::Log(error) => {
                let reason = format!("the records cannot be read here: {error}; ask another replica");
                Refused::NotPossible { reason }
            }
            other => Refused::NotPossible { reason: other.to_string() },
        }
    }

    fn leave(&self, note: Note) {
        // Without a node there is nobody to tell.
        let _ = self.mail.leave(note);
    }
}

fn records_reply(records: Vec<Record>, next: Lsn, committed: Lsn) -> (Reply, Vec<Bytes>) {
    debug_assert!(records.len() <= RECORDS_AT_ONCE, "a reply that can be encoded");
    let head = |record: &Record| RecordHead {
        lsn: record.lsn,
        epoch: record.epoch,
        bytes: u32::try_from(record.bytes.len()).expect("a record has 32 bits of bytes"),
    };
    let heads = records.iter().map(head).collect();
    let pieces = records.into_iter().map(|record| record.bytes).collect();
    (Reply::Records { records: heads, next, committed }, pieces)
}
