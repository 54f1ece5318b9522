//! What is bounded, what is slow, and what changes while connections stand.

use std::fs;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use annals::ClusterId;
use annals::client::{ClientError, ClientOptions, Target};
use annals::protocol::request::{ClientRole, Reply};
use annals::transport::certs::{Authority, Validity};
use annals::transport::{Arrival, CertificateFault, Credentials, Lane, TlsFiles, TransportError, Whose};
use bytes::Bytes;
use quinn::ConnectionError;
use tokio::time::timeout;

use crate::place::{CLUSTER, Caller, LONG, Papers, Place, Told, session_of};
use crate::raw::{GREETING, Raw};

#[test]
fn more_clients_than_allowed_are_told_so() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    options.limits.sessions_max = 2;
    let place = Place::start(options);
    let files = papers.client(ClientRole::Read);
    let open = || {
        let caller = Caller::open(&files, &place.address());
        assert!(matches!(caller.told(), Told::Opened(..)));
        caller
    };
    let (first, _second) = (open(), open());
    let refused = Caller::open(&files, &place.address()).refusal();
    assert!(matches!(refused, TransportError::TooMany), "{refused}");
    assert_eq!(place.transport.stats().refusals.limit, 1);
    drop(first);
    place.wait_until(|stats| stats.sessions == 1);
    open();
}

#[test]
fn a_connection_without_a_session_is_closed_after_a_while() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    options.timing.handshake_max = Duration::from_millis(100);
    let place = Place::start(options);
    let raw = Raw::new(&papers.client(ClientRole::Read), true, "annals-client/1");
    let (connection, mut output, mut input) = raw.say(place.transport.local_addr(), &GREETING);
    raw.runtime.block_on(input.read_chunk(16, true)).unwrap();
    let session = place.next(session_of);
    // As long as there is one, it stays, however quiet it is.
    let waited =
        raw.runtime.block_on(async { timeout(Duration::from_millis(350), connection.closed()).await });
    assert!(waited.is_err(), "{waited:?}");
    let _ = output.finish();
    let _ = input.stop(0_u32.into());
    let is_over = |arrival: &Arrival| matches!(arrival, Arrival::Closed { session: of } if *of == session);
    // First what needs the client's runtime, which runs while it is waited on: until then it has not said that it ends.
    assert_eq!(raw.end(&connection).0, 0);
    place.next(|arrival| is_over(&arrival).then_some(()));
    assert_eq!(place.transport.stats().refused, 0);
    // Whoever has opened none has begun something and led it no further.
    let silent = raw.connect(place.transport.local_addr()).unwrap();
    assert_eq!(raw.end(&silent).0, 4);
    assert_eq!(place.transport.stats().refusals.unfinished, 1);
}

#[test]
fn connections_without_a_session_are_bounded() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    (options.limits.sessions_max, options.limits.handshakes_max) = (1, 8);
    let place = Place::start(options);
    let raw = Raw::new(&papers.client(ClientRole::Read), true, "annals-client/1");
    let address = place.transport.local_addr();
    let there: Vec<_> = (0..10).map(|_| raw.connect(address).unwrap()).collect();
    let mut ends: Vec<_> = there.iter().map(|connection| Box::pin(connection.closed())).collect();
    let first = raw.runtime.block_on(poll_fn(|cx| {
        let ended = ends.iter_mut().map(|end| end.as_mut().poll(cx)).find(Poll::is_ready);
        ended.unwrap_or(Poll::Pending)
    }));
    let ConnectionError::ApplicationClosed(close) = first else { panic!("{first}") };
    assert_eq!(close.error_code, 3_u32.into());
    assert_eq!(place.transport.stats().refused, 1);
    assert_eq!(there.iter().filter(|connection| connection.close_reason().is_none()).count(), 9);
}

