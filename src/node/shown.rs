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

    /// Waits until something after `seen` can be read, or all is over, or the time; whether it is not the time.
    pub(crate) fn wait_past(&self, seen: Lsn, deadline: Option<Instant>) -> Option<View> {
        let mut view = self.view.lock();
        while !view.is_closed && (view.through <= seen || view.reader.is_none()) {
            view.is_awaited = true;
            match deadline {
                None => self.changed.wait(&mut view),
                Some(deadline) if self.changed.wait_until(&mut view, deadline).timed_out() => return None,
                Some(_) => {}
            }
        }
        Some(view.clone())
    }

    /// Everything up to `through` may be shown. Never goes back.
    pub(crate) fn advance(&self, through: Lsn) {
        self.change(|view| view.through = view.through.max(through));
    }

    /// The store was opened again, or is closed for that.
    pub(crate) fn reopened(&self, reader: Option<StoreReader>) {
        self.change(|view| view.reader = reader);
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
