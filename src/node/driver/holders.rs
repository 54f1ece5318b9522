//! Who has what was appended, and what was promised to whoever waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::action::{Action, Append, Placed};
use crate::protocol::request::Copies;
use crate::protocol::{Member, Outcome, Replica};
use crate::types::{Epoch, Lsn, LsnRange, ReplicaId};

/// Appends that wait for copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    /// What is in the log and not committed, in its order.
    taken: VecDeque<(u64, LsnRange)>,
    /// What was asked for by those who do not just wait for the commit.
    asked: BTreeMap<u64, Asked>,
    /// How many of them wait for this disk only.
    locals: usize,
    /// What was answered to those who waited for this disk reaches up to here.
    told: Lsn,
    /// What is committed and waits for more copies.
    beyond: Vec<Beyond>,
    /// The copies as they were known last in this reign, by member.
    copies: Vec<(Member, Lsn)>,
    /// What this disk has synced.
    own: Lsn,
    /// The holders that were named last: most appends have the same.
    holders: Arc<[ReplicaId]>,
    /// Of this primary's reign.
    epoch: Epoch,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// The primary's own disk.
    Local,
    /// The same, and it was answered.
    Told,
    /// More than a write quorum.
    More(Copies),
}

/// An append that is committed and waits for more copies.
#[derive(Clone, Debug)]
struct Beyond {
    token: u64,
    /// `None` for a retry of what was taken too long ago for that to be known.
    range: Option<LsnRange>,
    /// The last record that has to be copied: its own, or one that is known to come after it.
    last: Lsn,
    copies: Copies,
    is_duplicate: bool,
}

impl Waiting {
    /// Whether so many are committed and wait for more copies that no more of their kind are to be taken.
    pub(super) const fn is_full(&self, copies: Copies, most: usize) -> bool {
        matches!(copies, Copies::All | Copies::AtLeast(_)) && self.beyond.len() >= most
    }

    /// What an append waits for.
    pub(super) fn ask(&mut self, append: &Append) {
        let asked = match append.copies {
            Copies::Local => Asked::Local,
            Copies::Quorum => return,
            more => Asked::More(more),
        };
        self.locals += usize::from(asked == Asked::Local);
        self.asked.insert(append.token, asked);
    }

