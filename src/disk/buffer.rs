//! A group in memory: claimed by many threads at once, filled outside any lock, flushed by one.
//!
//! A buffer goes round: [`Vacant`] -> open -> [`Closed`] -> [`Filled`] -> [`Vacant`]. The three names in
//! brackets are tokens: whoever holds one is the only one who may take the next step. While a buffer is
//! open there is no token, and any thread may [`claim`](GroupBuffer::claim) a place in it.
//!
//! **Why the memory is safe to share.** A successful claim moves the state word forward by the claimed
//! bytes, so no two claims of one opening overlap. A claim exists until it has published its slot. Closing
//! ends claiming; `Closed` becomes `Filled` only when each claimed slot is published, so `Filled` is alone
//! with the memory, and so is `Vacant` after it. A thread that has looked at the state word before the
//! buffer went round, and claims after it, has simply claimed in the new opening: the capacity is the same
//! in all of them. A frame larger than that gets a buffer of its own, which is never open to others.

#![allow(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aligned::AlignedMemory;
use super::zeroed::zeroed_atomics;
use crate::format::{BLOCK_BYTES, GROUP_HEADER_BYTES};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::yield_now;
use crate::types::{Epoch, Lsn};

/// Bytes before the first frame: a block, so that the group can be moved up to share its first block with the
/// group before it, then the group header.
pub(crate) const LEAD_BYTES: usize = BLOCK_BYTES + GROUP_HEADER_BYTES;

/// The unit of claims.
const UNIT_BYTES: usize = 8;
/// Claims that one opening takes at most.
pub(crate) const FRAMES_MAX: usize = if cfg!(loom) { 4 } else { 8192 };

// The state word: bit 63 closed, then 14 bits of frames, 22 bits of records, 27 bits of units (1 GiB).
const CLOSED: u64 = 1 << 63;
const UNIT_BITS: u32 = 27;
const RECORD_BITS: u32 = 22;
const UNITS_MAX: u64 = (1 << UNIT_BITS) - 1;
const RECORDS_MAX: u64 = (1 << RECORD_BITS) - 1;
const _: () = assert!(FRAMES_MAX < 1 << 14);

// A slot: bit 63 published, bit 62 abandoned, then 27 bits of units, then the frame's checksum.
const PUBLISHED: u64 = 1 << 63;
const ABANDONED: u64 = 1 << 62;

/// What the bits of the state word say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claimed {
    /// Frames claimed.
    pub(crate) frames: u32,
    /// Records in them.
    pub(crate) records: u32,
    /// Bytes claimed, all frames together.
    pub(crate) bytes: usize,
}

impl Claimed {
    fn of(state: u64) -> Claimed {
        Claimed {
            frames: ((state & !CLOSED) >> (UNIT_BITS + RECORD_BITS)) as u32,
            records: (state >> UNIT_BITS & RECORDS_MAX) as u32,
            bytes: (state & UNITS_MAX) as usize * UNIT_BYTES,
        }
    }

    fn state(self) -> u64 {
        u64::from(self.frames) << (UNIT_BITS + RECORD_BITS)
            | u64::from(self.records) << UNIT_BITS
            | (self.bytes / UNIT_BYTES) as u64
    }
}

/// Why a claim was refused. Either way another buffer has to be opened, or is open already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The buffer is not open.
    Closed,
    /// It is open and has no room for this many bytes, records or frames.
    Full,
}

/// What is fixed for all frames of one opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opening {
    /// The group's sequence number, under which it is waited for.
    pub(crate) seq: u64,
    /// The LSN of the first record claimed.
    pub(crate) first_lsn: Lsn,
    /// The epoch of all records.
    pub(crate) epoch: Epoch,
}

