//! What has to hold in every state, and what has to be seen in some.

use annals::Lsn;
use annals::protocol::Role;
use stateright::Property;

use crate::model::{Cluster, Few};
use annals_fixtures::node::Records;

/// Names of the promises.
pub(crate) const BROKEN: [&str; 6] = [
    "at most one primary for each epoch",
    "what was committed is never lost, nor another record in its place",
    "logs that agree on an epoch and LSN agree on all before it",
    "committed means synced on a write quorum of disks",
    "a new primary holds all that was committed",
    "no replica halts, and none does what a node cannot",
];

/// Names of what has to be reached, or the walk has not been far.
pub(crate) const SEEN: [&str; 3] =
    ["a client's record is committed", "a second primary", "two who lead at a time"];

/// Properties for the checker.
pub(crate) fn all() -> Vec<Property<Few>> {
    vec![
        Property::always(BROKEN[0], |_, state: &Cluster| !state.seen.two_primaries),
        Property::always(BROKEN[1], |_, state: &Cluster| !state.seen.two_records),
        Property::always(BROKEN[2], |_, state: &Cluster| logs_match(state)),
        Property::always(BROKEN[3], |_, state: &Cluster| is_on_a_quorum(state)),
        Property::always(BROKEN[4], |_, state: &Cluster| !state.seen.poor_primary),
        Property::always(BROKEN[5], |_, state: &Cluster| {
            state.nodes.iter().all(|node| node.told.outrage.is_none() && node.told.halt.is_none())
        }),
        Property::sometimes(SEEN[0], |_, state: &Cluster| {
            state.committed.iter().any(|(entry, _)| entry.text.starts_with('r'))
        }),
        Property::sometimes(SEEN[1], |_, state: &Cluster| state.reigns.len() > 1),
        Property::sometimes(SEEN[2], |_, state: &Cluster| {
            (0..state.nodes.len()).filter(|&index| state.role(index) == Some(Role::Primary)).count() > 1
        }),
    ]
}

fn is_on_a_quorum(state: &Cluster) -> bool {
    let quorum = state.nodes.len() / 2 + 1;
    state.committed.iter().zip(1..).all(|((entry, _), lsn)| {
        let copies = state.nodes.iter().filter(|node| node.disk.log.at(Lsn::new(lsn)) == Some(entry));
        copies.count() >= quorum
    })
}

fn logs_match(state: &Cluster) -> bool {
    let logs: Vec<&Records> = state.nodes.iter().flat_map(|node| [&node.log, &node.disk.log]).collect();
    logs.iter()
        .enumerate()
        .all(|(index, one)| logs[index + 1..].iter().all(|other| match_each_other(one, other)))
}

/// From the end down: once they agree on an epoch they have to be the same from there.
fn match_each_other(one: &Records, other: &Records) -> bool {
    let pairs = one.entries.iter().zip(&other.entries).rev();
    let mut agree = false;
    for (ours, theirs) in pairs {
        agree |= ours.epoch == theirs.epoch;
        if agree && ours != theirs {
            return false;
        }
    }
    true
}
