//! Faults: what goes wrong, and when it is right again.

use annals::node::Input;
use annals::protocol::{Base, Start};

use crate::driver::{Local, Told};
use crate::invariants::Check;
use crate::ledger::Ledger;
use crate::mix::Kind;
use crate::operator::OPERATOR;
use crate::oracle::Ask;
use crate::seeds::Chance;
use crate::storage::Storage;
use crate::trouble::Plan;
use crate::world::{Event, MS, World};

/// What is put right later.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Undo {
    Links,
    Resume(usize),
}

impl World {
    /// The next fault.
    pub(crate) fn fault(&mut self) -> Check {
        if self.is_healed {
            return Ok(());
        }
        let pause = self.draw.between(10 * MS, self.mix.every_ms * MS);
        self.after(pause, Event::Fault);
        self.operate();
        if self.mix.kinds.is_empty() {
            return Ok(());
        }
        let kind = self.draw.pick(&self.mix.kinds);
        let at = self.any();
        self.trace.note(self.now, || format!("fault: {kind:?} at {}", at + 1));
        match kind {
            Kind::Symmetric | Kind::OneWay | Kind::Partial | Kind::Chain | Kind::SlowLink => self.part(kind),
            Kind::Reset => self.reset(at),
            Kind::Kill => self.kill_for_a_while(at),
            Kind::PowerLoss => (0..self.nodes.len()).for_each(|at| self.kill_for_a_while(at)),
            Kind::Pause => self.pause(at),
            Kind::ClockStep => self.step_clock(at)?,
            Kind::ClockDrift => {
                let most = self.mix.drift_ppm as u64;
                let ppm = self.draw.below(2 * most + 1) as i64 - most as i64;
                self.nodes[at].clock.drift(self.now, ppm);
            }
            Kind::PeerLost => self.lose_peer(at)?,
            Kind::DiskFails => self.nodes[at].spindle.fails = true,
            Kind::DiskStalls => {
                let most = if self.mix.watches_stalls { 9000 } else { 3000 };
                let long = self.draw.between(100 * MS, most * MS);
                self.nodes[at].spindle.stalled_until = self.now + long;
            }
            Kind::DiskFull => return self.fill_disk(at),
            Kind::CutShort => self.plan(at, Plan::power),
            Kind::StepFails => self.plan(at, Plan::fails),
            Kind::StepFills => self.plan(at, Plan::full),
            Kind::Rot => return self.rot(at),
            Kind::RotBase => return self.rot_base(at),
            Kind::Blank => self.replace_disk(at),
            Kind::Snapshot => self.take_snapshot(at),
            Kind::Trim => {
                self.take_snapshot(at);
                return self.trim(at, true);
            }
            Kind::Transfer => self.transfer(),
            Kind::Change => self.change_mind(),
            Kind::Quorums => self.change_quorums(),
            Kind::Promote => drop(self.ask_node(OPERATOR, at, Ask::Promote)),
            Kind::Garbage if self.draw.below(2) == 0 => return self.mutated(),
            Kind::Garbage => return self.garbage(at),
            Kind::OldCopy => self.copy_or_put_back(),
        }
        Ok(())
    }

    /// Lets something strike a step of the store.
    fn plan(&mut self, at: usize, draw: fn(&mut Chance) -> Plan) {
        let plan = draw(&mut self.draw);
        self.trace.note(self.now, || format!("{plan:?}"));
        if let Some(storage) = &mut self.nodes[at].storage {
            storage.plan(plan);
        }
    }

    pub(crate) fn any(&mut self) -> usize {
        // The primary is hit more often than its share: that is where the decisions are.
        let primary = (0..self.nodes.len()).find(|&at| self.nodes[at].is_primary());
        let any = self.draw.below(self.nodes.len() as u64) as usize;
        primary.filter(|_| self.draw.below(3) == 0).unwrap_or(any)
    }

    pub(crate) fn undo(&mut self, undo: Undo) -> Check {
        match undo {
            Undo::Links => {
                self.network.heal(self.mix.weather);
                Ok(())
            }
            Undo::Resume(at) => self.resume(at),
        }
    }

