//! The nineteen invariants, each a function of its own. The numbers are those of `docs/testing.md`.
//!
//! Quorums are counted from scratch here: nothing that the core computes is trusted.

use std::collections::HashSet;
use std::fmt;

use annals::protocol::request::Copies;
use annals::protocol::{
    Electorate, Envelope, Member, Membership, Message, Outcome, Quorums, Role, State, Status, wire,
};
use annals::{Epoch, Lsn, LsnRange, ProducerId, ReplicaId};

use crate::ledger::Ledger;
use crate::oracle::{Attempt, Oracle};
use crate::record::Payload;

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation {
    pub(crate) number: u8,
    pub(crate) promise: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} is broken: {}: {}", self.number, self.promise, self.what)
    }
}

pub(crate) type Check = Result<(), Violation>;

/// The promise with this number was broken.
pub(crate) fn broken(number: u8, promise: &'static str, what: String) -> Check {
    Err(Violation { number, promise, what })
}

fn hold(is_kept: bool, number: u8, promise: &'static str, what: impl FnOnce() -> String) -> Check {
    if is_kept { Ok(()) } else { broken(number, promise, what()) }
}

/// What is sent can be told to others: its wire form is what a peer reads back.
pub(crate) fn messages_have_a_wire_form(envelope: &Envelope) -> Check {
    let mut bytes = Vec::new();
    wire::encode(envelope, &mut bytes);
    let read = wire::decode(&bytes);
    hold(read.as_ref() == Ok(envelope), 0, "what is sent is read", || format!("{envelope:?} as {read:?}"))
}

/// 1 and 3: what a client was told is committed is what it appended, and where it was told.
pub(crate) fn acknowledged_is_committed(
    oracle: &Oracle,
    attempt: &Attempt,
    payloads: &[Payload],
    range: LsnRange,
    epoch: Epoch,
) -> Check {
    let all = range.records() == payloads.len() as u64 && range.last <= oracle.commit();
    hold(all, 1, "acknowledged is committed", || {
        format!("{range} of {payloads:?} at {:?}, committed is {}", attempt.node, oracle.commit())
    })?;
    for (payload, lsn) in payloads.iter().zip(range.first.get()..) {
        let placed = oracle.placed.get(payload);
        let agreed = oracle.agreed(Lsn::new(lsn)).map(|agreed| agreed.epoch);
        hold(
            placed == Some(&Lsn::new(lsn)) && agreed == Some(epoch),
            3,
            "no record has other bytes",
            || {
                format!(
                    "{payload:?} was acknowledged at {lsn} of {epoch:?}; it is at {placed:?} of {agreed:?}"
                )
            },
        )?;
    }
    Ok(())
}

/// 2 and 1: recovery finds all that was synced, and nothing beyond what was written.
pub(crate) fn recovered_is_what_was_synced(ledger: &Ledger, state: &State) -> Check {
    if ledger.is_blank {
        return Ok(());
    }
    let last = state.history.last().lsn;
    hold(last >= ledger.synced, 1, "what was synced is recovered", || {
        format!("{:?} recovers up to {last}, synced up to {}", ledger.member, ledger.synced)
    })?;
    hold(last <= ledger.last().lsn, 3, "nothing is recovered that was never appended", || {
        format!("{:?} recovers up to {last}, written up to {}", ledger.member, ledger.last().lsn)
    })
}

/// 5: `trimmed <= committed <= appended`, `durable <= appended`, and what is known to be committed never shrinks.
pub(crate) fn watermarks_are_in_order(status: &Status, ledger: &Ledger, commit_before: Lsn) -> Check {
    let in_order = status.first.prev() <= status.commit
        && status.commit <= status.last.lsn
        && status.durable <= status.last.lsn
        && status.commit >= commit_before;
    hold(in_order, 5, "watermarks are in order and never go back", || {
        format!("{status:?}, committed before: {commit_before}")
    })?;
    // A snapshot that is being installed is on its way from the one log to the other.
    let synced = status.durable <= ledger.synced.max(status.first.prev());
    hold(synced, 5, "durable is synced", || format!("{status:?}, synced is {}", ledger.synced))
}

/// 6: at most one primary for each epoch.
pub(crate) fn one_primary_for_each_epoch(oracle: &mut Oracle, member: Member, epoch: Epoch) -> Check {
    let first = *oracle.primaries.entry(epoch).or_insert(member);
    hold(first == member, 6, "at most one primary for each epoch", || {
        format!("{first:?} and {member:?} in {epoch:?}")
    })
}

