//! The operator: adds, promotes and removes replicas, hands the role over, and says who leads if nobody else may.

use annals::ReplicaId;
use annals::node::Driver;
use annals::protocol::{Change, Membership, Message, Quorums};

use crate::driver::Told;
use crate::invariants::{Check, broken};
use crate::oracle::Ask;
use crate::seeds::Chance;
use crate::world::{CLUSTER, MS, World};
use annals::protocol::Envelope;
use annals::{ClusterId, DiskId, Epoch, Lsn};

/// The client that the operator is: no other has this number.
pub(crate) const OPERATOR: usize = usize::MAX;

impl World {
    /// The replica that leads, as far as anybody can see from outside.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.nodes[*at].is_primary() && !self.nodes[*at].is_paused;
        (0..self.nodes.len()).filter(leads).max_by_key(|&at| self.nodes[at].reign)
    }

    /// Does the next thing that is to be done.
    pub(crate) fn operate(&mut self) {
        self.replace_blank();
        let Some(leader) = self.leader() else {
            if self.is_manual() {
                self.promote_somebody();
            }
            return;
        };
        if self.order.is_some_and(|(_, since)| self.now < since + 3000 * MS) {
            return;
        }
        let Some(membership) = self.nodes[leader].ledger.membership().cloned() else { return };
        if let Some(mut change) = self.next_change(&membership) {
            // Fixed numbers may not suit another number of voters.
            if membership.electorate.quorums != Quorums::Majority {
                change = Change::SetQuorums(Quorums::Majority);
            }
            let token = self.ask_node(OPERATOR, leader, Ask::Change(change));
            self.order = token.map(|token| (token, self.now));
        }
    }

    /// The operator hears what came of an order.
    pub(crate) fn told(&mut self, token: u64) {
        if self.order.is_some_and(|(order, _)| order == token) {
            self.order = None;
        }
    }

    /// A replica that has found its disk blank stays so until somebody says that the disk is new.
    fn replace_blank(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].ledger.is_blank && self.nodes[at].is_up() && self.draw.below(3) == 0 {
                self.kill(at);
                self.renew(at);
                self.after(0, crate::world::Event::Start { node: at });
            }
        }
    }

    fn promote_somebody(&mut self) {
        let at = self.draw.below(self.nodes.len() as u64) as usize;
        self.ask_node(OPERATOR, at, Ask::Promote);
    }

    /// What brings the membership nearer to what the operator wants; one change at a time.
    fn next_change(&mut self, membership: &Membership) -> Option<Change> {
        if membership.is_joint() {
            return None;
        }
        let mut removal = None;
        for at in 0..self.nodes.len() {
            let member = self.nodes[at].ledger.member;
            let is_wanted = self.nodes[at].is_wanted;
            match membership.member(member.id) {
                // Whoever is gone for good goes first: who is well may be needed for the quorum until then.
                Some(known) if known != member => return Some(Change::Remove(member.id)),
                Some(_) if !is_wanted => removal = Some(Change::Remove(member.id)),
                None if is_wanted => return Some(Change::AddLearner(member)),
                Some(_) if !membership.votes(member) => {
                    let priority = self.draw.below(4) as u8;
                    return Some(Change::PromoteLearner { id: member.id, priority });
                }
                _ => {}
            }
        }
        removal
    }

    /// Whether the membership is what the operator wants.
    pub(crate) fn is_content(&self, membership: &Membership) -> bool {
        !membership.is_joint()
            && self.nodes.iter().all(|node| {
                let votes = membership.votes(node.ledger.member);
                let is_known = membership.member(node.ledger.member.id).is_some();
                if node.is_wanted { votes } else { !is_known }
            })
    }

    /// The operator wants somebody else in, or out.
    pub(crate) fn change_mind(&mut self) {
        let at = self.any();
        let wanted = self.nodes.iter().filter(|node| node.is_wanted).count();
        let is_wanted = self.nodes[at].is_wanted;
        if is_wanted && wanted > 3 || !is_wanted && wanted < 7 {
            self.nodes[at].is_wanted = !is_wanted;
        }
    }

    /// The operator wants other numbers of copies and votes to suffice.
    fn quorums(&mut self, voters: u64) -> Quorums {
        let write = self.draw.between(1, voters);
        let election = (voters - write + 1).max(voters / 2 + 1);
        if self.draw.below(3) == 0 {
            return Quorums::Majority;
        }
        Quorums::Fixed { write: write as u8, election: election as u8 }
    }

    pub(crate) fn change_quorums(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(membership) = self.nodes[leader].ledger.membership().cloned() else { return };
        let quorums = self.quorums(membership.electorate.voters.len() as u64);
        self.ask_node(OPERATOR, leader, Ask::Change(Change::SetQuorums(quorums)));
    }

    /// The operator hands the role over.
    pub(crate) fn transfer(&mut self) {
        let Some(leader) = self.leader() else { return };
        let to = self.draw.below(self.nodes.len() as u64 + 1) as usize;
        let to = self.nodes.get(to).map(|node| node.ledger.member.id);
        self.ask_node(OPERATOR, leader, Ask::Transfer(to));
    }

    /// A message that nobody of this cluster would have sent: it is refused, and changes nothing.
    pub(crate) fn garbage(&mut self, at: usize) -> Check {
        let Some((genuine, payload)) = self.newest_sent.clone() else { return Ok(()) };
        let me = self.nodes[at].ledger.member;
        let Some(driver) = self.nodes[at].driver.as_ref().filter(|_| !self.nodes[at].is_paused) else {
            return Ok(());
        };
        let before = (driver.status(), refused(driver));
        let mut envelope = Envelope { to: me, ..genuine };
        spoil(&mut envelope, &mut self.draw);
        if envelope.cluster == CLUSTER && envelope.to == me && envelope.from.id != me.id {
            // Who knows of no member cannot tell a stranger.
            envelope.generation = 0;
            if before.0.generation == 0 || before.0.primary == Some(envelope.from.id) {
                return Ok(());
            }
        }
        let what = format!("{envelope:?}");
        let overdue = driver.next_deadline().is_some_and(|due| due <= self.nodes[at].clock.local(self.now));
        self.feed(at, Told::Message(envelope, payload))?;
        let Some(driver) = self.nodes[at].driver.as_ref() else { return Ok(()) };
        let after = (driver.status(), refused(driver));
        if !overdue && (after.0 != before.0 || after.1 != before.1 + 1) {
            let what = format!("{what}: {:?}, then {:?}", before, after);
            return broken(0, "foreign messages are refused, counted, and change nothing", what);
        }
        Ok(())
    }
}

/// Messages that were refused: by the core, or because their bytes are not what they say.
fn refused(driver: &Driver) -> u64 {
    driver.refusals().total() + driver.counts().bad_payloads
}

/// Makes a message one that must be refused.
fn spoil(envelope: &mut Envelope, draw: &mut Chance) {
    match draw.below(7) {
        0 => envelope.cluster = ClusterId::new(u128::from(draw.next())),
        1 => envelope.to.disk = DiskId::new(u128::from(draw.next())),
        2 => envelope.to.id = ReplicaId::new(draw.next()),
        3 => envelope.from = envelope.to,
        4 => envelope.from.disk = DiskId::new(u128::from(draw.next())),
        5 => {
            envelope.from.id = ReplicaId::new(draw.between(100, 200));
            envelope.epoch = Epoch::new(draw.between(1, 1000));
        }
        _ => {
            envelope.cluster = ClusterId::new(0);
            if let Message::Append { group, .. } = &mut envelope.message {
                group.range.first = Lsn::new(draw.next() >> 1);
            }
        }
    }
}
