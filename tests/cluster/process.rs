//! The process around a driver: what ends on its disk, what its clients are told, what it shows.

use annals::node::{Done, Input, Placed, Task};
use annals::protocol::request::Copies;
use annals::protocol::{Contents, Outcome, Role, SnapshotId, SnapshotOffer};
use annals::{Epoch, LogIncarnation, Lsn, LsnRange, format};

use crate::driver::{Local, Told};
use crate::invariants::{self, Check, Violation, broken};
use crate::ledger::{Ledger, Snapshot, Stage};
use crate::oracle::Ask;
use crate::record::{self, Frames};
use crate::storage::Storage;
use crate::world::{Event, MS, World};

impl World {
    /// Something that was begun has ended.
    pub(crate) fn local(&mut self, at: usize, what: Local) -> Check {
        match what {
            Local::Task(Task::SaveMeta { .. }) if self.has_failed(at) => {
                self.feed(at, Told::Input(Input::DiskFailed))
            }
            Local::Task(task) => {
                let done = match &task {
                    Task::SaveMeta { .. } => self.save_meta(at, task)?,
                    Task::StageChunk { .. } => self.stage_chunk(at, task)?,
                    Task::Install { .. } => self.install(at, task)?,
                    Task::Mend { .. } => self.mend(at, task)?,
                    _ => self.read(at, task)?,
                };
                self.feed_all(at, done.into_iter().map(Told::Done))
            }
            Local::LogSynced => self.log_synced(at),
            Local::SnapshotTaken(snapshot) => self.snapshot_taken(at, *snapshot),
            Local::Scrub => self.scrub(at),
            Local::Ask { token, told } => self.asked(at, token, told),
            Local::Tell(told) => self.feed_all(at, told),
        }
    }

    /// Whether the operation that ends now has failed, and with it the log.
    fn has_failed(&mut self, at: usize) -> bool {
        std::mem::take(&mut self.nodes[at].spindle.fails)
    }

    fn save_meta(&mut self, at: usize, task: Task) -> Result<Vec<Done>, Violation> {
        let Task::SaveMeta { number, .. } = task else { return Ok(vec![]) };
        let node = &mut self.nodes[at];
        let done = node.perform(task)?;
        while let Some((_, meta)) = node.ledger.unsynced_metas.pop_front_if(|(begun, _)| *begun <= number) {
            node.ledger.meta = meta;
        }
        Ok(done.unwrap_or_else(|| vec![Done::MetaSaved { number }]))
    }

    fn log_synced(&mut self, at: usize) -> Check {
        let node = &mut self.nodes[at];
        let Some((incarnation, lsn)) = node.flush.take() else { return Ok(()) };
        if self.has_failed(at) {
            return self.feed(at, Told::Input(Input::DiskFailed));
        }
        let node = &mut self.nodes[at];
        let life = node.life;
        if incarnation == node.ledger.incarnation {
            let done = match &mut node.storage {
                Some(storage) => {
                    let done = storage.sync()?;
                    node.ledger.synced = storage.durable();
                    done
                }
                None => {
                    node.ledger.synced = node.ledger.synced.max(lsn);
                    vec![Done::Durable { incarnation, lsn: node.ledger.synced }]
                }
            };
            self.feed_all(at, done.into_iter().map(Told::Done))?;
        }
        let node = &self.nodes[at];
        let is_behind = node.ledger.synced < node.ledger.last().lsn || incarnation != node.ledger.incarnation;
        if node.life == life && is_behind {
            self.flush(at);
        }
        Ok(())
    }

    fn mend(&mut self, at: usize, task: Task) -> Result<Vec<Done>, Violation> {
        let Task::Mend { group, frames, .. } = &task else { return Ok(vec![]) };
        let (range, frames) = (group.range, record::decode(frames).unwrap_or_default());
        self.may_fail(at);
        let node = &mut self.nodes[at];
        if let Some(other) = &mut node.ledger.other {
            other.put_back(&frames);
        }
        let done = node.perform(task)?.unwrap_or_else(|| vec![Done::Mended { range }]);
        node.ledger.other = None;
        if done.contains(&Done::Mended { range }) {
            self.oracle.tally.mended += 1;
            node.ledger.put_back(&frames);
        }
        Ok(done)
    }

