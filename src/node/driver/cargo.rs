//! The bytes that go with what the core says: those at hand while an input is handled, and those of messages that wait.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::protocol::{Group, Message, SnapshotId};
use crate::transport::Lane;
use crate::types::{Epoch, LsnRange};

/// Bytes that the core may name while it answers an input.
#[derive(Clone, Debug)]
struct Piece {
    name: Name,
    lane: Lane,
    bytes: Bytes,
}

/// What bytes are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    Frames { epoch: Epoch, range: LsnRange },
    Chunk { snapshot: SnapshotId, offset: u64 },
}

impl Name {
    /// The name of the bytes that travel beside a message; `None` if none do.
    const fn of(message: &Message) -> Option<Name> {
        match message {
            Message::Append { group, .. } | Message::RepairGive { group, .. } => Some(Name::frames(group)),
            Message::SnapshotChunk { snapshot, offset, .. } => {
                Some(Name::Chunk { snapshot: *snapshot, offset: *offset })
            }
            _ => None,
        }
    }

    const fn frames(group: &Group) -> Name {
        Name::Frames { epoch: group.epoch, range: group.range }
    }
}

/// The bytes at hand, and those of messages that are held back until a meta is saved (S1).
#[derive(Clone, Debug, Default)]
pub(super) struct Cargo {
    hand: Vec<Piece>,
    /// With the number of the save that they wait for.
    held: VecDeque<(u64, Piece)>,
    held_bytes: u64,
    asked: u64,
    saved: u64,
}

impl Cargo {
    /// The bytes that came with a message are at hand.
    pub(super) fn came(&mut self, message: &Message, bytes: Bytes) {
        if let Some(name) = Name::of(message) {
            self.hand.push(Piece { name, lane: Lane::CatchUp, bytes });
        }
    }

    /// The frames of a group are at hand; what is sent of them goes this way.
    pub(super) fn frames(&mut self, group: &Group, lane: Lane, bytes: Bytes) {
        self.hand.push(Piece { name: Name::frames(group), lane, bytes });
    }

    /// A part of a snapshot is at hand.
    pub(super) fn chunk(&mut self, snapshot: SnapshotId, offset: u64, bytes: Bytes) {
        self.hand.push(Piece { name: Name::Chunk { snapshot, offset }, lane: Lane::CatchUp, bytes });
    }

    /// The frames of this group, if they are at hand.
    pub(super) fn frames_of(&self, group: &Group) -> Option<Bytes> {
        self.find(Name::frames(group)).map(|piece| piece.bytes.clone())
    }

    /// This part of a snapshot, if it is at hand.
    pub(super) fn chunk_of(&self, snapshot: SnapshotId, offset: u64) -> Option<Bytes> {
        self.find(Name::Chunk { snapshot, offset }).map(|piece| piece.bytes.clone())
    }

    /// Which way a message goes, and with which bytes; `None` if those were given up.
    pub(super) fn of(&self, message: &Message) -> Option<(Lane, Bytes)> {
        match Name::of(message) {
            Some(name) => self.find(name).map(|piece| (piece.lane, piece.bytes.clone())),
            None if matches!(message, Message::SnapshotOffer(_)) => Some((Lane::CatchUp, Bytes::new())),
            None => Some((Lane::Control, Bytes::new())),
        }
    }

    fn find(&self, name: Name) -> Option<&Piece> {
        let at_hand = self.hand.iter().find(|piece| piece.name == name);
        at_hand.or_else(|| self.held.iter().map(|(_, piece)| piece).find(|piece| piece.name == name))
    }

    /// The core waits for this save before it says anything more.
    pub(super) fn asked(&mut self, number: u64) {
        self.asked = self.asked.max(number);
    }

    /// This save is done: what waited for it is said while this input is handled.
    pub(super) fn saved(&mut self, number: u64) {
        self.saved = self.saved.max(number);
    }

    /// The input is handled. What was at hand is kept only if messages with it are held back; beyond `bytes_max`, the
    /// oldest are given up: their messages are lost.
    pub(super) fn put_down(&mut self, keeps: bool, bytes_max: u64) {
        while let Some((_, piece)) = self.held.pop_front_if(|(needed, _)| *needed <= self.saved) {
            self.held_bytes -= piece.bytes.len() as u64;
        }
        if keeps && self.asked > self.saved {
            for piece in self.hand.drain(..) {
                self.held_bytes += piece.bytes.len() as u64;
                self.held.push_back((self.asked, piece));
            }
            while self.held_bytes > bytes_max
                && let Some((_, piece)) = self.held.pop_front()
            {
                self.held_bytes -= piece.bytes.len() as u64;
            }
        }
        self.hand.clear();
    }

    /// Bytes that are kept for messages which are held back.
    pub(super) const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }
}
