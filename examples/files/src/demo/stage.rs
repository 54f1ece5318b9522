//! A cluster of real processes on this machine, and commands to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Reader;
use crate::error::{Error, Result};
use crate::home::{self, Home};
use crate::node;
use crate::operation::OperationId;
use crate::report::{NodeReport, OperationReport};

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A cluster whose nodes are child processes. It, and all it has written, is gone when this is dropped.
#[derive(Clone, Debug)]
pub struct Stage {
    program: PathBuf,
    dir: PathBuf,
    /// What each node is told beside its directory and its id.
    settings: Vec<String>,
    nodes: Arc<Mutex<Nodes>>,
}

/// The nodes that run.
#[derive(Debug, Default)]
struct Nodes {
    running: BTreeMap<u64, NodeProcess>,
    /// Nothing is started any more: who closes a stage may do so while another thread starts something.
    is_closed: bool,
}

/// A node's process: it ends when the pipe does whose other end is here, so it never outlives this process.
#[derive(Debug)]
struct NodeProcess {
    child: Child,
    _lifeline: Option<ChildStdin>,
}

/// A command that is under way; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    _lifeline: Option<ChildStdin>,
}

/// What a command has said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Its exit status; `None` if it was killed.
    pub status: Option<i32>,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

impl Stage {
    /// Makes a cluster of so many nodes in this directory, which is empty or not there yet, and starts them.
    ///
    /// # Errors
    /// If it cannot be made, or a node does not start.
    pub fn open(program: &Path, dir: &Path, nodes: u64, settings: &[&str]) -> Result<Stage> {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let stage =
            Stage { program: program.to_owned(), dir: dir.to_owned(), settings, nodes: Arc::default() };
        let home = Home::create(dir, nodes)?;
        node::bootstrap(&home)?;
        for (node, _) in home.nodes() {
            stage.start(node)?;
        }
        Ok(stage)
    }

    /// The cluster's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts a node, and waits until it says that it runs.
    ///
    /// # Errors
    /// If it ends instead; with what it has said.
    pub fn start(&self, node: u64) -> Result<()> {
        self.start_with(node, &[])
    }

    /// Starts a node that is new to the cluster.
    ///
    /// # Errors
    /// As for [`start`](Stage::start).
    pub fn join(&self, node: u64) -> Result<()> {
        self.start_with(node, &["--join"])
    }

    fn start_with(&self, node: u64, more: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .args(["node", "--until-stdin-ends", "--id"])
            .arg(node.to_string())
            .arg("--home")
            .arg(&self.dir);
        command.args(&self.settings).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C in the terminal is for this process, which then ends the nodes.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut nodes = self.nodes();
        let mut child = self.spawn(&nodes, &mut command)?;
        let lifeline = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        nodes.running.insert(node, NodeProcess { child, _lifeline: lifeline });
        drop(nodes);
        let complaints = thread::spawn(move || pass_on(node, err));
        let mut lines = out.map(|out| BufReader::new(out).lines()).into_iter().flatten();
        let runs = lines.by_ref().map_while(std::io::Result::ok).any(|line| line.contains("runs at"));
        if !runs {
            let said = complaints.join().unwrap_or_default();
            return Err(Error::Demo(format!("{} does not start: {said}", home::name(node))));
        }
        // What else it says goes nowhere; but it must not wait for somebody who reads it.
        thread::spawn(move || lines.map_while(std::io::Result::ok).for_each(drop));
        Ok(())
    }

    /// Starts a process, unless the stage is closed: the lock is held, so that closing it comes before or after.
    fn spawn(&self, nodes: &Nodes, command: &mut Command) -> Result<Child> {
        if nodes.is_closed {
            return Err(Error::Stopped);
        }
        command.spawn().map_err(Error::file("start", &self.program))
    }

    /// Kills a node's process at once, as `kill -9` does.
    pub fn kill(&self, node: u64) {
        let killed = self.nodes().running.remove(&node);
        drop(killed);
    }

    /// The process of a node that runs.
    #[must_use]
    pub fn process(&self, node: u64) -> Option<u32> {
        self.nodes().running.get(&node).map(|process| process.child.id())
    }

