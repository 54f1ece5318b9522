//! `repair --from-peer`: three replicas on the loopback, one of them with damage.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use annals::node::{Replica, ReplicaOptions};
use annals::protocol::Role;
use annals::transport::certs::{Authority, Validity};
use annals::{ClusterId, ReplicaId};

use crate::scratch::{Scratch, edit};

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster whose directories are `r1` to `r3`, and whose certificates are in `certs`.
struct Cluster {
    scratch: Scratch,
    authority: Authority,
    addresses: Vec<SocketAddr>,
    id: ClusterId,
}

impl Cluster {
    fn new(scratch: Scratch, id: u128) -> Cluster {
        let id = ClusterId::new(id);
        let authority = Authority::create(&scratch.path("certs"), id, Validity::days(1)).unwrap();
        // Held together, so that they differ, and let go for the replicas to bind.
        let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let cluster = Cluster { scratch, authority, addresses, id };
        for replica in 1..=3 {
            let voters = (1..=3).map(|id| (ReplicaId::new(id), 0));
            cluster.options(replica).bootstrap(voters).unwrap();
        }
        cluster
    }

    fn address(&self, replica: u64) -> SocketAddr {
        self.addresses[usize::try_from(replica).unwrap() - 1]
    }

    fn options(&self, replica: u64) -> ReplicaOptions {
        let id = ReplicaId::new(replica);
        let issued = self.authority.replica(id, Validity::days(1)).unwrap();
        let files = issued.write(&self.scratch.path("certs"), &format!("replica-{replica}")).unwrap();
        let others = (1..=3).filter(|other| *other != replica);
        ReplicaOptions::new(id, self.scratch.path(&format!("r{replica}")))
            .cluster(self.id)
            .listen(self.address(replica))
            .peers(others.map(|other| (ReplicaId::new(other), self.address(other).to_string())))
            .certificates(files.ca, files.cert, files.key)
            .segment_bytes(64 << 10)
    }

    fn start(&self, replicas: &[u64]) -> Vec<Replica> {
        let replicas: Vec<Replica> = replicas.iter().map(|id| self.options(*id).start().unwrap()).collect();
        wait_until("somebody leads", || primary(&replicas).is_some());
        replicas
    }
}

fn primary(replicas: &[Replica]) -> Option<&Replica> {
    replicas.iter().find(|replica| replica.status().is_ok_and(|status| status.role == Role::Primary))
}

/// Looks until it is so: what it looks at has no way to tell.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        // Between two looks the replicas have the processors for themselves.
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Appends until `count` records are acknowledged by all, and closes all.
fn fill(replicas: Vec<Replica>, count: usize) {
    let mut number = 0;
    wait_until("all is appended", || primary(&replicas).is_some());
    while number < count {
        // Whoever leads may change while the machine is busy.
        let Some(leader) = primary(&replicas) else { continue };
        let record = format!("record {number:06} {}", "lamp ".repeat(100));
        if leader.append(record.as_bytes()).is_ok_and(|ticket| ticket.wait().is_ok()) {
            number += 1;
        }
    }
    let last = || replicas.iter().map(|replica| replica.status().unwrap().durable).collect::<Vec<_>>();
    wait_until("all have all", || last().windows(2).all(|pair| pair[0] == pair[1]));
    for replica in replicas {
        replica.shutdown().unwrap();
    }
}

/// Spoils bytes in the middle of the second and the third segment.
fn spoil(scratch: &Scratch, name: &str) {
    let segments = scratch.segments(name);
    assert!(segments.len() > 4, "{segments:?}");
    for segment in &segments[1..3] {
        edit(&scratch.path(&format!("{name}/{segment}")), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 1500].fill(0xAA);
        });
    }
}

