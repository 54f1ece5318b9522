//! Clients: they append, with and without a number, retry what is unknown only with one, and read.

use std::collections::BTreeMap;

use annals::ProducerId;
use annals::node::{Append, Input, Records};
use annals::protocol::Outcome;
use annals::protocol::request::Copies;

use crate::driver::{Local, Told};
use crate::invariants::Check;
use crate::mix::Mix;
use crate::oracle::{Ask, Attempt};
use crate::record::Payload;
use crate::seeds::Chance;
use crate::world::{Event, MS, World};

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trade {
    /// Appends without numbers, several at once, and never again what is unknown.
    Appender,
    /// Numbers its appends, and repeats each until it knows.
    Producer,
    Reader,
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    trade: Trade,
    /// Whom it asks.
    target: usize,
    pace: u64,
    producer: Option<ProducerId>,
    sequence: u64,
    /// What it is appending, and what it appended last.
    batch: Vec<Payload>,
    before: Vec<Payload>,
    /// What it waits for, and since when.
    waiting: BTreeMap<u64, u64>,
    /// A token whose answer changes nothing.
    aside: Option<u64>,
}

impl Client {
    pub(crate) fn draw(at: usize, mix: &Mix, draw: &mut Chance) -> Client {
        let trade = [Trade::Producer, Trade::Appender, Trade::Reader][at % 3];
        Client {
            trade,
            target: draw.below(mix.nodes as u64) as usize,
            pace: draw.between(MS, 30 * MS),
            producer: None,
            sequence: 1,
            batch: vec![],
            before: vec![],
            waiting: BTreeMap::new(),
            aside: None,
        }
    }
}

impl World {
    /// A client does the next thing.
    pub(crate) fn client(&mut self, at: usize) -> Check {
        if self.is_healed {
            return Ok(());
        }
        let pace = self.clients[at].pace;
        let pause = self.draw.between(pace / 2, pace * 2);
        self.after(pause, Event::Client(at));
        let now = self.now;
        self.clients[at].waiting.retain(|_, since| now - *since < 1500 * MS);
        let waiting = self.clients[at].waiting.len();
        if !self.nodes[self.clients[at].target].is_up() || self.draw.below(20) == 0 {
            self.clients[at].target = self.draw.below(self.nodes.len() as u64) as usize;
        }
        match self.clients[at].trade {
            Trade::Appender if waiting < 12 => {
                let payloads = self.payloads();
                let copies = self.copies(Copies::Local);
                self.ask(at, Ask::Append { payloads, producer: None, copies });
            }
            Trade::Producer if waiting == 0 => self.produce(at),
            Trade::Reader if waiting < 4 => {
                let floor = self.oracle.commit();
                self.ask(at, Ask::Read { floor });
            }
            _ => {}
        }
        Ok(())
    }

    fn produce(&mut self, at: usize) {
        let Some(producer) = self.clients[at].producer else {
            self.ask(at, Ask::Register);
            return;
        };
        // Now and then what was acknowledged comes again, as from a network that repeats.
        let client = &self.clients[at];
        if !client.before.is_empty() && client.batch.is_empty() && self.draw.below(6) == 0 {
            let (payloads, sequence) = (client.before.clone(), client.sequence - client.before.len() as u64);
            let (producer, copies) = (Some((producer, sequence)), self.copies(Copies::Quorum));
            let token = self.ask(at, Ask::Append { payloads, producer, copies });
            self.clients[at].aside = token;
            return;
        }
        if self.clients[at].batch.is_empty() {
            self.clients[at].batch = self.payloads();
        }
        let copies = self.copies(Copies::Quorum);
        let client = &self.clients[at];
        let (payloads, producer) = (client.batch.clone(), Some((producer, client.sequence)));
        self.ask(at, Ask::Append { payloads, producer, copies });
    }

