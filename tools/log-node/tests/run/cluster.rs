//! A development cluster, as a user starts it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use serde_json::Value;

use crate::scratch::{PATIENCE, Running, Said, Scratch, comes_true, signal, wait_until};

/// A cluster under `log-node dev`.
pub(crate) struct Cluster {
    pub(crate) scratch: Scratch,
    name: &'static str,
    pub(crate) dev: Running,
    /// The process of each replica.
    pub(crate) processes: BTreeMap<u64, u32>,
    /// Where each status page is: host and port.
    pub(crate) pages: BTreeMap<u64, String>,
}

impl Cluster {
    /// Three replicas, of which one is primary.
    pub(crate) fn start() -> Cluster {
        Cluster::start_in(Scratch::new(), "--replicas 3 --port 0")
    }

    /// Ends it, gives each replica these lines of settings too, and starts it again.
    pub(crate) fn restart_with(mut self, settings: &str) -> Cluster {
        self.dev.signal("INT");
        self.dev.wait();
        for id in 1..=3 {
            let path = self.scratch.path(&format!("c/replica-{id}.toml"));
            let before = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("{before}{settings}")).unwrap();
        }
        Cluster::start_in(self.scratch, "")
    }

    /// The cluster that this directory has, or a new one.
    pub(crate) fn start_in(scratch: Scratch, args: &str) -> Cluster {
        Cluster::start_at(scratch, "c", args)
    }

    /// The same in another directory of the scratch.
    pub(crate) fn start_at(scratch: Scratch, name: &'static str, args: &str) -> Cluster {
        let mut cluster = Cluster::begin_at(scratch, name, args);
        cluster.wait_until_ready();
        cluster
    }

    /// The same, and nobody waits until there is a primary.
    pub(crate) fn begin_at(scratch: Scratch, name: &'static str, args: &str) -> Cluster {
        let dev = scratch.start(&format!("dev --dir {name} --until-stdin-ends {args}"));
        Cluster { scratch, dev, name, processes: BTreeMap::new(), pages: BTreeMap::new() }
    }

    /// Waits until it says that there is a primary, and which processes it consists of.
    #[track_caller]
    pub(crate) fn wait_until_ready(&mut self) {
        self.dev.wait_for("ready: ");
        self.dev.wait_for("Ctrl-C here");
        for line in self.dev.said.clone() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [id, "primary" | "backup", process, _, page] = words[..] {
                let id = id.parse().unwrap();
                let process = process.parse();
                let ended = || format!("replica {id} has ended:\n{}", self.dev.said.join("\n"));
                self.processes.insert(id, process.unwrap_or_else(|_| panic!("{}", ended())));
                let page = page.trim_start_matches("http://").trim_end_matches('/');
                self.pages.insert(id, page.to_owned());
            }
        }
    }

    /// Runs a command as the cluster's client.
    #[track_caller]
    pub(crate) fn expect(&self, status: i32, args: &str) -> Said {
        let (name, rest) = args.split_once(' ').unwrap_or((args, ""));
        self.scratch.expect(status, &format!("{name} -c {}/client.toml {rest}", self.name))
    }

    /// Appends lines.
    #[track_caller]
    pub(crate) fn append(&self, lines: &[String]) -> Said {
        let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.scratch.expect_fed(0, &format!("append -c {}/client.toml --deadline 30s", self.name), &input)
    }

    /// All records.
    #[track_caller]
    pub(crate) fn records(&self) -> Vec<String> {
        self.expect(0, "tail --deadline 30s").out.lines().map(str::to_owned).collect()
    }

    /// What `status --json` says.
    pub(crate) fn overview(&self) -> Value {
        let said = self.scratch.run(&format!("status -c {}/client.toml --json", self.name));
        serde_json::from_str(&said.out).expect("one object on standard output")
    }

    /// Waits until this is so of what `status --json` says, and gives it.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        let is_in_time = comes_true(|| {
            seen = self.overview();
            is_so(&seen)
        });
        assert!(is_in_time, "waited too long until {what}; seen:\n{seen:#}\nsaid:\n{}", self.dev.so_far());
        seen
    }

    /// Who leads; waits until somebody does.
    #[track_caller]
    pub(crate) fn primary(&self) -> u64 {
        self.wait_for("there is a primary", |seen| seen["primary"].is_u64())["primary"].as_u64().unwrap()
    }

    /// The primary, or, if that is this one, another replica of the first three.
    #[track_caller]
    pub(crate) fn primary_but(&self, id: u64) -> u64 {
        let primary = self.primary();
        if primary == id { id % 3 + 1 } else { primary }
    }

    /// Waits until all replicas answer and are as they should be.
    #[track_caller]
    pub(crate) fn wait_until_well(&self) {
        self.wait_for("all is well", |seen| seen["is_well"] == true);
    }

    /// Waits until all replicas answer, whether one of them leads or not.
    #[track_caller]
    pub(crate) fn wait_until_all_answer(&self) {
        self.wait_for("all answer", |seen| {
            let all = seen["replicas"].as_array().unwrap();
            all.iter().all(|replica| replica["report"].is_object())
        });
    }

    /// Waits until all replicas are as they should be, and have the same records on their disks.
    #[track_caller]
    pub(crate) fn wait_until_all_have_all(&self) -> Value {
        self.wait_for("all have all", |seen| {
            let all = seen["replicas"].as_array().unwrap();
            let durable = |at: usize| all[at]["report"]["durable"].as_u64();
            seen["is_well"] == true && (1..all.len()).all(|at| durable(at) == durable(0))
        })
    }

    /// Lets a replica lead where nobody does. It refuses as long as it may still have heard somebody, and wants to be asked
    /// again then.
    #[track_caller]
    pub(crate) fn promote(&self, id: u64) -> Said {
        let command = format!("promote -c {}/client.toml {id} --deadline 60s", self.name);
        let mut said = self.scratch.run(&command);
        wait_until("the promotion is heeded", || {
            let is_early =
                said.err.contains("ask again if it is gone") || said.err.contains("try again in a moment");
            if is_early {
                said = self.scratch.run(&command);
            }
            !is_early
        });
        assert_eq!(said.status, 0, "{}{}\n{}", said.out, said.err, self.dev.so_far());
        said
    }

    pub(crate) fn kill(&mut self, id: u64) {
        signal(self.processes[&id], "KILL");
        self.dev.wait_for(&format!("replica {id} has ended: signal: 9"));
        self.processes.remove(&id);
    }

    /// Starts a replica again that has ended.
    pub(crate) fn start_again(&self, id: u64) -> Running {
        self.scratch.start(&format!("run -c {}/replica-{id}.toml --until-stdin-ends", self.name))
    }

    /// Where the replicas listen.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let seen = self.overview();
        seen["replicas"]
            .as_array()
            .unwrap()
            .iter()
            .map(|seen| seen["address"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Waits until no process listens at these addresses any more.
#[track_caller]
pub(crate) fn wait_until_free(addresses: &[String]) {
    assert!(!addresses.is_empty());
    for address in addresses {
        wait_until(&format!("nobody has {address}"), || UdpSocket::bind(address).is_ok());
    }
}

/// What a status page has at this path.
#[track_caller]
pub(crate) fn ask(page: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(page).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// `first 1`, `first 2` and so on.
pub(crate) fn lines(name: &str, count: u64) -> Vec<String> {
    (1..=count).map(|number| format!("{name} {number}")).collect()
}
