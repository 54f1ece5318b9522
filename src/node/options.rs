//! How a replica is made and started: every knob, and its default.

#[cfg(feature = "quic")]
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::driver::DriverOptions;
use super::error::{ReplicaError, Result};
use super::machine::StateMachine;
use super::place::Place;
#[cfg(feature = "quic")]
use super::quic;
use super::replica::Replica;
use super::store::StoreOptions;
use super::{identity, start};
use crate::disk::{Disk, RealDisk};
use crate::error::Error;
use crate::protocol::{
    Base, Config, ConfigError, FailoverPolicy, Limits, Member, Membership, Quorums, Timing, Voter,
};
#[cfg(feature = "quic")]
use crate::transport::TransportLimits;
use crate::types::{ClusterId, DiskId, ReplicaId};

/// How a replica is made, and started.
///
/// A cluster begins with [`bootstrap`](ReplicaOptions::bootstrap) of each of its first replicas, once; a replica that is
/// added later is made with [`join`](ReplicaOptions::join). After that each of them is [started](ReplicaOptions::start),
/// as often as needed.
///
/// A cluster of one, which others could join; three only need more options and certificates of the same kind:
///
/// ```
/// # #[cfg(not(feature = "quic"))] fn main() {}
/// # #[cfg(feature = "quic")] fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use annals::node::ReplicaOptions;
/// use annals::transport::certs::{Authority, Validity};
/// use annals::{ClusterId, Lsn, ReplicaId};
///
/// let (dir, cluster, one) = (tempfile::tempdir()?, ClusterId::new(4711), ReplicaId::new(1));
/// let authority = Authority::create(dir.path(), cluster, Validity::days(1))?;
/// let files = authority.replica(one, Validity::days(1))?.write(dir.path(), "replica-1")?;
///
/// let options = ReplicaOptions::new(one, dir.path().join("1"))
///     .cluster(cluster)
///     .listen("127.0.0.1:0".parse()?)
///     .certificates(&files.ca, &files.cert, &files.key);
/// // Once in the life of the cluster, on each of those that it begins with.
/// options.bootstrap([(one, 0)])?;
/// let replica = options.start()?;
///
/// // Until it is elected, it says that it is not the primary.
/// let receipt = loop {
///     match replica.append(b"hello")?.wait() {
///         Ok(receipt) => break receipt,
///         Err(error) if error.is_not_primary() => std::thread::yield_now(),
///         Err(error) => return Err(error.into()),
///     }
/// };
/// assert_eq!(receipt.holders(), [one]);
/// let record = replica.subscribe(Lsn::FIRST).next().expect("it goes on for ever")?;
/// assert_eq!((record.lsn, &record.bytes[..]), (receipt.lsn(), &b"hello"[..]));
/// replica.shutdown()?;
/// # Ok(())
/// # }
/// ```
#[must_use]
#[derive(Debug)]
pub struct ReplicaOptions {
    pub(super) id: ReplicaId,
    pub(super) dir: PathBuf,
    pub(super) cluster: Option<ClusterId>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) advertise: Option<String>,
    pub(super) peers: Vec<(ReplicaId, String)>,
    pub(super) certificates: Option<Certificates>,
    pub(super) timing: Timing,
    pub(super) failover: FailoverPolicy,
    pub(super) limits: Limits,
    #[cfg(feature = "quic")]
    pub(super) transport: TransportLimits,
    pub(super) quorums: Quorums,
    pub(super) lease_drift_ppm: Option<u32>,
    pub(super) machine: Option<Box<dyn StateMachine>>,
    pub(super) policy: Policy,
    pub(super) scrub_bytes_per_s: Option<u64>,
    pub(super) close_max: Duration,
    pub(super) store: StoreOptions,
    pub(super) driver: DriverOptions,
}

/// So many bytes of sealed segments are read in a second, so that damage is found.
const SCRUB_BYTES_PER_S: u64 = 16 << 20;
/// The threads of a replica that ends get so long to do so.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// The files with a replica's certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// When a node takes snapshots and trims by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Policy {
    /// A snapshot after so many records; never if `None`.
    pub(crate) snapshot_every: Option<u64>,
    /// A snapshot after so many bytes; never if `None`.
    pub(crate) snapshot_every_bytes: Option<u64>,
    /// So many records before the newest snapshot are kept; all of them if `None`.
    pub(crate) keep_records: Option<u64>,
    /// The bytes that a snapshot is written with in a second, at most.
    pub(crate) snapshot_bytes_per_s: Option<u64>,
}

