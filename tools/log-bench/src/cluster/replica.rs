//! One replica as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annals::node::ReplicaOptions;
use annals::{ClusterId, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a replica is told, as JSON on its command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Duty {
    pub(crate) id: u64,
    pub(crate) cluster: u128,
    pub(crate) dir: PathBuf,
    pub(crate) listen: SocketAddr,
    /// All replicas that the cluster begins with: id and address.
    pub(crate) peers: Vec<(u64, SocketAddr)>,
    /// The directory with the certificates.
    pub(crate) certificates: PathBuf,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) depth: Option<usize>,
    /// Takes a snapshot and trims the log after so many records.
    pub(crate) snapshot_every: Option<u64>,
    /// Whether it joins a cluster that is there.
    pub(crate) is_newcomer: bool,
}

/// What a child says once it is ready to be asked.
const READY: &str = "ready";

impl Duty {
    pub(crate) fn options(&self) -> ReplicaOptions {
        let file = |end: &str| self.certificates.join(format!("replica-{}.{end}", self.id));
        let others = self.peers.iter().filter(|(id, _)| *id != self.id);
        let mut options = ReplicaOptions::new(ReplicaId::new(self.id), &self.dir)
            .cluster(ClusterId::new(self.cluster))
            .listen(self.listen)
            .peers(others.map(|(id, address)| (ReplicaId::new(*id), address.to_string())))
            .certificates(self.certificates.join("ca.pem"), file("pem"), file("key"));
        if let Some(bytes) = self.segment_bytes {
            options = options.segment_bytes(bytes);
        }
        if let Some(depth) = self.depth {
            options = options.depth(depth);
        }
        if let Some(records) = self.snapshot_every {
            options = options.snapshot_every(records).keep_records(0);
        }
        options
    }
}

/// The child's side: runs the replica until its parent closes its standard input, or is gone.
pub(crate) fn child(word: &str) -> Result<()> {
    let duty: Duty = serde_json::from_str(word)
        .map_err(|error| Error::Child { doing: "reading its duty", left: error.to_string() })?;
    let replica = duty.options().start().map_err(Error::cluster("start"))?;
    println!("{READY}");
    std::io::stdout().flush().map_err(Error::io("tell the parent of", &duty.dir))?;
    // Ends when the parent does, whatever ends it.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    replica.shutdown().map_err(Error::cluster("shut down"))
}

/// A replica that runs. Killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    last_words: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts this program once more as a replica, and returns when that is ready.
    pub(crate) fn start(duty: &Duty) -> Result<Process> {
        let program = std::env::current_exe().map_err(Error::io("find", Path::new("log-bench itself")))?;
        let word = serde_json::to_string(duty).expect("a duty is plain data");
        let mut command = Command::new(program);
        command.arg("child-replica").arg(word);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::io("start a replica in", &duty.dir))?;
        let mut stderr = child.stderr.take().expect("asked for above");
        let last_words = thread::spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.read_to_end(&mut words);
            String::from_utf8_lossy(&words).trim().to_string()
        });
        let stdout = child.stdout.take().expect("asked for above");
        let mut process = Process { child, last_words: Some(last_words) };
        let mut line = String::new();
        let heard = BufReader::new(stdout).read_line(&mut line);
        if heard.is_err() || line.trim() != READY {
            let left = process.end();
            return Err(Error::Child { doing: "starting a replica", left });
        }
        Ok(process)
    }

    /// Kills it with SIGKILL, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it where it stands, or lets it go on.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal)
            .map_err(|error| Error::io("signal", Path::new("a replica"))(error.into()))
    }

    /// Lets it hand over and close, and says what it said last.
    pub(crate) fn end(&mut self) -> String {
        drop(self.child.stdin.take());
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = self.last_words.take().map(|words| words.join().unwrap_or_default());
        words.filter(|words| !words.is_empty()).unwrap_or(status)
    }

    /// What it has used of the processors so far; zero where the system does not tell.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a process has used of the processors, in user and in kernel mode.
pub(crate) fn cpu_of(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold spaces. Fields 14 and 15 of all are user and system time.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
