//! Who is let in: certificates that are expired, foreign, somebody else's, or new since a SIGHUP.

use std::fs;
use std::time::{Duration, SystemTime};

use annals::ReplicaId;
use annals::protocol::request::ClientRole;
use annals::transport::certs::{Authority, Issued, Validity};

use crate::cluster::{Cluster, ask, lines};
use crate::scratch::{Running, wait_until};

const READ_AGAIN: &str = "the certificates were read again";

/// A time that is over since yesterday.
fn over() -> Validity {
    let day = Duration::from_secs(86_400);
    Validity { from: SystemTime::now() - 30 * day, until: SystemTime::now() - day }
}

impl Cluster {
    /// A certificate of the cluster's own authority, put into its place.
    fn issue(&self, stem: &str, issue: impl FnOnce(&Authority) -> Issued) {
        let dir = self.scratch.path("c/certs");
        issue(&Authority::open(&dir).unwrap()).write(&dir, stem).unwrap();
    }

    /// Settings of a client with another certificate, beside those of the usual one.
    fn client_with(&self, stem: &str) {
        let settings = fs::read_to_string(self.scratch.path("c/client.toml")).unwrap();
        let path = self.scratch.path(&format!("c/{stem}.toml"));
        fs::write(path, settings.replace("certs/admin-dev", &format!("certs/{stem}"))).unwrap();
    }

    /// Has all replicas read their certificates again.
    fn reload(&mut self) {
        for process in self.processes.values() {
            crate::scratch::signal(*process, "HUP");
        }
        for _ in 0..self.processes.len() {
            self.dev.wait_for(READ_AGAIN);
        }
    }
}

#[test]
fn an_expired_client_is_told_what_is_wrong() {
    let cluster = Cluster::start();
    let expired = |authority: &Authority| authority.client(ClientRole::Admin, "old", over()).unwrap();
    cluster.issue("admin-old", expired);
    cluster.client_with("admin-old");
    let said = cluster.scratch.expect(1, "status -c c/admin-old.toml");
    assert!(said.out.contains("our certificate, which is not valid at this time"), "{}", said.out);
    let said = cluster.scratch.expect_fed(3, "append -c c/admin-old.toml --deadline 2s", "line\n");
    assert!(said.err.contains("not valid at this time"), "{}", said.err);
    assert!(cluster.records().is_empty());
    let is_counted = |page| {
        let metrics = ask(page, "/metrics");
        metrics.contains("\nannals_refused_connections_total{reason=\"certificate\"} ")
    };
    // The status was asked of each.
    wait_until("all have counted it", || cluster.pages.values().all(|page| is_counted(page)));
}

#[test]
fn a_replica_with_the_certificate_of_somebody_else_does_not_start() {
    let mut cluster = Cluster::start();
    cluster.kill(3);
    let dir = "c/certs";
    for (stem, whose) in [("replica-2", "replica-2."), ("admin-dev", "admin.dev.")] {
        let args = format!("run -c c/replica-3.toml --cert {dir}/{stem}.pem --key {dir}/{stem}.key");
        let said = cluster.scratch.expect(3, &args);
        assert!(said.err.contains(whose) && said.err.contains("should be for replica-3."), "{}", said.err);
    }
    let args = format!("run -c c/replica-3.toml --key {dir}/replica-2.key");
    let said = cluster.scratch.expect(3, &args);
    assert!(said.err.contains("replica-2.key"), "{}", said.err);
}

