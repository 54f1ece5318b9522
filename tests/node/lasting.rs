//! QUIC as a place whose connections last while nobody has the time to say anything: the options of a replica say nothing
//! of that.

use std::net::SocketAddr;
use std::sync::Mutex;

use annals::node::{Bell, Place, ReplicaError, Running};
use annals::transport::{Actor, Bound, Transport, TransportOptions, TransportTiming};

use crate::net::PATIENCE;

struct Socket(Bound);

/// `None` once it has ended.
struct Afloat {
    address: SocketAddr,
    transport: Mutex<Option<Transport>>,
}

pub(crate) fn place(mut options: TransportOptions) -> Box<dyn Place> {
    options.timing =
        TransportTiming { idle_max: PATIENCE, handshake_max: PATIENCE, ..TransportTiming::default() };
    Box::new(Socket(Transport::bind(options).expect("a socket")))
}

impl Place for Socket {
    fn bell(&self) -> Bell {
        let bell = self.0.bell();
        Bell::new(move || bell.ring())
    }

    fn begin(self: Box<Self>, actor: Box<dyn Actor>) -> Result<Box<dyn Running>, ReplicaError> {
        let address = self.0.local_addr();
        let transport = Mutex::new(Some(self.0.start(actor).expect("a thread")));
        Ok(Box::new(Afloat { address, transport }))
    }
}

impl Running for Afloat {
    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn end(&self) {
        if let Some(transport) = self.transport.lock().expect("nobody panics with it").take() {
            transport.shutdown();
        }
    }
}
