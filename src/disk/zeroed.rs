//! Many atomics that begin with 0, in memory that the kernel clears when it is first touched.

#![allow(unsafe_code)]

use crate::sync::atomic::AtomicU64;

#[cfg(not(loom))]
pub(super) fn zeroed_atomics(count: usize) -> Box<[AtomicU64]> {
    let atomics = Box::new_zeroed_slice(count);
    // SAFETY: an `AtomicU64` has the bits of a `u64`, as its documentation promises, and zeros are the `u64` 0.
    unsafe { atomics.assume_init() }
}

/// Loom's atomics are more than their bits.
#[cfg(loom)]
pub(super) fn zeroed_atomics(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}