    /// What is read has to be what the ledger says, byte for byte.
    pub(crate) fn read(&mut self, at: usize, task: Task) -> Result<Vec<Done>, Violation> {
        let node = &mut self.nodes[at];
        let done = match &mut node.storage {
            Some(storage) => storage.perform(task)?,
            None => node.ledger.answer(&task, &node.older),
        };
        for done in &done {
            match done {
                Done::LogRead { group, frames, .. } | Done::RangeRead { group, frames, .. } => {
                    let truth = node.ledger.frames_of(group.range);
                    if record::encode_all(&truth) != *frames {
                        let what = format!("{group:?} is not {truth:?}");
                        broken(3, "no record is read with other bytes", what)?;
                    }
                }
                Done::SnapshotRead { snapshot, offset, bytes, .. } => {
                    let kept = node.ledger.snapshot_of(&node.older, *snapshot);
                    self.oracle.tally.kept += u64::from(*snapshot != node.ledger.snapshot.id());
                    let chain = kept.map_or(0, |kept| kept.chain);
                    if record::application(chain, *offset, bytes.len() as u64) != *bytes {
                        broken(3, "a snapshot is read as it was taken", format!("{snapshot:?}"))?;
                    }
                }
                _ => {}
            }
        }
        Ok(done)
    }

    pub(crate) fn truncate(&mut self, at: usize, after: Lsn, incarnation: LogIncarnation) -> Check {
        let ledger = &self.nodes[at].ledger;
        if after < ledger.begin.lsn || after > ledger.last().lsn {
            return broken(
                5,
                "a truncation stays inside of the log",
                format!("{after} of {:?}", ledger.last()),
            );
        }
        invariants::nothing_committed_is_truncated(&self.oracle, ledger, after)?;
        if after < self.nodes[at].commit && !self.nodes[at].ledger.is_noted {
            let what = format!("{after}, committed is {}", self.nodes[at].commit);
            return broken(11, "truncation never reaches below known commit", what);
        }
        self.oracle.tally.truncations += 1;
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.truncate(after);
        node.ledger.may_be_cut_in_part();
        node.ledger.incarnation = incarnation;
        let done = node.perform(Task::Truncate { after, incarnation })?;
        if let Some(storage) = &node.storage {
            node.ledger.synced = storage.durable();
        }
        node.ledger.other = None;
        match done {
            Some(done) => {
                let told = done.into_iter().map(Told::Done).collect();
                self.when_disk_is_done(at, Local::Tell(told));
            }
            None => self.flush(at),
        }
        Ok(())
    }

    pub(crate) fn stage(&mut self, at: usize, offer: SnapshotOffer) -> Check {
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.stage = Some(Stage { offer: offer.clone(), bytes: 0, chain: 0 });
        node.perform(Task::Stage(Box::new(offer)))?;
        node.ledger.other = None;
        Ok(())
    }

    fn stage_chunk(&mut self, at: usize, task: Task) -> Result<Vec<Done>, Violation> {
        let Task::StageChunk { snapshot, offset, bytes, .. } = &task else { return Ok(vec![]) };
        let (snapshot, offset, size) = (*snapshot, *offset, bytes.len() as u64);
        // A chunk of anything else is none of this snapshot, whatever it is.
        let chain = self.oracle.agreed(snapshot.position.lsn).map_or(0, |agreed| agreed.chain);
        let is_it = record::application(chain, offset, size) == *bytes;
        self.may_fail(at);
        let node = &mut self.nodes[at];
        let stage = node.ledger.stage.as_mut();
        let stage = stage.filter(|stage| stage.offer.id() == snapshot && stage.bytes == offset);
        let expected = match stage {
            None => Done::ChunkRefused { snapshot, offset },
            Some(stage) => {
                stage.bytes += size;
                stage.chain = if is_it { chain } else { 0 };
                Done::ChunkStaged { snapshot, bytes: stage.bytes }
            }
        };
        let done = node.perform(task)?;
        node.ledger.other = None;
        if let Some(done) = done.filter(|done| *done != [expected.clone()]) {
            broken(3, "a chunk is staged if it checks", format!("{done:?}, not {expected:?}"))?;
        }
        Ok(vec![expected])
    }

