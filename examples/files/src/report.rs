//! What a node says of itself.

use annals::protocol::Role;
use annals::protocol::request::NodeStatus;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::operation::OperationId;
use crate::state::{Finished, Unfinished};
use crate::store::View;

/// A node at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    /// Which node.
    pub node: u64,
    /// `leader`, `follower`, `candidate`, `learner`, `recovering` or `halted`.
    pub role: String,
    /// The reign that it knows of.
    pub epoch: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// The oldest record in its log.
    pub first: u64,
    /// The newest, synced or not.
    pub last: u64,
    /// The newest that is synced.
    pub durable: u64,
    /// The newest that is known to be committed.
    pub committed: u64,
    /// The newest that was applied.
    pub applied: u64,
    /// The newest that its snapshot covers.
    pub snapshot: u64,
    /// On the leader: who votes, and who receives the log, and how.
    pub peers: Vec<PeerReport>,
    /// How many files there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Puts under way.
    pub unfinished: u64,
    /// Of the serialized state.
    pub digest: Digest,
    /// Why the store does not go on, if so.
    pub trouble: Option<String>,
}

/// Another node, as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerReport {
    /// Which node.
    pub node: u64,
    /// Whether it gets each group of records as it is appended.
    pub streams: bool,
    /// Whether it votes.
    pub votes: bool,
}

/// What is known of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationReport {
    /// It is over.
    Finished(Finished),
    /// It is a put, and some of its chunks are there.
    Unfinished(Unfinished),
    /// Nothing: it never came, or is forgotten.
    Unheard,
}

/// A file in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// The put that has brought its contents.
    pub put: OperationId,
    /// How large it is.
    pub bytes: u64,
    /// In how many chunks.
    pub chunks: u64,
    /// Of its contents.
    pub digest: Digest,
    /// The record that has made it.
    pub lsn: u64,
}

impl NodeReport {
    /// What the replica and the store say.
    #[must_use]
    pub fn of(status: &NodeStatus, view: &View) -> NodeReport {
        let state = &view.state;
        NodeReport {
            node: status.id.get(),
            role: word(status.role).to_owned(),
            epoch: status.epoch.get(),
            leader: status.primary.map(annals::ReplicaId::get),
            first: status.first.get(),
            last: status.last.get(),
            durable: status.durable.get(),
            committed: status.committed.get(),
            applied: status.applied.get(),
            snapshot: status.snapshot.get(),
            peers: peers(status),
            files: state.files.len() as u64,
            bytes: state.files.values().map(|file| file.bytes).sum(),
            unfinished: state.unfinished.len() as u64,
            digest: state.digest(),
            trouble: view.trouble.clone(),
        }
    }
}

fn peers(status: &NodeStatus) -> Vec<PeerReport> {
    use annals::protocol::Stage;
    let votes = |id| {
        let membership = status.membership.as_ref();
        membership
            .is_some_and(|membership| membership.member(id).is_some_and(|member| membership.votes(member)))
    };
    let report = |peer: &annals::protocol::request::PeerLag| PeerReport {
        node: peer.id.get(),
        streams: peer.stage == Stage::Streaming,
        votes: votes(peer.id),
    };
    status.peers.iter().map(report).collect()
}

/// The word that most people know for a role.
const fn word(role: Role) -> &'static str {
    match role {
        Role::Primary => "leader",
        Role::Backup => "follower",
        other => other.as_str(),
    }
}
