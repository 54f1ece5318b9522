//! Three replicas of this process on the loopback, with certificates made for the occasion.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use annals::client::{Client, ClientOptions};
use annals::node::{Replica, ReplicaOptions};
use annals::protocol::Role;
use annals::protocol::request::ClientRole;
use annals::transport::TlsFiles;
use annals::transport::certs::{Authority, Validity};
use annals::{ClusterId, ReplicaId};
use tempfile::TempDir;

pub(crate) struct Fleet {
    dir: TempDir,
    addresses: Vec<SocketAddr>,
    authority: Authority,
    replicas: Vec<Option<Replica>>,
}

const CLUSTER: ClusterId = ClusterId::new(0xA11A);

impl Fleet {
    pub(crate) fn start() -> Fleet {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), CLUSTER, Validity::days(1)).unwrap();
        // Held together, so that they differ, and let go for the replicas to bind.
        let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        drop(sockets);
        let mut fleet = Fleet { dir, addresses, authority, replicas: vec![None, None, None] };
        for id in 1..=3 {
            let options = fleet.options(id);
            options.bootstrap([1, 2, 3].map(|id| (ReplicaId::new(id), 0))).unwrap();
            fleet.replicas[id as usize - 1] = Some(fleet.options(id).start().unwrap());
        }
        fleet
    }

    fn options(&self, id: u64) -> ReplicaOptions {
        let stem = format!("replica-{id}");
        let issued = self.authority.replica(ReplicaId::new(id), Validity::days(1)).unwrap();
        let tls = issued.write(self.dir.path(), &stem).unwrap();
        let others = (1..=3).filter(|other| *other != id);
        let address = |id: u64| self.addresses[id as usize - 1];
        ReplicaOptions::new(ReplicaId::new(id), self.dir.path().join(&stem))
            .cluster(CLUSTER)
            .listen(address(id))
            .peers(others.map(|other| (ReplicaId::new(other), address(other).to_string())))
            .certificates(tls.ca, tls.cert, tls.key)
            .segment_bytes(8 << 20)
    }

    fn certificate(&self, role: ClientRole) -> TlsFiles {
        let issued = self.authority.client(role, "tester", Validity::days(1)).unwrap();
        issued.write(self.dir.path(), &format!("client-{role:?}")).unwrap()
    }

    /// A client that knows some of the replicas.
    pub(crate) fn client(&self, role: ClientRole, known: &[u64]) -> ClientOptions {
        let TlsFiles { ca, cert, key } = self.certificate(role);
        let endpoints = known.iter().map(|id| self.addresses[*id as usize - 1].to_string());
        ClientOptions::new(endpoints.collect::<Vec<_>>())
            .certificates(ca, cert, key)
            .deadline(Duration::from_secs(20))
    }

    pub(crate) fn appender(&self) -> Client {
        self.client(ClientRole::Append, &[1, 2, 3]).connect().unwrap()
    }

    pub(crate) fn primary(&self) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let statuses = self.replicas.iter().flatten().filter_map(|replica| replica.status().ok());
            let leading =
                statuses.filter(|status| status.role == Role::Primary).max_by_key(|status| status.epoch);
            if let Some(status) = leading {
                return status.id.get();
            }
            assert!(Instant::now() < deadline, "no primary");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Ends without handing over.
    pub(crate) fn kill(&mut self, id: u64) {
        self.replicas[id as usize - 1] = None;
    }

    pub(crate) fn restart(&mut self, id: u64) {
        self.replicas[id as usize - 1] = Some(self.options(id).start().unwrap());
    }
}
