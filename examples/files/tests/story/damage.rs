//! A byte that is not what was written, on one node's disk.

use std::fs;

use crate::cluster::Cluster;

#[test]
fn wrong_bytes_are_never_handed_out_and_a_removed_store_comes_back() {
    let cluster = Cluster::start(2);
    let (file, digest) = cluster.noise("a", 3 << 20);
    cluster.expect(0, &["put", &file]);
    cluster.stage.agreement().unwrap();
    let blob = &cluster.blobs(1)[0];
    let mut bytes = fs::read(blob).unwrap();
    bytes[2 << 20] ^= 1;
    fs::write(blob, bytes).unwrap();

    // From there on it is read from the other node.
    let to = cluster.path("to").to_str().unwrap().to_owned();
    let said = cluster.expect(0, &["get", "a", &to, "--from", "1"]);
    assert!(
        said.err.contains("N01 could not be read from") && said.out.contains("N01, then N02"),
        "{said:?}"
    );
    assert_eq!(crate::cluster::digest_of(&cluster.path("to")), digest);

    // And if there is no other, it is refused.
    cluster.stage.kill(2);
    let to = cluster.path("refused");
    let said =
        cluster.stage.run(&["get", "a", to.to_str().unwrap(), "--from", "1", "--deadline", "2"]).unwrap();
    assert!(said.status != Some(0) && !to.exists(), "{said:?}");
    cluster.stage.start(2).unwrap();
    cluster.stage.leader().unwrap();

    // What the error advises.
    cluster.stage.kill(1);
    fs::remove_dir_all(cluster.stage.dir().join("N01/store")).unwrap();
    cluster.stage.start(1).unwrap();
    cluster.stage.agreement().unwrap();
    let said =
        cluster.expect(0, &["get", "a", cluster.path("to").to_str().unwrap(), "--force", "--from", "1"]);
    assert!(said.err.is_empty() && said.out.contains("from N01,"), "{said:?}");
}

#[test]
fn a_single_damaged_node_says_which_chunk_it_is_and_what_to_do() {
    let cluster = Cluster::start(1);
    let file = cluster.write("a", &vec![7; 300 << 10]);
    cluster.expect(0, &["put", &file]);
    let blob = &cluster.blobs(1)[0];
    let mut bytes = fs::read(blob).unwrap();
    bytes[100] ^= 1;
    fs::write(blob, bytes).unwrap();
    let to = cluster.path("to");
    let said = cluster.expect(3, &["get", "a", to.to_str().unwrap()]);
    assert!(
        said.err.contains("chunk 0 of") && said.err.contains("remove its store directory"),
        "{}",
        said.err
    );
    assert!(!to.exists());
    let left = fs::read_dir(cluster.path("")).unwrap().count();
    assert_eq!(left, 2, "the cluster and the file");
}

/// On Linux a process's memory is a file that can be opened, and of which the first bytes cannot be read.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_read_is_read_elsewhere_and_is_there_again_after_a_restart() {
    let cluster = Cluster::start(2);
    let (file, digest) = cluster.noise("a", 1 << 20);
    cluster.expect(0, &["put", &file]);
    cluster.stage.agreement().unwrap();
    let blob = &cluster.blobs(1)[0];
    fs::remove_file(blob).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", blob).unwrap();
    let to = cluster.path("to").to_str().unwrap().to_owned();
    let said = cluster.expect(0, &["get", "a", &to, "--from", "1"]);
    assert!(said.err.contains("N01 could not be read from") && said.out.contains("from N02,"), "{said:?}");
    assert_eq!(crate::cluster::digest_of(&cluster.path("to")), digest);
    cluster.stage.kill(1);
    cluster.stage.start(1).unwrap();
    cluster.stage.agreement().unwrap();
    assert_eq!(cluster.got("a", 1), digest);
    let said = cluster.expect(0, &["get", "a", &to, "--force", "--from", "1"]);
    assert!(said.err.is_empty() && said.out.contains("from N01,"), "{said:?}");
}
