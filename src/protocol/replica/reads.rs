//! Linearizable reads: a quorum is asked whether this is still the primary, or has promised so for a while (S8).

use std::collections::VecDeque;

use super::{Office, Replica};
use crate::protocol::effect::{Effect, Outcome};
use crate::protocol::membership::Member;
use crate::protocol::rules::Rule;
use crate::protocol::time::Time;
use crate::types::Lsn;

/// Reads that wait, and when each heartbeat that is not answered yet was sent.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Reads {
    waiting: VecDeque<Waiting>,
    /// Rounds that no quorum has answered yet, and the newest one that it has.
    sent: VecDeque<(u64, Time)>,
    confirmed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Waiting {
    token: u64,
    /// The first heartbeat that was sent after the read had come.
    round: u64,
    /// What was committed then, and at least the start of the epoch.
    lsn: Lsn,
}

/// Rounds that are remembered without an answer; older ones only make a lease shorter.
const ROUNDS_MAX: usize = 256;

impl Reads {
    pub(super) fn began(&mut self, round: u64, now: Time) {
        if self.sent.len() == ROUNDS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((round, now));
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.waiting.iter().map(|waiting| waiting.token)
    }
}

impl Replica {
    pub(super) fn read(&mut self, token: u64) {
        let waiting_max = self.config.limits.waiting_max;
        let primary = self.leader.map(|leader| leader.id);
        let (commit, is_led) = (self.ledger.commit, self.has_lease());
        let Office::Primary(reign) = &mut self.office else {
            return self.outbox.push(Effect::ReadFailed { token, primary });
        };
        if reign.reads.waiting.len() >= waiting_max {
            return self.resolve(token, Outcome::Busy);
        }
        // S3: what an older primary has committed is known to be once the start of the epoch is.
        let is_begun = commit >= reign.start || !self.config.rules.hold(Rule::CommitEpochStartFirst);
        let lsn = if is_begun { commit } else { reign.start };
        if !self.config.rules.hold(Rule::ReadByQuorumRound) {
            return self.outbox.push(Effect::ReadReady { token, lsn: commit });
        }
        if is_led && is_begun {
            return self.outbox.push(Effect::ReadReady { token, lsn });
        }
        let (round, is_idle) = (reign.round + 1, reign.reads.confirmed == reign.round);
        reign.reads.waiting.push_back(Waiting { token, round, lsn });
        // Reads that come while a round is under way share the next one.
        if is_idle {
            self.beat();
        }
        self.confirm_reads();
    }

    /// Answers the reads whose round a quorum has answered.
    pub(super) fn confirm_reads(&mut self) {
        let commit = self.ledger.commit;
        let Some(membership) = self.ledger.membership() else { return };
        let Office::Primary(reign) = &mut self.office else { return };
        let answered = |member: Member| {
            if member == self.config.me {
                return reign.round;
            }
            reign.peers.iter().find(|peer| peer.member == member).map_or(0, |peer| peer.round)
        };
        let confirmed = membership.reached(answered);
        let reads = &mut reign.reads;
        reads.confirmed = reads.confirmed.max(confirmed);
        while reads.sent.len() > 1 && reads.sent[1].0 <= confirmed {
            reads.sent.pop_front();
        }
        while let Some(done) =
            reads.waiting.pop_front_if(|waiting| waiting.round <= confirmed && waiting.lsn <= commit)
        {
            self.outbox.push(Effect::ReadReady { token: done.token, lsn: done.lsn });
        }
        let is_next = reads.waiting.front().is_some_and(|waiting| waiting.round > reign.round);
        if is_next && confirmed == reign.round {
            self.beat();
            // Where the primary alone is a quorum, nobody else's answer brings this back here.
            self.confirm_reads();
        }
    }

    /// Whether a quorum has promised to elect nobody else yet: from when a heartbeat that it has answered was sent,
    /// for the shortest election timeout, less what clocks may drift apart.
    fn has_lease(&self) -> bool {
        let (Some(ppm), Office::Primary(reign)) = (self.config.lease_drift_ppm, &self.office) else {
            return false;
        };
        let Some(&(_, sent)) = reign.reads.sent.front().filter(|(round, _)| *round <= reign.reads.confirmed)
        else {
            return false;
        };
        let nanos = self.config.timing.election_min.as_nanos() as u64;
        let sure = std::time::Duration::from_nanos(nanos / 1_000_000 * (1_000_000 - u64::from(ppm)));
        // Whoever was told to take over is elected in spite of the promise.
        self.now.since(sent) < sure && !reign.has_told
    }
}
