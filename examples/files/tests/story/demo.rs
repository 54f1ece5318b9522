//! The demo leaves nothing behind, however it ends.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use files::demo::Stage;
use files::error::Error;
use files::home::Home;

use crate::cluster::program;

const PATIENCE: Duration = Duration::from_secs(60);

fn stay(home: &Path) -> Child {
    let mut command = Command::new(program());
    command.args(["demo", "--stay", "--home"]).arg(home).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Ctrl-C here ends all nodes")));
    child
}

fn signal(process: u32, name: &str) {
    let kill = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap();
    assert!(kill.success());
}

/// Waits until nobody listens where the nodes did.
#[track_caller]
fn wait_until_free(home: &Home) {
    let deadline = Instant::now() + PATIENCE;
    let (_open, never) = mpsc::channel::<()>();
    for (node, address) in home.nodes() {
        while UdpSocket::bind(address).is_err() {
            assert!(Instant::now() < deadline, "node {node} is still there");
            let _ = never.recv_timeout(Duration::from_millis(20));
        }
    }
}

#[test]
fn ctrl_c_ends_all_nodes_and_removes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = stay(&dir.path().join("cluster"));
    let home = Home::open(&dir.path().join("cluster")).unwrap();
    signal(demo.id(), "INT");
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    wait_until_free(&home);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn nothing_is_started_once_all_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::open(&program(), &dir.path().join("cluster"), 1, &[]).unwrap();
    let teller = stage.clone();
    stage.close();
    assert!(matches!(teller.start(1), Err(Error::Stopped)));
    assert!(matches!(teller.join(2), Err(Error::Stopped)));
    assert!(matches!(teller.begin(&["list"]), Err(Error::Stopped)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn no_node_outlives_a_killed_demo() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = stay(&dir.path().join("cluster"));
    let home = Home::open(&dir.path().join("cluster")).unwrap();
    signal(demo.id(), "KILL");
    demo.wait().unwrap();
    wait_until_free(&home);
}

#[test]
fn the_demo_tells_its_story_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("cluster");
    let told = Command::new(program()).args(["demo", "--mib", "16", "--home"]).arg(&home).output().unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
    for told in ["candidate", "nothing was changed", "N04 has got the snapshot", "\"unfinished\": {}"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
