//! A whole cluster for a measurement: replicas as processes of their own on this machine, over the loopback.

pub(crate) mod account;
pub(crate) mod args;
pub(crate) mod ballast;
pub(crate) mod clients;
pub(crate) mod load;
pub(crate) mod outcome;
pub(crate) mod replica;
pub(crate) mod sick;
pub(crate) mod silence;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annals::client::{Client, ClientOptions, Target};
use annals::protocol::request::{ClientRole, NodeStatus};
use annals::protocol::{Role, Stage};
use annals::transport::certs::{Authority, Validity};
use annals::{ClusterId, ReplicaId};

use crate::error::{Error, Result};
use crate::place::Place;
use crate::progress;
use args::ClusterArgs;
use replica::{Duty, Process, own_cpu};
use sick::{Sickness, Written};

/// Nothing that is waited for takes longer; only ends a hang.
pub(crate) const HANG: Duration = Duration::from_secs(60);
/// Replicas that can be added to those that a cluster begins with.
const NEWCOMERS_MAX: u32 = 2;
/// Between two looks at the status.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// What replicas stand on, where that is not simply this machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ground {
    /// Whether their disks can be made sick.
    pub(crate) is_sickly: bool,
    /// The network namespace of each, and its address there; none if they share the loopback.
    pub(crate) homes: Vec<(String, SocketAddr)>,
    /// The directory among the data that it has for itself; none if it is the only cluster.
    pub(crate) apart: &'static str,
}

/// A cluster under measurement. Its processes are killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    duties: Vec<Duty>,
    processes: Vec<Option<Process>>,
    /// What those have used of the processors that were killed.
    spent: Duration,
    /// With a directory for each replica.
    root: PathBuf,
    certificates: PathBuf,
}

impl Cluster {
    /// Makes certificates and directories, starts all replicas, and returns once one of them leads.
    pub(crate) fn start(args: &ClusterArgs, place: &Place) -> Result<Cluster> {
        Cluster::start_on(args, place, &Ground::default())
    }

    /// The same on this ground.
    pub(crate) fn start_on(args: &ClusterArgs, place: &Place, ground: &Ground) -> Result<Cluster> {
        let root = place.data(ground.apart);
        let certificates = root.join("certificates");
        let cluster = 0x616E_6E61_6C73_u128 << 64 | u128::from(std::process::id());
        let ids: Vec<u64> = (1..=u64::from(args.replicas)).collect();
        make_certificates(&certificates, ClusterId::new(cluster), args.replicas + NEWCOMERS_MAX)?;
        let home = |id: u64| ground.homes.get(id as usize - 1);
        let address = |id: u64| home(id).map_or_else(free_address, |(_, address)| Ok(*address));
        let peers: Vec<(u64, SocketAddr)> =
            ids.iter().map(|id| address(*id).map(|address| (*id, address))).collect::<Result<_>>()?;
        let duty = |(id, listen): &(u64, SocketAddr)| Duty {
            id: *id,
            cluster,
            dir: root.join(format!("replica-{id}")),
            listen: *listen,
            peers: peers.clone(),
            certificates: certificates.clone(),
            segment_bytes: args.segment_bytes,
            depth: args.depth,
            snapshot_every: args.snapshot_every,
            state_bytes: args.state_bytes,
            is_newcomer: false,
            is_sickly: ground.is_sickly || args.is_gated,
            namespace: home(*id).map(|(namespace, _)| namespace.clone()),
        };
        let duties: Vec<Duty> = peers.iter().map(duty).collect();
        let voters: Vec<(ReplicaId, u8)> = ids.iter().map(|id| (ReplicaId::new(*id), 0)).collect();
        for duty in &duties {
            duty.options().bootstrap(voters.iter().copied()).map_err(Error::cluster("prepare"))?;
        }
        let mut cluster =
            Cluster { processes: Vec::new(), spent: Duration::ZERO, duties, root, certificates };
        for duty in &cluster.duties {
            cluster.processes.push(Some(Process::start(duty)?));
        }
        let client = cluster.connect()?;
        cluster.wait_for_primary(&client)?;
        Ok(cluster)
    }