/// The shared side of a buffer.
pub(crate) struct GroupBuffer {
    /// Which buffer of the log this is.
    index: usize,
    /// Bytes of frames that may be claimed in an opening.
    capacity: usize,
    state: AtomicU64,
    seq: AtomicU64,
    first_lsn: AtomicU64,
    epoch: AtomicU64,
    /// When the first frame was claimed, in nanoseconds since the buffer was made.
    claimed_ns: AtomicU64,
    made: Instant,
    slots: Box<[AtomicU64]>,
    memory: AlignedMemory,
}

/// The right to open a buffer. Nobody else can reach its memory.
#[derive(Debug)]
pub(crate) struct Vacant(Arc<GroupBuffer>);

/// The right to wait until a closed buffer is filled.
#[derive(Debug)]
pub(crate) struct Closed {
    buffer: Arc<GroupBuffer>,
    claimed: Claimed,
}

/// The right to read and change the memory of a closed buffer that is filled.
#[derive(Debug)]
pub(crate) struct Filled {
    buffer: Arc<GroupBuffer>,
    claimed: Claimed,
    opening: Opening,
}

/// A place in an open buffer, to be filled by the thread that claimed it and then published.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    buffer: &'a GroupBuffer,
    offset: usize,
    bytes: usize,
    slot: usize,
    first_lsn: Lsn,
}

impl GroupBuffer {
    /// A new buffer and the right to open it. Its memory is reserved when it is opened.
    pub(crate) fn new(index: usize, capacity: usize) -> (Arc<GroupBuffer>, Vacant) {
        assert!(capacity / UNIT_BYTES <= UNITS_MAX as usize, "checked in the options");
        let buffer = Arc::new(GroupBuffer {
            index,
            capacity,
            state: AtomicU64::new(CLOSED),
            seq: AtomicU64::new(0),
            first_lsn: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            claimed_ns: AtomicU64::new(0),
            made: Instant::now(),
            slots: zeroed_atomics(FRAMES_MAX),
            memory: AlignedMemory::empty(),
        });
        (Arc::clone(&buffer), Vacant(buffer))
    }

    /// Claims `bytes` (a multiple of 8) for one frame of `records` records.
    ///
    /// One compare-exchange when nobody interferes; never waits.
    pub(crate) fn claim(&self, bytes: usize, records: u32) -> Result<Claim<'_>, Refused> {
        debug_assert!(bytes.is_multiple_of(UNIT_BYTES) && bytes > 0 && records > 0);
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if state & CLOSED != 0 {
                return Err(Refused::Closed);
            }
            let claimed = Claimed::of(state);
            if !self.fits(claimed, bytes, records) {
                return Err(Refused::Full);
            }
            let after = Claimed {
                frames: claimed.frames + 1,
                records: claimed.records + records,
                bytes: claimed.bytes + bytes,
            };
            // AcqRel: Acquire so that what `open` wrote is seen, its fields and the empty slots; Release keeps
            // the sequence headed by `open` for the claims after this one.
            match self.state.compare_exchange_weak(state, after.state(), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(self.claimed(claimed, bytes)),
                Err(now) => state = now,
            }
        }
    }

    fn claimed(&self, before: Claimed, bytes: usize) -> Claim<'_> {
        if before.frames == 0 {
            // Once for each group. Relaxed: published with the claim.
            self.claimed_ns.store(self.made.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        let first_lsn = Lsn::new(self.first_lsn.load(Ordering::Relaxed)).plus(u64::from(before.records));
        Claim {
            buffer: self,
            offset: LEAD_BYTES + before.bytes,
            bytes,
            slot: before.frames as usize,
            first_lsn,
        }
    }

    /// What has been claimed so far in an open buffer; `None` when it is closed.
    pub(crate) fn gathered(&self) -> Option<Claimed> {
        // Acquire: as in `claim`. Which claims are counted is up to whoever synchronises with their makers.
        let state = self.state.load(Ordering::Acquire);
        (state & CLOSED == 0).then(|| Claimed::of(state))
    }

    /// Whether a frame could be claimed now.
    pub(crate) fn has_room(&self, bytes: usize, records: u32) -> bool {
        self.gathered().is_some_and(|claimed| self.fits(claimed, bytes, records))
    }

    fn fits(&self, claimed: Claimed, bytes: usize, records: u32) -> bool {
        bytes <= self.capacity - claimed.bytes
            && u64::from(records) <= RECORDS_MAX - u64::from(claimed.records)
            && (claimed.frames as usize) < FRAMES_MAX
    }

    /// Which buffer of the log this is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// What the buffer was opened with. Meaningful to whoever keeps it from going round.
    fn opening(&self) -> Opening {
        Opening {
            seq: self.seq.load(Ordering::Relaxed),
            first_lsn: Lsn::new(self.first_lsn.load(Ordering::Relaxed)),
            epoch: Epoch::new(self.epoch.load(Ordering::Relaxed)),
        }
    }

    /// Ends claiming; `None` if it had ended already.
    pub(crate) fn close(self: &Arc<GroupBuffer>) -> Option<Closed> {
        // AcqRel: Acquire so that the claims counted here are seen; Release has no partner, it keeps the
        // order with the `open` before.
        let state = self.state.fetch_or(CLOSED, Ordering::AcqRel);
        (state & CLOSED == 0).then(|| Closed { buffer: Arc::clone(self), claimed: Claimed::of(state) })
    }
}

