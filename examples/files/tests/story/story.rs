//! The story of the store.

use std::fs::{self, File};

use files::digest::Digest;
use files::operation::OperationId;
use files::record::CHUNK_BYTES;

use crate::cluster::{Cluster, large_bytes};

/// Memory that a process may take at its peak, however large the file is. Most of it is the replica's: the newest records,
/// and those that wait for their commit.
const PEAK_KIB_MAX: u64 = 300 << 10;

#[test]
fn a_large_put_is_whole_or_not_at_all_and_a_blank_node_becomes_the_same() {
    let cluster = Cluster::start(3);
    two_keys_are_the_same_on_three_nodes(&cluster);
    let (large, victim) = a_killed_put_is_not_there_and_its_retry_does_it_once(&cluster);
    cluster.stage.start(victim).unwrap();
    cluster.stage.agreement().unwrap();
    a_put_survives_the_leader(&cluster);
    a_blank_node_catches_up_from_a_snapshot(&cluster, large);
    memory_is_bounded(&cluster);
}

fn two_keys_are_the_same_on_three_nodes(cluster: &Cluster) {
    let keys = b"alpha = 1\nbeta = 2\n";
    let file = cluster.write("file.txt", keys);
    cluster.expect(0, &["put", &file]);
    cluster.stage.agreement().unwrap();
    for node in 1..=3 {
        assert_eq!(cluster.got("file.txt", node), Digest::of(keys));
        let blobs = cluster.blobs(node);
        assert_eq!(blobs.len(), 1, "node {node}");
        assert_eq!(fs::read(&blobs[0]).unwrap(), keys, "node {node}");
    }
    let said = cluster.expect(0, &["stat", "--cluster"]).out;
    assert_eq!((said.matches("leader").count(), said.matches("follower").count()), (1, 2), "{said}");
}

/// Gives the file's digest, and who was killed.
fn a_killed_put_is_not_there_and_its_retry_does_it_once(cluster: &Cluster) -> (Digest, u64) {
    let (file, digest) = cluster.noise("large", large_bytes());
    let id = OperationId::random().unwrap();
    let (id_text, chunks) = (id.to_string(), large_bytes() / CHUNK_BYTES as u64 / 12);
    let mut putting = cluster.put_piecemeal("large", id);
    putting.give(&mut File::open(&file).unwrap(), chunks * CHUNK_BYTES as u64);
    cluster.stage.chunks_of(id, chunks).unwrap();
    let victim = cluster.stage.leader().unwrap();
    cluster.stage.kill(victim);
    putting.put.kill();
    cluster.stage.leader().unwrap();
    assert!(!cluster.expect(0, &["list"]).out.contains("large"));
    assert_eq!(cluster.expect(1, &["get", "large", "-"]).out, "");
    let said = cluster.expect(1, &["stat", "--cluster"]).out;
    assert!(said.contains("silent") && said.contains("under way"), "{said}");

    let said = cluster.expect(0, &["put", &file, "--id", &id_text]).out;
    assert!(said.contains("from an earlier attempt"), "{said}");
    let first = cluster.expect(0, &["stat", "large"]).out;
    let said = cluster.expect(0, &["put", &file, "--id", &id_text]).out;
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(cluster.expect(0, &["stat", "large"]).out, first);
    assert!(first.contains(&digest.to_string()) && first.contains(&id_text), "{first}");
    (digest, victim)
}

/// Whoever puts does not notice that the leader is another one meanwhile.
fn a_put_survives_the_leader(cluster: &Cluster) {
    let (file, digest) = cluster.noise("other", large_bytes() / 2);
    let (id, mut file) = (OperationId::random().unwrap(), File::open(file).unwrap());
    let mut putting = cluster.put_piecemeal("other", id);
    putting.give(&mut file, large_bytes() / 4);
    cluster.stage.chunks_of(id, 2).unwrap();
    let victim = cluster.stage.leader().unwrap();
    cluster.stage.kill(victim);
    let said = putting.end(&mut file);
    assert_eq!(said.status, Some(0), "{said:?}");
    cluster.stage.start(victim).unwrap();
    cluster.stage.agreement().unwrap();
    assert_eq!(cluster.got("other", victim), digest);
}

fn a_blank_node_catches_up_from_a_snapshot(cluster: &Cluster, large: Digest) {
    let begin = cluster.stage.wait_for("a trimmed log", |reports| {
        reports.iter().find(|report| report.role == "leader" && report.first > 1).map(|report| report.first)
    });
    cluster.stage.join(4).unwrap();
    let report = cluster.stage.wait_for("node 4 to vote", |reports| {
        let is_in = reports.iter().flat_map(|report| &report.peers).any(|peer| peer.node == 4 && peer.votes);
        reports.iter().find(|report| report.node == 4 && is_in).cloned()
    });
    assert!(report.unwrap().snapshot + 1 >= begin.unwrap());
    cluster.stage.agreement().unwrap();
    assert_eq!(cluster.got("large", 4), large);
    let states = cluster.states();
    assert!(states.len() == 4 && states.iter().all(|state| *state == states[0]), "{states:?}");
    let contents = |node| cluster.blobs(node).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    if large_bytes() < 100 << 20 {
        assert!(contents(4) == contents(1));
    }
}

/// Looked at where a file is larger than what is allowed; a small one says nothing.
fn memory_is_bounded(cluster: &Cluster) {
    for node in 1..=4 {
        let process = cluster.stage.process(node).unwrap();
        let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { continue };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        println!("node {node}: {} MiB at its peak", peak >> 10);
        assert!(large_bytes() < 512 << 20 || peak < PEAK_KIB_MAX, "node {node}: {peak} KiB");
    }
}

#[test]
fn of_two_puts_of_one_name_at_the_same_time_the_first_commit_wins_and_the_other_is_told() {
    let cluster = Cluster::start(1);
    let noise = [cluster.noise("one", 3 << 20), cluster.noise("two", 3 << 20 | 1)];
    let mut begun = vec![];
    for (path, _) in &noise {
        let (id, mut file) = (OperationId::random().unwrap(), File::open(path).unwrap());
        let mut put = cluster.put_piecemeal("same", id);
        put.give(&mut file, 1 << 20);
        cluster.stage.chunks_of(id, 1).unwrap();
        fs::remove_file(cluster.path("same.pipe")).unwrap();
        begun.push((put, file));
    }
    let ended: Vec<_> = begun.into_iter().map(|(put, mut file)| put.end(&mut file)).collect();
    assert_eq!(ended[0].status, Some(0), "{ended:?}");
    assert!(ended[1].status == Some(1) && ended[1].err.contains("--replace"), "{ended:?}");
    assert_eq!(cluster.got("same", 1), noise[0].1);
    // The loser's contents are gone with the next checkpoint, and its name was never there.
    assert_eq!(cluster.expect(0, &["list"]).out.lines().count(), 1);
    // With --replace the last one is it, and a put that has not ended replaces nothing.
    cluster.expect(0, &["put", &noise[1].0, "--as", "same", "--replace"]);
    assert_eq!(cluster.got("same", 1), noise[1].1);
}
