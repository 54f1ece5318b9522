//! Who takes part, and how many of them make a quorum.

use crate::types::{DiskId, ReplicaId};

/// A replica with what it has stored: with a blank disk it is another one (S10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Member {
    /// Its name.
    pub id: ReplicaId,
    /// What it has stored.
    pub disk: DiskId,
}

/// A member that votes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Voter {
    /// Who.
    pub member: Member,
    /// With [`FailoverPolicy::Priority`](super::FailoverPolicy::Priority), the highest one leads once it has caught up.
    pub priority: u8,
}

/// How many copies commit a record, and how many votes make a primary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Quorums {
    /// More than half of the voters for either.
    #[default]
    Majority,
    /// So many. Any two elections must share a voter, and any election and any commit.
    Fixed {
        /// Synced copies that commit a record.
        write: u8,
        /// Votes that make a primary.
        election: u8,
    },
}

/// Voters and their quorums.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Electorate {
    /// In order of id, none twice.
    pub voters: Vec<Voter>,
    /// How many of them it takes.
    pub quorums: Quorums,
}

/// Who takes part, from one record of the log to the next such record.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Membership {
    /// One more with each change; the first is 1.
    pub generation: u64,
    /// Who votes.
    pub electorate: Electorate,
    /// In a joint membership, who voted before: both must agree to everything (S10).
    pub outgoing: Option<Electorate>,
    /// Who receives and never votes; in order of id.
    pub learners: Vec<Member>,
}

impl Electorate {
    /// Voters at most: more would only be slower.
    pub const VOTERS_MAX: usize = 15;

    /// How many synced copies commit a record.
    #[must_use]
    pub fn write_quorum(&self) -> usize {
        match self.quorums {
            Quorums::Majority => self.voters.len() / 2 + 1,
            Quorums::Fixed { write, .. } => usize::from(write),
        }
    }

    /// How many votes make a primary.
    #[must_use]
    pub fn election_quorum(&self) -> usize {
        match self.quorums {
            Quorums::Majority => self.voters.len() / 2 + 1,
            Quorums::Fixed { election, .. } => usize::from(election),
        }
    }

    /// Whether the quorums intersect as they must, the voters are in order and not too many.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let (voters, write, election) = (self.voters.len(), self.write_quorum(), self.election_quorum());
        let in_order = self.voters.windows(2).all(|pair| pair[0].member.id < pair[1].member.id);
        let enough = (1..=voters).contains(&write) && (1..=voters).contains(&election);
        voters > 0
            && voters <= Self::VOTERS_MAX
            && in_order
            && enough
            && write + election > voters
            && 2 * election > voters
    }

    fn has(&self, member: Member) -> bool {
        self.voters.iter().any(|voter| voter.member == member)
    }

    /// The greatest number that a write quorum of the voters has reached.
    fn reached(&self, number: &impl Fn(Member) -> u64) -> u64 {
        let mut reached = [0; Self::VOTERS_MAX];
        let reached = &mut reached[..self.voters.len()];
        for (place, voter) in reached.iter_mut().zip(&self.voters) {
            *place = number(voter.member);
        }
        reached.sort_unstable_by(|a, b| b.cmp(a));
        reached[self.write_quorum() - 1]
    }
}

impl Membership {
    /// Learners at most.
    pub const LEARNERS_MAX: usize = 15;

    /// The membership that a cluster begins with.
    #[must_use]
    pub fn first(voters: Vec<Voter>, quorums: Quorums) -> Membership {
        Membership {
            generation: 1,
            electorate: Electorate { voters, quorums },
            outgoing: None,
            learners: Vec::new(),
        }
    }

