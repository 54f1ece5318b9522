//! The store as a replica's state machine: what happens when the disk does not do what it should.

use std::io::{self, Read};
use std::thread;

use annals::node::{Frozen, StateMachine};
use annals::{Epoch, Lsn};

use super::Store;
use super::checkpoint::{NoRoom, is_full};

/// A [`Store`] that a replica applies its records to.
///
/// A record that finds the disk full, or after which there is no room for the state, is refused, and comes again until
/// there is room: the node says what it waits for, and what was applied is read meanwhile.
/// After any other error nothing more is applied, no snapshot is taken, and what is read is refused with the reason: the
/// log has all records, and the store goes on from its checkpoint when the node is started again.
#[derive(Debug)]
pub struct Machine {
    store: Store,
    has_failed: bool,
}

impl Machine {
    /// The machine over this store.
    #[must_use]
    pub const fn new(store: Store) -> Machine {
        Machine { store, has_failed: false }
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
            Err(error) => self.fail("sync", error),
            Ok(()) => {}
        }
        done
    }

    fn wait_for_room(&self, error: &io::Error) {
        self.store.shared.tell(Some(format!("waits for room on its disk: {error}")), true);
    }

    fn fail(&mut self, doing: &str, error: &io::Error) {
        self.has_failed = true;
        let told = format!("could not {doing}: {error}; mend the disk, and start the node again");
        eprintln!("the store {told}");
        self.store.shared.tell(Some(told), false);
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, lsn: Lsn, epoch: Epoch, record: &[u8]) {
        // Whoever cannot be told that it has failed finds it in the view.
        let _ = self.try_apply(lsn, epoch, record);
    }

    fn try_apply(&mut self, lsn: Lsn, _: Epoch, record: &[u8]) -> io::Result<()> {
        if self.has_failed { Err(io::Error::other("the store has failed")) } else { self.take(lsn, record) }
    }

    fn applied(&self) -> Lsn {
        self.store.applied()
    }

    fn snapshot(&mut self) -> Frozen {
        // The log may be trimmed up to here, so the store has to be this far after a crash, or it would be unpacked anew.
        if self.has_failed {
            return Box::new(|_| Err(io::Error::other("the store has failed")));
        }
        if let Err(error) = self.checkpoint() {
            return Box::new(move |_| Err(error));
        }
        self.store.freeze()
    }

    fn restore(&mut self, from: &mut dyn Read, lsn: Lsn) -> io::Result<()> {
        match self.store.restore(from, lsn) {
            Ok(is_new) => {
                self.has_failed &= !is_new;
                Ok(())
            }
            Err(error) => {
                self.fail("unpack a snapshot", &error);
                Err(error)
            }
        }
    }
}

impl Drop for Machine {
    /// So that the next start has nothing to apply again. Without it it has a little.
    fn drop(&mut self) {
        if !self.has_failed && !thread::panicking() {
            let _ = self.store.checkpoint();
        }
    }
}