    /// A group was made of these.
    pub(super) fn take<'a>(&mut self, first: Lsn, appends: impl Iterator<Item = &'a Append>) {
        let mut next = first;
        for append in appends {
            let range = LsnRange { first: next, last: next.plus(append.records.count() as u64 - 1) };
            self.taken.push_back((append.token, range));
            next = range.last.next();
        }
    }

    /// What is in the log and not committed, in its order.
    pub(super) fn taken(&self) -> impl Iterator<Item = (u64, LsnRange)> + '_ {
        self.taken.iter().copied()
    }

    /// The reign is over, or another one begins. Nobody will tell any more whether what is committed came to have the
    /// copies that were asked for: it is unknown. A retry with the same numbers finds it, and waits for them there.
    pub(super) fn deposed(&mut self, epoch: Epoch, actions: &mut VecDeque<Action>) {
        for Beyond { token, .. } in std::mem::take(&mut self.beyond) {
            actions.push_back(Action::Resolve { token, outcome: Outcome::Unknown });
        }
        assert!(self.taken.is_empty(), "the core has answered all that it had taken");
        self.copies.clear();
        self.own = Lsn::ZERO;
        (self.told, self.epoch) = (Lsn::ZERO, epoch);
    }

    /// The core's answer to a token is the answer to whoever has asked, or is none yet.
    pub(super) fn resolve(&mut self, token: u64, outcome: Outcome, replica: &Replica) -> Option<Action> {
        let place = self.taken.pop_front_if(|(taken, _)| *taken == token).map(|(_, range)| range);
        let asked = if self.asked.is_empty() { None } else { self.asked.remove(&token) };
        self.locals -= usize::from(asked == Some(Asked::Local));
        let (range, is_duplicate) = match outcome {
            _ if asked == Some(Asked::Told) => return None,
            Outcome::Duplicate { range } => (range, true),
            Outcome::Committed { .. } if place.is_some() => (place, false),
            _ => return Some(Action::Resolve { token, outcome }),
        };
        if let Some(Asked::More(copies)) = asked {
            let last = range.map_or_else(|| replica.commit(), |range| range.last);
            if !self.has(copies, last, replica) {
                self.beyond.push(Beyond { token, range, last, copies, is_duplicate });
                return None;
            }
        }
        Some(self.appended(token, range, (true, is_duplicate)))
    }

    /// Answers whom the newest copies have served.
    pub(super) fn answer(&mut self, replica: &Replica, actions: &mut VecDeque<Action>) {
        if self.locals == 0 && self.beyond.is_empty() {
            return;
        }
        self.look(replica);
        self.answer_locals(actions);
        let mut waiting = std::mem::take(&mut self.beyond);
        waiting.retain(|beyond| {
            let Beyond { token, range, last, copies, is_duplicate } = *beyond;
            let is_served = self.has(copies, last, replica);
            if is_served {
                actions.push_back(self.appended(token, range, (true, is_duplicate)));
            }
            !is_served
        });
        self.beyond = waiting;
    }

    /// Answers those who wait for this disk only and are not committed yet.
    fn answer_locals(&mut self, actions: &mut VecDeque<Action>) {
        let own = self.own;
        let from = self.taken.partition_point(|(_, range)| range.last <= self.told);
        let through = self.taken.partition_point(|(_, range)| range.last <= own);
        for place in from..through {
            let (token, range) = self.taken[place];
            let Some(asked) = self.asked.get_mut(&token).filter(|asked| **asked == Asked::Local) else {
                continue;
            };
            *asked = Asked::Told;
            self.locals -= 1;
            actions.push_back(self.appended(token, Some(range), (false, false)));
        }
        self.told = self.told.max(own);
    }

    /// Takes note of who has how much.
    pub(super) fn look(&mut self, replica: &Replica) {
        let Some(membership) = replica.membership() else { return };
        self.own = replica.copies().next().map_or(Lsn::ZERO, |(_, through)| through);
        self.copies.clear();
        self.copies.extend(replica.copies().filter(|(member, _)| membership.has(*member)));
        self.copies.sort_unstable();
    }

    /// Whether there are as many copies as asked for.
    fn has(&self, copies: Copies, lsn: Lsn, replica: &Replica) -> bool {
        let holds =
            |member: Member| self.copies.iter().any(|(other, through)| *other == member && *through >= lsn);
        let Some(membership) = replica.membership() else { return false };
        match copies {
            Copies::AtLeast(count) => {
                self.copies.iter().filter(|(_, through)| *through >= lsn).count() >= usize::from(count)
            }
            Copies::All => membership.members().filter(|member| membership.votes(*member)).all(holds),
            _ => true,
        }
    }

    fn appended(
        &mut self,
        token: u64,
        range: Option<LsnRange>,
        (is_committed, is_duplicate): (bool, bool),
    ) -> Action {
        let holders = range.map_or_else(Arc::default, |range| self.holders(range.last));
        let placed = Placed { range, epoch: self.epoch, holders, is_committed, is_duplicate };
        Action::Appended { token, placed }
    }

    /// Who has everything up to this record, by id.
    fn holders(&mut self, lsn: Lsn) -> Arc<[ReplicaId]> {
        let holds = |(member, through): &(Member, Lsn)| (*through >= lsn).then_some(member.id);
        if !self.copies.iter().filter_map(holds).eq(self.holders.iter().copied()) {
            self.holders = self.copies.iter().filter_map(holds).collect();
        }
        Arc::clone(&self.holders)
    }
}
