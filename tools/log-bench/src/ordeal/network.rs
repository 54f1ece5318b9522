//! A network of namespaces on this machine, whose links can be cut.
//!
//! All of it is made within a network and a mount namespace of this process's own (`unshare`), and goes with it, however
//! it ends. Each replica has a namespace inside of that, joined to the others and to the clients by a bridge.
//!
//! A link from one replica to another is cut by giving the one a false hardware address of the other: what it sends
//! arrives nowhere, without an error, while everything else goes on. So links are cut in one direction or in both.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// Set in the process that is within its own namespaces.
const INSIDE: &str = "LOG_BENCH_INSIDE";
/// Where each replica listens, in its namespace.
const PORT: u16 = 7400;
/// The bridge.
const BRIDGE: &str = "annals";
/// A hardware address that nobody has.
const NOBODY: u8 = 0xff;

/// The namespaces of the replicas, and the links between them.
#[derive(Debug)]
pub(crate) struct Network {
    replicas: usize,
}

/// Whether this process has namespaces of its own.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program once more with the same arguments, in namespaces of its own.
pub(crate) fn enter() -> Result<()> {
    let program = std::env::current_exe().map_err(Error::io("find", Path::new("log-bench itself")))?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--"]).arg(program);
    let status = command.args(std::env::args_os().skip(1)).env(INSIDE, "1").status();
    let status = status.map_err(Error::io("run", Path::new("unshare, of util-linux")))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(130) => Err(Error::Interrupted),
        // It has said why.
        _ => Err(Error::Broken),
    }
}

impl Network {
    /// Makes the bridge, and a namespace for each replica.
    pub(crate) fn build(replicas: usize) -> Result<Network> {
        // Where `ip` keeps the names of namespaces: nothing of it is to be left behind.
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        ip("link set lo up")?;
        ip(&format!("link add {BRIDGE} type bridge"))?;
        ip(&format!("addr add {}/24 dev {BRIDGE}", address(254)))?;
        ip(&format!("link set {BRIDGE} up"))?;
        let network = Network { replicas };
        for replica in 0..replicas {
            let (name, host) = (name(replica), replica + 1);
            ip(&format!("netns add {name}"))?;
            ip(&format!("link add cable{host} type veth peer name eth0 netns {name}"))?;
            ip(&format!("link set cable{host} master {BRIDGE} up"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set eth0 address {}", hardware(host as u8)))?;
            ip(&format!("-n {name} addr add {}/24 dev eth0", address(host as u8)))?;
            ip(&format!("-n {name} link set eth0 up"))?;
        }
        for (from, to) in network.pairs() {
            network.mend(from, to)?;
        }
        Ok(network)
    }

    /// The namespace of each replica, and its address there.
    pub(crate) fn homes(&self) -> Vec<(String, SocketAddr)> {
        let home = |replica| (name(replica), SocketAddr::from((address(replica as u8 + 1), PORT)));
        (0..self.replicas).map(home).collect()
    }

    /// What one replica sends to another arrives no more.
    pub(crate) fn cut(&self, from: usize, to: usize) -> Result<()> {
        neighbour(from, to, NOBODY)
    }

    /// It arrives again.
    pub(crate) fn mend(&self, from: usize, to: usize) -> Result<()> {
        neighbour(from, to, to as u8 + 1)
    }

    /// Pulls a replica's cable: it reaches nobody, and clients do not reach it.
    pub(crate) fn unplug(&self, replica: usize) -> Result<()> {
        ip(&format!("link set cable{} down", replica + 1))
    }

    /// Puts it in again.
    pub(crate) fn plug(&self, replica: usize) -> Result<()> {
        ip(&format!("link set cable{} up", replica + 1))
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let all = self.replicas;
        (0..all).flat_map(move |from| (0..all).filter(move |to| *to != from).map(move |to| (from, to)))
    }
}

fn name(replica: usize) -> String {
    format!("replica{}", replica + 1)
}

fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

fn hardware(host: u8) -> String {
    format!("02:00:00:00:00:{host:02x}")
}

fn neighbour(from: usize, to: usize, host: u8) -> Result<()> {
    let (from, to) = (name(from), address(to as u8 + 1));
    ip(&format!("-n {from} neigh replace {to} lladdr {} dev eth0 nud permanent", hardware(host)))
}

fn ip(args: &str) -> Result<()> {
    run("ip", &args.split(' ').collect::<Vec<_>>())
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(Error::io("run", Path::new(program)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let left = format!("{program} {}: {}", args.join(" "), said.trim());
    Err(Error::Child { doing: "making a network of namespaces, which takes root,", left })
}
