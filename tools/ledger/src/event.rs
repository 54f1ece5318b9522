//! What a trial tells of itself, as it happens.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

use crate::entry::Entry;

/// Bytes of an event as it is told: far below what a pipe takes as a whole, so that threads need no lock and a
/// killed process leaves no half of one.
pub const EVENT_BYTES: usize = 32;

/// A step of a trial. LSNs are plain numbers here: they are about to be compared, not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The log is open, and holds this.
    Opened {
        /// The oldest record.
        first: u64,
        /// The newest record.
        last: u64,
    },
    /// An entry is about to be appended.
    Announced(Entry),
    /// An entry is durable.
    Acknowledged(Entry, u64),
    /// An entry was not appended, and never will be.
    Refused(Entry),
    /// The records before this one are about to be trimmed.
    TrimBegun(u64),
    /// They were.
    Trimmed(u64),
    /// The records after this one are about to be truncated. Nobody appends meanwhile.
    TruncationBegun(u64),
    /// They were.
    Truncated(u64),
    /// The mark with this number is about to be set at this record.
    MarkBegun {
        /// Where.
        lsn: u64,
        /// Which.
        number: u64,
    },
    /// It was.
    Marked,
    /// A copy with this number is about to be made, of a log that is durable up to this record or further.
    BackupBegun {
        /// Which.
        number: u64,
        /// The newest record that was acknowledged.
        durable: u64,
    },
    /// It was made, and this is its newest record.
    BackedUp {
        /// Which.
        number: u64,
        /// The newest record.
        newest: u64,
    },
    /// The log is about to be closed.
    Closing,
    /// All that was to be done is done.
    Finished,
}

impl Event {
    /// As it is told.
    #[must_use]
    pub fn encode(&self) -> [u8; EVENT_BYTES] {
        let nobody = Entry { round: 0, writer: 0, number: 0 };
        let (kind, entry, a, b) = match *self {
            Event::Opened { first, last } => (1, nobody, first, last),
            Event::Announced(entry) => (2, entry, 0, 0),
            Event::Acknowledged(entry, lsn) => (3, entry, lsn, 0),
            Event::Refused(entry) => (4, entry, 0, 0),
            Event::TrimBegun(before) => (5, nobody, before, 0),
            Event::Trimmed(before) => (6, nobody, before, 0),
            Event::TruncationBegun(after) => (7, nobody, after, 0),
            Event::Truncated(after) => (8, nobody, after, 0),
            Event::MarkBegun { lsn, number } => (9, nobody, lsn, number),
            Event::Marked => (10, nobody, 0, 0),
            Event::BackupBegun { number, durable } => (11, nobody, number, durable),
            Event::BackedUp { number, newest } => (12, nobody, number, newest),
            Event::Closing => (13, nobody, 0, 0),
            Event::Finished => (14, nobody, 0, 0),
        };
        let mut bytes = [0; EVENT_BYTES];
        bytes[0..2].copy_from_slice(&u16::to_le_bytes(kind));
        bytes[2..4].copy_from_slice(&entry.writer.to_le_bytes());
        bytes[4..8].copy_from_slice(&entry.round.to_le_bytes());
        bytes[8..12].copy_from_slice(&entry.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&a.to_le_bytes());
        bytes[24..32].copy_from_slice(&b.to_le_bytes());
        bytes
    }

    /// From what was told; `None` if it is no event.
    #[must_use]
    pub fn decode(bytes: &[u8; EVENT_BYTES]) -> Option<Event> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let [kind, writer] = [word(0) & 0xFFFF, word(0) >> 16];
        let entry = Entry { round: word(4), writer: writer as u16, number: word(8) };
        let (a, b) = (long(16), long(24));
        Some(match kind {
            1 => Event::Opened { first: a, last: b },
            2 => Event::Announced(entry),
            3 => Event::Acknowledged(entry, a),
            4 => Event::Refused(entry),
            5 => Event::TrimBegun(a),
            6 => Event::Trimmed(a),
            7 => Event::TruncationBegun(a),
            8 => Event::Truncated(a),
            9 => Event::MarkBegun { lsn: a, number: b },
            10 => Event::Marked,
            11 => Event::BackupBegun { number: a, durable: b },
            12 => Event::BackedUp { number: a, newest: b },
            13 => Event::Closing,
            14 => Event::Finished,
            _ => return None,
        })
    }
}

/// The way on which a trial tells: a pipe, or a file whose every write reaches whoever serves it.
#[derive(Debug)]
pub struct Teller(File);

impl Teller {
    /// Tells through this file.
    #[must_use]
    pub fn new(file: File) -> Teller {
        Teller(file)
    }

    /// Tells; the listener has it, or will have it whatever becomes of this process, when this returns.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub fn tell(&self, event: Event) -> io::Result<()> {
        let told = (&self.0).write(&event.encode())?;
        if told == EVENT_BYTES { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }
}

/// Gives each event to `heed` until nobody tells any more.
///
/// # Errors
/// If what is told is no event.
pub fn read_events(mut from: impl Read, mut heed: impl FnMut(Event)) -> io::Result<()> {
    let mut bytes = [0; EVENT_BYTES];
    let mut read = 0;
    loop {
        match from.read(&mut bytes[read..]) {
            Ok(0) if read == 0 => return Ok(()),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if read == EVENT_BYTES {
            heed(Event::decode(&bytes).ok_or(ErrorKind::InvalidData)?);
            read = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_as_they_were_told() {
        let entry = Entry { round: 70_000, writer: 513, number: u32::MAX };
        let events = [
            Event::Opened { first: 1, last: u64::MAX },
            Event::Announced(entry),
            Event::Acknowledged(entry, 1 << 40),
            Event::Refused(entry),
            Event::TrimBegun(2),
            Event::Trimmed(3),
            Event::TruncationBegun(4),
            Event::Truncated(5),
            Event::MarkBegun { lsn: 6, number: 7 },
            Event::Marked,
            Event::BackupBegun { number: 8, durable: 9 },
            Event::BackedUp { number: 10, newest: 11 },
            Event::Closing,
            Event::Finished,
        ];
        let told: Vec<u8> = events.iter().flat_map(Event::encode).collect();
        let mut heard = Vec::new();
        read_events(&*told, |event| heard.push(event)).unwrap();
        assert_eq!(heard, events);
        assert!(read_events(&told[..40], |_| {}).is_err());
        assert!(read_events(&[0_u8; EVENT_BYTES][..], |_| {}).is_err());
    }
}