    /// Whether quorums intersect, lists are in order, and nobody is in two places.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let learners = &self.learners;
        let in_order = learners.windows(2).all(|pair| pair[0].id < pair[1].id);
        let apart = learners.iter().all(|learner| !self.votes_by_id(learner.id));
        self.generation > 0
            && self.electorate.is_sound()
            && self.outgoing.as_ref().is_none_or(Electorate::is_sound)
            && self.agrees_on_disks()
            && in_order
            && apart
            && learners.len() <= Self::LEARNERS_MAX
    }

    /// Whether the member votes, in either half of a joint membership.
    #[must_use]
    pub fn votes(&self, member: Member) -> bool {
        self.electorates().any(|electorate| electorate.has(member))
    }

    /// Whether the member is a voter or a learner.
    #[must_use]
    pub fn has(&self, member: Member) -> bool {
        self.votes(member) || self.learners.contains(&member)
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: ReplicaId) -> Option<Member> {
        self.members().find(|member| member.id == id)
    }

    /// All members; in a joint membership, who is in both halves comes twice.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let voters = self.electorates().flat_map(|electorate| &electorate.voters).map(|voter| voter.member);
        voters.chain(self.learners.iter().copied())
    }

    /// The voter's priority; 0 for anybody else.
    #[must_use]
    pub fn priority(&self, member: Member) -> u8 {
        self.electorate.voters.iter().find(|voter| voter.member == member).map_or(0, |voter| voter.priority)
    }

    /// Whether it is a joint membership, to be followed by one that is not.
    #[must_use]
    pub const fn is_joint(&self) -> bool {
        self.outgoing.is_some()
    }

    /// The greatest number that a write quorum has reached, of each half of a joint membership.
    pub fn reached(&self, number: impl Fn(Member) -> u64) -> u64 {
        self.electorates().map(|electorate| electorate.reached(&number)).min().unwrap_or(0)
    }

    /// Whether those make a primary, in each half of a joint membership.
    pub fn elects(&self, granted: impl Fn(Member) -> bool) -> bool {
        self.electorates().all(|electorate| {
            let votes = electorate.voters.iter().filter(|voter| granted(voter.member)).count();
            votes >= electorate.election_quorum()
        })
    }

    fn electorates(&self) -> impl Iterator<Item = &Electorate> {
        std::iter::once(&self.electorate).chain(&self.outgoing)
    }

    fn votes_by_id(&self, id: ReplicaId) -> bool {
        self.electorates().flat_map(|electorate| &electorate.voters).any(|voter| voter.member.id == id)
    }

    fn agrees_on_disks(&self) -> bool {
        let Some(outgoing) = &self.outgoing else { return true };
        outgoing.voters.iter().all(|old| {
            let same = self.electorate.voters.iter().find(|new| new.member.id == old.member.id);
            same.is_none_or(|new| new.member == old.member)
        })
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: impl IntoIterator<Item = u64>) -> Vec<Voter> {
        let member = |id| Member { id: ReplicaId::new(id), disk: DiskId::new(u128::from(id)) };
        ids.into_iter().map(|id| Voter { member: member(id), priority: 0 }).collect()
    }

    #[test]
    fn quorums_that_may_miss_each_other_are_refused() {
        for count in 1..=7_usize {
            for write in 0..=8_usize {
                for election in 0..=8_usize {
                    let quorums = Quorums::Fixed { write: write as u8, election: election as u8 };
                    let electorate = Electorate { voters: voters(1..=count as u64), quorums };
                    // Every two sets of these sizes share a voter if, and only if, the smallest overlap is not empty.
                    let meet = |a: usize, b: usize| a + b > count;
                    let possible = (1..=count).contains(&write) && (1..=count).contains(&election);
                    let sound = possible && meet(write, election) && meet(election, election);
                    assert_eq!(electorate.is_sound(), sound, "{count} {write} {election}");
                }
            }
            assert!(Membership::first(voters(1..=count as u64), Quorums::Majority).is_sound());
        }
    }

    #[test]
    fn a_joint_membership_asks_both_halves() {
        let mut joint = Membership::first(voters([1, 2, 3]), Quorums::Majority);
        joint.outgoing = Some(Electorate { voters: voters([3, 4, 5]), quorums: Quorums::Majority });
        assert!(joint.is_sound());
        let reached = |at: [u64; 5]| joint.reached(|member| at[member.id.get() as usize - 1]);
        assert_eq!(reached([9, 9, 0, 0, 0]), 0);
        assert_eq!(reached([9, 9, 4, 0, 7]), 4);
        assert!(!joint.elects(|member| [1, 2].contains(&member.id.get())));
        assert!(joint.elects(|member| [1, 3, 5].contains(&member.id.get())));
    }
}
