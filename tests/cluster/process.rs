//! The process around a replica: what ends on its disk, what its clients are told, what it shows.

use annals::protocol::{Input, Outcome, Role, SnapshotId, SnapshotOffer};
use annals::{Epoch, LogIncarnation, Lsn, LsnRange};

use crate::driver::{Cargo, Local, chunk_digest};
use crate::invariants::{self, Check, broken};
use crate::ledger::{Snapshot, Stage};
use crate::node::Node;
use crate::oracle::Ask;
use crate::record::{self, Frames};
use crate::storage::Storage;
use crate::world::{Event, MS, World};

impl World {
    /// Something that was begun has ended.
    pub(crate) fn local(&mut self, at: usize, what: Local) -> Check {
        match what {
            Local::MetaSynced { number } => self.meta_synced(at, number),
            Local::LogSynced => self.log_synced(at),
            Local::ReadLog { .. } | Local::ReadRange { .. } | Local::ReadSnapshot { .. } => {
                self.has_read(at, &what)
            }
            Local::StageChunk { .. } => self.stage_chunk(at, &what),
            Local::Install { snapshot, incarnation } => self.installed(at, snapshot, incarnation),
            Local::Mend { range, frames, digest } => self.mend(at, range, &frames, digest),
            Local::SnapshotTaken(snapshot) => self.snapshot_taken(at, *snapshot),
            Local::Ask { token, input } => self.asked(at, token, *input),
            Local::Tell(input) => self.feed(at, input, Cargo::None),
        }
    }

    fn mend(&mut self, at: usize, range: LsnRange, frames: &Frames, digest: u64) -> Check {
        self.may_fail(at);
        let node = &mut self.nodes[at];
        if let Some(other) = &mut node.ledger.other
            && !frames.is_empty()
        {
            other.put_back(frames);
        }
        let is_good = match &mut node.storage {
            Some(storage) if !frames.is_empty() => storage.mend(frames, digest)?,
            _ => !frames.is_empty() && record::digest(frames) == digest,
        };
        node.ledger.other = None;
        if !is_good {
            return self.feed(at, Input::MendRefused { range }, Cargo::None);
        }
        self.oracle.tally.mended += 1;
        node.ledger.put_back(frames);
        self.feed(at, Input::Mended { range }, Cargo::None)
    }

    /// Whether the operation that ends now has failed, and with it the log.
    fn has_failed(&mut self, at: usize) -> bool {
        std::mem::take(&mut self.nodes[at].spindle.fails)
    }

    fn meta_synced(&mut self, at: usize, number: u64) -> Check {
        if self.has_failed(at) {
            return self.feed(at, Input::DiskFailed, Cargo::None);
        }
        let node = &mut self.nodes[at];
        let begun = node.ledger.unsynced_metas.iter().rev().find(|(begun, _)| *begun <= number);
        if let (Some(storage), Some((_, meta))) = (&mut node.storage, begun) {
            storage.save_meta(meta)?;
        }
        while let Some((_, meta)) = node.ledger.unsynced_metas.pop_front_if(|(begun, _)| *begun <= number) {
            node.ledger.meta = meta;
        }
        self.feed(at, Input::MetaSaved { number }, Cargo::None)
    }

    fn log_synced(&mut self, at: usize) -> Check {
        let node = &mut self.nodes[at];
        let Some((incarnation, lsn)) = node.flush.take() else { return Ok(()) };
        if self.has_failed(at) {
            return self.feed(at, Input::DiskFailed, Cargo::None);
        }
        let node = &mut self.nodes[at];
        let life = node.life;
        if incarnation == node.ledger.incarnation {
            let synced = node.storage.as_mut().map(Storage::sync).transpose()?;
            node.ledger.synced = synced.unwrap_or(node.ledger.synced.max(lsn));
            let lsn = node.ledger.synced;
            self.feed(at, Input::Durable { incarnation, lsn }, Cargo::None)?;
        }
        let node = &self.nodes[at];
        let is_behind = node.ledger.synced < node.ledger.last().lsn || incarnation != node.ledger.incarnation;
        if node.life == life && is_behind {
            self.flush(at);
        }
        Ok(())
    }

