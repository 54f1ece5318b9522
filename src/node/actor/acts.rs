//! What the driver wants done.

use std::time::Instant;

use super::commits::Commits;
use super::{Node, Store};
use crate::node::apply::ApplyNote;
use crate::node::disk::DiskNote;
use crate::node::driver::{Action, Task};
use crate::node::observe;
use crate::node::readers::ReadNote;
use crate::node::tokens::{Asked, Pending};
use crate::protocol::request::{Appended, Refused, Reply};
use crate::protocol::{Halt, Outcome, Role};
use crate::transport::Network;
use crate::types::{Lsn, ProducerId};

impl Node {
    /// Does all that the driver wants done now.
    pub(super) fn act(&mut self, network: &mut dyn Network) {
        while let Some(action) = self.driver.poll() {
            match action {
                Action::Disk(task) if self.store == Store::Open && task.is_read() => self.reads.push(task),
                Action::Disk(task) if self.store == Store::Open => {
                    if let Task::Write { group, frames, .. } = &task {
                        self.upkeep.wrote(frames.len() as u64);
                        if self.driver.role() == Role::Primary {
                            self.commits.begun(group.range.last);
                        }
                    }
                    self.tasks.push(task);
                }
                Action::Disk(_) => {}
                Action::Send { lane, envelope, payload } => network.send(lane, &envelope, &payload),
                Action::Appended { token, placed } => {
                    if let Some(Pending { asker, .. }) = self.tokens.redeem(token) {
                        self.answers.push((asker, Reply::Appended(placed.into())));
                    }
                }
                Action::Resolve { token, outcome } => {
                    if let Some(Pending { asker, asked }) = self.tokens.redeem(token) {
                        self.answers.push((asker, reply_of(asked, outcome)));
                    }
                }
                Action::ReadReady { token, lsn } => {
                    if let Some(Pending { asker, .. }) = self.tokens.redeem(token) {
                        self.linear.push((lsn, asker));
                    }
                }
                Action::ReadFailed { token, primary } => {
                    if let Some(Pending { asker, .. }) = self.tokens.redeem(token) {
                        self.refuse(network, asker, Refused::NotPrimary { primary });
                    }
                }
                Action::Committed(lsn) => {
                    self.commit = self.commit.max(lsn);
                    self.commits.committed(lsn);
                }
                Action::Became { role, epoch, primary } => {
                    self.commits = Commits::default();
                    observe::became(self.me, role, epoch, primary);
                }
                Action::Pin(pin) => self.upkeep.pin(pin),
                Action::Reopen { is_whole } => self.reopen(is_whole, false),
                Action::Halt(halt) => self.halt(halt),
            }
        }
        self.hand_over_tasks();
        self.show(network);
        // Whoever is told may read at once what it is told of.
        let mut answers = std::mem::take(&mut self.answers);
        for (asker, reply) in answers.drain(..) {
            self.answer(network, asker, reply, &[]);
        }
        self.answers = answers;
    }

    pub(super) fn hand_over_tasks(&mut self) {
        let tasks = std::mem::take(&mut self.tasks);
        if !tasks.is_empty() {
            self.tell_disk(DiskNote::Tasks(tasks));
        }
        for read in std::mem::take(&mut self.reads) {
            self.tell_feeder(read);
        }
    }

    /// Readers are shown what is committed and synced here: after a crash of this replica it is still there.
    fn show(&mut self, network: &mut dyn Network) {
        let durable = self.driver.replica().copies().next().map_or(Lsn::ZERO, |(_, durable)| durable);
        let through = self.commit.min(durable);
        if through > self.upkeep.shown {
            self.upkeep.shown = through;
            self.ways.shown.advance(through);
            // Whoever has nothing to do is not woken: on a small machine that would cost more than a group itself.
            if self.upkeep.needs_applying() || self.ways.applied.is_awaited() {
                self.tell_apply(ApplyNote::More);
            }
            if self.ways.audience.is_there() {
                self.tell_readers(ReadNote::More);
            }
            observe::committed(through);
        }
        let shown = self.upkeep.shown;
        for (lsn, asker) in self.linear.extract_if(.., |(lsn, _)| *lsn <= shown).collect::<Vec<_>>() {
            self.answer(network, asker, Reply::Linearized(lsn), &[]);
        }
    }

    fn halt(&mut self, halt: Halt) {
        self.halted = Some(halt);
        observe::halted(self.me, halt);
        if halt == Halt::DiskFailed && self.store == Store::Open {
            self.close_store();
        }
    }

    /// The store is gone, and is tried again after a while.
    pub(super) fn close_store(&mut self) {
        let now = Instant::now();
        let pause = self.pauses.failed(now);
        self.tasks.clear();
        self.reads.clear();
        self.ways.shown.reopened(None);
        self.store = Store::Failed { until: now + pause };
    }

    /// The store is opened again, after all that was asked of it.
    pub(super) fn reopen(&mut self, is_whole: bool, doubts: bool) {
        self.hand_over_tasks();
        self.ways.shown.reopened(None);
        self.store = Store::Opening;
        let has_peers = !self.peers.addresses.is_empty();
        self.tell_disk(DiskNote::Reopen { is_whole, doubts, has_peers });
    }
}

/// What an outcome means to whoever has asked.
fn reply_of(asked: Asked, outcome: Outcome) -> Reply {
    let not_possible = |reason: &str| Refused::NotPossible { reason: reason.to_owned() };
    Reply::Refused(match outcome {
        Outcome::Committed { range, .. } if asked == Asked::Register => {
            return Reply::Registered(ProducerId::new(range.first.get()));
        }
        Outcome::Committed { range, epoch } if asked == Asked::Append => {
            let (range, holders) = (Some(range), Vec::new());
            return Reply::Appended(Appended {
                range,
                epoch,
                holders,
                is_committed: true,
                is_duplicate: false,
            });
        }
        Outcome::Committed { .. }
        | Outcome::Transferred { .. }
        | Outcome::Duplicate { .. }
        | Outcome::Stands => return Reply::Done,
        Outcome::NotTaken { primary } => Refused::NotPrimary { primary },
        Outcome::Unknown => Refused::Unknown,
        Outcome::Busy => Refused::Busy,
        Outcome::OutOfSequence { expected } => Refused::OutOfSequence { expected },
        Outcome::UnknownProducer => Refused::UnknownProducer,
        Outcome::TooLarge { bytes_max } => Refused::BadSize { bytes_max },
        Outcome::Invalid => not_possible("there is no record in it, or no LSN left"),
        Outcome::TooFew { members } => Refused::NotPossible {
            reason: format!("it asks for more copies than there are members ({members}); ask for fewer"),
        },
        Outcome::ChangeRefused => not_possible(
            "another change is under way, too few replicas follow, or it makes no sense; look at the status and ask \
             again",
        ),
        Outcome::NotTransferred => {
            not_possible("no other replica could take over in time; this one still leads")
        }
        Outcome::HearsPrimary { primary: Some(primary) } => Refused::NotPossible {
            reason: format!(
                "replica {primary} leads, and was heard here a moment ago; ask it to hand over, or ask again if it is gone"
            ),
        },
        // It was just started, or a primary has just gone: whoever asks again is heeded.
        Outcome::HearsPrimary { primary: None } => Refused::Busy,
        Outcome::MayNotStand => {
            not_possible("it is no voter, or not whole, or its disk stands still; look at its status")
        }
    })
}
