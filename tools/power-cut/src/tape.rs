//! What a device was asked to do, in order, and what it holds now.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use annals_ledger::Event;

/// One thing that the device was asked for, or that somebody told meanwhile.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Bytes were written.
    Write(Patch),
    /// All that was written before is durable.
    Flush,
    /// The workload told of this.
    Told(Event),
    /// A repair has come so far.
    Reached(Step),
}

/// How far a log has come that was damaged, and is repaired, put back and salvaged: each step is durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Step {
    /// It is damaged, and about to be repaired.
    Damaged,
    /// It is repaired.
    Repaired,
    /// The repair is about to be taken back.
    UndoBegun,
    /// It is taken back.
    Undone,
    /// What can be read of it is about to be copied to a new log.
    SalvageBegun,
    /// It was.
    Salvaged,
}

/// Bytes at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Patch {
    pub(crate) offset: u64,
    pub(crate) bytes: Content,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// These bytes.
    Bytes(Box<[u8]>),
    /// So many zeros.
    Zeros(u64),
}

impl Patch {
    /// How many bytes are written.
    pub(crate) fn len(&self) -> u64 {
        match &self.bytes {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Zeros(count) => *count,
        }
    }

    /// Writes the part of it from `from` to `to`, counted from its start.
    pub(crate) fn apply_part(&self, image: &File, from: u64, to: u64) -> io::Result<()> {
        match &self.bytes {
            Content::Bytes(bytes) => {
                image.write_all_at(&bytes[from as usize..to as usize], self.offset + from)
            }
            Content::Zeros(_) => {
                let zeros = vec![0; (to - from).min(1 << 20) as usize];
                let mut at = from;
                while at < to {
                    let bytes = (to - at).min(1 << 20);
                    image.write_all_at(&zeros[..bytes as usize], self.offset + at)?;
                    at += bytes;
                }
                Ok(())
            }
        }
    }

    /// Writes all of it.
    pub(crate) fn apply(&self, image: &File) -> io::Result<()> {
        self.apply_part(image, 0, self.len())
    }
}

/// A kind of request that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
}

/// What fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The kind of request.
    pub(crate) kind: Kind,
    /// So many of them go well first.
    pub(crate) after: u64,
    /// So many of them fail then.
    pub(crate) count: u64,
}

/// The device: an image, and the tape of all that was asked of it.
#[derive(Debug)]
pub(crate) struct Tape {
    image: File,
    bytes: u64,
    ops: Mutex<Vec<Op>>,
    fault: Mutex<Option<Fault>>,
}

impl Tape {
    /// Begins with what `image` holds.
    pub(crate) fn new(image: File) -> io::Result<Tape> {
        let bytes = image.metadata()?.len();
        Ok(Tape { image, bytes, ops: Mutex::new(Vec::new()), fault: Mutex::new(None) })
    }

    /// Size of the device, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lets requests fail from now on, or no more.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        *unpoisoned(&self.fault) = fault;
    }

    /// Whether a request has failed, or some of those that were to fail.
    pub(crate) fn has_failed(&self, asked: Fault) -> bool {
        unpoisoned(&self.fault).is_none_or(|left| left.count < asked.count)
    }

    /// Takes what is on the tape.
    pub(crate) fn take(&self) -> Vec<Op> {
        std::mem::take(&mut *unpoisoned(&self.ops))
    }

    /// The workload tells.
    pub(crate) fn tell(&self, event: Event) {
        unpoisoned(&self.ops).push(Op::Told(event));
    }

    /// A repair has come so far.
    pub(crate) fn reach(&self, step: Step) {
        unpoisoned(&self.ops).push(Op::Reached(step));
    }

    /// The device is read.
    pub(crate) fn read(&self, offset: u64, bytes: u32) -> io::Result<Vec<u8>> {
        self.meet_fault(Kind::Read)?;
        let mut buffer = vec![0; self.bytes.saturating_sub(offset).min(bytes.into()) as usize];
        self.image.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    /// The device is written.
    pub(crate) fn write(&self, patch: Patch) -> io::Result<()> {
        self.meet_fault(Kind::Write)?;
        if patch.offset.checked_add(patch.len()).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        patch.apply(&self.image)?;
        unpoisoned(&self.ops).push(Op::Write(patch));
        Ok(())
    }

    /// The device is flushed.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.meet_fault(Kind::Flush)?;
        unpoisoned(&self.ops).push(Op::Flush);
        Ok(())
    }

    fn meet_fault(&self, kind: Kind) -> io::Result<()> {
        let mut slot = unpoisoned(&self.fault);
        let Some(fault) = slot.as_mut().filter(|fault| fault.kind == kind) else { return Ok(()) };
        if fault.after > 0 {
            fault.after -= 1;
            return Ok(());
        }
        fault.count -= 1;
        if fault.count == 0 {
            *slot = None;
        }
        Err(io::Error::other("to fail"))
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(offset: u64, bytes: &[u8]) -> Patch {
        Patch { offset, bytes: Content::Bytes(bytes.into()) }
    }

    #[test]
    fn what_is_written_is_read_and_on_the_tape() {
        let image = tempfile::tempfile().unwrap();
        image.set_len(4096).unwrap();
        let tape = Tape::new(image).unwrap();
        tape.write(patch(10, b"abc")).unwrap();
        tape.flush().unwrap();
        tape.write(Patch { offset: 11, bytes: Content::Zeros(1) }).unwrap();
        assert_eq!(tape.read(9, 5).unwrap(), b"\0a\0c\0");
        assert!(tape.write(patch(4095, b"xy")).is_err());
        assert!(matches!(&tape.take()[..], [Op::Write(_), Op::Flush, Op::Write(_)]));
    }

    #[test]
    fn the_request_that_is_to_fail_fails_and_no_other() {
        let image = tempfile::tempfile().unwrap();
        image.set_len(4096).unwrap();
        let tape = Tape::new(image).unwrap();
        let fault = Fault { kind: Kind::Write, after: 1, count: 1 };
        tape.set_fault(Some(fault));
        tape.flush().unwrap();
        tape.write(patch(0, b"a")).unwrap();
        assert!(!tape.has_failed(fault));
        tape.write(patch(0, b"b")).unwrap_err();
        assert!(tape.has_failed(fault));
        tape.write(patch(0, b"c")).unwrap();
        assert_eq!(tape.take().len(), 3);
    }
}
