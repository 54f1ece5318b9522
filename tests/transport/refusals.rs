//! Who is not let in, and what they are told.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use annals::protocol::request::{ClientRole, Refused, Reply, Request};
use annals::transport::certs::{Authority, Validity};
use annals::transport::{
    Arrival, CertificateFault, Lane, TlsFiles, Transport, TransportError, TransportStats, Whose,
};
use annals::{ClusterId, ReplicaId};
use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::place::{CLUSTER, Caller, Papers, Place, Told, envelope};
use crate::raw::{GREETING, Raw, header};

/// Codes of TLS alerts, as QUIC carries them.
const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

fn is_refused(error: &TransportError, whose: Whose, fault: CertificateFault) -> bool {
    matches!(error, TransportError::Certificate { whose: w, fault: f } if *w == whose && *f == fault)
}

fn error_of(stats: &TransportStats, id: u64) -> Option<&TransportError> {
    stats.peers.iter().find(|peer| peer.id == ReplicaId::new(id))?.last_error.as_ref()
}

/// Over before now.
fn past() -> Validity {
    let now = SystemTime::now();
    Validity { from: now - Duration::from_secs(7200), until: now - Duration::from_secs(3600) }
}

#[test]
fn a_replica_does_not_start_with_the_certificate_of_another() {
    let papers = Papers::new(CLUSTER);
    let mut options = papers.options(1);
    options.tls = papers.replica(2);
    let refused = Transport::bind(options.clone()).err().unwrap();
    assert!(matches!(refused, TransportError::WrongIdentity { .. }), "{refused}");
    options.tls = papers.client(ClientRole::Admin);
    let refused = Transport::bind(options).err().unwrap();
    assert!(matches!(refused, TransportError::WrongIdentity { .. }), "{refused}");
}

#[test]
fn a_replica_that_answers_in_the_name_of_another_is_refused() {
    let papers = Papers::new(CLUSTER);
    let (one, three) = (papers.place(1), papers.place(3));
    let peers = vec![(ReplicaId::new(2), three.address())];
    one.order(move |network| network.set_peers(&peers));
    one.wait_until(|stats| {
        error_of(stats, 2).is_some_and(|why| is_refused(why, Whose::Theirs, CertificateFault::WrongName))
    });
}

#[test]
fn an_envelope_in_the_name_of_another_is_dropped_and_ends_the_connection() {
    let papers = Papers::new(CLUSTER);
    let (one, two) = papers.pair();
    two.arrived();
    let (me, other) = (one.id, two.id);
    let lies: [fn(&mut annals::protocol::Envelope); 2] =
        [|lie| lie.from.id = ReplicaId::new(7), |lie| lie.cluster = ClusterId::new(7)];
    for lie in lies {
        let refused = two.transport.stats().refused;
        one.order(move |network| {
            let mut lied = envelope(me, other, 77);
            lie(&mut lied);
            network.send(Lane::Control, &lied, &Bytes::new());
        });
        two.wait_until(|stats| stats.refused > refused);
        // What came before the lie is taken out first: with it they would seem to meet on the connection that ends.
        let mut arrived = two.arrived();
        one.meet(&two);
        arrived.extend(two.arrived());
        let lied = arrived.into_iter().any(|arrival| match arrival {
            Arrival::Message { envelope, .. } => envelope.from.id != me || envelope.cluster != CLUSTER,
            _ => false,
        });
        assert!(!lied, "it arrived");
    }
}

