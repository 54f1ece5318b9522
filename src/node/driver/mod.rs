//! A replica with its bytes: the driver that a node's threads and a simulation share.
//!
//! A [`Driver`] is the protocol's core and what the core leaves to others because it never sees a byte. It checks what
//! comes with messages, gathers appends into groups and frames them once, keeps bytes as long as a message that bears
//! them waits (S1), and answers appends by the copies that they asked for. Like the core it has no clock, thread, socket
//! or file: it is told what has happened, and says in [`Action`]s what is to be done. [`perform`] does on a store
//! what the disk is to do.
//!
//! ```text
//! message, append, input, done, tick  ->  Driver  ->  poll: Action::{Disk, Send, Appended, Resolve, ...}
//!                          Action::Disk(Task) -> perform -> Done -> Driver::done
//! ```

mod action;
mod cargo;
mod check;
mod gather;
mod holders;
mod scribe;
mod task;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::Bytes;

pub use self::action::{Action, Append, Input, Placed};
use self::cargo::Cargo;
use self::gather::Gather;
use self::holders::Waiting;
pub use self::scribe::{Scribe, perform, read};
pub use self::task::{Done, Task};
use super::frames::frame_group;
use crate::protocol::request::Copies;
use crate::protocol::{
    self, Base, Config, ConfigError, Effect, Envelope, Group, Outcome, Replica, Role, State,
};
use crate::protocol::{Refusals, Status, Time};
use crate::transport::Lane;
use crate::types::{LogIncarnation, Lsn, LsnRange};

/// How a driver gathers, and how much it keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriverOptions {
    /// While fewer groups of its own wait for their commit, a primary makes a group of whatever has come.
    pub depth: usize,
    /// Once so many bytes have gathered, it makes one all the same.
    pub gather_bytes: u64,
    /// Bytes of a group of several appends, at most.
    pub group_bytes: u64,
    /// Bytes that are kept for messages which wait for the disk, at most; beyond it, the oldest are lost.
    pub held_bytes_max: u64,
}

impl Default for DriverOptions {
    fn default() -> DriverOptions {
        DriverOptions { depth: 2, gather_bytes: 256 << 10, group_bytes: 1 << 20, held_bytes_max: 16 << 20 }
    }
}

/// What a driver has kept from its core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Messages whose bytes are not what they say: the core has not seen them.
    pub bad_payloads: u64,
    /// Messages that were not sent, because their bytes had been given up.
    pub bytes_given_up: u64,
}

/// One replica with its bytes, without clock, disk or network: see the top of its module.
#[derive(Debug)]
pub struct Driver {
    replica: Replica,
    options: DriverOptions,
    now: Time,
    role: Role,
    /// The life of the log in which the next group is written.
    incarnation: LogIncarnation,
    gather: Gather,
    waiting: Waiting,
    cargo: Cargo,
    actions: VecDeque<Action>,
    counts: Counts,
}

impl Driver {
    /// The replica that recovery has found on its disk.
    ///
    /// # Errors
    /// If the configuration cannot work, or the state contradicts itself.
    pub fn recover(
        config: Config,
        options: DriverOptions,
        state: State,
        now: Time,
    ) -> Result<Driver, ConfigError> {
        let incarnation = state.incarnation;
        let replica = Replica::recover(config, state, now)?;
        let mut driver = Driver {
            role: replica.role(),
            replica,
            options,
            now,
            incarnation,
            gather: Gather::default(),
            waiting: Waiting::default(),
            cargo: Cargo::default(),
            actions: VecDeque::new(),
            counts: Counts::default(),
        };
        driver.drain();
        Ok(driver)
    }

    /// A message has come, with the bytes that travel beside it: if they are not what it says, nothing has come.
    pub fn message(&mut self, now: Time, envelope: Envelope, payload: Bytes) {
        if !check::is_sound(&envelope.message, &payload) {
            self.counts.bad_payloads += 1;
            return;
        }
        self.cargo.came(&envelope.message, payload);
        self.handle(now, protocol::Input::Received(envelope));
    }

    /// A client wants to append. It becomes part of a group with all that comes before the next
    /// [`poll`](Driver::poll), or later, if groups are under way: see [`DriverOptions`].
    pub fn append(&mut self, now: Time, append: Append) {
        self.now = self.now.max(now);
        if let Some(members) = self.too_few_for(append.copies) {
            let outcome = Outcome::TooFew { members };
            return self.actions.push_back(Action::Resolve { token: append.token, outcome });
        }
        // Its copies may never come; what was taken is committed all the same, and may wait.
        if self.waiting.is_full(append.copies, self.replica.config().limits.waiting_max) {
            let (token, outcome) = (append.token, Outcome::Busy);
            return self.actions.push_back(Action::Resolve { token, outcome });
        }
        self.waiting.ask(&append);
        self.gather.add(append);
    }

