//! `certs`: an authority for one cluster, and the certificates that it signs.

use std::path::Path;

use annals::protocol::request::ClientRole;
use annals::transport::certs::{Authority, CA_CERT, Issued, Validity};
use annals::{ClusterId, ReplicaId};

use crate::cli::CertsArgs;
use crate::client_name::ClientName;
use crate::error::{Error, Result};
use crate::out;
use crate::status::Status;

/// Days that an authority lives: its certificate lies on every replica and client.
const AUTHORITY_DAYS: u32 = 3650;

/// Makes an authority, where there is none, and the certificates that are asked for.
pub(crate) fn run(args: &CertsArgs) -> Result<Status> {
    let is_new = !args.dir.join(CA_CERT).exists();
    let mut replicas = args.replica.clone();
    replicas.extend(1..=args.replicas.unwrap_or(0));
    if !is_new && replicas.is_empty() && args.client.is_empty() {
        let reason = format!(
            "{} has an authority already; say what it is to sign: --replicas N, --replica N, --client ROLE:NAME",
            args.dir.display()
        );
        return Err(Error::BadSetting { reason });
    }
    let authority = authority(&args.dir, args.cluster.map(|cluster| cluster.0))?;
    let mut made = String::new();
    if is_new {
        made.push_str(&format!("authority {CA_CERT} and ca.key: keep ca.key to yourself\n"));
    }
    for id in replicas {
        replica(&args.dir, &authority, id, args.days)?;
        made.push_str(&format!("replica {id}: {0}.pem and {0}.key\n", replica_stem(id)));
    }
    for name in &args.client {
        client(&args.dir, &authority, name, args.days)?;
        made.push_str(&format!("client {name}: {0}.pem and {0}.key\n", client_stem(name)));
    }
    out::print(&format!("cluster {}\nin {}:\n{made}", authority.cluster(), args.dir.display()))?;
    Ok(Status::Done)
}

/// The authority in `dir`: a new one, or the one that is there.
pub(crate) fn authority(dir: &Path, cluster: Option<ClusterId>) -> Result<Authority> {
    if dir.join(CA_CERT).exists() {
        let authority = Authority::open(dir)?;
        return match cluster.filter(|&cluster| cluster != authority.cluster()) {
            None => Ok(authority),
            Some(_) => Err(Error::BadSetting {
                reason: format!(
                    "the authority in {} is that of cluster {}; name another directory for another cluster",
                    dir.display(),
                    authority.cluster()
                ),
            }),
        };
    }
    Ok(Authority::create(dir, cluster.unwrap_or_else(random_cluster), Validity::days(AUTHORITY_DAYS))?)
}

/// A certificate for a replica.
pub(crate) fn replica(dir: &Path, authority: &Authority, id: u64, days: u32) -> Result<()> {
    let issued = authority.replica(ReplicaId::new(id), Validity::days(days))?;
    write(&issued, dir, &replica_stem(id))
}

/// A certificate for a client.
pub(crate) fn client(dir: &Path, authority: &Authority, name: &ClientName, days: u32) -> Result<()> {
    let issued = authority.client(name.role, &name.name, Validity::days(days))?;
    write(&issued, dir, &client_stem(name))
}

/// The client that `dev` makes a certificate for, and whom its client.toml is for.
pub(crate) fn dev_client() -> ClientName {
    ClientName { role: ClientRole::Admin, name: "dev".to_owned() }
}

/// What the files of a replica begin with.
pub(crate) fn replica_stem(id: u64) -> String {
    format!("replica-{id}")
}

/// What the files of a client begin with.
pub(crate) fn client_stem(name: &ClientName) -> String {
    format!("{}-{}", name.role, name.name)
}

fn write(issued: &Issued, dir: &Path, stem: &str) -> Result<()> {
    issued.write(dir, stem)?;
    Ok(())
}

/// An id that no other cluster has.
fn random_cluster() -> ClusterId {
    use std::hash::{BuildHasher, RandomState};
    // The keys of a new state are random, and one hash tells nothing of another with other keys.
    let word = || u128::from(RandomState::new().hash_one(std::process::id()));
    ClusterId::new((word() << 64 | word()).max(1))
}
