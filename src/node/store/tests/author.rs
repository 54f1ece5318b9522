//! What a primary would write.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{membership, range};
use crate::node::{check_group, frame_group};
use crate::protocol::{Content, Group, Position, Span, Spans};
use crate::types::{Epoch, Lsn, ProducerId};

/// What was written, as the primary would have it.
#[derive(Clone, Default)]
pub(super) struct Author {
    pub(super) groups: Vec<(Group, Bytes)>,
    pub(super) epoch: u64,
    pub(super) last: u64,
    pub(super) chance: u64,
}

impl Author {
    pub(super) fn new(seed: u64) -> Author {
        Author { chance: seed, ..Author::default() }
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % bound
    }

    pub(super) fn group(&mut self, content: Content, records: &[Vec<u8>]) -> (Group, Bytes) {
        let count = records.len().max(1) as u64;
        let range = range(self.last + 1, self.last + count);
        let mut group = Group { epoch: Epoch::new(self.epoch), range, bytes: 0, content };
        let frames = Bytes::from(frame_group(&group, records));
        group.bytes = frames.len() as u64;
        check_group(&group, &frames).unwrap();
        self.last += count;
        self.groups.push((group.clone(), frames.clone()));
        (group, frames)
    }

    pub(super) fn next(&mut self) -> (Group, Bytes) {
        if self.epoch == 0 || self.below(12) == 0 {
            self.epoch += 1 + self.below(2);
            return self.group(Content::EpochStart, &[]);
        }
        let count = 1 + self.below(4);
        let records: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let (byte, length) = (self.below(256) as u8, self.below(900));
                vec![byte; length as usize]
            })
            .collect();
        match self.below(6) {
            0 => self.group(Content::Register, &[]),
            1 => self.group(Content::Membership(membership()), &[]),
            2 => {
                let span = Span {
                    producer: ProducerId::new(1),
                    sequence: 1 + self.last,
                    lsn: Lsn::new(self.last + 1),
                    records: count as u32,
                };
                self.group(Content::Records(Spans::One(span)), &records)
            }
            _ => self.group(Content::PLAIN, &records),
        }
    }

    pub(super) fn truncate(&mut self, after: u64) {
        self.groups.retain(|(group, _)| group.range.last.get() <= after);
        self.last = self.groups.last().map_or(0, |(group, _)| group.range.last.get());
        assert_eq!(self.last, after);
    }

    /// The records of the groups, by LSN.
    pub(super) fn frames(&self) -> BTreeMap<u64, Bytes> {
        self.groups.iter().map(|(group, frames)| (group.range.first.get(), frames.clone())).collect()
    }

    pub(super) fn position(&self, lsn: u64) -> Position {
        let holds = |(group, _): &&(Group, Bytes)| group.range.last.get() >= lsn;
        let epoch = self.groups.iter().find(holds).map_or(Epoch::new(0), |(group, _)| group.epoch);
        Position { epoch: if lsn == 0 { Epoch::new(0) } else { epoch }, lsn: Lsn::new(lsn) }
    }
}
