//! What a group costs a replica's store in allocations, once everything has grown to its size.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use allocation_counter::measure;
use annals::disk::{Disk, RealDisk};
use annals::node::{ReplicaStore, StoreOptions, frame_group};
use annals::protocol::{Base, Content, Group, Member, Membership, Quorums, Voter};
use annals::{DiskId, Epoch, Lsn, LsnRange, ReplicaId, WriteMethod};
use bytes::Bytes;

const GROUPS: u64 = 4000;
const GROUPS_OF_A_FLUSH: usize = 100;

fn store(dir: &tempfile::TempDir) -> ReplicaStore {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::create(dir.path()).unwrap());
    let me = Member { id: ReplicaId::new(1), disk: DiskId::new(77) };
    let membership = Membership::first(vec![Voter { member: me, priority: 0 }], Quorums::Majority);
    let base = Base { membership: Some(Arc::new(membership)), ..Base::default() };
    ReplicaStore::create(&*disk, me, &base).unwrap();
    // How it is written is not what counts here.
    let options = StoreOptions {
        cache_bytes: 1 << 20,
        write_method: Some(WriteMethod::Buffered),
        ..StoreOptions::default()
    };
    ReplicaStore::open(&disk, options).unwrap().0.unwrap()
}

/// Groups in one buffer, as they come from the network.
fn groups(first: u64) -> Vec<(Group, Bytes)> {
    let mut all = Vec::new();
    let mut groups = Vec::new();
    for lsn in first..first + GROUPS {
        let range = LsnRange { first: Lsn::new(lsn), last: Lsn::new(lsn) };
        let group = Group { epoch: Epoch::FIRST, range, bytes: 0, content: Content::PLAIN };
        let frames = frame_group(&group, &[[7; 256]]);
        let start = all.len();
        all.extend_from_slice(&frames);
        groups.push((group, start..all.len()));
    }
    let all = Bytes::from(all);
    // The first clone makes it shared.
    let _shared = all.clone();
    groups.into_iter().map(|(group, range)| (group, all.slice(range))).collect()
}

#[test]
fn a_group_is_written_without_an_allocation_of_its_own() {
    let dir = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut store = store(&dir);
    let mut first = 1;
    let mut write = || {
        let groups = groups(first);
        first += GROUPS;
        let mut groups = groups.into_iter();
        measure(|| {
            while groups.len() > 0 {
                store.write_all(groups.by_ref().take(GROUPS_OF_A_FLUSH)).unwrap();
            }
        })
        .count_total
    };
    for _ in 0..4 {
        write();
    }
    let allocations = write();
    eprintln!("{allocations} in {GROUPS} groups, {} flushes", GROUPS / GROUPS_OF_A_FLUSH as u64);
    assert!(allocations <= 40, "{allocations} allocations");
}