    /// Whether a snapshot may take the place of the log.
    pub(crate) fn may_install(&self, at: usize, snapshot: SnapshotId) -> Check {
        let node = &self.nodes[at];
        let stage = node.ledger.stage.as_ref();
        let stage =
            stage.filter(|stage| stage.offer.id() == snapshot && stage.bytes == stage.offer.contents.bytes);
        let Some(stage) = stage else {
            let what = format!("{snapshot:?}, staged is {:?}", node.ledger.stage);
            return broken(3, "a snapshot is installed when all of it is there", what);
        };
        let lsn = snapshot.position.lsn;
        let agreed = self.oracle.agreed(lsn).map(|agreed| agreed.chain);
        // What a cluster begins with is the state as of no record.
        let agreed = agreed.or((lsn == Lsn::ZERO).then_some(0));
        if agreed != Some(stage.chain) {
            return broken(3, "a snapshot is the state as of its position", format!("{snapshot:?}"));
        }
        if lsn < node.commit && !node.ledger.is_noted {
            let what = format!("{snapshot:?}, committed is {}", node.commit);
            return broken(11, "no snapshot below known commit is installed", what);
        }
        invariants::nothing_committed_is_truncated(&self.oracle, &node.ledger, lsn)
    }

    fn install(&mut self, at: usize, task: Task) -> Result<Vec<Done>, Violation> {
        let Task::Install { snapshot, incarnation } = task else { return Ok(vec![]) };
        let ledger = &self.nodes[at].ledger;
        if ledger.stage.as_ref().is_none_or(|stage| stage.offer.id() != snapshot) {
            broken(0, "nothing is staged while a snapshot is installed", format!("{snapshot:?}"))?;
        }
        self.oracle.tally.installs += 1;
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.install();
        node.ledger.incarnation = incarnation;
        let done = node.perform(task)?;
        node.ledger.other = None;
        Ok(done.unwrap_or_else(|| vec![Done::Installed { snapshot, incarnation }]))
    }

    /// What was lost is back: the replica is recovered anew from its disk.
    pub(crate) fn reopen(&mut self, at: usize, is_whole: bool) -> Check {
        let ledger = &self.nodes[at].ledger;
        if !ledger.lost.is_empty() {
            return broken(17, "a replica is whole when nothing is lost", format!("{:?}", ledger.lost));
        }
        self.may_fail(at);
        let ledger = &mut self.nodes[at].ledger;
        ledger.synced = ledger.last().lsn;
        if let Some((_, meta)) = ledger.unsynced_metas.drain(..).next_back() {
            ledger.meta = meta;
        }
        if is_whole {
            ledger.is_whole_again();
            self.oracle.tally.recovered += 1;
        }
        let node = &mut self.nodes[at];
        if let Some(storage) = &mut node.storage {
            storage.sync()?;
            storage.save_meta(&node.ledger.meta)?;
            if is_whole {
                storage.recovered()?;
            }
            storage.close();
        }
        node.ledger.other = None;
        self.nodes[at].stop();
        self.forget_tokens(at);
        self.after(MS, Event::Start { node: at });
        Ok(())
    }

    /// The process takes a snapshot of what is committed, and trims what it covers.
    pub(crate) fn take_snapshot(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(driver) = node.driver.as_ref().filter(|_| !node.takes_snapshot) else { return };
        let Some(base) = driver.base() else { return };
        let lsn = base.position.lsn;
        let is_newer = lsn > node.ledger.snapshot.base.position.lsn;
        let Some(chain) = node.ledger.chain(lsn).filter(|_| is_newer && !node.ledger.is_noted) else {
            return;
        };
        node.takes_snapshot = true;
        // No two replicas write down the same state as the same bytes.
        let bytes = 1000 + (chain + at as u64) % 9000;
        let checksum = format::crc32(&record::application(chain, 0, bytes));
        let snapshot = Snapshot { base, chain, contents: Some(Contents { bytes, checksum }) };
        self.when_disk_is_done(at, Local::SnapshotTaken(Box::new(snapshot)));
    }

