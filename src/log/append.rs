//! The way of a record into a group: claim, fill, publish.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::commit::{Commit, NoRoom};
use super::engine::{Engine, PARALLEL_BYTES};
use super::ticket::Appended;
use crate::disk::buffer::Claim;
use crate::error::{Error, Result};
use crate::format::{Stamp, batch_payload_bytes, frame_bytes, write_batch, write_record};

/// What one frame is to hold.
pub(crate) trait Filler {
    /// Bytes of the payload, as stored.
    fn payload_bytes(&self) -> u64;
    /// Records in it.
    fn records(&self) -> u32;
    /// Writes the frame over all of `frame` and returns its checksum.
    fn write(&self, frame: &mut [u8], stamp: Stamp) -> u32;
}

/// One record.
pub(crate) struct Single<'a>(pub(crate) &'a [u8]);

impl Filler for Single<'_> {
    fn payload_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn records(&self) -> u32 {
        1
    }

    fn write(&self, frame: &mut [u8], stamp: Stamp) -> u32 {
        write_record(frame, stamp, self.0)
    }
}

/// Records that live or die together.
pub(crate) struct Batch<'a, R> {
    records: &'a [R],
    payload_bytes: u64,
}

impl<'a, R: AsRef<[u8]>> Batch<'a, R> {
    /// # Errors
    /// [`Error::EmptyBatch`] without records; [`Error::TooManyRecords`] for more than a frame counts.
    pub(crate) fn new(records: &'a [R]) -> Result<Batch<'a, R>> {
        if records.is_empty() {
            return Err(Error::EmptyBatch);
        }
        if records.len() > RECORDS_MAX {
            return Err(Error::TooManyRecords { records: records.len() as u64, max: RECORDS_MAX as u64 });
        }
        let bytes = records.iter().map(|record| record.as_ref().len() as u64).sum();
        Ok(Batch { records, payload_bytes: batch_payload_bytes(records.len(), bytes) })
    }
}

impl<R: AsRef<[u8]>> Filler for Batch<'_, R> {
    fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    fn records(&self) -> u32 {
        self.records.len() as u32
    }

    fn write(&self, frame: &mut [u8], stamp: Stamp) -> u32 {
        write_batch(frame, stamp, self.records)
    }
}

/// Records in a batch at most; a group counts as many.
const RECORDS_MAX: usize = 1 << 21;

/// What to do when as many bytes as allowed wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WhenFull {
    /// Wait.
    Block,
    /// Say so.
    Refuse,
}

impl Engine {
    /// Appends one frame. Never waits for the disk but for backpressure.
    pub(crate) fn append(&self, filler: &impl Filler, when_full: WhenFull) -> Result<Appended> {
        self.check()?;
        let payload = filler.payload_bytes();
        if payload > self.record_bytes_max {
            return Err(Error::RecordTooLarge { bytes: payload, max: self.record_bytes_max });
        }
        let bytes = frame_bytes(payload) as usize;
        if self.is_oversized(bytes) {
            return self.append_whole(filler, bytes, when_full);
        }
        loop {
            if let Ok(claim) = self.open_buffer().claim(bytes, filler.records()) {
                let end = claim.end();
                let appended = fill(claim, filler);
                if end / PARALLEL_BYTES != (end - bytes) / PARALLEL_BYTES {
                    self.wheel.kick();
                }
                return Ok(appended);
            }
            self.make_room(bytes, filler.records(), when_full)?;
        }
    }

    /// Has a group opened that takes the frame, or finds that one is open by now.
    fn make_room(&self, bytes: usize, records: u32, when_full: WhenFull) -> Result<()> {
        let mut commit = self.commit();
        loop {
            self.check()?;
            if let Some(open) = commit.open() {
                if open.has_room(bytes, records) {
                    return Ok(());
                }
                commit.close_group();
                self.wheel.kick();
            }
            match self.reopen(&mut commit) {
                Ok(()) => return Ok(()),
                Err(no_room) => self.hold(&mut commit, no_room, when_full)?,
            }
        }
    }

    /// Appends a frame that no group shares.
    fn append_whole(&self, filler: &impl Filler, bytes: usize, when_full: WhenFull) -> Result<Appended> {
        let mut commit = self.commit();
        let claim = loop {
            self.check()?;
            commit.close_group();
            if !commit.has_room_after_tail(bytes as u64) {
                MutexGuard::unlocked(&mut commit, || self.enlarge_empty_tail(bytes as u64))?;
                continue;
            }
            match commit.claim_whole(self.buffers(), (bytes, filler.records())) {
                Ok(claim) => break claim,
                Err(no_room) => {
                    // Not while the disk is full: the preparing thread would try for this one alone.
                    if !self.out_of_space.load(Ordering::Acquire) {
                        self.ask_for_segment(&mut commit, no_room, bytes as u64);
                    }
                    self.hold_large(&mut commit, no_room, when_full)?;
                }
            }
        };
        let _ = self.reopen(&mut commit);
        drop(commit);
        let appended = fill(claim, filler);
        self.wheel.kick();
        Ok(appended)
    }

    /// Like [`hold`](Engine::hold), and nobody else is let in before.
    fn hold_large(
        &self,
        commit: &mut MutexGuard<'_, Commit>,
        no_room: NoRoom,
        when_full: WhenFull,
    ) -> Result<()> {
        if no_room == NoRoom::Segments {
            return self.hold(commit, no_room, when_full);
        }
        commit.large_waits();
        let held = self.hold(commit, no_room, when_full);
        commit.large_is_done();
        if held.is_err() {
            self.room_changed(commit);
        }
        held
    }

    /// Waits for room, or says why not.
    fn hold(&self, commit: &mut MutexGuard<'_, Commit>, no_room: NoRoom, when_full: WhenFull) -> Result<()> {
        // Acquire: pairs with the Release of the preparing thread.
        if no_room == NoRoom::Segments && self.out_of_space.load(Ordering::Acquire) {
            return Err(Error::NoSpace);
        }
        if when_full == WhenFull::Refuse {
            return Err(Error::WouldBlock);
        }
        self.counters.held();
        if no_room == NoRoom::Segments {
            self.hurry_segments();
        }
        self.wheel.kick();
        self.wait_for_room(commit);
        Ok(())
    }
}

/// Fills a claim and hands it over. Copy and checksum happen here, in the producer's thread.
pub(crate) fn fill(mut claim: Claim<'_>, filler: &impl Filler) -> Appended {
    let stamp = Stamp { lsn: claim.first_lsn(), epoch: claim.epoch() };
    let appended =
        Appended { first: stamp.lsn, records: filler.records(), epoch: stamp.epoch, seq: claim.seq() };
    let checksum = filler.write(claim.bytes(), stamp);
    claim.publish(checksum);
    appended
}
