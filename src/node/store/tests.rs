//! The store over the simulated disk: what it keeps over crashes and damage.

mod author;
mod damage;
mod extracts;
mod flushes;
mod kept;
mod outages;
mod readers;
mod records;
mod snapshots;
mod streams;

use std::sync::Arc;

use self::author::Author;
use super::{ReplicaStore, StoreOptions};
use crate::disk::Disk;
use crate::disk::sim::{CrashPolicy, SimDisk};
use crate::error::Result;
use crate::format::crc32;
use crate::protocol::{
    Base, Contents, Member, Membership, Position, Producers, Quorums, SnapshotId, State, Voter,
};
use crate::types::{DiskId, Lsn, LsnRange, ReplicaId};

const OPTIONS: StoreOptions = StoreOptions {
    segment_bytes: 32 << 10,
    cache_bytes: 64 << 10,
    newest_bytes: 12 << 10,
    snapshots_kept: 1,
    write_method: None,
};

fn me() -> Member {
    Member { id: ReplicaId::new(1), disk: DiskId::new(77) }
}

fn membership() -> Arc<Membership> {
    Arc::new(Membership::first(vec![Voter { member: me(), priority: 0 }], Quorums::Majority))
}

fn first_base() -> Base {
    Base { membership: Some(membership()), ..Base::default() }
}

/// What an application's part is that has these bytes.
fn contents_of(application: &[u8]) -> Contents {
    Contents { bytes: application.len() as u64, checksum: crc32(application) }
}

fn base_at(position: Position) -> Base {
    Base { position, membership: Some(membership()), producers: Producers::default() }
}

fn range(first: u64, last: u64) -> LsnRange {
    LsnRange::new(Lsn::new(first), Lsn::new(last)).unwrap()
}

impl ReplicaStore {
    /// Puts a chunk into the stage, durably.
    fn stage_durably(&mut self, of: (SnapshotId, u64), bytes: &[u8], stated: u64) -> Result<Option<u64>> {
        let staged = self.stage_chunk(of, bytes, stated)?;
        if staged.is_some() {
            self.sync_stage()?;
        }
        Ok(staged)
    }
}

fn arc(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn open(disk: &SimDisk) -> (ReplicaStore, State) {
    open_with(disk, OPTIONS)
}

fn open_with(disk: &SimDisk, options: StoreOptions) -> (ReplicaStore, State) {
    let (store, state) =
        ReplicaStore::open(&arc(disk), options).unwrap_or_else(|error| panic!("{error}\n{}", disk.trace()));
    let store = store.unwrap_or_else(|| panic!("it is not blank\n{}", disk.trace()));
    assert_eq!(state.history.last().lsn, store.last());
    (store, state)
}

fn created(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    ReplicaStore::create(&disk, me(), &first_base()).unwrap();
    disk
}

/// Every group as it is read back from the store, one frame at a time put together again.
fn check_against(store: &ReplicaStore, author: &Author) {
    let frames = author.frames();
    for (group, bytes) in &author.groups {
        if group.range.first < store.first() || group.range.last > store.last() {
            continue;
        }
        let read = store.read_range(group.range, bytes.len() as u64).unwrap().unwrap();
        assert_eq!(&read, &(group.clone(), frames[&group.range.first.get()].clone()));
    }
}

fn fill(store: &mut ReplicaStore, author: &mut Author, groups: u64) {
    for _ in 0..groups {
        let (group, frames) = author.next();
        store.write(&group, frames).unwrap();
        if author.below(3) == 0 {
            store.sync().unwrap();
        }
    }
    store.sync().unwrap();
}

/// Does something to a store up to each of its disk operations, and looks at what a crash leaves.
fn crash_everywhere(
    prepare: impl Fn(&mut ReplicaStore),
    act: impl Fn(&mut ReplicaStore),
    check: impl Fn(&SimDisk, bool),
) {
    crash_everywhere_with(OPTIONS, prepare, act, check);
}

fn crash_everywhere_with(
    options: StoreOptions,
    prepare: impl Fn(&mut ReplicaStore),
    act: impl Fn(&mut ReplicaStore),
    check: impl Fn(&SimDisk, bool),
) {
    for stop in 0.. {
        assert!(stop < 300, "it ends");
        let disk = created(stop);
        let (mut store, _) = open_with(&disk, options);
        prepare(&mut store);
        disk.crash_after(stop);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&mut store))).ok();
        let is_done = !disk.is_off();
        drop(store);
        for policy in [CrashPolicy::LOSE_ALL, CrashPolicy::KEEP_ALL]
            .into_iter()
            .chain((0..3).map(|seed| CrashPolicy::seeded(stop * 7 + seed)))
        {
            let found = disk.crash(policy);
            check(&found, is_done);
            // Also when the recovery is cut short.
            let found = disk.crash(policy);
            found.crash_after(stop % 23);
            let _ = ReplicaStore::open(&arc(&found), options);
            check(&found.crash(CrashPolicy::seeded(stop)), is_done);
        }
        if is_done {
            break;
        }
    }
}

fn ignoring<T>(result: Result<T>) -> T {
    match result {
        Ok(done) => done,
        // Ends the act; the disk has no power.
        Err(_) => std::panic::resume_unwind(Box::new(())),
    }
}