    fn part(&mut self, kind: Kind) {
        let count = self.nodes.len();
        let one = self.any();
        let other = (one + 1 + self.draw.below(count as u64 - 1) as usize) % count;
        let side: u64 = self.draw.next() | 1 << one & !(1 << other);
        let way = self.draw.below(2) == 0;
        for from in 0..count {
            for to in (0..count).filter(|&to| to != from) {
                let is_cut = match kind {
                    Kind::Symmetric => (side >> from ^ side >> to) & 1 == 1,
                    Kind::OneWay => {
                        if way {
                            from == one
                        } else {
                            to == one
                        }
                    }
                    Kind::Partial => (from, to) == (one, other) || (to, from) == (one, other),
                    Kind::Chain => from.abs_diff(to) > 1,
                    _ => false,
                };
                if is_cut {
                    self.network.cut(from, to, true);
                }
                if kind == Kind::SlowLink && (from == one || to == one) {
                    self.network.slow(from, to, 30);
                }
            }
        }
        let long = self.draw.between(20 * MS, 2500 * MS);
        self.after(long, Event::Undo(Undo::Links));
    }

    fn reset(&mut self, one: usize) {
        let count = self.nodes.len();
        let other = (one + 1 + self.draw.below(count as u64 - 1) as usize) % count;
        self.network.reset(one, other);
        for (at, peer) in [(one, other), (other, one)] {
            let input = Input::PeerLost { id: self.nodes[peer].ledger.member.id };
            let (life, delay) = (self.nodes[at].life, self.draw.below(5 * MS));
            let what = Box::new(Local::Tell(vec![Told::Input(input)]));
            self.after(delay, Event::Local { node: at, life, what });
        }
    }

    fn lose_peer(&mut self, at: usize) -> Check {
        let peer = self.any();
        if peer == at {
            return Ok(());
        }
        let id = self.nodes[peer].ledger.member.id;
        self.feed_if_awake(at, Told::Input(Input::PeerLost { id }))
    }

    pub(crate) fn feed_if_awake(&mut self, at: usize, told: Told) -> Check {
        if self.nodes[at].is_paused { Ok(()) } else { self.feed(at, told) }
    }

    fn kill_for_a_while(&mut self, at: usize) {
        if !self.nodes[at].is_up() {
            return;
        }
        self.kill(at);
        let most = self.draw.pick(&[20, 200, 1500]);
        let down = self.draw.between(MS, most * MS);
        self.after(down, Event::Start { node: at });
    }

    fn pause(&mut self, at: usize) {
        if self.nodes[at].is_up() {
            self.nodes[at].is_paused = true;
            let long = self.draw.between(50 * MS, 2500 * MS);
            self.after(long, Event::Undo(Undo::Resume(at)));
        }
    }

    /// The process goes on: it finds all that has come in the meantime, in order.
    pub(crate) fn resume(&mut self, at: usize) -> Check {
        if std::mem::take(&mut self.nodes[at].is_paused) {
            for event in std::mem::take(&mut self.nodes[at].held) {
                self.at(self.now, event);
            }
        }
        Ok(())
    }

    fn step_clock(&mut self, at: usize) -> Check {
        let by = self.draw.between(MS, 2000 * MS);
        self.nodes[at].clock.step(self.now, by);
        self.feed_if_awake(at, Told::Tick)
    }

    /// No room: the process ends, and starts again when there is some.
    fn fill_disk(&mut self, at: usize) -> Check {
        let down = self.draw.between(100 * MS, 2000 * MS);
        if self.nodes[at].is_up() && !self.nodes[at].is_paused {
            self.nodes[at].full_until = self.now + down;
            return self.feed(at, Told::Input(Input::DiskFailed));
        }
        Ok(())
    }

    /// Whether one more replica may lose something: a majority of what votes stays whole.
    fn may_harm(&self, at: usize) -> bool {
        let is_sick = |at: usize| {
            let node = &self.nodes[at];
            let may_be_noted = node.ledger.other.as_ref().is_some_and(|other| other.is_noted);
            may_be_noted
                || node.ledger.is_noted
                || !node.ledger.harmed.is_empty()
                || node.ledger.is_blank
                || node.is_spare
        };
        let membership =
            self.nodes.iter().filter_map(|node| node.ledger.membership()).max_by_key(|m| m.generation);
        let Some(membership) = membership.filter(|membership| !membership.is_joint()) else { return false };
        let voters = &membership.electorate.voters;
        let whole = voters.iter().filter(|voter| {
            let place = self.place(voter.member.id);
            place.is_some_and(|place| {
                // Whoever has not heard of the newest membership acts on an older one, which may need more.
                let knows = self.nodes[place]
                    .ledger
                    .membership()
                    .is_some_and(|m| m.generation == membership.generation);
                place != at && !is_sick(place) && self.nodes[place].ledger.member == voter.member && knows
            })
        });
        let needed = membership.electorate.election_quorum().max(membership.electorate.write_quorum());
        !is_sick(at) && whole.count() >= needed
    }