    fn snapshot_taken(&mut self, at: usize, snapshot: Snapshot) -> Check {
        let node = &mut self.nodes[at];
        node.takes_snapshot = false;
        let base = Box::new(snapshot.base.clone());
        let is_there = node.ledger.chain(base.position.lsn) == Some(snapshot.chain);
        let is_newer = base.position.lsn > node.ledger.snapshot.base.position.lsn;
        if !is_there || !is_newer || base.position.lsn > node.ledger.synced {
            return Ok(());
        }
        let contents = snapshot.contents.expect("it was taken");
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.commit = node.ledger.commit.max(base.position.lsn);
        let application = record::application(snapshot.chain, 0, contents.bytes).into();
        node.replace_snapshot(snapshot);
        let done = node.perform(Task::TakeSnapshot { base: base.clone(), application })?;
        if let Some(storage) = &node.storage {
            node.ledger.synced = storage.durable();
        }
        node.ledger.other = None;
        let done = done.unwrap_or_else(|| vec![Done::SnapshotTaken { base, contents }]);
        self.feed_all(at, done.into_iter().map(Told::Done))?;
        if self.draw.below(3) == 0 { Ok(()) } else { self.trim(at, false) }
    }

    /// Trims what the newest snapshot covers; what peers need only when there is no room for it.
    pub(crate) fn trim(&mut self, at: usize, is_forced: bool) -> Check {
        let node = &mut self.nodes[at];
        if !node.is_up() {
            return Ok(());
        }
        let covered = node.ledger.snapshot.base.position.lsn.min(node.ledger.synced);
        let through = if is_forced { covered } else { node.pin.map_or(covered, |pin| pin.min(covered)) };
        if through <= node.ledger.begin.lsn {
            return Ok(());
        }
        // Some node or other wants less: a frame is trimmed whole or not at all.
        let begin = node.ledger.begin.lsn.get();
        let asked = if self.draw.below(4) == 0 {
            Lsn::new(begin + 1 + self.draw.below(through.get() - begin))
        } else {
            through
        };
        let node = &self.nodes[at];
        let range = node.ledger.slot(asked).map(|slot| slot.frame.range());
        let through =
            range.map_or(asked, |range| if range.last == asked { asked } else { range.first.prev() });
        if through <= node.ledger.begin.lsn {
            return Ok(());
        }
        self.may_fail(at);
        let node = &mut self.nodes[at];
        let begin = node.ledger.begin.lsn;
        let is_hidden = node.ledger.was_harmed || node.storage.as_ref().is_some_and(Storage::is_troubled);
        let before = is_hidden.then(|| node.ledger.clone());
        node.ledger.trim(through);
        let done = node.perform(Task::Trim { through: asked })?;
        let mut expected = vec![Done::Trimmed { asked, through }];
        if let (Some(before), Some([Done::Trimmed { through: less, .. }])) = (before, done.as_deref())
            && (begin..through).contains(less)
            && before.slot(*less).is_none_or(|slot| slot.frame.range().last == *less)
        {
            // Where something cannot be read nobody knows where frames end: it stays until the whole segment goes.
            expected = vec![Done::Trimmed { asked, through: *less }];
            node.ledger = before;
            node.ledger.trim(*less);
        }
        node.ledger.other = None;
        if let Some(done) = done.filter(|done| *done != expected) {
            broken(3, "a frame is trimmed whole or not at all", format!("{done:?}, not {expected:?}"))?;
        }
        self.feed_all(at, expected.into_iter().map(Told::Done))
    }

    /// A client's question has arrived at the process.
    fn asked(&mut self, at: usize, token: u64, told: Told) -> Check {
        let floor = self.oracle.commit();
        let Some(attempt) = self.oracle.attempts.get_mut(&token) else { return Ok(()) };
        if let Ask::Read { floor: asked } = &mut attempt.ask {
            *asked = floor;
        }
        self.nodes[at].tokens.insert(token);
        self.feed(at, told)
    }

