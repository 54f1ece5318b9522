//! The primary goes as planned.
//!
//! In these fleets nobody stands for election by itself, however busy the machine is: what happens is the hand-over, and
//! if that fails nobody leads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use annals::node::{Replica, ReplicaError, ReplicaOptions};
use annals::protocol::request::{ClientRole, Copies, Refused, Reply, Request};
use annals::protocol::{FailoverPolicy, Role, Timing};

use crate::fleet::{Fleet, id, until};
use crate::net::{Ending, Net, PATIENCE};

crate::over_both! { super::brisk =>
    a_transfer_under_load_fails_no_append;
    a_primary_that_is_shut_down_hands_over_first;
}

/// For the first election: whoever has just started may have promised a primary to wait so long, and votes for nobody.
fn brisk(options: ReplicaOptions) -> ReplicaOptions {
    let election_min = Duration::from_millis(300);
    options.timing(Timing { election_min, ..calm(PATIENCE) }).policy(FailoverPolicy::Manual)
}

/// With so long for a hand-over. A primary steps down if it hears nobody else for the shortest election timeout.
fn calm(transfer_max: Duration) -> Timing {
    Timing {
        election_min: PATIENCE / 3,
        election_max: PATIENCE,
        disk_stall_max: PATIENCE,
        transfer_max,
        ..Timing::default()
    }
}

/// Who leads first.
const FIRST: u64 = 1;

/// Makes a brisk fleet one in which nobody stands by himself, by starting all anew; `FIRST` leads it.
fn calm_down(fleet: &mut Fleet, timing: Timing) {
    let restart = |fleet: &mut Fleet, number: u64| {
        fleet.replicas[number as usize - 1].take().expect("it runs").shutdown().expect("it closes cleanly");
        fleet.start_with(number, fleet.options(number).timing(timing));
    };
    fleet.promote(3);
    restart(fleet, FIRST);
    // Whoever leads until then may step down, and be elected again by the other one who is brisk.
    until("the first one leads", || {
        let primary = fleet.primary();
        let role = || fleet.replica(FIRST).status().expect("it runs").role;
        match fleet.replica(primary).transfer_to(Some(id(FIRST))).expect("it runs").wait() {
            _ if role() == Role::Primary => Some(()),
            Ok(()) | Err(ReplicaError::Refused(_)) => None,
            Err(error) => panic!("it cannot be handed over: {error}"),
        }
    });
    // What is on its way to one who goes is lost, and missed only after the shortest election timeout.
    let settle = |fleet: &Fleet| fleet.all_show(fleet.append(b"calm").lsn());
    settle(fleet);
    for number in [2, 3] {
        restart(fleet, number);
        settle(fleet);
    }
}

