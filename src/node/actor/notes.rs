//! What the other threads have left for the node.

use std::time::Instant;

use bytes::Bytes;

use super::{Node, Store};
use crate::error::Error;
use crate::node::apply::{APPLY, ApplyNote};
use crate::node::disk::{DISK, DiskNote};
use crate::node::driver::{Done, Driver, Input};
use crate::node::mail::{Asker, Note};
use crate::node::observe;
use crate::node::readers::{Key, ReadNote};
use crate::node::scribble::SNAPSHOT;
use crate::node::store::StoreReader;
use crate::protocol::request::{ClientRole, Refused, Reply};
use crate::protocol::{Config, Start, State};
use crate::transport::Network;
use crate::types::ReplicaId;

impl Node {
    pub(super) fn read_note(&mut self, network: &mut dyn Network, note: Note) {
        match note {
            Note::Ask { request, payload, promise } => {
                self.ask(network, (Asker::Local(promise), ClientRole::Admin), request, payload);
            }
            Note::ShutDown { promise } => self.shut_down(network, promise),
            Note::AwaitApplied { through, promise } => self.tell_apply(ApplyNote::Await(through, promise)),
            Note::Done(done) => done.into_iter().for_each(|done| self.done(network, done)),
            Note::DiskFailed(error) => self.disk_failed(&error),
            Note::Opened(opened) => self.opened(network, opened),
            Note::Snapshot { base, outcome } => self.snapshot_written(network, *base, outcome),
            Note::Answer { asker, reply, pieces, is_large } => {
                self.read_once(network, asker, reply, (&pieces, is_large));
            }
            Note::Part { key, life, reply, pieces } => self.part_read(network, (key, life), reply, &pieces),
            Note::Died { thread } => self.died(network, thread),
            Note::Doubt(error) => self.doubt(&error),
        }
    }

    fn done(&mut self, network: &mut dyn Network, done: Done) {
        if self.store != Store::Open {
            return;
        }
        let (installed, trimmed) = match &done {
            Done::Installed { snapshot, .. } => (Some(snapshot.position.lsn), None),
            Done::Trimmed { asked, .. } => (None, Some(*asked)),
            _ => (None, None),
        };
        if let Done::Mended { range } = &done {
            observe::mended(self.me, *range);
        }
        self.driver.done(self.now(), done);
        if let Some(lsn) = installed {
            observe::installed(self.me, lsn);
            self.upkeep.newest = lsn;
            self.commit = self.commit.max(lsn);
            self.tell_apply(ApplyNote::Installed);
        }
        if let Some(asked) = trimmed {
            self.trimmed(network, asked);
        }
    }

    fn read_once(
        &mut self,
        network: &mut dyn Network,
        asker: Asker,
        reply: Reply,
        (pieces, is_large): (&[Bytes], bool),
    ) {
        let mut key = None;
        if let Asker::Client { session, number } = asker
            && let Some(known) = self.sessions.get_mut(&session)
        {
            known.has_read(number);
            key = Some((session, number)).filter(|_| is_large);
        }
        self.answer(network, asker, reply, pieces);
        if let Some(key) = key {
            self.delivered(network, key);
        }
    }

    /// A part of a subscription. What was read for one that has ended since is nobody's: another one may bear its number.
    fn part_read(
        &mut self,
        network: &mut dyn Network,
        (key, life): (Key, u64),
        reply: Reply,
        pieces: &[Bytes],
    ) {
        let (session, number) = key;
        let Some(known) = self.sessions.get_mut(&session).filter(|known| known.has(number, life)) else {
            return;
        };
        let is_end = matches!(reply, Reply::Refused(_));
        if is_end {
            known.end_subscription(number);
        }
        self.answer(network, Asker::Client { session, number }, reply, pieces);
        if !is_end {
            self.delivered(network, key);
        }
    }

    fn disk_failed(&mut self, error: &Error) {
        observe::disk_failed(self.me, error);
        if self.store == Store::Open {
            // The core halts by it, and answers whoever waits (S7, S12).
            self.driver.input(self.now(), Input::DiskFailed);
        }
    }

    /// A thread has panicked. Without the one of the disk this replica is as one that is down, and says so to whoever
    /// asks; without the others, what they serve stands still.
    fn died(&mut self, network: &mut dyn Network, thread: &'static str) {
        observe::died(self.me, thread);
        if thread == DISK {
            self.driver.input(self.now(), Input::DiskFailed);
            self.tasks.clear();
            self.ways.shown.close();
            self.store = Store::Gone;
            self.give_up_trims(network);
            self.no_snapshot(network, "the disk's thread is gone; start this replica again");
        } else if thread == APPLY || thread == SNAPSHOT {
            self.snapshot_died(network, thread == APPLY);
        }
    }

    /// A record could not be read: the store is opened again, and every byte looked at (S11). Not for what is known to be
    /// lost: whoever asks for it again and again would keep it from coming back.
    fn doubt(&mut self, error: &Error) {
        let is_damage = matches!(error, Error::Rot { .. } | Error::Hole { .. });
        if self.store != Store::Open || !is_damage {
            return;
        }
        observe::doubted(self.me, error);
        self.driver.input(self.now(), Input::DiskFailed);
        self.reopen(false, true);
    }

    fn opened(
        &mut self,
        network: &mut dyn Network,
        opened: Result<Option<Box<(State, StoreReader)>>, Error>,
    ) {
        let recovered = match opened {
            Ok(Some(opened)) => {
                let (state, reader) = *opened;
                let base = state.base.position.lsn;
                self.recover(state).map(|driver| (driver, reader, base))
            }
            Ok(None) => Err("the directory holds no replica any more".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match recovered {
            Ok((driver, reader, base)) => {
                observe::reopened(self.me, None);
                self.driver = driver;
                self.store = Store::Open;
                self.pauses.opened(Instant::now());
                self.halted = None;
                self.upkeep.pin(None);
                // A snapshot may have been installed, or taken, without a word of it: the disk failed right after. Or the
                // newest is lost.
                self.upkeep.newest = base;
                self.commit = self.commit.max(base);
                self.upkeep.shown = self.ways.shown.reopened(Some(reader));
                self.tell_apply(ApplyNote::Reopened);
                self.tell_readers(ReadNote::More);
                for pending in self.tokens.redeem_all() {
                    self.refuse(network, pending.asker, Refused::Unknown);
                }
                self.give_up_trims(network);
            }
            Err(error) => {
                observe::reopened(self.me, Some(&error));
                self.close_store();
            }
        }
    }

    fn recover(&self, state: State) -> Result<Driver, String> {
        // Elections are spread anew.
        let seed = self.config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.now().nanos());
        let start = if self.driver.replica().is_chosen() { Start::Chosen } else { self.config.start };
        let config = Config { seed, start, ..self.config.clone() };
        Driver::recover(config, self.options, state, self.now()).map_err(|error| error.to_string())
    }

    pub(super) fn peer_moved(&mut self, id: ReplicaId, address: String) {
        if id == self.me.id || self.peers.addresses.get(&id) == Some(&address) {
            return;
        }
        observe::moved(self.me, id, &address);
        self.peers.addresses.insert(id, address);
        self.peers_changed = true;
        self.tell_disk(DiskNote::KeepPeers(self.peers.clone()));
    }
}
