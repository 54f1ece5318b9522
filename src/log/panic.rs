//! What becomes of a log when one of its threads panics.

use super::engine::Engine;
use crate::error::Error;

/// Poisons the log if a thread panics in the middle of its work: nobody else would finish that, and all who
/// wait for it would wait for ever.
pub(crate) struct PoisonOnPanic<'a> {
    engine: &'a Engine,
    /// A log may also be dropped, and so flushed, by a thread that panicked elsewhere.
    was_panicking: bool,
}

impl<'a> PoisonOnPanic<'a> {
    pub(crate) fn new(engine: &'a Engine) -> PoisonOnPanic<'a> {
        PoisonOnPanic { engine, was_panicking: std::thread::panicking() }
    }
}

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            self.engine.poison(Error::Poisoned);
        }
    }
}
