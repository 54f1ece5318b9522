//! The directory of a development cluster: certificates, configurations, and a directory for each replica.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};

use annals::ReplicaId;
use annals::transport::TlsFiles;

use crate::address::{Cluster, Peer};
use crate::certs;
use crate::cli::DevArgs;
use crate::create;
use crate::error::{Error, Result};
use crate::settings::{ClientSettings, LogFormat, Policy, ReplicaSettings};

/// Written last: where it is, the cluster was made as a whole.
const CLIENT: &str = "client.toml";
/// Days until the certificates expire.
const CERTIFICATE_DAYS: u32 = 3650;
/// Where free ports are looked for.
const FREE_PORTS: Range<u16> = 15_000..30_000;
/// How often they are.
const ATTEMPTS: u8 = 100;
/// How many replicas a new cluster has if nobody says.
const REPLICAS: u8 = 3;

/// A development cluster's directory.
pub(crate) struct Home {
    dir: PathBuf,
    /// Whether nobody leads before an operator says who.
    is_manual: bool,
    replicas: Vec<DevReplica>,
    client: ClientSettings,
}

/// A replica of it.
pub(crate) struct DevReplica {
    pub(crate) id: u64,
    pub(crate) config: PathBuf,
    pub(crate) address: String,
    pub(crate) http: Option<SocketAddr>,
}

/// The ports of a replica.
struct Ports {
    listen: SocketAddr,
    http: SocketAddr,
}

/// The cluster in the directory, and whether it was made just now.
pub(crate) fn open(args: &DevArgs) -> Result<(Home, bool)> {
    // Other processes have other working directories, and are told of files here.
    fs::create_dir_all(&args.dir).map_err(Error::path("make the directory", &args.dir))?;
    let client = args.dir.join(CLIENT);
    let is_new = !client.exists();
    if is_new {
        let left = fs::read_dir(&args.dir).map_err(Error::path("look into", &args.dir))?.next();
        if left.is_some() {
            let advice = "it is not empty, and no whole cluster: name a new directory, or remove this one";
            return Err(Error::Exists { path: args.dir.clone(), advice });
        }
        make(args)?;
    }
    let home = read(&args.dir)?;
    if !is_new && (args.policy.is_some() || args.priorities.is_some()) {
        let dir = args.dir.display();
        return Err(Error::BadSetting {
            reason: format!(
                "the cluster in {dir} is there already; leave --policy and --priorities out (`policy` can be changed in \
                 each {dir}/replica-N.toml, priorities by `log-node priority`), or name a new directory"
            ),
        });
    }
    match args.replicas {
        Some(wanted) if usize::from(wanted) != home.replicas.len() => Err(Error::BadSetting {
            reason: format!(
                "the cluster in {} has {} replicas; leave --replicas out, or name a new directory",
                args.dir.display(),
                home.replicas.len()
            ),
        }),
        // One word about it is better than one of each replica.
        _ if !is_new => home.replicas.iter().try_for_each(DevReplica::check_ports).map(|()| (home, is_new)),
        _ => Ok((home, is_new)),
    }
}

fn read(dir: &Path) -> Result<Home> {
    let client = ClientSettings::default().with_file(Some(&dir.join(CLIENT)))?;
    let mut replicas = vec![];
    let mut is_manual = false;
    for id in 1.. {
        let config = dir.join(format!("replica-{id}.toml"));
        if !config.exists() {
            break;
        }
        let settings = ReplicaSettings::default().with_file(Some(&config))?;
        let own =
            settings.members().find(|(peer, _)| peer.get() == id).map(|(_, address)| address.to_owned());
        let address = own.or(settings.listen.map(|listen| listen.to_string())).unwrap_or_default();
        replicas.push(DevReplica { id, config, address, http: settings.http });
        is_manual |= settings.policy == Some(Policy::Manual);
    }
    Ok(Home { dir: dir.to_owned(), is_manual, replicas, client })
}

