//! Asking nodes, by HTTP.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use annals::Lsn;
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::error::{Error, Result};
use crate::home::Home;
use crate::name::FileName;
use crate::operation::OperationId;
use crate::report::{FileReport, NodeReport, OperationReport};

/// How long it may take to reach a node.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long one answer may take: a node waits for records for less than that.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a node may take to say how it is.
const LOOK_MAX: Duration = Duration::from_millis(700);
/// Bytes of an answer that is no contents; of the serialized state there may be more.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Bytes of the serialized state.
const STATE_BYTES_MAX: u64 = 1 << 30;

/// The nodes, for those who read.
#[derive(Debug)]
pub struct Reader {
    nodes: Vec<Node>,
    agent: Agent,
    hurried: Agent,
}

/// A node, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// Which.
    pub id: u64,
    address: SocketAddr,
}

impl Reader {
    /// The nodes of this cluster; `first` is asked before all others.
    ///
    /// # Errors
    /// If there is no node `first`.
    pub fn new(home: &Home, deadline: Duration, first: Option<u64>) -> Result<Reader> {
        if let Some(first) = first {
            home.address(first)?;
        }
        let mut nodes: Vec<Node> = home.nodes().map(|(id, address)| Node { id, address }).collect();
        nodes.sort_by_key(|node| (Some(node.id) != first, node.id));
        let agent = |max: Duration| -> Agent {
            let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(max));
            // A node is asked itself: a proxy of the environment would answer in its place.
            let config = config.proxy(None);
            config.timeout_connect(Some(CONNECT_MAX.min(max))).build().into()
        };
        Ok(Reader { nodes, agent: agent(ANSWER_MAX.min(deadline)), hurried: agent(LOOK_MAX) })
    }

    /// All nodes, in the order in which they are asked.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A file; `None` if there is none of that name.
    ///
    /// # Errors
    /// If no node answers.
    pub fn file(&self, name: &FileName, at: Lsn) -> Result<Option<FileReport>> {
        self.any("/v1/file", &[("name", name.as_str())], at)
    }

    /// Files after this name, in the order of their names: not all, but some if there are any.
    ///
    /// # Errors
    /// If no node answers.
    pub fn files(&self, after: Option<&str>, at: Lsn) -> Result<Vec<FileReport>> {
        let question: Vec<_> = after.map(|after| ("after", after)).into_iter().collect();
        Ok(self.any("/v1/files", &question, at)?.unwrap_or_default())
    }

    /// What is known of an operation.
    ///
    /// # Errors
    /// If no node answers.
    pub fn operation(&self, id: OperationId, at: Lsn) -> Result<OperationReport> {
        let found = self.any("/v1/operation", &[("id", &id.to_string())], at)?;
        Ok(found.unwrap_or(OperationReport::Unheard))
    }

    /// How a node is, or why it does not say.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn report(&self, node: &Node) -> Result<NodeReport, String> {
        let found = one(&self.hurried, node, "/v1/node", &[], Lsn::ZERO)?;
        found.ok_or_else(|| "it does not know the question: is it of another version?".to_owned())
    }

    /// A node's serialized state.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn state(&self, node: &Node) -> Result<String, String> {
        let url = format!("http://{}/v1/state", node.address);
        let mut answer = self.agent.get(url).call().map_err(|error| error.to_string())?;
        answer
            .body_mut()
            .with_config()
            .limit(STATE_BYTES_MAX)
            .read_to_string()
            .map_err(|error| error.to_string())
    }

    /// Some chunks of a file from one node: from this one on, so many; `false` if it does not have what this put has brought
    /// under this name. What has come when it fails was written.
    pub(super) fn content(
        &self,
        node: &Node,
        file: &FileReport,
        (from, chunks): (u64, u64),
        at: Lsn,
        to: &mut dyn Write,
    ) -> Result<bool, String> {
        let put = file.put.to_string();
        let numbers = (from.to_string(), chunks.to_string());
        let question = [("name", &*file.name), ("put", &put), ("from", &numbers.0), ("chunks", &numbers.1)];
        let answer = asked(&self.agent, node, "/v1/content", &question, at)?;
        let Some(mut answer) = answer else { return Ok(false) };
        let mut body = answer.body_mut().with_config().limit(u64::MAX).reader();
        io::copy(&mut body, to).map(|_| true).map_err(|error| format!("it broke off: {error}"))
    }

    /// Asks one node after another until one answers; `None` if it says that there is no such thing.
    fn any<T: DeserializeOwned>(&self, path: &str, question: &[(&str, &str)], at: Lsn) -> Result<Option<T>> {
        let mut said = vec![];
        for node in &self.nodes {
            match one(&self.agent, node, path, question, at) {
                Ok(answer) => return Ok(answer),
                Err(why) => said.push((node.id, why)),
            }
        }
        Err(Error::NoNode(said))
    }
}

/// Asks one node.
fn one<T: DeserializeOwned>(
    agent: &Agent,
    node: &Node,
    path: &str,
    question: &[(&str, &str)],
    at: Lsn,
) -> Result<Option<T>, String> {
    let Some(mut answer) = asked(agent, node, path, question, at)? else { return Ok(None) };
    let bytes = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let bytes = bytes.map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string())
}

/// The answer of one node, if it is one; `None` if there is no such thing.
fn asked(
    agent: &Agent,
    node: &Node,
    path: &str,
    question: &[(&str, &str)],
    at: Lsn,
) -> Result<Option<ureq::http::Response<ureq::Body>>, String> {
    let url = format!("http://{}{path}", node.address);
    let request = agent.get(url).query("at", at.to_string());
    let request = question.iter().fold(request, |request, (key, value)| request.query(key, value));
    let mut answer = request.call().map_err(|error| match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            format!("nobody answers at {}", node.address)
        }
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        error => error.to_string(),
    })?;
    match answer.status().as_u16() {
        200 => Ok(Some(answer)),
        // No file has this name, or another one than was asked for.
        404 | 409 => Ok(None),
        _ => {
            let why = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
            Err(why.unwrap_or_else(|error| error.to_string()))
        }
    }
}
