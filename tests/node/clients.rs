//! What clients ask over the network, and what they are told.

use annals::protocol::request::{ClientRole, Copies, Refused, Reply, Request};
use annals::{Lsn, LsnRange};

use crate::fleet::{Fleet, id, until};

fn append(sizes: Vec<u32>) -> Request {
    Request::Append { producer: None, copies: Copies::Quorum, sizes }
}

fn range_of(reply: &Reply) -> LsnRange {
    match reply {
        Reply::Appended(appended) => appended.range.expect("it is new"),
        other => panic!("not appended: {other:?}"),
    }
}

#[test]
fn a_client_may_do_what_its_certificate_says() {
    let fleet = Fleet::new(1);
    fleet.primary();
    let reader = fleet.net.connect(id(1), ClientRole::Read);
    let denied = reader.ask(append(vec![1]), b"x");
    assert_eq!(denied, Reply::Refused(Refused::Denied { needs: ClientRole::Append }));
    assert!(matches!(reader.ask(Request::Status, b""), Reply::Status(_)));
    let appender = fleet.net.connect(id(1), ClientRole::Append);
    assert_eq!(range_of(&appender.ask(append(vec![1]), b"x")).records(), 1);
    let denied = appender.ask(Request::Promote, b"");
    assert_eq!(denied, Reply::Refused(Refused::Denied { needs: ClientRole::Admin }));
    let admin = fleet.net.connect(id(1), ClientRole::Admin);
    assert_eq!(admin.ask(Request::Promote, b""), Reply::Done);
}

#[test]
fn records_are_cut_by_their_sizes_and_read_as_they_were_appended() {
    let fleet = Fleet::new(3);
    let client = fleet.net.connect(id(fleet.primary()), ClientRole::Append);
    let range = range_of(&client.ask(append(vec![1, 0, 3]), b"abbb"));
    assert_eq!(range.records(), 3);
    let bad = client.ask(append(vec![1, 2]), b"abbb");
    assert!(matches!(bad, Reply::Refused(Refused::BadSize { .. })), "{bad:?}");
    let none = client.ask(append(vec![]), b"");
    assert!(matches!(none, Reply::Refused(_)), "{none:?}");

    assert_eq!(client.ask(Request::Linearize, b""), Reply::Linearized(range.last));
    client.send(7, Request::Read { from: range.first, bytes_max: 100 }, b"");
    let (number, reply, payload) = client.receive();
    let Reply::Records { records, next, committed } = reply else { panic!("no records: {reply:?}") };
    assert_eq!((number, next, committed), (7, range.last.next(), range.last));
    assert_eq!(records.iter().map(|head| head.bytes).collect::<Vec<_>>(), [1, 0, 3]);
    assert_eq!(&payload[..], b"abbb");
}

#[test]
fn a_subscriber_gets_what_it_has_credit_for_and_more_when_it_gives_more() {
    let fleet = Fleet::new(3);
    let primary = fleet.primary();
    let range = fleet.append(&[1; 1000]).range().expect("it is new");
    let backup = primary % 3 + 1;
    let client = fleet.net.connect(id(backup), ClientRole::Read);
    client.send(5, Request::Subscribe { from: range.first, credit_bytes: 1000 }, b"");
    let (number, reply, payload) = client.receive();
    assert_eq!((number, payload.len()), (5, 1000));
    assert!(matches!(reply, Reply::Records { next, .. } if next == range.last.next()), "{reply:?}");

    let second = fleet.append(b"more").lsn();
    fleet.all_show(second);
    assert!(client.is_silent(), "the credit is used up");
    client.send(6, Request::Credit { subscription: 5, bytes: 4 }, b"");
    let (number, _, payload) = client.receive();
    assert_eq!((number, &payload[..]), (5, &b"more"[..]));

    client.send(8, Request::Credit { subscription: 5, bytes: 100 }, b"");
    client.send(9, Request::Unsubscribe { subscription: 5 }, b"");
    fleet.all_show(fleet.append(b"unheard").lsn());
    assert!(matches!(client.ask(Request::Status, b""), Reply::Status(_)));
    assert!(client.is_silent(), "it is not subscribed any more");
}

#[test]
fn the_frames_of_committed_records_can_be_had_to_mend_a_log_with() {
    let fleet = Fleet::new(3);
    let range = fleet.append(b"precious").range().expect("it is new");
    // Whoever was elected meanwhile knows it only once it has committed something itself.
    fleet.all_show(range.last);
    let admin = fleet.net.connect(id(fleet.primary()), ClientRole::Admin);
    admin.send(1, Request::Frames { range, bytes_max: 1 }, b"");
    let (_, reply, frames) = admin.receive();
    assert_eq!(reply, Reply::Frames { range });
    assert_eq!(annals::node::group_of(&frames).expect("frames").range, range);
    let beyond = LsnRange { first: range.last.plus(100), last: range.last.plus(100) };
    let refused = admin.ask(Request::Frames { range: beyond, bytes_max: 1 }, b"");
    assert!(matches!(refused, Reply::Refused(Refused::NotPossible { .. })), "{refused:?}");
}

#[test]
fn a_client_that_is_gone_disturbs_nobody() {
    let fleet = Fleet::new(3);
    let primary = fleet.primary();
    let gone = fleet.net.connect(id(primary), ClientRole::Append);
    for number in 0..100 {
        gone.send(number, append(vec![1]), b"x");
    }
    gone.send(100, Request::Subscribe { from: Lsn::FIRST, credit_bytes: u64::MAX }, b"");
    drop(gone);
    let client = fleet.net.connect(id(primary), ClientRole::Append);
    range_of(&client.ask(append(vec![1]), b"y"));
}

#[test]
fn each_request_is_answered_when_the_primary_is_deposed() {
    let fleet = Fleet::new(3);
    let primary = fleet.primary();
    fleet.append(b"before");
    let client = fleet.net.connect(id(primary), ClientRole::Admin);
    fleet.net.cut(id(primary));
    for number in 0..50 {
        client.send(number, append(vec![1]), b"x");
    }
    client.send(50, Request::Linearize, b"");
    client.send(51, Request::Register, b"");
    let mut answers: Vec<_> = (0..52).map(|_| client.receive()).collect();
    answers.sort_by_key(|(number, ..)| *number);
    for (number, (answered, reply, _)) in answers.iter().enumerate() {
        assert_eq!(*answered, number as u64);
        let is_open = matches!(reply, Reply::Refused(Refused::Unknown | Refused::NotPrimary { .. }));
        assert!(is_open, "{number}: {reply:?}");
    }
    fleet.net.join(id(primary));
    until("it follows the new primary", || {
        (fleet.statuses().iter().filter(|status| status.primary.is_some()).count() == 3).then_some(())
    });
}
