//! Changes of the membership: one at a time, in the log, jointly (S10).

use std::sync::Arc;

use super::{Office, Replica};
use crate::protocol::effect::Outcome;
use crate::protocol::group::Content;
use crate::protocol::input::Change;
use crate::protocol::membership::{Electorate, Member, Membership, Voter};
use crate::protocol::rules::Rule;
use crate::types::{LsnRange, ReplicaId};

impl Replica {
    pub(super) fn change(&mut self, token: u64, change: Change) {
        let Office::Primary(_) = &self.office else {
            let primary = self.leader.map(|leader| leader.id);
            return self.resolve(token, Outcome::NotTaken { primary });
        };
        let next = self.may_change().then(|| self.changed(change)).flatten();
        let Some(next) = next.filter(|next| next.is_sound() && self.could_go_on(next)) else {
            return self.resolve(token, Outcome::ChangeRefused);
        };
        if let Office::Primary(reign) = &mut self.office {
            reign.change = Some(token);
        }
        self.append_membership(next);
        self.count();
    }

    /// After a commit: a joint membership is followed by the one that it leads to; then the change is done.
    pub(super) fn go_on_changing(&mut self) {
        let (commit, at) = (self.ledger.commit, self.ledger.membership_lsn());
        let Office::Primary(reign) = &mut self.office else { return };
        let Some(membership) = self.ledger.membership().filter(|_| at <= commit && commit >= reign.start)
        else {
            return;
        };
        if membership.is_joint() {
            let mut next = Membership::clone(membership);
            next.generation += 1;
            let outgoing = next.outgoing.take();
            drop(outgoing);
            return self.append_membership(next);
        }
        let (token, epoch) = (reign.change.take(), self.meta.epoch);
        if let Some(token) = token {
            self.resolve(token, Outcome::Committed { range: LsnRange { first: at, last: at }, epoch });
        }
        // A primary that takes part no more hands over to somebody who does.
        let is_busy = matches!(&self.office, Office::Primary(reign) if reign.transfer.is_some());
        if !self.is_voter() && !is_busy {
            match self.best_successor() {
                Some(member) => self.begin_transfer(None, member, true),
                None => self.abdicate(),
            }
        }
    }

    fn append_membership(&mut self, membership: Membership) {
        self.append_control(Content::Membership(Arc::new(membership)));
        self.call_peers();
    }

    /// One at a time, and only after a commit of the current epoch.
    fn may_change(&self) -> bool {
        let Office::Primary(reign) = &self.office else { return false };
        let is_settled = self.ledger.membership_lsn() <= self.ledger.commit && reign.change.is_none();
        let is_joint = self.ledger.membership().is_none_or(|membership| membership.is_joint());
        self.ledger.commit >= reign.start && is_settled && !is_joint && reign.transfer.is_none()
    }

    /// Whether those who follow now are enough for the membership: a change must not take the last quorum away.
    fn could_go_on(&self, next: &Membership) -> bool {
        let Office::Primary(reign) = &self.office else { return false };
        let patience = self.patience.timeout(&self.config.timing);
        let is_well = |member: Member| {
            let peer = reign.peers.iter().find(|peer| peer.member == member);
            let follows = peer.is_some_and(|peer| {
                peer.acked >= reign.start && peer.heard.is_some_and(|at| self.now.since(at) <= patience)
            });
            member == self.config.me || follows
        };
        let decides_as_before =
            self.ledger.membership().is_some_and(|ours| ours.electorate == next.electorate);
        decides_as_before || next.elects(is_well) && next.reached(|member| u64::from(is_well(member))) > 0
    }

    /// The membership that the change asks for, or the joint one on the way to it.
    fn changed(&self, change: Change) -> Option<Membership> {
        let ours = self.ledger.membership()?;
        let mut next = Membership::clone(ours);
        next.generation += 1;
        match change {
            Change::AddLearner(member) => {
                if next.member(member.id).is_some() {
                    return None;
                }
                next.learners.push(member);
                next.learners.sort_unstable();
            }
            Change::PromoteLearner { id, priority } => {
                let member = next.learners.iter().copied().find(|learner| learner.id == id)?;
                if !self.has_caught_up(id) {
                    return None;
                }
                next.learners.retain(|learner| *learner != member);
                next.electorate.voters.push(Voter { member, priority });
                next.electorate.voters.sort_unstable_by_key(|voter| voter.member);
            }
            Change::Remove(id) => {
                next.member(id)?;
                next.learners.retain(|learner| learner.id != id);
                next.electorate.voters.retain(|voter| voter.member.id != id);
            }
            Change::SetQuorums(quorums) => next.electorate.quorums = quorums,
            Change::SetPriority { id, priority } => {
                let voter = next.electorate.voters.iter_mut().find(|voter| voter.member.id == id)?;
                voter.priority = priority;
            }
        }
        if decides_otherwise(&ours.electorate, &next.electorate) && self.rules(Rule::ChangeJointly) {
            next.outgoing = Some(ours.electorate.clone());
        }
        Some(next)
    }

    /// Whether a learner has all that there is, but for what is on its way.
    fn has_caught_up(&self, id: ReplicaId) -> bool {
        let last = self.ledger.last().lsn;
        let Office::Primary(reign) = &self.office else { return false };
        reign.peers.iter().any(|peer| {
            peer.member.id == id && peer.is_streaming(last) && peer.acked > crate::types::Lsn::ZERO
        })
    }
}

/// Whether other sets of voters decide: then both have to agree for a while.
fn decides_otherwise(old: &Electorate, new: &Electorate) -> bool {
    let members =
        |electorate: &Electorate| electorate.voters.iter().map(|voter| voter.member).collect::<Vec<_>>();
    old.quorums != new.quorums || members(old) != members(new)
}
