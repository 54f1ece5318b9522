//! The bell with which other threads ask for a turn of the actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Asks for a turn of the actor, from any thread. Cheap to clone, and to ring again before the turn has come.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_rung: AtomicBool,
    notify: Notify,
}

impl Bell {
    /// The actor takes a turn after this, and sees in it what was left for it before this.
    pub fn ring(&self) {
        // SeqCst: pairs with the one in `answer`. Whoever finds the bell rung already has left its things before the turn
        // that answers, because that turn lowers the flag before it looks.
        if !self.shared.is_rung.swap(true, Ordering::SeqCst) {
            self.shared.notify.notify_one();
        }
    }

    /// Before a turn: what is rung from now on asks for another one. Says whether it was rung.
    pub(super) fn answer(&self) -> bool {
        self.shared.is_rung.swap(false, Ordering::SeqCst)
    }

    /// Until somebody rings, or has rung.
    pub(super) async fn wait(&self) {
        self.shared.notify.notified().await;
    }
}
