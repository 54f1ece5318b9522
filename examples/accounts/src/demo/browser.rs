//! A client of the HTTP port, as a program of a user would have it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::error::Error;

/// A request that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(15);
/// How long one is sent again that the cluster cannot do.
const PATIENCE: Duration = Duration::from_secs(30);
/// The bytes of an answer, at most: the page is the largest.
const BYTES_MAX: usize = 1 << 20;

/// Asks nodes.
#[derive(Clone)]
pub struct Browser {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What a node has answered.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The value of `Retry-After`, in seconds.
    pub retry_after_s: Option<u64>,
    /// The cookie that it sets.
    pub cookie: Option<String>,
    /// The body, if it is JSON; else `null`.
    pub json: Value,
    /// The body.
    pub text: String,
}

/// A request that is put together.
#[derive(Clone)]
pub struct Ask {
    address: SocketAddr,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Browser {
    /// A new one. It keeps no connections: whoever is asked may be killed in between.
    #[must_use]
    pub fn new() -> Browser {
        Browser { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http() }
    }

    /// Sends it, and waits for the answer.
    ///
    /// # Errors
    /// If there is none.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Error> {
        let address = ask.address;
        let failed = |reason: String| Error::Http { address, reason };
        let mut request = Request::builder().method(ask.method).uri(format!("http://{address}{}", ask.path));
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::from(ask.body)).map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| failed(root_of(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BYTES_MAX).collect().await;
            let bytes = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            Ok::<_, Error>((head, bytes))
        };
        let (head, bytes) = tokio::time::timeout(TIME_MAX, exchange)
            .await
            .map_err(|_| failed("it takes too long".to_owned()))??;
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let cookie = header(header::SET_COOKIE).and_then(|cookie| cookie.split(';').next());
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after_s: header(header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok()),
            cookie: cookie.map(str::to_owned),
            json: serde_json::from_slice(&bytes).unwrap_or_default(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }
}

impl Browser {
    /// Sends it, and sends it again as long as the cluster cannot do it now: as a program of a user should, with the same
    /// request number.
    ///
    /// # Errors
    /// If there is no answer, or no other in time.
    pub async fn send_patiently(&self, ask: Ask) -> Result<Answer, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.send(ask.clone()).await?;
            if answer.status != 503 || Instant::now() > deadline {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_secs(answer.retry_after_s.unwrap_or(1))).await;
        }
    }
}

impl Default for Browser {
    fn default() -> Browser {
        Browser::new()
    }
}

impl Ask {
    /// To look at something.
    #[must_use]
    pub fn get(address: SocketAddr, path: &str) -> Ask {
        Ask { address, method: Method::GET, path: path.to_owned(), headers: vec![], body: String::new() }
    }

    /// To have something done.
    #[must_use]
    pub fn post(address: SocketAddr, path: &str, body: &Value) -> Ask {
        let ask = Ask { method: Method::POST, body: body.to_string(), ..Ask::get(address, path) };
        ask.header("content-type", "application/json")
    }

    /// With another body, whatever it is.
    #[must_use]
    pub fn body(mut self, body: &str) -> Ask {
        self.body = body.to_owned();
        self
    }

    /// With a header; it takes the place of one of the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a session.
    #[must_use]
    pub fn session(self, token: &str) -> Ask {
        self.header("authorization", &format!("Bearer {token}"))
    }
}

/// What lies at the bottom of an error.
fn root_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_of)
}
