//! Bytes that change on their way: the node that receives them looks at them before its core hears of the message.

use annals::node::{check_group, digest};
use annals::protocol::{Group, Message};

use crate::driver::Cargo;
use crate::invariants::{Check, broken};
use crate::record::{Frames, encode};

/// What comes of bytes that were changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tampered {
    /// The node drops the message.
    Noticed,
    /// It has a digest that is checked when it is put to use, or no bytes at all.
    Carried,
}

/// Changes one bit of what travels with a message; `place` says which.
pub(crate) fn tamper(
    message: &Message,
    cargo: &mut Cargo,
    place: u64,
) -> Result<Tampered, crate::invariants::Violation> {
    match (message, cargo) {
        (Message::Append { group, .. }, Cargo::Frames(frames)) => {
            flipped(group, None, frames, place)?;
            Ok(Tampered::Noticed)
        }
        (Message::RepairGive { group, digest }, Cargo::Frames(frames)) => {
            flipped(group, Some(*digest), frames, place)?;
            Ok(Tampered::Noticed)
        }
        (_, Cargo::Chunk { chain }) => {
            *chain ^= 1;
            Ok(Tampered::Carried)
        }
        _ => Ok(Tampered::Carried),
    }
}

/// Whole frames pass, and with one bit changed they do not.
fn flipped(group: &Group, stated: Option<u64>, frames: &Frames, place: u64) -> Check {
    let mut bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
    let is_good = |bytes: &[u8]| {
        check_group(group, bytes).is_ok() && stated.is_none_or(|stated| digest(bytes) == stated)
    };
    if !is_good(&bytes) {
        return broken(0, "frames that were sent are taken", format!("{group:?} {frames:?}"));
    }
    let at = (place >> 3) as usize % bytes.len();
    bytes[at] ^= 1 << (place % 8);
    if is_good(&bytes) {
        return broken(
            3,
            "no record is taken with other bytes",
            format!("bit {} of {at} in {group:?}", place % 8),
        );
    }
    Ok(())
}
