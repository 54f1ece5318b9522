//! Who is not there yet, or not any more, when a client comes.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Instant;

use annals::protocol::request::ClientRole;
use annals::transport::{Credentials, LinkOptions, TransportError};

use crate::place::{CLUSTER, Caller, LONG, Papers};

/// Attempts that a client makes beside one another.
const ATTEMPTS: usize = 3;

/// A port at which somebody listens who never answers, and a client that tries to connect to it; so patient that nothing but
/// what is tried here can end that.
fn mute_port_and_caller() -> (UdpSocket, Caller) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap();
    port.set_read_timeout(Some(LONG)).unwrap();
    let papers = Papers::new(CLUSTER);
    let patient = LinkOptions { connect_max: LONG * 10, idle_max: LONG * 10, ..LinkOptions::default() };
    let credentials = Credentials::load(&papers.client(ClientRole::Read)).unwrap();
    let caller = Caller::with(patient, &credentials, &port.local_addr().unwrap().to_string());
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