/// 6, one step earlier: one vote for each epoch.
pub(crate) fn one_vote_for_each_epoch(oracle: &mut Oracle, envelope: &Envelope) -> Check {
    let voted_for = match envelope.message {
        Message::VoteReply { granted: true } => envelope.to,
        Message::Vote { .. } => envelope.from,
        _ => return Ok(()),
    };
    if oracle.forgetful == Some(envelope.from) {
        return Ok(());
    }
    let first = *oracle.votes.entry((envelope.from, envelope.epoch)).or_insert(voted_for);
    hold(first == voted_for, 6, "one vote for each epoch", || {
        format!("{:?} votes for {first:?} and {voted_for:?} in {:?}", envelope.from, envelope.epoch)
    })
}

/// 7: logs that agree on (epoch, LSN) agree before it.
pub(crate) fn logs_that_agree_agree_before(
    member: Member,
    at: (Epoch, Lsn),
    chain: u64,
    known: u64,
) -> Check {
    hold(chain == known, 7, "logs that agree on (epoch, LSN) agree before it", || {
        format!("{member:?} has another log up to {at:?} than somebody before it")
    })
}

/// 8: a new primary holds all that was committed.
pub(crate) fn new_primary_has_all_that_is_committed(oracle: &Oracle, ledger: &Ledger, epoch: Epoch) -> Check {
    let commit = oracle.commit();
    let Some(agreed) = oracle.agreed(commit) else { return Ok(()) };
    let is_there = commit <= ledger.begin.lsn || ledger.chain(commit) == Some(agreed.chain);
    // One that was elected before, and hears of it late, is no new primary.
    hold(is_there || epoch < oracle.epoch, 8, "a new primary holds all that was committed", || {
        format!("{:?} leads {epoch:?} up to {:?}; committed is {commit}", ledger.member, ledger.last())
    })
}

/// 9: committed means synced on a write quorum of disks, counted anew.
pub(crate) fn committed_is_synced_on_a_write_quorum(
    disks: &[&Ledger],
    membership: &Membership,
    lsn: Lsn,
    chain: u64,
) -> Check {
    for electorate in std::iter::once(&membership.electorate).chain(&membership.outgoing) {
        let holds = |disk: &&&Ledger| disk.is_forgetful || disk.holds(lsn, chain);
        let copies = electorate
            .voters
            .iter()
            .filter(|voter| disks.iter().filter(|disk| disk.member == voter.member).any(|disk| holds(&disk)));
        let (copies, quorum) = (copies.count(), write_quorum(electorate));
        hold(copies >= quorum, 9, "committed means synced on a write quorum of disks", || {
            format!("{lsn} is synced on {copies} of {membership:?}, and it takes {quorum}")
        })?;
    }
    Ok(())
}

/// 9, one step earlier (S6): a copy that a primary counts on is there.
pub(crate) fn counted_copies_are_there(
    primary: &Ledger,
    disks: &[&Ledger],
    (member, counted): (Member, Lsn),
) -> Check {
    let (Some(disk), Some(chain)) = (disks.iter().find(|disk| disk.member == member), primary.chain(counted))
    else {
        return Ok(());
    };
    // What is damaged may begin anew before the primary hears of it.
    let is_there = disk.is_noted || disk.is_blank || disk.is_forgetful || disk.holds(counted, chain);
    hold(is_there, 9, "a copy that a primary counts on is synced", || {
        format!("{:?} counts on {counted} at {member:?}, which has synced {}", primary.member, disk.synced)
    })
}

fn write_quorum(electorate: &Electorate) -> usize {
    match electorate.quorums {
        Quorums::Majority => electorate.voters.len() / 2 + 1,
        Quorums::Fixed { write, .. } => write as usize,
    }
}

/// 9, after S4: what is counted is a record of the primary's own epoch.
pub(crate) fn only_the_own_epoch_is_counted(lsn: Lsn, written: Epoch, reign: Epoch) -> Check {
    hold(written == reign, 9, "only copies of records of the current epoch are counted", || {
        format!("{lsn} of {written:?} was committed by counting in {reign:?}")
    })
}

/// 10: no vote, acknowledgement or newer epoch leaves before its sync (S1).
pub(crate) fn promises_are_synced_before_they_leave(ledger: &Ledger, envelope: &Envelope) -> Check {
    let meta = ledger.meta;
    hold(envelope.epoch <= meta.epoch, 10, "no newer epoch leaves before its sync", || {
        format!("{envelope:?} leaves, synced is {meta:?}")
    })?;
    let voted_for = match envelope.message {
        Message::VoteReply { granted: true } => Some(envelope.to),
        Message::Vote { .. } => Some(envelope.from),
        _ => None,
    };
    let is_kept = voted_for.is_none_or(|vote| meta.epoch == envelope.epoch && meta.vote == Some(vote));
    hold(is_kept, 10, "no vote leaves before its sync", || {
        format!("{envelope:?} leaves, synced is {meta:?}")
    })?;
    let synced = match envelope.message {
        Message::Ack { durable, .. } | Message::HeartbeatReply { durable, .. } => Some(durable),
        Message::Heartbeat { durable, .. } => Some(durable),
        Message::Vote { last, .. } => Some(last.lsn),
        _ => None,
    };
    hold(
        synced.is_none_or(|lsn| lsn <= ledger.synced),
        10,
        "no acknowledgement leaves before its sync",
        || format!("{envelope:?} leaves, synced up to {}", ledger.synced),
    )
}

