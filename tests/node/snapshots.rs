//! State machines: snapshots beside appends, restores, trims, and newcomers that begin with a snapshot.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use annals::disk::sim::{Fail, Fault, Operation};
use annals::node::{Frozen, ReplicaError, ReplicaOptions, StateMachine};
use annals::protocol::request::{DiskHealth, NodeStatus, Refused};
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
    fn apply(&mut self, lsn: Lsn, _: Epoch, record: &[u8]) -> io::Result<()> {
        let mut tape = self.0.lock().expect("nobody panics with it");
        tape.extend(lsn.get().to_le_bytes());
        tape.extend(record);
        Ok(())
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
    // A backup learns of a commit with the next heartbeat.
    fleet.all_show((0..50_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n; 100]).lsn()));
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

/// A tape that is kept by the machine itself, and is full now and then.
#[derive(Clone, Default)]
struct Kept {
    tape: Tape,
    newest: Arc<Mutex<Lsn>>,
    /// How often it is full.
    full: Arc<AtomicU64>,
    restores: Arc<AtomicU64>,
}

impl StateMachine for Kept {
    fn apply(&mut self, lsn: Lsn, epoch: Epoch, record: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) > 0 {
            self.full.fetch_sub(1, Ordering::Relaxed);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.tape.apply(lsn, epoch, record)?;
        *self.newest.lock().expect("nobody panics with it") = lsn;
        Ok(())
    }

    fn applied(&self) -> Lsn {
        *self.newest.lock().expect("nobody panics with it")
    }

    fn snapshot(&mut self) -> Frozen {
        self.tape.snapshot()
    }

    fn restore(&mut self, from: &mut dyn Read, lsn: Lsn) -> io::Result<()> {
        self.restores.fetch_add(1, Ordering::Relaxed);
        *self.newest.lock().expect("nobody panics with it") = lsn;
        self.tape.restore(from, lsn)
    }
}

#[test]
fn a_machine_that_keeps_its_state_is_given_nothing_twice() {
    let mut fleet = Fleet::asleep(1);
    let kept = Kept::default();
    let start = |fleet: &mut Fleet, kept: &Kept| {
        let options = fleet.options(1).state_machine(kept.clone());
        fleet.start_with(1, options);
    };
    start(&mut fleet, &kept);
    fleet.append(b"one");
    snapshot(&fleet, 1);
    let last = fleet.append(b"two").lsn();
    fleet.all_show(last);
    let before = kept.tape.read();
    fleet.kill(1);
    start(&mut fleet, &kept);
    let last = fleet.append(b"six").lsn();
    fleet.all_show(last);
    assert_eq!(kept.restores.load(Ordering::Relaxed), 0);
    assert_eq!(kept.tape.read(), [&before[..], &last.get().to_le_bytes(), b"six"].concat());

    // One that has lost its state is given the snapshot, and what comes after it.
    fleet.kill(1);
    let lost = Kept::default();
    start(&mut fleet, &lost);
    fleet.all_show(last);
    assert_eq!(lost.restores.load(Ordering::Relaxed), 1);
    assert_eq!(lost.tape.read(), kept.tape.read());
}

#[test]
fn a_machine_that_fails_gets_the_same_record_again_and_the_log_goes_on() {
    let mut fleet = Fleet::asleep(1);
    let kept = Kept::default();
    kept.full.store(1, Ordering::Relaxed);
    let options = fleet.options(1).state_machine(kept.clone());
    fleet.start_with(1, options);
    let first = fleet.append(b"one").lsn();
    until("it is full", || (kept.full.load(Ordering::Relaxed) == 0).then_some(()));
    // Appends go on meanwhile; what is applied does not pass the record that was refused.
    let second = fleet.append(b"two").lsn();
    let applied = fleet.replica(1).applied(second).expect("it runs").wait_timeout(PATIENCE);
    assert!(applied.expect("it is tried again") >= second);
    let expected = [&first.get().to_le_bytes()[..], b"one", &second.get().to_le_bytes(), b"two"].concat();
    assert_eq!(kept.tape.read(), expected);
}

#[test]
fn snapshots_are_taken_by_bytes_too() {
    let fleet = Fleet::tuned(1, |options| options.snapshot_every_bytes(10_000).keep_records(3));
    let last = (0..100_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n; 500]).lsn());
    until("it is trimmed", || {
        let status = fleet.replica(1).status().expect("it runs");
        (status.snapshot >= Lsn::new(last.get() - 25) && status.first > Lsn::new(50)).then_some(())
    });
}

/// What it had written before did not count: whoever was started again before it had written enough anew took none.
#[test]
fn what_was_written_before_a_restart_counts_for_a_snapshot_by_bytes() {
    let mut fleet = Fleet::tuned(1, |options| options.snapshot_every_bytes(50_000));
    for n in 0..80_u8 {
        fleet.append(&[n; 500]);
    }
    assert_eq!(fleet.replica(1).status().expect("it runs").snapshot, Lsn::ZERO, "there is not enough yet");
    fleet.replicas[0].take().expect("it runs").shutdown().expect("it closes cleanly");
    fleet.start(1);
    for n in 0..40_u8 {
        fleet.append(&[n; 500]);
    }
    until("a snapshot", || (fleet.replica(1).status().expect("it runs").snapshot > Lsn::ZERO).then_some(()));
}

