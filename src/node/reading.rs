//! Reading committed records for those who want them: clients, subscribers, the state machine.

use bytes::Bytes;

use super::error::{ReplicaError, Result};
use super::mail::Mail;
use super::shown::Shown;
use super::store::StoreReader;
use super::subscription::Record;
use crate::error::Error;
use crate::format::Frame;
use crate::protocol::request::Refused;
use crate::types::{Lsn, LsnRange};

/// Bytes of records that are read at once, for a reader that goes through the log.
pub(crate) const READ_BYTES: u64 = 256 << 10;
/// Records that are read at once, at most.
pub(crate) const RECORDS_AT_ONCE: usize = 1 << 14;

/// Reads the clients' records from `from` on, up to and with `through`, of about `bytes_max` in all and not too many, and
/// tells where to go on. The records are parts of what was read, not copies.
///
/// The node is told of damage that is met.
///
/// # Errors
/// [`Refused::Trimmed`] if they are not there any more; otherwise as the store says.
pub(crate) fn read_records(
    (reader, mail): (&StoreReader, &Mail),
    from: Lsn,
    through: Lsn,
    bytes_max: u64,
) -> Result<(Vec<Record>, Lsn)> {
    let (mut records, mut next, mut bytes) = (Vec::new(), from, 0);
    let through = through.min(reader.last());
    while let Some(range) = LsnRange::new(next, through)
        && bytes < bytes_max
        && records.len() < RECORDS_AT_ONCE
    {
        let (group, frames) = match reader.read_range(range, bytes_max - bytes) {
            Ok(Some(read)) => read,
            // It was trimmed, or replaced by a snapshot, since it was looked at.
            Ok(None) | Err(Error::Trimmed { .. }) if records.is_empty() => return Err(trimmed(reader)),
            Ok(None) | Err(_) if !records.is_empty() => break,
            Ok(None) => return Err(trimmed(reader)),
            Err(error) => {
                mail.doubt(&error);
                return Err(error.into());
            }
        };
        bytes += frames.len() as u64;
        take_records(&frames, (next, through), &mut records);
        next = group.range.last.min(through).next();
        if let Some(cut) = records.get(RECORDS_AT_ONCE) {
            next = cut.lsn;
            records.truncate(RECORDS_AT_ONCE);
        }
    }
    Ok((records, next))
}

fn trimmed(reader: &StoreReader) -> ReplicaError {
    Refused::Trimmed { first: reader.first() }.into()
}

/// The clients' records among these frames, which the store has checked.
fn take_records(frames: &Bytes, (from, through): (Lsn, Lsn), records: &mut Vec<Record>) {
    let mut rest = &frames[..];
    while let Ok(frame) = Frame::parse(rest) {
        let header = frame.header();
        let first = header.lsn.max(from);
        for lsn in first.get()..=header.last_lsn().min(through).get() {
            let lsn = Lsn::new(lsn);
            let Some(record) = frame.record(lsn) else { continue };
            records.push(Record { lsn, epoch: header.epoch, bytes: frames.slice_ref(record) });
        }
        rest = &rest[frame.stored().len()..];
        if rest.is_empty() {
            break;
        }
    }
}

impl Shown {
    /// Reads a committed record; `None` if it is the protocol's own.
    pub(crate) fn read_one(&self, mail: &Mail, lsn: Lsn) -> Result<Option<Record>> {
        let view = self.view();
        if view.is_closed {
            return Err(ReplicaError::Closed);
        }
        // What is there is not known while the store is opened again.
        let reader = view.reader.as_ref().ok_or(Refused::Busy)?;
        if lsn > view.through || lsn == Lsn::ZERO {
            return Err(Error::BeyondEnd { asked: lsn, last: view.through }.into());
        }
        let (records, _) = read_records((reader, mail), lsn, lsn, 1)?;
        Ok(records.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::place::Bell;

    /// That a record is beyond the end, whoever has its receipt, is a lie about what was acknowledged.
    #[test]
    fn while_the_store_is_opened_again_no_record_is_said_to_be_missing() {
        let (shown, (mail, _notes)) = (Shown::new(), Mail::new(Bell::new(|| {})));
        shown.advance(Lsn::new(10));
        let busy = shown.read_one(&mail, Lsn::new(7));
        assert!(matches!(busy, Err(ReplicaError::Refused(Refused::Busy))), "{busy:?}");
        shown.close();
        assert!(matches!(shown.read_one(&mail, Lsn::new(7)), Err(ReplicaError::Closed)));
    }
}
