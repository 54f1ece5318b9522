//! A node in the real world: QUIC is its place.

use std::fmt::Display;
use std::net::SocketAddr;

use parking_lot::Mutex;

use super::error::{ReplicaError, Result};
use super::options::{Certificates, ReplicaOptions};
use super::place::{Bell, Place, Running};
use crate::transport::{Actor, Bound, TlsFiles, Transport, TransportOptions};

/// A bound socket, for a node that is about to run.
struct Socket {
    bound: Bound,
}

/// A node that runs over QUIC. `None` once it has ended.
struct Afloat {
    address: SocketAddr,
    transport: Mutex<Option<Transport>>,
}

/// Opens the socket, and reads the certificates.
pub(crate) fn place(options: &ReplicaOptions) -> Result<Box<dyn Place>> {
    let bound = Transport::bind(wanted(options)?).map_err(failed)?;
    Ok(Box::new(Socket { bound }))
}

/// What the transport is told.
fn wanted(options: &ReplicaOptions) -> Result<TransportOptions> {
    let listen = options.listen.ok_or(ReplicaError::Missing { option: "listen" })?;
    let files = options.certificates.clone().ok_or(ReplicaError::Missing { option: "certificates" })?;
    let Certificates { ca, cert, key } = files;
    let tls = TlsFiles { ca, cert, key };
    let mut wanted = TransportOptions::new(listen, options.id, options.known_cluster()?, tls);
    wanted.advertise.clone_from(&options.advertise);
    wanted.limits = options.transport;
    Ok(wanted)
}

impl Place for Socket {
    fn bell(&self) -> Bell {
        let bell = self.bound.bell();
        Bell::new(move || bell.ring())
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.bound.local_addr())
    }

    fn begin(self: Box<Self>, actor: Box<dyn Actor>) -> Result<Box<dyn Running>> {
        let address = self.bound.local_addr();
        let transport = Mutex::new(Some(self.bound.start(actor).map_err(failed)?));
        Ok(Box::new(Afloat { address, transport }))
    }
}

impl Running for Afloat {
    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn reload_certificates(&self) -> Result<()> {
        match &*self.transport.lock() {
            Some(transport) => transport.reload_certificates().map_err(failed),
            None => Err(ReplicaError::Closed),
        }
    }

    fn end(&self) {
        if let Some(transport) = self.transport.lock().take() {
            transport.shutdown();
        }
    }
}

fn failed(error: impl Display) -> ReplicaError {
    ReplicaError::Network { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::TransportLimits;
    use crate::types::{ClusterId, ReplicaId};

    #[test]
    fn the_transport_is_told_the_limits_of_the_options() {
        let limits = TransportLimits { sessions_max: 7, handshakes_max: 8, ..TransportLimits::default() };
        let options = ReplicaOptions::new(ReplicaId::new(1), "data")
            .cluster(ClusterId::new(2))
            .listen("127.0.0.1:0".parse().unwrap())
            .certificates("ca.pem", "replica.pem", "replica.key");
        assert_eq!(wanted(&options).unwrap().limits, TransportLimits::default());
        assert_eq!(wanted(&options.transport_limits(limits)).unwrap().limits, limits);
    }
}
