//! Clients of QUIC that keep to none of the rules, and whom clients of annals find who are no replica.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use annals::transport::TlsFiles;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::{Builder, Runtime};

use crate::place::CLUSTER;

/// A client of QUIC that keeps to none of the rules.
pub(crate) struct Raw {
    pub(crate) runtime: Runtime,
    pub(crate) endpoint: Endpoint,
}

impl Raw {
    /// With these files, or without a certificate of its own; it speaks what it is told to.
    pub(crate) fn new(files: &TlsFiles, has_certificate: bool, alpn: &str) -> Raw {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if has_certificate {
            let chain = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![alpn.into()];
        config.enable_early_data = true;
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut endpoint = {
            let _inside = runtime.enter();
            Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
        };
        let crypto = QuicClientConfig::try_from(config).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        Raw { runtime, endpoint }
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> Result<Connection, ConnectionError> {
        let name = format!("replica.{CLUSTER}.annals");
        self.runtime.block_on(async { self.endpoint.connect(address, &name).unwrap().await })
    }

    /// Connects, opens a stream and writes these bytes.
    pub(crate) fn say(&self, address: SocketAddr, bytes: &[u8]) -> (Connection, SendStream, RecvStream) {
        let connection = self.connect(address).unwrap();
        let (mut output, input) = self.runtime.block_on(connection.open_bi()).unwrap();
        self.runtime.block_on(output.write_all(bytes)).unwrap();
        (connection, output, input)
    }

    /// Why the other side closes the connection: the code, and what it says.
    pub(crate) fn end(&self, connection: &Connection) -> (u64, String) {
        match self.runtime.block_on(connection.closed()) {
            ConnectionError::ApplicationClosed(close) => {
                (close.error_code.into(), String::from_utf8_lossy(&close.reason).into_owned())
            }
            ConnectionError::ConnectionClosed(close) => {
                (u64::from(close.error_code), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("ended otherwise: {other}"),
        }
    }
}

/// Where a client of annals finds nothing but QUIC, and a replica's certificate.
pub(crate) struct Listener {
    pub(crate) runtime: Runtime,
    pub(crate) endpoint: Endpoint,
}

impl Listener {
    pub(crate) fn new(files: &TlsFiles, alpn: &str) -> Listener {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap())
            .unwrap();
        config.alpn_protocols = vec![alpn.into()];
        let crypto = QuicServerConfig::try_from(config).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = {
            let _inside = runtime.enter();
            let config = ServerConfig::with_crypto(Arc::new(crypto));
            Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
        };
        Listener { runtime, endpoint }
    }
}

/// The bytes before all frames of a session.
pub(crate) const GREETING: [u8; 16] = [0; 16];

/// A frame's header.
pub(crate) fn header(head_bytes: u32, payload_bytes: u32, number: u64) -> Vec<u8> {
    [&head_bytes.to_le_bytes()[..], &payload_bytes.to_le_bytes(), &number.to_le_bytes()].concat()
}