    /// A client: a link of its own to each replica, over a connection that all clients of this process share.
    pub(crate) fn connect(&self) -> Result<Client> {
        self.options().connect().map_err(Error::cluster("connect to"))
    }

    /// The options of such a client.
    pub(crate) fn options(&self) -> ClientOptions {
        self.options_to(self.duties.iter().map(|duty| duty.listen.to_string()).collect())
    }

    /// Those of a client that knows only these replicas.
    fn options_to(&self, endpoints: Vec<String>) -> ClientOptions {
        let file = |name: &str| self.certificates.join(name);
        ClientOptions::new(endpoints).certificates(file("ca.pem"), file("bench.pem"), file("bench.key"))
    }

    /// The ids of all replicas.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.duties.iter().map(|duty| ReplicaId::new(duty.id))
    }

    /// How many replicas there are.
    pub(crate) fn len(&self) -> usize {
        self.duties.len()
    }

    /// The status of one that leads, once there is one.
    pub(crate) fn wait_for_primary(&self, client: &Client) -> Result<NodeStatus> {
        self.wait(client, "an elected primary", |status| status.role == Role::Primary)
    }

    /// Waits until all others follow the primary and have all that it has.
    pub(crate) fn wait_until_in_sync(&self, client: &Client) -> Result<NodeStatus> {
        let others = self.len() - 1;
        self.wait(client, "backups that are in sync", |status| {
            let streaming = status.peers.iter().filter(|peer| peer.stage == Stage::Streaming).count();
            status.role == Role::Primary && streaming == others
        })
    }

    /// Asks the primary for its status until it is what is wanted.
    pub(crate) fn wait(
        &self,
        client: &Client,
        what: &'static str,
        is_it: impl Fn(&NodeStatus) -> bool,
    ) -> Result<NodeStatus> {
        self.wait_for(HANG, client, what, is_it)
    }

    /// The same of what may take longer.
    pub(crate) fn wait_for(
        &self,
        longest: Duration,
        client: &Client,
        what: &'static str,
        is_it: impl Fn(&NodeStatus) -> bool,
    ) -> Result<NodeStatus> {
        let began = Instant::now();
        loop {
            progress::check_stopped()?;
            match client.status(Target::Primary).wait() {
                Ok(status) if is_it(&status) => return Ok(status),
                _ if began.elapsed() < longest => std::thread::sleep(PAUSE),
                last => {
                    let left = last.map_or_else(|error| error.to_string(), |status| format!("{status:?}"));
                    return Err(Error::Child { doing: what, left });
                }
            }
        }
    }

    /// The place of a replica by its id.
    pub(crate) fn index_of(&self, id: ReplicaId) -> usize {
        let found = self.duties.iter().position(|duty| duty.id == id.get());
        found.expect("the cluster has only replicas that were started here")
    }

    /// Kills a replica with SIGKILL.
    pub(crate) fn kill(&mut self, index: usize) {
        self.spent += self.processes[index].take().map_or(Duration::ZERO, |process| process.cpu());
    }

    /// Starts a replica that was killed.
    pub(crate) fn restart(&mut self, index: usize) -> Result<()> {
        self.processes[index] = Some(Process::start(&self.duties[index])?);
        Ok(())
    }

    /// Starts a replica that was killed, and kills it after a while, wherever it is then.
    pub(crate) fn restart_for(&mut self, index: usize, life: Duration) -> Result<()> {
        let mut process = Process::spawn(&self.duties[index])?;
        std::thread::sleep(life);
        process.kill();
        Ok(())
    }

    /// A client that knows only this replica.
    pub(crate) fn connect_to_one(&self, index: usize) -> Result<Client> {
        let options = self.options_to(vec![self.duties[index].listen.to_string()]);
        options.connect().map_err(Error::cluster("connect to"))
    }

    /// Where a replica has its files.
    pub(crate) fn dir(&self, index: usize) -> &Path {
        &self.duties[index].dir
    }

    /// Makes the disk of a replica sick, or well; nothing if it does not run.
    pub(crate) fn sicken(&mut self, index: usize, sickness: Sickness) -> Result<()> {
        self.processes[index].as_mut().map_or(Ok(()), |process| process.sicken(sickness))
    }

    /// What the disk of a replica that runs has written durably, in a cluster whose disks can be made sick.
    pub(crate) fn written(&mut self, index: usize) -> Result<Written> {
        self.processes[index].as_mut().map_or_else(|| Ok(Written::default()), Process::written)
    }

    /// Those that should run, and have ended; with their last words.
    pub(crate) fn ended(&mut self) -> Vec<(ReplicaId, String)> {
        let ids: Vec<ReplicaId> = self.ids().collect();
        let end = |(id, process): (ReplicaId, &mut Option<Process>)| {
            let process = process.as_mut()?;
            process.has_ended().then(|| (id, process.end()))
        };
        ids.into_iter().zip(&mut self.processes).filter_map(end).collect()
    }

    /// Makes the directory of a replica anew, as that of a newcomer, and starts it. It has to be added to the membership.
    pub(crate) fn join_anew(&mut self, index: usize) -> Result<annals::DiskId> {
        let disk = self.duties[index].options().join().map_err(Error::cluster("prepare"))?;
        self.restart(index)?;
        Ok(disk)
    }

    /// Stops a replica's process where it stands.
    pub(crate) fn pause(&self, index: usize) -> Result<()> {
        self.signal(index, rustix::process::Signal::STOP)
    }

    /// Lets a stopped process go on.
    pub(crate) fn resume(&self, index: usize) -> Result<()> {
        self.signal(index, rustix::process::Signal::CONT)
    }

    /// Lets the disk under a replica stand still, or go on, in a cluster whose disks are gated.
    pub(crate) fn stall(&mut self, index: usize, is_stalled: bool) -> Result<()> {
        self.sicken(index, if is_stalled { Sickness::Stalled } else { Sickness::Well })
    }

    fn signal(&self, index: usize, signal: rustix::process::Signal) -> Result<()> {
        self.processes[index].as_ref().map_or(Ok(()), |process| process.signal(signal))
    }

    /// Makes a directory for one more replica, which joins, and starts it. It has to be added to the membership.
    pub(crate) fn add(&mut self) -> Result<(ReplicaId, annals::DiskId)> {
        let id = self.duties.len() as u64 + 1;
        let duty = Duty {
            id,
            dir: self.root.join(format!("replica-{id}")),
            listen: free_address()?,
            is_newcomer: true,
            ..self.duties[0].clone()
        };
        let disk = duty.options().join().map_err(Error::cluster("prepare"))?;
        self.processes.push(Some(Process::start(&duty)?));
        self.duties.push(duty);
        Ok((ReplicaId::new(id), disk))
    }

    /// What each replica that runs has used of the processors so far.
    pub(crate) fn cpu(&self) -> impl Iterator<Item = Duration> + '_ {
        self.processes.iter().flatten().map(Process::cpu)
    }

    /// What all replicas and this process have used of the processors so far.
    pub(crate) fn cpu_in_all(&self) -> Duration {
        self.spent + self.cpu().sum::<Duration>() + own_cpu()
    }

    /// Lets all replicas close.
    pub(crate) fn end(mut self) {
        for process in self.processes.iter_mut().flatten() {
            process.end();
        }
    }
}

/// An address on the loopback that nobody uses.
fn free_address() -> Result<SocketAddr> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map_err(Error::io("find a free port on", Path::new("127.0.0.1")))
}

fn make_certificates(dir: &Path, cluster: ClusterId, replicas: u32) -> Result<()> {
    let wrong = Error::cluster("make certificates for");
    let make = || {
        let valid = Validity::days(30);
        let authority = Authority::create(dir, cluster, valid)?;
        for id in 1..=u64::from(replicas) {
            authority.replica(ReplicaId::new(id), valid)?.write(dir, &format!("replica-{id}"))?;
        }
        authority.client(ClientRole::Admin, "bench", valid)?.write(dir, "bench")
    };
    make().map(drop).map_err(wrong)
}