    /// Something has happened that has nothing to do with bytes.
    pub fn input(&mut self, now: Time, input: Input) {
        let input = match input {
            Input::Register { token } => protocol::Input::Register { token },
            Input::Read { token } => protocol::Input::Read { token },
            Input::Change { token, change } => protocol::Input::Change { token, change },
            Input::Transfer { token, to } => protocol::Input::Transfer { token, to },
            Input::Promote { token } => protocol::Input::Promote { token },
            Input::PeerLost { id } => protocol::Input::PeerLost { id },
            Input::DiskFailed => protocol::Input::DiskFailed,
        };
        self.handle(now, input);
    }

    /// The disk has done something.
    pub fn done(&mut self, now: Time, done: Done) {
        let input = match done {
            Done::MetaSaved { number } => {
                self.cargo.saved(number);
                protocol::Input::MetaSaved { number }
            }
            Done::Durable { incarnation, lsn } => protocol::Input::Durable { incarnation, lsn },
            Done::LogRead { to, group, frames } => {
                self.cargo.frames(&group, Lane::CatchUp, frames);
                protocol::Input::LogRead { to, group }
            }
            Done::LogGone { to } => protocol::Input::LogGone { to },
            Done::RangeRead { to, group, digest, frames } => {
                self.cargo.frames(&group, Lane::CatchUp, frames);
                protocol::Input::RangeRead { to, group, digest }
            }
            Done::SnapshotRead { to, snapshot, offset, digest, bytes: part } => {
                let bytes = u32::try_from(part.len()).expect("no more than was asked for, in 32 bits");
                self.cargo.chunk(snapshot, offset, part);
                protocol::Input::SnapshotRead { to, snapshot, offset, bytes, digest }
            }
            Done::SnapshotGone { to } => protocol::Input::SnapshotGone { to },
            Done::ChunkStaged { snapshot, bytes } => protocol::Input::ChunkStaged { snapshot, bytes },
            Done::ChunkRefused { snapshot, offset } => protocol::Input::ChunkRefused { snapshot, offset },
            Done::Installed { snapshot, incarnation } => protocol::Input::Installed { snapshot, incarnation },
            Done::Mended { range } => protocol::Input::Mended { range },
            Done::MendRefused { range } => protocol::Input::MendRefused { range },
            Done::SnapshotTaken { base, contents } => {
                protocol::Input::SnapshotTaken { base: *base, contents }
            }
            Done::Trimmed { through, .. } => protocol::Input::Trimmed { through },
        };
        self.handle(now, input);
    }

    /// Time has passed: the deadline that was asked for is here.
    pub fn tick(&mut self, now: Time) {
        self.handle(now, protocol::Input::Tick);
    }

    /// The next thing to be done.
    pub fn poll(&mut self) -> Option<Action> {
        self.propose_gathered();
        self.actions.pop_front()
    }

