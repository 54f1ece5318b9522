//! Snapshots for those whom the log no longer reaches: offered, staged chunk by chunk, switched to at once (S9).

use std::sync::Arc;

use super::peer::{Chunk, Step};
use super::{Office, Replica, Taken};
use crate::protocol::effect::Effect;
use crate::protocol::health::Health;
use crate::protocol::membership::Member;
use crate::protocol::message::{Contents, Message, SnapshotId, SnapshotOffer};
use crate::protocol::refusal::Refusal;
use crate::protocol::rules::Rule;
use crate::protocol::state::{Base, Staged};
use crate::types::{LogIncarnation, Lsn, ReplicaId};

/// How often in a row a chunk may come damaged, before the snapshot is staged from its beginning.
const CHUNKS_REFUSED_MAX: u32 = 3;
/// Chunks that are larger end at a multiple of this: whoever reads them checks so much at a time.
const CHUNK_STEP: u32 = 64 << 10;

/// A snapshot that a peer receives of this replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Sending {
    pub(super) id: SnapshotId,
    /// Bytes that it has.
    total: u64,
    /// Bytes that the peer has staged and synced, as far as it has said.
    staged: u64,
    /// Where what comes next begins: all before it was sent.
    sent: u64,
    /// How far that is.
    chunk: Chunk,
}

impl Sending {
    /// One that is offered: where to begin is not known before the peer asks.
    fn offered(offer: &SnapshotOffer) -> Sending {
        let (id, total) = (offer.id(), offer.contents.bytes);
        Sending { id, total, staged: 0, sent: 0, chunk: Chunk::Awaited }
    }

    /// The peer has staged so many bytes. False if that is no news: it says so twice, and what follows is on its way.
    fn asked(&mut self, bytes: u64) -> bool {
        if self.chunk != Chunk::Awaited && bytes <= self.staged {
            return false;
        }
        let is_reading = self.chunk == Chunk::Reading && bytes <= self.sent;
        self.chunk = if is_reading { Chunk::Reading } else { Chunk::Due };
        (self.staged, self.sent) = (bytes, self.sent.max(bytes));
        true
    }

    /// Bytes that are on their way.
    pub(super) const fn in_flight(&self) -> u64 {
        self.sent - self.staged
    }

    /// Whether something is to be read for it.
    pub(super) fn is_due(&self) -> bool {
        self.chunk == Chunk::Due && self.sent < self.total
    }

    /// Whether so many bytes more may be on their way; one chunk always may.
    const fn has_room(&self, bytes: u32, window: u64) -> bool {
        self.in_flight() == 0 || self.in_flight() + bytes as u64 <= window
    }
}

/// A snapshot that this replica receives.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Staging {
    snapshot: SnapshotId,
    /// Bytes that are staged and synced.
    bytes: u64,
    /// Where the next chunk begins: the disk was given all before it.
    received: u64,
    /// What was offered; unknown after a restart, until it is offered again.
    offer: Option<(Arc<Base>, Contents)>,
    /// It is complete, and being switched to: the life of the log that begins.
    installs: Option<LogIncarnation>,
    /// How often in a row the next chunk was refused.
    refused: u32,
}

impl Staging {
    /// A snapshot of which a part was staged before a restart.
    pub(super) const fn resumed(staged: Staged) -> Staging {
        let Staged { snapshot, bytes } = staged;
        Staging { snapshot, bytes, received: bytes, offer: None, installs: None, refused: 0 }
    }

    pub(super) const fn staged(&self) -> Staged {
        Staged { snapshot: self.snapshot, bytes: self.bytes }
    }

    pub(super) const fn is_installing(&self) -> bool {
        self.installs.is_some()
    }

    /// Whether chunks are being staged.
    const fn is_busy(&self) -> bool {
        self.received > self.bytes
    }
}

// --- the primary ------------------------------------------------------------------------------------------

