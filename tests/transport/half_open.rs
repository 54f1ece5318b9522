//! Connections that are begun and led no further: how many there may be, and what is asked of whoever comes then.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use annals::protocol::request::ClientRole;
use annals::transport::TransportError;
use quinn::{Connecting, Connection, ConnectionError, TransportErrorCode};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::place::{CLUSTER, Caller, LONG, Papers, Place, Told};
use crate::raw::{GREETING, Raw};

/// A beginning of a connection: the replica has answered it, and the answer has come no further than here.
struct HalfOpen {
    connecting: Connecting,
    way: Arc<Way>,
    client: SocketAddr,
    answer: Vec<u8>,
    /// Whether the replica wanted to know first that somebody is there.
    was_asked: bool,
}

/// The way between a client and a replica.
struct Way {
    /// The client sends here what is for the replica.
    outside: UdpSocket,
    inside: UdpSocket,
}

impl Way {
    /// The replica sees what comes from this address.
    async fn to(place: &Place, from: Ipv4Addr) -> Way {
        let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let inside = UdpSocket::bind((from, 0)).await.unwrap();
        inside.connect(place.transport.local_addr()).await.unwrap();
        Way { outside, inside }
    }

    /// Passes on the client's next packet.
    async fn pass_in(&self) -> SocketAddr {
        let mut packet = [0; 65_536];
        let (bytes, from) = timeout(LONG, self.outside.recv_from(&mut packet)).await.unwrap().unwrap();
        self.inside.send(&packet[..bytes]).await.unwrap();
        from
    }

    /// The replica's next packet.
    async fn answer(&self) -> Vec<u8> {
        let mut packet = [0; 65_536];
        let bytes = timeout(LONG, self.inside.recv(&mut packet)).await.unwrap().unwrap();
        packet[..bytes].to_owned()
    }
}

impl HalfOpen {
    /// As far as the replica's first answer that does not ask for a proof.
    async fn begin(raw: &Raw, place: &Place, from: Ipv4Addr) -> HalfOpen {
        let way = Arc::new(Way::to(place, from).await);
        let name = format!("replica.{CLUSTER}.annals");
        let connecting = raw.endpoint.connect(way.outside.local_addr().unwrap(), &name).unwrap();
        let mut was_asked = false;
        loop {
            let client = way.pass_in().await;
            let answer = way.answer().await;
            if !is_retry(&answer) {
                return HalfOpen { connecting, way, client, answer, was_asked };
            }
            was_asked = true;
            way.outside.send_to(&answer, client).await.unwrap();
        }
    }

    /// Passes on everything from now on, until the connection stands on both sides and has a session.
    async fn lead_on(self) -> Connection {
        let HalfOpen { connecting, way, client, answer, .. } = self;
        way.outside.send_to(&answer, client).await.unwrap();
        let (there, back) = (Arc::clone(&way), way);
        tokio::spawn(async move {
            loop {
                there.pass_in().await;
            }
        });
        tokio::spawn(async move {
            loop {
                let answer = back.answer().await;
                back.outside.send_to(&answer, client).await.unwrap();
            }
        });
        let connection = connecting.await.unwrap();
        let (mut output, mut input) = connection.open_bi().await.unwrap();
        output.write_all(&GREETING).await.unwrap();
        // The replica's own: it knows who is there.
        timeout(LONG, input.read_chunk(16, true)).await.unwrap().unwrap();
        connection
    }
}

/// As packets are that ask for a proof (RFC 9000, section 17.2.5).
fn is_retry(packet: &[u8]) -> bool {
    packet[0] & 0xb0 == 0xb0
}

#[test]
fn beginnings_are_bounded_and_from_a_quarter_on_a_proof_is_asked_for() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    options.limits.handshakes_max = 8;
    // None of them ends by itself.
    (options.timing.handshake_max, options.timing.idle_max) = (100 * LONG, 100 * LONG);
    let place = Place::start(options);
    let files = papers.client(ClientRole::Read);
    let raw = Raw::new(&files, true, "annals-client/1");
    let begin = |from| raw.runtime.block_on(HalfOpen::begin(&raw, &place, from));
    // Each from another address, or some would be too many for one.
    let mut half_open: Vec<HalfOpen> = (2..10).map(|host| begin(Ipv4Addr::new(127, 0, 0, host))).collect();
    let were_asked: Vec<bool> = half_open.iter().map(|half| half.was_asked).collect();
    assert_eq!(were_asked, [false, false, true, true, true, true, true, true]);
    assert_eq!(place.transport.stats().refused, 0);

    let refused = raw.connect(place.transport.local_addr()).unwrap_err();
    let ConnectionError::ConnectionClosed(close) = refused else { panic!("{refused}") };
    assert_eq!(close.error_code, TransportErrorCode::CONNECTION_REFUSED);
    let refused = Caller::open(&files, &place.address()).refusal();
    assert!(matches!(refused, TransportError::TooMany), "{refused}");
    let refusals = place.transport.stats().refusals;
    assert!(refusals.limit >= 2 && refusals.address == 0, "{refusals:?}");

    // Whoever has said who it is counts no more among them.
    let last = half_open.pop().unwrap();
    let _stands = raw.runtime.block_on(last.lead_on());
    let caller = Caller::open(&files, &place.address());
    assert!(matches!(caller.told(), Told::Opened(..)));
}

/// Otherwise a few hosts could keep all others out.
#[test]
fn one_address_gets_half_of_the_places_and_others_are_still_let_in() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    options.limits.handshakes_max = 8;
    // None of them ends by itself.
    (options.timing.handshake_max, options.timing.idle_max) = (100 * LONG, 100 * LONG);
    let place = Place::start(options);
    let raw = Raw::new(&papers.client(ClientRole::Read), true, "annals-client/1");
    let begin = |from| raw.runtime.block_on(HalfOpen::begin(&raw, &place, from));
    let mut greedy: Vec<HalfOpen> = (0..4).map(|_| begin(Ipv4Addr::LOCALHOST)).collect();
    assert_eq!(place.transport.stats().refused, 0);

    let refused = raw.connect(place.transport.local_addr()).unwrap_err();
    let ConnectionError::ConnectionClosed(close) = refused else { panic!("{refused}") };
    assert_eq!(close.error_code, TransportErrorCode::CONNECTION_REFUSED);
    let refusals = place.transport.stats().refusals;
    assert_eq!((refusals.address, refusals.total()), (1, 1));

    // From another address more than one is let in, and comes to its end.
    let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
    let [one, _another] = [begin(elsewhere), begin(elsewhere)];
    let _stands = raw.runtime.block_on(one.lead_on());
    assert_eq!(place.transport.stats().refused, 1);

    // Whoever of the many says who it is makes room for its own address again.
    let _also_stands = raw.runtime.block_on(greedy.pop().unwrap().lead_on());
    raw.connect(place.transport.local_addr()).unwrap();
}
