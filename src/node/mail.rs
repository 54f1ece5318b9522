//! What other threads leave for the node, until its next turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, unbounded};

use super::driver::Done;
use super::error::{ReplicaError, Result};
use super::place::Bell;
use super::readers::Key;
use super::store::StoreReader;
use super::ticket::Promise;
use crate::error::Error;
use crate::protocol::request::{Reply, Request};
use crate::protocol::{Base, Contents, State};
use crate::transport::SessionId;
use crate::types::Lsn;

/// What is left for the node.
pub(crate) enum Note {
    /// Somebody in this process asks.
    Ask {
        /// What.
        request: Request,
        /// The bytes of its records.
        payload: Bytes,
        /// Where the answer goes.
        promise: Promise,
    },
    /// This replica is about to end: the role is to be handed over, and nothing is taken any more.
    ShutDown {
        /// Where the answer to the hand-over goes.
        promise: Promise,
    },
    /// Somebody in this process waits until so much is applied.
    AwaitApplied {
        /// Everything up to and with this record.
        through: Lsn,
        /// Where the answer goes.
        promise: Promise,
    },
    /// The disk has done what it was asked to.
    Done(Vec<Done>),
    /// A task has failed, and the store was dropped (S12).
    DiskFailed(Error),
    /// The store was opened again; `None` if the directory holds none any more.
    Opened(Result<Option<Box<(State, StoreReader)>>, Error>),
    /// A snapshot was written and is kept, or was not.
    Snapshot {
        /// What it goes with.
        base: Box<Base>,
        /// Bytes of the application's part, or why there is none.
        outcome: Result<Contents>,
    },
    /// What was to be read once was read, or why not.
    Answer {
        /// Who has asked.
        asker: Asker,
        /// The answer.
        reply: Reply,
        /// The bytes beside it.
        pieces: Vec<Bytes>,
        /// Whether the readers wait to hear that it is on its way.
        is_large: bool,
    },
    /// A part of a subscription, of which the readers wait to hear that it is on its way; or why it has ended.
    Part {
        /// What the subscription is called.
        key: Key,
        /// Which of those that were called so, one after the other.
        life: u64,
        /// The part.
        reply: Reply,
        /// The bytes beside it.
        pieces: Vec<Bytes>,
    },
    /// A thread has panicked.
    Died {
        /// Which.
        thread: &'static str,
    },
    /// Records could not be read that should be there (S11).
    Doubt(Error),
}

/// Whoever waits for an answer.
pub(crate) enum Asker {
    /// A client, with the number of its request.
    Client {
        /// Its connection.
        session: SessionId,
        /// The number of its request.
        number: u64,
    },
    /// Somebody in this process.
    Local(Promise),
}

/// The way to the node. One for all of its threads and handles.
pub(crate) struct Mail {
    sender: Sender<Note>,
    bell: Bell,
    is_rung: AtomicBool,
}

impl Mail {
    /// The way, and where it ends.
    pub(crate) fn new(bell: Bell) -> (Arc<Mail>, Receiver<Note>) {
        let (sender, receiver) = unbounded();
        (Arc::new(Mail { sender, bell, is_rung: AtomicBool::new(false) }), receiver)
    }

    /// Leaves a note, and calls for a turn.
    ///
    /// # Errors
    /// [`ReplicaError::Closed`] if there is no node any more.
    pub(crate) fn leave(&self, note: Note) -> Result<()> {
        self.sender.send(note).map_err(|_| ReplicaError::Closed)?;
        // AcqRel: pairs with the swap in `answered`. Either that one sees this note, or this one rings.
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
        Ok(())
    }

    /// Tells the node if it is damage that somebody has met who reads the log (S11): whoever that is.
    pub(crate) fn doubt(&self, error: &Error) {
        if matches!(error, Error::Rot { .. } | Error::Hole { .. }) {
            // Without a node nothing is read any more.
            let _ = self.leave(Note::Doubt(error.clone()));
        }
    }

    /// The turn is here: whoever leaves a note from now on rings again. Look at the notes after this.
    pub(crate) fn answered(&self) {
        self.is_rung.swap(false, Ordering::AcqRel);
    }
}

/// Tells the node if the thread that owns it panics.
pub(crate) struct Witness {
    pub(crate) thread: &'static str,
    pub(crate) mail: Arc<Mail>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.mail.leave(Note::Died { thread: self.thread });
        }
    }
}
