//! What comes through, in which order, and what is in nobody's way.

use annals::ReplicaId;
use annals::protocol::request::{ClientRole, Reply};
use annals::transport::{Arrival, Lane};
use bytes::Bytes;

use crate::place::{CLUSTER, Caller, Papers, Told, envelope, number_of, pattern};

#[test]
fn each_lane_keeps_its_order_and_its_bytes() {
    let papers = Papers::new(CLUSTER);
    let (one, two) = papers.pair();
    for (from, to) in [(&one, &two), (&two, &one)] {
        for lane in [Lane::Control, Lane::Bulk, Lane::CatchUp] {
            to.arrived();
            // All of it waits at once, and the control lane is not for much.
            let large = if lane == Lane::Control { 30_000 } else { 300_000 };
            let size = move |number: u64| [0, 1, 256, 5000, large][number as usize % 5];
            let (me, other) = (from.id, to.id);
            from.order(move |network| {
                for number in 1..=200 {
                    network.send(lane, &envelope(me, other, number), &pattern(size(number), number));
                }
            });
            for number in 1..=200 {
                let (found, payload) = to.message();
                assert_eq!(found, number, "{lane:?}");
                assert_eq!(payload, pattern(size(number), number), "{lane:?} {number}");
            }
        }
    }
}

#[test]
fn control_overtakes_bulk() {
    let papers = Papers::new(CLUSTER);
    let (one, two) = papers.pair();
    let (me, other) = (one.id, two.id);
    one.order(move |network| {
        for number in 1..=32 {
            network.send(Lane::Bulk, &envelope(me, other, number), &Bytes::from(vec![7; 1 << 20]));
        }
        network.send(Lane::Control, &envelope(me, other, 1000), &Bytes::new());
    });
    let mut before = 0;
    while two.message().0 != 1000 {
        before += 1;
    }
    assert!(before < 32, "the control message came after {before} MiB of bulk");
}

#[test]
fn a_new_epoch_begins_the_bulk_lane_anew() {
    let papers = Papers::new(CLUSTER);
    let (one, two) = papers.pair();
    let (me, other) = (one.id, two.id);
    one.order(move |network| {
        for epoch in 1..=50 {
            for number in 1..=20 {
                let mut envelope = envelope(me, other, epoch * 100 + number);
                envelope.epoch = annals::Epoch::new(epoch);
                network.send(Lane::Bulk, &envelope, &Bytes::from(vec![7; 10_000]));
            }
        }
    });
    let mut newest = 0;
    while newest < 5020 {
        let (number, _) = two.message();
        assert!(number > newest, "{number} after {newest}");
        newest = number;
    }
}

#[test]
fn requests_are_answered_in_their_order_with_their_bytes() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let caller = Caller::open(&papers.client(ClientRole::Append), &place.address());
    let size = |number: u64| [0, 256, 70_000][number as usize % 3];
    for number in 1..=300 {
        // In pieces: some of them small enough to be copied together.
        let whole = pattern(size(number), number);
        let (front, back) = (whole.slice(..whole.len() / 100), whole.slice(whole.len() / 100..));
        caller.ask(number, &[front, back]);
    }
    assert!(matches!(caller.told(), Told::Opened(id, ClientRole::Append) if id == ReplicaId::new(1)));
    for number in 1..=300 {
        let (found, reply, payload) = caller.reply();
        assert_eq!((found, reply), (number, Reply::Done));
        assert_eq!(payload, pattern(size(number), number), "{number}");
    }
    drop(caller);
    place.next(|arrival| matches!(arrival, Arrival::Closed { .. }).then_some(()));
}

#[test]
fn a_newcomer_that_only_knows_one_other_is_heard_and_says_where_it_is() {
    let papers = Papers::new(CLUSTER);
    for (old, new) in [(1, 2), (4, 3)] {
        let (old, new) = (papers.place(old), papers.place(new));
        new.knows(&[&old]);
        let found = old.next(|arrival| match arrival {
            Arrival::PeerAddress { id, address } => Some((id, address)),
            _ => None,
        });
        assert_eq!(found, (new.id, new.address()));
        new.meet(&old);
        old.meet(&new);
    }
}

#[test]
fn a_peer_that_is_gone_is_missed_at_once_and_found_again() {
    let papers = Papers::new(CLUSTER);
    let (one, two) = papers.pair();
    let mut options = papers.options(2);
    options.listen = two.transport.local_addr();
    two.transport.shutdown();
    one.next(|arrival| matches!(arrival, Arrival::PeerLost { .. }).then_some(()));
    let two = crate::place::Place::start(options);
    two.knows(&[&one]);
    one.meet(&two);
    two.meet(&one);
}

/// A laggard was killed and started again, and for three seconds what it lacked went to the process that was no more.
#[test]
fn what_a_laggard_lacks_goes_to_the_process_that_is_there_now() {
    let papers = Papers::new(CLUSTER);
    let (one, before) = (papers.place(1), papers.place(2));
    one.knows(&[&before]);
    one.meet(&before);
    one.send(Lane::CatchUp, before.id, 1, Bytes::from_static(b"lacking"));
    assert_eq!(before.message().0, 1);
    // It says nothing of its end.
    let now = papers.place(2);
    one.knows(&[&now]);
    now.knows(&[&one]);
    now.meet(&one);
    one.send(Lane::CatchUp, now.id, 2, Bytes::from_static(b"lacking"));
    assert_eq!(now.message().0, 2);
}

#[test]
fn a_message_to_whom_nobody_knows_is_dropped_and_counted() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    place.send(Lane::Control, ReplicaId::new(9), 1, Bytes::new());
    place.wait_until(|stats| stats.dropped == 1);
}

#[test]
fn numbers_are_the_senders() {
    assert_eq!(number_of(&envelope(ReplicaId::new(1), ReplicaId::new(2), 77)), 77);
}
