//! How long to wait for a primary before standing for election.

use std::time::Duration;

use crate::protocol::config::Timing;
use crate::protocol::random::Random;
use crate::protocol::time::Time;

/// An election timeout that follows the gaps between heartbeats as they are seen, within its bounds.
///
/// Mean and deviation as in Jacobson, "Congestion avoidance and control" (1988). Each election that comes to nothing
/// makes it longer, since votes may take longer than expected too.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Patience {
    random: Random,
    mean: Duration,
    deviation: Duration,
    failed: u32,
    last: Option<Time>,
}

impl Patience {
    pub(super) fn new(seed: u64, timing: &Timing) -> Patience {
        Patience {
            random: Random::new(seed),
            mean: timing.heartbeat,
            deviation: Duration::ZERO,
            failed: 0,
            last: None,
        }
    }

    /// A heartbeat has come.
    pub(super) fn hear(&mut self, now: Time) {
        if let Some(last) = self.last.replace(now) {
            let gap = now.since(last);
            let off = gap.abs_diff(self.mean);
            self.mean = (self.mean * 7 + gap) / 8;
            self.deviation = (self.deviation * 3 + off) / 4;
        }
        self.failed = 0;
    }

    /// The primary is another one, or gone: the next gap says nothing.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    pub(super) fn fail(&mut self) {
        self.failed = (self.failed + 1).min(6);
    }

    /// How long without a heartbeat makes a primary look dead.
    pub(super) fn timeout(&self, timing: &Timing) -> Duration {
        let seen = self.mean + self.deviation * 4 + timing.heartbeat;
        seen.clamp(timing.election_min, timing.election_max)
    }

    /// When to stand for election if nothing is heard: spread, so that two rarely do so at once.
    pub(super) fn deadline(&mut self, now: Time, timing: &Timing) -> Time {
        let timeout = self.timeout(timing) * (self.failed + 1);
        let timeout = timeout.min(timing.election_max.max(timing.election_min * 2));
        let spread = self.random.duration(timeout);
        now.plus(timeout).plus(spread)
    }

    /// Soon, but one after the other: something has told all of them at the same moment that the primary is gone. Two who
    /// stand at once share the votes, and nobody leads before the next timeout; so each leaves those before it a
    /// heartbeat's time to be elected.
    pub(super) fn hurried(&mut self, now: Time, timing: &Timing, rank: u32) -> Time {
        now.plus(timing.heartbeat * rank).plus(self.random.duration(timing.heartbeat / 4))
    }
}