impl Vacant {
    /// Opens the buffer for claims.
    pub(crate) fn open(self, opening: Opening) -> Arc<GroupBuffer> {
        let buffer = self.prepared(opening, self.0.capacity);
        // Release: pairs with the Acquire in `claim`, so the opening, the memory and the empty slots are
        // seen with the open state.
        buffer.state.store(0, Ordering::Release);
        self.0
    }

    /// Makes a group of one frame of `bytes` without opening the buffer to anybody else: for a frame of any
    /// size. `buffers` are the buffers of the log, in the order of their indexes.
    pub(crate) fn claim_whole(
        self,
        buffers: &[Arc<GroupBuffer>],
        opening: Opening,
        (bytes, records): (usize, u32),
    ) -> (Claim<'_>, Closed) {
        assert!(bytes / UNIT_BYTES <= UNITS_MAX as usize && u64::from(records) <= RECORDS_MAX);
        let prepared = self.prepared(opening, bytes);
        let buffer = &buffers[self.0.index];
        assert!(Arc::ptr_eq(buffer, prepared), "the token is of one of these buffers");
        let nothing = Claimed { frames: 0, records: 0, bytes: 0 };
        let claimed = Claimed { frames: 1, records, bytes };
        (buffer.claimed(nothing, bytes), Closed { buffer: Arc::clone(buffer), claimed })
    }

    fn prepared(&self, opening: Opening, capacity: usize) -> &Arc<GroupBuffer> {
        let buffer = &self.0;
        // SAFETY: `self` is the only token of this buffer, and it is not open: nobody else reads or writes
        // the memory or replaces it.
        unsafe { buffer.memory.reserve(LEAD_BYTES + capacity + BLOCK_BYTES) };
        buffer.seq.store(opening.seq, Ordering::Relaxed);
        buffer.first_lsn.store(opening.first_lsn.get(), Ordering::Relaxed);
        buffer.epoch.store(opening.epoch.get(), Ordering::Relaxed);
        buffer
    }
}

impl Closed {
    /// What was claimed.
    pub(crate) fn claimed(&self) -> Claimed {
        self.claimed
    }

    /// What the buffer was opened with.
    pub(crate) fn opening(&self) -> Opening {
        self.buffer.opening()
    }

    /// When the first frame was claimed; `None` if that is not known yet.
    pub(crate) fn claimed_at(&self) -> Option<Instant> {
        let first = self.buffer.slots[0].load(Ordering::Acquire);
        let at = || self.buffer.made + Duration::from_nanos(self.buffer.claimed_ns.load(Ordering::Relaxed));
        (first & PUBLISHED != 0).then(at)
    }

