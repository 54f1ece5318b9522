//! Memory that is filled once, from front to back, while others already read what is there.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::BLOCK_BYTES;
use super::aligned::AlignedMemory;

/// Block-aligned memory of which the published prefix can be read by anybody.
///
/// **Why it is safe to share.** There is one [`SlabWriter`], which changes bytes behind the bound only, and moves the
/// bound over what it has finished. Whoever reads stays before the bound. A slab is filled anew only by whoever can
/// show that nobody else has it.
pub(crate) struct Slab {
    memory: AlignedMemory,
    bytes: usize,
    /// Moved by the writer only, and only upwards while others have the slab.
    published: AtomicUsize,
}

/// The right to fill a slab.
#[derive(Debug)]
pub(crate) struct SlabWriter(Arc<Slab>);

/// A part of a slab that was published.
struct Part {
    slab: Arc<Slab>,
    range: Range<usize>,
}

impl SlabWriter {
    /// A slab with room for this many bytes, rounded up to whole blocks.
    pub(crate) fn new(bytes: usize) -> SlabWriter {
        let bytes = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let memory = AlignedMemory::empty();
        // SAFETY: nobody else knows of the memory yet.
        unsafe { memory.reserve(bytes) };
        SlabWriter(Arc::new(Slab { memory, bytes, published: AtomicUsize::new(0) }))
    }

    /// Begins to fill a slab anew; `None` if somebody else still has it.
    pub(crate) fn renewed(mut slab: Arc<Slab>) -> Option<SlabWriter> {
        // Alone with it: no writer, no reader, and no part of it.
        *Arc::get_mut(&mut slab)?.published.get_mut() = 0;
        Some(SlabWriter(slab))
    }

    pub(crate) fn slab(&self) -> &Arc<Slab> {
        &self.0
    }

    /// How many bytes are finished.
    pub(crate) fn published(&self) -> usize {
        // Relaxed: this is the only one that moves it.
        self.0.published.load(Ordering::Relaxed)
    }

    /// What is not finished yet.
    pub(crate) fn open(&mut self) -> &mut [u8] {
        let published = self.published();
        // SAFETY: behind the bound nobody reads but the writer, whom `&mut self` keeps from doing so meanwhile.
        unsafe { self.0.memory.range_mut(published, self.0.bytes - published) }
    }

    /// Lets everybody read `bytes` more, which never change again.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn publish(&mut self, bytes: usize) {
        let end = self.published() + bytes;
        assert!(end <= self.0.bytes, "published past the end of the slab");
        // Release: pairs with the Acquire in `Slab::bytes`, so the bytes are seen with the bound.
        self.0.published.store(end, Ordering::Release);
    }

    /// Finished bytes, and others.
    pub(crate) fn look(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: the bytes are initialised, and only this writer changes any of them: not while `self` is borrowed.
        unsafe { self.0.memory.range(range) }
    }
}

impl Slab {
    /// How many bytes it has.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes
    }

    /// Finished bytes.
    ///
    /// # Panics
    /// If not all of them were published.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        // Acquire: pairs with the Release in `publish`.
        assert!(range.end <= self.published.load(Ordering::Acquire), "only published bytes can be read");
        // SAFETY: before the bound nobody writes as long as anybody but a single owner has the slab.
        unsafe { self.memory.range(range) }
    }

    /// The same, to be kept: the slab is not filled anew meanwhile.
    pub(crate) fn part(self: &Arc<Slab>, range: Range<usize>) -> Bytes {
        Bytes::from_owner(Part { slab: Arc::clone(self), range })
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        self.slab.bytes(self.range.clone())
    }
}

impl fmt::Debug for Slab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").field("bytes", &self.bytes).field("published", &self.published).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_can_be_read_while_more_is_written() {
        let mut writer = SlabWriter::new(5000);
        assert_eq!(writer.open().len(), 8192);
        writer.open()[..5].copy_from_slice(b"hello");
        writer.publish(5);
        let part = writer.slab().part(1..5);
        writer.open()[..3].copy_from_slice(b"!!!");
        assert_eq!((&part[..], writer.look(0..8)), (&b"ello"[..], &b"hello!!!"[..]));
        assert_eq!(writer.look(0..1).as_ptr().addr() % BLOCK_BYTES, 0);
    }

    #[test]
    #[should_panic(expected = "only published bytes can be read")]
    fn what_is_not_published_cannot_be_read() {
        let writer = SlabWriter::new(10);
        let _ = writer.slab().bytes(0..1);
    }

    #[test]
    fn a_slab_is_filled_anew_only_when_nobody_has_a_part_of_it() {
        let mut writer = SlabWriter::new(10);
        writer.publish(10);
        let (slab, part) = (Arc::clone(writer.slab()), writer.slab().part(0..3));
        drop(writer);
        assert!(SlabWriter::renewed(Arc::clone(&slab)).is_none());
        assert_eq!(&part[..], [0; 3]);
        drop(part);
        let mut again = SlabWriter::renewed(slab).unwrap();
        assert_eq!(again.open().len(), 4096);
    }
}