    /// Records of this disk are lost; it is found out when the process starts again, or somebody reads them.
    fn rot(&mut self, at: usize) -> Check {
        if !self.may_harm(at) || !self.nodes[at].is_up() {
            return Ok(());
        }
        let node = &mut self.nodes[at];
        // What nothing vouches for cannot be told from a torn write.
        let vouched = node.storage.as_mut().map(Storage::vouch).transpose()?.unwrap_or(node.ledger.synced);
        // What the base covers is read too, by peers that are behind it.
        let is_all = self.draw.below(2) == 0;
        let first = if is_all { node.ledger.begin.lsn } else { node.ledger.snapshot.base.position.lsn };
        let frames = node.ledger.frames(first.next(), vouched);
        let count = if frames.is_empty() { 0 } else { self.draw.between(0, 2) };
        if count == 0 && node.storage.is_some() {
            self.doubt(at)?;
        }
        // A process that is up does not notice, before somebody reads it.
        if count == 0 || self.nodes[at].storage.is_none() || self.draw.below(2) == 0 {
            self.kill_for_a_while(at);
        }
        for _ in 0..count {
            let first = self.draw.below(frames.len() as u64) as usize;
            let (place, more) = (self.draw.next(), self.draw.below(5) as usize);
            let node = &mut self.nodes[at];
            let range = frames[first];
            let frame = node.ledger.slot(range.first).expect("it was written").frame.clone();
            match &mut node.storage {
                Some(storage) => {
                    let is_found = storage.rot(&frame, place);
                    node.ledger.harmed.extend(is_found.then_some(range.last));
                    node.ledger.was_harmed |= is_found;
                }
                None => {
                    node.ledger.is_noted = true;
                    node.ledger.lose(range.first, frames[(first + more).min(frames.len() - 1)].last);
                }
            }
        }
        // Nobody may harm another one before this one is whole again.
        let node = &self.nodes[at];
        self.trace.note(self.now, || {
            format!("{} is harmed: {:?} {:?}", at + 1, node.ledger.harmed, node.ledger.lost)
        });
        Ok(())
    }

    /// The base of this disk does not check any more, and is put aside before the process starts again.
    fn rot_base(&mut self, at: usize) -> Check {
        if !self.may_harm(at) || !self.nodes[at].is_up() {
            return Ok(());
        }
        self.kill_for_a_while(at);
        let node = &mut self.nodes[at];
        // Where a step was cut short there may be another one.
        if node.ledger.other.is_none() {
            // It was acknowledged while it was there, and may be counted on: as for a disk that is replaced.
            self.retired.push(node.ledger.clone());
            node.ledger.lose_base();
            node.storage.as_mut().map_or(Ok(()), Storage::lose_base)?;
            self.trace.note(self.now, || format!("{} has lost its base", at + 1));
        }
        Ok(())
    }

    /// Something may be lost, and nothing is.
    fn doubt(&mut self, at: usize) -> Check {
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.is_noted = true;
        node.storage.as_mut().map_or(Ok(()), Storage::doubt)?;
        node.ledger.other = None;
        Ok(())
    }

    /// A new disk in an old machine: it is somebody else, whom an operator adds.
    fn replace_disk(&mut self, at: usize) {
        if !self.may_harm(at) || self.nodes[at].is_spare {
            return;
        }
        self.kill_for_a_while(at);
        if self.draw.below(2) == 0 {
            // First it comes up as if nothing were missing.
            let member = self.nodes[at].ledger.member;
            let old = std::mem::replace(&mut self.nodes[at].ledger, Ledger::new(member, Base::default()));
            self.retired.push(old);
            self.nodes[at].ledger.is_blank = true;
            let seed = self.draw.next();
            self.nodes[at].storage = self.mix.is_real.then(|| Storage::blank(seed));
            return;
        }
        self.renew(at);
    }

    /// The replica begins as a newcomer, on a disk that nobody has seen before.
    pub(crate) fn renew(&mut self, at: usize) {
        let member = self.fresh(at);
        let old = std::mem::replace(&mut self.nodes[at].ledger, Ledger::new(member, Base::default()));
        if !old.is_blank {
            self.retired.push(old);
        }
        self.nodes[at].config = self.config(member, Start::Newcomer);
        let seed = self.draw.next();
        self.nodes[at].storage = self.mix.is_real.then(|| Storage::create(seed, member, &Base::default()));
        self.nodes[at].is_spare = true;
    }
}
