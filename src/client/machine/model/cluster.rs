//! A cluster as its clients see it: who leads, what is in which log, and what is committed.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::client::machine::LinkId;
use crate::protocol::request::{Appended, Copies, NodeStatus, RecordHead, Refused, Reply};
use crate::protocol::{Content, request::DiskHealth};
use crate::protocol::{Known, Producers, Role, Span, Spans};
use crate::types::{ClusterId, DiskId, Epoch, Lsn, LsnRange, ProducerId, ReplicaId};

/// What is in the log at once.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) first: Lsn,
    pub(super) epoch: Epoch,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Start,
    Register,
    Expire,
    Records { producer: Option<(ProducerId, u64)>, records: Vec<u64> },
}

impl Entry {
    fn count(&self) -> u64 {
        match &self.what {
            What::Records { records, .. } => records.len() as u64,
            _ => 1,
        }
    }

    pub(super) fn last(&self) -> Lsn {
        self.first.plus(self.count()).prev()
    }

    /// What it does to the table of producers.
    fn content(&self) -> Content {
        match &self.what {
            What::Start => Content::EpochStart,
            What::Register => Content::Register,
            What::Expire => Content::Expire { before: self.first },
            What::Records { producer, records } => {
                let spans = producer.map(|(producer, sequence)| {
                    let records = u32::try_from(records.len()).unwrap();
                    Span { producer, sequence, lsn: self.first, records }
                });
                Content::Records(Spans::from_iter(spans))
            }
        }
    }
}

/// Somebody who waits for records to be committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) link: LinkId,
    pub(super) number: u64,
    pub(super) through: Lsn,
    pub(super) range: Option<LsnRange>,
    pub(super) is_duplicate: bool,
    pub(super) is_register: bool,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) is_up: bool,
    pub(super) is_paused: bool,
    /// What it believes.
    pub(super) leads: bool,
    pub(super) epoch: Epoch,
    pub(super) primary: Option<ReplicaId>,
    pub(super) log: Vec<Entry>,
    pub(super) producers: Producers,
    pub(super) waiting: Vec<Waiting>,
}

impl Replica {
    pub(super) fn new(id: u64) -> Replica {
        Replica {
            id: ReplicaId::new(id),
            is_up: true,
            is_paused: false,
            leads: false,
            epoch: Epoch::default(),
            primary: None,
            log: vec![],
            producers: Producers::default(),
            waiting: vec![],
        }
    }

    pub(super) fn last(&self) -> Lsn {
        self.log.last().map_or(Lsn::ZERO, Entry::last)
    }

    pub(super) fn push(&mut self, what: What) -> Lsn {
        let entry = Entry { first: self.last().next(), epoch: self.epoch, what };
        self.producers.apply(entry.first, &entry.content());
        self.log.push(entry);
        self.last()
    }

    /// It is elected, with this log.
    pub(super) fn lead(&mut self, epoch: Epoch, log: Vec<Entry>) {
        (self.leads, self.epoch, self.primary) = (true, epoch, Some(self.id));
        self.producers = Producers::from_known(BTreeMap::new());
        for entry in &log {
            self.producers.apply(entry.first, &entry.content());
        }
        self.log = log;
        self.waiting.clear();
        self.push(What::Start);
    }

    /// Takes an append, or says at once why not.
    pub(super) fn append(
        &mut self,
        link: LinkId,
        number: u64,
        producer: Option<(ProducerId, u64)>,
        copies: Copies,
        records: Vec<u64>,
    ) -> Option<Reply> {
        let count = u32::try_from(records.len()).unwrap();
        let known = match producer {
            Some((id, sequence)) => self.producers.look_up(id, sequence, count),
            None => Known::New,
        };
        let (range, through, is_duplicate) = match known {
            Known::New => {
                let first = self.last().next();
                let last = self.push(What::Records { producer, records });
                (LsnRange::new(first, last), last, false)
            }
            Known::Duplicate { range, through } => (range, through, true),
            Known::OutOfSequence { expected } => {
                return Some(Reply::Refused(Refused::OutOfSequence { expected }));
            }
            Known::Unknown => return Some(Reply::Refused(Refused::UnknownProducer)),
        };
        let waiting = Waiting { link, number, through, range, is_duplicate, is_register: false };
        if copies == Copies::Local {
            return Some(self.appended(&waiting, false));
        }
        self.waiting.push(waiting);
        None
    }

    pub(super) fn appended(&self, waiting: &Waiting, is_committed: bool) -> Reply {
        if waiting.is_register {
            return Reply::Registered(ProducerId::new(waiting.through.get()));
        }
        Reply::Appended(Appended {
            range: waiting.range,
            epoch: self.epoch,
            holders: vec![self.id],
            is_committed,
            is_duplicate: waiting.is_duplicate,
        })
    }

    /// Records from one on, up to what is committed; a few at a time.
    pub(super) fn records(&self, from: Lsn, committed: Lsn) -> (Reply, Bytes) {
        let (mut heads, mut payload, mut next) = (vec![], vec![], from);
        let behind = self.log.iter().filter(|entry| entry.last() >= from && entry.last() <= committed);
        for entry in behind.take(5) {
            next = entry.last().next();
            let What::Records { records, .. } = &entry.what else { continue };
            for (record, lsn) in records.iter().zip(entry.first.get()..) {
                if lsn >= from.get() {
                    heads.push(RecordHead { lsn: Lsn::new(lsn), epoch: entry.epoch, bytes: 8 });
                    payload.extend_from_slice(&record.to_le_bytes());
                }
            }
        }
        (Reply::Records { records: heads, next, committed }, payload.into())
    }

    pub(super) fn status(&self, others: &[(ReplicaId, String)], committed: Lsn) -> Reply {
        Reply::Status(Box::new(NodeStatus {
            cluster: ClusterId::new(1),
            id: self.id,
            disk: DiskId::new(1),
            role: if self.leads { Role::Primary } else { Role::Backup },
            epoch: self.epoch,
            primary: self.primary,
            first: Lsn::FIRST,
            last: self.last(),
            durable: self.last(),
            committed,
            applied: committed,
            snapshot: Lsn::ZERO,
            membership: None,
            addresses: others.to_vec(),
            peers: vec![],
            disk_health: DiskHealth::Good,
            uptime: std::time::Duration::ZERO,
        }))
    }
}