    /// What the next append waits for: mostly for its commit, now and then for something else.
    fn copies(&self, least: Copies) -> Copies {
        match self.tokens % 16 {
            3 => least,
            7 => Copies::AtLeast(2),
            11 => Copies::AtLeast(3),
            15 => Copies::All,
            _ => Copies::Quorum,
        }
    }

    pub(crate) fn payloads(&mut self) -> Vec<Payload> {
        let count = if self.draw.below(3) == 0 { self.draw.between(2, 4) } else { 1 };
        (0..count)
            .map(|_| {
                self.payloads += 1;
                Payload(self.payloads)
            })
            .collect()
    }

    /// A client asks the replica that it believes in.
    fn ask(&mut self, at: usize, ask: Ask) -> Option<u64> {
        let node = self.clients[at].target;
        let token = self.ask_node(at, node, ask)?;
        self.clients[at].waiting.insert(token, self.now);
        Some(token)
    }

    /// Asks this replica, if its process is there.
    pub(crate) fn ask_node(&mut self, client: usize, node: usize, ask: Ask) -> Option<u64> {
        if !self.nodes[node].is_up() {
            return None;
        }
        self.tokens += 1;
        let token = self.tokens;
        let told = match &ask {
            Ask::Append { payloads, producer, copies } => {
                let records = records_of(payloads);
                Told::Append(Append { token, producer: *producer, copies: *copies, records })
            }
            Ask::Register => Told::Input(Input::Register { token }),
            Ask::Read { .. } => Told::Input(Input::Read { token }),
            Ask::Change(change) => Told::Input(Input::Change { token, change: *change }),
            Ask::Transfer(to) => Told::Input(Input::Transfer { token, to: *to }),
            Ask::Promote => Told::Input(Input::Promote { token }),
        };
        self.oracle.attempts.insert(token, Attempt { client, node, ask, written: None });
        let (life, delay) = (self.nodes[node].life, self.draw.below(MS));
        let what = Local::Ask { token, told };
        self.after(delay, Event::Local { node, life, what: Box::new(what) });
        Some(token)
    }

    /// A client hears what came of it; `None` if it never will.
    pub(crate) fn answer(&mut self, at: usize, token: u64, outcome: Option<Outcome>) {
        if at >= self.clients.len() {
            self.told(token);
            return;
        }
        let is_aside = self.clients[at].aside == Some(token);
        let was_waiting = self.clients[at].waiting.remove(&token).is_some();
        if let Some(Outcome::NotTaken { primary }) = outcome {
            let any = self.draw.below(self.nodes.len() as u64) as usize;
            self.clients[at].target = primary.and_then(|id| self.place(id)).unwrap_or(any);
        }
        if was_waiting && !is_aside && self.clients[at].trade == Trade::Producer {
            self.produced(at, outcome);
        }
    }

    fn produced(&mut self, at: usize, outcome: Option<Outcome>) {
        let client = &mut self.clients[at];
        match outcome {
            Some(Outcome::Committed { range, .. }) if client.producer.is_none() => {
                client.producer = Some(ProducerId::new(range.first.get()));
                (client.sequence, client.before) = (1, vec![]);
            }
            Some(Outcome::Committed { .. } | Outcome::Duplicate { .. }) => {
                client.sequence += client.batch.len() as u64;
                client.before = std::mem::take(&mut client.batch);
            }
            // Forgotten: what is unknown stays unknown.
            Some(Outcome::UnknownProducer) => {
                (client.producer, client.sequence) = (None, 1);
                client.batch.clear();
                client.before.clear();
            }
            _ => {}
        }
    }
}

/// The bytes of an append.
fn records_of(payloads: &[Payload]) -> Records {
    let bytes: Vec<Vec<u8>> = payloads.iter().map(|payload| payload.bytes()).collect();
    let sizes = bytes.iter().map(|record| record.len() as u32).collect();
    Records::back_to_back(bytes.concat().into(), sizes).expect("at least one, of these sizes")
}
