//! What others than the applying thread see of a store.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::state::{Effects, State};

/// A store, for those who read.
#[derive(Debug)]
pub struct Shared {
    view: Mutex<View>,
}

/// What there is at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The state.
    pub state: Arc<State>,
    /// Where the blobs are.
    pub blobs: PathBuf,
    /// Why nothing more is applied, if so.
    pub trouble: Option<String>,
    /// Whether it is only room on the disk that is waited for: what was applied is whole, and can be read.
    pub is_waiting: bool,
}

impl View {
    fn new(state: State, blobs: PathBuf) -> View {
        View { state: Arc::new(state), blobs, trouble: None, is_waiting: false }
    }
}

impl Shared {
    pub(super) fn new(state: State, blobs: PathBuf) -> Shared {
        Shared { view: Mutex::new(View::new(state, blobs)) }
    }

    /// Looks, for a moment: applying waits meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.lock())
    }

    /// A view that stays as it is. The state is shared, and copied only if it changes before this is dropped.
    #[must_use]
    pub fn frozen(&self) -> View {
        self.lock().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State) -> Effects) -> Effects {
        change(Arc::make_mut(&mut self.lock().state))
    }

    pub(super) fn replace(&self, state: State, blobs: PathBuf) {
        *self.lock() = View::new(state, blobs);
    }

    /// Why nothing more is applied now; for good, or until there is room.
    pub(super) fn tell(&self, trouble: Option<String>, is_waiting: bool) {
        let mut view = self.lock();
        view.trouble = trouble;
        view.is_waiting = is_waiting;
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        // What is changed is whole after each step, so a panic elsewhere has left nothing half-done.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
