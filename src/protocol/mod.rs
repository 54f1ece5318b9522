//! The replication protocol: primary-backup with epochs, as a machine without input or output of its own.
//!
//! A [`Replica`] is told what has happened ([`Replica::handle`]), says what is to be done ([`Replica::poll`]) and when
//! it wants to be called again ([`Replica::next_deadline`]). It never reads a clock, a file, a socket or a random
//! source; it sees LSNs, epochs and sizes, and never the bytes of a record. The rules S0 to S12 that comments name are
//! stated in `docs/protocol.md`, with the messages and the flows.
//!
//! May import `types`, `error` and `sync`. Must never wait, and never panic on what comes from a peer.

mod config;
mod effect;
mod group;
mod health;
mod history;
mod input;
mod membership;
mod message;
mod producers;
mod random;
mod refusal;
mod replica;
pub mod request;
mod rules;
mod state;
mod time;
pub mod wire;

pub use config::{Config, ConfigError, FailoverPolicy, Limits, Start, Timing};
pub use effect::{Effect, Halt, Outcome};
pub use group::{Content, Group, Span, Spans};
pub use health::{Health, LOST_BASE};
pub use history::{EpochHistory, EpochStart, Position};
pub use input::{Change, Input, Proposal};
pub use membership::{Electorate, Member, Membership, Quorums, Voter};
pub use message::{Contents, Envelope, Message, ProbeReply, SnapshotId, SnapshotOffer};
pub use producers::{Known, Producer, Producers};
pub use refusal::{Refusal, Refusals};
pub use replica::{PeerStatus, Replica, Role, Stage, Status};
pub use rules::{Rule, Rules};
pub use state::{Base, Meta, Staged, State};
pub use time::Time;
