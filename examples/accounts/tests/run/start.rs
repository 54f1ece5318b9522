//! `start`: what is typed there, and what stays of it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use accounts::browser::{Answer, Ask, Browser};
use serde_json::{Value, json};

use crate::program::{Program, path, scratch, wait_until_free};

/// As cheap as a hash can be: how much it costs is not what is tried here.
const CHEAP: [&str; 4] = ["--hash-memory-kib", "64", "--hash-passes", "1"];
/// The last line that it says once all nodes run.
const READY: &str = "end all of them";

async fn post(at: SocketAddr, path: &str, body: &Value) -> Answer {
    Browser::new().send_patiently(Ask::post(at, path, body)).await.unwrap()
}

/// Asks who is what, and gives the number of the primary.
fn primary(start: &mut Program) -> u64 {
    start.type_in("status");
    let lines: Vec<String> = (1..=4).map(|_| start.wait_for("records behind").to_owned()).collect();
    start.wait_for("done: status");
    let leads: Vec<u64> =
        (1..=4).zip(&lines).filter(|(_, line)| line.contains("primary")).map(|it| it.0).collect();
    assert_eq!(leads.len(), 1, "{lines:?}");
    leads[0]
}

#[tokio::test]
async fn what_is_typed_is_done_and_what_was_registered_stays() {
    let temporary = scratch();
    let dir = temporary.path().join("cluster");
    let args = [&["start", "--dir", dir.to_str().unwrap()], &CHEAP[..]].concat();
    let mut start = Program::run(&args, temporary.path());
    start.wait_for(READY);
    let nodes = start.addresses();
    let ada = json!({ "name": "ada", "password": "long enough", "request": "1".repeat(32) });
    assert_eq!(post(nodes[0], "/register", &ada).await.status, 201);

    assert_eq!(primary(&mut start), 1, "in a new cluster it is N01");
    let heir = 2;
    start.type_in(&format!("transfer {heir}"));
    start.wait_for("done: transfer");
    start.type_in("kill 1");
    start.wait_for("done: kill 1");
    assert!(Browser::new().send(Ask::get(nodes[0], "/cluster")).await.is_err(), "it still answers");
    start.type_in("kill 1");
    start.wait_for("not done: N01 does not run");
    start.type_in("start N01");
    start.wait_for("done: start N01");
    start.type_in("stop 2");
    start.wait_for("done: stop 2");
    for nonsense in ["sing", "kill", "kill 5", "kill 1 2"] {
        start.type_in(nonsense);
        start.wait_for(READY);
    }

    // Meanwhile another one in the same directory would only be in the way.
    let twice = Command::new(path()).args(&args).output().unwrap();
    let said = String::from_utf8_lossy(&twice.stderr);
    assert!(twice.status.code() == Some(1) && said.contains("runs the cluster in"), "{said}");

    start.signal("INT");
    assert_eq!(start.end(), Some(0), "{}", start.said.join("\n"));
    wait_until_free(&nodes);

    let mut again = Program::run(&args, temporary.path());
    again.wait_for(READY);
    assert_eq!(again.addresses(), nodes);
    let login = json!({ "name": "ada", "password": "long enough" });
    assert_eq!(post(nodes[3], "/login", &login).await.status, 200);
    again.signal("TERM");
    assert_eq!(again.end(), Some(0), "{}", again.said.join("\n"));
    wait_until_free(&nodes);
}

#[test]
fn without_a_directory_nothing_stays() {
    let temporary = scratch();
    let mut start = Program::run(&["start", "--policy", "manual"], temporary.path());
    start.wait_for(READY);
    start.type_in("promote 2");
    start.wait_for("done: promote 2");
    start.signal("INT");
    assert_eq!(start.end(), Some(0), "{}", start.said.join("\n"));
    wait_until_free(&start.addresses());
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "files are left");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do_next() {
    let temporary = scratch();
    let letter = temporary.path().join("letter.txt");
    fs::write(&letter, "dear").unwrap();
    let (full, file) = (temporary.path().to_str().unwrap(), letter.to_str().unwrap());
    for (status, args, told) in [
        (1, &["start", "--dir", full][..], "name a new directory"),
        (1, &["start", "--dir", file], "could not make the directory"),
        (2, &["start", "--hash-memory-kib", "7"], "8..="),
        (2, &["demo", "--hash-passes", "0"], "1..="),
        (2, &["start", "--policy", "chaos"], "possible values"),
        (2, &["demo", "--pause", "soon"], "a number of seconds"),
        (2, &["sing"], "unrecognized"),
        (1, &["node", file], "letter.txt"),
        (1, &["node", "missing.toml"], "could not read"),
    ] {
        let output = Command::new(path()).args(args).env("TMPDIR", full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(said.contains(told) && output.stdout.is_empty(), "{args:?}: {said}");
    }
    assert_eq!(fs::read_dir(full).unwrap().count(), 1);
}
