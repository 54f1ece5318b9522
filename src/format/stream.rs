//! Checking a frame that is too large to be held, piece by piece.

use super::checksum::RunningCrc;
use super::frame::FrameHeader;
use super::layout::frame;
use super::verdict::Damage;

/// A frame of which the pieces come one after the other: what [`Frame::check`](super::Frame::check) says of the
/// whole, in bounded memory.
#[derive(Clone, Debug)]
pub struct FrameCheck {
    stated: u32,
    sum: RunningCrc,
    taken: u64,
    used: u64,
    table: Option<EndTable>,
    is_padded: bool,
}

/// The table of a batch, read as it comes.
#[derive(Clone, Debug)]
struct EndTable {
    /// Where it begins in the frame.
    start: u64,
    /// Where it ends in the frame.
    end: u64,
    /// The bytes of an end that came so far, and how many.
    partial: ([u8; 4], usize),
    last: u32,
    /// The size of the records, which the last end has to be.
    records: u64,
    is_sound: bool,
}

impl FrameCheck {
    /// Of the frame with this header; the header's own bytes are the first to be taken.
    #[must_use]
    pub fn new(header: &FrameHeader) -> FrameCheck {
        let table = header.has_table().then(|| EndTable {
            start: frame::BYTES as u64 + header.table_start(),
            end: frame::BYTES as u64 + header.table_end(),
            partial: ([0; 4], 0),
            last: 0,
            records: u64::from(header.length).saturating_sub(header.table_end()),
            is_sound: true,
        });
        FrameCheck { table, ..FrameCheck::of_bytes(header.checksum, header.length) }
    }

    /// Of a frame of which only the checksum and the length are believed: its table is not looked at.
    #[must_use]
    pub fn of_bytes(checksum: u32, length: u32) -> FrameCheck {
        FrameCheck {
            stated: checksum,
            sum: RunningCrc::new(),
            taken: 0,
            used: frame::BYTES as u64 + u64::from(length),
            table: None,
            is_padded: true,
        }
    }

    /// Takes the bytes that follow, of the header, the payload or the padding.
    pub fn update(&mut self, bytes: &[u8]) {
        let start = self.taken;
        self.taken += bytes.len() as u64;
        let within = |position: u64| {
            let inside = position.saturating_sub(start).min(bytes.len() as u64);
            usize::try_from(inside).expect("a place in a slice")
        };
        let used = within(self.used);
        self.sum.update(&bytes[within(frame::CHECKSUM.end() as u64).min(used)..used]);
        self.is_padded &= bytes[used..].iter().all(|byte| *byte == 0);
        if let Some(table) = &mut self.table {
            let ends = within(table.start)..within(table.end);
            table.update(&bytes[ends]);
        }
    }

    /// How the checksum of what was taken differs from the one that the header states: not at all, if it is 0.
    #[must_use]
    pub fn syndrome(&self) -> u32 {
        self.sum.clone().finish() ^ self.stated
    }

    /// Whether the padding is zeros.
    #[must_use]
    pub fn is_padded(&self) -> bool {
        self.is_padded
    }

    /// What the whole frame is.
    ///
    /// # Errors
    /// [`Damage::Checksum`], [`Damage::Padding`], or [`Damage::Malformed`] for the table of a batch.
    pub fn finish(&self) -> Result<(), Damage> {
        let is_sound = self.table.as_ref().is_none_or(EndTable::is_whole);
        match (self.syndrome() == 0, self.is_padded, is_sound) {
            (false, _, _) => Err(Damage::Checksum),
            (true, false, _) => Err(Damage::Padding),
            (true, true, false) => Err(Damage::Malformed),
            (true, true, true) => Ok(()),
        }
    }
}

impl EndTable {
    fn update(&mut self, mut bytes: &[u8]) {
        let (partial, held) = &mut self.partial;
        if *held > 0 {
            let fill = bytes.len().min(partial.len() - *held);
            partial[*held..][..fill].copy_from_slice(&bytes[..fill]);
            (*held, bytes) = (*held + fill, &bytes[fill..]);
            if *held < partial.len() {
                return;
            }
            let end = u32::from_le_bytes(*partial);
            self.is_sound &= end >= self.last;
            self.last = end;
        }
        let (ends, rest) = bytes.as_chunks::<4>();
        for end in ends.iter().map(|end| u32::from_le_bytes(*end)) {
            self.is_sound &= end >= self.last;
            self.last = end;
        }
        self.partial.0[..rest.len()].copy_from_slice(rest);
        self.partial.1 = rest.len();
    }

    fn is_whole(&self) -> bool {
        self.is_sound && u64::from(self.last) == self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Frame, Stamp, write_batch, write_record};
    use crate::types::{Epoch, Lsn};

    /// What the pieces of a frame are found to be, cut at any one or two places.
    fn agrees(stored: &[u8]) {
        let Ok(frame) = Frame::parse(stored) else { return };
        for first in 0..=stored.len() {
            for second in [first, (first + 3).min(stored.len()), stored.len()] {
                let mut check = FrameCheck::new(frame.header());
                check.update(&stored[..first]);
                check.update(&stored[first..second]);
                check.update(&stored[second..]);
                assert_eq!(check.finish(), frame.check(), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn pieces_of_a_frame_are_judged_like_the_whole() {
        let stamp = Stamp { lsn: Lsn::new(7), epoch: Epoch::new(3) };
        let mut record = vec![0; 64];
        write_record(&mut record, stamp, &[0xA5; 29]);
        let mut batch = vec![0; 80];
        write_batch(&mut batch, stamp, [&[1_u8; 9][..], b"", &[2; 27]]);
        for (frame, used) in [(record, 61), (batch, 80)] {
            agrees(&frame);
            for bit in 0..frame.len() * 8 {
                let mut damaged = frame.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                agrees(&damaged);
                // Also with a checksum that fits, so that the table has to tell.
                let sum = crate::format::crc32(&damaged[4..used]);
                damaged[..4].copy_from_slice(&sum.to_le_bytes());
                agrees(&damaged);
            }
        }
    }
}
