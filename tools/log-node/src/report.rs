//! What a replica says of itself, for programs: the JSON of `status --json` and of the status page.

use annals::protocol::request::{NodeStatus, PeerLag};
use annals::protocol::{Electorate, Quorums};
use serde::Serialize;

/// One replica.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct ReplicaReport {
    pub(crate) id: u64,
    pub(crate) role: &'static str,
    pub(crate) epoch: u64,
    /// Who leads, as far as it knows.
    pub(crate) primary: Option<u64>,
    pub(crate) first: u64,
    pub(crate) appended: u64,
    pub(crate) durable: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) snapshot: u64,
    pub(crate) disk: &'static str,
    pub(crate) uptime_s: f64,
    pub(crate) cluster: String,
    pub(crate) disk_id: String,
    /// The generation of the membership that it knows; 0 for none.
    pub(crate) generation: u64,
    pub(crate) members: Vec<MemberReport>,
    /// Who decides: while the voters or their quorums change, also those from before, and both must agree to everything.
    pub(crate) electorates: Vec<ElectorateReport>,
    /// On the primary: how far the others have come.
    pub(crate) peers: Vec<PeerReport>,
}

/// Voters, and how many of them it takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ElectorateReport {
    pub(crate) voters: Vec<u64>,
    /// Synced copies that commit a record.
    pub(crate) write_quorum: usize,
    /// Votes that make a primary.
    pub(crate) election_quorum: usize,
    /// Whether both are a majority of however many voters there are.
    pub(crate) is_majority: bool,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct MemberReport {
    pub(crate) id: u64,
    /// The disk that takes part: with another one its replica is another one.
    pub(crate) disk_id: String,
    pub(crate) votes: bool,
    /// With `policy = "priority"`, the voter with the greatest leads; 0 for learners.
    pub(crate) priority: u8,
    pub(crate) address: Option<String>,
}

/// How far one of the others has come, as the primary sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct PeerReport {
    pub(crate) id: u64,
    pub(crate) stage: &'static str,
    pub(crate) durable: u64,
    /// Records that the primary has and it has not, as far as known.
    pub(crate) lag: u64,
    pub(crate) in_flight_bytes: u64,
}

impl ReplicaReport {
    /// What this status says.
    pub(crate) fn of(status: &NodeStatus) -> ReplicaReport {
        ReplicaReport {
            id: status.id.get(),
            role: status.role.as_str(),
            epoch: status.epoch.get(),
            primary: status.primary.map(annals::ReplicaId::get),
            first: status.first.get(),
            appended: status.last.get(),
            durable: status.durable.get(),
            committed: status.committed.get(),
            applied: status.applied.get(),
            snapshot: status.snapshot.get(),
            disk: status.disk_health.as_str(),
            uptime_s: status.uptime.as_secs_f64(),
            cluster: status.cluster.to_string(),
            disk_id: status.disk.to_string(),
            generation: status.membership.as_ref().map_or(0, |membership| membership.generation),
            members: members(status),
            electorates: electorates(status),
            peers: status.peers.iter().map(|peer| PeerReport::of(peer, status.last.get())).collect(),
        }
    }

    /// What is not as it should be with it, whoever leads.
    pub(crate) fn complaint(&self) -> Option<String> {
        let role = matches!(self.role, "recovering" | "halted").then(|| format!("it is {}", self.role));
        let disk = (self.disk != "good").then(|| format!("its disk is {}", self.disk));
        let parts: Vec<String> = role.into_iter().chain(disk).collect();
        (!parts.is_empty()).then(|| format!("replica {}: {}", self.id, parts.join(", and ")))
    }
}

impl ElectorateReport {
    fn of(electorate: &Electorate) -> ElectorateReport {
        ElectorateReport {
            voters: electorate.voters.iter().map(|voter| voter.member.id.get()).collect(),
            write_quorum: electorate.write_quorum(),
            election_quorum: electorate.election_quorum(),
            is_majority: electorate.quorums == Quorums::Majority,
        }
    }

    /// How many of them may be lost at a time, so that the others elect a primary and commit.
    pub(crate) fn spare(&self) -> usize {
        self.voters.len().saturating_sub(self.write_quorum.max(self.election_quorum))
    }
}

impl PeerReport {
    fn of(peer: &PeerLag, last: u64) -> PeerReport {
        PeerReport {
            id: peer.id.get(),
            stage: peer.stage.as_str(),
            durable: peer.durable.get(),
            lag: last.saturating_sub(peer.durable.get()),
            in_flight_bytes: peer.in_flight_bytes,
        }
    }
}

fn members(status: &NodeStatus) -> Vec<MemberReport> {
    let Some(membership) = &status.membership else { return Vec::new() };
    let mut members: Vec<MemberReport> = membership
        .members()
        .map(|member| {
            let address = status.addresses.iter().find(|(known, _)| *known == member.id);
            let address = address.map(|(_, address)| address.clone());
            let (votes, priority) = (membership.votes(member), membership.priority(member));
            let disk_id = member.disk.to_string();
            MemberReport { id: member.id.get(), disk_id, votes, priority, address }
        })
        .collect();
    members.sort_by_key(|member| member.id);
    // Who votes before and after a change comes twice.
    members.dedup_by_key(|member| member.id);
    members
}