#[test]
fn who_does_not_read_is_cut_off_and_keeps_nobody_waiting() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    options.limits.session_backlog_bytes_max = 8 << 20;
    // While it is not waited for, that client does not even acknowledge: it must not pass for lost.
    options.timing.idle_max = LONG;
    let place = Place::start(options);
    let files = papers.client(ClientRole::Append);
    let raw = Raw::new(&files, true, "annals-client/1");
    let (connection, _output, mut input) = raw.say(place.transport.local_addr(), &GREETING);
    // The replica's greeting, and nothing more.
    raw.runtime.block_on(input.read_chunk(16, true)).unwrap();
    let slow = place.next(session_of);
    let caller = Caller::open(&files, &place.address());
    let is_cut_off = |arrival: &Arrival| matches!(arrival, Arrival::Closed { session } if *session == slow);
    let mut number = 0;
    while !place.arrived().iter().any(is_cut_off) {
        number += 1;
        place.order(move |network| {
            network.reply(slow, number, &Reply::Done, &[Bytes::from(vec![7; 1 << 20])]);
        });
        caller.ask(number, &[]);
        assert_eq!(caller.reply().0, number);
        assert!(number < 500, "it takes all of it");
    }
    let end = loop {
        match raw.runtime.block_on(input.read_chunk(1 << 20, true)) {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(&end, Err(quinn::ReadError::Reset(code)) if *code == 6_u32.into()), "{end:?}");
    assert_eq!(place.transport.stats().refusals.slow, 1);
    assert_eq!(place.transport.stats().refused, 1);
    assert!(connection.close_reason().is_none(), "others may share it");
}

/// A record of 64 MiB was taken, and nobody could read it: its reply alone was more than might wait.
#[test]
fn a_reply_may_be_larger_than_what_may_wait() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    options.limits.session_backlog_bytes_max = 1 << 20;
    let place = Place::start(options);
    let caller = Caller::open(&papers.client(ClientRole::Append), &place.address());
    let session = place.next(session_of);
    let record = Bytes::from(vec![7; 4 << 20]);
    // Both at once: half of what may wait, and before any of that is sent the large one.
    place.order(move |network| {
        network.reply(session, 1, &Reply::Done, &[record.slice(..512 << 10)]);
        network.reply(session, 2, &Reply::Done, &[record]);
    });
    assert_eq!([caller.reply(), caller.reply()].map(|(number, ..)| number), [1, 2]);
}

#[test]
fn many_links_of_a_process_share_connections_and_end_one_by_one() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let credentials = Credentials::load(&papers.client(ClientRole::Append)).unwrap();
    let mut callers: Vec<Caller> = (0..200).map(|_| Caller::share(&credentials, &place.address())).collect();
    while let Some(caller) = callers.pop() {
        caller.ask(7, &[Bytes::from_static(b"still there?")]);
        assert_eq!(caller.reply().0, 7);
        caller.link.close();
        assert!(matches!(caller.refusal(), TransportError::Closed));
    }
    place.wait_until(|stats| stats.sessions == 0);
    place.wait_until(|stats| stats.connections == 0);
    let caller = Caller::share(&credentials, &place.address());
    caller.ask(8, &[]);
    assert_eq!(caller.reply().0, 8);
    // And all of them learn of it when the replica is gone.
    let others: Vec<Caller> = (0..5).map(|_| Caller::share(&credentials, &place.address())).collect();
    others.iter().for_each(|other| assert!(matches!(other.told(), Told::Opened(..))));
    place.transport.shutdown();
    for other in &others {
        assert!(matches!(other.refusal(), TransportError::Closed));
    }
}

/// A program that connects in two places of its code pays for one connection; whoever renews its certificate gets another.
#[test]
fn clients_with_the_same_files_share_a_connection_until_the_files_change() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let connect = |files: &TlsFiles| {
        let options = ClientOptions::new([place.address()]);
        let client = options.certificates(&files.ca, &files.cert, &files.key).connect().unwrap();
        // The place answers nothing that makes sense; but then it was connected to.
        let _ = client.status(Target::At(place.address())).wait();
        client
    };
    let files = papers.client(ClientRole::Append);
    let clients = [connect(&files), connect(&files)];
    place.wait_until(|stats| stats.sessions == 2);
    assert_eq!(place.transport.stats().connections, 1);

    let renewed = papers.client(ClientRole::Append);
    assert_eq!(renewed, files, "other bytes in the same places");
    let another = connect(&renewed);
    place.wait_until(|stats| stats.sessions == 3);
    assert_eq!(place.transport.stats().connections, 2);
    // Those that stood go on as they were.
    drop(another);
    place.wait_until(|stats| stats.connections == 1 && stats.sessions == 2);
    drop(clients);
    place.wait_until(|stats| stats.connections == 0);
}

