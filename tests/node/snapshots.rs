//! State machines: snapshots beside appends, restores, trims, and newcomers that begin with a snapshot.

use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex};

use annals::disk::sim::{Fail, Fault, Operation};
use annals::node::{Frozen, ReplicaError, ReplicaOptions, StateMachine};
use annals::protocol::request::Refused;
use annals::protocol::{Member, Role};
use annals::{Epoch, Lsn};

use crate::fleet::{Fleet, id, until};
use crate::net::PATIENCE;

/// All records, one after the other, each with its LSN: so that nothing can be left out, doubled or put out of order.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<u8>>>);

impl Tape {
    fn read(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panics with it").clone()
    }
}

impl StateMachine for Tape {
    fn apply(&mut self, lsn: Lsn, _: Epoch, record: &[u8]) {
        let mut tape = self.0.lock().expect("nobody panics with it");
        tape.extend(lsn.get().to_le_bytes());
        tape.extend(record);
    }

    fn snapshot(&mut self) -> Frozen {
        let frozen = self.read();
        Box::new(move |to: &mut dyn Write| frozen.chunks(1000).try_for_each(|part| to.write_all(part)))
    }

    fn restore(&mut self, from: &mut dyn Read, _: Lsn) -> io::Result<()> {
        let mut tape = vec![];
        from.read_to_end(&mut tape)?;
        *self.0.lock().expect("nobody panics with it") = tape;
        Ok(())
    }
}

/// What replica `number` of this thread's fleet has on its tape.
fn taped(options: ReplicaOptions, tape: &Tape) -> ReplicaOptions {
    options.state_machine(tape.clone())
}

/// A fleet whose replicas have tapes.
fn fleet(tapes: &[Tape; 4]) -> Fleet {
    let mut fleet = Fleet::asleep(3);
    for number in 1..=3 {
        start(&mut fleet, tapes, number);
    }
    fleet
}

fn start(fleet: &mut Fleet, tapes: &[Tape; 4], number: u64) {
    let options = taped(fleet.options(number), &tapes[number as usize - 1]);
    fleet.start_with(number, options);
}

fn snapshot(fleet: &Fleet, number: u64) -> Lsn {
    until("a snapshot", || fleet.replica(number).snapshot().expect("it runs").wait().ok())
}

#[test]
fn all_machines_are_the_same_and_come_back_from_a_snapshot_and_the_records_after_it() {
    let tapes = <[Tape; 4]>::default();
    let mut fleet = fleet(&tapes);
    (0..50_u8).for_each(|n| drop(fleet.append(&[n; 100])));
    let covered = snapshot(&fleet, 1);
    assert!(covered >= Lsn::new(50));
    let last = (50..80_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n; 100]).lsn());
    fleet.all_show(last);
    let before = tapes[0].read();
    assert!(tapes[..3].iter().all(|tape| tape.read() == before));

    fleet.kill(1);
    let again = Tape::default();
    let tapes = [again, tapes[1].clone(), tapes[2].clone(), Tape::default()];
    start(&mut fleet, &tapes, 1);
    let last = fleet.append(b"after").lsn();
    fleet.all_show(last);
    assert_eq!(tapes[0].read(), tapes[1].read());
    assert_eq!(fleet.replica(1).status().expect("it runs").snapshot, covered);
}

#[test]
fn a_newcomer_begins_with_a_snapshot_where_the_log_was_trimmed() {
    let tapes = <[Tape; 4]>::default();
    let mut fleet = fleet(&tapes);
    let last = (0..100_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n; 200]).lsn());
    fleet.all_show(last);
    let early = fleet.replica(1).trim(last.plus(1000)).expect("it runs").wait();
    assert!(matches!(early, Err(ReplicaError::Refused(Refused::NotPossible { .. }))), "{early:?}");
    for number in 1..=3 {
        let covered = snapshot(&fleet, number);
        fleet.replica(number).trim(covered).expect("it runs").wait().expect("it is covered");
        let status = fleet.replica(number).status().expect("it runs");
        assert_eq!((status.first, status.snapshot), (covered.next(), covered));
        let mut subscription = fleet.replica(number).subscribe(Lsn::FIRST);
        let gone = subscription.next().expect("it says so").expect_err("it is gone");
        assert!(matches!(gone, ReplicaError::Refused(Refused::Trimmed { first }) if first == covered.next()));
    }

    fleet.add_disk();
    let disk = fleet.options(4).join_on(&fleet.disk(4)).expect("a blank disk");
    start(&mut fleet, &tapes, 4);
    let add = annals::protocol::Change::AddLearner(Member { id: id(4), disk });
    until("it is added", || fleet.replica(fleet.primary()).change(add).expect("it runs").wait().ok());
    let after = fleet.append(b"after").lsn();
    fleet.all_show(after);
    assert!(fleet.net.chunk_bytes() > 20_000, "it was sent a snapshot");
    assert_eq!(tapes[3].read(), tapes[0].read());
    assert_eq!(fleet.replica(4).status().expect("it runs").role, Role::Learner);
}

