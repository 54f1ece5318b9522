//! How many copies an append waits for, and what the user is told of it.

use crate::cluster::{Cluster, lines};
use crate::scratch::Said;

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

/// How many those are is up to the network and the disks; but each that is marked is counted.
#[test]
fn the_last_line_counts_the_records_that_were_not_committed_when_they_were_answered() {
    let cluster = Cluster::start();
    let said = append(&cluster, 0, "--durability local --verbose", 300);
    assert_eq!(said.out.lines().count(), 300);
    let marked = said.out.lines().filter(|line| line.ends_with(", not committed yet")).count();
    let told = said.err.trim_end().split_once("; ").map_or("0", |(_, note)| {
        note.strip_suffix(" not committed yet when answered: a failover may have lost them").unwrap()
    });
    assert_eq!(told, marked.to_string(), "{}", said.err);
    let piped = append(&cluster, 0, "--durability local", 300);
    assert!(piped.out.is_empty() && piped.err.starts_with("appended 300 records"), "{}", piped.err);
}
