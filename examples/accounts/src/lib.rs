//! A highly available registry of users: an annals replica inside of each node.
//!
//! Four nodes, each a process with a replica of one log, a state machine of accounts, and an HTTP port. What a user asks
//! of any node becomes a record of the log; what the record does is decided when it is applied, in the same way and the
//! same order on every node. So each node has all accounts, and any three of them go on when one is gone.
//!
//! ```sh
//! cargo run --release --example accounts -- demo    # the whole story, a kill of the primary included
//! cargo run --release --example accounts -- start   # four nodes and their page, until Ctrl-C
//! ```
//!
//! # The way of a request
//!
//! 1. **Arrive** (`http`). Any node takes it. It is counted against the limits of its sender and of the name it is about
//!    (`limits`), and read with bounds on everything.
//! 2. **Hash** (`password`). Argon2id runs on a few threads of its own: never in the log, never in the state machine, never
//!    on the threads that serve others. A name that nobody has costs the same work as one whose password
//!    was set at the cost of now.
//! 3. **Read** (`registry`). What is looked up has to be no older than the request. The node asks the primary up to where
//!    the log is committed, waits until it has applied that much itself, and answers from its own state.
//! 4. **Write** (`registry`). The command (`command`) is appended through the cluster's client, which finds the primary,
//!    follows it through a failover, and has each record taken once. The node then waits for its own state machine to
//!    apply the record, and answers with what came of it there. So a node needs to forward nothing: every one of them
//!    can write, and knows the outcome first hand.
//! 5. **Apply** (`machine`, `state`). Deterministic: no clock, no chance, nothing from outside of the record. That a name
//!    is free and that a password is still the one that was checked is decided here, so that two nodes that are asked at
//!    the same time cannot both say yes.
//!
//! # What is kept, and what is not
//!
//! The log and the snapshots hold names, Argon2id hashes with their salts, and the SHA-256 of session tokens. Passwords
//! and tokens are in no file. A session lasts as long as its record says; changing the password ends all others. A request
//! to register or to change a password carries a number of the client's own: asked again with the same number, after an
//! outcome that nobody knew, it is done once and answered as if nothing had happened.
//!
//! # What it leaves to others
//!
//! TLS to browsers belongs in a proxy before the nodes; then set `secure_cookie`, and `trusted_proxy` to a list of the
//! proxy's addresses, such as `["127.0.0.1"]`: each client is then counted by the address that the proxy adds last to
//! `X-Forwarded-For`. Without that all users behind it share the limits of one. From anybody else the header is ignored.
//!
//! Each node counts attempts by itself: four nodes let through four times as many. Wrong passwords from a dozen addresses
//! lock nobody out who comes from another. What remains: whoever asks from more, of IPv6 from more networks of 64 bits, can
//! keep a name from logging in for as long as that goes on, and so can one who shares an address with its user. Sessions
//! that are open go on meanwhile. Of a node's 512 connections one network can have 64, and none that another network is due:
//! when all are taken, whoever has most loses its oldest one to whoever has least. 512 networks together can still have all.
//!
//! The nodes' clocks have to agree: a session lasts by the clock of the node that has opened it, and is over by that of the
//! node that is asked. The hashes of old passwords are in the log until it is trimmed. Who changes `hash_memory_kib` or
//! `hash_passes` changes what new hashes cost; as long as there are accounts whose users have not logged in since, each attempt
//! costs a hash at the old cost, too. That a name is taken is told to whoever wants to register it.

mod cli;
mod cluster;
mod command;
mod demo;
mod error;
mod home;
mod http;
mod limits;
mod machine;
mod name;
mod node;
mod password;
mod registry;
mod run;
mod settings;
mod shards;
mod start;
mod state;
mod token;

pub use crate::demo::browser;
pub use crate::demo::cast;
pub use crate::home::{Costs, Home};
pub use crate::run::run;
