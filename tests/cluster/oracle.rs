//! What must be true of the whole cluster, kept apart from every replica: what is committed, who led, what
//! clients were told.

use std::collections::{BTreeMap, HashMap, HashSet};

use annals::protocol::request::Copies;
use annals::protocol::{Change, Member, Outcome};
use annals::{Epoch, Lsn, LsnRange, ProducerId, ReplicaId};

use crate::invariants::{self, Check};
use crate::ledger::Ledger;
use crate::record::{Body, Frame, Payload};

/// A record of which a client, or a reader, may have heard that it is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Agreed {
    pub(crate) epoch: Epoch,
    pub(crate) chain: u64,
}

/// What a client has asked of one replica, once.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) client: usize,
    pub(crate) node: usize,
    pub(crate) ask: Ask,
    /// Where the replica has put it into its log.
    pub(crate) written: Option<LsnRange>,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Append {
        payloads: Vec<Payload>,
        producer: Option<(ProducerId, u64)>,
        copies: Copies,
    },
    Register,
    /// With what was committed when it was asked.
    Read {
        floor: Lsn,
    },
    Change(Change),
    Transfer(Option<ReplicaId>),
    Promote,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The record with LSN 1 first.
    pub(crate) committed: Vec<Agreed>,
    /// The newest epoch in which something was committed.
    pub(crate) epoch: Epoch,
    pub(crate) primaries: BTreeMap<Epoch, Member>,
    /// Who got whose vote.
    pub(crate) votes: HashMap<(Member, Epoch), Member>,
    /// For each (epoch, LSN) that any log ever had, the chain over all up to it.
    pub(crate) chains: HashMap<(Epoch, Lsn), u64>,
    pub(crate) attempts: HashMap<u64, Attempt>,
    pub(crate) placed: HashMap<Payload, Lsn>,
    pub(crate) numbered: HashMap<(ProducerId, u64), Lsn>,
    /// Clients were told that these are not in the log.
    pub(crate) refused: HashSet<Payload>,
    /// Whoever has come back from an old copy: its votes and copies of before count for nothing.
    pub(crate) forgetful: Option<Member>,
    pub(crate) tally: Tally,
}

/// How much has happened: a run in which nothing happens proves nothing.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) appended: u64,
    /// Appends that were answered before their commit.
    pub(crate) local: u64,
    /// Appends that were answered once more than a quorum had them.
    pub(crate) beyond: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    pub(crate) duplicates: u64,
    pub(crate) reads: u64,
    pub(crate) elections: u64,
    pub(crate) truncations: u64,
    pub(crate) installs: u64,
    /// Chunks of snapshots that newer ones had replaced.
    pub(crate) kept: u64,
    /// Snapshots that stayed beside the base that took their place, each time that was looked.
    pub(crate) older: u64,
    pub(crate) mended: u64,
    pub(crate) recovered: u64,
    pub(crate) transfers: u64,
    pub(crate) changes: u64,
    pub(crate) crashes: u64,
    /// Steps of a store that were cut short.
    pub(crate) cut_short: u64,
    /// Messages whose bytes were changed on their way, and that were dropped for it.
    pub(crate) tampered: u64,
    /// Messages of which one field was changed, and that were refused.
    pub(crate) mutated: u64,
}

impl Tally {
    /// How often each has happened, by name.
    pub(crate) const fn counts(&self) -> [(&'static str, u64); 19] {
        [
            ("appended", self.appended),
            ("local", self.local),
            ("beyond", self.beyond),
            ("unknown", self.unknown),
            ("refused", self.refused),
            ("duplicates", self.duplicates),
            ("reads", self.reads),
            ("elections", self.elections),
            ("truncations", self.truncations),
            ("installs", self.installs),
            ("older snapshots", self.older),
            ("mended", self.mended),
            ("recovered", self.recovered),
            ("transfers", self.transfers),
            ("changes", self.changes),
            ("crashes", self.crashes),
            ("cut short", self.cut_short),
            ("tampered", self.tampered),
            ("mutated", self.mutated),
        ]
    }
}

impl Oracle {
    /// The newest committed record.
    pub(crate) fn commit(&self) -> Lsn {
        Lsn::new(self.committed.len() as u64)
    }

    pub(crate) fn agreed(&self, lsn: Lsn) -> Option<&Agreed> {
        self.committed.get(lsn.get().checked_sub(1)? as usize)
    }

    /// A frame was put into a log.
    pub(crate) fn written(&mut self, ledger: &Ledger, frame: &Frame) -> Check {
        for (place, lsn) in (frame.first.get()..=frame.range().last.get()).enumerate() {
            let lsn = Lsn::new(lsn);
            let chain = ledger.chain(lsn).expect("it was put there");
            let known = *self.chains.entry((frame.epoch, lsn)).or_insert(chain);
            invariants::logs_that_agree_agree_before(ledger.member, (frame.epoch, lsn), chain, known)?;
            if let Body::Records { payloads, .. } = &frame.body {
                invariants::refused_is_never_appended(&self.refused, payloads[place], lsn)?;
            }
        }
        Ok(())
    }

    /// A primary says that everything up to here is committed, and nobody has said so before.
    pub(crate) fn advance(&mut self, ledger: &Ledger, to: Lsn, epoch: Epoch) -> Check {
        for lsn in self.commit().get() + 1..=to.get() {
            let lsn = Lsn::new(lsn);
            let Some(slot) = ledger.slot(lsn) else {
                return invariants::broken(
                    2,
                    "a primary commits what its log does not have",
                    format!("{lsn}"),
                );
            };
            self.committed.push(Agreed { epoch: slot.frame.epoch, chain: slot.chain });
            let place = (lsn.get() - slot.frame.first.get()) as usize;
            if let Body::Records { payloads, producer } = &slot.frame.body {
                let before = self.placed.insert(payloads[place], lsn);
                invariants::one_record_one_lsn(payloads[place], lsn, before)?;
                if let Some((id, sequence)) = producer {
                    let number = (*id, sequence + place as u64);
                    let before = self.numbered.insert(number, lsn);
                    invariants::one_number_one_lsn(number, lsn, before)?;
                }
            }
        }
        self.epoch = self.epoch.max(epoch);
        Ok(())
    }

    /// A client is told what came of its attempt.
    pub(crate) fn resolved(&mut self, attempt: &Attempt, outcome: &Outcome) -> Check {
        let Ask::Append { payloads, producer, .. } = &attempt.ask else { return Ok(()) };
        match outcome {
            Outcome::Committed { range, epoch } => {
                self.tally.appended += 1;
                invariants::acknowledged_is_committed(self, attempt, payloads, *range, *epoch)
            }
            Outcome::Duplicate { range } => {
                self.tally.duplicates += 1;
                invariants::duplicate_is_committed(self, *producer, payloads, *range)
            }
            Outcome::Unknown => {
                self.tally.unknown += 1;
                Ok(())
            }
            _ => {
                self.tally.refused += 1;
                self.refused.extend(payloads.iter().filter(|_| producer.is_none()));
                invariants::unknown_is_never_told_as_failed(attempt, outcome)
            }
        }
    }
}