/// Its role is in the certificate's name, so whoever is connected to sees which one it was.
#[test]
fn a_client_that_reads_its_certificate_again_uses_it_for_the_connections_to_come() {
    let papers = Papers::new(CLUSTER);
    let places = [1, 2, 3, 4].map(|id| papers.place(id));
    let files = papers.client(ClientRole::Read);
    let options = ClientOptions::new([places[0].address()]);
    let client = options.certificates(&files.ca, &files.cert, &files.key).connect().unwrap();
    let ask = |place: &Place| drop(client.status(Target::At(place.address())).wait());
    let role_at = |place: &Place| {
        ask(place);
        place.next(|arrival| match arrival {
            Arrival::Opened { role, .. } => Some(role),
            _ => None,
        })
    };
    assert_eq!(role_at(&places[0]), ClientRole::Read);

    let renewed = papers.authority.client(ClientRole::Append, "tester", Validity::days(1)).unwrap();
    assert_eq!(renewed.write(papers.path(), "Read").unwrap(), files, "other bytes in the same places");
    assert_eq!(role_at(&places[1]), ClientRole::Read, "nobody has read them yet");
    client.reload_certificates().wait().unwrap();
    assert_eq!(role_at(&places[2]), ClientRole::Append);

    // Files that are of no use, or of another cluster, change nothing.
    let before = fs::read(&files.cert).unwrap();
    fs::write(&files.cert, "no certificate").unwrap();
    let reason = client.reload_certificates().wait().unwrap_err().to_string();
    assert!(reason.contains(files.cert.to_str().unwrap()), "{reason}");
    let other = Authority::new(ClusterId::new(1), Validity::days(1)).unwrap();
    let foreign = other.client(ClientRole::Admin, "tester", Validity::days(1)).unwrap();
    let theirs = foreign.write(papers.path(), "Read").unwrap();
    assert_eq!(theirs, files);
    let reason = client.reload_certificates().wait().unwrap_err().to_string();
    assert!(reason.contains(&format!("should be for cluster {CLUSTER}")), "{reason}");
    fs::write(&files.cert, before).unwrap();
    let reason = client.reload_certificates().wait().unwrap_err().to_string();
    assert!(reason.contains(files.key.to_str().unwrap()), "the key is another one's: {reason}");
    assert_eq!(role_at(&places[3]), ClientRole::Append);

    // The connection from before has stood all the time, with what it was made with.
    ask(&places[0]);
    let is_again = |arrival: &Arrival| matches!(arrival, Arrival::Opened { .. } | Arrival::Closed { .. });
    assert!(!places[0].arrived().iter().any(is_again));
    let one_more = client.clone();
    client.close().unwrap();
    assert_eq!(one_more.reload_certificates().wait(), Err(ClientError::Closed));
}

#[test]
fn a_lane_that_is_over_its_limit_begins_anew_and_the_others_go_on() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    options.limits.bulk_queue_bytes_max = 1 << 20;
    let one = Place::start(options);
    let two = papers.place(2);
    one.knows(&[&two]);
    one.meet(&two);
    let (me, other, dropped) = (one.id, two.id, one.transport.stats().dropped);
    one.order(move |network| {
        for number in 1..=10 {
            let envelope = crate::place::envelope(me, other, number);
            network.send(Lane::Bulk, &envelope, &Bytes::from(vec![7; 300_000]));
        }
        network.send(Lane::Control, &crate::place::envelope(me, other, 100), &Bytes::new());
    });
    let mut found = Vec::new();
    while !(found.contains(&100) && found.contains(&10)) {
        found.push(two.message().0);
    }
    found.retain(|number| *number != 100);
    // Four fill the lane and are dropped, twice; what comes after that is there.
    assert_eq!(found, [9, 10]);
    assert_eq!(one.transport.stats().dropped, dropped + 2);
}

