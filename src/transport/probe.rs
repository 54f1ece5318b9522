//! Asking the kernel of a live host whether a process there still listens.
//!
//! QUIC over UDP gets no reset when the other process dies. But a datagram to a port that nobody listens at is answered
//! by the host with an ICMP error, which the kernel hands to a *connected* socket, and to no other. Once another process of
//! the same replica listens there, that one speaks for itself: see `reset.rs`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// No packet of QUIC is so short: whoever listens drops it unread.
const NOTHING: [u8; 1] = [0];

/// A socket that is connected to one address.
#[derive(Debug)]
pub(crate) struct Probe {
    socket: UdpSocket,
}

impl Probe {
    pub(crate) fn new(there: SocketAddr) -> io::Result<Probe> {
        let any: SocketAddr = match there {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(there)?;
        socket.set_nonblocking(true)?;
        Ok(Probe { socket })
    }

    /// Asks, and says whether it is known by now that nobody listens there: on the same host at once, else when the
    /// answer to an earlier question has come.
    pub(crate) fn is_refused(&self) -> bool {
        let refused = |result: io::Result<usize>| {
            result.is_err_and(|why| why.kind() == io::ErrorKind::ConnectionRefused)
        };
        refused(self.socket.send(&NOTHING)) || refused(self.socket.recv(&mut [0; 8]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_closed_is_told_at_once_on_the_same_host() {
        let listener = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let probe = Probe::new(listener.local_addr().unwrap()).unwrap();
        assert!(!probe.is_refused());
        drop(listener);
        assert!(probe.is_refused());
    }
}
