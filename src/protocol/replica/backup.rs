//! What a backup does with what its primary sends: it follows, writes, syncs, and says so.

use super::{Replica, Taken, is_possible};
use crate::protocol::effect::{Effect, Halt};
use crate::protocol::group::{Content, Group};
use crate::protocol::health::{Health, LOST_BASE};
use crate::protocol::history::Position;
use crate::protocol::membership::Member;
use crate::protocol::message::{Message, ProbeReply};
use crate::protocol::refusal::Refusal;
use crate::protocol::rules::Rule;
use crate::protocol::wire::HISTORY_EPOCHS_MAX;
use crate::types::{LogIncarnation, Lsn};

impl Replica {
    pub(super) fn heartbeat(&mut self, from: Member, round: u64, commit: Lsn) -> Taken {
        self.patience.hear(self.now);
        self.learn_commit(commit);
        let (last, durable) = (self.ledger.last(), self.ledger.durable);
        let (incarnation, is_following) = (self.ledger.incarnation, self.is_following);
        self.send(from, Message::HeartbeatReply { round, last, durable, incarnation, is_following });
        Ok(())
    }

    /// The primary asks which epochs this log has.
    pub(super) fn probe(&mut self, from: Member, through: Lsn, known: LogIncarnation) -> Taken {
        // Without a base there is no log to begin a life of: the snapshot that is asked for begins one.
        if known > self.ledger.incarnation && !self.is_installing() && self.lost() != Some(LOST_BASE) {
            self.outlive(known)?;
        }
        if let Some(range) = self.lost().filter(|_| self.rules(Rule::DamagedAbstains)) {
            self.send(from, Message::RepairAsk { range });
            return Ok(());
        }
        if self.is_installing() {
            return Err(Refusal::NotAsked);
        }
        if !self.rules(Rule::TruncateByHistory)
            && !self.is_following
            && self.ledger.commit < self.ledger.last().lsn
        {
            self.truncate(self.ledger.commit);
        }
        let reply = ProbeReply {
            through,
            history: self.ledger.history.tail(through, HISTORY_EPOCHS_MAX),
            incarnation: self.ledger.incarnation,
            staged: self.staging.as_ref().map(|staging| staging.staged()),
        };
        self.send(from, Message::ProbeReply(Box::new(reply)));
        Ok(())
    }

    /// The primary tells where the logs part (S5).
    pub(super) fn follow(
        &mut self,
        from: Member,
        common: Position,
        incarnation: LogIncarnation,
        last: Lsn,
    ) -> Taken {
        if incarnation != self.ledger.incarnation || self.is_installing() || self.lost().is_some() {
            return self.out_of_step(from, Refusal::StaleIncarnation);
        }
        if !self.ledger.history.has(common) || last < common.lsn {
            return self.out_of_step(from, Refusal::ImpossibleLsn);
        }
        if self.is_following && common.lsn < self.ledger.last().lsn {
            // It came late, or twice: all that is here is the primary's, and more of it than was so then.
            self.acknowledge();
            return Ok(());
        }
        if common.lsn < self.ledger.commit {
            self.halt(Halt::TruncationBelowCommit { commit: self.ledger.commit, common });
            return Ok(());
        }
        if common.lsn < self.ledger.last().lsn {
            self.truncate(common.lsn);
        }
        self.staging = None;
        self.is_following = true;
        self.whole_at = (self.health != Health::Whole).then_some(last);
        self.acknowledge();
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        from: Member,
        incarnation: LogIncarnation,
        previous: Position,
        commit: Lsn,
        group: Group,
    ) -> Taken {
        self.check_group(&group)?;
        if previous.lsn.next() != group.range.first || previous.epoch > group.epoch {
            return Err(Refusal::ImpossibleLsn);
        }
        if !self.is_following || incarnation != self.ledger.incarnation {
            return self.out_of_step(from, Refusal::StaleIncarnation);
        }
        if self.is_installing() {
            // The log that it follows on is about to go.
            return Err(Refusal::OutOfOrder);
        }
        let last = self.ledger.last();
        if previous != last {
            // It may have come before: then it is here already, of this epoch, and its acknowledgement was or will be.
            let is_here = group.range.last <= last.lsn;
            return if is_here {
                Err(Refusal::OutOfOrder)
            } else {
                self.out_of_step(from, Refusal::OutOfOrder)
            };
        }
        self.ledger.append(&group);
        self.write(group);
        self.learn_commit(commit);
        if !self.rules(Rule::PersistBeforeSend) {
            self.acknowledge();
        }
        Ok(())
    }