#[test]
fn foreign_and_expired_certificates_are_refused_on_both_sides_with_the_reason() {
    let (ours, foreign) = (Papers::new(CLUSTER), Papers::new(CLUSTER));
    let place = ours.place(1);
    let address = place.address();

    let strange = foreign.client(ClientRole::Admin);
    let refused = Caller::open(&strange, &address).refusal();
    assert!(is_refused(&refused, Whose::Theirs, CertificateFault::Foreign), "{refused}");
    place.wait_until(|stats| stats.refusals.certificate == 1);

    let trusting = TlsFiles { ca: ours.path().join("ca.pem"), ..strange };
    let refused = Caller::open(&trusting, &address).refusal();
    assert!(is_refused(&refused, Whose::Ours, CertificateFault::Foreign), "{refused}");
    place.wait_until(|stats| stats.refusals.certificate == 2 && stats.refused == 2);

    let old = ours.authority.client(ClientRole::Admin, "old", past()).unwrap();
    let refused = Caller::open(&old.write(ours.path(), "old").unwrap(), &address).refusal();
    assert!(is_refused(&refused, Whose::Ours, CertificateFault::Expired), "{refused}");

    let mut options = ours.options(2);
    options.tls = ours.authority.replica(options.me, past()).unwrap().write(ours.path(), "late").unwrap();
    let late = Place::start(options);
    let refused = Caller::open(&ours.client(ClientRole::Admin), &late.address()).refusal();
    assert!(is_refused(&refused, Whose::Theirs, CertificateFault::Expired), "{refused}");
    place.knows(&[&late]);
    place.wait_until(|stats| {
        error_of(stats, 2).is_some_and(|why| is_refused(why, Whose::Theirs, CertificateFault::Expired))
    });
    assert!(place.arrived().iter().all(|arrival| !matches!(arrival, Arrival::Opened { .. })));
}

#[test]
fn a_certificate_of_another_cluster_opens_nothing_even_under_a_trusted_authority() {
    let papers = Papers::new(CLUSTER);
    let other = Authority::new(ClusterId::new(7), Validity::days(1)).unwrap();
    let issued = other.client(ClientRole::Admin, "tester", Validity::days(1)).unwrap();
    let strange = issued.write(&papers.path().join("other"), "client").unwrap();
    let options = papers.options(1);
    // The replica trusts both authorities.
    let both = [fs::read(&options.tls.ca).unwrap(), fs::read(&strange.ca).unwrap()].concat();
    fs::write(&options.tls.ca, both).unwrap();
    let place = Place::start(options);
    let trusting = TlsFiles { ca: place_ca(&papers), ..strange };
    let refused = Caller::open(&trusting, &place.address()).refusal();
    assert!(is_refused(&refused, Whose::Theirs, CertificateFault::WrongName), "{refused}");
    // Whoever does not care who the replica is, is turned away by it.
    let raw = Raw::new(&trusting, true, "annals-client/1");
    let connection = raw.connect(place.transport.local_addr()).unwrap();
    assert_eq!(raw.end(&connection).0, 2);
    assert!(place.arrived().is_empty());
}

fn place_ca(papers: &Papers) -> std::path::PathBuf {
    papers.path().join("ca.pem")
}

#[test]
fn who_has_no_certificate_is_refused() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let raw = Raw::new(&papers.client(ClientRole::Admin), false, "annals-client/1");
    // TLS lets a client finish first, and then tells it.
    let connection = raw.connect(place.transport.local_addr()).unwrap();
    assert_eq!(raw.end(&connection).0, CERTIFICATE_REQUIRED);
    place.wait_until(|stats| stats.refused == 1);
    assert_eq!(place.transport.stats().refusals.certificate, 1);
    assert!(place.arrived().is_empty());
}

