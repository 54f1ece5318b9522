//! The claim path without a disk, for `benches/`: the very code that appends run, over a buffer that is
//! emptied as soon as it is full.

use std::sync::Arc;

use parking_lot::Mutex;

use super::append::{Single, fill};
use crate::disk::buffer::{GroupBuffer, Opening, Vacant};
use crate::format::frame_bytes;
use crate::types::{Epoch, Lsn};

/// Two buffers that take turns, as under a disk that is never slow.
#[derive(Debug)]
pub struct Claims {
    buffers: [Arc<GroupBuffer>; 2],
    turn: Mutex<Turn>,
    open: std::sync::atomic::AtomicUsize,
}

#[derive(Debug)]
struct Turn {
    open: Arc<GroupBuffer>,
    vacant: Option<Vacant>,
    next: Lsn,
}

impl Claims {
    /// Buffers of this many bytes each.
    #[must_use]
    pub fn new(group_bytes: usize) -> Claims {
        let (first, vacant) = GroupBuffer::new(0, group_bytes);
        let (second, other) = GroupBuffer::new(1, group_bytes);
        let open = vacant.open(Opening { seq: 0, first_lsn: Lsn::FIRST, epoch: Epoch::FIRST });
        let turn = Turn { open, vacant: Some(other), next: Lsn::FIRST };
        Claims { buffers: [first, second], turn: Mutex::new(turn), open: 0.into() }
    }

    /// Claims a place for a record, fills it and publishes it.
    pub fn append(&self, record: &[u8]) {
        let bytes = frame_bytes(record.len() as u64) as usize;
        loop {
            let open = self.open.load(std::sync::atomic::Ordering::Relaxed);
            match self.buffers[open].claim(bytes, 1) {
                Ok(claim) => {
                    fill(claim, &Single(record));
                    return;
                }
                Err(_) => self.take_turns(bytes),
            }
        }
    }

    /// Closes the full buffer, walks over it as a flush does, and opens the other one.
    #[cold]
    fn take_turns(&self, bytes: usize) {
        let mut turn = self.turn.lock();
        if turn.open.has_room(bytes, 1) {
            return;
        }
        let closed = turn.open.close().expect("only the lock's holder closes");
        turn.next = turn.next.plus(u64::from(closed.claimed().records));
        let vacant = turn.vacant.take().expect("one of the two is vacant");
        turn.open = vacant.open(Opening { seq: 0, first_lsn: turn.next, epoch: Epoch::FIRST });
        self.open.store(turn.open.index(), std::sync::atomic::Ordering::Relaxed);
        let filled = closed.filled(|_, _| {}).expect("no filler panics here");
        turn.vacant = Some(filled.vacate());
    }
}
