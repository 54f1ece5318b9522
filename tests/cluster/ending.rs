//! The end of a run: everything heals, and the cluster has to elect, serve and become the same everywhere (19).

use annals::protocol::request::Copies;
use annals::protocol::{Health, Role};
use annals::{Lsn, LsnRange};

use crate::invariants::{self, Check, broken};
use crate::network::Weather;
use crate::operator::OPERATOR;
use crate::oracle::Ask;
use crate::trace::brief;
use crate::world::{Event, MS, World};

/// Virtual time that it may take.
const BOUND: u64 = 90_000 * MS;

impl World {
    /// From here on nothing goes wrong any more.
    pub(crate) fn heal(&mut self) -> Check {
        self.trace.note(self.now, || "everything heals".to_owned());
        self.is_healed = true;
        self.healed_at = self.now;
        self.mix.tampers = 0;
        self.mix.weather = Weather::default();
        self.network.heal(Weather::default());
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            (node.spindle.stalled_until, node.spindle.fails, node.full_until) = (0, false, 0);
            if let Some(storage) = &mut node.storage {
                storage.heal();
            }
            self.resume(at)?;
            self.after(MS, Event::Start { node: at });
        }
        self.after(100 * MS, Event::Settle);
        Ok(())
    }

    /// Looks whether all is well again.
    pub(crate) fn settle(&mut self) -> Check {
        self.operate();
        self.prove();
        let left = self.unsettled();
        match left {
            None => {
                self.is_settled = true;
                self.all_is_there()
            }
            Some(left) if self.now > self.healed_at + BOUND => {
                broken(19, "a primary serves and all replicas become the same", self.describe(&left))
            }
            Some(_) => {
                self.after(50 * MS, Event::Settle);
                Ok(())
            }
        }
    }

    fn describe(&self, left: &str) -> String {
        let mut text = left.to_owned();
        for (at, node) in self.nodes.iter().enumerate() {
            let status = node.driver.as_ref().map(|driver| driver.status());
            text += &format!("\n  {}: {}, tokens {:?}", at + 1, brief(&status), node.tokens);
        }
        text
    }

    /// Appends one record more, until one is committed.
    fn prove(&mut self) {
        let is_asked = self.proof.is_some_and(|token| self.oracle.attempts.contains_key(&token));
        let waits_long = self.now > self.proof_asked + 1000 * MS;
        let Some(leader) = self.leader() else { return };
        if self.is_proved || (is_asked && !waits_long) {
            return;
        }
        let payloads = self.payloads();
        self.proof_asked = self.now;
        self.proof =
            self.ask_node(OPERATOR, leader, Ask::Append { payloads, producer: None, copies: Copies::Quorum });
    }

    /// What is not yet as it should be.
    fn unsettled(&self) -> Option<String> {
        let Some(leader) = self.leader() else { return Some("nobody leads".to_owned()) };
        if !self.is_proved {
            return Some("nothing is committed".to_owned());
        }
        let membership = self.nodes[leader].ledger.membership()?;
        if !self.is_content(membership) {
            return Some(format!("the membership is {membership:?}"));
        }
        let status = self.nodes[leader].driver.as_ref()?.status();
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.tokens.is_empty() {
                return Some(format!("{} has not answered all", at + 1));
            }
            if !membership.has(node.ledger.member) {
                continue;
            }
            if !node.ledger.harmed.is_empty() {
                return Some(format!("nobody has found what {} has lost", at + 1));
            }
            let Some(driver) = &node.driver else { return Some(format!("{} is down", at + 1)) };
            let own = driver.status();
            let follows = if at == leader { Role::Primary } else { Role::Backup };
            let is_same = own.role == follows
                && own.health == Health::Whole
                && own.epoch == status.epoch
                && own.last == status.last
                && own.durable == status.last.lsn
                && own.commit == status.last.lsn;
            if !is_same {
                return Some(format!("{} has not caught up", at + 1));
            }
        }
        None
    }

    /// 16: the stores hold the same bytes, record for record, and the replicas the same state.
    fn stores_are_the_same(&self) -> Check {
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(membership) = self.nodes[leader].ledger.membership() else { return Ok(()) };
        let members = || self.nodes.iter().filter(|node| membership.has(node.ledger.member));
        let bases = members().filter_map(|node| node.driver.as_ref()?.base());
        invariants::all_are_the_same("the replicated state", bases)?;
        let first = members().filter_map(|node| node.storage.as_ref()?.first()).max();
        let Some(range) = first.and_then(|first| LsnRange::new(first, self.oracle.commit())) else {
            return Ok(());
        };
        let mut digests = vec![];
        for storage in members().filter_map(|node| node.storage.as_ref()) {
            digests.extend(storage.digest_of(range)?);
        }
        invariants::all_are_the_same("the digests of all records", digests.into_iter())
    }

    /// 1 and 16: what was committed is on every replica, record for record.
    fn all_is_there(&mut self) -> Check {
        self.stores_are_the_same()?;
        let storages = self.nodes.iter().filter_map(|node| node.storage.as_ref());
        self.oracle.tally.older = storages.map(|storage| storage.kept.seen).sum();
        let commit = self.oracle.commit();
        for at in 0..self.nodes.len() {
            let ledger = &self.nodes[at].ledger;
            let is_member = self.leader().and_then(|leader| self.nodes[leader].ledger.membership());
            if is_member.is_none_or(|membership| !membership.has(ledger.member)) {
                continue;
            }
            if ledger.chain(commit).is_none() && ledger.begin.lsn < commit {
                return broken(1, "acknowledged is a subset of what is there", format!("{}", at + 1));
            }
            for lsn in ledger.begin.lsn.get()..=commit.get() {
                invariants::replicas_agree_on_what_is_committed(&self.oracle, ledger, Lsn::new(lsn))?;
            }
        }
        Ok(())
    }
}
