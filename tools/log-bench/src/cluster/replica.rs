//! One replica as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annals::node::{Replica, ReplicaOptions};
use annals::{ClusterId, ReplicaId};
use serde::{Deserialize, Serialize};

use super::ballast::Ballast;
use super::sick::{SickDisk, Sickness, Ward, Written};
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
    /// Bytes of its application's state, if it has one.
    pub(crate) state_bytes: Option<u64>,
    /// Whether it joins a cluster that is there.
    pub(crate) is_newcomer: bool,
    /// Whether its disk can be made sick.
    pub(crate) is_sickly: bool,
    /// The network namespace that it runs in, if not in this process's.
    pub(crate) namespace: Option<String>,
}

/// What a child says once it is ready to be asked.
const READY: &str = "ready";
/// What it is asked for what its disk has written.
const WRITTEN: &str = "written";

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
        if let Some(bytes) = self.state_bytes {
            options = options.state_machine(Ballast::new(bytes));
        }
        options
    }
}

impl Duty {
    fn start(&self) -> Result<(Replica, Option<Arc<Ward>>)> {
        let wrong = Error::cluster("start");
        if !self.is_sickly || !self.dir.exists() {
            return self.options().start().map(|replica| (replica, None)).map_err(wrong);
        }
        let (disk, ward) = SickDisk::open(&self.dir).map_err(Error::io("open", &self.dir))?;
        let options = self.options();
        let started = options.quic().and_then(|place| options.start_on(Arc::new(disk), place));
        started.map(|replica| (replica, Some(ward))).map_err(wrong)
    }
}

/// The child's side: runs the replica until its parent closes its standard input, or is gone.
pub(crate) fn child(word: &str) -> Result<()> {
    let duty: Duty = serde_json::from_str(word)
        .map_err(|error| Error::Child { doing: "reading its duty", left: error.to_string() })?;
    end_with_any_thread();
    let (replica, ward) = duty.start()?;
    println!("{READY}");
    std::io::stdout().flush().map_err(Error::io("tell the parent of", &duty.dir))?;
    // Ends when the parent does, whatever ends it.
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match (&ward, serde_json::from_str(&line)) {
            (Some(ward), _) if line == WRITTEN => tell(&ward.written(), &duty.dir)?,
            (Some(ward), Ok(sickness)) => ward.set(sickness),
            _ => {}
        }
    }
    if let Some(ward) = &ward {
        ward.set(Sickness::Well);
    }
    replica.shutdown().map_err(Error::cluster("shut down"))
}

/// Tells the parent.
fn tell(written: &Written, dir: &Path) -> Result<()> {
    println!("{}", serde_json::to_string(written).expect("plain data"));
    std::io::stdout().flush().map_err(Error::io("tell the parent of", dir))
}

/// A panic in any thread ends the process, as in log-node: its parent notices.
fn end_with_any_thread() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// A replica that runs. Killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    last_words: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts this program once more as a replica, and returns when that is ready.
    pub(crate) fn start(duty: &Duty) -> Result<Process> {
        let mut process = Process::spawn(duty)?;
        process.stdout = process.child.stdout.take().map(BufReader::new);
        if process.hear().as_deref() != Some(READY) {
            let left = process.end();
            return Err(Error::Child { doing: "starting a replica", left });
        }
        Ok(process)
    }

    /// The next line that it says.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stdout.as_mut()?.read_line(&mut line).ok()?;
        Some(line.trim().to_string())
    }

    /// What its disk has written, if that can be made sick.
    pub(crate) fn written(&mut self) -> Result<Written> {
        self.say(WRITTEN)?;
        let told = self.hear().and_then(|line| serde_json::from_str(&line).ok());
        let silent = || Error::Child { doing: "asking for what was written", left: "no answer".to_string() };
        told.ok_or_else(silent)
    }

    fn say(&mut self, word: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().expect("it is open until the end");
        writeln!(stdin, "{word}").map_err(Error::io("speak to", Path::new("a replica")))
    }

    /// Starts this program once more as a replica, and does not wait for it.
    pub(crate) fn spawn(duty: &Duty) -> Result<Process> {
        let program = std::env::current_exe().map_err(Error::io("find", Path::new("log-bench itself")))?;
        let word = serde_json::to_string(duty).expect("a duty is plain data");
        let mut command = match &duty.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        command.arg("child-replica").arg(word);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::io("start a replica in", &duty.dir))?;
        let mut stderr = child.stderr.take().expect("asked for above");
        let last_words = thread::spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.read_to_end(&mut words);
            String::from_utf8_lossy(&words).trim().to_string()
        });
        Ok(Process { child, stdout: None, last_words: Some(last_words) })
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

    /// Makes its disk sick, or well.
    pub(crate) fn sicken(&mut self, sickness: Sickness) -> Result<()> {
        self.say(&serde_json::to_string(&sickness).expect("a sickness is plain data"))
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
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

/// What another process has used of the processors, in user and in kernel mode.
fn cpu_of(id: u32) -> Duration {
    // Of its threads, to the nanosecond; but what threads have used that are gone is only among the ticks of the whole.
    cpu_of_threads(id).max(cpu_in_ticks(id))
}

fn cpu_of_threads(id: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return Duration::ZERO };
    let nanos = threads.flatten().filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn cpu_in_ticks(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold spaces. Fields 14 and 15 of all are user and system time.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// What this process has used of the processors, with all its threads, also those that are gone.
pub(super) fn own_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (secs, nanos) = (u64::try_from(used.tv_sec), u32::try_from(used.tv_nsec));
    Duration::new(secs.unwrap_or_default(), nanos.unwrap_or_default())
}
