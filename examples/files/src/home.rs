//! A cluster's directory: which nodes there are, the certificates, and on one machine also each node's own directory.
//!
//! ```text
//! cluster.json       the cluster's id, and where each node is
//! certs/             the authority's certificate and key, and those of each node and of the client
//! N01/replica        a node's replica: its log
//! N01/store          and its store
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use annals::protocol::request::ClientRole;
use annals::transport::TlsFiles;
use annals::transport::certs::{Authority, Validity};
use annals::{ClusterId, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::operation::OperationId;

const CLUSTER: &str = "cluster.json";
/// Days until the certificates expire.
const CERTIFICATE_DAYS: u32 = 3650;
/// Where free ports are looked for: not among those that systems give to whoever connects to somewhere.
const PORTS: std::ops::Range<u16> = 15_000..30_000;
const PORT_ATTEMPTS: u32 = 200;

/// A cluster's directory.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
    layout: Layout,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    /// In hexadecimal digits.
    cluster: OperationId,
    /// Where each node listens: the log by UDP, readers by TCP, both on one port.
    nodes: BTreeMap<u64, SocketAddr>,
}

impl Home {
    /// Makes a new cluster of so many nodes, on free ports of this machine.
    ///
    /// # Errors
    /// If there is one already, or it cannot be written.
    pub fn create(dir: &Path, nodes: u64) -> Result<Home> {
        fs::create_dir_all(dir).map_err(Error::file("make the directory", dir))?;
        if dir.join(CLUSTER).exists() {
            return Err(Error::Usage(format!("{} holds a cluster already", dir.display())));
        }
        let cluster = OperationId::random().map_err(Error::file("draw a random number for", dir))?;
        let mut layout = Layout { cluster, nodes: BTreeMap::new() };
        for id in 1..=nodes {
            layout.nodes.insert(id, free_port(layout.nodes.values())?);
        }
        let home = Home { dir: dir.to_owned(), layout };
        let authority = Authority::create(&home.certs(), home.cluster(), Validity::days(CERTIFICATE_DAYS))?;
        for id in home.layout.nodes.keys() {
            home.certify(&authority, *id)?;
        }
        let client = authority.client(ClientRole::Admin, "files", Validity::days(CERTIFICATE_DAYS))?;
        client.write(&home.certs(), "client")?;
        home.save()?;
        Ok(home)
    }

    /// Opens a cluster's directory.
    ///
    /// # Errors
    /// If there is none, or it makes no sense.
    pub fn open(dir: &Path) -> Result<Home> {
        let path = dir.join(CLUSTER);
        let text = fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Usage(format!(
                "{} holds no cluster: name its directory with --home, or make one with create",
                dir.display()
            )),
            _ => Error::file("read", &path)(source),
        })?;
        let layout = serde_json::from_slice(&text)
            .map_err(|error| Error::Usage(format!("{} makes no sense: {error}", path.display())))?;
        Ok(Home { dir: dir.to_owned(), layout })
    }

    /// Adds a node, with a certificate of its own. Nothing changes if it is known.
    ///
    /// # Errors
    /// If there is no authority's key here, or it cannot be written.
    pub fn add(&mut self, node: u64) -> Result<()> {
        if self.layout.nodes.contains_key(&node) {
            return Ok(());
        }
        self.certify(&Authority::open(&self.certs())?, node)?;
        self.layout.nodes.insert(node, free_port(self.layout.nodes.values())?);
        self.save()
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        ClusterId::new(self.layout.cluster.get())
    }

    /// Where the directory is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All nodes, and where they are.
    pub fn nodes(&self) -> impl Iterator<Item = (u64, SocketAddr)> {
        self.layout.nodes.iter().map(|(node, address)| (*node, *address))
    }

    /// Where a node is.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn address(&self, node: u64) -> Result<SocketAddr> {
        let unknown = || Error::Usage(format!("the cluster in {} has no node {node}", self.dir.display()));
        self.layout.nodes.get(&node).copied().ok_or_else(unknown)
    }

    /// A node's own directory.
    #[must_use]
    pub fn node_dir(&self, node: u64) -> PathBuf {
        self.dir.join(name(node))
    }

    /// A node's certificate.
    #[must_use]
    pub fn node_files(&self, node: u64) -> TlsFiles {
        self.files(&name(node))
    }

    /// The certificate of those who put and get.
    #[must_use]
    pub fn client_files(&self) -> TlsFiles {
        self.files("client")
    }

    fn files(&self, stem: &str) -> TlsFiles {
        let certs = self.certs();
        TlsFiles {
            ca: certs.join("ca.pem"),
            cert: certs.join(format!("{stem}.pem")),
            key: certs.join(format!("{stem}.key")),
        }
    }

    fn certs(&self) -> PathBuf {
        self.dir.join("certs")
    }

    fn certify(&self, authority: &Authority, node: u64) -> Result<()> {
        let issued = authority.replica(ReplicaId::new(node), Validity::days(CERTIFICATE_DAYS))?;
        issued.write(&self.certs(), &name(node))?;
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let path = self.dir.join(CLUSTER);
        let text = serde_json::to_vec_pretty(&self.layout).expect("a layout is strings and numbers");
        let staged = path.with_extension("new");
        let written = fs::write(&staged, text).and_then(|()| fs::rename(&staged, &path));
        written.map_err(Error::file("write", &path))
    }
}

/// What people call a node, and its directory.
#[must_use]
pub fn name(node: u64) -> String {
    format!("N{node:02}")
}

/// A port of this machine that is free by UDP and TCP.
fn free_port<'a>(taken: impl Iterator<Item = &'a SocketAddr>) -> Result<SocketAddr> {
    let taken: Vec<u16> = taken.map(SocketAddr::port).collect();
    for attempt in 0..PORT_ATTEMPTS {
        let random = RandomState::new().hash_one(attempt) % u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random).expect("within the range");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let is_free = UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
        if is_free && !taken.contains(&port) {
            return Ok(address);
        }
    }
    Err(Error::Usage(format!("no port from {} to {} is free", PORTS.start, PORTS.end)))
}
