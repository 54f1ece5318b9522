//! What may be shown to readers, and who waits for more of it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::node::store::StoreReader;
use crate::types::Lsn;

/// Where committed records are read: the newest of them, and the store as it is open now.
///
/// Written by the node's own turns, read by every reader's thread. Nothing is done under its lock but to look.
#[derive(Default)]
pub(crate) struct Shown {
    view: Mutex<View>,
    changed: Condvar,
}

/// What a reader sees.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// Everything up to here is committed, and synced here.
    pub(crate) through: Lsn,
    /// `None` while the store is opened again.
    pub(crate) reader: Option<StoreReader>,
    /// How often there was another reader, or none.
    pub(crate) openings: u64,
    /// Nothing more will come.
    pub(crate) is_closed: bool,
    /// Whether somebody waits: else nobody has to be woken.
    is_awaited: bool,
}

impl Shown {
    pub(crate) fn new() -> Arc<Shown> {
        Arc::new(Shown::default())
    }

    /// What is to be seen now.
    pub(crate) fn view(&self) -> View {
        self.view.lock().clone()
    }

    /// Waits until something after `seen` can be read, and not by the reader of the opening that has `failed`; or all is
    /// over, or the time; whether it is not the time.
    pub(crate) fn wait_past(
        &self,
        seen: Lsn,
        failed: Option<u64>,
        deadline: Option<Instant>,
    ) -> Option<View> {
        let mut view = self.view.lock();
        let is_ready =
            |view: &View| view.through > seen && view.reader.is_some() && failed != Some(view.openings);
        while !view.is_closed && !is_ready(&view) {
            view.is_awaited = true;
            match deadline {
                None => self.changed.wait(&mut view),
                Some(deadline) if self.changed.wait_until(&mut view, deadline).timed_out() => return None,
                Some(_) => {}
            }
        }
        Some(view.clone())
    }

    /// Everything up to `through` may be shown. Only another store takes that back.
    pub(crate) fn advance(&self, through: Lsn) {
        self.change(|view| view.through = view.through.max(through));
    }

    /// The store was opened again, or is closed for that. Tells what is shown from now on: no more than it holds, for it may
    /// have lost the newest records, and readers would look for them in vain until they have come back.
    pub(crate) fn reopened(&self, reader: Option<StoreReader>) -> Lsn {
        let last = reader.as_ref().map(StoreReader::last);
        let mut shown = Lsn::ZERO;
        self.change(|view| {
            view.reader = reader;
            view.openings += 1;
            view.through = view.through.min(last.unwrap_or(Lsn::LAST));
            shown = view.through;
        });
        shown
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.change(|view| {
            view.is_closed = true;
            view.reader = None;
        });
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.lock();
        change(&mut view);
        let is_awaited = std::mem::take(&mut view.is_awaited);
        drop(view);
        if is_awaited {
            self.changed.notify_all();
        }
    }
}