#[test]
fn exactly_what_a_replica_has_lost_comes_back_from_a_peer() {
    let cluster = Cluster::new(Scratch::new(), 0xA11A);
    fill(cluster.start(&[1, 2, 3]), 600);
    let scratch = &cluster.scratch;
    let whole = scratch.expect(0, "dump r3 --raw").out;
    spoil(scratch, "r3");
    let damaged = scratch.json(2, "verify r3");
    let lost = damaged["lost_records"].as_u64().unwrap();
    assert!((2..100).contains(&lost), "{damaged}");

    let others = cluster.start(&[1, 2]);
    // What a replica does not know to be committed it gives to nobody; after a start its primary tells it by and by.
    wait_until("replica 1 knows what is committed", || {
        others[0].status().is_ok_and(|status| status.applied.get() >= 600 && status.applied == status.durable)
    });
    let (peer, own) = (cluster.address(1), cluster.address(3));
    let repaired = scratch.json(0, &format!("repair r3 --from-peer {peer} --certs certs"));
    assert_eq!(repaired["peer"], 1);
    assert_eq!(repaired["came_back"], damaged["lost"], "{repaired}");
    assert_eq!(repaired["came_back_records"], lost);
    assert_eq!(repaired["lost"], serde_json::json!([]));
    scratch.expect(0, "verify r3");
    assert!(scratch.expect(0, "dump r3 --raw").out == whole, "the records are others than before");
    let said = scratch.expect(0, &format!("repair r3 --from-peer {peer} --certs certs"));
    assert!(said.out.contains("Nothing is lost"), "{}", said.out);

    // It follows its primary again, and is whole in its own eyes.
    let third = cluster.options(3).start().unwrap();
    wait_until("replica 3 follows", || third.status().is_ok_and(|status| status.role == Role::Backup));
    let said = scratch.expect(3, &format!("repair r3 --from-peer {peer} --certs certs"));
    assert!(said.err.contains("stop process"), "{}", said.err);
    for replica in others.into_iter().chain([third]) {
        let _ = replica.shutdown();
    }
    assert!(UdpSocket::bind(own).is_ok());
}

/// It was told to be removed from the cluster and made anew, and once its snapshot was put aside, to ask one peer after the
/// other for records 0 to 0, which all of them refuse.
#[test]
fn a_replica_that_has_lost_its_snapshot_is_to_be_started() {
    let cluster = Cluster::new(Scratch::new(), 0xC33C);
    fill(cluster.start(&[1, 2, 3]), 600);
    let scratch = &cluster.scratch;
    spoil(scratch, "r3");
    edit(&scratch.path("r3/base"), |bytes| bytes[40] ^= 4);
    let rotten = fs::read(scratch.path("r3/base")).unwrap();

    let others = cluster.start(&[1, 2]);
    let command = format!("repair r3 --from-peer {} --certs certs", cluster.address(1));
    // First as it lies there, then put aside.
    for _ in 0..2 {
        let said = scratch.json(2, &command);
        assert_eq!(said["base_lost"], true, "{said}");
        assert_eq!((&said["came_back"], &said["lost"]), (&serde_json::json!([]), &serde_json::json!([])));
        assert!(said["next"].as_str().unwrap().starts_with("start the replica"), "{said}");
        assert!(fs::read(scratch.path("r3/quarantine-base-1")).unwrap() == rotten);
    }
    let said = scratch.expect(2, &command);
    assert!(said.out.starts_with("STILL LOST: the newest snapshot"), "{}", said.out);

    // That helps.
    let third = cluster.options(3).start().unwrap();
    wait_until("replica 3 follows", || third.status().is_ok_and(|status| status.role == Role::Backup));
    let last = || third.status().unwrap().durable.get();
    wait_until("replica 3 has all", || last() >= 600);
    third.shutdown().unwrap();
    let said = scratch.json(0, &command);
    assert_eq!(said["base_lost"], false, "{said}");
    for replica in others {
        let _ = replica.shutdown();
    }
}

#[test]
fn nothing_is_fetched_from_strangers_or_from_nobody() {
    let cluster = Cluster::new(Scratch::new(), 0xA11A);
    let nobody = cluster.address(2);
    let scratch = &cluster.scratch;
    let seen = scratch.json(0, "inspect r3");
    let roles: Vec<_> =
        seen["strays"].as_array().unwrap().iter().map(|one| (&one["file"], &one["role"])).collect();
    // Nobody is to take them for leftovers.
    assert!(
        roles
            .iter()
            .filter(|(file, role)| (*file == "base" || *file == "peers") && *role == "replica")
            .count()
            == 2,
        "{seen}"
    );

    let said = scratch.expect(3, &format!("repair r3 --from-peer {nobody} --certs certs --deadline 0.3"));
    assert!(said.err.contains(&nobody.to_string()) && said.err.contains("next:"), "{}", said.err);
    fs::create_dir(scratch.path("empty")).unwrap();
    let said = scratch.expect(3, &format!("repair r3 --from-peer {nobody} --certs empty"));
    assert!(said.err.contains("holds no certificate"), "{}", said.err);

    // Another cluster, which lets this client in, does not know the disk.
    let other = Cluster::new(Scratch::new(), 0xB22B);
    let replicas = other.start(&[1, 2]);
    let certs = other.scratch.path("certs");
    let said =
        scratch.expect(3, &format!("repair r3 --from-peer {} --certs {}", other.address(1), certs.display()));
    assert!(said.err.contains("knows no member whose disk"), "{}", said.err);
    for replica in replicas {
        let _ = replica.shutdown();
    }
}
