//! Builds the bytes of a segment, group by group, the way the log does.

use annals::format::{
    Digest, Footer, FooterKind, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, HEADER_BLOCK_BYTES, Origin,
    SegmentHeader, Stamp, Tables, batch_payload_bytes, block_up, frame_bytes, produced_payload_bytes,
    write_batch, write_control, write_epoch_start, write_gap, write_produced, write_record,
};
use annals::{Epoch, Lsn};

/// What goes into a frame.
// The campaign of damage has no gap but those that its repairs make, and no replicas.
#[allow(dead_code)]
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Record(Vec<u8>),
    Batch(Vec<Vec<u8>>),
    EpochStart,
    /// So many lost records.
    Gap(u32),
    Control(Vec<u8>),
    Produced(Origin, Vec<Vec<u8>>),
}

/// Where a group begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// Right where the last one ended.
    Packed,
    /// At the next block: other groups were in flight.
    Fresh,
}

/// Where a group went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) last: Lsn,
}

/// The bytes of a segment, and what the writer of them knows.
#[derive(Clone)]
pub(crate) struct Builder {
    pub(crate) bytes: Vec<u8>,
    pub(crate) header: SegmentHeader,
    pub(crate) tables: Tables,
    pub(crate) end: u64,
    pub(crate) last: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) digest: Digest,
    pub(crate) groups: u64,
}

impl Builder {
    pub(crate) fn with(header: SegmentHeader) -> Builder {
        let mut bytes = vec![0; header.segment_bytes.try_into().unwrap()];
        header.encode_into(&mut bytes);
        Builder {
            bytes,
            header,
            tables: Tables::new(),
            end: HEADER_BLOCK_BYTES as u64,
            last: header.first_lsn.prev(),
            epoch: header.epoch,
            digest: header.previous_digest,
            groups: 0,
        }
    }

    /// Writes a group that knows everything before it to be durable.
    pub(crate) fn group(&mut self, start: Start, contents: &[Content]) -> Written {
        self.group_knowing(start, self.last, contents)
    }

    /// Writes a group that knows records up to `durable` to be durable.
    pub(crate) fn group_knowing(&mut self, start: Start, durable: Lsn, contents: &[Content]) -> Written {
        let position = if start == Start::Packed { self.end } else { block_up(self.end) };
        let mut at = position + GROUP_HEADER_BYTES as u64;
        for content in contents {
            at = self.frame(position, at, content);
        }
        let place = GroupPlace { incarnation: self.header.incarnation, position };
        let (before, frames) = self.bytes[..index(at)].split_at_mut(index(position) + GROUP_HEADER_BYTES);
        let header = GroupHeader::over(frames, place, durable);
        header.encode_into(&mut before[index(position)..]);
        self.digest = self.digest.fold(header.digest.get());
        self.bytes[index(at)..index(block_up(at))].fill(0);
        self.end = at;
        self.groups += 1;
        Written { start: position, end: at, last: self.last }
    }

    fn frame(&mut self, group: u64, at: u64, content: &Content) -> u64 {
        let payload_bytes = match content {
            Content::Record(payload) => payload.len() as u64,
            Content::Batch(records) => {
                batch_payload_bytes(records.len(), records.iter().map(|record| record.len() as u64).sum())
            }
            Content::EpochStart | Content::Gap(_) => 0,
            Content::Control(payload) => payload.len() as u64,
            Content::Produced(_, records) => {
                produced_payload_bytes(records.len(), records.iter().map(|record| record.len() as u64).sum())
            }
        };
        let end = at + frame_bytes(payload_bytes);
        if matches!(content, Content::EpochStart) {
            self.epoch = Epoch::new(self.epoch.get() + 1);
        }
        let stamp = Stamp { lsn: self.last.next(), epoch: self.epoch };
        let frame = &mut self.bytes[index(at)..index(end)];
        match content {
            Content::Record(payload) => write_record(frame, stamp, payload),
            Content::Batch(records) => write_batch(frame, stamp, records),
            Content::EpochStart => write_epoch_start(frame, stamp),
            Content::Gap(count) => write_gap(frame, stamp, *count),
            Content::Control(payload) => write_control(frame, stamp, payload),
            Content::Produced(origin, records) => write_produced(frame, stamp, *origin, records),
        };
        let header = annals::format::FrameHeader::decode(frame).unwrap();
        self.tables.note(&header, group, at);
        self.last = header.last_lsn();
        end
    }

    /// Writes the footer.
    pub(crate) fn seal(&mut self, kind: FooterKind) -> Footer {
        let footer = Footer {
            last_lsn: self.last,
            end: self.end,
            groups: self.groups,
            digest: self.digest,
            sealed_at_ms: 1_700_000_000_000,
            ..Footer::of(&self.header, kind)
        };
        let region = index(self.header.data_end());
        footer.encode_into(&self.tables, &mut self.bytes[region..]);
        footer
    }
}

/// A position as an index into the bytes.
pub(crate) fn index(position: u64) -> usize {
    position.try_into().unwrap()
}
