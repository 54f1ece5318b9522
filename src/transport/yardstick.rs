//! One stream of QUIC with the settings of this room and nothing around it: what catch-up is measured against.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Endpoint, TokioRuntime};
use tokio::runtime::{Builder, Runtime};

use super::certs::{Authority, Validity};
use super::error::TransportError;
use super::identity::Identity;
use super::tls::{Proof, Speech};
use super::tuning;
use crate::types::{ClusterId, ReplicaId};

/// The size of a write.
const CHUNK_BYTES: usize = 1 << 20;

/// Sends from one thread to another over loopback for so long. Bytes received, and how long it took.
///
/// # Errors
/// If there is no socket, directory or thread for it.
pub fn raw_stream(lasting: Duration, dir: &std::path::Path) -> Result<(u64, Duration), TransportError> {
    let (cluster, id) = (ClusterId::new(1), ReplicaId::new(1));
    let authority = Authority::new(cluster, Validity::days(1))?;
    let files = authority.replica(id, Validity::days(1))?.write(dir, "yardstick")?;
    let proof = Proof::load(&files)?;
    let idle_max = Duration::from_secs(10);
    let config = || Arc::new(tuning::transport_config(true, idle_max, None));
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(proof.server(&files)?));
    server.transport_config(config());
    let mut client = proof.client(&files, Speech::Peer)?;
    client.transport_config(config());

    let (receiving, receiver) = endpoint(Some(server)).map_err(failed)?;
    let address = receiver.local_addr().map_err(failed)?;
    let counted = std::thread::spawn(move || receiving.block_on(receive(receiver)));
    let (sending, sender) = endpoint(None).map_err(failed)?;
    let name = Identity::Replica { cluster, id }.name();
    sending.block_on(send(sender, client, address, name, lasting)).ok_or(TransportError::Lost)?;
    counted.join().ok().flatten().ok_or(TransportError::Lost)
}

fn endpoint(server: Option<quinn::ServerConfig>) -> std::io::Result<(Runtime, Endpoint)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let socket = tuning::socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let endpoint = {
        let _inside = runtime.enter();
        Endpoint::new(tuning::endpoint_config(), server, socket, Arc::new(TokioRuntime))?
    };
    Ok((runtime, endpoint))
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
