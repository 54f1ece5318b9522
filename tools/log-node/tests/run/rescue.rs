//! When a quorum is gone for good: the way out of docs/operations.md, from the first step to the last.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cluster::{Cluster, lines};
use crate::scratch::signal;

/// The program log-recover: beside log-node, and built if it is not there, because it is another package's.
fn log_recover() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_log-node")).with_file_name("log-recover");
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "log-recover", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../log-recover/Cargo.toml"));
        assert!(build.status().unwrap().success());
    }
    program
}

#[test]
fn the_records_of_a_survivor_go_to_a_new_cluster() {
    let mut cluster = Cluster::start();
    cluster.append(&lines("line", 300));
    let whole = cluster.wait_until_all_have_all();
    let survivor = whole["primary"].as_u64().unwrap() % 3 + 1;
    for gone in (1..=3).filter(|id| *id != survivor) {
        cluster.kill(gone);
        fs::remove_dir_all(cluster.scratch.path(&format!("c/replica-{gone}"))).unwrap();
    }
    // A minority is not promoted, and is told where to read on.
    cluster.wait_for("the survivor knows that it is alone", |seen| seen["primary"].is_null());
    let said = cluster.expect(3, &format!("promote {survivor}"));
    assert!(said.err.contains("When a quorum is gone for good"), "{}", said.err);
    assert!(said.err.contains("knows nothing"), "{}", said.err);
    // Nor does one of the lost come back as if nothing had happened.
    let gone = survivor % 3 + 1;
    let said = cluster.scratch.expect(3, &format!("run -c c/replica-{gone}.toml"));
    assert!(said.err.contains("holds no replica"), "{}", said.err);

    signal(cluster.processes[&survivor], "TERM");
    let (_, said) = cluster.dev.wait();
    assert!(said.contains(&format!("replica {survivor} has ended: exit status: 0")), "{said}");
    let directory = format!("c/replica-{survivor}");
    let recover = |args: &[&str]| {
        let said = Command::new(log_recover()).args(args).current_dir(cluster.scratch.path("")).output();
        let said = said.unwrap();
        assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
        said.stdout
    };
    recover(&["verify", &directory]);
    fs::write(cluster.scratch.path("records.json"), recover(&["dump", &directory, "--json"])).unwrap();

    let new = Cluster::start_at(cluster.scratch, "new", "--replicas 3 --port 0");
    let said = new.expect(0, "append --dump records.json");
    assert!(said.err.contains("appended 300 records"), "{}", said.err);
    assert_eq!(new.records(), lines("line", 300));
}