impl ReplicaOptions {
    /// Options for the replica with this id, whose log is in the directory `dir`.
    pub fn new(id: ReplicaId, dir: impl AsRef<Path>) -> ReplicaOptions {
        ReplicaOptions {
            id,
            dir: dir.as_ref().to_path_buf(),
            cluster: None,
            listen: None,
            advertise: None,
            peers: Vec::new(),
            certificates: None,
            timing: Timing::default(),
            failover: FailoverPolicy::default(),
            limits: Limits::default(),
            #[cfg(feature = "quic")]
            transport: TransportLimits::default(),
            quorums: Quorums::default(),
            lease_drift_ppm: None,
            machine: None,
            policy: Policy::default(),
            scrub_bytes_per_s: Some(SCRUB_BYTES_PER_S),
            close_max: CLOSE_MAX,
            store: StoreOptions::default(),
            driver: DriverOptions::default(),
        }
    }

    /// The cluster that it belongs to: drawn at random once, and the same for all replicas.
    pub fn cluster(mut self, cluster: ClusterId) -> ReplicaOptions {
        self.cluster = Some(cluster);
        self
    }

    /// The address to listen on, for replicas and clients alike.
    pub fn listen(mut self, address: SocketAddr) -> ReplicaOptions {
        self.listen = Some(address);
        self
    }

    /// Where others find this replica, as `host:port`, if that is not what it listens on.
    pub fn advertise(mut self, address: impl Into<String>) -> ReplicaOptions {
        self.advertise = Some(address.into());
        self
    }

    /// Where the other replicas are, each as `host:port`. What is said here goes before what the directory remembers.
    ///
    /// Addresses of replicas that were added later are learned from them, and kept in the file `peers` of the
    /// directory, so that they are known after a restart too.
    pub fn peers(
        mut self,
        peers: impl IntoIterator<Item = (ReplicaId, impl Into<String>)>,
    ) -> ReplicaOptions {
        self.peers = peers.into_iter().map(|(id, address)| (id, address.into())).collect();
        self
    }