/// Ends what goes on, also if a test fails meanwhile.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn a_transfer_under_load_fails_no_append(mut fleet: Fleet) {
    calm_down(&mut fleet, calm(PATIENCE));
    let (goes_on, appended) = (AtomicBool::new(true), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = End(&goes_on);
        for writer in 0..4_u8 {
            let (fleet, goes_on, appended) = (&fleet, &goes_on, &appended);
            scope.spawn(move || {
                // Unknown is what no append may be here: it would panic.
                while goes_on.load(Ordering::Relaxed) {
                    fleet.append_known(&[writer]);
                    appended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let progress = |least: u64| {
            until("appends go on", || (appended.load(Ordering::Relaxed) >= least).then_some(()));
        };
        progress(50);
        let before = fleet.replica(FIRST).status().expect("it runs").epoch;
        for transfers in 1..=5_u64 {
            let (leads, next) = ((FIRST + transfers - 2) % 3 + 1, (FIRST + transfers - 1) % 3 + 1);
            fleet
                .replica(leads)
                .transfer_to(Some(id(next)))
                .expect("it runs")
                .wait()
                .expect("it is handed over");
            until("the next one leads", || {
                let role = fleet.replica(next).status().expect("it runs").role;
                (role == Role::Primary).then_some(())
            });
            let epoch = fleet.replica(next).status().expect("it runs").epoch;
            assert_eq!(epoch.get(), before.get() + transfers, "one election");
            progress(appended.load(Ordering::Relaxed) + 20);
        }
    });
    let last = fleet.append(b"last").lsn();
    assert!(last.get() > appended.load(Ordering::Relaxed));
}

fn a_primary_that_is_shut_down_hands_over_first(mut fleet: Fleet) {
    calm_down(&mut fleet, calm(PATIENCE));
    let last = fleet.append(b"one").lsn();
    fleet.all_show(last);
    let before = fleet.replica(FIRST).status().expect("it runs").epoch;
    fleet.replicas[FIRST as usize - 1].take().expect("it runs").shutdown().expect("it closes cleanly");
    // Whoever took over was asked to: nobody stands here who was not.
    let second = fleet.primary();
    let status = fleet.replica(second).status().expect("it runs");
    assert_eq!(status.epoch.get(), before.get() + 1);
    fleet.append(b"two");
    let closed = fleet.replica(second).clone();
    fleet.kill(second);
    drop(closed);
}

/// Shuts this one down, which leads and has nobody to hand over to; calls `given_up` once that is known, and tries to append
/// then, and again after its last turn: both are to be refused, so that they can be made elsewhere without a doubt.
fn shut_down_refuses_late_appends(
    mut fleet: Fleet,
    primary: u64,
    given_up: impl FnOnce(&Net, &Replica) + Send + 'static,
) {
    let replica = fleet.replicas[primary as usize - 1].take().expect("it runs");
    let client = fleet.net.connect(id(primary), ClientRole::Append);
    let (to_test, late) = channel();
    let net = fleet.net.clone();
    let (clone, to_test_after) = (replica.clone(), to_test.clone());
    let after_last_turn = Box::new(move || {
        to_test_after.send(("after the last turn", clone.append(b"late"))).expect("the test waits");
    });
    let clone = replica.clone();
    let before_last_turn = Box::new(move || {
        given_up(&fleet.net, &clone);
        to_test.send(("before the last turn", clone.append(b"late"))).expect("the test waits");
        let append = Request::Append { producer: None, copies: Copies::Quorum, sizes: vec![4] };
        let remote = client.ask(append, b"late");
        assert_eq!(remote, Reply::Refused(Refused::NotPrimary { primary: None }));
        let remote = client.ask(Request::Register, b"");
        assert_eq!(remote, Reply::Refused(Refused::NotPrimary { primary: None }));
    });
    net.at_end(id(primary), Ending { before_last_turn, after_last_turn });
    replica.shutdown().expect("it closes cleanly");
    let late: Vec<_> = late.iter().collect();
    assert_eq!(late.len(), 2);
    for (when, appended) in late {
        let error = appended.and_then(|ticket| ticket.wait()).expect_err("it has ended");
        assert!(error.is_not_primary() && !error.is_unknown(), "{when}: {error:?}");
    }
}

#[test]
fn an_append_is_refused_after_a_shutdown_that_finds_nobody_to_hand_over_to() {
    let fleet = Fleet::new(1);
    fleet.append(b"one");
    shut_down_refuses_late_appends(fleet, 1, |_, _| {});
}

#[test]
fn an_append_is_refused_after_a_shutdown_whose_hand_over_takes_too_long() {
    const TRANSFER_MAX: Duration = Duration::from_millis(50);
    let mut fleet = Fleet::tuned(3, brisk);
    calm_down(&mut fleet, calm(TRANSFER_MAX));
    fleet.append(b"one");
    fleet.net.lose("TakeOver");
    shut_down_refuses_late_appends(fleet, FIRST, |net, replica| {
        // Its next turn is after the one that has begun the hand-over, which is over so much later.
        replica.status().expect("it has its turns");
        let over = Instant::now() + TRANSFER_MAX;
        until("the time is over", || (Instant::now() > over).then_some(()));
        // A primary looks at that with its heartbeats: of two rounds to two others, one has begun after this.
        let beats = net.beats(id(FIRST)) + 4;
        until("heartbeats go on", || (net.beats(id(FIRST)) >= beats).then_some(()));
    });
}
