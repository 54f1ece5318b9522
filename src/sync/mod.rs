//! Wait words, the table of groups that callers wait for, and the shim that lets loom stand in for the
//! standard library.
//!
//! Imports `types` and `error`. Never touches a disk. Whatever loom checks takes its atomics from
//! [`atomic`], so that one source is both what runs and what is checked.

#[cfg(feature = "quic")]
pub(crate) mod outcome;
pub(crate) mod wait_table;
#[cfg(test)]
#[cfg_attr(loom, allow(dead_code, reason = "its models have wakers of their own"))]
pub(crate) mod wakes;
#[cfg(any(feature = "quic", feature = "sim"))]
pub(crate) mod waking;
pub(crate) mod word;

/// The atomics of the standard library, or loom's while it checks a model.
pub(crate) mod atomic {
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    #[cfg(not(loom))]
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

/// A mutex that never poisons, or loom's while it checks a model.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T> {
    #[cfg(not(loom))]
    inner: parking_lot::Mutex<T>,
    #[cfg(loom)]
    inner: loom::sync::Mutex<T>,
}

#[cfg(not(loom))]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex { inner: parking_lot::Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> impl std::ops::DerefMut<Target = T> {
        self.inner.lock()
    }
}

#[cfg(loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex { inner: loom::sync::Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> impl std::ops::DerefMut<Target = T> {
        self.inner.lock().expect("no thread panics in a model")
    }
}

/// Gives the processor to another thread that can run.
pub(crate) fn yield_now() {
    #[cfg(not(loom))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
}
