//! One local HTTP port: a status page for people, the same as JSON, and metrics for Prometheus.
//!
//! It has no users and no passwords, and only shows: meant for addresses that only the machine itself, or whoever
//! collects metrics, can reach.

mod exposition;
mod latency;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::overview::Overview;
use crate::report::ReplicaReport;
use latency::Histogram;

/// What is shown. Both may take a moment, and are called on threads that may wait.
pub(crate) trait Subject: Send + Sync + 'static {
    /// This replica.
    fn report(&self) -> Result<ReplicaReport, String>;

    /// The whole cluster, as far as the others answer soon.
    fn overview(&self) -> Overview;
}

/// The port, as long as it lives.
pub(crate) struct HttpPort {
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shown {
    subject: Box<dyn Subject>,
    metrics: PrometheusHandle,
}

/// What the page is drawn from.
#[derive(Serialize)]
struct PageData {
    version: &'static str,
    /// Whose port it is.
    me: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    overview: Overview,
    latency: Vec<Histogram>,
}

/// Bounds of the histograms of times: three for each power of ten, from 10 us to 10 s.
const SECONDS: [f64; 19] = [
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// Bounds of all other histograms: they count records.
const RECORDS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

/// Collects the library's metrics from now on. May be done once in a process.
pub(crate) fn collect_metrics() -> Result<PrometheusHandle> {
    let wrong = |error: metrics_exporter_prometheus::BuildError| Error::BadSetting {
        reason: format!("metrics cannot be collected: {error}"),
    };
    PrometheusBuilder::new()
        .set_buckets(&RECORDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(wrong)
}

impl HttpPort {
    /// Listens, on a thread of its own, until it is dropped.
    pub(crate) fn open(
        address: SocketAddr,
        subject: impl Subject,
        metrics: PrometheusHandle,
    ) -> Result<HttpPort> {
        let refused = |source| Error::Listen { address, purpose: "the status page", source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let (end, ended) = oneshot::channel();
        let shown = Arc::new(Shown { subject: Box::new(subject), metrics });
        let serve = move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let served = axum::serve(listener, router(shown)).with_graceful_shutdown(async {
                    // Also when the sender is dropped.
                    let _ = ended.await;
                });
                if let Err(error) = served.await {
                    tracing::warn!(%error, "the status page is not served any more");
                }
            });
            // A request that still waits for an answer is not waited for.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("http".to_owned()).spawn(serve).map_err(refused)?;
        Ok(HttpPort { address: bound, end: Some(end), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpPort {
    fn drop(&mut self) {
        drop(self.end.take());
        // Browsers keep connections open: they end with the process, and are not waited for.
        drop(self.thread.take());
    }
}

fn router(shown: Arc<Shown>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn page() -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                          connect-src 'self'; img-src data:";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, include_str!("page.html")).into_response()
}

async fn status(State(shown): State<Arc<Shown>>) -> Response {
    let data = tokio::task::spawn_blocking(move || {
        let report = shown.subject.report();
        PageData {
            version: env!("CARGO_PKG_VERSION"),
            me: report.as_ref().ok().map(|report| report.id),
            error: report.err(),
            overview: shown.subject.overview(),
            latency: latency::histograms(&shown.metrics.render()),
        }
    });
    match data.await.map(|data| serde_json::to_string(&data)) {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let text = tokio::task::spawn_blocking(move || {
        let own = shown.subject.report().map(|report| exposition::of(&report)).unwrap_or_default();
        shown.metrics.run_upkeep();
        own + &shown.metrics.render()
    });
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::overview::Seen;
    use crate::report::tests::made_up;

    struct MadeUp;

    impl Subject for MadeUp {
        fn report(&self) -> Result<ReplicaReport, String> {
            Ok(ReplicaReport::of(&made_up(2)))
        }

        fn overview(&self) -> Overview {
            let seen = |id| Seen::answered(format!("r{id}:7100"), ReplicaReport::of(&made_up(id)));
            Overview::of((1..=3).map(seen).collect())
        }
    }

    fn port() -> HttpPort {
        let handle = PrometheusBuilder::new().build_recorder().handle();
        HttpPort::open("127.0.0.1:0".parse().unwrap(), MadeUp, handle).unwrap()
    }

    fn ask(port: &HttpPort, path: &str) -> String {
        let mut stream = TcpStream::connect(port.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let port = port();
        let answer = ask(&port, "/");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("</html>"), "{answer}");
        for elsewhere in ["http://", "https://", "src=", "@import", "url("] {
            let page = include_str!("page.html").replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        assert!(ask(&port, "/other").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn the_status_is_one_json_object() {
        let answer = ask(&port(), "/status");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let data: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(data["me"], 2);
        assert_eq!(data["overview"]["primary"], 2);
        assert_eq!(data["overview"]["replicas"][2]["report"]["durable"], 700);
    }

    #[test]
    fn metrics_are_in_the_words_of_prometheus() {
        let answer = ask(&port(), "/metrics");
        assert!(answer.contains("annals_node_lsn{watermark=\"committed\"} 1200\n"), "{answer}");
        assert!(answer.contains("annals_node_peer_lag_records{peer=\"3\"} 501\n"), "{answer}");
    }

    #[test]
    fn a_port_in_use_is_told_with_what_to_do() {
        let port = port();
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let Err(error) = HttpPort::open(port.address(), MadeUp, handle) else { panic!("two on one port") };
        assert!(error.to_string().contains("status page"), "{error}");
        assert!(error.advice().unwrap().contains("another process has the port"));
    }
}