#[test]
fn snapshots_are_taken_and_the_log_is_trimmed_by_itself() {
    let fleet =
        Fleet::tuned(3, |options| options.snapshot_every(20).keep_records(5).state_machine(Tape::default()));
    (0..200_u8).for_each(|n| drop(fleet.append(&[n; 100])));
    until("all have trimmed", || {
        let statuses = fleet.statuses();
        let is_trimmed = |status: &annals::protocol::request::NodeStatus| {
            status.snapshot >= Lsn::new(150)
                && status.first > Lsn::new(100)
                && status.first.plus(4) <= status.snapshot
        };
        statuses.iter().all(is_trimmed).then_some(())
    });
}

/// A machine whose snapshot does not end before it is let.
#[derive(Clone, Default)]
struct Slow(Arc<(Mutex<(bool, bool)>, Condvar)>);

impl StateMachine for Slow {
    fn apply(&mut self, _: Lsn, _: Epoch, _: &[u8]) {}

    fn snapshot(&mut self) -> Frozen {
        let own = self.clone();
        Box::new(move |to: &mut dyn Write| {
            let (gate, moved) = &*own.0;
            let mut gate = gate.lock().expect("nobody panics with it");
            gate.0 = true;
            moved.notify_all();
            while !gate.1 {
                gate = moved.wait(gate).expect("nobody panics with it");
            }
            to.write_all(b"slow")
        })
    }

    fn restore(&mut self, _: &mut dyn Read, _: Lsn) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn appends_and_applying_go_on_while_a_snapshot_is_written() {
    let mut fleet = Fleet::asleep(1);
    let slow = Slow::default();
    let options = fleet.options(1).state_machine(slow.clone());
    fleet.start_with(1, options);
    fleet.append(b"before");
    let ticket = fleet.replica(1).snapshot().expect("it runs");
    let (gate, moved) = &*slow.0;
    let mut begun = gate.lock().expect("nobody panics with it");
    while !begun.0 {
        begun = moved.wait(begun).expect("nobody panics with it");
    }
    drop(begun);
    let during = fleet.append(b"during").lsn();
    fleet.all_show(during);
    assert!(!ticket.is_answered());
    gate.lock().expect("nobody panics with it").1 = true;
    moved.notify_all();
    let covered = ticket.wait().expect("it is written");
    assert!(covered < during);
}

#[test]
fn without_a_machine_a_snapshot_is_where_the_log_begins() {
    let fleet = Fleet::new(3);
    let last = (0..50_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n; 100]).lsn());
    fleet.all_show(last);
    let through = Lsn::new(last.get() / 2);
    fleet.replica(1).trim(through).expect("it runs").wait().expect("it is committed");
    let status = fleet.replica(1).status().expect("it runs");
    assert!(status.first == through.next() && status.snapshot >= through, "{status:?}");
}

#[test]
fn whoever_waits_for_a_snapshot_or_a_trim_is_told_when_the_disk_fails() {
    let tapes = <[Tape; 4]>::default();
    let fleet = fleet(&tapes);
    let last = (0..50_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n; 100]).lsn());
    fleet.all_show(last);
    let disk = &fleet.disks[0];
    disk.fail(Fail::nth(Operation::Rename, 1, Fault::Io));
    let failed = fleet.replica(1).snapshot().expect("it runs").wait_timeout(PATIENCE);
    assert!(matches!(failed, Err(ReplicaError::Refused(_))), "{failed:?}");
    let covered = snapshot(&fleet, 1);
    for operation in [Operation::Write, Operation::Sync, Operation::WriteDurable] {
        disk.fail(Fail::nth(operation, 1, Fault::Io));
    }
    let trimmed = fleet.replica(1).trim(covered).expect("it runs").wait_timeout(PATIENCE);
    assert!(matches!(trimmed, Ok(()) | Err(ReplicaError::Refused(Refused::Unknown))), "{trimmed:?}");
}

#[test]
fn a_disk_that_fails_at_any_step_of_an_install_does_not_leave_the_machine_behind() {
    let tapes = <[Tape; 4]>::default();
    let mut fleet = fleet(&tapes);
    let last = (0..100_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n; 200]).lsn());
    fleet.all_show(last);
    for number in 1..=3 {
        let covered = snapshot(&fleet, number);
        fleet.replica(number).trim(covered).expect("it runs").wait().expect("it is covered");
    }
    fleet.add_disk();
    let disk = fleet.options(4).join_on(&fleet.disk(4)).expect("a blank disk");
    start(&mut fleet, &tapes, 4);
    // The switch itself: what is in the way of the new base is gone by then.
    fleet.disks[3].fail(Fail::nth(Operation::Rename, 1, Fault::Io).on("installing"));
    let add = annals::protocol::Change::AddLearner(Member { id: id(4), disk });
    until("it is added", || fleet.replica(fleet.primary()).change(add).expect("it runs").wait().ok());
    let after = fleet.append(b"after").lsn();
    fleet.all_show(after);
    assert_eq!(tapes[3].read(), tapes[0].read());
    let status = fleet.replica(4).status().expect("it runs");
    assert!(status.snapshot >= last, "{status:?}");
}