    fn has_read(&mut self, at: usize, what: &Local) -> Check {
        if let Local::ReadSnapshot { snapshot, .. } = what {
            let is_kept = self.nodes[at].older.iter().any(|older| older.id() == *snapshot);
            self.oracle.tally.kept += u64::from(is_kept);
        }
        if self.nodes[at].storage.is_some() {
            return self.has_really_read(at, what);
        }
        let Node { ledger, older, .. } = &self.nodes[at];
        let (input, cargo) = match *what {
            Local::ReadLog { to, from, bytes_max } if from > ledger.begin.lsn => {
                // What was truncated in between is nobody's any more.
                let Some(frames) = ledger.read(from, ledger.last().lsn, bytes_max) else { return Ok(()) };
                (Input::LogRead { to, group: record::group_of(&frames) }, Cargo::Frames(frames))
            }
            Local::ReadRange { to, range, bytes_max } if range.first > ledger.begin.lsn => {
                let Some(frames) = ledger.read(range.first, range.last, bytes_max) else { return Ok(()) };
                let digest = record::digest(&frames);
                (Input::RangeRead { to, group: record::group_of(&frames), digest }, Cargo::Frames(frames))
            }
            Local::ReadLog { to, .. } | Local::ReadRange { to, .. } => (Input::LogGone { to }, Cargo::None),
            Local::ReadSnapshot { to, snapshot, offset, bytes_max } => {
                let kept = ledger.snapshot_of(older, snapshot);
                let left = kept.and_then(|kept| Some((kept.chain, kept.bytes?.checked_sub(offset)?)));
                match left {
                    None => (Input::SnapshotGone { to }, Cargo::None),
                    Some((chain, left)) => {
                        let bytes = left.min(u64::from(bytes_max)) as u32;
                        let digest = chunk_digest(chain, offset, bytes);
                        let input = Input::SnapshotRead { to, snapshot, offset, bytes, digest };
                        (input, Cargo::Chunk { chain })
                    }
                }
            }
            _ => return Ok(()),
        };
        self.feed(at, input, cargo)
    }

    fn has_really_read(&mut self, at: usize, what: &Local) -> Check {
        let Node { ledger, older, storage: Some(storage), .. } = &mut self.nodes[at] else { return Ok(()) };
        let (input, cargo) = match *what {
            Local::ReadLog { to, from, bytes_max } if from > ledger.begin.lsn => {
                let Some(range) = LsnRange::new(from, ledger.last().lsn) else { return Ok(()) };
                let Some((group, frames)) = storage.read(ledger, range, bytes_max)? else { return Ok(()) };
                (Input::LogRead { to, group }, Cargo::Frames(frames))
            }
            Local::ReadRange { to, range, bytes_max } if range.first > ledger.begin.lsn => {
                let Some((group, frames)) = storage.read(ledger, range, bytes_max)? else { return Ok(()) };
                let digest = record::digest(&frames);
                (Input::RangeRead { to, group, digest }, Cargo::Frames(frames))
            }
            Local::ReadLog { to, .. } | Local::ReadRange { to, .. } => (Input::LogGone { to }, Cargo::None),
            Local::ReadSnapshot { to, snapshot, offset, bytes_max } => {
                match storage.read_snapshot(snapshot, offset, bytes_max)? {
                    None => (Input::SnapshotGone { to }, Cargo::None),
                    Some((part, digest)) => {
                        let kept = ledger.snapshot_of(older, snapshot);
                        let chain = kept.map(|kept| kept.chain).unwrap_or_default();
                        if part != record::application(chain, offset, part.len() as u64) {
                            return broken(3, "a snapshot is read as it was taken", format!("{snapshot:?}"));
                        }
                        let bytes = part.len() as u32;
                        let input = Input::SnapshotRead { to, snapshot, offset, bytes, digest };
                        (input, Cargo::Chunk { chain })
                    }
                }
            }
            _ => return Ok(()),
        };
        self.feed(at, input, cargo)
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
        if let Some(storage) = &mut node.storage {
            node.ledger.synced = storage.truncate(after)?;
        }
        node.ledger.other = None;
        self.flush(at);
        Ok(())
    }

    pub(crate) fn stage(&mut self, at: usize, offer: SnapshotOffer) -> Check {
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.stage = Some(Stage { offer, bytes: 0, chain: 0 });
        if let (Some(storage), Some(stage)) = (&mut node.storage, &node.ledger.stage) {
            storage.stage(&stage.offer)?;
        }
        node.ledger.other = None;
        Ok(())
    }

    fn stage_chunk(&mut self, at: usize, what: &Local) -> Check {
        let Local::StageChunk { snapshot, offset, bytes, digest, chain } = *what else { return Ok(()) };
        self.may_fail(at);
        let node = &mut self.nodes[at];
        let stage = node.ledger.stage.as_mut();
        let stage = stage.filter(|stage| stage.offer.id() == snapshot && stage.bytes == offset);
        let stage = stage.filter(|_| chunk_digest(chain, offset, bytes) == digest);
        let expected = stage.map(|stage| {
            stage.bytes += u64::from(bytes);
            stage.chain = chain;
            stage.bytes
        });
        if let Some(storage) = &mut node.storage {
            let part = record::application(chain, offset, u64::from(bytes));
            let staged = storage.stage_chunk((snapshot, offset), &part, digest)?;
            if staged != expected {
                return broken(3, "a chunk is staged if it checks", format!("{staged:?}, not {expected:?}"));
            }
        }
        node.ledger.other = None;
        match expected {
            None => self.feed(at, Input::ChunkRefused { snapshot }, Cargo::None),
            Some(bytes) => self.feed(at, Input::ChunkStaged { snapshot, bytes }, Cargo::None),
        }
    }

