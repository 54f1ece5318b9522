//! A replica goes, and the others go on.

use std::time::Duration;

use annals::node::ReplicaError;
use annals::{Error, Lsn};

use crate::fleet::{Fleet, id, until};
use crate::net::PATIENCE;

crate::over_both! {
    a_primary_that_is_gone_is_replaced_and_nothing_is_lost;
    all_of_them_come_back_with_all_that_was_acknowledged;
    a_subscriber_sees_each_record_once_and_in_order_through_a_failover;
}

fn a_primary_that_is_gone_is_replaced_and_nothing_is_lost(mut fleet: Fleet) {
    let first = fleet.primary();
    let before: Vec<_> = (0..20_u8).map(|n| fleet.append(&[n])).collect();
    fleet.kill(first);
    let second = fleet.primary_but(first);
    let after = fleet.append(b"after");
    assert!(after.epoch() > before[0].epoch());
    let there = fleet.records(second, after.lsn());
    for (n, receipt) in before.iter().enumerate() {
        assert!(there.contains(&(receipt.lsn(), vec![n as u8])), "record {n}");
    }
    fleet.start(first);
    fleet.all_show(after.lsn());
    assert_eq!(fleet.records(first, after.lsn()), there);
}

fn all_of_them_come_back_with_all_that_was_acknowledged(mut fleet: Fleet) {
    let last = (0..50_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n]).lsn());
    let there = fleet.records(fleet.primary(), last);
    (1..=3).for_each(|number| fleet.kill(number));
    (1..=3).for_each(|number| fleet.start(number));
    let after = fleet.append(b"after").lsn();
    fleet.all_show(after);
    for number in 1..=3 {
        assert_eq!(fleet.records(number, last), there);
    }
}

fn a_subscriber_sees_each_record_once_and_in_order_through_a_failover(mut fleet: Fleet) {
    let first = fleet.primary();
    let watched = first % 3 + 1;
    let subscription = fleet.replica(watched).subscribe(Lsn::FIRST);
    let seen = std::thread::spawn(move || {
        let mut seen = vec![];
        for record in subscription {
            let record = record.expect("it can be read");
            let is_last = &record.bytes[..] == b"end";
            seen.push((record.lsn, record.bytes.to_vec()));
            if is_last {
                break;
            }
        }
        seen
    });
    (0..20_u8).for_each(|n| drop(fleet.append(&[n])));
    fleet.kill(first);
    (20..40_u8).for_each(|n| drop(fleet.append(&[n])));
    let end = fleet.append(b"end").lsn();
    let seen = seen.join().expect("it has seen all");
    assert_eq!(seen, fleet.records(fleet.primary(), end));
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn what_waits_when_a_replica_ends_is_told_so() {
    let mut fleet = Fleet::new(3);
    let primary = fleet.primary();
    fleet.append(b"one");
    fleet.net.cut(id(primary));
    let ticket = fleet.replica(primary).append(b"nobody else has it").expect("it runs");
    let mut subscription = fleet.replica(primary).subscribe(Lsn::new(1000));
    fleet.kill(primary);
    assert!(ticket.wait_timeout(PATIENCE).expect_err("it is not committed").is_unknown());
    assert!(subscription.next().is_none());
}

#[test]
fn what_is_not_committed_is_shown_to_nobody() {
    let fleet = Fleet::new(3);
    let first = fleet.primary();
    let seen = fleet.append(b"seen").lsn();
    fleet.all_show(seen);
    fleet.net.cut(id(first));
    let alone = fleet.replica(first).append(b"alone").expect("it runs");
    let mut subscription = fleet.replica(first).subscribe(seen.next());
    until("it is on its own disk", || {
        (fleet.replica(first).status().expect("it runs").durable > seen).then_some(())
    });
    assert!(matches!(
        fleet.replica(first).read(seen.next()),
        Err(ReplicaError::Log(Error::BeyondEnd { .. }))
    ));
    alone.wait().expect_err("nobody else has it");
    assert!(subscription.next_timeout(Duration::ZERO).expect("it runs").is_none());
    fleet.primary_but(first);
    let others = fleet.append(b"others").lsn();
    fleet.net.join(id(first));
    fleet.all_show(others);
    let shown = subscription.next().expect("it goes on").expect("it can be read");
    assert_eq!((shown.lsn, &shown.bytes[..]), (others, &b"others"[..]));
}
