//! The cluster as this node sees it: who leads, in which epoch, and how far each node has come.
//!
//! Each node is asked by a task of its own, ten times in a second, whoever looks: so one that is silent makes nobody
//! wait, and a thousand who look cost the cluster no more than one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annals::Lsn;
use annals::client::{Client, Target};
use annals::node::Replica;
use annals::protocol::request::NodeStatus;
use annals::protocol::{Role, Stage};
use parking_lot::Mutex;
use serde::Serialize;

use crate::settings::{Place, Settings, name};

/// From one look at a node to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After so long without an answer, a node is silent. Elections take less, and so does one lost packet.
const SILENT_AFTER: Duration = Duration::from_millis(700);

/// What this node knows of all.
pub(crate) struct Watch {
    me: u64,
    policy: String,
    nodes: Vec<Place>,
    answers: Mutex<Vec<Option<Answer>>>,
}

/// What a node has said last.
#[derive(Clone)]
struct Answer {
    status: NodeStatus,
    at: Instant,
}

/// The same, as it counts now.
struct Heard {
    status: NodeStatus,
    /// It was too long ago to say how things stand there.
    is_silent: bool,
}

/// The whole cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct View {
    /// Who says this.
    me: String,
    /// Who takes over, as this node was told.
    policy: String,
    /// Who leads, if anybody is known to.
    primary: Option<String>,
    /// The newest epoch that anybody has heard of.
    epoch: u64,
    nodes: Vec<NodeView>,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct NodeView {
    name: String,
    /// Where it serves users.
    http: SocketAddr,
    /// `primary`, `backup`, `candidate`, `learner`, `recovering`, `halted`, or `silent`.
    role: &'static str,
    epoch: Option<u64>,
    /// The newest record that is known to be synced there.
    durable: Option<u64>,
    /// Everything up to here is committed, as far as it knows.
    committed: Option<u64>,
    /// Everything up to here is in its accounts.
    applied: Option<u64>,
    /// How many records it has less than the primary; unknown without one.
    lag: Option<u64>,
    /// How it gets its records from the primary.
    getting: Option<&'static str>,
    up_s: Option<u64>,
}

impl Watch {
    /// Looks at all nodes from now on, with this node's own replica and a client for the others.
    pub(crate) fn start(settings: &Settings, replica: &Replica, client: &Client) -> Arc<Watch> {
        let nodes = settings.nodes.clone();
        let watch = Arc::new(Watch {
            me: settings.id,
            policy: settings.policy.to_string(),
            answers: Mutex::new(vec![None; nodes.len()]),
            nodes,
        });
        for index in 0..watch.nodes.len() {
            let (watch, replica, client) = (Arc::clone(&watch), replica.clone(), client.clone());
            tokio::spawn(async move { watch.look_at(index, replica, client).await });
        }
        watch
    }

    /// What is known now.
    pub(crate) fn view(&self) -> View {
        let now = Instant::now();
        let answers = self.answers.lock().clone();
        let heard = |answer: Answer| Heard {
            is_silent: now.duration_since(answer.at) > SILENT_AFTER,
            status: answer.status,
        };
        let heard: Vec<Option<Heard>> = answers.into_iter().map(|answer| answer.map(heard)).collect();
        self.view_of(&heard)
    }

    fn view_of(&self, heard: &[Option<Heard>]) -> View {
        let known = || heard.iter().flatten().filter(|heard| !heard.is_silent).map(|heard| &heard.status);
        let epoch = known().map(|status| status.epoch).max();
        // A primary that was deposed does not know it yet: only the newest epoch's counts.
        let leads = |status: &&NodeStatus| status.role == Role::Primary && Some(status.epoch) == epoch;
        let primary = known().find(leads);
        let nodes = self.nodes.iter().zip(heard);
        View {
            me: name(self.me),
            policy: self.policy.clone(),
            primary: primary.map(|primary| name(primary.id.get())),
            epoch: epoch.map_or(0, |epoch| epoch.get()),
            nodes: nodes.map(|(node, heard)| node_view(*node, heard.as_ref(), primary)).collect(),
        }
    }

