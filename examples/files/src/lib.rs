//! A small distributed file store: an annals replica inside of each node.
//!
//! Every change is a record of the log. A put is chunks, which nobody sees, and one record that makes a file of them; a
//! delete and a rename are one record each. Each node applies the records in their order to a [store] on its own
//! disk, so all nodes become the same. Whoever changes something is a [client] of the log, which takes each record
//! once, whatever happens to the primary. Whoever reads asks any [node].
//!
//! | | |
//! |---|---|
//! | [`record`] | what stands in the log |
//! | [`state`] | what follows from it: pure, and the same everywhere |
//! | [`store`] | the state and the contents on a node's disk; snapshots |
//! | [`node`] | a node's process |
//! | [`client`] | put, get, delete, rename |
//! | [`cli`] | the commands |
//! | [`demo`] | the story: a cluster, a large file, a killed primary, a newcomer |
//!
//! # Promises
//!
//! - **A put is all or nothing.** The commit names how many chunks there are and the digest of the contents; every node
//!   compares that with what it has, at the same record, and so decides the same.
//! - **A retry does it once.** A put has an id. Chunks that are there are left out, an operation that is over is left out
//!   and its outcome told: for the next 10,000 records, and a put's for as long as its file has the name it was put under.
//! - **What is given up goes everywhere at once.** A put of which no chunk has come for 10,000 records is dropped. Records
//!   are counted, not seconds: no clock decides what the state is.
//! - **Of two puts of one name the first commit wins**, and the second is told so; with `--replace` the last one does.
//! - **Wrong bytes are never handed out.** A node checks each chunk against its sum before it sends it, and whoever gets a
//!   file checks all of it against the digest before it has its name.
//!
//! # Limits
//!
//! It is an example. The state is held in memory (about 500 bytes for each file), contents are not. A snapshot is a copy of
//! all contents, so a node needs twice their room, and writes all of it each time. A node whose disk is full applies
//! nothing until there is room, and goes on by itself then; so a delete that comes behind a refused chunk waits, too: make
//! room by other means. The port for readers has neither users nor encryption. A name is told apart byte for byte.

pub mod cli;
pub mod client;
pub mod demo;
pub mod digest;
pub mod error;
pub mod home;
mod lifeline;
pub mod name;
pub mod node;
pub mod operation;
pub mod record;
pub mod report;
pub mod state;
pub mod store;
mod text;
