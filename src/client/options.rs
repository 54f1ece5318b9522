//! How a client is made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Client;
use super::error::{ClientError, Result};
use super::machine::Settings;
use super::network::{Network, Quic};
use crate::protocol::request::RECORDS_MAX;
use crate::transport::TlsFiles;

/// How a client finds its cluster, proves who it is, and how patient it is.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = alone(|options| options)?;
/// # let (address, files) = (&cluster.address, &cluster.client);
/// use annals::client::ClientOptions;
/// use std::time::Duration;
///
/// let client = ClientOptions::new([address])
///     .certificates(&files.ca, &files.cert, &files.key)
///     .deadline(Duration::from_secs(5)) // for each request, all attempts together
///     .in_flight_bytes_max(1 << 20)
///     .connect()?;
/// # Ok(client.close()?)
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `connect`"]
pub struct ClientOptions {
    endpoints: Vec<Arc<str>>,
    tls: Option<TlsFiles>,
    settings: Settings,
}

impl ClientOptions {
    /// A client of the cluster whose replicas are found at these addresses, each `host:port`. One that answers is enough:
    /// it tells of the others.
    pub fn new<T: AsRef<str>>(endpoints: impl IntoIterator<Item = T>) -> ClientOptions {
        let endpoints = endpoints.into_iter().map(|endpoint| endpoint.as_ref().into()).collect();
        ClientOptions { endpoints, tls: None, settings: Settings::default() }
    }

    /// The PEM files of the authority that signs the cluster's certificates, of the client's own certificate, and of its
    /// key. The certificate's name says what the client may do. They are read when the client is made, and again by
    /// [`reload_certificates`](Client::reload_certificates).
    pub fn certificates(
        mut self,
        ca: impl Into<PathBuf>,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> ClientOptions {
        self.tls = Some(TlsFiles { ca: ca.into(), cert: cert.into(), key: key.into() });
        self
    }

    /// How long a request may take, whatever happens to the cluster meanwhile; 30 s by default. After it an error says
    /// whether it was not done, or whether nobody knows. A year is as long as it gets.
    pub fn deadline(mut self, deadline: Duration) -> ClientOptions {
        self.settings.deadline = deadline.min(DEADLINE_MAX);
        self
    }

    /// Bytes of appends that may be in flight, 64 MiB by default; a record counts 32 more than it has. Past it `append`
    /// waits, `append_async` is awaited, and `try_append` says so.
    pub fn in_flight_bytes_max(mut self, bytes: u64) -> ClientOptions {
        self.settings.in_flight_bytes_max = bytes;
        self
    }

    /// Append requests that may be in flight, 8 by default. Meanwhile appends gather, and go together in the next. A cluster
    /// remembers the places of a producer's newest 8 requests: with more, a receipt after a failover may not know its own.
    pub fn depth(mut self, depth: usize) -> ClientOptions {
        self.settings.depth = depth;
        self
    }

    /// While so many append requests are in flight, the next one goes only once it is half full, 1 by default: what many
    /// threads append meanwhile goes together. More is quicker where few append and the network is far; fewer requests
    /// cost the cluster less.
    pub fn depth_eager(mut self, depth: usize) -> ClientOptions {
        self.settings.depth_eager = depth;
        self
    }

    /// Bytes of records that go together in one request, 128 KiB by default. A larger record goes alone.
    pub fn gather_bytes(mut self, bytes: usize) -> ClientOptions {
        self.settings.unit_bytes = bytes;
        self
    }

    /// A primary that does not answer for so long, 40 ms by default, makes the client ask the other replicas whether there
    /// is a newer one. It costs them little, and a request is sent again only if there is. A year is as long as it gets.
    pub fn suspect_after(mut self, silence: Duration) -> ClientOptions {
        self.settings.suspect_after = silence.min(DEADLINE_MAX);
        self
    }

    /// Makes the client. Connects only once there is something to ask.
    ///
    /// # Errors
    /// If an option is missing or cannot work, or the certificates cannot be used.
    pub fn connect(&self) -> Result<Client> {
        let missing = "the certificates are missing: name them with `certificates`";
        let tls = self.tls.as_ref().ok_or_else(|| ClientError::Network { reason: missing.into() })?;
        self.check()?;
        self.connect_over(Arc::new(Quic::load(tls)?))
    }

    pub(super) fn connect_over(&self, network: Arc<dyn Network>) -> Result<Client> {
        self.check()?;
        Ok(Client::start(self.settings.clone(), &self.endpoints, network))
    }

    fn check(&self) -> Result<()> {
        let Settings { deadline, in_flight_bytes_max, depth, depth_eager, unit_bytes, .. } = self.settings;
        let empty = [
            ("deadline", deadline.is_zero()),
            ("in_flight_bytes_max", in_flight_bytes_max == 0),
            ("depth", depth == 0),
            ("depth_eager", depth_eager == 0),
            ("gather_bytes", unit_bytes == 0),
        ];
        if let Some((option, _)) = empty.into_iter().find(|(_, is_empty)| *is_empty) {
            return Err(ClientError::BadOption { option });
        }
        if self.endpoints.is_empty() {
            return Err(ClientError::BadEndpoint { address: "".into() });
        }
        let has_port = |address: &str| {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            matches!(port, Some(Ok(1..)))
        };
        match self.endpoints.iter().find(|address| !has_port(address)) {
            Some(address) => Err(ClientError::BadEndpoint { address: Arc::clone(address) }),
            None => Ok(()),
        }
    }
}

/// The longest time that anything is waited for: there is always a moment after it.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Records that one batch may have.
pub(super) const BATCH_RECORDS_MAX: usize = RECORDS_MAX;
