//! The replica's state machine, and what the rest of a node sees of it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use annals::node::{Frozen, StateMachine};
use annals::{Epoch, Lsn};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::command::Entry;
use crate::state::{Outcome, State};
use crate::token::RequestId;

/// Gives the records to the state, and the outcomes to whoever waits for them.
pub(crate) struct Machine {
    seen: Arc<Seen>,
}

/// The state as requests see it. Written by the applying thread alone.
pub(crate) struct Seen {
    state: RwLock<State>,
    /// Who waits for which record of this node.
    waiting: Mutex<HashMap<RequestId, oneshot::Sender<Outcome>>>,
}

impl Machine {
    /// A machine, and the other side of it.
    pub(crate) fn new() -> (Machine, Arc<Seen>) {
        let seen = Arc::new(Seen { state: RwLock::default(), waiting: Mutex::default() });
        (Machine { seen: Arc::clone(&seen) }, seen)
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, lsn: Lsn, _: Epoch, record: &[u8]) -> io::Result<()> {
        // To leave a record out that others apply would make another state of it: better no node than a wrong one.
        let entry =
            Entry::decode(record).unwrap_or_else(|bad| panic!("record {lsn} cannot be applied: {bad}"));
        let outcome = self.seen.state.write().apply(lsn, &entry, record);
        if let Some(waiting) = self.seen.waiting.lock().remove(&entry.nonce) {
            // Refused if whoever waited has gone.
            let _ = waiting.send(outcome);
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Frozen {
        let view = self.seen.state.read().clone();
        Box::new(move |to: &mut dyn Write| view.save(to))
    }

    fn restore(&mut self, from: &mut dyn Read, _: Lsn) -> io::Result<()> {
        *self.seen.state.write() = State::load(from)?;
        // What they wait for may have been jumped over: nobody here knows what came of it.
        self.seen.waiting.lock().clear();
        Ok(())
    }
}

impl Seen {
    /// Looks at the state. To be left soon: the next record waits for it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read())
    }

    /// Waits for what comes of a record. To be asked before it is appended; what is dropped waits no more.
    pub(crate) fn expect(self: &Arc<Seen>, nonce: RequestId) -> Expected {
        let (sender, outcome) = oneshot::channel();
        self.waiting.lock().insert(nonce, sender);
        Expected { nonce, outcome, seen: Arc::clone(self) }
    }
}

/// The outcome of a record of this node, once it is applied here.
pub(crate) struct Expected {
    nonce: RequestId,
    outcome: oneshot::Receiver<Outcome>,
    seen: Arc<Seen>,
}

impl Expected {
    /// The outcome; `None` if it cannot be known here any more.
    pub(crate) async fn outcome(mut self) -> Option<Outcome> {
        (&mut self.outcome).await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.seen.waiting.lock().remove(&self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::name::Name;

    fn record(name: &str) -> Entry {
        let name = Name::typed(name).unwrap();
        Entry::new(1, Command::Register { name, hash: "hash".to_owned(), request: RequestId::draw() })
    }

    #[tokio::test]
    async fn whoever_wrote_a_record_hears_what_came_of_it() {
        let (mut machine, seen) = Machine::new();
        let (first, second) = (record("ada"), record("ada"));
        let waits = [&first, &second].map(|entry| seen.expect(entry.nonce));
        machine.apply(Lsn::new(2), Epoch::new(1), &first.encode()).unwrap();
        machine.apply(Lsn::new(3), Epoch::new(1), &second.encode()).unwrap();
        let [first, second] = waits;
        assert_eq!(first.outcome().await, Some(Outcome::Done));
        assert_eq!(second.outcome().await, Some(Outcome::NameTaken));
        assert!(seen.waiting.lock().is_empty());
    }

    #[tokio::test]
    async fn a_snapshot_that_jumps_over_a_record_leaves_its_outcome_unknown() {
        let (mut machine, seen) = Machine::new();
        machine.apply(Lsn::new(2), Epoch::new(1), &record("ada").encode()).unwrap();
        let mut bytes = vec![];
        machine.snapshot()(&mut bytes).unwrap();
        let (mut other, seen_there) = Machine::new();
        let lost = seen_there.expect(RequestId::draw());
        other.restore(&mut &bytes[..], Lsn::new(2)).unwrap();
        assert_eq!(lost.outcome().await, None);
        let history = |seen: &Seen| seen.look(State::history);
        assert_eq!(history(&seen), history(&seen_there));
    }

    #[test]
    #[should_panic(expected = "record 9 cannot be applied: a record has version 7")]
    fn a_record_of_a_newer_program_is_not_left_out() {
        Machine::new().0.apply(Lsn::new(9), Epoch::new(1), br#"{"version":7}"#).unwrap();
    }
}
