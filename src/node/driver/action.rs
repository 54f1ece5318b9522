//! What a driver is told, and what it wants done.

use std::sync::Arc;

use bytes::Bytes;

use super::task::Task;
use crate::node::records::Records;
use crate::protocol::request::{Appended, Copies};
use crate::protocol::{Change, Envelope, Halt, Outcome, Role};
use crate::transport::Lane;
use crate::types::{Epoch, Lsn, LsnRange, ProducerId, ReplicaId};

/// Records that a client wants to append; they live or die together.
#[derive(Clone, Debug)]
pub struct Append {
    /// The caller's own number, which the answer bears.
    pub token: u64,
    /// The producer, and its number of the first of the records.
    pub producer: Option<(ProducerId, u64)>,
    /// What to wait for.
    pub copies: Copies,
    /// The records.
    pub records: Records,
}

/// What a driver is told that has nothing to do with bytes. Answers bear the token, which is the caller's own number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A client wants to number its appends. Answered by [`Action::Resolve`]; the LSN is the producer's id.
    Register {
        /// The caller's own number.
        token: u64,
    },
    /// A client wants to read what is committed now (S8). Answered by [`Action::ReadReady`] or [`Action::ReadFailed`]; by
    /// [`Action::Resolve`] if too many wait.
    Read {
        /// The caller's own number.
        token: u64,
    },
    /// An operator changes the membership. Answered by [`Action::Resolve`].
    Change {
        /// The caller's own number.
        token: u64,
        /// How.
        change: Change,
    },
    /// The primary's role is to be handed over. Answered by [`Action::Resolve`].
    Transfer {
        /// The caller's own number.
        token: u64,
        /// To whom; `None` for whoever has most.
        to: Option<ReplicaId>,
    },
    /// An operator wants this replica to stand for election now. Answered by [`Action::Resolve`].
    Promote {
        /// The caller's own number.
        token: u64,
    },
    /// The transport has lost the connection to a peer.
    PeerLost {
        /// Whose.
        id: ReplicaId,
    },
    /// A task has failed: nothing is known of the disk until the store is opened again (S12).
    DiskFailed,
}

/// Something to be done, in the order in which it comes.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Carry this out on the disk, in order with the other tasks, and say what has come of it: see [`Task`].
    Disk(Task),
    /// Send a message, with the bytes that travel beside it. To lose it is allowed.
    Send {
        /// Which way.
        lane: Lane,
        /// The message.
        envelope: Envelope,
        /// Nothing for most messages.
        payload: Bytes,
    },
    /// An append is as durable as was asked.
    Appended {
        /// The append's own number.
        token: u64,
        /// Where it is, and who has it.
        placed: Placed,
    },
    /// The answer to anything else that has a token, and to an append that was not taken or is unknown.
    Resolve {
        /// The caller's own number.
        token: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The linearizable read sees everything up to here, once that is applied.
    ReadReady {
        /// The caller's own number.
        token: u64,
        /// What it sees.
        lsn: Lsn,
    },
    /// The read cannot be answered here.
    ReadFailed {
        /// The caller's own number.
        token: u64,
        /// Who leads, as far as known.
        primary: Option<ReplicaId>,
    },
    /// Everything up to here is committed: may be shown to readers and applied.
    Committed(Lsn),
    /// The role, the epoch or the primary has changed.
    Became {
        /// What this replica is now.
        role: Role,
        /// In this epoch.
        epoch: Epoch,
        /// Who leads, if known.
        primary: Option<ReplicaId>,
    },
    /// The log must keep everything after this record for peers that catch up; `None`: nothing for them.
    Pin(Option<Lsn>),
    /// What was lost is back (S11): once all tasks are done, and the note of the damage is removed if nothing is damaged
    /// any more, open the store again and recover another driver from it.
    Reopen {
        /// Whether nothing is damaged any more.
        is_whole: bool,
    },
    /// This replica does nothing any more. After [`Halt::DiskFailed`], open the store again and recover another driver.
    Halt(Halt),
}

/// Where an append landed, and who has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The records; `None` for a retry of what was taken too long ago for that to be known.
    pub range: Option<LsnRange>,
    /// The epoch of this primary, in which a retry may find records of an older one.
    pub epoch: Epoch,
    /// Who is known to have them synced, in order of their ids.
    pub holders: Arc<[ReplicaId]>,
    /// Whether they are committed: with [`Copies::Local`] they may not be yet, and a failover can lose them.
    pub is_committed: bool,
    /// Whether they were there already: this was a retry.
    pub is_duplicate: bool,
}

impl From<Placed> for Appended {
    fn from(placed: Placed) -> Appended {
        let Placed { range, epoch, holders, is_committed, is_duplicate } = placed;
        Appended { range, epoch, holders: holders.to_vec(), is_committed, is_duplicate }
    }
}
