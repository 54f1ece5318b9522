//! How a primary brings the others up to date: probe, tell where the logs part, read from the log until they stream.

use super::peer::{Chunk, Step};
use super::{Office, Replica, Taken};
use crate::protocol::effect::Effect;
use crate::protocol::group::Group;
use crate::protocol::history::{Common, Position};
use crate::protocol::membership::Member;
use crate::protocol::message::{Message, ProbeReply};
use crate::protocol::refusal::Refusal;
use crate::protocol::rules::Rule;
use crate::types::{LogIncarnation, Lsn, ReplicaId};

impl Replica {
    /// Begins anew with a peer: nothing is known of its log.
    pub(super) fn probe_again(&mut self, id: ReplicaId) {
        let (now, last) = (self.now, self.ledger.last().lsn);
        let Some(peer) = self.peer_by_id(id) else { return };
        peer.probe(last, now);
        let (member, question) = (peer.member, peer.question(Lsn::LAST));
        self.send(member, question);
    }

    /// With each heartbeat: asks again where an answer is overdue.
    pub(super) fn nudge(&mut self, member: Member) {
        let (now, patience) = (self.now, self.config.timing.election_min);
        let Office::Primary(reign) = &mut self.office else { return };
        let Some(peer) = reign.peer(member) else { return };
        let is_overdue = now.since(peer.moved) >= patience;
        match peer.step {
            Step::Probe { through } => {
                let question = peer.question(through);
                self.send(member, question);
            }
            // It has asked, and waits for the throttle.
            Step::Mend { chunk: Chunk::Due, .. } => {}
            Step::Snapshot(sending) if sending.is_due() && sending.in_flight() == 0 => {}
            Step::Join { .. } | Step::Snapshot(_) | Step::Mend { .. } if is_overdue => {
                self.probe_again(member.id)
            }
            // What was sent is lost, or its disk is slow: to look again does no harm in either case.
            Step::Follow { is_reading: false, .. } if is_overdue && peer.is_waiting() => {
                self.probe_again(member.id)
            }
            _ => {}
        }
    }

    pub(super) fn probe_reply(&mut self, from: Member, reply: &ProbeReply) -> Taken {
        let (now, last) = (self.now, self.ledger.last());
        let is_bound = self.rules(Rule::BindAcknowledgements);
        let Office::Primary(reign) = &mut self.office else { return Err(Refusal::WrongRole) };
        let round = reign.round;
        let peer = reign.peer(from).ok_or(Refusal::WrongRole)?;
        if !matches!(peer.step, Step::Probe { through } if through == reply.through) {
            return Err(Refusal::NotAsked);
        }
        if peer.incarnation.is_some_and(|known| reply.incarnation < known) {
            return Err(Refusal::StaleIncarnation);
        }
        if reply.history.last().epoch > self.meta.epoch {
            return Err(Refusal::ImpossibleLsn);
        }
        peer.heard = Some(now);
        peer.live(reply.incarnation, round, is_bound);
        match self.ledger.history.common(&reply.history) {
            Common::At(common) => {
                peer.join(common.lsn, now);
                self.send(from, Message::Follow { common, incarnation: reply.incarnation, last: last.lsn });
            }
            // Its answer does not reach back far enough, and this log does: the older part of its history.
            Common::Below(lsn) if lsn >= self.ledger.history.base().lsn && lsn < reply.through => {
                peer.go(Step::Probe { through: lsn }, now);
                let question = peer.question(lsn);
                self.send(from, question);
            }
            Common::Below(_) => {
                let begun = reply.staged.filter(|staged| staged.bytes > 0).map(|staged| staged.snapshot);
                self.offer_snapshot(from, begun);
            }
        }
        Ok(())
    }

    pub(super) fn ack(
        &mut self,
        from: Member,
        incarnation: LogIncarnation,
        durable: Lsn,
        is_whole: bool,
    ) -> Taken {
        let (now, last) = (self.now, self.ledger.last().lsn);
        let window = self.config.limits.window_bytes;
        let is_bound = self.rules(Rule::BindAcknowledgements);
        let abstains = self.rules(Rule::DamagedAbstains);
        let Office::Primary(reign) = &mut self.office else { return Err(Refusal::WrongRole) };
        let round = reign.round;
        let peer = reign.peer(from).ok_or(Refusal::WrongRole)?;
        if durable > last && is_bound {
            return Err(Refusal::ImpossibleLsn);
        }
        peer.heard = Some(now);
        if let Step::Join { common } = peer.step
            && peer.incarnation.is_none_or(|probed| incarnation >= probed)
            && durable <= last
        {
            peer.live(incarnation, round, is_bound);
            peer.go(Step::Follow { next: common.next(), is_reading: false }, now);
            if durable < common {
                // What it has and has not synced fills its window, however often a slow disk is looked at again.
                peer.sent(common, window, now);
            }
        }
        // S6: what was synced in another life of the log may be gone.
        if peer.incarnation != Some(incarnation) && is_bound {
            return Err(Refusal::StaleIncarnation);
        }
        if !matches!(peer.step, Step::Follow { .. }) && is_bound {
            return Err(Refusal::NotAsked);
        }
        if peer.acknowledged(durable.min(last), is_whole || !abstains, now) {
            // A copy of what is committed makes no difference.
            if durable > self.ledger.commit {
                self.count();
            }
            self.hand_over();
        }
        self.feed(from);
        Ok(())
    }

