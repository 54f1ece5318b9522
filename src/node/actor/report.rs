//! How the replica is.

use std::time::Duration;

use super::{Node, Store};
use crate::protocol::Health;
use crate::protocol::request::{DiskHealth, NodeStatus, PeerLag};
use crate::types::ReplicaId;

impl Node {
    pub(super) fn status(&self) -> NodeStatus {
        let status = self.driver.status();
        let lag = |peer: &crate::protocol::PeerStatus| PeerLag {
            id: peer.member.id,
            stage: peer.stage,
            durable: peer.durable,
            in_flight_bytes: peer.in_flight_bytes,
        };
        NodeStatus {
            cluster: self.config.cluster,
            id: self.me.id,
            disk: self.me.disk,
            role: status.role,
            epoch: status.epoch,
            primary: status.primary,
            first: status.first,
            last: status.last.lsn,
            durable: status.durable,
            committed: self.commit,
            applied: if self.upkeep.has_machine { self.ways.applied.lsn() } else { self.upkeep.shown },
            snapshot: self.upkeep.newest,
            membership: self.driver.replica().membership().cloned(),
            addresses: self.addresses(),
            peers: status.peers.iter().map(lag).collect(),
            disk_health: self.disk_health(),
            uptime: self.origin.elapsed(),
        }
    }

    /// Where all replicas are found that are known, this one too.
    fn addresses(&self) -> Vec<(ReplicaId, String)> {
        let mut addresses = self.peers.addresses.clone();
        addresses.extend(self.address.clone().map(|address| (self.me.id, address)));
        addresses.into_iter().collect()
    }

    pub(super) fn disk_health(&self) -> DiskHealth {
        let stalled =
            self.ways.pulse.busy_for() >= self.config.timing.disk_stall_max.max(Duration::from_millis(1));
        match self.store {
            Store::Failed { .. } | Store::Gone => DiskHealth::Failed,
            _ if stalled => DiskHealth::Stalled,
            Store::Opening => DiskHealth::Failed,
            Store::Open if matches!(self.driver.replica().health(), Health::Damaged(_)) => {
                DiskHealth::Damaged
            }
            Store::Open => DiskHealth::Good,
        }
    }
}
