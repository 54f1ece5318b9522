//! What replicas say that are none: for tests of the client.

use std::time::Duration;

use crate::protocol::Role;
use crate::protocol::request::{DiskHealth, NodeStatus, Reply};
use crate::types::{ClusterId, DiskId, Epoch, Lsn, ReplicaId};

/// The status of a replica of three, as it is while this one leads.
pub(super) fn status_of(id: u64, primary: u64) -> Reply {
    Reply::Status(Box::new(NodeStatus {
        cluster: ClusterId::new(1),
        id: ReplicaId::new(id),
        disk: DiskId::new(1),
        role: if id == primary { Role::Primary } else { Role::Backup },
        epoch: Epoch::new(primary),
        primary: Some(ReplicaId::new(primary)),
        first: Lsn::FIRST,
        last: Lsn::ZERO,
        durable: Lsn::ZERO,
        committed: Lsn::ZERO,
        applied: Lsn::ZERO,
        snapshot: Lsn::ZERO,
        membership: None,
        addresses: (1..=3).map(|id| (ReplicaId::new(id), format!("replica-{id}:1"))).collect(),
        peers: vec![],
        disk_health: DiskHealth::Good,
        uptime: Duration::ZERO,
    }))
}
