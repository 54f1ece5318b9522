//! Questions to one replica, each with a deadline.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use annals::ReplicaId;
use annals::protocol::request::{ClientRole, NodeStatus, Reply, Request};
use annals::transport::{ClientLink, Credentials, LinkEvents, LinkOptions, TransportError};
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::overview::{Overview, Seen};
use crate::report::ReplicaReport;

/// A connection to one replica.
pub(crate) struct Session {
    address: String,
    link: ClientLink,
    waiting: Arc<Waiting>,
}

/// Who waits for which reply, and how the connection has ended, if it has.
#[derive(Default)]
struct Waiting {
    state: Mutex<WaitingState>,
}

#[derive(Default)]
struct WaitingState {
    senders: HashMap<u64, Sender<Result<Reply, TransportError>>>,
    next: u64,
    closed: Option<TransportError>,
}

/// A reply that is on its way.
pub(crate) struct Pending {
    address: String,
    reply: Receiver<Result<Reply, TransportError>>,
}

impl Session {
    /// Begins to connect; whether that succeeds is told by the first question.
    pub(crate) fn open(credentials: &Credentials, address: &str, connect_max: Duration) -> Result<Session> {
        let waiting = Arc::new(Waiting::default());
        let options = LinkOptions { connect_max, ..LinkOptions::default() };
        let told = Arc::<Waiting>::clone(&waiting);
        let link = ClientLink::open(credentials, address, options, told).map_err(Error::at(address))?;
        Ok(Session { address: address.to_owned(), link, waiting })
    }

    /// Asks, and does not wait.
    pub(crate) fn ask(&self, request: &Request) -> Result<Pending> {
        let (sender, reply) = mpsc::channel();
        let number = self.waiting.enter(sender);
        // A link that is closed says why to whoever has entered: that tells more than this error.
        let _ = self.link.send(number, request, &[]);
        Ok(Pending { address: self.address.clone(), reply })
    }

    /// Asks, and waits until the deadline.
    pub(crate) fn answer(&self, request: &Request, deadline: Instant) -> Result<Reply> {
        self.ask(request)?.wait(deadline)
    }
}

impl Pending {
    /// The reply; a refusal is an error.
    pub(crate) fn wait(self, deadline: Instant) -> Result<Reply> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.reply.recv_timeout(left) {
            Ok(Ok(Reply::Refused(refused))) => Err(Error::Refused { address: self.address, refused }),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => Err(Error::Transport { address: Some(self.address), source }),
            Err(_) => Err(Error::TimedOut { waiting_for: format!("an answer of {}", self.address) }),
        }
    }
}

impl Waiting {
    fn state(&self) -> std::sync::MutexGuard<'_, WaitingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for the reply to the number that this gives.
    fn enter(&self, sender: Sender<Result<Reply, TransportError>>) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        match &state.closed {
            // Whoever has given up already does not hear it.
            Some(error) => drop(sender.send(Err(error.clone()))),
            None => drop(state.senders.insert(number, sender)),
        }
        number
    }
}

impl LinkEvents for Waiting {
    fn opened(&self, _: ReplicaId, _: ClientRole) {}

    fn replies(&self, replies: &mut Vec<(u64, Reply, Bytes)>) {
        let mut state = self.state();
        for (number, reply, _) in replies.drain(..) {
            if let Some(sender) = state.senders.remove(&number) {
                // Whoever has given up does not hear it.
                let _ = sender.send(Ok(reply));
            }
        }
    }

    fn closed(&self, error: TransportError) {
        let mut state = self.state();
        for (_, sender) in state.senders.drain() {
            let _ = sender.send(Err(error.clone()));
        }
        state.closed = Some(error);
    }
}

/// Connections to replicas, kept from one look to the next.
pub(crate) struct Sessions {
    credentials: Credentials,
    open: HashMap<String, Session>,
}

impl Sessions {
    /// None yet.
    pub(crate) fn new(credentials: Credentials) -> Sessions {
        Sessions { credentials, open: HashMap::new() }
    }

    /// The connection to this address, new if there was none.
    pub(crate) fn to(&mut self, address: &str, connect_max: Duration) -> Result<&Session> {
        match self.open.entry(address.to_owned()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(Session::open(&self.credentials, address, connect_max)?)),
        }
    }

    /// Asks all of these addresses at once what they are, and gives the answers in the same order.
    pub(crate) fn statuses(
        &mut self,
        addresses: &[String],
        wait: Duration,
    ) -> Vec<(String, Result<NodeStatus>)> {
        let deadline = Instant::now() + wait;
        let mut asked = vec![];
        for address in addresses {
            asked.push(self.to(address, wait).and_then(|session| session.ask(&Request::Status)));
        }
        let read = |reply| match reply {
            Reply::Status(status) => Ok(*status),
            _ => Err(Error::BadReply),
        };
        let answers = addresses.iter().zip(asked).map(|(address, pending)| {
            let answer = pending.and_then(|pending| pending.wait(deadline)).and_then(read);
            if answer.is_err() {
                // The next look begins anew.
                self.open.remove(address);
            }
            (address.clone(), answer)
        });
        answers.collect()
    }

    /// What all of these addresses say, and then the members of whom those tell.
    pub(crate) fn overview(&mut self, endpoints: &[String], wait: Duration) -> Overview {
        let first = self.statuses(endpoints, wait);
        let answered = first.iter().filter_map(|(_, status)| status.as_ref().ok()).cloned().collect();
        self.completed(answered, first, wait)
    }

    /// What is known of the cluster by what a few have said, and by those of whom they tell.
    fn completed(
        &mut self,
        known: Vec<NodeStatus>,
        first: Vec<(String, Result<NodeStatus>)>,
        wait: Duration,
    ) -> Overview {
        let newest = known.iter().max_by_key(|status| {
            (status.membership.as_ref().map_or(0, |membership| membership.generation), status.epoch)
        });
        let members = newest.map_or(vec![], |status| ReplicaReport::of(status).members);
        let has_answered = |id: u64| known.iter().any(|status| status.id.get() == id);
        let is_asked = |address: &String| first.iter().any(|(asked, _)| asked == address);
        let others = members.iter().filter(|member| !has_answered(member.id));
        let others: Vec<String> = others.filter_map(|member| member.address.clone()).collect();
        let others: Vec<String> = others.into_iter().filter(|address| !is_asked(address)).collect();
        let second = self.statuses(&others, wait);
        let id_at = |address: &str| {
            members.iter().find(|member| member.address.as_deref() == Some(address)).map(|member| member.id)
        };
        let seen = first.into_iter().chain(second).map(|(address, status)| match status {
            Ok(status) => Seen::answered(address, ReplicaReport::of(&status)),
            Err(error) => {
                let id = id_at(&address);
                Seen::silent(address, id, error.to_string())
            }
        });
        Overview::of(seen.collect())
    }

    /// The cluster as this replica and those of whom it tells see it. Its own address need not be reachable.
    pub(crate) fn overview_from(&mut self, own: NodeStatus, wait: Duration) -> Overview {
        let mine = own.addresses.iter().find(|(id, _)| *id == own.id).map(|(_, address)| address.clone());
        let first = vec![(mine.unwrap_or_else(|| "here".to_owned()), Ok(own.clone()))];
        self.completed(vec![own], first, wait)
    }
}
