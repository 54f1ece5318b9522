//! A development authority: certificates for trying a cluster out, and for small ones that have no authority at hand.
//!
//! Any authority will do: a certificate counts if one of the `ca` file has signed it and if its DNS names say who it is
//! (see [`Identity`]). Whoever has `ca.key` can make any replica and any client; it is needed only to make certificates.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::error::TransportError;
use super::identity::{self, Identity};
use super::options::TlsFiles;
use super::tls;
use crate::protocol::request::ClientRole;
use crate::types::{ClusterId, ReplicaId};

/// The authority's certificate, in its directory.
pub const CA_CERT: &str = "ca.pem";
/// The authority's private key.
pub const CA_KEY: &str = "ca.key";

/// Clocks may differ by so much when a certificate is new.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// From when to when a certificate counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Validity {
    /// Not before.
    pub from: SystemTime,
    /// Not after.
    pub until: SystemTime,
}

impl Validity {
    /// From now on (and an hour before, for clocks that are behind) for so many days.
    #[must_use]
    pub fn days(days: u32) -> Validity {
        let now = SystemTime::now();
        Validity { from: now - CLOCK_SKEW, until: now + Duration::from_secs(u64::from(days) * 86_400) }
    }
}

/// An authority of one cluster, which signs certificates.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use annals::protocol::request::ClientRole;
/// use annals::transport::certs::{Authority, Validity};
/// use annals::{ClusterId, ReplicaId};
///
/// # let temporary = tempfile::tempdir()?;
/// # let dir = temporary.path();
/// let (year, cluster) = (Validity::days(365), ClusterId::new(4711));
/// let authority = Authority::create(dir, cluster, year)?; // ca.pem and ca.key
/// for number in 1..=3 {
///     authority.replica(ReplicaId::new(number), year)?.write(dir, &format!("replica-{number}"))?;
/// }
/// // Who may append, and read, and nothing else.
/// let shop = authority.client(ClientRole::Append, "shop", year)?.write(dir, "append-shop")?;
/// assert!(shop.cert.exists() && shop.key.exists());
/// # Ok(())
/// # }
/// ```
pub struct Authority {
    cluster: ClusterId,
    cert: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, in memory.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(cluster: ClusterId, valid: Validity) -> Result<Authority, TransportError> {
        let key = KeyPair::generate().map_err(refused)?;
        let params = authority_params(cluster, valid)?;
        let cert = params.self_signed(&key).map_err(refused)?.pem();
        Ok(Authority { cluster, cert, issuer: Issuer::new(params, key) })
    }

    /// A new authority in a directory, which is made if need be: [`CA_CERT`] and [`CA_KEY`].
    ///
    /// # Errors
    /// If there is one already, or the files cannot be written.
    pub fn create(dir: &Path, cluster: ClusterId, valid: Validity) -> Result<Authority, TransportError> {
        let authority = Authority::new(cluster, valid)?;
        fs::create_dir_all(dir).map_err(|source| failed("create", dir, source))?;
        let key = dir.join(CA_KEY);
        // The key first, and never over another: with it, certificates that are in use would be lost.
        write_key(&key, &authority.issuer.key().serialize_pem(), OpenOptions::new().create_new(true))?;
        write_whole(&dir.join(CA_CERT), &authority.cert)?;
        Ok(authority)
    }

