//! TLS 1.3 with certificates on both sides, from files, and what its refusals mean.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::close::CloseCode;
use super::error::{CertificateFault, TransportError, Whose};
use super::expiry;
use super::identity::Identity;
use super::options::TlsFiles;
use super::reset::ResetKeys;
use crate::types::ClusterId;

/// What is spoken on a connection. The number is the wire's version: [`crate::protocol::wire::VERSION`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Speech {
    /// Control and bulk between two replicas.
    Peer,
    /// What a laggard needs, one way.
    CatchUp,
    /// Requests and replies.
    Client,
}

impl Speech {
    pub(crate) const ALL: [Speech; 3] = [Speech::Peer, Speech::CatchUp, Speech::Client];

    /// As it is called in the handshake.
    pub(crate) const fn alpn(self) -> &'static str {
        match self {
            Speech::Peer => "annals-peer/1",
            Speech::CatchUp => "annals-catch-up/1",
            Speech::Client => "annals-client/1",
        }
    }

    fn of_alpn(name: &[u8]) -> Option<Speech> {
        Speech::ALL.into_iter().find(|speech| speech.alpn().as_bytes() == name)
    }
}

/// Where the codes for alerts of TLS begin in QUIC (RFC 9001, section 4.8): there are 256.
const ALERTS: u64 = 0x100;

// The names above end with the wire's version.
const _: () = assert!(crate::protocol::wire::VERSION == 1);

/// What a process proves its identity with, loaded and checked.
#[derive(Debug)]
pub(crate) struct Proof {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Whom the certificate is for.
    pub(crate) identity: Identity,
    /// When it ends, if that can be read.
    pub(crate) end: Option<SystemTime>,
}

impl Proof {
    /// Reads the files.
    pub(crate) fn load(files: &TlsFiles) -> Result<Proof, TransportError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&files.ca)? {
            roots.add(root).map_err(|why| bad(&files.ca, &why.to_string()))?;
        }
        let chain = certificates(&files.cert)?;
        let identity = chain.first().and_then(identity_of).ok_or_else(|| {
            bad(&files.cert, "its DNS names say of no replica or client; make one with the tools of annals")
        })?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|why| unreadable(&files.key, why))?;
        let end = expiry::end_of(&chain);
        Ok(Proof { roots: Arc::new(roots), chain, key, identity, end })
    }

    /// By which a replica is known again when its process is another one.
    pub(crate) fn reset_keys(&self) -> ResetKeys {
        ResetKeys::derive(self.key.secret_der(), &self.identity)
    }

    /// What a replica accepts connections with.
    pub(crate) fn server(&self, files: &TlsFiles) -> Result<QuicServerConfig, TransportError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::new(provider()))
                .build()
                .map_err(|why| bad(&files.ca, &why.to_string()))?;
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|why| bad(&files.cert, &why.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|why| bad(&files.key, &why.to_string()))?;
        config.alpn_protocols = Speech::ALL.iter().map(|speech| speech.alpn().into()).collect();
        // No resumption, and so no 0-RTT, whose data may be replayed: each connection is judged by the certificates and
        // authorities of its own time.
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        QuicServerConfig::try_from(config).map_err(|why| bad(&files.cert, &why.to_string()))
    }

    /// What connections are dialed with.
    pub(crate) fn client(
        &self,
        files: &TlsFiles,
        speech: Speech,
    ) -> Result<quinn::ClientConfig, TransportError> {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|why| bad(&files.cert, &why.to_string()))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|why| bad(&files.key, &why.to_string()))?;
        config.alpn_protocols = vec![speech.alpn().into()];
        config.enable_early_data = false;
        config.resumption = rustls::client::Resumption::disabled();
        let crypto = QuicClientConfig::try_from(config).map_err(|why| bad(&files.cert, &why.to_string()))?;
        Ok(quinn::ClientConfig::new(Arc::new(crypto)))
    }
}

/// AES-128 first: as safe here, and faster than the default's 256 (see `docs/transport.md`).
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    provider
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let read = CertificateDer::pem_file_iter(file).map_err(|why| unreadable(file, why))?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(|why| unreadable(file, why))?;
    if all.is_empty() { Err(bad(file, "there is no certificate in it")) } else { Ok(all) }
}

/// Whom a certificate is for, by its names. Whether it is to be trusted is another question.
pub(crate) fn identity_of(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    Identity::of_names(parsed.valid_dns_names())
}

/// The name in an authority's own certificate.
pub(crate) fn authority_name(cluster: ClusterId) -> String {
    format!("authority.{cluster}.annals")
}

