//! Group commit: appends gather while groups are under way, and become one group.

use std::collections::VecDeque;

use bytes::Bytes;

use super::action::Append;
use super::{Driver, DriverOptions};
use crate::node::frames::{frame_appends, frames_bytes};
use crate::protocol::{Group, Proposal, Replica, Time, wire};
use crate::types::Lsn;

/// Appends that wait for their group, and groups that wait for their commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Gather {
    /// In the order in which they came, each with its proposal.
    appends: Vec<Append>,
    proposals: Vec<Proposal>,
    bytes: u64,
    /// The places of those that the group in the making has taken.
    taken: Vec<u32>,
    /// The last records of this primary's own groups that are not committed.
    groups: VecDeque<Lsn>,
}

impl Gather {
    pub(super) fn add(&mut self, append: Append) {
        let Append { token, producer, records, .. } = &append;
        let bytes = frames_bytes(producer.is_some(), records.iter().map(<[u8]>::len));
        // Over 32 bits it is over what a group may have too.
        let count = u32::try_from(records.count()).unwrap_or(0);
        self.proposals.push(Proposal { token: *token, records: count, bytes, producer: *producer });
        self.appends.push(append);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Whether what has gathered is to become a group now. `leads` is false for a replica that would refuse it anyway.
    pub(super) fn is_due(&self, leads: bool, options: &DriverOptions) -> bool {
        let is_idle = self.groups.len() < options.depth;
        !self.proposals.is_empty() && (!leads || is_idle || self.bytes >= options.gather_bytes)
    }

    /// Proposes as much as one group is to have; returns how much of it was looked at.
    pub(super) fn propose(&mut self, replica: &mut Replica, now: Time, options: &DriverOptions) -> usize {
        let mut bytes = 0_u64;
        let fits = |proposal: &&Proposal| {
            bytes = bytes.saturating_add(proposal.bytes);
            bytes <= options.group_bytes
        };
        let count = self.proposals.iter().take(wire::GROUP_SPANS_MAX).take_while(fits).count().max(1);
        replica.propose(now, &self.proposals[..count], &mut self.taken)
    }

    /// The frames of the group that was made of what was proposed.
    pub(super) fn frames(&mut self, group: &Group) -> Bytes {
        self.groups.push_back(group.range.last);
        frame_appends(group, self.taken().map(|append| (append.producer, &append.records)))
    }

    /// The appends that the group has taken, in its order.
    pub(super) fn taken(&self) -> impl Iterator<Item = &Append> {
        self.taken.iter().map(|place| &self.appends[*place as usize])
    }

    /// What was looked at is a part of the log, or refused.
    pub(super) fn forget(&mut self, looked: usize) {
        self.taken.clear();
        let gone = self.proposals.drain(..looked).map(|proposal| proposal.bytes);
        self.bytes = gone.fold(self.bytes, u64::saturating_sub);
        self.appends.drain(..looked);
        if self.appends.is_empty() {
            self.bytes = 0;
        }
    }

    pub(super) fn committed(&mut self, commit: Lsn) {
        while self.groups.pop_front_if(|last| *last <= commit).is_some() {}
    }

    /// The reign is over, or another one has begun.
    pub(super) fn deposed(&mut self) {
        self.groups.clear();
    }
}

impl Driver {
    /// Makes groups of what has gathered, as far as it is time to.
    pub(super) fn propose_gathered(&mut self) {
        while self.gather.is_due(self.leads(), &self.options) {
            let looked = self.gather.propose(&mut self.replica, self.now, &self.options);
            self.drain();
            self.gather.forget(looked);
        }
    }
}
