//! What a replica says of itself.

use std::fmt;

use super::{Office, Replica};
use crate::protocol::health::Health;
use crate::protocol::history::Position;
use crate::protocol::membership::{Member, Membership};
use crate::types::{Epoch, LogIncarnation, Lsn, ReplicaId};

/// What a replica is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Takes appends and sends them to the others.
    Primary,
    /// Receives, and votes.
    Backup,
    /// Stands for election.
    Candidate,
    /// Receives, and never votes.
    Learner,
    /// Is damaged or blank: neither votes nor leads nor counts until it has been made whole (S11).
    Recovering,
    /// Does nothing any more.
    Halted,
}

impl Role {
    /// The role's word, as everything that is told to people has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Backup => "backup",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Recovering => "recovering",
            Role::Halted => "halted",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far a primary has come with one of the others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// The primary does not know its log yet.
    Probing,
    /// Its records are read from the primary's log.
    CatchingUp,
    /// It gets each group as it is appended.
    Streaming,
    /// It receives a snapshot.
    Snapshot,
    /// It gets back what it has lost.
    Mending,
}

impl Stage {
    /// The stage's words, as everything that is told to people has them.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Probing => "probing",
            Stage::CatchingUp => "catching up",
            Stage::Streaming => "streaming",
            Stage::Snapshot => "snapshot",
            Stage::Mending => "mending",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a primary knows of one of the others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerStatus {
    /// Which.
    pub member: Member,
    /// How far they have come.
    pub stage: Stage,
    /// The newest record that is synced there, as far as acknowledged.
    pub durable: Lsn,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: u64,
}

/// What a replica is and knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// The newest epoch that it has heard of.
    pub epoch: Epoch,
    /// Who leads in that epoch, as far as known.
    pub primary: Option<ReplicaId>,
    /// The oldest record that its log has, or would have.
    pub first: Lsn,
    /// Its newest record, synced or not.
    pub last: Position,
    /// The newest that is synced.
    pub durable: Lsn,
    /// Everything up to here is known to be committed.
    pub commit: Lsn,
    /// The life of its log.
    pub incarnation: LogIncarnation,
    /// The generation of the membership that it acts on.
    pub generation: u64,
    /// Whether something is lost.
    pub health: Health,
    /// On the primary: the others.
    pub peers: Vec<PeerStatus>,
}

impl Replica {
    /// What it is and knows now.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = match &self.office {
            Office::Primary(reign) => {
                reign.peers.iter().map(|peer| peer.status(self.ledger.last().lsn)).collect()
            }
            Office::Backup | Office::Candidate(_) => Vec::new(),
        };
        Status {
            role: self.role(),
            epoch: self.meta.epoch,
            primary: self.leader.map(|leader| leader.id),
            first: self.ledger.first(),
            last: self.ledger.last(),
            durable: self.ledger.durable,
            commit: self.ledger.commit,
            incarnation: self.ledger.incarnation,
            generation: self.ledger.membership().map_or(0, |membership| membership.generation),
            health: self.health.clone(),
            peers,
        }
    }

    /// The oldest record that its log has, or would have.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.ledger.first()
    }

    /// Whether something is lost (S11).
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// What it is now.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.office {
            _ if self.halted.is_some() => Role::Halted,
            _ if self.health != Health::Whole => Role::Recovering,
            Office::Primary(_) => Role::Primary,
            Office::Candidate(_) => Role::Candidate,
            Office::Backup if self.is_voter() => Role::Backup,
            Office::Backup => Role::Learner,
        }
    }

    /// Whether it was told to lead, with [`FailoverPolicy::Manual`](crate::protocol::FailoverPolicy::Manual), and nobody else
    /// since, as far as it knows: it goes on by itself, also [after its log was opened again](crate::protocol::Start::Chosen).
    #[must_use]
    pub const fn is_chosen(&self) -> bool {
        self.is_chosen
    }

    /// Everything up to here is known to be committed.
    #[must_use]
    pub const fn commit(&self) -> Lsn {
        self.ledger.commit
    }

    /// Who is known to have synced how much, this replica first; on a primary also the others, as far as their copies
    /// count.
    pub fn copies(&self) -> impl Iterator<Item = (Member, Lsn)> + '_ {
        let peers = match &self.office {
            Office::Primary(reign) => reign.peers.as_slice(),
            Office::Backup | Office::Candidate(_) => &[],
        };
        let own = (self.config.me, self.ledger.durable);
        std::iter::once(own).chain(peers.iter().map(|peer| (peer.member, peer.acked)))
    }

    /// Who takes part, as far as this replica knows: the newest membership in its log, committed or not.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.ledger.membership().map(|membership| &**membership)
    }
}