fn electorates(status: &NodeStatus) -> Vec<ElectorateReport> {
    let Some(membership) = &status.membership else { return Vec::new() };
    let electorates = std::iter::once(&membership.electorate).chain(&membership.outgoing);
    electorates.map(ElectorateReport::of).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use annals::protocol::request::DiskHealth;
    use annals::protocol::{Member, Membership, Role, Stage, Voter};
    use annals::{ClusterId, DiskId, Epoch, Lsn, ReplicaId};

    use super::*;

    fn voters(ids: impl IntoIterator<Item = u64>) -> Vec<Voter> {
        let member = |id| Member { id: ReplicaId::new(id), disk: DiskId::new(u128::from(id)) };
        ids.into_iter().map(|id| Voter { member: member(id), priority: 0 }).collect()
    }

    /// Five voters, of whom two commit and four elect.
    pub(crate) fn five() -> Membership {
        Membership::first(voters(1..=5), Quorums::Fixed { write: 2, election: 4 })
    }

    /// The same five, on the way from being three: 1, 2 and 6.
    pub(crate) fn joint() -> Membership {
        let outgoing = Electorate { voters: voters([1, 2, 6]), quorums: Quorums::Majority };
        Membership { generation: 2, outgoing: Some(outgoing), ..five() }
    }

    /// What a replica of a cluster with other members says.
    pub(crate) fn among(id: u64, membership: Membership) -> ReplicaReport {
        ReplicaReport::of(&NodeStatus { membership: Some(membership), ..made_up(id) })
    }

    /// A replica of a made-up cluster of three, of which replica 2 is primary and 3 lags.
    pub(crate) fn made_up(id: u64) -> NodeStatus {
        let replica = ReplicaId::new;
        let peer = |id, stage, durable, in_flight_bytes| PeerLag {
            id: replica(id),
            stage,
            durable: Lsn::new(durable),
            in_flight_bytes,
        };
        let peers = match id {
            2 => vec![peer(1, Stage::Streaming, 1200, 512), peer(3, Stage::CatchingUp, 700, 1 << 20)],
            _ => vec![],
        };
        NodeStatus {
            cluster: ClusterId::new(0xabc),
            id: replica(id),
            disk: DiskId::new(u128::from(id)),
            role: if id == 2 { Role::Primary } else { Role::Backup },
            epoch: Epoch::new(7),
            primary: Some(replica(2)),
            first: Lsn::new(1),
            last: Lsn::new(if id == 3 { 700 } else { 1201 }),
            durable: Lsn::new(if id == 3 { 700 } else { 1200 }),
            committed: Lsn::new(if id == 3 { 690 } else { 1200 }),
            applied: Lsn::new(if id == 3 { 690 } else { 1200 }),
            snapshot: Lsn::new(if id == 1 { 1100 } else { 0 }),
            membership: Some(Membership::first(voters(1..=3), Quorums::Majority)),
            addresses: (1..=3).map(|id| (replica(id), format!("127.0.0.1:{}", 7100 + id))).collect(),
            peers,
            disk_health: DiskHealth::Good,
            uptime: Duration::from_secs(90),
        }
    }

    #[test]
    fn a_report_says_what_the_status_says() {
        let report = ReplicaReport::of(&made_up(2));
        assert_eq!((report.id, report.role, report.epoch, report.primary), (2, "primary", 7, Some(2)));
        assert_eq!((report.appended, report.durable, report.committed), (1201, 1200, 1200));
        assert_eq!(
            report.peers[1],
            PeerReport { id: 3, stage: "catching up", durable: 700, lag: 501, in_flight_bytes: 1 << 20 }
        );
        assert_eq!(report.members.len(), 3);
        assert_eq!(report.members[0].address.as_deref(), Some("127.0.0.1:7101"));
        assert_eq!(report.complaint(), None);
    }

    #[test]
    fn while_the_voters_change_those_from_before_decide_too() {
        let report = among(1, joint());
        assert_eq!(report.electorates[0].voters, [1, 2, 3, 4, 5]);
        assert_eq!((report.electorates[0].write_quorum, report.electorates[0].election_quorum), (2, 4));
        assert_eq!(report.electorates[1].voters, [1, 2, 6]);
        assert_eq!((report.electorates[1].write_quorum, report.electorates[1].election_quorum), (2, 2));
        let votes = report.members.iter().map(|member| (member.id, member.votes)).collect::<Vec<_>>();
        assert_eq!(votes, (1..=6).map(|id| (id, true)).collect::<Vec<_>>());
    }

    #[test]
    fn who_has_halted_or_has_a_sick_disk_is_told() {
        let sick = NodeStatus { disk_health: DiskHealth::Stalled, ..made_up(1) };
        let halted = NodeStatus { role: Role::Halted, ..made_up(1) };
        let both = NodeStatus { disk_health: DiskHealth::Damaged, role: Role::Recovering, ..made_up(1) };
        for (status, told) in [
            (sick, "replica 1: its disk is stalled"),
            (halted, "replica 1: it is halted"),
            (both, "replica 1: it is recovering, and its disk is damaged"),
        ] {
            assert_eq!(ReplicaReport::of(&status).complaint().as_deref(), Some(told));
        }
    }
}
