//! What one replica keeps on its disk.

mod append;
mod bulk;
mod extract;
mod front;
mod kept;
mod mend;
mod open;
mod outage;
mod part;
mod reader;
mod recent;
mod scrub;
mod shared;
mod snapshots;
mod source;
mod spares;
mod stage;
#[cfg(test)]
mod tests;
mod truncate;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use self::append::{Notes, Pending};
use self::front::Front;
use self::open::Others;
pub(super) use self::outage::find_while_there;
use self::part::Part;
pub use self::reader::StoreReader;
use self::shared::Shared;
use self::snapshots::Snapshot;
pub use self::snapshots::{SnapshotReader, SnapshotWriter, TakenSnapshot};
use self::spares::Spares;
pub use self::spares::{Preparation, Prepared};
use self::stage::Stage;
use crate::disk::{Disk, DurableWriter};
use crate::error::{Error, Result};
use crate::format::{Extract, Vote};
use crate::log::store::Files;
use crate::log::superblock_file::{Copies, SuperblockFile};
use crate::protocol::{Base, EpochHistory, Health, Member, Meta, SnapshotId, State};
use crate::segment::QUARANTINE;
use crate::types::{DiskId, Lsn, LsnRange, WriteMethod};

/// The name of the file that says that something is lost.
pub(super) use crate::segment::DAMAGED;

/// How a replica's store is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// Bytes of a segment; a group that needs more gets a larger one. By default 64 MiB.
    pub segment_bytes: u64,
    /// Bytes of the newest frames that are kept in memory, for those who read them. By default 32 MiB.
    pub cache_bytes: u64,
    /// Bytes at the end of the log that are read when it is opened, whatever the extracts of segments say. More than may
    /// wait for its commit: by default 96 MiB.
    pub newest_bytes: u64,
    /// Snapshots that are kept, the newest included: at least that one, which by default is the only one. Opening the
    /// store removes what is more: whoever opens that of another says [`usize::MAX`].
    pub snapshots_kept: usize,
    /// How groups are written; by default as it was found to be the fastest when the store was made.
    pub write_method: Option<WriteMethod>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            segment_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            newest_bytes: 96 << 20,
            snapshots_kept: 1,
            write_method: None,
        }
    }
}

impl StoreOptions {
    /// Bytes of memory that frames are laid out in at a time.
    fn slab_bytes(&self) -> usize {
        usize::try_from(self.cache_bytes / 8).unwrap_or(usize::MAX).clamp(16 << 10, 4 << 20)
    }
}

/// What one replica keeps on its disk: log, superblock, snapshots, and a note if something is lost.
///
/// Owned by one thread; others read through a [`reader`](ReplicaStore::reader), and [prepare](ReplicaStore::prepare)
/// what comes next. Every method does its work before it returns. [`write`](ReplicaStore::write) alone leaves something in
/// between: it is durable with the next [`sync`](ReplicaStore::sync). After an error nothing is known of the disk (S12):
/// drop the store, tell the core [`Input::DiskFailed`](crate::protocol::Input::DiskFailed) and
/// [`open`](ReplicaStore::open) again. A crash during any of them leaves the state before or the one after;
/// only a [truncation](ReplicaStore::truncate) may be left in part.
pub struct ReplicaStore {
    files: Arc<Files>,
    options: StoreOptions,
    superblock: SuperblockFile,
    /// The segments in the order of their LSNs; the last one is the tail.
    parts: Vec<Part>,
    /// Writes to the tail.
    writer: Box<dyn DurableWriter>,
    front: Front,
    /// What was written since the last sync.
    pending: Vec<Pending>,
    notes: Notes,
    /// Of the tail.
    extract: Extract,
    /// Of segments that were sealed since somebody [prepared](ReplicaStore::prepare) the next one.
    extracts: Vec<extract::Waiting>,
    spares: Spares,
    /// Of the records that are retained, also of those that are not synced.
    history: EpochHistory,
    durable: Lsn,
    /// The newest record that something synced vouches for.
    vouched: Lsn,
    snapshot: Arc<Snapshot>,
    /// Those that are to be kept when they are replaced, because peers receive them.
    wanted_snapshots: Vec<SnapshotId>,
    stage: Option<Stage>,
    shared: Arc<Shared>,
    is_poisoned: bool,
    _lock: Box<dyn Any + Send>,
}