/// 11: truncation never reaches below committed; nor does an install drop what is.
pub(crate) fn nothing_committed_is_truncated(oracle: &Oracle, ledger: &Ledger, after: Lsn) -> Check {
    let next = after.next();
    let (Some(agreed), Some(chain)) = (oracle.agreed(next), ledger.chain(next)) else { return Ok(()) };
    // A damaged replica counts for nothing until it has caught up again, and may begin anew (S11).
    hold(agreed.chain != chain || ledger.is_noted, 11, "truncation never reaches below committed", || {
        format!("{:?} forgets what is after {after}; committed is {}", ledger.member, oracle.commit())
    })
}

/// 12: readers never pass committed.
pub(crate) fn readers_stop_at_committed(oracle: &Oracle, member: Member, shown: Lsn) -> Check {
    hold(shown <= oracle.commit(), 12, "readers never pass committed", || {
        format!("{member:?} shows {shown}; committed is {}", oracle.commit())
    })
}

/// 12: a linearizable read sees all that was committed when it was asked.
pub(crate) fn reads_are_linearizable(member: Member, seen: Lsn, floor: Lsn) -> Check {
    hold(seen >= floor, 12, "a linearizable read sees all that was committed before it", || {
        format!("{member:?} answers with {seen}; {floor} was committed when it was asked")
    })
}

/// 13: a deposed primary acknowledges nothing after a newer commit.
pub(crate) fn the_deposed_commit_nothing(oracle: &Oracle, member: Member, lsn: Lsn, reign: Epoch) -> Check {
    hold(reign >= oracle.epoch, 13, "a deposed primary acknowledges nothing after a newer commit", || {
        format!(
            "{member:?} commits {lsn} in {reign:?}; {:?} has committed up to {}",
            oracle.epoch,
            oracle.commit()
        )
    })
}

/// 14: an unknown outcome is never reported as failed.
pub(crate) fn unknown_is_never_told_as_failed(attempt: &Attempt, outcome: &Outcome) -> Check {
    hold(attempt.written.is_none(), 14, "an unknown outcome is never reported as failed", || {
        format!("{attempt:?} was written, and is told {outcome:?}")
    })
}

/// 14: what was told as failed is never appended afterwards.
pub(crate) fn refused_is_never_appended(refused: &HashSet<Payload>, payload: Payload, lsn: Lsn) -> Check {
    hold(!refused.contains(&payload), 14, "what was told as failed is never appended", || {
        format!("{payload:?} was refused, and is at {lsn} of some log")
    })
}

/// 15: one (producer, sequence) gives one LSN.
pub(crate) fn one_number_one_lsn(number: (ProducerId, u64), lsn: Lsn, before: Option<Lsn>) -> Check {
    hold(before.is_none_or(|before| before == lsn), 15, "one (producer, sequence) gives one LSN", || {
        format!("{number:?} is committed at {before:?} and at {lsn}")
    })
}

/// 15: no append is in the log twice.
pub(crate) fn one_record_one_lsn(payload: Payload, lsn: Lsn, before: Option<Lsn>) -> Check {
    hold(before.is_none_or(|before| before == lsn), 15, "no append is in the log twice", || {
        format!("{payload:?} is committed at {before:?} and at {lsn}")
    })
}

/// 15: what a retry is told to be a duplicate is committed, where it is told.
pub(crate) fn duplicate_is_committed(
    oracle: &Oracle,
    producer: Option<(ProducerId, u64)>,
    payloads: &[Payload],
    range: Option<LsnRange>,
) -> Check {
    for (place, payload) in payloads.iter().enumerate() {
        let at = producer.and_then(|(id, sequence)| oracle.numbered.get(&(id, sequence + place as u64)));
        let said = range.map(|range| Lsn::new(range.first.get() + place as u64));
        let is_right = at.is_some_and(|at| said.is_none_or(|said| said == *at) && *at <= oracle.commit());
        hold(is_right && oracle.placed.get(payload) == at, 15, "a duplicate is committed already", || {
            format!("{payload:?} of {producer:?} is at {at:?}, told is {said:?}")
        })?;
    }
    Ok(())
}

