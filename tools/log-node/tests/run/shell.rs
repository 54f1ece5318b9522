//! How it behaves among other programs: help, usage, errors.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use serde_json::Value;

use crate::scratch::Scratch;

const COMMANDS: [&str; 15] = [
    "dev", "certs", "create", "run", "status", "append", "tail", "transfer", "snapshot", "trim", "add",
    "remove", "priority", "quorums", "promote",
];

#[test]
fn every_command_has_help() {
    let scratch = Scratch::new();
    let help = scratch.expect(0, "--help").out;
    for command in COMMANDS {
        assert!(help.contains(command), "{command}");
        let said = scratch.expect(0, &format!("{command} --help"));
        assert!(said.out.contains(&format!("Usage: log-node {command}")) && said.err.is_empty(), "{command}");
    }
    assert!(help.contains("Exit status:") && help.contains("log-node dev --dir"));
    assert!(scratch.expect(0, "--version").out.starts_with("log-node "));
}

#[test]
fn wrong_usage_is_status_64() {
    let scratch = Scratch::new();
    fs::write(scratch.path("odd.toml"), "id = 1\nlisten_at = \"127.0.0.1:1\"\n").unwrap();
    for args in [
        "",
        "start",
        "dev",
        "dev --dir c --replicas 0",
        "dev --dir c --replicas 16",
        "certs",
        "certs --dir d --client boss:me",
        "certs --dir d --client append:../up",
        "certs --dir d --replicas 1 --replica 2",
        "create --id 1",
        "run --id 0",
        "run --id 1 --cluster abc",
        "run --heartbeat 30",
        "run --peers 1=nowhere",
        "run --priorities 1",
        "run --priorities 1=256",
        "run --depth 0",
        "create --scrub-rate 1k",
        "create --lease-drift-ppm half",
        "dev --dir c --policy nobody",
        "run --config odd.toml",
        "status",
        "status --every 1s",
        "append --endpoints nowhere",
        "append --durability most",
        "append --durability 0",
        "append --durability 256",
        "tail --from 0",
        "tail --from x",
        "trim 1",
        "add 4",
        "remove",
        "priority 1",
        "priority 1 256",
        "quorums",
        "quorums --write 2",
        "quorums --write 2 --election 16",
        "quorums --write 0 --election 2",
        "quorums --majority --write 2 --election 2",
        "promote x",
    ] {
        let said = scratch.expect(64, args);
        assert!(said.out.is_empty() && !said.err.is_empty(), "{args}");
        let is_told = !args.contains("--from") || said.err.contains("the number of a record, from 1");
        assert!(is_told, "{args}: {}", said.err);
    }
    assert!(!scratch.path("c").exists() && !scratch.path("d").exists());
}

#[test]
fn a_misspelt_setting_is_named_with_its_place() {
    let scratch = Scratch::new();
    fs::write(scratch.path("odd.toml"), "id = 1\nlisten_at = \"127.0.0.1:1\"\n").unwrap();
    let said = scratch.expect(64, "run --config odd.toml");
    assert!(said.err.contains("line 2") && said.err.contains("listen_at"), "{}", said.err);
}

#[test]
fn a_missing_setting_is_named_with_its_flag_and_its_key() {
    let said = Scratch::new().expect(64, "run --id 1 --dir d");
    assert!(said.err.contains("error: the setting") && said.err.contains("next:  give --"), "{}", said.err);
}

#[test]
fn a_place_that_cannot_be_written_to_is_told() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "").unwrap();
    for args in ["dev --dir file/c --port 0", "certs --dir file/certs --replicas 1"] {
        let said = scratch.expect(3, args);
        assert!(
            said.err.contains("file/c") && said.err.contains("next:  a part of the path is a file"),
            "{args}: {}",
            said.err
        );
    }
}

#[test]
fn a_directory_with_something_else_in_it_is_left_alone() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("full")).unwrap();
    fs::write(scratch.path("full/diary"), "dear diary").unwrap();
    let said = scratch.expect(3, "dev --dir full --port 0");
    assert!(said.err.contains("not empty"), "{}", said.err);
    assert_eq!(fs::read_dir(scratch.path("full")).unwrap().count(), 1);
}

#[test]
fn a_port_in_use_is_told_before_anything_is_made() {
    let scratch = Scratch::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let said = scratch.expect(3, &format!("dev --dir c --port {port}"));
    assert!(said.err.contains(&format!("127.0.0.1:{port}")), "{}", said.err);
    assert!(said.err.contains("next:  another process has the port"), "{}", said.err);
    drop(socket);
    assert_eq!(fs::read_dir(scratch.path("c")).unwrap().count(), 0);
}

#[test]
fn priorities_that_make_no_sense_are_told_before_anything_is_made() {
    let scratch = Scratch::new();
    for (priorities, told) in [("4=10", "names replica 4"), ("2=10,2=5", "names replica 2 twice")] {
        let said = scratch.expect(64, &format!("dev --dir c --port 0 --priorities {priorities}"));
        assert!(said.err.contains(told), "{}", said.err);
        assert_eq!(fs::read_dir(scratch.path("c")).unwrap().count(), 0);
    }
    let flags = alone(&scratch, "127.0.0.1:9");
    let said = scratch.expect(64, &format!("create {flags} --priorities 2=10"));
    assert!(said.err.contains("names replica 2"), "{}", said.err);
    assert!(!scratch.path("data").exists());
    scratch.expect(0, &format!("create {flags} --priorities 1=10"));
}

