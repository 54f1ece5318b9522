//! Processes of another wire version: refused by name, on both sides, and no hindrance to the others.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use tokio::runtime::{Builder, Runtime};

use crate::cluster::{Cluster, lines};
use crate::scratch::PATIENCE;

/// What a process of the next version would speak.
const NEXT: [&str; 3] = ["annals-peer/2", "annals-catch-up/2", "annals-client/2"];
/// The alert that says that nothing which was offered is spoken here (RFC 7301, as in RFC 9001, section 8.1).
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// The files of one of the cluster's certificates.
struct Papers {
    roots: rustls::RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Papers {
    fn read(dir: &Path, stem: &str) -> Papers {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_file(dir.join(format!("{stem}.pem"))).unwrap()];
        let key = PrivateKeyDer::from_pem_file(dir.join(format!("{stem}.key"))).unwrap();
        Papers { roots, chain, key }
    }

    fn client(self, alpn: &str) -> quinn::ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(self.roots)
            .with_client_auth_cert(self.chain, self.key)
            .unwrap();
        config.alpn_protocols = vec![alpn.into()];
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
    }

    fn server(self) -> quinn::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .unwrap();
        config.alpn_protocols = NEXT.map(Into::into).into();
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()))
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The domain of a cluster, which the names of its certificates end with.
fn domain(cluster: &Cluster) -> String {
    let settings = std::fs::read_to_string(cluster.scratch.path("c/replica-1.toml")).unwrap();
    let line = settings.lines().find(|line| line.starts_with("cluster")).unwrap();
    format!("{}.annals", line.split('"').nth(1).unwrap())
}

#[test]
fn whoever_speaks_the_next_version_is_refused_by_replicas_of_this_one() {
    let cluster = Cluster::start();
    let address: SocketAddr = cluster.addresses()[0].parse().unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let name = format!("replica-1.{}", domain(&cluster));
    for (alpn, stem) in NEXT.into_iter().zip(["replica-2", "replica-2", "admin-dev"]) {
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let papers = Papers::read(&cluster.scratch.path("c/certs"), stem);
        endpoint.set_default_client_config(papers.client(alpn));
        let connecting = endpoint.connect(address, &name).unwrap();
        match runtime.block_on(connecting).unwrap_err() {
            ConnectionError::ConnectionClosed(close) => {
                assert_eq!(u64::from(close.error_code), NO_APPLICATION_PROTOCOL, "{alpn}: {close}");
            }
            other => panic!("{alpn}: refused otherwise: {other}"),
        }
    }
    cluster.append(&lines("line", 10));
    cluster.wait_until_well();
}

#[test]
fn a_replica_of_the_next_version_is_named_in_the_logs_and_in_the_status_and_the_others_serve() {
    let mut cluster = Cluster::start();
    let address: SocketAddr = cluster.addresses()[2].parse().unwrap();
    cluster.kill(3);
    let runtime = runtime();
    let future = {
        let _inside = runtime.enter();
        let papers = Papers::read(&cluster.scratch.path("c/certs"), "replica-3");
        Endpoint::server(papers.server(), address).unwrap()
    };
    let accepting = future.clone();
    runtime.spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let _ = incoming.await;
        }
    });
    cluster.dev.wait_for("does not speak annals-peer/1; upgrade the older of the two");
    cluster.append(&lines("without", 50));
    let said = cluster.expect(1, "status");
    assert!(said.out.contains("does not speak annals-client/1"), "{}", said.out);

    // Downgraded, it is one of them again.
    future.close(0_u32.into(), b"");
    drop(future);
    runtime.shutdown_timeout(PATIENCE);
    let _again = cluster.start_again(3);
    cluster.dev.wait_for("connected to the peer again");
    cluster.wait_until_well();
    cluster.kill(cluster.primary_but(3));
    cluster.append(&lines("with", 50));
    assert_eq!(cluster.records(), [lines("without", 50), lines("with", 50)].concat());
}
