//! Group commit, the part under one short lock: which group is open, which are waiting, which are being
//! flushed, and where on the disk each goes.
//!
//! Nothing here waits for a disk: a lock held across a write, a sync or a send is a defect. Groups are
//! opened, closed, placed, flushed and acknowledged in the order of their sequence numbers; only their
//! writes overlap.

use std::collections::VecDeque;
use std::sync::Arc;

use super::options::LogOptions;
use super::recover::Begin;
use crate::disk::buffer::{Closed, GroupBuffer, Opening, Vacant};
use crate::format::{self, BLOCK_BYTES, Digest, FrameHeader};
use crate::segment::{Noted, Spare, Tail};
use crate::types::{Epoch, LogId, Lsn};

/// A group up to this size may share its first block with the group before it; a larger one wastes less
/// than one part in sixteen by starting on a fresh block, and spares itself a copy.
const PACKED_BYTES_MAX: usize = 64 << 10;

/// The part of a segment that fills before the chores of its beginning are done.
const CHORES_PART: u64 = 8;

/// The state of group commit. Its owner is the engine's lock.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) log_id: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) limits: Limits,
    /// The sequence number and the first LSN of the next group to be opened, or of the open one.
    next_seq: u64,
    next_lsn: Lsn,
    /// The first group whose waiters were not told of its end.
    unresolved: u64,
    /// The open buffer; none while there is no room for another.
    open: Option<Arc<GroupBuffer>>,
    /// Closed, in order, waiting for a flush.
    queue: VecDeque<Closed>,
    vacant: Vec<Vacant>,
    /// Bytes of frames in groups that are closed and not durable.
    in_flight_bytes: u64,
    /// Being flushed, in order.
    flights: VecDeque<Flying>,
    tail: Arc<Tail>,
    /// Where the last placed group ends in the tail, and what is in its last block.
    end: u64,
    last_block: Option<Box<[u8; BLOCK_BYTES]>>,
    spares: VecDeque<Spare>,
    /// Bytes of frames of an oversized group that found no segment.
    oversized: Option<u64>,
    /// Segments that began and that the log's list of segments does not have yet.
    rolled: Vec<Arc<Tail>>,
    /// How far the tail has to grow before the chores of the last roll are done: sealing, naming, the next
    /// spare. `None` once they are under way.
    chores_at: Option<u64>,
    /// Oversized groups that wait until less is in flight: meanwhile no other group is opened, or they would
    /// wait for ever under a steady load.
    large_waiting: usize,
    /// While the newest records are being truncated no group is opened.
    paused: bool,
    /// Flights that were handed out and have not come back, also of a log that has stopped.
    aloft: usize,
}

/// The options that group commit obeys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) group_bytes: usize,
    pub(crate) in_flight_bytes_max: u64,
    pub(crate) depth: usize,
    pub(crate) strict_blocks: bool,
}

/// A group that is being flushed.
#[derive(Debug)]
struct Flying {
    seq: u64,
    last: Lsn,
    end: u64,
    landed: Option<Landed>,
}

/// What a flush needs to know about its group.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) seq: u64,
    pub(crate) closed: Closed,
    pub(crate) tail: Arc<Tail>,
    /// Offset of the group header in the segment.
    pub(crate) position: u64,
    pub(crate) durable_through: Lsn,
    pub(crate) front: Front,
}

/// What is written before the group header in the same write.
#[derive(Debug)]
pub(crate) enum Front {
    /// Nothing: the group starts on a fresh block.
    Nothing,
    /// The acknowledged bytes that share the group's first block.
    Block(Box<[u8; BLOCK_BYTES]>),
    /// The header of a new segment.
    SegmentHeader,
}

/// What a flush leaves when its group is on the disk.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) vacant: Vacant,
    pub(crate) digest: Digest,
    pub(crate) points: Vec<(u64, FrameHeader)>,
    pub(crate) last_block: Box<[u8; BLOCK_BYTES]>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) frame_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) position: u64,
    pub(crate) first: Lsn,
}

/// Why no group could be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoRoom {
    /// As many bytes as allowed wait for the disk.
    InFlight,
    /// The segments that are ready cannot hold another group.
    Segments,
}

