//! Disks that fail, stand still, or lose what they had.

use std::time::Duration;

use annals::disk::Access;
use annals::disk::sim::{CrashPolicy, Fail, Fault, Operation};
use annals::node::ReplicaError;
use annals::protocol::request::{ClientRole, DiskHealth, Refused, Reply, Request};
use annals::protocol::{Change, Role};
use annals::{Error, Lsn};

use crate::fleet::{Fleet, id, until};

crate::over_both! {
    a_replica_whose_snapshot_rots_gets_another_one_from_the_others;
}

#[test]
fn a_failed_write_costs_the_primary_its_role_and_the_log_is_opened_again() {
    let fleet = Fleet::new(3);
    let first = fleet.primary();
    let before = fleet.append(b"before").lsn();
    fleet.all_show(before);
    let disk = &fleet.disks[first as usize - 1];
    disk.fail(Fail::nth(Operation::Write, 1, Fault::Io).and_later());
    disk.fail(Fail::nth(Operation::Sync, 1, Fault::Io).and_later());
    disk.fail(Fail::nth(Operation::WriteDurable, 1, Fault::Io).and_later());
    let after = fleet.append(b"after");
    assert!(!after.holders().contains(&id(first)), "{after:?}");
    until("it is noticed", || {
        let health = fleet.replica(first).status().expect("it runs").disk_health;
        (health == DiskHealth::Failed).then_some(())
    });
    disk.heal();
    fleet.all_show(after.lsn());
    let status = fleet.replica(first).status().expect("it runs");
    assert_eq!(status.disk_health, DiskHealth::Good);
    // It may even have been elected again.
    assert!(matches!(status.role, Role::Backup | Role::Primary), "{status:?}");
    assert_eq!(fleet.records(first, after.lsn()), fleet.records(fleet.primary(), after.lsn()));
}

#[test]
fn a_primary_whose_disk_stands_still_is_replaced() {
    let fleet = Fleet::new(3);
    let first = fleet.primary();
    fleet.all_show(fleet.append(b"before").lsn());
    let disk = fleet.disks[first as usize - 1].clone();
    disk.stall();
    // Two of three are enough, as long as they do not wait for the third.
    fleet.append(b"during");
    fleet.primary_but(first);
    until("it is noticed", || {
        let health = fleet.replica(first).status().expect("its network goes on").disk_health;
        (health == DiskHealth::Stalled).then_some(())
    });
    disk.release();
    fleet.all_show(fleet.append(b"after").lsn());
}

#[test]
fn records_that_were_lost_while_it_was_down_come_back_from_the_others() {
    let mut fleet = Fleet::new(3);
    let primary = fleet.primary();
    let records: Vec<_> = (0..200_u32).map(|n| fleet.append(&n.to_le_bytes().repeat(100))).collect();
    let last = records.last().expect("there are some").lsn();
    fleet.all_show(last);
    let there = fleet.records(primary, last);
    let victim = primary % 3 + 1;
    let leaving = fleet.replicas[victim as usize - 1].take().expect("it runs");
    leaving.shutdown().expect("it closes cleanly");
    let disk = fleet.disks[victim as usize - 1].crash(CrashPolicy::seeded(1));
    let names = annals::disk::Disk::list(&disk).expect("a disk");
    let segment = names.iter().find(|name| name.ends_with(".seg") && !name.starts_with("spare"));
    let segment = segment.expect("there is a log");
    for byte in 0..64 {
        disk.flip_bit(segment, 20_000 + byte, 3);
    }
    fleet.disks[victim as usize - 1] = disk;
    fleet.start(victim);
    let after = fleet.append(b"after").lsn();
    fleet.all_show(after);
    until("it is whole", || {
        let status = fleet.replica(victim).status().expect("it runs");
        (status.role == Role::Backup && status.disk_health == DiskHealth::Good).then_some(())
    });
    assert_eq!(fleet.records(victim, last), there);
}

