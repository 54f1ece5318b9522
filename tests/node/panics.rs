//! State machines that panic, and how fast a snapshot of one is written.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use annals::node::{Frozen, ReplicaError, StateMachine};
use annals::protocol::request::Refused;
use annals::{Epoch, Lsn};

use crate::fleet::{Fleet, until};
use crate::net::PATIENCE;

/// The least rate at which snapshots are written, in bytes a second.
const RATE_LEAST: usize = 64 << 10;

/// What a machine does.
type Deed = Arc<dyn Fn(&mut dyn Write) -> io::Result<()> + Send + Sync>;

/// A machine without a state, which does this when it is to write its snapshot, and panics on one record.
struct Acts(Deed);

impl StateMachine for Acts {
    fn apply(&mut self, _: Lsn, _: Epoch, record: &[u8]) -> io::Result<()> {
        assert!(record != b"panic", "a machine that panics");
        Ok(())
    }

    fn snapshot(&mut self) -> Frozen {
        let deed = Arc::clone(&self.0);
        Box::new(move |to: &mut dyn Write| deed(to))
    }

    fn restore(&mut self, _: &mut dyn Read, _: Lsn) -> io::Result<()> {
        Ok(())
    }
}

/// A replica alone, with this machine; something is appended.
fn alone(deed: impl Fn(&mut dyn Write) -> io::Result<()> + Send + Sync + 'static, bytes_per_s: u64) -> Fleet {
    let mut fleet = Fleet::asleep(1);
    let options = fleet.options(1).state_machine(Acts(Arc::new(deed))).snapshot_bytes_per_s(bytes_per_s);
    fleet.start_with(1, options);
    fleet.append(b"first");
    fleet
}

fn snapshot(fleet: &Fleet) -> Result<Lsn, ReplicaError> {
    fleet.replica(1).snapshot().expect("it runs").wait_timeout(PATIENCE)
}

/// Whoever had asked for it waited for ever, and no other snapshot was ever taken.
#[test]
fn a_snapshot_that_panics_is_told_of_and_the_next_one_is_taken() {
    let panics = Mutex::new(true);
    let deed = move |_: &mut dyn Write| {
        let panics = std::mem::take(&mut *panics.lock().expect("it is let go of before"));
        assert!(!panics, "a snapshot that panics");
        Ok(())
    };
    let fleet = alone(deed, u64::MAX);
    let told = snapshot(&fleet);
    let is_told = |reason: &str| reason.contains("panicked");
    assert!(
        matches!(&told, Err(ReplicaError::Refused(Refused::NotPossible { reason })) if is_told(reason)),
        "{told:?}"
    );
    until("another one is taken", || snapshot(&fleet).ok());
}

#[test]
fn nobody_waits_for_a_snapshot_of_a_machine_that_has_panicked() {
    let fleet = alone(|_| Ok(()), u64::MAX);
    fleet.append(b"panic");
    let gone = until("it is known that it is gone", || match snapshot(&fleet) {
        Err(ReplicaError::Refused(Refused::NotPossible { reason })) => {
            Some(reason).filter(|r| r.contains("gone"))
        }
        other => panic!("{other:?}"),
    });
    assert!(gone.contains("start this replica again"), "{gone}");
    // All else goes on.
    fleet.append(b"after");
}

/// At the least rate that there is.
#[test]
fn a_snapshot_is_written_no_faster_than_the_options_say() {
    let fleet = alone(|to| [7; 3 * RATE_LEAST].chunks(RATE_LEAST).try_for_each(|part| to.write_all(part)), 1);
    let begun = Instant::now();
    snapshot(&fleet).expect("it is written");
    // The first part waits for nothing.
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}
