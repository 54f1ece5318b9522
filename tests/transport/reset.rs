//! A replica that is killed, and maybe started again at once: nobody waits for what the former process would have said.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annals::protocol::request::{ClientRole, Reply, Request};
use annals::transport::{
    Arrival, Credentials, LinkOptions, TransportError, TransportOptions, TransportTiming,
};
use annals::{Lsn, ReplicaId};
use bytes::Bytes;

use crate::place::{CLUSTER, Caller, LONG, Papers, Place, Told};
use crate::relay::{FIRST_BYTES_MIN, REQUEST_BYTES, Relay, is_short, socket};

/// No test waits for so long.
const NEVER: Duration = Duration::from_secs(3600);
const OFTEN: Duration = Duration::from_millis(20);
/// A replica's options with which no silence ends a connection.
fn patient(papers: &Papers, id: u64) -> TransportOptions {
    let mut options = papers.options(id);
    options.timing = TransportTiming { idle_max: NEVER, keep_alive: OFTEN, ..options.timing };
    options
}

/// A client that has been answered through the relay, and that no silence ends.
fn answered(papers: &Papers, relay: &Relay) -> Caller {
    let timing =
        LinkOptions { connect_max: LONG, idle_max: NEVER, keep_alive: OFTEN, ..LinkOptions::default() };
    let credentials = Credentials::load(&papers.client(ClientRole::Read)).unwrap();
    let caller = Caller::with(timing, &credentials, &relay.address());
    caller.ask(1, &[]);
    assert_eq!(caller.reply().0, 1);
    caller
}

/// A process of a replica and the one after it, and a client of the first.
struct Processes {
    papers: Papers,
    relay: Arc<Relay>,
    caller: Caller,
    before: Place,
    after: Place,
}

fn processes() -> Processes {
    let papers = Papers::new(CLUSTER);
    let options = patient(&papers, 1);
    let (before, after) = (Place::start(options.clone()), Place::start(options));
    let relay = Relay::to(&before);
    let caller = answered(&papers, &relay);
    Processes { papers, relay, caller, before, after }
}

#[track_caller]
fn assert_lost(caller: &Caller) {
    let told = caller.told();
    assert!(matches!(told, Told::Closed(TransportError::Lost)), "{told:?}");
}

#[test]
fn an_idle_client_is_told_that_its_replica_is_another_process() {
    let of = processes();
    of.relay.lead_to(&of.after);
    assert_lost(&of.caller);
    answered(&of.papers, &of.relay);
}

/// Whether it was done nobody knows: it is told as with every other connection that is lost.
#[test]
fn a_request_on_its_way_to_the_former_process_is_told_as_lost() {
    let of = processes();
    of.relay.lead_to(&of.after);
    // It may have heard by now.
    let _ = of.caller.link.send(2, &Request::Status, &[]);
    assert_lost(&of.caller);
    let asked = |arrival: &Arrival| matches!(arrival, Arrival::Asked { number: 2, .. });
    assert!(!of.after.arrived().iter().any(asked), "another connection's request");
}

#[test]
fn a_replica_is_told_that_its_peer_is_another_process_and_dials_it_again() {
    let papers = Papers::new(CLUSTER);
    let one = Place::start(patient(&papers, 1));
    let options = patient(&papers, 2);
    let (before, after) = (Place::start(options.clone()), Place::start(options));
    let relay = Relay::to(&before);
    // The other one knows nobody, so it is this one that has to find out and to dial.
    let peers = [(before.id, relay.address())];
    one.order(move |network| network.set_peers(&peers));
    one.meet(&before);
    relay.lead_to(&after);
    let lost = |arrival| matches!(arrival, Arrival::PeerLost { id } if id == ReplicaId::new(2)).then_some(());
    one.next(lost);
    one.meet(&after);
}

