//! Appends, and who has them.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use annals::node::{Replica, ReplicaError};
use annals::protocol::request::{Copies, Refused};
use annals::{Lsn, ReplicaId};

use crate::fleet::{Fleet, id, until};

crate::over_both! {
    an_append_is_committed_by_two_of_three_and_its_receipt_names_them;
    each_append_waits_for_as_many_copies_as_it_asks_for;
    a_batch_lives_together_and_only_the_primary_takes_it;
    a_retry_with_the_same_number_is_taken_once;
}

fn an_append_is_committed_by_two_of_three_and_its_receipt_names_them(fleet: Fleet) {
    let primary = fleet.primary();
    let receipt = fleet.append(b"one");
    assert!(receipt.is_committed());
    assert!(receipt.holders().len() >= 2, "{receipt:?}");
    let next = fleet.append(b"two");
    assert_eq!(next.lsn(), receipt.lsn().next());
    assert_eq!(next.epoch(), fleet.replica(primary).status().expect("it runs").epoch);
}

fn each_append_waits_for_as_many_copies_as_it_asks_for(mut fleet: Fleet) {
    let all: Vec<ReplicaId> = (1..=3).map(id).collect();
    // On a busy machine somebody else may lead in between: then once more, there.
    let append = |fleet: &Fleet, copies| {
        until("it is taken", || {
            let primary = fleet.primary();
            let ticket = fleet.replica(primary).append_with(&[b"x"], copies, None).expect("it runs");
            match ticket.wait() {
                Err(ReplicaError::Refused(Refused::Unknown | Refused::NotPrimary { .. } | Refused::Busy)) => {
                    None
                }
                answer => Some(answer.map(|receipt| (primary, receipt))),
            }
        })
    };
    let holders = |copies| append(&fleet, copies).expect("three run").1.holders().to_vec();
    assert_eq!(holders(Copies::All), all);
    assert_eq!(holders(Copies::AtLeast(3)), all);
    let (primary, local) = append(&fleet, Copies::Local).expect("the own disk");
    // The others may be faster than the own disk.
    assert!(local.is_committed() || local.holders().contains(&id(primary)), "{local:?}");
    let too_many = append(&fleet, Copies::AtLeast(4)).expect_err("there are three");
    assert!(matches!(too_many, ReplicaError::Refused(Refused::NotPossible { .. })), "{too_many}");

    // With one replica gone there are two copies of everything, and no third.
    let gone = fleet.primary() % 3 + 1;
    fleet.kill(gone);
    let (primary, receipt) = append(&fleet, Copies::Quorum).expect("two of three");
    assert!(receipt.is_committed());
    let ticket = fleet.replica(primary).append_with(&[b"y"], Copies::All, None).expect("it runs");
    assert!(!ticket.is_answered());
    fleet.start(gone);
    let late = match ticket.wait() {
        Err(ReplicaError::Refused(Refused::Unknown)) => {
            append(&fleet, Copies::All).map(|(_, receipt)| receipt)
        }
        answer => answer,
    };
    assert_eq!(late.expect("the third is back").holders(), all);
}

fn a_batch_lives_together_and_only_the_primary_takes_it(fleet: Fleet) {
    let primary = fleet.primary();
    let batch = fleet.replica(primary).append_batch(&[b"a", b"b", b"c"]).expect("it runs");
    let range = batch.wait().expect("it is committed").range().expect("it is new");
    assert_eq!(range.records(), 3);
    let backup = fleet.replica(primary % 3 + 1);
    until("the backup knows the primary", || {
        let refused = backup.append(b"d").expect("it runs").wait().expect_err("it does not lead");
        (refused.primary() == Some(id(primary))).then_some(())
    });
}

fn a_retry_with_the_same_number_is_taken_once(fleet: Fleet) {
    let primary = fleet.replica(fleet.primary());
    let producer = primary.register().expect("it runs").wait().expect("registered");
    let append = |sequence| {
        let ticket = primary.append_with(&[b"once"], Copies::Quorum, Some((producer, sequence)));
        ticket.expect("it runs").wait()
    };
    let first = append(1).expect("the first");
    let again = append(1).expect("a retry");
    assert!(again.is_duplicate() && !first.is_duplicate());
    assert_eq!(again.range(), first.range());
    let early = append(3).expect_err("the second is missing");
    assert!(matches!(early, ReplicaError::Refused(Refused::OutOfSequence { expected: 2 })), "{early}");
}

/// Reads a record in the moment in which somebody is told of it.
struct Told {
    replica: Replica,
    lsn: Lsn,
    read: Mutex<Option<Result<Vec<u8>, ReplicaError>>>,
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        let read = self.replica.read(self.lsn);
        let bytes = read.map(|record| record.expect("a client's record").bytes.to_vec());
        *self.read.lock().expect("nothing panics with it") = Some(bytes);
    }
}

/// Whoever was told at once was sooner than those who are shown what is committed: on a busy machine the example of
/// `Replica` failed.
#[test]
fn what_is_acknowledged_can_be_read_by_then() {
    let fleet = Fleet::new(1);
    let replica = fleet.replica(1);
    let mut last = fleet.append(b"x").lsn();
    let told = until("somebody is told who waits", || {
        let read = Mutex::new(None);
        let told = Arc::new(Told { replica: replica.clone(), lsn: last.next(), read });
        let mut ticket = replica.append(b"two lamps").expect("it runs");
        let waker = Waker::from(Arc::clone(&told));
        let is_early = Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_ready();
        if is_early {
            last = last.next();
            return None;
        }
        // The end of what is waited for: the answer was taken by nobody, and the waker was called before this is seen.
        let receipt = ticket.wait().expect("it leads");
        assert_eq!(receipt.lsn(), told.lsn);
        let read = until("the waker has looked", || told.read.lock().expect("nothing panics with it").take());
        Some(read)
    });
    assert_eq!(told.expect("it is shown"), b"two lamps");
}
