//! What a group costs the core in allocations, once everything has grown to its size.

#![allow(clippy::unwrap_used)]

#[path = "support/quorum.rs"]
mod quorum;

use allocation_counter::measure;
use quorum::{Backup, Primary};

const GROUPS: u64 = 20_000;
/// Heartbeats in that time, at the pace of one group in a microsecond, with something to spare.
const HEARTBEATS_MAX: u64 = 4;

/// The heartbeats of that time list the peers, and ask for nothing else.
#[test]
fn a_group_costs_the_primary_no_allocation() {
    for replicas in [3, 5] {
        for (has_producer, in_flight) in [(false, 1), (false, 16), (true, 1)] {
            let mut primary = Primary::of(replicas, has_producer);
            for _ in 0..1000 {
                primary.live(in_flight);
            }
            let mut effects = 0;
            let used = measure(|| effects = (0..GROUPS / in_flight).map(|_| primary.live(in_flight)).sum());
            let allocations = used.count_total;
            eprintln!(
                "{replicas} replicas, {in_flight} in flight, a producer: {has_producer}: {allocations} in {GROUPS} groups"
            );
            assert!(primary.has_committed_all());
            assert!(effects as u64 > GROUPS * (replicas + 1), "written, sent to each, answered");
            assert!(allocations <= HEARTBEATS_MAX, "{allocations} allocations");
        }
    }
}

/// The list of spans is shared by the disk and all peers: one allocation, however many producers are in the group.
#[test]
fn a_group_of_many_producers_costs_the_primary_one_allocation() {
    const GROUPS: u64 = 2000;
    for producers in [2, 64] {
        let mut primary = Primary::of_many(3, producers);
        for _ in 0..1000 {
            primary.live_together();
        }
        let used = measure(|| (0..GROUPS).for_each(|_| assert!(primary.live_together() > 0)));
        eprintln!("{producers} producers: {} allocations in {GROUPS} groups", used.count_total);
        assert!(primary.has_committed_all());
        assert!(used.count_total <= GROUPS + HEARTBEATS_MAX, "{} allocations", used.count_total);
    }
}

#[test]
fn neither_a_group_nor_a_heartbeat_costs_a_backup_an_allocation() {
    let mut backup = Backup::of(3);
    for _ in 0..1000 {
        backup.take_group();
        backup.take_heartbeat();
    }
    let used = measure(|| {
        for _ in 0..GROUPS {
            // Write, Committed, Ack.
            assert_eq!(backup.take_group(), 3);
            assert_eq!(backup.take_heartbeat(), 1);
        }
    });
    assert_eq!(backup.refused(), 0);
    assert_eq!(used.count_total, 0);
}
