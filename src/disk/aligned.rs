//! Block-aligned memory whose sharing its owner proves.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::BLOCK_BYTES;

/// Memory that begins at a multiple of [`BLOCK_BYTES`]. It hands out references from `&self`, so each of
/// its users says why no two of them overlap.
pub(crate) struct AlignedMemory {
    block: UnsafeCell<Block>,
    #[cfg(loom)]
    track: Vec<loom::cell::UnsafeCell<()>>,
}

/// Owned bytes that begin at a multiple of [`BLOCK_BYTES`], as durable writes need them.
///
/// ```
/// let mut blocks = annals::disk::Blocks::zeroed(2);
/// blocks[..5].copy_from_slice(b"hello");
/// assert_eq!(blocks.len(), 2 * annals::disk::BLOCK_BYTES);
/// ```
pub struct Blocks(Block);

impl Blocks {
    /// This many blocks of zeros, at least one.
    #[must_use]
    pub fn zeroed(blocks: usize) -> Blocks {
        Blocks(Block::new(blocks.max(1) * BLOCK_BYTES))
    }
}

impl Deref for Blocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: one live, initialised allocation that `self` owns and borrows out.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.bytes) }
    }
}

impl DerefMut for Blocks {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the reference the only one.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.bytes) }
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocks({} bytes)", self.0.bytes)
    }
}

// SAFETY: an allocation of plain bytes with one owner, tied to no thread.
unsafe impl Send for Block {}
// SAFETY: shared references only ever read.
unsafe impl Sync for Block {}

/// One allocation; `bytes` 0 means none.
struct Block {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is plain bytes with no tie to a thread.
unsafe impl Send for AlignedMemory {}
// SAFETY: all access through `&self` is by the unsafe functions below, whose callers exclude conflicts.
unsafe impl Sync for AlignedMemory {}

impl AlignedMemory {
    /// No memory yet.
    pub(crate) fn empty() -> AlignedMemory {
        AlignedMemory {
            block: UnsafeCell::new(Block { start: NonNull::dangling(), bytes: 0 }),
            #[cfg(loom)]
            track: (0..64).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    /// Has at least `bytes` of memory from here on; what it held is lost if it has to grow.
    ///
    /// # Safety
    /// No reference into the memory exists, and no other thread uses it meanwhile.
    pub(crate) unsafe fn reserve(&self, bytes: usize) {
        // SAFETY: exclusive by the caller's contract.
        let block = unsafe { &mut *self.block.get() };
        if block.bytes < bytes {
            *block = Block::new(bytes);
        }
    }

    /// Gives the memory back to the system.
    ///
    /// # Safety
    /// As for [`reserve`](AlignedMemory::reserve).
    pub(crate) unsafe fn release(&self) {
        // SAFETY: exclusive by the caller's contract.
        let block = unsafe { &mut *self.block.get() };
        *block = Block { start: NonNull::dangling(), bytes: 0 };
    }

    /// The bytes from `offset`, `bytes` of them.
    ///
    /// # Safety
    /// No other reference to any of these bytes exists while this one lives, nor is the memory replaced.
    #[expect(clippy::mut_from_ref, reason = "the caller proves that the ranges do not overlap")]
    pub(crate) unsafe fn range_mut(&self, offset: usize, bytes: usize) -> &mut [u8] {
        // SAFETY: only `reserve` and `release` write the block, and they exclude this call.
        let block = unsafe { &*self.block.get() };
        assert!(offset <= block.bytes && bytes <= block.bytes - offset, "a range inside the memory");
        #[cfg(loom)]
        self.touch(offset, bytes);
        // SAFETY: inside one live, initialised allocation (asserted); unaliased by the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(block.start.as_ptr().add(offset), bytes) }
    }

    /// The bytes of `range`.
    ///
    /// # Safety
    /// Nobody changes any of these bytes while the reference lives, nor is the memory replaced.
    #[cfg(any(feature = "quic", feature = "sim"))]
    pub(crate) unsafe fn range(&self, range: std::ops::Range<usize>) -> &[u8] {
        // SAFETY: only `reserve` and `release` write the block, and they exclude this call.
        let block = unsafe { &*self.block.get() };
        assert!(range.start <= range.end && range.end <= block.bytes, "a range inside the memory");
        // SAFETY: inside one live, initialised allocation (asserted); unchanged by the caller's contract.
        unsafe { std::slice::from_raw_parts(block.start.as_ptr().add(range.start), range.len()) }
    }

    /// All bytes.
    ///
    /// # Safety
    /// As for [`range_mut`](AlignedMemory::range_mut), for all of them.
    #[expect(clippy::mut_from_ref, reason = "the caller proves that nobody else is there")]
    pub(crate) unsafe fn whole_mut(&self) -> &mut [u8] {
        // SAFETY: only `reserve` and `release` write the block, and they exclude this call.
        let bytes = unsafe { &*self.block.get() }.bytes;
        // SAFETY: by the caller's contract.
        unsafe { self.range_mut(0, bytes) }
    }

    /// Tells loom that these bytes are written now, in units of 8 from the first frame.
    #[cfg(loom)]
    fn touch(&self, offset: usize, bytes: usize) {
        let first = offset.saturating_sub(super::buffer::LEAD_BYTES) / 8;
        let end = (offset + bytes).saturating_sub(super::buffer::LEAD_BYTES) / 8;
        for unit in &self.track[first.min(self.track.len())..end.min(self.track.len())] {
            unit.with_mut(|_| ());
        }
    }
}

impl Block {
    fn new(bytes: usize) -> Block {
        let layout = Block::layout(bytes);
        // SAFETY: the layout is not of zero size: `reserve` calls this for more than 0 bytes.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Block { start, bytes }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, BLOCK_BYTES).expect("group sizes are bounded by the options")
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: allocated in `new` with this layout, and freed only here.
            unsafe { dealloc(self.start.as_ptr(), Block::layout(self.bytes)) };
        }
    }
}
