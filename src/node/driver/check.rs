//! The bytes of a message are what it says, or the core never sees it.

use crate::node::frames::{check_group, digest};
use crate::protocol::Message;

/// Whether the bytes that came with a message are those that it speaks of.
pub(super) fn is_sound(message: &Message, payload: &[u8]) -> bool {
    match message {
        Message::Append { group, .. } => check_group(group, payload).is_ok(),
        Message::RepairGive { group, digest: stated } => {
            digest(payload) == *stated && check_group(group, payload).is_ok()
        }
        Message::SnapshotChunk { bytes, digest: stated, .. } => {
            payload.len() as u64 == u64::from(*bytes) && digest(payload) == *stated
        }
        _ => payload.is_empty(),
    }
}