impl Replica {
    /// The log does not reach back to what the peer needs. With one that it has `begun` it goes on, if that is still
    /// here: else it would never end under load, when there is a newer one each time that it is looked at.
    pub(super) fn offer_snapshot(&mut self, to: Member, begun: Option<SnapshotId>) {
        let now = self.now;
        let offer = begun.and_then(|id| self.snapshot(id)).or_else(|| self.ledger.snapshot());
        let Office::Primary(reign) = &mut self.office else { return };
        let Some(peer) = reign.peer(to) else { return };
        let Some(offer) = offer.filter(|offer| self.ledger.reaches(offer.id())) else {
            // There is none yet; it is asked again with the next heartbeats.
            peer.go(Step::Probe { through: Lsn::LAST }, now);
            return;
        };
        let id = offer.id();
        peer.receives = Some(id);
        peer.go(Step::Snapshot(Sending::offered(&offer)), now);
        self.send(to, Message::SnapshotOffer(Box::new(offer)));
        self.pin();
    }

    /// A snapshot that can be read: the newest, or an older one that is kept for a peer.
    fn snapshot(&self, id: SnapshotId) -> Option<SnapshotOffer> {
        let Office::Primary(reign) = &self.office else { return None };
        let newest = self.ledger.snapshot().filter(|newest| newest.id() == id);
        newest.or_else(|| reign.kept.iter().find(|kept| kept.id() == id).cloned())
    }

    /// A newer snapshot has taken the place of the one before, which stays while a peer receives it.
    pub(super) fn snapshot_taken(&mut self, base: Base, contents: Contents) {
        let before = self.ledger.take(base, contents);
        if let (Office::Primary(reign), Some(before)) = (&mut self.office, before)
            && reign.told_kept.contains(&before.id())
        {
            reign.kept.push(before);
        }
    }

    /// What a peer receives can no longer be read.
    pub(super) fn snapshot_gone(&mut self, to: ReplicaId) {
        let gone = self.peer_by_id(to).and_then(|peer| peer.receives.take());
        if let (Office::Primary(reign), Some(gone)) = (&mut self.office, gone) {
            reign.kept.retain(|kept| kept.id() != gone);
        }
        self.probe_again(to);
    }

    /// Tells which snapshots have to stay for those who receive them.
    pub(super) fn keep_snapshots(&mut self) {
        let Office::Primary(reign) = &mut self.office else { return };
        let is_there = |id: &SnapshotId| {
            let is_newest = self.ledger.snapshot().is_some_and(|newest| newest.id() == *id);
            let is_kept = reign.kept.iter().any(|kept| kept.id() == *id);
            (is_newest || is_kept) && self.ledger.reaches(*id)
        };
        let mut wanted: Vec<SnapshotId> =
            reign.peers.iter().filter_map(|peer| peer.receives).filter(is_there).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted != reign.told_kept {
            reign.kept.retain(|kept| wanted.contains(&kept.id()));
            reign.told_kept.clone_from(&wanted);
            self.outbox.push(Effect::KeepSnapshots(wanted));
        }
    }

    pub(super) fn snapshot_ask(&mut self, from: Member, snapshot: SnapshotId, bytes: u64) -> Taken {
        let now = self.now;
        let total = self.snapshot(snapshot).map(|offer| offer.contents.bytes);
        let Office::Primary(reign) = &mut self.office else { return Err(Refusal::WrongRole) };
        let peer = reign.peer(from).ok_or(Refusal::WrongRole)?;
        let Step::Snapshot(mut sending) = peer.step else { return Err(Refusal::NotAsked) };
        if sending.id != snapshot || !sending.asked(bytes) {
            return Err(Refusal::NotAsked);
        }
        peer.heard = Some(now);
        // It is gone, or installed: look again.
        if total.is_none_or(|total| bytes >= total) {
            self.probe_again(from.id);
            return Ok(());
        }
        peer.go(Step::Snapshot(sending), now);
        self.feed(from);
        Ok(())
    }