#[test]
fn certificates_are_reloaded_while_connections_stand() {
    let papers = Papers::new(CLUSTER);
    let (one, two) = papers.pair();
    let old = Caller::open(&papers.client(ClientRole::Append), &one.address());
    old.ask(1, &[]);
    assert_eq!(old.reply().0, 1);

    let next = Authority::new(CLUSTER, Validity::days(1)).unwrap();
    let issued = next.client(ClientRole::Append, "next", Validity::days(1)).unwrap();
    let files = issued.write(&papers.path().join("next"), "next").unwrap();
    let refused = Caller::open(&files, &one.address()).refusal();
    assert!(matches!(refused, TransportError::Certificate { .. }), "{refused}");

    // A file that is of no use changes nothing.
    let end = one.transport.stats().certificate_end.unwrap();
    let ca = papers.path().join("ca.pem");
    let before = fs::read(&ca).unwrap();
    fs::write(&ca, b"nonsense").unwrap();
    let refused = one.transport.reload_certificates().unwrap_err();
    assert!(matches!(refused, TransportError::BadFile { .. }), "{refused}");
    old.ask(2, &[]);
    assert_eq!(old.reply().0, 2);
    assert_eq!(one.transport.stats().certificate_end, Some(end));

    // Both authorities, and a certificate of the new one.
    let longer = Validity { until: end + Duration::from_secs(86_400), ..Validity::days(1) };
    let issued = next.replica(one.id, longer).unwrap();
    issued.write(papers.path(), "replica-1").unwrap();
    fs::write(&ca, [before, next.certificate().as_bytes().to_vec()].concat()).unwrap();
    one.transport.reload_certificates().unwrap();
    assert_eq!(one.transport.stats().certificate_end, Some(longer.until));
    let new = Caller::open(&files, &one.address());
    new.ask(3, &[]);
    assert_eq!(new.reply().0, 3);
    let first = Caller::open(&papers.client(ClientRole::Append), &one.address());
    // Its `ca` file has been written anew with the old authority alone.
    let refused = first.refusal();
    let fault = CertificateFault::Foreign;
    assert!(
        matches!(refused, TransportError::Certificate { whose: Whose::Theirs, fault: f } if f == fault),
        "{refused}"
    );
    old.ask(4, &[]);
    assert_eq!(old.reply().0, 4);
    two.arrived();
    one.send(Lane::Control, two.id, 5, Bytes::new());
    assert_eq!(two.message().0, 5);
}

/// 200; `ANNALS_HANDSHAKES=10000` for the whole.
#[test]
fn handshakes_by_the_thousand_leave_nothing_behind() {
    let handshakes: u64 =
        std::env::var("ANNALS_HANDSHAKES").ok().and_then(|number| number.parse().ok()).unwrap_or(200);
    let papers = Papers::new(CLUSTER);
    let (one, two) = papers.pair();
    let files = papers.client(ClientRole::Append);
    let address = one.address();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..handshakes / 4 {
                    let caller = Caller::open(&files, &address);
                    caller.ask(number, &[Bytes::from_static(b"still there?")]);
                    assert_eq!(caller.reply().0, number);
                }
            });
        }
    });
    one.wait_until(|stats| stats.sessions == 0);
    assert_eq!(one.transport.stats().refused, 0);
    two.arrived();
    one.send(Lane::Bulk, two.id, 5, Bytes::new());
    assert_eq!(two.message().0, 5);
    let arrived = one.arrived();
    let lost = arrived.iter().filter(|arrival| matches!(arrival, Arrival::PeerLost { .. }));
    assert_eq!(lost.count(), 0, "a peer was lost over it");
    let opened = arrived.iter().filter(|arrival| matches!(arrival, Arrival::Opened { .. })).count();
    let closed = arrived.iter().filter(|arrival| matches!(arrival, Arrival::Closed { .. })).count();
    assert_eq!((opened, closed), (handshakes as usize / 4 * 4, opened));
}