#[test]
fn certificates_are_made_once_and_added_to() {
    let scratch = Scratch::new();
    let first = scratch.expect(0, "certs --dir certs --replicas 2 --client admin:me,append:shop").out;
    let cluster = first.lines().next().unwrap().to_owned();
    assert_eq!(cluster.len(), "cluster ".len() + 32, "{first}");
    let authority = fs::read(scratch.path("certs/ca.pem")).unwrap();
    let second = scratch.expect(0, "certs --dir certs --replica 3 --client read:board").out;
    assert_eq!(second.lines().next(), Some(&*cluster));
    assert_eq!(fs::read(scratch.path("certs/ca.pem")).unwrap(), authority);
    for name in ["replica-1", "replica-2", "replica-3", "admin-me", "append-shop", "read-board"] {
        assert!(scratch.path(&format!("certs/{name}.pem")).exists(), "{name}");
        assert!(scratch.path(&format!("certs/{name}.key")).exists(), "{name}");
    }
    let said = scratch.expect(64, "certs --dir certs");
    assert!(said.err.contains("--replicas"), "{}", said.err);
    let other = "certs --dir certs --replica 4 --cluster 000000000000000000000000deadbeef";
    assert!(scratch.expect(64, other).err.contains("another directory"));
}

/// Settings of a replica alone, as flags, with its certificates made.
fn alone(scratch: &Scratch, listen: &str) -> String {
    let made = scratch.expect(0, "certs --dir certs --replicas 1").out;
    let cluster = made.lines().next().unwrap().trim_start_matches("cluster ").to_owned();
    format!(
        "--cluster {cluster} --id 1 --dir data --listen {listen} --peers 1={listen} --ca certs/ca.pem \
         --cert certs/replica-1.pem --key certs/replica-1.key"
    )
}

#[test]
fn a_replica_is_created_once_and_never_by_run() {
    let scratch = Scratch::new();
    let flags = alone(&scratch, "127.0.0.1:9");
    let said = scratch.expect(3, &format!("run {flags}"));
    assert!(said.err.contains("log-node create") && said.err.contains("log-node remove"), "{}", said.err);
    scratch.expect(0, &format!("create {flags}"));
    let said = scratch.expect(3, &format!("create {flags}"));
    assert!(said.err.contains("already") && said.err.contains("log-node run"), "{}", said.err);
}

#[test]
fn more_clients_than_the_settings_allow_are_told_so() {
    let scratch = Scratch::new();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let flags = alone(&scratch, &free.to_string());
    scratch.expect(0, "certs --dir certs --client admin:me");
    scratch.expect(0, &format!("create {flags}"));
    let mut replica = scratch.start(&format!("run {flags} --sessions-max 1 --until-stdin-ends"));
    replica.wait_for("the replica runs");
    let reach =
        format!("--endpoints {free} --ca certs/ca.pem --cert certs/admin-me.pem --key certs/admin-me.key");
    scratch.expect_fed(0, &format!("append {reach} --deadline 60s"), "one\n");
    let mut tail = scratch.start(&format!("tail {reach} --deadline 60s --follow --from 1"));
    tail.wait_for("one");
    let said = scratch.expect(3, &format!("snapshot {reach} 1"));
    assert!(said.err.contains("takes no more connections"), "{}", said.err);
}

#[test]
fn every_line_of_a_log_in_json_is_an_object() {
    let scratch = Scratch::new();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let flags = alone(&scratch, &free.to_string());
    scratch.expect(0, &format!("create {flags}"));
    let level = "--log-level info,annals=debug";
    let mut replica = scratch.start(&format!("run {flags} --until-stdin-ends --log-format json {level}"));
    replica.wait_for("the replica runs");
    replica.let_go();
    let (status, said) = replica.wait();
    assert!(status.success(), "{said}");
    let lines = said.lines().map(|line| {
        let object: serde_json::Map<String, Value> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(object[key].is_string(), "{key}: {line}");
        }
        object
    });
    let lines: Vec<_> = lines.collect();
    let runs = lines.iter().find(|line| line["message"] == "the replica runs").unwrap();
    // What belongs to an event is beside its words, to be looked for by machines.
    assert_eq!((&runs["level"], &runs["replica"]), (&Value::from("INFO"), &Value::from(1)), "{said}");
    assert_eq!(runs["listen"], free.to_string());
}

#[test]
fn a_replica_whose_port_is_taken_says_so() {
    let scratch = Scratch::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let flags = alone(&scratch, &address);
    scratch.expect(0, &format!("create {flags}"));
    let said = scratch.expect(3, &format!("run {flags}"));
    assert!(said.err.contains(&address) && said.err.contains("another process has the port"), "{}", said.err);
    drop(socket);
    let page = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = page.local_addr().unwrap();
    let said = scratch.expect(3, &format!("run {flags} --http {http}"));
    assert!(
        said.err.contains("status page") && said.err.contains("another process has the port"),
        "{}",
        said.err
    );
}

#[test]
fn nobody_at_the_address_is_told_in_words() {
    let scratch = Scratch::new();
    scratch.expect(0, "certs --dir certs --client admin:me");
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reach =
        format!("--endpoints {free} --ca certs/ca.pem --cert certs/admin-me.pem --key certs/admin-me.key");
    let said = scratch.expect(1, &format!("status {reach}"));
    assert!(
        said.out.contains("silent") && said.out.contains(&format!("nobody answers at {free}")),
        "{}",
        said.out
    );
    let said = scratch.expect(3, &format!("transfer {reach} --deadline 300ms"));
    assert!(said.err.contains("no primary") && said.err.contains("0 of 1"), "{}", said.err);
    let said = scratch.expect_fed(3, &format!("append {reach} --deadline 300ms"), "one\ntwo\n");
    assert!(said.err.contains("line 1") && said.err.contains("go on at line 1"), "{}", said.err);
}