#[test]
fn another_version_of_the_wire_is_refused_on_both_sides() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let files = papers.client(ClientRole::Admin);
    for alpn in ["annals-client/2", "annals-peer/2", "h3"] {
        let raw = Raw::new(&files, true, alpn);
        match raw.connect(place.transport.local_addr()) {
            Err(quinn::ConnectionError::ConnectionClosed(close)) => {
                assert_eq!(u64::from(close.error_code), NO_APPLICATION_PROTOCOL);
            }
            other => panic!("{alpn}: {other:?}"),
        }
    }
    place.wait_until(|stats| stats.refusals.version == 3 && stats.refused == 3);
    // And a client that meets a replica of the future.
    let replica = papers.replica(1);
    let chain = vec![CertificateDer::from_pem_file(&replica.cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&replica.key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec!["annals-client/2".into()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let future = {
        let _inside = runtime.enter();
        let config = quinn::ServerConfig::with_crypto(std::sync::Arc::new(crypto));
        quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
    };
    let address = future.local_addr().unwrap().to_string();
    let caller = Caller::open(&files, &address);
    assert!(runtime.block_on(async { future.accept().await.unwrap().await }).is_err());
    runtime.block_on(future.wait_idle());
    let refused = caller.refusal();
    assert!(matches!(refused, TransportError::WireVersion { offered: "annals-client/1" }), "{refused}");
}

#[test]
fn nothing_is_resumed_so_nothing_can_be_sent_before_the_handshake() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let raw = Raw::new(&papers.client(ClientRole::Admin), true, "annals-client/1");
    let address = place.transport.local_addr();
    let name = format!("replica.{CLUSTER}.annals");
    for _ in 0..3 {
        raw.runtime.block_on(async {
            let connecting = raw.endpoint.connect(address, &name).unwrap();
            let Err(connecting) = connecting.into_0rtt() else {
                panic!("there is a ticket to begin early with")
            };
            let connection = connecting.await.unwrap();
            let (mut output, mut input) = connection.open_bi().await.unwrap();
            output.write_all(&GREETING).await.unwrap();
            input.read_chunk(16, true).await.unwrap().unwrap();
        });
    }
}

#[test]
fn a_client_is_denied_what_its_certificate_does_not_allow() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    for (role, denied) in [
        (ClientRole::Read, vec![Request::Register, Request::Promote]),
        (ClientRole::Append, vec![Request::Promote, Request::Snapshot]),
        (ClientRole::Admin, vec![]),
    ] {
        let caller = Caller::open(&papers.client(role), &place.address());
        for (number, request) in (1..).zip(&denied) {
            caller.link.send(number, request, &[]).unwrap();
            let (found, reply, _) = caller.reply();
            let expected = Refused::Denied { needs: request.needs() };
            assert_eq!((found, reply), (number, Reply::Refused(expected)));
        }
        caller.ask(9, &[]);
        assert_eq!(caller.reply().0, 9);
    }
    // A replica is trusted with votes already.
    let caller = Caller::open(&papers.replica(1), &place.address());
    assert!(matches!(caller.told(), Told::Opened(_, ClientRole::Admin)));
    let asked = place.arrived();
    let asked = asked.iter().filter(|arrival| matches!(arrival, Arrival::Asked { .. }));
    assert_eq!(asked.count(), 3);
}

#[test]
fn noise_at_the_port_disturbs_nobody() {
    let papers = Papers::new(CLUSTER);
    let (one, two) = papers.pair();
    let caller = Caller::open(&papers.client(ClientRole::Append), &one.address());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for seed in 0..3000_u64 {
        let noise: Vec<u8> = (0..seed * 7 % 1500)
            .map(|at| (at * 2_654_435_761).wrapping_mul(seed + 1).to_le_bytes()[3])
            .collect();
        let _ = socket.send_to(&noise, one.transport.local_addr());
        if seed % 100 == 0 {
            caller.ask(seed, &[Bytes::from(noise)]);
            assert_eq!(caller.reply().0, seed);
        }
    }
    two.arrived();
    one.send(Lane::Bulk, two.id, 5, Bytes::from(vec![7; 1000]));
    assert_eq!(two.message().0, 5);
}

#[test]
fn frames_over_the_limits_and_noise_in_a_stream_end_the_connection() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let raw = Raw::new(&papers.client(ClientRole::Admin), true, "annals-client/1");
    let address = place.transport.local_addr();
    let (too_large, bad) = (5, 4);
    for (bytes, code) in [
        (header(10, u32::MAX, 1), too_large),
        (header(u32::MAX, 10, 1), too_large),
        ([header(10, 0, 1), vec![0xee; 10]].concat(), bad),
        ([header(0, 0, 1)].concat(), bad),
    ] {
        let (connection, ..) = raw.say(address, &[&GREETING[..], &bytes].concat());
        assert_eq!(raw.end(&connection).0, code, "{bytes:?}");
    }
    let (connection, ..) = raw.say(address, &[0xff; 64]);
    assert_eq!(raw.end(&connection).0, bad);
    let refusals = place.transport.stats().refusals;
    assert_eq!((refusals.limit, refusals.garbage, refusals.total()), (2, 3, 5));
}
