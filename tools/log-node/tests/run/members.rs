//! Who takes part, what is kept, and who may do what.

use std::fs;
use std::net::UdpSocket;

use crate::cluster::{Cluster, lines};

#[test]
fn a_replica_is_added_gets_all_records_and_is_removed_again() {
    let cluster = Cluster::start();
    cluster.append(&lines("line", 200));
    cluster.scratch.expect(0, "certs --dir c/certs --replica 4");
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let third = fs::read_to_string(cluster.scratch.path("c/replica-3.toml")).unwrap();
    let fourth: Vec<String> = third
        .lines()
        .filter(|line| !line.starts_with("http"))
        .map(|line| match line.split_once(" = ").unwrap().0 {
            "id" => "id = 4".to_owned(),
            "listen" => format!("listen = {address:?}"),
            "peers" => line.replace(']', &format!(", \"4={address}\"]")),
            _ => line.replace("replica-3", "replica-4"),
        })
        .collect();
    fs::write(cluster.scratch.path("c/replica-4.toml"), fourth.join("\n")).unwrap();
    cluster.scratch.expect(0, "create -c c/replica-4.toml --join");
    let mut newcomer = cluster.start_again(4);
    newcomer.wait_for("the replica runs");

    let said = cluster.expect(0, &format!("add 4={address} --deadline 30s"));
    assert!(said.out.contains("replica 4 votes") && said.out.contains("4 voters"), "{}", said.out);
    let seen = cluster.wait_for("all four are well", |seen| {
        seen["is_well"] == true && seen["replicas"].as_array().is_some_and(|all| all.len() == 4)
    });
    let durable = |at: usize| seen["replicas"][at]["report"]["durable"].as_u64();
    assert!(durable(3) >= Some(200), "{seen}");
    let said = cluster.expect(0, &format!("add 4={address}"));
    assert!(said.out.contains("takes part already"), "{}", said.out);

    let said = cluster.expect(0, "remove 4");
    assert!(said.out.contains("3 voters"), "{}", said.out);
    let said = cluster.expect(3, "remove 4");
    assert!(said.err.contains("no such replica"), "{}", said.err);
    assert_eq!(cluster.records(), lines("line", 200));
}

/// It was said to take part already, while nothing that it had took part in anything.
#[test]
fn a_replica_that_has_lost_its_disk_is_not_added_before_the_old_one_is_removed() {
    let mut cluster = Cluster::start();
    cluster.append(&lines("line", 20));
    let address = cluster.addresses()[1].clone();
    cluster.kill(2);
    fs::remove_dir_all(cluster.scratch.path("c/replica-2")).unwrap();
    cluster.scratch.expect(0, "create -c c/replica-2.toml --join");
    let mut again = cluster.start_again(2);
    again.wait_for("the replica runs");
    let said = cluster.expect(3, &format!("add 2={address} --deadline 30s"));
    assert!(said.err.contains("another disk") && said.err.contains("log-node remove 2"), "{}", said.err);
    cluster.expect(0, "remove 2 --deadline 30s");
    let said = cluster.expect(0, &format!("add 2={address} --deadline 30s"));
    assert!(said.out.contains("replica 2 votes"), "{}", said.out);
    cluster.wait_until_well();
}

#[test]
fn what_a_snapshot_covers_is_trimmed() {
    let cluster = Cluster::start();
    cluster.append(&lines("line", 200));
    // A snapshot of a backup covers what that knows to be committed.
    cluster.wait_for("all know that all is committed", |seen| {
        let committed = |at: usize| seen["replicas"][at]["report"]["committed"].as_u64();
        (0..3).all(|at| committed(at) > Some(200))
    });
    for id in 1..=3 {
        // On the last it is left to the trim, which takes one first: there is no state machine.
        if id != 3 {
            let said = cluster.expect(0, &format!("snapshot {id}"));
            let told = format!("replica {id}: a snapshot covers everything up to record");
            assert!(said.out.contains(&told), "{}", said.out);
        }
        let said = cluster.expect(0, &format!("trim {id} --through 100"));
        let (_, begins) = said.out.trim_end().split_once("begins at record ").unwrap();
        let (begins, why) = begins.split_once(": ").unwrap_or((begins, ""));
        let begins: u64 = begins.parse().unwrap();
        assert!((2..=101).contains(&begins), "{}", said.out);
        assert_eq!(begins == 101, why.is_empty(), "{}", said.out);
    }
    let records = cluster.records();
    assert_eq!(records.last().map(String::as_str), Some("line 200"));
    let said = cluster.expect(3, "tail --from 1");
    assert!(said.err.contains("trimmed") && said.err.contains("--from"), "{}", said.err);
}

#[test]
fn a_certificate_allows_what_its_role_says() {
    let cluster = Cluster::start();
    cluster.scratch.expect(0, "certs --dir c/certs --client read:board,append:shop");
    for name in ["read-board", "append-shop"] {
        let settings = fs::read_to_string(cluster.scratch.path("c/client.toml")).unwrap();
        fs::write(cluster.scratch.path(&format!("c/{name}.toml")), settings.replace("admin-dev", name))
            .unwrap();
    }
    let scratch = &cluster.scratch;
    scratch.expect_fed(0, "append -c c/append-shop.toml", "one\n");
    assert_eq!(scratch.expect(0, "tail -c c/read-board.toml").out, "one\n");
    let said = scratch.expect_fed(3, "append -c c/read-board.toml", "two\n");
    assert!(said.err.contains("--client append:NAME"), "{}", said.err);
    let said = scratch.expect(3, "transfer -c c/append-shop.toml --deadline 2s");
    assert!(said.err.contains("--client admin:NAME"), "{}", said.err);
    assert_eq!(cluster.records(), ["one"]);
}

#[test]
fn a_certificate_of_another_cluster_opens_nothing() {
    let cluster = Cluster::start();
    cluster.scratch.expect(0, "certs --dir other --client admin:me");
    let settings = fs::read_to_string(cluster.scratch.path("c/client.toml")).unwrap();
    let settings =
        settings.replace("certs/admin-dev", "../other/admin-me").replace("certs/ca", "../other/ca");
    fs::write(cluster.scratch.path("c/other.toml"), settings).unwrap();
    let said = cluster.scratch.expect(1, "status -c c/other.toml");
    assert!(said.out.contains("certificate"), "{}", said.out);
}

#[test]
fn a_new_cluster_gets_the_records_of_a_dump() {
    let cluster = Cluster::start();
    let dump = "{\"lsn\":1,\"epoch\":1,\"epoch_start\":true}\n\
                {\"lsn\":2,\"epoch\":1,\"bytes\":5,\"base64\":\"aGVsbG8=\"}\n\
                {\"gap\":{\"first\":3,\"last\":4},\"given_up\":true}\n\
                {\"lsn\":5,\"epoch\":1,\"bytes\":5,\"base64\":\"d29ybGQ=\"}\n";
    let said = cluster.scratch.expect_fed(0, "append -c c/client.toml --dump", dump);
    assert!(said.err.contains("appended 2 records") && said.err.contains("missing"), "{}", said.err);
    assert_eq!(cluster.records(), ["hello", "world"]);
    let said = cluster.scratch.expect_fed(3, "append -c c/client.toml --dump", "hello\n");
    assert!(said.err.contains("line 1 is none of"), "{}", said.err);
}