/// 16: a replica shows the same records as everybody else.
pub(crate) fn replicas_agree_on_what_is_committed(oracle: &Oracle, ledger: &Ledger, lsn: Lsn) -> Check {
    let (Some(agreed), Some(chain)) = (oracle.agreed(lsn), ledger.chain(lsn)) else { return Ok(()) };
    hold(agreed.chain == chain, 16, "replicas that have caught up are the same, record for record", || {
        format!("{:?} has something else up to {lsn}", ledger.member)
    })
}

/// 16: what every replica has, when all have caught up.
pub(crate) fn all_are_the_same<T: PartialEq + fmt::Debug>(
    what: &str,
    mut all: impl Iterator<Item = T>,
) -> Check {
    let first = all.next();
    let other = all.find(|one| first.as_ref() != Some(one));
    hold(other.is_none(), 16, "replicas that have caught up are the same, record for record", || {
        format!("{what}: {first:?} and {other:?}")
    })
}

/// 17: a damaged replica never helps to elect or to commit as if it were whole.
pub(crate) fn the_damaged_abstain(ledger: &Ledger, envelope: &Envelope) -> Check {
    let helps = match envelope.message {
        Message::VoteReply { granted } | Message::PreVoteReply { granted, .. } => granted,
        Message::Ack { is_whole, .. } => is_whole,
        Message::Vote { .. } | Message::PreVote { .. } | Message::Heartbeat { .. } => true,
        _ => false,
    };
    let is_sick = ledger.is_noted || ledger.is_blank;
    hold(!(helps && is_sick), 17, "a damaged replica never helps to elect or commit", || {
        format!("{envelope:?}")
    })
}

/// 18: memory stays bounded: what is on its way to one backup, and what one input gives to do.
pub(crate) fn memory_is_bounded(status: &Status, effects: usize, window: u64) -> Check {
    hold(effects <= 10_000, 18, "memory stays bounded", || format!("{effects} effects of one input"))?;
    let most = status.peers.iter().map(|peer| peer.in_flight_bytes).max().unwrap_or(0);
    // One group may go over the window: it is not known before how large it is.
    hold(status.role != Role::Primary || most <= window, 18, "memory stays bounded", || {
        format!("{most} bytes on their way to one backup, {window} allowed")
    })
}

/// 18: what is kept for messages that wait for the disk stays bounded.
pub(crate) fn bytes_held_back_are_bounded(held: u64, most: u64) -> Check {
    hold(held <= most, 18, "memory stays bounded", || format!("{held} bytes held back, {most} allowed"))
}

/// 1, for whoever is content with the primary's own disk: the record is synced there.
pub(crate) fn a_local_answer_is_synced(ledger: &Ledger, copies: Copies, range: LsnRange) -> Check {
    hold(copies == Copies::Local && range.last <= ledger.synced, 1, "answered is synced here", || {
        format!("{range} for {copies:?} at {:?}, synced is {}", ledger.member, ledger.synced)
    })
}

/// 9: whoever is named as a holder has the record synced; and whoever asked for more copies than a quorum is answered
/// when there are as many, or by a primary whose reign has ended.
pub(crate) fn holders_hold(
    disks: &[&Ledger],
    membership: Option<&Membership>,
    (copies, holders): (Copies, &[ReplicaId]),
    (lsn, chain): (Lsn, u64),
) -> Check {
    for id in holders {
        let holds = |disk: &&Ledger| {
            disk.member.id == *id && (disk.is_noted || disk.is_forgetful || disk.holds(lsn, chain))
        };
        hold(disks.iter().any(holds), 9, "a holder has it synced", || format!("{id:?} is named for {lsn}"))?;
    }
    let Some(membership) = membership else { return Ok(()) };
    let is_served = match copies {
        Copies::AtLeast(count) => holders.len() >= usize::from(count),
        Copies::All => membership.electorate.voters.iter().all(|voter| holders.contains(&voter.member.id)),
        _ => true,
    };
    hold(is_served, 9, "as many hold it as were asked for", || format!("{holders:?} for {copies:?} of {lsn}"))
}

/// 19, after S12: a primary whose disk stands still, while others' do not, does not lead for long. Told for how long both
/// have been so.
pub(crate) fn a_stalled_primary_hands_over(still_ns: u64, at: usize) -> Check {
    // A second until it is noticed, two for the hand-over, and an election.
    hold(still_ns < 5_000_000_000, 19, "a primary whose disk stands still hands over", || {
        format!("the disk of {} has stood still for {} ms", at + 1, still_ns / 1_000_000)
    })
}
