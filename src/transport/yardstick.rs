//! One stream of QUIC and nothing around it: what catch-up is measured against. And the settings of this room, for benches that
//! try others.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Endpoint, EndpointConfig, TokioRuntime, TransportConfig};
use tokio::runtime::{Builder, Runtime};

use super::certs::{Authority, Validity};
use super::error::TransportError;
use super::identity::Identity;
use super::options::TlsFiles;
use super::tls::{Proof, Speech};
use super::tuning::{self, Congestion, Tuning};
use crate::types::{ClusterId, ReplicaId};

/// The size of a write.
const CHUNK_BYTES: usize = 1 << 20;
/// What the certificates' files are called.
const STEM: &str = "yardstick";

/// Whom both ends take each other for.
const CLUSTER: ClusterId = ClusterId::new(1);
const ID: ReplicaId = ReplicaId::new(1);

/// How QUIC is set up, at both ends alike. Certificates and ciphers are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// As quinn comes, and sockets as the operating system gives them.
    Stock,
    /// With the settings of this room.
    Tuned,
}

/// The end that receives, and drops what it gets.
pub struct Sink {
    runtime: Runtime,
    endpoint: Endpoint,
}

impl Sink {
    /// Listens on the loopback, with certificates that it makes in `dir`.
    ///
    /// # Errors
    /// If there is no socket or directory for it.
    pub fn bind(setup: Setup, dir: &Path) -> Result<Sink, TransportError> {
        let authority = Authority::new(CLUSTER, Validity::days(1))?;
        let files = authority.replica(ID, Validity::days(1))?.write(dir, STEM)?;
        let proof = Proof::load(&files)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(proof.server(&files)?));
        server.transport_config(setup.transport());
        let (runtime, endpoint) = setup.endpoint(Some(server)).map_err(failed)?;
        Ok(Sink { runtime, endpoint })
    }

    /// Where it is found.
    ///
    /// # Errors
    /// If the socket does not tell.
    pub fn address(&self) -> Result<SocketAddr, TransportError> {
        self.endpoint.local_addr().map_err(failed)
    }

    /// Receives one stream to its end. Bytes received, and how long it took.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn receive(self) -> Result<(u64, Duration), TransportError> {
        self.runtime.block_on(receive(self.endpoint)).ok_or(TransportError::Lost)
    }
}

/// Has sockets and connections of this process that begin from now on do something otherwise than was chosen: one of the
/// choices that `docs/transport.md` has figures of. Whether there is such a choice, with such a value.
///
/// `congestion` is `cubic`, `new-reno` or `bbr`; `datagram` (to the same host), `window` and `socket-buffer` are bytes; `acks`
/// is packets for each acknowledgement; `offload` is `yes` or `no`.
#[must_use]
pub fn tune(choice: &str, value: &str) -> bool {
    with(tuning::tuning(), choice, value).map(|other| *tuning::OTHER.lock() = Some(other)).is_some()
}

fn with(mut tuning: Tuning, choice: &str, value: &str) -> Option<Tuning> {
    match choice {
        "congestion" => {
            tuning.congestion = match value {
                "cubic" => Congestion::Cubic,
                "new-reno" => Congestion::NewReno,
                "bbr" => Congestion::Bbr,
                _ => return None,
            }
        }
        // 1200 is the least that QUIC allows, and what UDP takes is the most.
        "datagram" => {
            let bytes = value.parse().ok().filter(|bytes| (1200..=65_507).contains(bytes));
            tuning.local_datagram_bytes = bytes?;
        }
        "offload" => tuning.has_offload = matches!(value, "yes" | "no").then_some(value == "yes")?,
        "acks" => tuning.acknowledged_after = value.parse().ok()?,
        "window" => tuning.window_bytes = value.parse().ok()?,
        "socket-buffer" => tuning.socket_buffer_bytes = value.parse().ok()?,
        _ => return None,
    }
    Some(tuning)
}

