//! Four nodes as child processes, and what can be done to them.
//!
//! Each holds the reading end of a pipe whose other end is here, and ends when the pipe does: so none outlives this
//! process, however that ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use annals::ReplicaId;
use annals::client::{Client, ClientError, ClientOptions, Target};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::browser::{Answer, Ask, Browser};
use crate::error::Error;
use crate::home::Home;
use crate::settings::{Policy, name};

/// Anything that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a node may take to end by itself once it is asked to.
const FAREWELL_MAX: Duration = Duration::from_secs(12);
/// From one look to the next, while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long an operator waits for what came of an order before giving it again.
const OPERATOR_LOOKS: Duration = Duration::from_secs(3);
/// Lines of a node's log that are shown after an error.
const LAST_WORDS: usize = 20;

/// How an operator makes a node primary.
#[derive(Clone, Copy)]
pub(crate) enum By {
    /// The primary of now hands over.
    Transfer,
    /// The node stands for election.
    Promotion,
}

/// The nodes of a cluster, and their operator.
pub struct Cast {
    home: Home,
    program: PathBuf,
    nodes: BTreeMap<u64, Child>,
    operator: Client,
    browser: Browser,
}

impl Cast {
    /// Nobody is there yet. `program` is the one that runs a node.
    ///
    /// # Errors
    /// If the operator's certificate cannot be used.
    pub fn new(home: Home, program: &Path) -> Result<Cast, Error> {
        let admin = home.admin();
        let operator = ClientOptions::new(home.nodes.iter().map(|place| place.replica.to_string()))
            .certificates(admin.ca, admin.cert, admin.key)
            .deadline(PATIENCE)
            .connect()?;
        let (program, nodes, browser) = (program.to_owned(), BTreeMap::new(), Browser::new());
        Ok(Cast { home, program, nodes, operator, browser })
    }

