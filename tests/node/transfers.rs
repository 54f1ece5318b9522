//! The primary goes as planned.
//!
//! In these fleets nobody stands for election by itself, however busy the machine is: what happens is the hand-over, and
//! if that fails nobody leads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use annals::node::ReplicaOptions;
use annals::protocol::{FailoverPolicy, Role, Timing};

use crate::fleet::{Fleet, id, until};
use crate::net::PATIENCE;

crate::over_both! { super::calm =>
    a_transfer_under_load_fails_no_append;
    a_primary_that_is_shut_down_hands_over_first;
}

fn calm(options: ReplicaOptions) -> ReplicaOptions {
    let timing = Timing {
        // A primary steps down if it hears nobody else for so long; and whoever has just started waits so long.
        election_min: Duration::from_secs(1),
        election_max: PATIENCE,
        disk_stall_max: PATIENCE,
        transfer_max: PATIENCE,
        ..Timing::default()
    };
    options.timing(timing).policy(FailoverPolicy::Manual)
}

/// Whoever has started last: the others have waited then, too.
const FIRST: u64 = 3;

/// Ends what goes on, also if a test fails meanwhile.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn a_transfer_under_load_fails_no_append(fleet: Fleet) {
    fleet.promote(FIRST);
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
    fleet.promote(FIRST);
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
