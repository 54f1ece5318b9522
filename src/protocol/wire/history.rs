//! Positions and histories as bytes.

use super::field::{Field, Reader, fields, put_list, sound, take_record};
use super::{BadMessage, HISTORY_EPOCHS_MAX};
use crate::protocol::history::{EpochHistory, EpochStart, Position};
use crate::protocol::message::{ProbeReply, SnapshotId};
use crate::protocol::state::Staged;
use crate::types::{Epoch, Lsn};

/// The bytes of an [`EpochStart`].
const EPOCH_START_BYTES: usize = 16;

fields! {
    SnapshotId { position, checksum }
    Staged { snapshot, bytes }
    ProbeReply { through, history, incarnation, staged }
}

impl Field for Position {
    fn put(&self, out: &mut Vec<u8>) {
        self.epoch.put(out);
        self.lsn.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Position, BadMessage> {
        let position = Position { epoch: Epoch::take(reader)?, lsn: Lsn::take(reader)? };
        // Before the first record there is no epoch, and no record is of none: positions are compared by epoch first.
        sound(position, (position.epoch.get() == 0) == (position.lsn == Lsn::ZERO))
    }
}

impl Field for EpochStart {
    fn put(&self, out: &mut Vec<u8>) {
        self.epoch.put(out);
        self.first.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<EpochStart, BadMessage> {
        let start = EpochStart { epoch: Epoch::take(reader)?, first: take_record(reader)? };
        sound(start, start.epoch >= Epoch::FIRST)
    }
}

impl Field for EpochHistory {
    fn put(&self, out: &mut Vec<u8>) {
        self.base().put(out);
        self.last().lsn.put(out);
        put_list(self.starts(), HISTORY_EPOCHS_MAX, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<EpochHistory, BadMessage> {
        let (base, last) = (Position::take(reader)?, Lsn::take(reader)?);
        let starts = reader.list(HISTORY_EPOCHS_MAX, EPOCH_START_BYTES)?;
        EpochHistory::from_parts(base, starts, last).ok_or(BadMessage::Malformed)
    }
}