/// The cluster that an authority's certificate says it is of.
pub(crate) fn authority_cluster(file: &Path) -> Result<Option<ClusterId>, TransportError> {
    let all = certificates(file)?;
    let parsed = webpki::EndEntityCert::try_from(&all[0]).map_err(|why| bad(file, &why.to_string()))?;
    let of_name = |name: &str| {
        let label = name.strip_prefix("authority.")?.strip_suffix(".annals")?;
        u128::from_str_radix(label, 16).ok().map(ClusterId::new)
    };
    Ok(parsed.valid_dns_names().find_map(of_name))
}

/// Who is at the other end of a connection, and what is spoken on it. The handshake has checked the certificate.
pub(crate) fn other_side(connection: &Connection) -> Option<(Identity, Speech)> {
    let certificates = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let handshake = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    let speech = Speech::of_alpn(&handshake.protocol?)?;
    Some((identity_of(certificates.first()?)?, speech))
}

/// What the end of a connection, or of an attempt, means.
pub(crate) fn explain(error: &ConnectionError, address: &str, speech: Speech) -> TransportError {
    match error {
        ConnectionError::TransportError(ours) => {
            of_alert(ours.code.into(), Whose::Theirs, speech, &ours.reason)
                .unwrap_or_else(|| TransportError::Other { reason: error.to_string() })
        }
        ConnectionError::ConnectionClosed(theirs) => {
            let reason = String::from_utf8_lossy(&theirs.reason);
            of_alert(theirs.error_code.into(), Whose::Ours, speech, &reason)
                .unwrap_or_else(|| TransportError::Other { reason: error.to_string() })
        }
        ConnectionError::ApplicationClosed(close) => CloseCode::explain(close.error_code.into()),
        ConnectionError::VersionMismatch => TransportError::WireVersion { offered: speech.alpn() },
        ConnectionError::TimedOut => TransportError::Unreachable { address: address.to_owned() },
        ConnectionError::LocallyClosed => TransportError::Closed,
        ConnectionError::Reset => TransportError::Lost,
        ConnectionError::CidsExhausted => TransportError::Other { reason: error.to_string() },
    }
}

/// Whether the end of an attempt is about who the two sides are, or what they speak: any other attempt would end so.
pub(crate) fn is_verdict(error: &ConnectionError) -> bool {
    let is_alert = |code: u64| (ALERTS..ALERTS + 0x100).contains(&code);
    match error {
        ConnectionError::TransportError(ours) => is_alert(ours.code.into()),
        ConnectionError::ConnectionClosed(theirs) => is_alert(theirs.error_code.into()),
        ConnectionError::ApplicationClosed(close) => {
            matches!(CloseCode::explain(close.error_code.into()), TransportError::Certificate { .. })
        }
        ConnectionError::VersionMismatch => true,
        ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::Reset
        | ConnectionError::CidsExhausted => false,
    }
}

/// Alerts of TLS (RFC 8446, section 6), as they travel in QUIC (RFC 9001, section 4.8), and a refusal of QUIC's own.
fn of_alert(code: u64, whose: Whose, speech: Speech, reason: &str) -> Option<TransportError> {
    const CONNECTION_REFUSED: u64 = 2;
    let fault = match code.checked_sub(ALERTS) {
        None if code == CONNECTION_REFUSED => return Some(TransportError::TooMany),
        Some(45) => CertificateFault::Expired,
        // Unknown authority; or one of the same name with another key.
        Some(48 | 51) => CertificateFault::Foreign,
        Some(116) => CertificateFault::Missing,
        // "Bad certificate" is also what a good one in another name is called.
        Some(42) if whose == Whose::Ours || reason.contains("name") => CertificateFault::WrongName,
        Some(43) => CertificateFault::WrongName,
        Some(42 | 44 | 46 | 49) => CertificateFault::Broken,
        Some(120) => return Some(TransportError::WireVersion { offered: speech.alpn() }),
        _ => return None,
    };
    Some(TransportError::Certificate { whose, fault })
}

fn unreadable(file: &Path, why: pem::Error) -> TransportError {
    match why {
        pem::Error::Io(source) => {
            TransportError::File { doing: "read", file: file.to_owned(), source: Arc::new(source) }
        }
        pem::Error::NoItemsFound => bad(file, "it holds nothing of the kind in PEM"),
        other => bad(file, &other.to_string()),
    }
}

fn bad(file: &Path, reason: &str) -> TransportError {
    TransportError::BadFile { file: file.to_owned(), reason: reason.to_owned() }
}