    /// Runs a command, and waits for its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, args: &[&str]) -> Result<Said> {
        self.begin(args)?.wait()
    }

    /// Runs a command that has to succeed.
    ///
    /// # Errors
    /// If it does not; with what it has said.
    pub fn expect(&self, args: &[&str]) -> Result<String> {
        let said = self.run(args)?;
        if said.status != Some(0) {
            return Err(Error::Demo(format!("files {}: {}{}", args.join(" "), said.out, said.err)));
        }
        Ok(said.out)
    }

    /// Starts a command.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn begin(&self, args: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(args).arg("--home").arg(&self.dir).arg("--until-stdin-ends");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = self.spawn(&self.nodes(), &mut command)?;
        let lifeline = child.stdin.take();
        Ok(Running { child, _lifeline: lifeline })
    }

    /// Those who read, in this process.
    ///
    /// # Errors
    /// If the directory holds no cluster any more.
    pub fn reader(&self) -> Result<Reader> {
        Reader::new(&Home::open(&self.dir)?, PATIENCE, None)
    }

    /// What the nodes say of themselves, those that answer.
    ///
    /// # Errors
    /// If the directory holds no cluster any more.
    pub fn reports(&self) -> Result<Vec<NodeReport>> {
        let reader = self.reader()?;
        let runs = |node: &&crate::client::Node| self.nodes().running.contains_key(&node.id);
        Ok(reader.nodes().iter().filter(runs).filter_map(|node| reader.report(node).ok()).collect())
    }

    /// Waits until a node leads that says so, and gives its id.
    ///
    /// # Errors
    /// If it takes too long.
    pub fn leader(&self) -> Result<u64> {
        self.wait_for("a leader", |reports| {
            reports
                .iter()
                .filter(|report| report.role == "leader")
                .max_by_key(|report| report.epoch)
                .map(|it| it.node)
        })
    }

    /// Waits until all nodes that run have applied the same, and gives the digest of their state.
    ///
    /// # Errors
    /// If it takes too long.
    pub fn agreement(&self) -> Result<crate::digest::Digest> {
        let running = self.nodes().running.len();
        self.wait_for("all nodes to be the same", |reports| {
            let first = reports.first()?;
            let is_same = |report: &NodeReport| {
                report.digest == first.digest
                    && report.applied == first.applied
                    && report.committed == report.applied
            };
            (reports.len() == running && reports.iter().all(is_same)).then_some(first.digest)
        })
    }

    /// Waits until the nodes say what is wanted.
    ///
    /// # Errors
    /// If it takes too long.
    pub fn wait_for<T>(&self, what: &str, look: impl Fn(&[NodeReport]) -> Option<T>) -> Result<T> {
        self.wait_until(what, || Ok(look(&self.reports()?)))
    }

    /// Waits until so many chunks of a put are on some node, and gives how many there are.
    ///
    /// # Errors
    /// If the put is over, or it takes too long.
    pub fn chunks_of(&self, put: OperationId, at_least: u64) -> Result<u64> {
        let reader = self.reader()?;
        self.wait_until("the put to be under way", || match reader.operation(put, annals::Lsn::ZERO)? {
            OperationReport::Unfinished(put) => Ok(Some(put.chunks).filter(|chunks| *chunks >= at_least)),
            OperationReport::Unheard => Ok(None),
            OperationReport::Finished(_) => Err(Error::Demo("the put was over too soon".to_owned())),
        })
    }

    fn wait_until<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let (seen, _) = crate::cli::cluster_text(&self.reader()?);
                return Err(Error::Demo(format!("waited too long for {what}:\n{seen}")));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Kills all nodes, and removes all that they have written. Nothing is started on this stage after that.
    pub fn close(&self) {
        let mut nodes = self.nodes();
        nodes.is_closed = true;
        // All are killed before one is waited for: they would begin to elect each other.
        nodes.running.values_mut().for_each(|process| drop(process.child.kill()));
        nodes.running.clear();
        // What is left, if so, is said by its being there.
        let _ = fs::remove_dir_all(&self.dir);
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// If nobody knows how it has ended.
    pub fn wait(mut self) -> Result<Said> {
        let read = |way: Option<Box<dyn std::io::Read + Send>>| {
            thread::spawn(move || {
                let mut text = vec![];
                // What cannot be read was not said.
                let _ = way.map(|mut way| way.read_to_end(&mut text));
                String::from_utf8_lossy(&text).into_owned()
            })
        };
        let out = read(self.child.stdout.take().map(|way| Box::new(way) as _));
        let err = read(self.child.stderr.take().map(|way| Box::new(way) as _));
        let status = self.child.wait().map_err(Error::file("wait for", Path::new("a command")))?;
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        Ok(Said { status: status.code(), out, err })
    }

    /// Kills it at once.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Refused only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Refused only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a node complains of goes on, with its name; also given back, for the case that it does not start.
fn pass_on(node: u64, complaints: Option<std::process::ChildStderr>) -> String {
    let mut said = String::new();
    for line in
        complaints.map(|err| BufReader::new(err).lines()).into_iter().flatten().map_while(std::io::Result::ok)
    {
        eprintln!("{} | {line}", home::name(node));
        if said.len() < 4096 {
            said.push_str(&line);
            said.push('\n');
        }
    }
    said
}