/// It has had a reply, so there is none that is due; and nothing is said as long as nothing happens.
#[test]
fn a_subscriber_is_told_that_the_process_is_gone() {
    let papers = Papers::new(CLUSTER);
    let place = Place::start(patient(&papers, 1));
    let relay = Relay::to(&place);
    let caller = answered(&papers, &relay);
    caller.link.send(2, &Request::Subscribe { from: Lsn::FIRST, credit_bytes: 1 << 20 }, &[]).unwrap();
    let session = place.next(|arrival| match arrival {
        Arrival::Asked { session, number: 2, .. } => Some(session),
        _ => None,
    });
    place.order(move |network| network.reply(session, 2, &Reply::Done, &[]));
    assert_eq!(caller.reply().0, 2);
    relay.end();
    assert_lost(&caller);
}

/// What a replica is asked by the same socket after a packet, and answers whoever it is: a version that nobody speaks.
fn unknown_version() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 1, 1, 1, 1, 1, 1, 1, 8, 2, 2, 2, 2, 2, 2, 2, 2];
    packet.resize(FIRST_BYTES_MIN, 0);
    packet
}

/// A stranger's socket, which nobody but that replica says anything to.
fn stranger(to: &Place) -> UdpSocket {
    let stranger = socket();
    stranger.connect(to.transport.local_addr()).unwrap();
    stranger
}

/// Sends this, and after it what is always answered: they are in the order in which they came, so what comes first tells.
fn ask(stranger: &UdpSocket, packet: &[u8]) {
    stranger.send(packet).unwrap();
    stranger.send(&unknown_version()).unwrap();
}

/// Whether the next answer is a reset. The error is that there is none.
fn is_next_reset(stranger: &UdpSocket, packet: &[u8]) -> io::Result<bool> {
    let mut answer = [0; 65_536];
    let bytes = stranger.recv(&mut answer)?;
    let answer = &answer[..bytes];
    assert!(is_short(answer) || answer[1..5] == [0; 4], "it refuses the version, or resets: {answer:?}");
    if is_short(answer) {
        assert!(bytes < packet.len(), "two that reset one another would never end");
    }
    Ok(is_short(answer))
}

/// Whether it has a word for whoever sends this, which nobody but the connection's replica should have.
fn is_answered(packet: &[u8], by: &Place) -> bool {
    let stranger = stranger(by);
    ask(&stranger, packet);
    is_next_reset(&stranger, packet).unwrap()
}

/// The same where it should. It drops an answer for which there is no room just then, so it is asked until there is one.
fn is_answered_at_last(packet: &[u8], by: &Place) -> bool {
    let stranger = stranger(by);
    // Both answers may be dropped.
    stranger.set_read_timeout(Some(OFTEN)).unwrap();
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        ask(&stranger, packet);
        match is_next_reset(&stranger, packet) {
            Ok(true) => return true,
            Ok(false) => {}
            Err(why) => assert!(matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{why}"),
        }
    }
    false
}

/// A reset can be made by whoever has been told its token. So it is told only by whom it was promised, and only when the
/// connection is nobody's any more.
#[test]
fn only_the_next_process_of_the_same_replica_resets_a_connection() {
    let Processes { papers, relay, caller, before, after } = processes();
    let mut number = 1;
    let packet = loop {
        number += 1;
        caller.ask(number, &[Bytes::from(vec![7; REQUEST_BYTES])]);
        assert_eq!(caller.reply().0, number);
        if let Some(packet) = relay.request.lock().take() {
            break packet;
        }
    };
    assert!(is_answered_at_last(&packet, &after));
    assert!(!is_answered(&packet, &before), "it is in use there");

    let mut forged = packet.clone();
    // In the id, which follows the first byte.
    forged[2] ^= 1;
    assert!(!is_answered(&forged, &after), "such a connection there never was");
    let other = papers.place(2);
    assert!(!is_answered(&packet, &other), "of another replica");
    // The same replica with a new private key.
    let renewed = papers.place(1);
    assert!(!is_answered(&packet, &renewed), "by another key");

    // What it holds on to when its files are replaced is what it has promised.
    after.transport.reload_certificates().unwrap();
    assert!(is_answered_at_last(&packet, &after));
    caller.ask(number + 1, &[]);
    assert_eq!(caller.reply().0, number + 1);
}