    /// The authority that [`create`](Authority::create) has left in this directory.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(dir: &Path) -> Result<Authority, TransportError> {
        let (cert_file, key_file) = (dir.join(CA_CERT), dir.join(CA_KEY));
        let cert = fs::read_to_string(&cert_file).map_err(|source| failed("read", &cert_file, source))?;
        let key = fs::read_to_string(&key_file).map_err(|source| failed("read", &key_file, source))?;
        let key = KeyPair::from_pem(&key).map_err(|why| bad(&key_file, &why.to_string()))?;
        let cluster = tls::authority_cluster(&cert_file)?.ok_or_else(|| {
            bad(&cert_file, "it was not made by annals; sign certificates with its own tools")
        })?;
        let params = authority_params(cluster, Validity::days(1))?;
        Ok(Authority { cluster, cert, issuer: Issuer::new(params, key) })
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The authority's certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.cert
    }

    /// A certificate for a replica.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn replica(&self, id: ReplicaId, valid: Validity) -> Result<Issued, TransportError> {
        let identity = Identity::Replica { cluster: self.cluster, id };
        let names = vec![identity.name(), identity::any_replica(self.cluster)];
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(identity, names, usages, valid)
    }

    /// A certificate for a client. Its name, for people: lower-case letters, digits and hyphens.
    ///
    /// # Errors
    /// If the name is none, or no key can be made.
    pub fn client(&self, role: ClientRole, name: &str, valid: Validity) -> Result<Issued, TransportError> {
        if !identity::is_client_name(name) {
            let reason =
                format!("{name:?} is no client's name: 1 to 63 lower-case letters, digits and hyphens");
            return Err(TransportError::Other { reason });
        }
        let identity = Identity::Client { cluster: self.cluster, role, name: name.to_owned() };
        let names = vec![identity.name()];
        self.issue(identity, names, vec![ExtendedKeyUsagePurpose::ClientAuth], valid)
    }

    fn issue(
        &self,
        identity: Identity,
        names: Vec<String>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        valid: Validity,
    ) -> Result<Issued, TransportError> {
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = CertificateParams::new(names).map_err(refused)?;
        set_validity(&mut params, valid);
        params.distinguished_name = common_name(&identity.name()[..identity.name().len().min(64)]);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.issuer).map_err(refused)?.pem();
        Ok(Issued { identity, cert, key: key.serialize_pem(), ca: self.cert.clone() })
    }
}

/// A certificate with its private key.
pub struct Issued {
    /// Whom it is for.
    pub identity: Identity,
    cert: String,
    key: String,
    ca: String,
}

impl Issued {
    /// Writes `STEM.pem`, `STEM.key` (readable by its owner only) and [`CA_CERT`] into a directory, which is made if
    /// need be. Those that are there already are replaced, each at once.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path, stem: &str) -> Result<TlsFiles, TransportError> {
        fs::create_dir_all(dir).map_err(|source| failed("create", dir, source))?;
        let files = TlsFiles {
            ca: dir.join(CA_CERT),
            cert: dir.join(format!("{stem}.pem")),
            key: dir.join(format!("{stem}.key")),
        };
        let staged = dir.join(format!("{stem}.key.tmp"));
        let _ = fs::remove_file(&staged);
        write_key(&staged, &self.key, OpenOptions::new().create_new(true))?;
        fs::rename(&staged, &files.key).map_err(|source| failed("rename", &staged, source))?;
        write_whole(&files.cert, &self.cert)?;
        write_whole(&files.ca, &self.ca)?;
        Ok(files)
    }
}

fn authority_params(cluster: ClusterId, valid: Validity) -> Result<CertificateParams, TransportError> {
    let mut params = CertificateParams::new(vec![tls::authority_name(cluster)]).map_err(refused)?;
    set_validity(&mut params, valid);
    params.distinguished_name = common_name(&format!("annals {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, valid: Validity) {
    let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970(valid.from);
    params.not_after = epoch + since_1970(valid.until);
}

fn write_key(file: &Path, pem: &str, options: &mut OpenOptions) -> Result<(), TransportError> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    let mut opened = options.write(true).open(file).map_err(|source| failed("create", file, source))?;
    opened
        .write_all(pem.as_bytes())
        .and_then(|()| opened.sync_all())
        .map_err(|source| failed("write", file, source))
}

/// Under another name first, so that whoever reloads never reads half of it.
fn write_whole(file: &Path, pem: &str) -> Result<(), TransportError> {
    let mut staged = file.as_os_str().to_owned();
    staged.push(".tmp");
    let staged = PathBuf::from(staged);
    fs::write(&staged, pem)
        .and_then(|()| fs::rename(&staged, file))
        .map_err(|source| failed("write", file, source))
}

fn failed(doing: &'static str, file: &Path, source: io::Error) -> TransportError {
    TransportError::File { doing, file: file.to_owned(), source: Arc::new(source) }
}

fn bad(file: &Path, reason: &str) -> TransportError {
    TransportError::BadFile { file: file.to_owned(), reason: reason.to_owned() }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(why: rcgen::Error) -> TransportError {
    TransportError::Other { reason: format!("could not make a certificate: {why}") }
}
