//! Three replicas and more, each with a disk of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::node::{Receipt, Replica, ReplicaError, ReplicaOptions};
use annals::protocol::request::{NodeStatus, Refused};
use annals::protocol::{FailoverPolicy, Role, Timing};
use annals::{ClusterId, Lsn, ReplicaId};

use crate::net::{Net, PATIENCE};
#[cfg(feature = "quic")]
use crate::papers::Papers;

const CLUSTER: ClusterId = ClusterId::new(7);

/// What is changed of the options before a start.
pub(crate) type Tune = fn(ReplicaOptions) -> ReplicaOptions;

pub(crate) struct Fleet {
    pub(crate) net: Net,
    pub(crate) disks: Vec<SimDisk>,
    pub(crate) replicas: Vec<Option<Replica>>,
    tune: Tune,
    /// The certificates of a fleet over QUIC.
    #[cfg(feature = "quic")]
    papers: Option<Papers>,
}

pub(crate) fn id(number: u64) -> ReplicaId {
    ReplicaId::new(number)
}

/// Waits until it is so.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

impl Fleet {
    /// A cluster that begins with so many voters.
    pub(crate) fn new(voters: u64) -> Fleet {
        Fleet::tuned(voters, |options| options)
    }

    pub(crate) fn tuned(voters: u64, tune: Tune) -> Fleet {
        Fleet::blank(voters, tune).bootstrap().start_all()
    }

    /// Voters with these priorities, of which the highest is to lead.
    pub(crate) fn with_priorities(priorities: [u8; 3]) -> Fleet {
        let fleet = Fleet::blank(3, |options| options.policy(FailoverPolicy::Priority));
        for number in 1..=3 {
            let voters = priorities.iter().zip(1..).map(|(priority, number)| (id(number), *priority));
            fleet.options(number).bootstrap_on(&fleet.disk(number), voters).expect("a blank disk");
        }
        fleet.start_all()
    }

    /// One that is made and not started.
    pub(crate) fn asleep(voters: u64) -> Fleet {
        Fleet::blank(voters, |options| options).bootstrap()
    }

    /// One whose replicas speak over sockets.
    #[cfg(feature = "quic")]
    pub(crate) fn over_quic(voters: u64, tune: Tune) -> Fleet {
        let mut fleet = Fleet::blank(voters, tune);
        fleet.papers = Some(Papers::new(CLUSTER));
        fleet.bootstrap().start_all()
    }

    fn blank(voters: u64, tune: Tune) -> Fleet {
        Fleet {
            net: Net::default(),
            disks: (1..=voters).map(SimDisk::new).collect(),
            replicas: vec![None; voters as usize],
            tune,
            #[cfg(feature = "quic")]
            papers: None,
        }
    }

    fn bootstrap(self) -> Fleet {
        let count = self.disks.len() as u64;
        for number in 1..=count {
            let voters = (1..=count).map(|number| (id(number), 0));
            self.options(number).bootstrap_on(&self.disk(number), voters).expect("a blank disk");
        }
        self
    }

    fn start_all(mut self) -> Fleet {
        (1..=self.disks.len() as u64).for_each(|number| self.start(number));
        self
    }

    /// Room for one replica more.
    pub(crate) fn add_disk(&mut self) {
        self.disks.push(SimDisk::new(self.disks.len() as u64 + 1));
        self.replicas.push(None);
    }

    pub(crate) fn options(&self, number: u64) -> ReplicaOptions {
        // Slower than in the real world: the machine is full of other tests.
        let timing = Timing { election_min: Duration::from_millis(300), ..Timing::default() };
        let options = ReplicaOptions::new(id(number), "simulated").cluster(CLUSTER).timing(timing);
        (self.tune)(options.segment_bytes(256 << 10))
    }

    pub(crate) fn disk(&self, number: u64) -> Arc<dyn Disk> {
        Arc::new(self.disks[number as usize - 1].clone())
    }

    pub(crate) fn try_start(&self, number: u64) -> Result<Replica, ReplicaError> {
        self.try_start_with(number, self.options(number))
    }

