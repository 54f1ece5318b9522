//! Who is not there yet, or not any more, when a client comes.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use annals::protocol::request::ClientRole;
use annals::transport::{Credentials, LinkOptions, TransportError};
use tokio::time::timeout;

use crate::place::{CLUSTER, Caller, LONG, Papers};
use crate::raw::Listener;

/// Attempts that a client makes beside one another.
const ATTEMPTS: usize = 3;

/// A client that tries to connect; so patient that nothing but what is tried here can end that.
fn patient_caller(papers: &Papers, address: SocketAddr) -> Caller {
    let patient = LinkOptions { connect_max: LONG * 10, idle_max: LONG * 10, ..LinkOptions::default() };
    let credentials = Credentials::load(&papers.client(ClientRole::Read)).unwrap();
    Caller::with(patient, &credentials, &address.to_string())
}

/// A port at which somebody listens who never answers, and a client that tries to connect to it.
fn mute_port_and_caller() -> (UdpSocket, Caller) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap();
    port.set_read_timeout(Some(LONG)).unwrap();
    let caller = patient_caller(&Papers::new(CLUSTER), port.local_addr().unwrap());
    (port, caller)
}

/// Which attempt the next packet is of: the id that the client has made up for the other side (RFC 9000, section 17.2).
fn next_attempt(port: &UdpSocket) -> Vec<u8> {
    let mut packet = [0; 2048];
    loop {
        let bytes = port.recv(&mut packet).expect("a packet in time");
        // What is shorter only asks whether anybody listens.
        if bytes > 20 {
            let id_bytes = usize::from(packet[5]);
            return packet[6..6 + id_bytes].to_vec();
        }
    }
}

#[test]
fn whoever_does_not_answer_is_tried_anew_but_a_few_times_only() {
    let (port, _caller) = mute_port_and_caller();
    let mut attempts = BTreeSet::new();
    let deadline = Instant::now() + LONG;
    while attempts.len() < ATTEMPTS {
        assert!(Instant::now() < deadline, "only {} attempts", attempts.len());
        attempts.insert(next_attempt(&port));
    }
    for _ in 0..8 {
        assert!(attempts.contains(&next_attempt(&port)), "one attempt more");
    }
}

#[test]
fn an_attempt_ends_once_nobody_listens_any_more() {
    let (port, caller) = mute_port_and_caller();
    next_attempt(&port);
    drop(port);
    let why = caller.refusal();
    assert!(matches!(why, TransportError::Unreachable { .. }), "{why}");
}

/// Many clients come at once: the replica takes long for the first attempt of each, and has no room for their second ones.
#[test]
fn an_attempt_that_is_refused_for_want_of_room_leaves_the_other_one_alone() {
    let papers = Papers::new(CLUSTER);
    let listener = Listener::new(&papers.replica(1), "annals-client/1");
    let _caller = patient_caller(&papers, listener.endpoint.local_addr().unwrap());
    let come = async {
        let first = listener.endpoint.accept().await.expect("an attempt");
        let second = listener.endpoint.accept().await.expect("another one");
        second.refuse();
        // What it is told now comes after the refusal.
        let connection = first.accept().unwrap().await?;
        connection.accept_bi().await.map(drop)
    };
    let end = listener.runtime.block_on(async { timeout(LONG, come).await });
    end.expect("a stream in time").expect("the first attempt goes on");
}
