//! Who leads, and what a read is worth.

use annals::disk::sim::{Fail, Fault, Operation};
use annals::protocol::{FailoverPolicy, Role};

use crate::fleet::{Fleet, id, until};

#[test]
fn with_the_manual_policy_nobody_leads_before_an_operator_says_so() {
    let mut fleet = Fleet::tuned(3, |options| options.policy(FailoverPolicy::Manual));
    assert!(fleet.statuses().iter().all(|status| status.role == Role::Backup && status.epoch.get() == 0));
    fleet.promote(2);
    let last = fleet.append(b"one").lsn();
    fleet.all_show(last);
    fleet.kill(2);
    fleet.promote(3);
    assert!(fleet.append(b"two").lsn() > last);
}

#[test]
fn whoever_was_chosen_goes_on_by_itself_when_its_disk_works_again() {
    let fleet = Fleet::tuned(3, |options| options.policy(FailoverPolicy::Manual));
    fleet.promote(1);
    fleet.all_show(fleet.append(b"one").lsn());
    let disk = &fleet.disks[0];
    for operation in [Operation::Write, Operation::Sync, Operation::WriteDurable] {
        disk.fail(Fail::nth(operation, 1, Fault::Io).and_later());
    }
    let _ = fleet.replica(1).append(b"lost, or not").expect("it runs").wait();
    until("it leads no more", || {
        (fleet.replica(1).status().expect("it runs").role != Role::Primary).then_some(())
    });
    disk.heal();
    fleet.all_show(fleet.append(b"two").lsn());
    assert_eq!(fleet.primary(), 1);
}

#[test]
fn with_priorities_the_highest_leads_once_it_has_caught_up() {
    let mut fleet = Fleet::with_priorities([5, 9, 1]);
    let leads = |fleet: &Fleet, number: u64| {
        until("it leads", || {
            (fleet.replica(number).status().expect("it runs").role == Role::Primary).then_some(())
        });
    };
    leads(&fleet, 2);
    fleet.append(b"one");
    fleet.kill(2);
    leads(&fleet, 1);
    fleet.append(b"two");
    fleet.start(2);
    leads(&fleet, 2);
}

#[test]
fn a_linearizable_read_sees_what_was_acknowledged_before_it_and_only_the_primary_gives_it() {
    let fleet = Fleet::new(3);
    let primary = fleet.primary();
    let acknowledged = fleet.append(b"one").lsn();
    let replica = fleet.replica(primary);
    let seen = replica.linearizable_read().expect("it runs").wait().expect("it leads");
    assert!(seen >= acknowledged);
    let record = replica.read(acknowledged).expect("it is shown").expect("it is a client's");
    assert_eq!(&record.bytes[..], b"one");
    let backup = fleet.replica(primary % 3 + 1);
    backup.linearizable_read().expect("it runs").wait().expect_err("it does not lead");

    // Cut off, it cannot know whether somebody else leads.
    fleet.net.cut(id(primary));
    replica.linearizable_read().expect("it runs").wait().expect_err("nobody has confirmed it");
}