    /// Reads the next chunk for a peer that has asked, as far as its window and the throttle allow.
    pub(super) fn feed_snapshot(&mut self, to: Member, mut sending: Sending) {
        let (now, limits) = (self.now, &self.config.limits);
        let Office::Primary(reign) = &mut self.office else { return };
        let eased = reign.ease.bytes(limits.window_bytes, now);
        // As of the log: half of what may be on its way.
        let half = u32::try_from(eased.div_ceil(2)).unwrap_or(u32::MAX);
        let whole = if half < CHUNK_STEP { half } else { half - half % CHUNK_STEP };
        let bytes_max = limits.chunk_bytes.min(whole);
        let window = reign.ease.snapshot_bytes(limits.window_bytes, now);
        let Some(peer) = reign.peer(to).filter(|peer| peer.read_at <= now) else { return };
        if !sending.is_due() || !sending.has_room(bytes_max, window) {
            return;
        }
        if sending.in_flight() == 0 {
            peer.moved = now;
        }
        sending.chunk = Chunk::Reading;
        peer.step = Step::Snapshot(sending);
        let Sending { id: snapshot, sent: offset, .. } = sending;
        self.outbox.push(Effect::ReadSnapshot { to: to.id, snapshot, offset, bytes_max });
    }

    pub(super) fn snapshot_read(&mut self, to: ReplicaId, chunk: Message) {
        let Message::SnapshotChunk { snapshot, offset, bytes: size, .. } = chunk else { return };
        let (now, rate) = (self.now, self.fed_bytes_per_s());
        let Some(peer) = self.peer_by_id(to) else { return };
        let Step::Snapshot(mut sending) = peer.step else { return };
        let is_it = sending.id == snapshot && sending.sent == offset && sending.chunk == Chunk::Reading;
        if !is_it || size == 0 {
            return;
        }
        if sending.in_flight() == 0 {
            peer.moved = now;
        }
        (sending.sent, sending.chunk) = (offset + u64::from(size), Chunk::Due);
        peer.step = Step::Snapshot(sending);
        peer.throttle(u64::from(size), rate, now);
        let member = peer.member;
        if let Office::Primary(reign) = &mut self.office {
            reign.ease.fed(u64::from(size));
        }
        self.send(member, chunk);
        self.feed(member);
    }
}

// --- the backup -------------------------------------------------------------------------------------------

impl Replica {
    pub(super) fn snapshot_offer(&mut self, from: Member, offer: SnapshotOffer) -> Taken {
        let snapshot = offer.id();
        let is_sound = offer.base.membership.as_ref().is_some_and(|membership| membership.is_sound());
        if !is_sound || snapshot.position.epoch > self.meta.epoch {
            return Err(Refusal::ImpossibleLsn);
        }
        self.lacks(snapshot)?;
        if self.is_installing() {
            return Err(Refusal::NotAsked);
        }
        let resumed = self.staging.take().filter(|staging| staging.snapshot == snapshot);
        let mut staging = resumed.unwrap_or_else(|| {
            self.outbox.push(Effect::StageSnapshot(Box::new(offer.clone())));
            Staging::resumed(Staged { snapshot, bytes: 0 })
        });
        staging.offer = Some((offer.base, offer.contents));
        if staging.bytes > offer.contents.bytes {
            return Err(Refusal::ImpossibleSize);
        }
        let is_busy = staging.is_busy();
        self.staging = Some(staging);
        if !is_busy {
            self.go_on_staging(from);
        }
        Ok(())
    }

    /// Whether the snapshot brings anything that is not here: asked when it is offered, and again when all of it has come.
    fn lacks(&self, snapshot: SnapshotId) -> Taken {
        let is_whole = self.health == Health::Whole;
        if !self.rules(Rule::SnapshotAboveCommit) {
            return Ok(());
        }
        // S9: what is known to be committed is not given back. What a damaged replica knew of it is lost anyway.
        if snapshot.position.lsn <= self.ledger.commit && is_whole {
            return Err(Refusal::BelowCommit);
        }
        // Nor is what was installed already, and came twice.
        if snapshot.position.lsn <= self.ledger.base.position.lsn && self.lost().is_none() {
            return Err(Refusal::NotAsked);
        }
        // An offer that comes late may be of a time when this log was shorter: what is here and the primary's stays.
        let is_here = self.ledger.history.has(snapshot.position) && is_whole
            || self.is_following && snapshot.position.lsn <= self.ledger.last().lsn;
        if is_here { Err(Refusal::NotAsked) } else { Ok(()) }
    }

