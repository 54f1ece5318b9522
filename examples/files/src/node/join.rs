//! How a new node comes in: as a learner, who receives the log, and once it has caught up as a voter.

use std::thread;
use std::time::{Duration, Instant};

use annals::ReplicaId;
use annals::client::{Client, ClientError, ClientOptions, Target};
use annals::node::Replica;
use annals::protocol::request::NodeStatus;
use annals::protocol::{Change, Member, Stage};

use crate::error::{Error, Result};
use crate::home::{self, Home};

/// How long it may take without any progress.
const PATIENCE: Duration = Duration::from_secs(60);
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Brings this node in, on a thread of its own.
pub(super) fn spawn(home: &Home, node: u64, replica: Replica) -> Result<()> {
    let files = home.client_files();
    let endpoints = home.nodes().filter(|(other, _)| *other != node).map(|(_, at)| at.to_string());
    let client = ClientOptions::new(endpoints).certificates(files.ca, files.cert, files.key).connect()?;
    let come_in = move || match come_in(&client, node, &replica) {
        Ok(()) => println!("{} votes", home::name(node)),
        Err(error) => eprintln!("{} was not taken in: {error}; start it once more", home::name(node)),
    };
    let spawned = thread::Builder::new().name("join".to_owned()).spawn(come_in);
    spawned.map(drop).map_err(|error| Error::Usage(format!("cannot start a thread: {error}")))
}

/// One step after another until this node votes. What is not known to be done, because another node leads by now, is
/// looked at again: each step is one that does no harm twice.
fn come_in(client: &Client, node: u64, replica: &Replica) -> Result<()> {
    let me = Member { id: ReplicaId::new(node), disk: replica.status()?.disk };
    let mut deadline = Instant::now() + PATIENCE;
    let mut best = 0;
    loop {
        match step(client, me) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => {}
        }
        let durable = replica.status()?.durable.get();
        if durable > best {
            // It moves: the deadline is for standing still.
            (best, deadline) = (durable, Instant::now() + PATIENCE);
        }
        if Instant::now() > deadline {
            return Err(Error::Usage("nothing of the log arrives".to_owned()));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Does what comes next; whether nothing is left to do.
fn step(client: &Client, me: Member) -> Result<bool, ClientError> {
    let seen = client.status(Target::Primary).wait()?;
    let Some(members) = &seen.membership else { return Ok(false) };
    if members.votes(me) {
        return Ok(true);
    }
    if !members.has(me) {
        client.change(Change::AddLearner(me)).wait()?;
    } else if streams(&seen, me.id) {
        client.change(Change::PromoteLearner { id: me.id, priority: 0 }).wait()?;
    }
    Ok(false)
}

/// Whether it gets each group as it is appended.
fn streams(primary: &NodeStatus, id: ReplicaId) -> bool {
    primary.peers.iter().any(|peer| peer.id == id && peer.stage == Stage::Streaming)
}
