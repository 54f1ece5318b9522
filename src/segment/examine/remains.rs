//! What lies behind the last valid group, and with that the verdict of a scan: see `format::scan`.

use std::ops::Range;

use super::Prefix;
use super::scan::GroupFault;
use super::window::Window;
use crate::error::Result;
use crate::format::{
    BLOCK_BYTES, Damage, FRAME_ALIGN, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, Incarnation, LaterGroups,
    Verdict, block_up,
};
use crate::types::{Lsn, LsnRange};

/// What is left in a segment after its end.
#[derive(Clone, Debug)]
pub(super) struct Remains {
    pub(super) later: Option<LaterGroups>,
    pub(super) discard_start: u64,
    pub(super) discard_end: u64,
    pub(super) dirty_end: u64,
    /// The newest record that any header of this life claims.
    pub(super) claimed: Lsn,
}

impl Remains {
    /// Nothing.
    pub(super) fn none(reach: &Prefix) -> Remains {
        let end = reach.end;
        Remains { later: None, discard_start: end, discard_end: end, dirty_end: end, claimed: Lsn::ZERO }
    }

    /// Looks at every place after the end where a header may stand. Passes zeros over block by block.
    pub(super) fn find(window: &mut Window<'_>, incarnation: Incarnation, reach: &Prefix) -> Result<Remains> {
        let boundary = block_up(reach.end).min(window.length());
        let is_padded = window.all_zero(reach.end..boundary)?;
        let mut remains = Remains {
            discard_start: if is_padded { boundary } else { reach.end },
            discard_end: boundary,
            ..Remains::none(reach)
        };
        let next = reach.last_lsn.next();
        let mut start = reach.end;
        while let Some(set) = window.first_set(start..window.length())? {
            remains.dirty_end = set.end;
            headers_in(window, incarnation, set.clone(), |header, length| {
                remains.note(&header, next, length);
                true
            })?;
            start = set.end;
        }
        Ok(remains)
    }

    fn note(&mut self, header: &GroupHeader, next: Lsn, length: u64) {
        self.discard_end = self.discard_end.max(block_up(header.end()).min(length));
        if header.first_lsn >= next {
            self.claimed = self.claimed.max(header.last_lsn());
        }
        if header.first_lsn <= next {
            return;
        }
        LaterGroups::note(&mut self.later, header);
    }
}

/// Shows `see` every header of this life in a part of a block, as long as it wants more.
pub(super) fn headers_in(
    window: &mut Window<'_>,
    incarnation: Incarnation,
    part: Range<u64>,
    mut see: impl FnMut(GroupHeader, u64) -> bool,
) -> Result<bool> {
    let length = window.length();
    let reach = (part.end - part.start) as usize + GROUP_HEADER_BYTES;
    let bytes = window.fetch(part.start, reach)?;
    for position in part.clone().step_by(FRAME_ALIGN) {
        let at = (position - part.start) as usize;
        let Some(rest) = bytes.get(at..) else { break };
        let place = GroupPlace { incarnation, position };
        if let Ok(header) = GroupHeader::decode_at(rest, place)
            && !see(header, length)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why a scan ended, and what lies between there and the next thing of this life.
pub(super) struct Ending<'a> {
    pub(super) reach: &'a Prefix,
    pub(super) fault: Option<&'a GroupFault>,
    pub(super) remains: &'a Remains,
    pub(super) data_end: u64,
}

impl Ending<'_> {
    /// The verdict of `format::scan_tail` or `format::rescan_sealed`, given that every record up to `durable` is
    /// known to have been acknowledged.
    pub(super) fn verdict(&self, window: &mut Window<'_>, durable: Lsn) -> Result<Verdict> {
        let Ending { reach, remains, .. } = self;
        let next = reach.last_lsn.next();
        let vouched = self.vouched(durable);
        if vouched >= next {
            return self.loss(window, next, vouched);
        }
        Ok(if remains.discard_end > remains.discard_start {
            Verdict::Torn { bytes: reach.end..remains.discard_end, next }
        } else if remains.dirty_end > reach.end {
            Verdict::Stale { bytes: reach.end..remains.dirty_end }
        } else {
            Verdict::Clean
        })
    }

    /// The newest record that something vouches for.
    pub(super) fn vouched(&self, durable: Lsn) -> Lsn {
        self.remains.later.map_or(Lsn::ZERO, |later| later.durable_through).max(durable)
    }

    fn loss(&self, window: &mut Window<'_>, next: Lsn, vouched: Lsn) -> Result<Verdict> {
        let end = self.reach.end;
        let later = self.remains.later;
        let stop = later.map_or(self.data_end, |later| later.position);
        let is_cut = window.length() < stop && self.fault.is_none_or(|fault| fault.damage == Damage::Cut);
        let missing = is_cut || window.all_zero(end..stop)?;
        if let (Some(GroupFault { bytes, at_stake: Some(LsnRange { first, last }), .. }), false) =
            (self.fault, missing)
        {
            return Ok(Verdict::Rot { bytes: bytes.clone(), first: *first, last: *last });
        }
        let last = later.map_or(vouched, |later| later.first_lsn.prev());
        Ok(match missing {
            true => Verdict::Hole { bytes: end..stop, first: next, last },
            false => Verdict::Rot { bytes: end..stop, first: next, last },
        })
    }
}

const _: () = assert!(BLOCK_BYTES.is_multiple_of(FRAME_ALIGN));