    /// The right to open the buffer again, if nothing was claimed.
    pub(crate) fn vacate_if_empty(self) -> Result<Vacant, Closed> {
        if self.claimed.frames == 0 { Ok(Vacant(self.buffer)) } else { Err(self) }
    }

    /// Waits until every claimed place is published: copies that other threads have begun, never the disk.
    ///
    /// Calls `frame` with each frame's offset from the first and its checksum, in order. `Err` if a claim was
    /// dropped without being filled.
    pub(crate) fn filled(self, mut frame: impl FnMut(usize, u32)) -> Result<Filled, Closed> {
        let mut offset = 0;
        for slot in &self.buffer.slots[..self.claimed.frames as usize] {
            let mut looks = 0_u32;
            let published = loop {
                // Acquire: pairs with the Release in `Claim::publish`, so the bytes are seen with it.
                let slot = slot.load(Ordering::Acquire);
                if slot & PUBLISHED != 0 {
                    break slot;
                }
                looks += 1;
                if looks > 64 || cfg!(loom) { yield_now() } else { std::hint::spin_loop() }
            };
            if published & ABANDONED != 0 {
                return Err(self);
            }
            frame(offset, published as u32);
            offset += (published >> 32 & UNITS_MAX) as usize * UNIT_BYTES;
            // Relaxed: the Release store of the state word in the next `open` comes after it.
            slot.store(0, Ordering::Relaxed);
        }
        assert_eq!(offset, self.claimed.bytes, "published frames fill what was claimed");
        let opening = self.buffer.opening();
        Ok(Filled { buffer: self.buffer, claimed: self.claimed, opening })
    }
}

impl Filled {
    /// What was claimed.
    pub(crate) fn claimed(&self) -> Claimed {
        self.claimed
    }

    /// What the buffer was opened with.
    pub(crate) fn opening(&self) -> Opening {
        self.opening
    }

    /// The whole memory: [`LEAD_BYTES`], the frames, at least a block after them. Begins at a block's address.
    pub(crate) fn memory(&mut self) -> &mut [u8] {
        // SAFETY: all claims are published, so no other reference into the memory exists, and none can be
        // made before this token is given back; `&mut self` makes this reference the only one of ours.
        unsafe { self.buffer.memory.whole_mut() }
    }

    /// Gives the buffer back, and the memory of an oversized group to the system.
    pub(crate) fn vacate(self) -> Vacant {
        if self.claimed.bytes > self.buffer.capacity {
            // SAFETY: as in `memory`; the token is consumed.
            unsafe { self.buffer.memory.release() };
        }
        Vacant(self.buffer)
    }
}

impl Claim<'_> {
    /// The LSN of the claim's first record.
    pub(crate) fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    /// The epoch of the claim's records.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::new(self.buffer.epoch.load(Ordering::Relaxed))
    }

    /// The sequence number of the group that the claim belongs to.
    pub(crate) fn seq(&self) -> u64 {
        self.buffer.seq.load(Ordering::Relaxed)
    }

    /// Where the claim ends among the group's frames, in bytes.
    pub(crate) fn end(&self) -> usize {
        self.offset + self.bytes - LEAD_BYTES
    }

    /// The claimed bytes, to be filled. Whatever an earlier group left is still in them.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the range is this claim's alone (see the module), it is inside the memory (asserted in
        // `claimed`), the memory is not replaced while the claim is unpublished, and `&mut self` makes this
        // the only reference of ours.
        unsafe { self.buffer.memory.range_mut(self.offset, self.bytes) }
    }

    /// Hands the filled bytes over to the flusher.
    pub(crate) fn publish(self, checksum: u32) {
        self.store(PUBLISHED | u64::from(checksum));
        std::mem::forget(self);
    }

    fn store(&self, slot: u64) {
        let units = (self.bytes / UNIT_BYTES) as u64;
        // Release: pairs with the Acquire in `Closed::filled`, so the payload is seen with it.
        self.buffer.slots[self.slot].store(slot | units << 32, Ordering::Release);
    }
}

