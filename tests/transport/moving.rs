//! Packets of a connection that come from another address than it was made from.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annals::protocol::request::ClientRole;

use crate::place::{CLUSTER, Caller, LONG, Papers, Told};

/// So long is at least what begins a connection (RFC 9000, section 14.1).
const HANDSHAKE_BYTES_MIN: usize = 1200;

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// Between a client and a replica. What the client says can be had by somebody else too, who is quicker: the replica gets
/// his copy first, from another address.
struct Relay {
    client_side: UdpSocket,
    replica_side: UdpSocket,
    elsewhere: UdpSocket,
    is_copied: AtomicBool,
}

impl Relay {
    fn to(replica: SocketAddr) -> Arc<Relay> {
        let (client_side, replica_side, elsewhere) = (socket(), socket(), socket());
        elsewhere.set_nonblocking(true).unwrap();
        let relay =
            Arc::new(Relay { client_side, replica_side, elsewhere, is_copied: AtomicBool::new(false) });
        let there = Arc::clone(&relay);
        thread::spawn(move || {
            let mut packet = [0; 65_536];
            let mut way_back = None;
            while let Ok((bytes, client)) = there.client_side.recv_from(&mut packet) {
                let packet = &packet[..bytes];
                if there.is_copied.load(Ordering::Relaxed) {
                    there.elsewhere.send_to(packet, replica).unwrap();
                }
                there.replica_side.send_to(packet, replica).unwrap();
                // Another socket of the client's asks whether anybody listens, with a byte at a time.
                if way_back.is_none() && bytes >= HANDSHAKE_BYTES_MIN {
                    let back = Arc::clone(&there);
                    way_back = Some(thread::spawn(move || back.bring_back_to(client)));
                }
            }
        });
        relay
    }

    fn bring_back_to(&self, client: SocketAddr) {
        let mut packet = [0; 65_536];
        while let Ok(bytes) = self.replica_side.recv(&mut packet) {
            self.client_side.send_to(&packet[..bytes], client).unwrap();
        }
    }

    fn address(&self) -> String {
        self.client_side.local_addr().unwrap().to_string()
    }
}

/// Otherwise whoever can listen, and is quicker, would take the connection to where he likes.
#[test]
fn a_connection_stays_where_it_was_made_from() {
    let papers = Papers::new(CLUSTER);
    let place = papers.place(1);
    let relay = Relay::to(place.transport.local_addr());
    let caller = Caller::open(&papers.client(ClientRole::Read), &relay.address());
    assert!(matches!(caller.told(), Told::Opened(..)));
    relay.is_copied.store(true, Ordering::Relaxed);
    for number in 1..=20 {
        caller.ask(number, &[]);
        assert_eq!(caller.reply().0, number);
    }
    let answered = relay.elsewhere.recv(&mut [0; 2048]);
    assert_eq!(answered.unwrap_err().kind(), ErrorKind::WouldBlock, "answered elsewhere");
}