/// The groups that a completed flush made durable, oldest first.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) through: Lsn,
    pub(crate) seqs: std::ops::Range<u64>,
}

/// Where recovery left the log.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) log_id: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) next_lsn: Lsn,
    pub(crate) tail: Arc<Tail>,
    pub(crate) end: u64,
    pub(crate) last_block: Option<Box<[u8; BLOCK_BYTES]>>,
}

impl Limits {
    /// The limits that checked options set.
    pub(crate) fn of(options: &LogOptions) -> Limits {
        Limits {
            group_bytes: options.group_bytes as usize,
            in_flight_bytes_max: options.in_flight_bytes_max,
            depth: options.depth,
            strict_blocks: options.strict_blocks,
        }
    }
}

impl Commit {
    pub(crate) fn new(limits: Limits, start: Start, vacant: Vec<Vacant>) -> Commit {
        Commit {
            log_id: start.log_id,
            epoch: start.epoch,
            limits,
            next_seq: 0,
            next_lsn: start.next_lsn,
            unresolved: 0,
            open: None,
            queue: VecDeque::new(),
            vacant,
            in_flight_bytes: 0,
            flights: VecDeque::new(),
            tail: start.tail,
            end: start.end,
            last_block: start.last_block,
            spares: VecDeque::new(),
            oversized: None,
            rolled: Vec::new(),
            chores_at: None,
            large_waiting: 0,
            paused: false,
            aloft: 0,
        }
    }

    /// The open buffer, if there is one.
    pub(crate) fn open(&self) -> Option<&Arc<GroupBuffer>> {
        self.open.as_ref()
    }

    /// The newest LSN that was claimed, or given to a closed group.
    pub(crate) fn appended(&self) -> Lsn {
        let open = self.open.as_ref().and_then(|open| open.gathered());
        self.next_lsn.plus(open.map_or(0, |claimed| u64::from(claimed.records))).prev()
    }

    /// The newest group with a record in it, and its last record so far; `None` if all is durable.
    pub(crate) fn newest(&self) -> Option<(u64, Lsn)> {
        let last = self.appended();
        if self.has_gathered() {
            return Some((self.next_seq, last));
        }
        let unresolved = !self.queue.is_empty() || !self.flights.is_empty();
        unresolved.then(|| (self.next_seq - 1, last))
    }

    pub(crate) fn tail(&self) -> &Arc<Tail> {
        &self.tail
    }

    /// Where the last placed group ends in the tail.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Takes note that a flight has come back, whatever became of it.
    pub(crate) fn came_back(&mut self) {
        self.aloft -= 1;
    }

    /// Whether somebody may still be writing a group.
    pub(crate) fn is_writing(&self) -> bool {
        self.aloft > 0
    }

    pub(crate) fn spares(&self) -> usize {
        self.spares.len()
    }

    pub(crate) fn add_spare(&mut self, spare: Spare) {
        self.oversized = None;
        self.spares.push_back(spare);
    }

    /// Whether the chores of the last roll are still put off, so that the disk is free for the appends.
    pub(crate) fn puts_chores_off(&self) -> bool {
        self.chores_at.is_some() && !self.is_short_of_segments()
    }

    /// Whether the chores of the last roll have just become due; `now` makes them.
    pub(crate) fn chores_are_due(&mut self, now: bool) -> bool {
        let end = self.end;
        self.chores_at.take_if(|at| now || *at <= end).is_some()
    }

    /// Asks for a segment that holds a group of this many bytes of frames.
    pub(crate) fn ask_for_segment(&mut self, frame_bytes: u64) {
        self.oversized = self.oversized.max(Some(frame_bytes));
    }

    /// No segment can be made for the oversized group that waits for one: who appends it is told.
    pub(crate) fn refuse_oversized(&mut self) {
        self.oversized = None;
    }

    /// Whether appends wait, or soon will, because no segment is ready.
    pub(crate) fn is_short_of_segments(&self) -> bool {
        self.open.is_none() || self.oversized.is_some()
    }

    /// The oversized group that waits for a segment, in bytes of frames.
    pub(crate) fn oversized(&self) -> Option<u64> {
        self.oversized
    }