impl Drop for Claim<'_> {
    /// A claim that was not published (its filler panicked): its LSN can never be written.
    fn drop(&mut self) {
        self.store(PUBLISHED | ABANDONED);
    }
}

impl fmt::Debug for GroupBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuffer").field("index", &self.index).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const OPENING: Opening = Opening { seq: 7, first_lsn: Lsn::new(100), epoch: Epoch::new(3) };

    fn open(capacity: usize) -> Arc<GroupBuffer> {
        GroupBuffer::new(0, capacity).1.open(OPENING)
    }

    #[test]
    fn claims_are_dense_in_place_and_in_lsn() {
        let buffer = open(4096);
        let first = buffer.claim(32, 1).unwrap();
        let second = buffer.claim(64, 5).unwrap();
        assert_eq!((first.first_lsn(), first.seq(), first.end()), (Lsn::new(100), 7, 32));
        assert_eq!((second.first_lsn(), second.epoch(), second.end()), (Lsn::new(101), Epoch::new(3), 96));
        first.publish(1);
        second.publish(2);
        let closed = buffer.close().unwrap();
        assert_eq!(closed.claimed(), Claimed { frames: 2, records: 6, bytes: 96 });
        let mut frames = Vec::new();
        let filled = closed.filled(|offset, checksum| frames.push((offset, checksum))).unwrap();
        assert_eq!(frames, [(0, 1), (32, 2)]);
        assert_eq!(filled.opening(), OPENING);
    }

    #[test]
    fn what_was_filled_is_what_the_flusher_sees() {
        let buffer = open(4096);
        for byte in 1..=3 {
            let mut claim = buffer.claim(8, 1).unwrap();
            claim.bytes().fill(byte);
            claim.publish(0);
        }
        let mut filled = buffer.close().unwrap().filled(|_, _| {}).unwrap();
        let frames = &filled.memory()[LEAD_BYTES..][..24];
        assert_eq!(frames, [[1; 8], [2; 8], [3; 8]].concat());
        assert!(filled.memory().as_ptr().addr().is_multiple_of(BLOCK_BYTES));
    }

    #[test]
    fn a_full_or_closed_buffer_refuses_and_stays_as_it_is() {
        let buffer = open(64);
        assert_eq!(buffer.claim(72, 1).unwrap_err(), Refused::Full);
        buffer.claim(64, 1).unwrap().publish(0);
        assert_eq!(buffer.claim(8, 1).unwrap_err(), Refused::Full);
        assert!(!buffer.has_room(8, 1));
        assert_eq!(buffer.gathered().unwrap().bytes, 64);
        let closed = buffer.close().unwrap();
        assert!(buffer.close().is_none(), "closed once");
        assert_eq!(buffer.claim(8, 1).unwrap_err(), Refused::Closed);
        assert_eq!(closed.claimed().bytes, 64);
    }

    #[test]
    fn a_buffer_counts_frames_and_records_up_to_their_limits() {
        let buffer = open(1 << 20);
        for _ in 0..FRAMES_MAX {
            buffer.claim(8, 1).unwrap().publish(0);
        }
        assert_eq!(buffer.claim(8, 1).unwrap_err(), Refused::Full);
        let buffer = open(1 << 20);
        buffer.claim(8, RECORDS_MAX as u32).unwrap().publish(0);
        assert_eq!(buffer.claim(8, 1).unwrap_err(), Refused::Full);
        assert_eq!(buffer.close().unwrap().claimed().records, RECORDS_MAX as u32);
    }

    #[test]
    fn an_abandoned_claim_is_told_to_the_flusher() {
        let buffer = open(4096);
        buffer.claim(8, 1).unwrap().publish(0);
        drop(buffer.claim(8, 1).unwrap());
        assert!(buffer.close().unwrap().filled(|_, _| {}).is_err());
    }

    #[test]
    fn an_oversized_group_is_never_open_to_others_and_gives_its_memory_back() {
        let (buffer, vacant) = GroupBuffer::new(0, 64);
        let buffers = [Arc::clone(&buffer)];
        let (mut claim, closed) = vacant.claim_whole(&buffers, OPENING, (1 << 20, 9));
        assert_eq!(buffer.claim(8, 1).unwrap_err(), Refused::Closed);
        claim.bytes().fill(0xAB);
        assert_eq!(claim.bytes().len(), 1 << 20);
        claim.publish(5);
        let mut filled = closed.filled(|_, _| {}).unwrap();
        assert_eq!(filled.memory()[LEAD_BYTES + (1 << 20) - 1], 0xAB);
        let reopened = filled.vacate().open(OPENING);
        assert_eq!(reopened.claim(72, 1).unwrap_err(), Refused::Full);
        reopened.claim(64, 1).unwrap().publish(0);
    }

    #[test]
    fn threads_that_claim_at_once_never_share_a_byte() {
        let buffer = open(1 << 16);
        std::thread::scope(|threads| {
            for id in 1..=4_u8 {
                let buffer = &buffer;
                threads.spawn(move || {
                    while let Ok(mut claim) = buffer.claim(24, 1) {
                        claim.bytes().fill(id);
                        claim.publish(u32::from(id));
                    }
                });
            }
        });
        let mut frames = Vec::new();
        let mut filled =
            buffer.close().unwrap().filled(|offset, id| frames.push((offset, id as u8))).unwrap();
        for (offset, id) in frames {
            assert_eq!(filled.memory()[LEAD_BYTES + offset..][..24], [id; 24]);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    const OPENING: Opening = Opening { seq: 0, first_lsn: Lsn::FIRST, epoch: Epoch::FIRST };

    /// Claims until the buffer refuses; returns the claims.
    fn produce(buffer: &GroupBuffer, most: u32) -> u32 {
        let mut claimed = 0;
        while claimed < most
            && let Ok(mut claim) = buffer.claim(16, 1)
        {
            claim.bytes();
            claim.publish(1);
            claimed += 1;
        }
        claimed
    }

    #[test]
    fn loom_claims_never_overlap_and_are_seen_filled() {
        loom::model(|| {
            let buffer = GroupBuffer::new(0, 64).1.open(OPENING);
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    let buffer = Arc::clone(&buffer);
                    loom::thread::spawn(move || produce(&buffer, 1))
                })
                .collect();
            let closed = buffer.close().unwrap();
            let counted = closed.claimed().frames;
            let mut filled = closed.filled(|_, checksum| assert_eq!(checksum, 1)).unwrap();
            filled.memory();
            let claimed: u32 = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
            assert_eq!(claimed, counted, "each claim is flushed, none is refused and flushed");
        });
    }

    #[test]
    fn loom_a_buffer_that_goes_round_takes_a_late_claim_in_its_new_opening_only() {
        loom::model(|| {
            let buffer = GroupBuffer::new(0, 64).1.open(OPENING);
            let producer = {
                let buffer = Arc::clone(&buffer);
                loom::thread::spawn(move || produce(&buffer, 2))
            };
            let mut filled = buffer.close().unwrap().filled(|_, _| {}).unwrap();
            filled.memory();
            let mut counted = filled.claimed().frames;
            let buffer = filled.vacate().open(Opening { seq: 1, ..OPENING });
            let closed = buffer.close().unwrap();
            counted += closed.claimed().frames;
            closed.filled(|_, _| {}).unwrap().memory();
            assert_eq!(producer.join().unwrap(), counted);
        });
    }
}
