//! Waking the program's own tasks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakes a task. If the program's own code panics then, it has been told so by its panic hook, and nobody else is in the way:
/// others wait to be woken by the same thread, and that one serves whoever comes after them.
pub(crate) fn wake(task: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| task.wake()));
}