/// Opening a log does not read its sealed segments: the scrub does, and nobody else has to.
#[test]
fn damage_that_nobody_reads_is_found_and_comes_back_from_a_peer() {
    let mut fleet = Fleet::new(3);
    let primary = fleet.primary();
    let records: Vec<_> = (0..300_u32).map(|n| fleet.append(&n.to_le_bytes().repeat(1000)).lsn()).collect();
    let last = *records.last().expect("there are some");
    fleet.all_show(last);
    let there = fleet.records(primary, last);
    let victim = primary % 3 + 1;
    fleet.replicas[victim as usize - 1].take().expect("it runs").shutdown().expect("it closes cleanly");
    let disk = fleet.disks[victim as usize - 1].clone();
    let names = || annals::disk::Disk::list(&disk).expect("a disk");
    let segments = names().into_iter().filter(|name| name.ends_with(".seg") && !name.starts_with("spare"));
    let mut segments: Vec<String> = segments.collect();
    segments.sort();
    assert!(segments.len() > 3, "some are sealed: {segments:?}");
    for byte in 0..64 {
        disk.flip_bit(&segments[1], 20_000 + byte, 3);
    }
    let damaged = disk.contents(&segments[1]);
    fleet.start(victim);
    // For a moment no file has the name: the old one is put aside first.
    let contents = || {
        let file = annals::disk::Disk::open(&disk, &segments[1], Access::Read).ok()?;
        let mut bytes = vec![0; damaged.len()];
        file.read_at(&mut bytes, 0).ok().map(|there| bytes[..there].to_vec())
    };
    until("the segment is made anew", || contents().filter(|found| *found != damaged));
    until("nothing is lost any more", || (!names().iter().any(|name| name == "damaged")).then_some(()));
    fleet.all_show(fleet.append(b"after").lsn());
    assert_eq!(fleet.records(victim, last), there);
}

/// Replica 1 alone, with a log of some segments of which nothing is in memory; and the name of a sealed one.
fn alone() -> (Fleet, String) {
    let mut fleet = Fleet::tuned(1, |options| options.scrub_bytes_per_s(0));
    (0..200_u32).for_each(|n| drop(fleet.append(&n.to_le_bytes().repeat(1000))));
    fleet.replicas[0].take().expect("it runs").shutdown().expect("it closes cleanly");
    fleet.start(1);
    fleet.append(b"it leads");
    let names = annals::disk::Disk::list(&fleet.disks[0]).expect("a disk");
    let sealed = names.into_iter().filter(|name| name.ends_with(".seg") && !name.starts_with("spare")).nth(1);
    (fleet, sealed.expect("some are sealed"))
}

/// The last record of the segment before the one of this name.
fn before(name: &str) -> Lsn {
    let first: u64 = name.trim_end_matches(".seg").parse().expect("it is named by its first record");
    Lsn::new(first - 1)
}

/// It noted that something may be lost, and never led again: nobody was there to confirm that it had all.
#[test]
fn a_disk_that_is_away_for_a_moment_while_it_is_read_costs_a_replica_nothing() {
    let (fleet, sealed) = alone();
    let disk = &fleet.disks[0];
    let last = fleet.replica(1).status().expect("it runs").durable;
    // It is read twice.
    (1..=2).for_each(|nth| disk.fail(Fail::nth(Operation::Read, nth, Fault::Io).on(&sealed)));
    let missed = fleet.replica(1).read(before(&sealed).next());
    assert!(matches!(missed, Err(ReplicaError::Log(Error::Rot { .. }))), "{missed:?}");
    let after = fleet.append(b"after").lsn();
    assert!(fleet.records(1, after).len() > 200 && after > last);
    let names = annals::disk::Disk::list(disk).expect("a disk");
    assert!(!names.iter().any(|name| name == "damaged"), "{names:?}");
}