    pub(super) fn out_of_order(
        &mut self,
        from: Member,
        incarnation: LogIncarnation,
        last: Position,
    ) -> Taken {
        let Office::Primary(reign) = &mut self.office else { return Err(Refusal::WrongRole) };
        let peer = reign.peer(from).ok_or(Refusal::WrongRole)?;
        if peer.incarnation.is_some_and(|known| incarnation < known) {
            return Err(Refusal::StaleIncarnation);
        }
        let is_probed = matches!(peer.step, Step::Probe { .. });
        // Groups that overtook each other: the one that it misses may be on its way, but asking costs little.
        let is_reading = matches!(peer.step, Step::Follow { is_reading: true, .. });
        if is_probed || is_reading && last.lsn > self.ledger.last().lsn {
            return Err(Refusal::NotAsked);
        }
        self.probe_again(from.id);
        Ok(())
    }

    /// Reads for everybody who needs something from the log.
    pub(super) fn feed_all(&mut self) {
        let mut index = 0;
        while let Office::Primary(reign) = &self.office
            && let Some(peer) = reign.peers.get(index)
        {
            let member = peer.member;
            self.feed(member);
            index += 1;
        }
    }

    /// Reads what the peer needs next from the log or a snapshot, as far as its window and the throttle allow.
    pub(super) fn feed(&mut self, member: Member) {
        let (now, last) = (self.now, self.ledger.last().lsn);
        let limits = &self.config.limits;
        let first = self.ledger.first();
        let Office::Primary(reign) = &mut self.office else { return };
        // Half of what may be on its way: the next part is sent while this one is written.
        let window = reign.ease.bytes(limits.window_bytes, now);
        let chunk = u64::from(limits.chunk_bytes).min(window.div_ceil(2));
        let Some(peer) = reign.peer(member) else { return };
        if let Step::Snapshot(sending) = peer.step {
            return self.feed_snapshot(member, sending);
        }
        if let Step::Mend { range, chunk: Chunk::Due } = peer.step {
            return self.feed_mend(member, range);
        }
        let Step::Follow { next, is_reading: false } = peer.step else { return };
        if next > last || now < peer.read_at || !peer.has_room(chunk, window) {
            return;
        }
        if next < first {
            // Trimmed meanwhile.
            return self.probe_again(member.id);
        }
        peer.step = Step::Follow { next, is_reading: true };
        self.outbox.push(Effect::ReadLog { to: member.id, from: next, bytes_max: chunk });
        self.pin();
    }

    /// Bytes a second that somebody who catches up is fed at most.
    pub(super) fn fed_bytes_per_s(&self) -> Option<u64> {
        let rate = self.config.limits.catch_up_bytes_per_s;
        let Office::Primary(reign) = &self.office else { return rate };
        reign.ease.bytes_per_s(rate, self.now)
    }

    /// A part of the log was read for a peer.
    pub(super) fn log_read(&mut self, to: ReplicaId, group: Group) {
        let now = self.now;
        let rate = self.fed_bytes_per_s();
        let previous = self.ledger.history.position(group.range.first.prev());
        let is_ours = self.ledger.history.epoch_at(group.range.last) == Some(group.epoch);
        let commit = self.ledger.commit;
        let Some(peer) = self.peer_by_id(to) else { return };
        let Step::Follow { next, is_reading: true } = peer.step else { return };
        if group.range.first != next {
            return;
        }
        let (Some(previous), Some(incarnation), true) = (previous, peer.incarnation, is_ours) else {
            // Trimmed while it was being read.
            return self.probe_again(to);
        };
        peer.step = Step::Follow { next: group.range.last.next(), is_reading: false };
        peer.sent(group.range.last, group.bytes, now);
        peer.throttle(group.bytes, rate, now);
        let (member, bytes) = (peer.member, group.bytes);
        if let Office::Primary(reign) = &mut self.office {
            reign.ease.fed(bytes);
        }
        self.send(member, Message::Append { previous, commit, incarnation, group });
        self.feed(member);
        self.pin();
    }

    /// The peer with this id: while a disk is being replaced there may be two, and only the newer one answers.
    pub(super) fn peer_by_id(&mut self, id: ReplicaId) -> Option<&mut super::peer::Peer> {
        let newest = self.ledger.membership().and_then(|ours| ours.member(id));
        let Office::Primary(reign) = &mut self.office else { return None };
        let place = reign.peers.iter().position(|peer| Some(peer.member) == newest);
        let place = place.or_else(|| reign.peers.iter().position(|peer| peer.member.id == id))?;
        reign.peers.get_mut(place)
    }
}