impl ReplicaStore {
    /// Makes the store of a new replica in an empty directory; the log's id is that of the member's disk.
    ///
    /// `base` is at LSN 0: with the first membership, or without one for a newcomer.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if there is a store, and whatever the operating system says.
    pub fn create(disk: &dyn Disk, me: Member, base: &Base) -> Result<()> {
        open::create(disk, me, base)
    }

    /// Opens the store, and recovers it: what was never synced may be gone, what was is there.
    ///
    /// Lost records are replaced by gaps, after that was noted durably; the state then says which (S11). Without
    /// anything in the directory, or without its superblock or a base that checks, there is no store, and the state is
    /// blank; unless the base was [put aside](ReplicaStore::open_among_peers).
    ///
    /// # Errors
    /// [`Error::NewerVersion`], [`Error::InUse`], and whatever the operating system says.
    pub fn open(disk: &Arc<dyn Disk>, options: StoreOptions) -> Result<(Option<ReplicaStore>, State)> {
        open::open(disk, options, Others::AreNone)
    }

    /// As [`open`](ReplicaStore::open), for a replica that has peers: a base that does not check is put aside, so that one of
    /// theirs takes its place, and the store opens with [`LOST_BASE`](crate::protocol::LOST_BASE) lost; with `open`, too, from
    /// then on. What is put aside is kept until nothing is lost any more.
    ///
    /// # Errors
    /// As for `open`.
    pub fn open_among_peers(
        disk: &Arc<dyn Disk>,
        options: StoreOptions,
    ) -> Result<(Option<ReplicaStore>, State)> {
        open::open(disk, options, Others::HaveABase)
    }

    /// The identity of the disk: the log's id.
    #[must_use]
    pub fn disk_id(&self) -> DiskId {
        DiskId::new(self.superblock.current().log_id.get())
    }