    /// The segments that began since the last call.
    pub(crate) fn take_rolled(&mut self) -> Vec<Arc<Tail>> {
        std::mem::take(&mut self.rolled)
    }

    /// Takes the first spare that can hold a group of `frame_bytes`.
    pub(crate) fn take_spare(&mut self, frame_bytes: u64) -> Option<Spare> {
        let fitting = self.fitting_spare(frame_bytes)?;
        self.spares.remove(fitting)
    }

    /// Whether a group of `frame_bytes` can go into the tail, or into a segment that follows it: none follows
    /// one that holds nothing and never will.
    pub(crate) fn has_room_after_tail(&self, frame_bytes: u64) -> bool {
        let empty = self.end == BLOCK_BYTES as u64 && self.queue.is_empty() && !self.has_gathered();
        !empty || self.fits_in_tail(frame_bytes)
    }

    /// Whether a flush beside others is worth its start: a whole group waits, or `bytes` have gathered.
    pub(crate) fn has_work_of(&self, bytes: usize) -> bool {
        let gathered = self.open.as_ref().and_then(|open| open.gathered());
        !self.queue.is_empty() || gathered.is_some_and(|claimed| claimed.bytes >= bytes)
    }

    fn has_gathered(&self) -> bool {
        self.open.as_ref().and_then(|open| open.gathered()).is_some_and(|claimed| claimed.frames > 0)
    }

    /// Closes the open group, if there is one; what it holds goes into the queue.
    pub(crate) fn close_group(&mut self) {
        let Some(open) = self.open.take() else { return };
        let closed = open.close().expect("only the lock's holder closes");
        match closed.vacate_if_empty() {
            Ok(vacant) => self.vacant.push(vacant),
            Err(closed) => self.enqueue(closed),
        }
    }

    fn enqueue(&mut self, closed: Closed) {
        self.next_seq += 1;
        self.next_lsn = self.next_lsn.plus(u64::from(closed.claimed().records));
        self.in_flight_bytes += closed.claimed().bytes as u64;
        self.queue.push_back(closed);
    }

    /// Opens a group and returns the index of its buffer.
    ///
    /// Room on the disk is made sure of first, so that nothing that was claimed can fail for lack of it.
    pub(crate) fn open_group(&mut self) -> Result<usize, NoRoom> {
        assert!(self.open.is_none(), "one group is open at a time");
        if self.large_waiting > 0 {
            return Err(NoRoom::InFlight);
        }
        self.admit(self.limits.group_bytes as u64)?;
        let vacant = self.vacant.pop().ok_or(NoRoom::InFlight)?;
        let buffer = vacant.open(self.opening());
        let index = buffer.index();
        self.open = Some(buffer);
        Ok(index)
    }

    /// Keeps other groups closed until [`large_is_done`](Commit::large_is_done).
    pub(crate) fn large_waits(&mut self) {
        self.large_waiting += 1;
    }

    /// The oversized group that waited has its place, or gave up.
    pub(crate) fn large_is_done(&mut self) {
        self.large_waiting -= 1;
    }

    /// Whether an oversized group waits until less is in flight.
    pub(crate) fn has_large_waiting(&self) -> bool {
        self.large_waiting > 0
    }