/// What was synced last, and nothing vouches for, is taken for torn: then it is not all there, and it must not lead.
#[test]
fn a_replica_that_has_lost_what_nothing_vouches_for_does_not_take_its_doubt_back() {
    let (fleet, sealed) = alone();
    let disk = &fleet.disks[0];
    let newest = annals::disk::Disk::list(disk)
        .expect("a disk")
        .into_iter()
        .filter(|name| name.ends_with(".seg") && !name.starts_with("spare"));
    let newest = newest.max().expect("there is a log");
    let lost = fleet.append(&[b'#'; 500]);
    let at = disk.contents(&newest).windows(500).position(|bytes| bytes == [b'#'; 500]).expect("it is there");
    for byte in 0..64 {
        disk.flip_bit(&newest, at as u64 + 100 + byte, 3);
    }
    (1..=2).for_each(|nth| disk.fail(Fail::nth(Operation::Read, nth, Fault::Io).on(&sealed)));
    assert!(fleet.replica(1).read(before(&sealed).next()).is_err());
    let status = until("it was opened again", || {
        let status = fleet.replica(1).status().expect("it runs");
        (status.role == Role::Recovering).then_some(status)
    });
    assert!(status.durable < lost.lsn(), "{status:?}");
    let names = annals::disk::Disk::list(disk).expect("a disk");
    assert!(names.iter().any(|name| name == "damaged"), "{names:?}");
}

/// Three replicas with a log of some segments, that nobody looks through in the background; and its last record.
fn unscrubbed() -> (Fleet, Lsn) {
    let fleet = Fleet::tuned(3, |options| options.scrub_bytes_per_s(0));
    let records: Vec<_> = (0..300_u32).map(|n| fleet.append(&n.to_le_bytes().repeat(1000)).lsn()).collect();
    let last = *records.last().expect("there are some");
    fleet.all_show(last);
    (fleet, last)
}

/// Blocks inside of the second segment of this replica cannot be read any more, and nothing of it is in memory.
fn lose_a_segment(fleet: &mut Fleet, victim: u64) {
    fleet.replicas[victim as usize - 1].take().expect("it runs").shutdown().expect("it closes cleanly");
    let disk = fleet.disks[victim as usize - 1].clone();
    let names = annals::disk::Disk::list(&disk).expect("a disk");
    let name = names.iter().filter(|name| name.ends_with(".seg") && !name.starts_with("spare")).nth(1);
    disk.lose_sectors(name.expect("some are sealed"), 40_000..200_000);
    fleet.start(victim);
}

fn is_whole_again(fleet: &Fleet, victim: u64) {
    until("it has given it up, and got it back", || {
        let names = annals::disk::Disk::list(&fleet.disks[victim as usize - 1]).expect("a disk");
        let is_put_aside = names.iter().any(|name| name.starts_with("quarantine"));
        let status = fleet.replica(victim).status().expect("it runs");
        let is_well = status.disk_health == DiskHealth::Good && status.role != Role::Recovering;
        (is_well && !is_put_aside && !names.iter().any(|name| name == "damaged")).then_some(())
    });
}

/// It was an error to whoever read it, each time, and nothing came of it.
#[test]
fn what_a_reader_cannot_read_comes_back_from_a_peer() {
    let (mut fleet, last) = unscrubbed();
    let victim = fleet.primary() % 3 + 1;
    let there = fleet.records(victim, last);
    lose_a_segment(&mut fleet, victim);
    fleet.all_show(last);
    let mut subscription = fleet.replica(victim).subscribe(Lsn::FIRST);
    let unreadable =
        until("it comes to the bad blocks", || subscription.next_timeout(Duration::from_millis(100)).err());
    assert!(unreadable.to_string().contains("damaged"), "{unreadable}");
    is_whole_again(&fleet, victim);
    fleet.all_show(last);
    assert_eq!(fleet.records(victim, last), there);
}

