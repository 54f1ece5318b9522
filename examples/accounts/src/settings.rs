//! A node's file: who it is, where it listens, and where the others are.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

use annals::protocol::FailoverPolicy;
use annals::{ClusterId, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a node is told. Paths begin at the directory that the file is in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The node's number.
    pub(crate) id: u64,
    /// The cluster's id, in hexadecimal digits.
    pub(crate) cluster: String,
    /// The replica's directory.
    pub(crate) dir: PathBuf,
    /// The certificates of who may sign.
    pub(crate) ca: PathBuf,
    /// The replica's certificate: the node asks the cluster with it too.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Who takes over when the primary is gone.
    #[serde(default)]
    pub(crate) policy: Policy,
    /// KiB of memory that a new hash of a password takes: as OWASP recommends it with two passes. Where it has changed, an
    /// account is hashed again when its user logs in.
    #[serde(default = "hash_memory_kib")]
    pub(crate) hash_memory_kib: u32,
    /// Passes over that memory.
    #[serde(default = "hash_passes")]
    pub(crate) hash_passes: u32,
    /// How long a session lasts, in seconds.
    #[serde(default = "session_s")]
    pub(crate) session_s: u64,
    /// How long a request waits for the cluster, in milliseconds.
    #[serde(default = "patience_ms")]
    pub(crate) patience_ms: u64,
    /// Whether browsers are reached over TLS only, by way of a proxy.
    #[serde(default)]
    pub(crate) secure_cookie: bool,
    /// The addresses of the proxies before this node: whom one of them names last in `X-Forwarded-For` is counted in its
    /// place. From all others the header is ignored.
    #[serde(default)]
    pub(crate) trusted_proxy: Vec<IpAddr>,
    /// All nodes, this one included.
    pub(crate) nodes: Vec<Place>,
}

/// Where a node is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Its number.
    pub(crate) id: u64,
    /// Where its replica listens, over UDP.
    pub(crate) replica: SocketAddr,
    /// Where it serves users, over TCP.
    pub(crate) http: SocketAddr,
}

/// Who takes over when the primary is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    /// Whoever notices first and has everything
    #[default]
    Automatic,
    /// As above; then the node with the lowest number that has caught up
    Priority,
    /// Nobody, until somebody says who
    Manual,
}

impl Settings {
    pub(crate) fn read(file: &Path) -> Result<Settings> {
        let text = fs::read_to_string(file).map_err(Error::path("read", file))?;
        let wrong = |reason: String| Error::Settings { file: file.to_owned(), reason };
        let mut settings: Settings = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if u128::from_str_radix(&settings.cluster, 16).is_err() {
            return Err(wrong(format!("cluster {:?} is no hexadecimal number", settings.cluster)));
        }
        if settings.place(settings.id).is_none() {
            return Err(wrong(format!("the nodes lack this one, {}: add it", name(settings.id))));
        }
        let beside = file.parent().unwrap_or(Path::new(""));
        let Settings { dir, ca, cert, key, .. } = &mut settings;
        for path in [dir, ca, cert, key] {
            *path = beside.join(&*path);
        }
        Ok(settings)
    }

    /// As a file that [`Settings::read`] reads.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are texts, numbers and lists of them")
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        ClusterId::new(u128::from_str_radix(&self.cluster, 16).unwrap_or_default())
    }

    pub(crate) fn me(&self) -> ReplicaId {
        ReplicaId::new(self.id)
    }

    pub(crate) fn place(&self, id: u64) -> Option<&Place> {
        self.nodes.iter().find(|place| place.id == id)
    }

    pub(crate) fn session(&self) -> Duration {
        Duration::from_secs(self.session_s)
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }
}

/// What people call a node.
pub(crate) fn name(id: u64) -> String {
    format!("N{id:02}")
}

impl From<Policy> for FailoverPolicy {
    fn from(policy: Policy) -> FailoverPolicy {
        match policy {
            Policy::Automatic => FailoverPolicy::Automatic,
            Policy::Priority => FailoverPolicy::Priority,
            Policy::Manual => FailoverPolicy::Manual,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::Automatic => "automatic",
            Policy::Priority => "priority",
            Policy::Manual => "manual",
        })
    }
}

// What is written into a new node's file, and holds where a file says nothing.

pub(crate) fn hash_memory_kib() -> u32 {
    19 << 10
}

pub(crate) fn hash_passes() -> u32 {
    2
}

pub(crate) fn session_s() -> u64 {
    24 * 3600
}

pub(crate) fn patience_ms() -> u64 {
    3000
}
