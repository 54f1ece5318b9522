//! How long a primary's groups take until they are committed.

use std::collections::VecDeque;
use std::time::Instant;

use crate::node::observe;
use crate::types::Lsn;

/// Groups that are not committed; more of them are not timed.
const GROUPS_MAX: usize = 1024;

/// Since when a primary's groups wait for their commit, in the order of the log.
#[derive(Default)]
pub(super) struct Commits {
    begun: VecDeque<(Lsn, Instant)>,
}

impl Commits {
    /// A group that ends with this record is written and sent.
    pub(super) fn begun(&mut self, last: Lsn) {
        if self.begun.len() < GROUPS_MAX {
            self.begun.push_back((last, Instant::now()));
        }
    }

    /// Everything up to here is committed.
    pub(super) fn committed(&mut self, through: Lsn) {
        while let Some((_, since)) = self.begun.pop_front_if(|(last, _)| *last <= through) {
            observe::group_committed(since.elapsed());
        }
    }
}
