//! Connections: so many at a time, so many of them from one network, and none for ever.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Service;
use super::routes::{From, router};
use super::sender::is_trusted;
use crate::error::{Error, Result};
use crate::limits::network;

/// Connections at the same time, at most. The next one waits to be accepted. Half of the file descriptors that a process
/// usually has: the log and its replica need some, too.
const CONNECTIONS_MAX: usize = 512;
/// Of these from one network, at most: the next one is closed. A trusted proxy brings those of many.
const OF_ONE_NETWORK_MAX: usize = 64;
/// A connection that is as old as this ends after the request that is done then.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How long that request may still take, and its answer to be read.
const FAREWELL_MAX: Duration = Duration::from_secs(20);
/// A connection whose request has not come by then is closed; so is one that was idle for as long.
const HEADERS_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers, at most.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// After a failed accept, which may be for want of file descriptors, others get so long to end.
const REST: Duration = Duration::from_millis(50);

/// Listens.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, service: Arc<Service>) {
    let trusted = service.settings.trusted_proxy.clone();
    let (router, networks) = (router(service), Networks::default());
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let of_network = match is_trusted(from.ip(), &trusted) {
            true => None,
            false => match networks.enter(from.ip()) {
                Some(entered) => Some(entered),
                None => continue,
            },
        };
        let router = router.clone().layer(Extension(From(from)));
        tokio::spawn(async move {
            attend(stream, router, AGE_MAX, FAREWELL_MAX).await;
            drop((place, of_network));
        });
    }
}

/// How many connections each network has.
#[derive(Clone, Default)]
struct Networks {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of a network, until it is dropped.
struct Entered {
    network: IpAddr,
    networks: Networks,
}

impl Networks {
    /// Counts a connection; `None` if its network has as many as it may.
    fn enter(&self, from: IpAddr) -> Option<Entered> {
        let network = network(from);
        let mut open = self.open.lock();
        let count = open.entry(network).or_default();
        if *count >= OF_ONE_NETWORK_MAX {
            return None;
        }
        *count += 1;
        Some(Entered { network, networks: self.clone() })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = self.networks.open.lock();
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

async fn attend(stream: TcpStream, router: axum::Router, age_max: Duration, farewell_max: Duration) {
    // Small answers are not to wait for more.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // Whatever ends a connection early is its client's business.
    if tokio::time::timeout(age_max, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        // Whoever does not read the answer is not waited for.
        let _ = tokio::time::timeout(farewell_max, connection).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn one_network_cannot_have_all_connections() {
        let networks = Networks::default();
        let (host, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut all: Vec<_> = (0..OF_ONE_NETWORK_MAX).map(|_| networks.enter(host).unwrap()).collect();
        assert!(networks.enter(host).is_none());
        assert!(networks.enter(other).is_some());
        all.pop();
        all.extend(networks.enter(host));
        assert_eq!(all.len(), OF_ONE_NETWORK_MAX);
        drop(all);
        assert!(networks.open.lock().is_empty());
    }

    #[tokio::test]
    async fn whoever_does_not_read_the_answer_is_not_waited_for() {
        let large = axum::Router::new().route("/", get(|| async { vec![b'x'; 64 << 20] }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let short = Duration::from_millis(200);
        let attended = tokio::time::timeout(Duration::from_secs(20), attend(stream, large, short, short));
        assert!(attended.await.is_ok(), "it is still waited for");
        let mut begun = vec![];
        // Reset or ended in the midst: both are an end.
        let _ = client.read_to_end(&mut begun).await;
        assert!(begun.starts_with(b"HTTP/1.1 200") && begun.len() < 64 << 20);
    }
}
