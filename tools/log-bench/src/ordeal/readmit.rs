//! The way back of a replica that has lost its disk, as docs/operations.md has it: removed, made anew, added.

use std::thread;
use std::time::{Duration, Instant};

use annals::client::{Client, ClientError, Target};
use annals::protocol::request::NodeStatus;
use annals::protocol::{Change, Member, Membership, Stage};

use crate::cluster::{Cluster, HANG, PAUSE};
use crate::error::{Error, Result};

/// Takes the replica out of the membership, and back in with a new disk. It is killed so long after it is sent what it
/// lacks, as often as there are `lives`, and started again.
pub(crate) fn readmit(
    cluster: &mut Cluster,
    client: &Client,
    index: usize,
    lives: &[Duration],
) -> Result<()> {
    let id = cluster.ids().nth(index).expect("it is one of these");
    let is_out = |status: &NodeStatus| settled(status).is_some_and(|members| members.member(id).is_none());
    change(cluster, client, Change::Remove(id), is_out)?;
    let disk = cluster.join_anew(index)?;
    let member = Member { id, disk };
    let has_it = |status: &NodeStatus| settled(status).is_some_and(|members| members.has(member));
    change(cluster, client, Change::AddLearner(member), has_it)?;
    let is_at = |status: &NodeStatus, stages: &[Stage]| {
        status.peers.iter().any(|peer| peer.id == id && stages.contains(&peer.stage))
    };
    for life in lives {
        cluster.wait(client, "a newcomer that is sent what it lacks", |status| {
            is_at(status, &[Stage::Snapshot, Stage::CatchingUp, Stage::Streaming])
        })?;
        thread::sleep(*life);
        cluster.kill(index);
        cluster.restart(index)?;
    }
    cluster.wait(client, "a newcomer that has caught up", |status| is_at(status, &[Stage::Streaming]))?;
    let votes = |status: &NodeStatus| settled(status).is_some_and(|members| members.votes(member));
    change(cluster, client, Change::PromoteLearner { id, priority: 0 }, votes)
}

/// The membership, unless it is being changed.
fn settled(status: &NodeStatus) -> Option<&Membership> {
    status.membership.as_ref().filter(|members| !members.is_joint())
}

/// Changes the membership, and waits until that is so; again if it was not possible just then, or if nobody knows.
fn change(
    cluster: &Cluster,
    client: &Client,
    change: Change,
    is_so: impl Fn(&NodeStatus) -> bool,
) -> Result<()> {
    let began = Instant::now();
    loop {
        match client.change(change).wait() {
            Ok(()) => return cluster.wait(client, "a change of the membership", is_so).map(drop),
            Err(ClientError::NotPossible { .. } | ClientError::Unknown) if began.elapsed() < HANG => {
                // One of which nobody knew may have been made after all; then it cannot be made again.
                if client.status(Target::Primary).wait().is_ok_and(|status| is_so(&status)) {
                    return Ok(());
                }
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(Error::cluster("change the membership of")(error)),
        }
    }
}
