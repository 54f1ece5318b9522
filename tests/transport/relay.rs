//! What stands between others and a replica, and does with the packets what a test wants.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use crate::place::{LONG, Place};

/// Beginnings of connections are padded to this (RFC 9000, section 14.1).
pub(crate) const FIRST_BYTES_MIN: usize = 1200;
/// Nothing else is of this size: what searches for the path's size is as large as beginnings, and the rest is small.
pub(crate) const REQUEST_BYTES: usize = 900;

/// Passes on what others and a replica say to each other. Packets that come from anywhere else are dropped.
pub(crate) struct Relay {
    outside: UdpSocket,
    inside: UdpSocket,
    /// Where a copy of what is said to the replica is sent from, before it is passed on.
    pub(crate) elsewhere: UdpSocket,
    pub(crate) is_copied: AtomicBool,
    replica: Mutex<SocketAddr>,
    /// A packet that bears a request of [`REQUEST_BYTES`], and so is of a connection that stands and goes on.
    pub(crate) request: Mutex<Option<Vec<u8>>>,
    is_over: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Relay {
    pub(crate) fn to(place: &Place) -> Arc<Relay> {
        let relay = Arc::new(Relay {
            outside: socket(),
            inside: socket(),
            elsewhere: socket(),
            is_copied: AtomicBool::new(false),
            replica: Mutex::new(place.transport.local_addr()),
            request: Mutex::default(),
            is_over: AtomicBool::new(false),
            threads: Mutex::default(),
        });
        let there = Arc::clone(&relay);
        let passing = thread::spawn(move || there.pass_in());
        relay.threads.lock().push(passing);
        relay
    }

    fn pass_in(self: Arc<Relay>) {
        let mut packet = [0; 65_536];
        let mut has_way_back = false;
        while let Some((bytes, from)) = self.next(&self.outside, &mut packet) {
            let packet = &packet[..bytes];
            // Another socket of a client's asks whether anybody listens, with a byte at a time.
            if !has_way_back && bytes >= FIRST_BYTES_MIN {
                has_way_back = true;
                let back = Arc::clone(&self);
                self.threads.lock().push(thread::spawn(move || back.pass_out(from)));
            }
            if is_short(packet) && (REQUEST_BYTES..FIRST_BYTES_MIN).contains(&bytes) {
                *self.request.lock() = Some(packet.to_owned());
            }
            let replica = *self.replica.lock();
            if self.is_copied.load(Ordering::Relaxed) {
                self.elsewhere.send_to(packet, replica).unwrap();
            }
            self.inside.send_to(packet, replica).unwrap();
        }
    }

    fn pass_out(self: Arc<Relay>, to: SocketAddr) {
        let mut packet = [0; 65_536];
        while let Some((bytes, from)) = self.next(&self.inside, &mut packet) {
            if from == *self.replica.lock() {
                self.outside.send_to(&packet[..bytes], to).unwrap();
            }
        }
    }

    fn next(&self, socket: &UdpSocket, packet: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let next = socket.recv_from(packet).ok();
        next.filter(|_| !self.is_over.load(Ordering::Relaxed))
    }

    /// Passes on to another process, as it were: the former one falls silent.
    pub(crate) fn lead_to(&self, place: &Place) {
        *self.replica.lock() = place.transport.local_addr();
    }

    /// Ends without a word to anybody, as a process does that is killed: nobody has the port any more.
    pub(crate) fn end(self: Arc<Relay>) {
        self.is_over.store(true, Ordering::Relaxed);
        for own in [&self.outside, &self.inside] {
            socket().send_to(&[0], own.local_addr().unwrap()).unwrap();
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(Arc::into_inner(self).is_some(), "somebody has it still");
    }

    pub(crate) fn address(&self) -> String {
        self.outside.local_addr().unwrap().to_string()
    }
}

pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// As packets are once a connection stands.
pub(crate) fn is_short(packet: &[u8]) -> bool {
    packet[0] & 0x80 == 0
}