/// The primary opened its log again, by what it knows of it without reading it, and met the same again.
#[test]
fn a_primary_that_cannot_read_what_a_peer_lacks_gets_it_back_itself() {
    let (mut fleet, last) = unscrubbed();
    let (primary, newcomer) = (fleet.primary(), 4);
    lose_a_segment(&mut fleet, primary);
    until("it leads again", || {
        let _ = fleet.replica(fleet.primary()).transfer_to(Some(id(primary))).ok()?.wait();
        (fleet.primary() == primary).then_some(())
    });
    fleet.add_disk();
    let disk = fleet.options(newcomer).join_on(&fleet.disk(newcomer)).expect("a blank disk");
    let joined = fleet.try_start(newcomer).expect("a newcomer");
    until("it is added", || {
        let learner = Change::AddLearner(annals::protocol::Member { id: id(newcomer), disk });
        fleet.replica(fleet.primary()).change(learner).expect("it runs").wait().ok()
    });
    until("it has caught up", || (joined.status().expect("it runs").applied >= last).then_some(()));
    is_whole_again(&fleet, primary);
}

#[test]
fn a_disk_that_was_lost_does_not_come_back_as_if_nothing_had_happened() {
    let mut fleet = Fleet::new(3);
    let primary = fleet.primary();
    let last = fleet.append(b"one").lsn();
    fleet.all_show(last);
    let victim = primary % 3 + 1;
    fleet.kill(victim);
    fleet.disks[victim as usize - 1] = annals::disk::sim::SimDisk::new(99);
    let refused = fleet.try_start(victim).expect_err("its directory is blank");
    assert!(matches!(refused, annals::node::ReplicaError::Blank { id: blank } if blank == id(victim)));

    // The way out: it is removed, and comes back as somebody new.
    let change = |change| {
        until("the membership changes", || {
            fleet.replica(fleet.primary()).change(change).expect("it runs").wait().ok()
        });
    };
    change(Change::Remove(id(victim)));
    let disk = fleet.options(victim).join_on(&fleet.disk(victim)).expect("a blank disk");
    let joined = fleet.try_start(victim).expect("a newcomer");
    change(Change::AddLearner(annals::protocol::Member { id: id(victim), disk }));
    until("it has caught up", || (joined.status().expect("it runs").applied >= last).then_some(()));
    change(Change::PromoteLearner { id: id(victim), priority: 0 });
    until("it votes", || (joined.status().expect("it runs").role == Role::Backup).then_some(()));
}

#[test]
fn a_replica_on_a_full_disk_starts_and_shows_what_it_has() {
    let mut fleet = Fleet::new(3);
    let victim = fleet.primary() % 3 + 1;
    let last = fleet.append(&[7; 1000]).lsn();
    fleet.all_show(last);
    fleet.replicas[victim as usize - 1].take().expect("it runs").shutdown().expect("it closes cleanly");
    let disk = fleet.disks[victim as usize - 1].clone();
    disk.set_capacity(Some(disk.used()));
    fleet.start(victim);
    fleet.all_show(last);
    assert_eq!(fleet.records(victim, last), fleet.records(fleet.primary(), last));
    disk.set_capacity(None);
    fleet.all_show(fleet.append(b"after").lsn());
}

#[test]
fn a_replica_can_be_ended_although_its_disk_stands_still() {
    let mut fleet = Fleet::tuned(1, |options| options.close_max(Duration::from_millis(200)));
    fleet.append(b"one");
    let disk = fleet.disks[0].clone();
    disk.stall();
    let ticket = fleet.replica(1).append(b"two").expect("it runs");
    let _ = disk.wait_until_blocked(1);
    let ended = fleet.replicas[0].take().expect("it runs").shutdown();
    assert!(matches!(ended, Err(annals::node::ReplicaError::TimedOut)), "{ended:?}");
    assert!(ticket.wait().expect_err("it was not synced").is_unknown());
    disk.release();
}

