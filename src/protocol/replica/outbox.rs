//! What is to be done, in order, and the one gate in it: nothing that promises leaves before it is synced (S1).

use std::collections::VecDeque;

use crate::protocol::effect::Effect;
use crate::protocol::state::Meta;

/// Messages that wait for a save, at most.
const HELD_MAX: usize = 4096;

/// The effects that wait to be polled.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Outbox {
    ready: VecDeque<Effect>,
    /// Messages that wait for the meta of this number.
    held: VecDeque<(u64, Effect)>,
    asked: u64,
    saved: u64,
    /// A test has taken the gate away.
    is_open: bool,
}

impl Outbox {
    pub(super) fn new(is_open: bool) -> Outbox {
        Outbox { is_open, ..Outbox::default() }
    }

    pub(super) fn push(&mut self, effect: Effect) {
        // S1: whatever is said after an epoch or a vote was taken relies on it.
        if matches!(effect, Effect::Send(_)) && self.asked > self.saved && !self.is_open {
            // A superblock that is never synced must not fill the memory; messages may be lost, and these are the oldest.
            if self.held.len() == HELD_MAX {
                self.held.pop_front();
            }
            self.held.push_back((self.asked, effect));
        } else {
            self.ready.push_back(effect);
        }
    }

    /// Asks for a save; gives its number.
    pub(super) fn save(&mut self, meta: Meta) -> u64 {
        self.asked += 1;
        self.ready.push_back(Effect::SaveMeta { number: self.asked, meta });
        self.asked
    }

    /// The save with this number is synced; false if it was never asked for.
    pub(super) fn saved(&mut self, number: u64) -> bool {
        if number > self.asked {
            return false;
        }
        self.saved = self.saved.max(number);
        while let Some((_, effect)) = self.held.pop_front_if(|(needed, _)| *needed <= self.saved) {
            self.ready.push_back(effect);
        }
        true
    }

    pub(super) const fn is_saved(&self, number: u64) -> bool {
        self.saved >= number
    }

    pub(super) fn poll(&mut self) -> Option<Effect> {
        self.ready.pop_front()
    }

    /// Nothing is sent any more; what was asked of the disk is still said.
    pub(super) fn silence(&mut self) {
        self.held.clear();
        self.ready.retain(|effect| !matches!(effect, Effect::Send(_)));
    }
}