fn make(args: &DevArgs) -> Result<()> {
    let count = u64::from(args.replicas.unwrap_or(REPLICAS));
    let ports = ports(args.port, count)?;
    let peers: Vec<Peer> = ports
        .iter()
        .zip(1..)
        .map(|(ports, id)| Peer { id: ReplicaId::new(id), address: ports.listen.to_string() })
        .collect();
    let common = ReplicaSettings {
        peers: Some(peers.clone()),
        ca: Some(Path::new("certs").join("ca.pem")),
        policy: args.policy,
        priorities: args.priorities.clone(),
        log_format: Some(LogFormat::Text),
        log_level: Some("info".to_owned()),
        ..ReplicaSettings::default()
    };
    // What makes no sense is told before anything is made.
    create::voters(&common)?;
    let certificates = args.dir.join("certs");
    let authority = certs::authority(&certificates, None)?;
    for (ports, id) in ports.iter().zip(1..) {
        certs::replica(&certificates, &authority, id, CERTIFICATE_DAYS)?;
        let file = |ending: &str| Path::new("certs").join(format!("{}.{ending}", certs::replica_stem(id)));
        let settings = ReplicaSettings {
            cluster: Some(Cluster(authority.cluster())),
            id: Some(id),
            dir: Some(PathBuf::from(format!("replica-{id}"))),
            listen: Some(ports.listen),
            cert: Some(file("pem")),
            key: Some(file("key")),
            http: Some(ports.http),
            ..common.clone()
        };
        let config = args.dir.join(format!("replica-{id}.toml"));
        write(&config, &settings.to_toml())?;
        create::replica(&ReplicaSettings::default().with_file(Some(&config))?, false)?;
    }
    let name = certs::dev_client();
    certs::client(&certificates, &authority, &name, CERTIFICATE_DAYS)?;
    let file = |ending: &str| Path::new("certs").join(format!("{}.{ending}", certs::client_stem(&name)));
    let client = ClientSettings {
        endpoints: Some(peers.into_iter().map(|peer| peer.address).collect()),
        ca: Some(Path::new("certs").join("ca.pem")),
        cert: Some(file("pem")),
        key: Some(file("key")),
        deadline: None,
    };
    write(&args.dir.join(CLIENT), &client.to_toml())
}

/// Ports that are free now: from the wanted one on, or any.
fn ports(first: u16, count: u64) -> Result<Vec<Ports>> {
    if first > 0 {
        return ports_from(first, count);
    }
    // Not those that systems give to whoever connects to somewhere: they would not be free when it is started again.
    let random =
        |attempt: u8| RandomState::new().hash_one(attempt) % u64::from(FREE_PORTS.end - FREE_PORTS.start);
    let mut attempts = (0..ATTEMPTS).map(|attempt| {
        let first = u64::from(FREE_PORTS.start) + random(attempt);
        ports_from(u16::try_from(first).expect("within the range"), count)
    });
    let found = attempts.find(Result::is_ok);
    found.unwrap_or_else(|| ports_from(FREE_PORTS.start, count))
}

/// These ports, if they are free now.
fn ports_from(first: u16, count: u64) -> Result<Vec<Ports>> {
    let at = |number: u64| -> Result<SocketAddr> {
        let port = u16::try_from(u64::from(first) + number).map_err(|_| Error::BadSetting {
            reason: format!("--port {first} leaves no room for {} ports: choose a smaller one", 2 * count),
        })?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    let mut ports = vec![];
    for number in 0..count {
        let (listen, http) = (at(number)?, at(count + number)?);
        let refused = |address, purpose| move |source| Error::Listen { address, purpose, source };
        drop(UdpSocket::bind(listen).map_err(refused(listen, "a replica"))?);
        drop(TcpListener::bind(http).map_err(refused(http, "a status page"))?);
        ports.push(Ports { listen, http });
    }
    Ok(ports)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::path("write", path))
}

impl DevReplica {
    /// Whether its ports are free, as they are not while the cluster runs already.
    fn check_ports(&self) -> Result<()> {
        let refused = |address, purpose| move |source| Error::Listen { address, purpose, source };
        if let Ok(listen) = self.address.parse() {
            drop(UdpSocket::bind(listen).map_err(refused(listen, "a replica"))?);
        }
        if let Some(http) = self.http {
            drop(TcpListener::bind(http).map_err(refused(http, "a status page"))?);
        }
        Ok(())
    }
}

/// This program, as it was called.
pub(crate) fn program() -> String {
    annals_terminal::quoted(&std::env::args().next().unwrap_or_else(|| "log-node".to_owned()))
}

impl Home {
    pub(crate) fn replicas(&self) -> &[DevReplica] {
        &self.replicas
    }

    /// Whether nobody leads before an operator says who.
    pub(crate) fn is_manual(&self) -> bool {
        self.is_manual
    }

    /// Where the replicas are.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.replicas.iter().map(|replica| replica.address.clone()).collect()
    }

    /// The client's configuration, as a word of a shell's command line.
    pub(crate) fn client_config(&self) -> String {
        annals_terminal::quoted(&self.dir.join(CLIENT).to_string_lossy())
    }

    /// The client's certificates.
    pub(crate) fn client_files(&self) -> TlsFiles {
        let file = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        TlsFiles { ca: file(&self.client.ca), cert: file(&self.client.cert), key: file(&self.client.key) }
    }
}
