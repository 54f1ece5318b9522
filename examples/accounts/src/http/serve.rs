//! Connections: so many at a time, and none for ever.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use super::Service;
use super::crowd::Crowd;
use super::routes::{Peer, router};
use super::sender::is_trusted;
use crate::error::{Error, Result};
use crate::limits::network;

/// Connections at the same time, at most. Half of the file descriptors that a process usually has: the log and its replica
/// need some, too.
const CONNECTIONS_MAX: usize = 512;
/// Of these from one network, at most: the next one is closed. A trusted proxy brings those of many, and its own wait for
/// each other.
const OF_ONE_NETWORK_MAX: usize = 64;
/// What holds for each connection.
const PATIENCE: Patience = Patience {
    headers_max: Duration::from_secs(10),
    age_max: Duration::from_secs(60),
    farewell_max: Duration::from_secs(20),
};
/// Bytes of a request's line and headers, at most.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// After a failed accept, which may be for want of file descriptors, others get so long to end.
const REST: Duration = Duration::from_millis(50);

/// How long a connection is waited for.
#[derive(Clone, Copy)]
struct Patience {
    /// Closed is one whose request has not come by then, and one that was idle for as long.
    headers_max: Duration,
    /// One that is as old as this ends after the request that is done then.
    age_max: Duration,
    /// How long that request may still take, and its answer to be read.
    farewell_max: Duration,
}

/// Listens.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, service: Arc<Service>) {
    let trusted = service.settings.trusted_proxy.clone();
    let (router, crowd) = (router(service), Crowd::new(CONNECTIONS_MAX, OF_ONE_NETWORK_MAX));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let place = match is_trusted(from.ip(), &trusted) {
            true => Some(crowd.enter_uncounted().await),
            false => crowd.enter(network(from.ip())),
        };
        let Some(mut place) = place else { continue };
        let router = router.clone().layer(Extension(Peer(from)));
        tokio::spawn(async move {
            tokio::select! {
                () = attend(stream, router, PATIENCE) => {}
                // In the midst of a request, too: its client asks again, with the same request number.
                () = place.lost() => {}
            }
        });
    }
}

async fn attend(stream: TcpStream, router: axum::Router, patience: Patience) {
    // Small answers are not to wait for more.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.headers_max)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // Whatever ends a connection early is its client's business.
    if tokio::time::timeout(patience.age_max, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        // Whoever does not read the answer is not waited for.
        let _ = tokio::time::timeout(patience.farewell_max, connection).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);

    /// A connection that is attended to, until its end.
    async fn connection(patience: Patience) -> (TcpStream, impl Future<Output = ()>) {
        let large = get(|| async { vec![b'x'; 64 << 20] });
        let router = axum::Router::new().route("/", get(|| async { "hello" })).route("/large", large);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let attended = tokio::time::timeout(LONG / 2, attend(stream, router, patience));
        (client, async move { attended.await.expect("it is still waited for") })
    }

    #[tokio::test]
    async fn a_slow_request_and_an_idle_connection_are_not_waited_for() {
        let patience = Patience { headers_max: SHORT, age_max: LONG, farewell_max: LONG };
        for sent in ["", "GET / HTTP/1.1\r\nhost", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let (mut client, attended) = connection(patience).await;
            client.write_all(sent.as_bytes()).await.unwrap();
            attended.await;
            let mut answer = vec![];
            let _ = client.read_to_end(&mut answer).await;
            assert_eq!(answer.ends_with(b"hello"), sent.ends_with("\r\n\r\n"), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn whoever_does_not_read_the_answer_is_not_waited_for() {
        let (mut client, attended) =
            connection(Patience { headers_max: LONG, age_max: SHORT, farewell_max: SHORT }).await;
        client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        attended.await;
        let mut begun = vec![];
        // Reset or ended in the midst: both are an end.
        let _ = client.read_to_end(&mut begun).await;
        assert!(begun.starts_with(b"HTTP/1.1 200") && begun.len() < 64 << 20);
    }
}