    /// The numbers of all nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.home.nodes.iter().map(|place| place.id).collect()
    }

    /// Where a node serves users.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn http(&self, id: u64) -> SocketAddr {
        self.home.nodes.iter().find(|place| place.id == id).expect("a node of this cluster").http
    }

    /// The cluster's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// The process of a node that runs.
    #[must_use]
    pub fn process(&self, id: u64) -> Option<u32> {
        self.nodes.get(&id).and_then(Child::id)
    }

    /// Whether the node was started and not ended since.
    #[must_use]
    pub fn runs(&self, id: u64) -> bool {
        self.nodes.contains_key(&id)
    }

    /// Starts a node, with its file's policy or another.
    pub(crate) fn start(&mut self, id: u64, policy: Option<Policy>) -> Result<(), Error> {
        if self.runs(id) {
            return Err(self.failed(id, "runs already"));
        }
        let log = self.home.log(id);
        let said =
            File::options().create(true).append(true).open(&log).map_err(Error::path("write", &log))?;
        let mut command = Command::new(&self.program);
        command.arg("node").arg(self.home.config(id)).arg("--until-stdin-ends");
        if let Some(policy) = policy {
            command.arg("--policy").arg(policy.to_string());
        }
        // A group of its own: Ctrl-C in the terminal is for this process, which then ends them in good order.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(said).process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(Error::path("start", &self.program))?;
        self.nodes.insert(id, child);
        Ok(())
    }

    /// Starts all nodes, with the policies of their files.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn start_all(&mut self) -> Result<(), Error> {
        self.start_all_with(None)
    }

    /// Starts all nodes.
    pub(crate) fn start_all_with(&mut self, policy: Option<Policy>) -> Result<(), Error> {
        self.ids().into_iter().try_for_each(|id| self.start(id, policy))
    }

    /// Ends a node as a power cut would.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&mut self, id: u64) -> Result<(), Error> {
        let Some(mut child) = self.nodes.remove(&id) else { return Err(self.failed(id, "does not run")) };
        child.kill().await.map_err(|error| self.failed(id, &format!("cannot be killed: {error}")))
    }

    /// Ends a node in good order: a primary hands over first.
    ///
    /// # Errors
    /// If it does not end, or not in good order.
    pub async fn stop(&mut self, id: u64) -> Result<(), Error> {
        let Some(child) = self.nodes.remove(&id) else { return Err(self.failed(id, "does not run")) };
        match farewell(child).await {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.failed(id, &format!("has ended with {status}"))),
            None => Err(self.failed(id, "does not end; it was killed")),
        }
    }

    /// Ends all that run, politely first.
    pub async fn end(&mut self) {
        let mut last = vec![];
        for (_, mut child) in std::mem::take(&mut self.nodes) {
            drop(child.stdin.take());
            last.push(child);
        }
        for child in last {
            farewell(child).await;
        }
    }

    /// Which nodes have ended by themselves since this was asked last, and how.
    pub(crate) fn ended(&mut self) -> Vec<(u64, ExitStatus)> {
        let exits = self.nodes.iter_mut().filter_map(|(id, child)| Some((*id, child.try_wait().ok()??)));
        let ended: Vec<(u64, ExitStatus)> = exits.collect();
        for (id, _) in &ended {
            self.nodes.remove(id);
        }
        ended
    }

    /// Hands the primary's role over, once.
    ///
    /// # Errors
    /// What the cluster says.
    pub async fn transfer(&self, id: u64) -> Result<(), ClientError> {
        self.operator.transfer(Some(ReplicaId::new(id))).await
    }

    /// Has a node stand for election, once.
    ///
    /// # Errors
    /// What the cluster says.
    pub async fn promote(&self, id: u64) -> Result<(), ClientError> {
        self.operator.promote(Target::Replica(ReplicaId::new(id))).await
    }

    /// Does one of these until this node leads, as an operator would who looks what came of it: on a busy machine the
    /// role may be lost again before anybody has seen it. Gives how long the order took that was
    /// followed, and how things stand.
    pub(crate) async fn make_primary(&self, id: u64, by: By) -> Result<(Duration, Value), Error> {
        let deadline = Instant::now() + PATIENCE;
        let running = self.running();
        let witness = running.first().copied().unwrap_or(id);
        loop {
            let began = Instant::now();
            let said = match by {
                By::Transfer => self.transfer(id).await,
                By::Promotion => self.promote(id).await,
            };
            let took = began.elapsed();
            // What was refused is not worth a long look.
            let until = Instant::now() + if said.is_ok() { OPERATOR_LOOKS } else { LOOK_EVERY };
            while Instant::now() < until {
                match self.get(witness, "/cluster").await {
                    Ok(seen) if seen.json["primary"] == name(id) && is_well(&seen.json, &running) => {
                        return Ok((took, seen.json));
                    }
                    _ => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
            if Instant::now() > deadline {
                let seen = said.map_or_else(|error| error.to_string(), |()| "another".to_owned());
                return Err(Error::TooLate { what: format!("{} leads", name(id)), seen });
            }
        }
    }

    /// Looks at something of a node.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&self, id: u64, path: &str) -> Result<Answer, Error> {
        self.send_patiently(Ask::get(self.http(id), path)).await
    }

    /// Has a node do something.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn post(&self, id: u64, path: &str, body: &Value) -> Result<Answer, Error> {
        self.send_patiently(Ask::post(self.http(id), path, body)).await
    }

    /// Sends what was put together, and sends it again as long as the cluster cannot do it now.
    ///
    /// # Errors
    /// If there is no answer, or no other in time.
    pub async fn send_patiently(&self, ask: Ask) -> Result<Answer, Error> {
        self.browser.send_patiently(ask).await
    }

    /// Sends what was put together.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Error> {
        self.browser.send(ask).await
    }

    /// Waits until this is so of what a node says at `/cluster`, and gives that.
    ///
    /// # Errors
    /// If it takes too long, or a node has ended by itself meanwhile.
    pub async fn wait_for(
        &mut self,
        id: u64,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.get(id, "/cluster").await;
            match &seen {
                Ok(seen) if is_so(&seen.json) => return Ok(seen.json.clone()),
                _ => {}
            }
            if let Some((id, status)) = self.ended().first() {
                return Err(self.failed(*id, &format!("has ended with {status}")));
            }
            if Instant::now() > deadline {
                let seen = seen.map_or_else(|error| error.to_string(), |seen| seen.text);
                return Err(Error::TooLate { what: what.to_owned(), seen });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until there is a primary that all who run agree on, and all of them have all that it has.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn wait_until_well(&mut self) -> Result<Value, Error> {
        let running = self.running();
        let Some(first) = running.first() else {
            return Err(self.failed(1, "does not run, and no other does"));
        };
        let is_so = |seen: &Value| is_well(seen, &running);
        self.wait_for(*first, "all nodes have all that the primary has", is_so).await
    }

    /// Waits until this node leads, and all who run have all that it has.
    pub(crate) async fn wait_until_led_by(&mut self, id: u64) -> Result<Value, Error> {
        let running = self.running();
        let witness = running.first().copied().unwrap_or(id);
        let is_so = |seen: &Value| seen["primary"] == name(id) && is_well(seen, &running);
        self.wait_for(witness, &format!("{} leads", name(id)), is_so).await
    }

    fn running(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// What each node has said last, for whoever wants to know why something went wrong.
    pub(crate) fn last_words(&self) -> Vec<String> {
        let said = |id: &u64| std::fs::read_to_string(self.home.log(*id)).unwrap_or_default();
        let last = |id: u64| {
            let said = said(&id);
            let skipped = said.lines().count().saturating_sub(LAST_WORDS);
            said.lines().skip(skipped).map(|line| format!("{} | {line}", name(id))).collect::<Vec<_>>()
        };
        self.ids().into_iter().flat_map(last).collect()
    }

    fn failed(&self, id: u64, reason: &str) -> Error {
        Error::Node { name: name(id), reason: reason.to_owned(), log: self.home.log(id) }
    }
}

/// Whether all of these nodes follow one primary, and have all that it has.
fn is_well(seen: &Value, running: &[u64]) -> bool {
    let primary = seen["nodes"].as_array().into_iter().flatten().find(|node| seen["primary"] == node["name"]);
    let Some(primary) = primary else { return false };
    running.iter().map(|id| node_of(seen, *id)).all(|node| {
        let follows = node["name"] == primary["name"] || node["getting"] == "streaming";
        let has_all = node["lag"] == 0 && node["committed"] == primary["committed"];
        follows && has_all && node["epoch"] == primary["epoch"]
    })
}

/// What `/cluster` says of one node.
#[must_use]
pub fn node_of(seen: &Value, id: u64) -> &Value {
    let nodes = seen["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes.iter().find(|node| node["name"] == name(id)).unwrap_or(&Value::Null)
}

/// Lets a node end by itself, and says how; kills it if that takes too long.
async fn farewell(mut child: Child) -> Option<ExitStatus> {
    drop(child.stdin.take());
    match tokio::time::timeout(FAREWELL_MAX, child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            // Refused only if it has ended just now.
            let _ = child.kill().await;
            None
        }
    }
}