    pub(crate) fn install(&mut self, at: usize, snapshot: SnapshotId, incarnation: LogIncarnation) -> Check {
        let node = &self.nodes[at];
        let stage = node.ledger.stage.as_ref();
        let stage = stage.filter(|stage| stage.offer.id() == snapshot && stage.bytes == stage.offer.bytes);
        let Some(stage) = stage else {
            let what = format!("{snapshot:?}, staged is {:?}", node.ledger.stage);
            return broken(3, "a snapshot is installed when all of it is there", what);
        };
        let lsn = snapshot.0.lsn;
        let agreed = self.oracle.agreed(lsn).map(|agreed| agreed.chain);
        if agreed != Some(stage.chain) {
            return broken(3, "a snapshot is the state as of its position", format!("{snapshot:?}"));
        }
        if lsn < node.commit && !node.ledger.is_noted {
            let what = format!("{snapshot:?}, committed is {}", node.commit);
            return broken(11, "no snapshot below known commit is installed", what);
        }
        invariants::nothing_committed_is_truncated(&self.oracle, &node.ledger, lsn)?;
        self.when_disk_is_done(at, Local::Install { snapshot, incarnation });
        Ok(())
    }

    fn installed(&mut self, at: usize, snapshot: SnapshotId, incarnation: LogIncarnation) -> Check {
        let ledger = &self.nodes[at].ledger;
        if ledger.stage.as_ref().is_none_or(|stage| stage.offer.id() != snapshot) {
            return broken(0, "nothing is staged while a snapshot is installed", format!("{snapshot:?}"));
        }
        self.oracle.tally.installs += 1;
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.install();
        node.ledger.incarnation = incarnation;
        if let Some(storage) = &mut node.storage {
            storage.install(snapshot)?;
        }
        node.ledger.other = None;
        self.feed(at, Input::Installed { snapshot, incarnation }, Cargo::None)
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
        let Some(replica) = node.replica.as_ref().filter(|_| !node.takes_snapshot) else { return };
        let Some(base) = replica.base() else { return };
        let lsn = base.position.lsn;
        let is_newer = lsn > node.ledger.snapshot.base.position.lsn;
        let Some(chain) = node.ledger.chain(lsn).filter(|_| is_newer && !node.ledger.is_noted) else {
            return;
        };
        node.takes_snapshot = true;
        let snapshot = Snapshot { base, chain, bytes: Some(1000 + chain % 9000) };
        self.when_disk_is_done(at, Local::SnapshotTaken(Box::new(snapshot)));
    }

    fn snapshot_taken(&mut self, at: usize, snapshot: Snapshot) -> Check {
        let node = &mut self.nodes[at];
        node.takes_snapshot = false;
        let base = snapshot.base.clone();
        let is_there = node.ledger.chain(base.position.lsn) == Some(snapshot.chain);
        let is_newer = base.position.lsn > node.ledger.snapshot.base.position.lsn;
        if !is_there || !is_newer || base.position.lsn > node.ledger.synced {
            return Ok(());
        }
        let bytes = snapshot.bytes.expect("it was taken");
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.commit = node.ledger.commit.max(base.position.lsn);
        node.replace_snapshot(snapshot);
        if let Some(storage) = &mut node.storage {
            storage.take_snapshot(&node.ledger.snapshot)?;
        }
        node.ledger.other = None;
        self.feed(at, Input::SnapshotTaken { base, bytes }, Cargo::None)?;
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
        // A frame is trimmed whole or not at all.
        let range = node.ledger.slot(through).map(|slot| slot.frame.range());
        let through =
            range.map_or(through, |range| if range.last == through { through } else { range.first.prev() });
        self.may_fail(at);
        let node = &mut self.nodes[at];
        node.ledger.trim(through);
        if let Some(storage) = &mut node.storage {
            storage.trim(through)?;
        }
        node.ledger.other = None;
        self.feed(at, Input::Trimmed { through }, Cargo::None)
    }

    /// A client's question has arrived at the process.
    fn asked(&mut self, at: usize, token: u64, input: Input) -> Check {
        let floor = self.oracle.commit();
        let Some(attempt) = self.oracle.attempts.get_mut(&token) else { return Ok(()) };
        if let Ask::Read { floor: asked } = &mut attempt.ask {
            *asked = floor;
        }
        self.nodes[at].tokens.insert(token);
        self.feed(at, input, Cargo::Token(token))
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
        // An idle log advances the watermark on its disk now and then.
        if self.draw.below(8) == 0 {
            node.ledger.commit = node.ledger.commit.max(lsn.min(node.ledger.synced));
        }
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