    /// Tells the primary how much is synced here, and nothing that is not (S1).
    pub(super) fn acknowledge(&mut self) {
        let Some(leader) = self.leader.filter(|leader| self.is_following && *leader != self.config.me) else {
            return;
        };
        let is_whole = self.is_whole();
        let (incarnation, mut durable) = (self.ledger.incarnation, self.ledger.durable);
        if !self.rules(Rule::PersistBeforeSend) {
            durable = self.ledger.last().lsn;
        }
        self.send(leader, Message::Ack { incarnation, durable, is_whole });
        self.become_whole();
    }

    /// The primary's own commit watermark, as far as this log goes: what follows it is a part of the primary's.
    fn learn_commit(&mut self, commit: Lsn) {
        if self.is_following {
            self.commit_through(commit.min(self.ledger.last().lsn));
        }
    }

    /// Forgets what is not the primary's.
    pub(super) fn truncate(&mut self, after: Lsn) {
        self.ledger.truncate(after);
        self.unsynced_since = (self.ledger.durable < after).then_some(self.now);
        let incarnation = self.ledger.incarnation;
        self.outbox.push(Effect::Truncate { after, incarnation });
    }

    /// The primary has heard of a later life of this disk's log than the one that is here: the directory is an old copy of
    /// itself. What is said in a life that others may have spoken of before would count for nothing, or be taken for theirs
    /// (S6); so one begins that nobody has heard of. No record goes.
    fn outlive(&mut self, known: LogIncarnation) -> Taken {
        if known > LogIncarnation::KNOWN_MAX {
            return Err(Refusal::StaleIncarnation);
        }
        let after = self.ledger.last().lsn;
        self.ledger.outlive(known);
        self.is_following = false;
        let incarnation = self.ledger.incarnation;
        self.outbox.push(Effect::Truncate { after, incarnation });
        // S1: nothing is said in this life before it is durable. The disk does things in order, and this is saved last.
        self.outbox.save(self.meta);
        Ok(())
    }

    /// What came cannot be taken here: the primary has to look again.
    fn out_of_step(&mut self, from: Member, refusal: Refusal) -> Taken {
        let (incarnation, last) = (self.ledger.incarnation, self.ledger.last());
        self.send(from, Message::OutOfOrder { incarnation, last });
        Err(refusal)
    }

    /// A group whose parts contradict each other is nobody's.
    pub(super) fn check_group(&self, group: &Group) -> Taken {
        let is_odd = !is_possible(group.range)
            || group.epoch > self.meta.epoch
            || group.content.is_control() && group.range.first != group.range.last;
        if is_odd {
            return Err(Refusal::ImpossibleLsn);
        }
        let spans_fit = match &group.content {
            Content::Records(spans) => spans.as_slice().iter().all(|span| {
                span.records > 0
                    && span.lsn >= group.range.first
                    && span
                        .lsn
                        .get()
                        .checked_add(u64::from(span.records) - 1)
                        .is_some_and(|last| last <= group.range.last.get())
            }),
            Content::Membership(membership) => membership.is_sound(),
            Content::EpochStart | Content::Register | Content::Expire { .. } => true,
        };
        if !spans_fit {
            return Err(Refusal::ImpossibleLsn);
        }
        if group.bytes > self.config.limits.group_bytes_max { Err(Refusal::ImpossibleSize) } else { Ok(()) }
    }
}
