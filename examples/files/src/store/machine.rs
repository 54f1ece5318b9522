//! The store as a replica's state machine: what happens when the disk does not do what it should.

use std::fmt;
use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use annals::node::{Frozen, StateMachine};
use annals::{Epoch, Lsn};

use super::Store;
use super::checkpoint::{NoRoom, is_full};

/// From one look whether there is room to the next.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A [`Store`] that a replica applies its records to.
///
/// A record that finds the disk full, or after which there is no room for the state, is refused, and comes again until
/// there is room: the node says what it waits for, and what was applied is read meanwhile.
///
/// Where it is a sync of contents that has found the disk full, nobody knows which of them are on it, and a failed sync is
/// never tried again. Once there is room the store has to be opened anew, so that it goes on from its checkpoint and is given
/// all later records once more: whoever runs the replica [is told](Machine::told_to_reopen). So it is where a snapshot has
/// not found room enough.
///
/// After any other error nothing more is applied, no snapshot is taken, and what is read is refused with the reason: the
/// log has all records, and the store goes on from its checkpoint when the node is started again.
pub struct Machine {
    store: Store,
    health: Health,
    reopen: Option<Box<dyn FnOnce() + Send>>,
}

/// What can still be done with a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Health {
    /// Everything.
    Well,
    /// What was written since the checkpoint may not be on the disk: it is read until the store is opened anew.
    Stale,
    /// Nothing.
    Failed,
}

impl Machine {
    /// The machine over this store.
    #[must_use]
    pub const fn new(store: Store) -> Machine {
        Machine { store, health: Health::Well, reopen: None }
    }

    /// The same, with what is to be called once when there is room again and the store has to be opened anew: this machine
    /// is to be dropped then, with its replica.
    #[must_use]
    pub fn told_to_reopen(mut self, reopen: impl FnOnce() + Send + 'static) -> Machine {
        self.reopen = Some(Box::new(reopen));
        self
    }

    fn take(&mut self, lsn: Lsn, record: &[u8]) -> io::Result<()> {
        if let Err(error) = self.store.apply(lsn, record) {
            if is_full(&error) {
                self.wait_for_room(&error);
            } else {
                self.fail("write", &error);
            }
            return Err(error);
        }
        // A record that comes again is in the state already: only the checkpoint is left to be done.
        if self.store.is_due() {
            self.checkpoint()?;
        }
        if self.store.shared.look(|view| view.trouble.is_some()) {
            self.store.shared.tell(None, false);
        }
        Ok(())
    }

    /// A failed sync is never tried again: nobody knows what the disk holds then.
    fn checkpoint(&mut self) -> io::Result<()> {
        let done = self.store.checkpoint();
        match &done {
            Err(error) if NoRoom::is(error) => self.wait_for_room(error),
            Err(error) if is_full(error) => self.wait_to_reopen(error),
            Err(error) => self.fail("sync", error),
            Ok(()) => {}
        }
        done
    }

    fn wait_for_room(&self, error: &io::Error) {
        self.store.shared.tell(Some(format!("waits for room on its disk: {error}")), true);
    }

    /// Has the store opened anew as soon as there is room for it.
    fn wait_to_reopen(&mut self, error: &io::Error) {
        self.health = Health::Stale;
        self.wait_for_room(error);
        let Some(reopen) = self.reopen.take() else { return };
        let room = self.store.room();
        let wait = move || {
            while !room.is_there() {
                thread::sleep(LOOK_EVERY);
            }
            reopen();
        };
        if let Err(error) = thread::Builder::new().name("room".to_owned()).spawn(wait) {
            self.fail("start a thread", &error);
        }
    }

    fn fail(&mut self, doing: &str, error: &io::Error) {
        self.health = Health::Failed;
        let told = format!("could not {doing}: {error}; mend the disk, and start the node again");
        eprintln!("the store {told}");
        self.store.shared.tell(Some(told), false);
    }

    fn refused(&self) -> io::Error {
        io::Error::other(match self.health {
            Health::Stale => "the store waits for room, to be opened anew",
            Health::Well | Health::Failed => "the store has failed",
        })
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("store", &self.store)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, lsn: Lsn, _: Epoch, record: &[u8]) -> io::Result<()> {
        if self.health == Health::Well { self.take(lsn, record) } else { Err(self.refused()) }
    }

    fn applied(&self) -> Lsn {
        self.store.applied()
    }

    fn snapshot(&mut self) -> Frozen {
        // The log may be trimmed up to here, so the store has to be this far after a crash, or it would be unpacked anew.
        if self.health != Health::Well {
            let refused = self.refused();
            return Box::new(|_| Err(refused));
        }
        if let Err(error) = self.checkpoint() {
            return Box::new(move |_| Err(error));
        }
        self.store.freeze()
    }

    fn restore(&mut self, from: &mut dyn Read, lsn: Lsn) -> io::Result<()> {
        match self.store.restore(from, lsn) {
            Ok(is_new) => {
                if is_new {
                    // Another directory, of which all is synced.
                    self.health = Health::Well;
                }
                Ok(())
            }
            Err(error) => {
                if is_full(&error) {
                    self.wait_to_reopen(&error);
                } else {
                    self.fail("unpack a snapshot", &error);
                }
                Err(error)
            }
        }
    }
}

impl Drop for Machine {
    /// So that the next start has nothing to apply again. Without it it has a little.
    fn drop(&mut self) {
        if self.health == Health::Well && !thread::panicking() {
            let _ = self.store.checkpoint();
        }
    }
}