/// After a failover the newest record is the protocol's own, of which a state machine hears nothing: who waited until it had
/// heard of that one would wait for the next append.
#[test]
fn what_a_linearizable_read_must_see_is_waited_for_where_nobody_appends() {
    let tapes = <[Tape; 4]>::default();
    let mut fleet = fleet(&tapes);
    let last = fleet.append(b"one").lsn();
    let waiting = fleet.replica(1).applied(last.plus(1000)).expect("it runs");
    let before = fleet.primary();
    fleet.kill(before);
    let (number, through) = until("a read", || {
        let number = fleet.primary_but(before);
        let ticket = fleet.replica(number).linearizable_read().expect("it runs");
        ticket.wait().ok().map(|through| (number, through))
    });
    assert!(through > last, "the epoch has begun");
    let applied = fleet.replica(number).applied(through).expect("it runs").wait_timeout(PATIENCE);
    assert!(applied.expect("it is applied") >= through);
    assert_eq!(tapes[number as usize - 1].read().len(), 8 + 3);
    assert!(!waiting.is_answered() || before == 1);
    fleet.replicas.clear();
    assert!(matches!(waiting.wait(), Err(ReplicaError::Closed)));
}

#[test]
fn without_a_machine_applied_means_shown() {
    let fleet = Fleet::new(3);
    let early = fleet.replica(2).applied(Lsn::new(3)).expect("it runs");
    let last = [b"one", b"two", b"six"].map(|record| fleet.append(record).lsn())[2];
    assert!(early.wait_timeout(PATIENCE).expect("it is shown") >= Lsn::new(3));
    for number in 1..=3 {
        let applied = fleet.replica(number).applied(last).expect("it runs").wait_timeout(PATIENCE);
        assert!(applied.expect("it is shown") >= last);
    }
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

/// What an operator may do with one: it takes the place of the newest, and the records after it are applied again.
#[test]
fn older_snapshots_are_kept_and_one_can_be_gone_back_to() {
    let tape = Tape::default();
    let mut fleet = Fleet::asleep(1);
    let options = |fleet: &Fleet, tape| taped(fleet.options(1).snapshots_kept(3), tape);
    fleet.start_with(1, options(&fleet, &tape));
    let mut taken = vec![];
    for n in 0..5_u8 {
        fleet.append(&[n; 100]);
        taken.push(snapshot(&fleet, 1));
    }
    let last = fleet.append(b"after").lsn();
    // It is committed before it is applied.
    let is_applied = |fleet: &Fleet| {
        let applied = fleet.replica(1).applied(last).expect("it runs").wait_timeout(PATIENCE);
        assert!(applied.expect("it is applied") >= last);
    };
    is_applied(&fleet);
    let kept = |fleet: &Fleet| {
        let mut names = fleet.disk(1).list().expect("a disk that lists");
        names.retain(|name| name.starts_with("base"));
        names.sort();
        names
    };
    let named = |lsn: &Lsn| format!("base-{:020}", lsn.get());
    assert_eq!(kept(&fleet), ["base".to_owned(), named(&taken[2]), named(&taken[3])]);
    fleet.replicas[0].take().expect("it runs").shutdown().expect("it closes cleanly");
    fleet.disk(1).rename(&named(&taken[2]), "base").expect("it is there");
    let again = Tape::default();
    fleet.start_with(1, options(&fleet, &again));
    assert_eq!(fleet.replica(1).status().expect("it runs").snapshot, taken[2]);
    is_applied(&fleet);
    assert_eq!(again.read(), tape.read());
}

/// A machine whose snapshot does not end before it is let.
#[derive(Clone, Default)]
struct Slow(Arc<(Mutex<(bool, bool)>, Condvar)>);

impl StateMachine for Slow {
    fn apply(&mut self, _: Lsn, _: Epoch, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

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

/// Whoever gets it would take it for the state, and no two replicas would be the same any more.
#[test]
fn a_snapshot_that_rots_under_the_primary_is_sent_to_nobody() {
    let mut fleet = Fleet::asleep(5);
    let tapes: Vec<Tape> = (0..5).map(|_| Tape::default()).collect();
    let start = |fleet: &mut Fleet, number: u64, tape: &Tape| {
        let options = fleet.options(number).peers([(id(number % 5 + 1), "elsewhere:1")]);
        fleet.start_with(number, options.state_machine(tape.clone()));
    };
    (1..=5).for_each(|number| start(&mut fleet, number, &tapes[number as usize - 1]));
    let last = (0..50_u8).fold(Lsn::ZERO, |_, n| fleet.append(&[n; 1000]).lsn());
    fleet.all_show(last);
    for number in 1..=5 {
        snapshot(&fleet, number);
    }
    let primary = fleet.primary();
    let victim = primary % 5 + 1;
    fleet.kill(victim);
    fleet.disks[primary as usize - 1].flip_bit("base", 20_000, 3);
    fleet.disks[victim as usize - 1].flip_bit("base", 20_000, 3);
    let tape = Tape::default();
    start(&mut fleet, victim, &tape);
    // The primary finds out, another one is elected, and both get what is whole.
    until("all are whole", || {
        let statuses = fleet.statuses();
        let is_whole = |status: &NodeStatus| {
            matches!(status.role, Role::Primary | Role::Backup) && status.disk_health == DiskHealth::Good
        };
        (statuses.len() == 5 && statuses.iter().all(is_whole)).then_some(())
    });
    let after = fleet.append(b"after").lsn();
    fleet.all_show(after);
    let whole = &tapes[(primary as usize + 2) % 5];
    assert!(tape.read() == whole.read());
    fleet.kill(primary);
    let tape = Tape::default();
    start(&mut fleet, primary, &tape);
    until("it is restored", || (tape.read() == whole.read()).then_some(()));
}
