//! Disks that are read-only or full, for real: mounts in a namespace of their own, which takes root on Linux.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::cluster::{Cluster, lines};
use crate::scratch::{Running, Scratch};

/// Whether mounts can be made here; says so if not.
fn can_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = done.is_ok_and(|status| status.success());
    if !can {
        // Not by a macro: what those say is kept from whoever runs tests that pass.
        let _ = writeln!(std::io::stderr(), "skipped: mounts in a namespace of one's own take root on Linux");
    }
    can
}

/// Runs replica 3 after these commands of a shell, in a mount namespace of its own.
fn run_after(scratch: &Scratch, prepare: &str, flags: &str) -> Running {
    let program = env!("CARGO_BIN_EXE_log-node");
    let script = format!("{prepare} && exec {program} run -c c/replica-3.toml --until-stdin-ends {flags}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-e", "-c", &script]);
    command.current_dir(scratch.path(""));
    Running::start(command)
}

#[test]
fn a_replica_with_a_read_only_directory_says_so_and_comes_back_when_it_is_not() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.append(&lines("before", 50));
    cluster.wait_until_well();
    cluster.kill(3);
    let prepare = "mount --bind c/replica-3 c/replica-3 && mount -o remount,bind,ro c/replica-3";
    let (status, said) = run_after(&cluster.scratch, prepare, "").wait();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    cluster.append(&lines("after", 50));
    let _again = cluster.start_again(3);
    cluster.wait_until_well();
    cluster.kill(cluster.primary_but(3));
    assert_eq!(cluster.records(), [lines("before", 50), lines("after", 50)].concat());
}

#[test]
fn a_replica_whose_disk_is_full_keeps_nobody_waiting_and_goes_on_when_there_is_room() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start();
    let address = cluster.addresses()[2].clone();
    cluster.kill(3);
    // It loses its disk, and comes back as a newcomer on a file system of 3 MiB: the log will need more.
    cluster.expect(0, "remove 3");
    fs::create_dir(cluster.scratch.path("small")).unwrap();
    fs::remove_dir_all(cluster.scratch.path("c/replica-3")).unwrap();
    fs::create_dir(cluster.scratch.path("c/replica-3")).unwrap();
    let create = format!("{} create -c c/replica-3.toml --join", env!("CARGO_BIN_EXE_log-node"));
    let mount = "mount -t tmpfs -o size=3m tmpfs small && mount --bind small c/replica-3";
    let prepare = format!("{mount} && {create}");
    let mut full = run_after(&cluster.scratch, &prepare, "--segment 256k");
    full.wait_for("the replica runs");
    cluster.expect(0, &format!("add 3={address} --deadline 30s"));
    cluster.wait_until_well();

    let long = "x".repeat(8000);
    let many: Vec<String> = (0..800).map(|number| format!("{number} {long}")).collect();
    cluster.append(&many);
    full.wait_for("the disk is full");
    cluster.append(&lines("meanwhile", 50));
    let args =
        ["-t", &full.process().to_string(), "-m", "--", "mount", "-o", "remount,size=64m"].map(str::to_owned);
    let larger = Command::new("nsenter").args(args).arg(cluster.scratch.path("small")).status().unwrap();
    assert!(larger.success());
    cluster.wait_until_well();
    cluster.kill(cluster.primary_but(3));
    assert_eq!(cluster.records(), [many, lines("meanwhile", 50)].concat());
}