    /// Asks one node again and again.
    async fn look_at(&self, index: usize, replica: Replica, client: Client) {
        let place = self.nodes[index];
        loop {
            let status = if place.id == self.me {
                match replica.status_ticket() {
                    Ok(status) => status.await.ok(),
                    Err(_) => return,
                }
            } else {
                // The client gives up at its deadline, and whoever is silent is asked again.
                client.status(Target::At(place.replica.to_string())).await.ok()
            };
            if let Some(status) = status {
                self.answers.lock()[index] = Some(Answer { status, at: Instant::now() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn node_view(place: Place, heard: Option<&Heard>, primary: Option<&NodeStatus>) -> NodeView {
    let peers = primary.map_or(&[][..], |primary| &primary.peers);
    let peer = peers.iter().find(|peer| peer.id.get() == place.id);
    let now = heard.filter(|heard| !heard.is_silent).map(|heard| &heard.status);
    // What a silent one has synced it still has: it may have more, and is told with what it said last.
    let durable = heard.map(|heard| heard.status.durable);
    let behind = |durable: Lsn| primary.map(|primary| primary.last.get().saturating_sub(durable.get()));
    NodeView {
        name: name(place.id),
        http: place.http,
        role: now.map_or("silent", |status| status.role.as_str()),
        epoch: now.map(|status| status.epoch.get()),
        durable: durable.map(Lsn::get),
        committed: now.map(|status| status.committed.get()),
        applied: now.map(|status| status.applied.get()),
        lag: durable.and_then(behind),
        getting: peer.filter(|_| now.is_some()).map(|peer| stage(peer.stage)),
        up_s: now.map(|status| status.uptime.as_secs()),
    }
}

/// What a node gets, in the words of the page.
const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Probing => "comparing",
        Stage::Snapshot => "a snapshot",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use annals::protocol::request::{DiskHealth, PeerLag};
    use annals::{ClusterId, DiskId, Epoch, ReplicaId};

    use super::*;

    fn heard(id: u64, role: Role, epoch: u64, durable: u64) -> Option<Heard> {
        let lsn = Lsn::new(durable);
        let peer = |id| PeerLag {
            id: ReplicaId::new(id),
            stage: Stage::Streaming,
            durable: lsn,
            in_flight_bytes: 0,
        };
        let status = NodeStatus {
            cluster: ClusterId::new(1),
            id: ReplicaId::new(id),
            disk: DiskId::new(1),
            role,
            epoch: Epoch::new(epoch),
            primary: None,
            first: Lsn::FIRST,
            last: lsn,
            durable: lsn,
            committed: lsn,
            applied: lsn,
            snapshot: Lsn::ZERO,
            membership: None,
            addresses: vec![],
            peers: (1..=3).filter(|other| *other != id).map(peer).collect(),
            disk_health: DiskHealth::Good,
            uptime: Duration::from_secs(9),
        };
        Some(Heard { status, is_silent: false })
    }

    fn silent(heard: Option<Heard>) -> Option<Heard> {
        heard.map(|heard| Heard { is_silent: true, ..heard })
    }

    fn view(heard: &[Option<Heard>]) -> View {
        let address = "127.0.0.1:1".parse().unwrap();
        let nodes = (1..=3).map(|id| Place { id, replica: address, http: address }).collect();
        let answers = Mutex::new(vec![]);
        Watch { me: 2, policy: "automatic".to_owned(), nodes, answers }.view_of(heard)
    }

    #[test]
    fn a_silent_node_is_shown_with_what_it_said_last() {
        let seen = view(&[
            silent(heard(1, Role::Primary, 4, 10)),
            heard(2, Role::Primary, 5, 13),
            heard(3, Role::Backup, 5, 12),
        ]);
        assert_eq!((seen.primary.as_deref(), seen.epoch), (Some("N02"), 5));
        let [one, two, three] = &seen.nodes[..] else { panic!("three nodes") };
        assert_eq!((one.role, one.durable, one.lag, one.getting), ("silent", Some(10), Some(3), None));
        assert_eq!((two.role, two.lag), ("primary", Some(0)));
        assert_eq!((three.role, three.lag, three.getting), ("backup", Some(1), Some("streaming")));
    }

    #[test]
    fn a_deposed_primary_that_does_not_know_it_yet_does_not_lead() {
        let seen = view(&[heard(1, Role::Primary, 4, 10), heard(2, Role::Backup, 5, 10), None]);
        assert_eq!((seen.primary, seen.epoch), (None, 5));
        assert_eq!(seen.nodes[0].lag, None);
        assert_eq!((seen.nodes[2].role, seen.nodes[2].durable), ("silent", None));
    }
}