    pub(super) fn snapshot_chunk(
        &mut self,
        snapshot: SnapshotId,
        offset: u64,
        bytes: u32,
        digest: u64,
    ) -> Taken {
        let limits = &self.config.limits;
        let Some(staging) = &mut self.staging else { return Err(Refusal::NotAsked) };
        let Some((_, contents)) = &staging.offer else { return Err(Refusal::NotAsked) };
        // One that came twice, or whose predecessor was lost or refused: it is sent again from what is staged.
        if staging.snapshot != snapshot || staging.is_installing() || offset != staging.received {
            return Err(Refusal::NotAsked);
        }
        let end = offset.checked_add(u64::from(bytes)).filter(|end| *end <= contents.bytes);
        let Some(end) = end.filter(|_| bytes > 0 && bytes <= limits.chunk_bytes) else {
            return Err(Refusal::ImpossibleSize);
        };
        if staging.is_busy() && end - staging.bytes > limits.window_bytes {
            return Err(Refusal::NotAsked);
        }
        staging.received = end;
        self.outbox.push(Effect::StageChunk { snapshot, offset, bytes, digest });
        Ok(())
    }

    pub(super) fn chunk_staged(&mut self, snapshot: SnapshotId, bytes: u64) {
        let leader = self.leader;
        let Some(staging) = self.staging.as_mut().filter(|staging| staging.snapshot == snapshot) else {
            return;
        };
        // A chunk of an earlier attempt at the same snapshot may have been staged late.
        if bytes <= staging.bytes || bytes > staging.received {
            return;
        }
        staging.bytes = bytes;
        staging.refused = 0;
        if let Some(leader) = leader {
            self.go_on_staging(leader);
        }
    }

    /// A chunk came damaged, or there is no room: it is asked for again when the primary looks again. Those after it are
    /// refused for its sake alone.
    pub(super) fn chunk_refused(&mut self, snapshot: SnapshotId, offset: u64) {
        let is_it = |staging: &&mut Staging| {
            staging.snapshot == snapshot && staging.bytes == offset && staging.is_busy()
        };
        let Some(staging) = self.staging.as_mut().filter(is_it) else { return };
        staging.received = staging.bytes;
        staging.refused += 1;
        if staging.refused > CHUNKS_REFUSED_MAX {
            // What is staged is not what this replica takes it for: a chunk of an earlier attempt came to it late.
            self.staging = None;
        }
    }

    pub(super) fn installed(&mut self, snapshot: SnapshotId, incarnation: LogIncarnation) {
        let Some(staging) = self
            .staging
            .take_if(|staging| staging.snapshot == snapshot && staging.installs == Some(incarnation))
        else {
            return;
        };
        let (base, contents) = staging.offer.expect("a snapshot is installed once it was offered");
        self.ledger.install(base, contents, incarnation);
        self.unsynced_since = None;
        self.is_following = false;
        if self.health != Health::Whole {
            self.health = Health::Damaged(Vec::new());
        }
        self.outbox.push(Effect::Committed(self.ledger.commit));
        self.meta.generation = self.meta.generation.max(self.ledger.committed_generation());
        self.outbox.save(self.meta);
        if let Some(leader) = self.leader {
            self.send(leader, Message::SnapshotAsk { snapshot, bytes: contents.bytes });
        }
    }

    pub(super) fn is_installing(&self) -> bool {
        self.staging.as_ref().is_some_and(Staging::is_installing)
    }

    /// Asks for the next chunk; switches to the snapshot when there is none.
    fn go_on_staging(&mut self, leader: Member) {
        let is_early = !self.rules(Rule::VerifySnapshot);
        let next = self.ledger.incarnation.next();
        let Some(staging) = &mut self.staging else { return };
        let (snapshot, bytes) = (staging.snapshot, staging.bytes);
        let Some((base, contents)) = &staging.offer else { return };
        if bytes < contents.bytes && !(is_early && bytes > 0) {
            self.send(leader, Message::SnapshotAsk { snapshot, bytes });
            return;
        }
        let base = Arc::clone(base);
        if self.lacks(snapshot).is_err() {
            // Records that came late have overtaken it, and were acknowledged.
            self.staging = None;
            return;
        }
        let Some(staging) = &mut self.staging else { return };
        staging.installs = Some(next);
        self.outbox.push(Effect::Install { snapshot, base, incarnation: next });
    }
}