    /// The oldest record that can be read, or that comes first.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.history.base().lsn.next()
    }

    /// The newest record, synced or not.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.history.last().lsn
    }

    /// About how many bytes of the log are of records after this one: those of a segment are taken to be equally large.
    #[must_use]
    pub fn bytes_after(&self, lsn: Lsn) -> u64 {
        let of = |part: &Part| {
            let before = part.header.first_lsn.prev();
            let records = part.last().get().saturating_sub(before.get());
            let after = part.last().get().saturating_sub(lsn.max(before).get());
            u128::from(part.extent.end) * u128::from(after) / u128::from(records.max(1))
        };
        // No more than all parts have.
        self.parts.iter().map(of).sum::<u128>() as u64
    }

    /// The newest record that is synced.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.durable
    }

    /// The newest record of which a later one, or the superblock, says that it was synced: if it, or one before it, is
    /// damaged, that is told by opening the store, or by whoever reads it. Damage to newer ones cannot be told from a torn write.
    #[must_use]
    pub const fn vouched(&self) -> Lsn {
        self.vouched
    }

    /// Says in the superblock that everything synced is synced, as an idle log does within a second.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn vouch(&mut self) -> Result<()> {
        let durable = self.durable;
        if self.superblock.current().durable >= durable {
            return Ok(());
        }
        self.superblock.update(Copies::One, |superblock| superblock.durable = durable)?;
        self.has_vouched();
        Ok(())
    }

    /// Takes note that the superblock says that all is durable that is.
    fn has_vouched(&mut self) {
        self.vouched = self.durable;
    }

    /// Saves the meta durably, in both copies: a vote must not be forgotten if one of them is damaged later.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn save_meta(&mut self, meta: &Meta) -> Result<()> {
        let durable = self.durable;
        let voted = meta.vote.unwrap_or_default();
        let vote_epoch = meta.vote.map_or(Vote::default().epoch, |_| meta.epoch);
        self.superblock.update(Copies::Both, |superblock| {
            superblock.epoch = meta.epoch;
            superblock.vote = Vote { epoch: vote_epoch, replica: voted.id, disk: voted.disk };
            superblock.generation = meta.generation;
            superblock.durable = superblock.durable.max(durable);
        })?;
        self.has_vouched();
        Ok(())
    }

    /// Forgets the records up to `through`, which the base covers; those segments go that hold nothing else. Records that are
    /// in one frame go together: those of the frame in which `through` is stay.
    ///
    /// # Errors
    /// Whatever the operating system says.
    ///
    /// # Panics
    /// If the base does not cover them.
    pub fn trim(&mut self, through: Lsn) -> Result<()> {
        assert!(through <= self.snapshot.base.position.lsn, "the base covers what is trimmed");
        if through < self.first() {
            return Ok(());
        }
        if through > self.durable {
            self.sync()?;
        }
        let through = self.end_of_frame(through)?;
        if through < self.first() {
            return Ok(());
        }
        let covered = self.snapshot.base.position;
        // In a gap the history has a lower bound only.
        let known = Some(covered).filter(|covered| covered.lsn == through);
        let Some(base) = known.or_else(|| self.history.position(through)) else {
            return Err(Error::BeyondEnd { asked: through, last: self.last() });
        };
        let durable = self.durable;
        self.superblock.update(Copies::Both, |superblock| {
            superblock.first_lsn = through.next();
            superblock.trimmed_epoch = base.epoch;
            superblock.durable = superblock.durable.max(durable);
        })?;
        self.has_vouched();
        self.history.forget(through);
        let gone =
            self.parts.iter().skip(1).take_while(|next| next.header.first_lsn <= through.next()).count();
        let gone: Vec<Part> = self.parts.drain(..gone).collect();
        self.show()?;
        self.shared.with(|view| view.changed());
        // Also those that readers have had open for a while.
        self.shared.close_unused();
        self.extracts.retain(|extract| extract.first() > through);
        for part in &gone {
            extract::forget(&self.files, part.header.first_lsn)?;
            let fits = part.header.segment_bytes == self.options.segment_bytes;
            if !fits || !self.spares.retire(&part.name) {
                self.files.remove(&part.name)?;
            }
        }
        if gone.is_empty() { Ok(()) } else { self.files.sync_dir() }
    }

    /// The newest record up to `through` with which a frame ends.
    fn end_of_frame(&self, through: Lsn) -> Result<Lsn> {
        let holds = |part: &&Part| part.header.first_lsn <= through && through <= part.last();
        let Some(part) = self.parts.iter().find(holds).filter(|part| part.last() > through) else {
            return Ok(through);
        };
        let alone = LsnRange { first: through, last: through };
        match self.reader().read_range(alone, 1) {
            Ok(Some((group, _))) if group.range.last > through => Ok(group.range.first.prev()),
            // A gap is cut anywhere.
            Ok(Some(_)) | Err(Error::Lost { .. }) => Ok(through),
            // Where something is damaged nobody knows where frames end. The whole segment goes with a later trim, as it
            // would anyway.
            _ => Ok(part.header.first_lsn.prev()),
        }
    }

    /// Notes that something may be lost, because it could not be read: the next [`open`](ReplicaStore::open) looks at every
    /// byte.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn doubt(&mut self) -> Result<()> {
        open::note_damage(&*self.files.disk)
    }

    /// The same, and gives up to where all is synced, if nothing was lost before: to be held against what is there when the store
    /// was opened [again](ReplicaStore::settle).
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(crate) fn begin_doubt(&mut self) -> Result<Option<Lsn>> {
        let was_noted = open::is_damaged(&*self.files.disk)?;
        self.doubt()?;
        Ok((!was_noted).then_some(self.durable))
    }

    /// Takes a doubt back, if every byte has been looked at since and checks as it is, and all is there that was synced then:
    /// the disk was away for a moment.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(crate) fn settle(&mut self, state: &mut State, synced: Lsn) -> Result<()> {
        let is_aside = open::list(&*self.files.disk)?.iter().any(|name| name.starts_with(QUARANTINE));
        // What nothing vouches for is cut off as torn if it is damaged, and not called lost.
        let is_all = state.health == Health::Damaged(Vec::new()) && self.durable >= synced;
        if is_all && !is_aside {
            self.recovered()?;
            state.health = Health::Whole;
        }
        Ok(())
    }

    /// Removes the note that something is lost: nothing is any more. Open the store again then.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn recovered(&mut self) -> Result<()> {
        match self.files.disk.remove(DAMAGED) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return self.files.io("remove", DAMAGED, Err(error));
            }
            _ => {}
        }
        // What the repair has put aside was the only copy, and is not any more.
        for name in open::list(&*self.files.disk)? {
            if name.starts_with(QUARANTINE) {
                self.files.remove(&name)?;
            }
        }
        self.files.sync_dir()
    }

    fn tail(&self) -> &Part {
        self.parts.last().expect("a store has a tail")
    }
}

impl Drop for ReplicaStore {
    fn drop(&mut self) {
        self.spares.close();
        self.shared.close();
    }
}

impl fmt::Debug for ReplicaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ReplicaStore");
        shown.field("disk_id", &self.disk_id()).field("first", &self.first()).field("last", &self.last());
        shown.field("durable", &self.durable).finish_non_exhaustive()
    }
}
