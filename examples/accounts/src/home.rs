//! A cluster's directory: certificates, a file and a replica's directory for each node.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};

use annals::node::ReplicaOptions;
use annals::protocol::request::ClientRole;
use annals::transport::TlsFiles;
use annals::transport::certs::{Authority, Validity};
use annals::{ClusterId, ReplicaId};

use crate::error::{Error, Result};
use crate::settings::{self, Place, Policy, Settings, name};

/// The nodes of a cluster: N01 to N04.
pub(crate) const NODES: u64 = 4;
/// Days until the certificates expire.
const CERTIFICATE_DAYS: u32 = 365;
/// Where free ports are looked for: not among those that systems give to whoever connects to somewhere.
const FREE_PORTS: Range<u16> = 15_000..30_000;
/// How often they are.
const ATTEMPTS: u32 = 100;
/// The directory of the certificates.
const CERTIFICATES: &str = "certs";
/// Written last: where it is, the cluster was made as a whole.
const ADMIN: &str = "admin.pem";

/// A cluster's directory. As long as this is there, nobody else has it open.
pub struct Home {
    dir: PathBuf,
    pub(crate) nodes: Vec<Place>,
    /// Of the directory itself.
    _lock: File,
}

/// What a hash of a password costs.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs { memory_kib: settings::hash_memory_kib(), passes: settings::hash_passes() }
    }
}

impl Home {
    /// The cluster in a directory, which is made if there is none; and whether it was.
    ///
    /// # Errors
    /// If the directory holds something else, cannot be written, or is in use.
    pub fn open(dir: &Path, costs: Costs) -> Result<(Home, bool), Error> {
        fs::create_dir_all(dir).map_err(Error::path("make the directory", dir))?;
        // Other processes have other working directories, and are told of files here.
        let dir = dir.canonicalize().map_err(Error::path("look into", dir))?;
        let lock = File::open(&dir).map_err(Error::path("look into", &dir))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { dir }),
            Err(TryLockError::Error(error)) => return Err(Error::path("lock", &dir)(error)),
        }
        let is_new = !dir.join(CERTIFICATES).join(ADMIN).exists();
        if is_new {
            if fs::read_dir(&dir).map_err(Error::path("look into", &dir))?.next().is_some() {
                return Err(Error::NotEmpty { dir });
            }
            make(&dir, costs)?;
        }
        let nodes = Settings::read(&config_of(&dir, 1))?.nodes;
        Ok((Home { dir, nodes, _lock: lock }, is_new))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The node's file.
    pub(crate) fn config(&self, id: u64) -> PathBuf {
        config_of(&self.dir, id)
    }

    /// Where the node's process says what happens.
    pub(crate) fn log(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{}.log", name(id)))
    }

    /// What an operator shows to the cluster.
    pub(crate) fn admin(&self) -> TlsFiles {
        let certificates = self.dir.join(CERTIFICATES);
        TlsFiles {
            ca: certificates.join("ca.pem"),
            cert: certificates.join(ADMIN),
            key: certificates.join("admin.key"),
        }
    }
}

fn config_of(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{}.toml", name(id)))
}

fn make(dir: &Path, costs: Costs) -> Result<()> {
    let nodes = free_places()?;
    let valid = Validity::days(CERTIFICATE_DAYS);
    let certificates = dir.join(CERTIFICATES);
    let cluster = ClusterId::new(u128::from(chance(0)) << 64 | u128::from(chance(1)));
    let authority = Authority::create(&certificates, cluster, valid)?;
    for Place { id, .. } in &nodes {
        let stem = name(*id).to_lowercase();
        authority.replica(ReplicaId::new(*id), valid)?.write(&certificates, &stem)?;
        let file = |stem: &str, ending: &str| Path::new(CERTIFICATES).join(format!("{stem}.{ending}"));
        let settings = Settings {
            id: *id,
            cluster: format!("{:032x}", cluster.get()),
            dir: PathBuf::from(name(*id)),
            ca: file("ca", "pem"),
            cert: file(&stem, "pem"),
            key: file(&stem, "key"),
            policy: Policy::default(),
            hash_memory_kib: costs.memory_kib,
            hash_passes: costs.passes,
            session_s: settings::session_s(),
            patience_ms: settings::patience_ms(),
            secure_cookie: false,
            trusted_proxy: vec![],
            nodes: nodes.clone(),
        };
        let config = config_of(dir, *id);
        fs::write(&config, settings.to_toml()).map_err(Error::path("write", &config))?;
        // The lower the number, the higher the priority: N01 is preferred.
        let voters = nodes.iter().map(|place| (ReplicaId::new(place.id), (100 - place.id * 10) as u8));
        ReplicaOptions::new(ReplicaId::new(*id), dir.join(name(*id))).cluster(cluster).bootstrap(voters)?;
    }
    authority.client(ClientRole::Admin, "operator", valid)?.write(&certificates, "admin")?;
    Ok(())
}

/// Randomly keyed by the standard library: for ids and ports that differ, not for secrets.
fn chance(number: u32) -> u64 {
    RandomState::new().hash_one(number)
}

/// Four nodes at ports that are free now.
fn free_places() -> Result<Vec<Place>> {
    let ports = u64::from(FREE_PORTS.end - FREE_PORTS.start) - 2 * NODES;
    let first = |attempt| FREE_PORTS.start + u16::try_from(chance(attempt) % ports).unwrap_or_default();
    (0..ATTEMPTS).find_map(|attempt| places_from(first(attempt))).ok_or(Error::NoPorts)
}

fn places_from(first: u16) -> Option<Vec<Place>> {
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let places = (1..=NODES).zip((first..).step_by(2)).map(|(id, port)| {
        let place = Place { id, replica: at(port), http: at(port + 1) };
        let is_free = UdpSocket::bind(place.replica).is_ok() && TcpListener::bind(place.http).is_ok();
        is_free.then_some(place)
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (made, is_new) = Home::open(dir.path(), Costs::default()).unwrap();
        assert!(is_new);
        let ports = |home: &Home| home.nodes.iter().map(|place| place.http).collect::<Vec<_>>();
        let ports_made = ports(&made);
        let Err(error) = Home::open(dir.path(), Costs::default()) else { panic!("it is in use") };
        assert!(error.to_string().contains("runs the cluster in"), "{error}");
        drop(made);
        let (found, is_new) = Home::open(dir.path(), Costs::default()).unwrap();
        assert!(!is_new);
        assert_eq!(ports_made, ports(&found));
        let settings = Settings::read(&found.config(3)).unwrap();
        assert_eq!((settings.id, settings.nodes.len()), (3, 4));
        assert!(settings.dir.is_absolute() && settings.dir.exists() && settings.key.exists());
    }

    #[test]
    fn a_directory_with_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        let Err(error) = Home::open(dir.path(), Costs::default()) else { panic!("taken for a cluster") };
        assert!(error.to_string().contains("name a new directory"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n.toml");
        fs::write(&file, "idd = 1").unwrap();
        assert!(Settings::read(&file).unwrap_err().to_string().contains("idd"));
    }
}