    pub(crate) fn committed(&mut self, at: usize, lsn: Lsn) -> Check {
        let node = &self.nodes[at];
        let member = node.ledger.member;
        if lsn > self.oracle.commit() {
            let (reign, ledger) = (node.reign, &node.ledger);
            if node.role != Role::Primary {
                return invariants::readers_stop_at_committed(&self.oracle, member, lsn);
            }
            invariants::the_deposed_commit_nothing(&self.oracle, member, lsn, reign)?;
            let (Some(chain), Some(membership)) = (ledger.chain(lsn), ledger.membership()) else {
                return broken(5, "what is committed is in the log", format!("{lsn} of {:?}", ledger.last()));
            };
            let disks: Vec<_> = self.nodes.iter().map(|node| &node.ledger).chain(&self.retired).collect();
            invariants::committed_is_synced_on_a_write_quorum(&disks, membership, lsn, chain)?;
            let written = ledger.epoch_at(lsn).expect("it has a chain");
            invariants::only_the_own_epoch_is_counted(lsn, written, reign)?;
            self.oracle.advance(ledger, lsn, reign)?;
        }
        let node = &mut self.nodes[at];
        invariants::replicas_agree_on_what_is_committed(&self.oracle, &node.ledger, lsn)?;
        if lsn < node.commit && !node.ledger.is_noted {
            return broken(5, "what is committed never goes back", format!("{lsn} after {}", node.commit));
        }
        node.commit = lsn;
        self.read_as_client(at)?;
        let node = &mut self.nodes[at];
        // An idle log advances the watermark on its disk now and then.
        if self.draw.below(8) == 0 {
            node.ledger.commit = node.ledger.commit.max(lsn.min(node.ledger.synced));
        }
        Ok(())
    }

    /// An append is answered: by what is on one disk if that is what was asked, and by a commit otherwise.
    pub(crate) fn appended(&mut self, at: usize, token: u64, placed: &Placed) -> Check {
        let attempt = self.oracle.attempts.get(&token).filter(|_| self.nodes[at].tokens.contains(&token));
        let Some(attempt) = attempt else {
            return broken(14, "a token is answered once", format!("{token} with {placed:?}"));
        };
        let Ask::Append { copies, .. } = attempt.ask else {
            return broken(0, "an append is answered as one", format!("{attempt:?}"));
        };
        if let (false, Some(range)) = (placed.is_committed, placed.range) {
            invariants::a_local_answer_is_synced(&self.nodes[at].ledger, copies, range)?;
            self.nodes[at].tokens.remove(&token);
            let client = self.oracle.attempts.remove(&token).expect("looked at above").client;
            self.oracle.tally.local += 1;
            self.after(MS, Event::Answer { client, token, outcome: None });
            return Ok(());
        }
        if let Some(range) = placed.range {
            if range.last > self.oracle.commit() {
                self.committed(at, range.last)?;
            }
            self.holders_hold(at, copies, range.last, placed)?;
        }
        let outcome = match placed.range {
            Some(range) if !placed.is_duplicate => Outcome::Committed { range, epoch: placed.epoch },
            range => Outcome::Duplicate { range },
        };
        self.resolve(at, token, outcome)
    }

    fn holders_hold(&mut self, at: usize, copies: Copies, lsn: Lsn, placed: &Placed) -> Check {
        let node = &self.nodes[at];
        // Whose reign has ended answers by what it knew.
        let leads = node.driver.as_ref().is_some_and(|driver| driver.role() == Role::Primary);
        let Some(agreed) = self.oracle.agreed(lsn) else { return Ok(()) };
        let disks: Vec<_> = self.nodes.iter().map(|node| &node.ledger).chain(&self.retired).collect();
        let membership = node.ledger.membership().filter(|membership| leads && !membership.is_joint());
        let asked = (copies, &*placed.holders);
        invariants::holders_hold(&disks, membership.map(|found| &**found), asked, (lsn, agreed.chain))?;
        self.oracle.tally.beyond += u64::from(matches!(copies, Copies::All | Copies::AtLeast(_)));
        Ok(())
    }

    pub(crate) fn resolve(&mut self, at: usize, token: u64, outcome: Outcome) -> Check {
        if !self.nodes[at].tokens.remove(&token) {
            return broken(14, "a token is answered once", format!("{token} with {outcome:?}"));
        }
        if let Outcome::Committed { range, .. } = outcome
            && range.last > self.oracle.commit()
        {
            self.committed(at, range.last)?;
        }
        let attempt = self.oracle.attempts.remove(&token).expect("asked by a client");
        self.oracle.resolved(&attempt, &outcome)?;
        self.is_proved |= self.proof == Some(token) && matches!(outcome, Outcome::Committed { .. });
        match outcome {
            Outcome::Transferred { .. } => self.oracle.tally.transfers += 1,
            Outcome::Committed { .. } if matches!(attempt.ask, Ask::Change(_)) => {
                self.oracle.tally.changes += 1
            }
            _ => {}
        }
        let delay = self.draw.below(MS);
        self.after(delay, Event::Answer { client: attempt.client, token, outcome: Some(outcome) });
        Ok(())
    }

