//! Which life a file is in whose header is damaged, and its first group maybe too: its other groups tell, and its
//! footer.

use crate::disk::File;
use crate::format::{
    BLOCK_BYTES, FRAME_ALIGN, Footer, GROUP_HEADER_BYTES, GroupHeader, HEADER_BLOCK_BYTES, Incarnation,
    all_zero,
};
use crate::types::Lsn;

/// Bytes that are searched at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// The life of a file, as the groups in it tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    /// Of the first of them.
    pub(crate) incarnation: Incarnation,
    /// The newest record that any of them knew to be durable.
    pub(crate) vouched: Lsn,
}

/// Searches a file for headers of groups in their own places, of a segment that begins with `first`. In a former
/// life of the file records were older.
pub(crate) fn find_life(file: &dyn File, first: Lsn) -> Option<Life> {
    let mut window = vec![0; WINDOW_BYTES + GROUP_HEADER_BYTES];
    let mut start = HEADER_BLOCK_BYTES as u64;
    let mut life: Option<Life> = None;
    loop {
        // What cannot be read tells nothing.
        let there = file.read_at(&mut window, start).unwrap_or(0);
        for (index, block) in window[..there.min(WINDOW_BYTES)].chunks(BLOCK_BYTES).enumerate() {
            if all_zero(block) {
                continue;
            }
            for at in (index * BLOCK_BYTES..index * BLOCK_BYTES + block.len()).step_by(FRAME_ALIGN) {
                let header = GroupHeader::decode(&window[at..there]).ok();
                let is_here = |group: &GroupHeader| group.place.position == start + at as u64;
                let Some(group) = header.filter(is_here).filter(|group| group.first_lsn >= first) else {
                    continue;
                };
                let found =
                    life.get_or_insert(Life { incarnation: group.place.incarnation, vouched: Lsn::ZERO });
                found.vouched = found.vouched.max(group.durable_through);
            }
        }
        if there <= WINDOW_BYTES {
            return life;
        }
        start += WINDOW_BYTES as u64;
    }
}

/// Whether a file without a header, which has this footer and begins with this group, is all of the same life: then
/// it is a segment of the log that the footer names, whatever the file is called. Where no group is left, nothing
/// says otherwise.
pub(crate) fn is_of_one_life(file: &dyn File, footer: &Footer, first: Option<&GroupHeader>) -> bool {
    let own = match first {
        Some(group) => Some(group.place.incarnation),
        None => find_life(file, Lsn::ZERO).map(|life| life.incarnation),
    };
    own.is_none_or(|own| own == footer.incarnation)
}