    fn try_start_with(&self, number: u64, options: ReplicaOptions) -> Result<Replica, ReplicaError> {
        #[cfg(feature = "quic")]
        if let Some(papers) = &self.papers {
            let running = self
                .replicas
                .iter()
                .zip(1..)
                .filter_map(|(replica, number)| Some((number, replica.as_ref()?)));
            let peers = running
                .map(|(number, replica)| (id(number), replica.local_addr().expect("a socket").to_string()));
            let options = papers.give_to(options.peers(peers), number);
            let place = options.quic()?;
            return options.start_on(self.disk(number), place);
        }
        options.start_on(self.disk(number), self.net.place(id(number)))
    }

    pub(crate) fn start(&mut self, number: u64) {
        self.start_with(number, self.options(number));
    }

    pub(crate) fn start_with(&mut self, number: u64, options: ReplicaOptions) {
        let started = self.try_start_with(number, options).expect("a replica that starts");
        self.replicas[number as usize - 1] = Some(started);
    }

    pub(crate) fn replica(&self, number: u64) -> &Replica {
        self.replicas[number as usize - 1].as_ref().expect("a replica that runs")
    }

    /// Ends without goodbye.
    pub(crate) fn kill(&mut self, number: u64) {
        self.net.cut(id(number));
        self.replicas[number as usize - 1] = None;
        self.net.join(id(number));
    }

    pub(crate) fn statuses(&self) -> Vec<NodeStatus> {
        self.replicas.iter().flatten().map(|replica| replica.status().expect("it runs")).collect()
    }

    /// The number of the primary, once there is one that the others know, other than `not`.
    pub(crate) fn primary_but(&self, not: u64) -> u64 {
        until("a primary", || {
            let statuses = self.statuses();
            let leads = |status: &&NodeStatus| status.role == Role::Primary && status.id.get() != not;
            let newest = statuses.iter().filter(leads).max_by_key(|status| status.epoch)?;
            let is_newest = statuses.iter().all(|status| status.epoch <= newest.epoch);
            is_newest.then(|| newest.id.get())
        })
    }

    pub(crate) fn primary(&self) -> u64 {
        self.primary_but(0)
    }

    /// Has this one lead; asks until it does, since nobody is heeded while a primary may be alive, and that is so for a
    /// while after the start.
    pub(crate) fn promote(&self, number: u64) {
        until("it leads", || {
            let replica = self.replica(number);
            let role = replica.status().expect("it runs").role;
            match replica.promote().expect("it runs").wait() {
                Ok(()) | Err(ReplicaError::Refused(Refused::Busy | Refused::NotPossible { .. })) => {}
                Err(error) => panic!("it cannot be promoted: {error}"),
            }
            (role == Role::Primary).then_some(())
        });
    }

    /// Appends wherever the primary is, again and again until it is taken. May append twice.
    pub(crate) fn append(&self, record: &[u8]) -> Receipt {
        until("an append", || {
            let primary = self.replica(self.primary());
            match primary.append(record).and_then(|ticket| ticket.wait()) {
                Ok(receipt) => Some(receipt),
                Err(ReplicaError::Refused(Refused::NotPrimary { .. } | Refused::Unknown | Refused::Busy)) => {
                    None
                }
                Err(error) => panic!("an append fails: {error}"),
            }
        })
    }

    /// As `append`, but each attempt must be known to have come to nothing before it is made again.
    pub(crate) fn append_known(&self, record: &[u8]) -> Receipt {
        until("an append", || {
            let primary = self.replica(self.primary());
            match primary.append(record).and_then(|ticket| ticket.wait()) {
                Ok(receipt) => Some(receipt),
                Err(ReplicaError::Refused(Refused::NotPrimary { .. } | Refused::Busy)) => None,
                Err(error) => panic!("an append fails: {error}"),
            }
        })
    }

    /// Waits until all who run show this record.
    pub(crate) fn all_show(&self, lsn: Lsn) {
        until("all show it", || self.statuses().iter().all(|status| status.applied >= lsn).then_some(()));
    }

    /// The records that a replica shows.
    pub(crate) fn records(&self, number: u64, through: Lsn) -> Vec<(Lsn, Vec<u8>)> {
        let mut subscription = self.replica(number).subscribe(Lsn::FIRST);
        let mut records = vec![];
        while subscription.position() <= through {
            match subscription.next_timeout(PATIENCE).expect("records that can be read") {
                Some(record) => records.push((record.lsn, record.bytes.to_vec())),
                None => panic!("no more records after {}", subscription.position()),
            }
        }
        records
    }
}