    /// Files in PEM: the certificates of who may sign, this replica's certificate, and its private key.
    pub fn certificates(
        mut self,
        ca: impl AsRef<Path>,
        cert: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> ReplicaOptions {
        let (ca, cert, key) =
            (ca.as_ref().to_path_buf(), cert.as_ref().to_path_buf(), key.as_ref().to_path_buf());
        self.certificates = Some(Certificates { ca, cert, key });
        self
    }

    /// How long things may take.
    pub fn timing(mut self, timing: Timing) -> ReplicaOptions {
        self.timing = timing;
        self
    }

    /// Who takes over when the primary is gone.
    pub fn policy(mut self, policy: FailoverPolicy) -> ReplicaOptions {
        self.failover = policy;
        self
    }

    /// How much of everything.
    pub fn limits(mut self, limits: Limits) -> ReplicaOptions {
        self.limits = limits;
        self
    }

    /// How many connections there may be over QUIC, and how much may wait in them. A group that fits into
    /// [`Limits::group_bytes_max`] has to fit into [`TransportLimits::group_bytes_max`] of the others, too.
    #[cfg(feature = "quic")]
    pub fn transport_limits(mut self, limits: TransportLimits) -> ReplicaOptions {
        self.transport = limits;
        self
    }

    /// How many copies commit a record and how many votes make a primary, in a cluster that is about to
    /// [begin](ReplicaOptions::bootstrap). Later it is a change of the membership.
    pub fn quorums(mut self, quorums: Quorums) -> ReplicaOptions {
        self.quorums = quorums;
        self
    }

    /// Answers linearizable reads without asking the others, by trusting that no clock runs faster than another by more
    /// than this: see [`Config::lease_drift_ppm`](crate::protocol::Config::lease_drift_ppm).
    pub fn lease_drift_ppm(mut self, ppm: u32) -> ReplicaOptions {
        self.lease_drift_ppm = Some(ppm);
        self
    }

    /// The state that follows from the records. Without one a snapshot holds no state: the log begins after it.
    pub fn state_machine(mut self, machine: impl StateMachine + 'static) -> ReplicaOptions {
        self.machine = Some(Box::new(machine));
        self
    }

    /// Takes a snapshot each time about so many bytes of frames were written, default never. Beside
    /// [`snapshot_every`](ReplicaOptions::snapshot_every), whichever comes first. What was written before a start counts, too.
    pub fn snapshot_every_bytes(mut self, bytes: u64) -> ReplicaOptions {
        self.policy.snapshot_every_bytes = Some(bytes.max(1));
        self
    }

    /// Takes a snapshot each time so many records have been committed, default never.
    pub fn snapshot_every(mut self, records: u64) -> ReplicaOptions {
        self.policy.snapshot_every = Some(records.max(1));
        self
    }

    /// Trims the log after each snapshot, but for this many records before it, and for what a laggard needs. Default: it
    /// is not trimmed by itself.
    pub fn keep_records(mut self, records: u64) -> ReplicaOptions {
        self.policy.keep_records = Some(records);
        self
    }

    /// Keeps so many snapshots, the newest included: by default, and at least, that one alone.
    ///
    /// The older ones are an operator's way back, and what a copy can be made of while the replica runs: the files `base-LSN` of
    /// its directory, which are never written again. The replica itself reads none of them, so they are no fallback for one
    /// that has rotted. Each takes its room on the disk, and whoever starts with a lower number has the oldest ones removed.
    /// Where a file cannot have two names none is kept.
    pub fn snapshots_kept(mut self, snapshots: usize) -> ReplicaOptions {
        self.store.snapshots_kept = snapshots.max(1);
        self
    }

    /// Writes snapshots no faster than this, so that appends have the disk for themselves, default as fast as it goes.
    pub fn snapshot_bytes_per_s(mut self, bytes_per_s: u64) -> ReplicaOptions {
        self.policy.snapshot_bytes_per_s = Some(bytes_per_s.max(64 << 10));
        self
    }

    /// Reads the sealed segments in the background, no faster than this, default 16 MiB a second: a pass through all of them
    /// begins shortly after a start, because opening the log does not read them, and then each hour. What is damaged is
    /// fetched from the primary again. With 0, damage is found only by those who read what is damaged.
    pub fn scrub_bytes_per_s(mut self, bytes_per_s: u64) -> ReplicaOptions {
        self.scrub_bytes_per_s = Some(bytes_per_s).filter(|rate| *rate > 0);
        self
    }

    /// How long the threads of a replica that ends get to do so, default ten seconds: then
    /// [`shutdown`](Replica::shutdown) and the drop of the last handle leave those behind that wait for a disk which stands
    /// still. The hand-over before that has a time of its own, [`Timing::transfer_max`].
    pub fn close_max(mut self, close_max: Duration) -> ReplicaOptions {
        self.close_max = close_max;
        self
    }

    /// While fewer groups wait for their commit, default 2, a primary makes a group of whatever has been asked for; else it
    /// lets more gather.
    pub fn depth(mut self, groups: usize) -> ReplicaOptions {
        self.driver.depth = groups.max(1);
        self
    }

    /// Bytes of a segment file, default 64 MiB. A larger group gets a larger segment.
    pub fn segment_bytes(mut self, bytes: u64) -> ReplicaOptions {
        self.store.segment_bytes = bytes;
        self
    }

    /// Makes this replica's directory as one of those that a new cluster begins with: the same `voters` for each of them,
    /// this one included, each with its priority ([`FailoverPolicy::Priority`]; else 0).
    ///
    /// To be done once in the life of a cluster. The first disks get ids that follow from the cluster's and the
    /// replica's id, so that nobody has to ask around; a disk that was lost and is made again this way would pass for
    /// the one that was lost, and could lose records that it has acknowledged. Use [`join`](ReplicaOptions::join) then.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if the directory holds a replica, [`ConfigError::Membership`] if this one is not
    /// among the voters or the quorums cannot work, and whatever the operating system says.
    pub fn bootstrap(&self, voters: impl IntoIterator<Item = (ReplicaId, u8)>) -> Result<()> {
        self.bootstrap_on(&self.made_dir()?, voters)
    }

    /// Makes this replica's directory as that of a newcomer, who follows nobody until it is
    /// [added](Replica::add_replica) to the membership. Gives the id of its disk, drawn at random.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if the directory holds a replica, and whatever the operating system says.
    pub fn join(&self) -> Result<DiskId> {
        self.join_on(&self.made_dir()?)
    }

    /// Whether the directory holds no replica yet: [`bootstrap`](ReplicaOptions::bootstrap) it, or
    /// [`join`](ReplicaOptions::join).
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn is_blank(&self) -> Result<bool> {
        identity::is_blank(&*self.made_dir()?)
    }

    /// Starts the replica, over QUIC.
    ///
    /// # Errors
    /// [`ReplicaError::Blank`] and [`ReplicaError::OtherReplica`] if the directory is not this replica's,
    /// [`ReplicaError::Missing`] without cluster, address or certificates, and whatever the operating system says.
    #[cfg(feature = "quic")]
    pub fn start(self) -> Result<Replica> {
        let disk = RealDisk::open(&self.dir).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ReplicaError::Blank { id: self.id },
            _ => Error::io("open", "", source).into(),
        })?;
        let place = self.quic()?;
        self.start_on(Arc::new(disk), place)
    }

    /// The socket and the certificates that [`start`](ReplicaOptions::start) uses, for
    /// [`start_on`](ReplicaOptions::start_on) with another disk.
    ///
    /// # Errors
    /// [`ReplicaError::Missing`] without cluster, address or certificates, [`ReplicaError::Network`] if they cannot be
    /// used.
    #[cfg(feature = "quic")]
    pub fn quic(&self) -> Result<Box<dyn Place>> {
        quic::place(self)
    }

    /// As [`bootstrap`](ReplicaOptions::bootstrap), on a disk of the caller's choice.
    ///
    /// # Errors
    /// As for `bootstrap`.
    pub fn bootstrap_on(
        &self,
        disk: &Arc<dyn Disk>,
        voters: impl IntoIterator<Item = (ReplicaId, u8)>,
    ) -> Result<()> {
        let cluster = self.known_cluster()?;
        let member = |id| Member { id, disk: identity::first_disk(cluster, id) };
        let mut voters: Vec<Voter> =
            voters.into_iter().map(|(id, priority)| Voter { member: member(id), priority }).collect();
        voters.sort_by_key(|voter| voter.member.id);
        let me = member(self.id);
        let first = Membership::first(voters, self.quorums);
        if !first.is_sound() || !first.votes(me) {
            return Err(ConfigError::Membership.into());
        }
        let base = Base { membership: Some(Arc::new(first)), ..Base::default() };
        identity::create(disk, cluster, me, &base)
    }

    /// As [`join`](ReplicaOptions::join), on a disk of the caller's choice.
    ///
    /// # Errors
    /// As for `join`.
    pub fn join_on(&self, disk: &Arc<dyn Disk>) -> Result<DiskId> {
        let cluster = self.known_cluster()?;
        let drawn = u128::from(disk.entropy()) << 64 | u128::from(disk.entropy());
        let me = Member { id: self.id, disk: DiskId::new(drawn) };
        identity::create(disk, cluster, me, &Base::default())?;
        Ok(me.disk)
    }

    /// Starts the replica on a disk and in a place of the caller's choice.
    ///
    /// # Errors
    /// As for [`start`](ReplicaOptions::start).
    pub fn start_on(self, disk: Arc<dyn Disk>, place: Box<dyn Place>) -> Result<Replica> {
        start::start(self, disk, place)
    }

    /// The directory, made if it is not there.
    fn made_dir(&self) -> Result<Arc<dyn Disk>> {
        let disk = RealDisk::create(&self.dir).map_err(|source| Error::io("open", "", source))?;
        Ok(Arc::new(disk))
    }

    pub(super) fn known_cluster(&self) -> Result<ClusterId> {
        self.cluster.ok_or(ReplicaError::Missing { option: "cluster" })
    }

    /// What the core is told.
    pub(super) fn config(&self, me: Member, seed: u64) -> Result<Config> {
        let config = Config {
            seed,
            timing: self.timing,
            policy: self.failover,
            limits: self.limits,
            lease_drift_ppm: self.lease_drift_ppm,
            ..Config::new(self.known_cluster()?, me)
        };
        config.check()?;
        Ok(config)
    }
}