#[test]
fn lost_records_come_back_however_often_somebody_asks_for_them() {
    let mut fleet = Fleet::new(3);
    let primary = fleet.primary();
    let records: Vec<_> = (0..200_u32).map(|n| fleet.append(&n.to_le_bytes().repeat(100)).lsn()).collect();
    let last = *records.last().expect("there are some");
    fleet.all_show(last);
    let victim = primary % 3 + 1;
    // So that nothing of it is in memory.
    fleet.replicas[victim as usize - 1].take().expect("it runs").shutdown().expect("it closes cleanly");
    fleet.start(victim);
    fleet.all_show(last);
    let disk = &fleet.disks[victim as usize - 1];
    let names = annals::disk::Disk::list(disk).expect("a disk");
    let segment = names.iter().find(|name| name.ends_with(".seg") && !name.starts_with("spare"));
    for byte in 0..64 {
        disk.flip_bit(segment.expect("there is a log"), 20_000 + byte, 3);
    }
    // Nobody can give it back yet: what is lost is known to be, and that is all.
    fleet.net.cut(id(victim));
    let reader = fleet.net.connect(id(victim), ClientRole::Read);
    let mut from = Lsn::FIRST;
    let mut read = || match reader.ask(Request::Read { from, bytes_max: 1000 }, b"") {
        Reply::Records { next, .. } => {
            from = next;
            (next > last).then_some(String::new())
        }
        Reply::Refused(Refused::NotPossible { reason }) => Some(reason),
        _ => None,
    };
    until("it is found to be lost", || read().filter(|reason| reason.contains("lost")));
    for _ in 0..20 {
        let reason = read().expect("nothing is opened again for it");
        assert!(reason.contains("lost"), "{reason}");
    }
    fleet.net.join(id(victim));
    until("all of it can be read again", || read().filter(String::is_empty));
}

fn a_replica_whose_snapshot_rots_gets_another_one_from_the_others(mut fleet: Fleet) {
    let victim = fleet.primary() % 3 + 1;
    // What the cluster began with, and then a snapshot that was taken.
    for is_taken in [false, true] {
        fleet.all_show(fleet.append(b"before").lsn());
        if is_taken {
            until("a snapshot is taken", || fleet.replica(victim).snapshot().ok()?.wait().ok());
        }
        fleet.replicas[victim as usize - 1].take().expect("it runs").shutdown().expect("it closes cleanly");
        fleet.disks[victim as usize - 1].flip_bit("base", 30, 3);
        let options = fleet.options(victim).peers([(id(victim % 3 + 1), "elsewhere:1")]);
        fleet.start_with(victim, options);
        until("it is whole", || {
            let status = fleet.replica(victim).status().expect("it runs");
            let votes = status.membership.is_some() && status.role == Role::Backup;
            (votes && status.disk_health == DiskHealth::Good).then_some(())
        });
        let last = fleet.append(b"after").lsn();
        fleet.all_show(last);
        assert_eq!(fleet.records(victim, last), fleet.records(fleet.primary(), last));
    }
    // It can lead, and nothing of the old one is left.
    until("it leads", || {
        let _ = fleet.replica(fleet.primary()).transfer_to(Some(id(victim))).ok()?.wait();
        (fleet.primary() == victim).then_some(())
    });
    let names = annals::disk::Disk::list(&fleet.disks[victim as usize - 1]).expect("a disk");
    assert!(!names.iter().any(|name| name.starts_with("quarantine") || name == "damaged"), "{names:?}");
}

#[test]
fn a_replica_whose_snapshot_rots_and_that_knows_nobody_changes_nothing() {
    let mut fleet = Fleet::new(1);
    fleet.append(b"one");
    fleet.replicas[0].take().expect("it runs").shutdown().expect("it closes cleanly");
    let disk = fleet.disks[0].clone();
    disk.flip_bit("base", 30, 3);
    let names = annals::disk::Disk::list(&disk).expect("a disk");
    assert!(fleet.try_start(1).expect_err("its base is damaged").to_string().contains("snapshot is damaged"));
    assert_eq!(annals::disk::Disk::list(&disk).expect("a disk"), names);
}