    /// Makes a group of a single frame, of any size, behind all that was claimed.
    ///
    /// No group is open when this is called; the claim is the caller's to fill.
    pub(crate) fn claim_whole<'a>(
        &mut self,
        buffers: &'a [Arc<GroupBuffer>],
        frame: (usize, u32),
    ) -> Result<crate::disk::buffer::Claim<'a>, NoRoom> {
        assert!(self.open.is_none(), "one group is open at a time");
        self.admit(frame.0 as u64)?;
        let vacant = self.vacant.pop().ok_or(NoRoom::InFlight)?;
        let (claim, closed) = vacant.claim_whole(buffers, self.opening(), frame);
        self.enqueue(closed);
        Ok(claim)
    }

    fn opening(&self) -> Opening {
        Opening { seq: self.next_seq, first_lsn: self.next_lsn, epoch: self.epoch }
    }

    fn admit(&self, bytes: u64) -> Result<(), NoRoom> {
        if self.paused {
            return Err(NoRoom::InFlight);
        }
        let waiting = self.in_flight_bytes;
        if waiting > 0 && waiting + bytes > self.limits.in_flight_bytes_max {
            return Err(NoRoom::InFlight);
        }
        if self.fits_on_disk(bytes) { Ok(()) } else { Err(NoRoom::Segments) }
    }

    /// Whether the queue, and then a group of `bytes` of frames, fit into the tail and the spares.
    ///
    /// Groups fill segments in order, none goes back to an earlier one, so a group that turns out smaller
    /// never makes the ones after it need more segments.
    fn fits_on_disk(&self, bytes: u64) -> bool {
        let mut room = Room { end: self.end, data_end: self.tail.data_end() };
        let mut spares = self.spares.iter();
        let queued = self.queue.iter().map(|closed| closed.claimed().bytes as u64);
        queued.chain([bytes]).all(|bytes| {
            while !room.take(bytes) {
                match spares.next() {
                    Some(spare) => room = Room { end: BLOCK_BYTES as u64, data_end: spare.data_end() },
                    None => return false,
                }
            }
            true
        })
    }

    /// Whether [`start`](Commit::start) would start a flush now.
    pub(crate) fn can_start(&self) -> bool {
        let Some(bytes) = self.next_bytes().filter(|_| self.flights.len() < self.limits.depth) else {
            return false;
        };
        self.fits_in_tail(bytes) || self.flights.is_empty() && self.fitting_spare(bytes).is_some()
    }

    /// Starts the flush of the oldest group that waits: closes it if it is open, and places it.
    ///
    /// `None` if nothing waits, as many flushes as allowed are in flight, or the segment has to change and
    /// cannot yet: a segment begins when all groups of the one before are durable, so that recovery finds
    /// what was never acknowledged in the last segment only.
    pub(crate) fn start(&mut self, durable: Lsn) -> Option<Flight> {
        if !self.can_start() {
            return None;
        }
        if self.queue.is_empty() {
            self.close_group();
        }
        let bytes = self.queue.front()?.claimed().bytes as u64;
        let rolled = !self.fits_in_tail(bytes) && self.roll(bytes);
        let closed = self.queue.pop_front()?;
        self.aloft += 1;
        Some(self.place(closed, durable, rolled))
    }

    /// Bytes that the next group to be flushed may have: the open one grows until it is closed.
    fn next_bytes(&self) -> Option<u64> {
        match self.queue.front() {
            Some(closed) => Some(closed.claimed().bytes as u64),
            None => self.has_gathered().then_some(self.limits.group_bytes as u64),
        }
    }

    fn fits_in_tail(&self, bytes: u64) -> bool {
        Room { end: self.end, data_end: self.tail.data_end() }.take(bytes)
            && self.tail.takes_epoch(self.epoch)
    }

    fn fitting_spare(&self, bytes: u64) -> Option<usize> {
        let fits = |spare: &Spare| Room { end: BLOCK_BYTES as u64, data_end: spare.data_end() }.take(bytes);
        self.spares.iter().position(fits)
    }

    /// Makes the next spare that can hold a group of `bytes` the tail.
    fn roll(&mut self, bytes: u64) -> bool {
        assert!(self.flights.is_empty(), "a segment begins when the one before is durable");
        let fitting = self.fitting_spare(bytes).expect("checked in can_start");
        let spare = self.spares.remove(fitting).expect("an index of the spares");
        let begin = Begin {
            log_id: self.log_id,
            segment_id: self.tail.header().segment_id.next(),
            first_lsn: self.queue.front().map_or(self.next_lsn, |closed| closed.opening().first_lsn),
            epoch: self.epoch,
            previous_digest: self.tail.digest(),
        };
        let header = begin.header(&spare);
        self.tail = Arc::new(Tail::begin(spare, header));
        self.rolled.push(Arc::clone(&self.tail));
        self.chores_at = Some(self.tail.data_end() / CHORES_PART);
        self.end = BLOCK_BYTES as u64;
        self.last_block = None;
        true
    }

    fn place(&mut self, closed: Closed, durable: Lsn, rolled: bool) -> Flight {
        let claimed = closed.claimed();
        let lead = self.end as usize % BLOCK_BYTES;
        let packed = lead > 0
            && self.flights.is_empty()
            && !self.limits.strict_blocks
            && claimed.bytes <= PACKED_BYTES_MAX
            && self.last_block.is_some();
        let position = if packed { self.end } else { self.end.next_multiple_of(BLOCK_BYTES as u64) };
        let front = match (rolled, packed) {
            (true, _) => Front::SegmentHeader,
            (false, true) => Front::Block(self.last_block.take().expect("checked: packed")),
            (false, false) => Front::Nothing,
        };
        self.end = position + (format::GROUP_HEADER_BYTES + claimed.bytes) as u64;
        assert!(self.end <= self.tail.data_end(), "a group lies in one segment");
        let seq = closed.opening().seq;
        let last = closed.opening().first_lsn.plus(u64::from(claimed.records)).prev();
        self.flights.push_back(Flying { seq, last, end: self.end, landed: None });
        Flight { seq, closed, tail: Arc::clone(&self.tail), position, durable_through: durable, front }
    }

    /// Takes note that the group `seq` is on the disk; returns what is durable now that was not before.
    pub(crate) fn land(&mut self, seq: u64, landed: Landed) -> Option<Durable> {
        let flying = self.flights.iter_mut().find(|flying| flying.seq == seq);
        flying.expect("a flush lands once").landed = Some(landed);
        let mut durable: Option<Durable> = None;
        while let Some(front) = self.flights.front_mut() {
            let Some(landed) = front.landed.take() else { break };
            let (seq, last, end) = (front.seq, front.last, front.end);
            self.flights.pop_front();
            self.in_flight_bytes -= landed.frame_bytes;
            landed.tail.note(&Noted {
                first: landed.first,
                last,
                position: landed.position,
                end,
                digest: landed.digest,
                points: &landed.points,
            });
            self.vacant.push(landed.vacant);
            // Only the newest placed group ends where the next one may start.
            self.last_block = (end == self.end).then_some(landed.last_block);
            let first = durable.map_or(seq, |durable| durable.seqs.start);
            durable = Some(Durable { through: last, seqs: first..seq + 1 });
        }
        durable
    }

    /// The groups that are not resolved, the open one or the one to be opened next included.
    pub(crate) fn unresolved(&self) -> std::ops::Range<u64> {
        self.unresolved..self.next_seq + 1
    }

    /// Takes note that the group `seq` is resolved. Kept apart from landing, so that whoever ends the log finds the
    /// groups that a thread has landed and then, because it panicked, not resolved.
    pub(crate) fn resolved(&mut self, seq: u64) {
        assert!(seq == self.unresolved, "groups are resolved in their order");
        self.unresolved = seq + 1;
    }

    /// Opens no group until [`resume`](Commit::resume); what was claimed is flushed.
    pub(crate) fn pause(&mut self) {
        self.close_group();
        self.paused = true;
    }

    /// Goes on after a pause.
    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }

    /// Goes on behind `tail`, an empty segment. Nothing is open, queued or in flight.
    pub(crate) fn restart(&mut self, tail: Arc<Tail>) {
        assert!(self.open.is_none() && self.queue.is_empty() && self.flights.is_empty(), "drained before");
        self.next_lsn = tail.header().first_lsn;
        self.end = BLOCK_BYTES as u64;
        self.last_block = None;
        self.tail = tail;
    }

    /// Ends claiming. What was claimed is lost to its owners, who are told.
    pub(crate) fn close_for_good(&mut self) {
        if let Some(open) = self.open.take() {
            drop(open.close());
        }
    }
}

/// Room in one segment.
struct Room {
    end: u64,
    data_end: u64,
}

impl Room {
    /// Takes the room of one group, counted as if it started on a fresh block; `false` if there is none.
    fn take(&mut self, frame_bytes: u64) -> bool {
        let block = BLOCK_BYTES as u64;
        let end = self.end.next_multiple_of(block) + format::GROUP_HEADER_BYTES as u64 + frame_bytes;
        // Whole blocks are written, and the footer must not be among them.
        let fits = end.next_multiple_of(block) <= self.data_end;
        if fits {
            self.end = end;
        }
        fits
    }
}