#[test]
fn a_replica_whose_certificate_has_expired_is_let_in_after_a_new_one_and_a_sighup() {
    let mut cluster = Cluster::start();
    cluster.kill(3);
    cluster.issue("replica-3", |authority| authority.replica(ReplicaId::new(3), over()).unwrap());
    let mut expired = cluster.start_again(3);
    expired.wait_for("the replica runs");
    // It says why it is alone, and so do the others.
    expired.wait_for("the other side refused our certificate, which is not valid at this time");
    cluster.dev.wait_for("refused the other side's certificate, which is not valid at this time");
    cluster.append(&lines("without", 100));
    let said = cluster.expect(1, "status");
    assert!(said.out.contains("not valid at this time"), "{}", said.out);

    // A file that is of no use changes nothing.
    let certificate = cluster.scratch.path("c/certs/replica-3.pem");
    fs::write(&certificate, "no certificate").unwrap();
    expired.signal("HUP");
    expired.wait_for("those from before stay in use");

    cluster.scratch.expect(0, "certs --dir c/certs --replica 3");
    expired.signal("HUP");
    expired.wait_for(READ_AGAIN);
    expired.wait_for("connected to the peer again");
    cluster.wait_until_well();
    cluster.kill(cluster.primary_but(3));
    cluster.append(&lines("with", 100));
    assert_eq!(cluster.records(), [lines("without", 100), lines("with", 100)].concat());
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of_at_the_start_and_when_it_is_read_again() {
    let mut cluster = Cluster::start();
    cluster.kill(3);
    let ends_in = |days: u32| Validity::days(days);
    cluster.issue("replica-3", |authority| authority.replica(ReplicaId::new(3), ends_in(10)).unwrap());
    let mut warned = cluster.start_again(3);
    let line = warned.wait_for("the certificate ends soon");
    assert!(line.contains("WARN") && line.contains("days_left=9"), "{line}");

    cluster.issue("replica-3", |authority| authority.replica(ReplicaId::new(3), ends_in(5)).unwrap());
    warned.signal("HUP");
    let line = warned.wait_for("the certificate ends soon");
    assert!(line.contains("days_left=4"), "{line}");
    warned.wait_for(READ_AGAIN);

    cluster.issue("replica-3", |authority| authority.replica(ReplicaId::new(3), over()).unwrap());
    warned.signal("HUP");
    warned.wait_for("the certificate has ended");
    warned.wait_for(READ_AGAIN);

    cluster.issue("replica-3", |authority| authority.replica(ReplicaId::new(3), ends_in(90)).unwrap());
    let before = warned.said.len();
    warned.signal("HUP");
    warned.wait_for(READ_AGAIN);
    let said = &warned.said[before..];
    assert!(!said.iter().any(|line| line.contains("the certificate ")), "{said:?}");
}

#[test]
fn the_authority_is_changed_without_a_restart_and_connections_go_on() {
    let mut cluster = Cluster::start();
    let scratch_path = |cluster: &Cluster, name: &str| cluster.scratch.path(name);
    let mut tail = cluster.scratch.start("tail -c c/client.toml --follow --from 1");
    let mut appending = cluster.scratch.start("append -c c/client.toml -v --deadline 30s");
    let mut say = |tail: &mut Running, line: &str| {
        appending.type_line(line);
        tail.wait_for(line);
    };
    say(&mut tail, "under the old authority");

    // As docs/operations.md says: both authorities, then all certificates, then the new authority alone.
    let settings = fs::read_to_string(scratch_path(&cluster, "c/client.toml")).unwrap();
    fs::write(scratch_path(&cluster, "c/former.toml"), settings.replace("certs/", "former/")).unwrap();
    fs::create_dir(scratch_path(&cluster, "c/former")).unwrap();
    for name in ["ca.pem", "admin-dev.pem", "admin-dev.key"] {
        let (from, to) = (format!("c/certs/{name}"), format!("c/former/{name}"));
        fs::copy(scratch_path(&cluster, &from), scratch_path(&cluster, &to)).unwrap();
    }
    let id = cluster_id(&cluster);
    let args = format!("certs --dir new --cluster {id} --replicas 3 --client admin:dev");
    cluster.scratch.expect(0, &args);
    let read = |cluster: &Cluster, name: &str| fs::read_to_string(scratch_path(cluster, name)).unwrap();
    let both = read(&cluster, "c/certs/ca.pem") + &read(&cluster, "new/ca.pem");
    fs::write(scratch_path(&cluster, "c/certs/ca.pem"), both).unwrap();
    cluster.reload();
    say(&mut tail, "under both");

    for stem in ["replica-1", "replica-2", "replica-3", "admin-dev"] {
        for end in ["pem", "key"] {
            let (from, to) = (format!("new/{stem}.{end}"), format!("c/certs/{stem}.{end}"));
            fs::copy(scratch_path(&cluster, &from), scratch_path(&cluster, &to)).unwrap();
        }
    }
    cluster.reload();
    cluster.wait_until_well();
    fs::copy(scratch_path(&cluster, "new/ca.pem"), scratch_path(&cluster, "c/certs/ca.pem")).unwrap();
    cluster.reload();
    say(&mut tail, "under the new one, over a connection of old");

    // Whoever comes with the old one comes too late, and replicas find each other by the new one.
    let said = cluster.scratch.expect(1, "status -c c/former.toml");
    assert!(said.out.contains("certificate"), "{}", said.out);
    cluster.wait_until_well();
    drop((tail, appending));
    cluster.kill(cluster.primary());
    cluster.append(&lines("after", 50));
    let mut all: Vec<String> =
        ["under the old authority", "under both", "under the new one, over a connection of old"]
            .map(str::to_owned)
            .into();
    all.extend(lines("after", 50));
    assert_eq!(cluster.records(), all);
}

/// The cluster's id, as a replica's settings have it.
fn cluster_id(cluster: &Cluster) -> String {
    let settings = fs::read_to_string(cluster.scratch.path("c/replica-1.toml")).unwrap();
    let line = settings.lines().find(|line| line.starts_with("cluster")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}