    pub(crate) fn read_ready(&mut self, at: usize, token: u64, lsn: Lsn) -> Check {
        let member = self.nodes[at].ledger.member;
        self.nodes[at].tokens.remove(&token);
        let Some(attempt) = self.oracle.attempts.remove(&token) else { return Ok(()) };
        let Ask::Read { floor } = attempt.ask else {
            return broken(0, "a read answers a read", format!("{attempt:?}"));
        };
        self.oracle.tally.reads += 1;
        invariants::readers_stop_at_committed(&self.oracle, member, lsn)?;
        invariants::reads_are_linearizable(member, lsn, floor)?;
        self.after(MS, Event::Answer { client: attempt.client, token, outcome: None });
        Ok(())
    }

    pub(crate) fn read_failed(&mut self, at: usize, token: u64) {
        self.nodes[at].tokens.remove(&token);
        if let Some(attempt) = self.oracle.attempts.remove(&token) {
            self.after(MS, Event::Answer { client: attempt.client, token, outcome: None });
        }
    }

    pub(crate) fn became(&mut self, at: usize, role: Role, epoch: Epoch) -> Check {
        let node = &mut self.nodes[at];
        let was = (node.role, node.reign);
        (node.role, node.reign) = (role, epoch);
        if role != Role::Primary || was == (role, epoch) {
            return Ok(());
        }
        self.oracle.tally.elections += 1;
        let ledger = &self.nodes[at].ledger;
        if ledger.is_noted || ledger.is_blank {
            return broken(17, "a damaged replica never leads", format!("{:?} in {epoch:?}", ledger.member));
        }
        invariants::one_primary_for_each_epoch(&mut self.oracle, ledger.member, epoch)?;
        invariants::new_primary_has_all_that_is_committed(&self.oracle, ledger, epoch)
    }
}

impl Ledger {
    /// What comes of a read.
    fn answer(&self, task: &Task, older: &[Snapshot]) -> Vec<Done> {
        let read = |from: Lsn, through, bytes_max| {
            let frames = self.read(from, through, bytes_max)?;
            Some((record::group_of(&frames), record::encode_all(&frames)))
        };
        let done = match *task {
            Task::ReadLog { to, from, .. } if from <= self.begin.lsn => Some(Done::LogGone { to }),
            Task::ReadRange { to, range, .. } if range.first <= self.begin.lsn => Some(Done::LogGone { to }),
            // What was truncated in between is nobody's any more.
            Task::ReadLog { to, from, bytes_max } => read(from, self.last().lsn, bytes_max)
                .map(|(group, frames)| Done::LogRead { to, group, frames }),
            Task::ReadRange { to, range, bytes_max } => {
                read(range.first, range.last, bytes_max).map(|(group, frames)| {
                    let digest = annals::node::digest(&frames);
                    Done::RangeRead { to, group, digest, frames }
                })
            }
            Task::ReadSnapshot { to, snapshot, offset, bytes_max } => {
                let kept = self.snapshot_of(older, snapshot);
                let part = kept.and_then(|kept| {
                    let left = kept.contents?.bytes.checked_sub(offset)?;
                    Some(record::application(kept.chain, offset, left.min(u64::from(bytes_max))))
                });
                Some(part.map_or(Done::SnapshotGone { to }, |part| {
                    let digest = annals::node::digest(&part);
                    Done::SnapshotRead { to, snapshot, offset, digest, bytes: part.into() }
                }))
            }
            _ => None,
        };
        done.into_iter().collect()
    }

    /// The frames of these records.
    fn frames_of(&self, range: LsnRange) -> Frames {
        let ranges = self.frames(range.first, range.last).into_iter();
        ranges.filter_map(|range| self.slot(range.first)).map(|slot| slot.frame.clone()).collect()
    }
}
