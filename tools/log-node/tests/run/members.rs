//! Who takes part, what is kept, and who may do what.

use std::fs;
use std::net::UdpSocket;

use crate::cluster::{Cluster, lines};
use crate::scratch::{Running, Scratch, comes_true};

#[test]
fn a_replica_is_added_gets_all_records_and_is_removed_again() {
    let cluster = Cluster::start();
    cluster.append(&lines("line", 200));
    let (_newcomer, address) = newcomer(&cluster);

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

/// A replica 4 that runs and was not added yet, and where it is.
fn newcomer(cluster: &Cluster) -> (Running, String) {
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
    (newcomer, address)
}

#[test]
fn a_priority_that_is_changed_is_heeded_and_a_learner_has_none() {
    let cluster = Cluster::start_in(Scratch::new(), "--replicas 3 --port 0 --policy priority");
    let preferred = cluster.primary() % 3 + 1;
    let said = cluster.expect(0, &format!("priority {preferred} 10 --deadline 60s"));
    assert!(said.out.contains(&format!("replica {preferred} has priority 10 now, of ")), "{}", said.out);
    cluster.wait_for("the preferred one leads", |seen| seen["primary"] == preferred);
    let said = cluster.expect(0, &format!("priority {preferred} 10 --deadline 60s"));
    let expected: Vec<String> =
        (1..=3).map(|id| format!("{id}={}", if id == preferred { 10 } else { 0 })).collect();
    let expected = format!("replica {preferred} has priority 10 already, of {}\n", expected.join(","));
    assert_eq!(said.out, expected);

    let (_newcomer, address) = newcomer(&cluster);
    cluster.expect(0, &format!("add 4={address} --learner --deadline 60s"));
    cluster.wait_for("the primary knows where it is", |seen| {
        let all = seen["replicas"].as_array().unwrap();
        let primary = all.iter().find(|replica| replica["id"] == seen["primary"]);
        primary.is_some_and(|primary| primary["report"]["members"][3]["address"] == *address)
    });
    let said = cluster.expect(3, "priority 4 20 --deadline 60s");
    assert!(said.err.contains("replica 4 is a learner, and never leads"), "{}", said.err);
    assert!(said.err.contains(&format!("log-node add 4={address} --priority 20")), "{}", said.err);
    let said = cluster.expect(3, "priority 9 1 --deadline 60s");
    assert!(said.err.contains("no such replica"), "{}", said.err);
}

#[test]
fn quorums_that_are_changed_commit_with_fewer_and_those_that_miss_each_other_are_refused() {
    let mut cluster = Cluster::start();
    let refused = |cluster: &Cluster, args: &str, told: &str| {
        let said = cluster.expect(3, &format!("quorums {args} --deadline 60s"));
        assert!(said.err.contains(told), "{args}: {}", said.err);
    };
    refused(&cluster, "--write 3 --election 1", "give --election at least 2");
    refused(&cluster, "--write 1 --election 2", "such as --write 1 --election 3");
    refused(&cluster, "--write 4 --election 2", "give --write from 1 to 3");
    let said = cluster.expect(0, "quorums --write 1 --election 3 --deadline 60s");
    let now = "3 voters: 1 commit, 3 elect, 0 may be lost at a time\n";
    assert_eq!(said.out, now);
    let said = cluster.expect(0, "quorums --write 1 --election 3 --deadline 60s");
    assert_eq!(said.out, format!("it is so already\n{now}"));

    // The primary alone commits, and says so.
    let primary = cluster.primary();
    let others: Vec<u64> = (1..=3).filter(|id| *id != primary).collect();
    others.iter().for_each(|id| cluster.kill(*id));
    cluster.append(&lines("alone", 50));
    refused(&cluster, "--majority", "only 1 of 3 voters answer");
    let said = cluster.expect(3, &format!("remove {} --deadline 60s", others[0]));
    assert!(
        said.err.contains("3 cannot elect") && said.err.contains("log-node quorums --majority"),
        "{}",
        said.err
    );

    let _again: Vec<_> = others.iter().map(|id| cluster.start_again(*id)).collect();
    cluster.wait_until_well();
    let said = cluster.expect(0, "quorums --majority --deadline 60s");
    assert_eq!(said.out, "3 voters: 2 commit, 2 elect, 1 may be lost at a time\n");
    assert_eq!(cluster.records(), lines("alone", 50));
}

/// It answers, its disk is good, and it knows the primary: that was called well, whatever it lacked.
#[test]
fn a_replica_that_lags_is_not_well_and_the_table_says_which() {
    let mut cluster = Cluster::start();
    cluster.wait_until_well();
    let laggard = cluster.primary() % 3 + 1;
    cluster.kill(laggard);
    let record = "x".repeat(1000);
    cluster.append(&vec![record; 3000]);
    // So slow that it never gets all of it, however quick the machine is.
    let cluster = cluster.restart_with("catch_up_rate = \"1k\"\n");
    let told = format!("replica {laggard} does not get records as they are appended: catching up, ");
    let mut said = cluster.scratch.run("status -c c/client.toml");
    let is_told = comes_true(|| {
        said = cluster.scratch.run("status -c c/client.toml");
        said.out.contains(&told)
    });
    assert!(is_told, "{}{}\n{}", said.out, said.err, cluster.dev.so_far());
    assert_eq!(said.status, 1, "{}", said.out);
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
