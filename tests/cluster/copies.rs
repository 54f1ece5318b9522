//! An old copy: a directory that is put back as it was some time ago. What a disk leaves that said it had synced, and had
//! not, is the same when the power fails.

use annals::Epoch;

use crate::ledger::Ledger;
use crate::storage::Storage;
use crate::world::{Event, MS, World};

/// Whose directory is copied: always the same one, because one is what the quorums have to spare.
const FORGETFUL: usize = 0;

/// A replica's disk as it was.
pub(crate) struct OldCopy {
    ledger: Ledger,
    storage: Option<Storage>,
}

impl World {
    /// Copies the directory, or puts the copy back.
    pub(crate) fn copy_or_put_back(&mut self) {
        let Some(old) = self.old.take().filter(|old| !self.has_led_since(old)) else {
            let node = &self.nodes[FORGETFUL];
            if node.is_up() && node.ledger.other.is_none() {
                self.old = Some(OldCopy::of(&node.ledger, node.storage.as_ref()));
            }
            return;
        };
        self.kill(FORGETFUL);
        let node = &mut self.nodes[FORGETFUL];
        self.oracle.forgetful = Some(node.ledger.member);
        (node.ledger, node.storage) = (old.ledger, old.storage);
        self.trace.note(self.now, || format!("{} is as it was", FORGETFUL + 1));
        let down = self.draw.between(MS, 300 * MS);
        self.after(down, Event::Start { node: FORGETFUL });
    }

    /// Whether it has led in an epoch of which the copy does not know: it could be elected once more in the same one,
    /// and put other records into it. That is what no quorum helps against.
    fn has_led_since(&self, old: &OldCopy) -> bool {
        let mut newer = self.oracle.primaries.range(Epoch::new(old.ledger.meta.epoch.get() + 1)..);
        newer.any(|(_, primary)| *primary == old.ledger.member)
    }
}

impl OldCopy {
    fn of(ledger: &Ledger, storage: Option<&Storage>) -> OldCopy {
        let mut ledger = ledger.clone();
        // What waits for its sync is in memory, and not in the directory.
        ledger.truncate(ledger.synced);
        ledger.unsynced_metas.clear();
        ledger.is_forgetful = true;
        OldCopy { ledger, storage: storage.map(Storage::copy) }
    }
}
