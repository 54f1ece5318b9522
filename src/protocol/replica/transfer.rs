//! A planned hand-over: no append is taken any more, the target gets all there is, then it stands for election.

use std::time::Duration;

use super::peer::Peer;
use super::{Office, Replica};
use crate::protocol::effect::Outcome;
use crate::protocol::membership::Member;
use crate::protocol::message::Message;
use crate::protocol::rules::Rule;
use crate::protocol::time::Time;
use crate::types::ReplicaId;

/// A successor that was chosen here, and not heard for so many heartbeats, is not waited for if another one is.
const SILENT_BEATS: u32 = 3;

/// A hand-over that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Transfer {
    /// Whom to answer, if anybody has asked for it.
    pub(super) token: Option<u64>,
    to: Member,
    /// Nobody has asked for this one: it was the best.
    is_chosen: bool,
    until: Time,
    /// Whether the target was told since the last heartbeat.
    is_told: bool,
}

impl Replica {
    /// An operator, or a process that ends, wants somebody else to lead.
    pub(super) fn transfer(&mut self, token: u64, to: Option<ReplicaId>) {
        let Office::Primary(reign) = &self.office else {
            let primary = self.leader.map(|leader| leader.id);
            return self.resolve(token, Outcome::NotTaken { primary });
        };
        let is_free = reign.transfer.is_none();
        let target = match to {
            Some(id) => self
                .ledger
                .membership()
                .and_then(|ours| ours.member(id))
                .filter(|member| self.could_lead(*member)),
            None => self.best_successor(),
        };
        match target.filter(|_| is_free) {
            Some(member) => self.begin_transfer(Some(token), member, to.is_none()),
            None => self.resolve(token, Outcome::NotTransferred),
        }
    }

    pub(super) fn begin_transfer(&mut self, token: Option<u64>, to: Member, is_chosen: bool) {
        let until = self.now.plus(self.config.timing.transfer_max);
        if let Office::Primary(reign) = &mut self.office {
            reign.transfer = Some(Transfer { token, to, is_chosen, until, is_told: false });
        }
        self.hand_over();
    }

    /// Tells the target, once it has everything and everything is committed: so no append is lost or unknown.
    pub(super) fn hand_over(&mut self) {
        let last = self.ledger.last();
        let is_quiet = self.ledger.commit == last.lsn || self.is_stalled();
        let Office::Primary(reign) = &mut self.office else { return };
        let Some(transfer) = &mut reign.transfer else { return };
        let has_all = reign.peers.iter().any(|peer| peer.member == transfer.to && peer.acked >= last.lsn);
        if transfer.is_told || !has_all || !is_quiet {
            return;
        }
        transfer.is_told = true;
        reign.has_told = true;
        let to = transfer.to;
        self.send(to, Message::TakeOver { last });
    }

    /// What time brings to a hand-over, and to a primary whose disk stands still (S12).
    pub(super) fn keep_transferring(&mut self) {
        let Office::Primary(reign) = &mut self.office else { return };
        if let Some(transfer) = reign.transfer.filter(|transfer| transfer.until <= self.now) {
            reign.transfer = None;
            if let Some(token) = transfer.token {
                self.resolve(token, Outcome::NotTransferred);
            }
            if self.is_outrun() || !self.is_voter() {
                self.abdicate();
            }
            return;
        }
        if reign.transfer.is_some() {
            let another = self.another_successor();
            let Office::Primary(reign) = &mut self.office else { return };
            if let Some(transfer) = &mut reign.transfer {
                // What told it may be lost, or have come when it could not stand: in its own epoch nothing of it is known here.
                transfer.is_told = false;
                transfer.to = another.unwrap_or(transfer.to);
            }
            return self.hand_over();
        }
        if self.is_outrun() {
            match self.best_successor() {
                Some(member) => self.begin_transfer(None, member, true),
                None => self.abdicate(),
            }
        }
    }

    /// Whom to hand over to instead of a successor that was chosen here and has fallen silent.
    fn another_successor(&self) -> Option<Member> {
        let Office::Primary(reign) = &self.office else { return None };
        let transfer = reign.transfer.as_ref().filter(|transfer| transfer.is_chosen)?;
        let silence = self.config.timing.heartbeat * SILENT_BEATS;
        let is_there = |peer: &Peer| peer.member == transfer.to && peer.is_heard(silence, self.now);
        if reign.peers.iter().any(is_there) { None } else { self.best_heard(silence) }
    }

    /// Whether the own disk has stood still for too long, while that of a peer has not (S12).
    fn is_outrun(&self) -> bool {
        let Office::Primary(reign) = &self.office else { return false };
        let durable = self.ledger.durable;
        let is_behind = self.is_stalled() && reign.peers.iter().any(|peer| peer.acked > durable);
        is_behind && self.rules(Rule::StalledDiskHandsOver)
    }

    /// The voter that has most.
    pub(super) fn best_successor(&self) -> Option<Member> {
        self.best_heard(Duration::MAX)
    }

    /// The voter that has most, among those that were heard within this time; of those that have as much, whoever was heard last.
    fn best_heard(&self, within: Duration) -> Option<Member> {
        let Office::Primary(reign) = &self.office else { return None };
        let able =
            reign.peers.iter().filter(|peer| peer.is_heard(within, self.now) && self.could_lead(peer.member));
        able.max_by_key(|peer| (peer.acked, peer.heard)).map(|peer| peer.member)
    }

    fn could_lead(&self, member: Member) -> bool {
        member != self.config.me
            && self.ledger.membership().is_some_and(|membership| membership.votes(member))
    }
}