/// Sends one stream for so long to a [`Sink`] of the same setup, which has made its certificates in `dir`.
///
/// # Errors
/// If there is no socket for it, or the connection is lost.
pub fn pour(setup: Setup, lasting: Duration, dir: &Path, into: SocketAddr) -> Result<(), TransportError> {
    let file = |name: String| dir.join(name);
    let files = TlsFiles {
        ca: file("ca.pem".to_owned()),
        cert: file(format!("{STEM}.pem")),
        key: file(format!("{STEM}.key")),
    };
    let mut client = Proof::load(&files)?.client(&files, Speech::Peer)?;
    client.transport_config(setup.transport());
    let (runtime, sender) = setup.endpoint(None).map_err(failed)?;
    let name = Identity::Replica { cluster: CLUSTER, id: ID }.name();
    runtime.block_on(send(sender, client, into, name, lasting)).ok_or(TransportError::Lost)
}

/// Sends from one thread to another over loopback for so long. Bytes received, and how long it took.
///
/// # Errors
/// If there is no socket, directory or thread for it.
pub fn raw_stream(setup: Setup, lasting: Duration, dir: &Path) -> Result<(u64, Duration), TransportError> {
    let sink = Sink::bind(setup, dir)?;
    let address = sink.address()?;
    let received = std::thread::spawn(move || sink.receive());
    pour(setup, lasting, dir, address)?;
    received.join().unwrap_or(Err(TransportError::Lost))
}

impl Setup {
    fn transport(self) -> Arc<TransportConfig> {
        Arc::new(match self {
            Setup::Stock => TransportConfig::default(),
            Setup::Tuned => tuning::transport_config(true, Duration::from_secs(10), None),
        })
    }

    fn endpoint(self, server: Option<quinn::ServerConfig>) -> std::io::Result<(Runtime, Endpoint)> {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (config, socket) = match self {
            Setup::Stock => (EndpointConfig::default(), UdpSocket::bind(here)?),
            Setup::Tuned => (tuning::endpoint_config(), tuning::socket(here)?),
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let endpoint = {
            let _inside = runtime.enter();
            Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?
        };
        Ok((runtime, endpoint))
    }
}

async fn receive(endpoint: Endpoint) -> Option<(u64, Duration)> {
    let connection = endpoint.accept().await?.await.ok()?;
    let mut stream = connection.accept_uni().await.ok()?;
    let begun = Instant::now();
    let mut bytes = 0;
    let mut chunks = [const { Bytes::new() }; 32];
    while let Ok(Some(read)) = stream.read_chunks(&mut chunks).await {
        bytes += chunks[..read].iter().map(|chunk| chunk.len() as u64).sum::<u64>();
    }
    let taken = begun.elapsed();
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    Some((bytes, taken))
}

async fn send(
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    name: String,
    lasting: Duration,
) -> Option<()> {
    let connection = endpoint.connect_with(config, address, &name).ok()?.await.ok()?;
    let mut stream = connection.open_uni().await.ok()?;
    let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
    let end = Instant::now() + lasting;
    while Instant::now() < end {
        stream.write_chunk(chunk.clone()).await.ok()?;
    }
    stream.finish().ok()?;
    connection.closed().await;
    Some(())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(why: std::io::Error) -> TransportError {
    TransportError::Other { reason: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_can_be_made_otherwise_and_nothing_else_is_one() {
        for (choice, value, made) in [
            ("congestion", "cubic", "congestion: Cubic"),
            ("congestion", "new-reno", "congestion: NewReno"),
            ("congestion", "bbr", "congestion: Bbr"),
            ("datagram", "64000", "local_datagram_bytes: 64000"),
            ("offload", "no", "has_offload: false"),
            ("offload", "yes", "has_offload: true"),
            ("acks", "40", "acknowledged_after: 40"),
            ("window", "1310720", "window_bytes: 1310720"),
            ("socket-buffer", "106496", "socket_buffer_bytes: 106496"),
        ] {
            let tuning = format!("{:?}", with(tuning::tuning(), choice, value));
            assert!(tuning.contains(made), "{choice} {value}: {tuning}");
        }
        for (choice, value) in [
            ("congestion", "reno"),
            ("datagram", "1199"),
            ("datagram", "65508"),
            ("offload", ""),
            ("acks", "many"),
            ("speed", "10"),
        ] {
            assert!(with(tuning::tuning(), choice, value).is_none(), "{choice} {value}");
        }
    }
}
