//! `dev`: a whole cluster as child processes.

use std::time::SystemTime;

use crate::cluster::{Cluster, ask, lines, wait_until_free};
use crate::scratch::wait_until;

#[test]
fn a_cluster_is_started_appended_to_and_ended_and_is_there_again() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.processes.len(), 3);
    let said = cluster.append(&lines("line", 500));
    assert!(said.err.starts_with("appended 500 records"), "{}", said.err);
    assert_eq!(cluster.records(), lines("line", 500));
    let said = cluster.scratch.expect(64, "dev --dir c --replicas 5");
    assert!(said.err.contains("has 3 replicas"), "{}", said.err);
    for later in ["--policy manual", "--priorities 2=10"] {
        let said = cluster.scratch.expect(64, &format!("dev --dir c {later}"));
        assert!(said.err.contains("is there already"), "{}", said.err);
    }
    let said = cluster.scratch.expect(3, "dev --dir c");
    assert!(
        said.err.contains("another process has the port") && said.out.is_empty(),
        "{}{}",
        said.out,
        said.err
    );

    let addresses = cluster.addresses();
    cluster.dev.signal("INT");
    let (status, said) = cluster.dev.wait();
    assert!(status.success() && said.contains("all replicas have ended"), "{status}: {said}");
    assert_eq!(said.matches("ended: all is on the disk").count(), 3, "{said}");
    wait_until_free(&addresses);

    let cluster = Cluster::start_in(cluster.scratch, "");
    assert_eq!(cluster.addresses(), addresses);
    assert_eq!(cluster.records(), lines("line", 500));
}

#[test]
fn no_replica_outlives_a_killed_dev() {
    let cluster = Cluster::start();
    let addresses = cluster.addresses();
    cluster.dev.signal("KILL");
    wait_until_free(&addresses);
}

#[test]
fn dev_ends_when_all_replicas_have_and_starts_none_again() {
    let mut cluster = Cluster::start();
    for id in cluster.processes.keys().copied().collect::<Vec<_>>() {
        cluster.kill(id);
    }
    let (status, said) = cluster.dev.wait();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("run -c c/replica-1.toml"), "{said}");
}

#[test]
fn the_status_page_shows_the_cluster_and_metrics() {
    let cluster = Cluster::start();
    cluster.append(&lines("line", 10));
    for (id, page) in &cluster.pages {
        assert!(ask(page, "/").contains("</html>"));
        // On a machine that is busy with other things somebody may just stand for election.
        wait_until("the page shows three replicas that are well", || {
            let data: serde_json::Value = serde_json::from_str(&ask(page, "/status")).unwrap();
            assert_eq!(data["me"], *id);
            let replicas = data["overview"]["replicas"].as_array().unwrap();
            replicas.len() == 3 && data["overview"]["is_well"] == true && data["overview"]["primary"].is_u64()
        });
        let metrics = ask(page, "/metrics");
        for name in ["annals_node_role{role=\"backup\"}", "annals_node_lsn{watermark=\"committed\"}"] {
            assert!(metrics.contains(name), "{metrics}");
        }
        let end =
            metrics.lines().find_map(|line| line.strip_prefix("annals_certificate_end_timestamp_seconds "));
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let days_left = (end.expect("a certificate ends").parse::<f64>().unwrap() - since_1970) / 86_400.0;
        assert!((3640.0..3650.0).contains(&days_left), "`dev` makes them for ten years: {days_left}");
        // A name that is told twice makes Prometheus refuse all of them.
        let mut names: Vec<&str> = metrics.lines().filter(|line| line.starts_with("# TYPE")).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{metrics}");
    }
}
