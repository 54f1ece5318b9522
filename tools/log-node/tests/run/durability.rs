//! How many copies an append waits for, and what the user is told of it.

use std::fs;

use crate::cluster::{Cluster, lines};
use crate::scratch::{Running, Said, Scratch};

fn append(cluster: &Cluster, status: i32, flags: &str, count: u64) -> Said {
    let input = format!("{}\n", lines("line", count).join("\n"));
    cluster.scratch.expect_fed(status, &format!("append -c c/client.toml --deadline 30s {flags}"), &input)
}

#[test]
fn an_append_waits_for_as_many_copies_as_it_says_and_not_for_more_than_there_are() {
    let cluster = Cluster::start();
    for copies in ["1", "2", "3", "quorum", "all"] {
        let said = append(&cluster, 0, &format!("--durability {copies}"), 3);
        assert!(said.err.starts_with("appended 3 records, "), "{}", said.err);
        assert!(!said.err.contains("not committed"), "{}", said.err);
    }
    let said = append(&cluster, 3, "--durability 4", 1);
    assert!(said.err.contains("more copies than there are members (3)"), "{}", said.err);
    assert_eq!(cluster.records().len(), 15);
}

/// A cluster that replica 1 leads for longer than anybody waits here after it has lost its quorum: nothing is committed then.
fn led_for_long() -> Cluster {
    let mut cluster = Cluster::begin_at(Scratch::new(), "c", "--replicas 3 --port 0 --policy manual");
    cluster.dev.wait_for("nobody leads until you say who");
    cluster.dev.signal("INT");
    cluster.dev.wait();
    let path = cluster.scratch.path("c/replica-1.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{settings}election_min = \"5m\"\nelection_max = \"10m\"\n")).unwrap();
    let mut cluster = Cluster::begin_at(cluster.scratch, "c", "");
    cluster.wait_until_all_answer();
    cluster.promote(2);
    cluster.wait_until_ready();
    cluster.wait_until_all_have_all();
    cluster.expect(0, "transfer --to 1 --deadline 60s");
    cluster
}

/// One who appends to such a cluster, and has been answered once; then both backups are killed.
fn appending_to_the_last(args: &str) -> (Cluster, Running) {
    let mut cluster = led_for_long();
    let mut appending = cluster.scratch.start(&format!("append -c c/client.toml -v {args}"));
    appending.type_line("first");
    appending.wait_for("");
    cluster.kill(2);
    cluster.kill(3);
    (cluster, appending)
}

#[test]
fn the_last_line_counts_the_records_that_were_not_committed_when_they_were_answered() {
    let (_cluster, mut appending) = appending_to_the_last("--durability local --deadline 60s");
    for line in ["second", "third"] {
        appending.type_line(line);
        appending.wait_for(", not committed yet");
    }
    appending.let_go();
    let (status, said) = appending.wait();
    let marked = said.lines().filter(|line| line.ends_with(", not committed yet")).count();
    let told = format!("; {marked} not committed yet when answered: a failover may have lost them");
    assert!(status.success() && said.contains("appended 3 records, ") && said.contains(&told), "{said}");
}

/// One line was told of, and not what had become of those that were on their way with it.
#[test]
fn when_a_line_fails_it_is_told_which_ones_are_in_the_log() {
    let (_cluster, mut appending) = appending_to_the_last("--deadline 5s");
    for line in ["second", "third"] {
        appending.type_line(line);
    }
    // Its standard input stays open: nobody waits for another line.
    let (status, said) = appending.wait();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("appended 1 record, ") && said.contains(", of line 1\n"), "{said}");
    assert!(said.contains("error: line 2: nobody knows") && said.contains("look for line 2 with"), "{said}");
}