    /// When to [`tick`](Driver::tick), if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.replica.next_deadline()
    }

    /// What the replica is and knows now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.replica.status()
    }

    /// What it is now.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The replicated state as of what is committed now: what a snapshot of the application at that record goes with.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        self.replica.base()
    }

    /// Messages that the core has refused, by reason.
    #[must_use]
    pub const fn refusals(&self) -> &Refusals {
        self.replica.refusals()
    }

    /// What was kept from the core.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The core itself, to look at.
    #[must_use]
    pub const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Appends that are in the log and not committed, in its order: each with its token.
    pub fn pending(&self) -> impl Iterator<Item = (u64, LsnRange)> + '_ {
        self.waiting.taken()
    }

    /// Bytes that are kept for messages which wait for the disk.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.cargo.held_bytes()
    }

    fn leads(&self) -> bool {
        self.role == Role::Primary
    }

    /// How many members there are, if those are fewer than the copies that are asked for.
    fn too_few_for(&self, copies: Copies) -> Option<u64> {
        let Copies::AtLeast(wanted) = copies else { return None };
        let membership = self.replica.membership().filter(|_| self.leads())?;
        let count = |first: usize| membership.members().skip(first);
        // In a joint membership, who is in both halves comes twice.
        let members = count(0).zip(1..).filter(|(member, next)| !count(*next).any(|other| other == *member));
        let members = members.count() as u64;
        (members < u64::from(wanted)).then_some(members)
    }

    fn handle(&mut self, now: Time, input: protocol::Input) {
        self.now = self.now.max(now);
        self.replica.handle(self.now, input);
        self.drain();
    }

    /// Turns what the core wants into actions.
    fn drain(&mut self) {
        while let Some(effect) = self.replica.poll() {
            self.carry_out(effect);
        }
        if self.leads() {
            self.waiting.answer(&self.replica, &mut self.actions);
        }
        self.cargo.put_down(self.leads(), self.options.held_bytes_max);
    }

    fn carry_out(&mut self, effect: Effect) {
        let action = match effect {
            Effect::SaveMeta { number, meta } => {
                self.cargo.asked(number);
                Action::Disk(Task::SaveMeta { number, meta })
            }
            Effect::Send(envelope) => return self.send(envelope),
            Effect::Write(group) => return self.write(group),
            Effect::Truncate { after, incarnation } => {
                self.incarnation = incarnation;
                Action::Disk(Task::Truncate { after, incarnation })
            }
            Effect::ReadLog { to, from, bytes_max } => Action::Disk(Task::ReadLog { to, from, bytes_max }),
            Effect::ReadRange { to, range, bytes_max } => {
                Action::Disk(Task::ReadRange { to, range, bytes_max })
            }
            Effect::ReadSnapshot { to, snapshot, offset, bytes_max } => {
                Action::Disk(Task::ReadSnapshot { to, snapshot, offset, bytes_max })
            }
            Effect::KeepSnapshots(ids) => Action::Disk(Task::KeepSnapshots(ids)),
            Effect::StageSnapshot(offer) => Action::Disk(Task::Stage(offer)),
            Effect::StageChunk { snapshot, offset, digest, .. } => {
                let bytes =
                    self.cargo.chunk_of(snapshot, offset).expect("a chunk is staged when it has come");
                Action::Disk(Task::StageChunk { snapshot, offset, digest, bytes })
            }
            Effect::Install { snapshot, incarnation, .. } => {
                self.incarnation = incarnation;
                Action::Disk(Task::Install { snapshot, incarnation })
            }
            Effect::Mend { group, digest } => {
                let frames = self.cargo.frames_of(&group).expect("records are mended when they have come");
                Action::Disk(Task::Mend { group, digest, frames })
            }
            Effect::Reopen { is_whole } => Action::Reopen { is_whole },
            Effect::Committed(lsn) => return self.committed(lsn),
            Effect::Resolve { token, outcome } => {
                let answer = self.waiting.resolve(token, outcome, &self.replica);
                return self.actions.extend(answer);
            }
            Effect::ReadReady { token, lsn } => Action::ReadReady { token, lsn },
            Effect::ReadFailed { token, primary } => Action::ReadFailed { token, primary },
            Effect::Became { role, epoch, primary } => {
                self.role = role;
                self.gather.deposed();
                self.waiting.deposed(epoch, &mut self.actions);
                Action::Became { role, epoch, primary }
            }
            Effect::Pin(pin) => Action::Pin(pin),
            Effect::Halt(halt) => Action::Halt(halt),
        };
        self.actions.push_back(action);
    }

    fn send(&mut self, envelope: Envelope) {
        match self.cargo.of(&envelope.message) {
            Some((lane, payload)) => self.actions.push_back(Action::Send { lane, envelope, payload }),
            None => self.counts.bytes_given_up += 1,
        }
    }

    /// The frames of a group are those that came or were read, or are made here, once: for the disk and for all peers.
    fn write(&mut self, group: Group) {
        let frames = self.cargo.frames_of(&group).unwrap_or_else(|| {
            let frames = if group.content.is_control() {
                frame_group(&group, &[] as &[&[u8]]).into()
            } else {
                self.waiting.take(group.range.first, self.gather.taken());
                self.gather.frames(&group)
            };
            self.cargo.frames(&group, Lane::Bulk, Bytes::clone(&frames));
            frames
        });
        let incarnation = self.incarnation;
        self.actions.push_back(Action::Disk(Task::Write { group, incarnation, frames }));
    }

    fn committed(&mut self, lsn: Lsn) {
        self.gather.committed(lsn);
        if self.leads() {
            self.waiting.look(&self.replica);
        }
        self.actions.push_back(Action::Committed(lsn));
    }
}
